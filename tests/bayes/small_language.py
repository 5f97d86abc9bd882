"""A language of some hundred sequences, so that every quantity can be had by enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perl_eval.bayes.language_model import Draws
from perl_eval.bayes.target import Target

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
END, VOCABULARY, LONGEST = 0, 4, 4
PREFIXES = [p for size in range(LONGEST) for p in itertools.product(range(1, VOCABULARY), repeat=size)]
SEQUENCES = [(*p, END) for p in PREFIXES] + list(itertools.product(range(1, VOCABULARY), repeat=LONGEST))
PLACE = {sequence: place for place, sequence in enumerate(SEQUENCES)}
_STATE = {prefix: place for place, prefix in enumerate(PREFIXES)}
NEXT = np.array([[_STATE.get((*prefix, token), -1) for token in range(VOCABULARY)] for prefix in PREFIXES])
"""The state after a token, -1 where the sequence has ended."""
STATES = np.full((len(SEQUENCES), LONGEST), -1)
TOKENS = np.zeros((len(SEQUENCES), LONGEST), np.int64)
for _place, _sequence in enumerate(SEQUENCES):
    for _step, _token in enumerate(_sequence):
        STATES[_place, _step], TOKENS[_place, _step] = _STATE[_sequence[:_step]], _token


def log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


class SmallLanguage:
    """Tokens 1 to 3 until token 0 comes or four tokens are there; one row of logits a context and prefix."""

    def __init__(self, logits: FloatArray, *, seed: int = 0, twist: FloatArray | None = None) -> None:
        self.table, self.seed, self.twist = log_softmax(logits), seed, twist
        steps = self.table[:, STATES, TOKENS] * (STATES >= 0)
        self.exact = steps.sum(-1)
        """Log-probability of every sequence, shape (contexts, sequences)."""

    @classmethod
    def random(cls, *, contexts: int = 1, seed: int = 0, size: float = 1.0) -> SmallLanguage:
        logits = np.random.default_rng(seed).normal(size=(contexts, len(PREFIXES), VOCABULARY)) * size
        return cls(logits, seed=seed)

    def draw(self, contexts: IntArray, numbers: IntArray) -> Draws:
        places = np.zeros(len(contexts), np.int64)
        for context in np.unique(contexts).tolist():
            mine = contexts == context
            stream = np.random.default_rng([self.seed, context]).random(int(numbers[mine].max()) + 1)
            edges = np.cumsum(np.exp(self.exact[context]))
            found = np.searchsorted(edges / edges[-1], stream, side="right")
            places[mine] = found[numbers[mine]]
        return Draws(contexts, tuple(SEQUENCES[place] for place in places.tolist()), self.exact[contexts, places])

    def log_probs(self, contexts: IntArray, sequences: Sequence[Sequence[int]]) -> FloatArray:
        return self.exact[contexts, [PLACE[tuple(sequence)] for sequence in sequences]]

    def prefixes(self, contexts: IntArray) -> SmallPrefixes:
        return SmallPrefixes(self, contexts)

    def seeds(self, contexts: IntArray, numbers: IntArray) -> list[int]:
        return (contexts * 10**7 + numbers + 10**12 * self.seed).tolist()


class SmallPrefixes:
    def __init__(self, language: SmallLanguage, contexts: IntArray) -> None:
        self.language, self.contexts, self.states = language, contexts, np.zeros(len(contexts), np.int64)

    def look(self) -> FloatArray:
        twist = self.language.twist
        return np.zeros(len(self.states)) if twist is None else twist[self.contexts, self.states]

    def select(self, rows: IntArray) -> None:
        self.contexts, self.states = self.contexts[rows], self.states[rows]

    def choose(self, uniforms: FloatArray) -> IntArray:
        edges = np.cumsum(np.exp(self.language.table[self.contexts, self.states]), -1)
        return np.minimum((edges <= uniforms[:, None] * edges[:, -1:]).sum(-1), VOCABULARY - 1)

    def push(self, tokens: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        log_probs = self.language.table[self.contexts, self.states, tokens]
        states = NEXT[self.states, tokens]
        ended = states < 0
        self.contexts, self.states = self.contexts[~ended], states[~ended]
        return log_probs, ended


class SmallWorld:
    """A prior, a reward and the target they make, with everything there is to know about them by enumeration."""

    def __init__(self, *, seed: int = 0, beta: float = 0.5, contexts: int = 1) -> None:
        self.beta = beta
        self.prior = SmallLanguage.random(contexts=contexts, seed=seed)
        self.rewards = np.random.default_rng(seed + 1000).normal(size=(contexts, len(SEQUENCES)))
        self.set_evidence(self.rewards / beta)

    def set_evidence(self, log_evidence: FloatArray) -> None:
        self.log_evidence = log_evidence
        joint = self.prior.exact + log_evidence
        self.log_z = np.log(np.exp(joint).sum(-1))
        self.log_target = joint - self.log_z[:, None]
        self.target = Target(self.prior, self.evidence)

    def evidence(self, contexts: IntArray, sequences: Sequence[Sequence[int]]) -> FloatArray:
        return self.log_evidence[contexts, [PLACE[tuple(sequence)] for sequence in sequences]]

    def best_twist(self) -> FloatArray:
        """Return ``log E_prior[exp(evidence) | prefix]`` of every prefix, by summing over what begins with it."""
        joint = np.exp(self.prior.exact + self.log_evidence)
        found = np.zeros((len(joint), len(PREFIXES)))
        for state, prefix in enumerate(PREFIXES):
            begins = [s[: len(prefix)] == prefix and len(s) > len(prefix) for s in SEQUENCES]
            chance = np.exp(self.prior.exact)[:, begins].sum(-1)
            found[:, state] = np.log(joint[:, begins].sum(-1) / chance)
        return found


def kl(log_p: FloatArray, log_q: FloatArray) -> float:
    """Return KL(p || q) of two listed distributions."""
    p = np.exp(log_p)
    return float((p * np.where(p > 0, log_p - log_q, 0.0)).sum())


def places(sequences: Sequence[Sequence[int]]) -> IntArray:
    return np.array([PLACE[tuple(sequence)] for sequence in sequences])


def chi_square(drawn: IntArray, chances: FloatArray, least: float = 5.0) -> float:
    """Return the p-value of Pearson's test, rare sequences pooled until each cell expects at least ``least``."""
    from scipy.stats import chisquare

    counts = np.bincount(drawn, minlength=len(chances)).astype(float)
    order = np.argsort(-chances)
    expected = chances[order] * len(drawn)
    whole = int((expected >= least).sum())
    observed = np.append(counts[order][:whole], counts[order][whole:].sum())
    wanted = np.append(expected[:whole], expected[whole:].sum())
    if wanted[-1] < least:
        observed, wanted = np.append(observed[:-2], observed[-2:].sum()), np.append(wanted[:-2], wanted[-2:].sum())
    return float(chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue)
