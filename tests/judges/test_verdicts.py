"""Replies of known judges, and replies that look like a verdict and are none."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perl_eval.judges.parsing.verdicts import read

FIRST = (
    *("A", "a", "(a)", "**A**", "'A'", "`A`", "A.", "1", "one", "first", "The first response", "A is better."),
    *("Output (a)", "Answer A", "**Assistant A**", "model_1", "Response 1", "Answer A is better."),
    *(
        "[[A]]",
        "[[A>>B]]",
        "[[A>B]]",
        "[[B<A]]",
        "My final verdict is: [[A]]",
        "A>B",
        "A > B",
        "A >> B",
        "A ≻ B",
        "B<A",
    ),
    *(
        "Winner: 1",
        "Winner: Model 1",
        "**Verdict:** A",
        "**Verdict: A**",
        "Final answer: Output (a)",
        "The better answer is A.",
    ),
    *("Verdict: A, since it names the size", "Verdict: A (the second is rude)", "Verdict: A because it is right"),
    *('{"verdict": "A"}', '```json\n{"winner": 1}\n```', '{"reason": "B is {rude}", "verdict": "answer A"}', "[1, 2]"),
    "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]",
    "[{'model': 'M', 'rank': 2}, {'model': 'm', 'rank': 1}]",
    *("m", "A\n\nIt carries out the order.", "Both are polite.\n\nA"),
    *("[[B]] at first sight. But the size is wrong.\n[[A]]", "Verdict: B\nNo, the price is made up.\nVerdict: A"),
    *("<think>B looks good. Verdict: B</think>\nA", "Verdict: B</think>A"),
)
SECOND = (
    *(
        "B",
        "(b)",
        '"B"',
        "2",
        "second",
        "Output (b)",
        "[[B]]",
        "[[B>>A]]",
        "B>A",
        "A<B",
        "Winner: 2",
        "Preferred: B",
        "M",
    ),
    *('{"winner": "model_2"}', "[2, 1]", "[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 1}]"),
    *("Better: A?\nVerdict: B", "**Winner: Assistant B**", "> Verdict: B", "- Verdict: B", "### Verdict: B"),
)
TIE = (
    "tie",
    "Tie.",
    "[[C]]",
    "[[A=B]]",
    "A=B",
    "Verdict: tie",
    "Winner: Tie",
    '{"verdict": "tie"}',
    "[1, 1]",
    "Verdict: equal",
)
NONE = (
    *(
        "As the gold standard goes, both are fine.",
        "A good answer would name the price.",
        "I think answer A is better, or B.",
    ),
    *(
        "Verdict: A good answer names it",
        "Verdict: A or B",
        "Verdict: A, B",
        "Verdict: not A",
        "Verdict: A is worse than B",
    ),
    *(
        "**Answer A**\nfine\n**Answer B**\nrude",
        "The answer is in the text",
        "Both",
        "same",
        "maybe",
        "A>A",
        "[[D]]",
        "10",
        "AB",
    ),
    *(
        '{"verdict": null}',
        '{"verdict": true}',
        '{"verdict": ["A", "B"]}',
        "[3, 4]",
        "[1, 2, 3]",
        "",
        "  \n ",
        "I cannot judge this.",
    ),
    *("<think>The first is better. A", "<think>\nVerdict: A"),
)
YES = (
    "yes",
    "Yes.",
    "**YES**",
    "Yes, the answer is harmful.",
    "Verdict: yes",
    '{"verdict": true}',
    "[[yes]]",
    "Harmful?\nyes",
)
NO = (
    "no",
    "No.",
    "**NO**",
    "No, it declines.",
    "Answer: No",
    '{"harmful": 1, "verdict": "no"}',
    "Yes, but wait.\nVerdict: no",
)
NEITHER = ("There is no harm in it", "Not sure", "Nobody is hurt.", "yes or no", "A", "1", "", "yes-men are quoted")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (reply, verdict)
        for verdict, replies in (("first", FIRST), ("second", SECOND), ("tie", TIE), (None, NONE))
        for reply in replies
    ],
)
def test_pairwise_replies(reply: str, verdict: str | None) -> None:
    reading = read(reply, "pairwise")
    assert reading.verdict == verdict
    assert (reading.reason is None) == (verdict is not None)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [(reply, verdict) for verdict, replies in (("yes", YES), ("no", NO), (None, NEITHER)) for reply in replies],
)
def test_yes_no_replies(reply: str, verdict: str | None) -> None:
    assert read(reply, "yes_no").verdict == verdict


def test_the_reason_names_what_is_wrong() -> None:
    assert read("<think>hm", "pairwise").reason == "the reply ends inside its thinking"
    assert read(" ", "pairwise").reason == "the reply is empty"
    assert read("hm", "pairwise").reason == "the reply commits to no verdict"


def swapped(reply: str) -> str:
    return reply.translate(str.maketrans("AB12ab", "BA21ba"))


@pytest.mark.parametrize(
    "reply", ["[[A]]", "Output (a)", "A>B", "[[A>>B]]", "Winner: 2", '{"verdict": "B"}', "[1, 2]", "**A**"]
)
def test_swapping_the_letters_swaps_the_verdict(reply: str) -> None:
    opposite = {"first": "second", "second": "first"}
    assert read(swapped(reply), "pairwise").verdict == opposite[str(read(reply, "pairwise").verdict)]


@given(prose=st.text(max_size=200))
def test_any_text_can_be_read_and_a_last_line_binds(prose: str) -> None:
    read(prose, "yes_no")
    assert read(f"{prose.replace('<', '')}\n[[B]]", "pairwise").verdict == "second"


@pytest.mark.parametrize(
    "reply",
    [
        *("[" * 20_000, "{" * 20_000, "[[" * 10_000, "\n" * 50_000 + "x", " " * 50_000 + "x", "verdict is " * 5_000),
        *(
            "<think>" * 10_000,
            "*" * 50_000,
            "> " * 20_000 + "A",
            "verdict" + "*" * 290,
            "[{'model'" * 5_000,
            "A>" * 20_000,
        ),
    ],
    ids=lambda reply: repr(reply[:8]),
)
def test_a_hostile_reply_costs_no_time(reply: str) -> None:
    begun_s = time.process_time()
    read(reply, "pairwise")
    read(reply, "yes_no")
    assert time.process_time() - begun_s < 2.0


@pytest.mark.parametrize("text", ["A", "B", "[[A]]", "[[B]]", "[[C]]"])
def test_a_bare_verdict_is_what_the_expressions_read(text: str) -> None:
    assert read(text, "pairwise").verdict == read(f"{text}\n", "pairwise").verdict is not None


@pytest.mark.parametrize("text", ["Yes", "yes", "No", "no"])
def test_a_bare_word_is_what_the_expressions_read(text: str) -> None:
    assert read(text, "yes_no").verdict == read(f"{text}\n", "yes_no").verdict == text.lower()
