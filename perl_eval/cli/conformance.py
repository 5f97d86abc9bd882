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
    corner: Annotated[bool, typer.Option("--corner", help="Two toy worlds, no training: under a minute.")] = False,
    dump: Annotated[
        Path | None, typer.Option(help="JSON lines of tokens, log-probabilities, rewards, gradients; checked alone.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="How many measure at once; default one a core, for --corner one.")
    ] = None,
) -> None:
    """Compare losses of RL trainers with exact gradients: bias, variance, where training ends, and why."""
    require_torch()
    from perl_eval import conformance as verb
    from perl_eval.storage.local_processes import usable_cores

    count = processes or (1 if corner else usable_cores())
    options = verb.ConformanceOptions(tuple(adapter or ()), tuple(only or ()), corner, dump, count)
    folder = verb.run(out, options=options)
    _show(folder)
    done(folder)


def _show(folder: Path) -> None:
    """Print a line for each estimator, or for the dump: its name, the verdict and what is wrong."""
    import json

    path = folder / "dump.json"
    if path.is_file():
        found = json.loads(path.read_text("utf-8"))
        say(f"{found['verdict']}: {found['sentence']}")
        others = f" ({found['others']} others are as near, within the noise)" if found["others"] else ""
        say(f"nearest known formula: it {found['formula']}{others}")
        return
    for one in json.loads((folder / "conformance.json").read_text("utf-8"))["estimators"]:
        faults = "; ".join(one["diagnosis"]["faults"]) or one["objective"]
        say(f"{one['verdict']:<16}{one['name']}: {faults}")
