"""Answers scored on a scale, through every backend, from the request to the judgement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from fake_server import FakeServer, serving

from perl_eval.client.ledger import Ledger
from perl_eval.errors import UserError
from perl_eval.judges import prompting
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions
from perl_eval.judges.backends.decisions import DecisionJudge, DecisionOptions
from perl_eval.judges.backends.offline import reopen
from perl_eval.judges.backends.reward_model import RewardJudge
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import Keys
from perl_eval.judging import judge
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.judging.outcome_of import plan
from perl_eval.outcomes import decide
from perl_eval.records import Ballot, Completion, Estimate, Judgement, Message
from perl_eval.storage import run_folder

QUICK = AskOptions(attempts=2, backoff_s=0.001)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")


def answers(count: int) -> list[Completion]:
    """Make answers of 0, 1, 2, ... letters."""
    return [
        Completion(f"c{i}", f"i{i:02}", f"g{i // 2}", "d", "rl", (Message("user", f"order {i}"),), "x" * i, "stop", 0)
        for i in range(count)
    ]


def saved(folder: Path, count: int) -> Path:
    with run_folder.start(folder, verb="sample", arguments={}) as run:
        run.write(answers(count), Completion)
    return folder


def asked(by: Judge, path: Path, count: int = 3, votes: int = 1, reasoning: bool = False) -> list[Judgement]:
    units = [(answer,) for answer in answers(count)]
    options = AskOptions(attempts=2, backoff_s=0.001, votes=votes)
    template = prompting.load("quality")
    with Ledger(path / "ledger.sqlite") as ledger:
        how = judge.JudgeOptions("quality", reasoning=reasoning, asking=options)
        found = judge.Asking(by, template, ledger, how).judgements(units)
        return sorted(found, key=lambda judgement: judgement.item)


def letters(body: dict[str, Any]) -> int:
    """Return how long the answer in a request is."""
    text = body["messages"][-1]["content"]
    return len(text.split("=== answer |")[1].split("===\n")[1].split("\n=== end")[0])


# ------------------------------------------------------------------------------------------------------- decide


def test_several_scores_are_averaged_and_a_missing_one_is_left_out() -> None:
    ballots = [
        Ballot("none", "scored", score=4.0),
        Ballot("none", None, reason="late"),
        Ballot("none", "scored", score=7.0),
    ]
    assert decide(ballots) == ("scored", None, None)
    assert decide(ballots[:2]) == ("unjudged", None, "late")


def test_a_score_does_not_belong_to_an_order() -> None:
    with pytest.raises(ValueError, match="no judgement"):
        decide([Ballot("ab", "scored", score=1.0), Ballot("ba", "scored", score=1.0)])


# --------------------------------------------------------------------------------------------------------- chat


def test_a_chat_judge_is_asked_for_a_number_by_schema(tmp_path: Path) -> None:
    with serving(FakeServer(answer=lambda body: json.dumps({"score": 3 + letters(body)}))) as server:
        by = ChatJudge("m", ChatOptions(base_url=server.url, structured=True))
        found = asked(by, tmp_path)
    assert [(row.outcome, row.score, row.p_a) for row in found] == [
        ("scored", 3.0, None),
        ("scored", 4.0, None),
        ("scored", 5.0, None),
    ]
    schema = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"score": {"type": "integer", "enum": list(range(1, 11))}}
    assert schema["required"] == ["score"]


def test_reasons_come_before_the_number_in_the_schema(tmp_path: Path) -> None:
    with serving(FakeServer(answer=lambda _: '{"reasons": "9 of 10 details hold", "score": 8}')) as server:
        (row,) = asked(ChatJudge("m", ChatOptions(base_url=server.url, structured=True)), tmp_path, 1, reasoning=True)
    assert row.score == 8.0
    schema = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == schema["required"] == ["reasons", "score"]


def test_votes_of_a_score_are_averaged(tmp_path: Path) -> None:
    said = iter(["8", "5", "no", "8"])
    with serving(FakeServer(answer=lambda _: next(said))) as server:
        by = ChatJudge("m", ChatOptions(base_url=server.url, temperature=1.0))
        (row,) = asked(by, tmp_path, 1, votes=4)
    assert (row.outcome, row.score) == ("scored", 7.0)
    assert sorted(str(ballot.score) for ballot in row.ballots) == ["5.0", "8.0", "8.0", "None"]


def test_first_token_probabilities_make_a_finer_score(tmp_path: Path) -> None:
    with serving(FakeServer(answer=lambda _: "7", first_tokens={"7": 0.5, "9": 0.3, "The": 0.2})) as server:
        (row,) = asked(ChatJudge("m", ChatOptions(base_url=server.url, logprobs=True)), tmp_path, 1)
    # (0.5 x 7 + 0.3 x 9) / 0.8
    assert row.score == pytest.approx(7.75)


@pytest.mark.parametrize(("reply", "reason"), [("11", "is not on the scale"), ("good", "commits to no score")])
def test_a_reply_without_a_score_on_the_scale_is_unjudged(tmp_path: Path, reply: str, reason: str) -> None:
    with serving(FakeServer(answer=lambda _: reply)) as server:
        (row,) = asked(ChatJudge("m", ChatOptions(base_url=server.url)), tmp_path, 1)
    assert (row.outcome, row.score) == ("unjudged", None)
    assert reason in str(row.reason)


# ---------------------------------------------------------------------------------------------------- decisions


def system_one(body: dict[str, Any]) -> dict[str, Any]:
    """Answer as transformers does: levels by their place, from 0."""
    found = {}
    for name, question in body["questions"].items():
        assert question["type"] == "score"
        chances = {str(place): 0.0 for place in range(len(question["criteria"]))} | {"6": 0.5, "8": 0.5}
        found[name] = {"type": "score", "score": 7.0, "legend": {}, "confidence": 1.0, "probabilities": chances}
    return {"model": body["model"], "answers": found, "usage": {"input_tokens": 10, "output_tokens": 0}}


@pytest.mark.parametrize("form", ["openai", "systemone"])
def test_decisions_give_the_mean_of_the_levels(tmp_path: Path, form: Literal["openai", "systemone"]) -> None:
    with serving(FakeServer(system_one=system_one)) as server:
        by = DecisionJudge("luna", DecisionOptions(form=form, base_url=server.url))
        (row,) = asked(by, tmp_path, 1)
    # Levels 7 and 9 (places 6 and 8), half each.
    assert (row.outcome, row.score) == ("scored", pytest.approx(8.0))
    question = server.requests[0]["questions"][0 if form == "openai" else "0"]
    labels = [level["label"] for level in question["levels"]] if form == "openai" else question["criteria"]
    assert labels == [str(number) for number in range(1, 11)]


# --------------------------------------------------------------------------------------------- scripted, reward


def test_a_scripted_score_is_the_utility_cut_to_the_scale(tmp_path: Path) -> None:
    found = asked(ScriptedJudge(lambda answer: 4.0 * len(answer.text), name="length", threshold=1.0), tmp_path, 4)
    assert [row.score for row in found] == [1.0, 3.0, 7.0, 10.0]


def test_a_reward_is_no_score(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a reward is not a score on a scale"):
        asked(RewardJudge(lambda texts: [0.0] * len(texts), name="rm"), tmp_path)


# --------------------------------------------------------------------------------------------------------- verb


def test_scores_are_run_verified_attacked_and_averaged(tmp_path: Path) -> None:
    from perl_eval import reporting
    from perl_eval.scoring import score

    a = saved(tmp_path / "a", 8)
    by = ScriptedJudge(lambda answer: len(answer.text) + 2.0, name="length")
    options = judge.JudgeOptions("quality")
    out = judge.run(a, None, tmp_path / "out", judge=by, options=options)
    rows = run_folder.read(out, Judgement)
    assert [row.score for row in rows] == [float(min(i + 2, 10)) for i in range(8)]
    assert {row.kind for row in rows} == {"score"}
    card = run_folder.read_card(out)
    assert card is not None
    assert card.notes["outcomes"] == {"scored": 8}
    assert judge.verify(out, judge=reopen(card)) == []
    (mean, *_) = run_folder.read(score.run(out, tmp_path / "scored"), Estimate)
    # 2 + 3 + ... + 9 over 8
    assert (mean.name, mean.value, mean.n, mean.n_missing) == ("mean score", 5.5, 8, 0)
    # Residuals of the groups sum to -6, -2, 2 and 6: SE = sqrt(4/3 x 80) / 8 = 1.29099; t(3) at 0.975 is 3.18245.
    assert (mean.low, mean.high) == pytest.approx((5.5 - 3.18245 * 1.29099, 5.5 + 3.18245 * 1.29099), abs=1e-4)
    page = reporting.run([out, tmp_path / "scored"], tmp_path / "page.html").read_text("utf-8")
    assert "mean score" in page
    assert "rl, scored" in page
    attacked = judge.attack(a, None, tmp_path / "attacked", judge=by, options=options)
    rates = {rate.subject: rate.value for rate in run_folder.read(attacked, Estimate)}
    # Each attack but the null answer makes the answer longer, and so lifts the score; all were below 10.
    assert rates["verdict A"] == 1.0


def test_a_score_needs_answers_alone(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a", 2), saved(tmp_path / "b", 2)
    with pytest.raises(UserError, match="asks a score question, and completions of two contestants are given"):
        judge.run(
            a,
            b,
            tmp_path / "out",
            judge=ScriptedJudge(lambda _: 0.0, name="nil"),
            options=judge.JudgeOptions("quality"),
        )


def test_another_scale_is_another_question_to_the_ledger(tmp_path: Path) -> None:
    keys = set()
    for scale in ("1 to 5", "1 to 7"):
        (tmp_path / "own.jinja2").write_text(
            f"{{#\nkind: score\nscale: {scale}\n#}}{{% block user %}}{{{{ answer }}}}{{% endblock %}}"
        )
        by = ScriptedJudge(lambda _: 0.0, name="nil")
        (question,) = plan([(answers(1)[0],)], by, prompting.load("own", tmp_path))
        keys.add(Keys(by).of(question))
    assert len(keys) == 2
