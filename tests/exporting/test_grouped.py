"""What belongs together is brought together, in the order in which it was first met, however much there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perl_eval import exporting
from perl_eval.exporting import grouped as at_fault
from perl_eval.exporting.grouped import grouped
from perl_eval.exporting.passed import Passed, StoredRecords
from perl_eval.records import Completion, HumanLabel, Message
from perl_eval.storage import parquet


def answer(number: int, policy: str, item: str) -> Completion:
    prompt = (Message("user", f"prompt of {item}"),)
    return Completion(f"c{number}", item, "g", "d", policy, prompt, f"answer {number}", "stop", number)


def by_hand(found: list[Completion]) -> list[list[Completion]]:
    """Return the groups as dictionaries make them, policy by policy."""
    policies: dict[str, dict[str, list[Completion]]] = {}
    for one in found:
        policies.setdefault(one.policy, {}).setdefault(one.item, []).append(one)
    return [group for items in policies.values() for group in items.values()]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", "3", "4"]))), st.integers(0, 12))
def test_groups_are_those_of_a_dictionary(tmp_path_factory: Any, pairs: list[tuple[str, str]], held: int) -> None:
    found = [answer(number, *pair) for number, pair in enumerate(pairs)]
    path = tmp_path_factory.mktemp("stored") / "completions.parquet"
    parquet.write(path, found, Completion)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(at_fault, "_HELD", held)
        for source in (found, Passed(StoredRecords(path, Completion), frozenset())):
            assert list(grouped(source, lambda one: one.policy, lambda one: one.item)) == by_hand(found)


def test_lone_surrogates_in_keys_are_keys_too() -> None:
    found = [answer(number, "p", item) for number, item in enumerate(["\ud800", "x", "\ud800"])]
    assert [len(group) for group in grouped(found, lambda one: one.item)] == [2, 1]


_MANY = 600


def _answers() -> Any:
    """Yield answers whose second draws stand far from their first ones."""
    half = _MANY // 2
    for number in range(_MANY):
        one = answer(number, "p", f"i{number % half}")
        yield replace(one, draw=number // half, text=f"answer {number}")


def _labels() -> Any:
    for number in range(_MANY):
        item = f"i{number % (_MANY // 2)}"
        yield HumanLabel(f"u {item}", item, "g", f"ann{number}", "win", note=f"because {number}")


@pytest.mark.parametrize("to", ["alpaca-eval", "mt-bench", "arena-hard", "label-studio", "argilla"])
def test_what_is_spread_over_a_file_is_written_alike_by_way_of_a_scratch_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    of_people = to in ("label-studio", "argilla")
    stored = tmp_path / "run" / ("labels.parquet" if of_people else "completions.parquet")
    parquet.write(stored, _labels() if of_people else _answers(), HumanLabel if of_people else Completion)
    held = exporting.run(tmp_path / "run", tmp_path / "held", to=to)
    monkeypatch.setattr(at_fault, "_HELD", 100)
    spilt = exporting.run(tmp_path / "run", tmp_path / "spilt", to=to)
    assert spilt.rows == held.rows == (_MANY // 2 if to in ("alpaca-eval", "arena-hard") else _MANY)
    assert [file.read_bytes() for file in spilt.files] == [file.read_bytes() for file in held.files]
