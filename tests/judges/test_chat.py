"""The chat door against a server that speaks its form, and fails."""

from __future__ import annotations

import io
import logging
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, prefer_shorter, serving

from perl_eval.client import scheduler
from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.errors import UserError
from perl_eval.judges import prompting
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions
from perl_eval.judging.engine.ask import AskOptions, ask
from perl_eval.records import Ballot, Completion, Message, Question

KEY = "sk-planted-0123456789-never-to-be-seen"
QUICK = AskOptions(max_concurrency=16, attempts=8, backoff_s=0.01)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def questions(count: int) -> list[Question]:
    template = prompting.load("dialogue")
    made = []
    for number in range(count):
        shown = [
            Completion(
                f"{number}{side}", str(number), "g", "d", side, (Message("user", f"order {number}"),), text, "stop", 0
            )
            for side, text in (("a", "x" * (number % 5)), ("b", "y" * (number % 3)))
        ]
        made.append(prompting.question(template, shown, order="ab", id=str(number)))
    return made


def expected(count: int) -> list[str]:
    """Return the verdicts of a judge that prefers the shorter answer."""
    lengths = [(number % 5, number % 3) for number in range(count)]
    return ["tie" if a == b else "first" if a < b else "second" for a, b in lengths]


def judge_of(server: FakeServer, **knobs: Any) -> ChatJudge:
    return ChatJudge("tiny", ChatOptions(base_url=server.url, timeout_s=knobs.pop("timeout_s", 5.0), **knobs))


def put(server: FakeServer, path: Path, count: int = 1, tally: Usage | None = None, **knobs: Any) -> list[Ballot]:
    with Ledger(path / "ledger.sqlite") as ledger:
        return list(ask(questions(count), judge_of(server, **knobs), ledger, options=QUICK, tally=tally))


def test_verdicts_tokens_model_and_cost_come_from_the_server(tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        ballots = put(server, tmp_path, 15, price_in_usd=2.0, price_out_usd=10.0)
    assert [ballot.verdict for ballot in ballots] == expected(15)
    assert {ballot.model for ballot in ballots} == {"tiny-2026"}
    assert {(ballot.tokens_in, ballot.tokens_out) for ballot in ballots} == {(100, 2)}
    # 100 tokens at 2 and 2 tokens at 10 dollars a million
    assert ballots[0].cost_usd == pytest.approx(100 * 2e-6 + 2 * 10e-6)
    assert all(ballot.latency_s > 0 for ballot in ballots)


def test_a_request_holds_the_rendered_messages_and_the_parameters(tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        put(server, tmp_path, max_tokens=7, temperature=0.5)
    (body,) = server.requests
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 7, 0.5)
    assert body["messages"] == [{"role": turn.role, "content": turn.content} for turn in questions(1)[0].messages]


def test_faults_change_nothing_and_answered_requests_are_sent_once(tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        calm = put(server, tmp_path / "calm", 120, timeout_s=0.5)
    with serving(FakeServer(fault_rate=0.2)) as server:
        tally = Usage()
        ballots = put(server, tmp_path / "rough", 120, tally, timeout_s=0.5)
    assert [ballot.verdict for ballot in ballots] == [ballot.verdict for ballot in calm] == expected(120)
    assert tally.retries > 10
    assert len(server.answered) == 120
    assert set(server.answered.values()) == {1}


@pytest.mark.parametrize("fault", ["429", "500", "drop", "half_json", "empty", "stall"])
def test_a_fault_that_stays_is_unjudged_with_a_reason(tmp_path: Path, fault: str) -> None:
    server = FakeServer(fault=lambda body, _: fault if "order 1\n" in str(body["messages"][-1]["content"]) else None)
    with serving(server), Ledger(tmp_path / "l.sqlite") as ledger:
        judge = judge_of(server, timeout_s=0.2)
        ballots = list(ask(questions(3), judge, ledger, options=AskOptions(attempts=2, backoff_s=0.001)))
        assert [ballot.verdict is None for ballot in ballots] == [False, True, False]
        assert ballots[1].reason
        assert len(ledger) == 2


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (FakeServer(refusal="I would rather not."), "refused"),
        (FakeServer(finish=lambda _: "content_filter"), "refused"),
        (FakeServer(finish=lambda _: "length"), "cut off"),
        (FakeServer(answer=lambda _: "As the gold standard goes, both do."), "commits to no verdict"),
        (FakeServer(answer=lambda _: "<think>A is"), "inside its thinking"),
    ],
    ids=["refusal", "content_filter", "length", "prose", "thinking"],
)
def test_replies_without_a_verdict_are_unjudged_with_the_reason(
    tmp_path: Path, server: FakeServer, reason: str
) -> None:
    with serving(server):
        (ballot,) = put(server, tmp_path)
    assert ballot.verdict is None
    assert reason in str(ballot.reason)


def test_a_reply_that_ends_for_an_unknown_reason_is_no_verdict_and_is_paid_once(tmp_path: Path) -> None:
    with serving(FakeServer(finish=lambda _: "whatever", answer=lambda _: "A")) as server:
        tally = Usage()
        ballots = put(server, tmp_path, 12, tally)
        assert {ballot.verdict for ballot in ballots} == {None}
        assert all("for a reason that is not known" in str(ballot.reason) for ballot in ballots)
        assert (tally.requests, tally.failed, tally.can_pass) == (12, 0, 0)
        again = Usage()
        assert [one.reason for one in put(server, tmp_path, 12, again)] == [one.reason for one in ballots]
    assert (again.requests, again.from_ledger) == (0, 12)


def test_a_reply_that_the_server_broke_off_is_asked_for_again(tmp_path: Path) -> None:
    class Failing(FakeServer):
        def _completion(self, body: dict[str, Any], *, empty: bool) -> dict[str, Any]:
            reply = super()._completion(body, empty=empty)
            if max(self.attempts.values()) == 1:
                reply["choices"][0]["finish_reason"] = "error"
            return reply

    with serving(Failing()) as server:
        tally = Usage()
        assert [ballot.verdict for ballot in put(server, tmp_path, 1, tally)] == expected(1)
    assert (tally.asked, tally.failed) == (1, 0)
    assert tally.retries == tally.unusable == 1


def test_a_reply_that_is_cut_off_is_asked_for_once_more_with_twice_the_tokens(tmp_path: Path) -> None:
    with serving(FakeServer(finish=lambda body: "length" if body["max_tokens"] < 20 else "stop")) as server:
        (ballot,) = put(server, tmp_path, max_tokens=10)
        assert [body["max_tokens"] for body in server.requests] == [10, 20]
    assert ballot.verdict == expected(1)[0]
    assert ballot.tokens_in == 200


def _no_max_tokens(body: dict[str, Any]) -> str | None:
    if "max_tokens" in body:
        return "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    return "Unsupported value: 'temperature' does not support 0.0" if "temperature" in body else None


def test_parameters_that_the_server_does_not_take_are_given_up(tmp_path: Path) -> None:
    with serving(FakeServer(complaint=_no_max_tokens)) as server:
        ballots = put(server, tmp_path, 3)
    assert [ballot.verdict for ballot in ballots] == expected(3)
    assert server.requests[-1].keys() == {"messages", "model", "max_completion_tokens"}


@pytest.mark.parametrize(
    "complaint",
    [
        "Unrecognized request argument supplied: max_completion_tokens",
        "body.max_completion_tokens: Extra inputs are not permitted",
        "max_completion_tokens: unknown field; use max_tokens",
    ],
)
def test_a_server_that_knows_only_the_older_name_of_the_limit_is_given_that(tmp_path: Path, complaint: str) -> None:
    with (
        serving(FakeServer(complaint=lambda body: complaint if "max_completion_tokens" in body else None)) as server,
        Ledger(tmp_path / "l") as ledger,
    ):
        judge = judge_of(server, limit_name="max_completion_tokens", max_tokens=7)
        one_by_one = AskOptions(max_concurrency=1, attempts=2, backoff_s=0.01)
        assert [b.verdict for b in ask(questions(3), judge, ledger, options=one_by_one)] == expected(3)
    sent = [{name: body[name] for name in body if "tokens" in name} for body in server.requests]
    assert sent == [{"max_completion_tokens": 7}, *[{"max_tokens": 7}] * 3]
    assert judge.noted == {"not_taken": ["max_completion_tokens"]}


def test_a_server_that_takes_neither_name_of_the_limit_is_heard_in_its_first_words(tmp_path: Path) -> None:
    def neither(body: dict[str, Any]) -> str:
        name = next(name for name in body if name.startswith("max_"))
        other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}[name]
        return f"{name} is not supported, use {other}"

    with serving(FakeServer(complaint=neither)) as server:
        (ballot,) = put(server, tmp_path)
    assert (ballot.verdict, len(server.requests)) == (None, 2)
    assert "max_tokens is not supported, use max_completion_tokens" in str(ballot.reason)


@pytest.mark.parametrize(
    ("tokens", "p_first"),
    [
        ({"A": 0.6, "B": 0.2, "The": 0.2}, 0.6 / 0.8),
        ({"A": 0.3, " a": 0.2, "**A": 0.1, "B": 0.2, "tie": 0.2}, 0.6 + 0.2 / 2),
        ({"tie": 1.0}, 0.5),
        ({"The": 0.7, "A": 0.3}, None),
    ],
)
def test_first_token_probabilities_are_read_where_the_server_gives_them(
    tmp_path: Path, tokens: dict[str, float], p_first: float | None
) -> None:
    with serving(FakeServer(first_tokens=tokens)) as server:
        (ballot,) = put(server, tmp_path, logprobs=True)
        assert (server.requests[0]["logprobs"], server.requests[0]["top_logprobs"]) == (True, 20)
        (again,) = put(server, tmp_path, logprobs=True)
    assert ballot.p_first == (None if p_first is None else pytest.approx(p_first))
    assert again == ballot
    assert len(server.requests) == 1


def test_a_verdict_can_be_asked_for_as_json(tmp_path: Path) -> None:
    with serving(FakeServer(answer=lambda _: '{"verdict": "B"}')) as server:
        (ballot,) = put(server, tmp_path, structured=True)
    schema = server.requests[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["verdict"]["enum"] == ["A", "B", "tie"]
    assert ballot.verdict == "second"


def _plain(body: dict[str, Any]) -> str | None:
    taken = {"model", "messages", "max_tokens", "temperature"}
    refused = sorted(body.keys() - taken)
    return f"unknown parameter {refused[0]}" if refused else None


def test_a_server_without_log_probabilities_and_schemas_is_asked_without(tmp_path: Path) -> None:
    with serving(FakeServer(complaint=_plain)) as server:
        ballots = put(server, tmp_path, 3, structured=True, logprobs=True)
    assert [ballot.verdict for ballot in ballots] == expected(3)
    assert {ballot.p_first for ballot in ballots} == {None}
    assert server.requests[-1].keys() == {"model", "messages", "max_tokens", "temperature"}


def test_a_bad_request_is_unjudged_at_once(tmp_path: Path) -> None:
    with serving(FakeServer(complaint=lambda _: "context length exceeded")) as server:
        (ballot,) = put(server, tmp_path)
    assert "context length exceeded" in str(ballot.reason)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_a_wrong_key_or_model_stops_the_run(tmp_path: Path, status: str) -> None:
    with serving(FakeServer(fault=lambda *_: status)) as server, pytest.raises(UserError, match=status):
        put(server, tmp_path, 50)
    assert len(server.requests) < 50


def test_a_wrong_key_is_said_as_soon_as_what_is_on_its_way_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_LANDING_S", 60.0)
    begun_s = time.monotonic()
    with serving(FakeServer(fault=lambda *_: "401")) as server, pytest.raises(UserError, match="401"):
        put(server, tmp_path, 50)
    assert len(server.requests) > 1
    assert time.monotonic() - begun_s < 30


def test_no_server_is_unjudged(tmp_path: Path) -> None:
    judge = ChatJudge("tiny", ChatOptions(base_url="http://127.0.0.1:9/v1"))
    with Ledger(tmp_path / "l.sqlite") as ledger:
        (ballot,) = ask(questions(1), judge, ledger, options=AskOptions(attempts=2, backoff_s=0.001))
    assert ballot.reason == "TimedOut: the connection broke or could not be made"


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        ChatJudge("gpt")
    ChatJudge("tiny", ChatOptions(base_url="http://127.0.0.1:9/v1"))


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "http://me:pass@host/v1", "http://host/v1?key=x"])
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(UserError) as caught:
        ChatJudge("tiny", ChatOptions(base_url=url))
    assert "pass" not in str(caught.value).replace("password", "")


def test_the_key_is_sent_and_kept_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def echo(body: dict[str, Any]) -> str:
        return prefer_shorter(body)

    caplog.set_level(logging.DEBUG)
    server = FakeServer(answer=echo, fault=lambda _, attempt: "401" if attempt > 1 else None)
    with serving(server):
        put(server, tmp_path, 2)
        judge = judge_of(server)
        with Ledger(tmp_path / "other.sqlite") as ledger, pytest.raises(UserError) as caught:
            list(ask(questions(2), judge, ledger, options=QUICK))
    assert any(KEY in head for head in server.headers)
    # The server said the key back to us.
    assert "fault 401, Bearer (key)" in str(caught.value)
    trace = io.StringIO()
    traceback.print_exception(caught.value, file=trace)
    seen = [caplog.text, trace.getvalue(), repr(judge.parameters), repr(vars(judge))]
    seen += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(seen) > 4
    assert not any(KEY in text for text in seen)


def test_concurrency_reaches_its_limit_and_not_more(tmp_path: Path) -> None:
    with serving(FakeServer(latency_s=0.05)) as server:
        put(server, tmp_path, 64)
    assert server.most_at_once == QUICK.max_concurrency


class Reporting(FakeServer):
    """Refuses what ``refuses`` names, and names it as servers do: in ``param`` alone."""

    def __init__(self, refuses: str, **more: Any) -> None:
        super().__init__(**more)
        self.refuses = refuses

    async def _write(self, writer: Any, status: int, body: Any, headers: dict[str, str]) -> bool:
        if status == 200 and self.refuses in self.requests[-1]:
            error = {"message": "Bad request. " + "See the page on parameters. " * 20, "param": self.refuses}
            return await super()._write(writer, 400, {"error": error}, headers)
        return await super()._write(writer, status, body, headers)


def test_an_option_that_the_error_s_param_names_is_given_up_and_noted(tmp_path: Path) -> None:
    with serving(Reporting("temperature")) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = judge_of(server)
        one_by_one = AskOptions(max_concurrency=1, attempts=2, backoff_s=0.01)
        assert [b.verdict for b in ask(questions(4), judge, ledger, options=one_by_one)] == expected(4)
    assert ["temperature" in body for body in server.requests] == [True, False, False, False, False]
    assert judge.noted == {"not_taken": ["temperature"]}


def test_what_a_server_does_otherwise_is_noted_once(tmp_path: Path) -> None:
    with serving(FakeServer()) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        judge = judge_of(server, structured=True)
        list(ask(questions(9), judge, ledger, options=QUICK))
    assert judge.noted == {
        "server": ["the server takes response_format and does not follow it: replies are read as text"]
    }


@pytest.mark.parametrize("answer", ["I think that", "Both are polite"])
def test_options_in_the_log_probabilities_are_read_where_the_text_commits_to_nothing(
    tmp_path: Path, answer: str
) -> None:
    """By hand: of A and B, with 0.06 and 0.02, A has 3/4."""
    tokens = {"I": 0.9, "A": 0.06, "B": 0.02}
    with serving(FakeServer(answer=lambda _: answer, first_tokens=tokens)) as server:
        (ballot,) = put(server, tmp_path, logprobs=True)
    assert (ballot.verdict, ballot.p_first) == ("first", pytest.approx(0.75))


@pytest.mark.parametrize("tokens", [{"I": 0.9, "A": 0.06}, {"I": 0.99, "A": 0.004, "B": 0.001}])
def test_an_option_alone_or_hardly_any_mass_is_no_verdict(tmp_path: Path, tokens: dict[str, float]) -> None:
    with serving(FakeServer(answer=lambda _: "I think that", first_tokens=tokens)) as server:
        (ballot,) = put(server, tmp_path, logprobs=True)
    assert (ballot.verdict, ballot.p_first) == (None, None)


def test_a_log_probability_that_is_no_number_costs_the_probability_only(tmp_path: Path) -> None:
    class Broken(FakeServer):
        def _logprobs(self, body: Any) -> Any:  # noqa: ARG002  # the shape of what it stands for
            tops = [{"token": "A", "logprob": -0.1}, {"token": "B", "logprob": float("nan")}]
            return {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": tops}]}

    with serving(Broken(answer=lambda _: "A")) as server:
        (ballot,) = put(server, tmp_path, logprobs=True)
    assert (ballot.verdict, ballot.p_first) == ("first", None)


def test_a_draft_before_the_cut_is_no_verdict(tmp_path: Path) -> None:
    cut = "At first sight:\nVerdict: A\nBut on a closer look at what was asked, the"
    with serving(FakeServer(answer=lambda _: cut, finish=lambda _: "max_tokens")) as server:
        (ballot,) = put(server, tmp_path)
    assert (ballot.verdict, ballot.reason) == (None, "the reply was cut off, even with twice the tokens")


def test_a_timeout_is_estimated_at_the_longest_reply(tmp_path: Path) -> None:
    tally = Usage()
    with serving(FakeServer(fault=lambda *_: "stall")) as server, Ledger(tmp_path / "l") as ledger:
        judge = judge_of(server, timeout_s=0.2, max_tokens=100, price_in_usd=0.0, price_out_usd=1e4)
        list(ask(questions(1), judge, ledger, options=AskOptions(attempts=2, backoff_s=0.001), tally=tally))
    assert tally.estimated == tally.requests > 0
    assert tally.cost_usd == tally.estimated_usd == pytest.approx(tally.requests * 1.0)
