"""Where the verbs meet, and where a user's mistake becomes one line."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
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
ledger = typer.Typer(no_args_is_help=True, help="Look after the file that keeps judges' answers.")
train = typer.Typer(no_args_is_help=True, help="Train an SFT model, a reward model or an RL policy.")


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """See the options of the program itself; the text of its help is given above."""


app.command()(build.build)
app.add_typer(train, name="train")
train.command("sft")(train_verbs.train_sft)
train.command("reward")(train_verbs.train_reward)
train.command("policy")(train_policy)
train.command("dpo")(train_verbs.train_dpo)
train.command("average")(train_verbs.average_rewards)
app.command()(ablate.ablate)
app.command()(sample.sample)
app.command()(recorded.recorded)
app.command()(judge.judge)
app.command()(jury.jury)
app.command()(verify.verify)
app.add_typer(ledger, name="ledger")
ledger.command("export")(ledger_verbs.ledger_export)
ledger.command("prune")(ledger_verbs.ledger_prune)
ledger.command("salvage")(ledger_verbs.ledger_salvage)
app.command()(score.score)
app.command()(agree.agree)
app.command()(decide.decide)
app.command()(doctor.doctor)
app.command()(audit.audit)
app.command()(power.power)
app.command()(plan.plan)
app.command("import")(import_.import_)
app.command()(annotate.annotate)
app.command()(export.export)
app.command()(posterior.posterior)
app.command()(conformance.conformance)
app.command()(report.report)
app.command()(demo.demo)


def main() -> None:
    """Run the command line.

    What a user can cause is one line on standard error and exit code 2; a run that stopped before its end is exit code
    3; an interrupt is exit code 130. A bug is a traceback.
    """
    try:
        with _as_interrupts(), default_out.tidied(), remote_arguments.at_hand(sys.argv[1:]) as words:
            code = app(words, prog_name="perl-eval", standalone_mode=False)
    except OptionError as error:
        _fail(error.typed())
    except Unfinished as error:
        _fail(str(error), code=UNFINISHED)
    except (PerlEvalError, BuilderError) as error:
        _fail(str(error))
    except typer.TyperException as error:  # typer's own complaints; without a message it has shown the help instead
        _fail(error.format_message())
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        typer.echo("stopped; the same command goes on from here", err=True)
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


def _fail(message: str, *, code: int = 2) -> NoReturn:
    line = " ".join(message.split())
    if line:
        say(f"error: {line}", err=True)
    sys.exit(code)
