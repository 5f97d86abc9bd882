"""The verb jury."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import _show_estimates
from perl_eval.cli.shared_options import FileFormat, LabelColumn, Means, Out, how_read, labels_at
from perl_eval.errors import UserError

__all__ = ["jury"]


def jury(
    members: Annotated[list[Path], typer.Argument(help="Output folders of `judge`, one a judge.")],
    out: Out,
    labels: Annotated[
        Path | None, typer.Option(help="Human labels of the same units, which show the judges' errors; any file.")
    ] = None,
    format: FileFormat = "",
    column: LabelColumn = None,
    means: Means = None,
) -> None:
    """What several judges say together, and how alike they are."""
    from perl_eval.judging import jury as verb

    if labels is None and (format or column or means):
        raise UserError("--format, --column and --means are for a file of labels", "give it with --labels")
    people = None if labels is None else labels_at(labels, out, how_read(format, column, means=means))
    _show_estimates(verb.run(members, out, labels=people))
