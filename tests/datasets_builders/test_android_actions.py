"""AndroidControl's actions: what is wrong, and the wrong actions that are made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from android_writer import CLICK, GOAL, OPEN, SCROLL, TYPE
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_builders.android_actions import Action, Step, boxes_at, is_wrong, wrong_action, wrong_actions
from datasets_builders.tfrecord import Node

# What is wrong.


def step(
    action: dict[str, Any], instruction: str = "Go on", *, boxes: Sequence[tuple[int, int, int, int]] = ()
) -> Step:
    return Step(Action.parse(action), instruction, boxes=tuple(boxes))


@pytest.mark.parametrize(
    ("right", "instruction", "said", "wrong"),
    [
        # Whatever a known reading of "correct" accepts is not called wrong.
        (OPEN, "Open Files", CLICK, False),
        (OPEN, "Open Files", {"action_type": "open_app", "app_name": "files "}, False),
        (OPEN, "Open Files", {"action_type": "open_app", "app_name": "Files by Google"}, False),
        (OPEN, "Open Files", {"action_type": "open_app", "app_name": "Maps"}, True),
        ({"action_type": "navigate_back"}, "Go back", CLICK, False),
        ({"action_type": "navigate_back"}, "Go back", {"action_type": "navigate_home"}, False),
        ({"action_type": "navigate_back"}, "Go back", {"action_type": "navigate_back"}, False),
        ({"action_type": "navigate_back"}, "Go back", SCROLL, True),
        (CLICK, "Close the page", {"action_type": "navigate_back"}, False),
        (CLICK, "Click on Flowers", {"action_type": "navigate_back"}, True),
        (SCROLL, "Swipe up", {"action_type": "scroll", "direction": "up"}, False),
        (SCROLL, "Swipe up", {"action_type": "scroll", "direction": "left"}, True),
        (SCROLL, "Read on", {"action_type": "scroll", "direction": "up"}, True),
        (SCROLL, "Read on", SCROLL, False),
        (TYPE, "Type Flora", {"action_type": "input_text", "text": "flora"}, False),
        (TYPE, "Type Flora", {"action_type": "input_text", "text": ""}, False),
        (TYPE, "Type Flora", {"action_type": "type", "text": "Flora", "x": 1, "y": 2}, False),
        (TYPE, "Type Flora", {"action_type": "input_text", "text": "Fauna"}, True),
        ({"action_type": "wait"}, "Wait", {"action_type": "wait"}, False),
        ({"action_type": "wait"}, "Wait", SCROLL, True),
    ],
)
def test_wrong_means_wrong_beyond_doubt(
    right: dict[str, Any], instruction: str, said: dict[str, Any], wrong: bool
) -> None:
    assert is_wrong(Action.parse(said), step(right, instruction)) is wrong


def test_a_click_is_wrong_outside_all_boxes_and_unknown_where_there_are_none() -> None:
    elsewhere = Action("click", x=30, y=36)
    assert is_wrong(elsewhere, step(CLICK, boxes=[(10, 25, 50, 35)]))
    assert not is_wrong(elsewhere, step(CLICK, boxes=[(10, 25, 50, 35), (0, 20, 100, 36)]))
    assert not is_wrong(elsewhere, step(CLICK))


def test_open_app_has_the_boxes_of_icons_with_its_name() -> None:
    nodes = [Node((0, 0, 10, 10), "Files", True, True, 1), Node((20, 0, 30, 10), "Maps", True, True, 1)]
    assert boxes_at(nodes, Action.parse(OPEN)) == ((0, 0, 10, 10),)
    assert Step(Action.parse(OPEN), "Open Files", boxes=((0, 0, 10, 10),)).target_box is None


def test_wrong_texts_are_words_of_the_goal_that_the_right_text_has_not() -> None:
    goal = "Send 'Red Roses' to Ann Lee."
    made = wrong_actions(step({"action_type": "input_text", "text": "ann lee"}, "Type the name"), goal=goal, episode=[])
    # Two words in a row, neither of them Ann or Lee, neither end a filler word: "to" ends "Roses' to".
    assert [action.text for action in made["wrong_text"]] == ["Send 'Red", "Red Roses"]


def nodes_of(*elements: tuple[tuple[int, int, int, int], str, bool, int]) -> tuple[Node, ...]:
    return tuple(Node(box, label, clickable, True, window) for box, label, clickable, window in elements)


def test_other_elements_are_apart_from_all_that_would_do_the_same() -> None:
    nodes = nodes_of(
        ((0, 20, 100, 40), "", True, 1),  # the row
        ((10, 25, 50, 35), "Flowers", False, 1),  # its label, under the click
        ((80, 25, 95, 35), "Star", True, 1),  # in the row
        ((0, 35, 100, 90), "Overlay", True, 1),  # its middle is outside the row, its edge is not
        ((0, 150, 10, 160), "q", True, 2),  # a key of the keyboard
        ((60, 60, 60, 90), "Line", True, 1),  # no area
        ((90, 100, 130, 120), "Edge", True, 1),  # its middle is off the screen
        ((0, 100, 40, 120), "Rename", True, 1),
    )
    action = Action.parse(CLICK)
    one = Step(action, "Click on Flowers", 100, 200, boxes_at(nodes, action), nodes)
    made = wrong_actions(one, goal=GOAL, episode=[one])["other_element"]
    assert made == [Action("click", x=20, y=110)]


def test_steps_of_the_same_instruction_lend_no_action() -> None:
    box = [(20, 20, 40, 40)]
    away, near = ({"action_type": "click", "x": place, "y": 150} for place in (70, 80))
    one = step(CLICK, "Search for Flora", boxes=box)
    episode = [one, step(away, "search for  flora"), step(near, "Click on Send"), step(TYPE, "Search for Flora")]
    made = wrong_actions(one, goal=GOAL, episode=episode)
    assert made["other_step"] == [Action("click", x=80, y=150)]
    assert "input_text" not in {action.action_type for action in made["wrong_type"]}


def test_an_app_that_is_spoken_of_is_not_called_wrong() -> None:
    made = wrong_actions(step(OPEN, "Open Files from Drive"), goal="Look it up in Google News", episode=[])
    names = {action.app_name for action in made["wrong_app"]}
    assert names
    assert not names & {"Drive", "Google News", "Files"}


def test_kinds_are_drawn_by_their_weights() -> None:
    one = step(CLICK, "Click on Flowers", boxes=[(20, 20, 40, 40)])
    episode = [one, step({"action_type": "click", "x": 80, "y": 150}, "Click on Send")]
    drawn = Counter[str]()
    for number in range(2000):
        chosen = wrong_action(one, goal="", episode=episode, key=("0", str(number)))
        assert chosen is not None
        drawn[chosen[0]] += 1
    # Weights 3 and 1: 1,500 of 2,000 expected, standard deviation sqrt(2000 * 3/4 * 1/4) = 19; five of them are 97.
    assert drawn.keys() == {"other_step", "wrong_type"}
    assert abs(drawn["other_step"] - 1500) < 97


_TEXT = st.text(max_size=12)
_PIXEL = st.integers(0, 120)
_ACTIONS = st.one_of(
    st.builds(lambda kind, x, y: Action(kind, x=x, y=y), st.sampled_from(["click", "long_press"]), _PIXEL, _PIXEL),
    st.builds(lambda way: Action("scroll", direction=way), st.sampled_from(["up", "down", "left", "right"])),
    st.builds(lambda text: Action("input_text", text=text), _TEXT),
    st.builds(lambda app: Action("open_app", app_name=app), _TEXT),
    st.sampled_from([Action("wait"), Action("navigate_back"), Action("navigate_home")]),
)
_BOXES = st.tuples(_PIXEL, _PIXEL, _PIXEL, _PIXEL)
_NODES = st.builds(Node, _BOXES, st.sampled_from(["", "a", "b"]), st.booleans(), st.just(value=True), st.integers(0, 5))


@st.composite
def episodes(draw: st.DrawFn) -> list[Step]:
    steps = []
    for action in draw(st.lists(_ACTIONS, min_size=1, max_size=5)):
        nodes = tuple(draw(st.lists(_NODES, max_size=5)))
        steps.append(Step(action, draw(_TEXT), 100, 120, boxes_at(nodes, action), nodes))
    return steps


@given(episodes(), _TEXT, _TEXT)
@settings(deadline=None, max_examples=200)
def test_every_made_action_is_well_formed_and_differs_from_the_right_one(
    episode: list[Step], goal: str, key: str
) -> None:
    for one in episode:
        chosen = wrong_action(one, goal=goal, episode=episode, key=(key,))
        assert chosen == wrong_action(one, goal=goal, episode=episode, key=(key,))
        assert chosen is not None, "scrolling down, waiting or going back is always wrong for some reason"
        kind, action = chosen
        assert Action.parse(json.loads(action.text_form())) == action
        assert action != one.action
        same_type = action.action_type == one.action.action_type
        assert same_type == (kind != "wrong_type")
        target = one.target_box
        if same_type and target is not None and action.x is not None and action.y is not None:
            inside = target[0] <= action.x <= target[2] and target[1] <= action.y <= target[3]
            assert not inside
