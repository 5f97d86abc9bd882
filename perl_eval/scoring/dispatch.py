"""The verb `score`, whatever it is given: judgements, completions, scores of a reward model, or a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.metrics.judgement_estimates import ScoreOptions
from perl_eval.records import Completion, Judgement, Score
from perl_eval.scoring.several_files import ways_of
from perl_eval.sources import user_table
from perl_eval.sources.reading import HowRead
from perl_eval.stats.bootstrap import Resampling
from perl_eval.storage import parquet, run_folder
from perl_eval.storage.executor import Executor, here

__all__ = ["Given", "ScoreBeside", "ScoringOptions", "kind_of_source", "run"]

Given = Literal[
    "judgements",
    "completions with `data`",
    "completions without `data`",
    "scores of a run folder",
    "a table of scores",
    "a table of outcomes",
]
"""What can be scored."""
_FITTING: Mapping[Given, tuple[str, ...]] = {
    "judgements": ("intervals", "length_control", "gamed", "style", "again"),
    "completions with `data`": ("data", "against", "judged", "rule"),
    "completions without `data`": (),
    "scores of a run folder": ("data", "labels", "scale", "pair_ties"),
    "a table of scores": ("column", "scale", "pair_ties"),
    "a table of outcomes": ("column", "intervals"),
}
"""The options that mean something for each; level, draws and seed do for all."""
_RECORDS = (Judgement, Completion, Score)
_VERDICTS = frozenset(("verdict", "verdict_ab", "verdict_ba"))
"""Columns that tables of judgements have, and tables of outcomes or scores have not."""
_TABLES = (".csv", ".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class ScoreBeside:
    """What stands beside what is scored; None for nothing.

    Attributes:
        data: Rows that completions answer, or that scores are of: what is right.
        against: Completions of the SFT policy on the same items, for paired differences.
        judged: Judgements, yes or no, of the same completions, for the agreement of judge and rule.
        labels: Human labels that scores are held against.
        again: Judgements by the judge of the first of two runs, asked the same once more: how far it repeats itself.
    """

    data: Path | None = None
    against: Path | None = None
    judged: Path | None = None
    labels: Path | None = None
    again: Path | None = None


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How whatever is given is scored; what means nothing for it is refused.

    Attributes:
        resampling: Draws, seed and level.
        intervals: Of judgements and tables of outcomes: ``analytic``, or ``bootstrap`` over groups.
        length_control: Of judgements: ``ratio``, or ``alpaca`` for AlpacaEval's figure too (slow).
        gamed: Of judgements: AlpacaEval's file ``df_gamed.csv``, for its own data.
        style: Of judgements of more than two policies: rank them at equal style too.
        rule: Of actions: which rules say that one is right; ``smallest_box`` where none is named.
        scale: Of scores: ``logit`` or ``probability`` of a good answer.
        pair_ties: Of scores of pairs: equal ones count ``half``, or ``wrong``, as RewardBench counts.
        column: Of tables: where they keep what, ``{"score": "NAME"}``, or such pairs as typed, ``score=NAME``; of
            files of judgements too.
        format: Of files of judgements: their format, where it cannot be told from them.
        means: Of files of judgements: what words of verdicts mean, ``{"the blue one": "a"}``.
    """

    resampling: Resampling = field(default_factory=Resampling)
    intervals: Literal["analytic", "bootstrap"] = "analytic"
    length_control: Literal["ratio", "alpaca"] = "ratio"
    gamed: Path | None = None
    style: bool = False
    rule: tuple[str, ...] = ()
    scale: Literal["logit", "probability"] = "logit"
    pair_ties: Literal["half", "wrong"] = "half"
    column: Mapping[str, str] | tuple[str, ...] = ()
    format: str = ""
    means: Mapping[str, str] = field(default_factory=dict)


def run(
    sources: Path | Sequence[Path],
    out: Path,
    *,
    beside: ScoreBeside | None = None,
    options: ScoringOptions | None = None,
    spread: Executor = here,
) -> Path:
    """Estimate what there is to estimate about judgements, completions or scores.

    Judgements give what `perl_eval.scoring.score` estimates, of several runs together, two of the same answers set
    against each other; completions how varied they are,
    or with rows what `perl_eval.scoring.tasks` says; scores what `perl_eval.scoring.rewards` says; a table of outcomes
    what `perl_eval.scoring.outcome_table` says.

    Args:
        sources: A run folder, a file of records, or a table; several of judgements.
        out: Output folder.
        beside: What stands beside it.
        options: How it is scored.
        spread: Where each thing compared is estimated; the figures are the same wherever.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: An option means nothing for what is given, or several sources are given that are no judgements.
        DataError: A source is not what it should be.
    """
    other, how = beside or ScoreBeside(), options or ScoringOptions()
    given = [Path(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    if not given:
        raise UserError("nothing is given to score", "give judgements, completions, scores or a table")
    given, other, how = _taken(given, out, other, how)
    what = _what(given[0], other, how)
    _refuse_strangers(what, other, how)
    if what == "judgements":
        from perl_eval.scoring import score

        chosen = ScoreOptions(how.resampling, how.intervals, how.length_control, how.gamed, how.style)
        return score.run(given, out, again=other.again, options=chosen, spread=spread)
    if len(given) > 1:
        raise UserError(f"{len(given)} sources are given", "several are for judgements only; give one")
    return _run_one(what, given[0], out, other, how)


def _taken(
    given: Sequence[Path], out: Path, beside: ScoreBeside, how: ScoringOptions
) -> tuple[list[Path], ScoreBeside, ScoringOptions]:
    """Return files of judgements of other tools as run folders, and the options without those that said how."""
    named = user_table.named(how.column)
    told = bool(_VERDICTS & named.keys() or how.format or how.means or (named and len(given) > 1))
    if named and not told:
        return list(given), beside, how  # one table of outcomes or of scores
    paths = [one.resolve() for one in given if one.is_file()]
    if twice := next((one for one in paths if paths.count(one) > 1), None):
        raise UserError(f"{twice.name} is given twice", "give each file once")
    files = [*given, *([] if beside.again is None else [beside.again])]
    ways = ways_of(files, HowRead(how.format, named, means=how.means))
    sure = told or len(given) > 1
    read = [
        _judged(file, out, place, way, sure=sure) for place, (file, way) in enumerate(zip(files, ways, strict=True), 1)
    ]
    if read != files:
        how = replace(how, column=(), format="", means={})
    return read[: len(given)], replace(beside, again=read[-1] if beside.again is not None else None), how


def _judged(source: Path, out: Path, place: int, way: HowRead, *, sure: bool) -> Path:
    """Return a file of judgements of another tool, or a table of verdicts, as a run folder; anything else as it is.

    Raises:
        DataError: It holds no judgements, and nothing else would do.
    """
    from perl_eval.sources import judgement_files
    from perl_eval.sources.brought import judgements_in
    from perl_eval.sources.containers import opened
    from perl_eval.sources.recognition import format_of

    if judgement_files.is_ours(source):
        return source
    if not way.columns and not way.format:
        try:
            found = opened(source)
            format_of(found, Judgement)
        except DataError:
            if sure:
                raise
            return source  # a table of scores, or its reader says what is wrong
        plain = found.has("outcome") and source.suffix in (*_TABLES, ".parquet") and not found.has("verdict_ab")
        if plain and not sure:
            return source
    return judgements_in(source, out, how=way, place="judgements" if place == 1 else f"judgements-{place}")


def _run_one(what: Given, source: Path, out: Path, beside: ScoreBeside, how: ScoringOptions) -> Path:
    """Score a single source that is no judgements."""
    if what == "completions without `data`":
        from perl_eval.scoring.diversity import run_diversity

        return run_diversity(source, out, options=ScoreOptions(how.resampling))
    if what == "completions with `data`":
        from perl_eval.scoring import tasks

        assert beside.data is not None
        rules: Any = how.rule or tasks.TaskOptions().rules
        chosen = tasks.TaskOptions(rules, how.resampling)
        return tasks.run(source, beside.data, out, beside=tasks.Beside(beside.against, beside.judged), options=chosen)
    if what == "a table of outcomes":
        from perl_eval.scoring import outcome_table

        columns = outcome_table.OutcomeColumns(**user_table.columns_of(how.column, outcome_table.OutcomeColumns()))
        return outcome_table.run_table(
            source, out, columns=columns, options=ScoreOptions(how.resampling, how.intervals)
        )
    from perl_eval.scoring import rewards

    quality = rewards.QualityOptions(how.scale, how.resampling, how.pair_ties)
    if what == "a table of scores":
        where = rewards.ScoreColumns(**user_table.columns_of(how.column, rewards.ScoreColumns()))
        return rewards.run_table(source, out, columns=where, options=quality)
    return rewards.run(source, out, labels=beside.labels, data=beside.data, options=quality)


def kind_of_source(source: Path) -> type | None:
    """Return what kind of record a source holds; None for a table of another make.

    What cannot be told, for it is not there or broken, is left to the reader of judgements, who says what is wrong.
    """
    if source.suffix in _TABLES:
        return None
    for kind in _RECORDS:
        if source.name == run_folder.FILES[kind] or (source / run_folder.FILES[kind]).is_file():
            return kind
    if source.suffix == ".parquet" and source.is_file():
        return _kind_of_parquet(source)
    return Judgement


def _kind_of_parquet(file: Path) -> type | None:
    """Return whose columns a parquet file of another name has."""
    try:
        present = set(user_table.columns(file))
    except DataError:
        return Judgement
    fitting = [kind for kind in _RECORDS if present >= set(parquet.schema_of(kind).names)]
    if fitting:
        return fitting[0]
    return None if present & {"score", "chosen", "outcome"} else Judgement


def _what(source: Path, beside: ScoreBeside, how: ScoringOptions) -> Given:
    """Return what a source is to `score`; where columns are named it is a table."""
    kind = None if how.column else kind_of_source(source)
    if kind is Completion:
        return "completions without `data`" if beside.data is None else "completions with `data`"
    if kind is None:
        named = {str(entry).partition("=")[0] for entry in how.column}
        has_outcomes = "outcome" in named or (not named and "outcome" in user_table.columns(source))
        return "a table of outcomes" if has_outcomes else "a table of scores"
    return "scores of a run folder" if kind is Score else "judgements"


def _refuse_strangers(what: Given, *given: ScoreBeside | ScoringOptions) -> None:
    """Refuse options that mean nothing for what is scored."""
    for name, value, default in _options(*given):
        if value != default and name not in _FITTING[what]:
            raise OptionError(name, f"not for {what}", "leave the option out")


def _options(*given: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, value and default of every option but those that always fit."""
    for options in given:
        usual = type(options)()
        for one in fields(options):
            if one.name != "resampling":
                yield one.name, getattr(options, one.name), getattr(usual, one.name)
