"""Asking: order, the ledger, retries, failures."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from perl_eval.client.ledger import Ledger
from perl_eval.client.reply import Finish, Reply
from perl_eval.client.usage import Usage
from perl_eval.errors import JudgeError, RateLimited, Refused, TimedOut, UserError
from perl_eval.judges.protocol import Sees
from perl_eval.judging.engine.ask import AskOptions, ask
from perl_eval.records import Ballot, Completion, Message, Question

QUICK = AskOptions(backoff_s=0.001)


def question(text: str) -> Question:
    answer = Completion(text, text, "g", "d", "p", (), text, "stop", 0)
    return Question(text, "yes_no", "none", (answer,), (Message("user", text),), "sha")


class Oracle:
    """Says yes to even numbers; fails as told: ``failures`` maps a question to the errors it raises first."""

    backend = "chat"
    model = "oracle"
    positional = True
    simulated = True
    sees: Sees = "messages"

    def __init__(self, group: int = 1, failures: Mapping[str, Sequence[Exception]] | None = None) -> None:
        self.parameters: Mapping[str, object] = {}
        self.group = group
        self.longest = 1
        self.price: float | None = None
        self.calls: list[list[str]] = []
        self.failures = {text: list(errors) for text, errors in (failures or {}).items()}
        self.finish: Finish = "stop"
        self.delay_s = 0.0
        self.at_once = self.most_at_once = 0
        self.closed = 0

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        self.calls.append([question.id for question in questions])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay_s * (1 + len(self.calls) % 3))
        finally:
            self.at_once -= 1
        for question in questions:
            if self.failures.get(question.id):
                raise self.failures[question.id].pop(0)
        return [
            Reply("no" if int(q.id) % 2 else "yes", self.finish, tokens_in=10, tokens_out=1, cost_usd=self.price)
            for q in questions
        ]

    @property
    def reader(self) -> Oracle:
        return self

    def read(self, question: Question, reply: Reply) -> Ballot:
        return reply.ballot(question, None if reply.finish == "length" else "yes" if reply.text == "yes" else "no")

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        return self.price

    async def close(self) -> None:
        self.closed += 1

    def asked(self) -> Counter[str]:
        return Counter(text for call in self.calls for text in call)


def numbers(count: int) -> list[Question]:
    return [question(str(number)) for number in range(count)]


def verdicts(judge: Oracle, questions: list[Question], ledger: Ledger, tally: Usage | None = None) -> list[str | None]:
    return [ballot.verdict for ballot in ask(questions, judge, ledger, options=QUICK, tally=tally)]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.mark.parametrize("group", [1, 3, 1000])
@pytest.mark.parametrize("count", [0, 1, 700, 5000])
def test_ballots_come_in_the_order_of_the_questions(ledger: Ledger, group: int, count: int) -> None:
    judge = Oracle(group)
    judge.delay_s = 0.0002
    assert verdicts(judge, numbers(count), ledger) == ["no" if number % 2 else "yes" for number in range(count)]
    assert all(len(call) <= group for call in judge.calls)
    assert judge.closed == 1


def test_what_was_answered_is_not_asked_again(ledger: Ledger) -> None:
    first, second, tally = Oracle(), Oracle(), Usage()
    once = verdicts(first, numbers(300), ledger)
    assert verdicts(second, numbers(300), ledger, tally) == once
    assert second.calls == []
    assert (tally.asked, tally.from_ledger) == (0, 300)


def test_equal_questions_are_asked_once(ledger: Ledger) -> None:
    judge = Oracle(group=2)
    judge.delay_s = 0.001
    tally = Usage()
    assert verdicts(judge, numbers(3) * 50, ledger, tally) == ["yes", "no", "yes"] * 50
    assert (tally.asked, tally.shared, tally.from_ledger) == (3, 147, 0)
    assert judge.asked() == {"0": 1, "1": 1, "2": 1}


def test_no_more_requests_are_on_their_way_than_allowed(ledger: Ledger) -> None:
    judge = Oracle()
    judge.delay_s = 0.002
    list(ask(numbers(60), judge, ledger, options=AskOptions(max_concurrency=7)))
    assert judge.most_at_once == 7


def test_passing_failures_are_asked_again(ledger: Ledger) -> None:
    errors = [RateLimited("slow", 0.001), TimedOut("late"), JudgeError("500"), JudgeError("half")]
    judge, tally = Oracle(failures={"4": errors}), Usage()
    assert verdicts(judge, numbers(10), ledger, tally) == ["yes", "no"] * 5
    assert judge.asked()["4"] == 5
    assert tally.retries == 4


def test_a_failure_that_stays_is_unjudged_and_not_kept(ledger: Ledger) -> None:
    judge, tally = Oracle(failures={"1": [JudgeError("broken")] * 99}), Usage()
    ballots = list(ask(numbers(3), judge, ledger, options=AskOptions(attempts=3, backoff_s=0.001), tally=tally))
    assert [ballot.verdict for ballot in ballots] == ["yes", None, "yes"]
    assert ballots[1].reason == "JudgeError: broken"
    assert judge.asked()["1"] == 3
    assert (tally.failed, len(ledger)) == (1, 2)
    assert verdicts(Oracle(), numbers(3), ledger) == ["yes", "no", "yes"]


def test_a_refused_request_is_not_asked_again(ledger: Ledger) -> None:
    judge = Oracle(failures={"1": [Refused("400: too long")] * 9})
    (ballot,) = ask([question("1")], judge, ledger, options=QUICK)
    assert ballot.reason == "Refused: 400: too long"
    assert judge.asked()["1"] == 1


def test_a_reply_that_was_cut_off_is_not_kept(ledger: Ledger) -> None:
    judge = Oracle()
    judge.finish = "length"
    assert verdicts(judge, numbers(2), ledger) == [None, None]
    assert len(ledger) == 0


def test_the_wait_that_the_server_asks_for_is_kept(ledger: Ledger) -> None:
    judge = Oracle(failures={"0": [RateLimited("slow", 0.3)]})
    waits: list[float] = []

    async def timed(questions: Sequence[Question]) -> list[Reply]:
        waits.append(asyncio.get_running_loop().time())
        return await Oracle.ask(judge, questions)

    judge.ask = timed  # type: ignore[method-assign]
    assert verdicts(judge, numbers(1), ledger) == ["yes"]
    assert waits[1] - waits[0] >= 0.3


@pytest.mark.parametrize("error", [UserError("no such model"), ZeroDivisionError("a bug")])
def test_an_error_that_is_not_the_judges_stops_the_run_and_keeps_what_came(ledger: Ledger, error: Exception) -> None:
    judge = Oracle(failures={"150": [error]})
    judge.delay_s = 0.001
    with pytest.raises(type(error), match=str(error)):
        verdicts(judge, numbers(2000), ledger)
    assert len(judge.calls) < 2000
    assert 0 < len(ledger) <= len(judge.calls)
    assert judge.closed == 1


@pytest.mark.parametrize("step", ["commit", "sync"])
def test_a_ledger_that_cannot_be_written_stops_the_run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*arguments: object) -> None:
        raise UserError("cannot write the ledger: database or disk is full")

    monkeypatch.setattr(ledger, step, full)
    with pytest.raises(UserError, match="disk is full"):
        verdicts(Oracle(), numbers(10), ledger)


@pytest.mark.parametrize("count", [3, 1000])
def test_a_bug_in_the_ledger_ends_the_asking(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    judge = Oracle()
    judge.delay_s = 0.001
    monkeypatch.setattr(ledger, "commit", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        verdicts(judge, numbers(count), ledger)


def test_while_the_disk_is_slow_replies_are_committed_and_do_not_count_yet(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, waits = Oracle(), []
    judge.delay_s = 0.005
    read = judge.read
    counted: list[str] = []

    def counting(question: Question, reply: Reply) -> Ballot:
        counted.append(question.id)
        return read(question, reply)

    def slow() -> None:
        # The disk is done with the first replies once another process would see all of them.
        with contextlib.closing(sqlite3.connect(ledger.path)) as other:
            for _ in range(1000):
                (committed,) = other.execute("SELECT count(*) FROM reply").fetchone()
                if committed == 100:
                    break
                time.sleep(0.01)
        waits.append((committed, len(counted)))

    judge.read = counting  # type: ignore[method-assign]
    monkeypatch.setattr(ledger, "sync", slow)
    options = AskOptions(max_concurrency=1)
    ballots = list(ask(numbers(100), judge, ledger, options=options))
    assert [ballot.verdict for ballot in ballots] == ["yes", "no"] * 50
    assert waits[0] == (100, 0)


def test_leaving_early_keeps_what_came(ledger: Ledger) -> None:
    judge = Oracle()
    ballots = ask(numbers(3000), judge, ledger, options=QUICK)
    next(ballots)
    ballots.close()
    assert 0 < len(ledger) <= 3000
    assert judge.closed == 1


def test_counts_are_added_up(ledger: Ledger) -> None:
    tally = Usage()
    verdicts(Oracle(), numbers(5), ledger, tally)
    assert (tally.asked, tally.tokens_in, tally.tokens_out) == (5, 50, 5)


def test_a_limit_of_requests_ends_the_asking_with_a_prefix(ledger: Ledger) -> None:
    judge, tally = Oracle(failures={"3": [JudgeError("once")]}), Usage()
    judge.delay_s = 0.001
    options = AskOptions(max_concurrency=4, backoff_s=0.001, max_requests=20)
    ballots = list(ask(numbers(100), judge, ledger, options=options, tally=tally))
    assert [ballot.verdict for ballot in ballots] == ["no" if number % 2 else "yes" for number in range(len(ballots))]
    assert len(judge.calls) == tally.requests == 20
    assert tally.asked == len(ledger) == 19
    assert 10 <= len(ballots) <= 19
    assert tally.stopped == "`max_requests` of 20 reached"


def test_a_limit_of_money_is_never_passed_and_what_was_paid_is_kept(ledger: Ledger) -> None:
    judge, tally = Oracle(), Usage()
    judge.price, judge.delay_s = 0.25, 0.001
    options = AskOptions(max_concurrency=8, max_cost_usd=5.1)
    ballots = list(ask(numbers(100), judge, ledger, options=options, tally=tally))
    assert tally.cost_usd == pytest.approx(5.0)
    assert len(ballots) == len(ledger) == tally.asked == 20
    again = Usage()
    more = list(ask(numbers(100), judge, ledger, options=options, tally=again))
    assert (len(more), again.from_ledger, again.cost_usd) == (40, 20, pytest.approx(5.0))


def test_money_cannot_be_limited_where_prices_are_not_known(ledger: Ledger) -> None:
    with pytest.raises(UserError, match="price of oracle is not known"):
        list(ask(numbers(1), Oracle(), ledger, options=AskOptions(max_cost_usd=1.0)))


@pytest.mark.parametrize(
    "knob", ["max_concurrency", "attempts", "backoff_s", "rpm", "tpm", "max_requests", "max_cost_usd"]
)
def test_options_must_be_above_zero(knob: str) -> None:
    with pytest.raises(UserError, match=f"{knob} is 0"):
        AskOptions(**{knob: 0})  # type: ignore[arg-type]


def test_offline_asks_nobody(ledger: Ledger) -> None:
    verdicts(Oracle(), numbers(2), ledger)
    judge, tally = Oracle(), Usage()
    ballots = list(ask(numbers(3), judge, ledger, options=AskOptions(offline=True), tally=tally))
    assert [ballot.verdict for ballot in ballots] == ["yes", "no", None]
    assert ballots[2].reason == "JudgeError: the ledger holds no answer"
    assert (judge.calls, tally.from_ledger, tally.failed) == ([], 2, 1)


def test_a_judge_that_answers_nothing_stops_the_run(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    judge = Oracle(failures={str(number): [Refused("400: no such template")] * 9 for number in range(1000)})
    with pytest.raises(UserError, match="oracle answered none of 20 questions, lastly: 400"):
        list(ask(numbers(1000), judge, ledger, options=QUICK))
    # Many requests fail at the same moment; asyncio complains about errors that nobody looks at.
    gc.collect()
    assert caplog.text == ""


def test_it_can_be_asked_inside_a_running_loop(ledger: Ledger) -> None:
    async def notebook() -> list[str | None]:
        return verdicts(Oracle(), numbers(300), ledger)

    assert asyncio.run(notebook()) == ["yes", "no"] * 150
    assert len(ledger) == 300
