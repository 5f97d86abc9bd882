"""JudgeBench: a hard question and two answers of one model, of which one is right and the other is not.

Source: ScalerLab/JudgeBench, arXiv 2410.12784.
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

__all__ = ["JudgeBench"]

_REVISION = "e2c52c284e735e139b3daa61c206ee208f36c461"
_URL = f"https://raw.githubusercontent.com/ScalerLab/JudgeBench/{_REVISION}"
_TEXTS = ("pair_id", "source", "question", "response_model", "response_A", "response_B", "label")
_KEYS = frozenset((*_TEXTS, "original_id"))
_TIES = ("A=B", "B=A")


def _source(model: str, sha256: str) -> Source:
    path = f"data/dataset=judgebench,response_model={model}.jsonl"
    return Source(path, f"{_URL}/{path.replace('=', '%3D').replace(',', '%2C')}", sha256=sha256)


class JudgeBench(Builder):
    """Pairs of answers, the right one first."""

    BUILDER_CONFIGS = configs(
        Config,
        pairs="a question and two answers of one model, of which the chosen one is right; both models",
        gpt="the same, of gpt-4o-2024-05-13",
        claude="the same, of claude-3-5-sonnet-20240620",
    )
    DEFAULT_CONFIG_NAME = "pairs"
    UNASKED = ("pairs",)
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "pairs": {"test": 620},
        "gpt": {"test": 350},
        "claude": {"test": 270},
    }
    FILES: ClassVar[Mapping[str, Source]] = {
        "gpt": _source("gpt-4o-2024-05-13", "d5106306b38dead1b2e964ecf5534a3e7b2fc4b8d3b8da327599edfcebd76042"),
        "claude": _source(
            "claude-3-5-sonnet-20240620", "3b70504588e400613bf5744a20a345da8701b7150be9a30c9db0e6f3d7b70a62"
        ),
    }
    ORIGIN = Origin(
        name="judgebench",
        title="JudgeBench",
        homepage="https://github.com/ScalerLab/JudgeBench",
        revision=_REVISION,
        licence="mit",
        terms=(
            "MIT, as upstream's card on the Hugging Face hub says; the repository itself states none. The questions "
            "are those of MMLU-Pro, LiveBench and LiveCodeBench, each under its own terms."
        ),
        citation="""@misc{judgebench2024,
  title = {{JudgeBench}: A Benchmark for Evaluating {LLM}-Based Judges},
  author = {Tan, Sijun and Zhuang, Siyuan and Montgomery, Kyle and Tang, Willian Y. and Cuadron, Alejandro and
    Wang, Chenguang and Popa, Raluca Ada and Stoica, Ion},
  year = {2024},
  eprint = {2410.12784},
  archivePrefix = {arXiv}
}""",
        description=(
            "Questions on knowledge, reasoning, mathematics and code with two answers of the same model, of which one "
            "is right: a judge has to solve the question, style does not help. Use it to test judges, not to train "
            "policies."
        ),
        splits="one, test: upstream parts its rows by the model that answered only. `group` is the question.",
        tags=("llm-as-a-judge",),
    )

    def _shape(self) -> Features:
        text = Value("string")
        return features.preference(extra={"source": text, "response_model": text, "original_id": text})

    def _sources(self) -> dict[str, Sequence[Source]]:
        name = self.config.name
        return {"test": tuple(self.FILES.values()) if name == "pairs" else (self.FILES[name],)}

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
        del split
        for row, record in reading.json_lines(part.path, file=part.name, tally=tally):
            reading.check_keys(record, _KEYS, file=part.name, row=row)
            reading.check_texts({name: record[name] for name in _TEXTS}, file=part.name, row=row)
            label, answers = record["label"], (record["response_A"], record["response_B"])
            if label in _TIES:
                tally.drop("labelled a tie", file=part.name, row=row)
                continue
            if label not in ("A>B", "B>A"):
                raise DataError(f"{label!r} is neither 'A>B' nor 'B>A'", part.name, row, "label")
            if answers[0] == answers[1]:
                tally.drop("both answers are the same text", file=part.name, row=row)
                continue
            better, worse = answers if label == "A>B" else reversed(answers)
            original = record["original_id"]
            yield (
                row,
                {
                    "prompt": [message("user", record["question"])],
                    "chosen": [message("assistant", better)],
                    "rejected": [message("assistant", worse)],
                    "source": record["source"],
                    "response_model": record["response_model"],
                    "original_id": None if original is None else str(original),
                    **self._metadata(part, id=record["pair_id"], group=stable_id(record["question"])),
                },
            )
