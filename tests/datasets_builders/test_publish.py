"""The folder that is written, the card on it, and what may be pushed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

from datasets_builders import NAMES, BuilderError, builder_class, open_builder
from datasets_builders.card import write_card
from datasets_builders.publish import push, refuse_push, write_config

FILE = "harmless-base/test.jsonl.gz"
OPTIONS = {"checksums": "record", "splits": "test"}


@pytest.fixture
def built(upstream, cache, write_lines, harmless_pair, tmp_path) -> Path:
    """Return a folder with a card and one configuration of two rows."""
    write_lines(FILE, [harmless_pair("tea"), harmless_pair("milk"), {"chosen": "no", "rejected": "turns"}])
    builder = open_builder("harmless", data_dir=upstream, cache_dir=cache, options=OPTIONS)
    folder = tmp_path / "out"
    one = write_config(builder, folder)
    (folder / "README.md").write_text(write_card(builder.ORIGIN, {"pairs": one}))
    return folder


def test_the_folder_is_read_back_by_name_of_configuration(built, cache, upstream) -> None:
    back = datasets.load_dataset(str(built), "pairs", cache_dir=str(cache / "hub"))
    direct = open_builder("harmless", data_dir=upstream, cache_dir=cache, options=OPTIONS).load()
    assert list(back) == ["test"]
    assert back["test"].features == direct["test"].features
    assert list(back["test"]) == list(direct["test"])


def test_the_folder_holds_the_card_and_the_rows_and_nothing_else(built) -> None:
    files = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert files == {"README.md", "pairs/test-00000-of-00001.parquet"}
    assert not list(built.glob(".*"))


def test_the_card_says_what_was_built(built) -> None:
    card = huggingface_hub.DatasetCard.load(built / "README.md")
    # Trap 13: the licence on the card is the only one that a reader of the folder sees.
    assert card.data.license == "mit"
    assert card.data.to_dict()["configs"] == [
        {"config_name": "pairs", "data_files": [{"split": "test", "path": "pairs/test-*.parquet"}]}
    ]
    text = card.text
    assert "**Content warning.**" in text
    assert "| pairs | test | 2 | 1 |" in text
    place = f"{FILE}:2"
    assert f"| pairs | test | dropped | the transcripts differ before the last answer | 1 | {place} |" in text
    assert "recorded, nothing to compare with" in text
    assert "Built with checksums = record, splits = test." in text
    assert "354e5c3cb8960630860dd5774a6ac2a58313bf4d" in text


def test_a_build_again_replaces_the_rows(built, upstream, cache, write_lines, harmless_pair) -> None:
    write_lines(FILE, [harmless_pair("rice")])
    write_config(open_builder("harmless", data_dir=upstream, cache_dir=cache, options=OPTIONS), built)
    back = datasets.load_dataset(str(built), "pairs", cache_dir=str(cache / "hub"))
    assert back["test"].num_rows == 1


def test_many_shards_are_numbered(upstream, cache, write_lines, harmless_pair, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("datasets_builders.publish._SHARD", "1KB")
    monkeypatch.setattr("datasets_builders.reading._BLOCK_BYTES", 1000)
    monkeypatch.setattr("datasets_builders.reading.blocks.__kwdefaults__", {"size": 1000})
    write_lines(FILE, [harmless_pair(f"tea {number}") for number in range(40)])
    builder = open_builder("harmless", data_dir=upstream, cache_dir=cache, options=OPTIONS)
    one = write_config(builder, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "pairs").iterdir())
    assert len(names) > 1
    assert names == [f"test-{at:05}-of-{len(names):05}.parquet" for at in range(len(names))]
    (tmp_path / "out" / "README.md").write_text(write_card(builder.ORIGIN, {"pairs": one}))
    back = datasets.load_dataset(str(tmp_path / "out"), "pairs", cache_dir=str(cache / "hub"))
    assert back["test"].num_rows == 40


class _Hub:
    """Stands for the hub's client and remembers what it was asked."""

    asked: list[tuple[str, dict[str, Any]]]

    def __init__(self) -> None:
        type(self).asked = []

    def create_repo(self, repo_id: str, **options: Any) -> str:
        self.asked.append((repo_id, options))
        return f"https://hub/{repo_id}"

    def upload_folder(self, **options: Any) -> None:
        self.asked.append(("upload", options))


def test_push_uploads_card_and_rows_privately(built, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", _Hub)
    origin = builder_class("harmless").ORIGIN
    assert push(built, "me/harmless", origin) == "https://hub/me/harmless"
    (repo, made), (_, sent) = _Hub.asked
    assert (repo, made["private"], made["repo_type"]) == ("me/harmless", True, "dataset")
    assert sent["folder_path"] == built
    assert sent["allow_patterns"] == ["README.md", "*/*.parquet"]


def test_a_refusal_of_the_hub_is_one_line(built, monkeypatch) -> None:
    class Failing(_Hub):
        def create_repo(self, repo_id: str, **options: Any) -> str:  # noqa: ARG002
            raise huggingface_hub.errors.HFValidationError(f"bad name {repo_id}")

    monkeypatch.setattr(huggingface_hub, "HfApi", Failing)
    with pytest.raises(BuilderError, match=r"cannot push to a/b/c \(bad name a/b/c\); check the name"):
        push(built, "a/b/c", builder_class("harmless").ORIGIN)


def test_terms_decide_what_may_be_pushed() -> None:
    allowed = {}
    for name in NAMES:
        origin = builder_class(name).ORIGIN
        assert origin.name == name
        allowed[name] = origin.publishing
        for private in (True, False):
            forbidden = origin.publishing == "never" or (origin.publishing == "private" and not private)
            if forbidden:
                with pytest.raises(BuilderError, match="may not be uploaded"):
                    refuse_push(origin, private=private)
            else:
                refuse_push(origin, private=private)
    assert allowed["bolt"] == "never"
    assert allowed["shp"] == allowed["tldr"] == "private"
    assert allowed["harmless"] == allowed["taskmaster_coffee"] == "public"


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_says_where_it_is_from_and_on_what_terms(name) -> None:
    origin = builder_class(name).ORIGIN
    for field in ("title", "homepage", "licence", "terms", "citation", "description", "splits"):
        assert getattr(origin, field).strip(), field
    assert origin.citation.lstrip().startswith("@")
