"""A conformance suite for losses of RL trainers: exact gradients in languages that can be listed.

An adapter is a Python file with a function ``estimators() -> list[Estimator]``; a loss takes a `Batch`.
"""

from perl_eval.conformance.batch import Batch, Estimator
from perl_eval.conformance.suite import ConformanceOptions, run

__all__ = ["Batch", "ConformanceOptions", "Estimator", "run"]
