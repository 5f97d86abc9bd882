"""Small vision-language models made from nothing: LLaVA-shaped, own tokenizer, random weights."""

from __future__ import annotations

from typing import Any

from perl_eval.models.from_scratch import ScratchSize

__all__ = ["make_vision_model", "make_vision_processor"]

_MARK = "<image>"
_SIDE, _PATCH, _LAYERS = 32, 16, 1
"""Pixels along the side of a picture as the model sees it, and of a patch: 4 tokens a picture; layers of the tower."""
_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% for part in message.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_vision_processor(tokenizer: Any) -> Any:
    """Give a from-scratch tokenizer a token that stands for a piece of a picture, and what cuts pictures up.

    Args:
        tokenizer: From `perl_eval.models.from_scratch.make_tokenizer`; gains the token.

    Returns:
        A ``LlavaProcessor``.
    """
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    tokenizer.add_special_tokens({"extra_special_tokens": [*tokenizer.extra_special_tokens, _MARK]})
    tokenizer.chat_template = None
    pictures = CLIPImageProcessorPil(
        size={"height": _SIDE, "width": _SIDE},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(  # type: ignore[no-untyped-call]
        pictures,
        tokenizer,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        chat_template=_TEMPLATE,
        image_token=_MARK,
        num_additional_image_tokens=1,
    )


def make_vision_model(size: ScratchSize, processor: Any, *, seed: int) -> Any:
    """Make a CLIP-shaped tower, a projector and a Llama-shaped language model with random weights and no dropout.

    Args:
        size: Of the language model; the tower has its width and heads.
        processor: From `make_vision_processor`.
        seed: Seeds the weights.

    Returns:
        A ``LlavaForConditionalGeneration`` in float32 on the CPU.
    """
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    tokenizer = processor.tokenizer
    ends: dict[str, Any] = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    wide: dict[str, Any] = {
        "hidden_size": size.width,
        "intermediate_size": size.width * 8 // 3 // 8 * 8,
        "num_attention_heads": size.heads,
    }
    text = LlamaConfig(
        **wide,
        **ends,
        vocab_size=len(tokenizer),
        num_hidden_layers=size.layers,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.positions,
        tie_word_embeddings=True,
    )
    tower = CLIPVisionConfig(
        **wide,
        num_hidden_layers=_LAYERS,
        image_size=_SIDE,
        patch_size=_PATCH,
    )
    config = LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(_MARK),
        image_seq_length=(_SIDE // _PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        **ends,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(config)
