"""The scheduler with a service that is not a judge: requests in, answers out, and what ends it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from perl_eval.client.account import Spending
from perl_eval.client.ledger import Ledger
from perl_eval.client.limits import Limits
from perl_eval.client.reply import Reply
from perl_eval.client.retries import again_after, with_retries
from perl_eval.client.scheduler import Scheduler
from perl_eval.client.service import Handling, Request, looked_up
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, RateLimited, Refused, UserError


class Doubler:
    """Doubles numbers; some are refused, one never gets an answer."""

    backend, model, group, longest = "double", "d", 1, 0

    def __init__(self, broken: int = -1, delay_s: float = 0.0) -> None:
        self.broken, self.delay_s = broken, delay_s
        self.answered: list[int] = []
        self.begun: list[int] = []
        self.closed = 0

    async def ask(self, contents: Sequence[int], /) -> list[Reply]:
        (number,) = contents
        self.begun.append(number)
        if number == self.broken:
            raise JudgeError("down")
        await asyncio.sleep(self.delay_s)
        if number % 10 == 7:
            raise Refused("no sevens")
        self.answered.append(number)
        return [Reply(str(2 * number), "length" if number % 10 == 3 else "stop")]

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        return None

    async def close(self) -> None:
        self.closed += 1


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def ends(error: JudgeError, tally: Usage) -> UserError | None:
    return None if isinstance(error, Refused) else UserError(f"ended: {error}")


def asked(
    path: Path, service: Doubler, numbers: Sequence[int], limits: Limits, *, keep_all: bool = True
) -> tuple[list[tuple[int, str]], Usage]:
    tally = Usage()
    handling: Handling[int] = Handling(
        unit=lambda number: number,
        tokens=lambda _: 1.0,
        ends=ends,
        keeps=lambda reply: keep_all or reply.finish != "length",
    )
    with Ledger(path) as ledger:

        def blocks() -> Iterator[list[Request[int]]]:
            for start in range(0, len(numbers), 8):
                yield looked_up(ledger, [(key(number), number) for number in numbers[start : start + 8]])

        found = list(Scheduler(service, ledger, limits, handling, Spending(tally)).answers(blocks()))
    return [(number, answer.text if isinstance(answer, Reply) else str(answer)) for number, answer in found], tally


QUICK = Limits(attempts=3, backoff_s=0.001)


@pytest.mark.parametrize("keep_all", [True, False])
def test_answers_come_in_order_and_what_is_kept_is_not_asked_again(tmp_path: Path, keep_all: bool) -> None:
    path, numbers = tmp_path / "l.sqlite", list(range(40))
    wanted = [(number, "no sevens" if number % 10 == 7 else str(2 * number)) for number in numbers]
    found, tally = asked(path, Doubler(delay_s=0.001), numbers, QUICK, keep_all=keep_all)
    assert found == wanted
    assert (tally.asked, tally.failed, tally.from_ledger) == (36, 4, 0)
    second = Doubler()
    found, tally = asked(path, second, numbers, QUICK, keep_all=keep_all)
    assert found == wanted
    assert tally.from_ledger == (36 if keep_all else 32)
    assert [number for number in second.begun if number % 10 != 7] == ([] if keep_all else [3, 13, 23, 33])
    assert second.closed == 1


def test_an_end_sends_nothing_more_and_keeps_what_was_on_its_way(tmp_path: Path) -> None:
    path, service = tmp_path / "l.sqlite", Doubler(broken=2, delay_s=0.2)
    with pytest.raises(UserError, match="ended: down"):
        asked(path, service, [0, 1, 2, 4, 5, 6, 8, 9, 10], Limits(max_concurrency=3, attempts=1))
    begun = set(service.begun) - {2}
    assert begun == set(service.answered)
    assert len(begun) < 8
    with Ledger(path) as ledger:
        assert set(ledger.find([key(number) for number in begun])) == {key(number) for number in begun}


PROGRAM = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background
import perl_eval.client.scheduler as scheduler
from test_request_scheduler import Doubler, Limits, asked
class Told(Doubler):
    async def ask(self, contents):
        if contents[0] == 8:
            print("some", flush=True)
        return await super().ask(contents)
numbers = [number for number in range(500) if number % 10 != 7]
asked(Path(sys.argv[1]), Told(delay_s=float(sys.argv[2])), numbers, Limits(max_concurrency=8))
"""


@pytest.mark.parametrize(("delay_s", "signals"), [(0.3, 1), (3.0, 2)])
def test_an_interrupt_keeps_what_was_on_its_way_and_a_second_does_not_wait(
    tmp_path: Path, delay_s: float, signals: int
) -> None:
    path = tmp_path / "l.sqlite"
    command = [sys.executable, "-c", PROGRAM, str(path), str(delay_s)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        begun_s = time.monotonic()
        for _ in range(signals):
            time.sleep(0.1)
            running.send_signal(signal.SIGINT)
        complaint = running.stderr.read()
    assert complaint.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert "already running" not in complaint
    assert time.monotonic() - begun_s < 2.5
    with Ledger(path) as ledger:
        # Eight were on their way.
        assert len(ledger) == (8 if signals == 1 else 0)


class Crowd(Doubler):
    """Says how many are asked at one time, and by how many tasks; some fail once."""

    def __init__(self, failing: int = 0, *, waits: bool = True) -> None:
        super().__init__()
        self.failing, self.waits = failing, waits
        self.failed: set[int] = set()
        self.tasks: set[int] = set()
        self.kept: list[object] = []
        self.at_once = self.most = 0
        self.turns = self.seen = 0

    async def ask(self, contents: Sequence[int], /) -> list[Reply]:
        (number,) = contents
        task = asyncio.current_task()
        self.tasks.add(id(task))
        self.kept.append(task)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if self.waits:
                await asyncio.sleep(0.002)
            else:
                time.sleep(0.01)
                self.seen = self.turns
                asyncio.get_running_loop().call_soon(self.turned)
            if number % 10 < self.failing and number not in self.failed:
                self.failed.add(number)
                raise JudgeError("once")
        finally:
            self.at_once -= 1
        return [Reply(str(2 * number))]

    def turned(self) -> None:
        self.turns += 1


@pytest.mark.parametrize("failing", [0, 3])
def test_as_many_are_on_their_way_as_may_be_and_their_tasks_go_on(tmp_path: Path, failing: int) -> None:
    service, numbers = Crowd(failing), list(range(600))
    found, tally = asked(tmp_path / "ledger", service, numbers, Limits(max_concurrency=8, backoff_s=0.02))
    assert found == [(number, str(2 * number)) for number in numbers]
    assert (tally.asked, tally.retries) == (600, 60 * failing)
    assert service.most == 8
    assert len(service.tasks) < (40 if not failing else 400)


def test_others_are_sent_while_one_that_failed_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    service = Doubler()
    ask, order = service.ask, list[int]()

    async def once(contents: Sequence[int], /) -> list[Reply]:
        order.append(contents[0])
        if order == [0]:
            raise JudgeError("once")
        return await ask(contents)

    service.ask = once  # type: ignore[method-assign]
    asked(tmp_path / "ledger", service, range(0, 100, 10), Limits(max_concurrency=1, backoff_s=1.0))
    assert order == [*range(0, 100, 10), 0]


def test_others_get_their_turn_while_nobody_waits(tmp_path: Path) -> None:
    service = Crowd(waits=False)
    asked(tmp_path / "ledger", service, range(60), Limits(max_concurrency=1))
    assert service.seen > 2


def test_equal_requests_share_one_answer_also_across_blocks(tmp_path: Path) -> None:
    service = Doubler(delay_s=0.01)
    found, tally = asked(tmp_path / "l.sqlite", service, [1] * 20, QUICK)
    assert found == [(1, "2")] * 20
    assert (service.begun, tally.asked, tally.shared) == ([1], 1, 19)


def test_what_may_pass_is_done_again_as_often_as_allowed() -> None:
    waits, done = [], []

    async def act() -> str:
        done.append(asyncio.get_running_loop().time())
        if len(done) == 1:
            raise RateLimited("slow", 0.05)
        if len(done) == 2:
            raise JudgeError("500")
        return "there"

    async def run(attempts: int) -> str:
        done.clear()
        try:
            return await act()
        except JudgeError as error:
            return await again_after(error, act, attempts=attempts, backoff_s=0.001, failed=lambda: waits.append(1))

    assert asyncio.run(run(3)) == "there"
    assert len(done) == 3
    assert len(waits) == 2
    assert done[1] - done[0] >= 0.05
    with pytest.raises(JudgeError, match="500"):
        asyncio.run(run(2))
    with pytest.raises(RateLimited):
        asyncio.run(run(1))


def test_a_refusal_is_final() -> None:
    done = []

    async def act() -> None:
        done.append(1)
        raise Refused("400")

    with pytest.raises(Refused):
        asyncio.run(with_retries(act, attempts=9, backoff_s=0.001))
    assert len(done) == 1
