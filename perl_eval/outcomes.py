"""What the ballots of a judgement come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from perl_eval.records import Ballot, Order, Outcome

__all__ = ["Decision", "decide"]


class Decision(NamedTuple):
    """What some ballots come to; see `decide`."""

    outcome: Outcome
    p_a: float | None
    reason: str | None


# Which contestant a position is, by order. A judge without positions is shown a first.
_CONTESTANT: dict[Order, dict[str, Literal["a", "b"]]] = {
    "ab": {"first": "a", "second": "b"},
    "ba": {"first": "b", "second": "a"},
    "none": {"first": "a", "second": "b"},
}


_SINGLE_OUTCOMES: dict[str | None, Outcome] = {"yes": "yes", "no": "no", "scored": "scored"}


_SINGLE = frozenset(_SINGLE_OUTCOMES)


# By what the orders prefer.
_OUTCOMES: dict[str, Outcome] = {
    "a": "win",
    "b": "loss",
    "tie": "tie",
    "a+b": "split",
    "a+tie": "mixed",
    "b+tie": "mixed",
}


# What one ballot of either order comes to, without the detours of votes.
_PAIR_OUTCOMES: dict[tuple[str | None, str | None], Outcome] = {
    (ab, ba): _OUTCOMES["+".join(sorted({_CONTESTANT["ab"].get(ab, "tie"), _CONTESTANT["ba"].get(ba, "tie")}))]
    for ab in ("first", "second", "tie")
    for ba in ("first", "second", "tie")
}


def decide(ballots: Sequence[Ballot]) -> Decision:
    """Decide one judgement from its ballots: as many of either order, or only such without order.

    Win or loss needs both orders. Several votes of one order count as the verdict that most of them give; without one
    ahead they are a tie, or for yes and no unjudged. ``p_a`` is the mean over the ballots of the probability that a is
    preferred (or of yes), ties counted half; None if a ballot has none. A pair is unjudged, whatever the other order
    says, if half of the votes of an order or more hold no verdict. An answer is scored if more than half hold a score.

    Raises:
        ValueError: The ballots do not belong together.
    """
    if [ballot.order for ballot in ballots] == ["ab", "ba"]:
        ab, ba = ballots
        if outcome := _PAIR_OUTCOMES.get((ab.verdict, ba.verdict)):
            if ab.p_first is None or ba.p_first is None:
                return Decision(outcome, None, None)
            return Decision(outcome, (ab.p_first + (1.0 - ba.p_first)) / 2, None)
    votes: dict[Order, list[Ballot]] = {}
    for ballot in ballots:
        votes.setdefault(ballot.order, []).append(ballot)
    single = not _SINGLE.isdisjoint([ballot.verdict for ballot in ballots])
    orders, sizes = "+".join(sorted(votes)), {len(cast) for cast in votes.values()}
    if orders not in ("ab+ba", "none") or len(sizes) != 1 or (single and orders != "none"):
        raise ValueError(f"ballots {[(ballot.order, ballot.verdict) for ballot in ballots]} are no judgement")
    verdicts = [(order, _most(cast, "" if single else "tie")) for order, cast in votes.items()]
    if any(verdict is None for _, verdict in verdicts):
        reasons = [ballot.reason or "no verdict" for ballot in ballots if ballot.verdict is None]
        return Decision("unjudged", None, "; ".join(dict.fromkeys(reasons)) or "as many votes for yes as for no")
    given = [1.0 - b.p_first if b.order == "ba" else b.p_first for b in ballots if b.p_first is not None]
    p_a = sum(given) / len(given) if len(given) == len(ballots) else None
    if single:
        return Decision(_SINGLE_OUTCOMES[verdicts[0][1]], p_a, None)
    preferred = {_CONTESTANT[order].get(str(verdict), "tie") for order, verdict in verdicts}
    return Decision(_OUTCOMES["+".join(sorted(preferred))], p_a, None)


def _most(cast: Sequence[Ballot], drawn: str) -> str | None:
    """Return the verdict of most votes, ``drawn`` if none is ahead, None if half of them or more hold none."""
    if len(cast) == 1:
        return cast[0].verdict
    counts = Counter(ballot.verdict for ballot in cast if ballot.verdict is not None)
    if 2 * counts.total() <= len(cast):
        return None
    (leader, most), *others = counts.most_common(2)
    return (drawn or None) if others and others[0][1] == most else leader
