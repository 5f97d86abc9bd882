"""What the tests of the verb judge, as it is typed, share."""

from __future__ import annotations

from pathlib import Path

import pytest

from perl_eval.records import Completion, Message
from perl_eval.storage import run_folder


@pytest.fixture
def without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    """Return the two folders to judge: a is shorter than b in four pairs of eight, longer in the others."""
    for policy, sizes in (("a", range(1, 9)), ("b", (5,) * 4 + (1,) * 4)):
        with run_folder.start(tmp_path / policy, verb="sample", arguments={}) as run:
            answers = [
                Completion(
                    f"{policy}{i}", f"i{i}", f"g{i}", "d", policy, (Message("user", f"order {i}"),), "x" * n, "stop", 0
                )
                for i, n in enumerate(sizes)
            ]
            run.write(answers, Completion)
    return f"{tmp_path}/a {tmp_path}/b"
