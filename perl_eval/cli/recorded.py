"""The verb recorded."""

from __future__ import annotations

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import Data, Out, RowColumns, Seed, rows_given

__all__ = ["recorded"]


def recorded(data: Data, out: Out, split: str = "test", column: RowColumns = None, seed: Seed = 0) -> None:
    """Turn rows that people judged into completions and human labels, to compare a judge with people.

    Rated rows: judge OUT. Rows with a chosen and a rejected answer: judge OUT/a and OUT/b; --seed
    decides which answer is a.
    """
    from perl_eval.sources import recorded as verb

    data = rows_given(data, out, column, whole=split)
    done(verb.run(data, out, split=split, seed=seed))
