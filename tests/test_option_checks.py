"""Checks refuse what they say, at their ends too, and tell it under the right name."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial

import pytest

from perl_eval import checks
from perl_eval.errors import OptionError, UserError
from perl_eval.stats.bootstrap import Resampling

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.at_least_one, (1, 2), (0, -1)),
        (checks.positive, (1e-9, 3), (0, -1, NAN, INF)),
        (checks.not_negative, (0, 3.5), (-1e-9, NAN, INF)),
        (checks.finite, (0, -3.5), (NAN, INF, -INF)),
        (partial(checks.between, 0, 1), (0.5,), (0, 1, -1, 2, NAN)),
        (partial(checks.between, 0, 1, ends="[)"), (0, 0.5), (1, -1, NAN)),
        (partial(checks.between, 0, 1, ends="(]"), (1, 0.5), (0, 2, NAN)),
        (partial(checks.between, -1, 1, ends="[]"), (-1, 1), (-1.1, 1.1, NAN)),
    ],
)
def test_what_is_refused(check: Callable[..., None], good: tuple[float, ...], bad: tuple[float, ...]) -> None:
    for value in (*good, None):
        check({"size": value}, "size")
    for value in bad:
        with pytest.raises(OptionError, match=f"^size is {value}; give "):
            check({"kept": 1, "size": value}, "kept" if check is checks.finite else "size", "size")


@dataclass(frozen=True)
class Options:
    local_batch: int = 16

    def __post_init__(self) -> None:
        checks.at_least_one(self, "local_batch")


def test_python_reads_the_argument_and_the_command_line_the_option() -> None:
    with pytest.raises(OptionError) as caught:
        Options(0)
    assert str(caught.value) == "local_batch is 0; give at least 1"
    assert caught.value.typed() == "--local-batch is 0; give at least 1"


@pytest.mark.parametrize(
    ("option", "flag"), [("timeout_s", "--timeout"), ("max_cost_usd", "--max-cost"), ("patience_h", "--patience")]
)
def test_units_are_not_typed(option: str, flag: str) -> None:
    assert OptionError(option, 0, "give more than `price_in_usd`").typed() == f"{flag} is 0; give more than --price-in"


def test_an_option_of_one_stage_of_many_is_told_by_its_own_name() -> None:
    with pytest.raises(OptionError, match=r"^sft_batch is 0; give at least 1$"), checks.named(local_batch="sft_batch"):
        Options(0)
    with pytest.raises(OptionError, match=r"^local_batch is 0"), checks.named(other="sft_batch"):
        Options(0)


def test_it_is_a_wrong_value_and_a_users_mistake_and_travels() -> None:
    with pytest.raises(OptionError) as caught:
        Resampling(level=NAN)
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, ValueError)
    again = copy(caught.value)  # made anew from its arguments, as workers do
    assert (str(again), again.typed(), again.option) == (str(caught.value), caught.value.typed(), "level")


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"level": 0.0}, {"level": 1.0}])
def test_a_bootstrap_is_checked_where_it_is_made(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        Resampling(**wrong)  # type: ignore[arg-type]
