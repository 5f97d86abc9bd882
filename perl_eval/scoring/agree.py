"""The verb `agree`: judgements beside human labels, to figures of agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from perl_eval import figure_names as named
from perl_eval.checks import between
from perl_eval.errors import UserError
from perl_eval.metrics.agreement import any_simulated, estimate_agreement, estimate_cascade
from perl_eval.metrics.agreement_slices import agreement_by_dataset, label_policies
from perl_eval.metrics.beside_people import BesidePeople
from perl_eval.metrics.judge_standing import blind, blind_judges
from perl_eval.metrics.label_join import refuse_repeated, with_units
from perl_eval.metrics.soft_agreement import soft_agreement
from perl_eval.records import About, Estimate, HumanLabel, Judgement
from perl_eval.sources.rating_table import RatingColumns, ratings_of
from perl_eval.stats.agreement_coefficients import Scale, agreements, krippendorff_alpha
from perl_eval.stats.alttest import AltTestOptions
from perl_eval.stats.alttest_scores import alternative_annotator_test_of_scores
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.correlation import correlations
from perl_eval.stats.human_panel import human_human
from perl_eval.stats.intervals import about, count
from perl_eval.storage import run_folder

__all__ = ["AgreeOptions", "RatingColumns", "of_table", "run", "run_cascade", "run_table"]
_MOST_LABELS = 40
"""Different ratings of a table that are taken for labels."""


@dataclass(frozen=True, slots=True)
class AgreeOptions:
    """How agreement is estimated.

    Attributes:
        resampling: Draws, seed and level.
        epsilon: Margin of the alternative annotator test: 0.2 beside experts, 0.15 beside skilled, 0.1 beside crowd
            workers.
    """

    resampling: Resampling = field(default_factory=Resampling)
    epsilon: float = 0.15

    def __post_init__(self) -> None:
        between(0, 1, self, "epsilon", ends="[)", such_as=0.15)

    @property
    def bootstrap(self) -> Resampling:
        """The resampling, by the standard error of its draws: figures of agreement want it so."""
        return replace(self.resampling, kind="standard")


def run(
    judgements: Path, labels: Path, out: Path, *, others: Path | None = None, options: AgreeOptions | None = None
) -> Path:
    """Estimate how far each judge agrees with people, beside how far people agree among themselves on the same units.

    Split, mixed and tied judgements are read as ties. Unjudged units are counted and enter nothing.

    Args:
        judgements: A file or run folder of Judgement records.
        labels: A file or run folder of HumanLabel records.
        out: Output folder.
        others: Labels of the same units by another instruction: how much of the disagreement is the instruction.
        options: How agreement is estimated.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: No judged unit is labelled, or a label does not answer the question that the judge was asked.
    """
    how = options or AgreeOptions()
    judged = run_folder.read(judgements, Judgement)
    refuse_repeated(judged, judgements)
    given = with_units(run_folder.read(labels, HumanLabel), judged)
    inputs = {"judgements": judgements, "labels": labels, **({} if others is None else {"others": others})}
    cards = [run_folder.read_card(path if path.is_dir() else path.parent) for path in (judgements, labels)]
    simulated_input = any(card is not None and card.simulated for card in cards)
    started = run_folder.start(
        out,
        verb="agree",
        arguments=run_folder.flat(how),
        seed=how.resampling.seed,
        inputs=inputs,
        simulated=simulated_input or any_simulated(judged, given),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        estimates = estimate_agreement(judged, given, resampling=how.bootstrap, epsilon=how.epsilon)
        estimates += [*blind_judges(judged, given), *soft_agreement(judged, given, resampling=how.bootstrap)]
        estimates += agreement_by_dataset(judged, given, level=how.resampling.level)
        if others is not None:
            second = with_units(run_folder.read(others, HumanLabel), judged)
            estimates += label_policies(judged, given, second, level=how.resampling.level)
        progress.write(about(estimates, simulated=simulated_input), Estimate)
    return progress.folder


def run_cascade(cheap: Path, strong: Path, out: Path, *, options: AgreeOptions | None = None) -> Path:
    """Correct a cheap judge's rates by a strong judge's verdicts on a random part of the same units.

    Args:
        cheap: A file or run folder of judgements of all units.
        strong: A file or run folder of judgements, by one judge, of a random part of them.
        out: Output folder.
        options: How figures are estimated.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There are several strong judges, or none of the units is judged by both.
    """
    how = options or AgreeOptions()
    ours, theirs = run_folder.read(cheap, Judgement), run_folder.read(strong, Judgement)
    started = run_folder.start(
        out,
        verb="agree cascade",
        arguments=run_folder.flat(how),
        seed=how.resampling.seed,
        inputs={"cheap": cheap, "strong": strong},
        simulated=any_simulated([*ours, *theirs], ()),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        cards = [run_folder.read_card(path if path.is_dir() else path.parent) for path in (cheap, strong)]
        simulated = any(card is not None and card.simulated for card in cards)
        found = estimate_cascade(ours, theirs, resampling=how.bootstrap)
        progress.write(about(found, simulated=simulated), Estimate)
    return progress.folder


def run_table(
    source: Path,
    out: Path,
    *,
    columns: RatingColumns | None = None,
    scale: Scale = "nominal",
    judge: str = "",
    options: AgreeOptions | None = None,
) -> Path:
    """Estimate how far the raters of a table agree.

    Args:
        source: A parquet, CSV or JSON lines file with one rating a row.
        out: Output folder.
        columns: Where the table keeps what.
        scale: Whether ratings are labels (``nominal``), or numbers whose order (``ordinal``) or distance
            (``interval``) counts; numbers are correlated too, for each two raters.
        judge: The rater who is a judge; whether it may stand in for one of the others is tested.
        options: How figures are estimated.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There is no such file, or no such rater.
        DataError: A column is missing, a cell is empty, or a rating is not a number where it should be one.
    """
    how, where = options or AgreeOptions(), columns or RatingColumns()
    started = run_folder.start(
        out,
        verb="agree table",
        arguments={
            **run_folder.flat(how),
            "columns": asdict(where),
            "scale": scale,
            **({"judge": judge} if judge else {}),
        },
        seed=how.resampling.seed,
        inputs={"source": source},
    )
    with started as progress:
        if progress.done:
            return progress.folder
        found = of_table(source, where, scale=scale, judge=judge, options=how)
        progress.write(about(found, simulated=progress.simulated), Estimate)
    return progress.folder


def of_table(
    source: Any,
    columns: RatingColumns | None = None,
    *,
    scale: Scale = "nominal",
    judge: str = "",
    options: AgreeOptions | None = None,
) -> list[Estimate]:
    """Estimate what `run_table` writes.

    Args:
        source: A parquet, CSV or JSON lines file, or a `datasets.Dataset`.
        columns: Where the table keeps what.
        scale: What ratings are.
        judge: The rater who is a judge, or none.
        options: How figures are estimated.

    Raises:
        UserError: There is no such rater.
    """
    asked, where = options or AgreeOptions(), columns or RatingColumns()
    how = asked.bootstrap
    table = ratings_of(source, where, numbers=scale != "nominal")
    by_unit: dict[str, dict[str, Any]] = {}
    group_of: dict[str, str] = {}
    repeated = 0
    for unit, rater, label, group in table.rows:
        here = by_unit.setdefault(unit, {})
        group_of.setdefault(unit, group)
        if label is not None:
            repeated += rater in here
            here[rater] = label
    groups = list(group_of.values())
    seen = sorted({label for unit in by_unit.values() for label in unit.values()})
    labels = [label if isinstance(label, str) else repr(label) for label in seen]
    if scale == "nominal":
        _refuse_texts(by_unit.values(), labels)
    spelt = dict(zip(seen, labels, strict=True))
    ratings = [{rater: spelt[label] for rater, label in unit.items()} for unit in by_unit.values()]
    # AC1 asks how many labels there can be: a table with one only knows of no other.
    known = labels if len(labels) > 1 else [*labels, "", "-"][:2]
    if judge and scale == "nominal":
        found = _judge_and_people(judge, ratings, table.raters, known, groups, asked)
    else:
        found = agreements(ratings, known, clusters=groups, resampling=how)
    given = sum(label is not None for _, _, label, _ in table.rows)
    found.append(count(named.LABELS_OVERRIDDEN, repeated, n=given))
    if judge and scale != "nominal":
        found += _stand_in(judge, list(by_unit.values()), table.raters, groups, asked)
    if scale == "nominal":
        return found
    name = f"Krippendorff alpha, {scale}"
    graded = krippendorff_alpha(ratings, labels, name=name, scale=scale, clusters=groups, resampling=how)
    found.append(graded)
    for one, other in combinations(sorted(table.raters), 2):
        pair = ([unit.get(name) for unit in by_unit.values()] for name in (one, other))
        found += about(correlations(*pair, clusters=groups, level=how.level), About(rater=one, other_rater=other))
    return found


def _refuse_texts(units: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> None:
    """Refuse ratings of so many kinds that they are texts or numbers: agreement needs a square of them, twice."""
    if len(labels) <= _MOST_LABELS:
        return
    said: dict[str, set[Any]] = {}
    for unit in units:
        for rater, label in unit.items():
            said.setdefault(rater, set()).add(label)
    rater = max(said, key=lambda name: len(said[name]))
    raise UserError(
        f"{rater} has {len(said[rater])} different ratings, and there are {len(labels)} in all: too many for labels",
        "name the raters' columns, as in --column rater=ann,ben,judge; of numbers say --scale ordinal or interval",
    )


def _stand_in(
    judge: str,
    units: Sequence[Mapping[str, Any]],
    raters: Iterable[str],
    groups: Sequence[str],
    asked: AgreeOptions,
) -> list[Estimate]:
    """Test whether one rater may stand in for one of the others, by RMSE."""
    _refuse_unknown(judge, raters)
    kept = [place for place, unit in enumerate(units) if judge in unit]
    said = [units[place][judge] for place in kept]
    others = [{rater: given for rater, given in units[place].items() if rater != judge} for place in kept]
    clusters, options = [groups[place] for place in kept], AltTestOptions(asked.epsilon)
    found, _ = alternative_annotator_test_of_scores(
        said, others, options=options, clusters=clusters, level=asked.bootstrap.level
    )
    return list(about(found, About(judge=judge)))


def _judge_and_people(
    judge: str,
    units: Sequence[Mapping[str, str]],
    raters: Iterable[str],
    labels: Sequence[str],
    groups: Sequence[str],
    asked: AgreeOptions,
) -> list[Estimate]:
    """Estimate how far people agree with each other, and a judge, who is one of the raters, with them."""
    _refuse_unknown(judge, raters)
    kept = [place for place, unit in enumerate(units) if judge in unit and len(unit) > 1]
    people = [{rater: label for rater, label in units[place].items() if rater != judge} for place in kept]
    clusters, how, subject = [groups[place] for place in kept], asked.bootstrap, About(judge=judge)
    beside = BesidePeople([units[place][judge] for place in kept], people, clusters)
    found = [
        *human_human(people, labels, clusters=clusters, resampling=how),
        *beside.agreement(labels, how, asked.epsilon),
        *blind(label for unit in people for label in unit.values()),
    ]
    return [*about(found, subject), *beside.one_with_one(how.level, subject)]


def _refuse_unknown(judge: str, raters: Iterable[str]) -> None:
    if judge not in raters:
        raise UserError(f"no rater is called {judge!r}", f"choose from {', '.join(sorted(raters))}")
