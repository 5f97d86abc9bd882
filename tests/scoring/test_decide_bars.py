"""What decisions promise, in a few runs of the simulations of benchmarks/decide.py, which has many."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from perl_eval.metrics.policy_comparisons import comparisons
from perl_eval.metrics.policy_decisions import decided


@pytest.fixture(scope="module")
def simulated() -> ModuleType:
    path = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "decide.py"
    specification = importlib.util.spec_from_file_location("benchmark_of_decide", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    specification.loader.exec_module(module)
    return module


def test_a_judge_kinder_to_one_policy_decides_for_the_wrong_side_in_few_runs(simulated: ModuleType) -> None:
    found = simulated.of_a_kinder_judge(np.random.default_rng(1), 300)
    assert found["wrong side"] <= 0.025
    assert 0.92 <= found["coverage"] <= 0.98
    assert found["wrong by the judge alone"] > 0.95


def test_ten_equal_policies_are_rarely_told_apart(simulated: ModuleType) -> None:
    assert simulated.of_equal_policies(np.random.default_rng(1), 60)["family-wise error"] <= 0.07


@pytest.mark.slow
def test_labels_may_be_looked_at_again_and_again_with_anytime(simulated: ModuleType) -> None:
    found = simulated.of_looking(np.random.default_rng(1), 60)
    assert found["decided for no reason, anytime"] <= 0.05 < found["decided for no reason"]


@pytest.mark.slow
def test_places_hold_and_the_labels_asked_for_are_right_within_a_fifth(simulated: ModuleType) -> None:
    assert simulated.of_places(np.random.default_rng(1), 60)["all places hold"] >= 0.9
    found = simulated.of_labels_needed(np.random.default_rng(1), 40)
    assert found["labels asked for"] == pytest.approx(found["labels needed"], rel=0.2)


_MEASURED = """
import sys, time
from pathlib import Path
from perl_eval.scoring import decide
begun, place = time.process_time(), Path(sys.argv[1])
_, said = decide.run(place / "judged", place / "decided", labels=place / "people")
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024**2
print(len(said), time.process_time() - begun, peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of this program alone is read from /proc")
def test_a_million_judgements_are_decided_in_ten_seconds_of_work_and_one_gib(
    simulated: ModuleType, tmp_path: Path
) -> None:
    simulated.write(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path)], capture_output=True, text=True, timeout=600, check=True
    )
    comparisons_made, seconds, gib = map(float, ran.stdout.split())
    assert comparisons_made == 45
    assert seconds < 10
    assert gib < 1


@pytest.mark.parametrize("labels", [0, 2])
def test_a_judge_whose_j_nobody_knows_ranks_nobody(simulated: ModuleType, labels: int) -> None:
    """However clear the judge is: its difference may be that of its errors."""
    rng = np.random.default_rng(2)
    truth = rng.random((3, 400)) < np.array([[0.2], [0.5], [0.9]])
    given = simulated.units(truth, truth, np.arange(labels))
    said = decided(comparisons(given))
    assert [part.verdict for part in said] == ["not decided"] * 3
    assert all(part.gap is None and part.p is None for part in said)
    assert simulated.placed(comparisons(given), said) == []
    assert {part.verdict for part in decided(comparisons(given), judge_alone=True)} == {"worse"}
