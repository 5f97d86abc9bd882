"""BOLT English SMS/Chat (LDC2018T19): conversations to summarize. Licensed: by hand only, never to be pushed.

The corpus has neither summaries nor preferences; PE-RLHF used it as prompts for a policy rewarded by a TL;DR reward
model. Its filter and split are not published, so the split here is our own. Source: the README of the corpus.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from datasets import Features, Value

from datasets_builders import chat_xml, features
from datasets_builders.builder import Builder, Config, Part, configs
from datasets_builders.errors import SourceError
from datasets_builders.features import message
from datasets_builders.sources import Origin, Source, path_at
from datasets_builders.splits import SHARES, assign, connected, stable_id

if TYPE_CHECKING:
    from datasets_builders.tally import Tally

__all__ = ["Bolt", "BoltConfig", "transcript"]

_OMITTED = "<media omitted>"


@dataclass(eq=False)  # compared as datasets.BuilderConfig does
class BoltConfig(Config):
    """Options of BOLT.

    Attributes:
        min_messages: Drop conversations with fewer messages of text.
    """

    min_messages: int = 1


def _letters(index: int) -> str:
    """Return A to Z, then A2 to Z2, and so on."""
    turn, letter = divmod(index, 26)
    return string.ascii_uppercase[letter] + (str(turn + 1) if turn else "")


def transcript(conversation: chat_xml.Conversation) -> list[str]:
    """Return one line a message of text, speakers named by letters in order of appearance."""
    names = {participant: _letters(index) for index, participant in enumerate(conversation.participants)}
    return [f"{names[who]}: {text}" for who, text in conversation.messages if text and text != _OMITTED]


class Bolt(Builder):
    """One prompt a conversation: its transcript, with the request for a summary in TL;DR's form."""

    BUILDER_CONFIG_CLASS = BoltConfig
    BUILDER_CONFIGS = configs(BoltConfig, messages="a conversation to summarize; there is no summary")
    DEFAULT_CONFIG_NAME = "messages"
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {"messages": {"": 18429}}
    ORIGIN = Origin(
        name="bolt",
        title="BOLT English SMS/Chat, conversations to summarize",
        homepage="https://catalog.ldc.upenn.edu/LDC2018T19",
        revision="LDC2018T19",
        licence="other",
        terms="LDC User Agreement: for licensees only.",
        citation="""@misc{chen2018bolt,
  title = {{BOLT} {E}nglish {SMS}/Chat, {LDC2018T19}},
  author = {Chen, Song and Fore, Dana and Strassel, Stephanie and Lee, Haejoong and Wright, Jonathan},
  publisher = {Linguistic Data Consortium},
  year = {2018}
}""",
        description=(
            "Text messages and chats. Upstream has masked personal data with `#`; messages that were taken out leave "
            "gaps. Speakers are named by letters, media are left out, doubly escaped text is unescaped."
        ),
        splits=(
            "our own, not those of PE-RLHF, whose filter is unpublished. The sha256 of the group decides: about 80 % "
            "train, 10 % validation, 10 % test. Donated conversations that share a participant are one group."
        ),
        warning="Private conversations.",
        publishing="never",
        manual="obtain LDC2018T19 from the Linguistic Data Consortium and give the folder with data/*.conv.xml",
        tags=("summarization",),
    )

    def _shape(self) -> Features:
        return features.prompt(extra={"message_count": Value("int64")})

    def _sources(self) -> dict[str, Sequence[Source]]:
        files = chat_xml.conversation_files(path_at(self.config.data_dir))
        if not files:
            raise SourceError(f"{self.config.data_dir} has no *.conv.xml", self.ORIGIN.manual)
        return dict.fromkeys(SHARES, tuple(Source(file) for file in files))

    def _survey(self, parts: Sequence[Part]) -> None:
        """Group donated conversations by their participants, whose ids hold within one donation only."""
        read = [chat_xml.read_conversation(part.path, file=part.name) for part in parts]
        links = [one.participants if one.donated else () for one in read]
        heads = connected(links)
        self._groups = {part.name: stable_id(read[head].id) for part, head in zip(parts, heads, strict=True)}

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
        group = self._groups[part.name]
        if assign(group, salt=self.ORIGIN.name) != split:
            return
        conversation = chat_xml.read_conversation(part.path, file=part.name)
        lines = transcript(conversation)
        if len(lines) < max(1, self.config.min_messages):
            tally.drop(f"fewer than {max(1, self.config.min_messages)} messages of text", file=part.name, row=0)
            return
        if conversation.unescaped:
            tally.note("a conversation with doubly escaped messages", file=part.name, row=0)
        asked = "CONVERSATION:\n" + "\n".join(lines) + "\n\nTL;DR:"
        yield (
            0,
            {
                "prompt": [message("user", asked)],
                **self._metadata(part, id=conversation.id, group=group),
                "message_count": len(lines),
            },
        )
