"""Where the verbs meet, and where a user's mistake becomes one line."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer

from datasets_builders.errors import BuilderError
from perl_eval.cli import (
    ablate,
    agree,
    annotate,
    audit,
    build,
    conformance,
    decide,
    default_out,
    demo,
    docs,
    doctor,
    export,
    import_,
    judge,
    jury,
    plan,
    posterior,
    power,
    recorded,
    remote_arguments,
    report,
    sample,
    score,
    verify,
)
from perl_eval.cli import ledger as ledger_verbs
from perl_eval.cli import train as train_verbs
from perl_eval.cli.console import UNFINISHED, say
from perl_eval.cli.error_pages import page_of
from perl_eval.cli.examples import shown
from perl_eval.cli.old_names import renamed
from perl_eval.cli.train_policy import train_policy
from perl_eval.errors import OptionError, PerlEvalError, Unfinished

__all__ = ["app", "main"]

_INTERRUPTED = 130


def _show_version(wanted: bool) -> None:
    """Print name and version, as the installed package says it, and stop."""
    if wanted:
        typer.echo(f"perl-eval {metadata.version('perl-eval')}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Build preference data, train LoRA RLHF policies, judge them in both orders, and measure the judge.",
)
ledger = typer.Typer(no_args_is_help=True, help="Export, clean or repair the file that keeps judges' replies.")
train = typer.Typer(no_args_is_help=True, help="Train an SFT model, a reward model or an RL policy.")


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """See the options of the program itself; the text of its help is given above."""


def _offer(path: str, verb: Callable[..., Any]) -> None:
    """Put a verb on the command line; its help ends with its examples.

    Args:
        path: What is typed after ``perl-eval``, the group's name before it.
        verb: What it calls.
    """
    group, _, name = path.rpartition(" ")
    {"": app, "train": train, "ledger": ledger}[group].command(name, epilog=shown(path))(verb)


_offer("build", build.build)
app.add_typer(train, name="train")
_offer("train sft", train_verbs.train_sft)
_offer("train reward", train_verbs.train_reward)
_offer("train policy", train_policy)
_offer("train dpo", train_verbs.train_dpo)
_offer("train average", train_verbs.average_rewards)
_offer("ablate", ablate.ablate)
_offer("sample", sample.sample)
_offer("recorded", recorded.recorded)
_offer("judge", judge.judge)
_offer("jury", jury.jury)
_offer("verify", verify.verify)
app.add_typer(ledger, name="ledger")
_offer("ledger export", ledger_verbs.ledger_export)
_offer("ledger prune", ledger_verbs.ledger_prune)
_offer("ledger salvage", ledger_verbs.ledger_salvage)
_offer("score", score.score)
_offer("agree", agree.agree)
_offer("decide", decide.decide)
_offer("doctor", doctor.doctor)
_offer("audit", audit.audit)
_offer("power", power.power)
_offer("plan", plan.plan)
_offer("import", import_.import_)
_offer("annotate", annotate.annotate)
_offer("export", export.export)
_offer("posterior", posterior.posterior)
_offer("conformance", conformance.conformance)
_offer("report", report.report)
_offer("demo", demo.demo)
_offer("docs", docs.docs)


def main() -> None:
    """Run the command line.

    What a user can cause is one line on standard error and exit code 2; a run that stopped before its end is exit code
    3; an interrupt is exit code 130. A bug is a traceback.
    """
    try:
        with _as_interrupts(), default_out.tidied(), remote_arguments.at_hand(sys.argv[1:]) as words:
            code = app(renamed(words), prog_name="perl-eval", standalone_mode=False)
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
