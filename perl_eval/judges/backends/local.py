"""The local backend: a causal language model in this process; the options' probabilities are read, no text is made.

The prompt is the one of System One (``transformers.decision``), so ``transformers serve`` gives the same probabilities
for the same model. Prompts go through the model one by one, see `perl_eval.judges.backends.prompt_reading`: what is
said of a pair depends on its texts alone, and memory on the longest of them, whatever is asked together.

Importing this module loads torch and transformers.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.decision import DecisionConfig, label_token_ids
from transformers.decision.modeling_utils import process_scores

from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.backend_options import BackendOptions
from perl_eval.judges.backends.choices import options_of, system_one
from perl_eval.judges.backends.one_worker import OneWorker
from perl_eval.judges.backends.prompt_reading import PromptReader, ReadPrompt
from perl_eval.judges.protocol import Judge
from perl_eval.judges.readers import ProbabilityReader
from perl_eval.records import Message, Question

__all__ = ["LocalJudge", "open_local", "opened"]

_PART, _PART_ON_GPU = 128, 1024
"""Tokens that go through the model at once: as many as keep the processor busy."""
_HTML = re.compile(
    r"</?([a-z]|h[1-6]|br|hr|[bou]l|li|em|code|pre|strong|su[bp]|caption|blockquote|t(able|head|body|foot|[rhd]))>"
)


class LocalJudge(Judge):
    """A model and its tokenizer as judge.

    Args:
        model: A causal language model, on its device.
        tokenizer: Its tokenizer, or the processor of a vision-language model; ``A``, ``B``, ``Yes`` and ``No`` must be
            single tokens, ``C`` too for a tie, and a letter for each number of a scale.
        name: What the model is called; answers are kept under it, so it must change when the weights do.
        tie: Offer a tie as an option of a pair.
        tie_margin: Without that option: a pair is a tie if the two probabilities differ by no more.
        group: Questions that are asked, and kept, together.
    """

    backend = "local"

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str, tie: bool = False, tie_margin: float = 0.0, group: int = 16
    ) -> None:
        self.model = name
        self.group = group
        self.parameters: Mapping[str, object] = {"tie": tie, "tie_margin": tie_margin}
        self._processor = tokenizer
        self._tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self._prompts = PromptReader(model.eval(), _PART if model.device.type == "cpu" else _PART_ON_GPU)
        self._worker = OneWorker()
        self._marks = _marks(self._tokenizer)
        self._tie = tie
        self.reader = ProbabilityReader(tie_margin)
        self._config = DecisionConfig()

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Read the probabilities of all options of all questions, in a thread: meanwhile replies are kept."""
        return await self._worker.do(lambda: self._replies(questions))

    async def close(self) -> None:
        """End after the question at hand."""
        self._worker.stop()

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:  # noqa: ARG002
        """Return 0: the machine is the user's."""
        return 0.0

    def _replies(self, questions: Sequence[Question]) -> Iterator[Reply]:
        prompts = [self._prompt(question) for question in questions]
        logits = self._prompts.logits([prompt.read for prompt in prompts])
        for question, prompt in zip(questions, prompts, strict=True):
            begun_s = time.perf_counter()
            answer = self._answer(question, self._processed(prompt, next(logits)))
            yield Reply(
                text=json.dumps(answer, sort_keys=True),
                model=self.model,
                tokens_in=prompt.ids.shape[0],
                latency_s=time.perf_counter() - begun_s,
            )

    def _prompt(self, question: Question) -> _Prompt:
        body = system_one([self._unmarked(question)], tie=self._tie)
        try:
            ((inputs, typed),) = self._config.prepare_inputs(body, self._processor)
            labels = label_token_ids(self._tokenizer, tuple(typed[0].labels))
        except ValueError as error:
            raise UserError(f"{self.model} cannot judge: {error}", "choose another model or prompt") from None
        more = {name: value for name, value in inputs.items() if name not in ("input_ids", "marks", "attention_mask")}
        return _Prompt(inputs["input_ids"][0], inputs["marks"], typed, labels, more, question.images)

    def _unmarked(self, question: Question) -> Question:
        """Return a question in whose texts no token of the tokenizer's own making is spelled."""
        found = [Message(turn.role, self._marks.sub(_apart, turn.content)) for turn in question.messages]
        return replace(question, messages=tuple(found))

    def _answer(self, question: Question, scores: torch.Tensor) -> dict[str, float]:
        chances = [float(chance) for chance in scores.double().softmax(-1)]
        return dict(zip(options_of(question, tie=self._tie), chances, strict=True))

    def _processed(self, prompt: _Prompt, logits: torch.Tensor) -> torch.Tensor:
        """Return the option scores from the logits of shape (vocabulary,) where the answer stands."""
        given = (self._config, prompt.ids[None], prompt.marks, prompt.typed, [logits[prompt.labels]])
        score: torch.Tensor = process_scores(*given)[0]
        return score


class _Prompt:
    """One tokenized question: ids of shape (tokens,), the place of the answer, tokens of the options, what is read."""

    def __init__(
        self,
        ids: torch.Tensor,
        marks: torch.Tensor,
        typed: Sequence[Any],
        labels: Sequence[int],
        more: Mapping[str, torch.Tensor],
        pictures: tuple[str, ...],
    ) -> None:
        self.ids, self.marks, self.typed, self.labels = ids, marks, typed, list(labels)
        answer, whole = int(marks[-1]), (1, len(ids))
        given = {name: value[:, :answer] if value.shape == whole else value for name, value in more.items()}
        self.read = ReadPrompt(ids[:answer], given, pictures)


def _marks(tokenizer: Any) -> re.Pattern[str]:
    """Return what a tokenizer takes for one token whatever stands around it, special or not; words and tags excepted.

    ``transformers`` spells out special tokens and those that the chat template writes. Others, such as those of
    thoughts and tools, are control tokens no less.
    """
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    marks = [one for one in added if one.strip() and not one.strip().isalnum() and not _HTML.fullmatch(one)]
    marks = [one for one in marks if any(map(str.isalnum, one))]
    return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))) or r"(?!)")


def _apart(mark: re.Match[str]) -> str:
    return f"{mark[0][:1]} {mark[0][1:]}"


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
