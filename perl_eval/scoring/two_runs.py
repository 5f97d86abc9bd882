"""The same answers judged twice: by one judge at two times or with two prompts, or by two judges, without labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perl_eval import figure_names as named
from perl_eval.metrics.judgement_estimates import ScoreOptions
from perl_eval.outcomes import is_vote, mirror, worth
from perl_eval.records import About, Estimate, Judgement
from perl_eval.stats.bootstrap import cluster_codes
from perl_eval.stats.intervals import about, mean, p_value, proportion, undefined
from perl_eval.stats.sign_flip import sign_flip_p
from perl_eval.storage import parquet, run_folder

__all__ = ["FLIPPED", "are_two_runs", "asked_nothing", "compare", "sentences", "write_flipped"]

FLIPPED = "flipped.csv"
"""The file with the items whose outcome changed."""
_COLUMNS = ("item", "policy_a", "policy_b", "before", "now", "prompt", "text_a", "text_b")
_SLICE = "two runs"
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
    def step(self) -> float:
        """How much more the later judgement is worth to a, or to the one answer; of scores, in points."""
        return _worth(self.now) - _worth(self.last)


def _told(one: Judgement) -> str:
    return one.outcome if one.score is None or one.kind != "score" else f"{one.score:g}"


def _worth(one: Judgement) -> float:
    return worth(one.outcome) if one.kind != "score" or one.score is None else one.score


def _is_told(one: Judgement) -> bool:
    return is_vote(one.outcome) or (one.kind == "score" and one.score is not None)


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
        McNemar's p over groups; and the items that flipped: item, policies, the outcome (or score) before and now, the
        prompt and the answers.
    """
    level = (options or ScoreOptions()).resampling.level
    met = list(_met(last, now))
    groups = cluster_codes([one.last.group for one in met])[0]
    missing = len(last) - len(met)
    bounds = None if any(one.last.kind == "score" for one in met) else (-1.0, 1.0)
    steps = [one.step for one in met]
    found = [
        proportion(named.FLIP_RATE, [one.flipped for one in met], clusters=groups, n_missing=missing, level=level),
        mean(named.LATER_LESS_EARLIER, steps, clusters=groups, bounds=bounds, n_missing=missing, level=level),
        _mcnemar(met),
        *_beside_itself(met, last, again, level),
    ]
    rows = [_row(one) for one in met if one.flipped]
    judges = [", ".join(sorted({one.judge for one in run})) for run in (last, now)]
    subject = About(judge=judges[0], other_judge=judges[1] if judges[1] != judges[0] else "", slice=_SLICE)
    return about(found, subject, simulated=any(one.simulated for one in (*last, *now))), rows


def _row(one: _Twice) -> tuple[str, ...]:
    last, prompt = one.last, "\n\n".join(message.content for message in one.last.prompt)
    return last.item, last.policy_a, last.policy_b, *one.said, prompt, last.text_a, last.text_b


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


def _mcnemar(met: Sequence[_Twice]) -> Estimate:
    """Return McNemar's exact p: whether those that went up are as many as those that went down."""
    apart = [(1.0 if one.step > 0 else -1.0, one.last.group) for one in met if one.step]
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
    itself = [same.flipped for _, same in both]
    more = [float(one.flipped) - float(flip) for (one, _), flip in zip(both, itself, strict=True)]
    return [
        proportion(names[0], itself, clusters=groups, level=level),
        mean(names[1], more, clusters=groups, bounds=(-1.0, 1.0), level=level),
    ]


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
    changed = round(flips.value * flips.n)
    if not changed:
        share = "" if flips.high is None else f"; of all such units it may be up to {flips.high:.2f}"
        return [f"The judge says the same of all {flips.n:,} units{share}."]
    said = [f"The judge says something else of {changed:,} of {flips.n:,} units: {_shown(flips)}."]
    own, more = figures[named.OWN_FLIP_RATE], figures[named.FLIPS_BEYOND_CHANCE]
    if own.value is None or more.value is None or more.low is None:
        said.append(f"Whether the judge has changed cannot be told from that alone: {_ALONE}.")
    elif more.low > 0:
        beyond = f"{_shown(more)} more than it changes its own mind when it is asked the same twice, {own.value:.2f}"
        said.append(f"The judge has changed: that is {beyond}.")
    else:
        beside = f"asked the same twice, it changes its own mind on {own.value:.2f}; the difference is {_shown(more)}"
        said.append(f"No change of the judge is found: {beside}.")
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
    if p.value >= _SURE:
        yield f"Later it is not found to be kinder to policy_a, or harder on it ({value})."
    else:
        kind = "kinder to" if moved.value > 0 else "harder on"
        yield f"Later it is {kind} policy_a, whose answers are worth {_shown(moved)} more ({value})."


def _shown(one: Estimate) -> str:
    assert one.value is not None
    between = "" if one.low is None or one.high is None else f" ({one.low:.2f} to {one.high:.2f})"
    return f"{one.value:.2f}{between}"
