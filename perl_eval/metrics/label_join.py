"""Which judged unit a label is of: its own unit, or else the one that its item and policies name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from perl_eval.errors import DataError, UserError
from perl_eval.outcomes import mirror
from perl_eval.records import HumanLabel, Judgement, digest, unit_of

__all__ = ["Unit", "refuse_repeated", "with_units"]

_LOG = logging.getLogger(__name__)
_NAMED = 8
Sides = frozenset[str]
"""The completions, or the policies, of a unit, whichever came first."""


class Unit(Protocol):
    """What people can label: a pair of completions, or one (then b is empty); a Judgement is such."""

    @property
    def item(self) -> str:
        """Id of the prompt."""

    @property
    def a(self) -> str:
        """Id of completion a."""

    @property
    def b(self) -> str:
        """Id of completion b."""

    @property
    def policy_a(self) -> str:
        """Who wrote a."""

    @property
    def policy_b(self) -> str:
        """Who wrote b."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is judged of one item."""

    units: Mapping[Sides, Unit]

    def of(self, policies: Sequence[str], item: str, *, refuse_doubt: bool) -> Unit | None:
        """Return the one unit whose policies these are, of any policies where none are given.

        Raises:
            UserError: There are several, so that nobody can tell which was labelled.
        """
        wanted = frozenset(filter(None, policies))
        fitting = [one for one in self.units.values() if not wanted or _are_of(one, policies)]
        if len(fitting) > 1 and refuse_doubt:
            what = " and ".join(sorted(wanted)) or "unnamed policies"
            raise UserError(
                f"item {item!r} has {len(fitting)} judged units that a label of {what} could be of",
                "name the completions in the labels: columns a and b, or unit",
            )
        return fitting[0] if len(fitting) == 1 else None


def with_units(
    labels: Sequence[HumanLabel], judgements: Iterable[Unit], *, refuse_doubt: bool = True
) -> list[HumanLabel]:
    """Return labels with the units that they are of.

    A label that has a unit keeps it. One that has none gets that of the judgement of the same item and policies; where
    the judgement has them the other way round, the label is mirrored. A label without policies is of the one unit
    judged of its item, its a that of the judgement. A label whose item is none of those judged, but a judged prompt or
    what is derived from one, is of that prompt's item; a warning is logged then. What belongs to nothing judged keeps
    its empty unit.

    Args:
        labels: Labels, read from any file.
        judgements: Judgements of any judges, or other units.
        refuse_doubt: Whether a label that could be of several units is refused, or else belongs to none.

    Raises:
        UserError: An item has several judged units that a label could be of; items are the same, but no policies; or
            judgements of several items are of the same completions.
    """
    known = _refuse_shared_completions(judgements, refuse_doubt=refuse_doubt)
    if all(label.unit for label in labels):
        return list(labels)
    items: dict[str, dict[Sides, Unit]] = {}
    for record in known:
        items.setdefault(record.item, {}).setdefault(frozenset((record.a, record.b)), record)
    judged = {item: _Judged(units) for item, units in items.items()}
    missing = {label.item for label in labels if not label.unit} - judged.keys()
    by_prompt = _by_prompt(known, missing) if missing else {}
    placed = []
    for label in labels:
        here = None if label.unit else judged.get(label.item) or by_prompt.get(label.item)
        policies = (label.policy_a, label.policy_b)
        placed.append(_placed(label, here.of(policies, label.item, refuse_doubt=refuse_doubt) if here else None))
    if refuse_doubt and not any(label.unit for label in placed):
        _refuse_other_policies([label for label in labels if label.item in judged or label.item in by_prompt], known)
    if by_prompt:
        joined = sum(label.item in by_prompt for label in labels if not label.unit)
        _LOG.warning("%s labels name no judged item by id; matched by the exact text of their prompt", f"{joined:,}")
    return placed


def refuse_repeated(judgements: Iterable[Judgement], file: Path) -> None:
    """Refuse two judgements of the same completions by one judge that was asked the same.

    Args:
        judgements: The judgements of one file.
        file: What to call it in the error.

    Raises:
        DataError: There are such two; the row is that of the second.
    """
    seen: dict[tuple[str, ...], int] = {}
    for row, one in enumerate(judgements):
        before = seen.setdefault((one.kind, one.judge, one.prompt_sha256, one.a, one.b), row)
        if before != row:
            what = f"judgement {one.id} of the same completions by the same judge occurs twice, first in row {before}"
            raise DataError(what, file=file, row=row, fix="judge answers that have an id each")


def _refuse_shared_completions(judgements: Iterable[Unit], *, refuse_doubt: bool) -> Sequence[Unit]:
    """Return the judgements, whose completions are each of one item, or else a label would count for several."""
    known = judgements if isinstance(judgements, Sequence) else list(judgements)
    item_of: dict[tuple[str, str], str] = {}
    for row, one in enumerate(known):
        item = item_of.setdefault((one.a, one.b), one.item)
        if item != one.item and refuse_doubt:
            ids = " and ".join(filter(None, (one.a, one.b)))
            what = f"judgement {row}: items {item!r} and {one.item!r} have the same completions by their ids, {ids}"
            raise UserError(what, "give each answer an id of its own, for a label would count for both")
    return known


def _by_prompt(known: Iterable[Unit], wanted: set[str]) -> dict[str, _Judged]:
    """Return what is judged by its prompt, as text or as the item that readers derive of it."""
    found: dict[str, dict[Sides, Unit]] = {}
    for one in known:
        turns = getattr(one, "prompt", ())
        if not turns:
            continue
        names = {digest("item", *[f"{turn.role}:{turn.content}" for turn in turns])}
        if len(turns) == 1:
            names |= {turns[0].content, turns[0].content.strip(), digest("item", turns[0].content)}
        for name in names & wanted:
            found.setdefault(name, {}).setdefault(frozenset((one.a, one.b)), one)
    return {name: _Judged(units) for name, units in found.items()}


def _refuse_other_policies(labels: Sequence[HumanLabel], known: Iterable[Unit]) -> None:
    """Refuse labels whose items are judged, but of other policies."""
    theirs = sorted({name for label in labels for name in (label.policy_a, label.policy_b) if name})
    if not theirs:
        return
    ours = sorted({name for one in known for name in (one.policy_a, one.policy_b) if name})
    what = f"the items match; the labels name policies {_few(theirs)}, the judgements {_few(ours)}"
    raise UserError(what, "write the policies alike, or name the policies of the judged answers as the labels do")


def _few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _placed(label: HumanLabel, record: Unit | None) -> HumanLabel:
    if record is None:
        return label
    turned = bool(label.policy_a) and record.policy_a != label.policy_a
    said: Any = mirror(label.label) if turned else label.label
    return replace(
        label, unit=unit_of(record.a, record.b), label=said, policy_a=record.policy_a, policy_b=record.policy_b
    )


def _are_of(record: Unit, policies: Sequence[str]) -> bool:
    """Return whether a unit is of some policies, in either order."""
    return sorted(policies) == sorted((record.policy_a, record.policy_b))
