"""The verb sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import (
    Address,
    Data,
    Engine,
    Gpus,
    MaxTokens,
    NewTokens,
    Out,
    Seed,
    Workers,
    require_torch,
    spread_of,
)
from perl_eval.cli.training_options import (
    Device,
    Dtype,
    resources_of,
)
from perl_eval.errors import UserError

__all__ = ["sample"]


def sample(
    model: Annotated[str, typer.Option(help="Model folder, or output of `train policy`; with --server a name there.")],
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
    device: Device = "auto",
    dtype: Dtype = "fp32",
    server: Annotated[str, typer.Option(help="Address up to and with /v1 of a server that has the model.")] = "",
    max_concurrency: Annotated[int, typer.Option(help="Requests to the server on their way, at most.")] = 128,
    key_file: Annotated[Path | None, typer.Option(help="File with the server's key; else OPENAI_API_KEY.")] = None,
    engine: Engine = "here",
    address: Address = "",
    workers: Workers = 2,
    gpus: Gpus = 0.0,
    seed: Seed = 0,
) -> None:
    """Prompts to completions, by a model here or behind a server (vLLM, or any that speaks OpenAI's chat form)."""
    spread = spread_of(engine, address, workers, gpus)
    if server:
        from perl_eval.sampling import server as behind

        if engine != "here":
            raise UserError("a server has workers of its own", "leave out --engine")

        wanted = behind.ServerOptions(
            name, split, draws, limit, temperature, max_new_tokens, max_concurrency, key_file=key_file
        )
        _done(behind.run(server, model, data, out, options=wanted, seed=seed))
        return
    require_torch()
    from perl_eval.sampling import in_process as verb

    placement = resources_of(device, dtype, False, 0, "").placement
    options = verb.SampleOptions(name, split, draws, limit, temperature, max_new_tokens, max_tokens, batch, placement)
    _done(verb.run(Path(model), data, out, options=options, seed=seed, spread=spread))


def _done(folder: Path) -> None:
    """Say how many rows were answered together with others, and where the answers are."""
    from perl_eval.sources.rows import EQUAL_PROMPTS
    from perl_eval.storage import run_folder

    card = run_folder.read_card(folder)
    if card is not None and card.notes.get(EQUAL_PROMPTS):
        typer.echo(f"{card.notes[EQUAL_PROMPTS]:,} {EQUAL_PROMPTS}: each prompt is answered once", err=True)
    done(folder)
