"""AndroidControl: shards written by hand, the text side, and the wrong actions that are made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import android_writer as writer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_builders import open_builder
from datasets_builders.android_actions import KINDS, Action, Step, boxes_at, is_wrong, wrong_action, wrong_actions
from datasets_builders.errors import BuilderError, DataError, SourceError
from datasets_builders.tfrecord import Node

Rows = list[dict[str, Any]]

CLICK = {"action_type": "click", "x": 30, "y": 30}
SCROLL = {"action_type": "scroll", "direction": "down"}
TYPE = {"action_type": "input_text", "text": "Flora"}
OPEN = {"action_type": "open_app", "app_name": "Files"}
GOAL = "Open Files and rename the Flowers folder to Flora"

# A screen of 100 x 200: a page that takes no clicks, a row that does with its label inside, and two buttons apart.
PAGE = writer.node((0, 0, 100, 200))
ROW = writer.node((0, 20, 100, 40), clickable=True)
LABEL = writer.node((10, 25, 50, 35), label="Flowers")
OTHER = writer.node((10, 100, 30, 120), label="Rename", clickable=True)
NAMESAKE = writer.node((60, 100, 90, 120), label="flowers", clickable=True)
HIDDEN = writer.node((0, 150, 20, 160), label="Hidden", clickable=True, visible=False)
SCREEN = [PAGE, ROW, LABEL, OTHER, NAMESAKE, HIDDEN]


def write(folder: Path, shards: Sequence[Sequence[dict[str, list[Any]]]], **splits: list[int]) -> Path:
    """Write shards, splits.json and test_subsplits.json as upstream lays them out."""
    folder.mkdir(exist_ok=True)
    for number, episodes in enumerate(shards):
        path = folder / f"android_control-{number:05}-of-00020"
        writer.write_tfrecord(path, [writer.example(one) for one in episodes])
    (folder / "splits.json").write_text(json.dumps({"train": [], "validation": [], "test": [], **splits}))
    (folder / "test_subsplits.json").write_text(json.dumps({"IDD": [4], "app_unseen": [3, 5], "task_unseen": [3]}))
    return folder


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    steps = [(OPEN, "Open the Files app"), (CLICK, "Click on the Flowers folder"), (SCROLL, "Swipe up")]
    first = writer.episode(3, GOAL, [*steps, (TYPE, "Type Flora")], nodes=[[], SCREEN])
    second = writer.episode(4, "Wait", [({"action_type": "wait"}, "Wait for the page")])
    empty = writer.episode(9, "Nothing", [])
    stray = writer.episode(8, "In no split", [(SCROLL, "Scroll down")])
    third = writer.episode(2, "Scroll", [(SCROLL, "Scroll down")])
    return write(tmp_path / "raw", [[first, empty], [second, stray, third]], train=[2, 9], test=[3, 4])


def build(folder: Path, config: str, cache: Path, **options: Any) -> dict[str, Rows]:
    options = {"checksums": "record", "splits": "test", **options}
    chosen = open_builder("android_control", config, data_dir=folder, cache_dir=cache, options=options)
    return {split: list(rows) for split, rows in chosen.load().items()}


def test_steps_are_what_was_written(upstream: Path, tmp_path: Path) -> None:
    rows = build(upstream, "steps", tmp_path / "cache")["test"]
    assert [row["id"] for row in rows] == ["3:0", "3:1", "3:2", "3:3", "4:0"]
    assert [row["group"] for row in rows] == ["3", "3", "3", "3", "4"]
    click = rows[1]
    assert click["source_file"] == "android_control/android_control-00000-of-00020"
    assert (click["episode_id"], click["step"], click["goal"]) == (3, 1, GOAL)
    assert click["step_instruction"] == "Click on the Flowers folder"
    assert click["action"] == {**CLICK, "direction": None, "app_name": None, "text": None}
    assert click["completion"] == [
        {"role": "assistant", "content": [{"type": "text", "text": '{"action_type": "click", "x": 30, "y": 30}'}]}
    ]
    image, text = click["prompt"][0]["content"]
    assert image == {"type": "image", "text": None}
    for line in (GOAL, "100 x 200 pixels", '{"action_type": "open_app", "app_name": "Files"}', "Click on the Flowers"):
        assert line in text["text"]
    assert "Flora" not in text["text"].replace(GOAL, ""), "later actions are not in the prompt"
    assert '"x": 30' not in text["text"], "nor is the one asked for"
    assert (click["screen_width"], click["screen_height"]) == (100, 200)
    assert click["images"][0].size == (100, 200)
    assert click["images"][0].getpixel((0, 0)) == (1, 0, 0), "the screen before the action, not after"
    assert click["target_box"] == [10, 25, 50, 35], "the smallest visible element under the click"
    assert click["candidate_boxes"] == [[10, 25, 50, 35], [0, 20, 100, 40], [0, 0, 100, 200]]
    assert click["subsplits"] == ["app_unseen", "task_unseen"], "subsplits overlap, all are kept"
    assert rows[0]["target_box"] is None


def test_pictures_are_stored_as_they_were_encoded(upstream: Path, tmp_path: Path) -> None:
    from datasets import Image, List

    chosen = open_builder(
        "android_control",
        "steps",
        data_dir=upstream,
        cache_dir=tmp_path / "cache",
        options={"checksums": "record", "splits": "test"},
    )
    rows = chosen.load()["test"].cast_column("images", List(Image(decode=False)))
    assert rows[2]["images"] == [{"bytes": writer.picture(100, 200, shade=2), "path": None}]


def test_text_configurations_have_no_picture_column_and_plain_content(upstream: Path, tmp_path: Path) -> None:
    [row, *_] = build(upstream, "steps_text", tmp_path / "cache")["test"]
    assert "images" not in row
    assert isinstance(row["prompt"][0]["content"], str)
    assert row["completion"][0]["content"] == '{"action_type": "open_app", "app_name": "Files"}'


def test_splits_are_upstreams_and_what_is_in_none_is_counted(upstream: Path, tmp_path: Path) -> None:
    chosen = open_builder(
        "android_control",
        "steps_text",
        data_dir=upstream,
        cache_dir=tmp_path / "cache",
        options={"checksums": "record", "splits": "train,test"},
    )
    assert {split: rows["id"][:] for split, rows in chosen.load().items()} == {
        "train": ["2:0"],
        "test": ["3:0", "3:1", "3:2", "3:3", "4:0"],
    }
    tallies = chosen.tallies()
    assert tallies["train"].notes == {"episode in no split, left out": 1, "episode without steps": 1}
    assert not tallies["test"].notes


def test_every_step_is_rated_once_right_and_once_wrong(upstream: Path, tmp_path: Path) -> None:
    rows = build(upstream, "ratings", tmp_path / "cache")["test"]
    assert [row["id"] for row in rows[:2]] == ["3:0:right", "3:0:wrong"]
    assert Counter(row["label"] for row in rows) == {True: 5, False: 5}
    for right, wrong in zip(rows[::2], rows[1::2], strict=True):
        assert right["prompt"] == wrong["prompt"]
        assert right["negative"] is None
        assert wrong["negative"] in KINDS
        assert right["completion"] != wrong["completion"]


def test_other_elements_are_clicked_where_nothing_else_would_do_the_same(upstream: Path, tmp_path: Path) -> None:
    made = set()
    for seed in range(12):
        rows = build(upstream, "ratings_text", tmp_path / f"cache{seed}", seed=seed)["test"]
        made |= {row["completion"][0]["content"] for row in rows if row["negative"] == "other_element"}
    # Of SCREEN only the Rename button: the row holds the target, the namesake may do the same, the rest takes no click.
    assert made == {'{"action_type": "click", "x": 20, "y": 110}'}


def test_without_trees_there_are_no_boxes_and_no_other_elements(upstream: Path, tmp_path: Path) -> None:
    rows = build(upstream, "ratings_text", tmp_path / "cache", boxes=False)["test"]
    assert all(row["target_box"] is None and row["candidate_boxes"] == [] for row in rows)
    assert "other_element" not in {row["negative"] for row in rows}


def test_a_wrong_action_hangs_on_the_seed_and_its_step_only(tmp_path: Path) -> None:
    def episode(id_: int) -> dict[str, list[Any]]:
        return writer.episode(id_, GOAL, [(SCROLL, "Go on"), (TYPE, "Type Flora"), (OPEN, "Open Files")])

    few = write(tmp_path / "few", [[episode(3), episode(4)]], test=[3, 4])
    many = write(tmp_path / "many", [[episode(4), episode(5), episode(3)]], test=[3, 4, 5])

    def answers(folder: Path, seed: int) -> dict[str, str]:
        rows = build(folder, "ratings_text", tmp_path / f"{folder.name}{seed}", seed=seed)["test"]
        return {row["id"]: row["completion"][0]["content"] for row in rows if row["episode_id"] != 5}

    assert answers(few, 0) == answers(many, 0)
    assert answers(few, 0) != answers(few, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mood": [1]}, "unexpected feature 'mood'"),
        ({"goal": []}, "feature 'goal' has 0 values"),
        ({"goal": [1]}, "not bytes"),
        ({"goal": [b"\xff"]}, "utf-8"),
        ({"screenshot_widths": [100]}, "'screenshot_widths' has 1 values"),
        ({"screenshots": [b"a"]}, "'screenshots' has 1 values"),
        ({"step_instructions": []}, "'step_instructions' has 0 values"),
        ({"actions": [b"{"]}, "Expecting property name"),
        ({"actions": [b'{"action_type": "fly"}']}, "unknown action_type 'fly'"),
        ({"actions": [b'{"action_type": "click", "x": 1}']}, "click has keys"),
        ({"actions": [b'{"action_type": "click", "x": 1, "y": 2.5}']}, "y of click is '2.5', expected int"),
        ({"actions": [b'{"action_type": "click", "x": true, "y": 2}']}, "x of click is 'True', expected int"),
        ({"actions": [b'{"action_type": "scroll", "direction": "in"}']}, "unknown direction 'in'"),
        ({"actions": [b"[" * 100_000]}, "recursion"),
        ({"accessibility_trees": [b"\x0b", b""]}, "no such wire type"),
    ],
)
def test_what_is_not_of_upstreams_form_is_refused(tmp_path: Path, change: dict[str, list[Any]], message: str) -> None:
    good = writer.episode(3, GOAL, [(SCROLL, "Swipe up")])
    folder = write(tmp_path / "raw", [[good, {**writer.episode(4, GOAL, [(SCROLL, "Swipe")]), **change}]], test=[3, 4])
    with pytest.raises(DataError, match=message) as caught:
        build(folder, "steps", tmp_path / "cache")
    assert (caught.value.file, caught.value.row) == ("android_control/android_control-00000-of-00020", 1)


def test_an_episode_twice_is_refused(tmp_path: Path) -> None:
    one = writer.episode(3, GOAL, [(SCROLL, "Swipe up")])
    folder = write(tmp_path / "raw", [[one], [one]], test=[3])
    with pytest.raises(DataError, match="'3:0' is there twice") as caught:
        build(folder, "steps_text", tmp_path / "cache")
    assert caught.value.file == "android_control/android_control-00001-of-00020"


def test_an_episode_in_two_splits_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", [[writer.episode(3, GOAL, [])]], train=[3], test=[3])
    with pytest.raises(DataError, match=r"splits\.json: an episode is in two splits"):
        build(folder, "steps_text", tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "no object"), ('{"train": [1.5]}', "no list of episode ids"), ('{"train": [1]}', "has splits")],
)
def test_splits_of_another_form_are_refused(tmp_path: Path, content: str, message: str) -> None:
    folder = write(tmp_path / "raw", [[writer.episode(3, GOAL, [])]])
    (folder / "splits.json").write_text(content)
    with pytest.raises(DataError, match=message):
        build(folder, "steps_text", tmp_path / "cache")


def test_other_splits_than_the_pinned_ones_and_missing_shards_are_refused(upstream: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"splits\.json.*pinned"):
        build(upstream, "steps_text", tmp_path / "cache", checksums="verify")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="has no android_control/android_control-00000-of-00020"):
        build(tmp_path / "empty", "steps", tmp_path / "cache")


def test_a_damaged_shard_is_named_from_worker_processes_too(upstream: Path, tmp_path: Path) -> None:
    path = upstream / "android_control-00001-of-00020"
    path.write_bytes(path.read_bytes()[:-20])
    chosen = open_builder(
        "android_control",
        "steps_text",
        data_dir=upstream,
        cache_dir=tmp_path / "cache",
        options={"checksums": "record", "splits": "test"},
    )
    with pytest.raises(DataError, match="android_control-00001-of-00020"):
        chosen.load(num_proc=2)


# The text side.

LINE = {
    "episode_id": 27,
    "goal": GOAL,
    "actions": [json.dumps(CLICK), json.dumps({"action_type": "wait"})],
    "step_instructions": ["Click on Flowers", "Wait"],
    "candidate_bboxes": [[[0, 0, 100, 200], [10, 25, 50, 35]], []],
}


def test_the_text_side_gives_the_test_split_without_screens(tmp_path: Path) -> None:
    (tmp_path / "test_text_side.jsonl").write_text(json.dumps(LINE) + "\n")
    built = build(tmp_path, "steps_text", tmp_path / "cache", splits="")
    assert list(built) == ["test"]
    click, wait = built["test"]
    assert click["target_box"] == [10, 25, 50, 35]
    assert click["candidate_boxes"] == [[10, 25, 50, 35], [0, 0, 100, 200]]
    assert click["screen_width"] is None
    assert wait["target_box"] is None
    with pytest.raises(BuilderError, match="no screenshots; choose steps_text"):
        build(tmp_path, "steps", tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mood": 1}, "unexpected key 'mood'"),
        ({"goal": None}, "goal no text"),
        ({"step_instructions": ["one"]}, "shorter"),
        ({"step_instructions": ["one", 2]}, "no text"),
        ({"candidate_bboxes": [[[1, 2, 3]], []]}, "not enough values"),
        ({"candidate_bboxes": [[[1, 2, 3, "4"]], []]}, "not four integers"),
        ({"actions": 5}, "not iterable"),
    ],
)
def test_a_text_side_of_another_form_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    lines = [LINE, {**LINE, "episode_id": 28, **change}]
    (tmp_path / "test_text_side.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=message) as caught:
        build(tmp_path, "steps_text", tmp_path / "cache")
    assert caught.value.row == 1


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


# The trainers, and the real files.


def test_rows_pass_the_preprocessing_of_trl(upstream: Path, tmp_path: Path) -> None:
    from trl.data_utils import is_conversational, prepare_multimodal_messages

    [row, *_] = build(upstream, "ratings", tmp_path / "cache")["test"]
    assert is_conversational(row)
    prepared = prepare_multimodal_messages(row["prompt"] + row["completion"], images=row["images"])
    image, text = prepared[0]["content"]
    assert image["image"].size == (100, 200)
    assert text["text"].startswith("Goal: ")


@pytest.mark.realdata
def test_the_real_test_split(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "androidcontrol"
    rows = build(folder, "steps_text", tmp_path / "cache", checksums="verify")["test"]
    assert len({row["episode_id"] for row in rows}) == 1543
    assert len(rows) == 8444
    assert Counter(row["action"]["action_type"] for row in rows) == {
        "click": 5074,
        "scroll": 1211,
        "input_text": 632,
        "open_app": 608,
        "wait": 567,
        "navigate_back": 343,
        "long_press": 9,
    }


@pytest.mark.realdata
def test_real_wrong_actions_are_balanced_and_not_told_by_their_type(real_data: Path, tmp_path: Path) -> None:
    rows = build(real_data / "androidcontrol", "ratings_text", tmp_path / "cache", checksums="verify")["test"]
    assert Counter(row["label"] for row in rows) == {True: 8444, False: 8444}
    types = {label: Counter[str]() for label in (True, False)}
    for row in rows:
        types[row["label"]][json.loads(row["completion"][0]["content"])["action_type"]] += 1
    best = sum(max(types[True][kind], types[False][kind]) for kind in types[True] | types[False]) / len(rows)
    assert best < 0.6, "a reader of the action's type alone must not do much better than a coin"
    assert {row["negative"] for row in rows} == {None, *KINDS} - {"other_element"}
