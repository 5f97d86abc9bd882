"""Whether a step on a phone's screen is right, under the rules that published evaluations use.

Actions are AndroidControl's JSON objects: ``action_type`` and, as the type needs, ``x`` and ``y`` in pixels,
``direction``, ``text`` or ``app_name``. The rules differ most in which clicks they accept, and step accuracies under
different rules must not be compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, isfinite
from typing import Any, Literal, get_args

from perl_eval import figure_names as named
from perl_eval.records import Estimate
from perl_eval.stats.bootstrap import Clusters
from perl_eval.stats.intervals import proportion

__all__ = ["RULES", "Match", "Rule", "Screen", "action_accuracies", "match_action", "parse_action"]

Rule = Literal[
    "smallest_box",
    "uground",
    "any_box",
    "uis1",
    "infigui",
    "os_atlas",
    "aitw",
    "diagonal",
    "android_world",
    "exact",
]
RULES: tuple[Rule, ...] = get_args(Rule)
Action = Mapping[str, Any]
Point = tuple[float, float]
Box = tuple[float, float, float, float]
_POINTED = ("click", "long_press")
_BUTTONS = ("navigate_back", "navigate_home")
_QWEN: tuple[Rule, ...] = ("uis1", "infigui")
"""Rules that descend from the script of Qwen2.5-VL: buttons are one type, and an app may be opened by its icon."""
_FIELDS = ("direction", "text", "app_name", "keycode", "index", "goal_status")


@dataclass(frozen=True, slots=True)
class Screen:
    """What is known of the screen that the action is on.

    Attributes:
        width: In pixels, where known.
        height: In pixels, where known.
        boxes: Candidate elements as ``(left, top, right, bottom)`` in pixels.
    """

    width: float | None = None
    height: float | None = None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """Whether a step has the right type, and whether it is right; None where that cannot be known."""

    type_match: bool
    step_match: bool | None
    reason: str | None = None


class _Unknown(Exception):
    """The rule needs something that the data lack."""


def parse_action(text: str) -> Action | None:
    """Read an action from a model's text: the JSON object in it, or None if there is none with an ``action_type``."""
    begin, end = text.find("{"), text.rfind("}")
    if begin < 0 or end < begin:
        return None
    try:
        found = json.loads(text[begin : end + 1])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("action_type"), str) else None


def match_action(predicted: Action | None, gold: Action, screen: Screen, rule: Rule) -> Match:
    """Compare a predicted action with the one that was taken.

    Clicks and long presses are right if they fall
        ``smallest_box``: in the smallest box that holds the gold point, unknown where none does; ``uground``: the same,
        wrong where none does (UGround); ``any_box``: in any candidate box; ``uis1``: in any candidate box enlarged 1.2
        times, or within 0.04 of the gold point in shares of the screen (UI-S1); ``infigui``: the same box, or within
        0.04 of the screen's longer side in pixels (InfiGUI-R1); ``os_atlas``: within 140 of the gold point on a grid of
        1000 by 1000, points rounded down to it (OS-Atlas); ``aitw``: within 0.14 in shares of the screen, or in a box
        that holds the gold point too, boxes enlarged by 1.4 times their size (Android in the Wild); ``diagonal``:
        within 14 % of the screen's diagonal in pixels; ``android_world`` and ``exact``: on the very same pixel.
    Other actions must be equal, but for: ``uis1`` and ``infigui`` take a text that contains or is contained in the gold
    text, the empty one included, and a click on the box of an app's icon where the app was opened; ``uis1`` takes any
    scroll direction; ``os_atlas`` takes a text whose first word is right; ``aitw`` takes any text, and any scroll along
    the same axis; ``android_world`` and ``diagonal`` ignore case.

    Args:
        predicted: The action to score; None if the answer held none, which is wrong.
        gold: The action taken.
        screen: Its size and candidate elements.
        rule: Which rule.

    Source: the authors' evaluation code: OSU-NLP-Group/UGround offline_evaluation/AndroidControl/eval.py;
        X-PLUG/MobileAgent UI-S1/evaluation/qwenvl_utils.py; OS-Atlas eval_scripts/android_control/evaluation_unify.py;
        google-research android_in_the_wild/action_matching.py; google-research/android_world env/json_action.py.

    Deviations: UGround's equivalence of opening an app and clicking its icon, and of back and its button, needs the
        texts of elements and is left out.
    """
    if predicted is None:
        return Match(False, False, "the answer holds no action")
    kind, said = gold["action_type"], predicted.get("action_type")
    try:
        if said != kind:
            return _other_type(predicted, gold, screen, rule)
        if kind in _POINTED:
            return Match(True, _points_match(predicted, gold, screen, rule))
        return Match(True, _fields_match(predicted, gold, rule))
    except _Unknown as unknown:
        return Match(True, None, str(unknown))


def _other_type(predicted: Action, gold: Action, screen: Screen, rule: Rule) -> Match:
    """Compare actions of two types: wrong, but that Qwen's script lets an app be opened by its icon."""
    said, kind = predicted.get("action_type"), gold["action_type"]
    if rule not in _QWEN:
        return Match(False, False)
    if said in _BUTTONS and kind in _BUTTONS:
        return Match(True, False)
    if kind != "open_app" or said != "click" or not screen.boxes:
        return Match(False, False)
    first, point = screen.boxes[0], _point(predicted)
    middle = (first[0] + first[2]) / 2, (first[1] + first[3]) / 2
    return Match(True, point is not None and _CLICK_RULES[rule](point, middle, screen))


def _point(action: Action) -> Point | None:
    x, y = action.get("x"), action.get("y")
    if isinstance(x, bool) or isinstance(y, bool) or not isinstance(x, int | float) or not isinstance(y, int | float):
        return None
    return (float(x), float(y)) if isfinite(x) and isfinite(y) else None


def _points_match(predicted: Action, gold: Action, screen: Screen, rule: Rule) -> bool:
    target = _point(gold)
    if target is None:
        raise _Unknown("the gold action has no point")
    point = _point(predicted)
    return _CLICK_RULES[rule](point, target, screen) if point is not None else _known(rule, target, screen)


def _known(rule: Rule, target: Point, screen: Screen) -> bool:
    """Return that a prediction without a point is wrong, if the rule could have told at all."""
    _CLICK_RULES[rule](target, target, screen)
    return False


def _inside(point: Point, box: Box) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _smallest_box(point: Point, target: Point, screen: Screen) -> bool:
    holding = [box for box in screen.boxes if _inside(target, box)]
    if not holding:
        raise _Unknown("no candidate box holds the gold point")
    return _inside(point, min(holding, key=lambda box: (box[2] - box[0]) * (box[3] - box[1])))


def _smallest_box_or_wrong(point: Point, target: Point, screen: Screen) -> bool:
    return any(_inside(target, box) for box in screen.boxes) and _smallest_box(point, target, screen)


def _any_box(point: Point, _target: Point, screen: Screen) -> bool:
    if not screen.boxes:
        raise _Unknown("there is no candidate box")
    return any(_inside(point, box) for box in screen.boxes)


def _size(screen: Screen) -> tuple[float, float]:
    if not screen.width or not screen.height:
        raise _Unknown("the size of the screen is not known")
    return screen.width, screen.height


def _share_apart(point: Point, target: Point, screen: Screen) -> float:
    """Return the distance of two points in shares of the screen's width and height."""
    width, height = _size(screen)
    return hypot((point[0] - target[0]) / width, (point[1] - target[1]) / height)


def _uis1(point: Point, target: Point, screen: Screen) -> bool:
    near = _share_apart(point, target, screen) <= 0.04
    return near or any(_inside(point, _enlarged(box, 1.2)) for box in screen.boxes)


def _infigui(point: Point, target: Point, screen: Screen) -> bool:
    near = hypot(point[0] - target[0], point[1] - target[1]) <= 0.04 * max(_size(screen))
    return near or any(_inside(point, _enlarged(box, 1.2)) for box in screen.boxes)


def _enlarged(box: Box, factor: float) -> Box:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half_width, half_height = (box[2] - box[0]) * factor / 2, (box[3] - box[1]) * factor / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def _os_atlas(point: Point, target: Point, screen: Screen) -> bool:
    (width, height), cells = _size(screen), []
    for x, y in (point, target):
        cells.append((int(1000 * x / width), int(1000 * y / height)))
    return hypot(cells[0][0] - cells[1][0], cells[0][1] - cells[1][1]) <= 140


def _aitw(point: Point, target: Point, screen: Screen) -> bool:
    if _share_apart(point, target, screen) <= 0.14:
        return True
    return any(_inside(point, box) and _inside(target, box) for box in map(_around, screen.boxes))


def _around(box: Box) -> Box:
    """Return a box with 1.4 times its size added, from the edge of the screen on; the size is added whole there too."""
    width, height = 2.4 * (box[2] - box[0]), 2.4 * (box[3] - box[1])
    left = max(0.0, box[0] - 0.7 * (box[2] - box[0]))
    top = max(0.0, box[1] - 0.7 * (box[3] - box[1]))
    return left, top, left + width, top + height


def _near_on_the_screen(point: Point, target: Point, screen: Screen) -> bool:
    return hypot(point[0] - target[0], point[1] - target[1]) <= 0.14 * hypot(*_size(screen))


def _same_pixel(point: Point, target: Point, _screen: Screen) -> bool:
    return point == target


_CLICK_RULES: Mapping[Rule, Callable[[Point, Point, Screen], bool]] = {
    "smallest_box": _smallest_box,
    "uground": _smallest_box_or_wrong,
    "any_box": _any_box,
    "uis1": _uis1,
    "infigui": _infigui,
    "os_atlas": _os_atlas,
    "aitw": _aitw,
    "diagonal": _near_on_the_screen,
    "android_world": _same_pixel,
    "exact": _same_pixel,
}


def _fields_match(predicted: Action, gold: Action, rule: Rule) -> bool:
    return all(_field_matches(predicted.get(field), gold.get(field), field, rule) for field in _FIELDS)


_ALONG = {"up": "y", "down": "y", "left": "x", "right": "x"}
"""The axis of a scroll."""


def _field_matches(given: Any, wanted: Any, field: str, rule: Rule) -> bool:
    if given == wanted:
        return True
    if not isinstance(given, str) or not isinstance(wanted, str):
        return False
    if field == "direction":
        along = _ALONG.get(given, given), _ALONG.get(wanted, wanted)
        return rule == "uis1" or (rule == "aitw" and along[0] == along[1])
    return field in ("text", "app_name") and _text_matches(given, wanted, field, rule)


def _text_matches(given: str, wanted: str, field: str, rule: Rule) -> bool:
    if rule == "aitw":
        return field == "text"
    if rule in ("android_world", "diagonal"):
        return given.lower() == wanted.lower()
    if rule in _QWEN:
        one, other = given.lower().strip(), wanted.lower().strip()
        return one in other or other in one
    # OS-Atlas's published code compares the second word of "TYPE [the text]", bracket and all.
    return rule == "os_atlas" and f"[{given}]".lower().split()[0] == f"[{wanted}]".lower().split()[0]


def action_accuracies(
    matches: Sequence[Match], rule: Rule, *, clusters: Clusters = None, level: float = 0.95
) -> list[Estimate]:
    """Estimate the shares of steps with the right type, and that are right.

    Args:
        matches: From `match_action`, one a step. A step that cannot be known is counted as missing.
        rule: The rule they were made with; it goes into the method of the latter.
        clusters: What shares a source: the episode.
        level: Confidence level.
    """
    known = [place for place, match in enumerate(matches) if match.step_match is not None]
    groups = None if clusters is None else [clusters[place] for place in known]
    missing = len(matches) - len(known)
    hits = [bool(matches[place].step_match) for place in known]
    steps = proportion(named.ACTION_STEP_MATCH, hits, clusters=groups, n_missing=missing, level=level)
    if matches and not known:
        steps = replace(steps, reason=matches[0].reason)
    types = proportion(named.ACTION_TYPE_MATCH, [match.type_match for match in matches], clusters=clusters, level=level)
    return [types, replace(steps, method=f"{steps.method}; rule {rule}")]
