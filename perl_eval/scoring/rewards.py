"""The verb `score` on rewards: scores of answers, held against labels or preferences, to figures of their quality."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, permutations
from math import isfinite
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.metrics.label_join import with_units
from perl_eval.metrics.reward_quality import QualityOptions, label_figures, pair_figures
from perl_eval.outcomes import is_decided, worth
from perl_eval.records import About, Estimate, HumanLabel, Score, unit_of
from perl_eval.sources import rows, user_table
from perl_eval.sources.rows import Row
from perl_eval.stats.bootstrap import Clusters
from perl_eval.stats.correlation import correlations
from perl_eval.stats.intervals import about
from perl_eval.storage import run_folder

__all__ = ["QualityOptions", "ScoreColumns", "of_table", "run", "run_table"]

_CHOSEN, _REJECTED = "reward chosen", "reward rejected"
_TRUTHS = {"yes": True, "true": True, "1": True, "1.0": True, "no": False, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """Where a table keeps what.

    Attributes:
        score: The score of an answer.
        label: Its label: yes or no (true, false, 1, 0), or a number that grades it.
        chosen: The score of the preferred answer of a pair; the table is of pairs where it is there.
        rejected: The score of the other one.
        group: What shares a source; rows are independent where the table has none.
    """

    score: str = "score"
    label: str = "label"
    chosen: str = "chosen"
    rejected: str = "rejected"
    group: str = "group"


def run(
    scores: Path,
    out: Path,
    *,
    labels: Path | None = None,
    data: Path | None = None,
    options: QualityOptions | None = None,
) -> Path:
    """Estimate how well rewards predict labels of single answers, and preferences between two.

    Labels are people's, found by the completion's unit (of one answer, or of a pair of one item; each counts once,
    ties among pairs say nothing and are missing), or those of the rows that were scored, found by their id. Rewards of
    chosen and rejected answers (as ``train reward`` writes them for held-out pairs) need neither.

    Args:
        scores: A file or run folder of Score records.
        out: Output folder.
        labels: A file or run folder of HumanLabel records.
        data: A folder of Rating rows; all its splits are looked at.
        options: How rewards are scored.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: Nothing says which answers are good, or scores are not on the scale given.
        DataError: A score is not a number.
    """
    how = options or QualityOptions()
    rewards = run_folder.read(scores, Score)
    given = [] if labels is None else with_units(run_folder.read(labels, HumanLabel), _units(rewards))
    inputs = {"scores": scores, "labels": labels, "data": data}
    started = run_folder.start(
        out,
        verb="score rewards",
        arguments=asdict(how),
        seed=how.resampling.seed,
        inputs={name: path for name, path in inputs.items() if path is not None},
        simulated=any(label.simulated for label in given),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        _refuse_bad_scores(rewards, scores)
        rated = {} if data is None else _rated_rows(data)
        found: list[Estimate] = []
        for policy, metric in sorted({(reward.policy, reward.metric) for reward in rewards}):
            own = [reward for reward in rewards if (reward.policy, reward.metric) == (policy, metric)]
            name = About(metric=metric, policy=policy)
            if metric == _CHOSEN:
                rejected = [one for one in rewards if (one.policy, one.metric) == (policy, _REJECTED)]
                found += about(_chosen_rejected(own, rejected, how), About(metric="reward", policy=policy))
            by_people = [*_labelled_answers(own, given, how), *_labelled_pairs(own, given, how)]
            found += about(by_people, replace(name, truth="people"))
            found += about(_labelled_rows(own, rated, how), replace(name, truth="labels"))
        if not found:
            _refuse_without_labels(rewards, given, data)
        simulated = progress.simulated
        progress.write(about(found, simulated=simulated), Estimate)
    return progress.folder


@dataclass(frozen=True, slots=True)
class _Unit:
    """A scored answer, or two of one item, as what people can label."""

    item: str
    a: str
    b: str
    policy_a: str
    policy_b: str


def _units(rewards: Sequence[Score]) -> Iterator[_Unit]:
    """Yield the answers that were scored, and each two of them of one item."""
    items: dict[str, dict[str, str]] = {}
    for reward in rewards:
        items.setdefault(reward.item, {})[reward.completion] = reward.policy
    for item, answers in items.items():
        for one, policy in answers.items():
            yield _Unit(item, one, "", policy, "")
        for (one, policy), (other, of_other) in combinations(answers.items(), 2):
            yield _Unit(item, one, other, policy, of_other)


def _refuse_without_labels(rewards: Sequence[Score], given: Sequence[HumanLabel], data: Path | None) -> None:
    if not given and data is None:
        raise UserError("nothing says which scored answers are good", "give labels, or the rows that were scored")
    labelled = given[0].unit if given else "none"
    scored = unit_of(rewards[0].completion) if rewards else "none"
    raise UserError(
        f"no label belongs to a scored completion (units of labels: {labelled}, ...; of scores: {scored}, ...)",
        "give labels and scores of the same completions",
    )


def _refuse_bad_scores(rewards: Sequence[Score], file: Path) -> None:
    for row, reward in enumerate(rewards):
        if reward.value is not None and not isfinite(reward.value):
            raise DataError(f"{reward.value} is not a number", file=file, row=row, field="value")


def _rated_rows(data: Path) -> dict[str, Row]:
    return {row.id: row for split in rows.splits(data) for row in rows.read(data, split, need=("label",))}


def _of_labels(
    values: Sequence[float],
    truth: Sequence[bool],
    groups: Clusters,
    n_missing: int,
    how: QualityOptions,
    contexts: Sequence[Hashable] | None = None,
) -> list[Estimate]:
    """Return figures of scores against yes-or-no labels; scores on another scale are the user's mistake."""
    try:
        return label_figures(values, truth, clusters=groups, contexts=contexts, n_missing=n_missing, options=how)
    except ValueError as error:
        raise OptionError("scale", f"{how.scale}, and {error}", "say what the scores are") from None


def _labelled_rows(rewards: Sequence[Score], rated: Mapping[str, Row], how: QualityOptions) -> list[Estimate]:
    found = [(reward, rated[reward.item]) for reward in rewards if reward.item in rated]
    return _against([(reward, bool(row.label), row.prompt) for reward, row in found], how)


def _labelled_answers(rewards: Sequence[Score], labels: Sequence[HumanLabel], how: QualityOptions) -> list[Estimate]:
    by_unit = {unit_of(reward.completion): reward for reward in rewards}
    yes_no = [label for label in labels if label.label in ("yes", "no") and label.unit in by_unit]
    scored = [by_unit[label.unit] for label in yes_no]
    return _against([(one, label.label == "yes", one.item) for one, label in zip(scored, yes_no, strict=True)], how)


def _against(joined: Sequence[tuple[Score, bool, Hashable]], how: QualityOptions) -> list[Estimate]:
    """Hold scores against labels, of answers to what is given beside each."""
    if not joined:
        return []
    known = [row for row in joined if row[0].value is not None]
    values, groups = [float(one.value or 0.0) for one, *_ in known], [one.group for one, *_ in known]
    truths, contexts = [truth for _, truth, _ in known], [context for *_, context in known]
    return _of_labels(values, truths, groups, len(joined) - len(known), how, contexts)


def _labelled_pairs(rewards: Sequence[Score], labels: Sequence[HumanLabel], how: QualityOptions) -> list[Estimate]:
    items: dict[str, list[Score]] = {}
    for reward in rewards:
        items.setdefault(reward.item, []).append(reward)
    units = {
        unit_of(one.completion, other.completion): (one, other)
        for group in items.values()
        for one, other in permutations(group, 2)
    }
    joined = [(units[label.unit], label) for label in labels if label.unit in units]
    margins, groups = [], []
    for (one, other), label in joined:
        if is_decided(label.label) and one.value is not None and other.value is not None:
            margins.append((one.value - other.value) * (2 * worth(label.label) - 1))
            groups.append(label.group)
    if not joined:
        return []
    return pair_figures(margins, clusters=groups, n_missing=len(joined) - len(margins), options=how)


def _chosen_rejected(chosen: Sequence[Score], rejected: Sequence[Score], how: QualityOptions) -> list[Estimate]:
    """Return figures of pairs whose two rewards stand under the same completion id."""
    others = {reward.completion: reward.value for reward in rejected}
    margins, groups = [], []
    for reward in chosen:
        other = others.get(reward.completion)
        if reward.value is not None and other is not None:
            margins.append(reward.value - other)
            groups.append(reward.group)
    return pair_figures(margins, clusters=groups, n_missing=len(chosen) - len(margins), options=how)


def run_table(
    source: Path, out: Path, *, columns: ScoreColumns | None = None, options: QualityOptions | None = None
) -> Path:
    """Estimate how well the scores of a table predict its labels, or its preferences.

    Args:
        source: A parquet, CSV or JSON lines file.
        out: Output folder.
        columns: Where the table keeps what.
        options: How rewards are scored.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There is no such file, or scores are not on the scale given.
        DataError: A column is missing, or a cell is neither a number nor a label.
    """
    how, where = options or QualityOptions(), columns or ScoreColumns()
    started = run_folder.start(
        out,
        verb="score table",
        arguments={**asdict(how), "columns": asdict(where)},
        seed=how.resampling.seed,
        inputs={"source": source},
    )
    with started as progress:
        if progress.done:
            return progress.folder
        progress.write(about(of_table(source, where, how), simulated=progress.simulated), Estimate)
    return progress.folder


def of_table(source: Any, columns: ScoreColumns | None = None, options: QualityOptions | None = None) -> list[Estimate]:
    """Estimate what `run_table` writes.

    Args:
        source: A parquet, CSV or JSON lines file, or a `datasets.Dataset`.
        columns: Where the table keeps what.
        options: How rewards are scored.
    """
    how, where = options or QualityOptions(), columns or ScoreColumns()
    pair = (where.chosen, where.rejected)
    sheet = user_table.read(source, (), optional=(*pair, where.group))
    of_pairs = all(map(sheet.has, pair))
    if not of_pairs:
        sheet = user_table.read(source, (where.score, where.label), optional=(where.group,))
    names = sheet.full_texts(where.group) if sheet.has(where.group) else None
    if of_pairs:
        one, other = (sheet.numbers(column) for column in pair)
    else:
        one, other = sheet.numbers(where.score), _truths(sheet, where.label)
    kept = [place for place, cells in enumerate(zip(one, other, strict=True)) if None not in cells]
    groups = None if names is None else [names[place] for place in kept]
    left, right = ([float(part[place] or 0.0) for place in kept] for part in (one, other))
    missing = len(sheet) - len(kept)
    if of_pairs:
        margins = [a - b for a, b in zip(left, right, strict=True)]
        return pair_figures(margins, clusters=groups, n_missing=missing, options=how)
    if set(right) <= {0.0, 1.0}:
        return _of_labels(left, [value == 1.0 for value in right], groups, missing, how)
    graded = correlations(left, right, clusters=groups, level=how.resampling.level)
    return [replace(estimate, n_missing=missing) for estimate in graded]


def _truths(sheet: user_table.Sheet, column: str) -> list[float | None]:
    """Return labels as 1 and 0, or as the numbers they are."""
    cells = sheet.texts(column)
    known = [None if cell is None else _TRUTHS.get(cell.strip().lower()) for cell in cells]
    if all(cell is None or truth is not None for cell, truth in zip(cells, known, strict=True)):
        return [None if truth is None else float(truth) for truth in known]
    return sheet.numbers(column)
