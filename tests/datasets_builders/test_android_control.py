"""AndroidControl: shards written by hand, and the text side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import android_writer as writer
import pytest
from android_writer import CLICK, GOAL, OPEN, SCROLL, TYPE

from datasets_builders import open_builder
from datasets_builders.android_actions import KINDS
from datasets_builders.errors import BuilderError, DataError, SourceError

Rows = list[dict[str, Any]]

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
    [("[1]", "not an object"), ('{"train": [1.5]}', "not a list of episode ids"), ('{"train": [1]}', "has splits")],
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
        ({"step_instructions": ["one", 2]}, "is not text"),
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
