"""A backbone with one of its adapters as a `perl_eval.bayes.language_model` for the posterior's samplers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from perl_eval.bayes.importance_weights import log_mean_exp
from perl_eval.bayes.language_model import Draws
from perl_eval.models.backbone import Backbone
from perl_eval.models.generate import Rollout, Sampling, item_seed
from perl_eval.models.incremental_decoding import Continuation
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.tokenize import Encoded, pad
from perl_eval.records import digest
from perl_eval.storage.images import Picture

__all__ = ["Asked", "ModelLanguage", "ModelPrefixes", "Twist", "fit_twist", "prefix_states"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asked:
    """The prompts that go by number: their ids, which seed the draws, their tokens, and their pictures, if any."""

    items: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]
    pictures: tuple[tuple[Picture, ...], ...] = ()

    def shown(self, place: int) -> tuple[Picture, ...]:
        """Return the pictures of one prompt."""
        return self.pictures[place] if self.pictures else ()


@dataclass(frozen=True, slots=True)
class Twist:
    """A linear guess of the log-evidence to come, read off the model's last hidden state: ``weight . h + bias``."""

    weight: torch.Tensor
    bias: float


class ModelLanguage:
    """Answers of a model to some prompts.

    A sequence is over at an end token, or at the most new tokens. Each prompt is read once a batch, however many draws
    of it are in the batch, and draws that have ended leave it.

    Args:
        backbone: The model.
        adapter: Which adapter is on; None for the prior.
        asked: The prompts.
        sampling: Temperature, above 0, and length.
        seed: Run seed; a draw's own seed is a hash of it, the item's id and the draw's number.
        batch: Draws at once.
    """

    def __init__(  # what draws, from what, how, and how many at once: none of them goes without the others
        self,
        backbone: Backbone,
        adapter: str | None,
        asked: Asked,
        sampling: Sampling,
        *,
        seed: int,
        batch: int = 256,
    ) -> None:
        if not sampling.temperature > 0:
            raise ValueError("at temperature 0 nothing is drawn, and there is no posterior")
        self.backbone, self.adapter, self.asked, self.sampling = backbone, adapter, asked, sampling
        self.seed, self.batch = seed, batch
        self.twist: Twist | None = None

    def stream(self, name: str, *, twist: Twist | None = None) -> ModelLanguage:
        """Return the same language with independent draws of its own, and maybe a twist."""
        other = copy.copy(self)
        other.seed, other.twist = int(digest("stream", str(self.seed), name), 16), twist
        return other

    def seeds(self, contexts: IntArray, numbers: IntArray) -> list[int]:
        """Return the seed of each draw."""
        items = self.asked.items
        return [
            item_seed(self.seed, items[place], number)
            for place, number in zip(contexts.tolist(), numbers.tolist(), strict=True)
        ]

    def draw(self, contexts: IntArray, numbers: IntArray) -> Draws:
        """Return draw ``numbers[i]`` of prompt ``contexts[i]`` for each i."""
        seeds = self.seeds(contexts, numbers)
        lengths = np.array([len(self.asked.prompts[place]) for place in contexts.tolist()], np.int64)
        order = np.lexsort((numbers, contexts, lengths))
        sequences: list[tuple[int, ...]] = [()] * len(contexts)
        log_probs = np.zeros(len(contexts))
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            most = self.sampling.max_new_tokens
            uniforms = np.stack([np.random.default_rng(seeds[row]).random(most) for row in rows])
            growing = self.prefixes(contexts[rows])
            active = np.arange(len(rows))
            for step in range(most):
                growing.look()
                tokens = growing.choose(uniforms[active, step])
                gained, ended = growing.push(tokens)
                for row, token in zip(rows[active].tolist(), tokens.tolist(), strict=True):
                    sequences[row] += (token,)
                log_probs[rows[active]] += gained
                active = active[~ended]
                if len(active) == 0:
                    break
        return Draws(contexts, tuple(sequences), log_probs)

    @torch.no_grad()
    def log_probs(self, contexts: IntArray, sequences: Sequence[Sequence[int]]) -> FloatArray:
        """Return the log-probability of each sequence, (rows,), in nats."""
        result = np.zeros(len(contexts))
        encoded = self.encoded(contexts, sequences)
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row].ids))
        with self.backbone.adapter(self.adapter):
            for start in range(0, len(order), self.batch):
                rows = order[start : start + self.batch]
                batch = pad([encoded[row] for row in rows], pad_id=self.backbone.pad_id)
                hidden = self.backbone.hidden(batch)
                found = token_log_probs(self.backbone, hidden, batch, self.sampling.temperature)
                result[rows] = found.sum(1).double().cpu().numpy()
        return result

    def encoded(self, contexts: IntArray, sequences: Sequence[Sequence[int]]) -> list[Encoded]:
        """Return prompt and answer of each row as one sequence, the answer marked ``trained``."""
        prompts = self.asked.prompts
        return [
            Rollout(prompts[place], tuple(sequence), finished=True, pictures=self.asked.shown(place)).encoded
            for place, sequence in zip(contexts.tolist(), sequences, strict=True)
        ]

    def prefixes(self, contexts: IntArray) -> ModelPrefixes:
        """Return one empty prefix a row."""
        return ModelPrefixes(self, contexts)

    def finished(self, sequence: Sequence[int]) -> bool:
        """Return whether a sequence came to an end token."""
        return sequence[-1] in self.backbone.end_ids


class ModelPrefixes:
    """Growing answers on the model's cache."""

    def __init__(self, language: ModelLanguage, contexts: IntArray) -> None:
        distinct, fan = np.unique(contexts, return_inverse=True)
        prompts = [language.asked.prompts[place] for place in distinct.tolist()]
        self.language, self.left = language, language.sampling.max_new_tokens
        self.growing = Continuation(
            language.backbone,
            prompts,
            language.sampling.temperature,
            rows=fan.tolist(),
            hidden=language.twist is not None,
            pictures=[language.asked.shown(place) for place in distinct.tolist()],
        )

    def look(self) -> FloatArray:
        """Read the newest tokens and return the log-twist of each prefix."""
        with self.language.backbone.adapter(self.language.adapter):
            self.growing.look()
        twist = self.language.twist
        if twist is None:
            return np.zeros(len(self.growing))
        values: FloatArray = (self.growing.hidden @ twist.weight + twist.bias).double().cpu().numpy()
        return values

    def select(self, rows: IntArray) -> None:
        """Go on with these rows only, in this order."""
        self.growing.select(torch.from_numpy(rows).to(self.growing.logits.device))

    def choose(self, uniforms: FloatArray) -> IntArray:
        """Return the next token of each row."""
        tokens: IntArray = self.growing.choose(torch.from_numpy(uniforms)).cpu().numpy()
        return tokens

    def push(self, tokens: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Append a token to each row; return its log-probability, and whether the row has ended and left."""
        chosen = torch.from_numpy(tokens).to(self.growing.logits.device)
        gained: FloatArray = self.growing.log_probs(chosen).double().cpu().numpy()
        self.left -= 1
        ended = np.ones(len(tokens), np.bool_)
        if self.left:
            ended[self.growing.push(chosen).cpu().numpy()] = False
        return gained, ended


@torch.no_grad()
def prefix_states(language: ModelLanguage, draws: Draws) -> tuple[FloatArray, IntArray]:
    """Return the hidden state before each token of some draws, (tokens, width), and the row that each belongs to."""
    encoded = language.encoded(draws.contexts, draws.sequences)
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row].ids))
    states, owners = [], []
    with language.backbone.adapter(language.adapter):
        for start in range(0, len(order), language.batch):
            rows = order[start : start + language.batch]
            batch = pad([encoded[row] for row in rows], pad_id=language.backbone.pad_id)
            hidden = language.backbone.hidden(batch).float()
            before = torch.roll(batch.trained, -1, dims=1)  # the state that token t is chosen from stands at t - 1
            before[:, -1] = False
            states.append(hidden[before.to(hidden.device)].cpu().numpy())
            owners.append(np.repeat(rows, before.sum(1).numpy()))
    return np.concatenate(states), np.concatenate(owners)


def fit_twist(language: ModelLanguage, draws: Draws, log_weights: FloatArray, *, penalty: float = 1e-3) -> Twist:
    """Fit a twist on draws of the language: ``log E[w | prefix]``, linear in the hidden state, by Poisson regression.

    Poisson regression with a logarithmic link is convex, and its optimum among all functions is the conditional mean of
    the weight itself. The mean of the log-weight would be too low by about half its variance, and lose every unfinished
    answer against the finished ones.

    Args:
        language: Whose hidden states are read; its draws carry the twist later.
        draws: Answers of the language.
        log_weights: Of each answer, shape (rows,); not all minus infinity.
        penalty: Strength of the ridge penalty, on standardised features.
    """
    from sklearn.linear_model import PoissonRegressor

    states, owners = prefix_states(language, draws)
    centre, spread = states.mean(0), states.std(0) + 1e-6
    shift = float(log_mean_exp(log_weights))
    model = PoissonRegressor(alpha=penalty, solver="newton-cholesky", max_iter=100)
    model.fit((states - centre) / spread, np.exp(log_weights - shift)[owners])
    weight = model.coef_ / spread
    bias = float(model.intercept_ - weight @ centre) + shift
    return Twist(torch.tensor(weight, dtype=torch.float32, device=language.backbone.device), bias)
