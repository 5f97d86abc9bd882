"""Folders at addresses, on fsspec's memory and on a folder that plays a bucket."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
import tiny_models
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from perl_eval.cli import main
from perl_eval.errors import UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.records import Completion, Message
from perl_eval.storage import remote, run_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERL_EVAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Bucket(DirFileSystem):  # type: ignore[misc]
    """A folder as a bucket; after ``puts`` files the line breaks."""

    puts = 1000

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        type(self).puts -= 1
        if type(self).puts < 0:
            raise OSError("the line broke")
        super().put_file(lpath, rpath)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that s3:// leads to."""
    place = tmp_path / "store"
    place.mkdir()
    real = fsspec.filesystem
    monkeypatch.setattr(Bucket, "puts", 1000)

    def opened(scheme: str, **options: Any) -> Any:
        if scheme != "s3":
            return real(scheme, **options)
        return Bucket(str(place), LocalFileSystem(auto_mkdir=True), skip_instance_cache=True)

    monkeypatch.setattr(fsspec, "filesystem", opened)
    return place


def write_run(folder: Path, texts: list[str]) -> None:
    with run_folder.start(folder, verb="sample", arguments={"texts": texts}) as run:
        if not run.done:
            asked = (Message("user", "a latte"),)
            run.write([Completion(t, t, t, "d", "p", asked, t, "stop", 0) for t in texts], Completion)


def send(address: str, texts: list[str]) -> None:
    with remote.staged(address) as folder:
        write_run(folder, texts)


def texts_at(address: str) -> list[str]:
    return [one.text for one in run_folder.read(remote.fetch(address), Completion)]


@pytest.mark.parametrize("scheme", ["s3", "memory"])
def test_what_is_sent_comes_back(scheme: str, bucket: Path, cache: Path, tmp_path: Path) -> None:
    address = f"{scheme}://{tmp_path.name}-a/runs/one"
    send(address, ["a", "b"])
    assert texts_at(address) == ["a", "b"]
    place = remote.fetch(address)
    assert sorted(path.name for path in place.iterdir()) == ["completions.parquet", "run.json"]
    assert remote.fetch(f"{address}/completions.parquet").read_bytes() == (place / "completions.parquet").read_bytes()
    assert remote.shown(place / "completions.parquet") == f"{address}/completions.parquet"
    assert remote.shown(tmp_path / "elsewhere") == str(tmp_path / "elsewhere")
    assert remote.local(address) == place
    assert remote.local("here/it/is") == Path("here/it/is")


def test_a_fetched_folder_comes_once_and_a_changed_one_anew(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bucket / "rows").mkdir()
    (bucket / "rows" / "train.parquet").write_bytes(b"one")
    first = remote.fetch("s3://rows")
    monkeypatch.setattr(Bucket, "get_file", lambda *_: pytest.fail("what is in the cache was fetched again"))
    assert remote.fetch("s3://rows") == first
    monkeypatch.undo()


def test_a_change_at_the_address_is_seen(bucket: Path) -> None:
    (bucket / "rows").mkdir()
    for content in (b"one", b"three"):
        (bucket / "rows" / "train.parquet").write_bytes(content)
        assert (remote.fetch("s3://rows") / "train.parquet").read_bytes() == content


@pytest.mark.parametrize("puts", [0, 1])
def test_a_folder_sent_in_part_is_never_read_and_is_sent_again(puts: int, bucket: Path) -> None:
    Bucket.puts = puts
    with pytest.raises(UserError, match="cannot write s3://runs/one: the line broke"):
        send("s3://runs/one", ["a"])
    assert not (bucket / "runs" / "one" / "run.json").exists()
    with pytest.raises(UserError, match="is there in part"):
        remote.fetch("s3://runs/one")
    Bucket.puts = 1000
    send("s3://runs/one", ["a"])  # the run itself is done, and only sent
    assert texts_at("s3://runs/one") == ["a"]
    assert sorted(path.name for path in (bucket / "runs" / "one").iterdir()) == ["completions.parquet", "run.json"]


def test_the_card_goes_last(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name in ("put_file", "pipe_file", "rm_file"):
        plain = getattr(Bucket, name)

        def noted(self: Bucket, *given: Any, plain: Callable[..., Any] = plain, name: str = name, **more: Any) -> Any:
            order.append(f"{name} {given[0 if name != 'put_file' else 1].rpartition('/')[2]}")
            return plain(self, *given, **more)

        monkeypatch.setattr(Bucket, name, noted)
    send("s3://runs/one", ["a"])
    assert order == [
        "pipe_file .unfinished.json",
        "put_file completions.parquet",
        "put_file run.json",
        "rm_file .unfinished.json",
    ]


def fail(address: str) -> None:
    with remote.staged(address) as folder:
        write_run(folder, ["a"])
        raise ZeroDivisionError


def test_a_failed_verb_sends_nothing(bucket: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail("s3://runs/one")
    with remote.staged("s3://runs/two") as folder:
        folder.mkdir(parents=True)
        (folder / "half.parquet").write_bytes(b"x")  # unfinished: no card
    assert not (bucket / "runs").exists()


def test_a_finished_run_is_found_and_another_is_refused(bucket: Path, cache: Path) -> None:
    send("s3://runs/one", ["a"])
    card = (bucket / "runs" / "one" / "run.json").read_bytes()
    (cache / "out").rename(cache / "gone")  # as on another machine
    send("s3://runs/one", ["a"])
    assert (bucket / "runs" / "one" / "run.json").read_bytes() == card
    with pytest.raises(UserError, match="holds the output of another `sample` run: texts was"):
        send("s3://runs/one", ["b"])
    (bucket / "mine").mkdir()
    (bucket / "mine" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="s3://mine is not empty and holds no run"):
        send("s3://mine", ["a"])


def overtaken(bucket: Path) -> None:
    with remote.staged("s3://runs/one") as folder:
        write_run(folder, ["a"])
        (bucket / "runs" / "one").mkdir(parents=True)
        (bucket / "runs" / "one" / "run.json").write_text("{}")


def test_a_run_that_was_sent_meanwhile_is_not_overwritten(bucket: Path) -> None:
    with pytest.raises(UserError, match="another run was sent to runs/one meanwhile"):
        overtaken(bucket)
    assert (bucket / "runs" / "one" / "run.json").read_text() == "{}"


def test_ledgers_stay_here(bucket: Path) -> None:
    with remote.staged("s3://runs/one") as folder:
        write_run(folder, ["a"])
        (folder / "ledger.sqlite").write_bytes(b"x")
        (folder / ".scratch").write_bytes(b"x")
    assert sorted(path.name for path in (bucket / "runs" / "one").iterdir()) == ["completions.parquet", "run.json"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://nothing/here", "there is nothing at s3://nothing/here"),
        ("s3://key:secret@bucket/x", "the s3 address holds a user or a key"),
        ("s3://a/../b", "names no folder"),
        ("s3:///", "names no folder"),
        ("ftp://a/b", "is not an address; begin it with one of hf://"),
    ],
)
def test_bad_addresses_are_one_line(address: str, message: str, bucket: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        remote.fetch(address)
    assert "secret" not in str(caught.value)


def test_a_listing_cannot_lead_out_of_the_cache(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bucket / "rows").mkdir()
    monkeypatch.setattr(Bucket, "find", lambda *_, **__: {"rows/../../../evil": {"size": 1}})
    with pytest.raises(UserError, match="is not a name for a file"):
        remote.fetch("s3://rows")


@pytest.mark.parametrize(("scheme", "driver"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_driver_is_one_line_that_names_the_extra(
    scheme: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(UserError, match=rf"{scheme}:// needs a driver.*pip install 'perl-eval\[{scheme}\]'"):
        remote.fetch(f"{scheme}://bucket/x")


def test_the_hub_gets_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub itself is not reached: its file system and its client are made up."""
    sent: list[dict[str, Any]] = []
    place = SimpleNamespace(repo_id="me/runs", repo_type="dataset", revision="main", path_in_repo="one")
    hub = SimpleNamespace(
        exists=lambda _: False, resolve_path=lambda path: place if path == "datasets/me/runs/one" else None
    )
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: hub)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda _, **given: sent.append(given))
    send("hf://datasets/me/runs/one", ["a"])
    (given,) = sent
    assert {name: given[name] for name in vars(place)} == vars(place)
    assert given["allow_patterns"] == ["completions.parquet", "run.json"]


def test_an_adapter_finds_the_model_that_it_was_trained_on_by_its_address(
    bucket: Path, cache: Path, tmp_path: Path
) -> None:
    tiny_models.save_blank(bucket / "models" / "prior")
    backbone = open_backbone(remote.fetch("s3://models/prior"))
    backbone.attach("policy", LoraShape(2), seed=0)
    backbone.save("policy", tmp_path / "policy")
    assert json.loads((tmp_path / "policy" / "base.json").read_text())["path"] == "s3://models/prior"
    (cache / "in").rename(cache / "gone")  # as on another machine
    again = open_backbone(tmp_path / "policy")
    again.attach_saved("policy", tmp_path / "policy")
    assert again.sha256 == backbone.sha256


# ---------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str]]:
    def run(line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["perl-eval", *line.split()])
        with pytest.raises(SystemExit) as stopped:
            main()
        shown = capsys.readouterr()
        return int(stopped.value.code or 0), shown.out or shown.err

    return run


def test_a_verb_reads_and_writes_addresses(
    bucket: Path, command: Callable[[str], tuple[int, str]], tmp_path: Path
) -> None:
    asked = (Message("user", "a small latte with oat milk please"),)
    for policy in ("rl", "sft"):
        with (
            remote.staged(f"s3://runs/{policy}") as folder,
            run_folder.start(folder, verb="sample", arguments={}) as run,
        ):
            run.write([Completion(policy, "i", "g", "d", policy, asked, f"one {policy}", "stop", 0)], Completion)
    line = "judge s3://runs/rl s3://runs/sft --judge scripted:length --prompt dialogue --out s3://runs/judged"
    for _ in range(2):
        code, said = command(line)
        assert (code, said.splitlines()[-1]) == (0, "s3://runs/judged")
    card = json.loads((bucket / "runs" / "judged" / "run.json").read_text("utf-8"))
    assert set(card["inputs"]) == {"s3://runs/rl", "s3://runs/sft"}
    assert card["arguments"]["a"] == "s3://runs/rl"
    assert str(tmp_path) not in json.dumps(card)
    code, said = command("score s3://runs/judged --out=s3://runs/scored")
    assert (code, said.splitlines()[-1]) == (0, "s3://runs/scored")
    assert (bucket / "runs" / "scored" / "estimates.parquet").is_file()
    code, said = command("report s3://runs/scored --out s3://runs/page.html")
    assert code == 0
    assert (bucket / "runs" / "page.html").read_text("utf-8").startswith("<!")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("judge s3://a s3://b --ledger s3://l.sqlite --out s3://c", "there is nothing at s3://a"),
        ("judge a b --ledger s3://l.sqlite --out s3://c", "--ledger s3://l.sqlite is written to while the verb runs"),
        ("build taskmaster-coffee --out hf://datasets/me/coffee", "give --push-to-hub"),
        ("judge a b --judge reward:s3://none --out c", "there is nothing at s3://none"),
    ],
)
def test_wrong_addresses_among_the_words_are_one_line(
    line: str, message: str, bucket: Path, command: Callable[[str], tuple[int, str]]
) -> None:
    code, said = command(line)
    assert (code, len(said.splitlines())) == (2, 1)
    assert message in said


def test_what_a_driver_logs_of_a_failure_is_held_back_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("gcsfs.retry")

    def fail() -> None:
        with remote._explained("gs://mine/x", "read"):
            logger.exception("out of retries")
            logging.getLogger("mine").error("kept")
            raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(UserError, match="no connection: Connection refused"):
        fail()
    assert [one.message for one in caplog.records] == ["kept"]
    logger.error("and afterwards as before")
    assert caplog.records[-1].message == "and afterwards as before"
