"""The folder that is written, the card on it, and what may be pushed."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

from datasets_builders import NAMES, BuilderError, DataError, builder_class, open_builder
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


def test_a_failed_build_leaves_the_earlier_rows(built, upstream, cache, write_lines, harmless_pair) -> None:
    write_lines(FILE, [harmless_pair("rice"), {"chosen": 3}])
    with pytest.raises(DataError):
        write_config(open_builder("harmless", data_dir=upstream, cache_dir=cache, options=OPTIONS), built)
    assert not list(built.glob(".*"))
    assert datasets.load_dataset(str(built), "pairs", cache_dir=str(cache / "hub"))["test"].num_rows == 2


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


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload needs; remembers what it was sent."""

    server: _HubServer

    def _answer(self, content: Any, code: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer({"id": "me/harmless", "private": self.server.is_private, "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        where = f"http://127.0.0.1:{self.server.server_port}/datasets/me/harmless"
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(sent))
            self._answer({"url": where}, 409 if self.server.is_taken else 200)
        elif self.path.endswith("/preupload/main"):
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(sent)["files"]
            ]
            self._answer({"files": files})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        else:
            lines = [json.loads(line)["value"] for line in sent.splitlines() if json.loads(line)["key"] == "file"]
            self.server.files |= {one["path"]: base64.b64decode(one["content"]) for one in lines}
            self._answer(
                {"success": True, "commitOid": "1" * 40, "commitUrl": f"{where}/commit/{'1' * 40}", "hookOutput": ""}
            )

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hub)
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.is_private = True
        self.is_taken = False


@pytest.fixture
def hub(monkeypatch) -> Iterator[_HubServer]:
    """Return a hub of this machine's, for the real client."""
    with _HubServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield server
        server.shutdown()


def test_push_uploads_card_and_rows_privately(built, hub) -> None:
    (built / "run.json").write_text("{}")
    push(built, "me/harmless", builder_class("harmless").ORIGIN)
    [made] = hub.created
    assert made == {"name": "harmless", "organization": "me", "type": "dataset", "visibility": "private"}
    kept = [path for path in built.rglob("*") if path.is_file() and path.name != "run.json"]
    assert hub.files == {str(path.relative_to(built)): path.read_bytes() for path in kept}
    assert "README.md" in hub.files


def test_a_private_push_into_a_public_repository_is_refused(built, hub) -> None:
    # create_repo takes what is there already, public or not.
    hub.is_taken, hub.is_private = True, False
    with pytest.raises(BuilderError, match="me/harmless is there already and public"):
        push(built, "me/harmless", builder_class("harmless").ORIGIN)
    assert not hub.files
    push(built, "me/harmless", builder_class("harmless").ORIGIN, private=False)
    assert hub.files


def test_a_refusal_of_the_hub_is_one_line(built) -> None:
    with pytest.raises(BuilderError, match=r"cannot push to a/b/c \(.*\); check the name"):
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
