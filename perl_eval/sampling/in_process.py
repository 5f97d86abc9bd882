"""Prompt rows to Completion records: what a model answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from perl_eval.checks import at_least_one, not_negative, valid_seed
from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.checkpoint_folder import base_of, has_base, has_head, is_adapter
from perl_eval.models.device import Placement
from perl_eval.models.generate import Rollout, Sampling, generate, item_seed
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.model_source import located
from perl_eval.models.prompt_room import prompt_room
from perl_eval.models.tokenize import encode_prompt, pad
from perl_eval.records import Completion, digest
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage import hub_snapshot, images, run_folder
from perl_eval.storage.executor import Executor, here
from perl_eval.storage.progress import track

__all__ = ["SampleOptions", "run"]

_ADAPTER = "policy"
Draw = tuple[Row, int]
"""A prompt, and which of its completions."""


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """``name`` is what the policy is called in comparisons; ``draws`` completions a prompt, ``limit`` prompts (0: all).

    ``chat_template`` is a file with the template that dialogues are written with, in place of the tokenizer's own.
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
    chat_template: Path | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "draws", "max_new_tokens", "max_tokens", "batch")
        not_negative(self, "limit", "temperature")
        prompt_room(self.max_tokens, self.max_new_tokens)


def run(
    model: Path,
    data: Path,
    out: Path,
    *,
    options: SampleOptions | None = None,
    seed: int = 0,
    spread: Executor = here,
) -> Path:
    """Sample completions for the prompts of a split.

    Args:
        model: A model folder, the output of ``train policy``, a GGUF file, or ``ORG/NAME[@REVISION]`` of the hub.
        data: A folder of rows with prompts.
        out: The run folder; gets ``completions.parquet``, and the prompts' pictures if there are any.
        options: See `SampleOptions`.
        seed: Run seed; each draw's own seed is a hash of it, the item's id and the draw number.
        spread: Where the batches are done; the completions are the same wherever.

    Raises:
        UserError: No such model, data or split.
        DataError: A changed input.
    """
    options = options or SampleOptions()
    model, arguments = located(model), asdict(options)
    inputs = {"model": model, "data": Path(data)}
    if options.chat_template is None:  # as on the cards of before
        del arguments["chat_template"]
    else:
        inputs["chat_template"] = options.chat_template
    with run_folder.start(out, verb="sample", arguments=arguments, seed=valid_seed(seed), inputs=inputs) as going:
        if going.done:
            return going.folder
        merged: Counter[str] = Counter()
        found = rows.asked(data, options.split, limit=options.limit, counts=merged)
        work = [(row, draw) for row in found for draw in range(options.draws)]
        # a model of the hub goes to workers by its name: theirs may be another machine's cache
        sent = Path(hub_snapshot.name_of(model) or model)
        answering = _Answering(sent, options, options.name or hub_snapshot.label(model), seed)
        answers = _completions(answering, work, spread)
        kept = {row.id: tuple(images.keep(going.folder, one.read()) for one in row.images) for row in found}
        going.write((replace(answer, images=kept[answer.item]) for answer in answers), Completion)
        going.notes |= {**merged, "prompts": len(found), "completions": len(work), "policy": answering.name}
    return going.folder


def _completions(answering: _Answering, work: Sequence[Draw], spread: Executor) -> list[Completion]:
    """Answer all work, prompts of about one length together."""
    lengths = [sum(len(turn.content) for turn in row.prompt) for row, _ in work]
    order = sorted(range(len(work)), key=lambda index: lengths[index])
    size = answering.options.batch
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    done = spread(answering, [[work[index] for index in chunk] for chunk in chunks])
    result: dict[int, Completion] = {}
    for chunk, answers in zip(chunks, track(done, f"sample {answering.name}", total=len(chunks)), strict=True):
        result.update(zip(chunk, answers, strict=True))
    return [result[index] for index in range(len(work))]


@dataclass(frozen=True, slots=True)
class _Answering:
    """What answers batches of prompts, once a worker has opened it."""

    model: Path
    options: SampleOptions
    name: str
    seed: int

    def __call__(self) -> Callable[[Sequence[Draw]], list[Completion]]:
        """Load the model, and return what answers a batch."""
        model = located(self.model)
        backbone = open_backbone(model, self.options.placement, chat_template=self.options.chat_template)
        if has_head(model):
            raise UserError(f"{self.model} is a reward model, which gives no answers", "give a `train policy` folder")
        adapter = _ADAPTER if is_adapter(model) else None
        if adapter:
            backbone.attach_saved(adapter, model)
        prior = _prior(backbone, model, self.options)
        return lambda batch: self._answer(batch, backbone, adapter, prior)

    def _answer(
        self, batch: Sequence[Draw], backbone: Backbone, adapter: str | None, anchor: Backbone
    ) -> list[Completion]:
        options = self.options
        room = prompt_room(options.max_tokens, options.max_new_tokens)
        shown = [row.images for row, _ in batch]
        encoded = [
            encode_prompt(backbone.processor, row.prompt, max_tokens=room, pictures=row.images) for row, _ in batch
        ]
        sampling = Sampling(options.temperature, options.max_new_tokens)
        seeds = [item_seed(self.seed, row.id, draw) for row, draw in batch]
        with backbone.adapter(adapter):
            rollouts = generate(backbone, encoded, seeds, sampling, pictures=shown)
            own = _log_probs(backbone, rollouts, options.temperature)
        prior = own
        if adapter or anchor is not backbone:
            with anchor.adapter(None):
                prior = _log_probs(anchor, rollouts, options.temperature)
        return [
            Completion(
                id=digest("completion", row.id, self.name, str(draw)),
                item=row.id,
                group=row.group,
                dataset=row.dataset,
                policy=self.name,
                prompt=row.prompt,
                text=rollouts[place].text,
                finish="stop" if rollouts[place].finished else "length",
                draw=draw,
                token_ids=rollouts[place].ids,
                logprob=own[place],
                prior_logprob=prior[place],
            )
            for place, (row, draw) in enumerate(batch)
        ]


def _prior(backbone: Backbone, model: Path, options: SampleOptions) -> Backbone:
    """Return the model that KL is measured from: the backbone itself, or what a fully tuned policy was trained from."""
    if is_adapter(model) or not has_base(model):
        return backbone
    return open_backbone(base_of(model).path, options.placement)


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
