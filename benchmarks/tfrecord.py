"""How fast gzipped TFRecords of screenshots are read, against TensorFlow where it is installed.

Usage::

    python benchmarks/tfrecord.py [--episodes 40] [--processes 2] [--runs 3]

The file is made on the spot: PNG screens of AndroidControl's size with text and photograph-like noise, about 0.7 MB
each, and trees. Every reader reads every value of every record. MB are of the gzipped file. ``wall`` is what a
user waits; ``cpu`` is per second of processor time, which a busy machine does not lower. One file cannot be read by two
processes, so ``--processes`` reads as many copies as shards at once, as a build with ``num_proc`` does.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import io
import multiprocessing
import resource
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from datasets_builders import tfrecord

WIDTH, HEIGHT = 1080, 2400


def screen(generator: np.random.Generator) -> bytes:
    """Return one PNG: a pale page, lines of text, and a patch whose pixels PNG cannot predict."""
    page = Image.new("RGB", (WIDTH, HEIGHT), (250, 250, 252))
    pen = ImageDraw.Draw(page)
    for _ in range(60):
        place = (int(generator.integers(900)), int(generator.integers(2300)))
        pen.text(place, f"Some label {generator.integers(10**6)}", fill=(20, 20, 20), font_size=32)
    side = 560
    coarse = generator.integers(0, 256, (14, 14, 3)).astype(np.uint8)
    patch = np.asarray(Image.fromarray(coarse).resize((side, side))).astype(np.int64)
    patch += generator.normal(0, 6, patch.shape).astype(np.int64)
    page.paste(Image.fromarray(patch.clip(0, 255).astype(np.uint8)), (200, 700))
    out = io.BytesIO()
    page.save(out, "PNG")
    return out.getvalue()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _field(place: int, value: bytes) -> bytes:
    return _varint(place << 3 | 2) + _varint(len(value)) + value


def _example(features: dict[str, list[bytes]]) -> bytes:
    lists = {name: _field(1, b"".join(_field(1, value) for value in values)) for name, values in features.items()}
    return _field(1, b"".join(_field(1, _field(1, name.encode()) + _field(2, one)) for name, one in lists.items()))


def _masked(data: bytes) -> bytes:
    crc = tfrecord.crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def write(path: Path, episodes: int) -> None:
    """Write the file."""
    generator = np.random.default_rng(0)
    screens = [screen(generator) for _ in range(24)]
    with gzip.open(path, "wb", compresslevel=6) as out:
        for _ in range(episodes):
            count = int(generator.integers(4, 10))
            chosen = [screens[int(index)] for index in generator.integers(len(screens), size=count)]
            trees = [generator.integers(0, 8, 60_000).astype(np.uint8).tobytes() for _ in range(count)]
            record = _example({"screenshots": chosen, "accessibility_trees": trees, "actions": [b"{}"] * (count - 1)})
            length = struct.pack("<Q", len(record))
            out.write(length + _masked(length) + record + _masked(record))


def read_ours(path: Path) -> int:
    """Read with `datasets_builders.tfrecord`; the number of values."""
    return sum(
        len(tfrecord.values_of(feature))
        for record in tfrecord.records(path, file=path.name)
        for feature in tfrecord.features_of(record).values()
    )


def read_gunzip(path: Path) -> int:
    """Unpack only, checking nothing but gzip's own checksum."""
    with gzip.open(path) as stream:
        while stream.read(4 << 20):
            pass
    return 0


def read_tensorflow(path: Path) -> int:
    """Read with tf.data and tf.train.Example."""
    import tensorflow as tf

    values = 0
    for record in tf.data.TFRecordDataset([str(path)], compression_type="GZIP"):
        example = tf.train.Example.FromString(record.numpy())
        for feature in example.features.feature.values():
            values += len(list(feature.bytes_list.value))
    return values


def measure(read: Callable[[Path], int], path: Path, runs: int) -> None:
    """Print the median speed of some runs."""
    megabytes = path.stat().st_size / 1e6
    wall, cpu, values = [], [], 0
    for _ in range(runs):
        wall_began, cpu_began = time.perf_counter(), time.process_time()
        values = read(path)
        wall.append(megabytes / (time.perf_counter() - wall_began))
        cpu.append(megabytes / (time.process_time() - cpu_began))
    name = read.__name__.removeprefix("read_")
    print(f"{name:<12} wall {np.median(wall):6.0f} MB/s   cpu {np.median(cpu):6.0f} MB/s   {values:,} values")


def main() -> None:
    """Make the file and read it in every way there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "android_control-00000-of-00001"
        write(path, chosen.episodes)
        print(f"{path.stat().st_size / 1e6:.0f} MB gzipped")
        for package in ("isal", "google_crc32c"):
            print(f"ours {'uses' if importlib.util.find_spec(package) else 'lacks'} {package}")
        read_ours(path)
        readers = [read_gunzip, read_ours]
        for read in readers:
            measure(read, path, chosen.runs)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory so far {peak:.0f} MB, the writer's included")
        with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
            pool.map(read_ours, [path] * chosen.processes)
            began = time.perf_counter()
            pool.map(read_ours, [path] * chosen.processes)
            speed = chosen.processes * path.stat().st_size / 1e6 / (time.perf_counter() - began)
        print(f"ours, {chosen.processes} processes: wall {speed:.0f} MB/s")
        if importlib.util.find_spec("tensorflow"):
            measure(read_tensorflow, path, chosen.runs)
        else:
            print("tensorflow is not installed: no comparison")


if __name__ == "__main__":
    main()
