"""Vision-language models of several families, of random weights and a few thousand parameters, for tests.

What families do differently: a picture is one row of pixels (LLaVA, Gemma 3), several tiles (LLaVA-NeXT,
Idefics3, SmolVLM) or a packed run of patches with its grid beside it (Qwen2-VL, Qwen3-VL); positions are counted, or
lie in space (Qwen); and the pieces of a picture may be read both ways (Gemma 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_models
import torch

from perl_eval.models.from_scratch import make_tokenizer
from perl_eval.worlds import pictures

__all__ = ["SAVERS", "TEMPLATE", "save", "without_films"]

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% for p in m.content %}{% if p.type == 'image' %}<image>"
    "{% else %}{{ p.text }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
TOWER = {**TEXT, "image_size": 32, "patch_size": 16}


def tokenizer_with(*marks: str, named: Mapping[str, str] | None = None) -> Any:
    said = " ".join(["what colour is it on the left right", *pictures.COLOURS])
    tokenizer = make_tokenizer([said] * 9, 300)
    tokenizer.add_special_tokens({"extra_special_tokens": [*tokenizer.extra_special_tokens, *marks]})
    if named:
        tokenizer._set_model_specific_special_tokens(special_tokens=dict(named))
    return tokenizer


def ends(tokenizer: Any) -> dict[str, Any]:
    return {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}


def wide(tokenizer: Any) -> dict[str, Any]:
    return {
        **TEXT,
        **ends(tokenizer),
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 512,
    }


def llama(tokenizer: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(**wide(tokenizer))


def save_llava_next(folder: Path) -> None:
    """Write a model that sees a picture whole and in tiles, as many as its shape asks for."""
    from transformers import CLIPVisionConfig, LlavaNextConfig, LlavaNextForConditionalGeneration, LlavaNextProcessor
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    grid = [[16, 32], [32, 16], [32, 32]]
    tokenizer = tokenizer_with("<image>")
    sight = LlavaNextImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, image_grid_pinpoints=grid
    )
    processor = LlavaNextProcessor(
        sight,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**TEXT, image_size=16, patch_size=8),
        text_config=llama(tokenizer),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
    )
    LlavaNextForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


IDEFICS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")


def save_idefics3(folder: Path) -> None:
    """Write a model whose pictures are cut up, with marks for rows and columns between the pieces."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = tokenizer_with(*IDEFICS)
    sight = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(sight, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    config = Idefics3Config(
        vision_config={**TEXT, "image_size": 32, "patch_size": 8},
        text_config=llama(tokenizer),
        image_token_id=processor.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_smolvlm(folder: Path) -> None:
    """Write a model as Idefics3, of another class, whose processor has a part for films."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMProcessor
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    tokenizer = tokenizer_with(*IDEFICS)
    sight = SmolVLMImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = SmolVLMProcessor(sight, tokenizer, None, image_seq_len=4, chat_template=TEMPLATE)
    config = SmolVLMConfig(
        vision_config={**TEXT, "image_size": 32, "patch_size": 8},
        text_config=llama(tokenizer),
        image_token_id=processor.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_gemma3(folder: Path) -> None:
    """Write a model that reads the pieces of one picture both ways, some layers within a window."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    named = {"boi_token": "<image>", "eoi_token": "<end_image>", "image_token": "<piece>"}
    tokenizer = tokenizer_with(*named.values(), named=named)
    sight = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(sight, tokenizer, chat_template=TEMPLATE, image_seq_length=4)
    config = Gemma3Config(
        vision_config={**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config={**wide(tokenizer), "head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16},
        image_token_index=tokenizer.convert_tokens_to_ids("<piece>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_image>"),
        mm_tokens_per_image=4,
        **ends(tokenizer),
    )
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # zeros, if it is left
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


QWEN = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
SEEN = TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")


def qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return dict(zip(names, tokenizer.convert_tokens_to_ids(list(QWEN)), strict=True))


def save_qwen2_vl(folder: Path) -> None:
    """Write a model whose pictures are runs of patches of any length, placed in three dimensions."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = tokenizer_with(*QWEN)
    sight = Qwen2VLImageProcessorPil(min_pixels=16 * 16, max_pixels=32 * 48, patch_size=8, merge_size=2)
    processor = Qwen2VLProcessor(sight, tokenizer, None, chat_template=SEEN)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 8},
        text_config={**wide(tokenizer), "rope_parameters": rope},
        **qwen_ids(tokenizer),
    )
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_qwen3_vl(folder: Path) -> None:
    """Write a model as Qwen2-VL that also adds what its tower saw to its first layers."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = tokenizer_with(*QWEN)
    sight = Qwen2VLImageProcessorPil(min_pixels=16 * 16, max_pixels=32 * 48, patch_size=8, merge_size=2)
    processor = Qwen3VLProcessor(sight, tokenizer, None, chat_template=SEEN)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    tower = {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "num_heads": 2}
    config = Qwen3VLConfig(
        vision_config={**tower, "patch_size": 8, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]},
        text_config={**wide(tokenizer), "head_dim": 16, "rope_parameters": rope},
        **qwen_ids(tokenizer),
    )
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


SAVERS: Mapping[str, Callable[[Path], object]] = {
    "llava": tiny_models.save_blank_vision,
    "llava-next": save_llava_next,
    "idefics3": save_idefics3,
    "smolvlm": save_smolvlm,
    "gemma3": save_gemma3,
    "qwen2-vl": save_qwen2_vl,
    "qwen3-vl": save_qwen3_vl,
}


def _and_none(read: Callable[..., list[Any]], *given: Any, **how: Any) -> list[Any]:
    return [*read(*given, **how), None]


@contextmanager
def without_films() -> Iterator[None]:
    """Leave out the part of processors that reads films, which needs torchvision."""
    from transformers import Qwen2VLProcessor, Qwen3VLProcessor, SmolVLMProcessor
    from transformers.models.smolvlm import processing_smolvlm

    with pytest.MonkeyPatch.context() as patch:
        for kind in (Qwen2VLProcessor, Qwen3VLProcessor, SmolVLMProcessor):
            patch.setattr(kind, "get_attributes", classmethod(lambda _: ["image_processor", "tokenizer"]))
            read = kind._get_arguments_from_pretrained
            patch.setattr(kind, "_get_arguments_from_pretrained", partial(_and_none, read))
        patch.setattr(SmolVLMProcessor, "video_processor", SimpleNamespace(num_frames=1, fps=1), raising=False)
        patch.setattr(processing_smolvlm, "num2words", str)
        yield


def save(family: str, folder: Path) -> Path:
    """Write a model folder of one family."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        SAVERS[family](folder)
    return folder
