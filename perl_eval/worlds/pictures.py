"""The embedded picture world: two colours a picture, in VQAv2's columns. Nothing here comes from people.

A picture has one colour on the left and one on the right, and a question asks for one of them, so the right answer is
known. Ten careful people answer each question and err now and then; the demonstrations come from a careless one. So a
model that imitates them well is wrong as often as they are, and the official VQA accuracy has room above it.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.errors import UserError
from perl_eval.records import digest
from perl_eval.storage import parquet, run_folder
from perl_eval.storage.images import COLUMN

__all__ = ["CARELESS", "COLOURS", "DATASET", "build"]

DATASET = "picture_world"
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 215, 50),
}
_SIDES = ("left", "right")
CAREFUL, CARELESS = 0.95, 0.7
"""How often people of each kind are right."""
_PEOPLE = 10
_SIDE = 32
_TYPE = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def _picture(random: np.random.Generator, colours: Sequence[str]) -> bytes:
    """Draw one colour on each side, speckled, and return it as PNG."""
    from PIL import Image

    pixels = random.integers(-30, 31, size=(_SIDE, _SIDE, 3))
    pixels[:, : _SIDE // 2] += COLOURS[colours[0]]
    pixels[:, _SIDE // 2 :] += COLOURS[colours[1]]
    written = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(written, "PNG")
    return written.getvalue()


def _said(random: np.random.Generator, right: str, care: float) -> str:
    """Return the right colour, or with probability ``1 - care`` another one."""
    if random.random() < care:
        return right
    wrong = [colour for colour in COLOURS if colour != right]
    return wrong[int(random.integers(len(wrong)))]


def _row(random: np.random.Generator, number: int) -> tuple[dict[str, Any], str]:
    """Return a row of a question, and its right answer."""
    colours = [list(COLOURS)[place] for place in random.integers(len(COLOURS), size=2)]
    side = int(random.integers(2))
    text, right = f"what colour is on the {_SIDES[side]}", colours[side]
    people = [_said(random, right, CAREFUL) for _ in range(_PEOPLE)]
    parts = [{"type": "image", "text": None}, {"type": "text", "text": text}]
    row = {
        "id": digest(DATASET, str(number), text),
        "group": digest(DATASET, str(number)),
        "dataset": DATASET,
        "source_file": "embedded",
        "prompt": [{"role": "user", "content": parts}],
        COLUMN: [{"bytes": _picture(random, colours), "path": None}],
        "question_type": text,
        "answer_type": "other",
        "multiple_choice_answer": Counter(people).most_common(1)[0][0],
        "answers": [
            {"answer": said, "answer_confidence": "yes", "answer_id": place} for place, said in enumerate(people, 1)
        ],
    }
    return row, right


def _turn(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def build(out: Path, *, questions: int = 2400, ratings: int = 1200, seed: int = 0) -> Path:
    """Write the world's data in the layout of ``perl-eval build``: questions with careless answers, and ratings.

    Args:
        out: The run folder; gets the folders ``questions`` and ``ratings``, with the splits train, validation and test.
        questions: Training rows of questions; a tenth as many for validation, a fifth for test.
        ratings: Training rows of ratings, the right answer or a wrong one at even odds; a tenth as many for validation
            and for test.
        seed: Seeds everything.

    Raises:
        UserError: A size is below 1, or the folder holds something else or cannot be written.
    """
    sizes = {"questions": questions, "ratings": ratings}
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} is {size}", "give 1 or more")
    with run_folder.start(out, verb="build", arguments={"name": DATASET, **sizes}, seed=seed, simulated=True) as going:
        if going.done:
            return going.folder
        random = np.random.default_rng(seed)
        number = 0
        for split, asked, rated in (("train", 1, 1), ("validation", 10, 10), ("test", 5, 10)):
            rows = []
            for _ in range(max(1, questions // asked)):
                row, right = _row(random, number := number + 1)
                rows.append(row | {"completion": _turn(_said(random, right, CARELESS))})
            _write(going.folder / "questions" / f"{split}.parquet", rows)
            rows = []
            for _ in range(max(1, ratings // rated)):
                row, right = _row(random, number := number + 1)
                good = bool(random.random() < 0.5)
                rows.append(row | {"completion": _turn(_said(random, right, float(good))), "label": good})
            _write(going.folder / "ratings" / f"{split}.parquet", rows)
        going.notes["simulated"] = "pictures, questions and answers come from a program; no person was asked"
    return going.folder


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    pictures = pa.array([row.pop(COLUMN) for row in rows], _TYPE)
    table = pa.Table.from_pylist(rows).append_column(COLUMN, pictures)
    parquet.replace_file(path, lambda partial: pq.write_table(table, partial, row_group_size=100))
