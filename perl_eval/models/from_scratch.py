"""Small causal language models made from nothing: own tokenizer, random weights. For tests, demos and laptops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from perl_eval.errors import UserError

__all__ = ["SIZES", "ScratchSize", "make_model", "make_tokenizer", "size_of"]

_ROLES = ("system", "user", "assistant", "tool")
_PAD, _END = "<|pad|>", "<|end|>"
_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True, slots=True)
class ScratchSize:
    """Shape of a from-scratch model: width, layers, attention heads, vocabulary and longest input in tokens."""

    width: int
    layers: int
    heads: int
    vocabulary: int
    positions: int


SIZES = {
    "tiny": ScratchSize(width=96, layers=3, heads=4, vocabulary=512, positions=256),
    "small": ScratchSize(width=192, layers=4, heads=6, vocabulary=4096, positions=1024),
    "medium": ScratchSize(width=320, layers=6, heads=5, vocabulary=8192, positions=1024),
}


def size_of(name: str) -> ScratchSize:
    """Return a named size.

    Raises:
        UserError: There is no such size.
    """
    if name not in SIZES:
        raise UserError(f"no from-scratch size {name!r}", f"choose one of {', '.join(SIZES)}")
    return SIZES[name]


def make_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Train a byte-level BPE tokenizer with a chat template of one token a role; pad and end tokens differ.

    Args:
        texts: What to train on.
        vocabulary: The most tokens it may have.

    Returns:
        A ``PreTrainedTokenizerFast``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [_PAD, _END, *(f"<|{role}|>" for role in _ROLES)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_END,
        additional_special_tokens=special[2:],
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_model(size: ScratchSize, tokenizer: Any, *, seed: int) -> Any:
    """Make a Llama-shaped causal language model with random weights, tied embeddings and no dropout.

    Returns:
        A ``LlamaForCausalLM`` in float32 on the CPU.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.width * 8 // 3 // 8 * 8,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
