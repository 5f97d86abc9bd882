"""Which judged unit a label is of: its own unit, or else the one that its item and policies name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from perl_eval.errors import UserError
from perl_eval.outcomes import mirror
from perl_eval.records import HumanLabel, unit_of

__all__ = ["Unit", "with_units"]

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
    judged of its item, its a that of the judgement. What belongs to nothing judged keeps its empty unit.

    Args:
        labels: Labels, read from any file.
        judgements: Judgements of any judges, or other units.
        refuse_doubt: Whether a label that could be of several units is refused, or else belongs to none.

    Raises:
        UserError: An item has several judged units that a label could be of.
    """
    if all(label.unit for label in labels):
        return list(labels)
    items: dict[str, dict[Sides, Unit]] = {}
    for record in judgements:
        items.setdefault(record.item, {}).setdefault(frozenset((record.a, record.b)), record)
    judged = {item: _Judged(units) for item, units in items.items()}
    placed = []
    for label in labels:
        here = None if label.unit else judged.get(label.item)
        policies = (label.policy_a, label.policy_b)
        placed.append(_placed(label, here.of(policies, label.item, refuse_doubt=refuse_doubt) if here else None))
    return placed


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
