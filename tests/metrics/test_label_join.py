"""Labels find the units that they are of: by their own unit, or by item and policies, mirrored where sides differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from contests import pair_judged

from perl_eval.errors import DataError, UserError
from perl_eval.metrics.label_join import refuse_repeated, with_units
from perl_eval.records import HumanLabel, Message, digest, unit_of

JUDGED = [pair_judged(place, "win") for place in range(3)]


def label(item: str, said: str, a: str = "", b: str = "", unit: str = "") -> HumanLabel:
    return HumanLabel(unit, item, item, "ann", said, policy_a=a, policy_b=b)


def test_item_and_policies_name_the_unit() -> None:
    (found,) = with_units([label("i1", "loss", "rl", "sft")], JUDGED)
    assert (found.unit, found.label) == (JUDGED[1].unit, "loss")


def test_sides_the_other_way_round_are_mirrored() -> None:
    (found,) = with_units([label("i1", "loss", "sft", "rl")], JUDGED)
    assert (found.unit, found.label, found.policy_a) == (JUDGED[1].unit, "win", "rl")


def test_a_label_keeps_its_own_unit_and_side() -> None:
    given = label("i1", "loss", "sft", "rl", unit="mine")
    assert with_units([given], JUDGED) == [given]


def test_other_items_and_policies_belong_to_nothing() -> None:
    given = [label("i9", "win", "rl", "sft"), label("i1", "win", "rl", "base"), label("i1", "win", "rl")]
    assert with_units(given, JUDGED, refuse_doubt=False) == given
    placed = with_units([*given, label("i1", "win", "rl", "sft")], JUDGED)
    assert (placed[:3], placed[3].unit) == (given, JUDGED[1].unit)


def test_the_same_items_of_other_policies_are_said_to_be_so() -> None:
    with pytest.raises(UserError, match=r"the items match; the labels name policies base, gpt, the judgements rl, sft"):
        with_units([label("i1", "win", "gpt", "base")], JUDGED)
    assert with_units([label("i9", "win", "gpt", "base")], JUDGED)[0].unit == ""


def test_labels_find_their_item_by_its_prompt(caplog: pytest.LogCaptureFixture) -> None:
    judged = [replace(one, prompt=(Message("user", f"Say {one.item}."),)) for one in JUDGED]
    derived = digest("item", "user:Say i2.")
    given = [label("Say i1.", "win", "sft", "rl"), label(derived, "win", "rl", "sft"), label("Say", "win", "rl", "sft")]
    placed = with_units(given, judged)
    assert [one.unit for one in placed] == [judged[1].unit, judged[2].unit, ""]
    assert placed[0].label == "loss"
    assert "2 labels name no judged item by id; matched by the exact text of their prompt" in caplog.text


def test_a_prompt_of_several_items_is_no_name_of_one() -> None:
    judged = [replace(one, prompt=(Message("user", "Again."),)) for one in JUDGED]
    with pytest.raises(UserError, match=r"'Again.' has 3 judged units"):
        with_units([label("Again.", "win", "sft", "rl")], judged)


def test_completions_of_several_items_are_refused_even_where_labels_have_units() -> None:
    judged = [replace(one, a="1", b="2") for one in JUDGED]
    with pytest.raises(UserError, match=r"judgement 1: items 'i0' and 'i1' have the same completions"):
        with_units([label("i0", "win", "rl", "sft", unit=judged[0].unit)], judged)


def test_a_judgement_twice_is_refused_with_its_row() -> None:
    refuse_repeated([*JUDGED, replace(JUDGED[0], judge="another")], Path("j.parquet"))
    with pytest.raises(DataError, match=r"j.parquet, row 3: judgement j0 .* occurs twice, first in row 0"):
        refuse_repeated([*JUDGED, JUDGED[0]], Path("j.parquet"))


def test_without_policies_the_item_must_have_one_unit() -> None:
    (found,) = with_units([label("i2", "tie")], JUDGED)
    assert found.unit == JUDGED[2].unit
    other = replace(JUDGED[2], policy_a="dpo", a="c2")
    with pytest.raises(UserError, match=r"item 'i2' has 2 judged units.*columns a and b"):
        with_units([label("i2", "tie")], [*JUDGED, other])
    assert with_units([label("i2", "tie", "sft", "dpo")], [*JUDGED, other])[0].unit == unit_of("c2", JUDGED[2].b)


def test_draws_of_one_item_are_told_apart_by_ids_only() -> None:
    again = replace(JUDGED[0], a="a0-1", b="b0-1")
    with pytest.raises(UserError, match="rl and sft"):
        with_units([label("i0", "win", "rl", "sft")], [*JUDGED, again])
    assert with_units([label("i0", "win", "rl", "sft")], [*JUDGED, again], refuse_doubt=False)[0].unit == ""


def test_the_same_pair_by_two_judges_or_both_ways_round_is_one_unit() -> None:
    other = replace(JUDGED[0], judge="another")
    turned = replace(JUDGED[0], a=JUDGED[0].b, b=JUDGED[0].a, policy_a="sft", policy_b="rl", judge="third")
    (found,) = with_units([label("i0", "win", "sft", "rl")], [*JUDGED, other, turned])
    assert (found.unit, found.label) == (JUDGED[0].unit, "loss")
