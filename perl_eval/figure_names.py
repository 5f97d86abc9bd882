"""Names of figures, and of slices, that more than one module speaks of; `perl_eval.metrics.glossary` explains them."""

from __future__ import annotations

from typing import Final

TARGET: Final = "target"
TARGET_LINE: Final = "target at beta"
BEST_OF_LINE: Final = "best of n ="
WIN_RATE_UNDECIDED_HALF_ANYTIME: Final = "win rate, undecided half, anytime"
YES_RATE_ANYTIME: Final = "yes rate, anytime"
