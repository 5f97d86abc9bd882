"""A judge's agreement with people by data set, and with two sets of labels of the same units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perl_eval import figure_names as named
from perl_eval.metrics.agreement import labels_of, ratings_by_unit
from perl_eval.outcomes import as_label
from perl_eval.records import About, Estimate, HumanLabel, Judgement
from perl_eval.stats.bootstrap import cluster_codes
from perl_eval.stats.human_panel import majority
from perl_eval.stats.intervals import about, mean, p_value
from perl_eval.stats.multiple_testing import holm

__all__ = ["agreement_by_dataset", "label_policies"]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A judged unit that people labelled: the share of labels that are the judge's."""

    record: Judgement
    share: float


def agreement_by_dataset(
    judgements: Sequence[Judgement], labels: Sequence[HumanLabel], *, level: float = 0.95
) -> list[Estimate]:
    """Estimate each judge's exact agreement with people on each data set, where there are several.

    Beside each stands a p-value that agreement there is that on the rest, t over groups, adjusted for all data sets of
    the judge after Holm.

    Args:
        judgements: Judgements of any judges.
        labels: Labels of any units.
        level: Confidence level.
    """
    by_unit, _ = ratings_by_unit(labels)
    found: list[Estimate] = []
    judges: dict[str, list[_Seen]] = {}
    for record in judgements:
        said = list(labels_of(record, by_unit).values())
        if said and record.kind != "score" and record.outcome != "unjudged":
            verdict = as_label(record.outcome)
            judges.setdefault(record.judge, []).append(_Seen(record, said.count(verdict) / len(said)))
    for judge, seen in sorted(judges.items()):
        names = sorted({one.record.dataset for one in seen})
        if len(names) > 1:
            found += _by_dataset(judge, names, seen, level)
    return found


def _by_dataset(judge: str, names: Sequence[str], seen: Sequence[_Seen], level: float) -> list[Estimate]:
    parts = {name: [one for one in seen if one.record.dataset == name] for name in names}
    values = [_p_apart(parts[name], [one for one in seen if one.record.dataset != name]) for name in names]
    known = [place for place, value in enumerate(values) if value is not None]
    adjusted = dict(zip(known, holm(np.array([values[place] for place in known], np.float64)), strict=True))
    found: list[Estimate] = []
    for place, name in enumerate(names):
        own = parts[name]
        figures = [
            mean(
                named.HUMAN_JUDGE_EXACT_AGREEMENT,
                [one.share for one in own],
                clusters=[one.record.group for one in own],
                bounds=(0.0, 1.0),
                level=level,
            )
        ]
        if place in adjusted:
            figures.append(p_value(named.DATASET_P, float(adjusted[place]), n=len(own), method="t over groups, Holm"))
        simulated = any(one.record.simulated for one in own)
        found += about(figures, About(judge=judge, dataset=name), simulated=simulated)
    return found


def _p_apart(part: Sequence[_Seen], rest: Sequence[_Seen]) -> float | None:
    """Return the two-sided p-value that both have the same mean, summed over groups; None of too few groups."""
    from scipy.special import stdtr

    whole = [*part, *rest]
    codes, number = cluster_codes([one.record.group for one in whole])
    if number < 4 or len({one.record.group for one in part}) < 2:
        return None
    means = [float(np.mean([one.share for one in side])) for side in (part, rest)]
    weights = [(one.share - means[0]) / len(part) for one in part]
    weights += [-(one.share - means[1]) / len(rest) for one in rest]
    influence = np.bincount(codes, weights, number)
    error = float(np.sqrt(influence @ influence * number / (number - 1)))
    if error == 0:
        return 1.0 if means[0] == means[1] else None
    return float(2 * stdtr(number - 2, -abs(means[0] - means[1]) / error))


def label_policies(
    judgements: Sequence[Judgement],
    labels: Sequence[HumanLabel],
    others: Sequence[HumanLabel],
    *,
    level: float = 0.95,
) -> list[Estimate]:
    """Estimate how much of a judge's disagreement is the instruction that people labelled by, and not the judge.

    Of units that both sets label, each set's majority counts (units where one has none are left out): how far the sets
    agree, the judge with each, and the difference of the two, on the same verdicts.

    Args:
        judgements: Judgements of any judges.
        labels: Labels of any units.
        others: Labels of the same units by another instruction, or other people.
        level: Confidence level.
    """
    first, second = ratings_by_unit(labels)[0], ratings_by_unit(others)[0]
    found: list[Estimate] = []
    judged = [record for record in judgements if record.kind != "score" and record.outcome != "unjudged"]
    for judge in sorted({record.judge for record in judged}):
        rows = []
        for record in (one for one in judged if one.judge == judge):
            sides = [_majority(record, by_unit) for by_unit in (first, second)]
            if None not in sides:
                verdict = as_label(record.outcome)
                rows.append((record.group, sides[0] == sides[1], verdict == sides[0], verdict == sides[1]))
        if not rows:
            continue
        groups = [row[0] for row in rows]
        columns = (
            (named.LABEL_SETS_AGREEMENT, [float(row[1]) for row in rows], 0.0),
            (named.AGREEMENT_WITH_THESE, [float(row[2]) for row in rows], 0.0),
            (named.AGREEMENT_WITH_OTHERS, [float(row[3]) for row in rows], 0.0),
            (named.OTHERS_LESS_THESE, [float(row[3]) - float(row[2]) for row in rows], -1.0),
        )
        figures = [mean(name, values, clusters=groups, bounds=(low, 1.0), level=level) for name, values, low in columns]
        found += [replace(one, about=About(judge=judge)) for one in figures]
    return found


def _majority(record: Judgement, by_unit: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return the one label that most people gave a unit; None without."""
    said = labels_of(record, by_unit)
    most = majority(said) if said else []
    return most[0] if len(most) == 1 else None
