"""One label of a person from one row: what the columns are called, what a label means, and what it is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite, isnan
from typing import Any, TypeVar

from perl_eval.errors import DataError, OptionError
from perl_eval.outcomes import TIE_WORDS, mirror, people_labels
from perl_eval.records import HumanLabel, Message, digest, unit_of
from perl_eval.sources.column_names import columns_typed
from perl_eval.sources.reading import Import

__all__ = ["NAMES", "TIES", "LabelColumns", "LabelMaker", "meaning_of", "named", "not_given"]

_MEANINGS = {
    **{name: name for name in people_labels()},
    **{"a": "win", "b": "loss", "left": "win", "right": "loss", "first": "win", "second": "loss", "lose": "loss"},
    **{"model_a": "win", "model_b": "loss", "1": "win", "2": "loss", **dict.fromkeys(TIE_WORDS, "tie")},
    **{"tie (bothbad)": "tie", "tie (inconsistent)": "tie", "both_bad": "tie", "bothbad": "tie", "both bad": "tie"},
    **{"true": "yes", "false": "no", "thumbs_up": "yes", "thumbs_down": "no", "good": "yes", "bad": "no"},
}
TIES = frozenset(word for word, meaning in _MEANINGS.items() if meaning == "tie")
"""The words for a tie in files of labels and of verdicts."""
_THING = "answer|response|model|option|completion|reply|output|candidate|assistant|text"
_SIDE = re.compile(
    rf"(?:the )?(?:(?:{_THING})[ _-]*)?(?P<side>a|b|1|2|one|two|left|right|first|second)"
    rf"(?: (?:one|{_THING}))?(?: is)?(?: much| slightly)?(?: better| wins)?"
)
"""A side in the words of a choice: Answer 1, Response B, left is better."""
_SECOND = frozenset({"b", "2", "two", "right", "second"})
_SHOWN = {
    "": "",
    **dict.fromkeys(("first", "1", "1.0", "a"), "first"),
    **dict.fromkeys(("second", "2", "2.0", "b"), "second"),
}
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "y"), True),
    **dict.fromkeys(("", "false", "0", "0.0", "no", "n"), False),
}
_OF_VERDICTS = frozenset({"outcome", "verdict", "verdict_ab", "verdict_ba"})
NAMES: Mapping[str, tuple[str, ...]] = {
    "a": ("a",),
    "b": ("b",),
    "unit": ("unit",),
    "label": ("label", "winner"),
    "annotator": (
        *("annotator", "judge", "rater", "annotator_id", "rater_id", "worker", "worker_id", "user", "user_id"),
        *("labeler", "labeler_id", "labeller", "labeller_id", "evaluator", "evaluator_id"),
    ),
    "group": ("group",),
    "item": ("item", "question_id", "prompt_id", "uid"),
    "weight": ("weight",),
    "note": ("note",),
    "a_is": ("a_is",),
    "policy_a": ("policy_a", "model_a", "policy"),
    "policy_b": ("policy_b", "model_b"),
    "prompt": ("prompt", "instruction", "question"),
    "simulated": ("simulated",),
}
"""What a label has, and the names under which files keep it; the first that is there is taken."""


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """Where a label file keeps what a label needs. Rows that lack an annotator are one person's, ``unnamed``.

    Attributes:
        a: Id of completion a, or of the one completion; used where ``unit`` is not there.
        b: Id of completion b.
        unit: Id of the judged unit, where the file has it.
        label: The label; in Label Studio and Argilla the name of the question.
        annotator: Who gave it; in Label Studio and Argilla also the name of a text question that says so, where the
            tool's own user is not meant.
        group: What shares a source; the item, or else the unit, where the file has none.
        item: Id of the prompt; the unit itself where the file has neither it nor the prompt.
        weight: How many units the labelled one stands for; 1 where the file does not say.
        note: What the annotator added; in Label Studio and Argilla the name of a text question.
        a_is: ``second`` (or 2, or b) in rows that showed b first, so that ``first`` there means b.
        policy_a: Who wrote answer a, where the file does not know the completions' ids.
        policy_b: Who wrote answer b.
        prompt: The prompt, from which the item is derived as it is for completions.
        yes_from: No column: the number from which on a rating is a yes; what is not a finite number is left out.
    """

    a: str = "a"
    b: str = "b"
    unit: str = "unit"
    label: str = "label"
    annotator: str = "annotator"
    group: str = "group"
    item: str = "item"
    weight: str = "weight"
    note: str = "note"
    a_is: str = "a_is"
    policy_a: str = "policy_a"
    policy_b: str = "policy_b"
    prompt: str = "prompt"
    yes_from: str = ""

    def given(self) -> dict[str, str]:
        """Return the names that somebody gave, those that are not the usual ones."""
        usual = type(self)()
        names = [one.name for one in fields(self)]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(usual, name)}


def named(columns: Mapping[str, str], field: str) -> tuple[str, ...]:
    """Return the names under which a field may stand: the one that was given, or the usual ones."""
    return (columns[field],) if field in columns else NAMES[field]


def meaning_of(label: Any, columns: Mapping[str, str]) -> str | None:
    """Return what a label as written means: win, tie or loss of a, yes or no; None if nothing."""
    if "yes_from" in columns and isinstance(number := _number(label), float):
        return "yes" if number >= float(columns["yes_from"]) else "no"
    said = " ".join(str(label).lower().split())
    if said in _MEANINGS:
        return _MEANINGS[said]
    side = _SIDE.fullmatch(said)
    return None if side is None else "loss" if side["side"] in _SECOND else "win"


def not_given(label: Any, columns: Mapping[str, str]) -> str:
    """Return why a cell holds no label: it is empty, or no finite number where ratings are read; "" if it holds one."""
    if label is None or label == "" or (isinstance(label, float) and isnan(label)):
        return "is empty"
    if "yes_from" in columns and isinstance(number := _number(label), float) and not isfinite(number):
        return "is empty" if isnan(number) else "is not a finite number"
    return ""


Known = TypeVar("Known")


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _is_finite(value: Any) -> bool:
    number = _number(value)
    return number is not None and isfinite(number)


class LabelMaker:
    """Makes labels of rows, and counts what is not there and is derived.

    Args:
        file: What to call the file in an error.
        reading: How it is read.
        contestants: Whether the columns ``a`` and ``b`` name policies, not completions.

    Raises:
        OptionError: A name is of nothing that a label has, or two name the same thing.
    """

    def __init__(self, file: str, reading: Import, *, contestants: bool = False) -> None:
        self._file, self._reading = file, reading
        columns = reading.columns
        known = (*NAMES, "yes_from")
        for name in columns:
            if name not in known:
                first = ""
                if name in _OF_VERDICTS:
                    typed = f"perl-eval import FILE --column {name}={columns[name]}"
                    first = f"for a file of a judge's verdicts run `{typed}` first and give its folder; for labels "
                fix = f"{first}choose from {', '.join(known)}"
                raise OptionError("column", f"{name!r}, which is no property of a label", fix)
        if "unit" in columns and {"a", "b"} & set(columns):
            raise OptionError("column", "unit beside a or b", "give the unit, or the completions")
        if "yes_from" in columns and not _is_finite(columns["yes_from"]):
            raise OptionError("column", f"yes_from={columns['yes_from']}", "give a number, such as yes_from=4")
        self._names = {field: named(columns, field) for field in NAMES}
        if contestants:
            self._names |= {"policy_a": (*self._names["policy_a"], *self._names["a"]), "a": ()}
            self._names |= {"policy_b": (*self._names["policy_b"], *self._names["b"]), "b": ()}

    def cell(self, cells: Mapping[str, Any], field: str) -> str:
        """Return a field of a row as text, empty where it is not there."""
        found = next((cells[name] for name in self._names[field] if not not_given(cells.get(name), {})), "")
        return str(found)

    def __call__(
        self, row: int, cells: Mapping[str, Any], label: Any, annotator: str, note: str = "", *, column: str = ""
    ) -> HumanLabel:
        """Return the label of one person.

        Args:
            row: Its place in the file.
            cells: What the row says of the unit that was labelled.
            label: The label as written.
            annotator: Whose it is.
            note: What the annotator added.
            column: The column that the label stands in, for what is said about an error; the usual one if empty.

        Raises:
            DataError: The label means nothing here, or nothing says what it is of.
        """
        policies = self.cell(cells, "policy_a"), self.cell(cells, "policy_b")
        if policies[1] and not policies[0]:
            what = f"is missing, and {self._names['policy_b'][0]} is there"
            raise DataError(what, file=self._file, row=row, field=self._names["policy_a"][0], fix="give both")
        label = self._reading.meant(label)
        turned = self._known(row, cells, "a_is", _SHOWN, "first or second") == "second"
        meaning: Any = _winner(str(label).strip(), policies, self._file, row)
        if meaning is None:
            meaning = self._meaning(row, label, policies, column)
            meaning = mirror(meaning) if turned else meaning
        unit, item = self._of(row, cells, policies)
        if not annotator:
            self._reading.derived["annotator"] += 1
        return HumanLabel(
            unit,
            item,
            self.cell(cells, "group") or item,
            annotator or "unnamed",
            meaning,
            simulated=self._known(row, cells, "simulated", _BOOLEANS, "true or false"),
            note=note,
            weight=self._weight(row, cells),
            policy_a=policies[0],
            policy_b=policies[1],
        )

    def _known(self, row: int, cells: Mapping[str, Any], field: str, words: Mapping[str, Known], fix: str) -> Known:
        """Return what a cell means that can say few things.

        Raises:
            DataError: It says another one.
        """
        given = self.cell(cells, field)
        if given.strip().lower() in words:
            return words[given.strip().lower()]
        what = f"{given!r} is none of {', '.join(filter(None, words))}"
        raise DataError(what, file=self._file, row=row, field=self._names[field][0], fix=f"give {fix}")

    def _meaning(self, row: int, label: Any, policies: tuple[str, str], column: str) -> str:
        meaning = meaning_of(label, self._reading.columns)
        if meaning is None:
            known = ", ".join([*filter(None, policies), *_MEANINGS, "Answer 1", "Response B", "left is better"])
            rating = _number(label) is not None
            raise DataError(
                f"label {label!r} means nothing here; known are {known}",
                file=self._file,
                row=row,
                field=column or self._names["label"][0],
                fix="a rating needs yes_from=NUMBER"
                if rating
                else f"say what it means: --means '{label}=a' (or b, tie)",
            )
        return meaning

    def _of(self, row: int, cells: Mapping[str, Any], policies: tuple[str, str]) -> tuple[str, str]:
        """Return the unit, empty where nothing names the completions, and the item that a label is of."""
        unit, item = self.cell(cells, "unit"), self.cell(cells, "item")
        if not unit and self.cell(cells, "a"):
            unit = unit_of(self.cell(cells, "a"), self.cell(cells, "b"))
        if not item:
            prompt = next((cells[name] for name in self._names["prompt"] if cells.get(name)), None)
            if prompt is not None and (policies[0] or not unit):
                item = self._item(row, prompt)
                self._reading.derived["item"] += 1
        if not (unit or item):
            shown = self._names["unit"][0], (self._names["a"] or self._names["policy_a"])[0]
            raise DataError(
                f"has neither {shown[0]!r} nor {shown[1]!r} nor an item; present are {', '.join(map(str, cells))}",
                file=self._file,
                row=row,
                field=self._names["item"][0],
                fix=f"name what was labelled: {columns_typed(['prompt'], list(map(str, cells)))}",
            )
        return unit, item or unit

    def _item(self, row: int, prompt: Any) -> str:
        """Return the item of a prompt, the same as for a completion without one."""
        try:
            turns = Message.sequence(prompt)
        except (KeyError, TypeError, AttributeError, ValueError):
            what = "is neither text nor a list of turns with role and content"
            raise DataError(what, file=self._file, row=row, field="prompt") from None
        return digest("item", *[f"{turn.role}:{turn.content}" for turn in turns])

    def _weight(self, row: int, cells: Mapping[str, Any]) -> float:
        given = self.cell(cells, "weight")
        weight = _number(given) if given else 1.0
        if weight is None or not (isfinite(weight) and weight > 0):
            field = self._names["weight"][0]
            raise DataError(
                f"{given!r} is not a weight", file=self._file, row=row, field=field, fix="give a number above 0"
            )
        return weight


def _winner(said: str, policies: tuple[str, str], file: str, row: int) -> str | None:
    """Return whether the policy that a label names is a or b; None if it names none of them.

    Raises:
        DataError: A policy has the name of the other's side.
    """
    if not said or said not in policies or policies[0] == policies[1]:
        return None
    side = {"a": 0, "b": 1}.get(said.lower())
    if side is not None and policies[side] != said:
        what = f"{said!r} is the name of a policy and of the other's side"
        raise DataError(what, file=file, row=row, field="label", fix="call the policies something else")
    return "win" if said == policies[0] else "loss"
