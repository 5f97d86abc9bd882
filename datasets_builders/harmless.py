"""Anthropic HH-RLHF, harmless-base: two answers to one conversation, the less harmful one first.

Upstream's rows are two whole transcripts. They are one prompt and two answers where both are the same text up to the
last line of the assistant; the few rows where a model wrote the human's next line itself differ earlier, and drop out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from datasets import Features

from datasets_builders import features, reading
from datasets_builders.builder import Batch, Builder, Config, Part, configs
from datasets_builders.columns import Conversations, text_table
from datasets_builders.sources import Origin, Source
from datasets_builders.splits import stable_id

if TYPE_CHECKING:
    from datasets_builders.tally import Tally

__all__ = ["Harmless", "split_transcripts"]

_REVISION = "354e5c3cb8960630860dd5774a6ac2a58313bf4d"
_URL = f"https://raw.githubusercontent.com/anthropics/hh-rlhf/{_REVISION}"
_KEYS = frozenset({"chosen", "rejected"})
_HUMAN = "\n\nHuman:"
_ANSWER = "\n\nAssistant:"
_MARKER = re.compile(r"\n\n(Human|Assistant):[ ]?")
_ANSWERER = ("assistant",)
_ROLES = {"Human": "user", "Assistant": "assistant"}


def split_transcripts(chosen: str, rejected: str) -> tuple[list[str], list[str], str, str] | str:
    """Return the prompt's roles and texts and both answers, or the reason why the transcripts are no such pair."""
    cut = chosen.rfind(_ANSWER)
    if cut < 0 or cut != rejected.rfind(_ANSWER) or chosen[:cut] != rejected[:cut]:
        return "the transcripts differ before the last answer"
    before, *turns = _MARKER.split(chosen[:cut])
    roles = [_ROLES[role] for role in turns[::2]]
    if before or not roles or roles[0] != "user":
        return "the transcript does not begin with a human turn"
    start = cut + len(_ANSWER)
    answers = (chosen[start:].removeprefix(" "), rejected[start:].removeprefix(" "))
    if _HUMAN in answers[0] or _HUMAN in answers[1]:
        return "the transcript does not end with an answer"
    return roles, turns[1::2], *answers


class Harmless(Builder):
    """Pairs of answers from the harmless-base part of HH-RLHF, in upstream's splits."""

    BUILDER_CONFIGS = configs(Config, pairs="a conversation and two answers; people found the chosen one less harmful")
    DEFAULT_CONFIG_NAME = "pairs"
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {"pairs": {"train": 42537, "test": 2312}}
    FILES: ClassVar[Mapping[str, Source]] = {
        "train": Source(
            "harmless-base/train.jsonl.gz",
            f"{_URL}/harmless-base/train.jsonl.gz",
            git_sha1="df7c90b1bbd6093bda9c996e8aab9a46fa557dcf",
        ),
        "test": Source(
            "harmless-base/test.jsonl.gz",
            f"{_URL}/harmless-base/test.jsonl.gz",
            sha256="ebfaaed21162a4de120ae85366075b34425e2a6303fac59b99555002f7016f03",
            git_sha1="a616e6a27660ded23c5ce0e585a3e4cf0d761f0e",
        ),
    }
    ORIGIN = Origin(
        name="harmless",
        title="Anthropic HH-RLHF, harmless",
        homepage="https://github.com/anthropics/hh-rlhf",
        revision=_REVISION,
        licence="mit",
        terms="MIT (Anthropic). Upstream asks not to train dialogue agents on it naively: they may become harmful.",
        citation="""@article{bai2022training,
  title = {Training a Helpful and Harmless Assistant with Reinforcement Learning from Human Feedback},
  author = {Bai, Yuntao and Jones, Andy and Ndousse, Kamal and Askell, Amanda and others},
  journal = {arXiv preprint arXiv:2204.05862},
  year = {2022}
}""",
        description=(
            "People tried to draw harmful answers from an assistant and said which of two answers is less harmful. "
            "In the publisher's whole test split the chosen answer is the shorter one in 56 % of the rows, so a judge "
            "that likes length is wrong there more often than not."
        ),
        splits=(
            "upstream's train and test, by row. `group` is the first human turn; run the checks to see which "
            "conversations of the test split continue one of the train split."
        ),
        warning="The conversations contain abuse, hate, sexual content, and instructions for harm and self-harm.",
        tags=("human-feedback", "safety"),
    )

    def _shape(self) -> Features:
        return features.preference()

    def _sources(self) -> dict[str, Sequence[Source]]:
        return {split: (source,) for split, source in self.FILES.items()}

    def _batches(self, split: str, part: Part, tally: Tally) -> Iterator[Batch]:
        del split  # a file belongs to one split
        seen = reading.Seen()
        for first, lines in reading.text_blocks(part.path, file=part.name):
            prompts, chosen, rejected = Conversations(), Conversations(), Conversations()
            rows, ids, groups = [], [], []
            again = seen.again(lines)
            for row, line in enumerate(lines, first):
                if row - first in again:
                    tally.drop("the same row again", file=part.name, row=row)
                    continue
                record = reading.parse_line(line, file=part.name, row=row, tally=tally)
                reading.check_keys(record, _KEYS, file=part.name, row=row)
                reading.check_texts(record, file=part.name, row=row)
                found = split_transcripts(record["chosen"], record["rejected"])
                if isinstance(found, str):
                    tally.drop(found, file=part.name, row=row)
                    continue
                roles, texts, better, worse = found
                if not better or not worse:
                    tally.note("an empty answer", file=part.name, row=row)
                rows.append(row)
                prompts.add(roles, texts)
                chosen.add(_ANSWERER, [better])
                rejected.add(_ANSWERER, [worse])
                ids.append(stable_id(record["chosen"], record["rejected"]))
                groups.append(stable_id(texts[0]))
            columns: dict[str, Conversations | Sequence[str]] = {
                **{"prompt": prompts, "chosen": chosen, "rejected": rejected},
                **self._columns(part, ids=ids, groups=groups),
            }
            yield Batch(rows, text_table(columns, self.info.features))
