"""What people bring as labels to HumanLabel records: files of any known format, and objects in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from perl_eval.errors import DataError
from perl_eval.records import HumanLabel
from perl_eval.sources.containers import Brought, opened
from perl_eval.sources.counting import counted
from perl_eval.sources.label_rows import LabelColumns
from perl_eval.sources.reading import Format, Import, meanings
from perl_eval.storage import run_folder

__all__ = ["LabelColumns", "is_ours", "kind_of", "labels", "read", "read_labels", "repeated"]


def labels(
    source: str | Path | Iterable[Any],
    *,
    columns: LabelColumns | Mapping[str, str] | None = None,
    format: str = "",
    means: Mapping[str, str] | None = None,
) -> list[HumanLabel]:
    """Return what somebody brought as human labels.

    Args:
        source: A run folder or its file; a file of any known format (a table, an export of Label Studio or Argilla,
            votes of MT-bench or Chatbot Arena); or HumanLabel records, a list of dicts, a DataFrame or a Dataset.
        columns: Where the file keeps what: LabelColumns, or a dict such as ``{"label": "preferred"}``.
        format: The format, where it cannot be told from the content.
        means: What words of labels mean that are not known here, such as ``{"the blue one": "a"}``.

    Raises:
        UserError: There is no such file, or nothing of the kind.
        DataError: A column is missing, a label means nothing here, or there are no labels.

    Example:
        >>> import perl_eval as pe
        >>> found = pe.labels([{"a": "x1", "b": "y1", "label": "win", "annotator": "ann"}])
        >>> [(one.annotator, one.label) for one in found]
        [('ann', 'win')]
    """
    if isinstance(source, str | Path) and is_ours(Path(source)):
        return run_folder.read(Path(source), HumanLabel)
    given = source if isinstance(source, str | Path) or hasattr(source, "__len__") else list(source)
    if isinstance(given, list | tuple) and all(isinstance(one, HumanLabel) for one in given):
        return list(given)
    return list(read(opened(given), Import(_given(columns), means=meanings(means or {})), format))


def _given(columns: LabelColumns | Mapping[str, str] | None) -> Mapping[str, str]:
    return columns.given() if isinstance(columns, LabelColumns) else dict(columns or {})


def read_labels(source: Path, form: str = "table", columns: LabelColumns | None = None) -> list[HumanLabel]:
    """Read human labels of a format that was named, ``table``, ``label-studio`` or ``argilla``."""
    return list(read(opened(source), Import(_given(columns)), form))


def read(found: Brought, reading: Import, format: str = "") -> Iterator[HumanLabel]:
    """Yield the labels of something.

    Raises:
        OptionError: No label has a column of that name, or there is no such format.
        DataError: It is of no known format, a row lacks what is needed, or there are no labels.
    """
    none = True
    for one in kind_of(found, reading, format).read(found, reading):
        none = False
        yield one
    if none:
        reasons = ", ".join(f"{counted(count, reason)}" for reason, count in reading.left_out.items())
        raise DataError("holds no labels" + (f" (left out: {reasons})" if reasons else ""), file=found.name)
    reading.refuse_unmet(found.name)


def kind_of(found: Brought, reading: Import, format: str = "") -> Format:
    """Return the format of labels that something is of: the one that was named, a table where columns were.

    Raises:
        OptionError: There is no format of that name.
        DataError: It is of no known format.
    """
    from perl_eval.sources.recognition import format_of

    return format_of(found, HumanLabel, format or ("table" if _names_rows(found, reading) else ""))


def _names_rows(found: Brought, reading: Import) -> bool:
    """Return whether somebody named a column of a plain table as that of the label."""
    return bool(found.head) and reading.columns.get("label") in found.head[0] and not found.has("annotation_id")


def repeated(made: Iterable[HumanLabel]) -> int:
    """Return how many labels their annotator gives anew later on, of the same unit."""
    keys = [(one.annotator, one.unit, one.item, *sorted((one.policy_a, one.policy_b))) for one in made]
    return len(keys) - len(set(keys))


def is_ours(path: Path) -> bool:
    """Return whether a path is a run folder with labels, or the file of one."""
    if path.is_dir() or path.name == run_folder.FILES[HumanLabel]:
        return True
    if path.suffix != ".parquet" or not path.is_file():
        return False
    import pyarrow.parquet as pq

    try:
        present = set(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        return False
    return {"unit", "item", "group", "annotator", "label", "simulated"} <= present
