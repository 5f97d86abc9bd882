"""The verb sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perl_eval.cli.console import done, show_noted
from perl_eval.cli.shared_options import (
    Address,
    ChatTemplate,
    Data,
    Engine,
    Gpus,
    MaxTokens,
    NewTokens,
    Out,
    RowColumns,
    Seed,
    Workers,
    require_torch,
    rows_given,
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
    model: Annotated[
        str,
        typer.Option(
            help="Folder, ORG/NAME[@REVISION] of the hub, or .gguf file; with --server the model's name there."
        ),
    ],
    data: Data,
    out: Out,
    name: Annotated[str, typer.Option(help="Name of the policy; default: the folder's name.")] = "",
    split: str = "test",
    draws: Annotated[int, typer.Option(help="Completions for each prompt.")] = 1,
    limit: Annotated[int, typer.Option(help="Prompts, at most; 0 for all.")] = 0,
    temperature: float = 1.0,
    max_tokens: MaxTokens = 512,
    max_new_tokens: NewTokens = 64,
    batch: int = 64,
    chat_template: ChatTemplate = None,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    server: Annotated[
        str,
        typer.Option(
            help="Address, including /v1, of a server that has the model, or a provider's name, such as groq."
        ),
    ] = "",
    max_concurrency: Annotated[int, typer.Option(help="Requests to the server at the same time, at most.")] = 128,
    key_file: Annotated[
        Path | None, typer.Option(help="File with the API key; default: OPENAI_API_KEY, or the provider's variable.")
    ] = None,
    patience: Annotated[
        float | None, typer.Option(help="Seconds to wait for a server that does not answer; default 600.")
    ] = None,
    engine: Engine = "here",
    address: Address = "",
    workers: Workers = 2,
    gpus: Gpus = 0.0,
    column: RowColumns = None,
    seed: Seed = 0,
) -> None:
    """Sample answers to prompts, by a model here or behind a server (vLLM, or any OpenAI-compatible one)."""
    spread = spread_of(engine, address, workers, gpus)
    if server:
        from perl_eval.sampling import server as behind

        if engine != "here":
            raise UserError("a server has workers of its own", "leave out --engine")
        if chat_template is not None:
            raise UserError("a server writes dialogues with its own template", "leave out --chat-template")

        wanted = behind.ServerOptions(
            name,
            split,
            draws,
            limit,
            temperature,
            max_new_tokens,
            max_concurrency,
            key_file=key_file,
            patience_s=patience,
        )
        data = rows_given(data, out, column, whole=split)
        _done(behind.run(server, model, data, out, options=wanted, seed=seed))
        return
    require_torch()
    from perl_eval.sampling import in_process as verb

    placement = resources_of(device, dtype, False, 0, "").placement
    options = verb.SampleOptions(
        name, split, draws, limit, temperature, max_new_tokens, max_tokens, batch, placement, chat_template
    )
    data = rows_given(data, out, column, whole=split)
    _done(verb.run(Path(model), data, out, options=options, seed=seed, spread=spread))


def _done(folder: Path) -> None:
    """Say how many rows were answered together, what the server did otherwise, and where the answers are."""
    from perl_eval.sources.rows import EQUAL_PROMPTS
    from perl_eval.storage import run_folder

    card = run_folder.read_card(folder)
    if card is not None and card.notes.get(EQUAL_PROMPTS):
        typer.echo(f"{card.notes[EQUAL_PROMPTS]:,} {EQUAL_PROMPTS}: each prompt is answered once", err=True)
    if card is not None:
        show_noted(card.notes.get("noted", {}))
    done(folder)
