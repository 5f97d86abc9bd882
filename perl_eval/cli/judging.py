"""The verbs judge, jury, verify and ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perl_eval.cli.options import Address, Engine, Gpus, Out, Seed, Workers, cluster_of, one_of, require_torch
from perl_eval.cli.shown import done, show
from perl_eval.errors import UserError

if TYPE_CHECKING:
    from perl_eval.judge import Forecast

_QUESTION = "What is asked"
_LIMITS = "Pace and limits"
_SERVER = "Judges behind a server"
_NEAR = "Judges in this process"
_INSTEAD = "Instead of judging"
_VERDICTS = ("structured", "text", "logprobs")
_FORMS = ("openai", "systemone")

Prompts = Annotated[Path | None, typer.Option(help="Folder of your own prompts.", rich_help_panel=_QUESTION)]


def judge(
    a: Annotated[Path | None, typer.Argument(help="Completions of contestant a.")] = None,
    b: Annotated[Path | None, typer.Argument(help="Completions of b; leave out to judge a alone.")] = None,
    *,
    out: Out,
    door: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            help="chat:MODEL, decisions:MODEL, local:FOLDER, reward:FOLDER or scripted:NAME; several are a jury.",
            metavar="DOOR",
        ),
    ] = None,
    seed: Seed = 0,
    prompt: Annotated[
        str,
        typer.Option(
            help="dialogue, summary, helpful (pairs); harmful, action (yes or no); quality, summary_quality (a score).",
            rich_help_panel=_QUESTION,
        ),
    ] = "",
    prompts: Prompts = None,
    rubric: Annotated[
        Path | None, typer.Option(help="Text file of what to judge by.", rich_help_panel=_QUESTION)
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(help="Known good answers: JSON lines, or completions.", rich_help_panel=_QUESTION),
    ] = None,
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="Ask for reasons before the verdict.", rich_help_panel=_QUESTION)
    ] = False,
    votes: Annotated[int, typer.Option(help="Times that each question is asked.", rich_help_panel=_QUESTION)] = 1,
    limit: Annotated[int | None, typer.Option(help="Most pairs: a random sample.", rich_help_panel=_QUESTION)] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Where answers are kept; several runs may share one.", rich_help_panel=_LIMITS)
    ] = None,
    max_concurrency: Annotated[
        int, typer.Option(help="Requests on their way, at most.", rich_help_panel=_LIMITS)
    ] = 100,
    rpm: Annotated[float | None, typer.Option(help="Requests a minute, at most.", rich_help_panel=_LIMITS)] = None,
    tpm: Annotated[float | None, typer.Option(help="Tokens a minute, at most.", rich_help_panel=_LIMITS)] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="US dollars for each judge, at most.", rich_help_panel=_LIMITS)
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(help="Requests to each judge, at most.", rich_help_panel=_LIMITS)
    ] = None,
    stop_when_decided: Annotated[
        bool,
        typer.Option(
            "--stop-when-decided",
            help="End once an anytime interval of the rate leaves 1/2 out.",
            rich_help_panel=_LIMITS,
        ),
    ] = False,
    half_width: Annotated[
        float | None,
        typer.Option(help="With --stop-when-decided: or once the interval is this narrow.", rich_help_panel=_LIMITS),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Address up to and with /v1; else OpenAI's.", rich_help_panel=_SERVER)
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File with the key; else OPENAI_API_KEY.", rich_help_panel=_SERVER)
    ] = None,
    verdict_by: Annotated[
        str, typer.Option(help="Of a chat judge: structured, text or logprobs.", rich_help_panel=_SERVER)
    ] = "structured",
    temperature: Annotated[float, typer.Option(help="Of a chat judge.", rich_help_panel=_SERVER)] = 0.0,
    max_reply_tokens: Annotated[int, typer.Option(help="Longest reply.", rich_help_panel=_SERVER)] = 512,
    form: Annotated[
        str, typer.Option(help="Of a decisions server: openai or systemone.", rich_help_panel=_SERVER)
    ] = "openai",
    batch: Annotated[
        bool, typer.Option("--batch", help="Ask a chat judge through the Batch API.", rich_help_panel=_SERVER)
    ] = False,
    batch_poll: Annotated[
        float, typer.Option(help="Seconds between two looks at a batch.", rich_help_panel=_SERVER)
    ] = 60.0,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a reply.", rich_help_panel=_SERVER)] = 60.0,
    price_in: Annotated[
        float | None, typer.Option(help="US dollars a million tokens in.", rich_help_panel=_SERVER)
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="US dollars a million tokens out.", rich_help_panel=_SERVER)
    ] = None,
    tie_option: Annotated[
        bool, typer.Option("--tie-option", help="Offer a tie to decisions and local.", rich_help_panel=_NEAR)
    ] = False,
    tie_margin: Annotated[
        float,
        typer.Option(help="A tie up to this difference of probability, reward or utility.", rich_help_panel=_NEAR),
    ] = 0.0,
    threshold: Annotated[float, typer.Option(help="Yes above this reward or utility.", rich_help_panel=_NEAR)] = 0.0,
    position_bias: Annotated[
        float, typer.Option(help="Of a scripted judge, for the first answer.", rich_help_panel=_NEAR)
    ] = 0.0,
    noise: Annotated[float, typer.Option(help="Of a scripted judge, standard deviation.", rich_help_panel=_NEAR)] = 0.0,
    local_batch: Annotated[
        int, typer.Option(help="Questions a local model takes at once.", rich_help_panel=_NEAR)
    ] = 16,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show one request, and what it would take.", rich_help_panel=_INSTEAD)
    ] = False,
    attack: Annotated[
        bool, typer.Option("--attack", help="Try the built-in attacks on the judge.", rich_help_panel=_INSTEAD)
    ] = False,
    look: Annotated[
        bool, typer.Option("--look", help="Ask again with pictures removed, and swapped.", rich_help_panel=_INSTEAD)
    ] = False,
    reread: Annotated[
        Path | None, typer.Option(help="Read this run's kept replies again.", rich_help_panel=_INSTEAD)
    ] = None,
    engine: Engine = "here",
    address: Address = "",
    workers: Workers = 2,
    gpus: Gpus = 0.0,
) -> None:
    """Two sets of completions to judgements, asked in both orders; or one set, each answer alone."""
    if dry_run + attack + look + (reread is not None) > 1:
        raise UserError("--dry-run, --attack, --look and --reread are different things", "give one of them")
    if stop_when_decided and (dry_run or attack or look or reread is not None):
        raise UserError("--stop-when-decided is for judging", "leave it out")
    if reread is not None:
        _reread(reread, a, out, prompts)
        return
    doors = door or []
    a = _given(a, doors, prompt)
    one_of("--verdict-by", verdict_by, _VERDICTS)
    one_of("--form", form, _FORMS)
    if reasoning and verdict_by == "logprobs":
        raise UserError("with --reasoning the first token is no verdict", "leave out --verdict-by logprobs")
    if votes > 1:
        _refuse_same_votes(doors, votes, temperature)
    if any(spec.startswith(("reward:", "local:")) for spec in doors):
        require_torch()
    from perl_eval import judge as verb
    from perl_eval.judges.ask import AskOptions
    from perl_eval.judges.batch import BatchOptions
    from perl_eval.judges.doors import DoorOptions

    reading: Any = {"verdict_by": verdict_by, "form": form}
    told = DoorOptions(
        position_bias=position_bias,
        noise=noise,
        tie_margin=tie_margin,
        threshold=threshold,
        base_url=base_url,
        seed=seed,
        temperature=temperature,
        max_tokens=max_reply_tokens,
        tie_option=tie_option,
        timeout_s=timeout,
        price_in_usd=price_in,
        price_out_usd=price_out,
        key_file=key_file,
        group=local_batch,
        **reading,
    )
    opened = _opened(doors, told, cluster_of(engine, address, workers, gpus), batch=batch)
    if max_cost is not None and any(one.price_usd(1, 1) is None for one in opened):
        raise UserError("--max-cost needs prices", "give --price-in and --price-out")
    asking = AskOptions(
        max_concurrency=max_concurrency,
        votes=votes,
        rpm=rpm,
        tpm=tpm,
        max_requests=max_requests,
        max_cost_usd=max_cost,
    )
    options = verb.JudgeOptions(
        prompt=prompt,
        prompts=prompts,
        ledger=ledger,
        seed=seed,
        limit=limit,
        reasoning=reasoning,
        rubric=rubric,
        references=references,
        asking=asking,
        stop_when_decided=stop_when_decided,
        half_width=half_width,
        batch=BatchOptions(poll_s=batch_poll, say=lambda line: typer.echo(line, err=True)) if batch else None,
    )
    folders = _folders(out, doors)
    for spec, one, folder in zip(doors, opened, folders, strict=True):
        if dry_run:
            _show_forecast(spec, prompt, verb.forecast(a, b, judge=one, options=options, out=folder))
        elif attack or look:
            test = verb.attack if attack else verb.look
            _show_estimates(test(a, b, folder, judge=one, options=options))
        else:
            _show_outcomes(verb.run(a, b, folder, judge=one, options=options))
    if len(doors) > 1 and not (dry_run or attack or look):
        jury(folders, out / "jury")


def jury(
    members: Annotated[list[Path], typer.Argument(help="Output folders of `judge`, one a judge.")],
    out: Out,
    labels: Annotated[
        Path | None, typer.Option(help="Human labels of the same units, to know the judges' errors by.")
    ] = None,
) -> None:
    """Several judges' judgements to what they say together, and how alike they are."""
    from perl_eval import jury as verb

    _show_estimates(verb.run(members, out, labels=labels))


def _given(a: Path | None, doors: Sequence[str], prompt: str) -> Path:
    """Return the completions of a, if all that a judge needs is given."""
    if a is None:
        raise UserError("no completions are given", "give the output folder of `sample`")
    if not doors or not prompt:
        raise UserError(f"--{'prompt' if doors else 'judge'} is missing", "see --help for what there is")
    return a


def _opened(doors: Sequence[str], told: Any, cluster: Any, *, batch: bool) -> list[Any]:
    """Open the judges, here or on a cluster's workers."""
    if cluster is None:
        from perl_eval.judges.doors import open_judge

        return [open_judge(spec, told) for spec in doors]
    from perl_eval.scale.on_ray import RayJudge

    if batch:
        raise UserError("--batch sends everything at once", "leave out --engine")
    return [RayJudge(spec, told, cluster) for spec in doors]


def _refuse_same_votes(doors: Sequence[str], votes: int, temperature: float) -> None:
    """Refuse several votes of judges that draw nothing."""
    still = [spec for spec in doors if not spec.startswith("chat:") or temperature == 0]
    if still:
        raise UserError(
            f"{still[0]} says the same {votes} times", "give --votes with chat judges and --temperature above 0"
        )


def _show_estimates(folder: Path) -> None:
    show(folder)
    done(folder)


def _folders(out: Path, doors: Sequence[str]) -> list[Path]:
    """Return each judge's own folder: the output folder, or numbered ones in it."""
    if len(doors) == 1:
        return [out]
    plain = ["".join(char if char.isalnum() else "-" for char in spec)[-40:].strip("-") for spec in doors]
    return [out / f"{place}-{name}" for place, name in enumerate(plain, 1)]


def verify(
    run: Annotated[Path, typer.Argument(help="The output folder of `judge`.")],
    prompts: Annotated[Path | None, typer.Option(help="Folder of your own prompts, if the run used one.")] = None,
) -> None:
    """Recompute a run of judge from its inputs and its ledger, offline; exit code 1 if anything comes out otherwise."""
    from perl_eval import judge as verb
    from perl_eval import runs
    from perl_eval.judges.kept import reopen
    from perl_eval.records import Judgement

    card = runs.read_card(run)
    if card is None:
        raise UserError(f"{run} is no finished run", "give the output folder of `judge`")
    differing = verb.verify(run, judge=reopen(card), prompts=prompts)
    for id in differing:
        typer.echo(id)
    count = len(runs.read(run, Judgement))
    if differing:
        typer.echo(f"{len(differing)} of {count} judgements come out otherwise", err=True)
        raise typer.Exit(1)
    typer.echo(f"all {count} judgements come out the same")


def ledger_export(
    ledger: Annotated[Path, typer.Argument(help="The ledger.")],
    out: Annotated[Path, typer.Option(help="The file to write: .jsonl or .parquet.")],
) -> None:
    """A ledger's replies to a file."""
    from perl_eval.judges.keeping import export

    typer.echo(f"{export(ledger, out):,} replies")
    done(out)


def ledger_prune(
    ledger: Annotated[Path, typer.Argument(help="The ledger.")],
    before: Annotated[datetime | None, typer.Option(help="Delete what was kept before this moment, UTC.")] = None,
    model: Annotated[str | None, typer.Option(help="Delete the replies of this model.")] = None,
    keep: Annotated[
        list[Path] | None, typer.Option(help="Delete what this run of `judge` does not need; may be repeated.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder of your own prompts, if the runs used one.")] = None,
) -> None:
    """Delete replies from a ledger: those to which all of this applies. Asking the same costs again."""
    from perl_eval import runs
    from perl_eval.judges.keeping import Pruning, prune
    from perl_eval.judges.kept import reopen
    from perl_eval.judges.replay import keys_of

    needed: set[bytes] | None = None
    for run in keep or []:
        card = runs.read_card(run)
        if card is None:
            raise UserError(f"{run} is no finished run", "give the output folder of `judge`")
        needed = (needed or set()) | set(keys_of(run, judge=reopen(card), prompts=prompts))
    count = prune(ledger, Pruning(before=before, model=model, unused=needed))
    typer.echo(f"{count:,} replies deleted")


def _reread(run: Path, a: Path | None, out: Path, prompts: Path | None) -> None:
    from perl_eval import judge as verb
    from perl_eval import runs
    from perl_eval.judges.kept import reopen

    if a is not None:
        raise UserError("--reread takes its completions from the run", "leave them out")
    card = runs.read_card(run)
    if card is None:
        raise UserError(f"{run} is no finished run", "give the output folder of `judge`")
    _show_outcomes(verb.reread(run, out, judge=reopen(card), prompts=prompts))


def _show_outcomes(folder: Path) -> None:
    """Print what came out, and what it took, from the run card."""
    from perl_eval import runs

    card = runs.read_card(folder)
    if card is not None:
        notes = card.notes
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(notes["outcomes"].items()))
        typer.echo(f"{notes['judged']:,} judged: {outcomes or 'none'}")
        if "changed" in notes:
            typer.echo(f"{notes['changed']:,} changed")
        if asking := notes.get("asking"):
            cost = f", {asking['cost_usd']:.4f} US dollars" if asking["cost_usd"] else ""
            typer.echo(f"{asking['requests']:,} requests, {asking['from_ledger']:,} answers from the ledger{cost}")
            if batches := notes.get("batch"):
                typer.echo(f"{batches['batches']:,} batches, {batches['requests']:,} requests in them")
                for reason, count in batches["without_answer"].items():
                    typer.echo(f"  {count:,} without an answer at first or at all: {reason}")
            if notes.get("decided after"):
                typer.echo(f"decided after {notes['decided after']:,} of {notes['queue']:,}")
            if asking["stopped"]:
                typer.echo(f"stopped: {asking['stopped']}; {notes['not_asked']:,} not asked")
    done(folder)


def _show_forecast(door: str, prompt: str, found: Forecast) -> None:
    """Print what judging would take, and one request."""
    cost = "not known; give --price-in and --price-out"
    if found.cost_usd is not None:
        cost = f"{found.cost_usd:,.4f} US dollars at most"
    lines = {
        "judge": door,
        "prompt": prompt,
        "to judge": f"{found.units:,}",
        "questions": f"{found.questions:,}, of which {found.from_ledger:,} are in the ledger",
        "requests": f"{found.requests:,}",
        "tokens in": f"about {found.tokens_in:,}",
        "tokens out": f"{found.tokens_out:,} at most",
        "cost": cost,
    }
    for name, value in lines.items():
        typer.echo(f"{name:<11}{value}")
    typer.echo("\nOne request:")
    for turn in found.example:
        typer.echo(f"\n[{turn.role}]\n{turn.content}")
