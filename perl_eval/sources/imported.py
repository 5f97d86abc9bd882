"""From another tool's file to a run folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

from perl_eval.errors import UserError
from perl_eval.records import HumanLabel, Judgement
from perl_eval.sources.judgements import read_judgements, read_outcomes
from perl_eval.sources.labels import LabelColumns, read_labels
from perl_eval.storage import run_folder

__all__ = ["FORMS", "Form", "run"]

Form = Literal["table", "label-studio", "argilla", "outcomes", "alpaca-eval", "mt-bench"]
FORMS: tuple[Form, ...] = get_args(Form)


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
