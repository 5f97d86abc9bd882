"""From a file of another tool to a run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

from perl_eval.errors import UserError
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.sources import completions
from perl_eval.sources.containers import Brought, opened
from perl_eval.sources.judgements import read_outcomes
from perl_eval.sources.labels import LabelColumns, read_labels
from perl_eval.sources.reading import Format, HowRead, Import
from perl_eval.sources.recognition import FORMATS, format_named, format_of
from perl_eval.sources.user_table import columns_of
from perl_eval.storage import run_folder
from perl_eval.storage.progress import track

__all__ = ["FORMS", "Form", "read_judgements", "run", "take", "take_completions", "take_judgements"]

Form = Literal["table", "label-studio", "argilla", "outcomes", "alpaca-eval", "mt-bench"]
FORMS: tuple[Form, ...] = get_args(Form)
_LABEL_FORMS = ("label-studio", "argilla", "outcomes")
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
    inputs = {"source": Path(source), **({"requests": Path(asked.requests)} if asked.requests else {})}
    with run_folder.start(out, verb="import", arguments=arguments, inputs=inputs) as going:
        if going.done:
            return going.folder
        found, reading = opened(source), Import(asked.columns, policy, asked.requests, asked.by_prompt)
        going.write(_counted(completions.read(found, reading, asked.format), going.notes), Completion)
        completions.settle(going.folder / run_folder.FILES[Completion])
        going.notes |= {
            "format": asked.format or format_of(found, Completion).name,
            "derived": dict(reading.derived),
            "left_out": dict(reading.left_out),
        }
    return going.folder


def take_judgements(source: Path, out: Path, *, format: str = "", policy: str = "") -> Path:
    """Read another tool's file of judgements, of any known format, and write them to a run folder.

    Args:
        source: The file.
        out: Output folder. Its card has the format, the judges, and what was left out and why.
        format: The format, where it cannot be told from the content.
        policy: What the policy is called where the file does not say; by default the file's name.

    Raises:
        UserError: There is no such file or format.
        DataError: The file is of no known format, or a row lacks what is needed, or says what means nothing.
    """
    arguments = {"kind": "judgements", "format": format, "policy": policy}
    with run_folder.start(out, verb="import", arguments=arguments, inputs={"source": Path(source)}) as going:
        if going.done:
            return going.folder
        found, reading = opened(source), Import(policy=policy)
        layout = format_of(found, Judgement, format)
        judges: Counter[str] = Counter()
        going.write(_by_judge(layout.read(found, reading), judges), Judgement)
        going.notes |= {
            "format": layout.name,
            "rows": judges.total(),
            "judges": sorted(judges),
            "left_out": dict(reading.left_out),
        }
    return going.folder


def take(source: Path, out: Path, *, how: HowRead | None = None, policy: str = "") -> Path:
    """Read another tool's file of whatever kind, told by its content, and write its records to a run folder.

    A file that holds answers and what was said of them is read for its answers; name the format of the others.

    Args:
        source: The file: answers, judgements or labels.
        out: Output folder.
        how: How it is read; columns are those of `completions.FIELDS`, or of `LabelColumns` for labels.
        policy: What the policy is called where the file does not say; by default the file's name.

    Raises:
        UserError: There is no such file or format.
        DataError: The file is of no known format, or a row lacks what is needed, or says what means nothing.
    """
    asked, found = how or HowRead(), opened(source)
    form = asked.format if asked.format in _LABEL_FORMS else ""
    layout = None if form else _layout(found, asked)
    if form or layout is None:
        chosen: Any = form or _label_form(found, asked.columns)
        return run(source, out, form=chosen, columns=LabelColumns(**columns_of(asked.columns, LabelColumns())))
    if layout.gives is Judgement:
        return take_judgements(source, out, format=layout.name, policy=policy)
    return take_completions(source, out, how=replace(asked, format=layout.name), policy=policy)


def _layout(found: Brought, asked: HowRead) -> Format | None:
    """Return the format that something is of, of any kind; None for a table or an export of labels.

    Raises:
        OptionError: There is no format of that name.
        DataError: It is of no known format.
    """
    if asked.format:
        return format_named(asked.format)
    of_labels = _label_form(found, asked.columns)
    for one in FORMATS:
        if one.gives is not HumanLabel and one.matches(found) and not (one.weak and of_labels):
            return one
    return None if of_labels else format_of(found, Completion)


def _label_form(found: Brought, columns: Mapping[str, str]) -> str:
    """Return the form of a file of labels or outcomes; empty if it has no label."""
    if found.has("data", "annotations"):
        return "label-studio"
    if found.has("fields", "responses"):
        return "argilla"
    if found.has("outcome") or found.has("verdict_ab", "verdict_ba"):
        return "outcomes"
    where = {field: columns.get(field, field) for field in ("label", "unit", "a")}
    named = found.has(where["unit"]) or found.has(where["a"])
    return "table" if named and found.has(where["label"]) else ""


def _by_judge(made: Iterable[Judgement], judges: Counter[str]) -> Iterator[Judgement]:
    """Pass judgements on, and count those of each judge."""
    for one in track(made, "judgements read"):
        judges[one.judge] += 1
        yield one


def _counted(made: Iterator[Completion], notes: dict[str, Any]) -> Iterator[Completion]:
    """Pass records on, and note how many there were, and of which policies."""
    rows, policies = 0, set()
    for one in track(made, "rows read"):
        rows += 1
        policies.add(one.policy)
        yield one
    notes |= {"rows": rows, "policies": sorted(policies)}
