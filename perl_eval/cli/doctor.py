"""The verb doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import say
from perl_eval.cli.shared_options import AnyColumns, FileFormat, Means, Requests, how_read

__all__ = ["doctor"]

_IN_THE_WAY = 3


def doctor(
    sources: Annotated[
        list[Path], typer.Argument(help="Files and run folders: answers, judgements, labels, rows, scores.")
    ],
    format: FileFormat = "",
    column: AnyColumns = None,
    requests: Requests = None,
    means: Means = None,
) -> None:
    """What can be computed from these files, what is missing, and how many labels would help.

    Nothing is written. Exit code 0: nothing stands in the way; 3: something does.
    """
    from perl_eval.scoring import doctor as verb

    found = verb.run(sources, how=how_read(format, column, requests, means))
    say(str(found), lines=True)
    if not found.clear:
        raise typer.Exit(_IN_THE_WAY)
