"""The verb `score`: judgements, scores and completions to figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

from perl_eval import runs, sheets
from perl_eval.errors import DataError, UserError
from perl_eval.records import Completion, Estimate, Judgement
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.diversity import diversity
from perl_eval.stats.graded import mean_score
from perl_eval.stats.intervals import about, mean, resampled_mean
from perl_eval.stats.length import Gamed, alpaca_win_rate, equal_length_win_rate, longer_preferred_rate
from perl_eval.stats.paired import paired_differences, paired_outcomes
from perl_eval.stats.position import position_bias, verdicts
from perl_eval.stats.ranking import Comparison, rank
from perl_eval.stats.winrate import outcome_scores, win_rates, yes_rates

__all__ = ["ScoreOptions", "estimate_judgements", "run", "run_diversity"]

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
        length_control: ``ratio`` reads the win rate at equal length; ``alpaca`` adds AlpacaEval's figure (slow).
        gamed: AlpacaEval's file of instruction difficulties and gamed baselines (``df_gamed.csv``), for its own data;
            the judgements must be those of all its instructions, in its order. Without, its figure has neither term.
    """

    level: float = 0.95
    intervals: Literal["analytic", "bootstrap"] = "analytic"
    draws: int = 2000
    seed: int = 0
    length_control: Literal["ratio", "alpaca"] = "ratio"
    gamed: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level}", "give a number between 0 and 1, such as 0.95")
        if self.draws < 1:
            raise UserError(f"draws is {self.draws}", "give at least 1")

    @property
    def resampling(self) -> Resampling:
        """The bootstrap these options ask for."""
        return Resampling(draws=self.draws, seed=self.seed, level=self.level)


def run(judgements: Path | Sequence[Path], out: Path, *, options: ScoreOptions | None = None) -> Path:
    """Estimate win rates and position bias, or rates of yes and no, from judgements.

    Judgements are taken apart by judge, policies, data set and prompt; none are pooled. Policies that met the same
    baseline on the same items, in one run or several, are compared item by item, and more than two policies are ranked.

    Args:
        judgements: A file or run folder of Judgement records, or several.
        out: Output folder.
        options: How figures are estimated.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: There are no judgements.
        DataError: A judgement occurs twice, or has a probability that is none.
    """
    how = options or ScoreOptions()
    sources = [judgements] if isinstance(judgements, str | Path) else list(judgements)
    read = [(Path(source), runs.read(Path(source), Judgement)) for source in sources]
    inputs = {"judgements" if not place else f"judgements {place + 1}": path for place, (path, _) in enumerate(read)}
    started = runs.start(
        out,
        verb="score",
        arguments=asdict(how),
        seed=how.seed,
        inputs=inputs if how.gamed is None else {**inputs, "gamed": how.gamed},
        simulated=any(record.simulated for _, records in read for record in records),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        _refuse_bad_judgements(read)
        found = estimate_judgements([record for _, records in read for record in records], how)
        found += [estimate for path, _ in read for estimate in _anytime(path)]
        progress.write(about(found, simulated=any(_is_simulated(path) for path, _ in read)), Estimate)
    return progress.folder


def _anytime(judged: Path) -> list[Estimate]:
    """Return the anytime intervals of a judge run that stopped when it was decided: theirs hold, fixed ones do not."""
    folder = judged if judged.is_dir() else judged.parent
    card = runs.read_card(folder)
    if card is None or card.notes.get("decided after") is None or not (folder / runs.FILES[Estimate]).is_file():
        return []
    return [estimate for estimate in runs.read(folder, Estimate) if estimate.name.endswith(", anytime")]


def _is_simulated(path: Path) -> bool:
    """Return whether the run card beside an input says that it is simulated."""
    card = runs.read_card(path if path.is_dir() else path.parent)
    return card is not None and card.simulated


def _refuse_bad_judgements(read: Sequence[tuple[Path, Sequence[Judgement]]]) -> None:
    seen: set[tuple[str, ...]] = set()
    for file, records in read:
        if not records:
            raise UserError(f"{file} holds no judgements", "judge something first")
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
        estimates = _FIGURES[kind](group, how)
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
    missing = len(group) - len(judged)
    found = [replace(estimate, n_missing=estimate.n_missing + missing) for estimate in found]
    return [*found, _alpaca(group, how)] if how.length_control == "alpaca" else found


def _alpaca(group: Sequence[Judgement], how: ScoreOptions) -> Estimate:
    """Return AlpacaEval's length-controlled win rate; its difficulties and gamed baselines only on its own data."""
    chances = [
        None if r.outcome == "unjudged" else float(outcome_scores([r.outcome])[0]) if r.p_a is None else r.p_a
        for r in group
    ]
    gaps = [len(record.text_b) - len(record.text_a) for record in group]
    groups = [record.group for record in group]
    if how.gamed is None:
        return alpaca_win_rate(chances, gaps, clusters=groups, resampling=how.resampling)
    columns = ("index", "preference", "std_delta_len", "instruction_difficulty")
    sheet = sheets.read(how.gamed, columns)
    index, preferences, apart, hard = ([cell or 0.0 for cell in sheet.numbers(column)] for column in columns)
    difficulty = dict(zip(index, hard, strict=True))
    if sorted(difficulty) != list(range(len(group))):
        raise UserError(
            f"{how.gamed} is about {len(difficulty)} instructions, and there are {len(group)} judgements",
            "score the judgements of all its instructions, imported in the order of the annotations",
        )
    return alpaca_win_rate(
        chances,
        gaps,
        difficulties=[difficulty[place] for place in range(len(group))],
        gamed=Gamed(preferences, apart, hard),
        clusters=groups,
        resampling=how.resampling,
    )


def _yes_no(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    return yes_rates(
        [record.outcome for record in group],
        clusters=[record.group for record in group],
        p_yes=[record.p_a for record in group],
        level=how.level,
        resampling=how.resampling if how.intervals == "bootstrap" else None,
    )


def _scores(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    boot = how.resampling if how.intervals == "bootstrap" else None
    clusters = [record.group for record in group]
    return [mean_score([record.score for record in group], clusters=clusters, level=how.level, resampling=boot)]


_FIGURES = {"pairwise": _pairwise, "yes_no": _yes_no, "score": _scores}


def _scored(group: Sequence[Judgement], how: ScoreOptions) -> list[Estimate]:
    """Return the mean of scores on a scale."""
    known = [(record.score, record.group) for record in group if record.score is not None]
    values, groups = [value for value, _ in known], [name for _, name in known]
    missing = len(group) - len(known)
    if how.intervals == "bootstrap":
        return [resampled_mean("mean score", values, clusters=groups, n_missing=missing, resampling=how.resampling)]
    return [mean("mean score", values, clusters=groups, n_missing=missing, level=how.level)]


def _compare_policies(compared: Mapping[Key, Sequence[Judgement]], how: ScoreOptions) -> list[Estimate]:
    """Compare policies that met the same baseline on the same items, and rank more than two policies.

    Args:
        compared: Judgements by what was compared, see `_kind_of`.
        how: How figures are estimated.
    """
    found = _compare_scores(compared, how)
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


def _compare_scores(compared: Mapping[Key, Sequence[Judgement]], how: ScoreOptions) -> list[Estimate]:
    """Compare the scores of policies by the same judge and prompt, item by item."""
    found: list[Estimate] = []
    for (key, one), (other_key, other) in combinations(sorted(compared.items()), 2):
        if key[0] == other_key[0] == "score" and (key[1], *key[3:]) == (other_key[1], *other_key[3:]):
            ours, theirs = _by_draw(one), _by_draw(other)
            places = list(ours.keys() | theirs.keys())
            gaps = paired_differences(
                [ours[place].score if place in ours else None for place in sorted(places)],
                [theirs[place].score if place in theirs else None for place in sorted(places)],
                name="mean score difference",
                clusters=[(ours.get(place) or theirs[place]).group for place in sorted(places)],
                resampling=how.resampling,
            )
            simulated = any(record.simulated for record in (*one, *other))
            found += about(gaps, f"{key[2]} minus {other_key[2]}, judge {key[1]}", simulated=simulated)
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
