"""Stanford Human Preferences: two comments on a Reddit post, the one that collected more votes first.

Source: the data set card of stanfordnlp/SHP, arXiv 2110.08420.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from datasets import Features, Value

from datasets_builders import features, reading
from datasets_builders.builder import Batch, Builder, Config, Part, configs
from datasets_builders.columns import Conversations, text_table
from datasets_builders.errors import BuilderError, DataError
from datasets_builders.sources import Origin, Source
from datasets_builders.splits import fraction

if TYPE_CHECKING:
    from datasets_builders.tally import Tally

__all__ = ["DOMAINS", "Shp", "ShpConfig"]

_REVISION = "e94b5f32602712d78ed494fe79105b1959396686"
_URL = f"https://huggingface.co/datasets/stanfordnlp/SHP/resolve/{_REVISION}"
DOMAINS = (
    *("askacademia", "askanthropology", "askbaking", "askcarguys", "askculinary", "askdocs", "askengineers"),
    *("askhistorians", "askhr", "askphilosophy", "askphysics", "askscience", "asksciencefiction"),
    *("asksocialscience", "askvet", "changemyview", "explainlikeimfive", "legaladvice"),
)
_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("post_id", "domain", "history", "c_root_id_A", "c_root_id_B", "human_ref_A", "human_ref_B"), (str,)
    ),
    **dict.fromkeys(("created_at_utc_A", "created_at_utc_B", "score_A", "score_B", "labels"), (int,)),
    **dict.fromkeys(("upvote_ratio", "seconds_difference", "score_ratio"), (int, float)),
}
_KEYS = frozenset(_TYPES)
_USER, _ASSISTANT = ("user",), ("assistant",)


@dataclass(eq=False)  # compared as datasets.BuilderConfig does
class ShpConfig(Config):
    """Options of SHP; both change the train split only, so that test figures stay comparable.

    Attributes:
        min_score_ratio: Drop training pairs whose better comment has less than this many times the other's votes.
        max_pairs_per_post: Keep at most this many training pairs of a post, those of smallest hash; 0 keeps all.
    """

    min_score_ratio: float = 0.0
    max_pairs_per_post: int = 0


class Shp(Builder):
    """Pairs of comments by domain (subreddit), or of all 18 domains."""

    BUILDER_CONFIG_CLASS = ShpConfig
    BUILDER_CONFIGS = configs(
        ShpConfig,
        all="a post and two comments on it, the one with more votes first; all domains",
        **{domain: f"a post of r/{domain} and two comments on it, the one with more votes first" for domain in DOMAINS},
    )
    DEFAULT_CONFIG_NAME = "all"
    UNASKED = ("all",)
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "all": {"train": 348718, "validation": 18436, "test": 18409},
    }
    ORIGIN = Origin(
        name="shp",
        title="Stanford Human Preferences",
        homepage="https://huggingface.co/datasets/stanfordnlp/SHP",
        revision=_REVISION,
        licence="other",
        terms="Upstream states no licence: text by Reddit users, under the terms of Reddit's API.",
        citation="""@inproceedings{ethayarajh2022understanding,
  title = {Understanding Dataset Difficulty with {V}-Usable Information},
  author = {Ethayarajh, Kawin and Choi, Yejin and Swayamdipta, Swabha},
  booktitle = {International Conference on Machine Learning},
  year = {2022}
}""",
        description=(
            "Questions and instructions posted to 18 subreddits, with two top-level comments; the chosen one has more "
            "votes although it was not written earlier. It measures what readers found helpful, not harmlessness, and "
            "votes follow votes. A comment recurs in many pairs: train one epoch, on a few pairs a post. Cut the post "
            "to fit, never the comments."
        ),
        splits="upstream's, by post within each subreddit. `group` is the post's id.",
        warning="Medical, legal and other advice by strangers; coarse language.",
        publishing="private",
        tags=("human-feedback",),
    )

    def _shape(self) -> Features:
        whole, real = Value("int64"), Value("float64")
        extra = {"domain": Value("string"), "score_chosen": whole, "score_rejected": whole}
        return features.preference(extra=extra | {"score_ratio": real, "seconds_difference": real})

    def _sources(self) -> dict[str, Sequence[Source]]:
        domains = DOMAINS if self.config.name == "all" else (self.config.name,)
        return {
            split: tuple(Source(path, f"{_URL}/{path}") for path in (f"{domain}/{split}.json" for domain in domains))
            for split in ("train", "validation", "test")
        }

    def _survey(self, parts: Sequence[Part]) -> None:
        """Find the pairs to keep where their number is limited."""
        if self.config.min_score_ratio < 0 or self.config.max_pairs_per_post < 0:
            raise BuilderError("min_score_ratio and max_pairs_per_post cannot be negative", "give 0 to keep all pairs")
        self._kept: dict[str, set[str]] = {}
        limit = self.config.max_pairs_per_post
        for part in parts if limit else ():
            ids: dict[str, list[str]] = defaultdict(list)
            for _, record in reading.json_lines(part.path, file=part.name):
                if record["score_ratio"] >= self.config.min_score_ratio:
                    ids[record["post_id"]].append(_id(record))
            chosen = (heapq.nsmallest(limit, set(of_post), key=fraction) for of_post in ids.values())
            self._kept[part.name] = {id_ for some in chosen for id_ in some}

    def _reason(self, record: dict[str, Any], id_: str, part: Part) -> str | None:
        """Return why a training pair is left out, if it is."""
        if record["score_ratio"] < self.config.min_score_ratio:
            return f"score_ratio below {self.config.min_score_ratio:g}"
        if self.config.max_pairs_per_post and id_ not in self._kept[part.name]:
            return f"more than {self.config.max_pairs_per_post} pairs of one post"
        return None

    def _batches(self, split: str, part: Part, tally: Tally) -> Iterator[Batch]:
        seen = reading.Seen()
        for first, lines in reading.text_blocks(part.path, file=part.name):
            prompts, chosen, rejected = Conversations(), Conversations(), Conversations()
            rows, ids, groups, scores = [], [], [], []
            again = seen.again(lines)
            for row, line in enumerate(lines, first):
                if row - first in again:
                    tally.drop("the same row again", file=part.name, row=row)
                    continue
                record = reading.parse_line(line, file=part.name, row=row, tally=tally)
                _check(record, part, row)
                id_ = _id(record)
                if split == "train" and (reason := self._reason(record, id_, part)):
                    tally.drop(reason, file=part.name, row=row)
                    continue
                better, worse = "AB" if record["labels"] == 1 else "BA"
                high, low = record[f"score_{better}"], record[f"score_{worse}"]
                if low > 0 and abs(record["score_ratio"] - high / low) > 0.01 * record["score_ratio"]:
                    tally.note("score_ratio is not the ratio of the scores", file=part.name, row=row)
                rows.append(row)
                prompts.add(_USER, [record["history"]])
                chosen.add(_ASSISTANT, [record[f"human_ref_{better}"]])
                rejected.add(_ASSISTANT, [record[f"human_ref_{worse}"]])
                ids.append(id_)
                groups.append(record["post_id"])
                scores.append((high, low, float(record["score_ratio"]), float(record["seconds_difference"])))
            named = ("score_chosen", "score_rejected", "score_ratio", "seconds_difference")
            columns: dict[str, Conversations | Sequence[Any]] = {
                **{"prompt": prompts, "chosen": chosen, "rejected": rejected},
                **self._columns(part, ids=ids, groups=groups),
                "domain": [part.name.split("/")[0]] * len(rows),
                **{name: [score[at] for score in scores] for at, name in enumerate(named)},
            }
            yield Batch(rows, text_table(columns, self.info.features))


def _id(record: dict[str, Any]) -> str:
    return f"{record['post_id']}:{record['c_root_id_A']}:{record['c_root_id_B']}"


def _check(record: Any, part: Part, row: int) -> None:
    reading.check_keys(record, _KEYS, file=part.name, row=row)
    for key, value in record.items():
        if type(value) not in _TYPES[key]:
            raise DataError(f"is a {type(value).__name__}", part.name, row, key)
    if record["labels"] not in (0, 1):
        raise DataError(f"{record['labels']} is neither 0 nor 1", part.name, row, "labels")
