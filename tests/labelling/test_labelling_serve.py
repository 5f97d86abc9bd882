"""The verb as it runs: killed, interrupted, restarted; and what it refuses to start."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from server import PROGRAM, Server
from sessions import completions, session

from perl_eval.errors import UserError
from perl_eval.labelling import run
from perl_eval.labelling.export import export
from perl_eval.labelling.security import token_of
from perl_eval.labelling.serve import Address, AnnotateOptions, begin, links
from perl_eval.labelling.store import Store
from perl_eval.labelling.units import Drawing
from perl_eval.records import Completion, HumanLabel
from perl_eval.storage import parquet, run_folder

PEOPLE = ("--annotator", "ann", "--annotator", "bob", "--overlap", "2")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    completions(tmp_path / "a", "kappa", 400)
    completions(tmp_path / "b", "sigma", 400)
    return tmp_path


def test_nothing_that_was_acknowledged_is_lost_on_kill_9(shelf: Path) -> None:
    """Two people label as fast as they can; the server is killed in the middle, twice, and started again."""
    acknowledged: dict[tuple[str, str], tuple[str, str]] = {}
    port = 0
    for _ in range(2):
        with Server(shelf, *PEOPLE, port=port) as server:
            port, enough = server.port, threading.Event()
            goal = len(acknowledged) + 30

            def work(name: str, server: Server = server, enough: threading.Event = enough, goal: int = goal) -> None:
                while True:
                    try:
                        task = server.call(name, "/api/next")["task"]
                        said = {"unit": task["unit"], "choice": ("first", "second", "tie")[len(acknowledged) % 3]}
                        kept = server.call(name, "/api/label", {**said, "note": f"{name} {len(acknowledged)}"})
                    except (OSError, http.client.HTTPException):
                        return
                    assert kept["status"] == 200
                    acknowledged[name, task["unit"]] = (said["choice"], "")
                    if len(acknowledged) >= goal:
                        enough.set()

            threads = [threading.Thread(target=work, args=(name,)) for name in ("ann", "bob")]
            for thread in threads:
                thread.start()
            assert enough.wait(60)
            server.kill()
            for thread in threads:
                thread.join()
    with Store(shelf / "labelling" / "labelling.sqlite") as store:
        kept = {(one.annotator, one.task.unit): one for one in store.given()}
    assert acknowledged.keys() <= kept.keys()
    assert len(kept) <= len(acknowledged) + 4  # one each was under way, and may be there or not
    for key, (choice, _) in acknowledged.items():
        side = {True: {"first": "win", "second": "loss"}, False: {"first": "loss", "second": "win"}}[kept[key].a_first]
        assert kept[key].label == side.get(choice, "tie")


def test_ctrl_c_ends_the_verb_and_the_same_command_goes_on_with_the_same_links(shelf: Path) -> None:
    with Server(shelf, *PEOPLE) as server:
        first, port = server.links, server.port
        task = server.call("ann", "/api/next")["task"]
        assert server.call("ann", "/api/label", {"unit": task["unit"], "choice": "tie"})["status"] == 200
        assert server.interrupt() == (0, "labelling\n")
    with Server(shelf, *PEOPLE, port=port) as server:
        assert server.links == first
        assert server.call("ann", "/api/next")["progress"]["mine"] == 1
        # Labels are there for `agree` while the server runs.
        export(shelf / "labelling", shelf / "labels")
    assert [label.label for label in run_folder.read(shelf / "labels", HumanLabel)] == ["tie"]


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    completions(tmp_path / "a", "kappa")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = Address(port=other.getsockname()[1])
        with pytest.raises(UserError, match=r"cannot serve at 127\.0\.0\.1, port \d+: .*; give another port"):
            run(tmp_path / "a", None, tmp_path / "s", options=AnnotateOptions(question="Good?"), address=taken)
    nowhere = Address("192.0.2.1", 0)  # an address that no machine has
    with pytest.raises(UserError, match=r"cannot serve at 192\.0\.2\.1, port 0"):
        run(tmp_path / "a", None, tmp_path / "s", options=AnnotateOptions(question="Good?"), address=nowhere)
    for port in (-1, 65536):
        with pytest.raises(UserError, match=f"port is {port}"):
            Address(port=port)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"needs uvicorn; install the extra: pip install 'perl-eval\[annotate\]'"):
        run(tmp_path / "a", None, tmp_path / "s", options=AnnotateOptions(question="Good?"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotators": ("ann", "ann")}, "given twice"),
        ({"annotators": ("",)}, "not a pseudonym"),
        ({"annotators": ("a\x1b[31m",)}, "not a pseudonym"),
        ({"annotators": ("x" * 65,)}, "not a pseudonym"),
        ({"overlap": 2}, "overlap is 2; it needs as many annotators, and there are 1"),
        ({"overlap": 0}, "overlap is 0"),
        ({"lease_s": 0.0}, "lease_s is 0.0"),
        ({"lease_s": float("nan")}, "lease_s is nan"),
    ],
)
def test_options_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        AnnotateOptions(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"by": "luck"}, "no way to draw 'luck'"),
        ({"limit": 0}, "limit is 0"),
        ({"by": "split"}, "none can be drawn by split"),
    ],
)
def test_drawings_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Drawing(**changes)


def test_a_yes_needs_a_meaning(tmp_path: Path) -> None:
    completions(tmp_path / "a", "kappa")
    with pytest.raises(UserError, match="a yes needs a meaning"):
        begin(tmp_path / "a", None, tmp_path / "s", options=AnnotateOptions())


def test_other_inputs_are_another_session(tmp_path: Path) -> None:
    session(tmp_path).__exit__(None, None, None)
    options = AnnotateOptions(("ann", "bob"), question="And now?")
    with pytest.raises(UserError, match=r"is another session: question was 'Which answer is better\?'"):
        begin(tmp_path / "a", tmp_path / "b", tmp_path / "session", options=options)
    answers = run_folder.read(tmp_path / "a", Completion)[1:]
    parquet.write(tmp_path / "fewer.parquet", answers, Completion)
    with pytest.raises(UserError, match="is another session: a was"):
        begin(tmp_path / "fewer.parquet", tmp_path / "b", tmp_path / "session", options=AnnotateOptions(("ann", "bob")))


def test_links_hold_the_token_where_no_server_is_sent_it(tmp_path: Path) -> None:
    with session(tmp_path) as store:
        token = token_of(store.secret, "ann")
        for address, start in (
            (Address(), "http://127.0.0.1:8000/"),
            (Address("0.0.0.0", 80), "http://127.0.0.1:80/"),
            (Address("::1", 90), "http://[::1]:90/"),
            (Address("0.0.0.0", 80, ("label.example",)), "http://label.example:80/"),
        ):
            assert links(store, address)["ann"] == f"{start}#{token}"
    assert [
        Address(host).is_local for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "x.example")
    ] == [*(True, True, True, False, False, False)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("annotate nowhere other", "nowhere"),
        ("annotate a b --draw luck", "--draw 'luck' is not known; choose from random, uncertain, split"),
        ("annotate a b --overlap 2", "--overlap is 2; it needs as many annotators"),
        ("annotate a", "a yes needs a meaning"),
        ("export nowhere --out out", "no such file or folder: nowhere"),
        ("export a --out out --form excel", "a is not a session of annotate"),
    ],
)
def test_mistakes_are_one_line(shelf: Path, line: str, words: str) -> None:
    done = subprocess.run([*PROGRAM, *line.split()], cwd=shelf, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (shelf / "out").exists()
