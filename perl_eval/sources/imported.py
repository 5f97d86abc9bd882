"""From a file of another tool to a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from perl_eval.errors import OptionError, UserError
from perl_eval.records import Completion, Judgement
from perl_eval.sources import completions, judgement_files, label_files
from perl_eval.sources.containers import opened
from perl_eval.sources.labels import LabelColumns
from perl_eval.sources.reading import Import
from perl_eval.sources.recognition import format_of
from perl_eval.sources.tool_judgements import read_judgements
from perl_eval.storage import run_folder
from perl_eval.storage.progress import track

__all__ = ["FORMS", "Form", "run", "take_completions", "told_import"]

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
            judgement_files.write(progress, source, format=form, columns=columns_given(where))
        elif form in ("alpaca-eval", "mt-bench"):
            progress.write(read_judgements(source, form), Judgement)
        else:
            label_files.write(progress, source, format="" if form == "auto" else form, columns=columns_given(where))
    return progress.folder


def columns_given(columns: LabelColumns | Mapping[str, str]) -> Mapping[str, str]:
    """Return the names that somebody gave."""
    return columns.given() if isinstance(columns, LabelColumns) else columns


def told_import(folder: Path) -> str:
    """Say what was read into a run folder, empty where its card does not say."""
    card = run_folder.read_card(folder)
    if card is None or "format" not in card.notes:
        return ""
    return (label_files.told_labels if "annotators" in card.notes else judgement_files.told_judgements)(folder)


def take_completions(
    source: Path,
    out: Path,
    *,
    policy: str = "",
    format: str = "",
    columns: Mapping[str, str] | None = None,
    requests: Path | None = None,
) -> Path:
    """Read a file of answers, of any known format, and write it as completions to a run folder.

    Args:
        source: The file.
        out: Output folder. Its card has what was derived, and what was left out and why.
        policy: What the policy is called where the file does not say; by default the file's name.
        format: The format, where it cannot be told from the content.
        columns: The names that the rows use, by `completions.FIELDS`.
        requests: File of the requests or questions that the answers belong to, where they do not repeat them.

    Raises:
        UserError: There is no such file, or no such format.
        DataError: The file is of no known format, or a row lacks what is needed.
    """
    arguments = {"kind": "completions", "policy": policy, "format": format, "columns": dict(columns or {})}
    inputs = {"source": Path(source), **({"requests": Path(requests)} if requests else {})}
    with run_folder.start(out, verb="import", arguments=arguments, inputs=inputs) as going:
        if going.done:
            return going.folder
        found, reading = opened(source), Import(columns or {}, policy, requests)
        going.write(_counted(completions.read(found, reading, format), going.notes), Completion)
        completions.settle(going.folder / run_folder.FILES[Completion])
        going.notes |= {
            "format": format or format_of(found, Completion).name,
            "derived": dict(reading.derived),
            "left_out": dict(reading.left_out),
        }
    return going.folder


def _counted(made: Iterator[Completion], notes: dict[str, Any]) -> Iterator[Completion]:
    """Pass records on, and note how many there were, and of which policies."""
    rows, policies = 0, set()
    for one in track(made, "rows read"):
        rows += 1
        policies.add(one.policy)
        yield one
    notes |= {"rows": rows, "policies": sorted(policies)}
