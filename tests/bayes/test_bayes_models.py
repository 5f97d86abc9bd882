"""A transformers model as a language of the samplers: the same laws, through the cache, the padding and the batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import tiny_models
import torch

from perl_eval.bayes import best_of_n
from perl_eval.bayes.smc import Filtering, sequential
from perl_eval.bayes.target import Target
from perl_eval.models.backbone import Backbone, LoraShape, open_backbone
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.incremental_decoding import Continuation
from perl_eval.models.sequence_model import Asked, ModelLanguage, Twist, fit_twist, prefix_states
from perl_eval.models.tokenize import encode_prompt
from perl_eval.records import Message

torch.set_num_threads(1)
WARM = Sampling(temperature=0.8, max_new_tokens=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Return a backbone with opinions and a policy adapter; its samples end here and there."""
    backbone = open_backbone(tiny_models.save_blank(tmp_path_factory.mktemp("language") / "blank"))
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in backbone.causal.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=random))
        backbone.causal.get_output_embeddings().weight[backbone.end_id] *= 2.5
    backbone.attach("policy", LoraShape(4), seed=0)
    tiny_models.stir(backbone, "policy", size=0.03)
    return backbone


@pytest.fixture(scope="module")
def asked(model: Backbone) -> Asked:
    texts = ("paint 1", "paint two red and gold and blue", "x")
    prompts = tuple(encode_prompt(model.tokenizer, (Message("user", text),), max_tokens=60) for text in texts)
    return Asked(("a", "b", "c"), prompts)


def language(model: Backbone, asked: Asked, adapter: str | None = None, batch: int = 64) -> ModelLanguage:
    return ModelLanguage(model, adapter, asked, WARM, seed=5, batch=batch)


@torch.no_grad()
def slow_log_prob(model: Backbone, prompt: tuple[int, ...], sequence: tuple[int, ...], adapter: str | None) -> float:
    """One sequence, no cache, no padding."""
    with model.adapter(adapter):
        logits = model.causal(input_ids=torch.tensor([[*prompt, *sequence]])).logits[0].double()
    table = torch.log_softmax(logits / WARM.temperature, -1)
    return sum(float(table[len(prompt) + step - 1, token]) for step, token in enumerate(sequence))


@pytest.mark.parametrize("adapter", [None, "policy"])
def test_draws_are_those_of_plain_sampling(model: Backbone, asked: Asked, adapter: str | None) -> None:
    """Sharing the reading of a prompt, and the order of rows, change no token: `sample` would draw the same."""
    lang = language(model, asked, adapter, batch=17)
    shuffled = np.random.default_rng(0).permutation(90)
    contexts, numbers = (part[shuffled] for part in best_of_n.rows_of(np.arange(3), 30))
    drawn = lang.draw(contexts, numbers)
    with model.adapter(adapter):
        plain = generate(model, [asked.prompts[c] for c in contexts], lang.seeds(contexts, numbers), WARM)
    assert drawn.sequences == tuple(rollout.ids for rollout in plain)
    assert drawn.tokens == sum(len(rollout.ids) for rollout in plain)
    assert {lang.finished(sequence) for sequence in drawn.sequences} == {True, False}
    expected = [
        slow_log_prob(model, asked.prompts[c], s, adapter) for c, s in zip(contexts, drawn.sequences, strict=True)
    ]
    assert drawn.log_probs == pytest.approx(expected, abs=1e-4)
    assert lang.log_probs(contexts, drawn.sequences) == pytest.approx(expected, abs=1e-4)


def test_a_draw_is_the_same_in_any_batch(model: Backbone, asked: Asked) -> None:
    lang = language(model, asked)
    many = lang.draw(*best_of_n.rows_of(np.arange(3), 6))
    alone = lang.draw(np.array([1]), np.array([4]))
    assert alone.sequences[0] == many.sequences[6 + 4]
    assert len(set(many.sequences)) > 12
    other = lang.stream("other").draw(np.array([1]), np.array([4]))
    assert other.sequences != alone.sequences
    assert lang.stream("other").draw(np.array([1]), np.array([4])).sequences == other.sequences


def test_nothing_is_drawn_at_temperature_zero(model: Backbone, asked: Asked) -> None:
    with pytest.raises(ValueError, match="nothing is drawn"):
        ModelLanguage(model, None, asked, Sampling(0.0, 8), seed=0)


def test_selected_prefixes_go_on_as_they_would_alone(model: Backbone, asked: Asked) -> None:
    """Rows repeated, dropped and reordered in mid-flight keep their own past in the cache."""
    lang = language(model, asked)
    growing = lang.prefixes(np.array([0, 1, 2]))
    random = np.random.default_rng(0)
    pasts: list[tuple[int, tuple[int, ...], float]] = [(c, (), 0.0) for c in range(3)]
    for step in range(6):
        assert (growing.look() == 0).all()
        if step in (2, 4):
            rows = random.integers(len(pasts), size=5)
            growing.select(rows)
            pasts = [pasts[row] for row in rows]
        tokens = growing.choose(random.random(len(pasts)))
        gained, ended = growing.push(tokens)
        pasts = [(c, (*s, int(t)), g + float(x)) for (c, s, g), t, x in zip(pasts, tokens, gained, strict=True)]
        for context, sequence, total in pasts:
            assert total == pytest.approx(slow_log_prob(model, asked.prompts[context], sequence, None), abs=1e-4)
        pasts = [past for past, over in zip(pasts, ended, strict=True) if not over]
        assert len(pasts) == len(growing.growing)
    assert any(len(sequence) == 6 for _, sequence, _ in pasts)


def test_the_longest_sequences_end(model: Backbone, asked: Asked) -> None:
    growing = language(model, asked).prefixes(np.zeros(4, np.int64))
    for step in range(WARM.max_new_tokens):
        growing.look()
        _, ended = growing.push(np.full(len(growing.growing), 7))
        assert ended.all() == (step == WARM.max_new_tokens - 1)


def reward(_: np.ndarray, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Return a log-evidence that likes small ids, some more than others."""
    return np.array([2.0 * math.sin(sum(sequence)) for sequence in sequences])


@pytest.mark.parametrize("adapter", [None, "policy"])
def test_estimates_of_z_agree_with_a_long_run(model: Backbone, asked: Asked, adapter: str | None) -> None:
    """SMC and resampling, by prior and by policy: the mean of Z is one number, that of many plain draws."""
    prior = language(model, asked)
    contexts = np.arange(3)
    plain = prior.draw(*best_of_n.rows_of(contexts, 600))
    weights = np.exp(reward(plain.contexts, plain.sequences)).reshape(3, -1)
    z, error = weights.mean(1), weights.std(1) / math.sqrt(600)
    proposal = prior.stream("p") if adapter is None else language(model, asked, adapter).stream("p")
    target = Target(proposal if adapter is None else prior, reward)
    for found in (
        sequential(target, proposal, contexts, count=20, filtering=Filtering(12)),
        best_of_n.importance_resampled(target, proposal, contexts, count=20, n=12),
    ):
        assert found.log_z is not None
        z_hat = np.exp(found.log_z).reshape(3, -1)
        noise = np.hypot(error, z_hat.std(1) / math.sqrt(20))
        assert (np.abs(z_hat.mean(1) - z) < 4 * noise).all()
        rows = found.kept.draws
        assert found.kept.log_prior == pytest.approx(prior.log_probs(rows.contexts, rows.sequences), abs=1e-3)
        assert found.kept.log_evidence == pytest.approx(reward(rows.contexts, rows.sequences))


def test_a_twist_reads_the_state_before_each_token(model: Backbone, asked: Asked) -> None:
    lang = language(model, asked)
    drawn = lang.draw(np.array([0, 1]), np.array([0, 0]))
    states, owners = prefix_states(lang, drawn)
    assert np.bincount(owners).tolist() == [len(sequence) for sequence in drawn.sequences]
    weight = torch.randn(model.width, generator=torch.Generator().manual_seed(0))
    twisted = lang.stream("t", twist=Twist(weight, 0.25))
    growing = twisted.prefixes(np.array([0, 1]))
    seen: list[list[float]] = [[], []]
    active = [0, 1]
    for step in range(max(map(len, drawn.sequences))):
        for row, value in zip(active, growing.look().tolist(), strict=True):
            seen[row].append(value)
        growing.push(np.array([drawn.sequences[row][step] for row in active]))
        active = [row for row in active if step + 1 < len(drawn.sequences[row])]
    for row in (0, 1):
        assert seen[row] == pytest.approx(states[owners == row] @ weight.numpy() + 0.25, abs=1e-3)


def test_a_fitted_twist_follows_the_mean_weight(model: Backbone, asked: Asked) -> None:
    """Where the prompt alone decides the weight, the twist tells prompts apart, and its mean is the weights'."""
    lang = language(model, asked)
    drawn = lang.draw(*best_of_n.rows_of(np.arange(3), 60))
    log_weights = np.array([-1.0, 0.0, 1.0])[drawn.contexts]
    twist = fit_twist(lang, drawn, log_weights)
    values = lang.stream("f", twist=twist).prefixes(np.arange(3)).look()
    assert values[0] + 0.3 < values[1] < values[2] - 0.3
    states, owners = prefix_states(lang, drawn)
    # The score equation of the intercept, which is not penalised.
    predicted = np.exp(states @ twist.weight.numpy() + twist.bias)
    assert predicted.mean() == pytest.approx(np.exp(log_weights)[owners].mean(), rel=1e-2)


def test_a_batch_without_rows_left_is_over(model: Backbone, asked: Asked) -> None:
    growing = Continuation(model, asked.prompts[:2], 1.0)
    with model.adapter(None):
        growing.look()
    going = growing.push(torch.tensor([model.end_id, model.end_id]))
    assert len(going) == 0
    assert len(growing) == 0
