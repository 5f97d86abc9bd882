"""The judgements a page embeds, as JSON that a script tag cannot be broken out of."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError
from perl_eval.metrics.label_join import with_units
from perl_eval.outcomes import as_label, is_vote, people_labels, word
from perl_eval.records import Ballot, HumanLabel, Judgement, Message
from perl_eval.reporting.counts import ALONE, Chosen
from perl_eval.reporting.format import clip, visible
from perl_eval.reporting.inputs import Folder, records
from perl_eval.reporting.thumbnails import Pictures

__all__ = ["CONTENT_LIMIT_BYTES", "SAMPLE_LIMIT", "Browsable", "browsable", "script_json"]

SAMPLE_LIMIT = 2000
"""Judgements embedded in a page, at most."""
CONTENT_LIMIT_BYTES = 4_000_000
"""Bytes of JSON embedded in a page, at most, so that a page opens anywhere."""
_TEXT_LIMIT = 20_000
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Browsable:
    """What the browser of judgements shows: JSON text of ``shown`` judgements out of ``total``."""

    json: str
    shown: int
    total: int


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
    labels = _labels(found, [drawn.judgement for drawn in chosen])
    pictures = Pictures(found, {drawn.judgement.a for drawn in chosen})
    prompts: dict[str, int] = {}
    shown: dict[str, int] = {}
    rows: list[tuple[int, str]] = []
    room = CONTENT_LIMIT_BYTES
    for drawn in chosen:
        prompt = script_json(_turns(drawn.judgement.prompt))
        urls = pictures.of(drawn.judgement.a)
        fresh = [url for url in dict.fromkeys(urls) if url not in shown]
        places = shown | {url: len(shown) + place for place, url in enumerate(fresh)} if urls else shown
        row = _row(drawn, labels, found, prompts.get(prompt, len(prompts)))
        text = script_json(row | {"images": [places[url] for url in urls]})
        room -= len(text.encode()) + (0 if prompt in prompts else len(prompt.encode())) + sum(map(len, fresh))
        if room < 0 and rows:
            break
        prompts.setdefault(prompt, len(prompts))
        shown = places
        rows.append((drawn.row, text))
    kept = ",\n".join(text for _, text in sorted(rows))
    parts = f'"prompts":[{",".join(prompts)}],\n"pictures":{script_json(list(shown))},\n"rows":[{kept}]'
    return Browsable(f"{{{parts}}}", len(rows), total)


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
    return {
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
    return {
        "order": ballot.order,
        "verdict": ballot.verdict,
        "reason": None if ballot.reason is None else _text(ballot.reason),
        "p": _probability(ballot.p_first, file),
        "raw": _text(ballot.raw),
        "model": visible(ballot.model),
    }


def _majority(people: Sequence[HumanLabel]) -> str | None:
    """Return what most people said, ``divided`` if no label leads, None if nobody was asked."""
    ranked = Counter(label.label for label in people).most_common(2)
    if not ranked:
        return None
    return "divided" if len(ranked) == 2 and ranked[0][1] == ranked[1][1] else ranked[0][0]
