"""The options of ``agree --on`` and ``audit --on``: rows that people judged, and the judge to hold against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perl_eval.cli import judge_options as asked
from perl_eval.cli.shared_options import how_read, one_of, require_torch
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
        help="Instead of judgements and labels, rows that people judged, which the judge judges first: a data set such "
        "as judgebench, a file, a folder of built rows, or a hub id.",
        rich_help_panel=_ON,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of downloaded files; otherwise they are downloaded.", rich_help_panel=_ON)
]
Config = Annotated[str, typer.Option(help="Configuration of the data set; default: its main one.", rich_help_panel=_ON)]
Split = Annotated[str, typer.Option(help="Split; default test, or the only one.", rich_help_panel=_ON)]


@dataclass(frozen=True, slots=True)
class Judging:
    """How the judge is asked, as typed; `opened` turns it into a judge and its options."""

    judges: Sequence[str] = ()
    prompt: str = ""
    limit: int | None = None
    reasoning: bool = False
    rubric: Path | None = None
    ledger: Path | None = None
    max_concurrency: int = 100
    max_cost: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    base_url: str | None = None
    key_file: Path | None = None
    verdict_by: str = "structured"
    temperature: float = 0.0
    max_reply_tokens: int = 512
    seed: int = 0

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
            raise UserError("with --reasoning the first token is not a verdict", "leave out --verdict-by logprobs")
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


def known(on: str, config: str, split: str, data_dir: Path | None, seed: int, column: Sequence[str] = ()) -> Known:
    """Return the rows that are named; `column` has NAME=COLUMN as typed."""
    from perl_eval.verbs.on_rows import Known

    columns = how_read("", column, None).columns
    return Known(on, config, split, data_dir, seed, lambda line: typer.echo(line, err=True), columns)


def refuse_without_on(judging: Judging, config: str, split: str, data_dir: Path | None) -> None:
    """Refuse options that only mean something with --on.

    Raises:
        UserError: There is one.
    """
    plain = {one.name: one.default for one in fields(Judging) if one.name != "seed"}  # the seed is for resampling too
    typed = [name for name, default in plain.items() if getattr(judging, name) != default]
    typed += [name for name, value in {"config": config, "split": split, "data_dir": data_dir}.items() if value]
    if typed:
        option = "--judge" if typed[0] == "judges" else f"--{typed[0].replace('_', '-')}"
        raise UserError(f"{option} is for --on", "leave it out, or name the rows to judge with --on")
