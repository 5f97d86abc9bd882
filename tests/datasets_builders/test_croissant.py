"""The card for machines: required keys, files with their checksums, a field a column; and mlcroissant's own opinion."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from test_checks import Rows, write

from datasets_builders import NAMES, builder_class, features
from datasets_builders.card import Built
from datasets_builders.croissant import FILE, croissant
from datasets_builders.harmless import Harmless
from datasets_builders.tally import Tally

WANTED = {"@context", "@type", "conformsTo", "name", "description", "license", "url", "distribution", "recordSet"}
"""What the specification requires of a data set that has files and records."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of one configuration with two splits."""
    splits = {"test": Rows().rated("a", "b", "c", label=False).rows, "train": Rows().rated("d").rated("e").rows}
    write(tmp_path / "set" / "ratings", splits)
    return tmp_path / "set"


def described(folder: Path, **how: str) -> dict[str, Any]:
    tallies = {"train": Tally(kept=2), "test": Tally(kept=1)}
    built = {"ratings": Built("a rating", list(features.rating()), tallies, {})}
    return croissant(Harmless.ORIGIN, built, folder, **how)


def test_what_the_specification_requires_is_there(folder: Path) -> None:
    made = described(folder)
    assert made.keys() >= WANTED
    assert (made["@type"], made["conformsTo"]) == ("sc:Dataset", "http://mlcommons.org/croissant/1.0")
    assert made["license"] == "https://spdx.org/licenses/MIT.html"
    assert "offensive" in made["description"].lower() or "abuse" in made["description"]
    files = {one["@id"]: one for one in made["distribution"]}
    assert len(files) == len(made["distribution"]) == 4
    for path in sorted(folder.glob("*/*.parquet")):
        about = files[path.relative_to(folder).as_posix()]
        assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (folder / about["contentUrl"]).is_file()
    assert [one["@id"] for one in made["recordSet"]] == ["ratings/test", "ratings/train"]
    for records in made["recordSet"]:
        columns = {one["source"]["extract"]["column"] for one in records["field"]}
        assert columns == set(features.rating())
        assert {one["source"]["fileSet"]["@id"] for one in records["field"]} <= set(files)
    kinds = {one["@id"]: one["dataType"] for one in made["recordSet"][0]["field"]}
    assert kinds["ratings/test/label"] == "sc:Boolean"


def test_a_publisher_is_named_where_there_is_one(folder: Path) -> None:
    assert "publisher" not in described(folder)
    assert described(folder, org="Some Lab")["publisher"] == {"@type": "Organization", "name": "Some Lab"}


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_has_a_licence_or_its_terms(name: str, folder: Path) -> None:
    tallies = {"train": Tally(), "test": Tally()}
    made = croissant(builder_class(name).ORIGIN, {"ratings": Built("x", [], tallies, {})}, folder)
    assert made["license"]
    json.dumps(made)


def test_mlcroissant_reads_the_rows(folder: Path) -> None:
    reader = pytest.importorskip("mlcroissant")
    (folder / FILE).write_text(json.dumps(described(folder)))
    (row,) = reader.Dataset(str(folder / FILE)).records("ratings/test")
    assert [turn["ratings/test/prompt/content"].decode() for turn in row["ratings/test/prompt"]] == ["a", "b", "c"]
