"""The verb ``build``: upstream files to rows in TRL's columns, in a folder that `datasets.load_dataset` reads back.

The folder holds ``README.md`` (the dataset card), ``croissant.json`` (the same for machines),
``<config>/<split>-00000-of-0000N.parquet`` and ``run.json``; and ``leaks.csv`` where the rows were looked through for
other texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perl_eval.checks import existing
from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.records import Completion
from perl_eval.storage import parquet, run_folder
from perl_eval.storage.executor import Executor, here

if TYPE_CHECKING:
    from datasets_builders.builder import Builder
    from datasets_builders.card import Built
    from datasets_builders.checks import Finding
    from datasets_builders.leaks import Held
    from datasets_builders.sources import Origin

__all__ = ["LEAKS", "BuildOptions", "run"]

LEAKS = "leaks.csv"
"""The file that lists the rows which are in what was compared with, and how."""
_IN = "is in"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What may be set beside the main arguments of `run`.

    Attributes:
        splits: Build these splits only; files of the others are not needed. Empty: all.
        checksums: ``verify`` refuses files that are not the pinned ones; ``record`` takes them as they are.
        settings: Options of one data set, such as ``min_score_ratio`` of SHP.
        cache_dir: Folder for downloads; default that of `datasets`.
        num_proc: Processes to build with; no more than there are upstream files.
        against: What else must not be in the rows, with ``check``: another built folder, a run folder with completions,
            or a file of texts such as an evaluation set, see `perl_eval.sources.held_texts`.
        columns: The names that the file of ``against`` uses, by ``prompt``, ``text`` and ``item`` (its own ids).
        drop_leaks: Leave the rows out that are in ``against`` too.
        push_to_hub: Upload the folder to this dataset repository, ``owner/name``.
        public: Make that repository public; private otherwise.
        org: Who publishes the folder, for its card and its ``croissant.json``.
        spread: Where the configurations are built; they come out the same wherever.
    """

    splits: tuple[str, ...] = ()
    checksums: str = "verify"
    settings: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: Path | None = None
    num_proc: int | None = None
    against: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    drop_leaks: bool = False
    push_to_hub: str | None = None
    public: bool = False
    org: str = ""
    spread: Executor = here


@contextmanager
def _translated() -> Iterator[None]:
    """Turn errors of datasets_builders, which knows nothing of perl_eval, into ours."""
    from datasets_builders import errors

    try:
        yield
    except errors.DataError as error:
        raise DataError(error.detail, file=error.file, row=error.row, field=error.field, fix=error.fix) from None
    except errors.BuilderError as error:
        raise UserError(error.what, error.fix) from None


def run(
    name: str,
    out: Path,
    *,
    config: str | Sequence[str] | None = None,
    data_dir: Path | None = None,
    check: bool = False,
    options: BuildOptions | None = None,
) -> Path:
    """Build a data set into a folder.

    Args:
        name: The data set, one of ``datasets_builders.NAMES``; hyphens may stand for underscores.
        out: The folder.
        config: Configuration or configurations; the usual ones if None, which is all for most data sets.
        data_dir: Folder that holds the upstream files; they are downloaded if None.
        check: Look for leakage, duplicates and contradictions, and put what is found on the card.
        options: What else may be set.

    Returns:
        The folder.

    Raises:
        UserError: There is no such data set, configuration, split or file, or the terms forbid what is asked.
        DataError: An upstream file holds what it should not.
    """
    chosen = options or BuildOptions()
    out = Path(out)
    _refuse_idle(chosen)
    with _translated():
        from datasets_builders import builder_class

        origin = builder_class(name).ORIGIN
        from datasets_builders.publish import push, refuse_push

        if chosen.push_to_hub is not None:
            refuse_push(origin, private=not chosen.public)
        builders = _open(name, config, data_dir, chosen)
        arguments = {
            "name": origin.name,
            "config": list(builders),
            "splits": list(chosen.splits),
            "checksums": chosen.checksums,
            "settings": dict(chosen.settings),
            "check": check,
            "against": None if chosen.against is None else str(chosen.against),
            **({"columns": dict(chosen.columns)} if chosen.columns else {}),
            **({"drop_leaks": True} if chosen.drop_leaks else {}),
            "org": chosen.org,
            "fingerprints": {config: one.hash for config, one in builders.items()},
        }
        others = _held(chosen, check=check)  # before the build: what cannot be read is told at once
        inputs = {} if chosen.against is None else {"against": chosen.against}
        with run_folder.start(out, verb="build", arguments=arguments, inputs=inputs) as current:
            if not current.done:
                building = _Building(name, out.absolute(), data_dir, chosen)
                built = dict(zip(builders, chosen.spread(building, list(builders)), strict=True))
                findings = _examine(built, out, chosen, others) if check else {}
                _finish(current, origin, built, findings, org=chosen.org)
                _show(origin.title, built, findings)
                if chosen.against is not None:
                    _show_leaks(findings, out, chosen)
                if chosen.checksums == "verify":
                    _show_unpinned(built)
        if chosen.push_to_hub is not None:
            push(out, chosen.push_to_hub, origin, private=not chosen.public)
    return out


def _open(
    name: str, config: str | Sequence[str] | None, data_dir: Path | None, options: BuildOptions
) -> dict[str, Builder]:
    """Return the builder of each configuration."""
    from datasets_builders import builder_class, open_builder

    found = builder_class(name)
    unasked = list(found.UNASKED or [one.name for one in found.BUILDER_CONFIGS])
    names = unasked if config is None else [config] if isinstance(config, str) else list(dict.fromkeys(config))
    shared = {"splits": ",".join(options.splits), "checksums": options.checksums, **options.settings}
    return {
        one: open_builder(name, one, data_dir=data_dir, cache_dir=options.cache_dir, options=shared) for one in names
    }


@dataclass(frozen=True, slots=True)
class _Building:
    """What builds one configuration after the other, wherever a worker is."""

    name: str
    out: Path
    data_dir: Path | None
    options: BuildOptions

    def __call__(self) -> Callable[[str], Built]:
        """Return what builds the configuration of a name."""
        return self._build

    def _build(self, config: str) -> Built:
        with _translated():
            from datasets_builders.publish import write_config

            (builder,) = _open(self.name, config, self.data_dir, self.options).values()
            return write_config(builder, self.out, num_proc=self.options.num_proc)


def _refuse_idle(options: BuildOptions) -> None:
    """Refuse options about texts to look for where none are given."""
    if options.against is None and (options.drop_leaks or options.columns):
        option = "drop_leaks" if options.drop_leaks else "column"
        raise OptionError(option, "about texts to look for, and none are given", "give `check` and `against` too")


def _held(options: BuildOptions, *, check: bool) -> list[Held]:
    """Return the texts to look for in the built rows."""
    from datasets_builders.leaks import Held, held_in
    from perl_eval.sources.held_texts import held_texts

    against = options.against
    if against is None:
        return []
    if not check:
        raise UserError("against is for check", "give --check too")
    if existing(against).is_dir() and not (against / run_folder.FILES[Completion]).is_file():
        if options.columns:
            raise UserError(f"{against} is a built folder, whose columns are known", "leave --column out")
        return held_in(against)
    return [Held(*texts) for texts in held_texts(against, options.columns)]


def _examine(
    built: Mapping[str, Built], out: Path, options: BuildOptions, others: Sequence[Held]
) -> dict[str, list[Finding]]:
    """Return what is found in the rows; those that leak are listed, and left out first where that is asked."""
    from datasets_builders.checks import examine
    from datasets_builders.leaks import findings, write_leaks

    against, leaking = options.against, {}
    if against is not None:
        listed = write_leaks(out, list(built), others, out / LEAKS)
        sizes = {(config, split): tally.kept for config, one in built.items() for split, tally in one.tallies.items()}
        leaking = findings(listed, sizes, against.name, note="; left out" if options.drop_leaks else "")
        if options.drop_leaks:
            _drop(built, out, {(leak.config, leak.split, leak.id) for leak in listed}, f"{_IN} {against.name}")
    folder = against if against is not None and any(against.glob("*/*-of-*.parquet")) else None
    return {config: [*examine(out / config, against=folder), *leaking.get(config, ())] for config in built}


def _drop(built: Mapping[str, Built], out: Path, leaking: Iterable[tuple[str, str, str]], reason: str) -> None:
    """Leave rows out of what was written, and count them with the reason.

    Args:
        built: What was written, by configuration; its counts are changed.
        out: The data set's folder.
        leaking: Configuration, split and id of each row.
        reason: Why they are left out.
    """
    from datasets_builders.checks import split_files
    from datasets_builders.leaks import drop_rows

    ids: dict[tuple[str, str], set[str]] = {}
    for config, split, one in leaking:
        ids.setdefault((config, split), set()).add(one)
    for (config, split), of_split in sorted(ids.items()):
        tally = built[config].tallies[split]
        dropped = drop_rows(split_files(out / config)[split], of_split)
        tally.kept -= dropped
        tally.dropped[reason] += dropped


def _finish(
    current: run_folder.Run,
    origin: Origin,
    built: Mapping[str, Built],
    findings: Mapping[str, list[Finding]],
    *,
    org: str,
) -> None:
    """Write the card and its Croissant form, and put counts, drops and findings on the run card."""
    from datasets_builders.card import write_card
    from datasets_builders.checks import as_markdown
    from datasets_builders.croissant import FILE, croissant

    checks = "\n\n".join(f"### {config}\n\n{as_markdown(found)}" for config, found in findings.items())
    card = write_card(origin, built, checks=checks, org=org)
    parquet.replace_file(current.folder / "README.md", lambda partial: partial.write_text(card, "utf-8"))
    described = json.dumps(croissant(origin, built, current.folder, org=org), indent=1, ensure_ascii=False)
    parquet.replace_file(current.folder / FILE, lambda partial: partial.write_text(described + "\n", "utf-8"))
    splits = [(config, split, tally) for config, one in built.items() for split, tally in one.tallies.items()]
    current.notes["rows"] = {f"{config}/{split}": tally.kept for config, split, tally in splits}
    current.notes["dropped"] = {f"{config}/{split}": dict(tally.dropped) for config, split, tally in splits}
    current.notes["seen"] = {f"{config}/{split}": dict(tally.notes) for config, split, tally in splits}
    current.notes["sources"] = {config: one.sources_sha256 for config, one in built.items()}
    current.notes["checks"] = {config: [asdict(one) for one in found] for config, found in findings.items()}


def _show(title: str, built: Mapping[str, Built], findings: Mapping[str, list[Finding]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("configuration", "split", "rows", "what was left out or changed", title=title, title_justify="left")
    for config, one in built.items():
        for split, tally in one.tallies.items():
            reasons = [f"{count:,} dropped: {reason}" for reason, count in sorted(tally.dropped.items())]
            reasons += [f"{count:,} {what}" for what, count in sorted(tally.notes.items())]
            table.add_row(config, split, f"{tally.kept:,}", "\n".join(reasons))
    console.print(table)
    for config, found in findings.items():
        table = Table("check", "where", "found", "of", "note", title=f"Checks: {config}", title_justify="left")
        for line in found:
            table.add_row(line.check, line.where, f"{line.count:,}", f"{line.of:,}", line.note)
        console.print(table)


def _show_leaks(findings: Mapping[str, list[Finding]], out: Path, options: BuildOptions) -> None:
    """Say in one sentence how many rows are in what was compared with, and where they are listed."""
    from rich.console import Console

    name = options.against.name if options.against else ""
    lines = [line for found in findings.values() for line in found if line.check == "leaks in any way"]
    leak, rows = sum(line.count for line in lines), sum(line.of for line in lines)
    are = "is" if leak == 1 else "are"
    told = f"None of {rows:,} rows is in {name}"
    if leak:
        what = "left out of the data" if options.drop_leaks else "--drop-leaks leaves them out"
        told = f"{leak:,} of {rows:,} rows {are} in {name}: {out / LEAKS}; {what}"
    Console(highlight=False, soft_wrap=True).print(told, markup=False)


def _show_unpinned(built: Mapping[str, Built]) -> None:
    """Say which files were compared with nothing, although checksums were to be verified."""
    from rich.console import Console

    files = {path for one in built.values() for path in one.checksums}
    unpinned = sorted(files - {path for one in built.values() for path in one.pinned})
    if unpinned:
        shown = ", ".join(unpinned[:3]) + (", ..." if len(unpinned) > 3 else "")
        Console(highlight=False, soft_wrap=True).print(
            f"{len(unpinned):,} of {len(files):,} files had nothing to compare with, as no checksum of them is pinned: "
            f"{shown}; the card has the sha256 of what was read",
            markup=False,
        )
