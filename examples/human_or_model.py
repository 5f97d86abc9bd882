"""Ratings without a rater, to pretrain a reward model on: a person's turn (up), others in its place (down).

human_or_model.py turns DIALOGS OUT         single assistant turns of dialogues, each after its context
human_or_model.py rate TURNS SAMPLES OUT    those turns beside what a model sampled there, and beside a person's turn of
                                            the same kind (the same call, or a text) in another dialogue, as Rating rows

Source: Askell et al., arXiv 2112.00861, section 4 (preference model pretraining; human against model).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval import rows, runs
from perl_eval.records import Completion, Message, digest
from perl_eval.rows import Row

PER_DIALOGUE = 2


def turns(dialogs: Path, out: Path) -> None:
    """Take the assistant turns of each dialogue's train rows that come first by hash."""
    made = []
    for row in rows.read(dialogs, "train", need=("completion",)):
        said = (*row.prompt, *(row.completion or ()))
        places = [place for place, turn in enumerate(said) if turn.role == "assistant" and place]
        for place in sorted(places, key=lambda place: digest("turn", row.id, str(place)))[:PER_DIALOGUE]:
            own = {"id": f"{row.id}:{place}", "group": row.group, "dataset": row.dataset}
            made.append(own | {"prompt": _plain(said[:place]), "completion": _plain(said[place : place + 1])})
    _write(out, train=made)


def rate(turns: Path, samples: Path, out: Path) -> None:
    """Rate turns up, and what else could stand there down; a twentieth of the groups is for validation."""
    sampled = {answer.item: answer.text.strip() for answer in runs.read(samples, Completion)}
    made: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    found = list(rows.read(turns, "train", need=("completion",)))
    alike: dict[str, list[Row]] = {}
    for row in found:
        alike.setdefault(_kind(row), []).append(row)
    for row in found:
        split = "validation" if int(digest("part", row.group), 16) % 20 == 0 else "train"
        own = {"group": row.group, "dataset": row.dataset, "prompt": _plain(row.prompt)}
        person, model = _said(row), sampled.get(row.id, "")
        others = {_said(other) for other in alike[_kind(row)] if other.group != row.group} - {person, model}
        elsewhere = min(others, key=lambda text: digest("misplaced", row.id, text), default="")
        if model in ("", person) or not elsewhere:
            continue  # all or none, so that no turn is up merely for want of others
        for name, text in (("person", person), ("model", model), ("elsewhere", elsewhere)):
            rated = {"completion": _plain([Message("assistant", text)]), "label": name == "person"}
            made[split].append(own | {"id": f"{row.id}:{name}"} | rated)
    _write(out, **made)


def _said(row: Row) -> str:
    [turn] = row.completion or ()
    return turn.content.strip()


def _kind(row: Row) -> str:
    """Return the name of the function that a turn calls; all texts are of one kind."""
    try:
        return str(json.loads(_said(row))["name"])
    except (ValueError, TypeError, KeyError):
        return ""


def _plain(said: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in said]


def _write(out: Path, **by_split: Sequence[dict[str, Any]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for split, made in by_split.items():
        if made:
            pq.write_table(pa.Table.from_pylist(list(made)), out / f"{split}.parquet")
        print(f"{split}: {len(made)} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["turns", "rate"])
    parser.add_argument("folders", nargs="+", type=Path)
    given = parser.parse_args()
    {"turns": turns, "rate": rate}[given.what](*given.folders)
