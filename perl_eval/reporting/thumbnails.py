"""Pictures of judged prompts, made small enough to lie inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from perl_eval.records import Completion, Judgement
from perl_eval.reporting.inputs import Folder
from perl_eval.storage import images, run_folder

__all__ = ["SIDE", "Pictures"]

SIDE = 480
"""Longest side of an embedded picture, in pixels."""
_QUALITY = 80
_LARGEST_PIXELS = 50_000_000


class Pictures:
    """The pictures that belong to judged completions.

    They are named by the completions, which lie among the reported folders or where a judging run's card says.

    Args:
        found: The folders.
        wanted: Ids of completions.
    """

    def __init__(self, found: Sequence[Folder], wanted: set[str]) -> None:
        self._of: dict[str, tuple[str, ...]] = {}
        for file in _completion_files(found) if wanted else ():
            for id, names in _named(file):
                if id in wanted and names and id not in self._of:
                    self._of[id] = images.locate(file, names)
        self._urls: dict[str, str] = {}

    def of(self, completion: str) -> list[str]:
        """Return the pictures of a completion's prompt as data URLs; an empty one is a picture that cannot be shown."""
        return [self._urls.setdefault(path, _small(path)) for path in self._of.get(completion, ())]


def _completion_files(found: Sequence[Folder]) -> Iterator[Path]:
    seen = set()
    given = (folder.files[Completion] for folder in found if Completion in folder.files)
    named = (Path(path) for folder in found if Judgement in folder.files for path in folder.card.inputs)
    for path in (*given, *named):
        file = path / run_folder.FILES[Completion] if path.is_dir() else path
        if file.suffix == ".parquet" and file.is_file() and file.resolve() not in seen:
            seen.add(file.resolve())
            yield file


def _named(file: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield ids of completions with the names of their pictures; nothing for files that know no pictures."""
    with pq.ParquetFile(file) as source:
        if {"id", "images"} <= set(source.schema_arrow.names):
            for batch in source.iter_batches(columns=["id", "images"]):
                for row in batch.to_pylist():
                    yield row["id"], tuple(row["images"] or ())


def _small(path: str) -> str:
    """Return a picture as the data URL of a JPEG of at most `SIDE` pixels a side, empty if it is none."""
    from PIL import Image, UnidentifiedImageError

    content = io.BytesIO(images.read(path))
    small = io.BytesIO()
    try:
        with Image.open(content, formats=("PNG", "JPEG", "GIF", "WEBP")) as picture:
            if picture.width * picture.height > _LARGEST_PIXELS:  # a small file can unpack to any size
                return ""
            picture.thumbnail((SIDE, SIDE))
            picture.convert("RGB").save(small, "JPEG", quality=_QUALITY)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(small.getvalue()).decode('ascii')}"
