"""What an unfinished comparison has done so far, in a hidden folder: the pool, and each method that is through."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perl_eval.bayes.language_model import Draws
from perl_eval.bayes.target import Weighed
from perl_eval.records import Completion, Estimate
from perl_eval.storage import parquet

__all__ = ["WORK", "Kept"]

WORK = ".methods"


@dataclass(frozen=True, slots=True)
class _Draw:
    """One draw of the prior: its prompt's number, its tokens, and what it weighs."""

    context: int
    sequence: tuple[int, ...]
    log_prior: float
    log_evidence: float


class Kept:
    """Reads what is there, and makes and writes what is not.

    Args:
        folder: The hidden folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pool(self, make: Callable[[], Weighed]) -> Weighed:
        """Return the draws of the prior."""
        path = self.folder / "pool.parquet"
        if not path.is_file():
            made = make()
            columns = (made.draws.contexts.tolist(), made.draws.sequences, made.log_prior, made.log_evidence)
            rows = [_Draw(c, s, float(p), float(e)) for c, s, p, e in zip(*columns, strict=True)]
            parquet.write(path, rows, _Draw)
            return made
        found = parquet.read(path, _Draw)
        log_prior = np.array([one.log_prior for one in found])
        contexts = np.array([one.context for one in found], np.int64)
        draws = Draws(contexts, tuple(one.sequence for one in found), log_prior)
        return Weighed(draws, log_prior, np.array([one.log_evidence for one in found]))

    def method(
        self, place: int, make: Callable[[], tuple[list[Estimate], list[Completion]]]
    ) -> tuple[list[Estimate], list[Completion]]:
        """Return the figures and answers of one method, by its place among the methods."""
        figures, answers = (self.folder / f"{place}-{kind}.parquet" for kind in ("estimates", "completions"))
        if not figures.is_file():
            made = make()
            parquet.write(answers, made[1], Completion)
            parquet.write(figures, made[0], Estimate)  # written last: where it is, both are
            return made
        return parquet.read(figures, Estimate), parquet.read(answers, Completion)

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)
