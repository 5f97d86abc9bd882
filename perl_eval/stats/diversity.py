"""How varied the completions of a policy are: what is lost when it collapses onto a few answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.intervals import mean, sparse_mean, undefined

__all__ = [
    "distinct_share",
    "diversity",
    "entropy",
    "mode_share",
    "repetition",
    "self_bleu",
    "unique_share",
]

_ORDER = 4
"""Longest n-gram of self-BLEU, and the n-gram whose repetition is counted."""


def _ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def distinct_share(texts: Sequence[str], n: int) -> float | None:
    """Return distinct-n: different n-grams of words over all n-grams, in (0, 1]; None if there is no n-gram.

    Source: Li et al., arXiv 1510.03055.
    """
    grams = [gram for text in texts for gram in _ngrams(text.split(), n)]
    return len(set(grams)) / len(grams) if grams else None


def unique_share(texts: Sequence[str]) -> float:
    """Return the share of different texts among all, in (0, 1]."""
    return len(set(texts)) / len(texts)


def mode_share(texts: Sequence[str]) -> float:
    """Return the share of the commonest text, in (0, 1]."""
    return max(Counter(texts).values()) / len(texts)


def entropy(texts: Sequence[str]) -> float:
    """Return the entropy of the empirical distribution of the texts, in nats; at most ``log(len(texts))``."""
    n = len(texts)
    return sum(times / n * log(n / times) for times in Counter(texts).values())


def repetition(text: str, n: int = _ORDER) -> float | None:
    """Return the share of the n-grams of a text that occurred earlier in it, in [0, 1); None if it has no n-gram."""
    share = distinct_share([text], n)
    return None if share is None else 1 - share


def self_bleu(texts: Sequence[str]) -> float | None:
    """Return the mean BLEU-4 of each text against the others, in [0, 1]; None with fewer than two texts.

    The geometric mean of clipped n-gram precisions, n = 1 to 4, one added to counts and totals above n = 1, times the
    brevity penalty against the length closest to the text's own. A text without words scores 0.

    Source: Zhu et al., arXiv 1802.01886 (self-BLEU); Lin and Och, COLING 2004 (the smoothing).
    """
    if len(texts) < 2:
        return None
    words = [text.split() for text in texts]
    logs = np.zeros(len(texts))
    with np.errstate(divide="ignore"):  # nothing in common: the log of 0, and a score of 0
        for n in range(1, _ORDER + 1):
            smooth = 1 if n > 1 else 0
            grams = [Counter(_ngrams(tokens, n)) for tokens in words]
            totals = np.array([max(0, len(tokens) - n + 1) for tokens in words])
            logs += np.log((_clipped(grams) + smooth) / np.maximum(totals + smooth, 1)) / _ORDER
    return float(np.mean(np.exp(logs + _brevity([len(tokens) for tokens in words]))))


def _clipped(grams: Sequence[Counter[tuple[str, ...]]]) -> NDArray[np.int64]:
    """Return how many n-grams of each text are in another, each counted as often as in the one that has it most."""
    twice: dict[tuple[str, ...], tuple[int, int]] = {}  # how often the two texts have it that have it most
    for counts in grams:
        for gram, times in counts.items():
            most, next_most = twice.get(gram, (0, 0))
            twice[gram] = (times, most) if times > most else (most, max(next_most, times))
    # The text that has it most is held against the next; any other has at least one before it.
    return np.array([sum([min(n, twice[gram][n == twice[gram][0]]) for gram, n in one.items()]) for one in grams])


def _brevity(lengths: Sequence[int]) -> NDArray[np.float64]:
    """Return the log of each text's brevity penalty, against the other of the closest length, the shorter of two."""
    found = []
    for place, length in enumerate(lengths):
        others = (*lengths[:place], *lengths[place + 1 :])
        closest = min(others, key=lambda other: (abs(other - length), other))
        found.append(min(0.0, 1 - closest / length) if length else 0.0)
    return np.array(found)


def diversity(texts: Sequence[str], items: Sequence[str], *, level: float = 0.95) -> list[Estimate]:
    """Estimate the diversity of a policy's completions: per prompt, averaged over prompts, and over all prompts.

    Args:
        texts: The completions.
        items: The prompt that each belongs to.
        level: Confidence level of the intervals over prompts: t, but for ``repetition``, which is mostly zero.
    """
    prompts: dict[str, list[str]] = {}
    for text, item in zip(texts, items, strict=True):
        prompts.setdefault(item, []).append(text)
    drawn = [group for group in prompts.values() if len(group) > 1]
    unit = (0.0, 1.0)

    def per_prompt(name: str, values: Sequence[float | None], bounds: tuple[float, float] | None = unit) -> Estimate:
        known = [value for value in values if value is not None]
        missing = len(prompts) - len(known)
        if not known:
            return undefined(name, "no prompt has two completions with words", n_missing=missing, method="t")
        return mean(name, known, n_missing=missing, bounds=bounds, level=level)

    shares = [repetition(text) for text in texts]
    found = [
        per_prompt(named.UNIQUE_SHARE, [unique_share(group) for group in drawn]),
        per_prompt(named.MODE_SHARE, [mode_share(group) for group in drawn]),
        per_prompt(named.ENTROPY, [entropy(group) for group in drawn], None),
        per_prompt(named.SELF_BLEU, [self_bleu(group) for group in drawn]),
        *(per_prompt(f"distinct-{n}", [distinct_share(group, n) for group in drawn]) for n in (1, 2, 3)),
        _repetition(shares, items, level),
    ]
    return [*found, *_overall(texts)]


def _repetition(shares: Sequence[float | None], items: Sequence[str], level: float) -> Estimate:
    known = [(share, item) for share, item in zip(shares, items, strict=True) if share is not None]
    missing = len(shares) - len(known)
    if not known:
        return undefined(named.REPETITION, f"no completion has {_ORDER} words", n_missing=missing, method="Wilson")
    values, clusters = [share for share, _ in known], [item for _, item in known]
    return sparse_mean(named.REPETITION, values, clusters=clusters, n_missing=missing, level=level)


def _overall(texts: Sequence[str]) -> list[Estimate]:
    """Return figures over all completions at once; they depend on how many there are and have no interval."""
    n, method = len(texts), "all completions together"
    if n == 0:
        return [undefined(named.UNIQUE_SHARE_ALL_PROMPTS, "there are no completions", method=method)]
    found = [Estimate(named.UNIQUE_SHARE_ALL_PROMPTS, unique_share(texts), None, None, n, 0, method)]
    for order in (1, 2, 3):
        name, share = f"distinct-{order}, all prompts", distinct_share(texts, order)
        if share is None:
            found.append(undefined(name, f"no completion has {order} words", n=n, method=method))
        else:
            found.append(Estimate(name, share, None, None, n, 0, method))
    return found
