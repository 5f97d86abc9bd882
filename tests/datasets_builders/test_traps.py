"""The ways in which builders go wrong without a word; each was seen in `datasets` 5.2 or in a published builder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from datasets_builders import BuilderError, DataError, SourceError, open_builder, sources
from datasets_builders.builder import Builder
from datasets_builders.features import METADATA, message, rating
from datasets_builders.harmless import Harmless
from datasets_builders.sources import Source

RECORD = {"checksums": "record"}
TEST_ONLY = {"checksums": "record", "splits": "test"}
FILE = "harmless-base/test.jsonl.gz"


def harmless(upstream: Path, cache: Path) -> Builder:
    return open_builder("harmless", data_dir=upstream, cache_dir=cache, options=TEST_ONLY)


def ids(builder: Builder) -> list[str]:
    return list(builder.load()["test"]["id"][:])


def test_a_builder_is_an_ordinary_class_of_datasets(upstream, cache, write_lines, harmless_pair) -> None:
    # Trap 1: data sets as scripts are gone; the class must work by itself.
    write_lines(FILE, [harmless_pair("tea")])
    builder = Harmless(str(cache), config_name="pairs", data_dir=str(upstream), **TEST_ONLY)
    builder.download_and_prepare()
    assert builder.as_dataset(split="test").num_rows == 1
    assert isinstance(builder, datasets.ArrowBasedBuilder)


def test_two_builders_of_one_module_have_caches_of_their_own(upstream, cache, write_array, rated_turn, coffee) -> None:
    # Trap 2: the cache folder is named after the module, not the class.
    turn, good = {"role": "user", "text": "hi"}, {"role": "agent", "text": "hello"}
    coffee([rated_turn("coffee-row", [turn], good, 1.0)])
    for number in range(8):
        rows = [rated_turn("ticket-row", [turn], good, 0.0)] if number == 0 else []
        write_array(f"TM-3-2020/reward/reward_{number:02}.json", rows)
    found = {}
    for name in ("taskmaster_coffee", "taskmaster-ticketing"):
        builder = open_builder(name, "ratings", data_dir=upstream, cache_dir=cache, options=RECORD)
        assert Path(builder.cache_dir).relative_to(cache).parts[0] == name.replace("-", "_")
        built = builder.load()
        found[name] = [id_ for rows in built.values() for id_ in rows["id"][:]]
    assert found == {"taskmaster_coffee": ["coffee-row"], "taskmaster-ticketing": ["ticket-row"]}


def test_a_changed_file_is_read_again(upstream, cache, write_lines, harmless_pair) -> None:
    # Trap 3: the cache key of datasets knows neither the files nor the code.
    write_lines(FILE, [harmless_pair("tea")])
    before = ids(harmless(upstream, cache))
    write_lines(FILE, [harmless_pair("tea"), harmless_pair("milk")])
    after = ids(harmless(upstream, cache))
    assert (len(before), len(after)) == (1, 2)


def test_changed_code_does_not_read_the_old_cache(upstream, cache, write_lines, harmless_pair, monkeypatch) -> None:
    # Trap 3, the other half.
    write_lines(FILE, [harmless_pair("tea")])
    before = harmless(upstream, cache)
    assert harmless(upstream, cache).cache_dir == before.cache_dir
    monkeypatch.setattr(sources, "code_sha256", lambda: "other code")
    assert harmless(upstream, cache).cache_dir != before.cache_dir


def test_every_module_of_the_package_is_part_of_the_code_hash(monkeypatch) -> None:
    package = Path(sources.__file__).parent
    assert {path.name for path in package.glob("*.py")} >= {"harmless.py", "columns.py", "builder.py", "sources.py"}
    real = Path.read_bytes
    before = sources.code_sha256.__wrapped__()
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + (b"#" if path.name == "columns.py" else b""))
    assert sources.code_sha256.__wrapped__() != before


def test_a_forced_rebuild_after_a_change_works(upstream, cache, write_lines, harmless_pair) -> None:
    # Trap 4: expected sizes are restored from the old cache, and the forced rebuild fails on them.
    write_lines(FILE, [harmless_pair("tea")])
    harmless(upstream, cache).download_and_prepare()
    write_lines(FILE, [harmless_pair("tea"), harmless_pair("milk")])
    builder = harmless(upstream, cache)
    builder.download_and_prepare(download_mode="force_redownload")
    assert builder.as_dataset(split="test").num_rows == 2


def test_another_file_than_the_pinned_one_is_refused(upstream, cache, write_lines, harmless_pair) -> None:
    # Trap 5: datasets verifies no checksum unless it recorded them itself.
    write_lines(FILE, [harmless_pair("tea")])
    builder = open_builder("harmless", data_dir=upstream, cache_dir=cache, options={"splits": "test"})
    with pytest.raises(SourceError, match=r"is not the upstream harmless-base/test.jsonl.gz: sha256 is \w{64}, pinned"):
        builder.load()


@pytest.mark.parametrize("pin", ["sha256", "git_sha1"])
def test_the_pinned_file_is_accepted(pin, upstream) -> None:
    # sha256 of b"hello\n" and its git blob id, as `sha256sum` and `git hash-object` print them.
    pins = {
        "sha256": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        "git_sha1": "ce013625030ba8dba906f756967f9e9ca394464a",
    }
    path = upstream / "hello.txt"
    path.write_bytes(b"hello\n")
    assert sources.verify(Source("hello.txt", **{pin: pins[pin]}), path) == pins["sha256"]
    path.write_bytes(b"hello!")
    with pytest.raises(SourceError, match="pinned is"):
        sources.verify(Source("hello.txt", **{pin: pins[pin]}), path)


class _TwoFiles(Builder):
    """A builder whose ids come from the file, so that they can be equal."""

    ORIGIN = Harmless.ORIGIN
    BUILDER_CONFIGS = Harmless.BUILDER_CONFIGS
    DEFAULT_CONFIG_NAME = "pairs"

    def _shape(self):
        return datasets.Features(dict.fromkeys(METADATA, datasets.Value("string")))

    def _sources(self):
        return {"train": [Source("a.jsonl"), Source("b.jsonl")], "test": [Source("c.jsonl")]}

    def _rows(self, split, part, tally):  # noqa: ARG002
        for row, record in enumerate(json.loads(line) for line in part.path.read_text().splitlines()):
            if record == "boom":
                raise DataError("boom", part.name, row, "field")
            yield row, self._metadata(part, id=record, group=record)


def two_files(upstream: Path, cache: Path, **options: Any) -> _TwoFiles:
    return _TwoFiles(str(cache), data_dir=str(upstream), checksums="record", **options)


@pytest.mark.parametrize("num_proc", [None, 2])
@pytest.mark.parametrize(
    ("contents", "place"),
    [
        ({"a": "xyx", "b": "z", "c": "w"}, "a.jsonl, row 2"),
        ({"a": "xy", "b": "zy", "c": "w"}, "b.jsonl, row 1"),
        ({"a": "xy", "b": "z", "c": "wvz"}, "c.jsonl, row 2"),
    ],
)
def test_equal_ids_are_refused_with_their_place(num_proc, contents, place, upstream, cache, write_lines) -> None:
    # Trap 6: datasets says it raises on duplicate keys, and does not. Within a file, between files, between splits.
    for name, ids_ in contents.items():
        write_lines(f"{name}.jsonl", ids_)
    with pytest.raises(DataError, match=f"{place}, field 'id': id '.' is there twice"):
        two_files(upstream, cache).load(num_proc=num_proc)


def test_a_refused_build_leaves_no_cache_behind(upstream, cache, write_lines) -> None:
    for name, content in (("a", ["x", "x"]), ("b", []), ("c", [])):
        write_lines(f"{name}.jsonl", content)
    for _ in range(2):
        with pytest.raises(DataError, match="twice"):
            two_files(upstream, cache).load()


@pytest.mark.parametrize("num_proc", [None, 2])
def test_an_error_comes_out_as_it_was_raised(num_proc, upstream, cache, write_lines) -> None:
    # datasets wraps every error, and a worker process loses what it wrapped.
    for name, content in (("a", ["x"]), ("b", ["y", "boom"]), ("c", [])):
        write_lines(f"{name}.jsonl", content)
    with pytest.raises(DataError) as caught:
        two_files(upstream, cache).load(num_proc=num_proc)
    assert (caught.value.file, caught.value.row, caught.value.field) == ("b.jsonl", 1, "field")
    assert str(caught.value) == "b.jsonl, row 1, field 'field': boom"


def test_workers_make_the_same_rows_in_the_same_order(upstream, cache, write_lines) -> None:
    for name, content in (("a", ["x", "y"]), ("b", ["z"]), ("c", ["w"])):
        write_lines(f"{name}.jsonl", content)
    alone = two_files(upstream, cache / "1").load()
    together = two_files(upstream, cache / "2").load(num_proc=2)
    assert alone["train"][:] == together["train"][:]
    assert alone["train"]["id"][:] == ["x", "y", "z"]


def test_a_wrong_number_of_rows_is_refused(upstream, cache, write_lines, harmless_pair, monkeypatch) -> None:
    # Trap 7: expected row counts; dropped rows count as there.
    path = write_lines(FILE, [harmless_pair("tea"), {"chosen": "no", "rejected": "turns"}])
    monkeypatch.setattr(Harmless, "FILES", {"test": Source(FILE, sha256=sources.sha256_of(path))})
    monkeypatch.setattr(Harmless, "COUNTS", {"pairs": {"test": 2}})
    assert Harmless(str(cache / "2"), data_dir=str(upstream)).load()["test"].num_rows == 1
    monkeypatch.setattr(Harmless, "COUNTS", {"pairs": {"test": 3}})
    with pytest.raises(DataError, match="pairs test: 2 rows, upstream has 3"):
        Harmless(str(cache / "3"), data_dir=str(upstream)).load()


@pytest.mark.parametrize("text", ["2", "null", "true", '{"a": 1}', "[]", '"quoted"', "", " yes "])
def test_text_that_looks_like_json_stays_text(text, upstream, cache, rated_turn, coffee) -> None:
    # Trap 8: a Json() feature stores the string "2" as the number 2.
    context = [
        {"role": "user", "text": text},
        {"role": "agent", "api": {"find": {"query": text, "nested": [text]}}},
        {"role": "api", "response": {"find": text}},
    ]
    coffee([rated_turn("row", context, {"role": "agent", "text": text}, 1.0)])
    built = open_builder("taskmaster_coffee", data_dir=upstream, cache_dir=cache, options=RECORD).load()
    [row] = [row for rows in built.values() for row in rows]
    user, call, tool = row["prompt"]
    assert user["content"] == tool["content"] == row["completion"][0]["content"] == text
    assert call["tool_calls"][0]["function"]["arguments"] == {"query": text, "nested": [text]}


def test_messages_are_lists_of_messages(upstream, cache, write_lines, harmless_pair) -> None:
    # Trap 9: Sequence of a dict is a dict of lists.
    write_lines(FILE, [harmless_pair("tea")])
    row = harmless(upstream, cache).load()["test"][0]
    assert [turn["role"] for turn in row["prompt"]] == ["user", "assistant", "user"]
    assert isinstance(row["chosen"], list)
    assert isinstance(row["chosen"][0], dict)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": None}, "row 1, field 'chosen': is a NoneType, expected text"),
        ({"chosen": 3}, "row 1, field 'chosen': is a int, expected text"),
        ({"margin": 1.0}, "row 1: unexpected key 'margin'"),
    ],
)
def test_other_keys_than_expected_are_refused(change, message, upstream, cache, write_lines, harmless_pair) -> None:
    # Trap 10: datasets drops unknown keys and fills missing ones.
    write_lines(FILE, [harmless_pair("tea"), harmless_pair("milk") | change])
    with pytest.raises(DataError, match=message):
        harmless(upstream, cache).load()


def test_a_missing_key_is_refused(upstream, cache, write_lines, harmless_pair) -> None:
    write_lines(FILE, [harmless_pair("tea"), {"chosen": "x"}])
    with pytest.raises(DataError, match="row 1: key 'rejected' is missing"):
        harmless(upstream, cache).load()


def test_a_row_with_another_column_never_reaches_the_table() -> None:
    # Trap 10 on our own side: a builder that forgets or misspells a column.
    from datasets_builders.columns import table_of

    features = datasets.Features({"id": datasets.Value("string")})
    for row in ({"id": "a", "idd": "b"}, {}):
        with pytest.raises(KeyError, match="id"):
            table_of([row], features)


def test_pictures_stay_encoded() -> None:
    # Trap 12: a picture must not be decoded and encoded again on its way.
    from datasets_builders.columns import table_of
    from datasets_builders.features import parts

    picture = b"\x89PNG not a picture at all \x00\x00"
    row = {
        "prompt": [parts("user", "what?", images=1)],
        "completion": [parts("assistant", "a cat")],
        "label": True,
        "images": [{"bytes": picture, "path": None}],
        **{"id": "1", "group": "1", "dataset": "d", "source_file": "f"},
    }
    table = table_of([row], rating(vision=True))
    rows = datasets.Dataset(table).cast_column("images", datasets.List(datasets.Image(decode=False)))
    assert rows[0]["images"] == [{"bytes": picture, "path": None}]
    assert rows[0]["prompt"][0]["content"] == [{"type": "image", "text": None}, {"type": "text", "text": "what?"}]


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_gzip_is_refused(keep, upstream, cache, write_lines, harmless_pair) -> None:
    path = write_lines(FILE, [harmless_pair(f"tea {number}") for number in range(500)])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match=r"test\.jsonl\.gz, row \d+: is cut short or damaged"):
        harmless(upstream, cache).load()


def test_streaming_makes_the_same_rows(upstream, cache, write_lines, harmless_pair) -> None:
    write_lines(FILE, [harmless_pair(f"tea {number}") for number in range(20)])
    built = harmless(upstream, cache).load()["test"]
    streamed = harmless(upstream, cache).load(streaming=True)["test"]
    assert isinstance(streamed, datasets.IterableDataset)
    assert list(streamed) == list(built)
    assert streamed.features == built.features


def test_streaming_beside_a_finished_cache_does_not_count_twice(upstream, cache, write_lines, harmless_pair) -> None:
    write_lines(FILE, [harmless_pair("tea"), {"chosen": "no", "rejected": "turns"}])
    builder = harmless(upstream, cache)
    builder.load()
    list(harmless(upstream, cache).load(streaming=True)["test"])
    tally = harmless(upstream, cache).tallies()["test"]
    assert (tally.kept, tally.dropped.total()) == (1, 1)


def test_the_drop_log_is_there_on_a_cache_hit(upstream, cache, write_lines, harmless_pair) -> None:
    write_lines(FILE, [harmless_pair("tea"), {"chosen": "no", "rejected": "turns"}])
    harmless(upstream, cache).load()
    again = harmless(upstream, cache)
    again.load()
    assert dict(again.tallies()["test"].dropped) == {"the transcripts differ before the last answer": 1}


def test_a_column_is_not_a_list_until_asked(upstream, cache, write_lines, harmless_pair) -> None:
    # Trap 11: ds["id"] is lazy; a comparison with a list is False without a word.
    write_lines(FILE, [harmless_pair("tea")])
    column = harmless(upstream, cache).load()["test"]["id"]
    assert not isinstance(column, list)
    assert isinstance(column[:], list)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": "dev"}, "harmless pairs has no split 'dev'; choose from train, test"),
        ({"checksums": "none"}, "checksums='none'; choose 'verify' or 'record'"),
        ({"colour": "red"}, "harmless has no option 'colour'; choose from checksums, splits"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options, message, upstream, cache) -> None:
    with pytest.raises(BuilderError) as caught:
        open_builder("harmless", data_dir=upstream, cache_dir=cache, options=options)
    assert str(caught.value) == message


def test_stored_types_are_those_of_the_features(upstream, cache, write_lines, harmless_pair) -> None:
    write_lines(FILE, [harmless_pair("tea")])
    built = harmless(upstream, cache).load()["test"]
    assert built.data.schema.field("prompt").type == built.features.arrow_schema.field("prompt").type
    assert pa.types.is_list(built.data.schema.field("prompt").type)
    assert message("user", "x").keys() == built.features["prompt"].feature.keys()
