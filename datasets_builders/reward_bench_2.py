"""RewardBench 2: prompts with right and wrong completions, as pairs.

Upstream's score counts a prompt as right where the one right completion beats all wrong ones, and in the subset Ties
weighs how far right completions are from wrong ones against how far they are from each other. Rows here are single
pairs of a right and a wrong completion; ``group`` puts those of one prompt together.

Source: the data set card of allenai/reward-bench-2, arXiv 2506.01937.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from datasets import Features, Value

from datasets_builders import features, reading
from datasets_builders.builder import Builder, Config, Part, configs
from datasets_builders.errors import DataError
from datasets_builders.features import message
from datasets_builders.sources import Origin, Source

if TYPE_CHECKING:
    from datasets_builders.tally import Tally

__all__ = ["RewardBench2"]

_FILE = "data/test-00000-of-00001.parquet"
_KEYS = frozenset(
    {
        *("id", "prompt", "chosen", "rejected", "num_correct", "num_incorrect", "total_completions", "models"),
        *("subset", "additional_metadata"),
    }
)
_PROMPTS = 1865
_TIES = "Ties"


class RewardBench2(Builder):
    """Pairs of a right and a wrong completion of one prompt."""

    BUILDER_CONFIGS = configs(
        Config,
        pairs="a prompt, its right completion and a wrong one; the five subsets with one right completion",
        ties="a prompt of the subset Ties, one of its right completions and a wrong one",
    )
    DEFAULT_CONFIG_NAME = "pairs"
    FILE = Source(_FILE, f"https://huggingface.co/datasets/allenai/reward-bench-2/resolve/main/{_FILE}")
    ORIGIN = Origin(
        name="reward_bench_2",
        title="RewardBench 2",
        homepage="https://huggingface.co/datasets/allenai/reward-bench-2",
        revision="",
        licence="odc-by",
        terms=(
            "ODC-BY (Allen Institute for AI); the completions were written by many models, each under its own terms. "
            "No revision is pinned and no checksum is known: the file is taken as upstream has it today, its "
            f"sha256 is recorded, and it must hold {_PROMPTS:,} prompts."
        ),
        citation="""@misc{malik2025rewardbench,
  title = {{RewardBench} 2: Advancing Reward Model Evaluation},
  author = {Malik, Saumya and Pyatkin, Valentina and Land, Sander and Morrison, Jacob and Smith, Noah A. and
    Hajishirzi, Hannaneh and Lambert, Nathan},
  year = {2025},
  eprint = {2506.01937},
  archivePrefix = {arXiv}
}""",
        description=(
            "1,865 prompts on factuality, precise instruction following, mathematics, safety, focus and ties, with "
            "right and wrong completions. Each right completion is paired with each wrong one, so a prompt gives "
            "several rows; they share `group`. Two right completions are never a pair: which is better is not known. "
            "Upstream's own score is by prompt, not by pair. Use it to test judges and reward models, not to train."
        ),
        splits="upstream's only one, test. `group` is the prompt.",
        warning="The subset on safety asks for harm.",
        tags=("reward-model", "llm-as-a-judge"),
    )

    def _shape(self) -> Features:
        return features.preference(extra={"subset": Value("string"), "upstream_id": Value("string")})

    def _sources(self) -> dict[str, Sequence[Source]]:
        return {"test": (self.FILE,)}

    def _survey(self, parts: Sequence[Part]) -> None:
        """Refuse a file that is cut short."""
        for part in parts if self.config.checksums == "verify" else ():
            count = sum(1 for _ in reading.parquet_rows(part.path, file=part.name))
            if count != _PROMPTS:
                raise DataError(
                    f"holds {count:,} prompts, upstream has {_PROMPTS:,}",
                    part.name,
                    fix="get the file again, or build from what you have with checksums='record' (--checksums record)",
                )

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
        del split
        for row, record in reading.parquet_rows(part.path, file=part.name):
            reading.check_keys(record, _KEYS, file=part.name, row=row)
            reading.check_texts({name: record[name] for name in ("id", "prompt", "subset")}, file=part.name, row=row)
            if (record["subset"] == _TIES) != (self.config.name == "ties"):
                continue
            right, wrong = _texts(record, "chosen", part, row), _texts(record, "rejected", part, row)
            if (len(right), len(wrong)) != (record["num_correct"], record["num_incorrect"]):
                tally.note("num_correct or num_incorrect is not the number of completions", file=part.name, row=row)
            for (one, better), (other, worse) in product(enumerate(right), enumerate(wrong)):
                if better == worse:
                    tally.drop("both answers are the same text", file=part.name, row=row)
                    continue
                yield (
                    row,
                    {
                        "prompt": [message("user", record["prompt"])],
                        "chosen": [message("assistant", better)],
                        "rejected": [message("assistant", worse)],
                        "subset": record["subset"],
                        "upstream_id": record["id"],
                        **self._metadata(part, id=f"{row}:{one}:{other}", group=f"reward_bench_2:{row}"),
                    },
                )


def _texts(record: dict[str, Any], key: str, part: Part, row: int) -> list[str]:
    texts = record[key]
    if not isinstance(texts, list) or not texts or any(type(text) is not str for text in texts):
        raise DataError("is not a list of texts", part.name, row, key)
    return texts
