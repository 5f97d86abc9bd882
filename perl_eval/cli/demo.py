"""The verb demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import done, table
from perl_eval.cli.shared_options import Seed, require_torch

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all runs and the page.")] = Path("perl-eval-demo"),
    seed: Seed = 0,
) -> None:
    """Run everything once, offline, on a small built-in task whose true reward is known."""
    require_torch()
    from perl_eval import demo as verb

    page = verb.run(out, seed=seed)
    table("perl-eval demo (dialogues, annotators and the scripted judges are simulated)", verb.headline(out))
    done(page)
