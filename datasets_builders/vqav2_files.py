"""VQAv2's files: question and annotation files read item by item, joined by question, and COCO's pictures."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from datasets_builders.errors import DataError
from datasets_builders.reading import check_keys

__all__ = ["Pictures", "array_items", "joined", "listing"]

_BLOCK_CHARS = 1 << 20
_LONGEST_ITEM_CHARS = 16 << 20
_AFTER_VALUE = frozenset(" \t\r\n,:]}")
_QUESTION_KEYS = frozenset({"image_id", "question", "question_id"})
_ANNOTATION_KEYS = frozenset(
    {"question_id", "image_id", "question_type", "answer_type", "multiple_choice_answer", "answers"}
)
_OPTIONAL_KEYS = frozenset({"split"})
"""Not upstream's: some published subsets have it. It is not read; it puts questions on one image into two splits."""
_ANSWER_KEYS = frozenset({"answer", "answer_confidence", "answer_id"})
_HEAD_KEYS = frozenset({"info", "task_type", "data_type", "license", "data_subtype"})
_ANSWERS = 10
_TYPES = frozenset({"yes/no", "number", "other"})
_CONFIDENCES = frozenset({"yes", "maybe", "no"})

Item = dict[str, Any]


class _Scanner:
    """Reads one JSON value after another from a text stream; holds one block or one value, whichever is longer."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0

    def _more(self) -> bool:
        block = self._stream.read(_BLOCK_CHARS)
        self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)

    def peek(self) -> str:
        """Return the next character that is no white space, or nothing at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, *wanted: str) -> str:
        """Go past one of some characters and return it.

        Raises:
            ValueError: Another one is there.
        """
        found = self.peek()
        if found not in wanted or not found:
            raise ValueError(f"expected {' or '.join(wanted)}, found {found or 'the end of the file'}")
        self._at += 1
        return found

    def value(self) -> Any:
        """Go past one value and return it.

        Raises:
            ValueError: There is none.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if len(self._text) - self._at > _LONGEST_ITEM_CHARS or not self._more():
                    raise
                continue
            length, cut = end - self._at, self._text[end : end + 1] not in _AFTER_VALUE
            if cut and self._more():  # a number may go on in the next block
                continue
            self._at += length
            return value


def _opened(path: Path, stack: ExitStack) -> IO[str]:
    """Open a file of JSON text: plain, gzip, or the one file of a zip archive."""
    raw = stack.enter_context(path.open("rb"))
    start = raw.read(4)
    raw.seek(0)
    binary: IO[bytes] = raw
    if start[:2] == b"\x1f\x8b":
        binary = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=raw, mode="rb")))
    elif start == b"PK\x03\x04":
        archive = stack.enter_context(zipfile.ZipFile(raw))
        members = [name for name in archive.namelist() if name.endswith(".json") and not name.startswith("__MACOSX")]
        if len(members) != 1:
            raise ValueError(f"the archive holds {len(members)} JSON files, expected one")
        binary = stack.enter_context(archive.open(members[0]))
    return io.TextIOWrapper(binary, encoding="utf-8")


def _array(scanner: _Scanner) -> Iterator[Any]:
    scanner.take("[")
    if scanner.peek() == "]":
        scanner.take("]")
        return
    while True:
        yield scanner.value()
        if scanner.take(",", "]") == "]":
            return


def array_items(path: Path, key: str, *, file: str, head: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    """Yield the items of the array that an object in a JSON file has under a key, without holding the file.

    Args:
        path: The file: JSON, plain, gzipped or alone in a zip archive.
        key: The array's key.
        file: The upstream name, for messages.
        head: Values that other keys must have, where they are there.

    Yields:
        The item's number, from 0, and the item.

    Raises:
        DataError: The file is damaged, is not of this form, or has other keys than upstream's.
    """
    row = 0
    try:
        with ExitStack() as stack:
            scanner = _Scanner(_opened(path, stack))
            found = False
            scanner.take("{")
            while True:
                name = scanner.value()
                scanner.take(":")
                if name == key and not found:
                    found = True
                    for item in _array(scanner):
                        yield row, item
                        row += 1
                elif name not in _HEAD_KEYS:
                    raise ValueError(f"unexpected key {str(name)[:80]!r}; upstream has changed its format")
                elif (value := scanner.value()) != head.get(name, value):
                    raise ValueError(f"{name} is {str(value)[:80]!r}, expected {head[name]!r}")
                if scanner.take(",", "}") == "}":
                    break
            if not found or scanner.peek():
                raise ValueError("something follows the object" if found else f"key {key!r} is missing")
    except (ValueError, RecursionError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"is damaged or of another form ({error})", file, row, fix="download it again") from None


def joined(
    questions: tuple[str, Path], annotations: tuple[str, Path], *, subtype: str
) -> Iterator[tuple[int, Item, Item]]:
    """Yield each question with its annotation.

    Both files list the questions in the same order; where they do not, what has no partner yet is kept until it has.

    Args:
        questions: The upstream name of the question file, and where it lies.
        annotations: Likewise of the annotation file.
        subtype: COCO's name for the pictures: ``train2014`` or ``val2014``.

    Yields:
        The question's row in its file, the question and the annotation, both checked.

    Raises:
        DataError: A file is not of upstream's form, or a question or annotation has no partner.
    """
    head = {"data_subtype": subtype}
    waiting: tuple[dict[int, tuple[int, Item]], dict[int, tuple[int, Item]]] = ({}, {})
    names = (questions[0], annotations[0])
    for items in zip_longest(
        array_items(questions[1], "questions", file=names[0], head=head),
        array_items(annotations[1], "annotations", file=names[1], head=head),
    ):
        for side, item in enumerate(items):
            if item is None:
                continue
            row, content = item
            (_check_question, _check_annotation)[side](content, names[side], row)
            number = content["question_id"]
            if number in waiting[side]:
                raise DataError(f"question {number} is there twice", names[side], row, "question_id")
            waiting[side][number] = (row, content)
        for number in {item[1]["question_id"] for item in items if item is not None}:
            if number in waiting[0] and number in waiting[1]:
                row, question = waiting[0].pop(number)
                annotation_row, annotation = waiting[1].pop(number)
                if question["image_id"] != annotation["image_id"]:
                    raise DataError("differs from the question's", names[1], annotation_row, "image_id")
                yield row, question, annotation
    for side, other in ((0, 1), (1, 0)):
        for number, (row, _) in waiting[side].items():
            raise DataError(f"question {number} is not in {names[other]}", names[side], row, "question_id")


def _check_question(question: Any, file: str, row: int) -> None:
    check_keys(question, _QUESTION_KEYS, optional=_OPTIONAL_KEYS, file=file, row=row)
    _check(question["question_id"], "question_id", int, file, row)
    _check(question["question"], "question", str, file, row)
    if question["question_id"] // 1000 != question["image_id"]:
        raise DataError("is not question_id // 1000", file, row, "image_id")


def _check_annotation(annotation: Any, file: str, row: int) -> None:
    check_keys(annotation, _ANNOTATION_KEYS, optional=_OPTIONAL_KEYS, file=file, row=row)
    _check(annotation["question_id"], "question_id", int, file, row)
    _check(annotation["question_type"], "question_type", str, file, row)
    if annotation["answer_type"] not in _TYPES:
        raise DataError(f"unknown type {str(annotation['answer_type'])[:80]!r}", file, row, "answer_type")
    answers = annotation["answers"]
    if not isinstance(answers, list) or len(answers) != _ANSWERS:
        raise DataError(f"is not a list of {_ANSWERS}", file, row, "answers")
    for index, answer in enumerate(answers, 1):
        check_keys(answer, _ANSWER_KEYS, file=file, row=row, within="answers")
        _check(answer["answer"], "answers", str, file, row)
        if answer["answer_id"] != index or answer["answer_confidence"] not in _CONFIDENCES:
            raise DataError(f"answer {index} has another id or an unknown confidence", file, row, "answers")
    if annotation["multiple_choice_answer"] not in [answer["answer"] for answer in answers]:
        raise DataError("is none of the ten answers", file, row, "multiple_choice_answer")


def _check(value: Any, field: str, kind: type, file: str, row: int) -> None:
    if type(value) is not kind:
        raise DataError(f"is {str(value)[:80]!r}, expected {kind.__name__}", file, row, field)


def listing(folder: Path, subtype: str) -> str:
    """Return name, size and time of each picture that `Pictures` finds in a folder, a line each."""
    found = {
        path.name: path.stat()
        for place in (folder, folder / subtype)  # the latter wins, as when pictures are read
        for path in place.glob(f"COCO_{subtype}_*.jpg")
    }
    return "".join(f"{name} {status.st_size} {status.st_mtime_ns}\n" for name, status in sorted(found.items()))


class Pictures(AbstractContextManager["Pictures"]):
    """COCO's pictures of one kind, in a folder or in COCO's zip archive.

    Args:
        place: The archive, or a folder that holds the pictures or a folder ``subtype`` of them.
        subtype: ``train2014`` or ``val2014``.
    """

    def __init__(self, place: Path, subtype: str) -> None:
        self._place = place
        self._subtype = subtype
        self._archive = zipfile.ZipFile(place) if place.is_file() else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._archive is not None:
            self._archive.close()

    def read(self, name: str) -> bytes | None:
        """Return an encoded picture, or None if it is not there."""
        inside = f"{self._subtype}/{name}"
        if self._archive is not None:
            return self._archive.read(inside) if inside in self._archive.NameToInfo else None
        found = next((path for path in (self._place / inside, self._place / name) if path.is_file()), None)
        return None if found is None else found.read_bytes()
