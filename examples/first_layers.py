"""The first layers of a pretrained language model, as a model of its own: cheap to tune as a reward model.

first_layers.py MODEL COUNT OUT    MODEL is a folder or a name on the Hugging Face hub

Rewards read hidden states; docs/coffee.md has what those of four layers tell on Taskmaster Ticketing. What the cut
model would say is worth nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def cut(model: str, count: int, out: Path) -> None:
    """Write the first layers of a model, its embeddings and its last norm, in bfloat16, and its tokenizer."""
    causal = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, trust_remote_code=False)
    layers = causal.model.layers
    if not 0 < count <= len(layers):
        raise SystemExit(f"error: {model} has {len(layers)} layers, not {count}; give fewer, at least one")
    causal.model.layers = layers[:count]
    for name, value in vars(causal.config).items():  # such as layer_types: one entry a layer
        if isinstance(value, list) and len(value) == len(layers):
            setattr(causal.config, name, value[:count])
    causal.config.num_hidden_layers = count
    causal.save_pretrained(out)
    AutoTokenizer.from_pretrained(model, trust_remote_code=False).save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("count", type=int)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    cut(given.model, given.count, given.out)
