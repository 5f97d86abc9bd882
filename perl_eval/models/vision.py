"""The eyes of a vision-language model: its processor, which turns pictures into placeholder tokens and pixel tensors.

A picture stands in the token ids as the placeholders that the processor expands it to, put there once; from then on ids
are what is scored, sampled and trained. Pixels are made when a batch goes through the model, so that a data set's
pictures need not be in memory.
"""

from __future__ import annotations

import inspect
import io
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2.exceptions import TemplateError

from perl_eval.errors import DataError, UserError
from perl_eval.models.turn_marks import broken
from perl_eval.models.vision_cache import Features, Seen, can_keep, joined
from perl_eval.records import PICTURE, Message
from perl_eval.storage.images import Picture

__all__ = ["Vision", "is_vision", "open_vision"]

_TYPES = ("token_type_ids", "mm_token_type_ids")
_TEXT_INPUTS = ("input_ids", "attention_mask", "labels", *_TYPES)
_BESIDE = ("cross_attention_mask", "image_attention_mask")
"""What processors give where pictures are read beside the text, without placeholders in it."""
_BOTH_WAYS = ("paligemma", "pi0")
"""Kinds of models that read a prompt both ways: told only where an answer begins, and else seeing the future."""
_KEPT_BYTES = 2**28
"""Pixels kept for pictures that come again, as those of a step do: 256 MiB."""


def is_vision(config: Any) -> bool:
    """Return whether a model's config is one of a vision-language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    return hasattr(config, "vision_config") and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def open_vision(path: Path) -> tuple[Any, Any]:
    """Load a vision-language model and its processor.

    Raises:
        UserError: The folder has no processor, or one that needs a package which is not installed; or the model is of
            a kind that cannot be used here.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
    from transformers.utils.import_utils import is_torchvision_available

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if config.is_encoder_decoder or config.model_type in _BOTH_WAYS:
        raise UserError(
            f"the model at {path} is a {config.model_type}, which does not read its prompt from left to right",
            "use a vision-language model that does",
        )
    try:
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, ImportError, AttributeError) as error:
        # without torchvision transformers trips over its own stand-ins for classes that need it
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if is_torchvision_available():
            fix = "add its files"
        else:
            fix = "add its files; if it reads films too, pip install torchvision"
        raise UserError(f"the vision-language model at {path} has no processor ({reason})", fix) from None
    model = AutoModelForImageTextToText.from_pretrained(
        path, dtype="auto", use_safetensors=True, trust_remote_code=False
    )
    return model, processor


@dataclass(frozen=True, slots=True)
class _Look:
    """What a picture becomes: the tokens that stand for it, and the model's tensors, (1, ...) each."""

    ids: tuple[int, ...]
    tensors: Mapping[str, torch.Tensor]

    @property
    def size_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


class Vision:
    """A processor: dialogues with pictures to token ids, pictures to pixel tensors.

    Args:
        processor: Of a vision-language model, with a tokenizer and a chat template.
        placeholder: The id that the model takes for a piece of a picture; by default the processor's own.

    Attributes:
        tokenizer: The processor's.
        unsaid: Ids that stand for pictures or films, which no sample may contain.

    Raises:
        UserError: The processor has no chat template, or no token that stands for a picture.
    """

    def __init__(self, processor: Any, placeholder: int | None = None) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self._mark: str = getattr(processor, "image_token", None) or ""
        template = getattr(processor, "chat_template", None) or self.tokenizer.chat_template
        if not self._mark or template is None:
            what = "chat template" if self._mark else "token that stands for a picture"
            fix = "give one with --chat-template FILE" if self._mark else "use another model"
            raise UserError(f"the processor {type(processor).__name__} has no {what}", fix)
        self._mark_id = int(self.tokenizer.convert_tokens_to_ids(self._mark))
        self.placeholder = self._mark_id if placeholder is None else int(placeholder)
        others = (getattr(processor, f"{kind}_token_id", None) for kind in ("image", "video", "audio"))
        marks = {self._mark_id, self.placeholder, *(int(one) for one in others if one is not None)}
        self.unsaid = tuple(sorted(marks))
        self._spelled = tuple(self.tokenizer.convert_ids_to_tokens(list(self.unsaid)))
        self._special = set(self.tokenizer.all_special_ids) | {
            number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special
        }
        self._features = Features()
        self._looks: OrderedDict[str, _Look] = OrderedDict()
        self._kept_bytes = 0

    def save_pretrained(self, folder: Path) -> None:
        """Write the processor and its tokenizer."""
        self.processor.save_pretrained(folder)

    def rendered(self, messages: Sequence[Message], *, open_turn: bool) -> str:
        """Return a dialogue as the chat template writes it, one mark for each picture.

        Raises:
            UserError: The template refuses the dialogue.
        """
        turns = [{"role": message.role, "content": self._parts(message)} for message in messages]
        try:
            text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=open_turn)
        except (TemplateError, TypeError) as error:
            roles = ", ".join(message.role for message in messages)
            raise UserError(f"the chat template refuses a dialogue of {roles} ({error})", "use another model") from None
        return str(text)

    def _parts(self, message: Message) -> list[dict[str, str]]:
        parts: list[dict[str, str]] = []
        for place, text in enumerate(message.content.split(PICTURE)):
            if place:
                parts.append({"type": "image"})
            if text:
                said = broken(self.tokenizer, text, message.role, more=self._spelled)
                parts.append({"type": "text", "text": said})
        return parts

    def ids(self, text: str, pictures: Iterator[Picture]) -> list[int]:
        """Return the ids of a rendered text, its marks expanded to the placeholders of the next pictures.

        Raises:
            UserError: The text has more marks than there are pictures.
        """
        count = text.count(self._mark)
        taken = [picture for _, picture in zip(range(count), pictures, strict=False)]
        if len(taken) < count:
            raise UserError(
                f"the dialogue has places for more than its {len(taken)} pictures", "give a picture for each place"
            )
        looks = [self._look(picture) for picture in taken]
        if all({look.ids[0], look.ids[-1]} <= self._special for look in looks):
            plain: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            coming = iter(looks)
            return [one for token in plain for one in (next(coming).ids if token == self._mark_id else (token,))]
        # what a picture expands to begins or ends with text, which may melt into the text around it
        seen = [_decoded(picture) for picture in taken]
        whole: list[int] = self.processor(text=[text], images=[seen], add_special_tokens=False)["input_ids"][0]
        return [int(token) for token in whole]

    def _look(self, picture: Picture) -> _Look:
        """Return what a picture becomes, from memory if it has been there lately."""
        found = self._looks.get(picture.sha256)
        if found is None:
            output = self.processor(
                text=[self._mark], images=[[_decoded(picture)]], add_special_tokens=False, return_tensors="pt"
            )
            if set(output) & set(_BESIDE):
                what = f"the processor {type(self.processor).__name__} puts pictures beside the text"
                raise UserError(what, "use a model that reads them in it")
            tensors = {name: one for name, one in output.items() if name not in _TEXT_INPUTS}
            found = _Look(tuple(output["input_ids"][0].tolist()), tensors)
            self._looks[picture.sha256] = found
            self._kept_bytes += found.size_bytes
            while self._kept_bytes > _KEPT_BYTES and len(self._looks) > 1:
                self._kept_bytes -= self._looks.popitem(last=False)[1].size_bytes
        self._looks.move_to_end(picture.sha256)
        return found

    def pixels(self, pictures: Iterable[Picture]) -> dict[str, torch.Tensor]:
        """Return the model's tensors for some pictures, in order; what differs in size is padded with zeros.

        Models tell padding by masks and sizes that come along, or by its being zero.
        """
        return _together([self._look(picture).tensors for picture in pictures])

    def inputs(
        self, model: Any, ids: torch.Tensor, live: torch.Tensor, pictures: Sequence[Picture]
    ) -> tuple[dict[str, Any], torch.Tensor | None]:
        """Return what a model takes for a batch's pictures, and its position ids if they are not plain counts.

        While nothing about the tower can change, that is what it made of each picture, else pixels.

        Args:
            model: The vision-language model.
            ids: (batch, length).
            live: (batch, length), True where a token is no padding.
            pictures: Of all rows, in order.

        Raises:
            ValueError: The ids stand for other pictures than those given.
        """
        pieces = ids == self.placeholder
        kept = can_keep(model)
        seen: list[Seen] = []
        if kept:
            by_name = {picture.sha256: picture for picture in pictures}
            seen = self._features.of(
                model, [one.sha256 for one in pictures], lambda name: self._processed(by_name[name])
            )
            expected, sizes = sum(one.pieces for one in seen), _together([one.sizes for one in seen])
        else:
            self._features.forget()
            expected, sizes = sum(self._processed(picture)[0] for picture in pictures), self.pixels(pictures)
        if expected != int(pieces.sum()):
            raise ValueError(f"{int(pieces.sum())} placeholders for {len(pictures)} pictures that expand to {expected}")
        taken = inspect.signature(model.forward).parameters
        tensors = joined(seen) if kept else sizes
        tensors |= {name: pieces.long() for name in _TYPES if name in taken}
        rope = getattr(model.base_model, "get_rope_index", None)
        if rope is None:
            return tensors, None
        known = inspect.signature(rope).parameters
        given = {"input_ids": ids, "attention_mask": live.long(), "mm_token_type_ids": pieces.long()} | sizes
        positions: torch.Tensor = rope(**{name: one for name, one in given.items() if name in known})[0]
        return tensors, positions

    def _processed(self, picture: Picture) -> tuple[int, Mapping[str, torch.Tensor]]:
        """Return how many placeholders a picture has, and the model's tensors for it."""
        look = self._look(picture)
        return look.ids.count(self.placeholder), look.tensors


def _decoded(picture: Picture) -> Any:
    """Return a picture's pixels.

    Raises:
        DataError: Its bytes are no picture that can be read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(picture.read())) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"holds a picture that cannot be read ({error})", file=picture.file, row=picture.row) from None


def _together(looks: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the tensors of several pictures, name by name."""
    return {name: _stacked([look[name] for look in looks]) for name in (looks[0] if looks else ())}


def _stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return tensors one after another along the first axis, zeros after what is shorter along the others."""
    if len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(list(tensors))
    sizes = [max(tensor.shape[axis] for tensor in tensors) for axis in range(1, tensors[0].dim())]
    result = tensors[0].new_zeros((sum(len(tensor) for tensor in tensors), *sizes))
    start = 0
    for tensor in tensors:
        result[(slice(start, start + len(tensor)), *(slice(size) for size in tensor.shape[1:]))] = tensor
        start += len(tensor)
    return result
