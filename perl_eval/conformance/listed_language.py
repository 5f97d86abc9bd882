"""Languages so small that every sequence is listed: a table of logits for each prefix, a prior, a reward.

S sequences, T places, P prefixes, V words. The end of sequence is word 0 where the language has one. All numbers are
float64; the parameters are theta, (P, V), and the policy at a prefix is ``softmax(theta / temperature)``.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from perl_eval.bayes.target import exponentiated
from perl_eval.checks import at_least_one, between, positive
from perl_eval.errors import OptionError

__all__ = ["ListedLanguage", "WorldShape", "list_sequences", "listed", "summed_log_probs", "target_log_probs"]

RewardKind = Literal["dense", "binary", "length"]


@dataclass(frozen=True, slots=True)
class WorldShape:
    """What a listed language is like.

    Attributes:
        name: How it is called on the page.
        vocabulary: Words, the end of sequence among them if there is one.
        longest: The most tokens of a sequence; a sequence that long without its end is truncated.
        end_rate: About how likely the end is at each place under the prior; 0 for a language without an end, whose
            sequences are all ``longest`` tokens long and count as ended.
        temperature: Of sampling.
        group_size: Completions of a prompt.
        groups: Groups of one batch, which losses that average over the tokens of a batch depend on.
        reward: ``dense`` (a normal number for each sequence), ``binary`` (0 or 1), or ``length`` (tokens / longest).
        beta: Weight of KL(policy || prior), reward units per nat.
        apart: How far the policy's logits are from the prior's, a standard deviation in nats.
        draws: Batches that are drawn where not all are listed; 0 lists all.
        seed: Of logits and rewards.
    """

    name: str
    vocabulary: int = 3
    longest: int = 2
    end_rate: float = 0.35
    temperature: float = 1.0
    group_size: int = 2
    groups: int = 1
    reward: RewardKind = "dense"
    beta: float = 0.3
    apart: float = 0.7
    draws: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one(self, "longest", "groups")
        positive(self, "temperature", "beta", "apart")
        between(0, 1, self, "end_rate", ends="[)", such_as=0.35)
        if self.vocabulary < 2:
            raise OptionError("vocabulary", self.vocabulary, "give 2 or more")
        if self.group_size < 2:
            raise OptionError("group_size", self.group_size, "give 2 or more")


@dataclass(frozen=True, slots=True, eq=False)
class ListedLanguage:
    """Every sequence of a language, and what policy, prior and reward say about it.

    Attributes:
        shape: What it is like.
        tokens: (S, T) int64, 0 after the end.
        mask: (S, T) bool, True at tokens, the end among them.
        places: (S, T) int64, which row of theta each token is drawn from; 0 outside the mask.
        ended: (S,) bool.
        rewards: (S,).
        theta: (P, V), logits of the policy that is measured, before the temperature.
        prior: (P, V), logits of the prior, before the temperature.
        prefixes: The prefixes in the order of the rows of theta.
    """

    shape: WorldShape
    tokens: torch.Tensor
    mask: torch.Tensor
    places: torch.Tensor
    ended: torch.Tensor
    rewards: torch.Tensor
    theta: torch.Tensor
    prior: torch.Tensor
    prefixes: tuple[tuple[int, ...], ...]

    def token_log_probs(self, theta: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of each token, (S, T), 0 outside the mask."""
        table = torch.log_softmax(theta / self.shape.temperature, -1)
        return table[self.places, self.tokens] * self.mask

    def at(self, theta: torch.Tensor) -> ListedLanguage:
        """Return the same language with another policy."""
        return replace(self, theta=theta.detach())


def summed_log_probs(language: ListedLanguage, theta: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each sequence, (S,)."""
    return language.token_log_probs(theta).sum(1)


def target_log_probs(language: ListedLanguage) -> torch.Tensor:
    """Return log ``prior exp(r / beta) / Z`` of each sequence, (S,)."""
    evidence = torch.from_numpy(exponentiated(language.rewards.numpy(), beta=language.shape.beta))
    return torch.log_softmax(summed_log_probs(language, language.prior) + evidence, 0)


def list_sequences(vocabulary: int, longest: int, *, ends: bool) -> list[tuple[int, ...]]:
    """Return every sequence: those that end, shortest first, then those that reach ``longest`` without an end."""
    words = range(1 if ends else 0, vocabulary)
    open_ones = [list(itertools.product(words, repeat=length)) for length in range(longest + 1)]
    ended = [(*prefix, 0) for prefixes in open_ones[:-1] for prefix in prefixes] if ends else []
    return [*ended, *open_ones[-1]]


@functools.lru_cache(maxsize=32)
def listed(shape: WorldShape) -> ListedLanguage:
    """Return the language of a shape, its logits and rewards drawn from its seed."""
    ends = shape.end_rate > 0
    sequences = list_sequences(shape.vocabulary, shape.longest, ends=ends)
    prefixes = tuple(dict.fromkeys(one[:place] for one in sequences for place in range(len(one))))
    random = torch.Generator().manual_seed(shape.seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=random, dtype=torch.float64)

    prior = normal(len(prefixes), shape.vocabulary) * 0.5
    if ends:
        odds = shape.end_rate / (1 - shape.end_rate)
        prior[:, 0] += math.log(odds * (shape.vocabulary - 1))
    theta = prior + shape.apart * normal(len(prefixes), shape.vocabulary)
    rewards = _rewards(shape, sequences, normal(len(sequences)))
    return assembled(shape, sequences, rewards, (theta, prior), ends=ends)


def assembled(
    shape: WorldShape,
    sequences: list[tuple[int, ...]],
    rewards: torch.Tensor,
    logits: tuple[torch.Tensor, torch.Tensor],
    *,
    ends: bool,
) -> ListedLanguage:
    """Return a language from its sequences, their rewards, and the logits of policy and prior."""
    prefixes = tuple(dict.fromkeys(one[:place] for one in sequences for place in range(len(one))))
    number = {prefix: row for row, prefix in enumerate(prefixes)}
    size = (len(sequences), shape.longest)
    tokens, places = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
    mask = torch.zeros(size, dtype=torch.bool)
    for row, one in enumerate(sequences):
        tokens[row, : len(one)] = torch.tensor(one)
        places[row, : len(one)] = torch.tensor([number[one[:place]] for place in range(len(one))])
        mask[row, : len(one)] = True
    ended = torch.tensor([not ends or one[-1] == 0 for one in sequences])
    return ListedLanguage(shape, tokens, mask, places, ended, rewards, *logits, prefixes)


def _rewards(shape: WorldShape, sequences: list[tuple[int, ...]], dense: torch.Tensor) -> torch.Tensor:
    if shape.reward == "dense":
        return dense
    lengths = torch.tensor([len(one) for one in sequences], dtype=torch.float64)
    if shape.reward == "length":
        return lengths / shape.longest
    return torch.tensor([float(one.count(1) % 2) for one in sequences], dtype=torch.float64)
