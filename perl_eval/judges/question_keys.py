"""Keys of questions: sha256 over all that can change an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from perl_eval.judges.protocol import Judge
from perl_eval.records import Message, Question

__all__ = ["Keys", "fed", "parts"]


def fed(*parts: str) -> bytes:
    """Return the bytes to hash of some strings, so that no two lists of them look alike: each with its length."""
    text = "".join([f"{len(part)}:{part}" for part in parts])
    if text.isascii():  # as many bytes as characters
        return text.encode()
    fed = []
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        fed += [b"%d:" % len(content), content]
    return b"".join(fed)


def parts(messages: Sequence[Message]) -> list[str]:
    """Return some messages as strings, which two lists of messages share only if they are equal."""
    found = [str(len(messages))]
    for turn in messages:
        found += (turn.role, turn.content)
    return found


class Keys:
    """The ledger keys of one judge: sha256 of door, model, parameters, rendered messages and number of the vote.

    Rubric, scale and pictures count where a question has them.
    For a judge that sees the candidates themselves, their prompts, texts and token ids count too: defusing a text for
    the messages can make two of them look alike.
    """

    def __init__(self, judge: Judge) -> None:
        self._start = hashlib.sha256(fed(judge.door, judge.model, json.dumps(dict(judge.parameters), sort_keys=True)))
        self._sees_candidates = judge.sees == "candidates"

    def of(self, question: Question, vote: int = 0) -> bytes:
        """Return the key of a question, 32 bytes."""
        state = self._start.copy()
        state.update(fed(str(vote), question.kind, *parts(question.messages)))
        if question.rubric_sha256 or question.scale or question.images:
            pictures = [Path(path).stem for path in question.images]
            state.update(fed(question.rubric_sha256, str(question.scale), *pictures))
        if self._sees_candidates:
            for candidate in question.candidates:
                ids = " ".join(map(str, candidate.token_ids))
                state.update(fed(*parts(candidate.prompt), candidate.item, candidate.text, ids))
        return state.digest()
