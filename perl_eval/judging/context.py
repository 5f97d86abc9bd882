"""What a judge is given beside conversation and answers: a rubric, reference answers, pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from perl_eval.errors import DataError, UserError
from perl_eval.judges import prompting
from perl_eval.judging.outcome_of import Contestants
from perl_eval.records import Completion
from perl_eval.storage import images, run_folder

__all__ = ["given", "located", "read_references", "refuse_bare"]

_EXAMPLES = 3


def given(template: prompting.Template, *, rubric: Path | None, references: Path | None) -> prompting.Template:
    """Return a prompt with the user's rubric and references.

    Args:
        template: The prompt.
        rubric: A text file, UTF-8.
        references: See `read_references`.

    Raises:
        UserError: A file is missing, or the prompt has no place for it.
        DataError: A file is not what it should be.
    """
    for name, path, variable in (("rubric", rubric, "rubric"), ("references", references, "reference")):
        if path is not None and variable not in template.uses:
            raise UserError(
                f"prompt {template.name!r} has no place for {name}",
                f"put {{{{ {variable} }}}} into a prompt of your own",
            )
    if rubric is not None:
        content, text = _text(rubric)
        template = replace(template, rubric=text, rubric_sha256=hashlib.sha256(content).hexdigest())
    if references is not None:
        template = replace(template, references=read_references(references))
    return template


def _text(path: Path) -> tuple[bytes, str]:
    if not path.is_file():
        raise UserError(f"no such file: {path}", "check the path", page="")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("is not UTF-8", file=path, fix="save it as UTF-8") from None
    if not text.strip():
        raise DataError("is empty", file=path, fix="write something into it")
    return content, text


def read_references(path: Path) -> dict[str, str]:
    """Read known good answers by item.

    Args:
        path: JSON lines ``{"item": ..., "reference": ...}``; or completions, whose texts are the references: a run
            folder or its parquet file, with one completion an item.

    Raises:
        UserError: There is no such file, or no reference in it.
        DataError: A line is not what it should be, or an item has two references.
    """
    found: dict[str, str] = {}
    if path.is_dir() or path.suffix == ".parquet":
        entries = [(row, answer.item, answer.text) for row, answer in enumerate(run_folder.read(path, Completion))]
    else:
        entries = [_entry(path, row, line) for row, line in enumerate(_text(path)[1].splitlines()) if line.strip()]
    for row, item, reference in entries:
        if item in found:
            raise DataError(f"is the second reference of item {item!r}", file=path, row=row, fix="give one an item")
        found[item] = reference
    if not found:
        raise UserError(f"{path} holds no reference", "give JSON lines with item and reference, or completions")
    return found


def _entry(path: Path, row: int, line: str) -> tuple[int, str, str]:
    try:
        entry = json.loads(line)
        item, reference = entry["item"], entry["reference"]
    except (ValueError, KeyError, TypeError, RecursionError):
        item = reference = None
    if not isinstance(item, str) or not isinstance(reference, str):
        raise DataError("is not a JSON object with texts `item` and `reference`", file=path, row=row)
    return row, item, reference


def refuse_bare(items: Iterable[str], template: prompting.Template, references: Path | None) -> None:
    """Check that every item has a reference, if there are references.

    Raises:
        UserError: One has none.
    """
    bare = sorted({item for item in items if item not in template.references}) if references is not None else []
    if bare:
        raise UserError(
            f"{references} has no reference for {len(bare)} items: {', '.join(map(repr, bare[:_EXAMPLES]))}, ...",
            "give one for every item",
        )


def located(unit: Contestants, pictures: Path) -> Contestants:
    """Return a unit with the paths of its pictures in place of their names.

    Args:
        unit: What to judge.
        pictures: The completions of contestant a, whose pictures are shown.

    Raises:
        DataError: A picture is missing.
    """
    if not unit[0].images:
        return unit
    paths = images.locate(pictures, unit[0].images)
    return tuple(replace(answer, images=paths) for answer in unit)
