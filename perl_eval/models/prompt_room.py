"""How much a model reads at once; and refusing options that no run can be made with, before anything is loaded."""

from __future__ import annotations

import sys
from typing import Any

from perl_eval.errors import OptionError

__all__ = ["most_tokens", "prompt_room"]

_NO_LIMIT = 10**9
"""What tokenizers say who know of none is far above it."""


def prompt_room(max_tokens: int, max_new_tokens: int) -> int:
    """Return how many tokens of prompt fit beside the longest sample.

    Raises:
        UserError: None do.
    """
    room = max_tokens - max_new_tokens
    if room < 1:
        fix = f"give more than `max_new_tokens`, {max_new_tokens}, so that there is room for a prompt"
        raise OptionError("max_tokens", max_tokens, fix)
    return room


def most_tokens(asked: int, model: Any, tokenizer: Any) -> int:
    """Return how many tokens a sequence may have: as many as were asked for, and as the model was made for.

    Args:
        asked: The option ``max_tokens``; 0 for what the model takes.
        model: Of ``transformers``; its config says what it was made for, if anything does.
        tokenizer: Its tokenizer, which may say so too.
    """
    config = model.config.get_text_config()
    known = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    known.append(getattr(tokenizer, "model_max_length", None))
    limits = [int(one) for one in known if isinstance(one, int | float) and 0 < one < _NO_LIMIT]
    return min([asked or sys.maxsize, *limits[:1]])
