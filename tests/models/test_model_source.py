"""Models of the hub, from a server that plays it and from its cache alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_hub
import pytest
import tiny_models
from command_line import Command
from huggingface_hub import constants

import perl_eval as pe
from perl_eval.errors import UserError
from perl_eval.judges.registry import open_judge
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.checkpoint_folder import base_of
from perl_eval.models.model_source import located
from perl_eval.records import Completion
from perl_eval.sampling.in_process import SampleOptions
from perl_eval.sampling.in_process import run as sample
from perl_eval.storage import hub_snapshot, remote, run_folder
from perl_eval.storage.executor import here

NAME = "Paint/Tiny-0.1B-Instruct"


@pytest.fixture
def held(blank: Path, tmp_path: Path) -> Path:
    """Return what the repository holds: a model, and what must never be taken."""
    folder = shutil.copytree(blank, tmp_path / "held")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling_tiny.py").write_text("raise SystemExit")
    (folder / "README.md").write_text("a card")
    (folder / "consolidated.safetensors").write_bytes(b"the weights once more")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def hub(held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.Hub]:
    """Return a hub that has one model, and a cache of its own."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with fake_hub.running(fake_hub.Hub()) as server:
        server.folders[NAME] = held
        point_at(server.address, monkeypatch)
        yield server


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_model_of_the_hub_is_brought_once_and_nothing_but_safetensors_and_texts(hub: fake_hub.Hub) -> None:
    folder = located(NAME)
    assert folder.name == hub.commit(NAME)
    assert {path.name for path in folder.rglob("*")} == {path.rpartition("/")[2] for path in hub.taken}
    assert {Path(name).suffix for name in hub.taken} == {".safetensors", ".json", ".jinja"}
    assert not [name for name in hub.taken if "consolidated" in name or "onnx" in name]
    before = len(hub.taken)
    assert located(NAME) == located(f"{NAME}@main") == located(f"{NAME}@{hub.commit(NAME)}") == folder
    assert len(hub.taken) == before


def test_a_revision_is_asked_for_by_branch_or_commit(hub: fake_hub.Hub, held: Path) -> None:
    first = located(f"{NAME}@v1")
    (held / "generation_config.json").write_text('{"eos_token_id": 1}')
    assert located(f"{NAME}@v1") != first
    assert hub_snapshot.name_of(first).startswith(f"{NAME}@")
    with pytest.raises(UserError, match=rf"^the hub's model {NAME} has no revision v9; check the part after @$"):
        located(f"{NAME}@v9")


def test_a_folder_of_that_name_comes_first(hub: fake_hub.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NAME).mkdir(parents=True)
    assert located(NAME) == Path(NAME)
    assert not hub.taken


@pytest.mark.parametrize(
    "typed", ["scratch:tiny", "nowhere", "/no/where", "./a/b", "../a", "a/b/c", "a/b@", "s3://a/b", "a b/c", "a/.b"]
)
def test_what_has_not_the_form_of_a_name_is_left_as_it_is(hub: fake_hub.Hub, typed: str) -> None:
    assert located(typed) == Path(typed)


def test_what_the_hub_has_not_is_one_line_that_names_what_was_typed(hub: fake_hub.Hub) -> None:
    with pytest.raises(UserError) as caught:
        located("Paint/Other")
    line = "no model at Paint/Other: there is no such folder, and the hub shows no model of that name; check the name"
    assert str(caught.value).startswith(line)
    hub.gated.add(NAME)
    with pytest.raises(UserError, match=f"^the hub's model {NAME} is gated; accept its terms"):
        located(NAME)


def test_a_repository_without_safetensors_is_refused(hub: fake_hub.Hub, held: Path) -> None:
    (held / "model.safetensors").unlink()
    with pytest.raises(UserError, match=f"^the hub's model {NAME} has no safetensors weights"):
        located(NAME)
    assert "pytorch_model.bin" not in str(hub.taken)


def test_without_a_network_the_cache_is_enough_and_else_one_line_says_why(
    hub: fake_hub.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = located(NAME)
    offline(monkeypatch)
    assert located(NAME) == folder
    with pytest.raises(UserError) as caught:
        located("Paint/Other@v2")
    assert str(caught.value) == (
        "no model at Paint/Other@v2: there is no such folder, and HF_HUB_OFFLINE is set and the hub's cache does not "
        "hold it; check the name and the network"
    )


def test_a_hub_that_does_not_answer_is_one_line(hub: fake_hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound and not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        point_at(nobody, monkeypatch)
        with pytest.raises(UserError, match=r"and the hub cannot be asked \(.*\); check the name and the network$"):
            located("Paint/Other")


def test_the_card_says_name_commit_and_sha256(hub: fake_hub.Hub, tmp_path: Path) -> None:
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.prompts(1, 2))
    options = SampleOptions(max_new_tokens=2, max_tokens=64)
    answers = pe.sample(NAME, data, out=tmp_path / "answers", options=options)
    assert {answer.policy for answer in answers} == {"Tiny-0.1B-Instruct"}
    card = run_folder.read_card(tmp_path / "answers")
    assert card is not None
    named = f"{NAME}@{hub.commit(NAME)}"
    assert card.arguments["model"] == named
    folder = located(NAME)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert card.inputs[named] == hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    # what another program puts beside them is not the model
    for name in ("README.md", "consolidated.safetensors", "pytorch_model.bin", "onnx/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("another's")
    assert run_folder.fingerprint(folder) == card.inputs[named]
    (folder / "config.json").write_text("{}")
    assert run_folder.fingerprint(folder) != card.inputs[named]


def test_workers_are_told_the_name_and_not_this_machines_cache(hub: fake_hub.Hub, tmp_path: Path) -> None:
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.prompts(1, 2))
    told: list[str] = []

    def spread(work: Any, pieces: Any) -> Any:
        told.append(str(work.model))
        return here(work, pieces)

    options = SampleOptions(max_new_tokens=2, max_tokens=64)
    sample(Path(NAME), data, tmp_path / "answers", options=options, spread=spread)
    assert told == [f"{NAME}@{hub.commit(NAME)}"]


def test_an_adapter_on_a_model_of_the_hub_names_it_by_commit(
    hub: fake_hub.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = open_backbone(Path(NAME))
    backbone.attach("policy", LoraShape(rank=2, targets=("q_proj",)), seed=0)
    backbone.save("policy", tmp_path / "policy")
    saved = json.loads((tmp_path / "policy" / "base.json").read_text())
    assert saved == {"path": f"{NAME}@{hub.commit(NAME)}", "sha256": backbone.sha256}
    config = json.loads((tmp_path / "policy" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (NAME, hub.commit(NAME))
    offline(monkeypatch)
    assert base_of(tmp_path / "policy").path == located(NAME)
    assert open_backbone(tmp_path / "policy").sha256 == backbone.sha256
    (tmp_path / "policy" / "base.json").unlink()  # as plain peft writes it
    again = open_backbone(tmp_path / "policy")
    again.attach_saved("policy", tmp_path / "policy")


def test_every_verb_that_takes_a_model_takes_one_of_the_hub(
    hub: fake_hub.Hub, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_models.write_rows(Path("data/demonstrations"), train=tiny_models.demonstrations(1, 8))
    tiny_models.write_rows(
        Path("data/preferences"), train=tiny_models.preferences(1, 8), test=tiny_models.preferences(2, 4)
    )
    tiny_models.write_rows(Path("data/prompts"), train=tiny_models.prompts(1, 4), test=tiny_models.prompts(2, 2))
    short = "--max-tokens 96 --max-new-tokens 2 --device cpu"
    sft = f"train sft --data data/demonstrations --model {NAME} --epochs 1 --batch 8 --max-tokens 96 --device cpu"
    reward = f"train reward --data data/preferences --epochs 1 --batch 8 {short}"
    for line in (
        f"{sft} --lora --rank 2 --out sft",
        f"{reward} --prior {NAME} --rank 2 --out reward",
        f"{reward} --prior {NAME} --full --out whole",
        f"train policy --data data/prompts --prior {NAME} --reward reward --steps 1 --batch 4 --out policy {short}",
        f"sample --model {NAME}@main --data data/prompts --out said {short}",
        f"posterior --data data/prompts --prior {NAME} --reward reward --policy policy --beta 1 --pool 4 --draws 2"
        " --n 2 --most 4 --max-tokens 96 --max-new-tokens 2 --out posterior",
        f"ablate --data data --sizes {NAME} --ranks 1 --no-full --seeds 1 --reward-epochs 1 --steps 1 --batch 4"
        f" --prompts 2 --draws 1 --out ablate {short}",
    ):
        shown = command(line)
        assert shown.code in (0, None), (line, shown)
    card = Path("sft/README.md").read_text()
    assert f"base_model: {NAME}\n" in card
    assert f"from `{NAME}@{hub.commit(NAME)}`" in card
    hub.folders["Paint/Reward"] = tmp_path / "whole"
    judge = open_judge("reward:Paint/Reward")
    assert judge.model.startswith("Reward@")
    ablation = run_folder.read_card(Path("ablate"))
    assert ablation is not None
    assert f"{NAME}@{hub.commit(NAME)}" in ablation.inputs


def test_a_judge_may_be_a_model_of_the_hub(hub: fake_hub.Hub, tmp_path: Path) -> None:
    tokenizer = tiny_models.tokenizer_of_a_judge()
    tiny_models.decided(tokenizer).save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    hub.folders["Paint/Judge"] = tmp_path / "judge"
    named, plain = open_judge("local:Paint/Judge"), open_judge(f"local:{tmp_path / 'judge'}")
    assert named.model.startswith("Judge@")
    assert named.parameters == plain.parameters


@pytest.mark.parametrize(
    "line",
    [
        "sample --model {} --data data --out out",
        "train sft --data data --model {} --out out",
        "train reward --data data --prior {} --out out",
        "train policy --data data --prior sft --reward {} --out out",
        "judge said --judge local:{} --prompt harmful --out out",
        "judge said --judge reward:{} --prompt harmful --out out",
        "posterior --data data --prior {} --reward r --beta 1 --out out",
        "ablate --data data --sizes tiny,{} --out out",
    ],
)
def test_an_unknown_model_is_one_line_everywhere(
    hub: fake_hub.Hub, tmp_path: Path, fails: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_models.write_rows(Path("data"), test=tiny_models.prompts(1, 2))
    Path("sft").mkdir()
    run_folder.parquet.write(Path("said/completions.parquet"), [], Completion)
    assert "no model at Paint/Other: there is no such folder, and the hub shows no" in fails(line.format("Paint/Other"))


def test_a_name_round_trips() -> None:
    place = Path("/c/models--Qwen--Qwen2.5-0.5B/snapshots") / ("0" * 40)
    assert remote.shown(place) == f"Qwen/Qwen2.5-0.5B@{'0' * 40}"
    assert hub_snapshot.label(place) == "Qwen2.5-0.5B"
    assert hub_snapshot.name_of(place.parent) == hub_snapshot.name_of(place / "x") == ""


def test_the_program_itself_asks_the_hub_of_the_environment(hub: fake_hub.Hub, tmp_path: Path) -> None:
    """Nothing is put in anyone's place here but the hub, by the variable that its own client reads."""
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.prompts(1, 2))

    def run(name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        words = ["sample", "--model", name, "--data", str(data), "--out", str(tmp_path / "out"), "--device", "cpu"]
        words += ["--max-tokens", "64", "--max-new-tokens", "2"]
        settings = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(tmp_path / "own"), "HF_HUB_OFFLINE": "0"}
        return subprocess.run(
            [sys.executable, "-m", "perl_eval.cli", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, **settings, **variables},
        )

    unknown = run("Paint/Other")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith(
        "error: no model at Paint/Other: there is no such folder, and the hub shows no model"
    )
    assert len(unknown.stderr.splitlines()) == 1
    done = run(f"{NAME}@v1")
    assert done.returncode == 0, done.stderr
    again = run(f"{NAME}@v1", HF_HUB_OFFLINE="1")  # the same run, from the cache
    assert again.returncode == 0, again.stderr
