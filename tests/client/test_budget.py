"""Money: the cap holds over restarts and is used up, what is paid counts, and what a server says is believed or not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from perl_eval.client.account import ACCOUNT, Account, Spending
from perl_eval.client.ledger import Ledger
from perl_eval.client.limits import Limits
from perl_eval.client.reply import Reply
from perl_eval.client.scheduler import Scheduler
from perl_eval.client.service import Handling, looked_up
from perl_eval.client.usage import Usage, believed, tokens_of
from perl_eval.errors import DataError, JudgeError, TimedOut


class Till:
    """Replies of so many tokens, at a dollar a thousand tokens out; remembers what it billed."""

    backend, model, group = "till", "t", 1

    def __init__(self, tokens: Callable[[int], int], longest: int, latency_s: float = 0.002) -> None:
        self.tokens, self.longest, self.latency_s = tokens, longest, latency_s
        self.billed_usd = 0.0
        self.requests = self.at_once = self.most_at_once = 0

    async def ask(self, contents: Sequence[int], /) -> list[Reply]:
        self.requests += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.latency_s)
        self.at_once -= 1
        tokens = self.tokens(contents[0])
        cost = self.price_usd(0, tokens)
        self.billed_usd += cost
        return [Reply(str(contents[0]), tokens_out=tokens, cost_usd=cost)]

    def price_usd(self, tokens_in: float, tokens_out: float) -> float:  # noqa: ARG002
        return tokens_out / 1000

    async def close(self) -> None:
        pass


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def put(folder: Path, till: Till, count: int, limits: Limits) -> tuple[int, Usage, Account]:
    """Ask for so many and return how many were answered, and the counts."""
    tally = Usage()
    handling: Handling[int] = Handling(unit=lambda number: number, tokens=lambda _: 1.0, ends=lambda *_: None)
    with Ledger(folder / "l") as ledger, Account(folder / ACCOUNT) as account:
        blocks = (looked_up(ledger, [(key(number), number)]) for number in range(count))
        found = list(Scheduler(till, ledger, limits, handling, Spending(tally, account)).answers(blocks))
    return len(found), tally, account


@pytest.mark.parametrize("longest", [10, 1_000, 4_000])
def test_the_cap_is_kept_and_used_up_however_long_a_reply_may_be(tmp_path: Path, longest: int) -> None:
    till = Till(lambda number: 8 + number % 5, longest)
    _, tally, account = put(tmp_path, till, 2_000, Limits(max_concurrency=100, max_cost_usd=10.0))
    assert 9.8 <= till.billed_usd <= 10.0
    assert tally.cost_usd == pytest.approx(till.billed_usd)
    assert account.totals.cost_usd == pytest.approx(till.billed_usd)
    assert tally.stopped == "`max_cost_usd` of 10.0 reached"


def test_a_cap_below_one_longest_reply_asks_nothing_and_says_why(tmp_path: Path) -> None:
    till = Till(lambda _: 10, longest=20_000)
    _, tally, _ = put(tmp_path, till, 20, Limits(max_cost_usd=10.0))
    assert till.requests == 0
    assert tally.stopped == "`max_cost_usd` of 10.0 is less than one reply may cost, 20.0000"


def test_replies_that_grow_long_late_pass_the_cap_by_a_fiftieth_at_most(tmp_path: Path) -> None:
    till = Till(lambda number: 10 if number < 300 else 180, longest=180)
    put(tmp_path, till, 2_000, Limits(max_concurrency=100, max_cost_usd=10.0))
    assert till.billed_usd <= 10.0 * 1.02


def test_with_room_all_are_sent_at_once(tmp_path: Path) -> None:
    till = Till(lambda _: 10, longest=20, latency_s=0.02)
    answered, tally, _ = put(tmp_path, till, 300, Limits(max_concurrency=16, max_cost_usd=100.0))
    assert (answered, tally.stopped, till.most_at_once) == (300, None, 16)


def test_a_cap_that_is_raised_goes_on_from_what_was_spent(tmp_path: Path) -> None:
    till = Till(lambda _: 10, longest=20)
    put(tmp_path, till, 500, Limits(max_cost_usd=1.0))
    before = till.requests
    _, tally, _ = put(tmp_path, till, 500, Limits(max_cost_usd=1.0))
    assert (till.requests, tally.stopped) == (before, "`max_cost_usd` of 1.0 reached")
    _, tally, account = put(tmp_path, till, 500, Limits(max_cost_usd=2.0))
    assert 1.96 <= till.billed_usd <= 2.0
    assert account.totals.cost_usd == pytest.approx(till.billed_usd)
    assert account.totals.runs == 3


def test_what_was_on_its_way_at_a_kill_counts_as_paid(tmp_path: Path) -> None:
    with Account(tmp_path / ACCOUNT) as account:
        account.send(0.25)
        account.send(0.25)
        account.settle(0.25, (0, 0, 0.0, 0.0), Usage(tokens_in=3, tokens_out=4, cost_usd=0.125))
    # No more is written by who was killed; the other request is never settled.
    with Account(tmp_path / ACCOUNT) as account:
        totals = account.totals
        assert (totals.requests, totals.tokens_in, totals.tokens_out, totals.runs) == (2, 3, 4, 2)
        assert (totals.cost_usd, totals.estimated_usd) == (0.375, 0.25)
    with Account(tmp_path / ACCOUNT) as account:
        assert (account.totals.cost_usd, account.totals.runs) == (0.375, 3)


def test_an_account_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / ACCOUNT).write_text(json.dumps({"runs": 1}))
    with pytest.raises(DataError, match="not an account"):
        Account(tmp_path / ACCOUNT)


def test_a_reply_that_is_no_use_is_paid(tmp_path: Path) -> None:
    class Useless(Till):
        async def ask(self, contents: Sequence[int], /) -> list[Reply]:
            number = self.requests
            (reply,) = await super().ask(contents)
            if number % 3 == 0:
                error = JudgeError("the reply is empty")
                error.paid = ((0, reply.tokens_out),)
                raise error
            return [reply]

    till = Useless(lambda _: 10, longest=20)
    _, tally, account = put(tmp_path, till, 50, Limits(backoff_s=0.001))
    assert tally.unusable == till.requests - 50 > 0
    assert tally.cost_usd == pytest.approx(till.billed_usd)
    assert account.totals.cost_usd == pytest.approx(till.billed_usd)


@pytest.mark.parametrize(
    ("error", "paid", "usd", "unusable"),
    [
        (TimedOut("late"), (None, None), 0.020, 0),
        (TimedOut("late"), (None, 15), 0.015, 0),
        (TimedOut("cut"), (None, 3), 0.003, 0),
        (JudgeError("no JSON"), (None, 3), 0.003, 7),
        (JudgeError("no JSON"), (None, 3_000), 0.020, 7),
        (JudgeError("no JSON"), (None, None), 0.010, 7),
        (TimedOut("no connection"), None, 0.0, 0),
    ],
)
def test_what_came_to_no_answer_is_estimated(
    tmp_path: Path, error: JudgeError, paid: tuple[int | None, int | None] | None, usd: float, unusable: int
) -> None:
    class Lossy(Till):
        async def ask(self, contents: Sequence[int], /) -> list[Reply]:
            if self.requests == 0 or contents[0] < 20 or contents[0] % 4:
                return await super().ask(contents)
            failure = type(error)(str(error))
            failure.paid = None if paid is None else (paid,)
            raise failure

    till = Lossy(lambda _: 10, longest=20)
    limits = Limits(max_concurrency=1, attempts=1, backoff_s=0.001)
    _, tally, account = put(tmp_path, till, 48, limits)
    assert (tally.failed, tally.unusable) == (7, unusable)
    assert tally.estimated == (0 if paid is None else 7)
    assert tally.estimated_usd == account.totals.estimated_usd == pytest.approx(7 * usd)
    assert tally.cost_usd == pytest.approx(till.billed_usd + 7 * usd)


def test_timeouts_use_up_the_cap(tmp_path: Path) -> None:
    class Late(Till):
        async def ask(self, contents: Sequence[int], /) -> list[Reply]:
            await super().ask(contents)
            error = TimedOut("no reply within 1 s")
            error.paid = ((None, None),)
            raise error

    till = Late(lambda _: 10, longest=20)
    _, tally, _ = put(tmp_path, till, 500, Limits(max_concurrency=4, backoff_s=0.001, max_cost_usd=0.51))
    assert tally.stopped == "`max_cost_usd` of 0.51 reached"
    assert tally.cost_usd == tally.estimated_usd == pytest.approx(0.5)
    assert till.requests == 25


def test_what_was_on_its_way_when_asking_ended_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perl_eval.client.scheduler._LANDING_S", 0.05)

    class Stuck(Till):
        async def ask(self, contents: Sequence[int], /) -> list[Reply]:
            self.latency_s = 0.0 if contents[0] < 20 else 60.0
            return await super().ask(contents)

    till, tally = Stuck(lambda _: 10, longest=20), Usage()
    handling: Handling[int] = Handling(unit=lambda number: number, tokens=lambda _: 1.0, ends=lambda *_: None)
    with Ledger(tmp_path / "l") as ledger:
        blocks = (looked_up(ledger, [(key(number), number)]) for number in range(200))
        answers = Scheduler(till, ledger, Limits(max_concurrency=8), handling, Spending(tally)).answers(blocks)
        for _ in range(20):
            next(answers)
        answers.close()
    assert (tally.asked, tally.requests, tally.estimated) == (20, 28, 8)
    assert tally.cost_usd == pytest.approx(20 * 0.01 + 8 * 0.02)


def test_a_reply_without_a_count_costs_what_others_do_and_is_said_to_be_estimated(tmp_path: Path) -> None:
    class Silent(Till):
        async def ask(self, contents: Sequence[int], /) -> list[Reply]:
            (reply,) = await super().ask(contents)
            return [Reply(reply.text, estimated=True) if contents[0] >= 40 else reply]

    till = Silent(lambda _: 10, longest=1_000)
    _, tally, _ = put(tmp_path, till, 50, Limits(max_concurrency=1))
    assert tally.estimated == 10
    assert tally.estimated_usd == pytest.approx(10 * 0.01)
    assert tally.cost_usd == pytest.approx(50 * 0.01)


@pytest.mark.parametrize(
    ("count", "tokens"),
    [
        *((0, 0), (7, 7), (7.0, 7), (10**9, 10**9), (10**9 + 1, None), (-1, None), (7.5, None), (None, None)),
        *(
            ("7", 7),
            ("7.5", None),
            ("-7", None),
            (True, None),
            (math.inf, None),
            (math.nan, None),
            (1e300, None),
            ([7], None),
        ),
    ],
)
def test_a_count_of_tokens_is_believed_if_it_can_be_one(count: object, tokens: int | None) -> None:
    assert believed(count) == tokens
    assert tokens_of({"usage": {"prompt_tokens": count, "completion_tokens": 1}}) == (tokens, 1)


@pytest.mark.parametrize("completion", [{}, {"usage": None}, {"usage": []}, {"usage": {}}, [], None])
def test_a_completion_without_usage_has_no_counts(completion: object) -> None:
    assert tokens_of(completion) == (None, None)
