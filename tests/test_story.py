"""The whole chain on the embedded world, small, through the demo's own steps; and again after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perl_eval import demo
from perl_eval.records import Estimate
from perl_eval.storage import run_folder

SMALL = demo.DemoSize(
    demonstrations=400,
    preferences=300,
    prompts=60,
    sft_epochs=1.0,
    reward_epochs=0.5,
    policy_steps=4,
    judged_prompts=12,
)
PROGRAM = f"""
from pathlib import Path
from perl_eval import demo
demo.run(Path({{out!r}}), size=demo.{SMALL!r})
"""


def figures(out: Path) -> dict[tuple[str, str], Estimate]:
    return {(one.subject, one.name): one for one in demo.headline(out)}


def outputs(out: Path) -> dict[str, dict[str, str]]:
    """Return every run folder's output checksums; two equal runs have equal ones."""
    return {folder.relative_to(out).as_posix(): dict(card.outputs) for folder, card in run_folder.find_cards(out)}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("story") / "demo"
    page = demo.run(out, size=SMALL)
    assert page == out / "report.html"
    return out


@pytest.mark.slow
def test_the_chain_runs_from_data_to_page(told: Path) -> None:
    verbs = {card.verb for _, card in run_folder.find_cards(told)}
    wanted = {
        "build",
        "train sft",
        "train reward",
        "train policy",
        "sample",
        "judge",
        "score",
        "score diversity",
        "agree",
        "label",
        "truth",
    }
    assert verbs == wanted
    page = (told / "report.html").read_text("utf-8")
    assert "simulated" in page
    assert "Content-Security-Policy" in page


@pytest.mark.slow
def test_position_alone_never_wins(told: Path) -> None:
    figure = figures(told)[("rl against sft, judge constant", "win rate")]
    assert figure.value == 0
    split = figures(told)[("rl against sft, judge constant", "first in both orders")]
    assert split.value == figure.n == 4 * SMALL.judged_prompts


@pytest.mark.slow
def test_truth_stands_beside_what_was_judged(told: Path) -> None:
    found = figures(told)
    for policy in demo.POLICIES:
        true = found[(policy, "true reward")]
        assert true.value is not None
        assert 0 <= true.value <= 1
        assert (policy, "learned reward") in found
    assert ("rl against sft, judge world", "true win rate") in found
    assert ("judge world", "human-human exact agreement") in found
    assert all(one.simulated for one in found.values())


@pytest.mark.slow
def test_a_second_call_computes_nothing(told: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in told.rglob("*.parquet")}
    demo.run(told, size=SMALL)
    assert {path: path.stat().st_mtime_ns for path in told.rglob("*.parquet")} == before


@pytest.mark.slow
def test_killed_and_started_again_gives_the_same_files(told: Path, tmp_path: Path) -> None:
    """SIGKILL as soon as the reward model is under way, then the same call: every output equals the unbroken run's."""
    out = tmp_path / "demo"
    program = [sys.executable, "-c", PROGRAM.format(out=str(out))]
    first = subprocess.Popen(program, stderr=subprocess.DEVNULL, env={**os.environ, "TOKENIZERS_PARALLELISM": "false"})
    deadline_s = time.monotonic() + 120
    while not (out / "reward").is_dir() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (out / "report.html").exists()
    demo.run(out, size=SMALL)
    assert outputs(out).keys() == outputs(told).keys()
    # The reward judge's name covers its backbone's path, so its units are summed in another order.
    unbroken, resumed = comparable(figures(told)), comparable(figures(out))
    assert resumed.keys() == unbroken.keys()
    for key, (value, low, high) in resumed.items():
        assert (value, low, high) == pytest.approx(unbroken[key], rel=1e-9, nan_ok=False), key


def comparable(found: dict[tuple[str, str], Estimate]) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return the figures by a subject without the reward model's checksum, which covers its backbone's path."""
    return {
        (subject.split("@")[0], name): (one.value or 0.0, one.low or 0.0, one.high or 0.0)
        for (subject, name), one in found.items()
    }
