"""What the verdicts of a judgement come to, and what an outcome is: its worth, its mirror, its words.

The rule of PE-RLHF: a pair is won (lost) only if it is preferred (not preferred) in both orders; a split counts as a
tie; an unjudged unit counts as nothing. `TABLE` says so once; whoever counts outcomes asks the functions here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from perl_eval.records import Ballot, Judgement, Kind, Order, Outcome

__all__ = [
    "DROPPED",
    "EVEN",
    "HALF",
    "LABELS",
    "LOST",
    "TABLE",
    "TIE_WORDS",
    "UNDECIDED",
    "WON",
    "Decision",
    "Meaning",
    "Weighting",
    "as_label",
    "as_verdict",
    "decide",
    "is_decided",
    "is_undecided",
    "is_vote",
    "meaning",
    "mirror",
    "of_verdict",
    "outcomes_of",
    "people_labels",
    "pooled",
    "went_over",
    "word",
    "worth",
]

EVEN = 0.5
"""The worth of what favours neither side: the fixed point of turning a pair round, which makes w of 1 - w."""
UNDECIDED = "undecided"
"""The word for splits, ties and mixed pairs together."""
TIE_WORDS: tuple[str, ...] = ("tie", "tied", "draw", "equal", "both", "neither", "same")
"""What people and judges say of two answers of which neither is better, in files, replies and labels."""
LABELS: Mapping[str, tuple[str, ...]] = {
    "pairwise": ("win", "tie", "loss"),
    "yes_no": ("no", "yes"),
    "score": ("no", "yes"),
}
"""What people can say of a unit, by the kind of question, in order."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one outcome is, of contestant a or of the one answer.

    Attributes:
        kind: The question that it answers; None for ``unjudged``, which any question can come to.
        worth: What it is worth for a, or for yes, in [0, 1]; None if it is not a vote for either side.
        mirror: The outcome of the same unit with the contestants exchanged.
        undecided: Whether there are verdicts, and neither side won.
        as_label: What a person would have to say to agree with it; None if it agrees with nothing.
        word: The word for it that people read.
    """

    kind: Kind | None
    worth: float | None
    mirror: Outcome
    undecided: bool
    as_label: str | None
    word: str


TABLE: Mapping[str, Meaning] = MappingProxyType(
    {
        "win": Meaning("pairwise", 1.0, "loss", False, "win", "win"),
        "split": Meaning("pairwise", EVEN, "split", True, "tie", "split"),
        "tie": Meaning("pairwise", EVEN, "tie", True, "tie", "tie"),
        "mixed": Meaning("pairwise", EVEN, "mixed", True, "tie", "mixed"),
        "loss": Meaning("pairwise", 0.0, "win", False, "loss", "loss"),
        "yes": Meaning("yes_no", 1.0, "yes", False, "yes", "yes"),
        "no": Meaning("yes_no", 0.0, "no", False, "no", "no"),
        "scored": Meaning("score", None, "scored", False, None, "scored"),
        "unjudged": Meaning(None, None, "unjudged", False, None, "unjudged"),
    }
)
"""Every outcome, best first within a kind. Labels of people are outcomes too. Only this module reads it."""


@dataclass(frozen=True, slots=True)
class Weighting:
    """What each outcome adds to a rate; a rate is the mean of that over the units that are in it.

    Attributes:
        undecided: What an undecided pair adds: ``its worth``, ``nothing``, or it is ``left out`` of the rate.
        side: ``a`` for a rate of wins or of yes, ``b`` for one of losses or of no.
    """

    undecided: Literal["its worth", "nothing", "left out"]
    side: Literal["a", "b"] = "a"

    def of(self, outcome: str) -> float | None:
        """Return what an outcome adds, in [0, 1]; None if it is not in the rate: unjudged, scored, or left out.

        Raises:
            ValueError: It is no outcome.
        """
        found = meaning(outcome)
        if found.worth is None or (found.undecided and self.undecided == "left out"):
            return None
        if found.undecided and self.undecided == "nothing":
            return 0.0
        return found.worth if self.side == "a" else 1.0 - found.worth

    def table(self) -> dict[str, float]:
        """Return what each outcome adds, for those that are in the rate; quicker than `of` for many."""
        return {outcome: added for outcome in TABLE if (added := self.of(outcome)) is not None}


WON = Weighting("nothing")
"""Of ``win rate`` and ``yes rate``: a win (a yes) counts 1, everything else 0."""
LOST = Weighting("nothing", "b")
"""Of ``loss rate`` and ``no rate``: a loss (a no) counts 1, everything else 0."""
HALF = Weighting("its worth")
"""Of ``win rate, undecided half``: a win counts 1, an undecided pair what it is worth."""
DROPPED = Weighting("left out")
"""Of ``win rate, undecided dropped``: a win counts 1, and only pairs that one side won are in it."""


def meaning(outcome: str) -> Meaning:
    """Return what an outcome is.

    Raises:
        ValueError: It is no outcome.
    """
    if outcome not in TABLE:
        raise ValueError(f"{outcome!r} is no outcome; known are {', '.join(TABLE)}")
    return TABLE[outcome]


def worth(outcome: str) -> float:
    """Return what an outcome, or a label, is worth for a (for yes), in [0, 1].

    Raises:
        ValueError: It is no outcome, or no vote for either side.
    """
    value = meaning(outcome).worth
    if value is None:
        raise ValueError(f"{outcome} is worth nothing")
    return value


def is_undecided(outcome: str) -> bool:
    """Return whether neither side won, although there are verdicts."""
    return meaning(outcome).undecided


def is_decided(outcome: str) -> bool:
    """Return whether one side of a pair won."""
    found = meaning(outcome)
    return found.kind == "pairwise" and not found.undecided


def pooled(outcome: str) -> str:
    """Return the outcome, those that are undecided as one: `UNDECIDED`."""
    return UNDECIDED if is_undecided(outcome) else outcome


def mirror(outcome: str) -> str:
    """Return the outcome of the same unit with the contestants exchanged; what is no outcome stands for itself."""
    return TABLE[outcome].mirror if outcome in TABLE else outcome


def is_vote(outcome: str) -> bool:
    """Return whether an outcome says something of the two sides, were it that they are even; unjudged does not."""
    return meaning(outcome).worth is not None


def as_label(outcome: str) -> str:
    """Return what a person would have to say to agree with an outcome.

    Raises:
        ValueError: It is not a vote, so that nobody can agree with it.
    """
    label = meaning(outcome).as_label
    if label is None:
        raise ValueError(f"nobody can agree with {outcome}")
    return label


def word(outcome: str) -> str:
    """Return the word for an outcome that people read; what is no outcome stands for itself."""
    return TABLE[outcome].word if outcome in TABLE else outcome


def outcomes_of(kind: str) -> tuple[str, ...]:
    """Return what a question of a kind can come to, best first, ``unjudged`` last."""
    return tuple(outcome for outcome, found in TABLE.items() if found.kind in (kind, None))


def people_labels() -> tuple[str, ...]:
    """Return everything that people can say of any unit."""
    return tuple(outcome for outcome in TABLE if any(outcome in labels for labels in LABELS.values()))


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


def of_verdict(verdict: str, order: Order = "ab") -> str:
    """Return the outcome that one verdict alone comes to: win or loss by which contestant stood where, or itself."""
    preferred = _CONTESTANT[order].get(verdict)
    return _OUTCOMES[preferred] if preferred else verdict


def as_verdict(outcome: str, order: Order) -> str:
    """Return the verdict that comes to an outcome in an order: where the winner stood, or the outcome itself."""
    return next((place for place in ("first", "second") if of_verdict(place, order) == outcome), outcome)


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


def went_over(was: Judgement, now: Judgement) -> bool:
    """Return whether a judge went over to what an attack wants: b wins; or, of one answer, another verdict or more.

    Args:
        was: A judgement, of a pair that b had not won.
        now: One of the same unit later, or under an attack.
    """
    if was.b:
        return now.outcome == "loss"
    if was.score is None or now.score is None:
        return now.outcome != was.outcome
    return now.score > was.score


def _most(cast: Sequence[Ballot], drawn: str) -> str | None:
    """Return the verdict of most votes, ``drawn`` if none is ahead, None if half of them or more hold none."""
    if len(cast) == 1:
        return cast[0].verdict
    counts = Counter(ballot.verdict for ballot in cast if ballot.verdict is not None)
    if 2 * counts.total() <= len(cast):
        return None
    (leader, most), *others = counts.most_common(2)
    return (drawn or None) if others and others[0][1] == most else leader
