"""AndroidControl: people's steps towards a goal on an Android phone, and ratings of right and made wrong actions.

Upstream is 20 gzipped TFRecords (50 GB), each with episodes of all splits. A folder with ``test_text_side.jsonl``, the
goals, instructions, actions and target boxes of the test split as JSON lines, does for the configurations without
screenshots. Source: arXiv 2406.03679 and github.com/google-research/google-research/tree/master/android_control.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from datasets import Features, List, Value

from datasets_builders import features
from datasets_builders.android_actions import Action, Step, wrong_action
from datasets_builders.android_episodes import Episode, episode_ids, text_episodes, tfrecord_episodes
from datasets_builders.builder import Builder, Config, Part, configs
from datasets_builders.errors import BuilderError, DataError
from datasets_builders.sources import Origin, Source, lies

if TYPE_CHECKING:
    from datasets_builders.tally import Tally

__all__ = ["AndroidControl", "AndroidControlConfig"]

_URL = "https://storage.googleapis.com/gresearch/"
_STEPS = {"train": 74714, "validation": 690, "test": 8444}
_RATINGS = {split: 2 * count for split, count in _STEPS.items()}
_SPLITS_SHA256 = "aa0943b0b4eb354796f3daf4a6e36836918c71254db2d4060b45ae98213ad2b6"
_CITATION = """@inproceedings{li2024effects,
  title = {On the Effects of Data Scale on {UI} Control Agents},
  author = {Li, Wei and Bishop, William and Li, Alice and Rawles, Chris and Campbell-Ajala, Folawiyo and others},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024}
}"""

Row = dict[str, Any]


def _source(name: str, sha256: str | None = None) -> Source:
    return Source(f"android_control/{name}", f"{_URL}android_control/{name}", sha256)


_SHARDS = tuple(_source(f"android_control-{number:05}-of-00020") for number in range(20))
_SPLITS = _source("splits.json", _SPLITS_SHA256)
_SUBSPLITS = _source("test_subsplits.json")
_TEXT_SIDE = Source("test_text_side.jsonl")


@dataclass(eq=False)
class AndroidControlConfig(Config):
    """One configuration.

    Attributes:
        boxes: Read the accessibility trees, which give target boxes and the other elements of a screen; they are most
            of the parsing.
        seed: Of the wrong actions.
    """

    boxes: bool = True
    seed: int = 0


def _prompt(goal: str, step: Step, before: Sequence[Action]) -> str:
    """Return the request for one action; coordinates are pixels of the screen."""
    size = [f"Screen: {step.width} x {step.height} pixels"] if step.width and step.height else []
    done = [action.text_form() for action in before] or ["none"]
    lines = [f"Goal: {goal}", *size, "Actions so far:", *done, f"Next step: {step.instruction}"]
    return "\n".join([*lines, "Answer with the next action as one JSON object."])


class AndroidControl(Builder):
    """Steps of people who control an Android phone."""

    BUILDER_CONFIG_CLASS = AndroidControlConfig
    BUILDER_CONFIGS = configs(
        AndroidControlConfig,
        steps="the screenshot, goal and instruction of a step, and the action taken",
        steps_text="as steps, without the screenshot",
        ratings="as steps, twice: with the action taken (label true) and with one made to be wrong",
        ratings_text="as ratings, without the screenshot",
    )
    DEFAULT_CONFIG_NAME = "steps"
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "steps": _STEPS,
        "steps_text": _STEPS,
        "ratings": _RATINGS,
        "ratings_text": _RATINGS,
    }
    BATCH_ROWS = 64
    ORIGIN = Origin(
        name="android_control",
        title="AndroidControl",
        homepage="https://github.com/google-research/google-research/tree/master/android_control",
        revision="",
        licence="apache-2.0",
        terms="Apache-2.0 according to upstream's README; the screenshots show apps of third parties.",
        citation=_CITATION,
        description=(
            "Steps of 15,283 demonstrations by people in 833 Android apps: a goal, an instruction for the step, a "
            "screenshot and the action taken. Upstream has no wrong actions; those of the ratings are made here: "
            "another element of the same screen, another step's action, another text, app, direction or type, "
            "as the column `negative` says. Coordinates are pixels: divide by `screen_width` and `screen_height`. "
            "The words of an instruction can contradict the direction of a scroll ('swipe up' is a scroll down). "
            "`target_box` is the smallest element under a click; `candidate_boxes` are all of them. The subsplits of "
            "the test split overlap, so an episode can be in several."
        ),
        splits="Upstream's own, by episode (splits.json).",
        publishing="private",
        tags=("user-interface", "agents"),
    )

    @property
    def _vision(self) -> bool:
        return not self.config.name.endswith("_text")

    @property
    def _rated(self) -> bool:
        return bool(self.config.name.startswith("ratings"))

    def _shape(self) -> Features:
        action = {name: Value("int64" if name in ("x", "y") else "string") for name in Action.__dataclass_fields__}
        extra: Row = {
            "episode_id": Value("int64"),
            "step": Value("int64"),
            "goal": Value("string"),
            "step_instruction": Value("string"),
            "action": action,
            "target_box": List(Value("int64")),
            "candidate_boxes": List(List(Value("int64"))),
            "screen_width": Value("int64"),
            "screen_height": Value("int64"),
            "subsplits": List(Value("string")),
        }
        if self._rated:
            return features.rating(vision=self._vision, extra={**extra, "negative": Value("string")})
        return features.demonstration(vision=self._vision, extra=extra)

    def _shards(self) -> Sequence[Source]:
        """Return the shards that lie in ``data_dir``; all of upstream's if none does."""
        return [shard for shard in _SHARDS if lies(shard, self.config.data_dir)] or _SHARDS

    def _text_side(self) -> bool:
        return self._shards() is _SHARDS and lies(_TEXT_SIDE, self.config.data_dir)

    def _sources(self) -> dict[str, Sequence[Source]]:
        if self._text_side():
            if self._vision:
                raise BuilderError(
                    f"{_TEXT_SIDE.path} has no screenshots", f"choose {self.config.name}_text or give the TFRecords"
                )
            return {"test": [_TEXT_SIDE]}
        return dict.fromkeys(_STEPS, self._shards())

    def _extra(self) -> Sequence[Source]:
        return () if self._text_side() else (_SPLITS, _SUBSPLITS)

    def _survey(self, _parts: Sequence[Part]) -> None:
        """Read which episodes are in which split."""
        self._ids: dict[str, frozenset[int]] = {}
        self._subsplits: dict[str, frozenset[int]] = {}
        if self._text_side():
            return
        self._ids = episode_ids(self.path_of(_SPLITS), file=_SPLITS.path)
        self._subsplits = episode_ids(self.path_of(_SUBSPLITS), file=_SUBSPLITS.path)
        if self._ids.keys() != _STEPS.keys():
            raise DataError(f"has splits {sorted(self._ids)}, expected {sorted(_STEPS)}", _SPLITS.path)
        if len(frozenset().union(*self._ids.values())) < sum(map(len, self._ids.values())):
            raise DataError("an episode is in two splits", _SPLITS.path)

    def _episodes(self, split: str, part: Part) -> Iterator[tuple[int, Episode | int]]:
        if part.name == _TEXT_SIDE.path:
            return text_episodes(part.path, file=part.name)
        return tfrecord_episodes(
            part.path, file=part.name, wanted=self._ids[split], screenshots=self._vision, trees=self.config.boxes
        )

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, Row]]:
        for row, episode in self._episodes(split, part):
            if isinstance(episode, int):
                if split == "train" and not any(episode in ids for ids in self._ids.values()):
                    tally.note("episode in no split, left out", file=part.name, row=row)
                continue
            if not episode.steps:
                tally.note("episode without steps", file=part.name, row=row)
            for index in range(len(episode.steps)):
                made = self._answers(episode, index)
                if not made:
                    for _ in ("right", "wrong"):
                        tally.drop("no action that is wrong beyond doubt", file=part.name, row=row)
                shared = self._shared(episode, index)
                for suffix, action, label in made:
                    id_ = f"{episode.id}:{index}{suffix}"
                    answer = self._message("assistant", action.text_form())
                    metadata = self._metadata(part, id=id_, group=str(episode.id))
                    yield row, {**shared, **metadata, "completion": [answer], **label}

    def _message(self, role: str, text: str, *, images: int = 0) -> Row:
        return features.parts(role, text, images=images) if self._vision else features.message(role, text)

    def _answers(self, episode: Episode, index: int) -> list[tuple[str, Action, Row]]:
        """Return the answers to a step that become rows: an ending for the id, the action, and what is said of it."""
        step = episode.steps[index]
        if not self._rated:
            return [("", step.action, {})]
        key = (str(self.config.seed), str(episode.id), str(index))
        wrong = wrong_action(step, goal=episode.goal, episode=episode.steps, key=key)
        if wrong is None:
            return []
        kind, action = wrong
        return [
            (":right", step.action, {"label": True, "negative": None}),
            (":wrong", action, {"label": False, "negative": kind}),
        ]

    def _shared(self, episode: Episode, index: int) -> Row:
        """Return what all answers to a step share."""
        step = episode.steps[index]
        text = _prompt(episode.goal, step, [earlier.action for earlier in episode.steps[:index]])
        pictures = {"images": [{"bytes": step.screenshot, "path": None}]} if self._vision else {}
        return {
            "prompt": [self._message("user", text, images=len(pictures))],
            **pictures,
            "episode_id": episode.id,
            "step": index,
            "goal": episode.goal,
            "step_instruction": step.instruction,
            "action": step.action.row(),
            "target_box": step.target_box,
            "candidate_boxes": step.boxes,
            "screen_width": step.width,
            "screen_height": step.height,
            "subsplits": [name for name, ids in sorted(self._subsplits.items()) if episode.id in ids],
        }
