"""Logs of Inspect: one JSON document, or a zip archive (``.eval``) with a header and one JSON file a sample.

Inspect's own package reads them where it is installed, and the code here else, or where that package cannot. Newer
versions pack the archive's files with zstandard, which `zipfile` does not know before Python 3.14; a sample that was
run again is a second file of the same name, of which the last counts.

Source: UKGovernmentBEIS/inspect_ai ``log/_log.py``, ``log/_recorders/eval.py`` and ``scorer/_metric.py``.
"""

from __future__ import annotations

import importlib.util
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError
from perl_eval.records import Completion, Judgement, Kind
from perl_eval.sources.containers import Brought
from perl_eval.sources.json_files import DECODER, RepeatedKeyError
from perl_eval.sources.maker import Maker
from perl_eval.sources.reading import Format, Import
from perl_eval.sources.verdict_records import of_answer

__all__ = ["INSPECT", "INSPECT_SCORES"]

_START = "_journal/start.json"
_ZSTANDARD = 93
_LOCAL_HEADER = 30
_NOT_NEEDED = {"events", "events_data", "store"}
"""Fields of samples that are long, and that nothing here is read from."""
_UNREADABLE = (ValueError, TypeError, LookupError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What Inspect's package raises of a log that it cannot read; errors of validation are ValueErrors."""
_ATTACHED = re.compile(r"attachment://([0-9a-f]{32})")
_VALUES: Mapping[str, bool] = {"C": True, "I": False, "N": False}
_UNDECIDED: Mapping[str, str] = {"P": "partly correct"}
Cells = Mapping[str, Any]


def _matches(found: Brought) -> bool:
    if found.document is not None:
        return isinstance(found.document.get("eval"), dict) and "plan" in found.document
    if found.container != "zip" or found.path is None or not zipfile.is_zipfile(found.path):
        return False
    with zipfile.ZipFile(found.path) as archive:
        return _START in archive.namelist() or "header.json" in archive.namelist()


@dataclass(frozen=True, slots=True)
class _Log:
    """A log: what was evaluated, and its samples."""

    about: Cells
    samples: Iterator[Cells]


def _log(found: Brought) -> _Log:
    return _read_by_inspect(found) or _read_here(found)


def _read_by_inspect(found: Brought) -> _Log | None:
    """Read a log with Inspect's package; None where it is not installed, or does not read it."""
    if found.path is None or importlib.util.find_spec("inspect_ai") is None:
        return None
    from inspect_ai.log import read_eval_log

    kind: Any = "eval" if found.container == "zip" else "json"
    try:
        log = read_eval_log(str(found.path), resolve_attachments=True, format=kind, exclude_fields=_NOT_NEEDED)
    except _UNREADABLE:
        return None  # what is wrong is said by the code here, with row and field
    if not log.samples:
        return None
    return _Log(log.eval.model_dump(), (sample.model_dump() for sample in log.samples))


def _read_here(found: Brought) -> _Log:
    document = found.document
    if document is not None:
        samples = document.get("samples")
        if not isinstance(samples, list):
            raise DataError("has no samples", file=found.name, field="samples", fix="log them (log_samples)")
        return _Log(document["eval"], iter(samples))
    assert found.path is not None
    return _Log(_header(found.path), _packed_samples(found.path))


def _header(path: Path) -> Cells:
    with zipfile.ZipFile(path) as archive:
        name = "header.json" if "header.json" in archive.namelist() else _START
        about = _unpacked(archive, archive.getinfo(name), path).get("eval")
    if not isinstance(about, dict):
        raise DataError(f"has no eval in {name}", file=path, field="eval")
    return about


def _packed_samples(path: Path) -> Iterator[Cells]:
    with zipfile.ZipFile(path) as archive:
        for info in {info.filename: info for info in archive.infolist()}.values():
            if info.filename.startswith("samples/") and info.filename.endswith(".json"):
                yield _unpacked(archive, info, path)


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Cells:
    """Return the object in a file of an archive."""
    try:
        packed = _raw(archive, info) if info.compress_type == _ZSTANDARD else archive.read(info)
        found = DECODER.decode(packed.decode("utf-8"))
    except RepeatedKeyError as error:
        raise DataError(f"is damaged ({error})", file=path, field=info.filename, fix="keep one of them") from None
    except (ValueError, RecursionError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"is damaged ({error})", file=path, field=info.filename, fix="copy it again") from None
    if not isinstance(found, dict):
        raise DataError("is not a JSON object", file=path, field=info.filename)
    return found


def _raw(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the content of a file that is packed with zstandard."""
    import pyarrow as pa

    assert archive.fp is not None
    archive.fp.seek(info.header_offset)
    header = archive.fp.read(_LOCAL_HEADER)
    archive.fp.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
    packed = archive.fp.read(info.compress_size)
    return bytes(pa.Codec("zstd").decompress(packed, decompressed_size=info.file_size))


def _samples(found: Brought, reading: Import) -> Iterator[tuple[int, Cells, Cells]]:
    """Yield row, sample and what its completion is made of; samples that failed are left out."""
    log = _log(found)
    policy, task = log.about.get("model"), log.about.get("task")
    for row, sample in enumerate(log.samples):
        if not isinstance(sample, dict):
            raise DataError("is not a JSON object", file=found.name, row=row, field="samples")
        output = sample.get("output")
        if not isinstance(output, dict):
            raise DataError("has no output", file=found.name, row=row, field="output")
        choices = output.get("choices")
        if sample.get("error") or not choices:
            reading.left_out["samples without an answer"] += 1
            continue
        if sample.get("id") is None or not isinstance(sample.get("epoch"), int):
            raise DataError("has no id and epoch", file=found.name, row=row, field="id")
        item = str(sample["id"])
        yield (
            row,
            sample,
            {
                "messages": _asked(sample, found.name, row),
                "text": _answer(output, found.name, row),
                "policy": policy,
                "dataset": task,
                "item": item,
                "group": item,
                "draw": sample["epoch"] - 1,
                "finish": choices[0].get("stop_reason") if isinstance(choices[0], dict) else None,
            },
        )


def _answer(output: Cells, file: str, row: int) -> str:
    said = output.get("completion")
    if said is None:
        said = _content(output["choices"][0].get("message", {}).get("content"), {})
    if not isinstance(said, str):
        raise DataError("is not text", file=file, row=row, field="output.completion")
    return said


def _asked(sample: Cells, file: str, row: int) -> list[Cells]:
    """Return the turns before the last answer, or the input where a log has no messages."""
    turns, attached = sample.get("messages"), sample.get("attachments") or {}
    if not turns:
        given = sample.get("input")
        turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    elif isinstance(turns, list) and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant":
        turns = turns[:-1]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        raise DataError("is not a list of turns with role and content", file=file, row=row, field="messages")
    return [
        {
            "role": turn["role"],
            "content": _content(turn.get("content"), attached),
            "tool_calls": [
                {"name": call.get("function"), "arguments": call.get("arguments")}
                for call in turn.get("tool_calls") or ()
                if isinstance(call, dict)
            ],
        }
        for turn in turns
    ]


def _content(content: Any, attached: Mapping[str, str]) -> str:
    """Return what a turn says: its text parts, without reasoning, and what the log keeps apart in its place."""
    if isinstance(content, list):
        content = "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("text"))
    return _ATTACHED.sub(lambda match: str(attached.get(match[1], match[0])), str(content or ""))


def _completions(found: Brought, reading: Import) -> Iterator[Cells]:
    return (cells for _, _, cells in _samples(found, reading))


def _scores(found: Brought, reading: Import) -> Iterator[Judgement]:
    make = Maker(found, reading)
    kinds: dict[str, Kind] = {}
    silent: list[tuple[str, Completion, Cells]] = []
    for row, sample, cells in _samples(found, reading):
        made = make(row, cells)
        scores = sample.get("scores") or {}
        if not isinstance(scores, dict):
            raise DataError("is not an object", file=found.name, row=row, field="scores")
        if not scores:
            reading.left_out["samples without a score"] += 1
        for scorer, score in scores.items():
            if not isinstance(score, dict) or "value" not in score:
                raise DataError("has no value", file=found.name, row=row, field=f"scores.{scorer}")
            for judge, value in _values(scorer, score["value"]):
                if value is None or (isinstance(value, float) and isnan(value)):  # the scorer came to no value
                    silent.append((judge, made, score))
                    continue
                judged = _judged(made, judge, value, score, found.name, row)
                kinds[judge] = judged.kind
                yield judged
    for judge, made, score in silent:  # what a scorer would have said, its other values tell
        why = str(score.get("reason") or "")
        yield of_answer(made, judge, None, kind=kinds.get(judge, "yes_no"), raw=_explained(score), reason=why)


def _values(scorer: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the judges that a scorer stands for, one for each key of its value, with what they said."""
    if isinstance(value, dict):
        yield from ((f"{scorer}: {name}", one) for name, one in value.items())
    else:
        yield scorer, value


def _judged(made: Completion, judge: str, value: Any, score: Cells, file: str, row: int) -> Judgement:
    raw = _explained(score)
    if isinstance(value, bool):
        return of_answer(made, judge, value, kind="yes_no", raw=raw)
    if isinstance(value, int | float):
        return of_answer(made, judge, value, kind="score", raw=raw)
    if isinstance(value, str) and value in _VALUES:
        return of_answer(made, judge, _VALUES[value], kind="yes_no", raw=raw)
    if isinstance(value, str) and value in _UNDECIDED:
        return of_answer(made, judge, None, kind="yes_no", raw=raw, reason=_UNDECIDED[value])
    raise DataError(f"{value!r} is neither C, I, P, N nor a number", file=file, row=row, field=f"scores.{judge}")


def _explained(score: Cells) -> str:
    return str(score.get("explanation") or "")


INSPECT = Format(
    "inspect",
    Completion,
    "the answers in a log of Inspect (.eval or .json)",
    _matches,
    _completions,
    needs="eval plan samples",
)
INSPECT_SCORES = Format(
    "inspect-scores",
    Judgement,
    "the scores in a log of Inspect",
    _matches,
    _scores,
    needs="eval plan samples",
)
