"""The verbs judge and jury."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perl_eval.cli import judge_options as asked
from perl_eval.cli.console import UNFINISHED, _show_estimates, say
from perl_eval.cli.judge_printing import show_forecast, show_outcomes
from perl_eval.cli.jury import jury
from perl_eval.cli.shared_options import (
    Address,
    Columns,
    Engine,
    FileFormat,
    Gpus,
    Out,
    Requests,
    Seed,
    Workers,
    cluster_of,
    completions_at,
    how_read,
    one_of,
    require_torch,
)
from perl_eval.cli.verify import finished
from perl_eval.errors import UserError

if TYPE_CHECKING:
    from perl_eval.judges.protocol import Judge
    from perl_eval.judging.engine.batch_api import BatchOptions


def judge(
    a: asked.A = None,
    b: asked.B = None,
    *,
    out: Out,
    judges: asked.Judges = None,
    seed: Seed = 0,
    prompt: asked.Prompt = "",
    prompts: asked.Prompts = None,
    rubric: asked.Rubric = None,
    references: asked.References = None,
    reasoning: asked.Reasoning = False,
    votes: asked.Votes = 1,
    limit: asked.Limit = None,
    ledger: asked.LedgerFile = None,
    max_concurrency: asked.Concurrency = 100,
    rpm: asked.Rpm = None,
    tpm: asked.Tpm = None,
    max_cost: asked.MaxCost = None,
    max_requests: asked.MaxRequests = None,
    patience: asked.Patience = None,
    stop_when_decided: asked.StopWhenDecided = False,
    half_width: asked.HalfWidth = None,
    base_url: asked.BaseUrl = None,
    key_file: asked.KeyFile = None,
    verdict_by: asked.VerdictBy = "structured",
    verdict_pattern: asked.VerdictPattern = None,
    temperature: asked.Temperature = 0.0,
    max_reply_tokens: asked.ReplyTokens = 512,
    form: asked.Form = "openai",
    batch: asked.Batch = False,
    batch_poll: asked.BatchPoll = 60.0,
    timeout: asked.Timeout = 60.0,
    price_in: asked.PriceIn = None,
    price_out: asked.PriceOut = None,
    tie_option: asked.TieOption = False,
    tie_margin: asked.TieMargin = 0.0,
    threshold: asked.Threshold = 0.0,
    position_bias: asked.PositionBias = 0.0,
    noise: asked.Noise = 0.0,
    local_batch: asked.LocalBatch = 16,
    chat_template: asked.ChatTemplate = None,
    dry_run: asked.DryRun = False,
    attack: asked.Attack = False,
    look: asked.Look = False,
    reread: asked.Reread = None,
    format: FileFormat = "",
    column: Columns = None,
    requests: Requests = None,
    policy_a: Annotated[str, typer.Option(help="The policy to judge, where the file of a holds several.")] = "",
    policy_b: Annotated[str, typer.Option(help="The policy to judge, where the file of b holds several.")] = "",
    engine: Engine = "here",
    address: Address = "",
    workers: Workers = 2,
    gpus: Gpus = 0.0,
) -> None:
    """Judge two sets of answers pair by pair, in both orders; or one set, each answer alone."""
    if dry_run + attack + look + (reread is not None) > 1:
        raise UserError("--dry-run, --attack, --look and --reread are different things", "give one of them")
    if stop_when_decided and (dry_run or attack or look or reread is not None):
        raise UserError("--stop-when-decided is for judging", "leave it out")
    if reread is not None:
        _reread(reread, out, prompts, verdict_pattern, given=a is not None or bool(judges or prompt))
        return
    specs = judges or []
    _refuse_pattern(specs, verdict_pattern)
    prompt = prompt or (asked.PAIRS_PROMPT if b is not None else "")
    a = _given(a, specs, prompt)
    one_of("--verdict-by", verdict_by, asked.VERDICTS)
    one_of("--form", form, asked.FORMS)
    if reasoning and verdict_by == "logprobs":
        raise UserError("with --reasoning the first token is not a verdict", "leave out --verdict-by logprobs")
    if votes > 1:
        _refuse_same_votes(specs, votes, temperature)
    if any(spec.startswith(("reward:", "local:")) for spec in specs):
        require_torch()
    from perl_eval.judges.registry import BackendOptions
    from perl_eval.judging.engine.ask import AskOptions
    from perl_eval.judging.options import JudgeOptions, template_of

    reading: Any = {"verdict_by": verdict_by, "form": form}
    told = BackendOptions(
        position_bias=position_bias,
        noise=noise,
        tie_margin=tie_margin,
        threshold=threshold,
        base_url=base_url,
        seed=seed,
        verdict_pattern=verdict_pattern,
        temperature=temperature,
        max_reply_tokens=max_reply_tokens,
        tie_option=tie_option,
        timeout_s=timeout,
        price_in_usd=price_in,
        price_out_usd=price_out,
        key_file=key_file,
        local_batch=local_batch,
        chat_template=chat_template,
        **reading,
    )
    # before weights are loaded
    template_of(b, JudgeOptions(prompt=prompt, prompts=prompts, rubric=rubric, references=references))
    opened = _opened(specs, told, cluster_of(engine, address, workers, gpus), batch=batch)
    if max_cost is not None and any(one.price_usd(1, 1) is None for one in opened):
        raise UserError("--max-cost needs prices", "give --price-in and --price-out")
    asking = AskOptions(
        max_concurrency=max_concurrency,
        votes=votes,
        rpm=rpm,
        tpm=tpm,
        max_requests=max_requests,
        max_cost_usd=max_cost,
        patience_s=patience,
    )
    options = JudgeOptions(
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
        batch=_batches(batch_poll) if batch else None,
    )
    a, b = completions_at(a, b, out, how_read(format, column, requests), (policy_a, policy_b))
    from perl_eval.judging import judge as verb

    folders = _folders(out, specs)
    stopped = 0
    for spec, one, folder in zip(specs, opened, folders, strict=True):
        if dry_run:
            show_forecast(spec, prompt, verb.forecast(a, b, judge=one, options=options, out=folder))
        elif attack or look:
            test = verb.attack if attack else verb.look
            _show_estimates(test(a, b, folder, judge=one, options=options))
        else:
            before = _begun(folder)
            stopped += show_outcomes(verb.run(a, b, folder, judge=one, options=options))
            if before and before == _begun(folder):
                say(
                    f"{folder} was finished before, and nothing was asked now; to judge anew, give another --out",
                    err=True,
                )
    _end(stopped, folders, out, alone=dry_run or attack or look)


def _end(stopped: int, folders: Sequence[Path], out: Path, *, alone: bool) -> None:
    """Say by the exit code that a run stopped before its end; else let several judges decide together."""
    if stopped:
        raise typer.Exit(UNFINISHED)
    if len(folders) > 1 and not alone:
        jury(list(folders), out / "jury")


def _batches(batch_poll: float) -> BatchOptions:
    """Return how the Batch API is used."""
    from perl_eval.judging.engine.batch_api import BatchOptions

    return BatchOptions(batch_poll_s=batch_poll, say=lambda line: say(line, err=True))


def _given(a: Path | None, specs: Sequence[str], prompt: str) -> Path:
    """Return the completions of a, if all that a judge needs is given."""
    if a is None:
        raise UserError("no completions are given", "give the output folder of `sample`")
    if not specs or not prompt:
        fix = "see --help for what there is"
        if specs:
            fix = "give a second file of answers, or --prompt with a question about one answer, such as harmful"
        raise UserError(f"--{'prompt' if specs else 'judge'} is missing", fix)
    return a


def _opened(specs: Sequence[str], told: Any, cluster: Any, *, batch: bool) -> list[Any]:
    """Open the judges, here or on a cluster's workers."""
    if cluster is None:
        from perl_eval.judges.registry import open_judge

        return [open_judge(spec, told) for spec in specs]
    from perl_eval.cluster.ray_workers import RayJudge

    if batch:
        raise UserError("--batch sends everything at once", "leave out --engine")
    return [RayJudge(spec, told, cluster) for spec in specs]


def _refuse_same_votes(specs: Sequence[str], votes: int, temperature: float) -> None:
    """Refuse several votes of judges that draw nothing."""
    from perl_eval.judges.registry import is_chat

    still = [spec for spec in specs if not is_chat(spec) or temperature == 0]
    if still:
        raise UserError(
            f"{still[0]} says the same {votes} times", "give --votes with chat judges and --temperature above 0"
        )


def _refuse_pattern(specs: Sequence[str], pattern: str | None) -> None:
    """Refuse an expression that reads nothing, or that is none."""
    if pattern is None:
        return
    from perl_eval.judges.parsing.patterns import checked
    from perl_eval.judges.registry import is_chat

    checked(pattern)
    for spec in specs:
        if not is_chat(spec):
            raise UserError(f"--verdict-pattern reads text, and {spec} answers in none", "leave it out")


def _folders(out: Path, specs: Sequence[str]) -> list[Path]:
    """Return each judge's own folder: the output folder, or numbered ones in it."""
    if len(specs) == 1:
        return [out]
    plain = ["".join(char if char.isalnum() else "-" for char in spec)[-40:].strip("-") for spec in specs]
    return [out / f"{place}-{name}" for place, name in enumerate(plain, 1)]


def _reread(run: Path, out: Path, prompts: Path | None, pattern: str | None, *, given: bool) -> None:
    from perl_eval.judges.backends.offline import reopen
    from perl_eval.judging import judge as verb

    if given:
        raise UserError("--reread takes completions, judge and prompt from the run", "leave them out")
    show_outcomes(verb.reread(run, out, judge=_read_by(pattern, reopen(finished(run))), prompts=prompts))


def _read_by(pattern: str | None, judge: Judge) -> Judge:
    """Return a judge whose text is read by an expression, if one is given."""
    from perl_eval.judges.readers import PatternReader, TextReader

    if pattern is not None:
        if not isinstance(judge.reader, TextReader | PatternReader):
            raise UserError(f"--verdict-pattern reads text, and {judge.model} answered in none", "leave it out")
        judge.reader = PatternReader(pattern)
    return judge


def _begun(folder: Path) -> str:
    """Return when the run of a folder began, as its card says; empty if there is none that ended."""
    from perl_eval.storage import run_folder

    card = run_folder.read_card(folder) if folder.is_dir() else None
    return "" if card is None else card.started
