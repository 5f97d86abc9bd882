"""The TFRecord reader, against bytes that TensorFlow wrote and a writer of our own that shares nothing with it."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import android_writer as writer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_builders import tfrecord
from datasets_builders.errors import DataError
from datasets_builders.tfrecord import WireError, crc32c, features_of, parse_forest, records, values_of

# Written by tf.io.TFRecordWriter of TensorFlow 2.21: an Example and an empty record.
TENSORFLOW = bytes.fromhex(
    "7e00000000000000d8c65c750a7c0a130a0a657069736f64655f696412051a030a011b0a130a04676f616c120b0a090a074772c3bcc39f65"
    "0a0a0a046e6f6e6512021a000a140a057472656573120b0a090a0261000a000a01000a1b0a017812161a140a12ffffffffffffffffff01ac"
    "028080808080200a110a0179120c120a0a080000003f000000c0524ed365000000000000000029039807d8ea82a2"
)
TENSORFLOW_EXAMPLE = {
    "episode_id": [27],
    "goal": ["Grüße".encode()],
    "none": [],
    "trees": [b"a\x00", b"", b"\x00"],
    "x": [-1, 300, 2**40],
    "y": [0.5, -2.0],
}


@pytest.fixture(autouse=True, scope="module", params=["standard library", "compiled"])
def _unpacked_by(request) -> Iterator[None]:
    """Read every file with Python alone, and with isal and google-crc32c."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "compiled":
            pytest.importorskip("isal")
            assert tfrecord._checksum() is pytest.importorskip("google_crc32c").value
        else:
            patch.setattr(tfrecord, "_gzip", lambda: (gzip, zlib.error))
            patch.setattr(tfrecord, "_checksum", lambda: crc32c)
        yield


def read(path: Path) -> list[bytes]:
    return list(records(path, file="shard"))


def parsed(record: bytes) -> dict[str, list[bytes] | list[int] | list[float]]:
    return {name: values_of(feature) for name, feature in features_of(record).items()}


# RFC 3720, appendix B.4, and the check value of the CRC catalogue.
@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0x00000000),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_crc_has_the_published_values(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc
    assert writer.crc32c(data) == crc


@given(st.binary(max_size=3000))
@settings(deadline=None, max_examples=60)
def test_crc_is_that_of_the_definition(data: bytes) -> None:
    assert crc32c(data) == writer.crc32c(data)


@pytest.mark.parametrize("length", [64, 65, 67, 2048, 2049, 2051, 2052, 65536, 65537, 65539, 65540, 98305])
def test_crc_is_right_around_the_lengths_where_the_method_changes(length: int) -> None:
    data = bytes(index * index % 251 for index in range(length))
    assert crc32c(data) == writer.crc32c(data)


def test_reads_what_tensorflow_wrote(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(gzip.compress(TENSORFLOW))
    first, second = read(path)
    assert second == b""
    assert parsed(first) == TENSORFLOW_EXAMPLE


def test_our_writer_writes_what_tensorflow_wrote() -> None:
    assert writer.container([writer.example(TENSORFLOW_EXAMPLE), b""]) == TENSORFLOW


_VALUES = st.one_of(
    st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5),
)


@given(st.dictionaries(st.text(max_size=8), _VALUES, max_size=5), st.booleans())
@settings(deadline=None, max_examples=150)
def test_every_example_comes_back_packed_or_not(
    content: dict[str, list[bytes] | list[int] | list[float]], packed: bool
) -> None:
    assert parsed(writer.example(content, packed=packed)) == content


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(gzip.compress(TENSORFLOW) + gzip.compress(TENSORFLOW))
    assert len(read(path)) == 4


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    whole = writer.container([b"first", b"second record"])
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(gzip.compress(bytes(damaged), 1))
        with pytest.raises(DataError, match=r"shard, row [01]: .*; download it again") as caught:
            read(path)
        assert caught.value.row == (0 if place < 12 + 5 + 4 else 1)


def test_every_cut_is_found(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    packed = gzip.compress(writer.container([b"first", b"second"]))
    for length in range(len(packed)):
        path.write_bytes(packed[:length])
        with pytest.raises(DataError, match="shard"):
            read(path)


def test_a_cut_inside_the_tfrecord_is_found_where_the_gzip_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    whole = writer.container([b"first", b"second"])
    for length in range(1, len(whole)):
        path.write_bytes(gzip.compress(whole[:length], 1))
        if length == 12 + 5 + 4:  # after the first record: only the expected count can tell
            assert read(path) == [b"first"]
            continue
        with pytest.raises(DataError, match="ends inside"):
            read(path)


def test_a_file_that_is_not_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(TENSORFLOW)
    with pytest.raises(DataError, match="shard, row 0"):
        read(path)


def test_an_absurd_length_with_a_right_checksum_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    length = struct.pack("<Q", 2**62)
    crc = writer.crc32c(length)
    header = length + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)
    path.write_bytes(gzip.compress(header + bytes(100)))
    with pytest.raises(DataError, match="length does not match"):
        read(path)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=400)
def test_hostile_bytes_are_a_message_or_a_wire_error(data: bytes) -> None:
    for reader in (parsed, parse_forest, lambda record: values_of(memoryview(record))):
        try:
            reader(data)
        except WireError:
            continue


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\x0a\x05ab", "ends after its message"),
        (b"\x0b", "no such wire type: 3"),
        (b"\x0a", "ends after its message"),
        (b"\x08\x01", "a number stands where bytes should"),
        (b"\xff" * 11, "longer than ten bytes"),
        (writer.bytes_field(1, writer.bytes_field(1, writer.bytes_field(1, b"\xff"))), "not UTF-8"),
    ],
)
def test_damage_says_what_it_is(record: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        parsed(record)


def test_unknown_fields_of_every_wire_type_are_passed_over() -> None:
    unknown = (
        writer.number_field(9, 300)
        + writer.bytes_field(10, b"later")
        + (writer.varint(11 << 3 | 1) + bytes(8))
        + (writer.varint(12 << 3 | 5) + bytes(4))
    )
    button = writer.node((1, 2, 30, 40), label="OK", clickable=True)
    [node] = parse_forest(writer.forest([unknown + button + unknown]) + unknown)
    assert node.box == (1, 2, 30, 40)
    assert (node.label, node.clickable, node.visible, node.window_type) == ("OK", True, True, 1)


def test_forests_keep_false_flags_negative_sides_and_keyboards_apart() -> None:
    off_screen = writer.node((-20, 0, -1, 5), label="", visible=False)
    described = off_screen + writer.bytes_field(4, "Späti".encode())
    [first] = parse_forest(writer.forest([described], window_type=2))
    assert first.box == (-20, 0, -1, 5)
    assert (first.label, first.clickable, first.visible, first.window_type) == ("Späti", False, False, 2)
    two_windows = writer.forest([off_screen]) + writer.forest([off_screen, off_screen])
    assert len(parse_forest(two_windows)) == 3
    assert parse_forest(b"") == []


def test_floats_are_single_precision() -> None:
    [value] = parsed(writer.example({"x": [math.pi]}))["x"]
    assert value == struct.unpack("<f", struct.pack("<f", math.pi))[0]
