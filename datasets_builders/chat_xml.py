"""The conversations of LDC2018T19 (BOLT English SMS/Chat), one XML file each."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from datasets_builders.errors import DataError, SourceError

__all__ = ["Conversation", "conversation_files", "read_conversation"]

_SUFFIX = ".conv.xml"
_ESCAPED = re.compile(r"&(?:amp|lt|gt|quot|apos|#\d+);")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation.

    Attributes:
        id: Upstream's id.
        donated: Whether the participants gave it as part of a collection of theirs.
        participants: Upstream's pseudonyms, each once, in order of appearance.
        messages: Participant and text of each message; gaps and redactions (``####``) are upstream's.
        unescaped: How many messages were escaped twice upstream.
    """

    id: str
    donated: bool
    participants: tuple[str, ...]
    messages: tuple[tuple[str, str], ...]
    unescaped: int


def conversation_files(folder: Path) -> list[str]:
    """Return the upstream paths of the conversations in a folder or in its ``data``, sorted.

    Raises:
        SourceError: There is no such folder.
    """
    if not folder.is_dir():
        raise SourceError(f"no such folder: {folder}", "give the folder that holds the upstream files")
    inner = folder / "data"
    return sorted(f"data/{path.name}" for path in (inner if inner.is_dir() else folder).glob(f"*{_SUFFIX}"))


def read_conversation(path: Path, *, file: str) -> Conversation:
    """Read one file; attributes may come in any order.

    Raises:
        DataError: It is not such a conversation.
    """
    content = path.read_bytes()
    if b"<!ENTITY" in content:
        raise DataError("declares entities", file)
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"is not XML ({error})", file) from None
    donated = root.get("donated")
    if root.tag != "conversation" or root.get("id") is None or donated not in ("true", "false"):
        raise DataError(f"is not a conversation: <{root.tag} {root.attrib}>", file)
    messages, unescaped = [], 0
    for row, element in enumerate(root.iterfind("messages/message")):
        participant, body = element.get("participant"), element.find("body")
        if participant is None or body is None:
            raise DataError("a message without participant or body", file, row)
        text = "".join(body.itertext()).strip()
        if _ESCAPED.search(text):
            text, unescaped = html.unescape(text), unescaped + 1
        messages.append((participant, text))
    return Conversation(
        id=root.attrib["id"],
        donated=donated == "true",
        participants=tuple(dict.fromkeys(participant for participant, _ in messages)),
        messages=tuple(messages),
        unescaped=unescaped,
    )
