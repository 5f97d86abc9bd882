"""The verb build: folder, run card, errors, checks and options."""

from __future__ import annotations

import csv
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest

from perl_eval import building
from perl_eval.building import BuildOptions
from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.storage import run_folder

TEST_ONLY = BuildOptions(splits=("test",), checksums="record")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


def write_harmless(folder: Path, words: list[str], extra: list[dict[str, str]] | None = None) -> Path:
    """Write the test file of HH-RLHF with a made-up pair a word."""
    rows = [
        {
            "chosen": f"\n\nHuman: {word}?\n\nAssistant: No {word}.",
            "rejected": f"\n\nHuman: {word}?\n\nAssistant: Yes, a lot of {word}.",
        }
        for word in words
    ]
    path = folder / "harmless-base" / "test.jsonl.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in [*rows, *(extra or [])]).encode()))
    return folder


def test_a_build_is_a_run_folder_that_load_dataset_reads(tmp_path, capsys) -> None:
    source = write_harmless(tmp_path / "up", ["tea", "milk"], [{"chosen": "no", "rejected": "turns"}])
    out = building.run("harmless", tmp_path / "out", data_dir=source, options=TEST_ONLY)
    card = run_folder.read_card(out)
    assert card is not None
    assert card.verb == "build"
    assert card.notes["rows"] == {"pairs/test": 2}
    assert card.notes["dropped"] == {"pairs/test": {"the transcripts differ before the last answer": 1}}
    assert set(card.outputs) == {"README.md", "croissant.json", "pairs/test-00000-of-00001.parquet"}
    assert run_folder.fingerprint(out / "pairs")
    rows = datasets.load_dataset(str(out), "pairs", cache_dir=str(tmp_path / "hub"))["test"]
    assert [row["chosen"][0]["content"] for row in rows] == ["No tea.", "No milk."]
    shown = capsys.readouterr().out
    assert "1 dropped: the transcripts differ before the last answer" in shown


def test_the_same_build_again_does_nothing_and_another_is_refused(tmp_path) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])
    out = building.run("harmless", tmp_path / "out", data_dir=source, options=TEST_ONLY)
    before = (out / "run.json").stat().st_mtime_ns
    building.run("harmless", tmp_path / "out", data_dir=source, options=TEST_ONLY)
    assert (out / "run.json").stat().st_mtime_ns == before
    write_harmless(source, ["tea", "milk"])
    with pytest.raises(UserError, match="holds the output of another `build` run"):
        building.run("harmless", tmp_path / "out", data_dir=source, options=TEST_ONLY)


def test_changed_builder_code_is_another_build(tmp_path, monkeypatch) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])
    building.run("harmless", tmp_path / "out", data_dir=source, options=TEST_ONLY)
    monkeypatch.setattr("datasets_builders.sources.code_sha256", lambda: "other")
    with pytest.raises(UserError, match="another `build` run"):
        building.run("harmless", tmp_path / "out", data_dir=source, options=TEST_ONLY)


def test_an_interrupted_build_goes_on(tmp_path, monkeypatch) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("datasets_builders.card.write_card", stop)
        with pytest.raises(KeyboardInterrupt):
            building.run("harmless", tmp_path / "out", data_dir=source, options=TEST_ONLY)
    assert run_folder.read_card(tmp_path / "out") is None
    out = building.run("harmless", tmp_path / "out", data_dir=source, options=TEST_ONLY)
    assert run_folder.read_card(out) is not None


def test_checks_go_on_card_and_screen(tmp_path, capsys) -> None:
    other = building.run(
        "harmless", tmp_path / "other", data_dir=write_harmless(tmp_path / "up1", ["tea"]), options=TEST_ONLY
    )
    options = BuildOptions(splits=("test",), checksums="record", against=other)
    source = write_harmless(tmp_path / "up2", ["tea", "milk"])
    out = building.run("harmless", tmp_path / "out", data_dir=source, check=True, options=options)
    card = run_folder.read_card(out)
    assert card is not None
    found = {(one["check"], one["where"]): (one["count"], one["of"]) for one in card.notes["checks"]["pairs"]}
    assert found["the same prompt", "test from other"] == (1, 2)
    assert found["the chosen answer is longer", "test"] == (0, 2)
    assert "| the same prompt | test from other | 1 of 2 | 50.0% |" in (out / "README.md").read_text()
    assert "Checks: pairs" in capsys.readouterr().out
    assert list(card.inputs) == [str(other)]


def test_files_without_a_pinned_checksum_are_told_of(tmp_path, capsys) -> None:
    options = {"checksums": "record"}
    source = tmp_path / "up"
    for split in ("train", "validation", "test"):
        path = source / "legaladvice" / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    building.run("shp", tmp_path / "one", config="legaladvice", data_dir=source, options=BuildOptions(**options))
    assert "nothing to compare with" not in capsys.readouterr().out
    building.run("shp", tmp_path / "two", config="legaladvice", data_dir=source)
    assert (
        "3 of 3 files had nothing to compare with, as no checksum of them is pinned: legaladvice/test.json, "
        "legaladvice/train.json, legaladvice/validation.json; the card has the sha256 of what was read"
    ) in capsys.readouterr().out


def test_the_card_is_in_the_name_of_who_publishes_and_has_a_form_for_machines(tmp_path) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])
    options = BuildOptions(splits=("test",), checksums="record", org="Some Lab")
    out = building.run("harmless", tmp_path / "out", data_dir=source, options=options)
    assert "Built and published by Some Lab" in (out / "README.md").read_text()
    described = json.loads((out / "croissant.json").read_text())
    assert described["publisher"]["name"] == "Some Lab"
    assert [one["@id"] for one in described["recordSet"]] == ["pairs/test"]
    plain = building.run("harmless", tmp_path / "plain", data_dir=source, options=TEST_ONLY)
    assert "published by" not in (plain / "README.md").read_text()


def test_rows_that_are_in_a_file_too_are_listed(tmp_path, capsys) -> None:
    source = write_harmless(tmp_path / "up", ["tea", "milk"])
    plain = building.run("harmless", tmp_path / "plain", data_dir=source, options=TEST_ONLY)
    first, second = pq.read_table(next(plain.glob("pairs/*.parquet"))).to_pylist()
    held = tmp_path / "eval.jsonl"
    held.write_text(json.dumps({"id": "e1", "prompt": second["prompt"], "text": "something else"}) + "\n")
    options = BuildOptions(splits=("test",), checksums="record", against=held)
    out = building.run("harmless", tmp_path / "out", data_dir=source, check=True, options=options)
    with (out / building.LEAKS).open(newline="") as handle:
        lines = [(line["id"], line["other_id"], line["kind"]) for line in csv.DictReader(handle)]
    assert lines == [(second["id"], "e1", "equal prompt")]
    assert first["id"] != second["id"]
    assert "| leaks in any way | test in eval.jsonl | 1 of 2 | 50.0% |" in (out / "README.md").read_text()
    assert "leaks in any way" in capsys.readouterr().out


def test_what_cannot_be_compared_with_is_told_before_anything_is_built(tmp_path) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])
    (tmp_path / "eval.jsonl").write_text("{")
    for name, check, error, said in (
        ("nowhere", True, UserError, "no such file or folder"),
        ("eval.jsonl", False, UserError, "against is for check; give --check too"),
        ("eval.jsonl", True, DataError, "eval.jsonl"),
        ("up", True, UserError, "holds no built rows"),
    ):
        options = BuildOptions(splits=("test",), checksums="record", against=tmp_path / name)
        with pytest.raises(error, match=said):
            building.run("harmless", tmp_path / "out", data_dir=source, check=check, options=options)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("harmles", None, "no data set 'harmles'; choose from taskmaster_coffee, "),
        ("harmless", "pair", "harmless has no configuration 'pair'; choose from pairs"),
        ("harmless", ["pairs", "pear"], "harmless has no configuration 'pear'"),
    ],
)
def test_a_wrong_request_is_a_user_error(name, config, message, tmp_path) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])
    with pytest.raises(UserError, match=message):
        building.run(name, tmp_path / "out", config=config, data_dir=source, options=TEST_ONLY)
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_or_file_is_a_user_error(tmp_path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        building.run("harmless", tmp_path / "out", data_dir=tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no harmless-base/train\.jsonl\.gz; download it from"):
        building.run("harmless", tmp_path / "out", data_dir=write_harmless(tmp_path / "up", ["tea"]))


def test_a_wrong_file_is_a_user_error(tmp_path) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])
    with pytest.raises(UserError, match="is not the upstream"):
        building.run("harmless", tmp_path / "out", data_dir=source, options=BuildOptions(splits=("test",)))


def test_bad_data_is_a_data_error_with_its_place(tmp_path) -> None:
    source = write_harmless(tmp_path / "up", ["tea"], [{"chosen": "x"}])
    with pytest.raises(DataError) as caught:
        building.run("harmless", tmp_path / "out", data_dir=source, options=TEST_ONLY)
    assert (caught.value.file, caught.value.row) == ("harmless-base/test.jsonl.gz", 1)
    assert str(caught.value) == "harmless-base/test.jsonl.gz, row 1: key 'rejected' is missing"
    assert run_folder.read_card(tmp_path / "out") is None


@pytest.mark.parametrize("public", [False, True])
def test_bolt_is_refused_before_anything_is_built(public, tmp_path) -> None:
    options = BuildOptions(push_to_hub="me/bolt", public=public)
    with pytest.raises(UserError, match="bolt may not be uploaded anywhere"):
        building.run("bolt", tmp_path / "out", data_dir=tmp_path, options=options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("public", [False, True])
def test_push_uploads_the_finished_folder(public, tmp_path, monkeypatch) -> None:
    pushed = []
    monkeypatch.setattr(
        "datasets_builders.publish.push",
        lambda folder, repo, origin, *, private: pushed.append((folder, repo, origin.name, private)),
    )
    source = write_harmless(tmp_path / "up", ["tea"])
    options = BuildOptions(splits=("test",), checksums="record", push_to_hub="me/x", public=public)
    out = building.run("harmless", tmp_path / "out", data_dir=source, options=options)
    assert pushed == [(out, "me/x", "harmless", not public)]


def test_settings_of_a_data_set_reach_it(tmp_path) -> None:
    with pytest.raises(UserError, match="shp has no option 'ratio'; choose from checksums, splits, min_score_ratio"):
        building.run("shp", tmp_path / "out", data_dir=tmp_path, options=BuildOptions(settings={"ratio": 2}))


@pytest.mark.realdata
def test_real_coffee_reads_back_with_plain_pyarrow(tmp_path, real_data) -> None:
    import pyarrow.parquet as pq

    out = building.run(
        "taskmaster-coffee", tmp_path / "out", config=["ratings", "pairs"], data_dir=real_data / "taskmaster"
    )
    rows = [row for path in sorted((out / "ratings").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len(rows) == 3228
    calls = [json.loads(call) for row in rows for turn in row["completion"] for call in turn["tool_calls"] or ()]
    assert len(calls) == 2433  # generations that are API calls, as counted by others
    assert sum(call["function"]["name"] == "" for call in calls) == 25
    assert sum(row["label"] for row in rows) == 2775


def test_rows_that_leak_are_left_out_counted_and_said(tmp_path, capsys) -> None:
    source = write_harmless(tmp_path / "up", ["tea", "milk", "cake"])
    held = tmp_path / "ours.csv"
    held.write_text("case_id,user_query\nc7,Milk?\nc8,Water?\n", "utf-8")
    named = {"prompt": "user_query"}
    found = BuildOptions(splits=("test",), checksums="record", against=held, columns=named)
    listed = building.run("harmless", tmp_path / "listed", data_dir=source, check=True, options=found)
    told = f"1 of 3 rows is in ours.csv: {listed / building.LEAKS}; --drop-leaks leaves them out\n"
    assert told in capsys.readouterr().out
    without = replace(found, drop_leaks=True)
    out = building.run("harmless", tmp_path / "out", data_dir=source, check=True, options=without)
    told = f"1 of 3 rows is in ours.csv: {out / building.LEAKS}; left out of the data\n"
    assert told in capsys.readouterr().out
    (loaded,) = datasets.load_dataset(str(out), "pairs").values()
    assert [row["prompt"][0]["content"] for row in loaded] == ["tea?", "cake?"]
    card = (out / "README.md").read_text()
    assert "| pairs | test | dropped | is in ours.csv | 1 |" in card
    assert "| leaks in any way | test in ours.csv | 1 of 3 |" in card
    assert re.search(r"\| equal prompt \| test in ours.csv \| 1 of 3 \|.*left out", card)
    notes = run_folder.read_card(out).notes
    assert (notes["rows"], notes["dropped"]) == ({"pairs/test": 2}, {"pairs/test": {"is in ours.csv": 1}})
    with (out / building.LEAKS).open(newline="") as handle:
        (line,) = csv.DictReader(handle)
    assert (line["other_id"], line["other_text"]) == ("c7", "Milk?")


def test_nothing_leaks_and_that_is_said(tmp_path, capsys) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])
    (tmp_path / "ours.txt").write_text("Water?\n", "utf-8")
    options = BuildOptions(splits=("test",), checksums="record", against=tmp_path / "ours.txt", drop_leaks=True)
    out = building.run("harmless", tmp_path / "out", data_dir=source, check=True, options=options)
    assert "None of 1 rows is in ours.txt\n" in capsys.readouterr().out
    assert run_folder.read_card(out).notes["dropped"] == {"pairs/test": {}}


@pytest.mark.parametrize("given", [{"drop_leaks": True}, {"columns": {"prompt": "q"}}])
def test_what_is_about_a_file_of_texts_needs_one(tmp_path, given: dict[str, Any]) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])
    with pytest.raises(OptionError, match="is about texts to look for, and none are given") as caught:
        building.run("harmless", tmp_path / "out", data_dir=source, check=True, options=replace(TEST_ONLY, **given))
    option = "--drop-leaks" if "drop_leaks" in given else "--column"
    assert caught.value.typed().startswith(f"{option} is about texts")
    assert caught.value.typed().endswith("give --check and --against too")
    assert not (tmp_path / "out").exists()


def test_columns_of_a_built_folder_are_not_named(tmp_path) -> None:
    source = write_harmless(tmp_path / "up", ["tea"])
    other = building.run("harmless", tmp_path / "other", data_dir=source, options=TEST_ONLY)
    options = replace(TEST_ONLY, against=other, columns={"prompt": "q"})
    with pytest.raises(UserError, match="is a built folder, whose columns are known; leave --column out"):
        building.run("harmless", tmp_path / "out", data_dir=source, check=True, options=options)
