"""Judge prompts to messages: sandboxed templates, strict variables, fenced candidates.

A prompt is one jinja2 file. Its head comment is read: ``kind`` says what it asks (``pairwise``, ``yes_no`` or
``score``), and ``scale`` between which whole numbers a score lies (``1 to 10``). Its block ``user`` (and ``system``, if
it has one) becomes one message. The text of conversation, candidates, reference and rubric is hostile: it enters as a
value, never as a template, with special tokens defused, between marker lines that carry a code. The code is derived
from the text, so it is the same on a re-run, and it occurs nowhere in the text.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import get_args

from perl_eval.errors import DataError, UserError
from perl_eval.judges.sandbox import HOLE, Compiled, Sandboxed, TemplateFailure
from perl_eval.judges.sandbox_process import Confined
from perl_eval.records import PICTURE, Completion, Kind, Message, Order, Question, Scale, digest

__all__ = ["Template", "load", "names", "neutralise", "parts", "question", "questions"]

_SUFFIX = ".jinja2"
_LONGEST = 1_000_000
"""Bytes of the longest prompt."""
_UNKNOWN = "\ufffd"
_VARIABLES = frozenset(
    {"conversation", "first", "second", "answer", "code", "reasoning", "rubric", "reference", "low", "high"}
)
_HEAD = re.compile(r"\A\s*\{#-?(?P<text>.*?)-?#\}", re.DOTALL)
_KIND = re.compile(r"^\s*kind:\s*(?P<kind>\S+)\s*$", re.MULTILINE)
_SCALE = re.compile(r"^\s*scale:\s*(?P<low>\d{1,3})\s+to\s+(?P<high>\d{1,3})\s*$", re.MULTILINE)
# Characters that a reader does not see but a model does: controls, bidirectional overrides, tags, lone surrogates.
# The joiners U+200C and U+200D stay: scripts and emoji need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# What tokenizers and chat templates take for structure, and what verdict readers take for a verdict: turns and ends of
# ChatML, Llama, Gemma, Mistral, Command R, GLM and Harmony, thoughts, tools, pictures, and what is kept in reserve.
_TAGS = (
    "s|bos|eos|pad|unk|mask|sop|eop|bos_token|eos_token|think|thinking|thought|thoughts|reasoning|reflection|scratchpad"
    "|image|video|audio|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|tool_calls?|tool_response"
    "|tool_responses|function_calls?|unused\\d+|extra_id_\\d+|seed:[a-z_]+"
)
_BRACKETS = (
    "inst|system_prompt|model_settings|think|tool_calls|tool_results|tool_content|available_tools|args|call_id|img"
    "|img_break|img_end|audio|begin_audio|prefix|middle|suffix|gmask|smask|bos|eos|unk\\d+"
)
_SPECIAL = re.compile(
    rf"<(?=[|｜])|(?<=[|｜])>|<(?=/?(?:{_TAGS})>)|<(?=</?SYS>>)|\[(?=/?(?:{_BRACKETS})\])|\[(?=\[)", re.IGNORECASE
)
# ASCII that may belong to either; a text of other ASCII only is harmless.
_SUSPECT = bytes([*range(0x09), *range(0x0B, 0x20), 0x7F, *b"<[|"])
_PLACE = "%%(%s)s"
_FIRST, _SECOND = _PLACE % "first", _PLACE % "second"


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A judge prompt, loaded and compiled.

    Attributes:
        name: Its name, without suffix.
        kind: What it asks.
        sha256: Of the file's bytes.
        source: Where it lies.
        uses: The variables that it uses.
        scale: What a score is given on; None for other kinds.
        rubric: What to judge by, if the user gives it.
        rubric_sha256: Of the rubric's bytes.
        references: Known good answers by item, if the user gives them.
        skeletons: What has been rendered around the values, where the prompt does nothing with them but put them into
            their places; None where it does more. See `_messages`.
    """

    name: str
    kind: Kind
    sha256: str
    source: str
    compiled: Compiled
    uses: frozenset[str] = frozenset()
    scale: Scale | None = None
    rubric: str = ""
    rubric_sha256: str = ""
    references: Mapping[str, str] = field(default_factory=dict)
    skeletons: dict[tuple[object, ...], list[tuple[str, str]]] | None = field(default=None, repr=False)


def names(folder: Path | None = None) -> list[str]:
    """Return the names of the prompts at hand: those of the user's folder and the built-in ones."""
    built_in = (entry.name for entry in importlib.resources.files("prompts").iterdir())
    own = (path.name for path in folder.iterdir()) if folder is not None else iter(())
    return sorted({name.removesuffix(_SUFFIX) for name in (*own, *built_in) if name.endswith(_SUFFIX)})


def load(name: str, folder: Path | None = None) -> Template:
    """Load a prompt by name.

    Args:
        name: Its name, without suffix.
        folder: The user's own prompts; a prompt there wins over a built-in one of the same name.

    Raises:
        UserError: There is no such prompt or folder.
        DataError: The file is no valid prompt: syntax, head comment, block or variable.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"no such folder of prompts: {folder}", "check the path", page="")
    if name not in names(folder):
        raise UserError(f"no prompt called {name!r}", f"choose one of {', '.join(names(folder))}")
    own = folder / f"{name}{_SUFFIX}" if folder is not None else None
    path = own if own is not None and own.is_file() else importlib.resources.files("prompts") / f"{name}{_SUFFIX}"
    content = path.read_bytes()
    source = str(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("is not UTF-8", file=source, fix="save it as UTF-8") from None
    if len(content) > _LONGEST:
        raise DataError(f"has {len(content):,} bytes", file=source, fix=f"a prompt has {_LONGEST:,} at most")
    try:
        compiled: Compiled = Confined(text) if path == own else Sandboxed(text)
    except TemplateFailure as error:
        if error.line is None:
            raise DataError(f"cannot be compiled: {error.message}", file=source, fix="correct the prompt") from None
        raise DataError(
            f"line {error.line}: {error.message}", file=source, fix="see the jinja2 template syntax"
        ) from None
    unknown = compiled.uses - _VARIABLES
    if unknown:
        known = ", ".join(sorted(_VARIABLES))
        raise DataError(f"uses unknown variable {min(unknown)!r}", file=source, fix=f"known are {known}")
    if "user" not in compiled.blocks:
        raise DataError("has no block called user", file=source, fix="put the question in {% block user %}")
    kind = _kind(text, source)
    return Template(
        name=name,
        kind=kind,
        sha256=hashlib.sha256(content).hexdigest(),
        source=source,
        compiled=compiled,
        uses=compiled.uses,
        scale=_scale(text, source) if kind == "score" else None,
        skeletons={} if compiled.places else None,
    )


def _scale(text: str, source: str) -> Scale:
    head = _HEAD.match(text)
    stated = _SCALE.search(head["text"]) if head else None
    if stated is None or int(stated["low"]) >= int(stated["high"]):
        raise DataError("states no scale", file=source, fix="put a line `scale: 1 to 10` into the head comment")
    return Scale(int(stated["low"]), int(stated["high"]))


def _kind(text: str, source: str) -> Kind:
    head = _HEAD.match(text)
    stated = _KIND.search(head["text"]) if head else None
    for kind in get_args(Kind):
        if stated and stated["kind"] == kind:
            return kind  # type: ignore[no-any-return]  # get_args gives Any
    fix = f"begin the file with {{# ... #}} holding a line `kind: ` and one of {', '.join(get_args(Kind))}"
    raise DataError("has no head comment that states its kind", file=source, fix=fix)


def neutralise(text: str) -> str:
    """Make hostile text harmless to tokenizers, chat templates and verdict readers, and otherwise leave it as it is.

    Special tokens (``<|im_start|>``, ``[INST]``, ``<think>``) and double brackets (``[[A]]``) get a space inside;
    characters that nobody sees become U+FFFD.
    """
    return text if _harmless(text) else _neutralised(text)


def _harmless(text: str) -> bool:
    """Return whether a look at the single bytes shows that there is nothing to neutralise: a fast way out."""
    return text.isascii() and len(text.encode().translate(None, _SUSPECT)) == len(text)


@lru_cache(maxsize=1024)
def _neutralised(text: str) -> str:
    text = _UNSEEN.sub(_UNKNOWN, text.replace("\r\n", "\n").replace("\r", "\n"))
    return _SPECIAL.sub(lambda found: " >" if found[0] == ">" else f"{found[0]} ", text)


def question(
    template: Template, candidates: Sequence[Completion], *, order: Order, id: str, reasoning: bool = False
) -> Question:
    """Render one question.

    Args:
        template: The prompt, with rubric and references if there are any.
        candidates: One completion, or two in the order shown; of two, the first one's prompt is shown. Their
            ``images`` are paths here.
        order: Which contestant is shown first.
        id: The id of the judgement that the question belongs to.
        reasoning: Ask for reasons before the verdict.

    Raises:
        DataError: The prompt fails on these values.
    """
    unit = tuple(reversed(candidates)) if order == "ba" else tuple(candidates)
    return questions(template, unit, orders=(order,), id=id, reasoning=reasoning)[0]


def questions(
    template: Template, unit: tuple[Completion, ...], *, orders: Sequence[Order], id: str, reasoning: bool = False
) -> list[Question]:
    """Render the questions about one completion, or about a pair in some orders.

    Args:
        template: The prompt, with rubric and references if there are any.
        unit: One completion, or a and b.
        orders: The orders to show them in.
        id: The id of the judgement that the questions belong to.
        reasoning: Ask for reasons before the verdict.

    Raises:
        DataError: The prompt fails on these values.
    """
    prompt = _numbered(_defused(unit[0].prompt), len(unit[0].images))
    texts = [neutralise(candidate.text).replace(PICTURE, _UNKNOWN) for candidate in unit]
    aids = {"rubric": neutralise(template.rubric), "reference": neutralise(_reference(template, unit[0].item))}
    hostile = [part for turn in prompt for part in (turn.role, turn.content)] + texts
    code = _code(sorted([*hostile, *filter(None, aids.values())]))
    end = _mark("end", code)
    values: dict[str, object] = {
        "conversation": "\n".join([*[_fenced(turn.role, turn.content, code) for turn in prompt], end]),
        "code": code,
        "reasoning": reasoning,
    }
    for name, text in aids.items():
        values[name] = f"{_fenced(name, text, code)}\n{end}" if text else ""
    if template.scale:
        values |= {"low": template.scale.low, "high": template.scale.high}
    # Branches see whether a text is empty, and numbers and flags as they are; the rest of a text they cannot see. The
    # answers, which follow, are never empty: their fences belong to them.
    shape = tuple([bool(value) if isinstance(value, str) else value for value in values.values()])
    asked: list[Question] = []
    for order in orders:
        shown = unit[::-1] if order == "ba" else unit
        first, second = (texts[-1], texts[0]) if order == "ba" else (texts[0], texts[-1])
        if template.kind == "pairwise":
            values["first"] = _fenced("answer A", first, code)
            values["second"] = f"{_fenced('answer B', second, code)}\n{end}"
        else:
            values["answer"] = f"{_fenced('answer', first, code)}\n{end}"
        asked.append(
            Question(
                id=id,
                kind=template.kind,
                order=order,
                candidates=shown,
                messages=_messages(template, values, shape, asked[0].messages if asked else ()),
                prompt_sha256=template.sha256,
                rubric_sha256=template.rubric_sha256,
                scale=template.scale,
                reasoning=reasoning,
                images=shown[0].images,
                code=code,
            )
        )
    return asked


def _reference(template: Template, item: str) -> str:
    if not template.references:
        return ""
    if item not in template.references:
        raise DataError(f"there is no reference for item {item!r}", file=template.source, fix="give one for every item")
    return template.references[item]


def parts(question: Question) -> tuple[str, str]:
    """Split a rendered question into what both orders share, and its own part, which begins with the first answer.

    For judges that take an input and questions about it, or that compute a shared beginning once.
    """
    text = "\n\n".join(turn.content for turn in question.messages)
    start = text.find(_mark("answer A" if question.kind == "pairwise" else "answer", question.code))
    return (text[:start].rstrip(), text[start:]) if start > 0 else ("", text)


def _messages(
    template: Template, values: dict[str, object], shape: tuple[object, ...], before: tuple[Message, ...]
) -> tuple[Message, ...]:
    """Render the messages; where the prompt only places its values, from what was rendered around holes before.

    Args:
        template: The prompt.
        values: What to place.
        shape: What branches can see of the values.
        before: The messages of another order of the same answers; those that do not show the answers are the same.
    """
    if template.skeletons is None:
        return tuple(Message(role, text) for role, text in _rendered(template, values) if text)
    skeleton = template.skeletons.get(shape)
    if skeleton is None:
        holes = {name: _hole(name) if isinstance(value, str) and value else value for name, value in values.items()}
        skeleton = [(role, _with_places(text, values)) for role, text in _rendered(template, holes) if text]
        template.skeletons[shape] = skeleton
    if not before:
        return tuple([Message(role, (text % values).strip()) for role, text in skeleton])
    return tuple(
        [
            Message(role, (text % values).strip()) if _FIRST in text or _SECOND in text else same
            for (role, text), same in zip(skeleton, before, strict=True)
        ]
    )


def _hole(name: str) -> str:
    return f"{HOLE}{name}{HOLE}"


def _with_places(text: str, names: Iterable[str]) -> str:
    """Return a format string with a place for each hole."""
    text = text.replace("%", "%%")
    for name in names:
        text = text.replace(_hole(name), _PLACE % name)
    return text


def _rendered(template: Template, values: dict[str, object]) -> list[tuple[str, str]]:
    """Let jinja2 render the messages: role and text."""
    messages: list[tuple[str, str]] = []
    for role in ("system", "user"):
        if role in template.compiled.blocks:
            try:
                messages.append((role, template.compiled.render(role, values)))
            except TemplateFailure as error:
                raise DataError(
                    f"cannot be rendered for a {template.kind} question: {error.message}",
                    file=template.source,
                    fix="correct the prompt",
                ) from None
    return messages


def _defused(prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple([Message(" ".join(neutralise(turn.role).split()), neutralise(turn.content)) for turn in prompt])


def _numbered(prompt: tuple[Message, ...], pictures: int) -> tuple[Message, ...]:
    """Return a conversation whose marks of pictures say which one; they are no marks unless there are as many."""
    marks = sum(turn.content.count(PICTURE) for turn in prompt)
    if not marks:
        return prompt
    number = count(1)

    def name(_: re.Match[str]) -> str:
        return f"(picture {next(number)})" if marks == pictures else _UNKNOWN

    return tuple(Message(turn.role, re.sub(PICTURE, name, turn.content)) for turn in prompt)


def _code(texts: Sequence[str]) -> str:
    """Return 12 hex digits drawn from some texts that occur in none of them."""
    code, shown = digest(*texts)[:12], "\n".join(texts).lower()
    while code in shown:
        code = digest(code)[:12]
    return code


def _mark(label: str, code: str) -> str:
    return f"=== {label} | {code} ==="


def _fenced(label: str, text: str, code: str) -> str:
    return f"=== {label} | {code} ===\n{text}"
