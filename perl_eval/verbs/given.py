"""What verbs are given, paths or objects, as folders; and where their results lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from perl_eval.errors import UserError
from perl_eval.records import HumanLabel, Judgement
from perl_eval.results import Result, TemporaryFolder
from perl_eval.storage import parquet, run_folder

__all__ = ["Source", "home_of", "kept", "records_in", "rows_in"]

Source = Any
"""A run folder or file, a result of a verb, or objects in memory."""
Kind = TypeVar("Kind", bound=Result[Any])


def kept(kind: type[Kind], out: str | Path | None, run: Callable[[Path], Path]) -> Kind:
    """Run a verb into a folder, the one given or a temporary one, and return what it wrote."""
    if out is not None:
        return kind(run(Path(out)))
    keeper = TemporaryFolder()
    return kind(run(keeper.path / "run"), keeper)


@contextmanager
def rows_in(data: Source) -> Iterator[Path]:
    """Yield a folder of rows; of objects, for as long as the block lasts."""
    if isinstance(data, str | Path | Result):
        yield home_of(data)
        return
    from perl_eval.sources.rows import write_rows

    keeper = TemporaryFolder()
    yield write_rows(keeper.path / "rows", data)
    del keeper


def home_of(source: Source) -> Path:
    """Return the folder of a result, or a path as it is.

    Raises:
        UserError: It is neither, or there is nothing at that path.
    """
    if isinstance(source, Result):
        return source.home
    if not isinstance(source, str | Path):
        raise UserError(f"a {type(source).__name__} is no folder", "give a path, or the result of a verb")
    if not Path(source).exists():
        raise UserError(f"no such file or folder: {source}", "check the path")
    return Path(source)


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
