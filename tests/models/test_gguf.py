"""GGUF files: a small one is written with llama.cpp's own package, and read through transformers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from command_line import Command

from perl_eval.errors import UserError
from perl_eval.judges.registry import open_judge
from perl_eval.models.backbone import open_backbone
from perl_eval.models.tokenize import encode_prompt
from perl_eval.records import Message
from perl_eval.storage import run_folder

NORMAL, CONTROL = 1, 3
"""Types of tokens in llama.cpp's format."""
written = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="needs the package gguf")


def qwen(tokenizer: Any) -> Any:
    """Make a Qwen 2 model of random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    size |= {"num_key_value_heads": 2, "max_position_embeddings": 4096, "vocab_size": len(tokenizer)}
    return Qwen2ForCausalLM(Qwen2Config(**size, tie_word_embeddings=True, initializer_range=0.3)).eval()


def write_gguf(file: Path, model: Any, tokenizer: Any, *, kind: str = "qwen2", template: bool = True) -> Path:
    """Write a model as llama.cpp keeps it, its matrices in eight bits."""
    import gguf

    config = model.config
    to = gguf.GGUFWriter(str(file), kind)
    to.add_block_count(config.num_hidden_layers)
    to.add_context_length(config.max_position_embeddings)
    to.add_embedding_length(config.hidden_size)
    to.add_feed_forward_length(config.intermediate_size)
    to.add_head_count(config.num_attention_heads)
    to.add_head_count_kv(config.num_key_value_heads)
    to.add_rope_freq_base(config.rope_parameters["rope_theta"])
    to.add_layer_norm_rms_eps(config.rms_norm_eps)
    words = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_tokens)
    to.add_tokenizer_model("gpt2")
    to.add_tokenizer_pre("qwen2")
    to.add_token_list(tokens)
    to.add_token_types([CONTROL if token in special else NORMAL for token in tokens])
    to.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in words["model"]["merges"]])
    to.add_eos_token_id(tokenizer.eos_token_id)
    to.add_pad_token_id(tokenizer.pad_token_id)
    if template:
        to.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # the embeddings
            continue
        values = tensor.numpy().astype(np.float32)
        stem, _, end = name.rpartition(".")
        called = f"{names.get_name(stem)}.{end}"
        if values.ndim > 1:
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            to.add_tensor(called, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            to.add_tensor(called, values)
    to.write_header_to_file()
    to.write_kv_data_to_file()
    to.write_tensors_to_file()
    to.close()
    return file


@pytest.fixture
def held(tmp_path: Path) -> tuple[Path, Any, Any]:
    """Return a GGUF file, and the model and tokenizer that it was made from."""
    pytest.importorskip("gguf")
    tokenizer = tiny_models.tokenizer_of_a_judge()
    model = qwen(tokenizer)
    return write_gguf(tmp_path / "tiny.q8_0.gguf", model, tokenizer), model, tokenizer


@written
def test_weights_are_widened_and_the_tokenizer_is_the_same(held: tuple[Path, Any, Any]) -> None:
    import gguf

    file, model, tokenizer = held
    backbone = open_backbone(file)
    own = {name: tensor.detach().numpy() for name, tensor in backbone.causal.state_dict().items()}
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if values.ndim > 1:
            values = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
        np.testing.assert_array_equal(own[name], values, err_msg=name)
    said = (Message("user", "the better one"),)
    assert encode_prompt(backbone.processor, said, max_tokens=99) == encode_prompt(tokenizer, said, max_tokens=99)
    assert backbone.end_id == tokenizer.eos_token_id


@written
def test_verbs_take_the_file(held: tuple[Path, Any, Any], tmp_path: Path, command: Command) -> None:
    file, _, _ = held
    data = tmp_path / "data"
    tiny_models.write_rows(data, train=tiny_models.demonstrations(1, 8), test=tiny_models.prompts(1, 2))
    lengths = "--max-tokens 96 --device cpu"
    for line in (
        f"sample --model {file} --data {data} --out {tmp_path}/said --max-new-tokens 2 {lengths}",
        f"train sft --model {file} --data {data} --out {tmp_path}/sft --epochs 1 --batch 8 {lengths}",
        f"train sft --model {file} --data {data} --out {tmp_path}/lora --lora --rank 2 --epochs 1 --batch 8 {lengths}",
        f"sample --model {tmp_path}/sft --data {data} --out {tmp_path}/again --max-new-tokens 2 {lengths}",
    ):
        shown = command(line)
        assert shown.code in (0, None), (line, shown)
    card = run_folder.read_card(tmp_path / "said")
    assert card is not None
    assert card.inputs[str(file)] == run_folder.fingerprint(file)
    assert list((tmp_path / "sft").glob("*.safetensors"))
    judge = open_judge(f"local:{file}")
    assert judge.model.startswith("tiny.q8_0.gguf@")


@written
def test_what_transformers_cannot_open_is_one_line(
    held: tuple[Path, Any, Any], tmp_path: Path, fails: Callable[[str], str]
) -> None:
    file, model, tokenizer = held
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.prompts(1, 2))
    unknown = write_gguf(tmp_path / "unknown.gguf", model, tokenizer, kind="nothing-of-that-name")
    assert f"transformers cannot open {unknown} (" in fails(
        f"sample --model {unknown} --data {data} --out {tmp_path}/a"
    )
    file.write_bytes(file.read_bytes()[:200])
    assert f"transformers cannot open {file} (" in fails(f"sample --model {file} --data {data} --out {tmp_path}/b")
    assert f"cannot open {file} (" in fails(f"judge x --judge local:{file} --prompt harmful --out {tmp_path}/c")


@written
def test_a_file_without_template_is_given_one(held: tuple[Path, Any, Any], tmp_path: Path) -> None:
    _, model, tokenizer = held
    bare = write_gguf(tmp_path / "bare.gguf", model, tokenizer, template=False)
    with pytest.raises(UserError, match="has no chat template; give one with --chat-template FILE"):
        open_judge(f"local:{bare}")
    (tmp_path / "template.jinja").write_text(tokenizer.chat_template)
    backbone = open_backbone(bare, chat_template=tmp_path / "template.jinja")
    said = (Message("user", "Yes"),)
    assert encode_prompt(backbone.processor, said, max_tokens=99) == encode_prompt(tokenizer, said, max_tokens=99)


def test_without_the_package_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    def needs(*_: Any, **__: Any) -> None:
        raise ImportError("Loading a GGUF checkpoint requires both PyTorch and GGUF>=0.10.0 to be installed.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", needs)  # a kind that only the older reader knows
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"x.gguf needs the package gguf; install .* 'perl-eval\[gguf\]'$"):
        open_backbone(tmp_path / "x.gguf")
