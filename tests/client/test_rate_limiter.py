"""The gate in front of a server: how its limit moves, and the rates it keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from perl_eval.client.rate_limit_headers import Allowance
from perl_eval.client.rate_limiter import Pace


async def answered(pace: Pace, times: int) -> None:
    for _ in range(times):
        pace.leave(await pace.enter(), answered=True)


@asynccontextmanager
async def several(pace: Pace, count: int) -> AsyncIterator[Callable[[], int]]:
    """Let so many want their turn at once, and give what counts those that have had it; the others give up."""
    turns = [asyncio.ensure_future(pace.enter()) for _ in range(count)]
    await asyncio.sleep(0.05)
    yield lambda: sum(turn.done() for turn in turns)
    for turn in turns:
        turn.cancel()
    await asyncio.gather(*turns, return_exceptions=True)


def test_the_limit_grows_by_one_an_answer_up_to_the_most() -> None:
    async def grow() -> list[float]:
        pace = Pace(20)
        limits = [pace.limit]
        for _ in range(6):
            await answered(pace, 1)
            limits.append(pace.limit)
        return limits

    assert asyncio.run(grow()) == [16, 17, 18, 19, 20, 20, 20]


def test_a_complaint_halves_it_once_for_all_that_were_on_their_way() -> None:
    async def complain() -> tuple[float, float, float]:
        pace = Pace(64)
        sent = [await pace.enter() for _ in range(16)]
        for sent_s in sent:
            pace.complain(sent_s)
            pace.leave(sent_s, answered=False)
        after_burst = pace.limit
        await asyncio.sleep(0.001)
        sent_s = await pace.enter()
        pace.complain(sent_s)
        pace.leave(sent_s, answered=False)
        halved_again = pace.limit
        await answered(pace, 4)
        return after_burst, halved_again, pace.limit

    # 16 -> 8 for the burst, -> 4 for a request sent later; then four answers add about one: 4 + 1/4 + 1/4.25 + ...
    after_burst, halved_again, grown = asyncio.run(complain())
    assert (after_burst, halved_again) == (8, 4)
    assert 4.9 < grown < 5.0


def test_the_limit_never_falls_below_one() -> None:
    async def complain() -> float:
        pace = Pace(2)
        for _ in range(5):
            await asyncio.sleep(0.001)
            sent_s = await pace.enter()
            pace.complain(sent_s)
            pace.leave(sent_s, answered=False)
        return pace.limit

    assert asyncio.run(complain()) == 1


@pytest.mark.parametrize(
    ("slow_s", "limit"),
    [
        # Best 0.01 s, so growth stops above 0.04 s. The smoothed latency after k replies of 0.06 s is
        # 0.06 - 0.05 * 0.9^k, which passes 0.04 at k = 9: one step for the quick reply and eight for the slow ones.
        (0.06, 25),
        # Above 0.08 s the limit is halved: the first reply of 1 s brings it to 0.01 + 0.1 * 0.99. From there, latencies
        # are measured anew, on requests sent later only.
        (1.0, 8.5),
    ],
)
def test_slow_replies_stop_the_growth_and_much_slower_ones_halve_the_limit(
    monkeypatch: pytest.MonkeyPatch, slow_s: float, limit: float
) -> None:
    now = 100.0
    monkeypatch.setattr("perl_eval.client.rate_limiter.time", SimpleNamespace(monotonic=lambda: now))

    async def slow() -> float:
        pace = Pace(64)
        turn = await pace.enter()
        pace.leave(turn._replace(sent_s=now - 0.01), answered=True)
        for _ in range(30):
            turn = await pace.enter()
            pace.leave(turn._replace(sent_s=now - slow_s), answered=True)
        return pace.limit

    assert asyncio.run(slow()) == pytest.approx(limit)


def test_no_more_than_the_limit_are_on_their_way_and_cancelled_ones_leave_no_gap() -> None:
    async def crowd() -> tuple[int, int]:
        pace, inside, most = Pace(3), 0, 0

        async def visit(stay_s: float) -> None:
            nonlocal inside, most
            sent_s = await pace.enter()
            inside += 1
            most = max(most, inside)
            try:
                await asyncio.sleep(stay_s)
            finally:
                inside -= 1
                pace.leave(sent_s, answered=True)

        visits = [asyncio.create_task(visit(0.002)) for _ in range(30)]
        await asyncio.sleep(0.003)
        for visit_task in visits[5:25]:
            visit_task.cancel()
        done = await asyncio.gather(*visits, return_exceptions=True)
        return most, sum(result is None for result in done)

    most, finished = asyncio.run(asyncio.wait_for(crowd(), 60))
    assert most == 3
    assert finished >= 10


def test_a_place_given_to_a_request_that_is_cancelled_before_it_runs_is_given_on() -> None:
    async def cancel() -> float:
        pace = Pace(1)
        sent_s = await pace.enter()
        waiting = [asyncio.create_task(pace.enter()) for _ in range(2)]
        await asyncio.sleep(0)
        pace.leave(sent_s, answered=True)
        waiting[0].cancel()
        return (await asyncio.wait_for(waiting[1], 30)).sent_s

    assert asyncio.run(cancel()) > 0


@pytest.mark.parametrize(("rpm", "tpm"), [(600.0, None), (None, 6000.0), (600.0, 60_000.0)])
def test_rates_are_kept(rpm: float | None, tpm: float | None) -> None:
    async def send() -> float:
        pace, begun_s = Pace(32, rpm=rpm, tpm=tpm), time.monotonic()
        sent = await asyncio.gather(*(pace.enter(10.0) for _ in range(4)))
        assert len({turn.sent_s for turn in sent}) == 4
        return time.monotonic() - begun_s

    # 600 requests a minute, or 6,000 tokens a minute at 10 each: one in 0.1 s, so the fourth starts after 0.3 s.
    assert asyncio.run(send()) >= 0.29


def test_everybody_waits_when_the_server_says_when_to_come_back() -> None:
    async def wait() -> float:
        pace = Pace(8)
        sent_s = await pace.enter()
        pace.complain(sent_s, retry_after_s=0.2)
        pace.leave(sent_s, answered=False)
        begun_s = time.monotonic()
        await asyncio.gather(*(pace.enter() for _ in range(3)))
        return time.monotonic() - begun_s

    assert asyncio.run(wait()) >= 0.19


@pytest.mark.parametrize(
    ("left", "tokens", "sent_at_once"),
    [
        (Allowance(requests=3, requests_reset_s=0.2), 1.0, 3),
        (Allowance(tokens=25, tokens_reset_s=0.2), 10.0, 2),
        (Allowance(requests=3, requests_reset_s=0.2, tokens=15, tokens_reset_s=0.1), 10.0, 1),
        (Allowance(requests=3), 1.0, 6),
        (Allowance(requests_reset_s=0.2), 1.0, 6),
    ],
)
def test_no_more_is_sent_than_the_server_says_it_will_take(left: Allowance, tokens: float, sent_at_once: int) -> None:
    async def send() -> list[float]:
        pace = Pace(8)
        pace.leave(await pace.enter(tokens), answered=True, left=left)
        begun_s = time.monotonic()
        return [(await pace.enter(tokens)).sent_s - begun_s for _ in range(6)]

    waits = asyncio.run(send())
    assert sum(wait_s < 0.09 for wait_s in waits) == sent_at_once
    reset_s = max(left.requests_reset_s or 0.0, left.tokens_reset_s or 0.0)
    if sent_at_once < 6:
        assert waits[-1] >= reset_s + 0.01  # clocks differ


def test_a_wait_until_there_is_more_is_no_longer_than_the_longest_wait() -> None:
    async def waited_s(longest_s: float) -> float:
        pace = Pace(8, longest_s=longest_s)
        pace.leave(await pace.enter(), answered=True, left=Allowance(requests=0, requests_reset_s=0.4))
        begun_s = time.monotonic()
        return (await pace.enter()).sent_s - begun_s

    assert asyncio.run(waited_s(0.1)) < 0.3
    assert asyncio.run(waited_s(60.0)) >= 0.4


def test_what_is_on_its_way_is_taken_off_what_is_left_and_older_news_do_not_count() -> None:
    async def send() -> list[bool]:
        pace = Pace(8)
        turns = [await pace.enter() for _ in range(4)]
        # The second request was told of 3 left: two more are on their way already. The first was told of 4, later.
        pace.leave(turns[1], answered=True, left=Allowance(requests=3, requests_reset_s=0.15))
        pace.leave(turns[0], answered=True, left=Allowance(requests=4, requests_reset_s=0.15))
        begun_s = time.monotonic()
        return [(await pace.enter()).sent_s - begun_s < 0.1 for _ in range(2)]

    assert asyncio.run(send()) == [True, False]


def test_what_is_filled_up_again_lasts_as_long_as_it_ever_did() -> None:
    """The last word before the end of a window says how little of it is left, not how long the next one is."""

    async def send() -> list[float]:
        pace = Pace(16)
        pace.leave(await pace.enter(), answered=True, left=Allowance(requests=4, requests_reset_s=0.4))
        pace.leave(await pace.enter(), answered=True, left=Allowance(requests=0, requests_reset_s=0.02))
        begun_s = time.monotonic()
        return [(await pace.enter()).sent_s - begun_s for _ in range(5)]  # none of which is answered

    *filled, last = asyncio.run(send())
    assert min(filled) >= 0.01
    assert max(filled) < last
    assert last >= 0.4


def test_a_late_word_of_the_last_window_does_not_fill_the_next_one_twice() -> None:
    """The last answer of a window of five comes when the next has begun, and says that nothing is left, until now."""

    async def send() -> int:
        pace = Pace(16)
        pace.leave(await pace.enter(), answered=True, left=Allowance(requests=4, requests_reset_s=0.3))
        *_, last = [await pace.enter() for _ in range(4)]
        next_window = [await pace.enter() for _ in range(4)]
        pace.leave(last, answered=True, left=Allowance(requests=0, requests_reset_s=0.0))
        await asyncio.sleep(0.03)
        async with several(pace, 4) as more:
            return len(next_window) + more()

    assert asyncio.run(send()) == 4


def test_what_was_left_when_a_window_ended_is_not_added_to_the_next() -> None:
    """Of ten in a window four were left when it ended: the next one takes ten again, not fourteen."""

    async def send() -> int:
        pace = Pace(64)
        pace.leave(await pace.enter(), answered=True, left=Allowance(requests=10, requests_reset_s=0.2))
        for _ in range(6):
            await pace.enter()
        await asyncio.sleep(0.25)
        async with several(pace, 16) as more:
            return more()

    assert asyncio.run(send()) == 10


def test_a_reply_that_overtakes_others_does_not_free_their_places() -> None:
    """Of ten six are sent; the server takes the last of them third: of the seven left three are for the others."""

    async def send() -> tuple[int, int]:
        pace = Pace(64)
        turns = [await pace.enter() for _ in range(6)]
        pace.leave(turns[0], answered=True, left=Allowance(requests=9, requests_reset_s=0.3))
        pace.leave(turns[1], answered=True, left=Allowance(requests=8, requests_reset_s=0.3))
        pace.leave(turns[5], answered=True, left=Allowance(requests=7, requests_reset_s=0.3))
        async with several(pace, 16) as more:
            at_first = more()
            for place, turn in enumerate(turns[2:5]):
                pace.leave(turn, answered=True, left=Allowance(requests=6 - place, requests_reset_s=0.3))
        async with several(pace, 4) as more:  # of whom nobody has asked before
            return at_first, more()

    assert asyncio.run(send()) == (4, 0)


def test_what_a_reply_had_overtaken_is_no_part_of_the_next_window() -> None:
    """Of ten six are sent, five of them never answered: the next window takes nine, the most that was ever left."""

    async def send() -> int:
        pace = Pace(64)
        turns = [await pace.enter() for _ in range(6)]
        pace.leave(turns[5], answered=True, left=Allowance(requests=9, requests_reset_s=0.1))
        await asyncio.sleep(0.15)
        async with several(pace, 16) as more:
            return more()

    assert asyncio.run(send()) == 9
