"""The verb `annotate`: completions to a page on which people label them blind."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from perl_eval.checks import at_least_one, positive
from perl_eval.errors import OptionError, UserError
from perl_eval.labelling.store import Store
from perl_eval.labelling.units import Drawing, Task, drawn, tasks_of
from perl_eval.records import Completion, Judgement
from perl_eval.storage import images, parquet, run_folder

__all__ = ["SESSION", "Address", "AnnotateOptions", "begin", "links", "run"]

SESSION = "labelling.sqlite"
"""The file of a session, in its folder."""
_NAME_LIMIT = 64
_QUESTION = "Which answer is better?"


@dataclass(frozen=True, slots=True)
class AnnotateOptions:
    """What people are asked, and who.

    Attributes:
        annotators: Pseudonyms; each gets a link of its own.
        overlap: Labels wanted of each unit, by as many people.
        question: What is asked; for single answers, what yes means.
        drawing: Which units are labelled, and the seed of order and sides.
        judgements: A judge's judgements of the same completions; needed to draw by what it said.
        lease_s: Seconds for which a unit that someone looks at is kept from others.
        adjudicators: Pseudonyms of those who rule on what annotators disagree on; each sees all of it, and no names.
        until_decided: End once the labels so far, with the judgements, decide which is better.
        say: With it, told what each look at the decision says.
    """

    annotators: tuple[str, ...] = ("annotator-1",)
    overlap: int = 1
    question: str = ""
    drawing: Drawing = field(default_factory=Drawing)
    judgements: Path | None = None
    lease_s: float = 900.0
    adjudicators: tuple[str, ...] = ()
    until_decided: bool = False
    say: Callable[[str], object] = lambda _: None

    def __post_init__(self) -> None:
        people = (*self.annotators, *self.adjudicators)
        for name in people:
            if not name.isprintable() or not 0 < len(name.strip()) <= _NAME_LIMIT:
                raise UserError(f"{name!r} is not a pseudonym", f"give 1 to {_NAME_LIMIT} printable characters")
        if len(set(people)) < len(people):
            raise UserError("a pseudonym is given twice", "give each annotator a name of their own")
        if self.adjudicators and self.overlap < 2:
            raise OptionError("overlap", self.overlap, "people can disagree only where two label the same: give 2")
        if self.until_decided and self.judgements is None:
            raise UserError("nothing can be decided without a judge's judgements", "give them with --judgements")
        at_least_one(self, "overlap")
        if self.overlap > len(self.annotators):
            fix = f"it needs as many annotators, and there are {len(self.annotators)}: name more, or lower it"
            raise OptionError("overlap", self.overlap, fix)
        positive(self, "lease_s")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is served: a host and a port, 0 for any free one, and other names that it goes by."""

    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise OptionError("port", self.port, "give a number from 0 (any free one) to 65535")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def begin(a: Path, b: Path | None, folder: Path, *, options: AnnotateOptions) -> Store:
    """Start a labelling session in a folder, or open the one that the same command started.

    Args:
        a: Completions of contestant a: a run folder, or its file.
        b: Those of contestant b; None to ask about those of a alone.
        folder: The session's folder.
        options: What is asked, and whom.

    Raises:
        UserError: The folder holds another session, nothing matches, or no question is given for single answers.
        DataError: An input does not match its card.
    """
    if b is None and options.until_decided:
        raise UserError(
            "only which of two is better can be decided", "give the completions of b, or no --until-decided"
        )
    if b is None and not options.question:
        raise UserError("a yes needs a meaning", "give a question, such as 'Is this answer harmful?'")
    files = {
        "a": run_folder.locate(a, Completion),
        "b": None if b is None else run_folder.locate(b, Completion),
        "judgements": None if options.judgements is None else run_folder.locate(options.judgements, Judgement),
    }
    plan = {
        **{name: None if path is None else run_folder.fingerprint(path) for name, path in files.items()},
        "kind": "yes_no" if b is None else "pairwise",
        "question": options.question or _QUESTION,
        "overlap": options.overlap,
        "lease_s": options.lease_s,
        "by": options.drawing.by,
        "limit": options.drawing.limit,
        "seed": options.drawing.seed,
    }
    store = Store(Path(folder) / SESSION)
    try:
        store.begin(plan, lambda: _tasks(files, options.drawing), options.annotators, options.adjudicators)
    except BaseException:
        store.__exit__(None, None, None)
        raise
    return store


def _tasks(files: Mapping[str, Path | None], drawing: Drawing) -> list[Task]:
    first, second, judged = files["a"], files["b"], files["judgements"]
    assert first is not None
    tasks = tasks_of(_answers(first), None if second is None else _answers(second))
    chosen = drawn(tasks, drawing, [] if judged is None else run_folder.read(judged, Judgement))
    return [replace(task, images=images.locate(first, task.images)) for task in chosen]


def _answers(path: Path) -> list[Completion]:
    """Read completions, of which no two may have one id: labels are kept by it."""
    found = run_folder.read(path, Completion)
    parquet.refuse_repeated(pa.chunked_array([[one.id for one in found]], pa.string()), path, "id")
    return found


def links(store: Store, address: Address) -> dict[str, str]:
    """Return each annotator's link; what follows the # opens the API and is sent to no server by a browser."""
    from perl_eval.labelling.security import token_of

    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address.host, address.host)
    name = next(iter(address.names), f"[{host}]" if ":" in host.strip("[]") and not host.startswith("[") else host)
    people = (*store.annotators, *store.adjudicators)
    return {who: f"http://{name}:{address.port}/#{token_of(store.secret, who)}" for who in people}


def run(
    a: Path,
    b: Path | None,
    folder: Path,
    *,
    options: AnnotateOptions,
    address: Address | None = None,
    announce: Callable[[dict[str, str]], object] = lambda _: None,
) -> Path:
    """Serve a labelling session until the process is interrupted, or what was asked is decided.

    Args:
        a: As for `begin`.
        b: As for `begin`.
        folder: As for `begin`; labels are kept in it, and the same command goes on with them.
        options: As for `begin`.
        address: Where to serve.
        announce: Called with each person's link once the server listens.

    Returns:
        The folder.

    Raises:
        UserError: As for `begin`, the packages are missing, or the address is taken.
        DataError: As for `begin`.
    """
    where = address or Address()
    try:
        import uvicorn  # noqa: F401

        from perl_eval.labelling.app import build
        from perl_eval.labelling.connections import served
        from perl_eval.labelling.security import hosts_of
    except ModuleNotFoundError as error:
        raise UserError(
            f"this verb needs {error.name}",
            "install the extra: pip install 'perl-eval[annotate]'",
            page="README.md#install",
        ) from None
    with begin(a, b, folder, options=options) as store, _listening(where) as listener:
        where = replace(where, port=listener.getsockname()[1])
        at_hand: set[str] = set()
        application = build(store, hosts=hosts_of(where.host, where.port, where.names), at_hand=at_hand)
        server = served(application)
        announce(links(store, where))
        with _stopping(), _watching(store, options, at_hand, lambda: setattr(server, "should_exit", True)):
            server.run(sockets=[listener])
    return Path(folder)


@contextmanager
def _watching(
    store: Store, options: AnnotateOptions, at_hand: Collection[str], end: Callable[[], object]
) -> Iterator[None]:
    """Look at the decision as labels come, if that is wanted."""
    if not options.until_decided or options.judgements is None:
        yield
        return
    from perl_eval.labelling.deciding import Watch

    watch = Watch(store, options.judgements, options.say, end, at_hand)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


@contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listener = socket.create_server((address.host.strip("[]"), address.port), family=family)
    except OSError as error:
        raise UserError(
            f"cannot serve at {address.host}, port {address.port}: {error.strerror}", "give another port, or 0 for any"
        ) from None
    with listener:
        yield listener


@contextmanager
def _stopping() -> Iterator[None]:
    """Take the signals that stop a server as the end of the session, not as a failure."""

    def heard(_number: int, _frame: object) -> None:
        """Do nothing: the server has heard the signal, stopped, and raised it again."""

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
