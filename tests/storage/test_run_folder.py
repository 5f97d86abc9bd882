"""Run folders: the card comes last, finished runs are kept, unfinished ones go on, everything else is refused."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perl_eval.errors import DataError, UserError
from perl_eval.records import Completion, Estimate, HumanLabel, Measurement, RunCard
from perl_eval.storage import run_folder
from perl_eval.storage.folder_lock import HOLDER

LABELS = [HumanLabel("u", "i", "g", "p1", "win"), HumanLabel("v", "i", "g", "p1", "tie")]
MARK = ".unfinished.json"


def finish(out: Path, *, verb: str = "label", arguments: Mapping[str, Any] | None = None, **more: Any) -> Path:
    """Run a whole small verb."""
    with run_folder.start(out, verb=verb, arguments={"n": 2} if arguments is None else arguments, **more) as run:
        if not run.done:
            run.write(LABELS, HumanLabel)
    return out


def leave_unfinished(out: Path) -> Path:
    """Write a part of what `finish` writes, without the card."""
    run = run_folder.start(out, verb="label", arguments={"n": 2})
    run.write(LABELS[:1], HumanLabel)
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


# ---------------------------------------------------------------------------------------------------- the card


def test_the_card_is_written_last(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with run_folder.start(out, verb="label", arguments={}) as run:
        assert not run.done
        path = run.write(LABELS, HumanLabel)
        assert path == out / "labels.parquet"
        assert sorted(os.listdir(out)) == [HOLDER, MARK, "labels.parquet"]
        assert run_folder.read_card(out) is None
    assert sorted(os.listdir(out)) == ["labels.parquet", "run.json"]
    assert run_folder.read(out, HumanLabel) == LABELS


def test_the_card_says_how(tmp_path: Path) -> None:
    given = tmp_path / "given.txt"
    given.write_bytes(b"hello")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    with run_folder.start(tmp_path / "out", verb="label", arguments={"n": 2}, seed=7, inputs={"data": given}) as run:
        path = run.write(LABELS, HumanLabel)
        run.notes["labels"] = 2
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert (card.verb, card.arguments, card.seed) == ("label", {"n": 2, "data": str(given)}, 7)
    assert card.inputs == {str(given): hashlib.sha256(b"hello").hexdigest()}
    assert card.outputs == {"labels.parquet": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert (card.notes, card.simulated) == ({"labels": 2}, False)
    assert card.versions["python"] == sys.version.split()[0]
    assert card.versions["pyarrow"] == importlib.metadata.version("pyarrow")
    assert peak <= card.peak_memory_bytes < 2**40
    assert 0 <= card.seconds < 60
    assert card.started.startswith("20")
    assert card.started.endswith("+00:00")


def test_what_json_has_no_form_for_does_no_harm(tmp_path: Path) -> None:
    arguments = {"path": Path("a") / "b", "names": ("x", "y"), "rank": np.int64(3), "rate": np.float32(0.5), "no": None}
    for _ in range(2):
        with run_folder.start(tmp_path / "out", verb="label", arguments=arguments) as run:
            run.notes |= {"count": np.int64(4), "where": Path("c"), "text": "half \ud83d é"}
    assert run.done
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert card.arguments == {"path": str(Path("a/b")), "names": ["x", "y"], "rank": 3, "rate": 0.5, "no": None}
    assert card.notes == {"count": 4, "where": "c", "text": "half \ud83d é"}


def test_what_cannot_go_on_a_card_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot go on a run card"):
        run_folder.start(tmp_path / "out", verb="label", arguments={"judge": object()})
    assert not (tmp_path / "out").exists()


def test_ledgers_and_hidden_files_are_no_outputs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with run_folder.start(out, verb="judge", arguments={}) as run:
        for name in ("ledger.sqlite", "ledger.sqlite-wal", ".hidden", ".checkpoint/state", "model/weights", "x.txt"):
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text("1")
    assert run.done
    card = run_folder.read_card(out)
    assert card is not None
    assert sorted(card.outputs) == ["model/weights", "x.txt"]
    before = run_folder.fingerprint(out)
    (out / "ledger.sqlite").write_text("2")
    (out / ".hidden").write_text("2")
    assert run_folder.fingerprint(out) == before
    assert finish(out, verb="judge", arguments={}) == out


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_a_run_that_raises_leaves_no_card(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), run_folder.start(tmp_path / "out", verb="label", arguments={}):
        raise error
    assert os.listdir(tmp_path / "out") == [MARK]


# ---------------------------------------------------------------------------------------------------- again


def test_a_finished_run_is_done_at_once(tmp_path: Path) -> None:
    out = finish(tmp_path / "out")
    before = content(out)
    with run_folder.start(out, verb="label", arguments={"n": 2}) as run:
        assert run.done
    assert content(out) == before


def test_notes_of_a_finished_run_are_there_again(tmp_path: Path) -> None:
    with run_folder.start(tmp_path / "out", verb="label", arguments={}) as run:
        run.notes["labels"] = 2
    assert run_folder.start(tmp_path / "out", verb="label", arguments={}).notes == {"labels": 2}


def test_an_unfinished_run_goes_on(tmp_path: Path) -> None:
    out = leave_unfinished(tmp_path / "out")
    with run_folder.start(out, verb="label", arguments={"n": 2}) as run:
        assert not run.done
        assert (out / "labels.parquet").is_file()
    assert sorted(os.listdir(out)) == ["labels.parquet", "run.json"]


KILLED = """
import sys, time
from pathlib import Path
from perl_eval.storage import run_folder
from perl_eval.records import HumanLabel

with run_folder.start(Path(sys.argv[1]), verb="label", arguments={"n": 2}) as run:
    run.write([], HumanLabel)
    print("midway", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_has_no_card_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "midway\n"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert sorted(os.listdir(out)) == [HOLDER, MARK, "labels.parquet"]
    assert finish(out) == out
    assert run_folder.read(out, HumanLabel) == LABELS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verb": "judge"}, "another `label` {}: this one is `judge`"),
        ({"arguments": {"n": 3}}, "n was 2 and is now 3"),
        ({"arguments": {"n": 2, "limit": 5}}, "limit was None and is now 5"),
        ({"seed": 1}, "the seed was 0 and is now 1"),
        ({"simulated": True}, "one is simulated"),
    ],
)
@pytest.mark.parametrize("make", [finish, leave_unfinished])
def test_another_run_in_the_same_folder_is_refused_and_nothing_lost(
    tmp_path: Path, make: Any, change: dict[str, Any], said: str
) -> None:
    out = make(tmp_path / "out")
    before = content(out)
    with pytest.raises(UserError) as caught:
        run_folder.start(out, **{"verb": "label", "arguments": {"n": 2}, **change})
    assert said.format("run" if make is finish else "command") in str(caught.value)
    assert "choose another folder" in str(caught.value)
    assert content(out) == before


def test_what_a_kill_left_half_written_is_swept_away(tmp_path: Path) -> None:
    """The kill comes while the mark is written; what others write, and whose names only look alike, stays."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from perl_eval.storage import run_folder\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run_folder.start(Path(sys.argv[1]), verb='v', arguments={})\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".partial")
    others = [tmp_path / f".labels.parquet.{os.getppid()}.partial", tmp_path / ".a.partial", tmp_path / ".b.x.partial"]
    for other in others:
        other.touch()
    with run_folder.start(tmp_path, verb="v", arguments={}):
        pass
    assert sorted(path for path in tmp_path.iterdir() if path.name.startswith(".")) == sorted(others)


def test_a_changed_input_is_named(tmp_path: Path) -> None:
    given = tmp_path / "given.txt"
    given.write_text("before")
    out = finish(tmp_path / "out", inputs={"data": given})
    assert finish(out, inputs={"data": given}) == out
    given.write_text("after")
    with pytest.raises(UserError) as caught:
        finish(out, inputs={"data": given})
    expected = f"{out} holds the output of another `label` run: {given} has changed since; choose another folder"
    assert str(caught.value).startswith(expected)
    other = tmp_path / "other.txt"
    other.write_text("before")
    with pytest.raises(UserError, match=r"data was '.*given\.txt' and is now '.*other\.txt'"):
        finish(out, inputs={"data": other})


def test_hidden_work_of_another_run_is_not_taken_over(tmp_path: Path) -> None:
    # A training run that was killed before it wrote anything but its checkpoint.
    out = tmp_path / "out"
    run_folder.start(out, verb="train", arguments={"rate": 1})
    (out / ".checkpoint").mkdir()
    with pytest.raises(UserError, match="unfinished run of another `train` command: rate was 1 and is now 2"):
        run_folder.start(out, verb="train", arguments={"rate": 2})
    assert not run_folder.start(out, verb="train", arguments={"rate": 1}).done


def test_a_run_that_failed_before_it_wrote_anything_may_be_mended(tmp_path: Path) -> None:
    with pytest.raises(UserError), run_folder.start(tmp_path / "out", verb="sample", arguments={"split": "tset"}):
        raise UserError("no split 'tset'")
    assert finish(tmp_path / "out", verb="sample", arguments={"split": "test"})


@pytest.mark.parametrize("mark", [None, "{", "[]", "{}"])
def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path, mark: str | None) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    if mark is not None:
        (tmp_path / MARK).write_text(mark)
    before = content(tmp_path)
    with pytest.raises(UserError, match="not empty and not an unfinished run of this command"):
        run_folder.start(tmp_path, verb="label", arguments={})
    assert content(tmp_path) == before


def test_an_empty_folder_is_fine_and_so_are_hidden_strangers(tmp_path: Path) -> None:
    (tmp_path / ".gitkeep").touch()
    assert finish(tmp_path) == tmp_path


def test_an_output_that_cannot_be_a_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file is a file; give a folder"):
        run_folder.start(tmp_path / "file", verb="label", arguments={})
    with pytest.raises(UserError, match=r"cannot write .*; choose a folder you can write to"):
        run_folder.start(tmp_path / "file" / "out", verb="label", arguments={})


def test_a_denied_output_is_a_user_error(denied: Path) -> None:
    for out in (denied, denied / "out"):
        with pytest.raises(UserError, match=r"cannot write .*; choose a folder you can write to"):
            run_folder.start(out, verb="label", arguments={})


def test_a_missing_input_is_a_user_error_and_no_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        run_folder.start(tmp_path / "out", verb="label", arguments={}, inputs={"data": tmp_path / "nothing"})
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------- reading


def card_text(**change: Any) -> str:
    card = RunCard("v", {}, 0, {}, {}, {}, 0.0, 0, "2026-01-01T00:00:00+00:00")
    return json.dumps({**asdict(card), **change})


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}", '{"verb": "v"}', card_text(more=1), card_text(outputs=[]), card_text(verb=None)],
)
def test_a_broken_card_is_a_data_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    for reader in (run_folder.read_card, run_folder.fingerprint, run_folder.find_cards):
        with pytest.raises(DataError, match=r"run\.json: is not a run card .*; run the verb again"):
            reader(tmp_path)
    with pytest.raises(DataError):
        run_folder.start(tmp_path, verb="v", arguments={})


def test_a_card_that_is_no_text_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not a run card"):
        run_folder.read_card(tmp_path)


def test_a_written_card_comes_back(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(card_text(notes={"a": [1]}))
    card = run_folder.read_card(tmp_path)
    assert card == RunCard("v", {}, 0, {}, {}, {}, 0.0, 0, "2026-01-01T00:00:00+00:00", notes={"a": [1]})


def test_locate_takes_a_file_or_the_kinds_file_in_a_folder(tmp_path: Path) -> None:
    out = finish(tmp_path / "out")
    assert run_folder.locate(out, HumanLabel) == out / "labels.parquet"
    assert run_folder.locate(tmp_path / "any.parquet", HumanLabel) == tmp_path / "any.parquet"
    with pytest.raises(UserError, match=r"has no completions\.parquet; give a folder that holds Completion records"):
        run_folder.locate(out, Completion)
    with pytest.raises(UserError, match="no such file"):
        run_folder.read(tmp_path / "any.parquet", HumanLabel)


def test_every_kind_has_a_file_of_its_own() -> None:
    assert len(set(run_folder.FILES.values())) == len(run_folder.FILES)
    assert run_folder.FILES[Estimate] == "estimates.parquet"
    assert run_folder.FILES[Measurement] == "curve.parquet"


def test_cards_are_found_oldest_first(tmp_path: Path) -> None:
    # Made in an order that is neither that of the alphabet nor its reverse.
    for name in ("b", "a/deep/down", "c"):
        finish(tmp_path / name)
    leave_unfinished(tmp_path / "unfinished")
    found = run_folder.find_cards(tmp_path)
    assert [folder.relative_to(tmp_path).as_posix() for folder, _ in found] == ["b", "a/deep/down", "c"]
    assert all(card.verb == "label" for _, card in found)
    assert run_folder.find_cards(tmp_path / "unfinished") == []


def test_what_rests_on_a_simulated_input_is_simulated(tmp_path: Path) -> None:
    with run_folder.start(tmp_path / "a", verb="label", arguments={}, simulated=True) as going:
        (going.folder / "x.txt").write_text("x")
    with run_folder.start(tmp_path / "b", verb="score", arguments={}, inputs={"data": tmp_path / "a"}) as going:
        (going.folder / "y.txt").write_text("y")
    with run_folder.start(tmp_path / "c", verb="report", arguments={}, inputs={"data": tmp_path / "b" / "y.txt"}):
        pass
    assert [card.simulated for _, card in run_folder.find_cards(tmp_path)] == [True, True, True]
