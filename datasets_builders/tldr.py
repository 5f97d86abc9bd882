"""Reddit TL;DR: comparisons of summaries, the posts with their authors' summaries, and ratings on four axes.

Upstream's files are JSON lines with missing keys where others would write null. Source: arXiv 2009.01325 and the
openai/summarize-from-feedback repository.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from datasets import Features, Value

from datasets_builders import features, reading
from datasets_builders.builder import Builder, Config, Part, configs
from datasets_builders.errors import DataError
from datasets_builders.features import message
from datasets_builders.sources import Origin, Source
from datasets_builders.splits import stable_id
from datasets_builders.tally import Tally

__all__ = ["Tldr", "query"]

_URL = "https://openaipublic.blob.core.windows.net/summarize-from-feedback"
_COMPARISONS = (
    *(f"batch{number}" for number in (*range(3, 21), 22)),
    *("batch0_cnndm", "cnndm0", "cnndm2", "edit_b2_eval_test"),
)
_AXES = ("cnndm1", "cnndm3", "cnndm4", "tldraxis1", "tldraxis2")
_NEWS_BATCHES = frozenset({"batch0_cnndm", "cnndm0", "cnndm2"})
_NEWS = "cnndm"
_HELD_OUT = {"train": 0, "valid1": 1, "valid2": 2}
_SPLIT_OF = {rank: split for split, rank in _HELD_OUT.items()}
_SCALES = ("overall", "accuracy", "coverage", "coherence")
_POST_KEYS = frozenset({"id", "subreddit", "title", "post", "summary"})
_COMPARISON_KEYS = frozenset({"info", "summaries", "choice", "worker", "batch", "split", "extra"})
_AXIS_KEYS = frozenset({"info", "summary", "worker", "batch", "split"})
_SUMMARY_KEYS = frozenset({"text", "policy"})
_INFO_KEYS = frozenset({"id", "post", "title", "subreddit", "site", "article"})

Row = dict[str, Any]


def _sources(folder: str, names: Sequence[str]) -> tuple[Source, ...]:
    return tuple(Source(f"{folder}/{name}", f"{_URL}/{folder}/{name}") for name in names)


def query(info: Row) -> str:
    """Return the text that asks for a summary; the same for comparisons, posts and axes.

    Comparisons and demonstrations must ask in one form, or a reward model meets prompts it was not trained on.
    """
    if info.get("post") is not None:
        return f"SUBREDDIT: r/{info['subreddit']}\n\nTITLE: {info['title']}\n\nPOST: {info['post']}\n\nTL;DR:"
    return f"TITLE: {info.get('title') or ''}\n\nARTICLE: {info['article']}\n\nTL;DR:"


class Tldr(Builder):
    """Summaries of Reddit posts, and of some news articles, with human preferences and ratings."""

    BUILDER_CONFIGS = configs(
        Config,
        comparisons="a post and two summaries of it, the one that a labeller chose and the other",
        posts="a post and its author's own summary, to imitate",
        axis="a post and one summary, rated 1 to 7 overall and on accuracy, coverage and coherence; for evaluation",
    )
    DEFAULT_CONFIG_NAME = "comparisons"
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "comparisons": {"train": 92858, _NEWS: 2284, "": 178944},
        "posts": {"train": 116722, "validation": 6447, "test": 6553},
        "axis": {"test": 6312, "": 14897},
    }
    ORIGIN = Origin(
        name="tldr",
        title="Reddit TL;DR with human feedback",
        homepage="https://github.com/openai/summarize-from-feedback",
        revision="",
        licence="other",
        terms=(
            "Feedback: modified MIT (OpenAI). Posts: CC BY 4.0 as published with the TL;DR corpus (Zenodo 1168855), "
            "written by Reddit users. Articles: CNN and Daily Mail, not licensed for sharing."
        ),
        citation="""@inproceedings{stiennon2020learning,
  title = {Learning to Summarize from Human Feedback},
  author = {Stiennon, Nisan and Ouyang, Long and Wu, Jeff and Ziegler, Daniel M. and Lowe, Ryan and others},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020}
}""",
        description=(
            "Summaries of Reddit posts, written by models and people, compared by labellers. A post occurs in many "
            "pairs, and several labellers rate one pair; labellers disagree. Summaries lose the space they begin with "
            "upstream, which the posts' own do not have. Nothing is cut to a token count: cut the post, never the "
            "summary."
        ),
        splits=(
            "upstream's. Select models on `valid1` and report on `valid2`; comparisons of news articles are a split "
            f"of their own, `{_NEWS}`. A comparison whose post also occurs in a later one of train, valid1, valid2 is "
            "dropped. `group` is the post's id."
        ),
        warning="Reddit posts: sex, violence, self-harm and private matters occur.",
        publishing="private",
        tags=("human-feedback", "summarization"),
    )

    def _shape(self) -> Features:
        text, whole = Value("string"), Value("int64")
        shared = {"corpus": text, "subreddit": text, "worker": text, "batch": text}
        match self.config.name:
            case "comparisons":
                policies = {"policy_chosen": text, "policy_rejected": text}
                return features.preference(extra=shared | policies | {"confidence": whole})
            case "axis":
                scales = dict.fromkeys(_SCALES, whole)
                return features.demonstration(extra=shared | {"policy": text} | scales | {"compatible": Value("bool")})
            case _:
                return features.demonstration(extra={"subreddit": text})

    @staticmethod
    def sources_of(config: str) -> dict[str, Sequence[Source]]:
        """Return the upstream files of each split of a configuration."""
        match config:
            case "comparisons":
                files = _sources("dataset/comparisons", [f"{name}.json" for name in _COMPARISONS])
                return dict.fromkeys((*_HELD_OUT, _NEWS), files)
            case "axis":
                files = _sources("dataset/axis_evals", [f"{name}.json" for name in _AXES])
                return dict.fromkeys(("valid1", "valid2", "test"), files)
            case _:
                names = {"train": "train", "validation": "valid", "test": "test"}
                return {split: _sources("datasets/tldr_3_filtered", [f"{name}.jsonl"]) for split, name in names.items()}

    def _sources(self) -> dict[str, Sequence[Source]]:
        return self.sources_of(self.config.name)

    def _records(self, part: Part, tally: Tally | None = None) -> Iterator[tuple[int, Row, str]]:
        """Yield the checked records of a file of labels, each with its split."""
        keys = _COMPARISON_KEYS if self.config.name == "comparisons" else _AXIS_KEYS
        known = self._sources().keys()
        for row, record in reading.json_lines(part.path, file=part.name, tally=tally):
            reading.check_keys(record, keys, file=part.name, row=row)
            info = record["info"]
            reading.check_keys(info, frozenset(), optional=_INFO_KEYS, file=part.name, row=row, within="info")
            if info.get("post") is None and info.get("article") is None:
                raise DataError("has neither a post nor an article", part.name, row, "info")
            split = _NEWS if self._is_news(record) and self.config.name == "comparisons" else record["split"]
            if split not in known:
                raise DataError(f"unknown split {split!r}", part.name, row, "split")
            yield row, record, split

    @staticmethod
    def _is_news(record: Row) -> bool:
        return record["batch"] in _NEWS_BATCHES or record["info"].get("post") is None

    @staticmethod
    def _group(info: Row) -> str:
        """Return the post's id; some articles have none, and then the text decides."""
        return str(info.get("id") or stable_id(info.get("post") or info["article"]))

    def _survey(self, parts: Sequence[Part]) -> None:
        """Find the latest split in which each post occurs."""
        self._latest: dict[str, int] = {}
        if self.config.name == "comparisons":
            for part in parts:
                for _, record, split in self._records(part):
                    if (rank := _HELD_OUT.get(split, 0)) > 0:
                        group = self._group(record["info"])
                        self._latest[group] = max(rank, self._latest.get(group, 0))

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, Row]]:
        if self.config.name == "posts":
            return self._posts(part, tally)
        return self._labelled(split, part, tally)

    def _posts(self, part: Part, tally: Tally) -> Iterator[tuple[int, Row]]:
        for row, record in reading.json_lines(part.path, file=part.name, tally=tally):
            reading.check_keys(record, _POST_KEYS, file=part.name, row=row)
            reading.check_texts(record, file=part.name, row=row)
            content = {
                "prompt": [message("user", query(record))],
                "completion": [message("assistant", record["summary"].strip())],
                **self._metadata(part, id=record["id"], group=record["id"]),
            }
            yield row, content | {"subreddit": record["subreddit"]}

    def _labelled(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, Row]]:
        """Yield comparisons or axis ratings; a label that is there twice, labeller and all, is taken once."""
        make = self._comparison if self.config.name == "comparisons" else self._axis
        seen = reading.Seen()
        mended = Tally()
        for row, record, its_split in self._records(part, mended):
            notes, mended.notes = mended.notes, Counter()
            if its_split != split:
                continue
            for what in notes:
                tally.note(what, file=part.name, row=row)
            group, id_ = self._group(record["info"]), stable_id(json.dumps(record, sort_keys=True))
            latest = self._latest.get(group, 0)
            if seen.again([id_]):
                tally.drop("the same label again", file=part.name, row=row)
            elif latest > _HELD_OUT.get(split, latest):
                tally.drop(f"its post is also in {_SPLIT_OF[latest]}", file=part.name, row=row)
            elif isinstance(made := make(record, part, row), str):
                tally.drop(made, file=part.name, row=row)
            else:
                info = record["info"]
                yield (
                    row,
                    {
                        "prompt": [message("user", query(info))],
                        **made,
                        **self._metadata(part, id=id_, group=group),
                        "corpus": "news" if self._is_news(record) else "tldr",
                        "subreddit": info.get("subreddit"),
                        "worker": record["worker"],
                        "batch": record["batch"],
                    },
                )

    @staticmethod
    def _comparison(record: Row, part: Part, row: int) -> Row | str:
        """Return the columns of a comparison, or why there is none."""
        summaries, choice = record["summaries"], record["choice"]
        if len(summaries) != 2 or choice not in (0, 1):
            raise DataError(f"{len(summaries)} summaries and choice {choice!r}", part.name, row, "choice")
        for summary in summaries:
            optional = {"note"}
            reading.check_keys(summary, _SUMMARY_KEYS, optional=optional, file=part.name, row=row, within="summaries")
        reading.check_keys(
            record["extra"], frozenset(), optional={"confidence"}, file=part.name, row=row, within="extra"
        )
        chosen, rejected = summaries[choice], summaries[1 - choice]
        if chosen["text"].strip() == rejected["text"].strip():
            return "both summaries are the same"
        return {
            "chosen": [message("assistant", chosen["text"].strip())],
            "rejected": [message("assistant", rejected["text"].strip())],
            "policy_chosen": chosen["policy"],
            "policy_rejected": rejected["policy"],
            "confidence": record["extra"].get("confidence"),
        }

    @staticmethod
    def _axis(record: Row, part: Part, row: int) -> Row:
        """Return the columns of a rated summary."""
        summary = record["summary"]
        reading.check_keys(
            summary, _SUMMARY_KEYS | {"axes"}, optional={"note"}, file=part.name, row=row, within="summary"
        )
        axes = summary["axes"]
        reading.check_keys(axes, frozenset(), optional={*_SCALES, "compatible"}, file=part.name, row=row, within="axes")
        return {
            "completion": [message("assistant", summary["text"].strip())],
            "policy": summary["policy"],
            **{scale: axes.get(scale) for scale in _SCALES},
            "compatible": axes.get("compatible"),
        }
