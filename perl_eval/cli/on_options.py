"""The options of ``agree --on`` and ``audit --on``: rows that people judged, and the judge to hold against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perl_eval.cli import judge_options as asked
from perl_eval.cli.shared_options import one_of, require_torch
from perl_eval.errors import UserError

if TYPE_CHECKING:
    from perl_eval.judges.protocol import Judge
    from perl_eval.judging.judge import JudgeOptions
    from perl_eval.verbs.on_rows import Known

__all__ = ["Config", "DataDir", "Judging", "On", "Split", "known", "refuse_without_on"]

_ON = "With --on"

On = Annotated[
    str | None,
    typer.Option(
        "--on",
        help="In place of judgements and labels: a data set that people judged, such as judgebench, or a folder of "
        "built rows. Judges them first.",
        rich_help_panel=_ON,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of upstream files; else they are downloaded.", rich_help_panel=_ON)
]
Config = Annotated[str, typer.Option(help="Config of the data set; default its main one.", rich_help_panel=_ON)]
Split = Annotated[str, typer.Option(help="Split; default test, or the only one.", rich_help_panel=_ON)]


@dataclass(frozen=True, slots=True)
class Judging:
    """How the judge is asked, as typed; `opened` turns it into a judge and its options."""

    judges: Sequence[str]
    prompt: str
    limit: int | None
    reasoning: bool
    rubric: Path | None
    ledger: Path | None
    max_concurrency: int
    max_cost: float | None
    price_in: float | None
    price_out: float | None
    base_url: str | None
    key_file: Path | None
    verdict_by: str
    temperature: float
    max_reply_tokens: int
    seed: int

    def opened(self) -> tuple[Judge, JudgeOptions]:
        """Return the judge, and how it judges.

        Raises:
            UserError: There is not one judge, no such one, or an option does not fit it.
        """
        if len(self.judges) != 1:
            what = "--judge is missing" if not self.judges else f"{len(self.judges)} judges are given"
            raise UserError(what, "give one, such as --judge chat:MODEL")
        (spec,) = self.judges
        one_of("--verdict-by", self.verdict_by, asked.VERDICTS)
        if self.reasoning and self.verdict_by == "logprobs":
            raise UserError("with --reasoning the first token is no verdict", "leave out --verdict-by logprobs")
        if spec.startswith(("reward:", "local:")):
            require_torch()
        from perl_eval.judges.registry import BackendOptions, open_judge
        from perl_eval.judging.engine.ask import AskOptions
        from perl_eval.judging.judge import JudgeOptions

        reading: Any = {"verdict_by": self.verdict_by}
        judge = open_judge(
            spec,
            BackendOptions(
                base_url=self.base_url,
                seed=self.seed,
                temperature=self.temperature,
                max_reply_tokens=self.max_reply_tokens,
                price_in_usd=self.price_in,
                price_out_usd=self.price_out,
                key_file=self.key_file,
                **reading,
            ),
        )
        if self.max_cost is not None and judge.price_usd(1, 1) is None:
            raise UserError("--max-cost needs prices", "give --price-in and --price-out")
        return judge, JudgeOptions(
            prompt=self.prompt or asked.PAIRS_PROMPT,
            ledger=self.ledger,
            seed=self.seed,
            limit=self.limit,
            reasoning=self.reasoning,
            rubric=self.rubric,
            asking=AskOptions(max_concurrency=self.max_concurrency, max_cost_usd=self.max_cost),
        )


def known(on: str, config: str, split: str, data_dir: Path | None, seed: int) -> Known:
    """Return the rows that are named."""
    from perl_eval.verbs.on_rows import Known

    return Known(on, config, split, data_dir, seed)


def refuse_without_on(given: Mapping[str, Any]) -> None:
    """Refuse options that only mean something with --on.

    Args:
        given: What was typed, by option; empty where it was not.

    Raises:
        UserError: There is one.
    """
    for option, value in given.items():
        if value:
            raise UserError(f"{option} is for --on", "leave it out, or name the rows to judge with --on")
