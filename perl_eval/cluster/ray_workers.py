"""Work spread over the workers of a Ray cluster, or over processes of this machine that Ray starts.

Pieces of a verb go through Ray Data (`RaySpread`), a judge's questions to actors that hold the judge (`RayJudge`): what
is asked next depends on what came back, on the pace that a server allows, on retries and on the ledger, which one
process writes, and a dataflow has no way back to who sends. What a verb writes is written by the process that was
started, so results are those of one process, byte for byte where the verb's are. What `score` says across policies is
reckoned there too: of 25,000 judgements of five policies in half a second. A worker that dies is started anew and its
piece done again. Paths must mean the same on every machine: a shared folder, or addresses, see
`perl_eval.storage.remote`. Keys are not sent: they are read where a judge is opened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from perl_eval.checks import at_least_one, not_negative
from perl_eval.client.reply import Reply
from perl_eval.errors import (
    JudgeError,
    OutOfCredit,
    PerlEvalError,
    RateLimited,
    Refused,
    TimedOut,
    TurnedAway,
    UserError,
)
from perl_eval.judges.protocol import Judge
from perl_eval.judges.readers import Reader
from perl_eval.judges.registry import BackendOptions, opener_of
from perl_eval.records import Question
from perl_eval.storage.quiet_logs import quiet

__all__ = ["Cluster", "RayJudge", "RaySpread"]

Piece = TypeVar("Piece")
Done = TypeVar("Done")
_BLOCKS = 4096
_JUDGE_ERRORS: Mapping[str, type[JudgeError]] = {
    kind.__name__: kind for kind in (JudgeError, RateLimited, TimedOut, OutOfCredit, TurnedAway, Refused)
}
_FACTS = ("backend", "model", "parameters", "reader", "positional", "simulated", "group", "longest", "sees")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the workers are.

    Attributes:
        address: ``auto`` for the cluster that this machine belongs to, an address of one, or nothing: this machine.
        workers: How many.
        gpus: GPUs of each.
    """

    address: str = ""
    workers: int = 2
    gpus: float = 0.0

    def __post_init__(self) -> None:
        at_least_one(self, "workers")
        not_negative(self, "gpus")

    def connect(self) -> Any:
        """Return the module ray, connected; a connection that is there is used.

        Raises:
            UserError: Ray is not installed, or there is no cluster at the address.
        """
        try:
            import ray
        except ImportError:
            raise UserError(
                "this needs ray", "install the extra: pip install 'perl-eval[ray]'", page="README.md#install"
            ) from None
        if not ray.is_initialized():
            quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
            try:
                if self.address:
                    ray.init(address=self.address, **quiet)
                else:
                    ray.init(num_cpus=self.workers, include_dashboard=False, **quiet)
            except (ConnectionError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"no Ray cluster at {self.address or 'hand'}: {reason}", "start one, or none") from None
        return ray


class RaySpread:
    """Does pieces of work on workers, each of which is opened once; see `perl_eval.storage.executor.Executor`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __call__(self, open_worker: Callable[[], Callable[[Piece], Done]], pieces: Sequence[Piece]) -> Iterator[Done]:
        """Yield the result of every piece, in order."""
        if not pieces:
            return
        self._cluster.connect()
        from ray import cloudpickle, data

        # Ray's serialiser of code and pieces, between Ray's own processes: nothing that a user hands in is unpickled.
        pickler: Any = cloudpickle
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        rows = [{"piece": pickler.dumps(piece)} for piece in pieces]
        done = data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS)).map_batches(
            _Worker,
            fn_constructor_args=(open_worker,),
            batch_size=1,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=min(self._cluster.workers, len(pieces))),
            num_cpus=1,
            num_gpus=self._cluster.gpus or None,
        )
        with quiet(logging.ERROR, "ray.data"):  # it tells its plan, and that its progress bars are off
            for row in done.iter_rows():
                failed, result = pickler.loads(row["done"])
                if failed:
                    raise UserError(*result)
                yield result


class _Worker:
    """What runs on a worker; what the work raises for the user comes back as text, not as Ray's traceback."""

    def __init__(self, open_worker: Callable[[], Callable[[Any], Any]]) -> None:
        self._open = open_worker
        self._work: Callable[[Any], Any] | None = None

    def __call__(self, batch: Any) -> Any:
        import pyarrow as pa
        from ray import cloudpickle

        pickler: Any = cloudpickle
        made = []
        for piece in batch["piece"]:
            try:
                if self._work is None:
                    self._work = self._open()
                made.append((False, self._work(pickler.loads(piece.as_py()))))
            except PerlEvalError as error:
                made.append((True, (getattr(error, "what", str(error)), getattr(error, "fix", ""))))
        return pa.table({"done": [pickler.dumps(one) for one in made]})


class RayJudge(Judge):
    """A judge that sits on workers; asks, keeps and reads as the judge itself would here.

    It has the same name and parameters, so the same ledger keys: a run may be begun here and ended there.

    Args:
        spec: See `perl_eval.judges.registry.open_judge`.
        options: The same; a key file must be on every worker.
        cluster: Where the workers are.

    Raises:
        UserError: No such judge, or no cluster.
    """

    backend: str
    model: str
    parameters: Mapping[str, object]
    reader: Reader

    def __init__(self, spec: str, options: BackendOptions, cluster: Cluster) -> None:
        self._ray = cluster.connect()
        self._open, self._cluster = partial(opener_of(spec), options), cluster
        self._seats: list[Any] = []
        self._load: list[int] = []
        self._sit()
        failed, facts = self._ray.get(self._seats[0].facts.remote())
        if failed:
            raise UserError(*facts)
        for name in _FACTS:
            setattr(self, name, facts[name])
        self._prices: tuple[float, float] | None = facts["prices"]

    def _sit(self) -> None:
        """Start the workers, spread over the machines.

        Questions are asked again by whoever asks us, so Ray repeats nothing by itself. No CPU is reserved: judges that
        are open together, such as those of a jury, would wait for one another's.
        """
        seat = self._ray.remote(
            max_restarts=-1,
            max_task_retries=0,
            num_cpus=0,
            num_gpus=self._cluster.gpus or None,
            scheduling_strategy="SPREAD",
        )(_Seat)
        self._seats = [seat.remote(self._open) for _ in range(self._cluster.workers)]
        self._load = [0] * self._cluster.workers

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Let the worker with the least to do answer.

        Raises:
            JudgeError: As the judge; a worker that died gave no reply in time.
            UserError: As the judge.
        """
        if not self._seats:
            self._sit()
        place = min(range(len(self._seats)), key=lambda at: self._load[at])
        self._load[place] += 1
        try:
            kind, given = await self._seats[place].ask.remote(list(questions))
        except self._ray.exceptions.RayActorError:
            raise TimedOut("the worker died") from None
        finally:
            if place < len(self._load):
                self._load[place] -= 1
        if kind == "replies":
            replies: list[Reply] = given
            return replies
        if kind == UserError.__name__:
            raise UserError(*given)
        words, forbidden, paid = given
        error = TurnedAway(*words, forbidden=forbidden) if kind == TurnedAway.__name__ else _JUDGE_ERRORS[kind](*words)
        error.paid = paid
        raise error

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        """Return the price at the judge's prices of a million tokens."""
        if self._prices is None:
            return None
        return (tokens_in * self._prices[0] + tokens_out * self._prices[1]) / 1e6

    async def close(self) -> None:
        """Stop the workers; the next question starts others."""
        for seat in self._seats:
            self._ray.kill(seat)
        self._seats, self._load = [], []


class _Seat:
    """A judge on a worker; what it raises comes back as a name and its words."""

    def __init__(self, open_one: Callable[[], Judge]) -> None:
        self._judge: Any = None
        self._refusal: tuple[str, str] = ("", "")
        try:
            self._judge = open_one()
        except UserError as error:
            self._refusal = (error.what, error.fix)

    def facts(self) -> tuple[bool, Any]:
        """Return whether the judge could not be opened, and why; or what it is."""
        if self._judge is None:
            return True, self._refusal
        one, other = self._judge.price_usd(1e6, 0), self._judge.price_usd(0, 1e6)
        prices = None if one is None or other is None else (one, other)
        return False, {**{name: getattr(self._judge, name) for name in _FACTS}, "prices": prices}

    async def ask(self, questions: list[Question]) -> tuple[str, Any]:
        """Return ``replies`` and the replies, or what was raised."""
        try:
            return "replies", await self._judge.ask(questions)
        except RateLimited as error:
            return "RateLimited", ((str(error), error.retry_after_s), False, error.paid)
        except TurnedAway as error:
            return "TurnedAway", ((error.what, error.fix), error.forbidden, error.paid)
        except JudgeError as error:
            kind = type(error).__name__
            return kind if kind in _JUDGE_ERRORS else JudgeError.__name__, ((str(error),), False, error.paid)
        except UserError as error:
            return "UserError", (error.what, error.fix)
