"""From a file of judgements to a run folder, and what its card says of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa

from perl_eval.errors import DataError
from perl_eval.records import Judgement
from perl_eval.sources.containers import opened
from perl_eval.sources.counting import counted
from perl_eval.sources.reading import HowRead, Import, meanings
from perl_eval.sources.recognition import format_of
from perl_eval.storage import run_folder
from perl_eval.storage.progress import track

__all__ = ["is_ours", "take_judgements", "told_judgements", "write"]

_OUTCOMES = "outcomes"
"""The format whose columns can be named."""


def take_judgements(source: Path, out: Path, *, how: HowRead | None = None, policy: str = "") -> Path:
    """Read a file of judgements and write them to a run folder; see `write`.

    Args:
        source: The file.
        out: Output folder.
        how: How it is read; columns are those of `perl_eval.sources.judgements.OUTCOME_FIELDS`.
        policy: What the policy is called where the file does not say; by default the file's name.

    Raises:
        UserError: There is no such file or format.
        DataError: The file is of no known format, or a row lacks what is needed.
    """
    asked = how or HowRead()
    arguments = {"kind": "judgements", "format": asked.format, "columns": dict(asked.columns), "policy": policy}
    if asked.means:
        arguments["means"] = dict(asked.means)
    with run_folder.start(out, verb="import", arguments=arguments, inputs={"source": Path(source)}) as going:
        if not going.done:
            write(going, Path(source), how=asked, policy=policy)
    return going.folder


def write(going: run_folder.Run, source: Path, *, how: HowRead, policy: str = "") -> None:
    """Write the judgements of a file to a run.

    Its card says the format, how many judgements there are, by whom, what was derived and what was left out, and of how
    many pairs the verdicts of both orders are known.
    """
    found, reading = opened(source), Import(how.columns, policy, means=meanings(how.means))
    kind = format_of(found, Judgement, how.format or (_OUTCOMES if how.columns else ""))
    made = list(track(kind.read(found, reading), "judgements read"))
    if not made:
        why = ", ".join(counted(count, reason) for reason, count in reading.left_out.items())
        raise DataError(f"gives no judgements ({f'left out: {why}' if why else 'it has no rows'})", file=found.name)
    if how.means:
        reading.refuse_unmet(found.name)
    going.write(made, Judgement)
    going.notes |= {
        "format": kind.name,
        "rows": len(made),
        "judges": sorted({one.judge for one in made}),
        "outcomes": dict(Counter(one.outcome for one in made)),
        "in both orders": sum({"ab", "ba"} <= {ballot.order for ballot in one.ballots} for one in made),
        "derived": dict(reading.derived),
        "left_out": dict(reading.left_out),
    }


def told_judgements(folder: Path) -> str:
    """Say what was read into a run folder of judgements."""
    card = run_folder.read_card(folder)
    assert card is not None
    notes = card.notes
    said = [f"{notes['format']}, {counted(notes['rows'], 'judgements')} by {', '.join(notes['judges'])}"]
    said.append(f"{notes['in both orders']:,} with verdicts of both orders")
    if notes["derived"]:
        said.append("derived: " + ", ".join(f"{name} of {count:,}" for name, count in sorted(notes["derived"].items())))
    said += [f"left out: {counted(count, reason)}" for reason, count in notes["left_out"].items()]
    return "; ".join(said)


def is_ours(path: Path) -> bool:
    """Return whether a path is a run folder of judgements, or the file of one."""
    if path.is_dir() or path.name == run_folder.FILES[Judgement] or not path.is_file():
        return True  # its reader says what is wrong
    if path.suffix != ".parquet":
        return False
    import pyarrow.parquet as pq

    try:
        present = set(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError):
        return True
    return {"id", "kind", "item", "outcome", "ballots", "judge"} <= present
