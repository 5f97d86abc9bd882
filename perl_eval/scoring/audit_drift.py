"""Whether a judge has drifted since its audit, on the anchors that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perl_eval import figure_names as named
from perl_eval.errors import UserError
from perl_eval.records import About, Estimate, Judgement
from perl_eval.scoring.audit_figures import SAME, said
from perl_eval.scoring.audit_options import AuditOptions
from perl_eval.stats.intervals import about, p_value, proportion
from perl_eval.storage import run_folder

__all__ = ["ANCHORS", "drift"]

ANCHORS = "anchors.parquet"
"""The labelled judgements that `drift` compares later ones with."""


_EXPECTED_FLIPS = 0.05
"""Share of outcomes taken to change by chance where the audit asked nothing twice."""


_ALARM = 0.01


def drift(anchors: Path, now: Path, out: Path, *, options: AuditOptions | None = None) -> Path:
    """Compare a judge's outcomes, or scores, on the anchors with those it gave when it was audited.

    The alarm rings (``drift alarm`` is 1) if more outcomes changed than chance explains: an exact one-sided binomial
    test, at 1 %, against the share that changed when the audit asked twice (its upper bound; 5 % if it did not ask
    twice).

    Args:
        anchors: The output folder of `run`, or the anchors in it.
        now: Judgements of the same units by the same judge with the same prompt, made now.
        out: Output folder.
        options: Only the level counts.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: No anchor was judged again.
    """
    how = options or AuditOptions()
    frozen = anchors / ANCHORS if anchors.is_dir() else anchors
    then, later = run_folder.read(frozen, Judgement), run_folder.read(now, Judgement)
    figures = frozen.with_name(run_folder.FILES[Estimate])
    known = run_folder.read(figures, Estimate) if figures.is_file() else []
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
        fresh = {(record.judge, record.prompt_sha256, record.unit): said(record) for record in later}
        for judge in sorted({record.judge for record in then}):
            asked = [record for record in then if record.judge == judge]
            own = [record for record in asked if (judge, record.prompt_sha256, record.unit) in fresh]
            missing = len(asked) - len(own)
            flips = [said(record) != fresh[judge, record.prompt_sha256, record.unit] for record in own]
            if flips:
                changed = _flips(flips, missing, _expected(known, judge), how)
                found += about(changed, About(judge=judge), simulated=any(record.simulated for record in own))
        if not found:
            raise UserError(
                f"{now} holds no judgement of an anchor",
                "judge what the anchors are of, with the same judge and prompt",
            )
        progress.write(found, Estimate)
    return progress.folder


def _expected(audited: Sequence[Estimate], judge: str) -> float:
    """Return the share of flips that the audit leaves possible without drift."""
    for estimate in audited:
        if estimate.name == SAME and estimate.subject == About(judge=judge).sentence and estimate.low is not None:
            return 1 - estimate.low
    return _EXPECTED_FLIPS


def _flips(flips: Sequence[bool], missing: int, expected: float, how: AuditOptions) -> list[Estimate]:
    from scipy.stats import binomtest

    n, method = len(flips), f"exact binomial test against {expected:.3f}"
    p = float(binomtest(sum(flips), n, expected, alternative="greater").pvalue)
    return [
        proportion(named.FLIP_RATE, flips, n_missing=missing, level=how.resampling.level),
        p_value(named.DRIFT_P, p, n=n, n_missing=missing, method=method),
        Estimate(named.DRIFT_ALARM, float(p < _ALARM), None, None, n, missing, f"{method}, at {_ALARM:g}"),
    ]
