"""The verb export."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from perl_eval.cli.console import done, say
from perl_eval.cli.shared_options import Columns, FileFormat, Means, Out, Requests, how_read, one_of
from perl_eval.errors import UserError

__all__ = ["export"]


def _show_formats(wanted: bool) -> None:
    """Print the formats that are written, and stop."""
    if not wanted:
        return
    from perl_eval.exporting import EXPORTS

    rows = [(one.name, "a file" if one.ending else "a folder", one.what) for one in EXPORTS]
    first, second = (max(len(row[place]) for row in rows) + 2 for place in (0, 1))
    for name, kind, what in rows:
        typer.echo(f"{name:<{first}}{kind:<{second}}{what}")
    raise typer.Exit


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A run folder, built rows, a file of another tool, or a session of annotate."),
    ],
    out: Out,
    to: Annotated[str, typer.Option("--to", help="The format to write; --formats lists them.")] = "",
    form: Annotated[
        str, typer.Option(help="For a session of annotate: labels (for agree), adjudicated, argilla or label-studio.")
    ] = "labels",
    what: Annotated[
        str, typer.Option(help="If the source holds several: completions, judgements, labels or rows.")
    ] = "",
    policy: Annotated[str, typer.Option(help="Write the answers of this policy only.")] = "",
    format: FileFormat = "",
    column: Columns = None,
    requests: Requests = None,
    means: Means = None,
    formats: Annotated[  # noqa: ARG001
        bool, typer.Option("--formats", callback=_show_formats, is_eager=True, help="List the formats, and stop.")
    ] = False,
) -> None:
    """Write answers, judgements, labels or rows as a file of another tool; or the labels of a session.

    With --to, --out is a file, or a folder where the format is several files. What a format cannot hold is counted.
    """
    from perl_eval.labelling.serve import SESSION

    is_session = (source / SESSION).is_file() or source.name == SESSION
    if not to and not is_session:
        if not source.exists():
            raise UserError(f"no such file or folder: {source}", "check the path", page="")
        raise UserError(f"{source} is not a session of annotate", "say what to write with --to; --formats lists what")
    from perl_eval.labelling import export as verb
    from perl_eval.labelling.export import FORMS

    if to and is_session:
        with TemporaryDirectory() as folder:
            _to(verb(source, Path(folder) / "labels"), out, to, what, policy, how_read("", None))
        return
    if to:
        _to(source, out, to, what, policy, how_read(format, column, requests, means))
        return
    one_of("--form", form, FORMS)
    chosen: Any = form
    done(verb(source, out, form=chosen))


def _to(source: Path, out: Path, to: str, what: str, policy: str, how: Any) -> None:
    from perl_eval.exporting import layout_named, run, told

    one_of("--what", what, ("", "completions", "judgements", "labels", "rows"))
    ending = layout_named(to).ending
    if ending and out.is_dir() and not any(path for path in out.iterdir() if not path.name.startswith(".")):
        out = out / f"{to}{ending}"  # the folder that a command gets when nobody says where
    tally = run(source, out, to=to, what=what, policy=policy, how=how)
    for line in told(tally):
        say(line, err=True)
    done(out)
