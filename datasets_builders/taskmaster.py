"""Taskmaster Coffee (TM-4) and Ticketing (TM-3): thumbs up or down for one agent turn, pairs of them, and dialogs.

Upstream has no splits, and its rows are the successive turns of one conversation without a common id, so a random
split leaks almost totally. Rows are grouped by contexts of which one is a prefix of another, and a group's hash decides
its split. Source: arXiv 2403.10704 and the files themselves.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from datasets import Features, Value

from datasets_builders import features, reading
from datasets_builders.builder import Builder, Config, Part, configs
from datasets_builders.errors import BuilderError, DataError
from datasets_builders.features import message, tool_call, with_calls_as_text
from datasets_builders.sources import Origin, Source
from datasets_builders.splits import SHARES, assign, prefix_groups, stable_id
from datasets_builders.taskmaster_dialogs import opening_of, turns_of

if TYPE_CHECKING:
    from datasets_builders.tally import Tally

__all__ = ["TaskmasterCoffee", "TaskmasterTicketing"]

_REVISION = "d92cb6af3005f1dc09c39e75e7daf4a04905e00b"
_CITATION = """@article{sidahmed2024perl,
  title = {{PERL}: Parameter Efficient Reinforcement Learning from Human Feedback},
  author = {Sidahmed, Hakim and Phatale, Samrat and Hutcheson, Alex and Lin, Zhuonan and others},
  journal = {arXiv preprint arXiv:2403.10704},
  year = {2024}
}"""
_RATING_KEYS = frozenset({"conversation_id", "context", "generation", "reward"})
_HOME = "https://github.com/google-research-datasets/Taskmaster/tree"
_RATINGS = "one agent turn after its context, with thumbs up (label true) or down"
_PAIRS = "two agent turns after the same context, one rated up and one down"
_DIALOGS = "whole dialogs of people, to imitate"
_SPLITS = (
    "upstream has none. Rows whose contexts are prefixes of one another are one group (dialogs: those that open with "
    "the same words), and the sha256 of the group decides: about 80 % train, 10 % validation, 10 % test."
)
_TAGS = ("dialogue", "tool-use", "human-feedback")

_TURNS = ("prompt", "completion", "chosen", "rejected")

Row = dict[str, Any]


def _files(folder: str, checksums: Sequence[str]) -> tuple[Source, ...]:
    """Return the numbered files of a folder, pinned by sha256 or by git blob id."""
    url = f"https://raw.githubusercontent.com/google-research-datasets/Taskmaster/{_REVISION}"
    stem = folder.rsplit("/", 1)[1]
    paths = [f"{folder}/{stem}_{number:02}.json" for number in range(len(checksums))]
    return tuple(
        Source(path, f"{url}/{path}", **{"sha256" if len(pinned) == 64 else "git_sha1": pinned})
        for path, pinned in zip(paths, checksums, strict=True)
    )


def _message(turn: Any, part: Part, row: int, field: str) -> Row:
    """Turn one upstream turn into a message; an API call becomes a tool call, its response a tool message."""
    role = turn.get("role") if isinstance(turn, dict) else None
    match role, turn:
        case "user", {"text": str(text), **rest}:
            said = message("user", text)
        case "agent", {"text": str(text), **rest}:
            said = message("assistant", text)
        case "agent", {"api": dict(api), **rest} if len(api) == 1:
            [(name, arguments)] = api.items()
            if not isinstance(arguments, dict):
                raise DataError(f"arguments of {name!r} are not an object", part.name, row, field)
            said = message("assistant", "", tool_calls=[tool_call(name, arguments)])
        case "api", {"response": dict(response), **rest} if len(response) == 1:
            [(name, content)] = response.items()
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            said = message("tool", text, name=name)
        case _:
            raise DataError(f"unknown kind of turn: {str(turn)[:80]}", part.name, row, field)
    if rest.keys() != {"role"}:
        raise DataError(
            f"unexpected key {min(str(key) for key in rest if key != 'role')!r} in a turn", part.name, row, field
        )
    return said


def _pieces(turns: Sequence[Row]) -> tuple[str, ...]:
    """Return each turn as text that is equal for equal turns, however they were written."""
    return tuple(json.dumps(turn, sort_keys=True) for turn in turns)


@dataclass(eq=False)  # compared as datasets.BuilderConfig does
class TaskmasterConfig(Config):
    """Options of Taskmaster.

    Attributes:
        format_calls: How a call of a tool is kept: ``tool_calls``, TRL's form, or ``text``, as JSON in the turn's
            content, for trainers whose chat template drops ``tool_calls``.
    """

    format_calls: str = "tool_calls"


class _Taskmaster(Builder):
    """What both corpora share: the reward files have the same form."""

    BUILDER_CONFIG_CLASS = TaskmasterConfig

    REWARDS: ClassVar[tuple[Source, ...]]
    DIALOGS: ClassVar[tuple[Source, ...]]
    SALT: ClassVar[str]
    DEFAULT_CONFIG_NAME = "ratings"

    def _shape(self) -> Features:
        match self.config.name:
            case "dialogs":
                return features.demonstration(extra={"scenario": Value("string")})
            case "pairs":
                return features.preference()
            case _:
                return features.rating()

    def _sources(self) -> dict[str, Sequence[Source]]:
        return dict.fromkeys(SHARES, self.DIALOGS if self.config.name == "dialogs" else self.REWARDS)

    def _records(self, part: Part) -> Iterator[tuple[int, Row]]:
        """Yield the rows of a reward file, with ``context`` and ``generation`` parsed and ``key`` telling contexts."""
        for row, record in enumerate(reading.json_array(part.path, file=part.name)):
            reading.check_keys(record, _RATING_KEYS, file=part.name, row=row)
            if record["reward"] not in (0.0, 1.0):
                raise DataError(f"{record['reward']!r} is neither 0.0 nor 1.0", part.name, row, "reward")
            turns = reading.parse_object(record["context"], file=part.name, row=row, field="context")
            if not isinstance(turns, list):
                raise DataError("is not a list of turns", part.name, row, "context")
            generation = reading.parse_object(record["generation"], file=part.name, row=row, field="generation")
            yield row, record | {"context": turns, "generation": generation, "key": _pieces(turns)}

    def _survey(self, parts: Sequence[Part]) -> None:
        """Name the group of each context, and find who was rated up and down after it."""
        if self.config.name == "dialogs":
            return
        self._ratings: dict[tuple[str, ...], dict[bool, dict[str, Row]]] = defaultdict(lambda: {True: {}, False: {}})
        for part in parts:
            for _, record in self._records(part):
                [answer] = _pieces([record["generation"]])
                self._ratings[record["key"]][record["reward"] == 1.0].setdefault(answer, record)
        contexts = list(self._ratings)
        members: dict[int, list[tuple[str, ...]]] = defaultdict(list)
        for context, head in zip(contexts, prefix_groups(contexts), strict=True):
            members[head].append(context)
        self._groups = {context: stable_id(*min(group)) for group in members.values() for context in group}

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, Row]]:
        form = self.config.format_calls
        if form not in ("tool_calls", "text"):
            raise BuilderError(f"format_calls={form!r} is not known", "choose 'tool_calls' or 'text'")
        made = (self._dialogs if self.config.name == "dialogs" else self._rated)(split, part, tally)
        for row, cells in made:
            for column in _TURNS if form == "text" else ():
                if column in cells:
                    cells[column] = with_calls_as_text(cells[column])
            yield row, cells

    def _dialogs(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, Row]]:
        """Yield whole dialogs: what comes before the first assistant turn is the prompt."""
        for row, record in enumerate(reading.json_array(part.path, file=part.name)):
            opening = opening_of(record, part, row)
            group = stable_id(opening.strip().lower())
            if assign(group, salt=self.SALT) != split:
                continue
            turns = turns_of(record, part, row, tally)
            start = next((at for at, turn in enumerate(turns) if turn["role"] == "assistant"), len(turns))
            if start == len(turns):
                tally.drop("no assistant turn", file=part.name, row=row)
                continue
            yield (
                row,
                {
                    "prompt": turns[:start],
                    "completion": turns[start:],
                    **self._metadata(part, id=record["conversation_id"], group=group),
                    "scenario": record["scenario"],
                },
            )

    def _rated(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, Row]]:
        for row, record in self._records(part):
            group = self._groups[record["key"]]
            if assign(group, salt=self.SALT) != split:
                continue
            prompt = [_message(turn, part, row, "context") for turn in record["context"]]
            if not prompt:
                # Chat templates and trainers take no conversation without a turn.
                tally.note("an empty context, shown as one empty user turn", file=part.name, row=row)
                prompt = [message("user", "")]
            if self.config.name == "pairs":
                yield from self._pairs(row, record, prompt, part, tally)
                continue
            yield (
                row,
                {
                    "prompt": prompt,
                    "completion": [_message(record["generation"], part, row, "generation")],
                    "label": record["reward"] == 1.0,
                    **self._metadata(part, id=record["conversation_id"], group=group),
                },
            )

    def _pairs(self, row: int, record: Row, prompt: list[Row], part: Part, tally: Tally) -> Iterator[tuple[int, Row]]:
        """Yield the pairs of which this row is the better answer; equal answers count once."""
        [answer] = _pieces([record["generation"]])
        ratings = self._ratings[record["key"]]
        ups, downs = ratings[True], ratings[False]
        if record["reward"] != 1.0 or ups[answer]["conversation_id"] != record["conversation_id"]:
            return
        if answer in downs:
            tally.note("rated both up and down, so in no pair", file=part.name, row=row)
            return
        for other, worse in downs.items():
            if other in ups:
                continue
            yield (
                row,
                {
                    "prompt": prompt,
                    "chosen": [_message(record["generation"], part, row, "generation")],
                    "rejected": [_message(worse["generation"], part, row, "generation")],
                    **self._metadata(
                        part,
                        id=f"{record['conversation_id']}:{worse['conversation_id']}",
                        group=self._groups[record["key"]],
                    ),
                },
            )


class TaskmasterCoffee(_Taskmaster):
    """Taskmaster-4: ordering at a coffee bar."""

    BUILDER_CONFIGS = configs(TaskmasterConfig, ratings=_RATINGS, pairs=_PAIRS, dialogs=_DIALOGS)
    SALT = "taskmaster_coffee"
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "ratings": {"": 3228},
        "pairs": {"": 617},
        "dialogs": {"": 3710},
    }
    REWARDS = _files(
        "TM-4-2024/reward",
        [
            "79f809857b90e8afe28c542dbcbdea79a1a1e365aa4626b6ec2fdc37785a9f24",
            "818fe4604d23cbb3b77aebf98f28300ae411ca3305a4b730d19bd8ff69ab9455",
            "433851379c7143299b2570ffc7c40a8f57ddabf0c8278ad123da7a7dac64c867",
            "d2f96717912652d3bd0a7aa907aa0b798aa35465e5ee5a768f0de118d08fe149",
            "73ae7f65dc98f1906eac243cf95cc75f7b6489ef5e4a7cf8c787f4704672a7df",
            "8d0c124fd06b261596fc72e188fbd326d1b5dd559ecbf3a585a513c1f3e12cf1",
            "55ce13a025dcfb842ef2de75e4cfafb07a1f1938905d5c4e59e5b440a7ce624c",
        ],
    )
    DIALOGS = _files(
        "TM-4-2024/data",
        [
            "d9440d1a46e6ba9f8c680a77a7dc7a42b0b3266ef555aeac6160b0d5ac37c647",
            "2577d6af1c9d7cc5540d5193206d35b000ebeff59925c1076ce724f1a85b8964",
            "b353618d9709c6bdeafa08682526e04047ad28d5f9acd65ed7878482a90d49df",
            "45fe8eb52af674b69972d172c911f9cfd6f5044b61338b524997edf1a4861641",
            "bf5f2e3704aab48f657ec97f8d9bf041abec17a1cd3e56206c3424910875088d",
            "3d158e9880bfea3e5db18d008cf1f726f1d802eca28c2b71fc291274b9ee60ba",
            "dd0546a6aaf430a812f4cfb5d8f9f0c823136ba2e77e78103b50a8e95080759c",
            "b61f11f3c950c330049906ae249e858503ec7c905fcad5b4a7edd851ccf07bbc",
        ],
    )
    ORIGIN = Origin(
        name="taskmaster_coffee",
        title="Taskmaster Coffee (TM-4 reward)",
        homepage=f"{_HOME}/{_REVISION}/TM-4-2024",
        revision=_REVISION,
        licence="cc-by-4.0",
        terms="CC BY 4.0 (Google Research).",
        citation=_CITATION,
        description=(
            "Turns of an assistant that takes orders at a coffee bar, text or API call, rated thumbs up (86 %) or "
            "down; pairs of an up-rated and a down-rated turn after the same context; and 3,710 dialogs written by "
            "people. A guess of the majority label scores 86 %, so report AUC or balanced accuracy. The share of "
            "thumbs up differs between upstream files (79 % in the first four, 97 % in the rest). 25 turns call an API "
            "with an empty name, 24 of them up-rated."
        ),
        splits=_SPLITS,
        tags=_TAGS,
    )


class TaskmasterTicketing(_Taskmaster):
    """Taskmaster-3: buying movie tickets."""

    BUILDER_CONFIGS = configs(TaskmasterConfig, ratings=_RATINGS, pairs=_PAIRS, dialogs=_DIALOGS)
    UNASKED = ("ratings", "pairs")  # the dialogs are 20 files more
    SALT = "taskmaster_ticketing/1"  # of two salts tried, the one with like sizes and like shares of thumbs up
    # Of the dialogs no count: upstream's README has said 24,083 and 23,789. The blob id of each file is pinned.
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {"ratings": {"": 3667}, "pairs": {"": 22}}
    REWARDS = _files(
        "TM-3-2020/reward",
        [
            "3b35c36b1df6f53142746e3921133971c4a0409cd56afcc4f4ec05b1bc1a9ee1",
            "4ae68457d5977160e77c4e01bd28f07ffdca0840947b0e4a1e9fb119d4150927",
            "b81ef285225471e2db8dbb5bedb58f4cf4da1c8aa1fb44ed29ff894f675a8953",
            "c7feda53f890074be86a7778efa672b5d70a9a323831304889815e2fc5dcb26c",
            "14a121bcc178ba9b5044d9ddde7fa21dd01e53b6382de4d9fbc19a86fdc756f2",
            "ad68debd6c9fec9a3f5fd6ad4990300e5e379ac283f7d400fad4b4cfc1b67b77",
            "a2e36d561ab8026d6771cae79e003e9bc3a674b27cda8eedf2e78b5f24ad3396",
            "323cce6a474f98003bf3661dabde98fbf916cf2ffb49cbd52d36d35fbc09ffb2",
        ],
    )
    DIALOGS = _files(
        "TM-3-2020/data",
        [
            "241858d11f15b3391780a7c766c31f36d92772ea",
            "805ba58fdc161734096cef763fdfb06fd0da716a",
            "e3da4e95f3f1ac353fcd8b08067194020266b73d",
            "78951e736da85065d0431cf8cb0746599e681b30",
            "bac3a49c247b24dd37d8d272acd811752e736aad",
            "118c8cbb36f86d6ba33f7758417a414142b6b3c3",
            "a18961cdb84f787b13377dd19bc41e6412db513d",
            "02f7d3f53f56acd0132679d9c7089c09c238d7b4",
            "a43aa32ca46453bd286010359236e3f57e6a8766",
            "0718f9de20f0149acc6f1d97c7809e692c9792ca",
            "5294b6d16be5bce1ca81db7770579a3c203ac059",
            "533b309d58d1bd0cb634253fc094a83168078eab",
            "add2766e18712e04f50ad91adc4fa720c61427d3",
            "06eb7f86767edebde5b93e3b42aae741e0786f8c",
            "7f965f1f4a0ac216893b8eeb5e7ea9f5951355e4",
            "adbba4739a40d2578a9bd09ff8be208b5e35b110",
            "184309cd7c7efed8b0802b9811088567789d705a",
            "a663041a13286f17608808bd44c13e6a0973a5ea",
            "af7443f873fee79b94d8f65893e9edaed17900d8",
            "183e4912dc8751362bf4a157d8e93e661cd5dfed",
        ],
    )
    ORIGIN = Origin(
        name="taskmaster_ticketing",
        title="Taskmaster Ticketing (TM-3 reward)",
        homepage=f"{_HOME}/{_REVISION}/TM-3-2020",
        revision=_REVISION,
        licence="cc-by-4.0",
        terms="CC BY 4.0 (Google Research).",
        citation=_CITATION,
        description=(
            "Turns of an assistant that sells movie tickets, text or API call, rated thumbs up (16 %) or down; and the "
            "22 pairs that can be made of them, too few to train on. A guess of the majority label scores 84 %, so "
            "report AUC or balanced accuracy. A down-rated turn mostly stays in the conversation: later contexts hold "
            "the mistakes. Five turns are rated both up and down after the same context; all ratings are kept. "
            "The dialogs are the whole of Taskmaster-3 (TicketTalk), each written by one person for both sides."
        ),
        splits=_SPLITS,
        tags=_TAGS,
    )
