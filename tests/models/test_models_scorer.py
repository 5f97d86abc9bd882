"""A reward model as a function: which ids it reads, where it reads the reward, and in which units it answers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import stir
from transformers import AutoConfig, AutoTokenizer

from perl_eval.errors import DataError, UserError
from perl_eval.models.backbone import Backbone, LoraShape, open_backbone
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.reward_model import REWARD, RewardScale, RewardScorer, read_scale, rewards
from perl_eval.models.tokenize import Encoded, encode_dialogue, encode_prompt, least_prompt
from perl_eval.records import Completion, Message

ASKED = (Message("user", "paint 3"),)


@pytest.fixture(scope="module")
def folder(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a reward model of random weights, read pairwise."""
    made = tmp_path_factory.mktemp("scorer") / "reward"
    backbone = open_backbone(blank)
    backbone.attach(REWARD, LoraShape(4), seed=0, head=1)
    stir(backbone, REWARD)
    backbone.save(REWARD, made)
    RewardScale("pairwise", 0.5, 2.0, 64).save(made)
    return made


def answer(text: str, ids: tuple[int, ...] = ()) -> Completion:
    return Completion(text, "i", "g", "d", "p", ASKED, text, "stop", 0, ids)


@torch.no_grad()
def slow_reward(backbone: Backbone, row: Encoded) -> float:
    with backbone.adapter(REWARD):
        states = backbone.causal(input_ids=torch.tensor([row.ids]), output_hidden_states=True).hidden_states[-1]
    head = backbone.heads[REWARD]
    return float(states[0, -1] @ head.weight[0] + head.bias[0])


def test_rewards_are_read_at_the_last_token_and_do_not_depend_on_the_batch(folder: Path) -> None:
    scorer = RewardScorer(folder, open_backbone(folder), batch=3)
    texts = ["red", "blue gold green gold", "", "gold red", "a very long answer about green paint"]
    rows = [scorer.encode(answer(text)) for text in texts]
    found = scorer.logits(rows)
    assert found == pytest.approx([slow_reward(scorer.backbone, row) for row in rows], abs=1e-5)
    assert scorer.logits(rows[::-1]) == pytest.approx(found[::-1], abs=1e-5)
    assert scorer.logits(rows[:1]) == pytest.approx(found[:1], abs=1e-5)
    assert len({round(value, 4) for value in found}) == len(found)


def test_the_last_token_is_told_by_the_mask_and_never_by_a_padding_id(folder: Path) -> None:
    """Transformers' own classifiers look for ``config.pad_token_id``: without one they take no batch, and a sample that
    says it is read too early.
    """
    backbone = open_backbone(folder)
    backbone.causal.config.pad_token_id = None
    scorer = RewardScorer(folder, backbone)
    prompt = encode_prompt(backbone.tokenizer, ASKED, max_tokens=50)
    said = [(9, 30, backbone.pad_id), (backbone.pad_id,), (9, 30, 31, 12, backbone.end_id), (9,)]
    rows = [Encoded(prompt + ids, (False,) * len(prompt) + (True,) * len(ids)) for ids in said]
    assert scorer.logits(rows) == pytest.approx([slow_reward(backbone, row) for row in rows], abs=1e-5)


def test_a_model_that_comes_padding_with_its_end_token_reads_alike(blank: Path, folder: Path, tmp_path: Path) -> None:
    """As many chat models do. What is saved from it pads with a token of its own, and says so to transformers."""
    shutil.copytree(blank, tmp_path / "same")
    config = tmp_path / "same" / "tokenizer_config.json"
    named = json.loads(config.read_text())
    config.write_text(json.dumps(named | {"pad_token": named["eos_token"]}))
    told = json.loads((tmp_path / "same" / "config.json").read_text())
    (tmp_path / "same" / "config.json").write_text(json.dumps(told | {"pad_token_id": told["eos_token_id"]}))
    expected, found = (RewardScorer(folder, open_backbone(one)) for one in (blank, tmp_path / "same"))
    rows = [expected.encode(answer(text)) for text in ("red", "blue gold green gold")]
    assert [found.encode(answer(text)) for text in ("red", "blue gold green gold")] == rows
    assert found.logits(rows) == expected.logits(rows)
    found.backbone.save(None, tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").pad_token == named["pad_token"]
    assert AutoConfig.from_pretrained(tmp_path / "saved").pad_token_id == told["pad_token_id"]


def test_with_mean_pooling_rewards_are_the_mean_over_the_answer(folder: Path) -> None:
    """A head is linear, so its output for the mean state is the mean of its outputs at the answer's tokens."""
    scorer = RewardScorer(folder, open_backbone(folder), batch=3)
    scorer.scale = replace(scorer.scale, pooling="mean")
    rows = [scorer.encode(answer(text)) for text in ("red", "blue gold green gold", "", "a very long answer")]
    expected = []
    for row in rows:
        prefixes = [replace(row, ids=row.ids[: t + 1], trained=row.trained[: t + 1]) for t in range(len(row.ids))]
        said = [prefix for prefix in prefixes if prefix.trained[-1]]
        expected.append(sum(slow_reward(scorer.backbone, prefix) for prefix in said) / len(said))
    found = scorer.logits(rows)
    assert found == pytest.approx(expected, abs=1e-5)
    assert scorer.logits(rows[::-1]) == pytest.approx(found[::-1], abs=1e-5)


def test_sampled_ids_are_scored_as_they_are(folder: Path) -> None:
    """Text would be tokenized anew: ``gold`` spelt letter by letter is the same text, and other ids."""
    scorer = RewardScorer(folder, open_backbone(folder))
    tokenizer = scorer.backbone.tokenizer
    split = (*tokenizer.convert_tokens_to_ids(list("gold")), tokenizer.eos_token_id)
    assert tokenizer.decode(split[:-1]) == "gold"
    sampled, spoken = scorer.encode(answer("gold", split)), scorer.encode(answer("gold"))
    prompt = encode_prompt(tokenizer, ASKED, max_tokens=99)
    assert sampled.ids == (*prompt, *split)
    assert spoken == encode_dialogue(tokenizer, ASKED, (Message("assistant", "gold"),), max_tokens=64)
    assert sampled.ids != spoken.ids
    assert sampled.ids[-1] == spoken.ids[-1] == tokenizer.eos_token_id


def test_a_long_prompt_is_cut_and_never_the_sample(folder: Path) -> None:
    scorer = RewardScorer(folder, open_backbone(folder))
    ids = tuple(range(10, 70))
    row = scorer.encode(answer("", ids))
    assert row.ids[-60:] == ids
    least = least_prompt(scorer.backbone.tokenizer, ASKED)
    assert len(row.ids) <= max(scorer.scale.max_tokens, 60 + least)
    longer = scorer.encode(answer("", tuple(range(10, 110))))
    assert longer.ids[least:] == tuple(range(10, 110))
    assert sum(longer.trained) == 100


def test_units_follow_the_loss(folder: Path) -> None:
    scorer = RewardScorer(folder, open_backbone(folder))
    completions = [answer("red"), answer("gold gold")]
    logits = scorer.logits([scorer.encode(completion) for completion in completions])
    assert scorer(completions) == pytest.approx([(logit - 0.5) / 2.0 for logit in logits])
    scorer.scale = RewardScale("pointwise", 0.5, 2.0, 64)
    assert scorer(completions) == pytest.approx(logits)


def test_the_adapter_is_loaded_once(folder: Path) -> None:
    backbone = open_backbone(folder)
    first = RewardScorer(folder, backbone)
    own = backbone.parameters_of(REWARD)
    RewardScorer(folder, backbone)
    assert backbone.parameters_of(REWARD).keys() == own.keys()
    assert first.backbone is backbone


def test_scoring_no_sequences(folder: Path) -> None:
    assert RewardScorer(folder, open_backbone(folder))([]) == []


def test_policy_rollouts_and_completions_get_the_same_reward(folder: Path) -> None:
    scorer = RewardScorer(folder, open_backbone(folder))
    prompt = encode_prompt(scorer.backbone.tokenizer, ASKED, max_tokens=50)
    with scorer.backbone.adapter(None):
        (rollout,) = generate(scorer.backbone, [prompt], [0], Sampling(1.0, 8))
    (from_rollout,) = scorer.logits([rollout.encoded])
    (from_completion,) = scorer.logits([scorer.encode(answer("whatever", rollout.ids))])
    assert from_rollout == from_completion


def test_scales_come_back_and_others_are_refused(tmp_path: Path) -> None:
    scale = RewardScale("pairwise", -0.25, 1.5, 96)
    scale.save(tmp_path)
    assert read_scale(tmp_path) == scale
    (tmp_path / "reward.json").write_text('{"loss": "pairwise"}')
    with pytest.raises(DataError, match="is not a reward model's scale"):
        read_scale(tmp_path)
    with pytest.raises(DataError, match="give a `train reward` folder"):
        read_scale(tmp_path / "none")


def test_a_folder_without_adapter_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a reward model's scale"):
        RewardScorer(tmp_path, backbone)
    RewardScale("pairwise", 0.0, 1.0, 40).save(tmp_path)
    with pytest.raises(UserError, match="no model at"):
        RewardScorer(tmp_path, backbone)


def test_rewards_take_gradients_where_asked(folder: Path) -> None:
    backbone = open_backbone(folder)
    backbone.attach_saved(REWARD, folder)
    backbone.train_only(REWARD)
    with backbone.adapter(REWARD):
        assert rewards(backbone, [Encoded((3, 9, 1), (False,) * 3)]).requires_grad
