"""MT-bench human judgements: which of two models' answers people preferred, several votes a pair.

Upstream keeps the whole conversation of both models with each vote, and says which turn the vote is about. A vote on
the second turn is about two answers whose histories differ, unless both models gave the same first answer: the row's
prompt is then the first question alone, and each answer is the rest of its conversation.

Source: the data set card of lmsys/mt_bench_human_judgments, arXiv 2306.05685.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from datasets import Features, Value

from datasets_builders import features, reading
from datasets_builders.builder import Builder, Config, Part, configs
from datasets_builders.errors import DataError
from datasets_builders.features import message
from datasets_builders.sources import Origin, Source

if TYPE_CHECKING:
    from datasets_builders.tally import Tally

__all__ = ["MtBench"]

_REVISION = "409e7c9842d35d9b23c30bf136449aa48d064f04"
_FILE = "data/human-00000-of-00001-25f4910818759289.parquet"
_TEXTS = ("model_a", "model_b", "winner", "judge")
_KEYS = frozenset((*_TEXTS, "question_id", "turn", "conversation_a", "conversation_b"))
_SIDES = ("model_a", "model_b")
_ROLES = ("user", "assistant")

Turns = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Vote:
    """One person's vote on two answers, the models in the order of their names.

    ``preferred`` is 0 or 1, the place of the better one; None is a tie.
    """

    row: int
    voter: str
    preferred: int | None


@dataclass(slots=True)
class _Pair:
    """Two answers to one question and what people said about them."""

    id: str
    question: int
    turn: int
    models: tuple[str, str]
    prompt: Turns
    answers: tuple[Turns, Turns]
    votes: list[_Vote] = field(default_factory=list)

    @property
    def majority(self) -> int | None:
        """The place of the answer that has more votes than the other, and than there are ties; None if neither has."""
        counts = Counter(vote.preferred for vote in self.votes)
        (top, most), *rest = counts.most_common()
        return None if rest and rest[0][1] == most else top


class MtBench(Builder):
    """Votes on pairs of answers to the 80 questions of MT-bench, or one row a pair."""

    BUILDER_CONFIGS = configs(
        Config,
        pairs="a question and two models' answers, the one that most voters preferred first",
        votes=(
            "one vote on such a pair: `tie` is true where the voter saw no difference, and chosen and rejected are "
            "then in no order. For `recorded` and `agree`; do not train on it as it is"
        ),
    )
    DEFAULT_CONFIG_NAME = "pairs"
    UNASKED = ("pairs",)
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {"pairs": {"test": 3355}, "votes": {"test": 3355}}
    FILE = Source(_FILE, f"https://huggingface.co/datasets/lmsys/mt_bench_human_judgments/resolve/{_REVISION}/{_FILE}")
    ORIGIN = Origin(
        name="mt_bench",
        title="MT-bench human judgements",
        homepage="https://huggingface.co/datasets/lmsys/mt_bench_human_judgments",
        revision=_REVISION,
        licence="cc-by-4.0",
        terms="CC BY 4.0 (LMSYS); the answers are of six models, each under its own terms.",
        citation="""@inproceedings{zheng2023judging,
  title = {Judging {LLM}-as-a-Judge with {MT}-Bench and Chatbot Arena},
  author = {Zheng, Lianmin and Chiang, Wei-Lin and Sheng, Ying and Zhuang, Siyuan and others},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}""",
        description=(
            "Votes of experts (and of the paper's authors) on answers of six models to the 80 questions of MT-bench, "
            "about the first or the second turn. Voters disagree: the configuration `votes` keeps each vote under its "
            "pseudonym. A pair of the second turn has the follow-up question inside its answers, because the histories "
            "differ. Votes of GPT-4, which upstream has too, are left out."
        ),
        splits="one, test: upstream has no other. `group` is the question.",
        tags=("human-feedback", "llm-as-a-judge"),
    )

    def _shape(self) -> Features:
        text, whole = Value("string"), Value("int64")
        extra = {"chosen_model": text, "rejected_model": text, "turn": whole}
        if self.config.name == "votes":
            return features.preference(extra=extra | {"pair": text, "voter": text, "tie": Value("bool")})
        return features.preference(extra=extra | {"votes_chosen": whole, "votes_rejected": whole, "votes_tie": whole})

    def _sources(self) -> dict[str, Sequence[Source]]:
        return {"test": (self.FILE,)}

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
        del split
        make = self._votes if self.config.name == "votes" else self._majority
        for pair in _pairs(part, tally):
            yield from make(pair, part, tally)

    def _row(self, pair: _Pair, better: int, part: Part, id_: str) -> dict[str, Any]:
        return {
            "prompt": pair.prompt,
            "chosen": pair.answers[better],
            "rejected": pair.answers[1 - better],
            "chosen_model": pair.models[better],
            "rejected_model": pair.models[1 - better],
            "turn": pair.turn,
            **self._metadata(part, id=id_, group=f"mt_bench:{pair.question}"),
        }

    def _votes(self, pair: _Pair, part: Part, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
        del tally
        for vote in pair.votes:
            row = self._row(pair, vote.preferred or 0, part, f"{pair.id}:{vote.voter}")
            yield vote.row, row | {"pair": pair.id, "voter": vote.voter, "tie": vote.preferred is None}

    def _majority(self, pair: _Pair, part: Part, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
        better, (first, *others) = pair.majority, pair.votes
        for vote in others:
            tally.drop("another vote on a pair that is counted already", file=part.name, row=vote.row)
        if better is None:
            tally.drop("neither answer has most of the votes", file=part.name, row=first.row)
            return
        counts = Counter(vote.preferred for vote in pair.votes)
        votes = {"votes_chosen": counts[better], "votes_rejected": counts[1 - better], "votes_tie": counts[None]}
        yield first.row, self._row(pair, better, part, pair.id) | votes


def _pairs(part: Part, tally: Tally) -> list[_Pair]:
    """Return the pairs of a file with their votes, in the order of their first vote."""
    found: dict[str, _Pair] = {}
    for row, record in reading.parquet_rows(part.path, file=part.name):
        reading.check_keys(record, _KEYS, file=part.name, row=row)
        reading.check_texts({name: record[name] for name in _TEXTS}, file=part.name, row=row)
        pair, swapped = _pair(record, part, row)
        if pair.answers[0] == pair.answers[1]:
            tally.drop("both answers are the same text", file=part.name, row=row)
            continue
        known = found.setdefault(pair.id, pair)
        if (known.prompt, known.answers) != (pair.prompt, pair.answers):
            raise DataError("has different texts from an earlier vote on the same pair", part.name, row)
        if record["judge"] in {vote.voter for vote in known.votes}:
            tally.drop("the same voter again", file=part.name, row=row)
            continue
        known.votes.append(_Vote(row, record["judge"], _preferred(record, swapped, part, row)))
    return list(found.values())


def _preferred(record: dict[str, Any], swapped: bool, part: Part, row: int) -> int | None:
    winner = record["winner"]
    if winner.startswith("tie"):
        return None
    if winner not in _SIDES:
        raise DataError(f"{winner!r} is neither a side nor a tie", part.name, row, "winner")
    return _SIDES.index(winner) ^ int(swapped)


def _pair(record: dict[str, Any], part: Part, row: int) -> tuple[_Pair, bool]:
    """Return the pair that a vote is about, models by name, and whether upstream had them the other way round."""
    turn = record["turn"]
    if turn not in (1, 2):
        raise DataError(f"{turn!r} is neither 1 nor 2", part.name, row, "turn")
    sides = sorted((record[f"model_{side}"], _turns(record, side, turn, part, row)) for side in "ab")
    (one, ours), (other, theirs) = ((model, turns) for model, turns in sides)
    if ours[0] != theirs[0]:
        raise DataError("the two conversations begin with different questions", part.name, row, "conversation_b")
    shared = 1 if turn == 1 or ours[1] != theirs[1] else 3
    messages = [[message(role, text) for role, text in turns] for turns in (ours, theirs)]
    pair = _Pair(
        id=f"{record['question_id']}:{turn}:{one}:{other}",
        question=record["question_id"],
        turn=turn,
        models=(one, other),
        prompt=messages[0][:shared],
        answers=(messages[0][shared:], messages[1][shared:]),
    )
    return pair, one != record["model_a"]


def _turns(record: dict[str, Any], side: str, turn: int, part: Part, row: int) -> list[tuple[str, str]]:
    """Return the messages of one side up to the answer that was voted on."""
    key = f"conversation_{side}"
    turns = [(said["role"], said["content"]) for said in record[key] or ()][: 2 * turn]
    if [role for role, _ in turns] != list(_ROLES) * turn or any(type(text) is not str for _, text in turns):
        raise DataError(f"is not {turn} turns of user and assistant", part.name, row, key)
    return turns
