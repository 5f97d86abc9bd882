"""LLMBar: an instruction and two answers, of which one follows it and the other does not.

Source: princeton-nlp/LLMBar, arXiv 2310.07641.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from datasets import Features, Value

from datasets_builders import features, reading
from datasets_builders.builder import Builder, Config, Part, configs
from datasets_builders.errors import DataError
from datasets_builders.features import message
from datasets_builders.sources import Origin, Source
from datasets_builders.splits import stable_id

if TYPE_CHECKING:
    from datasets_builders.tally import Tally

__all__ = ["LlmBar"]

_REVISION = "900616bff90b6c6c8e1681f7d079250637c55992"
_URL = f"https://raw.githubusercontent.com/princeton-nlp/LLMBar/{_REVISION}"
_SHA256 = {
    "Natural": "f7127b7aa78104cb8e03a2b1b3ac0077e95b125714dd441a8ee63666145a3375",
    "Adversarial/Neighbor": "6712c7eda6342602e0bc7c06c282fa95e2110d4e741a284026a62d937f9780a0",
    "Adversarial/GPTInst": "1002425f73c2cf54b6e6de99bce3f6c60fa2a17d13194772e37d7481c1351d42",
    "Adversarial/GPTOut": "1ff56e520d7607750a9866a3be0f5b850392ca4477a1f69d80f32bd3e310f561",
    "Adversarial/Manual": "0d9598769a39cdbbd265778c37e49939d41d5f76dcfb17bd75dcfa07516d3837",
}
_FOLDER = "Dataset/LLMBar"
_TEXTS = ("input", "output_1", "output_2")
_KEYS = frozenset((*_TEXTS, "label"))


class LlmBar(Builder):
    """Pairs of answers, the one that follows the instruction first."""

    BUILDER_CONFIGS = configs(
        Config,
        pairs="an instruction and two answers, of which the chosen one follows it; all five subsets",
        natural="the same, of the subset Natural: pairs from other data sets, filtered by hand",
        adversarial="the same, of the four adversarial subsets: the rejected answer looks good and misses the point",
    )
    DEFAULT_CONFIG_NAME = "pairs"
    UNASKED = ("pairs",)
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "pairs": {"test": 419},
        "natural": {"test": 100},
        "adversarial": {"test": 319},
    }
    FILES: ClassVar[Mapping[str, Source]] = {
        subset: Source(f"{_FOLDER}/{subset}/dataset.json", f"{_URL}/{_FOLDER}/{subset}/dataset.json", sha256=sha256)
        for subset, sha256 in _SHA256.items()
    }
    ORIGIN = Origin(
        name="llmbar",
        title="LLMBar",
        homepage="https://github.com/princeton-nlp/LLMBar",
        revision=_REVISION,
        licence="mit",
        terms="MIT (Princeton Natural Language Processing).",
        citation="""@inproceedings{zeng2024llmbar,
  title = {Evaluating Large Language Models at Evaluating Instruction Following},
  author = {Zeng, Zhiyuan and Yu, Jiatong and Gao, Tianyu and Meng, Yu and Goyal, Tanya and Chen, Danqi},
  booktitle = {International Conference on Learning Representations},
  year = {2024}
}""",
        description=(
            "419 instructions with two answers each, made to test judges: which answer follows the instruction is "
            "objective, and was agreed on by expert annotators. In the adversarial subsets the other answer is the "
            "more polished one. Use it to test judges, not to train policies."
        ),
        splits="one, test: upstream has no other. `group` is the instruction.",
        tags=("human-feedback", "llm-as-a-judge"),
    )

    def _shape(self) -> Features:
        return features.preference(extra={"subset": Value("string")})

    def _sources(self) -> dict[str, Sequence[Source]]:
        wanted = {"natural": "Natural", "adversarial": "Adversarial/"}.get(self.config.name, "")
        return {"test": tuple(source for subset, source in self.FILES.items() if subset.startswith(wanted))}

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
        del split
        subset = part.name.removeprefix(f"{_FOLDER}/").removesuffix("/dataset.json")
        for row, record in enumerate(reading.json_array(part.path, file=part.name)):
            reading.check_keys(record, _KEYS, file=part.name, row=row)
            reading.check_texts({name: record[name] for name in _TEXTS}, file=part.name, row=row)
            if record["label"] not in (1, 2):
                raise DataError(f"{record['label']!r} is neither 1 nor 2", part.name, row, "label")
            asked, *answers = (record[name] for name in _TEXTS)
            if answers[0] == answers[1]:
                tally.drop("both answers are the same text", file=part.name, row=row)
                continue
            better, worse = answers if record["label"] == 1 else reversed(answers)
            yield (
                row,
                {
                    "prompt": [message("user", asked)],
                    "chosen": [message("assistant", better)],
                    "rejected": [message("assistant", worse)],
                    "subset": subset,
                    **self._metadata(part, id=stable_id(subset, asked, *answers), group=stable_id(asked)),
                },
            )
