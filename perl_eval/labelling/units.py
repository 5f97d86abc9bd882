"""What people are asked to label: units made of completions, all of them or a drawn part, each with its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from perl_eval.checks import at_least_one
from perl_eval.errors import UserError
from perl_eval.judging.pairing import pairs
from perl_eval.outcomes import is_undecided
from perl_eval.records import Completion, Judgement, Kind, Message, digest, unit_of
from perl_eval.stats.survey_weights import draw, inclusion_probabilities

__all__ = [
    "DRAWS",
    "Draw",
    "Drawing",
    "Task",
    "a_is_first",
    "drawn",
    "order_key",
    "sequence_key",
    "tasks_of",
    "weights_of",
]

Draw = Literal["random", "uncertain", "split", "decisive"]
DRAWS: tuple[Draw, ...] = get_args(Draw)
_FLOOR = 0.1
"""Size of a unit that the judge is certain of, where one at p = 1/2 has 0.6: every unit may be drawn."""
_SPREAD = {True: 0.5, False: 0.3}
"""Standard deviation of a label, given that the judge is undecided or not, where it gives no probability."""
_UNDECIDED = 4.0
"""How many times likelier a unit without a winner in both orders is drawn than one with."""


@dataclass(frozen=True, slots=True)
class Task:
    """One unit to label.

    Attributes:
        unit: Id of the judged unit, as judgements of it carry.
        item: Id of the prompt.
        group: What shares a source.
        prompt: The conversation.
        answers: Texts of a and b, or of the one answer.
        images: Pictures that belong to the prompt: paths, or names within a session.
        weight: The inverse of the probability with which the unit was drawn; where units are drawn one after the other
            (``decisive``), up to a common factor, of the probability of being the first.
    """

    unit: str
    item: str
    group: str
    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    images: tuple[str, ...] = ()
    weight: float = 1.0

    @property
    def kind(self) -> Kind:
        """Whether two answers are compared or one is asked about."""
        return "pairwise" if len(self.answers) == 2 else "yes_no"


@dataclass(frozen=True, slots=True)
class Drawing:
    """Which units are labelled.

    Attributes:
        by: ``random``; ``uncertain``: in proportion to ``0.1 + sqrt(p (1 - p))``, p being the judge's probability;
            ``split``: units that the judge did not decide alike in both orders, four times likelier than others;
            ``decisive``: one after the other, in the order of `sequence_key`, as long as people go on.
        limit: How many; None for all.
        seed: Of the drawing, and of the order and sides that people see.
    """

    by: Draw = "random"
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in DRAWS:
            raise UserError(f"no way to draw {self.by!r}", f"choose one of {', '.join(DRAWS)}")
        at_least_one(self, "limit")
        if self.by not in ("random", "decisive") and self.limit is None:
            raise UserError(f"all units are labelled, so none can be drawn by {self.by}", "give a limit, or draw none")


def tasks_of(a: Sequence[Completion], b: Sequence[Completion] | None) -> list[Task]:
    """Return a unit for each pair of completions of the same item and draw, or for each completion.

    Raises:
        UserError: There is nothing to label, or the two files do not match.
    """
    if b is None:
        if not a:
            raise UserError("there are no completions", "give a file that holds some")
        return [Task(unit_of(one.id), one.item, one.group, one.prompt, (one.text,), one.images) for one in a]
    return [
        Task(unit_of(one.id, other.id), one.item, one.group, one.prompt, (one.text, other.text), one.images)
        for one, other in pairs(a, b).matched
    ]


def drawn(tasks: Sequence[Task], drawing: Drawing, judgements: Sequence[Judgement] = ()) -> list[Task]:
    """Draw the units to label and give each its weight.

    Every unit has a known chance above 0, so what is measured on the drawn ones holds for all of them once weighted.

    With ``decisive`` all units are kept, each to be asked about in the order of `sequence_key`.

    Args:
        tasks: All units.
        drawing: How to draw.
        judgements: What the judge said of them; needed unless the drawing is random.

    Raises:
        UserError: A judgement is missing, has no probability, or is there twice.
    """
    if drawing.by == "decisive":
        said = _by_unit(judgements)
        return [replace(task, weight=1.0 / _size(task, said, drawing.by)) for task in tasks]
    if drawing.limit is None or drawing.limit >= len(tasks):
        return list(tasks)
    ordered = sorted(tasks, key=lambda task: task.unit)
    sizes = [1.0] * len(ordered)
    if drawing.by != "random":
        said = _by_unit(judgements)
        sizes = [_size(task, said, drawing.by) for task in ordered]
    share = inclusion_probabilities(sizes, drawing.limit)
    places = draw(share, np.random.default_rng(drawing.seed))
    return [replace(ordered[place], weight=1.0 / float(share[place])) for place in places]


def _by_unit(judgements: Sequence[Judgement]) -> dict[str, Judgement]:
    found: dict[str, Judgement] = {}
    for judgement in judgements:
        for unit in {judgement.unit, unit_of(judgement.b, judgement.a)} if judgement.b else {judgement.unit}:
            if found.setdefault(unit, judgement) is not judgement:
                raise UserError(
                    f"unit {judgement.unit} is judged twice, by {found[unit].judge} and {judgement.judge}",
                    "give the judgements of one judge",
                )
    return found


def _size(task: Task, said: Mapping[str, Judgement], by: Draw) -> float:
    judgement = said.get(task.unit)
    if judgement is None:
        raise UserError(f"unit {task.unit} (item {task.item!r}) has no judgement", "judge the same completions first")
    if by == "split":
        return _UNDECIDED if is_undecided(judgement.outcome) else 1.0
    if judgement.outcome == "unjudged":
        return _FLOOR
    if judgement.p_a is None and by == "decisive":
        return _FLOOR + _SPREAD[is_undecided(judgement.outcome)]
    if judgement.p_a is None:
        raise UserError(
            f"judgement {judgement.id} has no probability", "draw by split, or use a judge that gives probabilities"
        )
    return _FLOOR + float(np.sqrt(judgement.p_a * (1.0 - judgement.p_a)))


def sequence_key(seed: int, task: Task) -> float:
    """Return what units are sorted by that are asked about one after the other, as long as it takes.

    ``u / size`` with u uniform: however many come first, they are a sample with probabilities close to proportional to
    size. Sizes are standard deviations of a label given what the judge said, as Neyman's allocation has it: so each
    label takes as much as can be off the variance of a rate that is corrected by labels.

    Args:
        seed: Of the session.
        task: A unit, its weight the inverse of its size.

    Source: Ohlsson, Sequential Poisson sampling, Journal of Official Statistics 14 (1998); Neyman (1934).
    """
    uniform = (int(digest("sequence", str(seed), task.unit), 16) + 0.5) / 16**16
    return uniform * task.weight


def weights_of(tasks: Sequence[Task], labelled: int) -> dict[str, float]:
    """Return the weights of units that are asked about one after the other, once so many of them are labelled.

    Args:
        tasks: All units of the session, the weight of each the inverse of its size.
        labelled: Units with a label.
    """
    if not labelled:
        return {task.unit: task.weight for task in tasks}
    share = inclusion_probabilities([1.0 / task.weight for task in tasks], min(labelled, len(tasks)))
    return {task.unit: 1.0 / float(one) for task, one in zip(tasks, share, strict=True)}


def a_is_first(seed: int, annotator: str, unit: str) -> bool:
    """Return whether an annotator sees contestant a of a unit first (on the left)."""
    return int(digest("side", str(seed), annotator, unit), 16) % 2 == 0


def order_key(seed: int, annotator: str, unit: str) -> str:
    """Return what an annotator's units are sorted by: a random order of each one's own."""
    return digest("turn", str(seed), annotator, unit)
