"""Agreement by data set with adjusted p-values, and how much of a disagreement is the instruction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind
from statsmodels.stats.multitest import multipletests

from perl_eval.metrics.agreement_slices import agreement_by_dataset, label_policies
from perl_eval.records import HumanLabel, Judgement


def answer(place: int, outcome: Any, dataset: str = "d") -> Judgement:
    return Judgement(
        id=str(place),
        kind="yes_no",
        item=f"i{place}",
        group=f"i{place}",
        dataset=dataset,
        a=f"a{place}",
        b="",
        policy_a="rl",
        policy_b="",
        prompt=(),
        text_a="x",
        text_b="",
        outcome=outcome,
        ballots=(),
        judge="j",
        prompt_sha256="",
        simulated=False,
    )


def labels_by(records: list[Judgement], said: list[str]) -> list[HumanLabel]:
    return [
        HumanLabel(one.unit, one.item, one.group, "ann", label)  # type: ignore[arg-type]
        for one, label in zip(records, said, strict=True)
    ]


def test_agreement_by_dataset_is_tested_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    sets = np.array(["a", "b", "c"])[rng.integers(0, 3, 600)]
    right = rng.random(600) < np.where(sets == "c", 0.6, 0.85)
    records = [answer(place, "yes", str(name)) for place, name in enumerate(sets)]
    labels = labels_by(records, ["yes" if hit else "no" for hit in right])
    found = agreement_by_dataset(records, labels)
    shares = {one.about.dataset: one.value for one in found if one.kind == "value"}
    assert shares == pytest.approx({name: right[sets == name].mean() for name in "abc"})
    values = [ttest_ind(right[sets == name], right[sets != name], equal_var=False).pvalue for name in "abc"]
    adjusted = {one.about.dataset: one.value for one in found if one.kind == "p-value"}
    expected = np.log(multipletests(values, method="holm")[1])
    assert np.log([adjusted[name] or 0.0 for name in "abc"]) == pytest.approx(expected, rel=0.03)
    assert adjusted["c"] < 0.001
    assert agreement_by_dataset(records[:1], labels[:1]) == []


def test_a_split_agrees_with_a_tie() -> None:
    records = [answer(place, "split", "ab"[place % 2]) for place in range(40)]
    records = [replace(one, kind="pairwise", b=f"b{one.id}") for one in records]
    labels = labels_by(records, ["tie" if place < 30 else "win" for place in range(40)])
    found = agreement_by_dataset(records, labels)
    assert {one.about.dataset: one.value for one in found if one.kind == "value"} == {"a": 0.75, "b": 0.75}
    policies = {one.name: one for one in label_policies(records, labels, labels_by(records, ["tie"] * 40))}
    assert policies["agreement with these labels"].value == 0.75
    assert policies["agreement with the other labels"].value == 1.0


def test_another_instruction_is_told_from_the_judge() -> None:
    """The judge follows the second instruction to the letter; by the first it looks poor."""
    first = ["yes" if place % 3 else "no" for place in range(90)]
    second = ["yes" if place % 2 else "no" for place in range(90)]
    records = [answer(place, said) for place, said in enumerate(second)]
    found = {one.name: one for one in label_policies(records, labels_by(records, first), labels_by(records, second))}
    alike = np.mean([one == other for one, other in zip(first, second, strict=True)])
    assert found["agreement of the two sets of labels"].value == pytest.approx(alike)
    assert found["agreement with these labels"].value == pytest.approx(alike)
    assert found["agreement with the other labels"].value == 1.0
    assert found["agreement with the others less with these"].low > 0
