"""What the name of each figure of the posterior means, in one line."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["MEANINGS"]

MEANINGS: Mapping[str, str] = {
    "log Z": "log of the target's normaliser, mean over prompts, from draws of the prior",
    "log Z, from this policy's draws": "the same from draws of this policy: agreement says that both see the target",
    "log Z, from this sampler": "mean of the sampler's own estimates; below log Z in expectation",
    "log Z, from above": "from exact draws of the target: above log Z in expectation",
    "effective sample size": "draws of the prior a prompt that the importance weights are worth",
    "KL(target || prior)": "nats a prompt that the target is away from the prior",
    "reward": "mean of the reward that the target is made of, in standard deviations of the prior",
    "true reward": "mean of the known reward, in [0, 1]",
    "KL(method || prior)": "nats a prompt from the method's answers to the prior",
    "KL(method || target)": "nats a prompt from the method's answers to the target: 0 once it is reached",
    "KL(target || method)": "nats a prompt from the target to the method: large where it misses what the target says",
    "J": "mean reward less beta times the KL to the prior, which the target maximises",
    "gap beta log Z - J": "how far J is below its maximum, in reward units: beta times the KL to the target",
    "KL bound log n - (n - 1) / n": "the most that the KL of best-of-n to the prior can be",
    "total variation to target": "total variation distance of the kept draws from the target",
    "acceptance, expected": "share of draws that the pool says are kept",
    "acceptance, seen": "share of draws that were kept",
    "draws above the bound": "draws whose weight exceeded the bound; any, and the answers are not exact",
    "tokens drawn an answer": "tokens sampled for each answer given, of kept and discarded draws",
    "answers scored an answer": "whole answers that the reward was asked about, for each answer given",
    "tokens drawn in training": "tokens sampled while the policy was trained",
    "entropy": "mean of minus the answer's log-probability under the method, in nats",
    "entropy of the draws": "entropy of the few texts drawn a prompt, at most the log of their number, in nats",
    "perplexity under the prior": "exp of the prior's mean surprise a token",
}
"""Figure to meaning; figures of diversity are explained in `perl_eval.stats.glossary`."""
