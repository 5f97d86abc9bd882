"""Episodes of AndroidControl from upstream's TFRecords, or from JSON lines of their text side."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_builders import reading
from datasets_builders.android_actions import Action, Box, Step, area, boxes_at
from datasets_builders.errors import DataError
from datasets_builders.tfrecord import WireError, features_of, parse_forest, records, values_of

__all__ = ["Episode", "episode_ids", "text_episodes", "tfrecord_episodes"]

_NAMES = frozenset(
    {
        *("episode_id", "goal", "actions", "step_instructions"),
        *("screenshots", "accessibility_trees", "screenshot_widths", "screenshot_heights"),
    }
)
_EMPTY = memoryview(b"")
_TEXT_KEYS = frozenset({"episode_id", "goal", "actions", "step_instructions", "candidate_bboxes"})


@dataclass(frozen=True, slots=True)
class Episode:
    """One demonstration: a goal and the steps towards it; a few upstream have no step."""

    id: int
    goal: str
    steps: tuple[Step, ...]


def episode_ids(path: Path, *, file: str) -> dict[str, frozenset[int]]:
    """Read splits.json or test_subsplits.json: an object of lists of episode ids.

    Raises:
        DataError: It is not.
    """
    content = reading.parse_object(path.read_bytes(), file=file, row=0)
    if not isinstance(content, dict):
        raise DataError("is not an object of lists of episode ids", file)
    for name, ids in content.items():
        if not isinstance(ids, list) or any(type(one) is not int for one in ids):
            raise DataError("is not a list of episode ids", file, field=name)
    return {name: frozenset(ids) for name, ids in content.items()}


def tfrecord_episodes(
    path: Path, *, file: str, wanted: Collection[int], screenshots: bool, trees: bool
) -> Iterator[tuple[int, Episode | int]]:
    """Yield the episodes of one upstream shard.

    Args:
        path: The shard.
        file: Its upstream name, for messages.
        wanted: The episodes to read; of the others the id alone is read.
        screenshots: Whether to keep the pictures, as they are encoded.
        trees: Whether to read the accessibility trees, for the boxes of elements.

    Yields:
        The record's number, and the episode or, where it is not wanted, its id.

    Raises:
        DataError: The file is damaged or an episode is not of upstream's form.
    """
    for row, record in enumerate(records(path, file=file)):
        try:
            example = features_of(record)
            if unknown := example.keys() - _NAMES:
                raise WireError(f"unexpected feature {min(unknown)!r}; upstream has changed its format")
            [id_] = _integers(example, "episode_id", 1)
            if id_ not in wanted:
                yield row, id_
                continue
            yield row, _episode(id_, example, screenshots=screenshots, trees=trees)
        except (ValueError, RecursionError) as error:
            raise DataError(str(error), file, row) from None


def _integers(example: Mapping[str, memoryview], name: str, count: int) -> list[int]:
    values = values_of(example.get(name, _EMPTY))
    numbers = [value for value in values if isinstance(value, int)]
    if len(values) != count or len(numbers) != count:
        raise WireError(f"feature {name!r} has {len(values)} values or not integers, expected {count}")
    return numbers


def _strings(example: Mapping[str, memoryview], name: str, count: int | None = None) -> list[bytes]:
    values = values_of(example.get(name, _EMPTY))
    strings = [value for value in values if isinstance(value, bytes)]
    if len(strings) != len(values) or len(values) != (len(values) if count is None else count):
        raise WireError(f"feature {name!r} has {len(values)} values or not bytes, expected {count}")
    return strings


def _episode(id_: int, example: Mapping[str, memoryview], *, screenshots: bool, trees: bool) -> Episode:
    [goal] = _strings(example, "goal", 1)
    actions = [Action.parse(json.loads(action)) for action in _strings(example, "actions")]
    count = len(actions)
    instructions = _strings(example, "step_instructions", count)
    screens = count + 1  # the last screen is the one after the last action
    widths, heights = (_integers(example, f"screenshot_{side}", screens) for side in ("widths", "heights"))
    pictures = _strings(example, "screenshots", screens) if screenshots else [None] * count
    forests = _strings(example, "accessibility_trees", screens) if trees else [b""] * count
    steps = []
    for index, action in enumerate(actions):
        nodes = tuple(node for node in parse_forest(forests[index]) if node.visible)
        steps.append(
            Step(
                action=action,
                instruction=instructions[index].decode("utf-8"),
                width=widths[index],
                height=heights[index],
                boxes=boxes_at(nodes, action),
                nodes=nodes,
                screenshot=pictures[index],
            )
        )
    return Episode(id_, goal.decode("utf-8"), tuple(steps))


def text_episodes(path: Path, *, file: str) -> Iterator[tuple[int, Episode]]:
    """Yield the episodes of a file of JSON lines: no pictures, no screen sizes, of boxes those at the actions.

    Each line has ``episode_id``, ``goal`` and, one entry a step, ``actions`` (JSON text), ``step_instructions`` and
    ``candidate_bboxes`` (lists of left, top, right, bottom).

    Raises:
        DataError: A line is not of this form.
    """
    for row, record in reading.json_lines(path, file=file):
        reading.check_keys(record, _TEXT_KEYS, file=file, row=row)
        if type(record["episode_id"]) is not int or not isinstance(record["goal"], str):
            raise DataError("episode_id is not an integer or goal no text", file, row)
        try:
            steps = [
                Step(Action.parse(json.loads(action)), _text(instruction), boxes=_boxes(boxes))
                for action, instruction, boxes in zip(
                    record["actions"], record["step_instructions"], record["candidate_bboxes"], strict=True
                )
            ]
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(str(error), file, row) from None
        yield row, Episode(record["episode_id"], record["goal"], tuple(steps))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"an instruction is not text: {str(value)[:80]}")
    return value


def _boxes(value: Sequence[Sequence[int]]) -> tuple[Box, ...]:
    boxes = []
    for left, top, right, bottom in value:
        if not all(type(side) is int for side in (left, top, right, bottom)):
            raise ValueError(f"a box is not four integers: {str(value)[:80]}")
        boxes.append((left, top, right, bottom))
    return tuple(sorted(boxes, key=lambda box: (area(box), box)))
