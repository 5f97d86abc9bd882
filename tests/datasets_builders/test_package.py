"""The door of the package: names, configurations, folders, and what an import costs."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

import datasets_builders
from datasets_builders import NAMES, BuilderError, DataError, SourceError, builder_class, load, open_builder

CONFIGS = {
    "taskmaster_coffee": {"ratings", "pairs", "dialogs"},
    "taskmaster_ticketing": {"ratings", "pairs", "dialogs"},
    "tldr": {"comparisons", "posts", "axis"},
    "bolt": {"messages"},
    "harmless": {"pairs"},
    "vqav2": {"questions", "ratings", "pairs"},
    "llmbar": {"pairs", "natural", "adversarial"},
    "judgebench": {"pairs", "gpt", "claude"},
    "reward_bench_2": {"pairs", "ties"},
    "mt_bench": {"pairs", "votes"},
}


def test_the_public_names() -> None:
    assert set(datasets_builders.__all__) == {
        *("NAMES", "BuilderError", "DataError", "SourceError", "builder_class", "load", "open_builder"),
    }
    assert (
        *("taskmaster_coffee", "taskmaster_ticketing", "tldr", "bolt"),
        *("harmless", "shp", "android_control", "vqav2"),
        *("llmbar", "judgebench", "reward_bench_2", "mt_bench"),
    ) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_builder_with_hyphens_too(name) -> None:
    found = builder_class(name.replace("_", "-"))
    configs = [one.name for one in found.BUILDER_CONFIGS]
    assert found.DEFAULT_CONFIG_NAME in configs
    assert len(set(configs)) == len(configs)
    assert all(one.description for one in found.BUILDER_CONFIGS)
    assert set(found.UNASKED) <= set(configs)
    assert set(found.COUNTS) <= set(configs)
    if name in CONFIGS:
        assert set(configs) == CONFIGS[name]


def test_an_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(BuilderError) as caught:
        load("taskmaster")
    assert str(caught.value) == f"no data set 'taskmaster'; choose from {', '.join(NAMES)}"


def test_an_unknown_configuration_lists_those_that_exist(tmp_path) -> None:
    with pytest.raises(BuilderError) as caught:
        load("taskmaster-coffee", "ratngs", data_dir=tmp_path)
    assert str(caught.value) == ("taskmaster-coffee has no configuration 'ratngs'; choose from ratings, pairs, dialogs")


def test_one_split_is_loaded_as_datasets_does_it(upstream, cache, write_lines, harmless_pair) -> None:
    for split, words in (("train", ["a", "b", "c", "d"]), ("test", ["e"])):
        write_lines(f"harmless-base/{split}.jsonl.gz", [harmless_pair(word) for word in words])
    given = {"data_dir": upstream, "cache_dir": cache, "checksums": "record"}
    whole = load("harmless", **given)
    assert {split: rows.num_rows for split, rows in whole.items()} == {"train": 4, "test": 1}
    assert load("harmless", split="train", **given)["id"][:] == whole["train"]["id"][:]
    assert load("harmless", split="train[:50%]+test", **given).num_rows == 3
    assert [row["id"] for row in load("harmless", split="test", streaming=True, **given)] == whole["test"]["id"][:]
    with pytest.raises(BuilderError) as caught:
        load("harmless", split="dev", **given)
    assert str(caught.value) == "harmless pairs has no split 'dev'; choose from train, test"
    with pytest.raises(BuilderError, match="harmless has no option 'checksum'; choose from checksums, splits"):
        load("harmless", data_dir=upstream, checksum="record")


def test_a_missing_folder_is_one_line(tmp_path) -> None:
    with pytest.raises(SourceError) as caught:
        load("harmless", data_dir=tmp_path / "nowhere", cache_dir=tmp_path)
    assert str(caught.value) == f"no such folder: {tmp_path}/nowhere; give the folder that holds the upstream files"


def test_a_missing_file_is_one_line_that_says_where_to_get_it(tmp_path) -> None:
    with pytest.raises(SourceError) as caught:
        load("harmless", data_dir=tmp_path, cache_dir=tmp_path)
    assert str(caught.value).startswith(f"{tmp_path} has no harmless-base/train.jsonl.gz; download it from https://")


@pytest.mark.parametrize("inside", ["", "harmless-base"])
def test_the_folder_may_be_anywhere_on_the_way(inside, upstream, cache, write_lines, harmless_pair) -> None:
    write_lines("harmless-base/test.jsonl.gz", [harmless_pair("tea")])
    options = {"checksums": "record", "splits": "test"}
    rows = open_builder("harmless", data_dir=upstream / inside, cache_dir=cache, options=options).load()["test"]
    assert rows["source_file"][:] == ["harmless-base/test.jsonl.gz"]


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch) -> None:
    def fail(self, url):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("datasets.DownloadManager.download", fail)
    with pytest.raises(
        SourceError, match=r"cannot download https://.* \(no connection: no route to host\); check the network"
    ):
        load("harmless", cache_dir=tmp_path)


@pytest.mark.parametrize("streaming", [False, True])
def test_downloads_are_verified_and_then_read(streaming, tmp_path, monkeypatch, write_lines, harmless_pair) -> None:
    path = write_lines("test.jsonl.gz", [harmless_pair("tea")])
    asked = []

    def give(self, url):
        asked.append(url)
        return str(path)

    monkeypatch.setattr("datasets.DownloadManager.download", give)
    options = {"splits": "test"}
    with pytest.raises(SourceError, match=r"is not the upstream harmless-base/test\.jsonl\.gz"):
        open_builder("harmless", cache_dir=tmp_path, options=options).load(streaming=streaming)
    options["checksums"] = "record"
    rows = open_builder("harmless", cache_dir=tmp_path, options=options).load(streaming=streaming)["test"]
    assert len(list(rows)) == 1
    assert set(asked) == {
        "https://raw.githubusercontent.com/anthropics/hh-rlhf/354e5c3cb8960630860dd5774a6ac2a58313bf4d"
        "/harmless-base/test.jsonl.gz"
    }


@pytest.mark.parametrize(
    "error",
    [
        BuilderError("what", "fix"),
        SourceError("what"),
        DataError("what", "file", 3, "field", "fix"),
        DataError("w", "f"),
    ],
)
def test_errors_survive_the_way_back_from_a_worker(error) -> None:
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_importing_the_package_loads_nothing_heavy_and_nothing_of_perl_eval() -> None:
    code = (
        "import sys, datasets_builders; "
        "heavy = {'datasets', 'pyarrow', 'numpy', 'torch', 'pandas', 'perl_eval'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "[datasets_builders.builder_class(name) for name in datasets_builders.NAMES]; "
        "assert 'perl_eval' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
