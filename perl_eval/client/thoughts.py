"""What a model thought, apart from what it said: thoughts are neither an answer nor a verdict.

Known are tags (``<think>``, ``<thought>``, ``<reasoning>``, ``[THINK]``, ``<|begin_of_thought|>`` and other makers'),
and the channels of Harmony (``<|channel|>analysis<|message|>``), also where a server took its marks out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Split", "split"]


class Split(NamedTuple):
    """A reply in two.

    Attributes:
        said: What the model said.
        thought: What it thought, without the marks around it.
        open: Whether the reply ends inside its thoughts.
    """

    said: str
    thought: str = ""
    open: bool = False


_NAMES = (
    r"think|thinking|thoughts?|reasoning|reflection|scratchpad|antthinking|\w{1,12}:think|\w{1,12}_think|think_\w{1,12}|"
    r"seed:cot_budget_reflect|thinking_process|thought_process|inner_thoughts?|(?:inner_|internal_)?monologue|ponder|"
    r"chain_of_thought|cot"
)
_TAG = re.compile(
    rf"< ?(?P<end>/?) ?(?P<name>{_NAMES}) ?>"
    r"|\[(?P<square>/?)(?:think|thinking|reasoning)\]"
    r"|<\|(?P<bar>/?)(?:think|thinking|reasoning)\|>"
    r"|<\|(?:think|thinking)_(?P<edge>start|begin|end)\|>"
    r"|<\|inner_(?P<inner>prefix|suffix)\|>"
    r"|◁(?P<kimi>/?)think▷"
    r"|<\|(?P<open_thought>begin|end)_of_thought\|>"
    r"|<\|(?P<cohere>start|end)_thinking\|>"
    r"|<unused9(?P<gemma>[45])>(?:thought\n)?"
    r"|(?P<channel><\|channel>(?:thought|analysis)\b|<channel\|>)",
    re.IGNORECASE,
)
_SOLUTION = re.compile(r"<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_(?:RESPONSE|TEXT)\|>")
_HARMONY = re.compile(
    r"<\|channel\|>\s*(?P<name>\w+)[^<]{0,200}(?:<\|constrain\|>[^<]{0,100})?<\|message\|>(?P<body>.*?)"
    r"(?P<end><\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
_SPOKEN = re.compile(
    r"\s*(?:Here(?:['’]s| is) my thought process:?(?P<granite>.*?)Here(?:['’]s| is) my response:?"
    r"|<\|im_start\|>think\n(?P<marco>.*?)<\|im_end\|>\s*<\|im_start\|>(?:assistant|answer)\n)",
    re.DOTALL,
)
"""Thoughts that words or turns set apart, as Granite's and others do."""
_BARE_HARMONY = re.compile(r"\s*analysis(?=[\sA-Z])", re.ASCII)
_FINAL = "assistantfinal"


def split(text: str, *, leading: bool = False) -> Split:
    """Return what a reply says, and what it thinks.

    A mark that closes thoughts which none opened ends thoughts that began with the reply: a chat template may hold the
    opening one.

    Args:
        text: The reply.
        leading: Whether thoughts stand at its beginning only, as in an answer that may itself write such tags.
    """
    if "<|channel|>" in text:
        return _channels(text)
    if _BARE_HARMONY.match(text) and _FINAL in text:
        thought, _, said = text.rpartition(_FINAL)
        return Split(said, thought.strip().removeprefix("analysis"))
    if spoken := _SPOKEN.match(text):
        return Split(text[spoken.end() :], (spoken["granite"] or spoken["marco"] or "").strip())
    if leading:
        first = _TAG.search(text)
        if first is None or (text[: first.start()].strip() and not _kind(first)[1]):
            return Split(text)
        return _after_first(text, *_kind(first))
    return _tagged(text)


def _after_first(text: str, name: str, ends: bool) -> Split:
    """Split a reply where the thoughts that it begins with end."""
    first = None
    for tag in _TAG.finditer(text):
        first = first or tag
        if _kind(tag) == (name, True):
            thought = text[0 if ends else first.end() : tag.start()]
            return Split(text[tag.end() :], thought.strip())
    return Split("", text[first.end() :].strip() if first else "", open=True)


def _tagged(text: str) -> Split:
    said: list[str] = []
    thought: list[str] = []
    begun, name = 0, ""
    for tag in _TAG.finditer(text):
        kind, ends = _kind(tag)
        if name and not (ends and kind == name):
            continue
        if not name and not ends:
            said.append(text[begun : tag.start()])
        elif name:
            thought.append(text[begun : tag.start()])
        else:
            thought = [*said, text[begun : tag.start()]]
            said = []
        begun, name = tag.end(), "" if ends else kind
    (thought if name else said).append(text[begun:])
    spoken = "\n".join(part for part in said if part.strip()) if thought else "".join(said)
    if thought:
        spoken = _SOLUTION.sub("", spoken)
    return Split(spoken, "\n".join(part.strip() for part in thought).strip(), bool(name))


def _kind(tag: re.Match[str]) -> tuple[str, bool]:
    """Return which tag it is, and whether it ends thoughts."""
    parts = tag.groupdict()
    if parts["name"]:
        return parts["name"].lower(), bool(parts["end"])
    for name, ends in (
        *(("square", "/"), ("bar", "/"), ("edge", "end"), ("inner", "suffix")),
        *(("kimi", "/"), ("open_thought", "end"), ("cohere", "end"), ("gemma", "5")),
    ):
        if parts[name] is not None:
            return name, parts[name].lower() == ends
    return "channel", parts["channel"].endswith("|>")


def _channels(text: str) -> Split:
    said: list[str] = []
    thought: list[str] = []
    for channel in _HARMONY.finditer(_resumed(text)):
        (said if channel["name"].lower() == "final" else thought).append(channel["body"])
    return Split("\n".join(said), "\n".join(part.strip() for part in thought), not said)


def _resumed(text: str) -> str:
    """Return a text whose channels all begin with the mark of a channel: two may share one mark."""
    return text.replace("<|channel|>", "<|end|><|channel|>")
