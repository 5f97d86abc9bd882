"""What was measured, one file a finished part, so that a stopped run goes on where it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perl_eval.conformance.batch import Estimator
from perl_eval.conformance.diagnosis import LossDiagnosis
from perl_eval.conformance.measured_bias import Bias, WorldFindings
from perl_eval.conformance.training_end import TrainingEnd
from perl_eval.records import digest
from perl_eval.storage.parquet import replace_file

__all__ = ["DIAGNOSIS", "TRAINING", "KeptCells"]

DIAGNOSIS = "diagnosis"
TRAINING = "training"
"""The parts of a run that are no world."""


class KeptCells:
    """Parts of a run by name, kept as JSON files.

    Args:
        folder: Where they are kept; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, estimator: Estimator, part: str) -> Path:
        told = (estimator.name, estimator.package, estimator.version, estimator.objective, part)
        slug = re.sub(r"\W+", "-", f"{estimator.name} {part}")[:80]
        return self.folder / f"{slug}-{digest(*told)}.json"

    def has(self, estimator: Estimator, part: str) -> bool:
        """Return whether a part is kept."""
        return self._path(estimator, part).is_file()

    def _kept(self, estimator: Estimator, part: str, made: Callable[[], Any]) -> dict[str, Any]:
        path = self._path(estimator, part)
        if not path.is_file():
            text = json.dumps(asdict(made()), allow_nan=False)
            replace_file(path, lambda partial: Path(partial).write_text(text, "utf-8"))
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return content

    def world(self, estimator: Estimator, part: str, made: Callable[[], WorldFindings]) -> WorldFindings:
        """Return what was found in a world, measured if it was not yet."""
        told = self._kept(estimator, part, made)
        after = {updates: Bias(**one) for updates, one in told["after"].items()}
        return WorldFindings(**{**told, "bias": Bias(**told["bias"]), "after": after})

    def diagnosis(self, estimator: Estimator, made: Callable[[], LossDiagnosis]) -> LossDiagnosis:
        """Return the nearest formula, sought if it was not yet."""
        told = self._kept(estimator, DIAGNOSIS, made)
        return LossDiagnosis(**{**told, "faults": tuple(told["faults"]), "also": tuple(told["also"])})

    def end(self, estimator: Estimator, made: Callable[[], TrainingEnd]) -> TrainingEnd:
        """Return where training ends, trained if it was not yet."""
        return TrainingEnd(**self._kept(estimator, TRAINING, made))
