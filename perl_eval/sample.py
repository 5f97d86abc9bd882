"""Prompt rows to Completion records: what a model answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from perl_eval import rows, runs
from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone, base_of, has_base, has_head, is_adapter, open_backbone
from perl_eval.models.encode import encode_prompt, pad
from perl_eval.models.generate import Rollout, Sampling, generate, item_seed
from perl_eval.models.limits import at_least_one, not_negative, prompt_room, valid_seed
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.placement import Placement
from perl_eval.progress import track
from perl_eval.records import Completion, digest
from perl_eval.rows import Row

__all__ = ["SampleOptions", "run"]

_ADAPTER = "policy"


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """``name`` is what the policy is called in comparisons; ``draws`` completions a prompt, ``limit`` prompts (0: all).

    Prompts that are the same dialogue are answered once.
    """

    name: str = ""
    split: str = "test"
    draws: int = 1
    limit: int = 0
    temperature: float = 1.0
    max_new_tokens: int = 64
    max_tokens: int = 512
    batch: int = 64
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        at_least_one(self, "draws", "max_new_tokens", "max_tokens", "batch")
        not_negative(self, "limit", "temperature")
        prompt_room(self.max_tokens, self.max_new_tokens)


def run(model: Path, data: Path, out: Path, *, options: SampleOptions | None = None, seed: int = 0) -> Path:
    """Sample completions for the prompts of a split.

    Args:
        model: A model folder, or the output of ``train policy``.
        data: A folder of rows with prompts.
        out: The run folder; gets ``completions.parquet``.
        options: See `SampleOptions`.
        seed: Run seed; each draw's own seed is a hash of it, the item's id and the draw number.

    Raises:
        UserError: No such model, data or split.
        DataError: A changed input.
    """
    options = options or SampleOptions()
    inputs = {"model": Path(model), "data": Path(data)}
    with runs.start(out, verb="sample", arguments=asdict(options), seed=valid_seed(seed), inputs=inputs) as going:
        if going.done:
            return going.folder
        distinct = {row.prompt: row for row in reversed(rows.read(data, options.split))}
        found = sorted(distinct.values(), key=lambda row: row.id)
        if options.limit:
            found = sorted(found, key=lambda row: digest("limit", row.id))[: options.limit]
        backbone = open_backbone(model, options.placement)
        if has_head(model):
            raise UserError(f"{model} is a reward model, which answers nothing", "give a `train policy` folder")
        adapter = _ADAPTER if is_adapter(model) else None
        if adapter:
            backbone.attach_saved(adapter, Path(model))
        prior = _prior(backbone, Path(model), options)
        work = [(row, draw) for row in found for draw in range(options.draws)]
        name = options.name or Path(model).name
        roles = ((backbone, adapter), (prior, None))
        going.write(_completions(roles, work, options, name=name, seed=seed), Completion)
        going.notes |= {"prompts": len(found), "completions": len(work), "policy": name}
    return going.folder


def _prior(backbone: Backbone, model: Path, options: SampleOptions) -> Backbone:
    """Return the model that KL is measured from: the backbone itself, or what a fully tuned policy was trained from."""
    if is_adapter(model) or not has_base(model):
        return backbone
    return open_backbone(Path(base_of(model)["path"]), options.placement)


def _completions(
    roles: tuple[tuple[Backbone, str | None], tuple[Backbone, None]],
    work: Sequence[tuple[Row, int]],
    options: SampleOptions,
    *,
    name: str,
    seed: int,
) -> list[Completion]:
    (backbone, adapter), (anchor, _) = roles
    sampling = Sampling(options.temperature, options.max_new_tokens)
    room = prompt_room(options.max_tokens, options.max_new_tokens)
    encoded = [encode_prompt(backbone.tokenizer, row.prompt, max_tokens=room) for row, _ in work]
    order = sorted(range(len(work)), key=lambda index: len(encoded[index]))
    chunks = [order[start : start + options.batch] for start in range(0, len(order), options.batch)]
    result: list[Completion | None] = [None] * len(work)
    for chunk in track(chunks, f"sample {name}"):
        seeds = [item_seed(seed, work[index][0].id, work[index][1]) for index in chunk]
        with backbone.adapter(adapter):
            rollouts = generate(backbone, [encoded[index] for index in chunk], seeds, sampling)
            own = _log_probs(backbone, rollouts, options.temperature)
        prior = own
        if adapter or anchor is not backbone:
            with anchor.adapter(None):
                prior = _log_probs(anchor, rollouts, options.temperature)
        for place, index in enumerate(chunk):
            row, draw = work[index]
            rollout = rollouts[place]
            result[index] = Completion(
                id=digest("completion", row.id, name, str(draw)),
                item=row.id,
                group=row.group,
                dataset=row.dataset,
                policy=name,
                prompt=row.prompt,
                text=rollout.text,
                finish="stop" if rollout.finished else "length",
                draw=draw,
                token_ids=rollout.ids,
                logprob=own[place],
                prior_logprob=prior[place],
            )
    return [completion for completion in result if completion is not None]


@torch.no_grad()
def _log_probs(backbone: Backbone, rollouts: Sequence[Rollout], temperature: float) -> list[float | None]:
    """Return the log-probability of each rollout with whatever adapter is on, in nats, temperature included.

    At temperature 0 nothing is drawn, so there is no probability to speak of: None.
    """
    if temperature == 0:
        return [None] * len(rollouts)
    batch = pad([rollout.encoded for rollout in rollouts], pad_id=backbone.pad_id)
    summed = token_log_probs(backbone, backbone.hidden(batch), batch, temperature).sum(1)
    return [float(value) for value in summed]
