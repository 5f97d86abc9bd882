"""Leakage, duplicates, contradictions and bias, on rows where the answer is known by construction."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datasets_builders import BuilderError, features
from datasets_builders.checks import as_markdown, examine
from datasets_builders.columns import table_of
from datasets_builders.features import message, tool_call

SAME = "the same prompt"
PREFIX = "a prompt that begins or continues one there"
GROUP = "a group that is there too"
RUN = "a run of 13 words that is there too"
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"]


def turns(*texts: str) -> list[dict]:
    return [message("assistant" if at % 2 else "user", text) for at, text in enumerate(texts)]


class Rows:
    """Collects rows of a split; every row is a group of its own unless named."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def rated(self, *prompt: str, answer: str = "ok", label: bool = True, group: str | None = None) -> Rows:
        number = f"{id(self)}-{len(self.rows)}"
        row = {"prompt": turns(*prompt), "completion": [message("assistant", answer)], "label": label}
        meta = {"id": number, "group": group or number, "dataset": "d", "source_file": "f"}
        self.rows.append(row | meta)
        return self


def write(folder: Path, splits: dict[str, list[dict]], shape=features.rating) -> Path:
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        pq.write_table(table_of(rows, shape()), folder / f"{split}-00000-of-00001.parquet")
    return folder


def counts(findings, check: str) -> dict[str, tuple[int, int]]:
    return {one.where: (one.count, one.of) for one in findings if one.check == check}


def test_leaks_between_splits_are_told_by_kind(tmp_path) -> None:
    train = Rows().rated("hi", "yes", "more", "sure", "and").rated("lone").rated("x", group="shared")
    test = (
        Rows()
        .rated("lone", answer="other")  # the same prompt
        .rated("hi", "yes", "more")  # begins one there
        .rated("hi", "yes", "more", "sure", "and", "so", "on")  # continues one there
        .rated("hi", "other")  # shares only the first turn: an opener
        .rated("hi")  # begins one there with one turn only
        .rated("y", group="shared")  # the same group
        .rated("nothing in common")
    )
    found = examine(write(tmp_path / "c", {"test": test.rows, "train": train.rows}))
    assert counts(found, SAME) == {"test from train": (1, 7)}
    assert counts(found, PREFIX) == {"test from train": (2, 7)}
    assert counts(found, GROUP) == {"test from train": (1, 7)}
    assert counts(found, RUN) == {"test from train": (0, 7)}


def test_a_run_of_thirteen_words_is_found_wherever_it_stands(tmp_path) -> None:
    long, short = " ".join(WORDS), " ".join(WORDS[:12])
    train = Rows().rated(f"before {long} after")
    test = (
        Rows()
        .rated("q", answer=f"so, {long.upper()}!")  # in the answer, other case and punctuation
        .rated(f"{short} fourteen")  # twelve in common
        .rated(" ".join(WORDS[:7]), " ".join(WORDS[7:]))  # over two turns
    )
    found = examine(write(tmp_path / "c", {"train": train.rows, "test": test.rows}))
    assert counts(found, RUN) == {"test from train": (2, 3)}


def test_runs_of_more_than_ten_groups_are_boilerplate(tmp_path) -> None:
    greeting = " ".join(WORDS)
    for groups, expected in ((10, 1), (11, 0)):
        train = Rows()
        for number in range(groups - 1):
            train.rated(f"{greeting} {number}")
        train.rated(f"{greeting} again", group=train.rows[0]["group"])  # the same group does not count twice
        test = Rows().rated(f"{greeting} test")
        found = examine(write(tmp_path / str(groups), {"train": train.rows, "test": test.rows}))
        assert counts(found, RUN)["test from train"] == (expected, 1)


def test_what_tools_return_is_no_leak(tmp_path) -> None:
    row = Rows().rated("a").rows[0]
    menu = message("tool", " ".join(WORDS), name="menu")
    one = row | {"prompt": [message("user", "a"), menu], "id": "1", "group": "1"}
    two = row | {"prompt": [message("user", "b"), menu], "id": "2", "group": "2"}
    found = examine(write(tmp_path / "c", {"train": [one], "test": [two]}))
    assert counts(found, RUN) == {"test from train": (0, 1)}


def test_another_data_set_is_one_more_part(tmp_path) -> None:
    mine = write(tmp_path / "mine" / "ratings", {"test": Rows().rated("a").rated("b").rows})
    other = tmp_path / "other"
    write(other / "x", {"train": Rows().rated("a").rows})
    write(other / "y", {"dev": Rows().rated("b").rows})
    found = examine(mine, against=other)
    assert counts(found, SAME) == {"test from other": (2, 2)}
    with pytest.raises(BuilderError, match="holds no built rows"):
        examine(mine, against=tmp_path / "other" / "x")


def test_duplicates_and_contradictions_are_counted_over_all_splits(tmp_path) -> None:
    train = Rows().rated("a").rated("a").rated("a", label=False).rated("b").rated("c", answer="1")
    test = Rows().rated("b").rated("c", answer="2", label=False)
    found = examine(write(tmp_path / "c", {"train": train.rows, "test": test.rows}))
    assert counts(found, "the same prompt, answers and label again") == {"all splits": (2, 7)}
    assert counts(found, "rated both up and down") == {"all splits": (1, 4)}
    assert counts(found, "thumbs up") == {"train": (4, 5), "test": (1, 2)}


def pair(number: int, prompt: str, chosen: str, rejected: str) -> dict:
    meta = {"id": str(number), "group": str(number), "dataset": "d", "source_file": "f"}
    answers = {"chosen": [message("assistant", chosen)], "rejected": [message("assistant", rejected)]}
    return {"prompt": turns(prompt)} | answers | meta


def test_pairs_preferred_both_ways_round_and_length(tmp_path) -> None:
    rows = [
        pair(1, "p", "long answer", "short"),
        pair(2, "p", "short", "long answer"),
        pair(3, "q", "long answer", "short"),
        pair(4, "q", "same!", "size!"),
    ]
    found = examine(write(tmp_path / "c", {"train": rows}, features.preference))
    assert counts(found, "preferred both ways round") == {"all splits": (1, 4)}
    assert counts(found, "the chosen answer is longer") == {"train": (2, 4)}
    [note] = [one.note for one in found if one.check == "the chosen answer is longer"]
    # Chosen 11, 5, 11 and 5 characters, rejected 5, 11, 5 and 5.
    assert note == "mean 8 characters chosen, 6 rejected; 1 of equal length"


def test_tool_calls_tell_answers_apart(tmp_path) -> None:
    row = Rows().rated("a").rows[0]
    calls = [[tool_call("f", {"x": value})] for value in (1, 2, 1)]
    rows = [
        row | {"completion": [message("assistant", "", tool_calls=call)], "id": str(at), "label": at != 2}
        for at, call in enumerate(calls)
    ]
    found = examine(write(tmp_path / "c", {"train": rows}))
    assert counts(found, "rated both up and down") == {"all splits": (1, 2)}


def test_pictures_and_prompts_without_answers_are_read_too(tmp_path) -> None:
    shape = features.demonstration(vision=True)
    row = {
        "prompt": [features.parts("user", " ".join(WORDS), images=1)],
        "completion": [features.parts("assistant", "click")],
        "images": [{"bytes": b"x", "path": None}],
        **{"id": "1", "group": "1", "dataset": "d", "source_file": "f"},
    }
    found = examine(write(tmp_path / "v", {"train": [row], "test": [row]}, lambda: shape))
    assert counts(found, SAME) == counts(found, RUN) == {"test from train": (1, 1)}
    only = [{"prompt": turns("a"), "id": "1", "group": "1", "dataset": "d", "source_file": "f"}]
    found = examine(write(tmp_path / "p", {"train": only, "test": only}, features.prompt))
    assert counts(found, SAME) == {"test from train": (1, 1)}


def test_an_empty_split_is_no_trouble(tmp_path) -> None:
    found = examine(write(tmp_path / "c", {"train": Rows().rated("a").rows, "test": []}))
    assert counts(found, SAME) == {"test from train": (0, 0)}
    assert "0 of 0" in as_markdown(found)


def test_a_folder_without_rows_is_refused(tmp_path) -> None:
    with pytest.raises(BuilderError, match="holds no built rows"):
        examine(tmp_path)


def test_the_order_of_splits_is_train_first_and_test_last(tmp_path) -> None:
    rows = {name: Rows().rated(name).rows for name in ("test", "valid1", "train", "valid2")}
    found = examine(write(tmp_path / "c", rows))
    assert list(counts(found, SAME)) == [
        *("valid1 from train", "valid2 from train", "test from train"),
        *("valid2 from valid1", "test from valid1", "test from valid2"),
    ]
