"""Reddit TL;DR: prompts, the chosen summary, splits kept apart, and missing keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datasets_builders import DataError, open_builder
from datasets_builders.tldr import Tldr

RECORD = {"checksums": "record"}


def comparison(post: str | None = "p1", split: str = "train", **changes):
    info = {"id": post, "post": f"text of {post}", "title": "A title", "subreddit": "advice"}
    return {
        "info": info,
        "summaries": [{"text": " one ", "policy": "ref"}, {"text": " two", "policy": "sup4", "note": "n"}],
        **{"choice": 1, "worker": "w1", "batch": "batch9", "split": split, "extra": {"confidence": 8}},
        **changes,
    }


@pytest.fixture
def write(upstream: Path):
    """Write the files of a configuration, the given records in the first one (or the named one)."""

    def write_to(config, records, name=None):
        sources = {source for files in Tldr.sources_of(config).values() for source in files}
        for number, source in enumerate(sorted(sources, key=lambda one: one.path)):
            path = upstream / source.path
            path.parent.mkdir(parents=True, exist_ok=True)
            here = number == 0 if name is None else source.path.endswith(f"/{name}")
            path.write_text("".join(json.dumps(record) + "\n" for record in records) if here else "")

    return write_to


def built(config, upstream, cache):
    builder = open_builder("tldr", config, data_dir=upstream, cache_dir=cache, options=RECORD)
    return {split: list(rows) for split, rows in builder.load().items()}, builder.tallies()


def test_the_chosen_summary_is_the_one_that_choice_points_at(upstream, cache, write) -> None:
    write("comparisons", [comparison(choice=1), comparison(choice=0, worker="w2")])
    rows, _ = built("comparisons", upstream, cache)
    second, first = rows["train"]
    assert (second["chosen"][0]["content"], second["rejected"][0]["content"]) == ("two", "one")
    assert (first["chosen"][0]["content"], first["rejected"][0]["content"]) == ("one", "two")
    assert (second["policy_chosen"], second["policy_rejected"]) == ("sup4", "ref")
    assert second["prompt"][0]["content"] == "SUBREDDIT: r/advice\n\nTITLE: A title\n\nPOST: text of p1\n\nTL;DR:"
    assert second["confidence"] == 8
    assert second["group"] == first["group"] == "p1"
    assert second["id"] != first["id"]


def test_splits_are_kept_apart_and_news_is_a_split_of_its_own(upstream, cache, write) -> None:
    news = {"id": None, "article": "long", "title": "T", "site": "cnn"}
    write(
        "comparisons",
        [
            comparison("a", "train"),
            comparison("b", "valid1"),
            comparison("c", "valid2"),
            comparison(split="valid2", batch="cnndm0", info=news),
        ],
    )
    rows, _ = built("comparisons", upstream, cache)
    assert {split: [row["group"] for row in found] for split, found in rows.items() if split != "cnndm"} == {
        "train": ["a"],
        "valid1": ["b"],
        "valid2": ["c"],
    }
    [article] = rows["cnndm"]
    assert article["corpus"] == "news"
    assert article["subreddit"] is None
    assert article["prompt"][0]["content"] == "TITLE: T\n\nARTICLE: long\n\nTL;DR:"
    assert len(article["group"]) == 16


@pytest.mark.parametrize("step", [1, -1])
def test_a_post_of_a_later_split_is_dropped_from_the_earlier(step, upstream, cache, write) -> None:
    records = [comparison("a", "train"), comparison("a", "valid1"), comparison("a", "valid2"), comparison("b", "train")]
    write("comparisons", records[::step])
    rows, tallies = built("comparisons", upstream, cache)
    assert {split: len(found) for split, found in rows.items()} == {"train": 1, "valid1": 0, "valid2": 1, "cnndm": 0}
    assert tallies["train"].dropped == {"its post is also in valid2": 1}
    assert tallies["valid1"].dropped == {"its post is also in valid2": 1}


def test_equal_summaries_and_repeated_labels_are_dropped(upstream, cache, write) -> None:
    same = [{"text": " x", "policy": "a"}, {"text": "x ", "policy": "b"}]
    write("comparisons", [comparison(), comparison(), comparison(summaries=same)])
    rows, tallies = built("comparisons", upstream, cache)
    assert len(rows["train"]) == 1
    assert tallies["train"].dropped == {"both summaries are the same": 1, "the same label again": 1}


def test_missing_keys_are_missing_values(upstream, cache, write) -> None:
    write("comparisons", [comparison(extra={})])
    rows, _ = built("comparisons", upstream, cache)
    assert rows["train"][0]["confidence"] is None


def test_half_a_character_is_replaced_and_counted(upstream, cache, write) -> None:
    write("posts", [])
    record = {"id": "t1", "subreddit": "s", "title": "t", "post": "cut \ud83d", "summary": "whole \U0001f600"}
    (upstream / "datasets/tldr_3_filtered/train.jsonl").write_text(json.dumps(record) + "\n")
    rows, tallies = built("posts", upstream, cache)
    assert "POST: cut \ufffd\n" in rows["train"][0]["prompt"][0]["content"]
    assert rows["train"][0]["completion"][0]["content"] == "whole \U0001f600"
    assert tallies["train"].notes == {"half a character replaced by U+FFFD": 1}


def test_half_a_character_in_a_comparison_is_counted_in_its_own_split(upstream, cache, write) -> None:
    cut = [{"text": " cut \ud83d", "policy": "a"}, {"text": "x", "policy": "b"}]
    write("comparisons", [comparison("a", "valid1", summaries=cut), comparison("b")])
    rows, tallies = built("comparisons", upstream, cache)
    assert rows["valid1"][0]["rejected"][0]["content"] == "cut \ufffd"
    assert {split: tally.notes.total() for split, tally in tallies.items()} == {
        **{"train": 0, "valid1": 1, "valid2": 0, "cnndm": 0}
    }


def test_posts_ask_in_the_words_of_comparisons(upstream, cache, write) -> None:
    # A published recipe shortens blank lines in the one and not in the other, and the two then differ.
    post = {"id": "p1", "subreddit": "advice", "title": "A title", "post": "one\n\ntwo", "summary": " mine "}
    write("posts", [post], name="train.jsonl")
    write("comparisons", [comparison(info={key: post[key] for key in ("id", "subreddit", "title", "post")})])
    posts, _ = built("posts", upstream, cache)
    pairs, _ = built("comparisons", upstream, cache)
    assert posts["train"][0]["prompt"] == pairs["train"][0]["prompt"]
    assert posts["train"][0]["completion"][0]["content"] == "mine"
    assert {split: len(found) for split, found in posts.items()} == {"train": 1, "validation": 0, "test": 0}


def test_axis_ratings(upstream, cache, write) -> None:
    record = comparison(split="test")
    axes = {"overall": 5, "accuracy": 7, "compatible": True}
    record = {key: record[key] for key in ("info", "worker", "batch", "split")}
    record["summary"] = {"text": " s", "policy": "p", "note": "", "axes": axes}
    write("axis", [record])
    rows, _ = built("axis", upstream, cache)
    [row] = rows["test"]
    assert (row["overall"], row["accuracy"], row["coverage"], row["compatible"]) == (5, 7, None, True)
    assert row["completion"][0]["content"] == "s"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choice": 2}, "row 1, field 'choice': 2 summaries and choice 2"),
        ({"split": "dev"}, "row 1, field 'split': unknown split 'dev'"),
        ({"info": {"id": "x"}}, "row 1, field 'info': has neither a post nor an article"),
        ({"info": {"post": "x", "colour": "red"}}, "row 1, field 'info': unexpected key 'colour'"),
        ({"extra": {"mood": 1}}, "row 1, field 'extra': unexpected key 'mood'"),
        ({"summaries": [{"text": "x"}, {"text": "y"}]}, "row 1, field 'summaries': key 'policy' is missing"),
        ({"extra": None}, "row 1, field 'extra': is a NoneType, expected an object"),
    ],
)
def test_what_is_not_as_upstream_wrote_it_is_refused(change, message, upstream, cache, write) -> None:
    write("comparisons", [comparison("a"), comparison("b", **change)])
    with pytest.raises(DataError, match=message):
        built("comparisons", upstream, cache)


@pytest.mark.realdata
def test_the_published_example(real_data, upstream, cache, write) -> None:
    example = json.loads((real_data / "tldr" / "comparisons_example.jsonl").read_text().splitlines()[0])
    write("comparisons", [example], name="batch9.json")
    rows, _ = built("comparisons", upstream, cache)
    [row] = rows["train"]
    assert row["chosen"][0]["content"].startswith("we suspect other party involved of speeding")
    assert row["policy_chosen"] == "ref"
    assert row["source_file"] == "dataset/comparisons/batch9.json"
    assert row["group"] == "t3_2vwp1w"
