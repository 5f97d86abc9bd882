"""The figures of an audit, from judgements and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import hypot
from pathlib import Path

import numpy as np

from perl_eval import figure_names as named
from perl_eval.metrics.agreement import labels_of
from perl_eval.metrics.answer_style import style_gaps
from perl_eval.metrics.consistency_by_gap import consistency_by_gap
from perl_eval.outcomes import HALF, LABELS, went_over, worth
from perl_eval.records import About, Estimate, Judgement
from perl_eval.scoring.audit_options import AuditOptions
from perl_eval.stats.bootstrap import cluster_codes
from perl_eval.stats.intervals import about, mean, proportion, undefined
from perl_eval.stats.length import longer_preferred_rate
from perl_eval.stats.paired import paired_differences
from perl_eval.stats.position_bias import position_bias, verdicts, why_unknown
from perl_eval.stats.ranking import Votes, rank_votes
from perl_eval.storage import run_folder

__all__ = [
    "ATTACKED",
    "SAME",
    "again_of",
    "attack_figures",
    "beyond_own_changes",
    "figures_of_pairs",
    "label_shares",
    "price",
    "repeatability",
    "said",
]

ATTACKED = named.ATTACK_SUCCESS_RATE


SAME = named.SAME_OUTCOME_WHEN_ASKED_AGAIN


def figures_of_pairs(
    own: Sequence[Judgement], by_unit: Mapping[str, Mapping[str, str]], how: AuditOptions
) -> list[Estimate]:
    """Return what only a judge of pairs can be asked: position, length, and its own family against another."""
    truths = [_truth(list(labels_of(record, by_unit).values())) for record in own]
    return [
        *_position(own, how),
        *_consistency_by_gap(own, truths, how),
        *_length(own, truths, how),
        *_styles(own, how),
        *_self_preference(own, truths, how),
    ]


def _styles(own: Sequence[Judgement], how: AuditOptions) -> list[Estimate]:
    """Return what each style is worth to the judge, whoever wrote the answers."""
    voted = [record for record in own if record.outcome in HALF.table()]
    styles = style_gaps([record.text_a for record in voted], [record.text_b for record in voted])
    policies = sorted({policy for record in voted for policy in (record.policy_a, record.policy_b)})
    if not styles.names or len(policies) < 2:
        return []
    code = {name: place for place, name in enumerate(policies)}
    votes = Votes(
        policies,
        np.array([code[record.policy_a] for record in voted], np.intp),
        np.array([code[record.policy_b] for record in voted], np.intp),
        np.array([worth(record.outcome) for record in voted]),
        styles,
    )
    groups = cluster_codes([record.group for record in voted])[0]
    found = rank_votes(votes, clusters=groups, level=how.resampling.level)
    return [one for one in found if one.name == named.STYLE_EFFECT]


def attack_figures(attack: Path | None) -> dict[str, list[Estimate]]:
    """Return the success rates of the attacks on each judge, the attack as slice."""
    if attack is None:
        return {}
    rates = [estimate for estimate in run_folder.read(attack, Estimate) if estimate.name == ATTACKED]
    return dict.fromkeys({record.judge for record in run_folder.read(attack, Judgement)}, rates)


def again_of(repeated: Sequence[Judgement], judge: str) -> list[Judgement]:
    """Return what a judge said when it was asked again."""
    return [record for record in repeated if record.judge == judge]


def beyond_own_changes(
    rates: Sequence[Estimate], own: Sequence[Judgement], again: Sequence[Judgement], how: AuditOptions
) -> list[Estimate]:
    """Return the success rates of attacks, and what is left of each after the judge's own changes of mind.

    A judge that wavers goes over to the other side without being attacked: the share of units of which it says, asked
    again, what an attack wants it to say, of those of which it did not, is taken off. The interval of the difference is
    made of Wilson's of the two shares (MOVER).

    Args:
        rates: Success rates of the attacks; none if the judge was not attacked.
        own: What the judge said.
        again: What it said when it was asked anew.
        how: The level counts.

    Source: Zou and Donner, Statistics in Medicine 27 (2008), 1693-1702.
    """
    if not rates:
        return [undefined(ATTACKED, "the judge was not attacked")]
    second = {(record.unit, record.prompt_sha256): record for record in again}
    hits, groups = [], []
    for was in own:
        now = second.get((was.unit, was.prompt_sha256))
        if now is not None and "unjudged" not in (was.outcome, now.outcome) and was.outcome != "loss":
            hits.append(went_over(was, now))
            groups.append(was.group)
    name = named.ATTACK_SUCCESS_BEYOND_OWN_CHANGES
    if not hits:
        return [*rates, undefined(name, "nothing was asked again, so that its own changes are not known")]
    alone = proportion(named.CHANGES_WITHOUT_ATTACK, hits, clusters=groups, level=how.resampling.level)
    return [*rates, alone, *(_less(rate, alone, name) for rate in rates)]


def _less(rate: Estimate, alone: Estimate, name: str) -> Estimate:
    """Return a share less another, with MOVER's interval."""
    method = "difference of two shares, MOVER of their intervals"
    found = replace(rate, name=name, method=method, low=None, high=None)
    if rate.value is None or alone.value is None:
        return found
    gap = rate.value - alone.value
    if rate.low is None or rate.high is None or alone.low is None or alone.high is None:
        return replace(found, value=gap, reason="a share has no interval")
    down, up = (
        hypot(rate.value - rate.low, alone.high - alone.value),
        hypot(rate.high - rate.value, alone.value - alone.low),
    )
    return replace(found, value=gap, low=max(-1.0, gap - down), high=min(1.0, gap + up))


def label_shares(
    own: Sequence[Judgement], by_unit: Mapping[str, Mapping[str, str]], how: AuditOptions
) -> list[Estimate]:
    """Return what share of people's labels each label is: the base rates that kappa is to be read beside."""
    given = [(label, record.group) for record in own for label in labels_of(record, by_unit).values()]
    names, groups = [label for label, _ in given], [group for _, group in given]
    found = []
    for label in LABELS[own[0].kind]:
        hits = [name == label for name in names]
        share = proportion(named.SHARE_OF_PEOPLES_LABELS, hits, clusters=groups, level=how.resampling.level)
        found += about([share], About(slice="label", value=label))
    return found


def _truth(labels: Sequence[str]) -> float | None:
    """Return the mean worth of people's labels for contestant a, in [0, 1]; None without labels."""
    return sum(map(worth, labels)) / len(labels) if labels else None


def _score(record: Judgement) -> float | None:
    return HALF.of(record.outcome)


def said(record: Judgement) -> tuple[str, float | None]:
    """Return the outcome, and the score where it is one: all scores have the same outcome."""
    return record.outcome, record.score if record.kind == "score" else None


def _position(own: Sequence[Judgement], how: AuditOptions) -> list[Estimate]:
    pairs = [verdicts(record.ballots) for record in own]
    unknown = why_unknown(record.ballots for record in own)
    groups = [record.group for record in own]
    return position_bias(pairs, clusters=groups, reason=unknown, resampling=how.bootstrap)


def _consistency_by_gap(own: Sequence[Judgement], truths: Sequence[float | None], how: AuditOptions) -> list[Estimate]:
    """Return consistency by how far people say that the policies are apart, or the judge where too few labels do."""
    of_people = dict(zip((record.unit for record in own), truths, strict=True))
    level = how.resampling.level
    found = consistency_by_gap(own, worth=lambda record: of_people[record.unit], level=level)
    return [replace(one, method=f"{one.method}, by people's labels") for one in found] or consistency_by_gap(
        own, level=level
    )


def repeatability(own: Sequence[Judgement], again: Sequence[Judgement], how: AuditOptions) -> Estimate:
    """Return the share of units with the same outcome when asked anew; to be unjudged is an outcome here."""
    second = {(record.unit, record.prompt_sha256): said(record) for record in again}
    both = [record for record in own if (record.unit, record.prompt_sha256) in second]
    if not both:
        return undefined(SAME, "nothing was asked again", n_missing=len(own))
    same = [said(record) == second[record.unit, record.prompt_sha256] for record in both]
    groups, missing = [record.group for record in both], len(own) - len(both)
    return proportion(SAME, same, clusters=groups, n_missing=missing, level=how.resampling.level)


def _length(own: Sequence[Judgement], truths: Sequence[float | None], how: AuditOptions) -> list[Estimate]:
    """Return how often the longer answer wins, with the judge and, on labelled pairs, with people."""
    found = []
    for name, scores in (("judge", [_score(record) for record in own]), ("people", truths)):
        rows = [(record, score) for record, score in zip(own, scores, strict=True) if score is not None]
        estimate = longer_preferred_rate(
            [score for _, score in rows],
            [len(record.text_a) for record, _ in rows],
            [len(record.text_b) for record, _ in rows],
            clusters=[record.group for record, _ in rows],
            level=how.resampling.level,
        )
        missing = estimate.n_missing + len(own) - len(rows)
        found.append(replace(estimate, name=f"longer preferred rate, {name}", n_missing=missing))
    return found


def _self_preference(own: Sequence[Judgement], truths: Sequence[float | None], how: AuditOptions) -> list[Estimate]:
    """Return what the judge gives its own family beyond what people give it, on pairs with one side of the family."""
    name = named.SELF_PREFERENCE
    judge, people, groups = [], [], []
    for record, truth in zip(own, truths, strict=True):
        sides = (_in_family(record.policy_a, how.family), _in_family(record.policy_b, how.family))
        score = _score(record)
        if sides[0] == sides[1] or truth is None:
            continue
        judge.append(score if score is None or sides[0] else 1 - score)
        people.append(truth if sides[0] else 1 - truth)
        groups.append(record.group)
    if not judge:
        return [undefined(name, "no labelled pair has one side of the judge's family")]
    return [paired_differences(judge, people, name=name, clusters=groups, bounds=(-1.0, 1.0), resampling=how.bootstrap)]


def _in_family(policy: str, family: Sequence[str]) -> bool:
    return any(name.casefold() in policy.casefold() for name in family if name)


def _measured(record: Judgement) -> bool:
    """Return whether it is known what a judgement's replies took; of verdicts that came from elsewhere it is not."""
    return any(one.tokens_in or one.tokens_out or one.latency_s or one.cost_usd is not None for one in record.ballots)


def price(own: Sequence[Judgement], how: AuditOptions) -> list[Estimate]:
    """Return the share unjudged, and tokens, seconds and cost of one judgement."""
    groups = [record.group for record in own]
    failed = [record.outcome == "unjudged" for record in own]
    tokens = [sum(ballot.tokens_in + ballot.tokens_out for ballot in record.ballots) for record in own]
    seconds = [sum(ballot.latency_s for ballot in record.ballots) for record in own]
    unjudged = proportion(named.UNJUDGED_RATE, failed, clusters=groups, level=how.resampling.level)
    took = (named.TOKENS_A_JUDGEMENT, named.SECONDS_A_JUDGEMENT, named.COST_A_JUDGEMENT_USD)
    if not any(map(_measured, own)):
        return [unjudged, *(undefined(name, "what the replies took is not known", n_missing=len(own)) for name in took)]
    found = [
        unjudged,
        mean(named.TOKENS_A_JUDGEMENT, tokens, clusters=groups, level=how.resampling.level),
        mean(named.SECONDS_A_JUDGEMENT, seconds, clusters=groups, level=how.resampling.level),
    ]
    priced = [
        (sum(ballot.cost_usd or 0.0 for ballot in record.ballots), record.group)
        for record in own
        if all(ballot.cost_usd is not None for ballot in record.ballots)
    ]
    cost, missing = named.COST_A_JUDGEMENT_USD, len(own) - len(priced)
    if not priced:
        return [*found, undefined(cost, "the judge's price is not known", n_missing=missing)]
    values, names = [value for value, _ in priced], [name for _, name in priced]
    return [*found, mean(cost, values, clusters=names, n_missing=missing, level=how.resampling.level)]
