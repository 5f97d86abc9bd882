"""AndroidControl's actions, the steps they belong to, and wrong actions made for a step.

Upstream has no wrong actions. Those made here are wrong for certain, or not made: whatever one of the known readings of
"correct" might accept (a click on the app's icon for opening the app, a click on a back arrow for going back, a point
in any box around the target, a text that contains the right one, the direction that the instruction names) is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from datasets_builders.splits import fraction
from datasets_builders.tfrecord import Node

__all__ = ["KINDS", "Action", "Box", "Step", "area", "boxes_at", "is_wrong", "wrong_action", "wrong_actions"]

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the sides belong to it."""

DIRECTIONS = ("up", "down", "left", "right")
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "click": ("x", "y"),
    "long_press": ("x", "y"),
    "scroll": ("direction",),
    "open_app": ("app_name",),
    "input_text": ("text",),
    "type": ("text", "x", "y"),
    "navigate_home": (),
    "navigate_back": (),
    "wait": (),
}
_POINTING = frozenset({"click", "long_press"})
_ALIKE = frozenset(
    {
        frozenset({"open_app", "click"}),
        frozenset({"open_app", "navigate_home"}),
        frozenset({"navigate_back", "click"}),
        frozenset({"navigate_back", "navigate_home"}),
        frozenset({"input_text", "type"}),
        frozenset({"click", "type"}),
    }
)
"""Types that can do the same thing, so that one in place of the other need not be wrong."""
_LEAVING = re.compile(r"\b(back|close|cancel|exit|return|previous|dismiss|cross|arrow|x|leave|quit)\b", re.IGNORECASE)
_PUNCTUATION = " .,;:!?\"'()-"
_FILLERS = frozenset(
    (
        *("a", "an", "the", "this", "that", "my", "our", "your", "i", "me", "you", "it", "its", "is", "are", "was"),
        *("be", "am", "can", "could", "would", "should", "do", "in", "on", "at", "of", "for", "to", "from", "by"),
        *("with", "and", "or", "as", "so", "about", "into", "over", "under", "up", "out", "then", "than", "app"),
        *("want", "need", "like", "please", "open", "search", "find"),
    )
)
"""Words that nobody would type first or last."""
_WORD = re.compile(r"\S+")
_APPS = (
    *("Maps", "Kitchen Stories", "Pinterest", "Artsy", "Arts & Culture", "Flipboard", "Guardian", "NYTimes", "CNN"),
    *("The Hindu", "Artier", "Google News", "SmartNews", "BBC News", "Amazon", "DeviantArt", "TOI", "Reuters"),
    *("Stellarium", "Yummly", "Sketchar", "Clock", "Drive", "SideChef", "Behance", "Flipkart", "ZINIO", "Vimeo"),
    *("PENUP", "Omio", "Calendar", "Keep Notes", "Khan Academy", "Weather", "Gmail", "Decathlon", "Cafeyn"),
)
"""The apps that open_app steps name most often upstream."""
_KEYBOARD = 2
KINDS: Mapping[str, int] = {
    "other_element": 3,
    "other_step": 3,
    "wrong_text": 3,
    "wrong_app": 3,
    "wrong_direction": 1,
    "wrong_type": 1,
}
"""How a wrong action came to be, and the weight of each kind among those that can be made for a step.

The weights keep the shares of types and directions among wrong actions near those among right ones, so that the type
alone says little about the label.
"""


@dataclass(frozen=True, slots=True)
class Action:
    """One action; arguments that its type does not have are None. ``x`` and ``y`` are pixels of the screenshot."""

    action_type: str
    x: int | None = None
    y: int | None = None
    direction: str | None = None
    app_name: str | None = None
    text: str | None = None

    @classmethod
    def parse(cls, content: object) -> Action:
        """Read an action as upstream has it, an object of ``action_type`` and the arguments of that type.

        Raises:
            ValueError: It is no such object.
        """
        if not isinstance(content, dict):
            raise ValueError(f"an action is not an object: {str(content)[:80]}")
        kind = str(content.get("action_type"))
        if kind not in _ARGUMENTS:
            raise ValueError(f"unknown action_type {kind[:80]!r}")
        names = _ARGUMENTS[kind]
        if content.keys() != {"action_type", *names}:
            raise ValueError(f"{kind} has keys {sorted(map(str, content))}, expected action_type, {', '.join(names)}")
        for name in names:
            wanted = int if name in ("x", "y") else str
            if type(content[name]) is not wanted:
                raise ValueError(f"{name} of {kind} is {str(content[name])[:80]!r}, expected {wanted.__name__}")
        if kind == "scroll" and content["direction"] not in DIRECTIONS:
            raise ValueError(f"unknown direction {content['direction'][:80]!r}")
        return cls(**content)

    def row(self) -> dict[str, str | int | None]:
        """Return all six fields."""
        return asdict(self)

    def text_form(self) -> str:
        """Return the action as JSON text: its type and the arguments of that type."""
        arguments = {name: getattr(self, name) for name in _ARGUMENTS[self.action_type]}
        return json.dumps({"action_type": self.action_type, **arguments}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an episode.

    Attributes:
        action: What the demonstrator did.
        instruction: What the step is, in words; several steps in a row can share one.
        width: Of the screen in pixels, None where unknown.
        height: Likewise.
        boxes: Of elements at the action's place, smallest first; empty where there are none or none are known.
        nodes: All visible elements; empty where they were not read.
        screenshot: The encoded picture before the action, None where it was not read.
    """

    action: Action
    instruction: str
    width: int | None = None
    height: int | None = None
    boxes: tuple[Box, ...] = ()
    nodes: tuple[Node, ...] = ()
    screenshot: bytes | None = None

    @property
    def target_box(self) -> Box | None:
        """The smallest element under a click or long press, where known."""
        x, y = self.action.x, self.action.y
        if self.action.action_type not in _POINTING or x is None or y is None:
            return None
        return next((box for box in self.boxes if _holds(box, x, y)), None)


def area(box: Box) -> int:
    """Return a box's area in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _holds(box: Box, x: int, y: int) -> bool:
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _apart(one: Box, other: Box) -> bool:
    return one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


def boxes_at(nodes: Sequence[Node], action: Action) -> tuple[Box, ...]:
    """Return the boxes of the elements that an action is about, smallest first.

    For a click or long press those that hold its point; for open_app those labelled with the app's name.
    """
    if action.action_type in _POINTING and action.x is not None and action.y is not None:
        found = {node.box for node in nodes if _holds(node.box, action.x, action.y)}
    elif action.app_name is not None:
        name = _plain(action.app_name)
        found = {node.box for node in nodes if _plain(node.label) == name}
    else:
        found = set()
    return tuple(sorted((box for box in found if area(box) > 0), key=lambda box: (area(box), box)))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _accepting(step: Step) -> list[Box]:
    """Return the boxes in which a click would do the same: the smallest, and what around it takes clicks.

    Where no elements were read, nobody knows what takes clicks: all boxes count.
    """
    if not step.nodes:
        return list(step.boxes)
    clickable = {node.box for node in step.nodes if node.clickable}
    return [box for index, box in enumerate(step.boxes) if index == 0 or box in clickable]


def is_wrong(action: Action, step: Step) -> bool:
    """Return whether an action is wrong for a step beyond doubt."""
    right, kind = step.action, action.action_type
    if kind != right.action_type:
        if kind == "navigate_back" and right.action_type == "click":
            return not _LEAVING.search(step.instruction)
        return frozenset({kind, right.action_type}) not in _ALIKE
    if kind in _POINTING:
        x, y, boxes = action.x or 0, action.y or 0, _accepting(step)
        return bool(boxes) and not any(_holds(box, x, y) for box in boxes)
    if kind == "scroll":
        named = re.search(rf"\b{action.direction}", step.instruction, re.IGNORECASE)
        return action.direction != right.direction and named is None
    if kind in ("open_app", "input_text"):
        said, wanted = (_plain(one.app_name or one.text or "") for one in (action, right))
        return said not in wanted and wanted not in said
    return False


def _other_elements(step: Step) -> Iterator[Action]:
    """Yield the same gesture on other elements: visible, clickable, off the keyboard, of another label, apart."""
    boxes = _accepting(step)
    if step.action.action_type not in _POINTING or not boxes:
        return
    labels = {_plain(node.label) for node in step.nodes if node.box in boxes} - {""}
    for node in step.nodes:
        left, top, right, bottom = node.box
        x, y = (left + right) // 2, (top + bottom) // 2
        on_screen = 0 <= x < (step.width or x + 1) and 0 <= y < (step.height or y + 1)
        usable = node.clickable and node.window_type != _KEYBOARD and area(node.box) > 0 and on_screen
        if usable and _plain(node.label) not in labels and all(_apart(node.box, box) for box in boxes):
            yield Action(step.action.action_type, x=x, y=y)


def _other_types(step: Step, others: Sequence[Action]) -> list[Action]:
    """Return actions of other types: those of other steps or, if none of them is wrong here, what needs no argument.

    No long_press and navigate_home, which are hardly ever right upstream, and no scroll but down, which most are: a
    wrong action of a rare type or direction would give itself away.
    """
    free = [Action("scroll", direction="down"), Action("wait"), Action("navigate_back")]
    if step.action.action_type == "long_press":
        free.append(Action("click", x=step.action.x, y=step.action.y))
    for actions in (others, free):
        different = [one for one in actions if one.action_type != step.action.action_type and is_wrong(one, step)]
        if different:
            return different
    return []


def _other_texts(step: Step, goal: str) -> Iterator[Action]:
    """Yield as many words in a row of the goal as the right text has, none of them in it."""
    wanted = (step.action.text or "").split()
    taken = {_letters(word) for word in wanted}
    words = list(_WORD.finditer(goal))
    for first, last in zip(words, words[max(len(wanted), 1) - 1 :], strict=False):
        text = goal[first.start() : last.end()].strip(_PUNCTUATION)
        said = [_letters(word) for word in text.split()]
        if said and not taken & set(said) and not {said[0], said[-1]} & _FILLERS:
            yield Action("input_text", text=text)


def _letters(word: str) -> str:
    return re.sub(r"\W", "", word.casefold())


def wrong_actions(step: Step, *, goal: str, episode: Sequence[Step]) -> dict[str, list[Action]]:
    """Return the wrong actions that can be made for a step, by kind; kinds that cannot be are left out.

    Args:
        step: The step.
        goal: The episode's goal.
        episode: All steps of the episode. Steps of the same instruction lend no action: each may be right for it.
    """
    kind = step.action.action_type
    others = [one.action for one in episode if _plain(one.instruction) != _plain(step.instruction)]
    made: dict[str, Iterable[Action]] = {
        "other_element": _other_elements(step),
        "other_step": (action for action in others if action.action_type == kind),
        "wrong_type": _other_types(step, others),
    }
    if kind == "input_text":
        made["wrong_text"] = _other_texts(step, goal)
    elif kind == "open_app":
        spoken = _plain(f"{goal} {step.instruction}")
        made["wrong_app"] = (Action(kind, app_name=app) for app in _APPS if _plain(app) not in spoken)
    elif kind == "scroll":
        made["wrong_direction"] = (Action(kind, direction=direction) for direction in DIRECTIONS)
    wrong = {name: [one for one in dict.fromkeys(made[name]) if is_wrong(one, step)] for name in KINDS if name in made}
    return {name: actions for name, actions in wrong.items() if actions}


def wrong_action(step: Step, *, goal: str, episode: Sequence[Step], key: Sequence[str]) -> tuple[str, Action] | None:
    """Choose a wrong action for a step: a kind by weight among those that can be made, then an action of it.

    Args:
        step: The step.
        goal: The episode's goal.
        episode: All steps of the episode.
        key: What the choice hangs on, and nothing else: a seed and the step's id.

    Returns:
        The kind, one of `KINDS`, and the action; None if nothing is wrong beyond doubt.
    """
    choices = wrong_actions(step, goal=goal, episode=episode)
    if not choices:
        return None
    weighted = [kind for kind in choices for _ in range(KINDS[kind])]
    kind = weighted[int(fraction(*key, "kind") * len(weighted))]
    return kind, choices[kind][int(fraction(*key, kind) * len(choices[kind]))]
