"""Files of a run folder that are no longer what its card says: whoever reads one refuses it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from perl_eval.errors import DataError, UserError
from perl_eval.records import HumanLabel
from perl_eval.storage import parquet, run_folder

LABELS = [HumanLabel("u", "i", "g", "p1", "win"), HumanLabel("v", "i", "g", "p1", "tie")]


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Return a run folder with files at the top and two levels below."""
    out = tmp_path / "out"
    with run_folder.start(out, verb="build", arguments={}) as run:
        run.write(LABELS, HumanLabel)
        (out / "ratings" / "parts").mkdir(parents=True)
        (out / "ratings" / "train.parquet").write_bytes(b"rows")
        (out / "ratings" / "parts" / "0.parquet").write_bytes(b"part")
    return out


READERS = {
    "file": lambda out: run_folder.fingerprint(out / "ratings" / "train.parquet"),
    "folder": run_folder.fingerprint,
    "folder inside": lambda out: run_folder.fingerprint(out / "ratings"),
    "read": lambda out: run_folder.read(out, HumanLabel),
    "read file": lambda out: run_folder.read(out / "labels.parquet", HumanLabel),
    "start over": lambda out: run_folder.start(out, verb="build", arguments={}),
    "as input": lambda out: run_folder.start(out.parent / "next", verb="judge", arguments={}, inputs={"a": out}),
    "deep file": lambda out: run_folder.fingerprint(out / "ratings" / "parts" / "0.parquet"),
}
SEES = {
    "labels.parquet": {"folder", "read", "read file", "start over", "as input"},
    "ratings/train.parquet": {"file", "folder", "folder inside", "start over", "as input"},
    "ratings/parts/0.parquet": {"deep file", "folder", "folder inside", "start over", "as input"},
}


@pytest.mark.parametrize("name", SEES)
@pytest.mark.parametrize("gone", [False, True])
def test_a_changed_file_is_refused_by_whoever_reads_it(deep: Path, name: str, gone: bool) -> None:
    for reader in READERS.values():
        reader(deep)
    shutil.rmtree(deep.parent / "next")
    path = deep / name
    if gone:
        path.unlink()
    else:
        parquet.write(path, LABELS[:1], HumanLabel)  # a good table, but another
    for who, reader in READERS.items():
        if who in SEES[name]:
            with pytest.raises((DataError, UserError)) as caught:
                reader(deep)
            assert path.name in str(caught.value)
            if not gone:
                assert isinstance(caught.value, DataError)
                assert "does not match the sha256" in str(caught.value)
                assert "run `build` again" in str(caught.value)
        else:
            reader(deep)
    assert path.exists() != gone


def test_without_a_card_a_file_is_taken_as_it_is(deep: Path) -> None:
    (deep / "run.json").unlink()
    parquet.write(deep / "labels.parquet", LABELS[:1], HumanLabel)
    assert run_folder.read(deep, HumanLabel) == LABELS[:1]
    expected = hashlib.sha256((deep / "labels.parquet").read_bytes()).hexdigest()
    assert run_folder.fingerprint(deep / "labels.parquet") == expected


def test_a_file_the_card_does_not_name_is_taken_as_it_is(deep: Path) -> None:
    (deep / "notes.txt").write_text("mine")
    assert run_folder.fingerprint(deep / "notes.txt") == hashlib.sha256(b"mine").hexdigest()


def test_a_folder_has_a_fingerprint_of_names_and_content(tmp_path: Path) -> None:
    def make(name: str, files: dict[str, str]) -> str:
        for inside, text in files.items():
            (tmp_path / name / inside).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / inside).write_text(text)
        return run_folder.fingerprint(tmp_path / name)

    one = make("one", {"a": "1", "b/c": "2"})
    assert one == make("two", {"b/c": "2", "a": "1"})
    others = [make("three", {"a": "2", "b/c": "1"}), make("four", {"a": "1", "b/d": "2"}), make("five", {"a": "1"})]
    assert len({one, *others}) == 4


def test_a_relative_path_and_a_link_are_checked_too(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (deep.parent / "link").symlink_to(deep)
    (deep.parent / "elsewhere.txt").write_text("x")
    (deep / "linked.txt").symlink_to(deep.parent / "elsewhere.txt")
    assert run_folder.fingerprint(deep / "linked.txt") == hashlib.sha256(b"x").hexdigest()
    parquet.write(deep / "labels.parquet", LABELS[:1], HumanLabel)
    monkeypatch.chdir(deep)
    for path in (Path("labels.parquet"), Path("."), deep.parent / "link", deep.parent / "link" / "labels.parquet"):
        with pytest.raises(DataError, match="does not match"):
            run_folder.fingerprint(path)
