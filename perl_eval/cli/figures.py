"""Verbs that turn records into figures: score, agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.options import Out
from perl_eval.cli.shown import done, show


def score(
    source: Annotated[Path, typer.Argument(help="Judgements; or completions, for their diversity.")], out: Out
) -> None:
    """Judgements to rates with intervals; completions to measures of diversity."""
    from perl_eval import runs
    from perl_eval import score as verb
    from perl_eval.records import Completion, Judgement

    folder = Path(source)
    is_completions = folder.name == runs.FILES[Completion] or (
        (folder / runs.FILES[Completion]).is_file() and not (folder / runs.FILES[Judgement]).is_file()
    )
    result = verb.run_diversity(source, out) if is_completions else verb.run(source, out)
    show(result)
    done(result)


def agree(
    judgements: Annotated[Path, typer.Argument(help="Judgements.")],
    labels: Annotated[Path, typer.Argument(help="Human labels of the same units.")],
    out: Out,
) -> None:
    """Judgements and human labels to agreement: people among themselves, and judge with people."""
    from perl_eval import agree as verb

    result = verb.run(judgements, labels, out)
    show(result)
    done(result)
