"""From a file of another tool to a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from perl_eval.errors import UserError
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.sources import completions
from perl_eval.sources.containers import opened
from perl_eval.sources.judgements import read_outcomes
from perl_eval.sources.labels import LabelColumns, read_labels
from perl_eval.sources.reading import Import
from perl_eval.sources.recognition import format_of
from perl_eval.storage import run_folder
from perl_eval.storage.progress import track

__all__ = ["FORMS", "Form", "read_judgements", "run", "take_completions"]

Form = Literal["table", "label-studio", "argilla", "outcomes", "alpaca-eval", "mt-bench"]
FORMS: tuple[Form, ...] = get_args(Form)
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


def run(source: Path, out: Path, *, form: Form, columns: LabelColumns | None = None) -> Path:
    """Read another tool's file and write its records to a run folder.

    Args:
        source: The file.
        out: Output folder.
        form: ``table`` (parquet, CSV or JSON lines), ``label-studio`` or ``argilla`` for labels; ``outcomes`` (a
            table), ``alpaca-eval`` or ``mt-bench`` for judgements.
        columns: Where tables and label files keep what.

    Returns:
        The output folder, with ``labels.parquet`` or ``judgements.parquet``.

    Raises:
        UserError: There is no such file or form.
        DataError: The file is not of that form, a column is missing, or a label means nothing here.
    """
    if form not in FORMS:
        raise UserError(f"no form {form!r}", f"choose one of {', '.join(FORMS)}")
    where, source = columns or LabelColumns(), Path(source)
    started = run_folder.start(
        out, verb="import", arguments={"form": form, "columns": asdict(where)}, inputs={"source": source}
    )
    with started as progress:
        if progress.done:
            return progress.folder
        if form == "outcomes":
            progress.write(read_outcomes(source, where), Judgement)
        elif form in ("alpaca-eval", "mt-bench"):
            progress.write(read_judgements(source, form), Judgement)
        else:
            progress.write(read_labels(source, form, where), HumanLabel)
    return progress.folder


def take_completions(
    source: Path,
    out: Path,
    *,
    policy: str = "",
    format: str = "",
    columns: Mapping[str, str] | None = None,
    requests: Path | None = None,
    by_prompt: bool = False,
) -> Path:
    """Read a file of answers, of any known format, and write it as completions to a run folder.

    Args:
        source: The file.
        out: Output folder. Its card has what was derived, and what was left out and why.
        policy: What the policy is called where the file does not say; by default the file's name.
        format: The format, where it cannot be told from the content.
        columns: The names that the rows use, by `completions.FIELDS`.
        requests: File of the requests or questions that the answers belong to, where they do not repeat them.
        by_prompt: Tell items by their prompts, whatever the rows call them.

    Raises:
        UserError: There is no such file, or no such format.
        DataError: The file is of no known format, or a row lacks what is needed.
    """
    arguments: dict[str, Any] = {
        "kind": "completions",
        "policy": policy,
        "format": format,
        "columns": dict(columns or {}),
    }
    if by_prompt:
        arguments["by_prompt"] = True
    inputs = {"source": Path(source), **({"requests": Path(requests)} if requests else {})}
    with run_folder.start(out, verb="import", arguments=arguments, inputs=inputs) as going:
        if going.done:
            return going.folder
        found, reading = opened(source), Import(columns or {}, policy, requests, by_prompt)
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
