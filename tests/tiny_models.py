"""A language model of thirty thousand weights, and hand-made rows in a world of four colours, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from perl_eval.models.backbone import Backbone
from perl_eval.models.from_scratch import ScratchSize, make_model, make_tokenizer
from perl_eval.models.from_scratch_vision import make_vision_model, make_vision_processor
from perl_eval.models.tokenize import PaddedBatch
from perl_eval.worlds import pictures

COLOURS = ("red", "blue", "green", "gold")
SIZE = ScratchSize(width=32, layers=2, heads=2, vocabulary=300, positions=128)


def adapter_weights(rank: int, *, width: int = 32, inner: int = 80, layers: int = 2) -> int:
    """Return how many weights LoRA has on all linear layers of a Llama-shaped model without grouped queries.

    Four projections of attention go from ``width`` to ``width``, three of the feed-forward part between ``width`` and
    ``inner``; each carries two factors, of ``rank`` times what goes in and what comes out.
    """
    return layers * rank * (4 * (width + width) + 3 * (width + inner))


def turns(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def row(name: str, prompt: str, group: str = "", **columns: Any) -> dict[str, Any]:
    return {"id": name, "group": group or prompt, "dataset": "paint", "prompt": turns("user", prompt), **columns}


def answers(random: np.random.Generator, count: int) -> Iterator[tuple[str, str]]:
    """Yield prompts and answers of one to three colours."""
    for _ in range(count):
        named = [COLOURS[place] for place in random.integers(4, size=int(random.integers(1, 4)))]
        yield f"paint {random.integers(30)}", " ".join(named)


def demonstrations(seed: int, count: int) -> list[dict[str, Any]]:
    made = answers(np.random.default_rng(seed), count)
    return [row(f"d{seed}-{place}", p, completion=turns("assistant", a)) for place, (p, a) in enumerate(made)]


def ratings(seed: int, count: int) -> list[dict[str, Any]]:
    """Return answers that are liked if they name red."""
    made = answers(np.random.default_rng(seed), count)
    return [
        row(f"r{seed}-{place}", p, completion=turns("assistant", a), label="red" in a)
        for place, (p, a) in enumerate(made)
    ]


def preferences(seed: int, count: int) -> list[dict[str, Any]]:
    """Return pairs of which the one that names red more often is chosen."""
    random = np.random.default_rng(seed)
    result: list[dict[str, Any]] = []
    while len(result) < count:
        (prompt, first), (_, second) = answers(random, 2)
        gap = first.count("red") - second.count("red")
        if gap:
            best, worst = (first, second) if gap > 0 else (second, first)
            chosen, rejected = turns("assistant", best), turns("assistant", worst)
            result.append(row(f"p{seed}-{len(result)}", prompt, chosen=chosen, rejected=rejected))
    return result


def prompts(seed: int, count: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [row(f"q{seed}-{place}", f"paint {random.integers(1000)}") for place in range(count)]


def write_rows(folder: Path, **by_split: Sequence[dict[str, Any]]) -> Path:
    """Write one config: a parquet file a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in by_split.items():
        pq.write_table(pa.Table.from_pylist(list(rows)), folder / f"{split}.parquet")
    return folder


def save_blank(folder: Path) -> Path:
    """Write a model folder of random weights."""
    texts = [" ".join(COLOURS), *(f"paint {number}" for number in range(30))]
    tokenizer = make_tokenizer(texts * 4, SIZE.vocabulary)
    make_model(SIZE, tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tokenizer_of_a_judge() -> Any:
    """Make a tokenizer that has the words of a verdict whole."""
    words = ["Yes No A B C answer turn customer order", "Yes or No", "Yes", "No", " the better one"]
    return make_tokenizer(words * 50, 400)


def decided(tokenizer: Any, **changed: Any) -> Any:
    """Make a model whose random weights are so large that it prefers one answer or the other."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    size |= {"num_key_value_heads": 2, "max_position_embeddings": 8192}
    torch.manual_seed(0)
    config = LlamaConfig(**{"vocab_size": len(tokenizer), "initializer_range": 0.3, **size, **changed})
    return LlamaForCausalLM(config).eval()


def save_blank_vision(folder: Path) -> Path:
    """Write a vision-language model folder of random weights; it reads questions of the picture world."""
    texts = [" ".join(pictures.COLOURS), "what colour is on the left", "what colour is on the right"]
    processor = make_vision_processor(make_tokenizer(texts * 9, 300))
    size = ScratchSize(width=48, layers=2, heads=4, vocabulary=300, positions=128)
    make_vision_model(size, processor, seed=0).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def stir(backbone: Backbone, *names: str, seed: int = 7, size: float = 0.3) -> None:
    """Move every weight of some adapters and heads, so that they change what the model says."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in names:
            for parameter in backbone.parameters_of(name).values():
                parameter.add_(size * torch.randn(parameter.shape, generator=random))


@torch.no_grad()
def logits(backbone: Backbone, batch: PaddedBatch, name: str | None) -> torch.Tensor:
    """Return next-token logits with an adapter on."""
    with backbone.adapter(name):
        return backbone.logits(backbone.hidden(batch))
