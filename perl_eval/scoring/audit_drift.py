"""Whether a judge has drifted since its audit, on the anchors that were kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perl_eval import figure_names as named
from perl_eval.errors import UserError
from perl_eval.records import About, Estimate, Judgement
from perl_eval.scoring.audit_figures import SAME, said
from perl_eval.scoring.audit_options import AuditOptions
from perl_eval.stats.intervals import about, p_value, proportion, undefined
from perl_eval.stats.sample_size import detectable_flip_rate
from perl_eval.stats.sign_flip import more_often_p
from perl_eval.stats.winrate import over_groups
from perl_eval.storage import run_folder

__all__ = ["AGAIN", "ANCHORS", "drift"]

ANCHORS = "anchors.parquet"
"""The labelled judgements that `drift` compares later ones with."""


AGAIN = "again.parquet"
"""What the judge said of the anchors when the audit asked it twice."""
_ALARM = 0.01
_POWER = 0.8
_UNTRIED = "cannot tell: the audit asked nothing twice"


def drift(anchors: Path, now: Path, out: Path, *, options: AuditOptions | None = None) -> Path:
    """Compare a judge's outcomes, or scores, on the anchors with those it gave when it was audited.

    A judge that is only noisy changes its mind too. So the alarm rings (``drift alarm`` is 1) if more anchors changed
    now than when the audit asked twice: of anchors that did one and not the other, an exact one-sided sign test, over
    groups where they repeat, at 1 %. Where only the number of changes in the audit is known, Boschloo's exact test of
    the two numbers. Where the audit asked nothing twice, it cannot tell. What share of changes would be found in 80 %
    of cases stands beside it.

    Args:
        anchors: The output folder of `run`, or the anchors in it.
        now: Judgements of the same units with the same prompt, made now by the same judge; or, where the audit was of
            one judge only, by one of another name, as after an upgrade.
        out: Output folder.
        options: Only the level counts.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: No anchor was judged again.

    Source: Boschloo, Statistica Neerlandica 24 (1970), 1-9.
    """
    how = options or AuditOptions()
    frozen = anchors / ANCHORS if anchors.is_dir() else anchors
    then, later = run_folder.read(frozen, Judgement), run_folder.read(now, Judgement)
    audited = _Audited.beside(frozen)
    started = run_folder.start(
        out,
        verb="audit drift",
        arguments={"level": how.resampling.level},
        inputs={"anchors": frozen, "now": now},
        simulated=any(record.simulated for record in (*then, *later)),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        found: list[Estimate] = []
        fresh, successor = _said(later), _successor(then, later)
        if successor:
            fresh = {(then[0].judge, *key[1:]): told for key, told in fresh.items()}
        for judge in sorted({record.judge for record in then}):
            asked = [record for record in then if record.judge == judge]
            own = [record for record in asked if _key(record) in fresh]
            if own:
                figures = _figures(own, len(asked) - len(own), fresh, audited, how)
                called = f"{judge}, now {successor}" if successor else judge
                found += about(figures, About(judge=called), simulated=any(record.simulated for record in own))
        if not found:
            raise UserError(
                f"{now} holds no judgement of an anchor",
                "judge the same answers as the anchors, with the same judge and prompt",
            )
        progress.write(found, Estimate)
    return progress.folder


def _successor(then: Sequence[Judgement], later: Sequence[Judgement]) -> str:
    """Return the name of the one judge that judged now in place of the one that was audited; "" if there is none."""
    before, after = {record.judge for record in then}, {record.judge for record in later}
    return min(after) if len(before) == len(after) == 1 and before != after else ""


_Key = tuple[str, str, str]


def _key(record: Judgement) -> _Key:
    return record.judge, record.prompt_sha256, record.unit


def _said(records: Iterable[Judgement]) -> dict[_Key, tuple[str, float | None]]:
    return {_key(record): said(record) for record in records}


@dataclass(frozen=True, slots=True)
class _Audited:
    """What an audit knows of a judge's own changes of mind.

    Attributes:
        again: What the judge said when it was asked twice; empty for audits that did not keep it.
        figures: The figures of the audit.
    """

    again: Mapping[_Key, tuple[str, float | None]]
    figures: Sequence[Estimate]

    @classmethod
    def beside(cls, anchors: Path) -> _Audited:
        """Read what stands beside the anchors."""
        again, figures = anchors.with_name(AGAIN), anchors.with_name(run_folder.FILES[Estimate])
        return cls(
            _said(run_folder.read(again, Judgement)) if again.is_file() else {},
            run_folder.read(figures, Estimate) if figures.is_file() else [],
        )

    def changes(self, judge: str) -> tuple[int, int] | None:
        """Return how many units changed when the audit asked twice, and how many it asked; None if none."""
        for one in self.figures:
            if one.name == SAME and one.subject == About(judge=judge).sentence and one.value is not None:
                return round((1 - one.value) * one.n), one.n
        return None


def _figures(
    own: Sequence[Judgement],
    missing: int,
    fresh: Mapping[_Key, tuple[str, float | None]],
    audited: _Audited,
    how: AuditOptions,
) -> list[Estimate]:
    """Return the share of anchors that changed, and whether that is more than the judge's own noise."""
    flips = [said(record) != fresh[_key(record)] for record in own]
    groups = [record.group for record in own]
    rate = proportion(named.FLIP_RATE, flips, clusters=groups, n_missing=missing, level=how.resampling.level)
    twice = [place for place, record in enumerate(own) if _key(record) in audited.again]
    if twice:
        before = [said(own[place]) != audited.again[_key(own[place])] for place in twice]
        signs = [float(flips[place]) - wavered for place, wavered in zip(twice, before, strict=True)]
        shared = [groups[place] for place in twice]
        n, p = len(twice), more_often_p(signs, clusters=shared)
        method = f"exact sign test beside the audit's second asking{over_groups(shared, n)}"
        found = _least_found(sum(before), n, len(set(shared)))
    elif (counts := audited.changes(own[0].judge)) is not None:
        from scipy.stats import boschloo_exact

        n, (wavered, asked) = len(flips), counts
        table = [[sum(flips), wavered], [n - sum(flips), asked - wavered]]
        p, method = float(boschloo_exact(table, alternative="greater").pvalue), "Boschloo's exact test"
        found = _least_found(wavered, min(n, asked), min(n, asked, len(set(groups))))
    else:
        reason = f"{_UNTRIED}; audit with the same pairs judged again"
        names = (named.DRIFT_P, named.DRIFT_ALARM, named.DRIFT_DETECTABLE_FLIP_RATE)
        return [rate, *(undefined(name, reason, n=len(flips), n_missing=missing) for name in names)]
    told = f"{method}, at {_ALARM:g}"
    return [
        rate,
        p_value(named.DRIFT_P, p, n=n, n_missing=missing, method=method),
        Estimate(named.DRIFT_ALARM, float(p < _ALARM), None, None, n, missing, told),
        replace(found, n_missing=missing, method=f"{told}, power {_POWER:g}"),
    ]


def _least_found(wavered: int, n: int, groups: int) -> Estimate:
    """Return the least share of changes that the anchors find, were its own changes as many as the audit saw.

    Args:
        wavered: Anchors that changed when the audit asked twice.
        n: Anchors asked twice.
        groups: Groups that they are of; where they repeat, they are what counts.
    """
    name, noise = named.DRIFT_DETECTABLE_FLIP_RATE, wavered / n
    least = detectable_flip_rate(noise, groups, level=1 - 2 * _ALARM, power=_POWER)
    if least is None:
        return undefined(name, f"{groups} anchors are too few to find any change", n=n)
    return Estimate(name, least, None, None, n, 0, "")
