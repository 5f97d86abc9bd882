"""The local backend: a causal language model in this process; the options' probabilities are read, no text is made.

The prompt is the one of System One (``transformers.decision``), so ``transformers serve`` gives the same probabilities
for the same model. What both orders of a pair share is computed once, and several pairs go through the model together.
A vision-language model sees the pictures; its questions go through it one by one, after the beginning that they share.

Importing this module loads torch and transformers.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.decision import DecisionConfig, label_token_ids
from transformers.decision.modeling_utils import process_scores

from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.backend_options import BackendOptions
from perl_eval.judges.backends.choices import options_of, system_one
from perl_eval.judges.protocol import Judge
from perl_eval.judges.readers import ProbabilityReader
from perl_eval.models.families import cache_argument
from perl_eval.records import Question

__all__ = ["LocalJudge", "open_local", "opened"]


class LocalJudge(Judge):
    """A model and its tokenizer as judge.

    Args:
        model: A causal language model, on its device.
        tokenizer: Its tokenizer, or the processor of a vision-language model; ``A``, ``B``, ``Yes`` and ``No`` must be
            single tokens, ``C`` too for a tie, and a letter for each number of a scale.
        name: What the model is called; answers are kept under it, so it must change when the weights do.
        tie: Offer a tie as an option of a pair.
        tie_margin: Without that option: a pair is a tie if the two probabilities differ by no more.
        group: Questions that go through the model together.
    """

    backend = "local"

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str, tie: bool = False, tie_margin: float = 0.0, group: int = 16
    ) -> None:
        self.model = name
        self.group = group
        self.parameters: Mapping[str, object] = {"tie": tie, "tie_margin": tie_margin}
        self._lm, self._processor = model.eval(), tokenizer
        self._cache_name = cache_argument(model)
        self._tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self._sees_pictures = getattr(tokenizer, "image_processor", None) is not None
        self._tie = tie
        self.reader = ProbabilityReader(tie_margin)
        self._config = DecisionConfig()

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Read the probabilities of all options of all questions."""
        begun_s = time.perf_counter()
        prompts = [self._prompt(question) for question in questions]
        score = self._seen if self._sees_pictures else self._scores
        scores = score(prompts, [question.id for question in questions])
        latency_s = (time.perf_counter() - begun_s) / len(questions)
        return [
            Reply(
                text=json.dumps(self._answer(question, row), sort_keys=True),
                model=self.model,
                tokens_in=prompt.ids.shape[0],
                latency_s=latency_s,
            )
            for question, prompt, row in zip(questions, prompts, scores, strict=True)
        ]

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        """Return 0: the machine is the user's."""
        return 0.0

    def _prompt(self, question: Question) -> _Prompt:
        body = system_one([question], tie=self._tie)
        try:
            ((inputs, typed),) = self._config.prepare_inputs(body, self._processor)
            labels = label_token_ids(self._tokenizer, tuple(typed[0].labels))
        except ValueError as error:
            raise UserError(f"{self.model} cannot judge: {error}", "choose another model or prompt") from None
        pixels = {name: value for name, value in inputs.items() if name not in ("input_ids", "marks")}
        return _Prompt(inputs["input_ids"][0], inputs["marks"], typed, labels, pixels)

    def _answer(self, question: Question, scores: torch.Tensor) -> dict[str, float]:
        chances = [float(chance) for chance in scores.double().softmax(-1)]
        return dict(zip(options_of(question, tie=self._tie), chances, strict=True))

    @torch.no_grad()
    def _seen(self, prompts: Sequence[_Prompt], units: Sequence[str]) -> list[torch.Tensor]:
        """Return the option scores of prompts with pictures, each of shape (options,), a unit's beginning read once."""
        owners, shared = _shared_beginnings([prompt.ids for prompt in prompts], units)
        found: list[torch.Tensor] = []
        begun, at = None, -1
        for prompt, owner in zip(prompts, owners, strict=True):
            length = self._all_pictures(prompt, shared[owner])
            if owner != at:
                begun, at = self._look(prompt, slice(0, length), None)[1] if length else None, owner
            logits, _ = self._look(prompt, slice(length, None), copy.deepcopy(begun))
            found.append(self._processed(prompt, logits))
        return found

    def _all_pictures(self, prompt: _Prompt, length: int) -> int:
        """Return how much of a prompt can be read ahead: a beginning with all its pictures, or nothing."""
        config = self._lm.config
        mark = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
        return 0 if mark is None or bool((prompt.ids[length:] == mark).any()) else length

    def _look(self, prompt: _Prompt, part: slice, begun: Any) -> tuple[torch.Tensor, Any]:
        """Read a part of a prompt, after what was read of it before.

        Returns:
            The logits where the answer stands, or at the part's end if it comes later, shape (vocabulary,); and what
            to go on from.
        """
        device, whole = self._lm.device, prompt.ids.shape[0]
        ids = prompt.ids[None, part]
        last = min(int(prompt.marks[-1]) - 1 - (part.start or 0), ids.shape[1] - 1)
        given = {}
        for name, value in prompt.pixels.items():
            if value.shape == (1, whole):  # one entry a token
                given[name] = value[..., part].to(device)
            elif begun is None:
                given[name] = value.to(device)
        seen = self._lm(
            input_ids=ids.to(device),
            attention_mask=torch.ones(1, part.stop or whole, dtype=torch.long, device=device),
            use_cache=True,
            logits_to_keep=torch.tensor([last], device=device),
            **{self._cache_name: begun},
            **given,
        )
        return seen.logits[0, 0].cpu(), seen[self._cache_name]

    def _processed(self, prompt: _Prompt, logits: torch.Tensor) -> torch.Tensor:
        """Return the option scores from the logits of shape (vocabulary,) where the answer stands."""
        given = (self._config, prompt.ids[None], prompt.marks, prompt.typed, [logits[prompt.labels]])
        score: torch.Tensor = process_scores(*given)[0]
        return score

    @torch.no_grad()
    def _scores(self, prompts: Sequence[_Prompt], units: Sequence[str]) -> list[torch.Tensor]:
        """Return the option scores of every prompt, each of shape (options,)."""
        owners, shared = _shared_beginnings([prompt.ids for prompt in prompts], units)
        device = self._lm.device
        heads, head_mask = _padded([prompts[owners.index(at)].ids[:n] for at, n in enumerate(shared)], left=True)
        begun = self._lm(
            input_ids=heads.to(device),
            attention_mask=head_mask.to(device),
            position_ids=(head_mask.cumsum(-1) - 1).clamp(min=0).to(device),
            use_cache=True,
            logits_to_keep=1,
        )
        rows = torch.tensor(owners)
        cache = begun[self._cache_name]
        cache.batch_select_indices(rows.to(device))
        tails, tail_mask = _padded(
            [prompt.ids[shared[owner] :] for prompt, owner in zip(prompts, owners, strict=True)], left=False
        )
        lengths = torch.tensor([shared[owner] for owner in owners])
        ends = torch.tensor([int(prompt.marks[-1]) - 1 for prompt in prompts]) - lengths
        kept, places = torch.unique(ends, return_inverse=True)
        logits = self._lm(
            input_ids=tails.to(device),
            attention_mask=torch.cat([head_mask[rows], tail_mask], dim=-1).to(device),
            position_ids=(lengths[:, None] + torch.arange(tails.shape[1])[None]).to(device),
            use_cache=True,
            logits_to_keep=kept.to(device),
            **{self._cache_name: cache},
        ).logits.cpu()
        return [self._processed(prompt, logits[row, places[row]]) for row, prompt in enumerate(prompts)]


class _Prompt:
    """One tokenized question: ids of shape (tokens,), the place of the answer, tokens of the options, pixels."""

    def __init__(
        self,
        ids: torch.Tensor,
        marks: torch.Tensor,
        typed: Sequence[Any],
        labels: Sequence[int],
        pixels: Mapping[str, torch.Tensor],
    ) -> None:
        self.ids, self.marks, self.typed, self.labels, self.pixels = ids, marks, typed, list(labels), pixels


def _shared_beginnings(rows: Sequence[torch.Tensor], units: Sequence[str]) -> tuple[list[int], list[int]]:
    """Find how far the neighbours of one unit begin alike.

    Returns:
        The number of the beginning that each row has, and the length of each beginning. A beginning is shorter than all
        its rows: each keeps a token of its own.
    """
    owners: list[int] = []
    lengths: list[int] = []
    for place, (row, unit) in enumerate(zip(rows, units, strict=True)):
        if place and unit == units[place - 1]:
            before = rows[place - 1]
            most = min(len(row) - 1, lengths[-1])
            lengths[-1] = int((row[:most] == before[:most]).long().cumprod(0).sum())
        else:
            lengths.append(len(row) - 1)
        owners.append(len(lengths) - 1)
    return owners, lengths


def _padded(rows: Sequence[torch.Tensor], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of ids as one tensor, and the mask that is 1 where an id is live; both of shape (rows, longest)."""
    width = max(len(row) for row in rows)
    ids, live = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for at, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        ids[at, where], live[at, where] = row, 1
    return ids, live


def open_local(
    path: Path, *, tie: bool = False, tie_margin: float = 0.0, group: int = 16, chat_template: Path | None = None
) -> LocalJudge:
    """Open a language model and its tokenizer, or a vision-language model and its processor.

    It computes on the GPU if there is one.

    Args:
        path: A folder, a GGUF file, or a model of the hub, see `perl_eval.models.model_source`.
        tie: See `LocalJudge`.
        tie_margin: See `LocalJudge`.
        group: See `LocalJudge`.
        chat_template: File with a chat template in place of the tokenizer's own.

    Raises:
        UserError: There is no such model, no model in it, or no chat template.
    """
    from perl_eval.models.device import Placement
    from perl_eval.models.model_source import located
    from perl_eval.models.pretrained import is_gguf, open_pretrained
    from perl_eval.models.tokenize import NO_TEMPLATE
    from perl_eval.storage import hub_snapshot, run_folder

    path = located(path)
    if not path.is_dir() and not is_gguf(path):
        raise UserError(f"no such folder: {path}", "give a model: a folder, ORG/NAME of the hub, or a GGUF file")
    model, reader = open_pretrained(path, chat_template=chat_template)
    if getattr(reader, "chat_template", None) is None:
        raise UserError(f"the tokenizer of {path} has no chat template", NO_TEMPLATE)
    name = f"{hub_snapshot.label(path)}@{run_folder.fingerprint(path)[:12]}"
    judge = LocalJudge(model.to(Placement().resolve()), reader, name=name, tie=tie, tie_margin=tie_margin, group=group)
    if chat_template is not None:
        judge.parameters = {**judge.parameters, "chat_template": run_folder.fingerprint(chat_template)}
    return judge


def opened(name: str, options: BackendOptions) -> LocalJudge:
    """Open the judge ``local:MODEL``."""
    return open_local(
        Path(name),
        tie=options.tie_option,
        tie_margin=options.tie_margin,
        group=options.local_batch,
        chat_template=options.chat_template,
    )
