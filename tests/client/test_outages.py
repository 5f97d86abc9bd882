"""A server that goes away, wants money, or turns a request away: what is waited for, given up, or final."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from perl_eval.client.account import Spending
from perl_eval.client.ledger import Ledger
from perl_eval.client.limits import Limits
from perl_eval.client.reply import Reply
from perl_eval.client.scheduler import Scheduler
from perl_eval.client.service import Handling, looked_up
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, OutOfCredit, RateLimited, Refused, TimedOut, TurnedAway, UserError

Failing = Callable[[int, int], JudgeError | None]


class Server:
    """Fails as it is told by the number that it is asked and the count of requests so far."""

    backend, model, group, longest = "failing", "f", 1, 0

    def __init__(self, fails: Failing) -> None:
        self.fails = fails
        self.asked: list[int] = []
        self.waiting: list[str | None] = []
        self.tally: Usage | None = None

    async def ask(self, contents: Sequence[int], /) -> list[Reply]:
        self.asked.append(contents[0])
        self.waiting.append(self.tally.waiting if self.tally else None)
        count = len(self.asked)
        await asyncio.sleep(0.001)
        if (error := self.fails(contents[0], count)) is not None:
            raise error
        return [Reply(str(contents[0]))]

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        return None

    async def close(self) -> None:
        pass


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def put(path: Path, server: Server, count: int, limits: Limits) -> tuple[dict[int, Reply | JudgeError], Usage]:
    tally = server.tally = Usage()
    handling: Handling[int] = Handling(unit=lambda number: number, tokens=lambda _: 1.0, ends=lambda *_: None)
    with Ledger(path) as ledger:
        blocks = (looked_up(ledger, [(key(number), number)]) for number in range(count))
        found = dict(Scheduler(server, ledger, limits, handling, Spending(tally)).answers(blocks))
    return found, tally


QUICK = Limits(max_concurrency=4, attempts=3, backoff_s=0.002, patience_s=0.3)


def test_an_outage_is_waited_out_and_nobody_is_given_up(tmp_path: Path) -> None:
    server = Server(lambda _, count: TimedOut("away") if 50 < count <= 64 else None)
    found, tally = put(tmp_path / "l", server, 100, QUICK)
    assert [answer.text for answer in found.values() if isinstance(answer, Reply)] == [str(n) for n in range(100)]
    assert (tally.failed, tally.can_pass, tally.stopped, tally.waiting) == (0, 0, None, None)
    assert len(server.asked) == 114
    assert any(said is not None and "next try in" in said and "away" in said for said in server.waiting)


def test_while_a_server_is_away_one_request_at_a_time_asks_whether_it_is_back(tmp_path: Path) -> None:
    limits = Limits(max_concurrency=50, attempts=3, backoff_s=0.02, patience_s=0.5)
    server = Server(lambda _, count: TimedOut("away") if count > 20 else None)
    _, tally = put(tmp_path / "l", server, 200, limits)
    # What was on its way fails at once; then waits of 0.02, 0.04 ... 0.32 s leave room for a handful more.
    assert 20 + 10 <= len(server.asked) <= 20 + 50 + 10
    assert tally.stopped is not None


def test_when_patience_ends_asking_stops_and_the_next_run_asks_for_the_rest(tmp_path: Path) -> None:
    server = Server(lambda _, count: TimedOut("away") if count > 20 else None)
    found, tally = put(tmp_path / "l", server, 100, QUICK)
    assert tally.stopped == "no answer for 0.3 s, lastly: away"
    assert all(isinstance(answer, Reply) for answer in found.values())
    answered = tally.asked
    back = Server(lambda *_: None)
    found, tally = put(tmp_path / "l", back, 100, QUICK)
    assert len(found) == 100
    assert (len(back.asked), tally.from_ledger) == (100 - answered, answered)
    assert len(set(back.asked)) == len(back.asked)


def test_a_server_that_wants_money_is_not_waited_for_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perl_eval.client.outages.CREDIT_PATIENCE_S", 0.1)
    server = Server(lambda _, count: OutOfCredit("402: pay") if count > 20 else None)
    _, tally = put(tmp_path / "l", server, 100, Limits(max_concurrency=4, attempts=3, backoff_s=0.002))
    assert tally.stopped == "no answer for 0.1 s, lastly: 402: pay"


def test_one_question_that_always_fails_is_given_up_and_ends_nothing(tmp_path: Path) -> None:
    def fails(number: int, _: int) -> JudgeError | None:
        return JudgeError("500: this one") if number == 7 else None

    found, tally = put(tmp_path / "l", Server(fails), 100, QUICK)
    assert str(found[7]) == "500: this one"
    assert (tally.asked, tally.failed, tally.can_pass, tally.stopped) == (99, 1, 1, None)
    again = Server(fails)
    put(tmp_path / "l", again, 100, QUICK)
    assert set(again.asked) == {7}


def test_what_was_refused_for_good_is_not_asked_again(tmp_path: Path) -> None:
    def fails(number: int, _: int) -> JudgeError | None:
        return Refused("400: not this one") if number in (0, 7) else None

    put(tmp_path / "l", Server(fails), 20, QUICK)
    again = Server(fails)
    found, tally = put(tmp_path / "l", again, 20, QUICK)
    assert again.asked == []
    assert (tally.failed, tally.can_pass) == (2, 0)
    assert {str(found[0]), str(found[7])} == {"400: not this one"}


def test_a_server_that_refuses_everybody_is_asked_again(tmp_path: Path) -> None:
    put(tmp_path / "l", Server(lambda *_: Refused("400: no")), 5, QUICK)
    again = Server(lambda *_: None)
    found, _ = put(tmp_path / "l", again, 5, QUICK)
    assert all(isinstance(answer, Reply) for answer in found.values())


@pytest.mark.parametrize("first", [True, False])
def test_one_request_that_is_turned_away_is_refused_and_ends_nothing(tmp_path: Path, first: bool) -> None:
    flagged = 0 if first else 30

    def fails(number: int, _: int) -> JudgeError | None:
        return TurnedAway("the server answered 403: flagged", forbidden=True) if number == flagged else None

    server = Server(fails)
    found, tally = put(tmp_path / "l", server, 60, QUICK)
    assert (tally.asked, tally.failed, tally.can_pass, tally.stopped) == (59, 1, 0, None)
    assert isinstance(found[flagged], Refused)
    assert server.asked.count(flagged) == 3


@pytest.mark.parametrize("forbidden", [True, False])
def test_a_server_that_turns_everybody_away_from_the_start_ends_it(tmp_path: Path, forbidden: bool) -> None:
    server = Server(lambda *_: TurnedAway("the server answered 40x", "check key", forbidden=forbidden))
    with pytest.raises(UserError, match="the server answered 40x; check key"):
        put(tmp_path / "l", server, 60, QUICK)
    assert len(server.asked) <= 8


def test_turned_away_once_after_good_answers_is_tried_again(tmp_path: Path) -> None:
    server = Server(lambda _, count: TurnedAway("404: restarting") if count == 30 else None)
    found, tally = put(tmp_path / "l", server, 60, QUICK)
    assert all(isinstance(answer, Reply) for answer in found.values())
    assert (tally.failed, tally.retries) == (0, 1)


def test_a_few_questions_at_the_end_are_no_outage(tmp_path: Path) -> None:
    limits = Limits(max_concurrency=4, attempts=3, backoff_s=0.002)
    found, tally = put(tmp_path / "l", Server(lambda number, _: TimedOut("slow") if number > 17 else None), 20, limits)
    assert (str(found[18]), str(found[19])) == ("slow", "slow")
    assert (tally.stopped, tally.can_pass) == (None, 2)


@pytest.mark.parametrize("count", [3, 40])
def test_a_server_that_loads_its_model_is_waited_for(tmp_path: Path, count: int) -> None:
    begun_s = time.monotonic()

    def loading(_: int, __: int) -> JudgeError | None:
        error = JudgeError("503: Loading model")
        error.starting = True
        return error if time.monotonic() - begun_s < 0.3 else None

    patient = Limits(max_concurrency=4, attempts=2, backoff_s=0.002, patience_s=20.0)
    found, tally = put(tmp_path / "l", Server(loading), count, patient)
    assert [answer.text for answer in found.values() if isinstance(answer, Reply)] == [str(n) for n in range(count)]
    assert (tally.failed, tally.stopped) == (0, None)
    begun_s = time.monotonic() + 60.0
    _, tally = put(tmp_path / "m", Server(loading), count, QUICK)
    assert tally.stopped == "no answer for 0.3 s, lastly: 503: Loading model"


def test_a_wait_that_the_server_names_is_no_longer_than_patience(tmp_path: Path) -> None:
    server = Server(lambda _, count: RateLimited("429: slow", 99_999.0) if count > 20 else None)
    begun_s = time.monotonic()
    _, tally = put(tmp_path / "l", server, 100, QUICK)
    assert 0.3 <= time.monotonic() - begun_s < 5.0
    assert tally.stopped == "no answer for 0.3 s, lastly: 429: slow"


def test_a_wait_that_the_server_names_is_kept_while_patience_lasts(tmp_path: Path) -> None:
    server = Server(lambda _, count: RateLimited("429: slow", 0.5) if count == 20 else None)
    begun_s = time.monotonic()
    found, _ = put(tmp_path / "l", server, 40, Limits(max_concurrency=1, backoff_s=0.002, patience_s=5.0))
    assert len(found) == 40
    assert time.monotonic() - begun_s >= 0.5
