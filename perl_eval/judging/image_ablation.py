"""Whether a judge looks at the pictures: the same questions without them, and with those of other items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perl_eval.errors import UserError
from perl_eval.judges.protocol import Judge
from perl_eval.judging.options import JudgeOptions
from perl_eval.judging.outcome_of import Contestants
from perl_eval.judging.perturbation import Tries, trial
from perl_eval.outcomes import pooled
from perl_eval.records import About, Completion, Estimate, Judgement, digest
from perl_eval.stats import intervals

__all__ = ["CONTROLS", "look"]

CONTROLS = ("pictures removed", "pictures swapped")
_LOOK = Tries("look", "controls", CONTROLS)


def look(a: Path, b: Path | None, out: Path, *, judge: Judge, options: JudgeOptions) -> Path:
    """Ask a judge again without the pictures, and with the pictures of another item, and count changed outcomes.

    A judge that answers alike without its pictures does not judge by them. Written are the share of changed outcomes
    for each control (split, tie and mixed count as one), and how far scores move, beside the judgements under control.

    Args:
        a: As for `run`; only items with pictures take part.
        b: As for `run`.
        out: Output folder.
        judge: Whom to ask.
        options: How to judge; ``limit`` bounds the pairs.

    Raises:
        UserError: As for `run`; or fewer than two items have pictures.
        DataError: As for `run`.
    """
    with trial(_LOOK, a, b, out, judge=judge, options=options) as going:
        if going.started.done:
            return Path(out)
        queue = [unit for unit in going.units if unit[0].images]
        if len({_names(unit) for unit in queue}) < 2:
            raise UserError(f"{a} has no two items with different pictures", "judge answers to pictures")
        before = going.judged(queue)
        removed = going.judged([_changed(unit, CONTROLS[0], ()) for unit in queue])
        after = (removed, going.judged(_swapped(queue)))
        going.started.write([judgement for judgements in after for judgement in judgements], Judgement)
        rates = []
        for name, judgements in zip(CONTROLS, after, strict=True):
            pairs = list(zip(before, judgements, strict=False))  # a limit ends both early, in the same order
            found = [_change_rate(pairs), *([_shift(pairs)] if going.kind == "score" else [])]
            rates += intervals.about(found, About(slice=name), simulated=judge.simulated)
        going.started.write(rates, Estimate)
    return Path(out)


def _names(unit: Contestants) -> tuple[str, ...]:
    return tuple(Path(path).name for path in unit[0].images)


def _changed(unit: Contestants, control: str, pictures: tuple[str, ...]) -> Contestants:
    """Return a unit with other pictures; its completions are others then."""

    def change(answer: Completion) -> Completion:
        policy = f"{answer.policy}, {control}"
        return replace(answer, id=digest("control", control, answer.id), policy=policy, images=pictures)

    return tuple(map(change, unit))


def _swapped(queue: Sequence[Contestants]) -> list[Contestants]:
    """Give each unit the pictures of the next one, in the order of asking, that has others."""
    swapped = []
    for place, unit in enumerate(queue):
        others = (queue[(place + step) % len(queue)] for step in range(1, len(queue)))
        other = next(other for other in others if _names(other) != _names(unit))
        swapped.append(_changed(unit, CONTROLS[1], other[0].images))
    return swapped


_Pairs = Sequence[tuple[Judgement, Judgement]]


def _change_rate(pairs: _Pairs) -> Estimate:
    known = [(was, now) for was, now in pairs if "unjudged" not in (was.outcome, now.outcome)]
    if pairs and pairs[0][0].kind == "score":
        hits = [was.score != now.score for was, now in known]
    else:
        hits = [pooled(was.outcome) != pooled(now.outcome) for was, now in known]
    groups = [was.group for was, _ in known]
    return intervals.proportion("verdict change rate", hits, clusters=groups, n_missing=len(pairs) - len(known))


def _shift(pairs: _Pairs) -> Estimate:
    """Estimate by how much scores fall."""
    known = [
        (was.score - now.score, was.group) for was, now in pairs if was.score is not None and now.score is not None
    ]
    values, groups = [value for value, _ in known], [group for _, group in known]
    return intervals.mean("fall of the score", values, clusters=groups, n_missing=len(pairs) - len(known))
