"""The judgements a page embeds, as JSON that a script tag cannot be broken out of."""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perl_eval.client.thoughts import split
from perl_eval.errors import DataError
from perl_eval.metrics.label_join import with_units
from perl_eval.outcomes import as_label, is_vote, people_labels, word
from perl_eval.records import Ballot, HumanLabel, Judgement, Message, digest
from perl_eval.reporting.counts import ALONE, Chosen
from perl_eval.reporting.format import clip, visible
from perl_eval.reporting.inputs import Folder, records
from perl_eval.reporting.sides import UNITS_LIMIT, SideBySide, side_by_side
from perl_eval.reporting.thumbnails import Pictures

__all__ = ["CONTENT_LIMIT_BYTES", "FLIPS_LIMIT", "SAMPLE_LIMIT", "Browsable", "browsable", "script_json"]

SAMPLE_LIMIT = 2000
"""Judgements embedded in a page, at most."""
FLIPS_LIMIT = 300
"""Units that are embedded beside the drawn ones because two runs or judges differ about them, at most."""
CONTENT_LIMIT_BYTES = 3_000_000
"""Bytes that what is embedded takes of a page, packed, at most, so that a page opens anywhere."""
_FLUSH = 20_000
_TEXT_LIMIT = 20_000
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Browsable:
    """What the browser of judgements shows: JSON text of ``shown`` judgements out of ``total``, on some sides."""

    json: str
    shown: int
    total: int
    sides: int = 0

    @property
    def packed(self) -> str:
        """The JSON text, compressed (raw deflate) and in base64."""
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        content = packer.compress(self.json.encode()) + packer.flush()
        return base64.b64encode(content).decode("ascii")


def script_json(value: Any) -> str:
    """Return JSON that means the same inside an HTML script tag: no ``<``, ``>``, ``&`` or line separator in it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def browsable(found: Sequence[Folder], chosen: Sequence[Chosen], total: int) -> Browsable:
    """Write drawn judgements, with people's labels beside them, for the page's script.

    Args:
        found: The folders.
        chosen: Drawn judgements, in random order; the first that fit are taken.
        total: How many there are in all.
    """
    sides = side_by_side(found) if 0 < total <= UNITS_LIMIT else None
    more = _flipped(found, sides, {drawn.row for drawn in chosen}) if sides and len(chosen) < total else []
    every = [*chosen, *more]
    labels = _labels(found, [drawn.judgement for drawn in every])
    pictures = Pictures(found, {drawn.judgement.a for drawn in every})
    prompts: dict[str, int] = {}
    shown: dict[str, int] = {}
    rows: list[tuple[int, str]] = []
    kinds: dict[int, str] = {}
    room = _Room(CONTENT_LIMIT_BYTES)
    if sides is not None:
        room.take(script_json(sides.shown(found, {})))
    for place, drawn in enumerate(every):
        prompt = script_json(_turns(drawn.judgement.prompt))
        urls = pictures.of(drawn.judgement.a)
        fresh = [url for url in dict.fromkeys(urls) if url not in shown]
        places = shown | {url: len(shown) + place for place, url in enumerate(fresh)} if urls else shown
        row = _row(drawn, labels, found, prompts.get(prompt, len(prompts)))
        row |= {"images": [places[url] for url in urls], "extra": place >= len(chosen)}
        if sides is not None:
            row |= {"side": sides.side(drawn.folder, drawn.judgement), "unit": sides.unit(drawn.judgement)}
            kinds[row["side"]] = drawn.judgement.kind
        text = script_json(row)
        if not room.take(text, "" if prompt in prompts else prompt, *fresh) and rows:
            break
        prompts.setdefault(prompt, len(prompts))
        shown = places
        rows.append((drawn.row, text))
    kept = ",\n".join(text for _, text in sorted(rows))
    compared = "null" if sides is None else script_json(sides.shown(found, kinds))
    parts = f'"prompts":[{",".join(prompts)}],\n"pictures":{script_json(list(shown))},\n"rows":[{kept}]'
    content = f'{{{parts},\n"compared":{compared}}}'
    return Browsable(content, min(len(rows), len(chosen)), total, len(sides.sides) if sides else 0)


class _Room:
    """How much still fits: bytes of the page, as it is once compressed and written in base64."""

    def __init__(self, limit: int) -> None:
        self._left, self._packer = limit, zlib.compressobj(6, zlib.DEFLATED, -15)
        self._waiting = 0

    def take(self, *texts: str) -> bool:
        """Take some texts, and return whether they fit."""
        for text in texts:
            self._left -= len(self._packer.compress(text.encode())) * 4 // 3
            self._waiting += len(text)
        if self._waiting > _FLUSH:  # what waits in the packer is counted now and then
            self._left -= len(self._packer.flush(zlib.Z_SYNC_FLUSH)) * 4 // 3
            self._waiting = 0
        return self._left >= 0


def _flipped(found: Sequence[Folder], sides: SideBySide, there: set[int]) -> list[Chosen]:
    """Return judgements of units of which two sides say different things, the gravest first, that were not drawn."""
    flips = sides.flipped()
    ranked = sorted(flips, key=lambda pair: (-flips[pair], digest("flip", *pair)))[:FLIPS_LIMIT]
    rank = {pair: place for place, pair in enumerate(ranked)}
    if not rank:
        return []
    more = []
    for row, (folder, judgement) in enumerate(records(found, Judgement)):
        pair = sides.pairs[sides.unit(judgement)]
        if pair in rank and row not in there:
            more.append((rank[pair], Chosen(row, folder, judgement)))
    return [drawn for _, drawn in sorted(more, key=lambda one: one[0])]


def _labels(found: Sequence[Folder], judged: Sequence[Judgement]) -> Mapping[str, list[HumanLabel]]:
    labels: defaultdict[str, list[HumanLabel]] = defaultdict(list)
    units = {one.unit for one in judged}
    if units:
        given = [label for _, label in records(found, HumanLabel)]
        for label in with_units(given, judged, refuse_doubt=False):
            if label.unit in units and label not in labels[label.unit]:
                labels[label.unit].append(label)
    return labels


def _text(value: str) -> str:
    return visible(clip(value, _TEXT_LIMIT))


def _turns(messages: Sequence[Message]) -> list[list[str]]:
    """Return a conversation as role and text, its last turns if it is too long to show whole."""
    kept: list[list[str]] = []
    room = 2 * _TEXT_LIMIT
    for message in reversed(messages):
        if kept and len(message.content) > room:
            left_out = len(messages) - len(kept)
            kept.append(["", f"[{left_out:,} earlier turns are in the records]"])
            break
        kept.append([visible(message.role), _text(message.content)])
        room -= len(message.content)
    return kept[::-1]


def _row(
    drawn: Chosen, labels: Mapping[str, Sequence[HumanLabel]], found: Sequence[Folder], prompt: int
) -> dict[str, Any]:
    judgement = drawn.judgement
    people = labels.get(judgement.unit, ())
    pairwise = judgement.kind == "pairwise"
    majority = _majority(people)
    raws = [part for ballot in judgement.ballots for part in (ballot.order, ballot.raw)]
    return {
        "key": digest("row", judgement.id, judgement.judge, judgement.outcome, *raws),
        "id": visible(judgement.id),
        "item": visible(judgement.item),
        "run": visible(found[drawn.folder].label),
        "outcome": word(judgement.outcome),
        "is": judgement.outcome,
        "judge": visible(judgement.judge),
        "pair": visible(
            f"{judgement.policy_a} against {judgement.policy_b}"
            if pairwise
            else f"{judgement.policy_a}, {ALONE[judgement.kind]}"
        ),
        "dataset": visible(judgement.dataset),
        "prompt": prompt,
        "answers": [
            [visible(policy), _text(text)]
            for policy, text in ((judgement.policy_a, judgement.text_a), (judgement.policy_b, judgement.text_b))
        ][: 2 if pairwise else 1],
        "ballots": [_ballot(ballot, found[drawn.folder].files[Judgement]) for ballot in judgement.ballots],
        "p": _probability(judgement.p_a, found[drawn.folder].files[Judgement]),
        "reason": None if judgement.reason is None else _text(judgement.reason),
        "simulated": judgement.simulated,
        "people": [
            [visible(label.annotator), word(label.label), _text(label.note), label.simulated] for label in people
        ],
        "label": None if majority is None else word(majority),
        "differs": majority in people_labels()
        and is_vote(judgement.outcome)
        and as_label(judgement.outcome) != majority,
    }


def _probability(value: float | None, file: Path) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise DataError(f"a judgement has probability {value}", file=file, fix="run `judge` again")
    return value


def _ballot(ballot: Ballot, file: Path) -> dict[str, Any]:
    reply = split(ballot.raw)
    return {
        "order": ballot.order,
        "verdict": ballot.verdict,
        "reason": None if ballot.reason is None else _text(ballot.reason),
        "p": _probability(ballot.p_first, file),
        "raw": _text(reply.said if reply.thought else ballot.raw),
        "thought": _text(reply.thought),
        "model": visible(ballot.model),
    }


def _majority(people: Sequence[HumanLabel]) -> str | None:
    """Return what most people said, ``divided`` if no label leads, None if nobody was asked."""
    ranked = Counter(label.label for label in people).most_common(2)
    if not ranked:
        return None
    return "divided" if len(ranked) == 2 and ranked[0][1] == ranked[1][1] else ranked[0][0]
