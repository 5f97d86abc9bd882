"""The verb agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perl_eval.cli import judge_options as asked
from perl_eval.cli import on_options
from perl_eval.cli.console import done, say, show, table
from perl_eval.cli.default_out import INPUTS
from perl_eval.cli.shared_options import (
    Draws,
    Epsilon,
    FileFormat,
    Level,
    Means,
    Out,
    Seed,
    how_read,
    judgements_at,
    labels_at,
    one_of,
    resampling,
)
from perl_eval.errors import UserError

if TYPE_CHECKING:
    from perl_eval.verbs.on_rows import Known

__all__ = ["agree"]

_ALL_THE_SAME = 20
"""On so many units, a person who always says what the judge says may be the judge."""


def agree(
    judgements: Annotated[Path | None, typer.Argument(help="Judgements; or a table of ratings, alone.")] = None,
    labels: Annotated[
        Path | None,
        typer.Argument(
            help="Human labels: a run folder, a table, an export of Label Studio or Argilla, votes of MT-bench or "
            "Chatbot Arena; or a stronger judge's judgements of a random part."
        ),
    ] = None,
    *,
    out: Out,
    other_labels: Annotated[
        Path | None,
        typer.Option(help="Labels of the same units made with another instruction: how much disagreement it explains."),
    ] = None,
    epsilon: Epsilon = 0.15,
    scale: Annotated[str, typer.Option(help="For a table of ratings: nominal, ordinal or interval.")] = "nominal",
    judge_rater: Annotated[
        str, typer.Option(help="The rater in a table who is a judge: may it stand in for one of the others?")
    ] = "",
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Which column holds what: of ratings unit=NAME, rater= (several columns: rater=ann,ben), label=, "
            "group=; of labels label=NAME (a question too), annotator=, prompt=, item=, policy_a=, policy_b=, a=, b=, "
            "unit=, group=, weight=, note=, yes_from=NUMBER."
        ),
    ] = None,
    format: FileFormat = "",
    means: Means = None,
    level: Level = 0.95,
    draws: Draws = 2000,
    seed: Seed = 0,
    on: on_options.On = None,
    data_dir: on_options.DataDir = None,
    config: on_options.Config = "",
    split: on_options.Split = "",
    judges: asked.Judges = None,
    prompt: asked.Prompt = "",
    limit: asked.Limit = None,
    reasoning: asked.Reasoning = False,
    rubric: asked.Rubric = None,
    ledger: asked.LedgerFile = None,
    max_concurrency: asked.Concurrency = 100,
    max_cost: asked.MaxCost = None,
    price_in: asked.PriceIn = None,
    price_out: asked.PriceOut = None,
    base_url: asked.BaseUrl = None,
    key_file: asked.KeyFile = None,
    verdict_by: asked.VerdictBy = "structured",
    temperature: asked.Temperature = 0.0,
    max_reply_tokens: asked.ReplyTokens = 512,
) -> None:
    """How far people agree with each other, and a judge with them; rates corrected by their labels of a part.

    With a stronger judge's judgements in place of labels: the cheap judge's rates corrected by the strong one's. With a
    table of ratings alone: agreement among its raters. With --on: rows that people have judged are judged first.
    """
    from perl_eval.records import Judgement
    from perl_eval.scoring import agree as verb
    from perl_eval.sources.user_table import columns_of
    from perl_eval.storage import run_folder

    one_of("--scale", scale, ("nominal", "ordinal", "interval"))
    how = verb.AgreeOptions(resampling(level, draws, seed), epsilon)
    judging = on_options.Judging(
        tuple(judges or ()),
        prompt,
        limit,
        reasoning,
        rubric,
        ledger,
        max_concurrency,
        max_cost,
        price_in,
        price_out,
        base_url,
        key_file,
        verdict_by,
        temperature,
        max_reply_tokens,
        seed,
    )
    if on is not None:
        if judgements is not None or scale != "nominal" or means or judge_rater:
            raise UserError("judgements, labels, --scale, --judge-rater and --means are not for --on", "leave them out")
        _agree_on(on_options.known(on, config, split, data_dir, seed, column or ()), out, judging, how)
        return
    on_options.refuse_without_on(judging, config, split, data_dir)
    if judgements is None:
        raise UserError("no judgements are given", "give the output folder of `judge`, or rows to judge with --on")
    if labels is None:
        if format or means:
            option = f"--format {format}" if format else "--means"
            fix = "leave it out; which columns of a table are raters' is said by --column rater=ann,ben,judge"
            raise UserError(f"{option} is for a file of labels beside judgements", fix)
        where = verb.RatingColumns(**columns_of(column, verb.RatingColumns()))
        chosen: Any = scale
        result = verb.run_table(judgements, out, columns=where, scale=chosen, judge=judge_rater, options=how)
    else:
        if scale != "nominal" or judge_rater:
            option = "--judge-rater" if judge_rater else "--scale"
            raise UserError(f"{option} is for a table of ratings", "leave it out")
        if labels.name == run_folder.FILES[Judgement] or (labels / run_folder.FILES[Judgement]).is_file():
            if column or format or means:
                raise UserError("--column, --format and --means are for labels and ratings", "leave them out")
            result = verb.run_cascade(judgements_at(judgements, out), labels, out, options=how)
        else:
            people = labels_at(labels, out, how_read(format, column, means=means))
            more = None if other_labels is None else labels_at(other_labels, out / INPUTS / "others")
            result = verb.run(judgements_at(judgements, out), people, out, others=more, options=how)
    _say_standings(result)
    show(result)
    done(result)


def _say_standings(folder: Path) -> None:
    """Print whether each judge may stand in for a person."""
    from perl_eval.figure_names import HUMAN_JUDGE_EXACT_AGREEMENT_ONE_PERSON
    from perl_eval.metrics.judge_standing import standings
    from perl_eval.records import Estimate
    from perl_eval.storage import run_folder

    found = run_folder.read(folder, Estimate)
    for line in standings(found):
        say(line)
    for one in found:
        if one.name == HUMAN_JUDGE_EXACT_AGREEMENT_ONE_PERSON and one.value == 1 and one.n >= _ALL_THE_SAME:
            told = f"{one.about.person} says what the judge says on all {one.n:,} units"
            say(f"{told}: if that is the judge itself, leave it out of the people", err=True)


def _agree_on(rows: Known, out: Path, judging: on_options.Judging, how: Any) -> None:
    """Judge rows, and show the figures that are about the judge: which policy a side is means nothing here."""
    from perl_eval.records import Estimate
    from perl_eval.storage import run_folder
    from perl_eval.verbs.on_rows import agree_on

    judge, options = judging.opened()
    folder = agree_on(rows, out, judge=judge, options=options, how=how)
    found = [one for one in run_folder.read(folder, Estimate) if not one.about.policy and one.value is not None]
    _say_standings(folder)
    several = len({one.about.person for one in found if one.about.person}) > 1
    table(f"{rows.what}, {options.prompt}", [one for one in found if several or not one.about.person])
    done(folder)
