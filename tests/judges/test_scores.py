"""Scores on a scale: replies that commit to one, replies that do not, and scores from probabilities."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perl_eval.judges.parsing.scores import expected, mean_score, read
from perl_eval.records import Scale

TEN = Scale(1, 10)
SCORED = {
    7.0: (
        *("7", "7.", " 7 ", "**7**", "`7`", '"7"', "7/10", "7 / 10", "7 out of 10", "> 7", "7 points", "7 stars"),
        *("Score: 7", "**Score:** 7", "**Score: 7**", "Score: 7/10", "score is 7", "The score is 7.", "Rating: [[7]]"),
        *("[[7]]", "My final rating: 7", "Final score: **7**", "Overall rating = 7", "Score (1-10): 7", "# Score: 7"),
        *("Score of the answer: 7", "Score: 7, since it names the size", "Score: 7 (good)", "Score: 7 because it fits"),
        *('{"score": 7}', '{"rating": "7"}', '```json\n{"verdict": 7}\n```', '{"reasons": "8 of 9 hold", "score": 7}'),
        *("Score: 3\nOn second thoughts it is complete.\nScore: 7", "It has 3 slips.\n\n7", "7\n\nIt has 3 slips."),
        *("<think>Score: 3</think>7", "[[2]] at first sight.\n[[7]]", "7.0"),
    ),
    10.0: ("10", "Score: 10", "10/10", "[[10]]", "Score: 10."),
    7.5: ("7.5", "Score: 7.5", '{"score": 7.5}', "7.5/10"),
}
NOT_SCORED = (
    *("", "  ", "It deserves a 7", "I count 7 slips in 10 lines.", "seven", "Score: high", "7 or 8", "Score: 7 or 8"),
    *("Score: 7-8", "Score: 7 to 8", "Score: 7 - 8", "Score: 7, 8", "Score: 70%", "7 8", "1. Clear\n2. Brief"),
    *("<think>Score: 7", '{"score": true}', '{"score": [7]}', '{"score": null}', "Scores: 7", "7\n8\nboth fit"),
)
OFF_SCALE = ("0", "11", "Score: 11", "-1", "Score: -7", "[[12]]", "7/5", "4/5", '{"score": 100}', "Score: 7\nScore: 11")


@pytest.mark.parametrize(("reply", "score"), [(reply, score) for score in SCORED for reply in SCORED[score]])
def test_a_committed_number_on_the_scale_is_the_score(reply: str, score: float) -> None:
    assert read(reply, TEN) == (score, None)


@pytest.mark.parametrize("reply", NOT_SCORED)
def test_prose_and_ranges_hold_no_score(reply: str) -> None:
    reading = read(reply, TEN)
    assert reading.score is None
    assert reading.reason in (
        "the reply commits to no score",
        "the reply is empty",
        "the reply ends inside its thinking",
    )


@pytest.mark.parametrize("reply", OFF_SCALE)
def test_a_number_off_the_scale_is_no_score(reply: str) -> None:
    reading = read(reply, TEN)
    assert reading.score is None
    assert "is not on the scale 1 to 10" in str(reading.reason)


@settings(deadline=None)
@given(prose=st.text(max_size=200), score=st.integers(1, 10))
def test_any_text_can_be_scored_and_the_last_line_binds(prose: str, score: int) -> None:
    read(prose, TEN)
    assert read(f"{prose.replace('<', '')}\nScore: {score}", TEN).score == score


@pytest.mark.parametrize(
    "reply",
    ["{" * 20_000, "[[" * 10_000, "7" * 50_000, "score is " * 5_000, "score" + "*" * 290, "7/" * 20_000, "> " * 20_000],
    ids=lambda reply: repr(reply[:8]),
)
def test_a_hostile_score_costs_no_time(reply: str) -> None:
    begun_s = time.process_time()
    read(reply, TEN)
    assert time.process_time() - begun_s < 1.0


# --------------------------------------------------------------------------------------------- probabilities


def logs(**chances: float) -> list[tuple[str, float]]:
    return [(token.lstrip("_"), math.log(chance)) for token, chance in chances.items()]


@pytest.mark.parametrize(
    ("tokens", "scale", "mean"),
    [
        # 0.25 x 2 + 0.75 x 4
        (logs(_2=0.25, _4=0.75), Scale(1, 5), 3.5),
        # Tokens that are no number, or none of the scale, are left out: (0.4 x 4 + 0.2 x 1) / 0.6
        (logs(_4=0.4, The=0.2, _1=0.2, _9=0.2), Scale(1, 5), 3.0),
        ([(" 4", math.log(0.5)), ("4", math.log(0.3)), ("3", math.log(0.2))], Scale(1, 5), 3.8),
        (logs(_1=0.5, _10=0.5), TEN, 5.5),
        (logs(_7=0.5, _8=0.5), TEN, 7.5),
        # A 1 may be the first half of 10 unless 10 is seen to be a token of its own.
        (logs(_1=0.5, _7=0.5), TEN, None),
        (logs(_1=0.6, The=0.4), Scale(1, 9), 1.0),
        (logs(_4=0.4, The=0.6), Scale(1, 5), None),
        (logs(_04=1.0), Scale(1, 5), None),
        ([("\u0664", 0.0)], Scale(1, 5), None),
        ([], Scale(1, 5), None),
    ],
)
def test_a_score_is_the_mean_of_the_numbers_that_could_have_stood_first(
    tokens: list[tuple[str, float]], scale: Scale, mean: float | None
) -> None:
    assert expected(tokens, scale) == (None if mean is None else pytest.approx(mean))


@settings(deadline=None)
@given(st.dictionaries(st.integers(1, 10).map(str), st.floats(1e-6, 1.0), min_size=1))
def test_a_mean_score_lies_between_the_numbers_and_does_not_mind_a_factor(chances: dict[str, float]) -> None:
    numbers = [int(number) for number in chances]
    assert min(numbers) - 1e-9 <= mean_score(chances) <= max(numbers) + 1e-9
    doubled = {number: 2 * chance for number, chance in chances.items()}
    assert mean_score(doubled) == pytest.approx(mean_score(chances))
