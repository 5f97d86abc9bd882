"""Run folders in which several completions have one id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import perl_eval as pe
from perl_eval.errors import DataError
from perl_eval.judging import pairing
from perl_eval.labelling.serve import AnnotateOptions, begin
from perl_eval.records import Completion
from perl_eval.sources.brought import completions_in
from perl_eval.storage import parquet, run_folder

MADE = pe.completions([{"prompt": f"Say {n}.", "text": "x" * n, "model": "ours"} for n in range(1, 6)])


def folder_of(path: Path, ids: list[str]) -> Path:
    made = [replace(one, id=name, token_ids=(1, 2)) for one, name in zip(MADE, ids, strict=True)]
    parquet.write(path / run_folder.FILES[Completion], made, Completion)
    return path


@pytest.mark.parametrize("ids", [["same"] * 5, ["p", "q", "q", "r", "s"]])
@pytest.mark.parametrize("side", [0, 1])
def test_one_sides_ids_are_derived_and_nothing_else_changes(tmp_path: Path, ids: list[str], side: int) -> None:
    sources = [folder_of(tmp_path / "x", list("vwxyz")), folder_of(tmp_path / "y", list("abcde"))]
    sources[side] = folder_of(tmp_path / "twice", ids)
    said: list[str] = []
    found = completions_in(sources, tmp_path / "out", say=said.append)
    assert found[1 - side] == sources[1 - side]
    read = run_folder.read(found[side], Completion)
    assert len({one.id for one in read}) == 5
    assert [replace(one, id="") for one in read] == [replace(one, id="", token_ids=(1, 2)) for one in MADE]
    assert [one.id for one in read if ids.count("p") and one.id in ids] == [
        name for name in ids if ids.count(name) == 1
    ]
    assert "for several answers have the same" in said[0]
    assert not said[0].endswith(",")


def test_a_folder_with_ids_of_its_own_is_taken_as_it_is(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "x", list("abcde"))
    assert completions_in([source], tmp_path / "out") == [source]


def test_verbs_that_take_no_other_files_refuse_them(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "x", ["p", "q", "q", "r", "s"])
    why = "row 2, field 'id': 'q' is that of row 1, too"
    with pytest.raises(DataError, match=why):
        pairing.index(source / run_folder.FILES[Completion])
    with pytest.raises(DataError, match=why):
        begin(source, None, tmp_path / "session", options=AnnotateOptions(annotators=("ann",), question="Harmful?"))
