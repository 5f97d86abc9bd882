"""A local judge that is killed in the middle: what it answered is in the ledger, and only the rest is computed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from killable import started

from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.judges import prompting
from perl_eval.judges.backends.local import open_local
from perl_eval.judging.engine.ask import ask
from perl_eval.judging.outcome_of import Contestants, plan
from perl_eval.records import Completion, Message

PAIRS = 40
PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_local_killed import judged
from perl_eval.judges.backends.prompt_reading import PromptReader
read = PromptReader._read
def slow(*given):
    time.sleep(0.05)
    return read(*given)
PromptReader._read = slow
judged(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def contest() -> Iterator[Contestants]:
    for number in range(PAIRS):
        prompt = (Message("user", f"order {number}, please"),)
        texts = (("a", "one flat white " * (1 + number % 4)), ("b", "two espressos"))
        yield tuple(Completion(f"{s}{number}", str(number), "g", "d", s, prompt, text, "stop", 0) for s, text in texts)


def judged(folder: Path, ledger: Path, tally: Usage | None = None) -> list[float | None]:
    """Ask a model about all pairs, four questions at a time."""
    judge = open_local(folder, group=4)
    with Ledger(ledger) as kept:
        questions = plan(contest(), judge, prompting.load("dialogue"))
        return [ballot.p_first for ballot in ask(questions, judge, kept, tally=tally)]


def rows(ledger: Path) -> int:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(ledger)) as database:
        return int(database.execute("SELECT count(*) FROM reply").fetchone()[0])
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Any = tmp_path_factory.mktemp("judge") / "tiny"
    tokenizer = tiny_models.tokenizer_of_a_judge()
    tiny_models.decided(tokenizer).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return Path(made)


def test_what_was_answered_before_a_kill_is_not_computed_again(folder: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    process = started(PROGRAM, [str(folder), str(ledger), str(Path(__file__).parent)])
    begun = time.monotonic()
    while rows(ledger) < 24:
        assert process.is_alive(), process.exitcode
        assert time.monotonic() - begun < 300
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kept = rows(ledger)
    assert 24 <= kept < 2 * PAIRS
    tally = Usage()
    found = judged(folder, ledger, tally)
    assert (tally.from_ledger, tally.asked) == (kept, 2 * PAIRS - kept)
    assert found == judged(folder, tmp_path / "whole.sqlite")
