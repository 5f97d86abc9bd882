"""The verb score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from perl_eval.checks import existing
from perl_eval.cli.console import done, say, show
from perl_eval.cli.shared_options import (
    Address,
    Draws,
    Engine,
    FileFormat,
    Level,
    Means,
    Out,
    Seed,
    Workers,
    how_read,
    labels_at,
    one_of,
    resampling,
    spread_of,
)


def score(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Judgements (several runs are ranked), completions, scores, or a table of scores."),
    ],
    out: Out,
    data: Annotated[Path | None, typer.Option(help="Rows with the right answers, to completions or to scores.")] = None,
    against: Annotated[Path | None, typer.Option(help="Completions of the SFT policy: paired differences.")] = None,
    judged: Annotated[Path | None, typer.Option(help="Yes-or-no judgements: agreement of judge and rule.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="Rule for actions: smallest_box, uground, any_box, uis1, infigui, os_atlas, aitw, diagonal, "
            "android_world, exact. May be repeated."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Human labels that scores are compared with.")] = None,
    again: Annotated[
        Path | None,
        typer.Option(help="With two runs of the same answers: the first judge asked once more; a run or a file."),
    ] = None,
    scale: Annotated[str, typer.Option(help="Scores are logit or probability of a good answer.")] = "logit",
    pair_ties: Annotated[
        str, typer.Option(help="How equal scores of a pair count: half, or wrong as in RewardBench.")
    ] = "half",
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Where a table keeps what: outcome=NAME, p_a=; score=, label=, chosen=, rejected=; group=; where it "
            "holds verdicts verdict=, or verdict_ab=, verdict_ba=, with item=, prompt=, policy_a=, policy_b=, judge=."
        ),
    ] = None,
    format: FileFormat = "",
    means: Means = None,
    intervals: Annotated[str, typer.Option(help="analytic, or bootstrap over groups.")] = "analytic",
    style: Annotated[
        bool, typer.Option("--style", help="Rank policies at equal length, lists, headings and bold too.")
    ] = False,
    length_control: Annotated[str, typer.Option(help="ratio, or alpaca: AlpacaEval's figure too (slow).")] = "ratio",
    gamed: Annotated[Path | None, typer.Option(help="AlpacaEval's df_gamed.csv, for its own data.")] = None,
    level: Level = 0.95,
    draws: Draws = 2000,
    engine: Engine = "here",
    address: Address = "",
    workers: Workers = 2,
    seed: Seed = 0,
) -> None:
    """Compute figures with intervals from judgements, completions or scores.

    Judgements: win rates, position bias, length control, or rates of yes and no; runs against one baseline are compared
    item by item, more than two policies ranked. Completions: diversity; with --data VQA or action accuracy. Scores of a
    reward model: accuracy, AUC, calibration, with --data, --labels, or from a table. A table of outcomes: win rates.
    """
    how, spread = resampling(level, draws, seed), spread_of(engine, address, workers)
    one_of("--scale", scale, ("logit", "probability"))
    one_of("--pair-ties", pair_ties, ("half", "wrong"))
    one_of("--intervals", intervals, ("analytic", "bootstrap"))
    one_of("--length-control", length_control, ("ratio", "alpaca"))
    for source in sources:
        existing(source)
    from perl_eval.scoring import dispatch as verb

    chosen: Any = {"intervals": intervals, "style": style, "length_control": length_control, "scale": scale}
    chosen |= {"rule": tuple(rule or ()), "column": tuple(column or ())}
    chosen |= {"pair_ties": pair_ties, "format": format, "means": how_read("", None, means=means).means}
    options = verb.ScoringOptions(how, gamed=gamed, **chosen)
    people = None if labels is None else labels_at(labels, out)
    beside = verb.ScoreBeside(data, against, judged, people, again)
    result = verb.run(sources, out, beside=beside, options=options, spread=spread)
    _say_what_flipped(result, [*sources[1:], *([] if again is None else [again])])
    show(result)
    done(result)


def _say_what_flipped(folder: Path, later: Sequence[Path]) -> None:
    """Print what two runs of the same answers say about the judge, and where the items are.

    Args:
        folder: The result.
        later: The runs that should have asked anew.
    """
    from perl_eval.records import Estimate
    from perl_eval.scoring.two_runs import FLIPPED, asked_nothing, sentences
    from perl_eval.storage import run_folder

    if said := sentences(run_folder.read(folder, Estimate)):
        for run in filter(asked_nothing, later):
            said.append(f"{run} asked nothing: its ledger had every reply. Judge with a ledger of its own to compare.")
        say("\n".join([*said, f"What changed, and who won before and now: {folder / FLIPPED}"]), lines=True)
