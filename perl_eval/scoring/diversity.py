"""The verb `score` on completions: how varied they are."""

from __future__ import annotations

from pathlib import Path

from perl_eval.errors import UserError
from perl_eval.metrics.judgement_estimates import ScoreOptions
from perl_eval.records import About, Completion, Estimate
from perl_eval.scoring.score import _is_simulated
from perl_eval.stats.diversity import diversity
from perl_eval.stats.intervals import about
from perl_eval.storage import run_folder

__all__ = ["run_diversity"]


def run_diversity(completions: Path, out: Path, *, options: ScoreOptions | None = None) -> Path:
    """Estimate how varied the completions of each policy are.

    Args:
        completions: A file or run folder of Completion records.
        out: Output folder.
        options: How figures are estimated; only the level counts.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There are no completions.
    """
    how = options or ScoreOptions()
    records = run_folder.read(completions, Completion)
    simulated = _is_simulated(completions)
    started = run_folder.start(
        out,
        verb="score diversity",
        arguments={"level": how.resampling.level},
        inputs={"completions": completions},
        simulated=simulated,
    )
    with started as progress:
        if progress.done:
            return progress.folder
        if not records:
            raise UserError(f"{completions} holds no completions", "sample some first")
        found: list[Estimate] = []
        for policy in sorted({record.policy for record in records}):
            own = [record for record in records if record.policy == policy]
            estimates = diversity(
                [record.text for record in own], [record.item for record in own], level=how.resampling.level
            )
            found += about(estimates, About(policy=policy), simulated=simulated)
        progress.write(found, Estimate)
    return progress.folder
