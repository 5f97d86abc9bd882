"""Verbs on two Ray workers write what one process writes, also when a worker is killed.

Ray is no part of the ``dev`` extra (240 MB unpacked): these tests skip without it. ``.ci/run`` installs it, and runs
them after the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray_program
import tiny_models
import torch
from fake_server import FakeServer
from fake_server import serving as running

from perl_eval import building
from perl_eval.cluster.ray_workers import Cluster
from perl_eval.errors import UserError
from perl_eval.judges.registry import BackendOptions, open_judge
from perl_eval.judging import judge
from perl_eval.records import Completion, Judgement
from perl_eval.sampling import in_process
from perl_eval.scoring import score
from perl_eval.storage import parquet, run_folder

torch.set_num_threads(1)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"gpus": -1.0}, {"gpus": float("nan")}])
def test_impossible_clusters(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))} is"):
        Cluster(**wrong)


def test_ray_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"this needs ray; install the extra: pip install 'perl-eval\[ray\]'"):
        Cluster().connect()


def save_judge(folder: Path) -> None:
    """Write a language model whose random weights prefer one answer or the other."""
    tokenizer = tiny_models.tokenizer_of_a_judge()
    tiny_models.decided(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_coffee(upstream: Path) -> None:
    for number in range(7):
        rows = [
            {
                "conversation_id": f"c{place}",
                "context": json.dumps([{"role": "user", "text": f"a latte, number {place // 2}"}]),
                "generation": json.dumps({"role": "agent", "text": f"one {place}"}),
                "reward": float(place % 2),
            }
            for place in range(0 if number else 8)
        ]
        path = upstream / "TM-4-2024" / "reward" / f"reward_{number:02}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``here`` and ``ray``, each with what every verb wrote; ``said`` is what was printed."""
    pytest.importorskip("ray", reason="the extra ray is not installed; .ci/run installs it")
    folder = tmp_path_factory.mktemp("ray")
    tiny_models.save_blank(folder / "model")
    save_judge(folder / "judge")
    tiny_models.write_rows(folder / "data", test=tiny_models.prompts(4, 23))
    write_coffee(folder / "upstream")
    here = folder / "here"
    in_process.run(folder / "model", folder / "data", here / "sample", options=ray_program.SAMPLING)
    answers = run_folder.read(here / "sample", Completion)
    others = [
        replace(one, id=f"{one.id}b", policy="b", text=f"{one.text} and more"[: 3 + place % 9])
        for place, one in enumerate(answers)
    ]
    parquet.write(folder / "b" / "completions.parquet", others, Completion)
    with running(FakeServer(latency_s=0.05)) as chat:
        told = BackendOptions(local_batch=4, base_url=chat.url, price_in_usd=1.0, price_out_usd=2.0)
        for name, spec in (("local", f"local:{folder / 'judge'}"), ("chat", "chat:tiny")):
            opened = open_judge(spec, told)
            judge.run(here / "sample", folder / "b", here / name, judge=opened, options=ray_program.JUDGING)
        score.run([here / "local", here / "chat"], here / "score")
        options = building.BuildOptions(checksums="record", cache_dir=folder / "cache")
        building.run(
            "taskmaster-coffee",
            here / "build",
            config=["ratings", "pairs"],
            data_dir=folder / "upstream",
            options=options,
        )
        words = [sys.executable, str(Path(ray_program.__file__)), str(folder), chat.url]
        environment = {**os.environ, "OPENAI_API_KEY": "unused", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "said").write_text(done.stdout)
    (folder / "answered.json").write_text(json.dumps(list(chat.answered.values())))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        "sample/completions.parquet",
        "score/estimates.parquet",
        "build/ratings",
        "build/pairs",
        "build/README.md",
    ],
)
def test_the_files_are_those_of_one_process(file: str, outputs: Path) -> None:
    here, there = outputs / "here" / file, outputs / "ray" / file
    names = [path.relative_to(here) for path in sorted(here.rglob("*"))] if here.is_dir() else [Path()]
    assert names
    for name in names:
        assert (here / name).read_bytes() == (there / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "chat"])
def test_judgements_are_those_of_one_process_but_for_their_times(name: str, outputs: Path) -> None:
    """With the chat judge a worker was killed before it was asked anything, and while it answered."""
    here, there = (
        [
            replace(one, ballots=tuple(replace(ballot, latency_s=0.0) for ballot in one.ballots))
            for one in run_folder.read(outputs / place / name, Judgement)
        ]
        for place in ("here", "ray")
    )
    assert here == there
    assert len({one.outcome for one in here}) > 1
    assert not any(one.outcome == "unjudged" for one in there)
    schemas = [pq.read_schema(outputs / place / name / "judgements.parquet") for place in ("here", "ray")]
    assert schemas[0] == schemas[1]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["sample", "local", "chat", "score", "build"])
def test_run_cards_say_the_same_but_for_the_cost_of_running(verb: str, outputs: Path) -> None:
    cards = [run_folder.read_card(outputs / place / verb) for place in ("here", "ray")]
    assert cards[0] is not None
    assert cards[1] is not None
    for name in ("verb", "arguments", "seed", "inputs", "simulated"):
        assert getattr(cards[0], name) == getattr(cards[1], name), name


@pytest.mark.slow
def test_of_a_killed_worker_only_what_was_on_its_way_is_asked_again(outputs: Path) -> None:
    first, second = (int(line.split()[-1]) for line in (outputs / "said").read_text().splitlines() if "way" in line)
    answered = json.loads((outputs / "answered.json").read_text())
    assert first == 0 < second
    # Each question once here and once on Ray, but for the few whose answers died with their worker.
    assert min(answered) == 2
    assert sum(answered) <= 2 * len(answered) + second


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_errors_are_one_line(outputs: Path) -> None:
    said = (outputs / "said").read_text()
    assert (outputs / "tombstone").exists()
    assert f"doubled {[2 * number for number in range(12)]}" in said
    assert "refused 99 is not a number; give another" in said
    assert "no judge no judge 'scripted:nosuch'" in said
