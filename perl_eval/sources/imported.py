"""From a file of another tool to a run folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.sources import completions, judgement_files, label_files
from perl_eval.sources.containers import Brought, opened
from perl_eval.sources.counting import counted
from perl_eval.sources.labels import LabelColumns
from perl_eval.sources.reading import Format, HowRead, Import
from perl_eval.sources.recognition import FORMATS, format_named, format_of, format_of_any
from perl_eval.storage import images, parquet, run_folder
from perl_eval.storage.progress import track

__all__ = ["FORMS", "Form", "read_judgements", "run", "take", "take_completions"]

Form = Literal[
    "auto",
    "table",
    "wide",
    "label-studio",
    "argilla",
    "mt-bench-votes",
    "arena-votes",
    "outcomes",
    "alpaca-eval",
    "mt-bench",
]
FORMS: tuple[Form, ...] = get_args(Form)
_SHARED = "id, for several answers have the same,"
_TABLE = "table"
_VERDICTS = frozenset(("outcome", "verdict", "verdict_ab", "verdict_ba"))
"""Columns that only tables of judgements have."""
_SHORT = {"alpaca-eval": "alpaca-eval-annotations", "mt-bench": "mt-bench-pairs"}


def read_judgements(source: Any, format: str = "") -> list[Judgement]:
    """Read what another tool's judge said.

    Args:
        source: A file of a format that gives judgements, see ``perl-eval import --formats``, or its rows.
        format: The format, where it cannot be told from the content; ``alpaca-eval`` and ``mt-bench`` are short for
            their judgements.

    Raises:
        UserError: There is no such file or format.
        DataError: It is of no known format, or a row lacks a field, or has a value that means nothing.
    """
    found = opened(source)
    return list(format_of(found, Judgement, _SHORT.get(format, format)).read(found, Import()))


def run(source: Path, out: Path, *, form: Form, columns: LabelColumns | Mapping[str, str] | None = None) -> Path:
    """Read another tool's file and write its records to a run folder.

    Args:
        source: The file.
        out: Output folder.
        form: ``table`` (one label a row), ``wide`` (one column a rater), ``label-studio``, ``argilla``,
            ``mt-bench-votes`` or ``arena-votes`` for labels, of which ``auto`` tells which; ``outcomes`` (a table),
            ``alpaca-eval`` or ``mt-bench`` for judgements.
        columns: Where the file keeps what; what means nothing for the form is refused.

    Returns:
        The output folder, with ``labels.parquet`` or ``judgements.parquet``.

    Raises:
        UserError: There is no such file or form.
        DataError: The file is not of that form, a column is missing, or a label means nothing here.
    """
    if form not in FORMS:
        raise UserError(f"no form {form!r}", f"choose one of {', '.join(FORMS)}")
    where, source = columns or LabelColumns(), Path(source)
    kept = asdict(where) if isinstance(where, LabelColumns) else dict(where)
    if form in ("alpaca-eval", "mt-bench") and columns_given(where):
        raise OptionError("column", f"not for {form}, whose names are its tool's", "leave it out")
    started = run_folder.start(out, verb="import", arguments={"form": form, "columns": kept}, inputs={"source": source})
    with started as progress:
        if progress.done:
            return progress.folder
        if form == "outcomes":
            judgement_files.write(progress, source, how=HowRead(form, columns_given(where)))
        elif form in ("alpaca-eval", "mt-bench"):
            progress.write(read_judgements(source, form), Judgement)
        else:
            label_files.write(progress, source, format="" if form == "auto" else form, columns=columns_given(where))
    return progress.folder


def columns_given(columns: LabelColumns | Mapping[str, str]) -> Mapping[str, str]:
    """Return the names that somebody gave."""
    return columns.given() if isinstance(columns, LabelColumns) else columns


def take_completions(source: Path, out: Path, *, how: HowRead | None = None, policy: str = "") -> Path:
    """Read a file of answers, of any known format, and write it as completions to a run folder.

    Args:
        source: The file.
        out: Output folder. Its card has what was derived, and what was left out and why.
        how: How it is read; columns are those of `completions.FIELDS`.
        policy: What the policy is called where the file does not say; by default the file's name.

    Raises:
        UserError: There is no such file, or no such format.
        DataError: The file is of no known format, or a row lacks what is needed.
    """
    asked = how or HowRead()
    arguments: dict[str, Any] = {"kind": "completions", "policy": policy, "format": asked.format}
    arguments["columns"] = dict(asked.columns)
    if asked.by_prompt:
        arguments["by_prompt"] = True
    if asked.only:
        arguments["only"] = asked.only
    inputs = {"source": Path(source), **({"requests": Path(asked.requests)} if asked.requests else {})}
    with run_folder.start(out, verb="import", arguments=arguments, inputs=inputs) as going:
        if going.done:
            return going.folder
        found, reading = opened(source), Import(asked.columns, policy, asked.requests, asked.by_prompt, asked.only)
        made = completions.read(found, reading, asked.format)
        going.write(_some(_counted(made, going.notes), found, reading), Completion)
        if twice := completions.settle(going.folder / run_folder.FILES[Completion], reading.again):
            reading.derived[_SHARED] += twice
        going.notes |= {
            "format": completions.layout_of(found, asked.columns, asked.format).name,
            "derived": dict(reading.derived),
            "left_out": dict(reading.left_out),
        }
        if unused := _unused(found, asked.columns, going.notes["format"]):
            going.notes["unused"] = unused
    return going.folder


def take_anew(source: Path, out: Path) -> Path:
    """Copy completions of which several have the same id to a run folder in which each has its own.

    Args:
        source: A run folder, or its file.
        out: Output folder. Its card says how many ids were derived.

    Raises:
        UserError: There is no such file.
        DataError: It is not a table of completions.
    """
    with run_folder.start(out, verb="import", arguments={"kind": "completions"}, inputs={"source": source}) as going:
        if going.done:
            return going.folder
        file = run_folder.locate(source, Completion)
        going.write(_counted(parquet.iterate(file, Completion), going.notes), Completion)
        if (pictures := file.parent / images.FOLDER).is_dir():
            shutil.copytree(pictures, going.folder / images.FOLDER, dirs_exist_ok=True)
        twice = completions.settle(going.folder / run_folder.FILES[Completion], {})
        going.notes |= {"format": "completions", "derived": {_SHARED: twice}, "left_out": {}}
    return going.folder


def _unused(found: Brought, columns: Mapping[str, str], format: str) -> list[str]:
    """Return the columns of a plain table that nothing is read from."""
    if format != _TABLE or not found.head:
        return []
    used = {*columns.values(), *(name for names in completions.FIELDS.values() for name in names)}
    return [str(name) for name in found.head[0] if name not in used]


def take(source: Path, out: Path, *, how: HowRead | None = None, policy: str = "") -> Path:
    """Read another tool's file of whatever kind, told by its content, and write its records to a run folder.

    A file that holds answers and what was said of them is read for its answers; name the format of the others.

    Args:
        source: The file: answers, judgements or labels.
        out: Output folder.
        how: How it is read; columns are those of what the file holds.
        policy: What the policy is called where the file does not say; by default the file's name.

    Raises:
        UserError: There is no such file or format.
        DataError: The file is of no known format, or a row lacks what is needed, or says what means nothing.
    """
    asked, found = how or HowRead(), opened(source)
    layout = _layout(found, asked)
    if layout.gives is Judgement:
        return judgement_files.take_judgements(source, out, how=replace(asked, format=layout.name), policy=policy)
    if layout.gives is HumanLabel:
        return label_files.take_labels(source, out, format=layout.name, columns=asked.columns, means=asked.means)
    if asked.means:
        raise OptionError("means", "for labels and verdicts, and the file holds answers", "leave it out")
    return take_completions(source, out, how=replace(asked, format=layout.name), policy=policy)


def _layout(found: Brought, asked: HowRead) -> Format:
    """Return the format that something is of, of any kind.

    Raises:
        OptionError: There is no format of that name.
        DataError: It is of no known format.
    """
    if asked.format:
        named = [one for one in FORMATS if one.name == asked.format]
        return next((one for one in named if one.matches(found)), None) or format_named(asked.format)
    if _VERDICTS & set(asked.columns):
        return format_named("outcomes")
    if "text" in asked.columns:  # which only answers have
        return completions.layout_of(found, asked.columns)
    if "prompt" in asked.columns or "messages" in asked.columns:
        told = (one for one in sorted(FORMATS, key=lambda one: one.weak) if one.matches(found))
        return next(told, None) or completions.layout_of(found, asked.columns)
    return format_of_any(found)


def _some(made: Iterator[Completion], found: Brought, reading: Import) -> Iterator[Completion]:
    """Pass records on.

    Raises:
        DataError: There are none.
    """
    first = next(made, None)
    if first is None:
        why = ", ".join(f"{counted(count, reason)}" for reason, count in reading.left_out.items())
        raise DataError(f"gives no answers ({f'left out: {why}' if why else 'it has no rows'})", file=found.name)
    yield first
    yield from made


def _counted(made: Iterator[Completion], notes: dict[str, Any]) -> Iterator[Completion]:
    """Pass records on, and note how many there were, and of which policies."""
    rows, policies = 0, set()
    for one in track(made, "rows read"):
        rows += 1
        policies.add(one.policy)
        yield one
    notes |= {"rows": rows, "policies": sorted(policies)}
