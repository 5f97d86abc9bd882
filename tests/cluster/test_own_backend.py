"""A backend of one's own goes wherever the built-in ones go: judge, verify, reread, prune, Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import own_backend
import pytest
from own_backend import CountJudge

from perl_eval.client.ledger import Ledger
from perl_eval.errors import UserError
from perl_eval.judges import readers
from perl_eval.judges.backends.offline import READING
from perl_eval.judges.registry import BackendOptions, open_judge, register_backend
from perl_eval.judging import judge
from perl_eval.records import Completion, Judgement, Message
from perl_eval.storage import run_folder

OPTIONS = judge.JudgeOptions("dialogue")
TOLD = BackendOptions(tie_margin=1.0)
OUTCOMES = ["loss", "tie", "tie", "tie", "win", "win"]


def saved(folder: Path, side: str, counts: list[int]) -> Path:
    with run_folder.start(folder, verb="sample", arguments={"side": side}) as run:
        run.write(
            [
                Completion(
                    f"{side}{at}", f"i{at}", "g", "d", side, (Message("user", "tea"),), "please " * count, "stop", 0
                )
                for at, count in enumerate(counts)
            ],
            Completion,
        )
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return saved(tmp_path / "a", "a", [0, 1, 2, 3, 4, 9]), saved(tmp_path / "b", "b", [2] * 6)


def outcomes(run: Path) -> list[str]:
    return [row.outcome for row in run_folder.read(run, Judgement)]


def test_it_judges_and_its_run_is_verified_and_read_again_from_the_card(
    command: Callable[[str], Any], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    out = judge.run(*pair, tmp_path / "out", judge=open_judge("count:please", TOLD), options=OPTIONS)
    assert outcomes(out) == OUTCOMES
    card = run_folder.read_card(out)
    assert card is not None
    assert card.arguments["judge"] == {"door": "count", "model": "please", "parameters": {}}
    assert card.notes[READING] == {
        "reader": {"name": "counts", "margin": 1},
        "positional": False,
        "simulated": False,
        "sees": "candidates",
    }
    assert command(f"verify {out}").out == "all 6 judgements come out the same\n"
    command(f"judge --reread {out} --out {tmp_path}/again")
    assert run_folder.read(tmp_path / "again", Judgement) == run_folder.read(out, Judgement)


def test_it_may_be_given_as_an_object(command: Callable[[str], Any], pair: tuple[Path, Path], tmp_path: Path) -> None:
    class Unregistered(CountJudge):
        backend = "nowhere registered"

    out = judge.run(*pair, tmp_path / "out", judge=Unregistered("please", TOLD), options=OPTIONS)
    assert outcomes(out) == OUTCOMES
    assert command(f"verify {out}").out == "all 6 judgements come out the same\n"


def test_the_command_line_opens_it_and_prunes_its_replies(
    command: Callable[[str], Any], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = pair
    line = f"judge {a} {b} --prompt dialogue --ledger {tmp_path}/l.sqlite"
    command(f"{line} --judge count:please --tie-margin 1 --out {tmp_path}/out")
    command(f"{line} --judge count:pl --out {tmp_path}/other")
    assert command(f"ledger prune {tmp_path}/l.sqlite --keep {tmp_path}/out").out == "6 replies deleted\n"
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert len(ledger) == 6
    assert command(f"verify {tmp_path}/out").out == "all 6 judgements come out the same\n"


def test_where_its_reader_is_not_known_one_line_says_so(
    fails: Callable[[str], str],
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge.run(*pair, tmp_path / "out", judge=open_judge("count:please", TOLD), options=OPTIONS)
    capsys.readouterr()
    monkeypatch.delitem(readers._READERS, "counts")
    assert "no replies are known to be read as 'counts'" in fails(f"verify {tmp_path}/out")


def test_names_are_taken_once_and_mistakes_list_it() -> None:
    with pytest.raises(UserError, match="a backend 'chat' is there already"):
        register_backend("chat", CountJudge)
    with pytest.raises(UserError, match="'a b' is not a name of a backend"):
        register_backend("a b", CountJudge)
    register_backend("count", CountJudge)
    with pytest.raises(UserError, match=r"chat:MODEL, decisions:MODEL, .* or count:WORD"):
        open_judge("cuont:please")


@pytest.mark.slow
def test_it_judges_on_ray(pair: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed; .ci/run installs it")
    words = [sys.executable, str(Path(own_backend.__file__)), *map(str, (*pair, tmp_path / "out"))]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr[-4000:]
    here = judge.run(*pair, tmp_path / "here", judge=open_judge("count:please", TOLD), options=OPTIONS)
    assert run_folder.read(tmp_path / "out", Judgement) == run_folder.read(here, Judgement)
