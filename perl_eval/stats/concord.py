"""Judgements beside human labels of the same units: which belong together, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from perl_eval.errors import UserError
from perl_eval.records import Estimate, HumanLabel, Judgement, unit_of
from perl_eval.stats.alttest import AltTestOptions, alternative_annotator_test
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.classification import area_under_curve
from perl_eval.stats.correction import Sample, prediction_powered_mean, rogan_gladen
from perl_eval.stats.intervals import about, count, undefined
from perl_eval.stats.panel import ceiling, human_human, human_judge, majority, one_by_one
from perl_eval.stats.weighted import WeightedSample, weighted_mean, weighted_prediction_powered_mean

__all__ = ["any_simulated", "estimate_agreement", "labels_of", "ratings_by_unit"]

_LABELS = {"pairwise": ("win", "tie", "loss"), "yes_no": ("no", "yes")}
_MIRRORED = {"win": "loss", "loss": "win", "tie": "tie"}
_AS_LABEL = {"win": "win", "loss": "loss", "tie": "tie", "split": "tie", "mixed": "tie", "yes": "yes", "no": "no"}
_WORTH = {"win": 1.0, "tie": 0.5, "loss": 0.0, "yes": 1.0, "no": 0.0}


@dataclass(frozen=True, slots=True)
class _Joined:
    """Judgements of one kind by one judge, with the labels of the same units."""

    judgements: list[Judgement]
    ratings: list[dict[str, str]]
    unjudged: int

    @property
    def verdicts(self) -> list[str]:
        """The judge's labels."""
        return [_AS_LABEL[record.outcome] for record in self.judgements]

    @property
    def groups(self) -> list[str]:
        """What the judged units share a source with."""
        return [record.group for record in self.judgements]


def estimate_agreement(
    judgements: Sequence[Judgement],
    labels: Sequence[HumanLabel],
    *,
    resampling: Resampling | None = None,
    epsilon: float = 0.15,
) -> list[Estimate]:
    """Estimate agreement for each judge, and each kind of question, apart.

    Args:
        judgements: Judgements of any judges.
        labels: Labels of any units.
        resampling: Draws, seed, level and kind.
        epsilon: Margin of the alternative annotator test.

    Raises:
        UserError: No judged unit is labelled.
    """
    how = resampling or Resampling()
    by_unit, repeated = ratings_by_unit(labels)
    weights = _weights(labels)
    judges: dict[tuple[str, str], list[Judgement]] = {}
    for record in judgements:
        judges.setdefault((record.judge, record.kind), []).append(record)
    found: list[Estimate] = []
    for (judge, kind), group in sorted(judges.items()):
        joined = _join(group, by_unit, _LABELS[kind])
        if not joined.judgements:
            continue
        subject = f"judge {judge}" if len({name for name, _ in judges}) == len(judges) else f"judge {judge}, {kind}"
        simulated = any_simulated(joined.judgements, labels)
        estimates = [*_counts(group, joined, labels, repeated), *_of_one_judge(joined, _LABELS[kind], how, epsilon)]
        found += about(estimates, subject, simulated=simulated)
        each = one_by_one(joined.verdicts, joined.ratings, clusters=joined.groups, level=how.level)
        for person, estimate in each.items():
            found += about([estimate], f"{subject}, person {person}", simulated=simulated)
        if weights:
            found += about([_weighted_agreement(joined, weights, how.level)], subject, simulated=simulated)
        found += about(_corrected(group, by_unit, weights, how), simulated=simulated)
    if not found:
        raise UserError(
            f"no judged unit is labelled (judgements have units such as {_example(r.unit for r in judgements)}, "
            f"labels such as {_example(label.unit for label in labels)})",
            "give labels of the same completions that were judged",
        )
    return found


def any_simulated(judgements: Iterable[Judgement], labels: Iterable[HumanLabel]) -> bool:
    """Return whether any of some judgements and labels came from no model and no person."""
    return any(record.simulated for record in judgements) or any(label.simulated for label in labels)


def _example(units: Iterable[str]) -> str:
    return next(iter(units), "none")


def ratings_by_unit(labels: Iterable[HumanLabel]) -> tuple[dict[str, dict[str, str]], int]:
    """Return the labels of each unit by annotator; of one annotator's several labels of a unit, the last counts.

    Returns:
        The labels, and how many were overridden.
    """
    by_unit: dict[str, dict[str, str]] = {}
    repeated = 0
    for label in labels:
        unit = by_unit.setdefault(label.unit, {})
        repeated += label.annotator in unit
        unit[label.annotator] = label.label
    return by_unit, repeated


def labels_of(record: Judgement, by_unit: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the labels of a judged unit; those of the same pair the other way round are mirrored."""
    found = dict(by_unit.get(record.unit, {}))
    if record.kind == "pairwise":
        turned = by_unit.get(unit_of(record.b, record.a), {})
        found = {person: _MIRRORED.get(label, label) for person, label in turned.items()} | found
    return found


def _join(group: Sequence[Judgement], by_unit: Mapping[str, Mapping[str, str]], labels: Sequence[str]) -> _Joined:
    joined = _Joined([], [], 0)
    unjudged = 0
    for record in group:
        ratings = labels_of(record, by_unit)
        strangers = set(ratings.values()) - set(labels)
        if strangers:
            raise UserError(
                f"unit {record.unit} is labelled {min(strangers)!r}, but the judge was asked for {', '.join(labels)}",
                "give labels that answer the same question",
            )
        if not ratings:
            continue
        if record.outcome == "unjudged":
            unjudged += 1
            continue
        joined.judgements.append(record)
        joined.ratings.append(ratings)
    return replace(joined, unjudged=unjudged)


def _counts(group: Sequence[Judgement], joined: _Joined, labels: Sequence[HumanLabel], repeated: int) -> list[Estimate]:
    n = len(joined.judgements)
    unlabelled = len(group) - n - joined.unjudged
    people = {person for unit in joined.ratings for person in unit}
    return [
        count("units compared", n, n=n),
        count("labelled units unjudged", joined.unjudged, n=n),
        count("judged units unlabelled", unlabelled, n=n),
        count("labels compared", sum(map(len, joined.ratings)), n=n),
        count("labels overridden", repeated, n=len(labels)),
        count("people", len(people), n=n),
    ]


def _of_one_judge(joined: _Joined, labels: Sequence[str], boot: Resampling, epsilon: float) -> list[Estimate]:
    verdicts, groups = joined.verdicts, joined.groups
    with_judge = [
        *human_judge(verdicts, joined.ratings, labels, clusters=groups, resampling=boot),
        *ceiling(verdicts, joined.ratings, clusters=groups, level=boot.level),
        *alternative_annotator_test(
            verdicts, joined.ratings, options=AltTestOptions(epsilon), clusters=groups, resampling=boot
        )[0],
    ]
    if labels == _LABELS["yes_no"]:
        with_judge.append(_auc(joined, boot))
    missed = [replace(estimate, n_missing=estimate.n_missing + joined.unjudged) for estimate in with_judge]
    return [*human_human(joined.ratings, labels, clusters=groups, resampling=boot), *missed]


def _auc(joined: _Joined, boot: Resampling) -> Estimate:
    """Return the AUC of the judge's probability of yes against the majority label, where there is one."""
    name = "human-judge AUC, majority"
    rows = [
        (record.p_a, majority(ratings)[0] == "yes", record.group)
        for record, ratings in zip(joined.judgements, joined.ratings, strict=True)
        if record.p_a is not None and len(majority(ratings)) == 1
    ]
    chances, truth, groups = ([row[part] for row in rows] for part in range(3))
    if not rows:
        return undefined(name, "the judge gave no probabilities", n_missing=len(joined.judgements))
    found = area_under_curve(chances, truth, name=name, clusters=groups, resampling=boot)
    return replace(found, n_missing=len(joined.judgements) - len(rows))


def _weights(labels: Iterable[HumanLabel]) -> dict[str, float]:
    """Return the weight of each labelled unit, or nothing if all weigh the same.

    Raises:
        UserError: A weight is not above 0, or the labels of one unit weigh differently.
    """
    found: dict[str, float] = {}
    for label in labels:
        if not (isfinite(label.weight) and label.weight > 0):
            raise UserError(f"a label of unit {label.unit} has weight {label.weight}", "give a number above 0")
        if found.setdefault(label.unit, label.weight) != label.weight:
            raise UserError(
                f"labels of unit {label.unit} weigh {found[label.unit]} and {label.weight}",
                "give labels of one drawing at a time",
            )
    return found if len(set(found.values())) > 1 else {}


def _weight(record: Judgement, weights: Mapping[str, float]) -> float:
    """Return the weight of a judged unit's labels, whichever way round the pair was labelled."""
    return weights.get(record.unit) or weights[unit_of(record.b, record.a)]


def _weighted_agreement(joined: _Joined, weights: Mapping[str, float], level: float) -> Estimate:
    """Return the share of labels equal to the judge's, as it would be if every judged unit were labelled."""
    shares = [
        sum(label == verdict for label in ratings.values()) / len(ratings)
        for verdict, ratings in zip(joined.verdicts, joined.ratings, strict=True)
    ]
    drawn = [_weight(record, weights) for record in joined.judgements]
    name = "human-judge exact agreement, weighted to all units"
    return replace(weighted_mean(name, shares, drawn, clusters=joined.groups, level=level), n_missing=joined.unjudged)


def _corrected(
    group: Sequence[Judgement],
    by_unit: Mapping[str, Mapping[str, str]],
    weights: Mapping[str, float],
    how: Resampling,
) -> list[Estimate]:
    """Return rates over all judged units corrected for the judge's errors, where only a part is labelled.

    The labelled units must be a random part of the judged ones, or be weighted by how they were drawn; a unit's truth
    is the mean of its labels.
    """
    compared: dict[tuple[str, ...], list[Judgement]] = {}
    for record in group:
        if record.outcome != "unjudged":
            compared.setdefault((record.policy_a, record.policy_b, record.dataset), []).append(record)
    found: list[Estimate] = []
    for (policy_a, policy_b, dataset), records in sorted(compared.items()):
        truths = [[_WORTH[label] for label in labels_of(record, by_unit).values()] for record in records]
        order = sorted(range(len(records)), key=lambda place: not truths[place])
        labelled = sum(map(bool, truths))
        if not labelled or labelled == len(records):
            continue
        judged = [_WORTH[_AS_LABEL[records[place].outcome]] for place in order]
        sample = Sample(
            [sum(truths[place]) / len(truths[place]) for place in order[:labelled]],
            judged[:labelled],
            judged[labelled:],
            [records[place].group for place in order],
        )
        subject = f"{policy_a} against {policy_b}" if policy_b else policy_a
        subject += f", judge {records[0].judge}" + (f", data {dataset}" if len(compared) > 1 else "")
        rate = "win rate, undecided half" if policy_b else "yes rate"
        missing = len(group) - sum(map(len, compared.values()))
        if weights:
            drawn = [_weight(records[place], weights) for place in order[:labelled]]
            weighted = WeightedSample(judged, range(labelled), sample.truth, drawn, sample.clusters)
            estimate = weighted_prediction_powered_mean(f"{rate}, corrected by PPI++", weighted, level=how.level)
            found += about([replace(estimate, n_missing=missing)], subject)
            continue
        estimates = [prediction_powered_mean(f"{rate}, corrected by PPI++", sample, level=how.level)]
        if all(value in (0.0, 1.0) for value in (*sample.truth, *judged)):
            estimates.append(rogan_gladen(f"{rate}, corrected by Rogan-Gladen", sample, level=how.level))
        found += about([replace(estimate, n_missing=missing) for estimate in estimates], subject)
    return found
