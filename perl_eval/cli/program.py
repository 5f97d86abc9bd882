"""Where the verbs meet, and where a user's mistake becomes one line."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Annotated, Any, NoReturn

import typer

from datasets_builders.errors import BuilderError
from perl_eval.cli import default_out, remote_arguments
from perl_eval.cli.console import UNFINISHED, say
from perl_eval.cli.error_pages import page_of
from perl_eval.cli.examples import shown
from perl_eval.cli.old_names import renamed
from perl_eval.errors import OptionError, PerlEvalError, Unfinished

__all__ = ["main", "program", "whole_program"]

_INTERRUPTED = 130


def _show_version(wanted: bool) -> None:
    """Print name and version, as the installed package says it, and stop."""
    if wanted:
        typer.echo(f"perl-eval {metadata.version('perl-eval')}")
        raise typer.Exit


_VERBS: Mapping[str, str] = {
    "build": "build:build",
    "train sft": "train:train_sft",
    "train reward": "train:train_reward",
    "train policy": "train_policy:train_policy",
    "train dpo": "train:train_dpo",
    "train average": "train:average_rewards",
    "ablate": "ablate:ablate",
    "sample": "sample:sample",
    "recorded": "recorded:recorded",
    "judge": "judge:judge",
    "jury": "jury:jury",
    "verify": "verify:verify",
    "ledger export": "ledger:ledger_export",
    "ledger prune": "ledger:ledger_prune",
    "ledger salvage": "ledger:ledger_salvage",
    "score": "score:score",
    "agree": "agree:agree",
    "decide": "decide:decide",
    "doctor": "doctor:doctor",
    "audit": "audit:audit",
    "power": "power:power",
    "plan": "plan:plan",
    "import": "import_:import_",
    "annotate": "annotate:annotate",
    "export": "export:export",
    "posterior": "posterior:posterior",
    "conformance": "conformance:conformance",
    "report": "report:report",
    "demo": "demo:demo",
    "docs": "docs:docs",
}
"""By what is typed after ``perl-eval``: the module in this package, and the function that is called."""
_GROUPS: Mapping[str, str] = {
    "train": "Train an SFT model, a reward model or an RL policy.",
    "ledger": "Export, clean or repair the file that keeps judges' replies.",
}


def _before(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """See the options of the program itself; the text of its help is given above."""


def program(words: Sequence[str]) -> typer.Typer:
    """Return the program as far as a command needs it: with one verb, or one group of verbs, if the first word says so.

    To build all verbs takes a fifth of a second.

    Args:
        words: What was typed after ``perl-eval``.
    """
    first = words[0] if words else ""
    return _built({path: verb for path, verb in _VERBS.items() if path.partition(" ")[0] == first} or _VERBS)


def whole_program() -> typer.Typer:
    """Return the program with all its verbs."""
    return _built(_VERBS)


def _built(verbs: Mapping[str, str]) -> typer.Typer:
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Build preference data, train LoRA RLHF policies, judge them in both orders, and measure the judge.",
    )
    app.callback()(_before)
    groups: dict[str, typer.Typer] = {"": app}
    for path, verb in verbs.items():
        group, _, name = path.rpartition(" ")
        if group not in groups:
            groups[group] = typer.Typer(no_args_is_help=True, help=_GROUPS[group])
            app.add_typer(groups[group], name=group)
        module, _, function = verb.partition(":")
        called = getattr(import_module(f"perl_eval.cli.{module}"), function)
        groups[group].command(name, epilog=shown(path))(called)
    return app


def main() -> None:
    """Run the command line.

    What a user can cause is one line on standard error and exit code 2; a run that stopped before its end is exit code
    3; an interrupt is exit code 130. A bug is a traceback.
    """
    try:
        with _as_interrupts(), default_out.tidied(), remote_arguments.at_hand(sys.argv[1:]) as words:
            code = program(words)(renamed(words), prog_name="perl-eval", standalone_mode=False)
    except OptionError as error:
        _fail(error.typed(), error)
    except Unfinished as error:
        _fail(str(error), error, code=UNFINISHED)
    except (PerlEvalError, BuilderError) as error:
        _fail(str(error), error)
    except typer.TyperException as error:  # typer's own complaints; without a message it has shown the help instead
        _fail(error.format_message(), error)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        typer.echo("stopped; the same command continues from here", err=True)
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        from perl_eval.training.distributed import end

        end(code or 0)
    sys.exit(code)


@contextmanager
def _as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does; a signal that is ignored, as under nohup, stays so."""

    def interrupt(*_: object) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job, which Ctrl-C is not for
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for kept, handler in before.items():
            signal.signal(kept, handler)


def _fail(message: str, error: Exception | None = None, *, code: int = 2) -> NoReturn:
    """Print what went wrong, and where to read more, in one line, and end."""
    line = " ".join(message.split())
    if line:
        page = page_of(error, sys.argv[1:]) if error is not None else ""
        say(f"error: {line} (see `{page}`)" if page else f"error: {line}", err=True)
    sys.exit(code)
