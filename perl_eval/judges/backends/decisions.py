"""The decisions backend: typed questions that are answered with a probability for every option, without text.

Two forms of it: OpenAI's decisions endpoint, and System One (``/v1/systemone``), which ``transformers serve`` speaks.
Both orders of a pair travel in one request, as two questions about one shared input. OpenAI's form is spoken by its own
client, which is loaded when it is first asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perl_eval.client.endpoint import Endpoint
from perl_eval.client.reply import Reply
from perl_eval.client.usage import believed
from perl_eval.errors import JudgeError
from perl_eval.judges import prompting
from perl_eval.judges.backend_options import BackendOptions, Form
from perl_eval.judges.backends.choices import DESCRIPTIONS, options_of, system_one
from perl_eval.judges.protocol import Judge
from perl_eval.judges.readers import ProbabilityReader
from perl_eval.records import Question
from perl_eval.storage import images

__all__ = ["DecisionJudge", "DecisionOptions", "opened"]


@dataclass(frozen=True, slots=True)
class DecisionOptions:
    """How to ask.

    Attributes:
        form: ``openai`` or ``systemone``.
        base_url: Where the endpoint is, up to and with ``/v1``; None is OpenAI's own.
        key_variable: Environment variable that holds the key.
        tie: Offer a tie as an option of a pair.
        tie_margin: Without that option: a pair is a tie if the two probabilities differ by no more.
        timeout_s: Longest wait for one reply.
        price_in_usd: Price of a million tokens in, if known.
        price_out_usd: Price of a million tokens out, if known.
        key_file: File that holds the key, instead of the variable.
    """

    form: Form = "openai"
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    tie: bool = False
    tie_margin: float = 0.0
    timeout_s: float = 60.0
    price_in_usd: float | None = None
    price_out_usd: float | None = None
    key_file: Path | None = None


class DecisionJudge(Judge):
    """A model behind a decisions endpoint.

    Args:
        model: The model's name, as the server knows it.
        options: How to ask it.

    Raises:
        UserError: No key is set, or the address is no plain http address.
    """

    backend = "decisions"
    group = 2

    def __init__(self, model: str, options: DecisionOptions | None = None) -> None:
        self.model = model
        self._options = options = options or DecisionOptions()
        self.reader = ProbabilityReader(options.tie_margin)
        self._endpoint = Endpoint(
            options.base_url,
            options.key_variable,
            options.timeout_s,
            options.price_in_usd,
            options.price_out_usd,
            options.key_file,
        )
        self.parameters: Mapping[str, object] = {
            "base_url": options.base_url,
            "form": options.form,
            "tie": options.tie,
            "tie_margin": options.tie_margin,
        }

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Send the questions that share their input as one request."""
        shared: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        for place, question in enumerate(questions):
            shared.setdefault((prompting.parts(question)[0], question.images), []).append(place)
        replies: dict[int, Reply] = {}
        for places in shared.values():
            answered = await self._ask([questions[place] for place in places])
            replies.update(zip(places, answered, strict=True))
        return [replies[place] for place in range(len(questions))]

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        """Return the price at the stated prices of a million tokens."""
        return self._endpoint.price_usd(tokens_in, tokens_out)

    async def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        await self._endpoint.close()

    async def _ask(self, questions: Sequence[Question]) -> list[Reply]:
        begun_s = time.perf_counter()
        if self._options.form == "systemone":
            model, usage, answers = await self._system_one(questions)
        else:
            with self._endpoint.errors():
                model, usage, answers = await self._decisions(questions)
        latency_s = time.perf_counter() - begun_s
        if len(answers) != len(questions):
            raise JudgeError(f"{len(answers)} answers came to {len(questions)} questions")
        return [
            Reply(
                text=json.dumps(answer, sort_keys=True) if answer is not None else "",
                finish="stop" if answer is not None else "refusal",
                model=model,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                latency_s=latency_s,
                cost_usd=None if None in usage else self.price_usd(tokens_in, tokens_out),
                estimated=None in usage,
            )
            for answer, tokens_in, tokens_out in zip(
                answers, _shares(usage[0] or 0, len(answers)), _shares(usage[1] or 0, len(answers)), strict=True
            )
        ]

    async def _decisions(self, questions: Sequence[Question]) -> _Answered:
        asked = [_openai_form(question, tie=self._options.tie) for question in questions]
        decision = await self._endpoint.client().decisions.create(
            model=self.model,
            input=_input(questions[0]),  # type: ignore[arg-type]  # a plain dict of the typed dict's shape
            questions=asked,  # type: ignore[arg-type]  # plain dicts of the typed dicts' shape
        )
        if not getattr(decision, "answers", None):
            raise JudgeError("the reply holds no answer")
        answers: list[dict[str, float] | None] = []
        for answer in decision.answers:
            if answer.type == "predicate":
                answers.append({"yes": answer.probability, "no": 1.0 - answer.probability})
            elif answer.type == "score":
                answers.append({level.label: level.probability for level in answer.probabilities})
            elif answer.type == "choice":
                answers.append({str(option.value): option.probability for option in answer.probabilities})
            else:
                answers.append(None)
        usage = believed(decision.usage.input_tokens), believed(decision.usage.output_tokens)
        return decision.model, usage, answers

    async def _system_one(self, questions: Sequence[Question]) -> _Answered:
        body = {"model": self.model, **system_one(questions, tie=self._options.tie)}
        content: Any = (await self._endpoint.post("/systemone", body)).content
        try:
            answers: list[dict[str, float] | None] = [
                _of_system_one(question, content["answers"][str(place)]) for place, question in enumerate(questions)
            ]
            usage = believed(content["usage"]["input_tokens"]), believed(content["usage"]["output_tokens"])
        except (KeyError, TypeError) as error:
            raise JudgeError(f"the reply has an unexpected form: no {error}") from None
        return str(content.get("model", self.model)), usage, answers


_Answered = tuple[str, tuple[int | None, int | None], list[dict[str, float] | None]]


def _input(question: Question) -> str | list[dict[str, Any]]:
    """Return what the questions are about: a text, or a message of pictures and the text."""
    text, _ = prompting.parts(question)
    if not question.images:
        return text
    pictures = [{"type": "input_image", "image_url": images.data_url(path)} for path in question.images]
    return [{"role": "user", "content": [*pictures, {"type": "input_text", "text": text}]}]


def _of_system_one(question: Question, answer: Mapping[str, Any]) -> dict[str, float]:
    if answer["type"] == "noul":
        return {"yes": float(answer["noul"]), "no": 1.0 - float(answer["noul"])}
    given = {str(option): float(probability) for option, probability in answer["probabilities"].items()}
    if question.scale is None:
        return given
    # The levels of a score come back by their place.
    return {level: given[str(place)] for place, level in enumerate(options_of(question, tie=False))}


def _openai_form(question: Question, *, tie: bool) -> dict[str, Any]:
    _, own = prompting.parts(question)
    if question.kind == "yes_no":
        return {"type": "predicate", "name": question.order, "instructions": own}
    if question.scale is not None:
        levels = [{"label": level} for level in options_of(question, tie=False)]
        return {"type": "score", "name": question.order, "instructions": own, "levels": levels}
    choices = [{"value": option, "description": DESCRIPTIONS[option]} for option in options_of(question, tie=tie)]
    return {"type": "choice", "name": question.order, "instructions": own, "choices": choices}


def _shares(total: int, count: int) -> list[int]:
    """Split a count of tokens into whole shares that add up to it."""
    return [total // count + (place < total % count) for place in range(count)]


def opened(name: str, options: BackendOptions) -> DecisionJudge:
    """Open the judge ``decisions:MODEL``."""
    return DecisionJudge(
        name,
        DecisionOptions(
            form=options.form,
            base_url=options.base_url,
            tie=options.tie_option,
            tie_margin=options.tie_margin,
            timeout_s=options.timeout_s,
            price_in_usd=options.price_in_usd,
            price_out_usd=options.price_out_usd,
            key_file=options.key_file,
        ),
    )
