"""What is set side by side: runs, judges, prompts and dates, and what each said of every unit.

A side is what one judge, asked in one way, said of one comparison in one run folder. Outcomes are of the policy whose
name comes first, so that a run of a against b lines up with one of b against a.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perl_eval.outcomes import EVEN, is_decided, mirror, worth
from perl_eval.records import HumanLabel, Judgement, digest, unit_of
from perl_eval.reporting.format import visible
from perl_eval.reporting.inputs import Folder, records

__all__ = ["UNITS_LIMIT", "SideBySide", "placed", "side_by_side"]

UNITS_LIMIT = 300_000
"""Judgements up to which every outcome is on the page; beyond, only those whose texts are."""
_CODES = {
    **{"win": "w", "loss": "l", "split": "s", "tie": "t", "mixed": "m"},
    **{"yes": "y", "no": "n", "scored": "c", "unjudged": "u"},
}
_ABSENT = "."
_COLUMNS = ("kind", "item", "dataset", "policy_a", "policy_b", "a", "b", "outcome", "judge", "prompt_sha256")
_Key = tuple[int, str, str, str, str]
_Pair = tuple[str, str]


@dataclass(slots=True)
class SideBySide:
    """Every side, and every unit.

    Attributes:
        sides: Number of each side, by folder, judge, prompt and policies.
        pairs: Ids of the completions of each unit, in the order of the policies' names, sorted by item.
        items: Item of each unit.
        slices: Of each way to part the units its name, the names of the parts, and the part of each unit.
        codes: What each side said of each unit, a letter a unit.
    """

    sides: dict[_Key, int] = field(default_factory=dict)
    pairs: list[_Pair] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    slices: list[tuple[str, list[str], list[int]]] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    _places: dict[_Pair, int] = field(default_factory=dict)

    def side(self, folder: int, judgement: Judgement) -> int:
        """Return the number of the side that a judgement stands on."""
        first, second, _ = placed(judgement.policy_a, judgement.policy_b)
        return self.sides[folder, judgement.judge, judgement.prompt_sha256, first, second]

    def unit(self, judgement: Judgement) -> int:
        """Return the number of the unit that a judgement is of."""
        return self._places[_pair(judgement.policy_a, judgement.policy_b, judgement.a, judgement.b)]

    def flipped(self) -> dict[_Pair, int]:
        """Return the units of which two sides say different things: 2 if each prefers another answer, else 1."""
        found = {}
        for place, said in enumerate(zip(*self.codes, strict=True)):
            kinds = set(said) - {_ABSENT, _CODES["unjudged"], _CODES["scored"]}
            if len(kinds) > 1:
                found[self.pairs[place]] = 2 if {"w", "l"} <= kinds or {"y", "n"} <= kinds else 1
        return found

    def shown(self, found: Sequence[Folder], kinds: Mapping[int, str]) -> dict[str, Any]:
        """Return what the page's script needs.

        Args:
            found: The folders.
            kinds: The kind of question of each side.
        """
        sides = [
            {
                "key": digest("side", found[folder].label, judge, prompt, first, second)[:8],
                "run": visible(found[folder].label),
                "judge": visible(judge),
                "prompt": visible(f"{found[folder].card.arguments.get('prompt', '')} {prompt[:8]}".strip()),
                "first": visible(first),
                "second": visible(second),
                "dated": found[folder].card.started[:10],
                "kind": kinds.get(number, "pairwise"),
                "said": self.codes[number],
            }
            for (folder, judge, prompt, first, second), number in self.sides.items()
        ]
        runs = list(Counter(self.items).values())  # units lie item by item
        parts = [[name, [visible(part) for part in names], places] for name, names, places in self.slices]
        return {"sides": sides, "runs": runs, "slices": parts}


def placed(policy_a: str, policy_b: str) -> tuple[str, str, bool]:
    """Return two policies in the order of their names, and whether that turns them round."""
    turned = bool(policy_b) and policy_b < policy_a
    return (policy_b, policy_a, True) if turned else (policy_a, policy_b, False)


def _pair(policy_a: str, policy_b: str, a: str, b: str) -> _Pair:
    return (b, a) if placed(policy_a, policy_b)[2] else (a, b)


def side_by_side(found: Sequence[Folder]) -> SideBySide:
    """Read what every side said of every unit.

    Args:
        found: The folders.
    """
    made = SideBySide()
    said: list[tuple[int, _Pair, str]] = []
    about: dict[_Pair, tuple[str, str, str]] = {}
    policies: dict[_Pair, _Pair] = {}
    for folder, row in _rows(found):
        first, second, turned = placed(row["policy_a"], row["policy_b"])
        side = made.sides.setdefault((folder, row["judge"], row["prompt_sha256"], first, second), len(made.sides))
        pair = (row["b"], row["a"]) if turned else (row["a"], row["b"])
        outcome = mirror(row["outcome"]) if turned else row["outcome"]
        said.append((side, pair, _CODES.get(outcome, _CODES["unjudged"])))
        lengths = (row["length_b"], row["length_a"]) if turned else (row["length_a"], row["length_b"])
        about[pair] = row["item"], row["dataset"], _longer(*lengths, first, second)
        policies[pair] = first, second
    made.pairs = sorted(about, key=lambda pair: (about[pair][0], pair))
    made.items = [about[pair][0] for pair in made.pairs]
    made._places = {pair: place for place, pair in enumerate(made.pairs)}
    table = [[_ABSENT] * len(made.pairs) for _ in made.sides]
    for side, pair, code in said:
        table[side][made._places[pair]] = code
    made.codes = ["".join(row) for row in table]
    made.slices = [
        _slice("data set", [about[pair][1] for pair in made.pairs]),
        _slice("longer answer", [about[pair][2] for pair in made.pairs]),
        _slice("people say", _people(found, made.pairs, policies)),
    ]
    made.slices = [one for one in made.slices if len(one[1]) > 1]
    return made


def _rows(found: Sequence[Folder]) -> Iterator[tuple[int, dict[str, Any]]]:
    for place, folder in enumerate(found):
        if Judgement not in folder.files:
            continue
        with pq.ParquetFile(folder.files[Judgement]) as file:
            for batch in file.iter_batches(columns=[*_COLUMNS, "text_a", "text_b"]):
                part = pa.table({name: batch[name] for name in _COLUMNS})
                for side in "ab":
                    part = part.append_column(f"length_{side}", pc.utf8_length(batch[f"text_{side}"]))
                for row in part.to_pylist():
                    yield place, row


def _longer(first: int, second: int, one: str, other: str) -> str:
    if not other:
        return "one answer"
    return "same length" if first == second else one if first > second else other


def _slice(name: str, parts: Sequence[str]) -> tuple[str, list[str], list[int]]:
    names = {part: number for number, part in enumerate(dict.fromkeys(parts))}
    return name, list(names), [names[part] for part in parts]


def _people(found: Sequence[Folder], pairs: Sequence[_Pair], policies: Mapping[_Pair, _Pair]) -> list[str]:
    """Return what most people said of each unit: whom they prefer, or their label."""
    votes: dict[str, Counter[str]] = {}
    for _, label in records(found, HumanLabel):
        votes.setdefault(label.unit, Counter())[label.label] += 1
    return [_majority(votes, pair, *policies[pair]) for pair in pairs]


def _majority(votes: Mapping[str, Counter[str]], pair: _Pair, one: str, other: str) -> str:
    straight, turned = votes.get(unit_of(*pair)), votes.get(unit_of(*pair[::-1]))
    counts = Counter(straight or {})
    for label, n in (turned or {}).items():
        counts[mirror(label)] += n
    ranked = counts.most_common(2)
    if not ranked:
        return "nobody asked"
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return "divided"
    label = ranked[0][0]
    if not is_decided(label):
        return label
    return f"prefer {one if worth(label) > EVEN else other}"
