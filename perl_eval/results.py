"""What the verbs return to Python: records that know their folder, if they have one.

A result without a folder of its own keeps its files in a temporary one for as long as it lives; `Result.save` keeps
them for good.
"""

from __future__ import annotations

import html
import shutil
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from perl_eval import figure_names as named
from perl_eval.errors import UserError
from perl_eval.outcomes import word
from perl_eval.records import Completion, Estimate, Judgement, Measurement, RunCard
from perl_eval.storage import run_folder

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Built",
    "Completions",
    "Decisions",
    "Estimates",
    "Exported",
    "Judged",
    "Result",
    "TemporaryFolder",
    "Trained",
    "Written",
    "one_named",
]

Record = TypeVar("Record")
_SHOWN = 60


class TemporaryFolder:
    """A folder that goes when nobody holds this any more, or when Python ends."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="perl-eval-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Result(Generic[Record]):
    """What a verb wrote: records of one kind, in order.

    Args:
        home: The run folder.
        keeper: The temporary folder that ``home`` lies in, if it has no other.
    """

    record: ClassVar[type]

    def __init__(self, home: Path, keeper: TemporaryFolder | None = None) -> None:
        self.home, self._keeper = Path(home), keeper

    @property
    def folder(self) -> Path | None:
        """The run folder, or None if the result was not saved."""
        return None if self._keeper is not None else self.home

    @property
    def card(self) -> RunCard:
        """How the result came to be."""
        card = run_folder.read_card(self.home)
        if card is None:
            raise UserError(f"{self.home} is not finished", "run the verb again")
        return card

    @cached_property
    def records(self) -> Sequence[Record]:
        """The records, checked against the run card."""
        return tuple(run_folder.read(self.home, self.record))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def to_pandas(self) -> pd.DataFrame:
        """Return the records as a table, one a row, with the columns of the parquet file."""
        import pandas as pd

        return pd.read_parquet(run_folder.locate(self.home, self.record))

    def save(self, folder: str | Path) -> Path:
        """Copy the run folder to a new or empty folder, and return that.

        Raises:
            UserError: The folder holds something.
        """
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(f"{target} is not empty", "choose another folder")
        shutil.copytree(self.home, target, dirs_exist_ok=True)
        return target

    def _table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Return what is shown: the names of columns, and rows of cells."""
        return ("records",), [(f"{len(self):,}",)]

    def __repr__(self) -> str:
        columns, rows = self._table()
        place = f", folder {self.folder}" if self.folder else ""
        head = f"{type(self).__name__}: {len(self):,} records{place}"
        return "\n".join([head, *_text_table(columns, rows[:_SHOWN]), *_more(rows)])

    def _repr_html_(self) -> str:
        columns, rows = self._table()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows[:_SHOWN])
        more = "".join(f"<p>{html.escape(line)}</p>" for line in _more(rows))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


class _Listed(Result[Record]):
    """A result whose records have no names, but places."""

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Record]: ...

    def __getitem__(self, place: int | slice) -> Record | Sequence[Record]:
        """Return the record at a place, or those of a slice."""
        return self.records[place]


def _more(rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"... and {len(rows) - _SHOWN:,} more; see to_pandas()"] if len(rows) > _SHOWN else []


def _text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines, the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (columns, *rows)
    ]


class Estimates(Result[Estimate]):
    """Figures with their intervals."""

    record = Estimate

    def __getitem__(self, name: str) -> Estimate:
        """Return the one figure of a name.

        Raises:
            UserError: There is none of that name, or there are several.
        """
        return one_named(self.records, name)

    def named(self, name: str) -> list[Estimate]:
        """Return every figure of a name, one for each thing that it is about."""
        return [estimate for estimate in self.records if estimate.name == name]

    def _table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        return _figures(self.records)


class Decisions(Estimates):
    """What is decided between policies: a sentence a comparison, and the figures behind it."""

    @property
    def decided(self) -> bool:
        """Whether every comparison is decided; what an exit code says."""
        return bool(self.card.notes["decided"] == self.card.notes["comparisons"])

    @property
    def sentences(self) -> list[str]:
        """A sentence for each comparison."""
        lines = (self.home / "decision.md").read_text("utf-8").splitlines()
        return [line.removeprefix("- ") for line in lines if line.startswith("- ")]

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def one_named(estimates: Sequence[Estimate], name: str) -> Estimate:
    """Return the one figure of a name.

    Raises:
        UserError: There is none of that name, or there are several.
    """
    found = [estimate for estimate in estimates if estimate.name == name]
    if not found:
        raise UserError(f"no figure {name!r}", f"choose from {', '.join(sorted({one.name for one in estimates}))}")
    if len(found) > 1:
        about = "; ".join(estimate.subject for estimate in found)
        raise UserError(f"{len(found)} figures are called {name!r}", f"pick one by its subject: {about}")
    return found[0]


def _figures(estimates: Sequence[Estimate]) -> tuple[Sequence[str], list[Sequence[str]]]:
    return ("figure", "value", "interval", "n", "about"), [
        (
            estimate.name,
            f"none: {estimate.reason}" if estimate.value is None else f"{estimate.value:.4g}",
            "" if estimate.low is None or estimate.high is None else f"{estimate.low:.4g} to {estimate.high:.4g}",
            f"{estimate.n:,}",
            estimate.subject,
        )
        for estimate in estimates
    ]


class Judged(_Listed[Judgement]):
    """Judgements, both ballots kept, and the rates that they come to."""

    record = Judgement

    @cached_property
    def estimates(self) -> Sequence[Estimate]:
        """Every figure that `perl_eval.score` makes of these judgements."""
        from perl_eval.metrics.judgement_estimates import estimate_judgements

        return tuple(estimate_judgements(self.records))

    @property
    def win_rate(self) -> Estimate:
        """The share of judged pairs that contestant a wins in both orders; unjudged pairs are left out.

        Raises:
            UserError: Single answers were judged, or several policies.
        """
        return one_named(self.estimates, named.WIN_RATE)

    @property
    def yes_rate(self) -> Estimate:
        """The share of judged answers that got a yes.

        Raises:
            UserError: Pairs were judged, or several policies.
        """
        return one_named(self.estimates, named.YES_RATE)

    def _table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        counts = Counter((one.policy_a, one.policy_b, one.judge, word(one.outcome)) for one in self.records)
        rows: list[Sequence[str]] = [(*key, f"{count:,}") for key, count in sorted(counts.items())]
        return ("a", "b", "judge", "outcome", "judgements"), rows


class Completions(_Listed[Completion]):
    """Completions of a policy."""

    record = Completion

    def _table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        return ("policy", "prompt", "answer", "finish"), [
            (one.policy, _short(one.prompt[-1].content if one.prompt else ""), _short(one.text), one.finish)
            for one in self.records
        ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


class Trained(_Listed[Measurement]):
    """A model in its folder, and the curves of its training."""

    record = Measurement

    def _table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        last = {point.metric: point for point in self.records}
        return ("metric", "value", "step"), [(name, f"{one.value:.4g}", str(one.step)) for name, one in last.items()]


class Built(_Listed[Any]):
    """A built data set: one folder a configuration, read back by ``datasets.load_dataset``."""

    @cached_property
    def records(self) -> Sequence[Any]:
        """The files of the data set, by name."""
        return tuple(sorted(path.relative_to(self.home).as_posix() for path in self.home.rglob("*.parquet")))

    def to_pandas(self) -> pd.DataFrame:
        """Return name and number of rows of each file."""
        import pandas as pd
        import pyarrow.parquet as pq

        counts = [pq.read_metadata(self.home / name).num_rows for name in self.records]
        return pd.DataFrame({"file": list(self.records), "rows": counts})

    def _table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        return ("file",), [(name,) for name in self.records]


class Written:
    """One file, such as a report.

    Args:
        file: The file.
        keeper: The temporary folder that it lies in, if it has no other.
    """

    def __init__(self, file: Path, keeper: TemporaryFolder | None = None) -> None:
        self.file, self._keeper = Path(file), keeper

    def __repr__(self) -> str:
        return f"Written: {self.file}"

    def _repr_html_(self) -> str:
        content = html.escape(self.file.read_text("utf-8"), quote=True)
        return f'<iframe srcdoc="{content}" sandbox="allow-scripts" style="width:100%;height:40rem;border:0"></iframe>'

    def save(self, file: str | Path) -> Path:
        """Copy the file, and return where it is now."""
        return Path(shutil.copyfile(self.file, file))


class Exported(Written):
    """A file, or a folder of files, for another tool.

    Args:
        file: The file, or the folder.
        told: What was written, and what the format cannot hold, one line a thing.
        keeper: The temporary folder that it lies in, if it has no other.
    """

    def __init__(self, file: Path, told: Sequence[str], keeper: TemporaryFolder | None = None) -> None:
        super().__init__(file, keeper)
        self.told = tuple(told)

    def __repr__(self) -> str:
        return "\n".join([f"Exported: {self.file}", *self.told])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"

    def save(self, file: str | Path) -> Path:
        """Copy the file, or the folder, and return where it is now."""
        return Path(shutil.copytree(self.file, file) if self.file.is_dir() else shutil.copyfile(self.file, file))
