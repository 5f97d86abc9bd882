"""Options that several verbs share, and what is checked about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perl_eval.checks import at_least_one, existing, not_negative
from perl_eval.cli.console import say
from perl_eval.cli.default_out import SHOWN, default_out
from perl_eval.errors import OptionError, UserError

if TYPE_CHECKING:
    from perl_eval.sources.brought import HowRead
    from perl_eval.stats.bootstrap import Resampling

Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Output folder; gets the files and run.json. The same command continues in it.",
        default_factory=default_out,
        show_default=SHOWN,
    ),
]
Data = Annotated[
    Path,
    typer.Option("--data", help="Rows in TRL's columns: a folder from `build`, a file, or a hub id (org/name#split)."),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of all random numbers.")]
Level = Annotated[float, typer.Option(help="Confidence level of every interval.")]
Draws = Annotated[int, typer.Option(min=1, help="Bootstrap draws.")]
Epsilon = Annotated[
    float, typer.Option(help="Margin of the alternative annotator test: 0.2 experts, 0.15 skilled, 0.1 crowd.")
]
MaxTokens = Annotated[int, typer.Option(help="Longest input in tokens, prompt and answer together.")]
NewTokens = Annotated[int, typer.Option(help="Tokens to sample, at most.")]
Prior = Annotated[
    Path,
    typer.Option(
        help="The SFT model: backbone, and reference of the KL penalty. Folder, or ORG/NAME[@REVISION] of the hub."
    ),
]
Ensemble = Annotated[str, typer.Option(help="mean, minimum, mean-std (mean minus --caution x std), or soft-minimum.")]
Softness = Annotated[float | None, typer.Option(help="For soft-minimum: in reward units, above 0; default: beta.")]
ChatTemplate = Annotated[
    Path | None, typer.Option(help="File with a chat template, instead of the tokenizer's, or if it has none.")
]

_FILES = "Files of other tools"
FileFormat = Annotated[
    str,
    typer.Option("--format", help="Their format, if it is not recognised from the content.", rich_help_panel=_FILES),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Which column holds what: prompt=NAME, text=, policy=, item=, group=. May be repeated.",
        rich_help_panel=_FILES,
    ),
]
AnyColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Which column holds what; each file takes those that it has. prompt=NAME, item=, group=; of answers "
        "text=, policy=; of labels label=, annotator=; of judgements verdict= or outcome=, or verdict_ab=, "
        "verdict_ba=; judge=; of both policy_a=, policy_b=. May be repeated.",
        rich_help_panel=_FILES,
    ),
]
RowColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Which column holds what: prompt=NAME, completion=, chosen=, rejected=, label=. May be repeated.",
    ),
]
LabelColumn = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Which column holds what: label=NAME (a question too), annotator=, prompt=, item=, policy_a=, policy_b=.",
        rich_help_panel=_FILES,
    ),
]
Means = Annotated[
    list[str] | None,
    typer.Option(
        "--means",
        help="What words of labels or verdicts mean: 'A is best=a', also =b, =tie, =yes, =no. May be repeated.",
        rich_help_panel=_FILES,
    ),
]
Requests = Annotated[
    Path | None,
    typer.Option(help="File of the requests or questions, if the answers do not repeat them.", rich_help_panel=_FILES),
]

_WORKERS = "Workers"
Engine = Annotated[
    str, typer.Option(help="Where the work is done: here, or on ray's workers.", rich_help_panel=_WORKERS)
]
Address = Annotated[
    str,
    typer.Option(
        help="Address of a Ray cluster; auto: the one of this machine. By default workers start here.",
        rich_help_panel=_WORKERS,
    ),
]
Workers = Annotated[int, typer.Option(help="Number of workers, with --engine ray.", rich_help_panel=_WORKERS)]
Gpus = Annotated[float, typer.Option(help="GPUs of each worker.", rich_help_panel=_WORKERS)]


def one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that the option does not know."""
    if value not in allowed:
        raise UserError(f"{option} {value!r} is not known", f"choose from {', '.join(allowed)}")


def how_read(
    format: str, column: Sequence[str] | None, requests: Path | None = None, means: Sequence[str] | None = None
) -> HowRead:
    """Read --format, --column, --requests and --means."""
    from perl_eval.sources.brought import HowRead

    columns = {}
    for typed in column or ():
        name, equals, there = typed.partition("=")
        if not (name and equals and there):
            raise OptionError("column", repr(typed), "give NAME=COLUMN, such as prompt=question")
        columns[name] = there
    meant = {}
    for typed in means or ():
        words, equals, meaning = typed.rpartition("=")
        if not (words and equals and meaning):
            raise OptionError("means", repr(typed), "give WORDS=MEANING, such as 'A is best=a'")
        meant[words] = meaning
    return HowRead(format, columns, requests, means=meant)


HELD_OUT = ("validation", "test")
"""Splits that are made of the rows for training where they are missing."""


def rows_given(
    data: Path, out: Path, column: Sequence[str] | None = None, *, make: Sequence[str] = (), whole: str = ""
) -> Path:
    """Return --data as a folder of splits; what is none is read into the output folder, and what was derived is said.

    Args:
        data: As typed.
        out: The verb's output folder.
        column: As typed after --column.
        make: Held-out splits that are made of the rows for training where they are missing.
        whole: The split that all rows are, where they come without splits.
    """
    from perl_eval.sources.brought import rows_in

    how = how_read("", column, None)
    return rows_in(data, out, how=how, make=make, whole=whole, say=lambda line: typer.echo(line, err=True))


def completions_at(
    a: Path, b: Path | None, out: Path, how: HowRead | None = None, only: tuple[str, str] = ("", "")
) -> tuple[Path, Path | None]:
    """Return contestants as run folders; files of other tools are read into the output folder first.

    Args:
        a: Answers of the first.
        b: Of the second, if there is one.
        out: The verb's output folder.
        how: How files are read.
        only: The policy of each that is wanted, where a file holds several; "" for all.
    """
    sources = [existing(one) for one in (a, b) if one is not None]
    from perl_eval.sources.brought import completions_in

    found = completions_in(sources, out, how=how, only=only[: len(sources)], say=lambda line: say(line, err=True))
    return found[0], found[1] if b is not None else None


def judgements_at(source: Path, out: Path, place: str = "judgements") -> Path:
    """Return a run folder of judgements; a file of another tool is read into the output folder first.

    Args:
        source: As typed.
        out: The verb's output folder.
        place: Where in its inputs a file is read into.
    """
    from perl_eval.sources.brought import judgements_in

    return judgements_in(source, out, place=place, say=lambda line: typer.echo(line, err=True))


def labels_at(source: Path, out: Path, how: HowRead | None = None) -> Path:
    """Return a run folder of labels; a file of another tool is read into the output folder first."""
    from perl_eval.sources.brought import labels_in

    return labels_in(source, out, how=how, say=lambda line: typer.echo(line, err=True))


def cluster_of(engine: str, address: str, workers: int, gpus: float = 0.0) -> Any:
    """Read --engine, --address, --workers and --gpus: a cluster, or None for this process."""
    one_of("--engine", engine, ("here", "ray"))
    at_least_one({"workers": workers}, "workers")
    not_negative({"gpus": gpus}, "gpus")
    if engine == "here":
        if address:
            raise UserError(f"--address {address} is for a cluster", "give --engine ray too")
        return None
    from perl_eval.cluster.ray_workers import Cluster

    return Cluster(address, workers, gpus)


def spread_of(engine: str, address: str, workers: int, gpus: float = 0.0) -> Any:
    """Read the same options: where pieces of work are done."""
    from perl_eval.storage.executor import here

    cluster = cluster_of(engine, address, workers, gpus)
    if cluster is None:
        return here
    from perl_eval.cluster.ray_workers import RaySpread

    return RaySpread(cluster)


def require_torch() -> None:
    """Turn a missing extra into one line that says what to install."""
    import importlib.util

    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"this verb needs {', '.join(missing)}",
            "install the extra: pip install 'perl-eval[train]'",
            page="README.md#install",
        )


def resampling(level: float, draws: int, seed: int) -> Resampling:
    """Read --level, --draws and --seed."""
    from perl_eval.stats.bootstrap import Resampling

    return Resampling(draws, seed, level)
