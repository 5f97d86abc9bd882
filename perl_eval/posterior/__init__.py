"""The verb ``posterior``: policies and decoding-time samplers held against the target they all aim at."""

from __future__ import annotations

from perl_eval.posterior.compare import run
from perl_eval.posterior.problem import SAMPLERS, Models, PosteriorOptions

__all__ = ["SAMPLERS", "Models", "PosteriorOptions", "run"]
