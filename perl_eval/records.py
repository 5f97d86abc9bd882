"""The records that flow through the house, all frozen.

``Completion -> Question -> Ballot -> Judgement -> Estimate``, with ``Score`` and ``HumanLabel`` beside them.
Each verb turns one kind into the next and writes one parquet file of it; ``RunCard`` says how.

Words: **first** and **second** are positions in a prompt, **a** and **b** are contestants. **unjudged** is neither a
tie nor a loss. Log-probabilities are in nats, rates in [0, 1].
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, get_args

from perl_eval.about import About

__all__ = [
    "About",
    "Ballot",
    "Completion",
    "Estimate",
    "HumanLabel",
    "Judgement",
    "Measurement",
    "Message",
    "Question",
    "RunCard",
    "Scale",
    "Score",
    "digest",
]

Kind = Literal["pairwise", "yes_no", "score"]
Order = Literal["ab", "ba", "none"]
"""Which contestant was shown first: a, b, or neither (a judge without positions, or a single answer)."""
Verdict = Literal["first", "second", "tie", "yes", "no", "scored"]
Outcome = Literal["win", "loss", "split", "tie", "mixed", "yes", "no", "scored", "unjudged"]
"""Pairwise outcomes are those of contestant a."""
OUTCOMES: tuple[str, ...] = get_args(Outcome)
ADDED_LATER: Mapping[str, bool] = {"added_later": True}
"""Metadata of a field that older files lack; reading one gives the field's default."""
FigureKind = Literal["value", "lower bound", "upper bound", "count", "p-value"]
"""What a figure is; a bound is of the truth, or holds in expectation, as its method says."""
PICTURE = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands in a message where a picture stands in the dialogue; the pictures themselves lie beside it, in order."""


def digest(*parts: str) -> str:
    """Return a short stable id of some strings: the first 16 hex digits of a sha256.

    The parts are length-prefixed, so ``digest("ab", "c") != digest("a", "bc")``.
    """
    text = "".join([f"{len(part)}:{part}" for part in parts])
    if text.isascii():  # as many bytes as characters
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return hashlib.sha256(b"".join([b"%d:%s" % (len(part), part) for part in encoded])).hexdigest()[:16]


def _call_text(call: Mapping[str, Any] | str) -> str:
    """Return a tool call, given as JSON text or parsed, as the JSON text of its name and arguments."""
    if isinstance(call, str):
        try:
            call = json.loads(call)
        except ValueError:
            return str(call)
    inner = call.get("function", call) if isinstance(call, Mapping) else call
    return json.dumps(inner, ensure_ascii=False, sort_keys=True)


def _part_text(part: Mapping[str, Any]) -> str:
    """Return a part of a turn as text; only a picture may leave the mark of one."""
    if part["type"] == "image":
        return PICTURE
    if part["type"] != "text":
        raise TypeError(f"a part of type {part['type']!r}")
    return str(part["text"] or "").replace(PICTURE, " ")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue, as text.

    A tool call is written as the JSON text of its name and arguments, so that the same text reaches a
    tokenizer, a judge and a reader. Where pictures belong to the dialogue, the text has `PICTURE` in their places.
    """

    role: str
    content: str

    @classmethod
    def of(cls, turn: Mapping[str, Any]) -> Message:
        """Read one turn in TRL's conversational form: ``role``, ``content`` and, if any, ``tool_calls``.

        Content is text, or a list of parts of type ``text`` and ``image``.

        Raises:
            TypeError: A part is of another type.
        """
        content = turn.get("content") or ""
        if isinstance(content, list | tuple):
            content = "".join(map(_part_text, content))
        calls = [_call_text(call) for call in turn.get("tool_calls") or []]
        return cls(role=str(turn["role"]), content="\n".join([*([str(content)] if content else []), *calls]))

    @classmethod
    def sequence(cls, turns: Sequence[Mapping[str, Any]] | str, *, role: str = "user") -> tuple[Message, ...]:
        """Read a conversation, or a plain string as one turn of ``role``."""
        if isinstance(turns, str):
            return (cls(role=role, content=turns),)
        return tuple(cls.of(turn) for turn in turns)


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of one policy to one prompt.

    ``token_ids`` are the ids as sampled, end-of-sequence included; empty when the text did not come from a
    model here. ``logprob`` and ``prior_logprob`` are summed over the tokens, in nats, at the sampling temperature.
    ``images`` names the pictures that belong to the prompt, in order: files in the folder ``images`` beside the table,
    each called by its sha256 (see ``perl_eval.storage.images``). ``thought`` is what a reasoning model thought before
    it answered; it is no part of the answer: no judge sees it and no length counts it.
    """

    id: str
    item: str
    group: str
    dataset: str
    policy: str
    prompt: tuple[Message, ...]
    text: str
    finish: Literal["stop", "length"]
    draw: int
    token_ids: tuple[int, ...] = ()
    logprob: float | None = None
    prior_logprob: float | None = None
    images: tuple[str, ...] = field(default=(), metadata=ADDED_LATER)
    thought: str = field(default="", metadata=ADDED_LATER)


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale of whole numbers, both ends included."""

    low: int
    high: int

    @property
    def levels(self) -> range:
        """The numbers on it."""
        return range(self.low, self.high + 1)

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a judge: the rendered messages, and the candidates in the order shown.

    ``id`` is the id of the judgement it belongs to; ``prompt_sha256`` is of the template's bytes, ``rubric_sha256`` of
    the rubric's, if there is one. ``scale`` is what a score is given on, ``reasoning`` True if reasons come before the
    verdict, ``images`` the paths of the pictures that go before the text, ``code`` that of the fence around texts.
    """

    id: str
    kind: Kind
    order: Order
    candidates: tuple[Completion, ...]
    messages: tuple[Message, ...]
    prompt_sha256: str
    rubric_sha256: str = ""
    scale: Scale | None = None
    reasoning: bool = False
    images: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a judge said to one question.

    ``verdict`` is None when there was none, and ``reason`` then says why. ``p_first`` is the probability of the
    first option (first answer, or yes) where the judge gives one, ties counted half. ``score`` is the number given
    where the verdict is ``scored``: a mean over the scale where its numbers have probabilities. ``raw`` is the reply as
    it came.
    """

    order: Order
    verdict: Verdict | None
    reason: str | None = None
    p_first: float | None = None
    raw: str = ""
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    latency_s: float = 0.0
    cost_usd: float | None = None
    score: float | None = field(default=None, metadata=ADDED_LATER)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome for contestant a against b (pairwise), or for one answer (yes or no, or a score; b is empty).

    ``p_a`` is the mean probability, over both orders, that a is preferred, or that the answer is yes. ``score`` is the
    mean of the ballots' scores.
    """

    id: str
    kind: Kind
    item: str
    group: str
    dataset: str
    a: str
    b: str
    policy_a: str
    policy_b: str
    prompt: tuple[Message, ...]
    text_a: str
    text_b: str
    outcome: Outcome
    ballots: tuple[Ballot, ...]
    judge: str
    prompt_sha256: str
    simulated: bool
    p_a: float | None = None
    reason: str | None = None
    score: float | None = field(default=None, metadata=ADDED_LATER)

    @property
    def unit(self) -> str:
        """What was judged, whoever judged it: the id that human labels carry too."""
        return unit_of(self.a, self.b)


def unit_of(a: str, b: str = "") -> str:
    """Return the id of a judged pair of completion ids (or of one), the same for every judge and person."""
    return digest("unit", a, b)


@dataclass(frozen=True, slots=True)
class HumanLabel:
    """One person's label of one judged unit: win, tie or loss of contestant a; or yes or no.

    ``annotator`` is a pseudonym. ``simulated`` is True when no person was asked. ``weight`` is how many units this one
    stands for, up to a factor that all share: the inverse of the probability that it was drawn for labelling.
    Where nobody knows the ids of the completions, ``unit`` is empty, and ``item``, ``policy_a`` and ``policy_b`` say
    what was labelled (see ``perl_eval.metrics.label_join``).
    """

    unit: str
    item: str
    group: str
    annotator: str
    label: Literal["win", "tie", "loss", "yes", "no"]
    simulated: bool = False
    note: str = ""
    weight: float = field(default=1.0, metadata=ADDED_LATER)
    policy_a: str = field(default="", metadata=ADDED_LATER)
    policy_b: str = field(default="", metadata=ADDED_LATER)


@dataclass(frozen=True, slots=True)
class Score:
    """One number for one completion; ``value`` is None where it cannot be known, and ``reason`` says why."""

    completion: str
    item: str
    group: str
    policy: str
    metric: str
    value: float | None
    reason: str | None = None


def instead_of(column: str, read: Callable[[str], Any]) -> Mapping[str, Any]:
    """Return metadata of a field that older files lack, and that is read of another column of theirs."""
    return {**ADDED_LATER, "instead_of": (column, read)}


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure: value, interval, counts and method.

    ``value`` is None when it is undefined, and ``reason`` says why. ``n`` counts what entered, ``n_missing`` what
    should have and could not. ``about`` says what it is about, ``kind`` what sort of figure it is.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_missing: int
    method: str
    level: float = 0.95
    reason: str | None = None
    simulated: bool = False
    kind: FigureKind = field(
        default="value", metadata=instead_of("method", lambda said: "count" if said == "count" else "value")
    )
    about: About = field(default=About(), metadata=instead_of("subject", lambda said: About(text=said)))

    @property
    def subject(self) -> str:
        """What it is about, as a sentence for people."""
        return self.about.sentence

    def __repr__(self) -> str:
        """Return name, value, and what else is not as usual, as Python."""
        shown = [f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if _is_told(self, one)]
        return f"Estimate({', '.join(shown)})"

    def __str__(self) -> str:
        """Return value, interval and count: ``0.62 (0.55 to 0.68), n = 200``."""
        if self.value is None:
            return f"none: {self.reason or 'undefined'}"
        form = {"count": ",.0f", "p-value": ".2g"}.get(self.kind, ".2f")
        interval = "" if self.low is None or self.high is None else f" ({self.low:{form}} to {self.high:{form}})"
        return f"{self.value:{form}}{interval}, n = {self.n:,}"


def _is_told(estimate: Estimate, part: Field[Any]) -> bool:
    """Return whether a field of an estimate is needed, or not as usual."""
    return part.default is MISSING or getattr(estimate, part.name) != part.default


@dataclass(frozen=True, slots=True)
class Measurement:
    """One point of a curve logged while training."""

    step: int
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class RunCard:
    """How an output folder came to be. Paths are as the user gave them; sha256 over file bytes.

    ``outputs`` maps file names inside the folder to their sha256, ``inputs`` maps given paths to theirs.
    ``peak_memory_bytes`` is the process's peak resident set up to the end of the verb.
    """

    verb: str
    arguments: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    versions: Mapping[str, str]
    seconds: float
    peak_memory_bytes: int
    started: str
    simulated: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
