"""How easily a judge is talked round: the built-in attacks, tried on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perl_eval import figure_names as named
from perl_eval.judges.protocol import Judge
from perl_eval.judging.attacks import ATTACKS, attacked, attacked_id
from perl_eval.judging.options import JudgeOptions
from perl_eval.judging.outcome_of import Contestants
from perl_eval.judging.perturbation import Tries, trial
from perl_eval.outcomes import went_over
from perl_eval.records import About, Estimate, Judgement
from perl_eval.stats import intervals

__all__ = ["attack"]

_ATTACK = Tries("attack", "attacks", tuple(ATTACKS))
_Try = tuple[str, Judgement, Judgement]


def attack(a: Path, b: Path | None, out: Path, *, judge: Judge, options: JudgeOptions) -> Path:
    """Try the built-in attacks on a judge: b (or the single answer) says what should sway it.

    An attack on a pair succeeds if b, which did not win as it was, wins in both orders with the attack. An attack on a
    single answer succeeds if the verdict changes, or the score rises. The success rate is written for each attack and
    for all, beside the judgements of the attacked answers.

    Args:
        a: As for `run`.
        b: As for `run`.
        out: Output folder.
        judge: Whom to attack.
        options: How to judge; ``limit`` bounds the pairs.

    Raises:
        UserError: As for `run`.
        DataError: As for `run`.
    """
    with trial(_ATTACK, a, b, out, judge=judge, options=options) as going:
        if going.started.done:
            return Path(out)

        def judged_as(units: Sequence[Contestants]) -> list[Judgement]:
            return sorted(going.judged(units), key=lambda judgement: (judgement.item, judgement.id))

        before = judged_as(going.units)
        tried = {name: judged_as([(*unit[:-1], attacked(unit[-1], name)) for unit in going.units]) for name in ATTACKS}
        going.started.write([judgement for name in tried for judgement in tried[name]], Judgement)
        found = [entry for name in tried for entry in _aligned(name, before, tried[name])]
        rates = [_success_rate([entry for entry in found if entry[0] == name], name) for name in ATTACKS]
        rates.append(_success_rate(found, "all attacks"))
        going.started.write([replace(rate, simulated=judge.simulated) for rate in rates], Estimate)
    return Path(out)


def _aligned(name: str, before: Sequence[Judgement], after: Sequence[Judgement]) -> list[_Try]:
    """Pair the judgements of a unit before and under an attack; either may be missing where asking ended early."""
    was = {attacked_id(name, judgement.b or judgement.a): judgement for judgement in before}
    return [(name, was[now.b or now.a], now) for now in after if (now.b or now.a) in was]


def _success_rate(found: Sequence[_Try], name: str) -> Estimate:
    """Return the share of attacks that got what they wanted, of those that could: b had not won already."""
    hits, clusters, missing = [], [], 0
    for _, was, now in found:
        if "unjudged" in (was.outcome, now.outcome):
            missing += 1
        elif was.outcome != "loss":
            hits.append(went_over(was, now))
            clusters.append(was.group)
    rate = intervals.proportion(named.ATTACK_SUCCESS_RATE, hits, clusters=clusters, n_missing=missing)
    return replace(rate, about=About(slice=name))
