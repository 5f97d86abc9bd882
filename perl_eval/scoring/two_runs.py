"""The same answers judged twice: by one judge at two times or with two prompts, or by two judges, without labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perl_eval import figure_names as named
from perl_eval.metrics.judgement_estimates import ScoreOptions
from perl_eval.outcomes import is_vote, mirror, worth
from perl_eval.records import About, Estimate, Judgement
from perl_eval.stats.bootstrap import cluster_codes
from perl_eval.stats.intervals import about, mean, p_value, proportion, undefined
from perl_eval.stats.sign_flip import sign_flip_p
from perl_eval.storage import parquet

__all__ = ["FLIPPED", "are_two_runs", "compare", "write_flipped"]

FLIPPED = "flipped.csv"
"""The file with the items whose outcome changed."""
_ALONE = "how often the judge changes its own mind is not known; judge the first run's answers once more, and give it"


@dataclass(frozen=True, slots=True)
class _Twice:
    """One unit judged in both runs; the later outcome is that of the earlier one's a."""

    last: Judgement
    now: str


def are_two_runs(sources: Sequence[Sequence[Judgement]]) -> bool:
    """Return whether two sources judge the same answers, so that the later is a second opinion on the earlier.

    They do if each unit of the smaller one, nearly, is one of the other.
    """
    if len(sources) != 2:
        return False
    units = [{frozenset((one.a, one.b)) for one in source} for source in sources]
    return len(units[0] & units[1]) > 0.5 * min(map(len, units))


def compare(
    last: Sequence[Judgement],
    now: Sequence[Judgement],
    *,
    again: Sequence[Judgement] = (),
    options: ScoreOptions | None = None,
) -> tuple[list[Estimate], list[tuple[str, ...]]]:
    """Compare what two runs say of the same answers.

    Args:
        last: The earlier run.
        now: The later one, of the same or another judge or prompt.
        again: The earlier judge asked the same once more: how often it changes its own mind.
        options: The level.

    Returns:
        ``flip rate``; with ``again`` the judge's own and the difference; the difference of the mean worth, and
        McNemar's p over groups; and the items that flipped: item, policies, the outcome before and now.
    """
    level = (options or ScoreOptions()).resampling.level
    met = list(_met(last, now))
    groups = cluster_codes([one.last.group for one in met])[0]
    flips = [one.last.outcome != one.now for one in met]
    changed = [worth(one.now) - worth(one.last.outcome) for one in met]
    missing = len(last) - len(met)
    found = [
        proportion(named.FLIP_RATE, flips, clusters=groups, n_missing=missing, level=level),
        mean(named.LATER_LESS_EARLIER, changed, clusters=groups, bounds=(-1.0, 1.0), n_missing=missing, level=level),
        _mcnemar(met),
        *_beside_itself(met, last, again, level),
    ]
    rows: list[tuple[str, ...]] = [
        (one.last.item, one.last.policy_a, one.last.policy_b, one.last.outcome, one.now)
        for one, flip in zip(met, flips, strict=True)
        if flip
    ]
    judges = [", ".join(sorted({one.judge for one in run})) for run in (last, now)]
    subject = About(judge=judges[0], other_judge=judges[1] if judges[1] != judges[0] else "", slice="two runs")
    return about(found, subject, simulated=any(one.simulated for one in (*last, *now))), rows


def _met(last: Sequence[Judgement], now: Sequence[Judgement]) -> Iterator[_Twice]:
    """Yield the units that both runs judged, the later outcome turned where its contestants are."""
    later = {(one.a, one.b): one.outcome for one in now if is_vote(one.outcome)}
    for one in last:
        if not is_vote(one.outcome):
            continue
        if (one.a, one.b) in later:
            yield _Twice(one, later[one.a, one.b])
        elif one.b and (one.b, one.a) in later:
            yield _Twice(one, mirror(later[one.b, one.a]))


def _mcnemar(met: Sequence[_Twice]) -> Estimate:
    """Return McNemar's exact p: whether those that went up are as many as those that went down."""
    steps = [(worth(one.now) - worth(one.last.outcome), one.last.group) for one in met]
    apart = [(1.0 if step > 0 else -1.0, group) for step, group in steps if step]
    if not apart:
        return undefined(named.MCNEMAR_P, "no outcome changed sides", method="exact")
    p = sign_flip_p([sign for sign, _ in apart], clusters=[group for _, group in apart])
    return p_value(named.MCNEMAR_P, p, n=len(apart), method="exact, over groups")


def _beside_itself(
    met: Sequence[_Twice], last: Sequence[Judgement], again: Sequence[Judgement], level: float
) -> list[Estimate]:
    """Return how often the earlier judge changes its own mind, and how many flips are more than that."""
    names = (named.OWN_FLIP_RATE, named.FLIPS_BEYOND_CHANCE)
    own = {(one.last.a, one.last.b): one for one in _met(last, again)}
    both = [(one, own[one.last.a, one.last.b]) for one in met if (one.last.a, one.last.b) in own]
    if not both:
        return [undefined(name, _ALONE, n_missing=len(met)) for name in names]
    groups = cluster_codes([one.last.group for one, _ in both])[0]
    itself = [same.last.outcome != same.now for _, same in both]
    more = [float(one.last.outcome != one.now) - float(flip) for (one, _), flip in zip(both, itself, strict=True)]
    return [
        proportion(names[0], itself, clusters=groups, level=level),
        mean(names[1], more, clusters=groups, bounds=(-1.0, 1.0), level=level),
    ]


def write_flipped(rows: Sequence[tuple[str, ...]], file: Path) -> None:
    """Write the items that flipped."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([("item", "policy_a", "policy_b", "before", "now"), *rows])

    parquet.replace_file(file, write)
