"""The verb jury."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perl_eval.cli.console import _show_estimates
from perl_eval.cli.shared_options import Out

if TYPE_CHECKING:
    pass

__all__ = ["jury"]


def jury(
    members: Annotated[list[Path], typer.Argument(help="Output folders of `judge`, one a judge.")],
    out: Out,
    labels: Annotated[
        Path | None, typer.Option(help="Human labels of the same units, to know the judges' errors by.")
    ] = None,
) -> None:
    """Several judges' judgements to what they say together, and how alike they are."""
    from perl_eval.judging import jury as verb

    _show_estimates(verb.run(members, out, labels=labels))
