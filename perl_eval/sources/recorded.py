"""Rows that people have judged already, to Completion and HumanLabel records: answers as if sampled, labels beside.

Rating rows become answers that a judge gives a yes or a no: ``completions.parquet`` and ``labels.parquet``.

Preference rows become two contestants that a judge compares: ``a/completions.parquet``, ``b/completions.parquet`` and
``labels.parquet``, whose win, tie or loss is that of a. Which answer is a is decided by a hash of the seed and the
pair's id: a data set puts the better answer first, and if all first answers were a, every label would be a win, which
any judge that always says a agrees with and for which no kappa can be had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from perl_eval.errors import DataError, UserError
from perl_eval.records import Completion, HumanLabel, Message, digest, unit_of
from perl_eval.sources import rows
from perl_eval.storage import images, parquet, run_folder

__all__ = ["POLICY", "SIDES", "a_is_chosen", "run"]

POLICY = "recorded"
"""What the policy behind recorded answers is called where nobody says which system wrote them; ``-a``, ``-b`` in
pairs."""
SIDES = ("a", "b")
"""The folders of the contestants of a recorded comparison."""
_SAME = "both answers are the same text"
_AGAIN = "all is the same as in an earlier row"


def run(data: Path, out: Path, *, split: str = "test", annotator: str = "", seed: int = 0) -> Path:
    """Write the answers of a split that people have judged, and what they said.

    Of Preference rows these columns are looked at beside TRL's, where they are there: ``chosen_model`` and
    ``rejected_model`` name the policies; ``tie`` (true or false) says that the two were found equal; ``pair`` is the
    same in all rows that are votes on the same two answers, and ``voter`` says whose vote the row is.

    Args:
        data: A folder of Rating or Preference rows, as ``build`` writes it.
        out: The run folder. Of ratings it gets ``completions.parquet``, ``labels.parquet`` (yes is thumbs up) and the
            pictures of the prompts; of preferences the folders ``a`` and ``b`` in place of the completions.
        split: Which split.
        annotator: The pseudonym that labels carry where rows do not say whose they are; ``thumbs`` for ratings and
            ``recorded`` for preferences if empty.
        seed: With a pair's id, decides which of its answers is a.

    Raises:
        UserError: No such data or split.
        DataError: A row lacks what is needed, or an input was changed.
    """
    data = Path(data)
    compared = {"chosen", "rejected"} <= rows.columns(data, split)
    who = annotator or ("recorded" if compared else "thumbs")
    arguments = {"split": split, "annotator": who}
    with run_folder.start(
        out, verb="recorded", arguments=arguments, seed=seed if compared else 0, inputs={"data": data}
    ) as going:
        if not going.done:
            (_write_pairs if compared else _write_ratings)(data, split, who, seed, going)
    return going.folder


def _write_ratings(data: Path, split: str, annotator: str, seed: int, going: run_folder.Run) -> None:
    del seed
    read = rows.read(data, split, need=("completion", "label"))
    found = list({(row.id, row.prompt, row.images, row.completion, row.label): row for row in read}.values())
    dropped = Counter({_AGAIN: len(read) - len(found)})
    completions = [
        _completion(row, row.id, row.completion or (), POLICY, digest("recorded", row.id), going.folder)
        for row in found
    ]
    going.write(completions, Completion)
    labels = [
        HumanLabel(
            unit=unit_of(completion.id),
            item=row.id,
            group=row.group,
            annotator=annotator,
            label="yes" if row.label else "no",
        )
        for row, completion in zip(found, completions, strict=True)
    ]
    going.write(labels, HumanLabel)
    going.notes |= {"answers": len(found), "yes": sum(label.label == "yes" for label in labels)}
    if +dropped:
        going.notes["dropped"] = dict(dropped)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two answers to one prompt: those of a and b."""

    a: Completion
    b: Completion


def a_is_chosen(pair: str, seed: int) -> bool:
    """Say whether contestant a is the answer that the first row of a pair prefers.

    Args:
        pair: The pair's id.
        seed: What else the side depends on.
    """
    return int(digest("side", str(seed), pair), 16) % 2 == 0


def _write_pairs(data: Path, split: str, annotator: str, seed: int, going: run_folder.Run) -> None:
    pairs: dict[str, _Pair] = {}
    labels: list[HumanLabel] = []
    dropped = Counter[str]()
    seen: set[tuple[Any, ...]] = set()
    for place, row in enumerate(rows.read(data, split, need=("chosen", "rejected"))):
        chosen, rejected = _said(row.chosen or ()), _said(row.rejected or ())
        if chosen == rejected:
            dropped[_SAME] += 1
            continue
        vote = (row.id, row.more.get("voter"), row.more.get("tie"), row.prompt, chosen, rejected)
        if not row.more.get("pair") and vote in seen:
            dropped[_AGAIN] += 1
            continue
        seen.add(vote)
        item = str(row.more.get("pair") or row.id)
        pair = pairs.get(item)
        if pair is None:
            pair = pairs[item] = _pair(row, item, seed, going.folder)
        if {pair.a.text, pair.b.text} != {chosen, rejected} or pair.a.prompt != row.prompt:
            raise DataError(
                f"another row of pair {item!r} has other answers, or another prompt",
                file=data,
                row=place,
                field="pair" if row.more.get("pair") else "id",
                fix="give rows the same pair only if they are votes on the same two answers",
            )
        labels.append(
            HumanLabel(
                unit=unit_of(pair.a.id, pair.b.id),
                item=item,
                group=row.group,
                annotator=str(row.more.get("voter") or annotator),
                label=_label(row, a_wins=pair.a.text == chosen),
            )
        )
    if not pairs:
        why = "; ".join(f"in {count:,} {reason}" for reason, count in dropped.items()) or "there are none"
        raise UserError(f"{data} has no rows to judge: {why}", "give rows with two answers to choose from")
    for side in SIDES:
        path = going.folder / side / run_folder.FILES[Completion]
        parquet.write(path, [getattr(pair, side) for pair in pairs.values()], Completion)
    going.write(labels, HumanLabel)
    going.notes |= {
        "pairs": len(pairs),
        "labels": dict(Counter(label.label for label in labels)),
        "dropped": dict(dropped),
    }


def _label(row: rows.Row, *, a_wins: bool) -> Literal["win", "tie", "loss"]:
    if row.more.get("tie"):
        return "tie"
    return "win" if a_wins else "loss"


def _pair(row: rows.Row, item: str, seed: int, folder: Path) -> _Pair:
    sides = [(row.chosen, row.more.get("chosen_model")), (row.rejected, row.more.get("rejected_model"))]
    if not a_is_chosen(item, seed):
        sides.reverse()
    a, b = (
        _completion(
            row,
            item,
            answer or (),
            str(model or f"{POLICY}-{side}"),
            digest("recorded", item, _said(answer or ())),
            folder / side,
        )
        for side, (answer, model) in zip(SIDES, sides, strict=True)
    )
    return _Pair(a, b)


def _said(answer: Sequence[Message]) -> str:
    """Return an answer as one text; where it holds turns of others too, each turn with its role."""
    if all(turn.role == "assistant" for turn in answer):
        return "\n".join(turn.content for turn in answer)
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in answer)


def _completion(row: rows.Row, item: str, answer: Sequence[Message], policy: str, id_: str, folder: Path) -> Completion:
    return Completion(
        id=id_,
        item=item,
        group=row.group,
        dataset=row.dataset,
        policy=policy,
        prompt=row.prompt,
        text=_said(answer),
        finish="stop",
        draw=0,
        images=tuple(images.keep(folder, picture.read()) for picture in row.images),
    )
