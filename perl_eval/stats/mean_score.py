"""What scores on a scale come to."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.intervals import mean, resampled_mean, undefined

__all__ = ["mean_score"]

_NAME = named.MEAN_SCORE


def mean_score(
    scores: Sequence[float | None],
    *,
    clusters: Sequence[Hashable],
    level: float = 0.95,
    resampling: Resampling | None = None,
) -> Estimate:
    """Estimate the mean score of some answers.

    Args:
        scores: One an answer; None where it could not be had, which counts as missing and as nothing else.
        clusters: What shares a source, one an answer.
        level: Confidence level; that of ``resampling`` counts where it is given.
        resampling: If given, the interval is a bootstrap interval over clusters; else Student's t, clustered.
    """
    known = [(score, cluster) for score, cluster in zip(scores, clusters, strict=True) if score is not None]
    missing = len(scores) - len(known)
    if not known:
        return undefined(_NAME, "no answer has a score", n_missing=missing)
    values, groups = [score for score, _ in known], [cluster for _, cluster in known]
    if resampling is not None:
        return resampled_mean(_NAME, values, clusters=groups, n_missing=missing, resampling=resampling)
    return mean(_NAME, values, clusters=groups, n_missing=missing, level=level)
