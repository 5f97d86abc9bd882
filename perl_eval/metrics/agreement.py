"""Judgements beside human labels of the same units: which belong together, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from perl_eval import figure_names as named
from perl_eval.errors import UserError
from perl_eval.metrics.beside_people import BesidePeople
from perl_eval.metrics.corrected_rates import corrected_rates
from perl_eval.outcomes import LABELS, as_label, is_vote, mirror, worth
from perl_eval.records import About, Estimate, HumanLabel, Judgement, unit_of
from perl_eval.stats.agreement_coefficients import exact_agreement
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.correlation import correlations
from perl_eval.stats.human_panel import human_human, majority
from perl_eval.stats.intervals import about, count, undefined
from perl_eval.stats.kappa import cohen_kappa
from perl_eval.stats.ranking_quality import area_under_curve
from perl_eval.stats.survey_weights import weighted_mean

__all__ = [
    "any_simulated",
    "estimate_agreement",
    "estimate_cascade",
    "labels_of",
    "ratings_by_unit",
]


@dataclass(frozen=True, slots=True)
class _Joined:
    """Judgements of one kind by one judge, with the labels of the same units."""

    judgements: list[Judgement]
    ratings: list[dict[str, str]]
    unjudged: int

    @property
    def verdicts(self) -> list[str]:
        """The judge's labels."""
        return [as_label(record.outcome) for record in self.judgements]

    @property
    def groups(self) -> list[str]:
        """What the judged units share a source with."""
        return [record.group for record in self.judgements]

    @property
    def beside(self) -> BesidePeople:
        """The judge's labels beside people's."""
        return BesidePeople(self.verdicts, self.ratings, self.groups)


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
        joined = _join(group, by_unit, LABELS[kind])
        if not joined.judgements:
            continue
        if kind == "score":
            estimates = [*_counts(group, joined, labels, repeated), *_scores(joined, how), _auc(joined, how)]
            found += about(
                estimates, About(judge=judge, question=kind), simulated=any_simulated(joined.judgements, labels)
            )
            continue
        subject = About(judge=judge, question="" if len({name for name, _ in judges}) == len(judges) else kind)
        simulated = any_simulated(joined.judgements, labels)
        estimates = [*_counts(group, joined, labels, repeated), *_of_one_judge(joined, LABELS[kind], how, epsilon)]
        found += about(estimates, subject, simulated=simulated)
        found += about(joined.beside.one_with_one(how.level, subject), simulated=simulated)
        if weights:
            found += about([_weighted_agreement(joined, weights, how.level)], subject, simulated=simulated)
        rates = corrected_rates(
            group,
            lambda record: list(labels_of(record, by_unit).values()),
            weight_of=(lambda record: _weight(record, weights)) if weights else None,
            resampling=how,
        )
        found += about(rates, simulated=simulated)
    if not found:
        raise UserError(
            f"no judged unit is labelled (judgements have units such as {_example(map(_judged, judgements))}, "
            f"labels such as {_example(map(_labelled, labels))})",
            "give labels of the same completions that were judged, by their ids or by item and policies",
        )
    return found


def estimate_cascade(
    cheap: Sequence[Judgement], strong: Sequence[Judgement], *, resampling: Resampling | None = None
) -> list[Estimate]:
    """Correct a cheap judge's rates by a strong judge's verdicts on a random part of the same units.

    The corrected rates are what the strong judge would have said of all units; no person comes in. How far the two
    judges agree stands beside them.

    Args:
        cheap: Judgements of one judge or several, of all units.
        strong: Judgements by one judge, of a random part of them.
        resampling: Draws, seed, level and kind.

    Raises:
        UserError: There are several strong judges, or none of the units is judged by both.
    """
    how = resampling or Resampling()
    names = sorted({record.judge for record in strong})
    if len(names) != 1:
        raise UserError(f"the judge to correct by is {', '.join(names) or 'nobody'}", "give judgements by one judge")
    trusted = {record.unit: {names[0]: as_label(record.outcome)} for record in strong if is_vote(record.outcome)}
    judges: dict[tuple[str, str], list[Judgement]] = {}
    for record in cheap:
        judges.setdefault((record.judge, record.kind), []).append(record)
    found: list[Estimate] = []
    for (judge, kind), group in sorted(judges.items()):
        if kind == "score":  # a score is no rate
            continue
        joined = _join(group, trusted, LABELS[kind])
        if not joined.judgements:
            continue
        pairs = [
            {"cheap": verdict, "strong": unit[names[0]]}
            for verdict, unit in zip(joined.verdicts, joined.ratings, strict=True)
        ]
        figures = [
            exact_agreement(
                pairs,
                LABELS[kind],
                name=named.JUDGE_JUDGE_EXACT_AGREEMENT,
                clusters=joined.groups,
                level=how.level,
            ),
            cohen_kappa(
                pairs, LABELS[kind], name=named.JUDGE_JUDGE_COHEN_KAPPA, clusters=joined.groups, resampling=how
            ),
        ]
        simulated = any(record.simulated for record in (*group, *strong))
        found += about(figures, About(judge=judge, by_judge=names[0]), simulated=simulated)
        rates = corrected_rates(group, lambda record: list(labels_of(record, trusted).values()), resampling=how)
        found += about(rates, About(by_judge=names[0]), simulated=simulated)
    if not found:
        raise UserError(
            f"no unit is judged by both (such as {_example(r.unit for r in cheap)} and "
            f"{_example(r.unit for r in strong)})",
            "give judgements of the same completions",
        )
    return found


def any_simulated(judgements: Iterable[Judgement], labels: Iterable[HumanLabel]) -> bool:
    """Return whether any of some judgements and labels came from no model and no person."""
    return any(record.simulated for record in judgements) or any(label.simulated for label in labels)


def _judged(record: Judgement) -> str:
    policies = " and ".join(filter(None, (record.policy_a, record.policy_b)))
    return f"{record.unit} (item {record.item} of {policies})"


def _labelled(label: HumanLabel) -> str:
    policies = " and ".join(filter(None, (label.policy_a, label.policy_b)))
    about = f"item {label.item}" + (f" of {policies}" if policies else "")
    return about if not label.unit else label.unit if label.item == label.unit else f"{label.unit} ({about})"


def _example(units: Iterable[str]) -> str:
    return next(iter(units), "none")


def ratings_by_unit(labels: Iterable[HumanLabel]) -> tuple[dict[str, dict[str, str]], int]:
    """Return the labels of each unit by annotator; of one annotator's several labels of a unit, the last counts.

    Labels without a unit are of nothing that was judged (see `perl_eval.metrics.label_join`).

    Returns:
        The labels, and how many were overridden.
    """
    by_unit: dict[str, dict[str, str]] = {}
    repeated = 0
    for label in labels:
        if not label.unit:
            continue
        unit = by_unit.setdefault(label.unit, {})
        repeated += label.annotator in unit
        unit[label.annotator] = label.label
    return by_unit, repeated


def labels_of(record: Judgement, by_unit: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the labels of a judged unit; those of the same pair the other way round are mirrored."""
    found = dict(by_unit.get(record.unit, {}))
    if record.kind == "pairwise":
        turned = by_unit.get(unit_of(record.b, record.a), {})
        found = {person: mirror(label) for person, label in turned.items()} | found
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
        count(named.UNITS_COMPARED, n, n=n),
        count(named.LABELLED_UNITS_UNJUDGED, joined.unjudged, n=n),
        count(named.JUDGED_UNITS_UNLABELLED, unlabelled, n=n),
        count(named.LABELS_COMPARED, sum(map(len, joined.ratings)), n=n),
        count(named.LABELS_OVERRIDDEN, repeated, n=len(labels)),
        count(named.LABELS_OF_UNITS_NOT_JUDGED, _strangers(group, labels), n=len(labels)),
        count("people", len(people), n=n),
    ]


def _strangers(group: Sequence[Judgement], labels: Sequence[HumanLabel]) -> int:
    """Return how many labels are of nothing that was judged, whichever way round."""
    known = {record.unit for record in group} | {unit_of(record.b, record.a) for record in group if record.b}
    return sum(label.unit not in known for label in labels)


def _of_one_judge(joined: _Joined, labels: Sequence[str], boot: Resampling, epsilon: float) -> list[Estimate]:
    with_judge = [*joined.beside.agreement(labels, boot, epsilon), *_scores(joined, boot)]
    if labels == LABELS["yes_no"]:
        with_judge.append(_auc(joined, boot))
    missed = [replace(estimate, n_missing=estimate.n_missing + joined.unjudged) for estimate in with_judge]
    return [*human_human(joined.ratings, labels, clusters=joined.groups, resampling=boot), *missed]


def _scores(joined: _Joined, boot: Resampling) -> list[Estimate]:
    """Correlate the judge's score of a unit, its probability where it gives one, with the mean of people's."""
    judge = [_chance(record) for record in joined.judgements]
    people = [sum(map(worth, unit.values())) / len(unit) for unit in joined.ratings]
    return correlations(judge, people, name="human-judge", clusters=joined.groups, level=boot.level)


def _chance(record: Judgement) -> float | None:
    """Return what the judge gave a unit: a score, else a probability, else what its verdict is worth."""
    if record.kind == "score":
        return record.score
    return worth(record.outcome) if record.p_a is None else record.p_a


def _auc(joined: _Joined, boot: Resampling) -> Estimate:
    """Return the AUC of the judge's probability of yes against the majority label, where there is one."""
    name = named.HUMAN_JUDGE_AUC_MAJORITY
    rows = [
        (chance, majority(ratings)[0] == "yes", record.group)
        for record, ratings in zip(joined.judgements, joined.ratings, strict=True)
        for chance in (record.score if record.kind == "score" else record.p_a,)
        if chance is not None and len(majority(ratings)) == 1
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
        if not label.unit:
            continue
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
    name = named.HUMAN_JUDGE_EXACT_AGREEMENT_WEIGHTED_TO_ALL_UNITS
    return replace(weighted_mean(name, shares, drawn, clusters=joined.groups, level=level), n_missing=joined.unjudged)
