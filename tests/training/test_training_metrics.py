"""The glossary of metrics is what is logged, for every verb, and reaches model card and tracker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny_models
from fake_rollouts import RolloutServer, serving

from perl_eval.errors import UserError
from perl_eval.metrics.glossary import CURVES, curve_glossary
from perl_eval.models.adapters import LoraShape
from perl_eval.records import Measurement
from perl_eval.storage import run_folder
from perl_eval.training import dpo, policy, reward, sft
from perl_eval.training.resources import Resources, tracked
from perl_eval.training.server_rollouts import ServerRollouts

SHAPE = LoraShape(2)


@pytest.fixture(scope="module")
def folders(room: Path, prior: Path) -> dict[str, list[Path]]:
    """Return a run or more of every verb, so that each of its metrics can occur."""
    place = room / "metrics"
    demonstrations = tiny_models.write_rows(
        place / "demonstrations", train=tiny_models.demonstrations(1, 20), validation=tiny_models.demonstrations(2, 8)
    )
    pairs = tiny_models.write_rows(
        place / "pairs", train=tiny_models.preferences(1, 20), validation=tiny_models.preferences(2, 8)
    )
    prompts = tiny_models.write_rows(place / "prompts", train=tiny_models.prompts(1, 12))
    imitate = sft.SftOptions(str(prior), epochs=1, batch=10, max_tokens=32, lora=SHAPE)
    score = reward.RewardOptions(epochs=1, batch=10, max_tokens=40, max_new_tokens=6, normalise_on=8, lora=SHAPE)
    aim = policy.PolicyOptions(steps=2, batch=6, max_new_tokens=6, max_tokens=40, lora=SHAPE)
    made = {"train sft": [sft.run(demonstrations, place / "sft", options=imitate)]}
    made["train reward"] = [reward.run(pairs, prior, place / "reward", options=score)]
    rated = tiny_models.write_rows(
        place / "rated", train=tiny_models.ratings(1, 20), validation=tiny_models.ratings(2, 8)
    )
    direct = dpo.DpoOptions(batch=10, max_tokens=40, lora=SHAPE)
    made["train dpo"] = [
        dpo.run(given, prior, place / f"dpo-{number}", options=direct) for number, given in enumerate((pairs, rated))
    ]
    judge = made["train reward"][0]
    with serving(RolloutServer(prior)) as server:
        arms = (
            replace(aim, kl="loss", watch=(judge,), full_kl=True),
            replace(aim, group=2, objective="grpo", kl="k3"),
            replace(aim, group=2, rollouts=ServerRollouts(server.url)),
        )
        made["train policy"] = [
            policy.run(prompts, prior, judge, place / f"policy-{number}", options=options)
            for number, options in enumerate(arms)
        ]
    return made


@pytest.mark.parametrize("verb", CURVES)
def test_the_glossary_is_what_is_logged(folders: dict[str, list[Path]], verb: str) -> None:
    logged = {point.metric for folder in folders[verb] for point in run_folder.read(folder, Measurement)}
    assert logged == CURVES[verb].keys()


@pytest.mark.parametrize("verb", CURVES)
def test_a_model_card_says_what_it_is_and_how_to_load_it(folders: dict[str, list[Path]], verb: str) -> None:
    from huggingface_hub import ModelCard

    for folder in folders[verb]:
        card = ModelCard.load(folder / "README.md")
        adapter = (folder / "adapter_config.json").is_file()
        assert card.data.library_name == ("peft" if adapter else "transformers")
        assert card.data.base_model
        assert ("PeftModel.from_pretrained" in card.text) == adapter
        assert curve_glossary(verb) in card.text
        assert "| peak memory bytes |" in card.text
        assert ("head.safetensors" in card.text) == (verb == "train reward")


@pytest.mark.parametrize("verb", CURVES)
def test_the_run_card_carries_the_meter(folders: dict[str, list[Path]], verb: str) -> None:
    for folder in folders[verb]:
        card = run_folder.read_card(folder)
        assert card is not None
        notes = card.notes
        parts = {"train policy": ("sampling", "scoring", "learning")}.get(verb, ("learning",))
        assert all(notes[f"seconds {part}"] > 0 for part in parts)
        assert notes["tokens a second"] > 0
        assert 0 < notes["trained share"] < 1
        assert notes["bytes of moments"] == 2 * notes["bytes of gradients"]
        assert notes["bytes of weights"] == 4 * notes["parameters"]
        assert notes["peak memory bytes"] >= 0


class Recorder:
    """A tracker in accelerate's form."""

    name, requires_logging_directory = "recorder", True
    calls: ClassVar[list[Any]] = []

    def __init__(self, run_name: str, logging_dir: Path) -> None:
        self.calls.append((run_name, logging_dir))

    def start(self) -> None:
        self.calls.append("start")

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append((step, sorted(values)))

    def finish(self) -> None:
        self.calls.append("finish")


def test_a_tracker_gets_every_step_as_it_comes(prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import tracking

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "recorder", Recorder)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [type("Kind", (), {"value": "recorder"})()])
    Recorder.calls.clear()
    prompts = tiny_models.write_rows(tmp_path / "prompts", train=tiny_models.prompts(1, 12))
    options = policy.PolicyOptions(
        steps=2, batch=6, max_new_tokens=6, max_tokens=40, lora=SHAPE, resources=Resources(tracker="recorder")
    )
    out = policy.run(prompts, prior, lambda _, rollouts: [0.0] * len(rollouts), tmp_path / "out", options=options)
    first, *middle, last = Recorder.calls
    assert first == ("out", out / "recorder")
    assert (middle[0], last) == ("start", "finish")
    names = {point.metric for point in run_folder.read(out, Measurement)}
    assert [(step, set(found)) for step, found in middle[1:]] == [(0, names), (1, names)]


def test_tensorboard_by_name(prior: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with tracked("tensorboard", tmp_path, main=True) as log:
        assert log is not None
        log(0, {"loss": 1.0})
    assert list((tmp_path / "tensorboard").rglob("events*"))


def test_trackers_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import tracking

    monkeypatch.setattr(tracking, "get_available_trackers", list)
    with pytest.raises(UserError, match="no tracker 'abacus'; choose from"), tracked("abacus", tmp_path, main=True):
        pass
    with pytest.raises(UserError, match="pip install trackio"), tracked("trackio", tmp_path, main=True):
        pass
    with tracked("abacus", tmp_path, main=False) as log:
        assert log is None
    with tracked("", tmp_path, main=True) as log:
        assert log is None
