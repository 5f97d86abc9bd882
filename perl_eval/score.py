"""The verb `score`: judgements, scores and completions to figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, permutations
from math import isfinite
from pathlib import Path
from typing import Literal

from perl_eval import runs
from perl_eval.errors import DataError, UserError
from perl_eval.records import Completion, Estimate, HumanLabel, Judgement, Score, unit_of
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.classification import label_quality, pair_accuracy, probabilities_of, reliability_curve
from perl_eval.stats.diversity import diversity
from perl_eval.stats.intervals import about
from perl_eval.stats.length import alpaca_win_rate, equal_length_win_rate, longer_preferred_rate
from perl_eval.stats.paired import paired_outcomes
from perl_eval.stats.position import position_bias, verdicts
from perl_eval.stats.ranking import Comparison, rank
from perl_eval.stats.winrate import outcome_scores, win_rates, yes_rates

__all__ = ["ScoreOptions", "estimate_judgements", "run", "run_diversity", "run_labels"]

Key = tuple[str, str, str, str, str, str]
"""Kind, judge, policies a and b, data set and prompt."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """How figures are estimated.

    Attributes:
        level: Confidence level, in (0, 1).
        intervals: ``analytic`` (Wilson, t), or ``bootstrap`` over groups.
        draws: Bootstrap draws.
        seed: Seed of the draws.
        scale: What reward scores are: ``logit`` or ``probability`` of a good answer.
        length_control: ``ratio`` reads the win rate at equal length; ``alpaca`` adds AlpacaEval's figure (slow).
    """

    level: float = 0.95
    intervals: Literal["analytic", "bootstrap"] = "analytic"
    draws: int = 2000
    seed: int = 0
    scale: Literal["logit", "probability"] = "logit"
    length_control: Literal["ratio", "alpaca"] = "ratio"

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level}", "give a number between 0 and 1, such as 0.95")
        if self.draws < 1:
            raise UserError(f"draws is {self.draws}", "give at least 1")

    @property
    def resampling(self) -> Resampling:
        """The bootstrap these options ask for."""
        return Resampling(draws=self.draws, seed=self.seed, level=self.level)


def run(judgements: Path, out: Path, *, options: ScoreOptions | None = None) -> Path:
    """Estimate win rates and position bias, or rates of yes and no, from judgements.

    Judgements are taken apart by judge, policies, data set and prompt; none are pooled.

    Args:
        judgements: A file or run folder of Judgement records.
        out: Output folder.
        options: How figures are estimated.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There are no judgements.
        DataError: A judgement occurs twice, or has a probability that is none.
    """
    how = options or ScoreOptions()
    records = runs.read(judgements, Judgement)
    simulated_input = _is_simulated(judgements)
    started = runs.start(
        out,
        verb="score",
        arguments=asdict(how),
        seed=how.seed,
        inputs={"judgements": judgements},
        simulated=simulated_input or any(record.simulated for record in records),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        _refuse_bad_judgements(records, judgements)
        progress.write(about(estimate_judgements(records, how), simulated=simulated_input), Estimate)
    return progress.folder


def _is_simulated(path: Path) -> bool:
    """Return whether the run card beside an input says that it is simulated."""
    card = runs.read_card(path if path.is_dir() else path.parent)
    return card is not None and card.simulated


def _refuse_bad_judgements(records: Sequence[Judgement], file: Path) -> None:
    if not records:
        raise UserError(f"{file} holds no judgements", "judge something first")
    seen: set[tuple[str, ...]] = set()
    for row, record in enumerate(records):
        key = (*_kind_of(record), record.unit)
        if key in seen:
            raise DataError(
                f"judgement {record.id} of the same pair by the same judge occurs twice", file=file, row=row
            )
        seen.add(key)
        if record.p_a is not None and not 0 <= record.p_a <= 1:
            raise DataError(f"{record.p_a} is no probability", file=file, row=row, field="p_a")


def _kind_of(record: Judgement) -> Key:
    return record.kind, record.judge, record.policy_a, record.policy_b, record.dataset, record.prompt_sha256


def estimate_judgements(records: Iterable[Judgement], options: ScoreOptions | None = None) -> list[Estimate]:
    """Estimate everything that some judgements say, one set of figures for each thing compared.

    Args:
        records: Judgements of any judges, policies, data sets and prompts.
        options: How figures are estimated.
    """
    how = options or ScoreOptions()
    compared: dict[Key, list[Judgement]] = {}
    for record in records:
        compared.setdefault(_kind_of(record), []).append(record)
    found: list[Estimate] = []
    for key, group in sorted(compared.items()):
        kind, judge, policy_a, policy_b, dataset, prompt = key
        subject = f"{policy_a} against {policy_b}" if kind == "pairwise" else policy_a
        subject += f", judge {judge}"
        subject += f", data {dataset}" if len({k[4] for k in compared if k[:4] == key[:4]}) > 1 else ""
        subject += f", prompt {prompt[:8]}" if sum(k[:5] == key[:5] for k in compared) > 1 else ""
        estimates = _pairwise(group, how) if kind == "pairwise" else _yes_no(group, how)
        found += about(estimates, subject, simulated=any(record.simulated for record in group))
    return [*found, *_compare_policies(compared, how)]


def _pairwise(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    clusters = [record.group for record in group]
    boot = how.resampling
    rates = win_rates(
        [record.outcome for record in group],
        clusters=clusters,
        p_a=[record.p_a for record in group],
        level=how.level,
        resampling=boot if how.intervals == "bootstrap" else None,
    )
    positional = any(ballot.order != "none" for record in group for ballot in record.ballots)
    pairs = [verdicts(record.ballots) for record in group]
    position = position_bias(pairs, clusters=clusters, positional=positional, resampling=boot)
    return [*rates, *position, *_length_control(group, how)]


def _length_control(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    """Return the win rate at equal length, in characters, and how often the longer answer wins."""
    judged = [record for record in group if record.outcome != "unjudged"]
    scores = outcome_scores([record.outcome for record in judged])
    a, b = [len(record.text_a) for record in judged], [len(record.text_b) for record in judged]
    clusters = [record.group for record in judged]
    found = [
        equal_length_win_rate(scores, a, b, clusters=clusters, level=how.level),
        longer_preferred_rate(scores, a, b, clusters=clusters, level=how.level),
    ]
    if how.length_control == "alpaca":
        soft = [score if record.p_a is None else record.p_a for record, score in zip(judged, scores, strict=True)]
        gaps = [other - own for own, other in zip(a, b, strict=True)]
        found.append(alpaca_win_rate(soft, gaps, resampling=how.resampling))
    missing = len(group) - len(judged)
    return [replace(estimate, n_missing=estimate.n_missing + missing) for estimate in found]


def _yes_no(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    return yes_rates(
        [record.outcome for record in group],
        clusters=[record.group for record in group],
        p_yes=[record.p_a for record in group],
        level=how.level,
        resampling=how.resampling if how.intervals == "bootstrap" else None,
    )


def _compare_policies(compared: Mapping[Key, Sequence[Judgement]], how: ScoreOptions) -> list[Estimate]:
    """Compare policies that met the same baseline on the same items, and rank more than two policies.

    Args:
        compared: Judgements by what was compared, see `_kind_of`.
        how: How figures are estimated.
    """
    found: list[Estimate] = []
    settings = sorted({(key[1], *key[4:]) for key in compared if key[0] == "pairwise"})
    for judge, dataset, prompt in settings:
        here = {
            (key[2], key[3]): group
            for key, group in sorted(compared.items())
            if key[0] == "pairwise" and (key[1], *key[4:]) == (judge, dataset, prompt)
        }
        simulated = any(record.simulated for group in here.values() for record in group)
        for (one, baseline), (other, met) in combinations(here, 2):
            if met == baseline:
                subject = f"{one} minus {other}, both against {baseline}, judge {judge}"
                estimates = _difference(here[one, baseline], here[other, baseline], how)
                found += about(estimates, subject, simulated=simulated)
        if len({policy for pair in here for policy in pair}) > 2:
            for policy, estimate in _ranking([record for group in here.values() for record in group], how).items():
                found += about([estimate], f"{policy}, judge {judge}", simulated=simulated)
    return found


def _difference(one: Sequence[Judgement], other: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    """Compare outcomes on shared items; the draws of an item are paired in order, what is left over is missing."""
    ours, theirs = _by_draw(one), _by_draw(other)
    shared = [key for key in ours if key in theirs]
    missing = len(ours.keys() | theirs.keys()) - len(shared)
    estimates = paired_outcomes(
        [ours[key].outcome for key in shared],
        [theirs[key].outcome for key in shared],
        clusters=[ours[key].group for key in shared],
        resampling=how.resampling,
    )
    return [replace(estimate, n_missing=estimate.n_missing + missing) for estimate in estimates]


def _by_draw(records: Sequence[Judgement]) -> dict[tuple[str, int], Judgement]:
    """Return judgements by item and place among the judgements of the item."""
    times: Counter[str] = Counter()
    found = {}
    for record in sorted(records, key=lambda record: record.a):
        found[record.item, times[record.item]] = record
        times[record.item] += 1
    return found


def _ranking(records: Sequence[Judgement], how: ScoreOptions) -> dict[str, Estimate]:
    judged = [record for record in records if record.outcome != "unjudged"]
    scores = outcome_scores([record.outcome for record in judged]).tolist()
    met = [Comparison(r.policy_a, r.policy_b, score) for r, score in zip(judged, scores, strict=True)]
    return rank(met, clusters=[record.group for record in judged], resampling=how.resampling)


def run_labels(scores: Path, labels: Path, out: Path, *, options: ScoreOptions | None = None) -> Path:
    """Estimate how well rewards predict human labels: of single answers, of pairs, or both.

    A label of one answer is found by the completion's unit, a label of a pair by the units of pairs of completions of
    one item. Each label counts once, whoever gave it; ties among pairs say nothing and are counted as missing.

    Args:
        scores: A file or run folder of Score records.
        labels: A file or run folder of HumanLabel records.
        out: Output folder.
        options: How figures are estimated.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: No label belongs to a scored completion, or scores are not on the scale given.
    """
    how = options or ScoreOptions()
    rewards, given = runs.read(scores, Score), runs.read(labels, HumanLabel)
    simulated = _is_simulated(scores) or _is_simulated(labels) or any(label.simulated for label in given)
    started = runs.start(
        out,
        verb="score labels",
        arguments=asdict(how),
        seed=how.seed,
        inputs={"scores": scores, "labels": labels},
        simulated=simulated,
    )
    with started as progress:
        if progress.done:
            return progress.folder
        _refuse_bad_scores(rewards, scores)
        found: list[Estimate] = []
        for metric in sorted({reward.metric for reward in rewards}):
            own = [reward for reward in rewards if reward.metric == metric]
            subject = f"{metric} against people"
            found += about([*_labelled_answers(own, given, how), *_labelled_pairs(own, given, how)], subject)
        if not found:
            labelled = given[0].unit if given else "none"
            scored = unit_of(rewards[0].completion) if rewards else "none"
            raise UserError(
                f"no label belongs to a scored completion (units of labels: {labelled}, ...; of scores: {scored}, ...)",
                "give labels and scores of the same completions",
            )
        progress.write(about(found, simulated=simulated), Estimate)
    return progress.folder


def _refuse_bad_scores(rewards: Sequence[Score], file: Path) -> None:
    for row, reward in enumerate(rewards):
        if reward.value is not None and not isfinite(reward.value):
            raise DataError(f"{reward.value} is no number", file=file, row=row, field="value")


def _labelled_answers(rewards: Sequence[Score], labels: Sequence[HumanLabel], how: ScoreOptions) -> list[Estimate]:
    by_unit = {unit_of(reward.completion): reward for reward in rewards}
    joined = [
        (by_unit[label.unit], label) for label in labels if label.label in ("yes", "no") and label.unit in by_unit
    ]
    known = [(reward.value, label.label == "yes", label.group) for reward, label in joined if reward.value is not None]
    if not joined:
        return []
    values, truth, groups = ([row[part] for row in known] for part in range(3))
    try:
        chances = probabilities_of(values, how.scale)
    except ValueError as error:
        raise UserError(str(error), "say what the scores are with scale") from None
    missing = len(joined) - len(known)
    quality = label_quality(values, truth, clusters=groups, scale=how.scale, resampling=how.resampling)
    curve = reliability_curve(chances, truth, clusters=groups, level=how.level)
    found = [replace(estimate, n_missing=missing) for estimate in quality]
    for part in curve:
        found += about([part.observed], f"predicted {part.low:g} to {part.high:g}, mean {part.predicted:.3f}")
    return found


def _labelled_pairs(rewards: Sequence[Score], labels: Sequence[HumanLabel], how: ScoreOptions) -> list[Estimate]:
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
        if label.label in ("win", "loss") and one.value is not None and other.value is not None:
            margins.append((one.value - other.value) * (1 if label.label == "win" else -1))
            groups.append(label.group)
    if not joined:
        return []
    return pair_accuracy(margins, clusters=groups, n_missing=len(joined) - len(margins), level=how.level)


def run_diversity(completions: Path, out: Path, *, options: ScoreOptions | None = None) -> Path:
    """Estimate how varied the completions of each policy are.

    Args:
        completions: A file or run folder of Completion records.
        out: Output folder.
        options: How figures are estimated; only the level counts.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There are no completions.
    """
    how = options or ScoreOptions()
    records = runs.read(completions, Completion)
    simulated = _is_simulated(completions)
    started = runs.start(
        out,
        verb="score diversity",
        arguments={"level": how.level},
        inputs={"completions": completions},
        simulated=simulated,
    )
    with started as progress:
        if progress.done:
            return progress.folder
        if not records:
            raise UserError(f"{completions} holds no completions", "sample some first")
        found: list[Estimate] = []
        for policy in sorted({record.policy for record in records}):
            own = [record for record in records if record.policy == policy]
            estimates = diversity([record.text for record in own], [record.item for record in own], level=how.level)
            found += about(estimates, policy, simulated=simulated)
        progress.write(found, Estimate)
    return progress.folder
