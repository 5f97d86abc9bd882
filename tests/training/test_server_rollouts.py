"""Policies whose samples come from a server: by adapter or by folder, and weighed for what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from fake_rollouts import RolloutServer, serving
from serving import transformers_serve

from perl_eval.errors import OptionError, UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.generate import Rollout
from perl_eval.records import Measurement
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder
from perl_eval.training import policy
from perl_eval.training.policy import POLICY, PolicyOptions, PolicyTrainer
from perl_eval.training.reinforce import cast
from perl_eval.training.server_rollouts import ServerRollouts

OPTIONS = PolicyOptions(
    steps=3, batch=12, learning_rate=3e-2, beta=0.1, max_new_tokens=6, max_tokens=40, lora=LoraShape(4)
)
GRPO = replace(OPTIONS, objective="grpo", group=4)


def by_length(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
    return [float(len(rollout.ids)) for rollout in rollouts]


@pytest.fixture(scope="module")
def data(room: Path) -> Path:
    return tiny_models.write_rows(room / "served-prompts", train=tiny_models.prompts(5, 24))


def trained(
    server: RolloutServer, data: Path, folder: Path, options: PolicyOptions = OPTIONS
) -> dict[str, list[float]]:
    with serving(server):
        options = replace(options, rollouts=ServerRollouts(server.url, attempts=3))
        backbone = open_backbone(server.prior)
        made = PolicyTrainer(cast(backbone, options, seed=0), rows.read(data, "train"), by_length, options, seed=0)
        curve: dict[str, list[float]] = {}
        for point in made.train(folder).curve:
            curve.setdefault(point.metric, []).append(point.value)
    return curve


@pytest.mark.parametrize("options", [OPTIONS, GRPO])
def test_each_batch_is_sampled_from_the_policy_as_it_is(
    prior: Path, data: Path, tmp_path: Path, options: PolicyOptions
) -> None:
    server = RolloutServer(prior)
    curve = trained(server, data, tmp_path, options)
    assert curve["KL to prior"][0] == 0.0
    assert max(map(abs, curve["KL to prior"])) > 0.01
    assert curve["weight for the engine"] == pytest.approx([1.0] * 3, abs=1e-4)
    paths = [path for path, _ in server.asked]
    assert paths.count("/v1/load_lora_adapter") == paths.count("/v1/unload_lora_adapter") == 3
    assert paths.count("/v1/completions") == 36
    assert not server.loaded
    assert not list((tmp_path / ".rollouts").rglob("*.safetensors"))
    body = next(body for path, body in server.asked if path == "/v1/completions")
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)


def test_a_server_that_keeps_an_old_adapter_shows_in_the_weights(prior: Path, data: Path, tmp_path: Path) -> None:
    curve = trained(RolloutServer(prior, stale=True), data, tmp_path)
    assert curve["weight for the engine"][0] == pytest.approx(1.0, abs=1e-4)
    assert max(abs(one - 1) for one in curve["weight for the engine"][1:]) > 0.01


def test_what_another_engine_samples_is_weighed_by_truncated_ratios(prior: Path, data: Path) -> None:
    """A token that the server has at half its chance counts twice; beyond the cap it counts as the cap."""
    gradients = {}
    for off, cap in ((0.0, 3.0), (-float(np.log(2)), 3.0), (-float(np.log(2)), 1.5)):
        with serving(RolloutServer(prior, off=off)) as server:
            options = replace(GRPO, beta=0.0, rollouts=ServerRollouts(server.url, cap))
            backbone = open_backbone(prior)
            made = PolicyTrainer(cast(backbone, options, seed=0), rows.read(data, "train"), by_length, options, seed=0)
            tiny_models.stir(backbone, POLICY, size=0.05)
            made.server = policy_server(made, prior)
            figures = made.learn(0)
        gradients[off, cap] = [one.grad.clone() for one in made.parts()[POLICY].values() if one.grad is not None]
        assert figures["weight for the engine"] == pytest.approx(min(cap, float(np.exp(-off))), abs=1e-3)
    one, two, capped = gradients.values()
    assert max(float(part.abs().max()) for part in one) > 1e-4
    for plain, doubled, short in zip(one, two, capped, strict=True):
        assert torch.allclose(doubled, 2 * plain, atol=1e-5)
        assert torch.allclose(short, 1.5 * plain, atol=1e-5)


def policy_server(made: PolicyTrainer, prior: Path) -> Any:
    from perl_eval.training.server_rollouts import ServerSampler

    assert made.options.rollouts is not None
    return ServerSampler(made.options.rollouts, made.backbone, POLICY, prior.parent / "offered")


def test_a_server_of_text_and_folders_serves_too(prior: Path, data: Path, tmp_path: Path) -> None:
    """As `transformers serve`: the policy is a whole model by its folder, and samples are tokenized again."""
    server = RolloutServer(prior, loads=False, text_only=True)
    curve = trained(server, data, tmp_path, replace(OPTIONS, steps=2))
    assert curve["KL to prior"][0] == 0.0
    assert "weight for the engine" not in curve
    asked = [body for path, body in server.asked if path == "/v1/completions"]
    refused = [body for body in asked if "return_token_ids" in body]
    assert len(refused) == 1
    assert all(Path(body["model"]).name == "whole" for body in asked)
    assert '"top_k": 0' in asked[-1]["generation_config"]
    assert len(asked) - 1 == 24


@pytest.mark.slow
def test_transformers_serve_samples_the_policy(prior: Path, data: Path, tmp_path: Path) -> None:
    """The server itself, which knows models by folder and tells neither token ids nor log-probabilities."""
    with transformers_serve(prior, pinned=False) as url:
        options = replace(OPTIONS, steps=2, batch=4, rollouts=ServerRollouts(url, max_concurrency=1, attempts=2))
        out = policy.run(data, prior, by_length, tmp_path / "out", options=options)
    card = run_folder.read_card(out)
    assert card is not None
    assert card.notes["samples tokenized otherwise"] <= 4
    lengths = [point.value for point in run_folder.read(out, Measurement) if point.metric == "length"]
    assert len(lengths) == 2
    assert all(1 <= one <= 6 for one in lengths)


def test_a_busy_server_is_asked_again_and_a_missing_one_is_one_line(prior: Path, data: Path, tmp_path: Path) -> None:
    assert len(trained(RolloutServer(prior, fail=2), data, tmp_path / "a")["reward"]) == 3
    options = replace(OPTIONS, rollouts=ServerRollouts("http://127.0.0.1:9/v1", attempts=1))
    with pytest.raises(UserError, match=r"no samples from http://127\.0\.0\.1:9/v1"):
        policy.run(data, prior, by_length, tmp_path / "b", options=options)
    with pytest.raises(UserError, match="does not exist"), serving(RolloutServer(prior, loads=False)) as server:
        policy.run(
            data, prior, by_length, tmp_path / "c", options=replace(OPTIONS, rollouts=ServerRollouts(server.url))
        )


def test_the_verb_leaves_no_policy_behind(prior: Path, data: Path, tmp_path: Path) -> None:
    with serving(RolloutServer(prior)) as server:
        options = replace(OPTIONS, rollouts=ServerRollouts(server.url))
        out = policy.run(data, prior, by_length, tmp_path / "out", options=options)
    assert (out / "adapter_model.safetensors").is_file()
    assert not (out / ".rollouts").exists()


def test_options_that_cannot_be() -> None:
    with pytest.raises(OptionError, match=r"temperature is 0\.5; leave it at 1 with rollouts"):
        replace(OPTIONS, temperature=0.5, rollouts=ServerRollouts("http://a/v1"))
    with pytest.raises(OptionError, match="weight_cap is 0"):
        ServerRollouts("http://a/v1", weight_cap=0)
