"""How fast the samplers of the posterior draw, beside plain sampling: tokens a second through one model.

    python benchmarks/posterior.py --prompts 16 --draws 4 --n 16

Plain sampling is `generate`, which `sample` runs: every draw reads its prompt anew. The others read a prompt once a
batch. The model is made from nothing, its weights are random, and the evidence is a cheap function of the tokens, so
that the figures are of drawing, weighing and steering, not of a reward model.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from perl_eval.bayes import best_of_n, rejection
from perl_eval.bayes.best_of_n import SamplerResult
from perl_eval.bayes.smc import Filtering, sequential
from perl_eval.bayes.target import Target
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.from_scratch import SIZES, make_model, make_tokenizer
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.sequence_model import Asked, ModelLanguage, Twist

WORDS = ("order", "latte", "small", "large", "milk", "oat", "please", "coming", "up", "sure", "thanks", "one")


def model(folder: Path, size: str) -> Backbone:
    """Make a model of random weights; one id in twenty ends an answer, so lengths differ as those of answers do."""
    texts = [" ".join(np.random.default_rng(seed).choice(WORDS, 8)) for seed in range(200)]
    tokenizer = make_tokenizer(texts, SIZES[size].vocabulary)
    made = make_model(SIZES[size], tokenizer, seed=0)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    backbone = open_backbone(folder)
    backbone.end_ids = (backbone.end_id, *range(10, len(tokenizer), 20))
    return backbone


def evidence(_: NDArray[np.int64], sequences: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return a cheap log-evidence of one nat's spread."""
    return np.array([np.sin(sum(sequence)) for sequence in sequences], np.float64)


def report(name: str, tokens: int, seconds: float, plain: float | None) -> float:
    """Print one line and return tokens a second."""
    rate = tokens / seconds
    beside = "" if plain is None else f", {rate / plain:.2f} of plain sampling"
    print(f"{name + ':':<24}{tokens:>8,} tokens in {seconds:6.2f} s, {rate:>8,.0f} tokens/s{beside}")
    return rate


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", choices=sorted(SIZES))
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--batch", type=int, default=256)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        backbone = model(Path(folder), given.model)
    random = np.random.default_rng(0)
    size = len(backbone.tokenizer)
    prompts = tuple(tuple(random.integers(5, size, 40).tolist()) for _ in range(given.prompts))
    sampling = Sampling(1.0, given.new_tokens)
    asked = Asked(tuple(map(str, range(given.prompts))), prompts)
    language = ModelLanguage(backbone, None, asked, sampling, seed=0, batch=given.batch)
    contexts = np.arange(given.prompts)
    rows = best_of_n.rows_of(contexts, given.draws * given.n)
    seeds = language.seeds(*rows)

    def plainly() -> int:
        tokens = 0
        for start in range(0, len(seeds), given.batch):
            chosen = slice(start, start + given.batch)
            asked_now = [prompts[place] for place in rows[0][chosen].tolist()]
            tokens += sum(len(rollout.ids) for rollout in generate(backbone, asked_now, seeds[chosen], sampling))
        return tokens

    language.draw(contexts, np.zeros_like(contexts))  # the first pass pays for what is made once
    begun_s = time.perf_counter()
    tokens = plainly()
    plain = report("plain sampling", tokens, time.perf_counter() - begun_s, None)
    begun_s = time.perf_counter()
    drawn = language.draw(*rows)
    report("draws, prompts shared", drawn.tokens, time.perf_counter() - begun_s, plain)
    twisted = language.stream("twist", twist=Twist(torch.zeros(backbone.width), 0.0))
    target, other = Target(language, evidence), Target(twisted, evidence)
    count, n = given.draws, given.n
    samplers: dict[str, Callable[[], SamplerResult]] = {
        f"best of {n}": lambda: best_of_n.best_of_n(target, language, contexts, count=count, n=n),
        f"SIR of {n}": lambda: best_of_n.importance_resampled(target, language, contexts, count=count, n=n),
        "rejection": lambda: rejection.rejected(target, language, contexts, count=count, log_bound=1.0, most=999),
        f"SMC of {n}": lambda: sequential(
            target, language, contexts, count=count, filtering=Filtering(n, at_once=given.batch)
        ),
        f"SMC of {n}, twisted": lambda: sequential(
            other, twisted, contexts, count=count, filtering=Filtering(n, at_once=given.batch)
        ),
    }
    for name, sampler in samplers.items():
        begun_s = time.perf_counter()
        found = sampler()
        report(name, found.tokens, time.perf_counter() - begun_s, plain)
    lengths = np.array([len(sequence) for sequence in drawn.sequences])
    idle = 1 - lengths.sum() / (len(lengths) * lengths.max())
    print(f"a batch that kept its ended rows would idle in {idle:.0%} of its row-steps; these leave it")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
