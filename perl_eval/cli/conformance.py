"""The verb conformance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import done, say
from perl_eval.cli.shared_options import Out, require_torch


def conformance(
    out: Out,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="Python file with estimators() -> list[Estimator]; it is run. May be repeated."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Names, * for any text. May be repeated; default all.")] = None,
    corner: Annotated[bool, typer.Option("--corner", help="Two worlds, no training: under a minute.")] = False,
) -> None:
    """Losses of RL trainers against exact gradients: bias, variance, where training ends, and what explains it."""
    require_torch()
    from perl_eval import conformance as verb

    options = verb.ConformanceOptions(tuple(adapter or ()), tuple(only or ()), corner)
    folder = verb.run(out, options=options)
    _show(folder)
    done(folder)


def _show(folder: Path) -> None:
    """Print a line for each estimator: its name and what is said of it."""
    import json

    content = json.loads((folder / "conformance.json").read_text("utf-8"))
    for one in content["estimators"]:
        say(f"{one['name']}: {one['sentence']}")
