"""HH-RLHF harmless: where a transcript is cut, what is dropped, and the counts of the real test file."""

from __future__ import annotations

import pytest

from datasets_builders import open_builder
from datasets_builders.harmless import split_transcripts

FILE = "harmless-base/test.jsonl.gz"
OPTIONS = {"checksums": "record", "splits": "test"}


def human(text: str) -> str:
    return f"\n\nHuman: {text}"


def assistant(text: str) -> str:
    return f"\n\nAssistant: {text}"


def test_both_answers_follow_one_prompt() -> None:
    shared = human("a") + assistant("b") + human("c")
    roles, texts, chosen, rejected = split_transcripts(shared + assistant("d"), shared + assistant("e\n\nmore"))
    assert roles == ["user", "assistant", "user"]
    assert texts == ["a", "b", "c"]
    assert (chosen, rejected) == ("d", "e\n\nmore")


def test_text_is_kept_to_the_letter() -> None:
    shared = human("Human: and Assistant: inline\n stay ") + assistant(" two spaces") + human("")
    roles, texts, chosen, rejected = split_transcripts(shared + assistant(" x "), shared + "\n\nAssistant:")
    assert texts == ["Human: and Assistant: inline\n stay ", " two spaces", ""]
    assert (chosen, rejected) == (" x ", "")
    assert roles == ["user", "assistant", "user"]


def test_two_turns_of_one_role_stay_two() -> None:
    shared = human("a") + human("b")
    roles, texts, *_ = split_transcripts(shared + assistant("c"), shared + assistant("d"))
    assert (roles, texts) == (["user", "user"], ["a", "b"])


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        # The rejected transcript goes on where the chosen one ends: one is a strict prefix of the other.
        (human("a") + assistant("b"), human("a") + assistant("b") + human("c") + assistant("d"), "differ before"),
        (human("a") + assistant("b"), human("A") + assistant("c"), "differ before"),
        (human("a"), human("a"), "differ before"),
        # The model wrote the human's next line itself, in one answer only.
        (human("a") + assistant("b") + human("c"), human("a") + assistant("d"), "does not end with an answer"),
        (human("a") + assistant("d"), human("a") + assistant("b") + human("c"), "does not end with an answer"),
        ("Human: a" + assistant("b"), "Human: a" + assistant("c"), "does not begin with a human turn"),
        (assistant("b"), assistant("c"), "does not begin with a human turn"),
        (assistant("a") + assistant("b"), assistant("a") + assistant("c"), "does not begin with a human turn"),
    ],
)
def test_what_is_no_pair_says_why(chosen, rejected, reason) -> None:
    found = split_transcripts(chosen, rejected)
    assert isinstance(found, str)
    assert reason in found


def test_drops_and_notes_are_counted_with_their_place(upstream, cache, write_lines, harmless_pair) -> None:
    empty = {"chosen": human("a") + "\n\nAssistant:", "rejected": human("a") + assistant("b")}
    broken = {"chosen": human("a") + assistant("b"), "rejected": human("z") + assistant("b")}
    write_lines(FILE, [harmless_pair("tea"), broken, harmless_pair("tea"), empty, harmless_pair("milk")])
    builder = open_builder("harmless", data_dir=upstream, cache_dir=cache, options=OPTIONS)
    rows = builder.load()["test"]
    tally = builder.tallies()["test"]
    assert rows.num_rows == tally.kept == 3
    assert tally.dropped == {"the transcripts differ before the last answer": 1, "the same row again": 1}
    assert tally.notes == {"an empty answer": 1}
    assert tally.examples["the same row again"] == [f"{FILE}:2"]
    assert tally.examples["an empty answer"] == [f"{FILE}:3"]


def test_ids_and_groups_do_not_depend_on_the_order_of_rows(upstream, cache, write_lines, harmless_pair) -> None:
    found = []
    for words in (["tea", "milk", "rice"], ["rice", "tea", "milk"]):
        write_lines(FILE, map(harmless_pair, words))
        rows = open_builder("harmless", data_dir=upstream, cache_dir=cache, options=OPTIONS).load()["test"]
        found.append({row["prompt"][0]["content"]: (row["id"], row["group"]) for row in rows})
    assert found[0] == found[1]
    assert len({group for _, group in found[0].values()}) == 3


def test_pairs_that_open_with_the_same_words_are_one_group(upstream, cache, write_lines, harmless_pair) -> None:
    """A dialogue comes back longer, or with other answers; so do both in one fold."""
    longer = {
        name: text + human("And then") + assistant(f"{name} again") for name, text in harmless_pair("tea").items()
    }
    longer["rejected"] = longer["rejected"].replace("Yes tea!", "No tea.")
    other = {name: text.replace("No", "Never") for name, text in harmless_pair("tea").items()}
    write_lines(FILE, [harmless_pair("tea"), harmless_pair("milk"), longer, other])
    rows = open_builder("harmless", data_dir=upstream, cache_dir=cache, options=OPTIONS).load()["test"]
    groups = {}
    for row in rows:
        groups.setdefault(row["prompt"][0]["content"], []).append(row["group"])
    assert {opening: len(found) for opening, found in groups.items()} == {"tea?": 3, "milk?": 1}
    assert len(set(groups["tea?"])) == 1
    assert groups["milk?"][0] != groups["tea?"][0]
    assert len({row["id"] for row in rows}) == 4


@pytest.mark.realdata
def test_the_real_test_file(real_data, cache) -> None:
    # Read off the file by others: 2,312 rows; rows 1254, 1688, 1950, 1952 and 2036 diverge early; 4 empty chosen
    # replies; 2,310 distinct prompts; chosen longer in 44 %, means 167 and 210 characters.
    builder = open_builder("harmless", data_dir=real_data / "hh-rlhf", cache_dir=cache, options={"splits": "test"})
    rows = builder.load()["test"]
    tally = builder.tallies()["test"]
    assert rows.num_rows == 2307
    assert tally.dropped == {"the transcripts differ before the last answer": 5}
    places = tally.examples["the transcripts differ before the last answer"]
    assert [place.rsplit(":")[-1] for place in places] == ["1254", "1688", "1950"]
    assert tally.notes == {"an empty answer": 4}
    chosen = [len(row[0]["content"]) for row in rows["chosen"]]
    rejected = [len(row[0]["content"]) for row in rows["rejected"]]
    assert round(sum(chosen) / len(chosen)) == 167
    assert round(sum(rejected) / len(rejected)) == 210
    longer = sum(a > b for a, b in zip(chosen, rejected, strict=True)) / len(chosen)
    assert longer == pytest.approx(0.44, abs=0.005)
    assert all(row[0]["role"] == "user" for row in rows["prompt"])
