"""The verb annotate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import Columns, FileFormat, Seed, completions_at, how_read, judgements_at, one_of


def annotate(
    a: Annotated[Path, typer.Argument(help="Answers of contestant a: a run folder, or a file of any format.")],
    b: Annotated[Path | None, typer.Argument(help="Answers of b; leave out to ask about those of a alone.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder of the session; the same command continues it.")] = Path(
        "labelling"
    ),
    question: Annotated[str, typer.Option(help="What people are asked; for single answers, what a yes means.")] = "",
    annotator: Annotated[list[str] | None, typer.Option(help="A pseudonym; repeat for more people.")] = None,
    overlap: Annotated[int, typer.Option(help="How many people label each unit.")] = 1,
    limit: Annotated[int | None, typer.Option(help="Label this many units only.")] = None,
    draw: Annotated[
        str | None,
        typer.Option(
            help="What comes first: random; with --judgements: uncertain, split, or decisive (most informative)."
        ),
    ] = None,
    judgements: Annotated[Path | None, typer.Option(help="A judge's judgements, to choose units by.")] = None,
    adjudicator: Annotated[
        list[str] | None, typer.Option(help="Pseudonym of a person who decides where others disagree; repeat for more.")
    ] = None,
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="End once labels and judgements decide which is better.")
    ] = False,
    lease: Annotated[
        float, typer.Option(help="Seconds for which a unit that somebody has open is not given to others.")
    ] = 900.0,
    host: Annotated[
        str, typer.Option(help="Address to serve at; if other machines reach it, put a proxy with TLS before it.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(help="0 for any free one.")] = 8000,
    name: Annotated[list[str] | None, typer.Option(help="Another host name under which the page is reached.")] = None,
    seed: Seed = 0,
    format: FileFormat = "",
    column: Columns = None,
) -> None:
    """Serve a page on which people label answers without seeing the models' names, until interrupted."""
    from perl_eval.labelling import serve as verb
    from perl_eval.labelling.units import DRAWS, Drawing

    by: Any = draw or ("decisive" if judgements else "random")
    one_of("--draw", by, DRAWS)
    options = verb.AnnotateOptions(
        annotators=tuple(annotator or ["annotator-1"]),
        overlap=overlap,
        question=question,
        drawing=Drawing(by, limit, seed),
        judgements=judgements,
        lease_s=lease,
        adjudicators=tuple(adjudicator or ()),
        until_decided=until_decided,
        say=lambda line: typer.echo(line, err=True),
    )
    address = verb.Address(host, port, tuple(name or ()))
    a, b = completions_at(a, b, out, how_read(format, column))
    if judgements is not None:
        options = replace(options, judgements=judgements_at(judgements, out))

    def announce(found: dict[str, str]) -> None:
        if not address.is_local:
            typer.echo("other machines can reach this page, and links travel unencrypted without a TLS proxy", err=True)
        for person, link in found.items():
            typer.echo(f"{person}: {link}", err=True)
        typer.echo("stop with Ctrl-C; labels are kept", err=True)

    done(verb.run(a, b, out, options=options, address=address, announce=announce))
