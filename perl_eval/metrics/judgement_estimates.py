"""Judgements to figures: rates, position bias, length control, paired comparisons and a ranking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from perl_eval import figure_names as named
from perl_eval.errors import UserError
from perl_eval.metrics.answer_style import style_gaps
from perl_eval.metrics.consistency_by_gap import consistency_by_gap
from perl_eval.outcomes import mirror
from perl_eval.records import About, Estimate, Judgement
from perl_eval.sources import user_table
from perl_eval.stats.bootstrap import Resampling, cluster_codes
from perl_eval.stats.intervals import about
from perl_eval.stats.length import Gamed, alpaca_win_rate, equal_length_win_rate, longer_preferred_rate
from perl_eval.stats.mean_score import mean_score
from perl_eval.stats.paired import paired_differences, paired_outcomes
from perl_eval.stats.position_bias import position_bias, verdicts, why_unknown
from perl_eval.stats.ranking import Votes, rank_votes
from perl_eval.stats.winrate import outcome_scores, win_rates, yes_rates
from perl_eval.storage.executor import Executor, here

__all__ = ["ScoreOptions", "estimate_judgements", "kind_of"]

Key = tuple[str, str, str, str, str, str]
"""Kind, judge, policies a and b, data set and prompt."""
Setting = tuple[str, str, str]
"""Judge, data set and prompt."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """How figures are estimated.

    Attributes:
        resampling: Draws, seed and level.
        intervals: ``analytic`` (Wilson, t), or ``bootstrap`` over groups.
        length_control: ``ratio`` reads the win rate at equal length; ``alpaca`` adds AlpacaEval's figure (slow).
        gamed: AlpacaEval's file of instruction difficulties and gamed baselines (``df_gamed.csv``), for its own data;
            the judgements must be those of all its instructions, in its order. Without, its figure has neither term.
        style: Whether more than two policies are ranked at equal length, lists, headings and bold too.
    """

    resampling: Resampling = field(default_factory=Resampling)
    intervals: Literal["analytic", "bootstrap"] = "analytic"
    length_control: Literal["ratio", "alpaca"] = "ratio"
    gamed: Path | None = None
    style: bool = False


def kind_of(record: Judgement) -> Key:
    """Return what a judgement compares, and who judged it how; judgements are not pooled over it."""
    return record.kind, record.judge, record.policy_a, record.policy_b, record.dataset, record.prompt_sha256


_STOPPED = "the run ended as soon as it was decided, and this is for a number of units fixed before"
_HELD_ANYTIME = frozenset({named.WIN_RATE_UNDECIDED_HALF, named.WIN_MINUS_LOSS, named.YES_RATE, named.NO_RATE})
"""Rates that such a run gives an anytime interval of, or of what says the same."""


def estimate_judgements(
    records: Iterable[Judgement],
    options: ScoreOptions | None = None,
    *,
    stopped: Collection[Key] = (),
    spread: Executor = here,
) -> list[Estimate]:
    """Estimate everything that some judgements say, one set of figures for each thing compared.

    Args:
        records: Judgements of any judges, policies, data sets and prompts.
        options: How figures are estimated.
        stopped: What was compared by runs that ended as soon as they were decided: p-values for a fixed number of units
            do not hold there, nor do intervals of the rate that was watched, which has an anytime interval.
        spread: Where each thing compared is estimated; the figures are the same wherever.
    """
    how, stopped = options or ScoreOptions(), {*stopped, *map(_other_way, stopped)}
    compared: dict[Key, list[Judgement]] = {}
    for record in _one_way_round(records):
        compared.setdefault(kind_of(record), []).append(record)
    found: list[Estimate] = []
    ordered = sorted(compared.items())
    figures = spread(_Estimating(how), [(key[0], group) for key, group in ordered])
    for (key, group), estimates in zip(ordered, figures, strict=True):
        kind, judge, policy_a, policy_b, dataset, prompt = key
        subject = About(
            policy=policy_a,
            against=policy_b if kind == "pairwise" else "",
            judge=judge,
            dataset=dataset if len({k[4] for k in compared if k[:4] == key[:4]}) > 1 else "",
            prompt_sha256=prompt if sum(k[:5] == key[:5] for k in compared) > 1 else "",
        )
        told = [_after_a_stop(one) for one in estimates] if key in stopped else estimates
        found += about(told, subject, simulated=any(record.simulated for record in group))
    return [*found, *_compare_policies(compared, how, stopped)]


def _after_a_stop(estimate: Estimate) -> Estimate:
    """Return a figure of a run that ended as soon as it was decided, without what does not hold there."""
    if estimate.kind == "p-value" and estimate.value is not None:
        return replace(estimate, value=None, reason=_STOPPED)
    if estimate.name in _HELD_ANYTIME and estimate.low is not None:
        return replace(estimate, low=None, high=None, reason=f"{_STOPPED}; the anytime interval holds")
    return estimate


def _other_way(key: Key) -> Key:
    """Return what is compared with the policies exchanged; single answers are compared with nobody."""
    return (key[0], key[1], key[3], key[2], key[4], key[5]) if key[3] else key


def _one_way_round(records: Iterable[Judgement]) -> list[Judgement]:
    """Return judgements with every two policies the same way round, that of most: A against B is B against A."""
    given = list(records)
    times = Counter(kind_of(record) for record in given if record.kind == "pairwise")

    def is_rarer(key: Key) -> bool:
        other = _other_way(key)
        return (times[other], other[2:4]) > (times[key], key[2:4]) if other in times else False

    return [_turned(one) if one.kind == "pairwise" and is_rarer(kind_of(one)) else one for one in given]


_SHOWN_FIRST: Mapping[str, Any] = {"ab": "ba", "ba": "ab"}


def _turned(record: Judgement) -> Judgement:
    """Return a judgement with its contestants exchanged."""
    outcome: Any = mirror(record.outcome)
    return replace(
        record,
        a=record.b,
        b=record.a,
        policy_a=record.policy_b,
        policy_b=record.policy_a,
        text_a=record.text_b,
        text_b=record.text_a,
        outcome=outcome,
        p_a=None if record.p_a is None else 1 - record.p_a,
        ballots=tuple(replace(one, order=_SHOWN_FIRST.get(one.order, one.order)) for one in record.ballots),
    )


@dataclass(frozen=True, slots=True)
class _Estimating:
    """What estimates the figures of one thing compared, wherever a worker is."""

    how: ScoreOptions

    def __call__(self) -> Callable[[tuple[str, Sequence[Judgement]]], list[Estimate]]:
        """Return what estimates from kind and judgements."""
        return lambda piece: _FIGURES[piece[0]](piece[1], self.how)


def _pairwise(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    clusters = [record.group for record in group]
    boot = how.resampling
    rates = win_rates(
        [record.outcome for record in group],
        clusters=clusters,
        p_a=[record.p_a for record in group],
        level=how.resampling.level,
        resampling=boot if how.intervals == "bootstrap" else None,
    )
    pairs = [verdicts(record.ballots) for record in group]
    unknown = why_unknown(record.ballots for record in group)
    position = position_bias(pairs, clusters=clusters, reason=unknown, resampling=boot)
    return [*rates, *position, *_length_control(group, how)]


def _length_control(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    """Return the win rate at equal length, in characters, and how often the longer answer wins."""
    judged = [record for record in group if record.outcome != "unjudged"]
    scores = outcome_scores([record.outcome for record in judged])
    a, b = [len(record.text_a) for record in judged], [len(record.text_b) for record in judged]
    clusters = [record.group for record in judged]
    found = [
        equal_length_win_rate(scores, a, b, clusters=clusters, level=how.resampling.level),
        longer_preferred_rate(scores, a, b, clusters=clusters, level=how.resampling.level),
    ]
    missing = len(group) - len(judged)
    found = [replace(estimate, n_missing=estimate.n_missing + missing) for estimate in found]
    return [*found, _alpaca(group, how)] if how.length_control == "alpaca" else found


def _alpaca(group: Sequence[Judgement], how: ScoreOptions) -> Estimate:
    """Return AlpacaEval's length-controlled win rate; its difficulties and gamed baselines only on its own data."""
    chances = [
        None if r.outcome == "unjudged" else float(outcome_scores([r.outcome])[0]) if r.p_a is None else r.p_a
        for r in group
    ]
    gaps = [len(record.text_b) - len(record.text_a) for record in group]
    groups = [record.group for record in group]
    if how.gamed is None:
        return alpaca_win_rate(chances, gaps, clusters=groups, resampling=how.resampling)
    columns = ("index", "preference", "std_delta_len", "instruction_difficulty")
    sheet = user_table.read(how.gamed, columns)
    index, preferences, apart, hard = ([cell or 0.0 for cell in sheet.numbers(column)] for column in columns)
    difficulty = dict(zip(index, hard, strict=True))
    if sorted(difficulty) != list(range(len(group))):
        raise UserError(
            f"{how.gamed} is about {len(difficulty)} instructions, and there are {len(group)} judgements",
            "score the judgements of all its instructions, imported in the order of the annotations",
        )
    return alpaca_win_rate(
        chances,
        gaps,
        difficulties=[difficulty[place] for place in range(len(group))],
        gamed=Gamed(preferences, apart, hard),
        clusters=groups,
        resampling=how.resampling,
    )


def _yes_no(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    return yes_rates(
        [record.outcome for record in group],
        clusters=[record.group for record in group],
        p_yes=[record.p_a for record in group],
        level=how.resampling.level,
        resampling=how.resampling if how.intervals == "bootstrap" else None,
    )


def _scores(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    boot = how.resampling if how.intervals == "bootstrap" else None
    clusters = [record.group for record in group]
    scores = [record.score for record in group]
    return [mean_score(scores, clusters=clusters, level=how.resampling.level, resampling=boot)]


_FIGURES = {"pairwise": _pairwise, "yes_no": _yes_no, "score": _scores}


def _compare_policies(
    compared: Mapping[Key, Sequence[Judgement]], how: ScoreOptions, stopped: Collection[Key]
) -> list[Estimate]:
    """Compare policies that met the same baseline on the same items, and rank more than two policies.

    Args:
        compared: Judgements by what was compared, see `kind_of`.
        how: How figures are estimated.
        stopped: What was compared by runs that ended as soon as they were decided.
    """
    found = _compare_scores(compared, how)
    settings: list[Setting] = sorted({(key[1], key[4], key[5]) for key in compared if key[0] == "pairwise"})
    for judge, dataset, prompt in settings:
        here = {
            (key[2], key[3]): group
            for key, group in sorted(compared.items())
            if key[0] == "pairwise" and (key[1], *key[4:]) == (judge, dataset, prompt)
        }
        simulated = any(record.simulated for group in here.values() for record in group)
        for (one, baseline), (other, met) in combinations(here, 2):
            if met == baseline:
                asked = _asked(compared, "pairwise", one, (judge, dataset, prompt))
                subject = replace(asked, minus=other, against=baseline)
                estimates = _difference(here[one, baseline], here[other, baseline], how)
                if any(("pairwise", judge, side, baseline, dataset, prompt) in stopped for side in (one, other)):
                    estimates = [_after_a_stop(estimate) for estimate in estimates]
                found += about(estimates, subject, simulated=simulated)
        together = [record for group in here.values() for record in group]
        by_gap = consistency_by_gap(together, level=how.resampling.level)
        found += about(by_gap, _by_judge(compared, (judge, dataset, prompt)), simulated=simulated)
        if len({policy for pair in here for policy in pair}) > 2:
            for estimate in _ranking(together, how):
                asked = _asked(compared, "pairwise", estimate.about.policy, (judge, dataset, prompt))
                found += about([estimate], replace(asked, slice=estimate.about.slice), simulated=simulated)
    return found


def _compare_scores(compared: Mapping[Key, Sequence[Judgement]], how: ScoreOptions) -> list[Estimate]:
    """Compare the scores of policies by the same judge and prompt, item by item."""
    found: list[Estimate] = []
    for (key, one), (other_key, other) in combinations(sorted(compared.items()), 2):
        if key[0] == other_key[0] == "score" and (key[1], *key[3:]) == (other_key[1], *other_key[3:]):
            ours, theirs = _by_draw(one), _by_draw(other)
            places = list(ours.keys() | theirs.keys())
            gap = paired_differences(
                [ours[place].score if place in ours else None for place in sorted(places)],
                [theirs[place].score if place in theirs else None for place in sorted(places)],
                name=named.MEAN_SCORE_DIFFERENCE,
                clusters=[(ours.get(place) or theirs[place]).group for place in sorted(places)],
                resampling=how.resampling,
            )
            simulated = any(record.simulated for record in (*one, *other))
            asked = _asked(compared, "score", key[2], (key[1], key[4], key[5]))
            found += about([gap], replace(asked, minus=other_key[2]), simulated=simulated)
    return found


def _asked(compared: Iterable[Key], kind: str, policy: str, setting: Setting) -> About:
    """Return who judged a policy, and on what data set and how asked where there are several for it."""
    judge, dataset, prompt = setting
    others = {(key[4], key[5]) for key in compared if key[:2] == (kind, judge) and policy in key[2:4]}
    return About(
        policy=policy,
        judge=judge,
        dataset=dataset if len({name for name, _ in others}) > 1 else "",
        prompt_sha256=prompt if sum(name == dataset for name, _ in others) > 1 else "",
    )


def _by_judge(compared: Iterable[Key], setting: Setting) -> About:
    """Return who judged pairs of several policies, and on what data set and how asked where there are several."""
    judge, dataset, prompt = setting
    others = {(key[4], key[5]) for key in compared if key[:2] == ("pairwise", judge)}
    return About(
        judge=judge,
        dataset=dataset if len({name for name, _ in others}) > 1 else "",
        prompt_sha256=prompt if sum(name == dataset for name, _ in others) > 1 else "",
    )


def _difference(one: Sequence[Judgement], other: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    """Compare outcomes on shared items; the draws of an item are paired in order, what is left over is missing."""
    ours, theirs = _by_draw(one), _by_draw(other)
    shared = [key for key in ours if key in theirs]
    missing = len(ours.keys() | theirs.keys()) - len(shared)
    estimates = paired_outcomes(
        [ours[key].outcome for key in shared],
        [theirs[key].outcome for key in shared],
        clusters=[ours[key].group for key in shared],
        resampling=how.resampling,
    )
    return [replace(estimate, n_missing=estimate.n_missing + missing) for estimate in estimates]


def _by_draw(records: Sequence[Judgement]) -> dict[tuple[str, int], Judgement]:
    """Return judgements by item and place among the judgements of the item."""
    times: Counter[str] = Counter()
    found = {}
    for record in sorted(records, key=lambda record: record.a):
        found[record.item, times[record.item]] = record
        times[record.item] += 1
    return found


def _ranking(records: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    """Rank policies by outcomes; by probabilities too where there are some; and at equal style if asked for."""
    judged = [record for record in records if record.outcome != "unjudged"]
    policies = sorted({policy for record in judged for policy in (record.policy_a, record.policy_b)})
    code = {name: place for place, name in enumerate(policies)}
    votes = Votes(
        policies,
        np.array([code[record.policy_a] for record in judged], np.intp),
        np.array([code[record.policy_b] for record in judged], np.intp),
        outcome_scores([record.outcome for record in judged]),
    )
    clusters, level = cluster_codes([record.group for record in judged])[0], how.resampling.level
    found = rank_votes(votes, clusters=clusters, level=level)
    chances = [record.p_a for record in judged]
    if judged and None not in chances:
        soft = replace(votes, score=np.array(chances, np.float64), soft=True)
        found += [
            replace(one, name=named.STRENGTH_FROM_PROBABILITIES)
            for one in rank_votes(soft, clusters=clusters, level=level)
        ]
    if how.style:
        gaps = style_gaps([record.text_a for record in judged], [record.text_b for record in judged])
        if gaps.names:
            found += rank_votes(replace(votes, style=gaps), clusters=clusters, level=level)
    return found
