"""Pictures beside a table of completions: one file each, called by its sha256, so that many rows can share one.

A row names its pictures (``Completion.images``); the files lie in the folder ``images`` beside the parquet file, and a
run card covers them like every other output.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from perl_eval.errors import DataError
from perl_eval.tables import replace_file

__all__ = ["FOLDER", "data_url", "keep", "kind_and_base64", "locate", "read"]

FOLDER = "images"
# How files of each kind begin; between the two words of WebP stands its length.
_KINDS = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "gif": re.compile(rb"GIF8[79]a"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}


def _kind(content: bytes, source: Path | str) -> str:
    for kind, beginning in _KINDS.items():
        if beginning.match(content):
            return kind
    raise DataError("is no picture", file=source, fix=f"give one of {', '.join(_KINDS)}")


def keep(folder: Path, content: bytes) -> str:
    """Write a picture into a run folder, unless it is there, and return the name that rows give it.

    Args:
        folder: The run folder.
        content: The file's bytes.

    Raises:
        DataError: The bytes are no picture of a known kind.
    """
    name = f"{hashlib.sha256(content).hexdigest()}.{_kind(content, 'a picture')}"
    path = folder / FOLDER / name
    if not path.is_file():
        replace_file(path, lambda partial: partial.write_bytes(content))
    return name


def locate(table: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the paths of pictures, from the table whose rows name them.

    Args:
        table: The run folder, or the parquet file in it.
        names: The names, as rows give them.

    Raises:
        DataError: A picture is missing, or its name leads elsewhere.
    """
    folder = (table if table.is_dir() else table.parent) / FOLDER
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise DataError("is named by a completion and missing", file=folder / name, fix="put it there")
    return tuple(str(folder / name) for name in names)


def read(path: Path | str) -> bytes:
    """Return the bytes of a picture.

    Raises:
        DataError: They are gone, or others than when they were named.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=path, fix="put it there") from None
    if hashlib.sha256(content).hexdigest() != Path(path).stem:
        raise DataError("does not match the sha256 that it is called by", file=path, fix="put the picture back")
    return content


def data_url(path: Path | str) -> str:
    """Return a picture as a data URL, the form in which servers take it.

    Raises:
        DataError: It cannot be read, was changed, or is no picture.
    """
    kind, content = kind_and_base64(path)
    return f"data:image/{kind};base64,{content}"


def kind_and_base64(path: Path | str) -> tuple[str, str]:
    """Return what kind of picture a file is, and its bytes in base64.

    Raises:
        DataError: It cannot be read, was changed, or is no picture.
    """
    content = read(path)
    return _kind(content, path), base64.b64encode(content).decode("ascii")
