"""What the trainers log: every metric of a curve, its unit and its meaning. A test holds it to what is logged."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["METRICS", "glossary"]

_GRADIENT = "norm of the gradient before it is clipped"
_NATS = "nats"
METRICS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "train sft": {
        "loss": (_NATS, "mean negative log-probability of a completion token of the step"),
        "gradient norm": ("", _GRADIENT),
        "validation loss": (_NATS, "the same on all validation rows; the weights with the lowest are kept"),
    },
    "train reward": {
        "loss": (_NATS, "mean negative log-probability of a label (pointwise) or of a preference (pairwise)"),
        "accuracy": (
            "share",
            "labels on the right side of 0 (pointwise), pairs with the chosen answer above (pairwise)",
        ),
        "gradient norm": ("", _GRADIENT),
        "validation loss": (_NATS, "the loss on all validation rows; the weights with the lowest are kept"),
        "validation accuracy": ("share", "the accuracy on all validation rows"),
    },
    "train policy": {
        "reward": ("reward", "mean score of a sample; samples that never ended count with the missing-end reward"),
        "reward spread": ("reward", "standard deviation of the scores"),
        "KL to prior": (
            _NATS,
            "mean over samples of the summed log pi - log prior (k1); 0 at the first step, to the bit but for full "
            "tuning in bf16",
        ),
        "KL a token": (_NATS, "the same divided by the tokens sampled"),
        "entropy": (_NATS, "mean over samples of the summed -log pi at the sampling temperature"),
        "policy loss": ("", "the REINFORCE surrogate; only its gradient means something"),
        "KL loss": ("", "the surrogate of the KL as a loss term, where it is one; only its gradient means something"),
        "value loss": ("reward²", "mean squared error of the value of a token"),
        "explained variance": ("share", "1 - variance of what the values miss / variance of the returns"),
        "length": ("tokens", "mean sample, the end token included"),
        "never ended": ("share", "samples cut off by the token limit"),
        "gap, at least": (
            "reward",
            "lower bound of beta log Z - J from a prompt's own samples, where beta is above 0 and group above 1",
        ),
        "effective samples": ("samples", "effective sample size a prompt of the importance weights behind the gap"),
        "distinct samples": ("share", "distinct token sequences among the samples"),
        "policy gradient norm": ("", _GRADIENT),
        "value gradient norm": ("", _GRADIENT),
    },
}
"""Metric to unit and meaning, by verb."""


def glossary(verb: str) -> str:
    """Return the metrics of a verb as a Markdown table."""
    lines = ["| metric | unit | meaning |", "|---|---|---|"]
    lines += [f"| {name} | {unit} | {meaning} |" for name, (unit, meaning) in METRICS[verb].items()]
    return "\n".join(lines)
