"""SHP: which comment won, domains, and the two options on the train split."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from datasets_builders import BuilderError, DataError, open_builder
from datasets_builders.shp import DOMAINS

RECORD = {"checksums": "record"}


def pair(post: str = "p", a: str = "x", b: str = "y", **changes):
    return {
        **{"post_id": post, "domain": "askculinary_train", "upvote_ratio": 0.98, "history": f"question {post}"},
        **{"c_root_id_A": a, "c_root_id_B": b, "created_at_utc_A": 2, "created_at_utc_B": 1},
        **{"score_A": 30, "score_B": 10, "human_ref_A": f"answer {a}", "human_ref_B": f"answer {b}"},
        **{"labels": 1, "seconds_difference": 1.0, "score_ratio": 3.0},
        **changes,
    }


@pytest.fixture
def write(write_lines):
    """Write the three files of a domain, the given records in train and test."""

    def write_domain(records, domain="askculinary"):
        for split in ("train", "validation", "test"):
            write_lines(f"{domain}/{split}.json", [] if split == "validation" else records)

    return write_domain


def built(upstream, cache, config="askculinary", **options):
    builder = open_builder("shp", config, data_dir=upstream, cache_dir=cache, options=RECORD | options)
    # The same rows are in train and test here, which a real file never has: build them one at a time.
    found, tallies = {}, {}
    for split in ("train", "test"):
        builder = open_builder(
            "shp", config, data_dir=upstream, cache_dir=cache, options=RECORD | options | {"splits": split}
        )
        found[split] = list(builder.load()[split])
        tallies[split] = builder.tallies()[split]
    return found, tallies


def test_label_1_means_a_and_0_means_b(upstream, cache, write) -> None:
    write([pair("p1"), pair("p2", labels=0, score_A=5, score_B=20, score_ratio=4.0)])
    rows, _ = built(upstream, cache)
    first, second = rows["train"]
    assert (first["chosen"][0]["content"], first["rejected"][0]["content"]) == ("answer x", "answer y")
    assert (second["chosen"][0]["content"], second["rejected"][0]["content"]) == ("answer y", "answer x")
    assert (second["score_chosen"], second["score_rejected"], second["score_ratio"]) == (20, 5, 4.0)
    assert first["prompt"][0]["content"] == "question p1"
    assert (first["id"], first["group"], first["domain"]) == ("p1:x:y", "p1", "askculinary")


def test_a_low_ratio_is_dropped_from_train_only(upstream, cache, write) -> None:
    write([pair("p1", score_ratio=3.0), pair("p2", score_A=11, score_ratio=1.1)])
    rows, tallies = built(upstream, cache, min_score_ratio=2.0)
    assert [row["group"] for row in rows["train"]] == ["p1"]
    assert [row["group"] for row in rows["test"]] == ["p1", "p2"]
    assert tallies["train"].dropped == {"score_ratio below 2": 1}


def test_pairs_of_one_post_are_limited_by_hash_not_by_order(upstream, cache, write) -> None:
    records = [pair(f"p{post}", f"a{number}") for post in range(4) for number in range(9)]
    kept = []
    for order in (records, records[::-1]):
        write(order)
        rows, tallies = built(upstream, cache, max_pairs_per_post=3)
        kept.append({row["id"] for row in rows["train"]})
        assert Counter(row["group"] for row in rows["train"]) == dict.fromkeys(("p0", "p1", "p2", "p3"), 3)
        assert tallies["train"].dropped == {"more than 3 pairs of one post": 24}
        assert len(rows["test"]) == 36
    assert kept[0] == kept[1]
    assert kept[0] != {f"p{post}:a{number}:y" for post in range(4) for number in range(3)}, "by name, not by hash"
    # With a pair more of one post, the pairs of the others stay.
    write([*records, pair("p0", "new")])
    rows, _ = built(upstream, cache, max_pairs_per_post=3)
    assert {row["id"] for row in rows["train"] if row["group"] != "p0"} == {i for i in kept[0] if i[:2] != "p0"}


def test_the_limit_counts_only_pairs_that_pass_the_ratio(upstream, cache, write) -> None:
    low = [pair("p", f"low{number}", score_A=11, score_ratio=1.1) for number in range(8)]
    write([*low, pair("p", "high1"), pair("p", "high2")])
    rows, _ = built(upstream, cache, max_pairs_per_post=2, min_score_ratio=2.0)
    assert {row["id"] for row in rows["train"]} == {"p:high1:y", "p:high2:y"}


def test_all_is_every_domain(upstream, cache, write) -> None:
    for domain in DOMAINS:
        write([pair(domain)], domain)
    rows, _ = built(upstream, cache, "all")
    assert sorted(row["domain"] for row in rows["test"]) == sorted(DOMAINS)
    assert len(DOMAINS) == 18


def test_repeated_rows_and_odd_ratios_are_counted(upstream, cache, write) -> None:
    write([pair("p1"), pair("p1"), pair("p2", score_ratio=9.0), pair("p3", score_B=0, score_ratio=30.0)])
    rows, tallies = built(upstream, cache)
    assert len(rows["train"]) == 3
    assert tallies["train"].dropped == {"the same row again": 1}
    assert tallies["train"].notes == {"score_ratio is not the ratio of the scores": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": 2}, "row 1, field 'labels': 2 is neither 0 nor 1"),
        ({"labels": True}, "row 1, field 'labels': is a bool"),
        ({"history": None}, "row 1, field 'history': is a NoneType"),
        ({"score_A": "3"}, "row 1, field 'score_A': is a str"),
        ({"flair": "x"}, "row 1: unexpected key 'flair'"),
    ],
)
def test_what_is_not_as_upstream_wrote_it_is_refused(change, message, upstream, cache, write) -> None:
    write([pair("p1"), pair("p2", **change)])
    with pytest.raises(DataError, match=message):
        built(upstream, cache)


def test_negative_options_are_refused(upstream, cache, write) -> None:
    write([pair()])
    with pytest.raises(BuilderError, match="cannot be negative"):
        built(upstream, cache, min_score_ratio=-1.0)


def test_options_may_come_as_text(upstream, cache, write) -> None:
    write([pair("p1"), pair("p2", score_A=11, score_ratio=1.1)])
    rows, _ = built(upstream, cache, min_score_ratio="2", max_pairs_per_post="5")
    assert [row["group"] for row in rows["train"]] == ["p1"]
    with pytest.raises(BuilderError, match="min_score_ratio='two' is not a number"):
        built(upstream, cache, min_score_ratio="two")


@pytest.mark.parametrize(("text", "wanted"), [("true", True), ("False", False), (True, True), (False, False)])
def test_a_switch_may_come_as_text(text, wanted, upstream, cache) -> None:
    # bool("false") is True.
    (upstream / "test_text_side.jsonl").write_text("")
    found = open_builder(
        *("android_control", "steps_text"),
        **{"data_dir": upstream, "cache_dir": cache, "options": {"checksums": "record", "boxes": text}},
    )
    assert found.config.boxes is wanted
    with pytest.raises(BuilderError, match="boxes='maybe' is not true or false"):
        open_builder("android_control", data_dir=upstream, cache_dir=cache, options={"boxes": "maybe"})


def test_options_are_part_of_the_cache_key(upstream, cache, write) -> None:
    write([pair("p", f"a{number}") for number in range(5)])
    sizes = [len(built(upstream, cache, max_pairs_per_post=limit)[0]["train"]) for limit in (0, 2, 4, 2)]
    assert sizes == [5, 2, 4, 2]


@pytest.mark.realdata
def test_the_published_example(real_data, upstream, cache, write) -> None:
    write([json.loads((real_data / "shp" / "example.jsonl").read_text().splitlines()[0])])
    rows, tallies = built(upstream, cache)
    [row] = rows["train"]
    assert row["chosen"][0]["content"].startswith("Pectinex, perhaps?")
    assert (row["score_chosen"], row["score_rejected"]) == (340, 166)
    assert tallies["train"].notes == {}
