"""Rules for steps on a phone's screen, by hand and on real boxes."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perl_eval.stats.action_accuracy import RULES, Match, Screen, action_accuracies, match_action, parse_action

# A button in a row in a list; the gold point is on the button.
SCREEN = Screen(1080, 2400, ((0, 0, 1080, 1200), (0, 500, 1080, 700), (900, 550, 1000, 650)))
GOLD = {"action_type": "click", "x": 950, "y": 600}


def click(x: object, y: object) -> dict[str, object]:
    return {"action_type": "click", "x": x, "y": y}


# 0.04 of the screen is 43.2 px across or 96 px down; 140 of 1000 is 151.2 px across or 336 px down; 14 % of the
# diagonal is 0.14 * 2631.8 = 368.4 px.
@pytest.mark.parametrize(
    ("point", "accepting"),
    [
        ((950, 600), RULES),
        ((990, 640), ("smallest_box", "uground", "any_box", "uis1", "infigui", "os_atlas", "aitw", "diagonal")),
        ((100, 600), ("any_box", "uis1", "infigui", "aitw")),
        ((950, 930), ("any_box", "uis1", "infigui", "os_atlas", "aitw", "diagonal")),
        ((950, 960), ("any_box", "uis1", "infigui", "aitw", "diagonal")),
        ((590, 600), ("any_box", "uis1", "infigui", "aitw", "diagonal")),
        ((100, 1310), ("uis1", "infigui", "aitw")),  # the list enlarged by a tenth of its height ends at 1320
        ((100, 1330), ("aitw",)),
    ],
)
def test_clicks(point: tuple[int, int], accepting: tuple[str, ...]) -> None:
    for rule in RULES:
        assert match_action(click(*point), GOLD, SCREEN, rule) == Match(True, rule in accepting), rule


def test_an_app_may_be_opened_by_its_icon_under_the_rules_of_qwens_script() -> None:
    """As in UI-S1's qwenvl_utils.py: the boxes are the icon's, and without one a click is wrong in type too."""
    opened, home = {"action_type": "open_app", "app_name": "Maps"}, Screen(1080, 2400, ((500, 1000, 600, 1100),))
    for rule in RULES:
        here = rule in ("uis1", "infigui")
        assert match_action(click(550, 1050), opened, home, rule) == Match(here, here)
        assert match_action(click(550, 1500), opened, home, rule) == Match(here, False)
        assert match_action(click(550, 1050), opened, Screen(1080, 2400), rule) == Match(False, False)
        back, start = ({"action_type": f"navigate_{where}"} for where in ("back", "home"))
        assert match_action(back, start, home, rule) == Match(here, False)


def test_no_box_around_the_gold_point_is_unknown_or_wrong_by_the_rule() -> None:
    assert match_action(GOLD, GOLD, Screen(1080, 2400), "smallest_box").step_match is None
    assert match_action(GOLD, GOLD, Screen(1080, 2400), "uground").step_match is False


def test_os_atlas_rounds_points_to_its_grid() -> None:
    # 151.1 px are 139.9 of 1000 across, and one cell of the grid more or less.
    assert match_action(click(151.1, 0), click(0, 0), SCREEN, "os_atlas").step_match is True
    assert match_action(click(152.1, 0), click(0.9, 0), SCREEN, "os_atlas").step_match is True
    assert match_action(click(152.3, 0), click(0.9, 0), SCREEN, "os_atlas").step_match is False


def test_android_world_compares_all_but_case() -> None:
    one, other = ({"action_type": "open_app", "app_name": name} for name in ("Maps", "maps"))
    assert match_action(one, other, SCREEN, "android_world").step_match is True
    assert match_action(click(950, 601), GOLD, SCREEN, "android_world").step_match is False


def test_rules_follow_the_size_of_the_screen() -> None:
    small = Screen(540, 1200)
    assert match_action(click(950, 700), GOLD, Screen(1080, 2400), "uis1").step_match is False
    assert match_action(click(475, 350), click(475, 300), small, "uis1").step_match is False
    assert match_action(click(475, 340), click(475, 300), small, "uis1").step_match is True


def test_what_cannot_be_known_is_none() -> None:
    bare = Screen(1080, 2400)
    assert match_action(GOLD, GOLD, bare, "smallest_box") == Match(True, None, "no candidate box holds the gold point")
    assert match_action(GOLD, GOLD, bare, "any_box") == Match(True, None, "there is no candidate box")
    for rule in ("uis1", "infigui", "os_atlas", "aitw", "diagonal"):
        assert match_action(GOLD, GOLD, Screen(), rule).reason == "the size of the screen is not known"
    assert match_action(GOLD, {"action_type": "click"}, SCREEN, "any_box").reason == "the gold action has no point"
    # The type is known to be wrong all the same.
    assert match_action({"action_type": "wait"}, GOLD, Screen(), "uis1") == Match(False, False)


def test_a_rule_that_can_tell_of_no_step_says_why() -> None:
    matches = [match_action(GOLD, GOLD, Screen(boxes=SCREEN.boxes), "os_atlas")] * 3
    types, steps = action_accuracies(matches, "os_atlas")
    assert types.value == 1.0
    assert (steps.value, steps.n, steps.n_missing) == (None, 0, 3)
    assert steps.reason == "the size of the screen is not known"
    assert action_accuracies([], "os_atlas")[1].reason == "there are no items"


@pytest.mark.parametrize("bad", ["950", None, True, float("nan"), [1]])
def test_a_prediction_without_a_point_is_wrong(bad: object) -> None:
    for rule in RULES:
        assert match_action(click(bad, 600), GOLD, SCREEN, rule) == Match(True, False)
    assert match_action(click(bad, 600), GOLD, Screen(), "os_atlas").step_match is None


def test_a_long_press_is_no_click() -> None:
    assert match_action({**GOLD, "action_type": "long_press"}, GOLD, SCREEN, "any_box") == Match(False, False)


def typed(text: str) -> dict[str, str]:
    return {"action_type": "input_text", "text": text}


@pytest.mark.parametrize(
    ("given", "wanted", "accepting"),
    [
        ("oat milk", "oat milk", RULES),
        ("Oat Milk", "oat milk", ("uis1", "infigui", "os_atlas", "aitw", "diagonal", "android_world")),
        ("oat", "oat milk", ("uis1", "infigui", "aitw")),  # "[oat]" is not "[oat"
        ("oat cream", "oat milk", ("os_atlas", "aitw")),
        ("", "oat milk", ("uis1", "infigui", "aitw")),
        ("tea", "oat milk", ("aitw",)),
    ],
)
def test_texts(given: str, wanted: str, accepting: tuple[str, ...]) -> None:
    for rule in RULES:
        assert match_action(typed(given), typed(wanted), SCREEN, rule) == Match(True, rule in accepting), rule


def test_directions_and_bare_actions() -> None:
    up, down = ({"action_type": "scroll", "direction": direction} for direction in ("up", "down"))
    for rule in RULES:
        assert match_action(up, up, SCREEN, rule).step_match is True
        assert match_action(up, down, SCREEN, rule).step_match is (rule in ("uis1", "aitw"))
        assert match_action({"action_type": "wait"}, {"action_type": "wait"}, SCREEN, rule).step_match is True
        assert match_action({"action_type": "scroll"}, down, SCREEN, rule).step_match is False


@pytest.mark.parametrize(
    "text", ["", "no braces", "{", "}{", "{}", '{"action_type": 3}', "[1]", "{" * 3000 + "}" * 3000]
)
def test_text_without_an_action(text: str) -> None:
    assert parse_action(text) is None
    assert match_action(None, GOLD, SCREEN, "any_box") == Match(False, False, "the answer holds no action")


def test_an_action_amid_text() -> None:
    assert parse_action('I will wait. {"action_type": "wait"}\n') == {"action_type": "wait"}


def test_accuracies() -> None:
    steps = [Match(True, True), Match(True, False), Match(False, False), Match(True, None, "no box")]
    types, right = action_accuracies(steps, "any_box", clusters=["a", "a", "b", "b"])
    assert (types.value, types.n, types.n_missing) == (0.75, 4, 0)
    assert right.value == pytest.approx(1 / 3)
    assert (right.n, right.n_missing) == (3, 1)
    assert right.method == "Wilson, 2 clusters; rule any_box"


# Shares of gold clicks, moved some pixels in a random direction and kept on the screen, that each rule accepts;
# measured elsewhere, with other random numbers.
MEASURED = {
    0: {"smallest_box": 0.954, "any_box": 0.955, "uis1": 0.996, "os_atlas": 0.995, "diagonal": 0.997},
    100: {"smallest_box": 0.417, "any_box": 0.543, "uis1": 0.657, "os_atlas": 0.995, "diagonal": 0.997},
    250: {"smallest_box": 0.149, "any_box": 0.299, "uis1": 0.358, "os_atlas": 0.366, "diagonal": 0.996},
}


@pytest.mark.realdata
@pytest.mark.parametrize("pixels", MEASURED)
def test_how_the_rules_differ_on_real_screens(real_data: Path, pixels: int) -> None:
    rng, n = random.Random(0), 0
    right = dict.fromkeys(MEASURED[pixels], 0)
    with (real_data / "androidcontrol" / "test_text_side.jsonl").open() as handle:
        rows = [json.loads(line) for line in handle]
    for row in rows:
        for text, boxes in zip(row["actions"], row["candidate_bboxes"], strict=True):
            gold, screen = json.loads(text), Screen(1080, 2400, tuple(map(tuple, boxes)))
            if gold["action_type"] != "click":
                continue
            n, angle = n + 1, rng.uniform(0, 2 * math.pi)
            x, y = gold["x"] + pixels * math.cos(angle), gold["y"] + pixels * math.sin(angle)
            moved = click(min(max(x, 0), 1079), min(max(y, 0), 2399))
            for rule in right:
                right[rule] += bool(match_action(moved, gold, screen, rule).step_match)
    assert n == 5074
    for rule, share in MEASURED[pixels].items():
        assert right[rule] / n == pytest.approx(share, abs=0.025), (rule, right[rule] / n)


WIDTH, HEIGHT = 1080, 2400
RADII = (0, 20, 100, 250, 400)


def predictions(real_data: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any], Screen]]:
    """Yield, of every real step, actions near what was done, what was done, and the screen.

    Of each click and long press there is one moved by each of the radii, in a random direction, and kept on the screen;
    of each opened app a click on the middle of the first box, and one 100 pixels beside it; of others the same action.
    """
    rng = random.Random(1)

    def moved(kind: str, x: float, y: float, radius: float) -> dict[str, Any]:
        angle = rng.uniform(0, 2 * math.pi)
        x, y = x + radius * math.cos(angle), y + radius * math.sin(angle)
        return {"action_type": kind, "x": min(max(x, 0), WIDTH - 1), "y": min(max(y, 0), HEIGHT - 1)}

    with (real_data / "androidcontrol" / "test_text_side.jsonl").open() as handle:
        rows = [json.loads(line) for line in handle]
    for row in rows:
        for text, boxes in zip(row["actions"], row["candidate_bboxes"], strict=True):
            gold, screen = json.loads(text), Screen(WIDTH, HEIGHT, tuple(map(tuple, boxes)))
            if gold["action_type"] in ("click", "long_press"):
                said = [moved(gold["action_type"], gold["x"], gold["y"], radius) for radius in RADII]
            elif gold["action_type"] == "open_app" and boxes:
                left, top, right, bottom = boxes[0]
                said = [moved("click", (left + right) / 2, (top + bottom) / 2, radius) for radius in (0, 100)]
            else:
                said = [gold]
            yield from ((one, gold, screen) for one in said)


def by_the_authors(said: dict[str, Any], gold: dict[str, Any], screen: Screen) -> dict[str, bool | None]:
    """Return what the published scripts say of two points, written anew from them on arrays."""
    point, target, size = np.array([said["x"], said["y"]]), np.array([gold["x"], gold["y"]]), np.array([WIDTH, HEIGHT])
    boxes = np.array(screen.boxes, float).reshape(-1, 4)
    corners = boxes[:, :2], boxes[:, 2:]
    holding = ((corners[0] <= target) & (target <= corners[1])).all(1)
    in_each = ((corners[0] <= point) & (point <= corners[1])).all(1)
    areas = np.where(holding, np.prod(corners[1] - corners[0], axis=1), np.inf)
    small = bool(in_each[areas.argmin()]) if holding.any() else None
    grid = [np.floor(1000 * place / size) for place in (point, target)]
    wide = corners[1] - corners[0]
    starts = np.maximum(corners[0] - 0.7 * wide, 0)
    around = [((starts <= place) & (place <= starts + 2.4 * wide)).all(1) for place in (point, target)]
    middles = (corners[0] + corners[1]) / 2
    near = np.linalg.norm((point - target) / size) <= 0.04
    return {
        "smallest_box": small,
        "uground": bool(small),
        "os_atlas": bool(np.linalg.norm(grid[0] - grid[1]) <= 140),
        "os_atlas, no grid": bool(np.linalg.norm(1000 * (point - target) / size) <= 140),
        "aitw": bool(np.linalg.norm((point - target) / size) <= 0.14 or (around[0] & around[1]).any()),
        "diagonal": bool(np.linalg.norm(point - target) <= 0.14 * np.linalg.norm(size)),
        "android_world": bool((point == target).all()),
        "uis1": bool(near or (np.abs(point - middles) <= 0.6 * wide).all(1).any()),
    }


@pytest.mark.realdata
def test_how_many_real_rows_each_correction_of_a_rule_changes(real_data: Path) -> None:
    """Rules that were taken for one another, each held to its script, on the same real steps."""
    counts: Counter[str] = Counter()
    for said, gold, screen in predictions(real_data):
        counts["rows"] += 1
        if said["action_type"] == "click" and gold["action_type"] == "open_app":
            counts["uis1, by the icon"] += bool(match_action(said, gold, screen, "uis1").step_match)
            continue
        if gold["action_type"] not in ("click", "long_press"):
            continue
        wanted = by_the_authors(said, gold, screen)
        for rule in ("smallest_box", "uground", "os_atlas", "aitw", "diagonal", "android_world", "uis1"):
            assert match_action(said, gold, screen, rule).step_match == wanted[rule], (rule, said, gold)
        counts["diagonal is not android_world"] += wanted["diagonal"] != wanted["android_world"]
        counts["diagonal is not aitw"] += wanted["diagonal"] != wanted["aitw"]
        counts["the grid counts"] += wanted["os_atlas"] != wanted["os_atlas, no grid"]
        counts["smallest_box does not know"] += wanted["smallest_box"] is None
    assert counts == {
        "rows": 28857,
        "diagonal is not android_world": 16533,
        "diagonal is not aitw": 3238,
        "uis1, by the icon": 162,
        "the grid counts": 13,
        "smallest_box does not know": 1055,
    }
