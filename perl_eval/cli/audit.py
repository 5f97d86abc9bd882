"""Verbs about judges and labels: audit, power, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval import figure_names as named
from perl_eval.cli.console import done, show
from perl_eval.cli.shared_options import (
    Draws,
    Epsilon,
    FileFormat,
    LabelColumn,
    Level,
    Out,
    Seed,
    how_read,
    judgements_at,
    labels_at,
    resampling,
)
from perl_eval.errors import UserError

_ALARM = 1
"""Exit code of an alarm."""


def audit(
    judgements: Annotated[Path, typer.Argument(help="Judgements of pairs; with --anchors, those made now.")],
    labels: Annotated[Path | None, typer.Argument(help="Human labels of 50 to 200 of the pairs; any file.")] = None,
    *,
    out: Out,
    again: Annotated[Path | None, typer.Option(help="The same pairs asked anew: repeatability.")] = None,
    attack: Annotated[Path | None, typer.Option(help="Output of `attack` on the judge.")] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Name of the judge's own model family. May be repeated.")
    ] = None,
    anchors: Annotated[
        Path | None, typer.Option(help="An earlier audit: ring (exit code 1) if the judge has drifted since.")
    ] = None,
    format: FileFormat = "",
    column: LabelColumn = None,
    epsilon: Epsilon = 0.15,
    level: Level = 0.95,
    draws: Draws = 2000,
    seed: Seed = 0,
) -> None:
    """A judge's report card, on one page; or, with --anchors, whether it still judges as it did."""
    from perl_eval.records import Estimate
    from perl_eval.scoring import audit as verb
    from perl_eval.scoring.audit_drift import drift
    from perl_eval.scoring.audit_options import AuditOptions, Sources
    from perl_eval.storage import run_folder

    how = AuditOptions(resampling(level, draws, seed), epsilon, tuple(family or ()))
    if anchors is not None:
        for option, value in {
            "LABELS": labels,
            "--again": again,
            "--attack": attack,
            "--family": family,
            "--format": format,
            "--column": column,
        }.items():
            if value:
                raise UserError(f"{option} is not for --anchors", "leave it out")
        folder = drift(anchors, judgements, out, options=how)
        show(folder)
        done(folder)
        alarm = [one for one in run_folder.read(folder, Estimate) if one.name == named.DRIFT_ALARM and one.value == 1]
        if alarm:
            typer.echo(f"alarm: {', '.join(one.subject for one in alarm)} no longer judges as it did", err=True)
            raise typer.Exit(_ALARM)
        return
    if labels is None:
        raise UserError("an audit needs human labels", "give them after the judgements, or --anchors")
    people = labels_at(labels, out, how_read(format, column, None))
    folder = verb.run(judgements_at(judgements, out), people, out, sources=Sources(again, attack), options=how)
    typer.echo((folder / verb.PAGE).read_text("utf-8"))
    done(folder)
