"""Rewards by rule, for tasks with known answers: what `train policy` can maximise without a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perl_eval.errors import UserError
from perl_eval.models.generate import Rollout
from perl_eval.sources.rows import Row
from perl_eval.stats.action_accuracy import Screen, match_action, parse_action
from perl_eval.stats.vqa_accuracy import vqa_accuracy

__all__ = ["action", "vqa"]


def vqa(rows: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
    """Return the official VQA accuracy of each answer, in [0, 1], by the row's column ``answers``.

    Raises:
        UserError: A row has no people's answers.
    """
    return [
        vqa_accuracy(rollout.text, [str(one["answer"]) for one in _column(row, "answers")])
        for row, rollout in zip(rows, rollouts, strict=True)
    ]


def action(rows: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
    """Return 1 for each action that is right under the rule of the smallest box, and 0 for every other answer.

    A step that the rule cannot tell (a click without known boxes) is 0, so its prompts pull nowhere.

    Raises:
        UserError: A row has no action.
    """
    found = []
    for row, rollout in zip(rows, rollouts, strict=True):
        right = {name: value for name, value in _column(row, "action").items() if value is not None}
        boxes = tuple(tuple(map(float, box)) for box in row.more.get("candidate_boxes") or ())
        screen = Screen(row.more.get("screen_width"), row.more.get("screen_height"), boxes)  # type: ignore[arg-type]
        match = match_action(parse_action(rollout.text), right, screen, "smallest_box")
        found.append(float(bool(match.step_match)))
    return found


def _column(row: Row, name: str) -> Any:
    if not row.more.get(name):
        raise UserError(f"row {row.id} has no {name}, which the reward goes by", "give rows of the task it is for")
    return row.more[name]
