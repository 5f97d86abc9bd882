"""Supervised fine-tuning: Demonstration rows to a model that imitates the assistant's turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from perl_eval import rows, runs
from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone, is_adapter, open_backbone
from perl_eval.models.encode import Encoded, batch_of_step, encode_dialogue, pad
from perl_eval.models.limits import at_least_one, positive
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.scratch import make_model, make_tokenizer, size_of
from perl_eval.records import Measurement
from perl_eval.rows import Row
from perl_eval.train.loop import LoopOptions, optimise
from perl_eval.train.objectives import language_modelling_loss

__all__ = ["SftOptions", "run"]

_SCRATCH = "scratch:"


@dataclass(frozen=True, slots=True)
class SftOptions:
    """``model`` is a folder, or ``scratch:tiny|small|medium`` for one made from nothing; ``epochs`` over the rows."""

    model: str = "scratch:tiny"
    epochs: float = 3.0
    batch: int = 64
    learning_rate: float = 2e-3
    max_tokens: int = 512
    evaluations: int = 4

    def __post_init__(self) -> None:
        at_least_one(self, "batch", "max_tokens", "evaluations")
        positive(self, "epochs", "learning_rate")

    @property
    def start(self) -> Path | None:
        """The folder of the model to start from, or None if one is made from nothing."""
        return None if self.model.startswith(_SCRATCH) else Path(self.model)


def _texts(found: Sequence[Row]) -> list[str]:
    return [turn.content for row in found for turn in (*row.prompt, *(row.completion or ()))]


def _model(options: SftOptions, found: Sequence[Row], seed: int) -> tuple[Any, Any]:
    """Return model and tokenizer."""
    if options.start is None:
        size = size_of(options.model.removeprefix(_SCRATCH))
        tokenizer = make_tokenizer(_texts(found), size.vocabulary)
        return make_model(size, tokenizer, seed=seed), tokenizer
    if is_adapter(options.start):
        raise UserError(f"{options.start} is an adapter, which has no weights of its own", "give a whole model")
    backbone = open_backbone(options.start)
    return backbone.causal, backbone.tokenizer


def _encode(tokenizer: Any, found: Sequence[Row], options: SftOptions) -> list[Encoded]:
    encoded = [
        encode_dialogue(tokenizer, row.prompt, row.completion or (), max_tokens=options.max_tokens) for row in found
    ]
    kept = [row for row in encoded if any(row.trained[1:])]
    if not kept:
        raise UserError("no row has an assistant turn within the token limit", "raise max_tokens")
    return kept


def run(data: Path, out: Path, *, options: SftOptions, seed: int = 0) -> Path:
    """Train on the demonstrations' ``train`` split, completion tokens only; keep the best on ``validation``.

    Args:
        data: A folder of Demonstration rows, as ``build`` writes it.
        out: The run folder; it becomes a model folder that plain transformers loads.
        options: Model, epochs, batch and rates.
        seed: Seeds weights and order.

    Returns:
        The run folder: config, safetensors weights, tokenizer, ``curve.parquet`` and the run card.

    Raises:
        UserError: No such data or model, or a model that is an adapter.
        DataError: A broken row or a changed input.
    """
    inputs = {"data": Path(data)} | ({"model": options.start} if options.start else {})
    with runs.start(out, verb="train sft", arguments=asdict(options), seed=seed, inputs=inputs) as going:
        if going.done:
            return going.folder
        found = rows.read(data, "train", need=("completion",))
        model, tokenizer = _model(options, found, seed)
        encoded = _encode(tokenizer, found, options)
        held_out = []
        if "validation" in rows.splits(data):
            held_out = _encode(tokenizer, rows.read(data, "validation", need=("completion",)), options)
        backbone = Backbone(model, tokenizer, going.folder)
        curve = _fit(backbone, encoded, held_out, options, going, seed)
        model.save_pretrained(going.folder, safe_serialization=True)
        tokenizer.save_pretrained(going.folder)
        going.write(curve, Measurement)
    return going.folder


def _fit(
    backbone: Backbone,
    encoded: Sequence[Encoded],
    held_out: Sequence[Encoded],
    options: SftOptions,
    going: runs.Run,
    seed: int,
) -> list[Measurement]:
    backbone.causal.requires_grad_(True)
    parameters = dict(backbone.causal.named_parameters())
    lengths = [len(row.ids) for row in encoded]
    steps = max(1, round(options.epochs * len(encoded) / options.batch))

    def loss_of(batch_rows: Sequence[Encoded]) -> tuple[torch.Tensor, int]:
        batch = pad(batch_rows, pad_id=backbone.pad_id)
        log_probs = token_log_probs(backbone, backbone.hidden(batch), batch, 1.0)
        live = batch.trained.clone()
        live[:, 0] = False
        return language_modelling_loss(log_probs, live.to(log_probs.device)), int(live.sum())

    def learn(step: int) -> dict[str, float]:
        loss, _ = loss_of([encoded[row] for row in batch_of_step(lengths, step, size=options.batch, seed=seed)])
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach())}

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        total, tokens = 0.0, 0
        for start in range(0, len(held_out), options.batch):
            loss, count = loss_of(held_out[start : start + options.batch])
            total, tokens = total + float(loss) * count, tokens + count
        return {"validation loss": total / tokens}

    loop = LoopOptions(
        steps=steps,
        learning_rate=options.learning_rate,
        warmup=min(50, steps // 10 + 1),
        weight_decay=0.01,
        evaluate_every=max(1, steps // options.evaluations) if held_out else 0,
    )
    fit = optimise(
        parameters, learn, loop, folder=going.folder, description="train sft", evaluate=evaluate if held_out else None
    )
    going.notes |= {
        "parameters": sum(parameter.numel() for parameter in parameters.values()),
        "rows": len(encoded),
        "tokens": sum(lengths),
        "steps": steps,
        "best step": fit.best_step,
        "seconds a step": fit.seconds / steps,
    }
    return fit.curve
