"""TRL as oracle: the same loss, advantages and gradients on the same batch, to 1e-5."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("trl")
    from trl import (
        DPOConfig,
        DPOTrainer,
        KTOConfig,
        KTOTrainer,
        RewardConfig,
        RewardTrainer,
        RLOOConfig,
        RLOOTrainer,
        SFTConfig,
        SFTTrainer,
    )

from perl_eval.models.backbone import open_backbone
from perl_eval.models.generate import Rollout
from perl_eval.models.reward_model import REWARD
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.training import reward, sft
from perl_eval.training.direct_tuning import DirectTrainer, DpoOptions
from perl_eval.training.objectives import leave_one_out
from perl_eval.training.policy import PolicyOptions, PolicyTrainer
from perl_eval.training.reinforce import cast

PLAIN = {
    "report_to": "none",
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
    "disable_tqdm": True,
    "logging_strategy": "no",
    "save_strategy": "no",
}
COUNT, GROUP = 12, 3


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Let the peer's own warnings pass; ours stay errors elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain(prior: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(prior).train()


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert max(float(one.abs().max()) for one in wanted.values()) > 1e-2
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, atol=1e-5), name


def test_sft_loss_and_gradient_are_trls(prior: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.demonstrations(31, COUNT))
    backbone = open_backbone(prior, frozen=False)
    options = sft.SftOptions(str(prior), batch=COUNT, max_tokens=64)
    ours = sft.SftTrainer(backbone, rows.read(data, "train"), [], options, seed=0)
    with torch.no_grad():
        for parameter in backbone.causal.parameters():
            parameter.mul_(0.9)  # a model that is off, so that there is a gradient
    figures, _ = ours.learn(0)
    model = plain(prior)
    model.load_state_dict(backbone.causal.state_dict())
    listed = [
        {"input_ids": list(row.ids), "completion_mask": [int(one) for one in row.trained]} for row in ours.encoded
    ]
    settings = SFTConfig(
        str(tmp_path / "trl"), per_device_train_batch_size=COUNT, max_length=None, completion_only_loss=True, **PLAIN
    )
    theirs = SFTTrainer(model, settings, train_dataset=Dataset.from_list(listed), processing_class=backbone.tokenizer)
    batch = next(iter(theirs.get_train_dataloader()))
    loss = theirs.compute_loss(model, batch)
    loss.backward()
    assert figures["loss"] == pytest.approx(float(loss.detach()), abs=1e-5)
    assert_equal(gradients(backbone.causal), gradients(model))


def test_reward_loss_and_gradient_are_trls(prior: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification

    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.preferences(32, COUNT))
    backbone = open_backbone(prior, frozen=False)
    options = reward.RewardOptions(batch=COUNT, max_tokens=64, full=True)
    ours = reward.RewardTrainer(backbone, rows.read(data, "train"), [], options, seed=0)
    figures, _ = ours.learn(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        prior, num_labels=1, pad_token_id=backbone.pad_id, dtype=torch.float32
    ).train()
    with torch.no_grad():
        model.score.weight.copy_(backbone.heads[REWARD].weight)  # TRL's head has no bias, which a pair cancels anyway
    pairs = [example.sequences for example in ours.examples]
    listed = [{"chosen_ids": list(chosen.ids), "rejected_ids": list(rejected.ids)} for chosen, rejected in pairs]
    settings = RewardConfig(str(tmp_path / "trl"), per_device_train_batch_size=COUNT, max_length=None, **PLAIN)
    theirs = RewardTrainer(
        model, settings, train_dataset=Dataset.from_list(listed), processing_class=backbone.tokenizer
    )
    batch = next(iter(theirs.get_train_dataloader()))
    loss = theirs.compute_loss(model, batch)
    loss.backward()
    assert figures["loss"] == pytest.approx(float(loss.detach()), abs=1e-5)
    body = {f"model.{name}": one for name, one in gradients(model.model).items()}
    head = backbone.heads[REWARD]
    assert head.weight.grad is not None
    assert torch.allclose(head.weight.grad, model.score.weight.grad, atol=1e-5)
    assert_equal(gradients(backbone.causal), body)


def worn(backbone: Any) -> None:
    """Move a policy off its prior, so that log-ratios are not 0."""
    with torch.no_grad():
        for parameter in backbone.causal.parameters():
            parameter.mul_(0.97)


DIRECT = {"precompute_ref_log_probs": False, "max_length": None}


@pytest.mark.parametrize("loss", ["sigmoid", "robust", "hinge", "ipo"])
def test_dpo_losses_and_gradients_are_trls(prior: Path, tmp_path: Path, loss: Any) -> None:
    from datasets import Dataset

    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.preferences(34, COUNT))
    smoothing = 0.2 if loss == "robust" else 0.0
    options = DpoOptions(loss, beta=0.3, batch=COUNT, max_tokens=64, full=True, smoothing=smoothing)
    backbone = open_backbone(prior, frozen=False)
    ours = DirectTrainer(backbone, {"train": rows.read(data, "train")}, options, loss=loss, seed=0)
    worn(backbone)
    figures = ours.learn(0)
    model, reference = plain(prior), plain(prior).eval()
    model.load_state_dict(backbone.causal.state_dict())
    settings = DPOConfig(
        str(tmp_path / "trl"),
        per_device_train_batch_size=COUNT,
        beta=0.3,
        loss_type=[loss],
        label_smoothing=smoothing,
        **DIRECT,
        **PLAIN,
    )
    texts = Dataset.from_list([{"prompt": "paint", "chosen": " red", "rejected": " blue"}])
    theirs = DPOTrainer(model, reference, settings, train_dataset=texts, processing_class=backbone.tokenizer)
    listed = []
    for example in ours.examples:
        chosen, rejected = example.sequences
        start = chosen.trained.index(True)
        assert chosen.ids[:start] == rejected.ids[:start]
        ids = {"chosen_ids": list(chosen.ids[start:]), "rejected_ids": list(rejected.ids[start:])}
        listed.append({"prompt_ids": list(chosen.ids[:start]), **ids})
    wanted = theirs.compute_loss(model, theirs.data_collator(listed))
    wanted.backward()
    assert figures["loss"] == pytest.approx(float(wanted.detach()), abs=1e-6)
    assert abs(figures["implicit reward, chosen"]) > 0.01
    assert_equal(gradients(backbone.causal), gradients(model))


def test_ktos_loss_and_gradient_are_trls(prior: Path, tmp_path: Path) -> None:
    """The answers to other prompts are ours, and handed over."""
    from datasets import Dataset

    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.ratings(35, COUNT))
    options = DpoOptions("kto", beta=0.3, batch=COUNT, max_tokens=64, full=True, liked=1.5, disliked=0.7)
    backbone = open_backbone(prior, frozen=False)
    ours = DirectTrainer(backbone, {"train": rows.read(data, "train")}, options, loss="kto", seed=0)
    worn(backbone)
    figures = ours.learn(0)
    model, reference = plain(prior), plain(prior).eval()
    model.load_state_dict(backbone.causal.state_dict())
    settings = KTOConfig(
        str(tmp_path / "trl"),
        per_device_train_batch_size=COUNT,
        beta=0.3,
        desirable_weight=1.5,
        undesirable_weight=0.7,
        **DIRECT,
        **PLAIN,
    )
    texts = Dataset.from_list([{"prompt": "paint", "completion": " red", "label": True}] * 2)
    theirs = KTOTrainer(model, reference, settings, train_dataset=texts, processing_class=backbone.tokenizer)
    listed = []
    for example in ours.examples:
        own, other = example.sequences
        start = own.trained.index(True)
        ids = {"completion_ids": list(own.ids[start:]), "KL_completion_ids": list(other.ids[start:])}
        listed.append({"prompt_ids": list(own.ids[:start]), **ids, "label": bool(example.label)})
    wanted = theirs.compute_loss(model, theirs.data_collator(listed))
    wanted.backward()
    assert figures["loss"] == pytest.approx(float(wanted.detach()), abs=1e-6)
    assert abs(figures["implicit reward, chosen"]) > 0.01
    assert_equal(gradients(backbone.causal), gradients(model))


def counted(ids: Sequence[int], end: int) -> float:
    """Reward a sample by its tokens, so that both sides score what was sampled; without an end it gets -3."""
    return float(sum(ids) % 7) if end in ids else -3.0


def test_rloo_advantages_and_gradient_are_trls(prior: Path, tmp_path: Path) -> None:
    """On TRL's own samples, without KL: a return-to-go of a reward at the last token is the sequence's advantage."""
    from datasets import Dataset

    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.prompts(33, COUNT // GROUP))
    found = rows.read(data, "train")
    model = plain(prior)
    tokenizer = open_backbone(prior).tokenizer
    asked = [{"prompt": [{"role": turn.role, "content": turn.content} for turn in row.prompt]} for row in found]
    settings = RLOOConfig(
        str(tmp_path / "trl"),
        per_device_train_batch_size=COUNT,
        num_generations=GROUP,
        max_completion_length=8,
        beta=0.0,
        seed=3,
        **PLAIN,
    )

    def score(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [counted(ids, tokenizer.eos_token_id) for ids in completion_ids]

    theirs = RLOOTrainer(model, score, settings, train_dataset=Dataset.from_list(asked), processing_class=tokenizer)
    inputs = [one for one in asked for _ in range(GROUP)]
    batch = theirs._generate_and_score_completions(inputs)
    rollouts = []
    for place in range(COUNT):
        prompt = batch["prompt_ids"][place][batch["prompt_mask"][place].bool()].tolist()
        ids = batch["completion_ids"][place][batch["completion_mask"][place].bool()].tolist()
        rollouts.append(Rollout(tuple(prompt), tuple(ids), ids[-1] == tokenizer.eos_token_id))
    assert len({rollout.ids for rollout in rollouts}) > 3
    scores = [counted(rollout.ids, tokenizer.eos_token_id) for rollout in rollouts]
    advantages = leave_one_out(torch.tensor(scores), group=GROUP)
    assert torch.allclose(advantages, batch["advantages"], atol=1e-5)
    assert float(advantages.abs().max()) > 0.5
    theirs._compute_loss(model, batch).backward()

    def ours_score(_: Sequence[Row], given: Sequence[Rollout]) -> list[float]:
        return [counted(rollout.ids, tokenizer.eos_token_id) for rollout in given]

    options = PolicyOptions(batch=COUNT, group=GROUP, beta=0.0, max_new_tokens=8, max_tokens=40, full=True)
    roles = cast(open_backbone(prior), replace(options, missing_end_reward=-3.0), seed=0)
    ours = PolicyTrainer(roles, found, ours_score, options, seed=0)
    prompts = [row for row in found for _ in range(GROUP)]
    ours.sample = lambda _: (prompts, rollouts)  # type: ignore[method-assign]
    ours.learn(0)
    assert_equal(gradients(roles.policy.backbone.causal), gradients(model))
