"""Several judges as one: what their judgements of one unit come to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from perl_eval.outcomes import EVEN, UNDECIDED, Decision, is_undecided, of_verdict, pooled, worth
from perl_eval.records import Judgement, Outcome, digest

__all__ = ["RULES", "by_majority", "by_probability", "jury_judgement"]

RULES = ("majority", "mean probability")


def by_majority(judgements: Sequence[Judgement]) -> Decision:
    """Decide by the outcome that more than half of the judges with a verdict hold.

    Without one a pair is a split, and a single answer unjudged. Undecided judges hold together: where they are the
    majority, the pair is a tie if all of them say tie, else a split. Scores are averaged. Unjudged if half of the
    judges or more are.

    Args:
        judgements: One of each judge, of the same unit.
    """
    said = [judgement.outcome for judgement in judgements if judgement.outcome != "unjudged"]
    if 2 * len(said) <= len(judgements):
        return _unjudged(judgements)
    p_a = _mean([judgement.p_a for judgement in judgements if judgement.outcome != "unjudged"])
    if judgements[0].kind == "score":
        return Decision("scored", None, None)
    if judgements[0].kind == "yes_no":
        yes = said.count("yes")
        if 2 * yes == len(said):
            return Decision("unjudged", None, "as many judges say yes as no")
        return Decision("yes" if 2 * yes > len(said) else "no", p_a, None)
    counts = Counter(map(pooled, said))
    leader, most = counts.most_common(1)[0]
    if 2 * most <= len(said):
        return Decision("split", p_a, None)
    if leader == UNDECIDED:
        undecided = set(filter(is_undecided, said))
        return Decision("tie" if undecided == {"tie"} else "split", p_a, None)
    return Decision("win" if leader == "win" else "loss", p_a, None)


def by_probability(judgements: Sequence[Judgement]) -> Decision:
    """Decide by the mean probability that a is preferred, in each order; a win needs more than half in both.

    A judge that gives no probability counts as sure of its verdict, a tie as one half; one without positions counts in
    both orders, and so does one whose ballots are not known, with its probability or its outcome. Scores are averaged.
    Unjudged if half of the judges or more are.

    Args:
        judgements: One of each judge, of the same unit.
    """
    judged = [judgement for judgement in judgements if judgement.outcome != "unjudged"]
    if 2 * len(judged) <= len(judgements):
        return _unjudged(judgements)
    if judgements[0].kind == "score":
        return Decision("scored", None, None)
    if judgements[0].kind == "yes_no":
        p_yes = sum(_chance(judgement, "none") for judgement in judged) / len(judged)
        side = _side(p_yes)
        if side == 0:
            return Decision("unjudged", None, "the mean probability of yes is one half")
        return Decision("yes" if side > 0 else "no", p_yes, None)
    p_ab, p_ba = (sum(_chance(judgement, order) for judgement in judged) / len(judged) for order in ("ab", "ba"))
    return Decision(_pair_outcome(p_ab, p_ba), (p_ab + p_ba) / 2, None)


def _side(chance: float) -> int:
    """Return on which side of one half a mean of probabilities lies: 1, -1, or 0 where only rounding parts them."""
    return 0 if math.isclose(chance, EVEN, rel_tol=0.0, abs_tol=1e-12) else 1 if chance > EVEN else -1


def _pair_outcome(p_ab: float, p_ba: float) -> Outcome:
    sides = {_side(p_ab), _side(p_ba)}
    if sides == {0}:
        return "tie"
    if 0 in sides:
        return "mixed"
    if len(sides) == 2:
        return "split"
    return "win" if sides == {1} else "loss"


def _chance(judgement: Judgement, order: str) -> float:
    """Return the mean probability that a is preferred (or of yes) in one order, over its votes with a verdict."""
    if not judgement.ballots:  # a jury's judgement, or one from a table of outcomes
        return worth(judgement.outcome) if judgement.p_a is None else judgement.p_a
    cast = [b for b in judgement.ballots if b.order in (order, "none") and b.verdict is not None]
    chances = [worth(of_verdict(str(b.verdict))) if b.p_first is None else b.p_first for b in cast]
    mean = sum(chances) / len(chances)
    return 1.0 - mean if order == "ba" and cast[0].order == "ba" else mean


def _unjudged(judgements: Sequence[Judgement]) -> Decision:
    reasons = [judgement.reason or "no verdict" for judgement in judgements if judgement.outcome == "unjudged"]
    return Decision("unjudged", None, "; ".join(dict.fromkeys(reasons)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def jury_judgement(judgements: Sequence[Judgement], rule: str) -> Judgement:
    """Return what a jury says about a unit; it casts no ballots, its judges' judgements stand by themselves.

    Args:
        judgements: One of each judge, of the same unit, in the order of the judges.
        rule: One of `RULES`.

    Raises:
        ValueError: They are not of one unit and one kind.
    """
    if len({(judgement.unit, judgement.kind) for judgement in judgements}) != 1:
        raise ValueError("the judgements are of different things")
    decision = (by_majority if rule == RULES[0] else by_probability)(judgements)
    prompts = {judgement.prompt_sha256 for judgement in judgements}
    scores = [judgement.score for judgement in judgements if judgement.score is not None]
    return replace(
        judgements[0],
        id=digest("jury", rule, *(judgement.id for judgement in judgements)),
        outcome=decision.outcome,
        ballots=(),
        judge=f"jury of {len(judgements)}, {rule}",
        prompt_sha256=prompts.pop() if len(prompts) == 1 else "",
        simulated=any(judgement.simulated for judgement in judgements),
        p_a=decision.p_a,
        reason=decision.reason,
        score=sum(scores) / len(scores) if decision.outcome == "scored" else None,
    )
