"""Verbs about judges and labels: audit, power, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perl_eval import figure_names as named
from perl_eval.cli import judge_options as asked
from perl_eval.cli import on_options
from perl_eval.cli.console import done, show
from perl_eval.cli.shared_options import (
    Draws,
    Epsilon,
    FileFormat,
    LabelColumn,
    Level,
    Means,
    Out,
    Seed,
    how_read,
    judgements_at,
    labels_at,
    resampling,
)
from perl_eval.errors import UserError

if TYPE_CHECKING:
    from perl_eval.scoring.audit_options import AuditOptions

_ALARM = 1
"""Exit code of an alarm."""


def audit(
    judgements: Annotated[
        Path | None, typer.Argument(help="Judgements of pairs; with --anchors, those made now.")
    ] = None,
    labels: Annotated[Path | None, typer.Argument(help="Human labels of 50 to 200 of the pairs; any file.")] = None,
    *,
    out: Out,
    again: Annotated[
        Path | None, typer.Option(help="The same pairs judged again: repeatability. A run or a file.")
    ] = None,
    attack: Annotated[Path | None, typer.Option(help="Output of `judge --attack`.")] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Name of the judge's own model family. May be repeated.")
    ] = None,
    anchors: Annotated[
        Path | None, typer.Option(help="An earlier audit: exit code 1 if the judge has changed since.")
    ] = None,
    format: FileFormat = "",
    column: LabelColumn = None,
    means: Means = None,
    epsilon: Epsilon = 0.15,
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
    """A judge's report card, on one page; or, with --anchors, whether it still judges as it did.

    With --on: on rows that people have judged, which the judge judges first.
    """
    from perl_eval.scoring import audit as verb
    from perl_eval.scoring.audit_options import AuditOptions, Sources

    how = AuditOptions(resampling(level, draws, seed), epsilon, tuple(family or ()))
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
        beside = {
            "JUDGEMENTS": judgements,
            "--again": again,
            "--attack": attack,
            "--anchors": anchors,
            "--means": means,
        }
        for option, typed in beside.items():
            if typed:
                raise UserError(f"{option} is not for --on", "leave it out")
        from perl_eval.verbs.on_rows import audit_on

        judge, options = judging.opened()
        rows = on_options.known(on, config, split, data_dir, seed, column or ())
        _show_page(audit_on(rows, out, judge=judge, options=options, how=how))
        return
    on_options.refuse_without_on(judging, config, split, data_dir)
    if judgements is None:
        raise UserError("no judgements are given", "give the output folder of `judge`, or rows to judge with --on")
    if anchors is not None:
        for option, value in {
            "LABELS": labels,
            "--again": again,
            "--attack": attack,
            "--family": family,
            "--format": format,
            "--column": column,
            "--means": means,
        }.items():
            if value:
                raise UserError(f"{option} is not for --anchors", "leave it out")
        _drift(anchors, judgements_at(judgements, out), out, how)
        return
    if labels is None:
        raise UserError("an audit needs human labels", "give them after the judgements, or --anchors")
    people = labels_at(labels, out, how_read(format, column, means=means))
    asked_anew = None if again is None else judgements_at(again, out, "again")
    folder = verb.run(judgements_at(judgements, out), people, out, sources=Sources(asked_anew, attack), options=how)
    _show_page(folder)


def _show_page(folder: Path) -> None:
    """Print the report card."""
    from perl_eval.scoring.audit import EARLIER_PAGE, PAGE

    page = folder / PAGE
    typer.echo((page if page.is_file() else folder / EARLIER_PAGE).read_text("utf-8"))
    done(folder)


def _drift(anchors: Path, judgements: Path, out: Path, how: AuditOptions) -> None:
    """Hold judgements made now against those of an earlier audit, and ring if they differ."""
    from perl_eval.records import Estimate
    from perl_eval.scoring.audit_drift import drift
    from perl_eval.storage import run_folder

    folder = drift(anchors, judgements, out, options=how)
    show(folder)
    done(folder)
    alarms = [one for one in run_folder.read(folder, Estimate) if one.name == named.DRIFT_ALARM]
    for one in alarms:
        if one.value is None:
            typer.echo(f"{one.subject}: {one.reason}", err=True)
    alarm = [one for one in alarms if one.value == 1]
    if alarm:
        typer.echo(f"alarm: {', '.join(one.subject for one in alarm)} no longer judges as it did", err=True)
        raise typer.Exit(_ALARM)
