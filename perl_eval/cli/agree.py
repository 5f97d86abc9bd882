"""The verb agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done, show
from perl_eval.cli.shared_options import (
    Draws,
    Epsilon,
    Level,
    Out,
    Seed,
    one_of,
    resampling,
)
from perl_eval.errors import UserError

__all__ = ["agree"]


def agree(
    judgements: Annotated[Path, typer.Argument(help="Judgements; or a table of ratings, alone.")],
    labels: Annotated[
        Path | None,
        typer.Argument(help="Human labels of the same units; or a stronger judge's judgements of a random part."),
    ] = None,
    *,
    out: Out,
    epsilon: Epsilon = 0.15,
    scale: Annotated[str, typer.Option(help="Of ratings in a table: nominal, ordinal or interval.")] = "nominal",
    column: Annotated[
        list[str] | None, typer.Option(help="Where a table keeps what: unit=NAME, rater=, label=, group=.")
    ] = None,
    level: Level = 0.95,
    draws: Draws = 2000,
    seed: Seed = 0,
) -> None:
    """How far people agree, and a judge with them; rates corrected by their labels of a part.

    With a stronger judge's judgements in place of labels: the cheap judge's rates corrected by the strong one's. With a
    table of ratings alone: agreement among its raters.
    """
    from perl_eval.records import Judgement
    from perl_eval.scoring import agree as verb
    from perl_eval.sources.user_table import columns_of
    from perl_eval.storage import run_folder

    one_of("--scale", scale, ("nominal", "ordinal", "interval"))
    how = verb.AgreeOptions(resampling(level, draws, seed), epsilon)
    if labels is None:
        where = verb.RatingColumns(**columns_of(column, verb.RatingColumns()))
        chosen: Any = scale
        result = verb.run_table(judgements, out, columns=where, scale=chosen, options=how)
    else:
        if column or scale != "nominal":
            raise UserError("--column and --scale are for a table of ratings", "leave them out")
        is_cascade = labels.name == run_folder.FILES[Judgement] or (labels / run_folder.FILES[Judgement]).is_file()
        run = verb.run_cascade if is_cascade else verb.run
        result = run(judgements, labels, out, options=how)
    show(result)
    done(result)
