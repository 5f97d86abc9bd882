"""A model and its tokenizer from a folder or a GGUF file, by transformers: never a pickle, never a folder's code."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError

from perl_eval.errors import UserError
from perl_eval.models.vision import is_vision, open_vision

__all__ = ["is_gguf", "open_pretrained"]

_GGUF = ".gguf"
# What transformers raises of a folder or a file that it cannot open.
_UNOPENED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    struct.error,
    StrictDataclassError,
)


def is_gguf(path: Path) -> bool:
    """Return whether a path is a file of llama.cpp's format."""
    return path.suffix.lower() == _GGUF and path.is_file()


def open_pretrained(path: Path, *, chat_template: Path | None = None) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer, or a vision-language model and its processor.

    Args:
        path: A folder, or a GGUF file, whose weights are widened.
        chat_template: File with the Jinja template that dialogues are written with, in place of the tokenizer's own.

    Returns:
        The model in the precision that it is kept in, and its tokenizer or processor.

    Raises:
        UserError: There is no model there, or one that transformers cannot open, that has no safetensors, or that needs
            code of its own; or the template is none.
    """
    if is_gguf(path):
        model, reader = _open_gguf(path)
    else:
        model, reader = _open_folder(path)
    if chat_template is not None:
        _give_template(reader, chat_template)
    return model, reader


def _open_folder(path: Path) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if not (path / "config.json").is_file():
        raise UserError(f"no model at {path}", "give a folder with config.json, or an adapter's folder")
    if not list(path.glob("*.safetensors")):
        raise UserError(f"the model at {path} has no safetensors weights", "finish training it, or convert its weights")
    with _explained(path):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if is_vision(config):
        return open_vision(path)
    with _explained(path):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(path, dtype="auto", use_safetensors=True, trust_remote_code=False)
    return model, tokenizer


def _open_gguf(path: Path) -> tuple[Any, Any]:
    """Load a GGUF file, its weights widened: what comes out is a plain model, which can be trained and saved.

    Source: transformers' documentation, "GGUF".
    """
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    told: dict[str, Any] = {"gguf_file": path.name}
    packed = getattr(transformers, "GgufConfig", None)  # versions before it widen whatever they are told
    wide = {} if packed is None else {"quantization_config": packed(dequantize=True)}
    with _explained(path):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, trust_remote_code=False, **told)
        model: Any = AutoModelForCausalLM.from_pretrained(path.parent, trust_remote_code=False, **told, **wide)
    if (quantizer := getattr(model, "hf_quantizer", None)) is not None:
        quantizer.remove_quantization_config(model)
    model.name_or_path = model.config.name_or_path = str(
        path
    )  # what peft writes down; transformers put the folder there
    return model, tokenizer


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what transformers raises into one line."""
    try:
        yield
    except _UNOPENED as error:
        if isinstance(error, ImportError) and "gguf" in str(error).lower():
            raise UserError(
                f"{path} needs the package gguf",
                "install the extra: pip install 'perl-eval[gguf]'",
                page="README.md#install",
            ) from None
        if _has_code(path):
            raise UserError(
                f"the model at {path} needs code of its own, which is never run", "take one that transformers knows"
            ) from None
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"transformers cannot open {path} ({reason})", "give a model of a kind that it knows") from None


def _has_code(path: Path) -> bool:
    """Return whether a folder's model is of a kind that its own code defines."""
    for name in ("config.json", "tokenizer_config.json"):
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((path / name).read_text("utf-8"))
            if isinstance(found, dict) and "auto_map" in found:
                return True
    return False


def _give_template(reader: Any, file: Path) -> None:
    """Set the chat template of a tokenizer or processor, and try it.

    Raises:
        UserError: There is no such file, or it writes no dialogue.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(f"--chat-template {file} cannot be read ({reason})", "give a file with a template") from None
    reader.chat_template = text
    if (tokenizer := getattr(reader, "tokenizer", None)) is not None:
        tokenizer.chat_template = text
    said = "hello"
    content: Any = [{"type": "text", "text": said}] if tokenizer is not None else said
    try:
        shown = str(reader.apply_chat_template([{"role": "user", "content": content}], tokenize=False))
    except (TemplateError, TypeError, ValueError) as error:
        raise UserError(f"--chat-template {file} is not a chat template ({error})", "correct it") from None
    if said not in shown:
        raise UserError(f"--chat-template {file} leaves out what the user says", "write message['content'] into it")
