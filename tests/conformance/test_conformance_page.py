"""What the page says of a loss whose formula is known, and of one that only has a nearest formula."""

from __future__ import annotations

import pytest

from perl_eval.conformance.conformance_page import page, sentence
from perl_eval.conformance.diagnosis import LossDiagnosis
from perl_eval.conformance.loss_verdicts import EstimatorFindings
from perl_eval.conformance.measured_bias import Bias, WorldFindings


def findings(left: float) -> EstimatorFindings:
    biased = Bias(0.2, 0.0, 0.3, 1.0, 1.0, 0.4, 0.9, 0.0)
    world = WorldFindings("a world", biased, 1.0, 1, True, True, {}, 0.0, 0.0, 0.0)
    diagnosis = LossDiagnosis("raises r", ("sign of the KL",), 1.0, left, (), "")
    return EstimatorFindings("mine", "my-trainer", "1", "kl", "its formula", (world,), diagnosis)


@pytest.mark.parametrize(("left", "named"), [(1e-9, True), (0.4, False)])
def test_faults_are_named_of_a_formula_that_the_loss_has_alone(left: float, named: bool) -> None:
    one = findings(left)
    assert ("sign of the KL" in sentence(one)) is named
    assert ("sign of the KL" in page([one], [], [])) is named
    assert ("40% off" in page([one], [], [])) is not named
