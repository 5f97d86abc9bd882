"""Full tuning, the comparison: the same loop and figures, and folders that plain transformers loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch

from perl_eval.errors import DataError
from perl_eval.metrics.glossary import CURVES
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.checkpoint_folder import is_adapter
from perl_eval.models.generate import Rollout
from perl_eval.models.reward_model import RewardScorer
from perl_eval.models.tokenize import Encoded, encode_dialogue, pad
from perl_eval.records import Completion, Estimate, Measurement, Score
from perl_eval.sampling import in_process
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder
from perl_eval.training import policy, reward, sft
from perl_eval.training.policy import PolicyOptions, PolicyTrainer
from perl_eval.training.reinforce import cast

OPTIONS = PolicyOptions(
    steps=24, batch=48, learning_rate=2e-3, beta=0.5, max_new_tokens=8, max_tokens=40, missing_end_reward=0.0, full=True
)


@pytest.fixture(scope="module")
def data(room: Path) -> Path:
    return tiny_models.write_rows(room / "full", train=tiny_models.prompts(1, 60), test=tiny_models.prompts(2, 12))


@pytest.fixture(scope="module")
def preferences(room: Path) -> Path:
    return tiny_models.write_rows(
        room / "full-preferences",
        train=tiny_models.preferences(3, 160),
        validation=tiny_models.preferences(4, 30),
        test=tiny_models.preferences(5, 40),
    )


@pytest.fixture(scope="module")
def rewarded(room: Path, prior: Path, preferences: Path) -> Path:
    options = reward.RewardOptions(
        epochs=3, batch=16, learning_rate=3e-3, max_tokens=40, max_new_tokens=8, normalise_on=50, full=True
    )
    return reward.run(preferences, prior, room / "full-reward", options=options)


def reds(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
    return [float(rollout.text.count("red")) for rollout in rollouts]


@pytest.fixture(scope="module")
def tuned(room: Path, prior: Path, data: Path) -> Path:
    return policy.run(data, prior, reds, room / "full-policy", options=OPTIONS)


def test_a_fully_tuned_reward_model_learns_and_comes_back(rewarded: Path, prior: Path, preferences: Path) -> None:
    assert not is_adapter(rewarded)
    estimates = {(one.subject, one.name): one for one in run_folder.read(rewarded, Estimate)}
    accuracy = estimates["test", "pair accuracy"]
    assert accuracy.value is not None
    assert accuracy.value > 0.9
    scores = {(one.completion, one.metric): one.value for one in run_folder.read(rewarded, Score)}
    beside = RewardScorer(rewarded, open_backbone(prior))  # on the prior, as in RL: weights of its own
    alone = RewardScorer(rewarded, open_backbone(rewarded))
    assert beside.backbone.path == rewarded
    test = rows.read(preferences, "test")[:10]
    encoded = [encode_dialogue(alone.backbone.tokenizer, row.prompt, row.chosen or (), max_tokens=40) for row in test]
    expected = [scores[row.id, "reward chosen"] for row in test]
    assert beside.logits(encoded) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert alone.logits(encoded) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    card = run_folder.read_card(rewarded)
    assert card is not None
    own = sum(parameter.numel() for parameter in open_backbone(prior).causal.parameters())
    assert card.notes["trained"] == card.notes["parameters"] == own + 32


def test_a_full_policy_moves_while_its_prior_stays(prior: Path, data: Path, tmp_path: Path) -> None:
    backbone = open_backbone(prior)
    before = backbone.weights_sha256()
    roles = cast(backbone, OPTIONS, seed=0)
    trainer = PolicyTrainer(roles, rows.read(data, "train"), reds, OPTIONS, seed=0)
    figures = trainer.learn(0)
    assert figures["KL to prior"] == 0.0
    fit = trainer.train(tmp_path)
    curve = [point.value for point in fit.curve if point.metric == "reward"]
    assert np.mean(curve[-3:]) > np.mean(curve[:3]) + 0.3
    assert backbone.weights_sha256() == before
    assert roles.policy.backbone.weights_sha256() != before
    assert {point.metric for point in fit.curve} <= CURVES["train policy"].keys()


@pytest.mark.parametrize(("own", "models"), [("head", 2), ("adapter", 3)])
def test_full_tuning_holds_a_model_a_role(prior: Path, own: str, models: int) -> None:
    backbone = open_backbone(prior)
    size = sum(parameter.numel() for parameter in backbone.causal.parameters())
    roles = cast(backbone, replace(OPTIONS, value=own), seed=0)
    assert len(roles.backbones) == models
    parts = roles.parts()
    assert sum(one.numel() for one in parts["policy"].values()) == size
    assert sum(one.numel() for one in parts["value"].values()) == 33 + (size if own == "adapter" else 0)
    for part in parts.values():
        assert all(one.requires_grad for one in part.values())
    assert not any(parameter.requires_grad for parameter in backbone.causal.parameters())
    lora = cast(open_backbone(prior), replace(OPTIONS, value=own, full=False), seed=0)
    assert len(lora.backbones) == 1


def test_plain_transformers_loads_a_full_policy_and_samples_know_its_prior(
    tuned: Path, prior: Path, data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    own = open_backbone(tuned)
    plain = AutoModelForCausalLM.from_pretrained(tuned)
    assert all(torch.equal(one, own.causal.state_dict()[name]) for name, one in plain.state_dict().items())
    options = in_process.SampleOptions(max_new_tokens=8, max_tokens=40, draws=4)
    answers = run_folder.read(in_process.run(tuned, data, tmp_path / "tuned", options=options), Completion)
    ratios = [(one.logprob or 0.0) - (one.prior_logprob or 0.0) for one in answers]
    assert np.std(ratios) > 0.1
    others = run_folder.read(in_process.run(prior, data, tmp_path / "prior", options=options), Completion)
    assert np.mean([one.text.count("red") for one in answers]) > np.mean([one.text.count("red") for one in others])


def test_a_function_is_a_reward_and_named_on_the_card(tuned: Path, prior: Path, data: Path) -> None:
    card = run_folder.read_card(tuned)
    assert card is not None
    assert card.arguments["reward"]["function"].endswith(":reds")
    assert card.notes["models in memory"] == 2
    assert {point.metric for point in run_folder.read(tuned, Measurement)} >= {"reward", "KL to prior"}


def test_a_prior_that_changed_on_disk_is_noticed(prior: Path, tmp_path: Path) -> None:
    folder = tiny_models.save_blank(tmp_path / "model")
    backbone = open_backbone(folder)
    moved = open_backbone(folder)
    with torch.no_grad():
        moved.causal.model.norm.weight += 1.0
    moved.causal.save_pretrained(folder)
    with pytest.raises(DataError, match="has changed since it was read"):
        cast(backbone, OPTIONS, seed=0)


def test_a_prior_that_changed_in_memory_is_noticed(tmp_path: Path) -> None:
    """Its copies come from disk; without the check the policy would start, and be held to, different models."""
    folder = tiny_models.save_blank(tmp_path / "model")
    backbone = open_backbone(folder)
    assert len(cast(backbone, OPTIONS, seed=0).backbones) == 2
    with torch.no_grad():
        backbone.causal.model.layers[1].mlp.down_proj.weight[3, 4] += 1e-3
    with pytest.raises(DataError, match="has changed since it was read"):
        cast(backbone, OPTIONS, seed=0)


def test_the_prior_of_full_tuning_is_the_backbone_itself(tmp_path: Path) -> None:
    """Not a model that is read once more when its files may be others: nothing of it is asked of the disk again."""
    folder = tiny_models.save_blank(tmp_path / "model")
    backbone = open_backbone(folder)
    roles = cast(backbone, OPTIONS, seed=0)
    assert roles.prior.backbone is backbone
    assert roles.prior.name is None
    own, copied = ({one.data_ptr() for one in b.causal.parameters()} for b in roles.backbones[::-1])
    assert not own & copied
    for file in folder.glob("*.safetensors"):
        file.unlink()
    row = Rollout((3, 20, 21), (22, 1), finished=True).encoded
    batch = pad([row], pad_id=0)
    with torch.no_grad():
        for one in roles.policy.backbone.causal.parameters():
            one.add_(0.1)
        with roles.prior.on():
            found = roles.prior.log_probs(batch, 1.0)[0].sum()
        table = torch.log_softmax(backbone.causal(input_ids=batch.ids).logits[0], -1)
    assert float(found) == pytest.approx(float(table[2, 22] + table[3, 1]), abs=1e-5)


def test_default_rates_tell_the_arms_apart() -> None:
    assert reward.RewardOptions(full=True).rate * 10 == pytest.approx(reward.RewardOptions().rate)
    assert PolicyOptions(full=True).rate * 10 == pytest.approx(PolicyOptions().rate)
    assert sft.SftOptions("model").rate * 10 == pytest.approx(sft.SftOptions("model", lora=LoraShape()).rate)
    assert sft.SftOptions().rate == 2e-3
    assert PolicyOptions(full=True, learning_rate=0.5).rate == 0.5


def test_an_adapter_of_imitation_is_added_to_the_weights(prior: Path, demonstrations: Path, tmp_path: Path) -> None:
    """What plain transformers loads from the run folder is the adapter on its base, as plain peft adds it."""
    options = sft.SftOptions(
        model=str(prior), epochs=0.5, batch=16, learning_rate=5e-3, max_tokens=32, lora=LoraShape(4)
    )
    out = sft.run(demonstrations, tmp_path / "lora", options=options)
    whole, base = open_backbone(out), open_backbone(out / "adapter")
    assert base.sha256 == open_backbone(prior).sha256 != whole.sha256
    base.attach_saved("sft", out / "adapter")
    batch = pad([Encoded((3, 20, 21, 1), (False,) * 4)], pad_id=0)
    with torch.no_grad(), base.adapter("sft"):
        tuned = base.logits(base.hidden(batch))
    with torch.no_grad():
        assert torch.allclose(whole.logits(whole.hidden(batch)), tuned, atol=1e-5)
    card = run_folder.read_card(out)
    assert card is not None
    assert card.notes["trained"] == tiny_models.adapter_weights(4)


def test_rows_of_a_reward_function(prior: Path, data: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    def asked(prompts: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        seen.extend(row.id for row in prompts)
        return [0.0] * len(rollouts)

    options = replace(OPTIONS, steps=1, batch=6, full=False)
    policy.run(data, prior, asked, tmp_path / "out", options=options)
    assert len(seen) == 6
