"""What is exported and imported again is what it was, as far as the format can hold it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perl_eval import exporting, sources
from perl_eval.outcomes import decide
from perl_eval.records import Ballot, Completion, HumanLabel, Judgement, Message, digest, unit_of
from perl_eval.sources.completions import completions as completions_of
from perl_eval.sources.labels import labels as labels_of
from perl_eval.sources.rows import Row, rows

LAW = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
# What stands in a record: any text but half characters and the mark of a picture.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffc"), max_size=12)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffc"), min_size=1, max_size=8)
NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,6}", fullmatch=True)
TURNS = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), WORDS), min_size=1, max_size=3
).map(tuple)
ONE_TURN = WORDS.map(lambda text: (Message("user", text),))


def completions(prompts: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Completion]]:
    """Return several answers of two policies, ids and draws of their own."""
    answers = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ours", "theirs"]), TEXTS), min_size=1, max_size=6)

    def made(asked: list[tuple[Message, ...]], said: list[tuple[int, str, str]]) -> list[Completion]:
        drawn: dict[tuple[int, str], int] = {}
        found = []
        for place, (item, policy, text) in enumerate(said):
            draw = drawn[item, policy] = drawn.get((item, policy), -1) + 1
            prompt = asked[item % len(asked)]
            found.append(Completion(f"c{place}", f"i{item}", "g", "d", policy, prompt, text, "stop", draw))
        return found

    return st.builds(made, st.lists(prompts, min_size=1, max_size=3), answers)


READ: dict[type, Any] = {
    Completion: lambda file, format: completions_of(file, format=format),
    Judgement: lambda file, _: sources.read_judgements(file),
    HumanLabel: lambda file, _: labels_of(file),
}


def taken(found: Sequence[Any], to: str, kind: type, format: str = "") -> tuple[list[Any], exporting.Tally]:
    """Export records and read them again."""
    ending = exporting.layout_named(to).ending
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"out{ending}"
        tally = exporting.run(found, out, to=to)
        files = [out] if ending else sorted((out / "model_answer").glob("*.jsonl"))
        back = [one for file in files for one in READ[kind](file, format)]
    return back, tally


def as_text(prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt
    return (Message("user", "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt)),)


@pytest.mark.parametrize("to", ["csv", "json", "jsonl"])
@LAW
@given(found=completions(TURNS))
def test_tables_hold_completions_whole(to: str, found: list[Completion]) -> None:
    back, tally = taken(found, to, Completion, "table")
    assert back == found
    assert (tally.lost, tally.not_kept) == ({}, [])


@LAW
@given(found=completions(TURNS))
def test_chat_holds_prompts_and_answers(found: list[Completion]) -> None:
    back, tally = taken(found, "chat", Completion)
    assert [(one.prompt, one.text) for one in back] == [(one.prompt, one.text) for one in found]
    assert set(tally.not_kept) >= {"id", "item", "group", "dataset", "policy"}


@LAW
@given(found=completions(TURNS))
def test_alpaca_eval_holds_one_answer_an_instruction(found: list[Completion]) -> None:
    ours = [one for one in found if one.policy == found[0].policy]
    back, tally = taken(ours, "alpaca-eval", Completion)
    first = [one for one in ours if one.draw == 0]
    assert [(one.prompt, one.text, one.policy, one.dataset) for one in back] == [
        (as_text(one.prompt), one.text, one.policy, one.dataset) for one in first
    ]
    assert tally.lost["further draws, left out"] == len(ours) - len(first)


@LAW
@given(found=completions(TURNS))
def test_mt_bench_holds_items_policies_and_draws(found: list[Completion]) -> None:
    asked = {one.item: one.prompt for one in reversed(found)}
    found = [replace(one, prompt=asked[one.item]) for one in found]
    back, _ = taken(found, "mt-bench", Completion)
    assert sorted((one.item, one.policy, one.text, one.prompt) for one in back) == sorted(
        (one.item, one.policy, one.text, as_text(one.prompt)) for one in found
    )


@LAW
@given(found=completions(TURNS))
def test_arena_hard_holds_items_policies_and_turns(found: list[Completion]) -> None:
    asked = {one.item: one.prompt for one in reversed(found)}
    found = [replace(one, prompt=asked[one.item]) for one in found]
    back, tally = taken(found, "arena-hard", Completion)
    first = [one for one in found if one.draw == 0]
    assert sorted((one.item, one.policy, one.text, one.prompt) for one in back) == sorted(
        (one.item, one.policy, one.text, one.prompt) for one in first
    )
    assert tally.lost["further draws, left out"] == len(found) - len(first)


VERDICT = st.sampled_from(["first", "second", "tie", None])


@st.composite
def judgements(draw: st.DrawFn) -> list[Judgement]:
    """Return judged pairs, both orders asked."""
    found = []
    for place in range(draw(st.integers(1, 5))):
        ballots = tuple(
            Ballot(order, verdict, None if verdict else "error", raw=draw(TEXTS), model="j, pair-v2")
            for order in ("ab", "ba")
            for verdict in [draw(VERDICT)]
        )
        prompt, texts = draw(ONE_TURN), (draw(WORDS), draw(WORDS))
        decided = decide(ballots)
        found.append(
            Judgement(
                id=digest("judgement", f"a{place}", f"b{place}", "j"),
                kind="pairwise",
                item=f"q{place}",
                group=f"q{place}",
                dataset="d",
                a=f"a{place}",
                b=f"b{place}",
                policy_a="ours",
                policy_b="theirs",
                prompt=prompt,
                text_a=texts[0],
                text_b=texts[1],
                outcome=decided.outcome,
                ballots=ballots,
                judge="j",
                prompt_sha256="",
                simulated=False,
                reason=decided.reason,
            )
        )
    return found


def verdicts(one: Judgement) -> dict[str, Any]:
    return {ballot.order: ballot.verdict for ballot in one.ballots}


@pytest.mark.parametrize("to", ["mt-bench-pairs", "arena-hard-judgments"])
@LAW
@given(found=judgements())
def test_judgements_of_both_orders_come_back(to: str, found: list[Judgement]) -> None:
    back, tally = taken(found, to, Judgement)
    assert [(one.item, one.policy_a, one.policy_b, one.judge, one.outcome, verdicts(one)) for one in back] == [
        (one.item, one.policy_a, one.policy_b, one.judge, one.outcome, verdicts(one)) for one in found
    ]
    assert [[ballot.raw for ballot in one.ballots] for one in back] == [
        [ballot.raw for ballot in one.ballots] for one in found
    ]
    assert tally.lost == {}


@pytest.mark.parametrize("to", ["csv", "json", "jsonl"])
@LAW
@given(found=judgements())
def test_tables_hold_outcomes_and_verdicts(to: str, found: list[Judgement]) -> None:
    back, _ = taken(found, to, Judgement)
    assert [(one.item, one.a, one.b, one.judge, one.outcome) for one in back] == [
        (one.item, one.a, one.b, one.judge, one.outcome) for one in found
    ]
    assert [verdicts(one) for one in back if one.ballots] == [verdicts(one) for one in found]


@LAW
@given(found=judgements())
def test_annotations_of_alpaca_eval_come_back_as_preferences(found: list[Judgement]) -> None:
    back, tally = taken(found, "alpaca-eval-annotations", Judgement)
    known = {"split": "tie", "mixed": "tie"}
    assert [(one.prompt, one.text_a, one.text_b, one.policy_a, one.policy_b, one.outcome) for one in back] == [
        (one.prompt, one.text_a, one.text_b, one.policy_a, one.policy_b, known.get(one.outcome, one.outcome))
        for one in found
    ]
    assert tally.lost.total() == sum(one.outcome in known for one in found)


NOTHING: dict[str, Any] = {
    **{"b": "", "policy_a": "ours", "policy_b": "", "prompt": (), "text_a": "", "text_b": "", "judge": "j"}
}


@LAW
@given(scores=st.lists(st.one_of(st.none(), st.floats(1, 10)), min_size=1, max_size=5))
def test_single_answer_grading_comes_back(scores: list[float | None]) -> None:
    found = [
        Judgement(
            **{"id": f"j{n}", "kind": "score", "item": f"q{n}", "group": f"q{n}", "dataset": "d", "a": f"a{n}"},
            **NOTHING,
            outcome="unjudged" if score is None else "scored",
            ballots=(Ballot("none", None if score is None else "scored", model="j, single-v1", score=score),),
            prompt_sha256="",
            simulated=False,
            score=score,
        )
        for n, score in enumerate(scores)
    ]
    back, _ = taken(found, "mt-bench-single", Judgement)
    assert [(one.item, one.policy_a, one.judge, one.score, one.outcome) for one in back] == [
        (one.item, one.policy_a, one.judge, one.score, one.outcome) for one in found
    ]


@st.composite
def labels(draw: st.DrawFn) -> list[HumanLabel]:
    found = {}
    for place in range(draw(st.integers(1, 6))):
        item = draw(st.integers(0, 2))
        one = HumanLabel(
            unit_of(f"a{item}", f"b{item}"),
            f"q{item}",
            f"g{item}",
            draw(st.sampled_from(["ann", "bob"])),
            draw(st.sampled_from(["win", "tie", "loss"])),
            note=draw(WORDS.map(str.strip)),
            weight=draw(st.floats(0.5, 4)),
            **dict(zip(("policy_a", "policy_b"), draw(st.sampled_from([("", ""), ("ours", "theirs")])), strict=True)),
        )
        found[item, one.annotator, place] = one
    return list(found.values())


def key(one: HumanLabel) -> Any:
    return (one.unit, one.item, one.annotator, one.label, one.note, one.weight, one.policy_a)


@pytest.mark.parametrize("to", ["csv", "json", "jsonl", "label-studio", "argilla"])
@LAW
@given(found=labels())
def test_labels_come_back(to: str, found: list[HumanLabel]) -> None:
    back, tally = taken(found, to, HumanLabel)
    assert sorted(back, key=key) == sorted(found, key=key)
    assert (tally.lost, tally.not_kept, tally.rows) == ({}, [], len(found))


ANSWER = WORDS.map(lambda text: (Message("assistant", f"a{text}"),))
SHAPES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "prompt": st.just({}),
    "completion": st.fixed_dictionaries({"completion": ANSWER}),
    "label": st.fixed_dictionaries({"completion": ANSWER, "label": st.booleans()}),
    "preference": st.fixed_dictionaries({"chosen": ANSWER, "rejected": ANSWER}),
}
USERS = st.lists(st.tuples(WORDS, WORDS), max_size=2).flatmap(
    lambda before: WORDS.map(
        lambda last: tuple(
            [turn for asked, said in before for turn in (Message("user", asked), Message("assistant", said))]
            + [Message("user", f"q{last}")]
        )
    )
)


@pytest.mark.parametrize("shape", SHAPES)
@LAW
@given(data=st.data())
def test_rows_come_back_from_trls_shapes(shape: str, data: st.DataObject) -> None:
    made = st.lists(st.tuples(USERS, SHAPES[shape]), min_size=1, max_size=4)
    found = [Row(f"r{n}", "g", "d", asked, **sides) for n, (asked, sides) in enumerate(data.draw(made))]
    with tempfile.TemporaryDirectory() as folder:
        exporting.run(found, Path(folder) / "out", to="trl")
        back = rows(Path(folder) / "out")
    sides = ("prompt", "completion", "chosen", "rejected", "label")
    assert [[getattr(one, name) for name in sides] for one in back] == [
        [getattr(one, name) for name in sides] for one in found
    ]
