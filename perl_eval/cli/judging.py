"""The verb judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.options import Out, Seed, require_torch
from perl_eval.cli.shown import done


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
    if door.startswith("reward:"):
        require_torch()
    from perl_eval import judge as verb
    from perl_eval.judges.doors import DoorOptions, open_judge

    options = DoorOptions(position_bias, noise, tie_margin, threshold, base_url, seed)
    asked = verb.JudgeOptions(prompt=prompt, prompts=prompts, seed=seed, limit=limit)
    done(verb.run(a, b, out, judge=open_judge(door, options), options=asked))
