"""The same answers judged twice: by one judge at two times or with two prompts, or by two judges, without labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from perl_eval import figure_names as named
from perl_eval.metrics.judgement_estimates import ScoreOptions
from perl_eval.outcomes import is_vote, mirror, worth
from perl_eval.records import About, Estimate, Judgement
from perl_eval.stats.bootstrap import cluster_codes
from perl_eval.stats.intervals import about, mean, p_value, proportion, undefined
from perl_eval.stats.sample_size import detectable_flip_rate
from perl_eval.stats.sign_flip import sign_flip_p
from perl_eval.storage import parquet, run_folder

__all__ = ["FLIPPED", "are_two_runs", "asked_nothing", "compare", "sentences", "write_flipped"]

FLIPPED = "flipped.csv"
"""The file with the items whose outcome changed."""
_COLUMNS = (
    *("item", "policy_a", "policy_b", "before", "now", "winner_before", "winner_now"),
    *("prompt", "text_a", "text_b"),
)
_SLICE = "two runs"
_POWER = 0.8
"""How often the least change that is told would be found."""
_SURE = 0.05
"""Verdicts moved to one side if McNemar's p is below this."""
_ALONE = (
    "how often the judge changes its own mind is not known; have the earlier judge judge the same answers once more, "
    "and give that with --again"
)


@dataclass(frozen=True, slots=True)
class _Twice:
    """One unit judged in both runs; the later judgement is turned so that its contestants are the earlier one's."""

    last: Judgement
    now: Judgement

    @property
    def said(self) -> tuple[str, str]:
        """What was said of it, earlier and later: the outcome, or the score."""
        return _told(self.last), _told(self.now)

    @property
    def flipped(self) -> bool:
        """Whether that changed."""
        return self.said[0] != self.said[1]

    @property
    def winners(self) -> tuple[str, str]:
        """The policies that won, earlier and later; "" where none did, and of single answers."""
        return _winner(self.last, self.last.outcome), _winner(self.last, self.now.outcome)

    @property
    def step(self) -> float:
        """How much more the later judgement is worth to a, or to the one answer; of scores, in points."""
        return _worth(self.now) - _worth(self.last)


def _winner(of: Judgement, outcome: str) -> str:
    if not of.policy_b or not is_vote(outcome):
        return ""
    own = ("policy_a", "policy_b") if of.policy_a == of.policy_b else (of.policy_a, of.policy_b)
    value = worth(outcome)
    return "" if 0 < value < 1 else own[value == 0]


def _told(one: Judgement) -> str:
    return one.outcome if one.score is None or one.kind != "score" else f"{one.score:g}"


def _worth(one: Judgement) -> float:
    return worth(one.outcome) if one.kind != "score" or one.score is None else one.score


def _is_told(one: Judgement) -> bool:
    return is_vote(one.outcome) or (one.kind == "score" and one.score is not None)


def are_two_runs(sources: Sequence[Sequence[Judgement]]) -> bool:
    """Return whether two sources judge the same answers, so that the later is a second opinion on the earlier.

    They do if more than half of the units of the smaller one are units of the other; where no judge is in both, if any
    unit is.
    """
    if len(sources) != 2:
        return False
    units = [{frozenset((one.a, one.b)) for one in source} for source in sources]
    judges = [{one.judge for one in source} for source in sources]
    least = 0.5 * min(map(len, units)) if judges[0] & judges[1] else 0
    return len(units[0] & units[1]) > least


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
        ``flip rate``; with ``again`` the judge's own, the difference, and the least flip rate that would have been
        told from the judge's own; the difference of the mean worth to the policy that the figure is about (or to each
        unit's first, of several pairs of policies), and McNemar's p over groups; how many units of each run are left
        out; and the items that flipped: item, policies, the outcome (or score) before and now, the policy that won
        before and now, the prompt and the answers.
    """
    level = (options or ScoreOptions()).resampling.level
    met = list(_met(last, now))
    groups = cluster_codes([one.last.group for one in met])[0]
    missing = len(last) - len(met)
    bounds = None if any(one.last.kind == "score" for one in met) else (-1.0, 1.0)
    sides = _sides(met)
    steps = [one.step if one.last.policy_a == sides[one.last.policy_a, one.last.policy_b] else -one.step for one in met]
    found = [
        proportion(named.FLIP_RATE, [one.flipped for one in met], clusters=groups, n_missing=missing, level=level),
        mean(named.LATER_LESS_EARLIER, steps, clusters=groups, bounds=bounds, n_missing=missing, level=level),
        _mcnemar(met, steps),
        *_beside_itself(met, last, again, level),
        _left_out(named.LEFT_OUT_OF_EARLIER, last, met),
        _left_out(named.LEFT_OUT_OF_LATER, now, met),
    ]
    rows = [_row(one) for one in met if one.flipped]
    judges = [", ".join(sorted({one.judge for one in run})) for run in (last, now)]
    policy, against = _compared(met)
    other = judges[1] if judges[1] != judges[0] else ""
    subject = About(policy=policy, against=against, judge=judges[0], other_judge=other, slice=_SLICE)
    return about(found, subject, simulated=any(one.simulated for one in (*last, *now))), rows


def _row(one: _Twice) -> tuple[str, ...]:
    last, prompt = one.last, "\n\n".join(message.content for message in one.last.prompt)
    return last.item, last.policy_a, last.policy_b, *one.said, *one.winners, prompt, last.text_a, last.text_b


def _sides(met: Sequence[_Twice]) -> dict[tuple[str, str], str]:
    """Return, of every two policies in either order, the one that a move is told of: the one named first earliest."""
    found: dict[tuple[str, str], str] = {}
    for one in met:
        pair = one.last.policy_a, one.last.policy_b
        found.setdefault(pair, found.get(pair[::-1], pair[0]))
    return found


def _compared(met: Sequence[_Twice]) -> tuple[str, str]:
    """Return the two policies, or the one, that all units are of; empty where there are more."""
    pairs = {tuple(sorted((one.last.policy_a, one.last.policy_b))) for one in met}
    return (met[0].last.policy_a, met[0].last.policy_b) if len(pairs) == 1 else ("", "")


def _left_out(name: str, run: Sequence[Judgement], met: Sequence[_Twice]) -> Estimate:
    """Return how many units of a run have no verdict in both."""
    return Estimate(name, float(len(run) - len(met)), None, None, len(run), 0, "counted", kind="count")


def _met(last: Sequence[Judgement], now: Sequence[Judgement]) -> Iterator[_Twice]:
    """Yield the units that both runs judged, the later judgement turned where its contestants are."""
    later = {(one.a, one.b): one for one in now if _is_told(one)}
    for one in last:
        if not _is_told(one):
            continue
        if (one.a, one.b) in later:
            yield _Twice(one, later[one.a, one.b])
        elif one.b and (one.b, one.a) in later:
            other = later[one.b, one.a]
            turned: Any = mirror(other.outcome)
            yield _Twice(one, replace(other, outcome=turned))


def _mcnemar(met: Sequence[_Twice], steps: Sequence[float]) -> Estimate:
    """Return McNemar's exact p: whether those that went up are as many as those that went down."""
    apart = [(1.0 if step > 0 else -1.0, one.last.group) for one, step in zip(met, steps, strict=True) if step]
    if not apart:
        return undefined(named.MCNEMAR_P, "no outcome changed sides", method="exact")
    p = sign_flip_p([sign for sign, _ in apart], clusters=[group for _, group in apart])
    return p_value(named.MCNEMAR_P, p, n=len(apart), method="exact, over groups")


def _beside_itself(
    met: Sequence[_Twice], last: Sequence[Judgement], again: Sequence[Judgement], level: float
) -> list[Estimate]:
    """Return how often the earlier judge changes its own mind, and how many flips are more than that."""
    names = (named.OWN_FLIP_RATE, named.FLIPS_BEYOND_CHANCE, named.DRIFT_DETECTABLE_FLIP_RATE)
    own = {(one.last.a, one.last.b): one for one in _met(last, again)}
    both = [(one, own[one.last.a, one.last.b]) for one in met if (one.last.a, one.last.b) in own]
    if not both:
        return [undefined(name, _ALONE, n_missing=len(met)) for name in names]
    groups = cluster_codes([one.last.group for one, _ in both])[0]
    itself = [same.flipped for _, same in both]
    more = [float(one.flipped) - float(flip) for (one, _), flip in zip(both, itself, strict=True)]
    return [
        proportion(names[0], itself, clusters=groups, level=level),
        mean(names[1], more, clusters=groups, bounds=(-1.0, 1.0), level=level),
        _detectable(float(np.mean(itself)), len(both), len(set(groups.tolist())), level),
    ]


def _detectable(noise: float, n: int, groups: int, level: float) -> Estimate:
    """Return the least flip rate that is told from the judge's own with 80 % power."""
    least = detectable_flip_rate(noise, groups, level=level, power=_POWER)
    if least is None:
        return undefined(named.DRIFT_DETECTABLE_FLIP_RATE, f"{groups} units are too few to find any change", n=n)
    told = f"exact sign test beside the judge's own flips, power {_POWER:g}"
    return Estimate(named.DRIFT_DETECTABLE_FLIP_RATE, least, None, None, n, 0, told, level)


def write_flipped(rows: Sequence[tuple[str, ...]], file: Path) -> None:
    """Write the items that flipped."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([_COLUMNS, *rows])

    parquet.replace_file(file, write)


def sentences(found: Sequence[Estimate]) -> list[str]:
    """Return what two runs of the same answers say about the judge, in words; empty where there are no such figures.

    Args:
        found: Figures, of `compare` and others.
    """
    figures = {one.name: one for one in found if one.about.slice == _SLICE}
    flips = figures.get(named.FLIP_RATE)
    if flips is None or flips.value is None:
        return []
    return [*_incomplete(figures), *_changed(figures, flips, flips.value)]


def _incomplete(figures: Mapping[str, Estimate]) -> Iterator[str]:
    """Yield how much of the two runs is not compared, if any is not."""
    runs = (("earlier", figures.get(named.LEFT_OUT_OF_EARLIER)), ("later", figures.get(named.LEFT_OUT_OF_LATER)))
    parts = [f"{one.value:,.0f} of {one.n:,} judged {when}" for when, one in runs if one is not None and one.value]
    if parts:
        yield (
            f"Left out are {' and '.join(parts)}: the other file has no verdict of them. Units meet by their item (or "
            "else their question) and their policies, or by the ids of their answers."
        )


def _changed(figures: Mapping[str, Estimate], flips: Estimate, rate: float) -> list[str]:
    """Return what changed, whether that is the judge, and which way."""
    changed = round(rate * flips.n)
    if not changed:
        share = "" if flips.high is None else f"; of all such units it may be up to {flips.high:.2f}"
        return [f"The verdict is the same on all {flips.n:,} units{share}."]
    said = [f"The judge's verdict differs on {changed:,} of {flips.n:,} units: {_shown(flips)}."]
    own, more = figures[named.OWN_FLIP_RATE], figures[named.FLIPS_BEYOND_CHANCE]
    if own.value is None or more.value is None or more.low is None:
        said.append(f"Whether the judge has changed cannot be told from that alone: {_ALONE}.")
    elif more.low > 0:
        beyond = f"asked the same twice, it differs from itself on {own.value:.2f}; this is {_shown(more)} more"
        said.append(f"The judge has changed: {beyond}.")
    else:
        beside = f"asked the same twice, it changes its own mind on {own.value:.2f}; the difference is {_shown(more)}"
        least = figures.get(named.DRIFT_DETECTABLE_FLIP_RATE)
        found = "" if least is None else f"; {_found_from(least)}"
        said.append(f"No change of the judge is found: {beside}{found}.")
    return [*said, *_moved(figures)]


def asked_nothing(run: Path) -> bool:
    """Return whether a run of `judge` took every reply from its ledger, so that it says what was said before.

    Args:
        run: A run folder, or its file.
    """
    card = run_folder.read_card(run if run.is_dir() else run.parent)
    asking = {} if card is None else card.notes.get("asking") or {}
    return not asking.get("requests") and bool(asking.get("from_ledger"))


def _moved(figures: Mapping[str, Estimate]) -> Iterator[str]:
    """Yield whether the verdicts moved to one side."""
    p, moved = figures[named.MCNEMAR_P], figures[named.LATER_LESS_EARLIER]
    if p.value is None or moved.value is None:
        return
    value = "p < 0.001" if p.value < 0.001 else f"p = {p.value:.2g}"
    one, other = moved.about.policy or "the policy that is named first", moved.about.against
    if p.value >= _SURE:
        sides = f"{one} or towards {other}" if other else f"{one}, or away from it,"
        yield f"No shift of the verdicts towards {sides} is found ({value})."
        return
    more = "higher" if moved.value > 0 else "lower"
    way = f"towards {one}" if moved.value > 0 else f"towards {other}" if other else f"away from {one}"
    rate = f"the win rate of {one}, undecided as half, is now {_shown(_size(moved))} {more}"
    yield f"The verdicts have shifted {way}: {rate} ({value})."


def _size(moved: Estimate) -> Estimate:
    """Return a difference without its sign."""
    assert moved.value is not None
    if moved.value >= 0:
        return moved
    low, high = (None if end is None else -end for end in (moved.high, moved.low))
    return replace(moved, value=-moved.value, low=low, high=high)


def _found_from(least: Estimate) -> str:
    """Say which share of changes would have been found."""
    if least.value is None:
        return f"{least.n:,} units are too few to find any change"
    return f"other verdicts on {least.value:.2f} of the units would have been told from that in {_POWER:.0%} of cases"


def _shown(one: Estimate) -> str:
    assert one.value is not None
    between = "" if one.low is None or one.high is None else f" ({one.low:.2f} to {one.high:.2f})"
    return f"{one.value:.2f}{between}"
