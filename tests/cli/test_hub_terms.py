"""Rows at ``hf://`` under the terms of their data sets; the hub itself is not reached."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from datasets_builders import NAMES, builder_class
from perl_eval.cli.remote_arguments import at_hand
from perl_eval.errors import UserError
from perl_eval.records import Completion, Message
from perl_eval.storage import run_folder


class Hub:
    """A repository that is private or not, and what was sent to it."""

    def __init__(self) -> None:
        self.private = True
        self.sent: list[str] = []

    def filesystem(self, scheme: str, **_: Any) -> Any:
        assert scheme == "hf"
        place = SimpleNamespace(repo_id="me/runs", repo_type="dataset", revision="main", path_in_repo="one")
        return SimpleNamespace(
            exists=lambda _: False,
            resolve_path=lambda _: place,
            makedirs=lambda *_, **__: None,
            put_file=lambda _, path: self.sent.append(path),
        )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setenv("PERL_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fsspec, "filesystem", made.filesystem)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.upload_folder", lambda _, **given: made.sent.append(given["path_in_repo"])
    )
    monkeypatch.setattr(
        "huggingface_hub.HfApi.repo_info",
        lambda _, repo_id, repo_type: {("me/runs", "dataset"): SimpleNamespace(private=made.private)}[
            repo_id, repo_type
        ],
    )
    return made


def write_sample(folder: Path, *data_sets: str) -> Path:
    asked = (Message("user", "a latte"),)
    with run_folder.start(folder, verb="sample", arguments={}) as run:
        run.write([Completion(d, d, d, d, "p", asked, "one", "stop", 0) for d in data_sets], Completion)
    return folder


def send_sample(*data_sets: str) -> None:
    with at_hand(["sample", "--out", "hf://datasets/me/runs/one"]) as words:
        write_sample(Path(words[-1]), *data_sets)


def test_rows_know_their_data_set_by_the_name_it_is_looked_up_by() -> None:
    assert [builder_class(name).ORIGIN.name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize("private", [True, False])
def test_rows_of_a_licensed_data_set_are_never_sent_to_the_hub(private: bool, hub: Hub) -> None:
    hub.private = private
    with pytest.raises(UserError, match=r"bolt may not be uploaded anywhere: LDC.*; keep the folder local"):
        send_sample("my_own", "bolt")
    assert hub.sent == []


def test_rows_of_unclear_terms_are_sent_to_private_repositories_only(hub: Hub) -> None:
    hub.private = False
    with pytest.raises(UserError, match="tldr may not be uploaded publicly"):
        send_sample("tldr", "taskmaster_coffee")
    assert hub.sent == []
    hub.private = True
    send_sample("tldr", "taskmaster_coffee")
    assert hub.sent == ["one"]


def test_other_rows_are_sent_to_public_repositories(hub: Hub) -> None:
    hub.private = False
    send_sample("taskmaster_coffee", "my_own")
    assert hub.sent == ["one"]


@pytest.mark.parametrize("lead", ["", "--prior="])
def test_a_page_is_sent_if_what_it_shows_may_be(lead: str, hub: Hub, tmp_path: Path) -> None:
    licensed, free = write_sample(tmp_path / "a", "bolt"), write_sample(tmp_path / "b", "shp")

    def report(source: Path) -> None:
        with at_hand(["report", f"{lead}{source}", "--out", f"hf://datasets/me/runs/{source.name}.html"]) as words:
            Path(words[-1]).write_text("<!doctype html>", "utf-8")

    with pytest.raises(UserError, match="bolt may not be uploaded anywhere"):
        report(licensed)
    report(free)
    assert hub.sent == ["datasets/me/runs/b.html"]


def test_what_a_failed_verb_left_is_not_looked_at(hub: Hub) -> None:
    def fail() -> None:
        with at_hand(["sample", "--out", "hf://datasets/me/runs/one"]) as words:
            write_sample(Path(words[-1]), "bolt")
            raise UserError("the verb's own words", "do it")

    with pytest.raises(UserError, match="the verb's own words"):
        fail()
