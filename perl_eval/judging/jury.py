"""The verb `jury`: judgements of the same units by several judges, to what they say together and how alike they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perl_eval.errors import UserError
from perl_eval.judging.jury_votes import RULES, jury_judgement
from perl_eval.metrics.agreement import labels_of, ratings_by_unit
from perl_eval.metrics.label_join import with_units
from perl_eval.outcomes import worth
from perl_eval.records import About, Estimate, HumanLabel, Judgement
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.intervals import about
from perl_eval.stats.rater_correlation import likeness
from perl_eval.storage import run_folder

__all__ = ["JuryOptions", "run"]


@dataclass(frozen=True, slots=True)
class JuryOptions:
    """How figures are estimated: confidence level in (0, 1), bootstrap draws, and their seed."""

    resampling: Resampling = field(default_factory=Resampling)


def run(members: Sequence[Path], out: Path, *, labels: Path | None = None, options: JuryOptions | None = None) -> Path:
    """Let several judges decide together, by majority and by mean probability.

    Args:
        members: Files or run folders of Judgement records, one a judge.
        out: Output folder; gets the jury's judgements, two a unit, and how alike the judges are: the correlation of
            their errors where people labelled the units, and of what they say.
        labels: Human labels of the same units.
        options: How figures are estimated.

    Raises:
        UserError: There are fewer than two judges, two are the same, or they judged nothing in common.
    """
    how = options or JuryOptions()
    if len(members) < 2:
        raise UserError("a jury needs at least two judges", "give the judgements of at least two")
    inputs = {f"member {place + 1}": path for place, path in enumerate(members)}
    with run_folder.start(
        out,
        verb="jury",
        arguments=run_folder.flat(how),
        seed=how.resampling.seed,
        inputs=inputs | ({"labels": labels} if labels is not None else {}),
    ) as started:
        if started.done:
            return started.folder
        benches = [_by_unit(path) for path in members]
        names = _names(members, benches)
        shared = [unit for unit in benches[0] if all(unit in bench for bench in benches[1:])]
        if not shared:
            raise UserError("the judges judged nothing in common", "give judgements of the same completions")
        units = {unit: [bench[unit] for bench in benches] for unit in sorted(shared)}
        if any(len({judgement.kind for judgement in judgements}) > 1 for judgements in units.values()):
            raise UserError("the judges were asked different kinds of questions", "give judgements of one kind")
        by_rule = {rule: [jury_judgement(judgements, rule) for judgements in units.values()] for rule in RULES}
        said = [one for ruled in by_rule.values() for one in ruled]
        started.write(said, Judgement)
        people = [] if labels is None else with_units(run_folder.read(labels, HumanLabel), said)
        if people and said[0].kind == "score":
            raise UserError("people's labels are not scores, so the judges' errors are unknown", "leave the labels out")
        simulated = any(one.simulated for one in said) or any(label.simulated for label in people)
        started.write(about(_figures(units, names, people, how), About(scope="jury"), simulated=simulated), Estimate)
        for rule, ruled in by_rule.items():
            started.notes[f"outcomes by {rule}"] = dict(Counter(one.outcome for one in ruled))
        started.notes["judges"] = names
        started.notes["units"] = len(units)
        started.notes["not judged by all"] = len({unit for bench in benches for unit in bench}) - len(units)
    return started.folder


def _by_unit(path: Path) -> dict[str, Judgement]:
    found: dict[str, Judgement] = {}
    for judgement in run_folder.read(path, Judgement):
        if found.setdefault(judgement.unit, judgement) is not judgement:
            raise UserError(
                f"{path} holds two judgements of unit {judgement.unit}", "give one judge and prompt at a time"
            )
    return found


def _names(members: Sequence[Path], benches: Sequence[Mapping[str, Judgement]]) -> list[str]:
    """Name the judges: by their models, with the folder where two have the same."""
    models = [next((one.judge for one in bench.values()), "nobody") for bench in benches]
    names = [
        model if models.count(model) == 1 else f"{model} ({path.name})"
        for model, path in zip(models, members, strict=True)
    ]
    if len({Path(path).resolve() for path in members}) < len(members) or len(set(names)) < len(names):
        raise UserError(f"one judge is given twice: {', '.join(names)}", "give each judge's judgements once")
    return names


def _figures(
    units: Mapping[str, Sequence[Judgement]], names: Sequence[str], people: Sequence[HumanLabel], how: JuryOptions
) -> list[Estimate]:
    """Estimate how alike the judges are, on the units that all of them judged.

    An error is the distance to people's mean label. Its sign is left out: where a is better a judge can only err
    downwards, so signed errors of judges that know nothing of each other would correlate.
    """
    judged = [judgements for judgements in units.values() if all(one.outcome != "unjudged" for one in judgements)]
    found = []
    if people:
        by_unit, _ = ratings_by_unit(people)
        labelled = [(judgements, list(labels_of(judgements[0], by_unit).values())) for judgements in judged]
        known = [(judgements, labels) for judgements, labels in labelled if labels]
        errors = [[_error(one, labels) for one in judgements] for judgements, labels in known]
        groups = [judgements[0].group for judgements, _ in known]
        alike = likeness(_table(errors, names), names, of="errors", clusters=groups, resampling=how.resampling)
        found += _missing(alike, len(units) - len(known))
    values = [[_value(one) for one in judgements] for judgements in judged]
    groups = [judgements[0].group for judgements in judged]
    alike = likeness(_table(values, names), names, of="verdicts", clusters=groups, resampling=how.resampling)
    return [*found, *_missing(alike, len(units) - len(judged))]


def _table(rows: Sequence[Sequence[float]], names: Sequence[str]) -> NDArray[np.float64]:
    return np.array(rows, np.float64).reshape(len(rows), len(names))


def _missing(estimates: Sequence[Estimate], missing: int) -> list[Estimate]:
    return [replace(estimate, n_missing=missing) for estimate in estimates]


def _error(judgement: Judgement, labels: Sequence[str]) -> float:
    """Return how far what a judge said is from people's mean label."""
    return abs(_value(judgement) - sum(map(worth, labels)) / len(labels))


def _value(judgement: Judgement) -> float:
    return worth(judgement.outcome) if judgement.score is None else judgement.score
