"""The command line: one command a verb. Heavy packages load only when a verb needs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from datasets_builders.errors import BuilderError
from perl_eval.errors import PerlEvalError, UserError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Build preference data, train LoRA RLHF policies, judge them in both orders, and measure the judge.",
)
train = typer.Typer(no_args_is_help=True, help="Train an SFT model, a reward model or an RL policy.")
app.add_typer(train, name="train")

_INTERRUPTED = 130
Out = Annotated[Path, typer.Option("--out", help="Output folder; gets the files and run.json.")]
Data = Annotated[Path, typer.Option("--data", help="One config's folder of a built data set.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of everything random.")]
MaxTokens = Annotated[int, typer.Option(help="Longest input in tokens, prompt and answer together.")]
NewTokens = Annotated[int, typer.Option(help="Most tokens to sample.")]
Prior = Annotated[Path, typer.Option(help="The SFT model: frozen backbone, and KL anchor.")]
Rank = Annotated[int, typer.Option(help="LoRA rank.")]
Targets = Annotated[str, typer.Option(help="Projections with adapters: attention, all, or names with commas.")]


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="Data set, for example taskmaster-coffee; coffee-world is embedded.")],
    out: Out,
    config: Annotated[list[str] | None, typer.Option(help="Config; may be repeated. Default: the usual ones.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of upstream files; else they are downloaded.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Build these splits only.")] = None,
    checksums: Annotated[str, typer.Option(help="verify, or record (take any files).")] = "verify",
    check: Annotated[bool, typer.Option("--check", help="Look for leakage, duplicates, contradictions.")] = False,
    against: Annotated[Path | None, typer.Option(help="Another built folder to look for leakage from.")] = None,
    num_proc: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
    push_to_hub: Annotated[str | None, typer.Option(help="Upload to this hub repository, OWNER/NAME, private.")] = None,
    seed: Seed = 0,
) -> None:
    """Build a data set: upstream files to rows in TRL's columns."""
    if name.replace("-", "_") == "coffee_world":
        from perl_eval import world

        given = {"config": config, "data-dir": data_dir, "split": split, "check": check, "against": against}
        for option, value in {**given, "num-proc": num_proc, "push-to-hub": push_to_hub}.items():
            if value:
                raise UserError(f"{name} is embedded and takes no --{option}", "leave the option out")
        _done(world.build(out, seed=seed))
        return
    from perl_eval import build as verb

    options = verb.BuildOptions(
        splits=tuple(split or ()), checksums=checksums, num_proc=num_proc, against=against, push_to_hub=push_to_hub
    )
    _done(verb.run(name, out, config=config or None, data_dir=data_dir, check=check, options=options))


@train.command("sft")
def train_sft(
    data: Data,
    out: Out,
    model: Annotated[str, typer.Option(help="Model folder, or scratch:tiny|small|medium.")] = "scratch:tiny",
    epochs: float = 3.0,
    batch: int = 64,
    learning_rate: float = 2e-3,
    max_tokens: MaxTokens = 512,
    seed: Seed = 0,
) -> None:
    """Demonstration rows to a model, by imitation of the assistant's turns."""
    with _training():
        from perl_eval.train import sft

        options = sft.SftOptions(model, epochs, batch, learning_rate, max_tokens)
        _done(sft.run(data, out, options=options, seed=seed))


def _reward_options(
    epochs: float, batch: int, learning_rate: float, max_tokens: int, max_new_tokens: int, rank: int, targets: str
) -> Any:
    from perl_eval.train.reward import RewardOptions

    return RewardOptions(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        max_new_tokens=max_new_tokens,
        lora=_lora(rank, targets),
    )


@train.command("reward")
def train_reward(
    data: Data,
    prior: Prior,
    out: Out,
    epochs: float = 2.0,
    batch: int = 64,
    learning_rate: float = 2e-3,
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    rank: Rank = 8,
    targets: Targets = "attention",
    folds: Annotated[int, typer.Option(min=0, help="Cross-validate over this many grouped folds instead.")] = 0,
    seed: Seed = 0,
) -> None:
    """Rating or Preference rows to a LoRA reward model; or, with --folds, its grouped cross-validation."""
    with _training():
        options = _reward_options(epochs, batch, learning_rate, max_tokens, max_new_tokens, rank, targets)
        if folds:
            from perl_eval.train import folds as verb

            folder = verb.run(data, prior, out, options=verb.FoldOptions(folds, options), seed=seed)
            _show(folder)
            _done(folder)
            return
        from perl_eval.train import reward

        _done(reward.run(data, prior, out, options=options, seed=seed))


@train.command("policy")
def train_policy(
    data: Data,
    prior: Prior,
    reward: Annotated[Path, typer.Option(help="Output folder of `train reward` on the same prior.")],
    out: Out,
    steps: int = 100,
    batch: int = 64,
    group: Annotated[int, typer.Option(help="Samples a prompt; above 1 their mean score is the baseline.")] = 1,
    learning_rate: float = 1e-3,
    beta: Annotated[float, typer.Option(help="KL strength, reward units per nat; 0 for none.")] = 0.05,
    kl_weight: Annotated[float | None, typer.Option(help="PE-RLHF's b; sets beta = b / (1 - b).")] = None,
    temperature: float = 1.0,
    value: Annotated[str, typer.Option(help="head (on the policy's trunk) or adapter (of its own).")] = "head",
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    rank: Rank = 8,
    targets: Targets = "attention",
    seed: Seed = 0,
) -> None:
    """Prompts to a LoRA policy: REINFORCE with a value baseline and KL to the prior."""
    _one_of("--value", value, ("head", "adapter"))
    if kl_weight is not None and not 0 <= kl_weight < 1:
        raise UserError(f"--kl-weight {kl_weight} is outside [0, 1)", "give b as in the paper, such as 0.05")
    with _training():
        from perl_eval.train import policy

        options = policy.PolicyOptions(
            steps=steps,
            batch=batch,
            group=group,
            learning_rate=learning_rate,
            beta=beta,
            kl_weight=kl_weight,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            max_tokens=max_tokens,
            value="adapter" if value == "adapter" else "head",
            lora=_lora(rank, targets),
        )
        _done(policy.run(data, prior, reward, out, options=options, seed=seed))


@app.command()
def sample(
    model: Annotated[Path, typer.Option(help="Model folder, or output of `train policy`.")],
    data: Data,
    out: Out,
    name: Annotated[str, typer.Option(help="What to call the policy; default the folder's name.")] = "",
    split: str = "test",
    draws: Annotated[int, typer.Option(help="Completions a prompt.")] = 1,
    limit: Annotated[int, typer.Option(help="Most prompts; 0 for all.")] = 0,
    temperature: float = 1.0,
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    batch: int = 64,
    seed: Seed = 0,
) -> None:
    """Prompts to completions."""
    with _training():
        from perl_eval import sample as verb

        options = verb.SampleOptions(name, split, draws, limit, temperature, max_new_tokens, max_tokens, batch)
        _done(verb.run(model, data, out, options=options, seed=seed))


@app.command()
def recorded(data: Data, out: Out, split: str = "test") -> None:
    """Rated rows to completions and human labels, so that a judge can be held against people."""
    from perl_eval import recorded as verb

    _done(verb.run(data, out, split=split))


@app.command()
def judge(
    a: Annotated[Path, typer.Argument(help="Completions of contestant a.")],
    b: Annotated[Path | None, typer.Argument(help="Completions of b; leave out to judge a alone, yes or no.")] = None,
    *,
    out: Out,
    door: Annotated[str, typer.Option("--judge", help="scripted:NAME, reward:FOLDER or chat:MODEL.")],
    prompt: Annotated[str, typer.Option(help="dialogue, summary, helpful (pairs); harmful, action (yes or no).")],
    prompts: Annotated[Path | None, typer.Option(help="Folder of your own prompts.")] = None,
    limit: Annotated[int | None, typer.Option(help="Most pairs: a random sample.")] = None,
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server of a chat judge.")] = None,
    position_bias: Annotated[float, typer.Option(help="Of a scripted judge, for the first answer.")] = 0.0,
    noise: Annotated[float, typer.Option(help="Of a scripted judge, standard deviation.")] = 0.0,
    tie_margin: float = 0.0,
    threshold: Annotated[float, typer.Option(help="Yes above this reward or utility.")] = 0.0,
    seed: Seed = 0,
) -> None:
    """Two sets of completions to judgements, asked in both orders; or one set to yes or no."""
    with _training(needed=door.startswith("reward:")):
        from perl_eval import judge as verb
        from perl_eval.judges.doors import DoorOptions, open_judge

        options = DoorOptions(position_bias, noise, tie_margin, threshold, base_url, seed)
        asked = verb.JudgeOptions(prompt=prompt, prompts=prompts, seed=seed, limit=limit)
        _done(verb.run(a, b, out, judge=open_judge(door, options), options=asked))


@app.command()
def score(
    source: Annotated[Path, typer.Argument(help="Judgements; or completions, for their diversity.")], out: Out
) -> None:
    """Judgements to rates with intervals; completions to measures of diversity."""
    from perl_eval import runs
    from perl_eval import score as verb
    from perl_eval.records import Completion, Judgement

    folder = Path(source)
    is_completions = folder.name == runs.FILES[Completion] or (
        (folder / runs.FILES[Completion]).is_file() and not (folder / runs.FILES[Judgement]).is_file()
    )
    result = verb.run_diversity(source, out) if is_completions else verb.run(source, out)
    _show(result)
    _done(result)


@app.command()
def agree(
    judgements: Annotated[Path, typer.Argument(help="Judgements.")],
    labels: Annotated[Path, typer.Argument(help="Human labels of the same units.")],
    out: Out,
) -> None:
    """Judgements and human labels to agreement: people among themselves, and judge with people."""
    from perl_eval import agree as verb

    result = verb.run(judgements, labels, out)
    _show(result)
    _done(result)


@app.command()
def report(
    sources: Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
    form: Annotated[str, typer.Option("--format", help="html, md or json.")] = "html",
    title: str = "perl-eval report",
) -> None:
    """Run folders to one self-contained page."""
    from perl_eval import report as verb

    _one_of("--format", form, ("html", "md", "json"))
    chosen: Any = form
    _done(verb.run(sources, out, title=title, format=chosen))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for all runs and the page.")] = Path("perl-eval-demo"),
    seed: Seed = 0,
) -> None:
    """Run the whole chain offline on an embedded world whose true reward is known."""
    with _training():
        from perl_eval import demo as verb

        page = verb.run(out, seed=seed)
        _table("perl-eval demo (dialogues, annotators and the scripted judges are simulated)", verb.headline(out))
        _done(page)


def _lora(rank: int, targets: str) -> Any:
    from perl_eval.models.backbone import ALL_PROJECTIONS, ATTENTION, LoraShape

    if rank < 1:
        raise UserError(f"--rank {rank} is no LoRA rank", "give 1 or more")
    named = {"attention": ATTENTION, "all": ALL_PROJECTIONS}
    chosen = named.get(targets) or tuple(name.strip() for name in targets.split(",") if name.strip())
    if not chosen:
        raise UserError(f"--targets {targets!r} names no projection", "give attention, all, or names with commas")
    return LoraShape(rank, 2.0 * rank, chosen)


def _one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(f"{option} {value!r} is not known", f"choose from {', '.join(allowed)}")


class _training:  # reads as a statement
    """Turn a missing extra into one line that says what to install."""

    def __init__(self, *, needed: bool = True) -> None:
        self.needed = needed

    def __enter__(self) -> None:
        if self.needed:
            import importlib.util

            missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
            if missing:
                raise UserError(
                    f"this verb needs {', '.join(missing)}", "install the extra: pip install 'perl-eval[train]'"
                )

    def __exit__(self, *_: object) -> None:
        return None


def _show(folder: Path) -> None:
    from perl_eval import runs
    from perl_eval.records import Estimate

    _table(folder.name, runs.read(folder, Estimate))


def _table(title: str, estimates: Sequence[Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), header_style="bold")
    for column in ("subject", "figure", "value", "interval", "n"):
        table.add_column(column, justify="left" if column in ("subject", "figure") else "right")
    subject = None
    for estimate in estimates:
        interval = "" if estimate.low is None else f"{estimate.low:.3f} to {estimate.high:.3f}"
        places = 0 if estimate.method == "count" else 3
        value = escape(f"none: {estimate.reason}") if estimate.value is None else f"{estimate.value:,.{places}f}"
        shown = "" if estimate.subject == subject else escape(estimate.subject)
        table.add_row(shown, escape(estimate.name), value, interval, str(estimate.n), end_section=False)
        subject = estimate.subject
    Console().print(table)


def _done(path: Path) -> None:
    typer.echo(str(path))


def main() -> None:
    """Run the command line.

    What a user can cause is one line on standard error and exit code 2; an interrupt is exit code 130. A bug is a
    traceback.
    """
    try:
        code = app(prog_name="perl-eval", standalone_mode=False)
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
    sys.exit(code)


def _fail(message: str) -> NoReturn:
    line = " ".join(message.split())
    if line:
        # Text of the user's files must not steer the terminal.
        shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
        typer.echo(f"error: {shown}", err=True)
    sys.exit(2)
