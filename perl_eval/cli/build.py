"""Verbs that make rows and labels: build, recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import Address, Engine, Out, Seed, Workers, how_read, spread_of
from perl_eval.errors import UserError


def build(
    name: Annotated[
        str,
        typer.Argument(
            help="Data set, for example taskmaster-coffee; coffee-world and picture-world are made on the spot."
        ),
    ],
    out: Out,
    config: Annotated[
        list[str] | None, typer.Option(help="Configuration; may be repeated. Default: the usual ones.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of downloaded files; otherwise they are downloaded.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Build these splits only.")] = None,
    checksums: Annotated[
        str, typer.Option(help="verify (refuse other files than the publisher's), or record (take any).")
    ] = "verify",
    check: Annotated[bool, typer.Option("--check", help="Look for leakage, duplicates, contradictions.")] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            help="With --check: a file of texts (an evaluation set, completions), or another built folder. Rows that "
            "are in it too are listed in leaks.csv."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the file of --against keeps what: prompt=NAME, text=, item= (its own ids). May be repeated."
        ),
    ] = None,
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="With --against: leave the rows out that are in it too.")
    ] = False,
    num_proc: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, an option of this data set; may be repeated.")
    ] = None,
    format_calls: Annotated[
        str, typer.Option(help="Where rows have tool calls: tool_calls, or text for chat templates that drop them.")
    ] = "",
    org: Annotated[str, typer.Option(help="Who publishes the folder, for its card.")] = "",
    cache_dir: Annotated[Path | None, typer.Option(help="Folder for downloads and built rows.")] = None,
    push_to_hub: Annotated[str | None, typer.Option(help="Upload to this hub repository, OWNER/NAME.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make that repository public, where the terms allow it.")
    ] = False,
    engine: Engine = "here",
    address: Address = "",
    workers: Workers = 2,
    seed: Seed = 0,
) -> None:
    """Build a data set: from the publisher's files to rows in TRL's columns."""
    spread = spread_of(engine, address, workers)
    embedded = name.replace("-", "_")
    if embedded in ("coffee_world", "picture_world"):
        from perl_eval.worlds import coffee, pictures

        meant_for_files = {
            **{"config": config, "data-dir": data_dir, "split": split, "check": check, "against": against},
            **{"num-proc": num_proc, "setting": setting, "cache-dir": cache_dir, "push-to-hub": push_to_hub},
            **{"public": public, "format-calls": format_calls, "org": org},
            **{"column": column, "drop-leaks": drop_leaks},
        }
        for option, value in meant_for_files.items():
            if value:
                raise UserError(f"{name} is made on the spot and takes no --{option}", "leave the option out")
        done((coffee if embedded == "coffee_world" else pictures).build(out, seed=seed))
        return
    from perl_eval import building as verb

    options = verb.BuildOptions(
        splits=tuple(split or ()),
        checksums=checksums,
        settings=_settings([*(setting or ()), *([f"format_calls={format_calls}"] if format_calls else [])]),
        cache_dir=cache_dir,
        num_proc=num_proc,
        against=against,
        columns=how_read("", column).columns,
        drop_leaks=drop_leaks,
        push_to_hub=push_to_hub,
        public=public,
        org=org,
        spread=spread,
    )
    done(verb.run(name, out, config=config or None, data_dir=data_dir, check=check, options=options))


def _settings(given: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE, of which a name may come once."""
    settings = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise UserError(f"--setting {one!r} is not NAME=VALUE", "give for example --setting max_pairs_per_post=5")
        if name in settings:
            raise UserError(f"--setting {name} is given twice", "give it once")
        settings[name] = value
    return settings
