"""What verbs are given, paths or objects, as folders; and where their results lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from perl_eval.checks import existing
from perl_eval.errors import UserError
from perl_eval.records import HumanLabel, Judgement
from perl_eval.results import Result, TemporaryFolder
from perl_eval.storage import parquet, run_folder

__all__ = ["Source", "home_of", "kept", "model_of", "needed", "records_in", "rows_in"]

Source = Any
"""A run folder or file, a result of a verb, or objects in memory."""
Kind = TypeVar("Kind", bound=Result[Any])


def kept(kind: type[Kind], out: str | Path | None, run: Callable[[Path], Path]) -> Kind:
    """Run a verb into a folder, the one given or a temporary one, and return what it wrote."""
    if out is not None:
        return kind(run(Path(out)))
    keeper = TemporaryFolder()
    return kind(run(keeper.path / "run"), keeper)


def needed(given: Source, name: str, what: str) -> None:
    """Refuse None where records are needed.

    Args:
        given: What was given.
        name: The argument.
        what: What to give.

    Raises:
        UserError: It is None.
    """
    if given is None:
        raise UserError(f"{name} is None", f"give {what}")


@contextmanager
def rows_in(data: Source, *, make: Sequence[str] = (), whole: str = "train") -> Iterator[Path]:
    """Yield a folder of splits; of objects, files and data sets on the hub, for as long as the block lasts.

    Args:
        data: A folder of splits, a file, a hub id, rows in memory, or a mapping from split to such.
        make: Held-out splits to make by group of the rows for training, where they are missing.
        whole: The split that all rows are, where they come without splits.
    """
    from perl_eval.sources.containers import opened
    from perl_eval.sources.imported_rows import is_built, take_rows
    from perl_eval.sources.reading import Import
    from perl_eval.sources.split_files import write_splits

    if isinstance(data, Result) or (isinstance(data, str | Path) and is_built(Path(data))):
        yield home_of(data)
        return
    keeper = TemporaryFolder()
    home = keeper.path / "rows"
    if isinstance(data, str | Path):
        take_rows(Path(data), home, make=make, whole=whole)
    else:
        splits = data if isinstance(data, Mapping) else {whole: data}
        write_splits({split: opened(rows) for split, rows in splits.items()}, home, Import(), make=make)
    yield home
    del keeper


def home_of(source: Source) -> Path:
    """Return the folder of a result, or a path as it is.

    Raises:
        UserError: It is neither, or there is nothing at that path.
    """
    if isinstance(source, Result):
        return source.home
    if not isinstance(source, str | Path):
        raise UserError(f"a {type(source).__name__} is not a folder", "give a path, or the result of a verb")
    return existing(Path(source))


def model_of(source: Source) -> Path:
    """Return the folder of a result, or of a model: a path as it is, or a model of the hub, downloaded.

    Raises:
        UserError: It is neither, there is nothing at that path, or the hub has no such model.
    """
    if not isinstance(source, str | Path):
        return home_of(source)
    from perl_eval.models.model_source import located

    return home_of(located(source))


@contextmanager
def records_in(source: Source, kind: type, name: str = "", *, out: str | Path | None = None) -> Iterator[Path | None]:
    """Yield where the records of something given lie; of objects, for as long as the block lasts.

    A file of labels or judgements is read into ``inputs`` in ``out``, where that is given.
    """
    if source is None or isinstance(source, Result):
        yield None if source is None else source.home
        return
    if isinstance(source, str | Path) and _is_run(Path(source), kind):
        yield Path(source)
        return
    keeper = TemporaryFolder()
    if kind in (HumanLabel, Judgement) and isinstance(source, str | Path):
        from perl_eval.sources.brought import judgements_in, labels_in

        take = labels_in if kind is HumanLabel else judgements_in
        yield take(Path(source), keeper.path if out is None else Path(out))
        del keeper
        return
    path = keeper.path / run_folder.FILES[kind]
    parquet.write(path, _records(source, kind, name), kind)
    yield path.parent
    del keeper


def _is_run(path: Path, kind: type) -> bool:
    return path.is_dir() or path.name == run_folder.FILES[kind]


def _records(source: Source, kind: type, name: str) -> Sequence[Any]:
    if kind is HumanLabel:
        from perl_eval.sources.labels import labels

        return labels(source)
    if kind is Judgement:
        from perl_eval.sources.judgements import read_outcomes

        given = list(source) if isinstance(source, list | tuple) else source
        made = isinstance(given, list) and all(isinstance(one, Judgement) for one in given)
        return given if made else read_outcomes(given)
    from perl_eval.sources.completions import completions

    if isinstance(source, Mapping) and len(source) == 1:
        ((policy, rows),) = source.items()
        return completions(rows, policy=str(policy))
    return completions(source, policy="" if isinstance(source, str | Path) else name)
