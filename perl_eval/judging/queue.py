"""What to judge, in the order to ask, read from its files as it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from perl_eval.errors import UserError
from perl_eval.judges import prompting
from perl_eval.judging import context, pairing
from perl_eval.judging.options import JudgeOptions
from perl_eval.judging.outcome_of import Contestants
from perl_eval.records import Completion, Judgement
from perl_eval.storage import parquet, run_folder
from perl_eval.storage.external_sort import Ordered

if TYPE_CHECKING:
    pass

__all__ = ["Queue", "queue_of"]

_EXAMPLES = 3


class Queue:
    """What to judge, in the order to ask, read from its files as it is needed; can be gone through more than once.

    Args:
        sides: The completions of each contestant, in that order.
        pictures: Where contestant a's come from: its pictures lie beside it.
    """

    def __init__(self, sides: Sequence[Ordered[Completion]], pictures: Path) -> None:
        self._sides, self._pictures = sides, pictures

    def __len__(self) -> int:
        return len(self._sides[0])

    def groups(self) -> list[str]:
        """Return the group of each unit, in order."""
        return [group for table in self._sides[0].tables() for group in table.column("group").to_pylist()]

    def __iter__(self) -> Iterator[Contestants]:
        for unit in zip(*self._sides, strict=True):
            yield context.located(unit, self._pictures)


def queue_of(
    a: Path,
    b: Path | None,
    template: prompting.Template,
    options: JudgeOptions,
    scratch: Path,
    run: Path | None = None,
) -> tuple[Queue, dict[str, object]]:
    """Return what to judge and what was left over when matching.

    Args:
        a: Completions of contestant a.
        b: Those of contestant b, if there is one.
        template: What will be asked.
        options: How to judge: the order to ask in, and how many.
        scratch: An empty folder for as long as the queue is used.
        run: A finished run: take what it judged, in the order of its judgements.

    Raises:
        UserError: Nothing matches, prompts differ, each answer would meet itself, an item lacks its reference, or the
            inputs are not those of the run.
        DataError: An input does not match its card, or is not a table of completions.
    """
    files = [run_folder.locate(path, Completion) for path in (a, b) if path is not None]
    for path in files:
        run_folder.fingerprint(path)
    indices = [pairing.index(path) for path in files]
    if not len(indices[0]) and b is None:
        raise UserError(f"{a} holds no completions", "sample some first")
    found = pairing.match(indices[0], indices[1] if b is not None else None)
    if run is None:
        units = pairing.drawn(found.units, options.seed, options.limit)
    else:
        judged = parquet.batches(run_folder.locate(run, Judgement), Judgement, ("a", "b"))
        units = pairing.stored(found.units, pa.Table.from_batches(judged, pairing.JUDGED))
    context.refuse_bare(units["item"].to_pylist(), template, options.references)
    sides = []
    for name, path, rows in zip("ab", files, indices, strict=False):
        (scratch / name).mkdir()
        sides.append(Ordered(path, Completion, pairing.placed(units[f"row_{name}"], len(rows)), scratch / name))
    if b is not None:
        pairing.refuse_other_prompts(*sides)
        if run is None:
            pairing.refuse_twins(*sides)
    examples = [*found.only_a[:_EXAMPLES], *found.only_b[:_EXAMPLES]]
    left_over = {"unmatched_a": len(found.only_a), "unmatched_b": len(found.only_b), "unmatched_examples": examples}
    return Queue(sides, a), left_over if b is not None else {}
