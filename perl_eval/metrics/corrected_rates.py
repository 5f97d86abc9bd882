"""Win, harmless and action rates of a judge, corrected with labels of a random part of what it judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from perl_eval import figure_names as named
from perl_eval.outcomes import HALF, LABELS, LOST, WON, Weighting, as_label, is_decided
from perl_eval.records import About, Estimate, Judgement
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.correction import Sample, corrected_shares, prediction_powered_mean, rogan_gladen
from perl_eval.stats.intervals import about
from perl_eval.stats.survey_weights import WeightedSample, weighted_prediction_powered_mean

__all__ = ["corrected_rates"]

_RATES: Mapping[str, tuple[tuple[str, Weighting], ...]] = {
    "pairwise": ((named.WIN_RATE, WON), (named.WIN_RATE_UNDECIDED_HALF, HALF)),
    "yes_no": ((named.YES_RATE, WON), (named.NO_RATE, LOST)),
}
"""The rates of each kind of question, and what a label adds to them."""


def corrected_rates(
    records: Sequence[Judgement],
    labels_of: Callable[[Judgement], Sequence[str]],
    *,
    weight_of: Callable[[Judgement], float] | None = None,
    resampling: Resampling | None = None,
) -> list[Estimate]:
    """Correct the rates of one judge by trusted labels, for each pair of policies and data set apart.

    Each rate by prediction-powered inference; beside it by undoing the judge's confusion of labels (Rogan-Gladen, with
    the inverted confusion matrix where there are ties), if no unit has labels that differ. Nothing is corrected where
    no unit, or every unit, is labelled. Unjudged units are missing.

    Args:
        records: Judgements of one kind by one judge.
        labels_of: The trusted labels of a judged unit; none if it is not in the sample. The labelled units must be a
            random part, or be weighted by how they were drawn.
        weight_of: The weight of a labelled unit, where they were drawn with unequal probabilities; rates are then
            corrected by prediction-powered inference only.
        resampling: Draws, seed and level of the intervals that are resampled.
    """
    how = resampling or Resampling()
    compared: dict[tuple[str, str, str], list[Judgement]] = {}
    for record in records:
        compared.setdefault((record.policy_a, record.policy_b, record.dataset), []).append(record)
    found: list[Estimate] = []
    for (policy_a, policy_b, dataset), group in sorted(compared.items()):
        judged = [record for record in group if record.outcome != "unjudged"]
        given = [list(labels_of(record)) for record in judged]
        if not any(given) or all(given):
            continue
        order = sorted(range(len(judged)), key=lambda place, given=given: not given[place])  # type: ignore[misc]
        ordered = [judged[place] for place in order]
        drawn = [] if weight_of is None else [weight_of(record) for record in ordered[: sum(map(bool, given))]]
        estimates = _rates(ordered, [given[place] for place in order], drawn, how)
        several = sum(key[:2] == (policy_a, policy_b) for key in compared) > 1
        subject = About(policy=policy_a, against=policy_b, judge=group[0].judge, dataset=dataset if several else "")
        missing = len(group) - len(judged)
        found += about([replace(estimate, n_missing=missing) for estimate in estimates], subject)
    return found


def _rates(
    records: Sequence[Judgement], given: Sequence[Sequence[str]], drawn: Sequence[float], how: Resampling
) -> list[Estimate]:
    """Correct the rates of records of which the labelled ones come first, with their weights if they differ."""
    labelled, kind = sum(map(bool, given)), records[0].kind
    said = [as_label(record.outcome) for record in records]
    groups = [record.group for record in records]
    found: list[Estimate] = []
    for name, weighting in _RATES[kind]:
        worth = weighting.table()
        judged = [worth[label] for label in said]
        truth = [sum(worth[label] for label in labels) / len(labels) for labels in given[:labelled]]
        if drawn:
            weighted = WeightedSample(judged, range(labelled), truth, drawn, groups)
            found.append(weighted_prediction_powered_mean(f"{name}, corrected by PPI++", weighted, level=how.level))
            continue
        sample = Sample(truth, judged[:labelled], judged[labelled:], groups)
        found.append(prediction_powered_mean(f"{name}, corrected by PPI++", sample, level=how.level))
        if kind == "yes_no" and all(value in (0.0, 1.0) for value in truth):
            found.append(rogan_gladen(f"{name}, corrected by Rogan-Gladen", sample, level=how.level))
    if kind == "pairwise" and not drawn and all(len(set(labels)) == 1 for labels in given[:labelled]):
        truths = [labels[0] for labels in given[:labelled]]
        parts = truths, said[:labelled], said[labelled:]
        present = [label for label in LABELS[kind] if label in {*truths, *said}]
        shares = corrected_shares(*parts, present, clusters=groups, resampling=how)
        for label in filter(is_decided, LABELS[kind]):
            if label in shares:
                found.append(replace(shares[label], name=f"{label} rate, corrected by Rogan-Gladen"))
    return found
