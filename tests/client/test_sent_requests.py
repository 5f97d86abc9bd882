"""Every request that may have reached a server counts, also those that one question takes beside its first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, serving

from perl_eval.client.account import ACCOUNT, Account, Spending
from perl_eval.client.ledger import Ledger
from perl_eval.client.sent_requests import counting, sending
from perl_eval.client.service import looked_up
from perl_eval.client.usage import Usage
from perl_eval.judges import prompting
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions
from perl_eval.judges.question_keys import Keys
from perl_eval.judging.engine.ask import AskOptions, ballots_of
from perl_eval.records import Completion, Message, Question

ONE_BY_ONE = AskOptions(max_concurrency=1, attempts=3, backoff_s=0.001)


def questions(count: int) -> list[Question]:
    def shown(number: int, side: str) -> Completion:
        prompt = (Message("user", f"order {number}"),)
        return Completion(f"{number}{side}", str(number), "g", "d", side, prompt, side * (number + 1), "stop", 0)

    template = prompting.load("dialogue")
    return [prompting.question(template, [shown(n, "a"), shown(n, "b")], order="ab", id=str(n)) for n in range(count)]


def _dropped(body: Any, attempt: int) -> str | None:
    return "drop" if attempt == 1 and "order 2" in body["messages"][-1]["content"] else None


def _no_temperature(body: Any) -> str | None:
    return "temperature is not supported" if "temperature" in body else None


@pytest.mark.parametrize(
    ("server", "more"),
    [
        (FakeServer, 0),
        (lambda: FakeServer(fault=_dropped), 1),  # on a kept connection: sent again without a word
        (lambda: FakeServer(finish=lambda body: "length" if body["max_tokens"] < 20 else "stop"), 4),
        (lambda: FakeServer(complaint=_no_temperature), 1),
    ],
    ids=["plain", "a kept connection that is dropped", "replies that are cut off", "an option that is not taken"],
)
def test_the_count_is_that_of_the_server(tmp_path: Path, server: Callable[[], FakeServer], more: int) -> None:
    tally = Usage()
    with serving(server()) as there, Ledger(tmp_path / "l") as ledger, Account(tmp_path / ACCOUNT) as account:
        judge = ChatJudge("tiny", ChatOptions(base_url=there.url, max_tokens=10))
        keyed = [(Keys(judge).of(question, 0), question) for question in questions(4)]
        asked = list(ballots_of([looked_up(ledger, keyed)], judge, ledger, ONE_BY_ONE, Spending(tally, account)))
        assert [ballot.verdict for ballot in asked] == ["tie"] * 4
    assert tally.requests == account.totals.requests == len(there.requests) == 4 + more
    assert tally.retries == 0


def test_calls_are_counted_apart_and_nothing_outside_one() -> None:
    further: list[str] = []
    sending()
    with counting(lambda: further.append("outer")):
        sending()
        with counting(lambda: further.append("inner")):
            sending()
            sending()
        sending()
    sending()
    assert further == ["inner", "outer"]
