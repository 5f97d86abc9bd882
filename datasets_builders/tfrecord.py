"""TFRecord files, tf.train.Example and Android accessibility forests, read without TensorFlow or protobuf.

A TFRecord file is a run of records, each ``length (u64) | masked CRC-32C of length | data | masked CRC-32C of data``,
little-endian; here the whole file is gzipped. Both checksums of every record are checked, and gzip's own.

Source: tensorflow/core/lib/io/record_writer.h and example/feature.proto; protobuf.dev, "Encoding";
android_env/proto/a11y of google-deepmind/android_env; RFC 3720, appendix B.4 (CRC-32C).
"""

from __future__ import annotations

import gzip
import importlib
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from datasets_builders.errors import DataError

__all__ = ["Node", "WireError", "crc32c", "features_of", "parse_forest", "records", "values_of"]

Words = npt.NDArray[np.int64]

_LARGEST_RECORD_BYTES = 2**31 - 1
"""A protocol buffer is at most this long, so a greater length is damage."""
_FETCH = "download it again"
_NOTHING = memoryview(b"")


class WireError(ValueError):
    """Some bytes are not the message they should be."""


@cache
def _byte_table() -> tuple[int, ...]:
    """Return what each byte value does to an empty CRC-32C register (polynomial 0x1EDC6F41, bits reflected)."""
    table = []
    for value in range(256):
        register = value
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
        table.append(register)
    return tuple(table)


def _shift(words: Words, images: Words) -> Words:
    """Apply a linear map, given as the images of the 32 single bits, to 32-bit words."""
    shifted = np.zeros_like(words)
    for bit, image in enumerate(images):
        shifted ^= ((words >> bit) & 1) * image
    return shifted


@cache
def _row_tables(row_words: int) -> tuple[Words, Words]:
    """Return what ``4 * row_words`` zero bytes do to each value of a register's low and high half."""
    bits = np.int64(1) << np.arange(32, dtype=np.int64)
    images: Words = np.array(_byte_table(), dtype=np.int64)[bits & 255] ^ (bits >> 8)
    for _ in range((4 * row_words).bit_length() - 1):
        images = _shift(images, images)
    halves = np.arange(1 << 16, dtype=np.int64)
    return _shift(halves, images), _shift(halves << 16, images)


def _fold(message: bytes, register: int, row_words: int) -> bytes:
    """Return one row that leaves an empty register as a longer message leaves the given one.

    With rows of L words, ``row * x^(32 L) + next row`` has the remainder of both, so all words of a row go at once.
    """
    row_bytes = 4 * row_words
    head = len(message) % row_bytes
    if head < 4:
        head += row_bytes
    first = bytearray(2 * row_bytes - head) + message[:head]  # zero bytes in front do not touch an empty register
    start = len(first) - head
    first[start : start + 4] = (int.from_bytes(first[start : start + 4], "little") ^ register).to_bytes(4, "little")
    low, high = _row_tables(row_words)
    row: Words = np.zeros(row_words, dtype=np.int64)
    for rows in (np.frombuffer(first, dtype="<u4"), np.frombuffer(message, dtype="<u4", offset=head)):
        for following in rows.reshape(-1, row_words):
            row = low.take(row & 0xFFFF, mode="wrap") ^ high.take(row >> 16, mode="wrap") ^ following
    return row.astype("<u4").tobytes()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes."""
    register, rest = 0xFFFFFFFF, data
    for row_words in (8192, 256, 8):
        if len(rest) > 8 * row_words:
            rest, register = _fold(rest, register, row_words), 0
    table = _byte_table()
    for byte in rest:
        register = table[(register ^ byte) & 255] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


@cache
def _checksum() -> Callable[[bytes], int]:
    """Return google-crc32c's function where it is installed as compiled code, else `crc32c`."""
    try:
        module = importlib.import_module("google_crc32c")
    except ImportError:
        return crc32c
    found: Callable[[bytes], int] = module.value if module.implementation == "c" else crc32c
    return found


def _masked(data: bytes) -> int:
    """Return TFRecord's masked checksum: the CRC rotated right by 15 bits, plus a constant."""
    crc = _checksum()(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _gzip() -> tuple[ModuleType, type[Exception]]:
    """Return isal's igzip, about twice as fast, where it is installed, else gzip; and what a damaged stream raises."""
    try:
        return importlib.import_module("isal.igzip"), importlib.import_module("isal.isal_zlib").error
    except ImportError:
        return gzip, zlib.error


def records(path: Path, *, file: str) -> Iterator[bytes]:
    """Yield the records of a gzipped TFRecord file, in order.

    Args:
        path: The file.
        file: Its upstream name, for messages.

    Raises:
        DataError: The file is not gzip or is cut short, or a record does not match its checksum.
    """
    module, damage = _gzip()
    row = 0
    with path.open("rb") as raw, module.open(raw, "rb") as stream:
        if not path.stat().st_size:
            raise DataError("is empty", file, fix=_FETCH)
        while True:
            try:
                record = _next_record(stream)
            except EOFError:
                raise DataError("the gzip stream is cut short", file, row, fix=_FETCH) from None
            except (WireError, gzip.BadGzipFile, damage) as error:
                raise DataError(str(error), file, row, fix=_FETCH) from None
            if record is None:
                return
            yield record
            row += 1


def _next_record(stream: IO[bytes]) -> bytes | None:
    header = stream.read(12)
    if not header:
        return None
    if len(header) < 12:
        raise WireError("the file ends inside a record's length")
    length, length_crc = struct.unpack("<QI", header)
    if _masked(header[:8]) != length_crc or length > _LARGEST_RECORD_BYTES:
        raise WireError("a record's length does not match its checksum")
    data, crc = stream.read(length), stream.read(4)
    if len(data) < length or len(crc) < 4:
        raise WireError("the file ends inside a record")
    if _masked(data) != int.from_bytes(crc, "little"):
        raise WireError("a record does not match its checksum")
    return data


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number that starts at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise WireError("a number is longer than ten bytes")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a message: field number, and a number (wire type 0) or the bytes (wire types 1, 2, 5).

    Raises:
        WireError: The bytes are not a message.
    """
    at, end = 0, len(message)
    try:
        while at < end:
            tag, at = _varint(message, at)
            kind = tag & 7
            if kind == 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
                continue
            if kind == 2:
                size, at = _varint(message, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise WireError(f"no such wire type: {kind}")
            if size > end - at:
                raise WireError("a field ends after its message")
            yield tag >> 3, message[at : at + size]
            at += size
    except IndexError:
        raise WireError("a number ends after its message") from None


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise WireError("a number stands where bytes should")
    return value


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise WireError("bytes stand where a number should")
    return _signed(value)


def _integers(value: int | memoryview) -> list[int]:
    """Read one number, or a packed run of them."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, at = [], 0
    try:
        while at < len(value):
            number, at = _varint(value, at)
            numbers.append(_signed(number))
    except IndexError:
        raise WireError("a number ends after its list") from None
    return numbers


def _floats(value: int | memoryview) -> list[float]:
    data = _bytes(value)
    if len(data) % 4:
        raise WireError("a list of floats is cut short")
    return [number for (number,) in struct.iter_unpack("<f", data)]


def values_of(feature: memoryview) -> list[bytes] | list[int] | list[float]:
    """Read a serialized tf.train.Feature: BytesList (1), FloatList (2) or Int64List (3), whose values are field 1.

    Raises:
        WireError: The bytes are no Feature.
    """
    found: list[bytes | int | float] = []
    for kind, content in _fields(feature):
        for number, value in _fields(_bytes(content)):
            if number != 1:
                continue
            if kind == 1:
                found.append(bytes(_bytes(value)))
            elif kind == 2:
                found.extend(_floats(value))
            elif kind == 3:
                found.extend(_integers(value))
    return cast(list[bytes] | list[int] | list[float], found)


def features_of(record: bytes) -> dict[str, memoryview]:
    """Read the names of a serialized tf.train.Example's features; each is left serialized, for `values_of`.

    Raises:
        WireError: The bytes are no Example.
    """
    found = {}
    for number, features in _fields(memoryview(record)):
        entries = [entry for place, entry in _fields(_bytes(features)) if place == 1] if number == 1 else []
        for entry in entries:
            pair = dict(_fields(_bytes(entry)))
            try:
                name = bytes(_bytes(pair.get(1, _NOTHING))).decode("utf-8")
            except UnicodeDecodeError:
                raise WireError("a feature's name is not UTF-8") from None
            found[name] = _bytes(pair.get(2, _NOTHING))
    return found


@dataclass(frozen=True, slots=True)
class Node:
    """One element of a screen.

    ``box`` is left, top, right, bottom in pixels; ``label`` is its text or else its content description.
    ``window_type`` is 1 for an application, 2 for a keyboard, 3 for the system.
    """

    box: tuple[int, int, int, int]
    label: str
    clickable: bool
    visible: bool
    window_type: int


def parse_forest(forest: bytes) -> list[Node]:
    """Read a serialized AndroidAccessibilityForest: the nodes of all windows, in order.

    Raises:
        WireError: The bytes are no forest.
    """
    nodes = []
    for number, window in _fields(memoryview(forest)):
        if number == 1:
            parts = dict(_fields(_bytes(window)))
            kind = _number(parts.get(6, 0))
            tree = _bytes(parts.get(11, _NOTHING))
            nodes += [_node(_bytes(node), kind) for place, node in _fields(tree) if place == 1]
    return nodes


def _node(message: memoryview, window_type: int) -> Node:
    parts = dict(_fields(message))
    box = dict(_fields(_bytes(parts.get(2, _NOTHING))))
    left, top, right, bottom = (_number(box.get(side, 0)) for side in (1, 2, 3, 4))
    text, description = (bytes(_bytes(parts.get(place, _NOTHING))).decode("utf-8", "replace") for place in (7, 4))
    return Node((left, top, right, bottom), text or description, bool(parts.get(14)), bool(parts.get(23)), window_type)
