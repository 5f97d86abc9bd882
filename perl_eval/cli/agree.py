"""The verb agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done, show
from perl_eval.cli.shared_options import (
    Draws,
    Epsilon,
    FileFormat,
    Level,
    Out,
    Seed,
    how_read,
    judgements_at,
    labels_at,
    one_of,
    resampling,
)
from perl_eval.errors import UserError

__all__ = ["agree"]


def agree(
    judgements: Annotated[Path, typer.Argument(help="Judgements; or a table of ratings, alone.")],
    labels: Annotated[
        Path | None,
        typer.Argument(
            help="Human labels: a run folder, a table, an export of Label Studio or Argilla, votes of MT-bench or "
            "Chatbot Arena; or a stronger judge's judgements of a random part."
        ),
    ] = None,
    *,
    out: Out,
    epsilon: Epsilon = 0.15,
    scale: Annotated[str, typer.Option(help="Of ratings in a table: nominal, ordinal or interval.")] = "nominal",
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Where ratings keep what: unit=NAME, rater=, label=, group=; where labels do: label=NAME (a question "
            "too), annotator=, item=, policy_a=, policy_b=, a=, b=, unit=, group=, weight=, note=, yes_from=NUMBER."
        ),
    ] = None,
    format: FileFormat = "",
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
        if format:
            raise UserError(f"--format {format} is of a file of labels", "leave it out")
        where = verb.RatingColumns(**columns_of(column, verb.RatingColumns()))
        chosen: Any = scale
        result = verb.run_table(judgements, out, columns=where, scale=chosen, options=how)
    else:
        if scale != "nominal":
            raise UserError("--scale is for a table of ratings", "leave it out")
        if labels.name == run_folder.FILES[Judgement] or (labels / run_folder.FILES[Judgement]).is_file():
            if column or format:
                raise UserError("--column and --format are for labels and ratings", "leave them out")
            result = verb.run_cascade(judgements_at(judgements, out), labels, out, options=how)
        else:
            people = labels_at(labels, out, how_read(format, column, None))
            result = verb.run(judgements_at(judgements, out), people, out, options=how)
    show(result)
    done(result)
