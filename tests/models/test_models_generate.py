"""Sampling: the model's own distribution, item by item, whatever else is in the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tiny_models import stir

from perl_eval.models.backbone import Backbone, LoraShape
from perl_eval.models.generate import Rollout, Sampling, generate, item_seed
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.tokenize import encode_prompt, pad
from perl_eval.records import Message

WARM = Sampling(temperature=0.7, max_new_tokens=12)


def prompts(backbone: Backbone, *texts: str) -> list[tuple[int, ...]]:
    return [encode_prompt(backbone.tokenizer, (Message("user", text),), max_tokens=60) for text in texts]


@torch.no_grad()
def next_token(backbone: Backbone, ids: Sequence[int], temperature: float) -> torch.Tensor:
    """Return the distribution of the next token, one sequence, no cache, no padding."""
    logits = backbone.causal(input_ids=torch.tensor([list(ids)])).logits[0, -1]
    return torch.softmax(logits.double() / temperature, -1)


@torch.no_grad()
def slow_log_prob(backbone: Backbone, rollout: Rollout, temperature: float) -> float:
    whole = [*rollout.prompt_ids, *rollout.ids]
    logits = backbone.causal(input_ids=torch.tensor([whole])).logits[0].double() / temperature
    table = torch.log_softmax(logits, -1)
    start = len(rollout.prompt_ids)
    return sum(float(table[place - 1, whole[place]]) for place in range(start, len(whole)))


@pytest.fixture
def lively(backbone: Backbone) -> Backbone:
    """Return a backbone with opinions: its next token depends on what stands before, and samples end here and there."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in backbone.causal.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=random))
        backbone.causal.get_output_embeddings().weight[backbone.end_id] *= 2.5
    return backbone


def test_item_seeds_tell_runs_items_and_draws_apart() -> None:
    seeds = [item_seed(run, item, draw) for run in (0, 1) for item in ("a", "b", "1") for draw in (0, 1)]
    assert len(set(seeds)) == len(seeds)
    assert item_seed(0, "a", 1) == item_seed(0, "a", 1)


def test_companions_and_order_change_nothing(lively: Backbone) -> None:
    asked = prompts(lively, "hi", "paint something if you please", "x", "paint 3", "")
    seeds = [item_seed(0, str(place), 0) for place in range(5)]
    together = generate(lively, asked, seeds, WARM)
    assert [rollout.prompt_ids for rollout in together] == asked
    assert len({len(rollout.ids) for rollout in together}) > 1
    for order in ([4, 3, 2, 1, 0], [2], [0, 3], [1, 1, 4]):
        again = generate(lively, [asked[place] for place in order], [seeds[place] for place in order], WARM)
        assert again == [together[place] for place in order]


def test_another_seed_gives_another_sample(lively: Backbone) -> None:
    asked = prompts(lively, "hi") * 8
    assert len({rollout.ids for rollout in generate(lively, asked, list(range(8)), WARM)}) == 8


def test_samples_follow_the_models_distribution(lively: Backbone) -> None:
    """Chi-square of pairs of tokens against their exact joint distribution; the prompts are padded to one length."""
    short, long = prompts(lively, "hi", "paint something if you please")
    draws, temperature = 6000, 0.3
    first = next_token(lively, short, temperature)
    joint = {
        (one, two): float(first[one]) * float(chance)
        for one in first.topk(40).indices.tolist()
        if one != lively.end_id
        for two, chance in enumerate(next_token(lively, [*short, one], temperature))
    }
    seen: Counter[tuple[int, ...]] = Counter()
    for start in range(0, draws, 500):
        seeds = [item_seed(3, "item", draw) for draw in range(start, start + 500)]
        rollouts = generate(lively, [short] * 500 + [long], [*seeds, 0], Sampling(temperature, 2))
        seen.update(rollout.ids for rollout in rollouts[:500])
    likely = [pair for pair, chance in joint.items() if chance * draws >= 10]
    assert len(likely) > 20
    observed = [seen[pair] for pair in likely]
    expected = [joint[pair] * draws for pair in likely]
    rest = draws - sum(observed), draws - sum(expected)
    assert chisquare([*observed, rest[0]], [*expected, rest[1]]).pvalue > 0.001


def test_what_a_model_asks_of_sampling_is_not_followed(lively: Backbone) -> None:
    """Published models come with cuts and penalties; a sample for a gradient must be of the model's own distribution.

    The first would leave one token in a place, the second forbid what was said, the third forbid to end.
    """
    asked, seeds = prompts(lively, "hi") * 20, list(range(20))
    plain = generate(lively, asked, seeds, WARM)
    assert len({rollout.ids[0] for rollout in plain}) > 2
    assert any(len(rollout.ids) < 12 for rollout in plain)
    for given in (
        {"do_sample": True, "top_k": 1, "top_p": 0.01, "min_p": 0.9, "temperature": 0.1},
        {"repetition_penalty": 50.0, "no_repeat_ngram_size": 1, "suppress_tokens": list(plain[0].ids)},
        {"min_new_tokens": 12, "min_length": 60},
    ):
        assert not lively.causal.generation_config.update(**given)  # all of them known to transformers
        assert generate(lively, asked, seeds, WARM) == plain
    assert {one.name for one in fields(Sampling)} == {"temperature", "max_new_tokens"}  # nor can anyone else ask for it


def test_temperature_zero_takes_the_likeliest(backbone: Backbone) -> None:
    asked = prompts(backbone, "hi", "paint 12 please")
    for rollout in generate(backbone, asked, [0, 1], Sampling(0.0, 6)):
        ids = list(rollout.prompt_ids)
        for token in rollout.ids:
            assert token == int(next_token(backbone, ids, 1.0).argmax())
            ids.append(token)


def test_samples_stop_at_the_end_token_and_say_so(lively: Backbone) -> None:
    rollouts = generate(lively, prompts(lively, "hi") * 40, list(range(40)), WARM)
    ended = [rollout for rollout in rollouts if rollout.finished]
    cut = [rollout for rollout in rollouts if not rollout.finished]
    assert ended
    assert cut
    assert all(rollout.ids.index(lively.end_id) == len(rollout.ids) - 1 for rollout in ended)
    assert all(len(rollout.ids) == 12 and lively.end_id not in rollout.ids for rollout in cut)


def test_a_rollout_as_one_sequence() -> None:
    row = Rollout((4, 5), (6, 1), finished=True).encoded
    assert (row.ids, row.trained) == ((4, 5, 6, 1), (False, False, True, True))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_log_probs_equal_a_slow_reference(lively: Backbone, temperature: float) -> None:
    asked = prompts(lively, "hi", "paint something if you please", "x")
    rollouts = generate(lively, asked, [0, 1, 2], Sampling(temperature, 12))
    batch = pad([rollout.encoded for rollout in rollouts], pad_id=lively.pad_id)
    with torch.no_grad():
        fast = token_log_probs(lively, lively.hidden(batch), batch, temperature)
    for rollout, row in zip(rollouts, fast, strict=True):
        assert float(row.sum()) == pytest.approx(slow_log_prob(lively, rollout, temperature), abs=1e-3)


def test_adapters_sample_their_own_distribution(lively: Backbone) -> None:
    """What is sampled with an adapter on is what its log-probabilities are of: temperature 0 shows it exactly."""
    lively.attach("policy", LoraShape(4), seed=0)
    stir(lively, "policy")
    asked = prompts(lively, "hi", "paint 2")
    with lively.adapter("policy"):
        tuned = generate(lively, asked, [0, 1], Sampling(0.0, 6))
        for rollout in tuned:
            assert rollout.ids[0] == int(next_token(lively, rollout.prompt_ids, 1.0).argmax())
    with lively.adapter(None):
        plain = generate(lively, asked, [0, 1], Sampling(0.0, 6))
    assert [rollout.ids for rollout in tuned] != [rollout.ids for rollout in plain]


@torch.no_grad()
def test_a_fresh_adapter_has_exactly_no_divergence_from_the_prior(lively: Backbone) -> None:
    lively.attach("policy", LoraShape(4), seed=0)
    rollouts = generate(lively, prompts(lively, "hi", "paint 2 or 3"), [0, 1], WARM)
    batch = pad([rollout.encoded for rollout in rollouts], pad_id=lively.pad_id)
    found = []
    for name in ("policy", None):
        with lively.adapter(name):
            found.append(token_log_probs(lively, lively.hidden(batch), batch, 0.7))
    assert torch.equal(found[0], found[1])
    assert float(found[0].sum()) < -1


def test_uniforms_are_used_up_token_by_token(backbone: Backbone) -> None:
    """A longer limit changes nothing before it: token t uses the item's t-th number."""
    asked = prompts(backbone, "hi")
    short, long = (generate(backbone, asked, [5], Sampling(1.0, size))[0].ids for size in (4, 9))
    assert long[: len(short)] == short


def test_inverse_of_the_cumulative_distribution(lively: Backbone) -> None:
    asked = prompts(lively, "hi")
    for seed in range(5):
        point = np.random.default_rng(seed).random(1)[0]
        cumulative = np.cumsum(next_token(lively, asked[0], 0.5).numpy())
        expected = int(np.searchsorted(cumulative, point, side="right"))
        assert generate(lively, asked, [seed], Sampling(0.5, 1))[0].ids == (expected,)
