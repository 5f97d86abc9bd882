"""TFRecords, tf.train.Examples and accessibility forests, written from the published formats.

Nothing here comes from `datasets_builders`, so that the reader is held against another hand: the protobuf wire format
(a field is a varint ``number << 3 | wire type`` and a value), the TFRecord container, and CRC-32C bit by bit.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CLICK = {"action_type": "click", "x": 30, "y": 30}
SCROLL = {"action_type": "scroll", "direction": "down"}
TYPE = {"action_type": "input_text", "text": "Flora"}
OPEN = {"action_type": "open_app", "app_name": "Files"}
GOAL = "Open Files and rename the Flowers folder to Flora"


def crc32c(data: bytes) -> int:
    """CRC-32C one bit at a time: polynomial 0x1EDC6F41, written bit-reversed as 0x82F63B78."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ 0x82F63B78 * (register & 1)
    return register ^ 0xFFFFFFFF


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def number_field(place: int, value: int) -> bytes:
    return varint(place << 3) + varint(value)


def bytes_field(place: int, value: bytes) -> bytes:
    return varint(place << 3 | 2) + varint(len(value)) + value


def feature(values: Sequence[Any], *, packed: bool = True) -> bytes:
    if not values:
        return bytes_field(3, b"")
    if isinstance(values[0], bytes):
        return bytes_field(1, b"".join(bytes_field(1, value) for value in values))
    if isinstance(values[0], float):
        if packed:
            return bytes_field(2, bytes_field(1, struct.pack(f"<{len(values)}f", *values)))
        return bytes_field(2, b"".join(varint(1 << 3 | 5) + struct.pack("<f", value) for value in values))
    if packed:
        return bytes_field(3, bytes_field(1, b"".join(varint(value) for value in values)))
    return bytes_field(3, b"".join(number_field(1, value) for value in values))


def example(content: Mapping[str, Sequence[Any]], *, packed: bool = True) -> bytes:
    entries = (
        bytes_field(1, name.encode()) + bytes_field(2, feature(values, packed=packed))
        for name, values in content.items()
    )
    return bytes_field(1, b"".join(bytes_field(1, entry) for entry in entries))


def container(records: Sequence[bytes]) -> bytes:
    """The records as an uncompressed TFRecord file."""

    def masked(data: bytes) -> bytes:
        crc = crc32c(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)

    lengths = [struct.pack("<Q", len(record)) for record in records]
    return b"".join(
        length + masked(length) + record + masked(record) for length, record in zip(lengths, records, strict=True)
    )


def write_tfrecord(path: Path, records: Sequence[bytes]) -> None:
    path.write_bytes(gzip.compress(container(records), mtime=0))


def node(box: tuple[int, int, int, int], *, label: str = "", clickable: bool = False, visible: bool = True) -> bytes:
    """One AndroidAccessibilityNodeInfo, with fields around those that are read, false ones written out too."""
    return b"".join(
        [
            number_field(1, 7),
            bytes_field(2, b"".join(number_field(side, value) for side, value in enumerate(box, 1))),
            bytes_field(3, b"android.widget.Button"),
            bytes_field(7, label.encode()),
            number_field(12, 0),
            number_field(14, clickable),
            number_field(23, visible),
            bytes_field(25, varint(1) + varint(2)),
        ]
    )


def forest(nodes: Sequence[bytes], *, window_type: int = 1) -> bytes:
    tree = b"".join(bytes_field(1, one) for one in nodes)
    return bytes_field(1, number_field(3, 5) + number_field(6, window_type) + bytes_field(11, tree))


def picture(width: int, height: int, shade: int) -> bytes:
    """An encoded picture of one colour."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def episode(
    id_: int,
    goal: str,
    steps: Sequence[tuple[Mapping[str, Any], str]],
    *,
    nodes: Sequence[Sequence[bytes]] = (),
    size: tuple[int, int] = (100, 200),
) -> dict[str, list[Any]]:
    """The features of an upstream record: one more screen than there are actions."""
    screens = len(steps) + 1
    return {
        "episode_id": [id_],
        "goal": [goal.encode()],
        "screenshots": [picture(*size, shade=index) for index in range(screens)],
        "accessibility_trees": [forest(nodes[index] if index < len(nodes) else ()) for index in range(screens)],
        "screenshot_widths": [size[0]] * screens,
        "screenshot_heights": [size[1]] * screens,
        "actions": [json.dumps(action).encode() for action, _ in steps],
        "step_instructions": [instruction.encode() for _, instruction in steps],
    }
