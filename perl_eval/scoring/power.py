"""The verb `power`: pairs, labels and money for a wanted certainty, from assumptions or from a pilot run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite, sqrt
from pathlib import Path

import numpy as np

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one, between, not_negative
from perl_eval.errors import OptionError, UserError
from perl_eval.metrics.agreement import labels_of, ratings_by_unit
from perl_eval.metrics.label_join import with_units
from perl_eval.outcomes import is_undecided, worth
from perl_eval.records import About, Estimate, HumanLabel, Judgement
from perl_eval.stats import sample_size as plans
from perl_eval.stats.clustered_error import clustered_error
from perl_eval.stats.correlation import correlations
from perl_eval.stats.intervals import about, mean, proportion, undefined, wilson
from perl_eval.storage import run_folder

__all__ = ["Pilot", "PowerOptions", "Wanted", "run"]

_BOUNDS_OF_DIFFERENCE = (-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted; at least one thing.

    Attributes:
        half_width: Half-width of the interval of ``(wins + undecided / 2) / n``, in (0, 0.5).
        detect: Win rate less loss rate that is to be found, not 0.
        pairs: Number of pairs; what they tell is written.
        rate: A rate observed elsewhere, in [0, 1], with ``items``: its interval is written.
        items: Items that the rate was observed on.
    """

    half_width: float | None = None
    detect: float | None = None
    pairs: int | None = None
    rate: float | None = None
    items: int | None = None

    def __post_init__(self) -> None:
        if self.half_width is None and self.detect is None and self.pairs is None and self.rate is None:
            raise UserError(
                "nothing to compute is given", "give a half-width, a difference to detect, a number of pairs or a rate"
            )
        between(0, 0.5, self, "half_width", such_as=0.03)
        between(-1, 1, self, "detect", ends="[]", such_as=0.1)
        if self.detect == 0:
            raise OptionError("detect", self.detect, "give wins less losses as a share, such as 0.1")
        between(0, 1, self, "rate", ends="[]", such_as=0.772)
        at_least_one(self, "pairs", "items")
        if (self.rate is None) != (self.items is None):
            raise UserError("a rate needs the number of its items, and items their rate", "give both")


@dataclass(frozen=True, slots=True)
class Pilot:
    """Where the assumptions come from; what is not given is read from the pilot run, else taken as in `Assumptions`.

    Attributes:
        judgements: A pilot run: judgements of one judge, policies and data set.
        labels: Human labels of some of its units, for their correlation with the judge.
        decided: Share of pairs that one side wins.
        difference: Win rate less loss rate.
        correlation: Of the judge's and people's scores.
        price_usd: Of a call to the judge.
    """

    judgements: Path | None = None
    labels: Path | None = None
    decided: float | None = None
    difference: float | None = None
    correlation: float | None = None
    price_usd: float | None = None

    def __post_init__(self) -> None:
        between(0, 1, self, "decided", ends="(]", such_as=0.7)
        between(-1, 1, self, named.DIFFERENCE, ends="[]", such_as=0.1)
        between(-1, 1, self, "correlation", ends="[]", such_as=0.6)
        not_negative(self, "price_usd")


@dataclass(frozen=True, slots=True)
class PowerOptions:
    """How to plan.

    Attributes:
        level: Confidence level, in (0, 1).
        power: Chance to find the difference, in (0, 1).
        calls_per_pair: 2 for both orders.
        judged: Pairs that the judge will have judged, of which people label a part; labels are planned if it is given.
    """

    level: float = 0.95
    power: float = 0.8
    calls_per_pair: int = 2
    judged: int | None = None

    def __post_init__(self) -> None:
        between(0, 1, self, "level", such_as=0.95)
        between(0, 1, self, "power", such_as=0.8)
        at_least_one(self, "calls_per_pair", "judged")


def run(wanted: Wanted, out: Path, *, pilot: Pilot | None = None, options: PowerOptions | None = None) -> Path:
    """Plan: pairs, calls and money for a half-width or a difference, labels for a corrected rate.

    The plan is for ``(wins + undecided / 2) / n`` and the sign test on wins and losses; a rate p of yes is a pair
    with decided share 1 and difference ``2 p - 1``. Where decided share comes from a pilot, pairs have a range: their
    number at the ends of its interval.

    Args:
        wanted: What is wanted.
        out: Output folder.
        pilot: Where the assumptions come from.
        options: How to plan.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: An assumption is impossible, or the pilot has no decided pair.
    """
    given, how = pilot or Pilot(), options or PowerOptions()
    inputs = {"judgements": given.judgements, "labels": given.labels}
    assumed = {name: value for name, value in asdict(given).items() if name not in inputs}
    assumed["cost_per_call_usd"] = assumed.pop("price_usd")  # as run cards have always called it
    started = run_folder.start(
        out,
        verb="power",
        arguments={**asdict(wanted), **assumed, **asdict(how)},
        inputs={name: path for name, path in inputs.items() if path is not None},
    )
    with started as progress:
        if progress.done:
            return progress.folder
        records = [] if given.judgements is None else run_folder.read(given.judgements, Judgement)
        labels = [] if given.labels is None else with_units(run_folder.read(given.labels, HumanLabel), records)
        try:
            found = _planned(wanted, given, how, records, labels)
        except ValueError as error:
            raise UserError(str(error), "change the assumptions") from None
        simulated = any(record.simulated for record in records) or any(label.simulated for label in labels)
        progress.write(about(found, simulated=simulated), Estimate)
    return progress.folder


def _planned(
    wanted: Wanted, given: Pilot, how: PowerOptions, records: Sequence[Judgement], labels: Sequence[HumanLabel]
) -> list[Estimate]:
    found: list[Estimate] = []
    if wanted.rate is not None and wanted.items is not None:
        from scipy.special import ndtri

        bounds = wilson(wanted.rate * wanted.items, wanted.items, float(ndtri((1 + how.level) / 2)))
        found.append(Estimate(named.OBSERVED_RATE, wanted.rate, *bounds, wanted.items, 0, "Wilson", how.level))
    if wanted.half_width is None and wanted.detect is None and wanted.pairs is None:
        return found
    taken = _taken(given, how, records, labels)
    value = {estimate.name: estimate.value for estimate in taken}
    assumed = plans.Assumptions(
        decided=value[named.DECIDED_SHARE] or 0.0,
        difference=value[named.DIFFERENCE] or 0.0,
        level=how.level,
        power=how.power,
        design_effect=value[named.DESIGN_EFFECT] or 1.0,
    )
    found += about(taken, About(slice="taken"))
    cost, share = value.get(named.COST_A_CALL_USD), taken[0]
    method = (
        f"decided {assumed.decided:.3g}, difference {assumed.difference:.3g}, design effect {assumed.design_effect:.3g}"
    )
    if wanted.half_width is not None:
        wide = wanted.half_width

        def pairs_at(decided: float) -> plans.Budget:
            return plans.pairs_for(
                _with_share(assumed, decided),
                half_width=wide,
                calls_per_pair=how.calls_per_pair,
                cost_per_call_usd=cost,
            )

        plan = _budget(pairs_at, assumed.decided, share, method, how)
        plan.append(_labels(assumed, value.get(named.CORRELATION_WITH_PEOPLE), wide, how))
        found += about(plan, About(slice="for a half-width of", at=wide))
    if wanted.detect is not None:
        gap = abs(wanted.detect)

        def pairs_to_find(decided: float) -> plans.Budget:
            return plans.pairs_for(
                replace(assumed, decided=max(decided, gap), difference=gap),
                calls_per_pair=how.calls_per_pair,
                cost_per_call_usd=cost,
            )

        if gap > assumed.decided:
            raise ValueError(f"a difference of {gap:g} cannot exceed the decided share, {assumed.decided:.3g}")
        told = f"{method}, power {how.power:g}, sign test"
        found += about(_budget(pairs_to_find, assumed.decided, share, told, how), About(slice="to detect", at=gap))
    if wanted.pairs is not None:
        found += about(_of_pairs(assumed, wanted.pairs, method), About(slice="of", at=wanted.pairs, unit="pairs"))
    return found


def _with_share(assumed: plans.Assumptions, decided: float) -> plans.Assumptions:
    """Return the assumptions with another decided share, the difference cut down to it."""
    most = min(max(decided, 1e-6), 1.0)
    return replace(assumed, decided=most, difference=min(max(assumed.difference, -most), most))


def _taken(
    given: Pilot, how: PowerOptions, records: Sequence[Judgement], labels: Sequence[HumanLabel]
) -> list[Estimate]:
    """Return what is assumed, the decided share first: as given, as the pilot says, or by default."""
    base = plans.Assumptions()
    judged = [record for record in records if record.outcome != "unjudged"]
    if records and len({(r.judge, r.kind, r.policy_a, r.policy_b, r.dataset) for r in records}) > 1:
        raise ValueError("the pilot holds several judges, policies or data sets")
    if any(record.kind == "score" for record in records):
        raise ValueError("the pilot holds scores; plans are for pairs and for yes or no")
    if records and not judged:
        raise ValueError("the pilot has no judged unit")
    scores = np.array([worth(record.outcome) for record in judged])
    decided = [not is_undecided(record.outcome) for record in judged]
    groups = [record.group for record in judged]
    found = []
    if given.decided is None and judged:
        found.append(proportion(named.DECIDED_SHARE, decided, clusters=groups, level=how.level))
    else:
        found.append(_fixed(named.DECIDED_SHARE, base.decided if given.decided is None else given.decided))
    if given.difference is None and judged:
        gaps = 2 * scores - 1
        found.append(mean(named.DIFFERENCE, gaps, clusters=groups, bounds=_BOUNDS_OF_DIFFERENCE, level=how.level))
    else:
        found.append(_fixed(named.DIFFERENCE, base.difference if given.difference is None else given.difference))
    found.append(_design_effect(scores, groups))
    costs = [ballot.cost_usd for record in records for ballot in record.ballots]
    if given.price_usd is not None:
        found.append(_fixed(named.COST_A_CALL_USD, given.price_usd))
    elif costs and all(cost is not None for cost in costs):
        found.append(mean(named.COST_A_CALL_USD, [cost or 0.0 for cost in costs], level=how.level))
    if given.correlation is not None:
        found.append(_fixed(named.CORRELATION_WITH_PEOPLE, given.correlation))
    elif labels:
        by_unit, _ = ratings_by_unit(labels)
        worths = [list(map(worth, labels_of(record, by_unit).values())) for record in judged]
        people = [sum(given) / len(given) if given else None for given in worths]
        pearson = correlations(scores.tolist(), people, clusters=groups, level=how.level)[0]
        found.append(replace(pearson, name=named.CORRELATION_WITH_PEOPLE))
    return found


def _fixed(name: str, value: float) -> Estimate:
    if not isfinite(value):
        raise ValueError(f"{name} is {value}")
    return Estimate(name, value, None, None, 0, 0, "assumed")


def _design_effect(scores: np.ndarray, groups: Sequence[str]) -> Estimate:
    """Return the variance of the mean score by groups over that of independent items; 1 where no group repeats."""
    number = len(set(groups))
    if number < 2 or number == len(groups) or np.ptp(scores) == 0:
        return _fixed(named.DESIGN_EFFECT, 1.0)
    error = clustered_error(scores, groups).error
    effect = error**2 / (float(scores.var(ddof=1)) / len(scores))
    return Estimate(named.DESIGN_EFFECT, effect, None, None, len(scores), 0, f"clustered variance, {number} clusters")


def _budget(
    at: Callable[[float], plans.Budget], decided: float, share: Estimate, method: str, how: PowerOptions
) -> list[Estimate]:
    """Return pairs, calls and money, with their range over the interval of the decided share."""
    plan = at(decided)
    ends = None if share.low is None or share.high is None else (at(share.low), at(share.high))

    def figure(name: str, read: Callable[[plans.Budget], float]) -> Estimate:
        low, high = (None, None) if ends is None else (read(ends[0]), read(ends[1]))
        return Estimate(name, read(plan), low, high, share.n, 0, method, how.level)

    found = [figure("pairs", lambda b: float(b.pairs)), figure(named.CALLS, lambda b: float(b.calls))]
    if plan.cost_usd is None:
        return [*found, undefined(named.COST_USD, "the price of a call is not known", method=method)]
    return [*found, figure(named.COST_USD, lambda b: b.cost_usd or 0.0)]


def _labels(assumed: plans.Assumptions, correlation: float | None, half_width: float, how: PowerOptions) -> Estimate:
    """Return how many labels a corrected rate within the half-width takes."""
    if correlation is None:
        return undefined("labels", "how far judge and people agree is not known", method="PPI++")
    if how.judged is None:
        return undefined("labels", "how many pairs the judge will judge is not said", method="PPI++")
    judged = how.judged
    n = plans.labels_for_half_width(assumed, correlation, judged, half_width)
    method = f"PPI++, correlation {correlation:.2f}, {judged} judged"
    if n is None:
        return undefined("labels", "labelling every judged pair is not enough", n=judged, method=method)
    return Estimate("labels", float(n), None, None, judged, 0, method, how.level)


def _of_pairs(assumed: plans.Assumptions, pairs: int, method: str) -> list[Estimate]:
    """Return what so many pairs tell."""
    from scipy.special import ndtri

    z = float(ndtri((1 + assumed.level) / 2))
    width = z * sqrt(assumed.score_variance * assumed.design_effect / pairs)
    gap = plans.detectable_difference(assumed, pairs)
    name, told = named.DETECTABLE_DIFFERENCE, f"{method}, power {assumed.power:g}, sign test"
    found = [Estimate(named.HALF_WIDTH, width, None, None, pairs, 0, method, assumed.level)]
    if gap is None:
        return [*found, undefined(name, "no possible difference would be found", n=pairs, method=told)]
    return [*found, Estimate(name, gap, None, None, pairs, 0, told, assumed.level)]
