"""Whether a judge may stand in for a person, in words; beside judges that look at no answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from perl_eval import figure_names as named
from perl_eval.metrics.agreement import labels_of, ratings_by_unit
from perl_eval.records import About, Estimate, HumanLabel, Judgement
from perl_eval.stats.intervals import about
from perl_eval.stats.label_plans import two_digits

__all__ = ["blind", "blind_judges", "standings"]

_HALF = 0.5
"""The winning rate at which the alternative annotator test is passed."""
_POWER, _FALSE = 0.8, 0.05
"""Chance to pass that numbers of units are given for; share of false discoveries that the test allows."""


def blind_judges(judgements: Sequence[Judgement], labels: Sequence[HumanLabel]) -> list[Estimate]:
    """Return, for each judge's labelled units, what two judges that look at no answer would agree with people.

    One always says what people say most, the other draws from how often they say what.

    Args:
        judgements: Judgements of any judges.
        labels: Labels of any units.
    """
    by_unit, _ = ratings_by_unit(labels)
    found: list[Estimate] = []
    judges: dict[tuple[str, str], list[Judgement]] = {}
    for record in judgements:
        if record.kind != "score" and record.outcome != "unjudged":
            judges.setdefault((record.judge, record.kind), []).append(record)
    for (judge, kind), own in sorted(judges.items()):
        figures = blind(label for record in own for label in labels_of(record, by_unit).values())
        question = "" if len({name for name, _ in judges}) == len(judges) else kind
        found += about(figures, About(judge=judge, question=question))
    return found


def blind(labels: Iterable[str]) -> list[Estimate]:
    """Return with which share of labels two judges that do not read the answers would agree; nothing of no labels."""
    said = Counter(labels)
    n = said.total()
    if not n:
        return []
    shares = [count / n for count in said.values()]
    return [
        Estimate(named.CONSTANT_JUDGE, max(shares), None, None, n, 0, "share of labels"),
        Estimate(named.BASE_RATE_JUDGE, sum(share**2 for share in shares), None, None, n, 0, "shares squared"),
    ]


def standings(estimates: Sequence[Estimate], *, brief: bool = False) -> list[str]:
    """Return a sentence for each judge: whether it may stand in for a person, and why.

    It may if it agrees with people more often than the judge that always says what they say most, by more than chance,
    and passes the alternative annotator test where three people or more labelled.

    Args:
        estimates: What `agree` or `audit` found.
        brief: Without the shares of labels that it and people agree with, where they stand beside, as numbers.
    """
    own: dict[tuple[str, str], dict[str, Estimate]] = {}
    persons: dict[tuple[str, str], list[Estimate]] = {}
    for one in estimates:
        about_all = one.about.judge and not (one.about.policy or one.about.slice or one.about.dataset)
        if about_all and not one.about.person:
            own.setdefault((one.about.judge, one.about.question), {}).setdefault(one.name, one)
        elif about_all and one.name == named.ALT_TEST_P_ONE_PERSON:
            persons.setdefault((one.about.judge, one.about.question), []).append(one)
    return [
        f"{_called(*key)} {_standing(figures, persons.get(key, []), brief=brief)}"
        for key, figures in sorted(own.items())
        if named.HUMAN_JUDGE_EXACT_AGREEMENT in figures and named.CONSTANT_JUDGE in figures
    ]


def _called(judge: str, question: str) -> str:
    name = "the judge" if judge == "unnamed" else judge  # a table of verdicts need not say who gave them
    return f"{name} ({question})" if question else name


def _standing(figures: Mapping[str, Estimate], persons: Sequence[Estimate], *, brief: bool) -> str:
    agreement, constant = figures[named.HUMAN_JUDGE_EXACT_AGREEMENT], figures[named.CONSTANT_JUDGE]
    if agreement.value is None or agreement.low is None or constant.value is None:
        return f"is not known to stand in for a person: {agreement.reason or 'too few labels'}"
    seen = "" if brief else f"{_seen(figures)}; "
    share = f"{constant.value:.3f}" if brief else f"{constant.value:.0%}"
    blind = f"always saying the most frequent label ({share})"
    if agreement.low <= constant.value:
        if agreement.high is not None and agreement.high <= constant.value:
            return f"may not stand in for a person: {seen}it agrees no more often than {blind}"
        would = _labels_needed(agreement, constant.value)
        return f"is not shown to stand in for a person: {seen}it is not shown to agree more often than {blind}{would}"
    more = f"{seen}it agrees more often than {blind}"
    tested = figures.get(named.ALT_TEST_WINNING_RATE)
    if tested is None or tested.value is None:
        why = "to know whether it is as good as a person, let three people label the same units, 30 or more"
        if tested is not None and tested.reason:
            why = f"{why}; here {tested.reason}"
        return f"does better than without reading the answers: {more}; {why}"
    people = sum(one.value is not None for one in persons)
    beaten = f"{round(tested.value * people)} of {people} people" if people else f"{tested.value:.0%} of people"
    rate = f"shown to be as good as {beaten} ({tested.method})"
    if tested.value >= _HALF:
        return f"may stand in for a person: {more}, and is {rate}"
    gap = figures.get(named.JUDGE_MINUS_HUMAN_CEILING)
    if gap is not None and gap.high is not None and gap.high < 0:
        return f"may not stand in for a person: {more}, but less often than people with each other; it is {rate}"
    units = _units_needed([one.value for one in persons if one.value is not None], tested.n)
    would = "so far it seems worse than half of them or more, so more units are unlikely to show it"
    if units is not None:
        would = f"roughly {units:,} units in all would show it, if it is"
    return f"is neither shown to be as good as a person nor to be worse: {more}, but is only {rate}; {would}"


def _labels_needed(agreement: Estimate, constant: float) -> str:
    """Say roughly how many labels in all would show that a judge agrees more often than a constant one, if it seems so.

    The interval narrows as the root of the labels; the gap stays as it is.
    """
    from scipy.special import ndtri

    if agreement.value is None or agreement.low is None or agreement.high is None or agreement.value <= constant:
        return ""
    half = (agreement.high - agreement.low) / 2
    times = (1 + float(ndtri(_POWER) / ndtri(0.975))) * half / (agreement.value - constant)
    return f"; roughly {two_digits(times**2 * agreement.n):,} labels in all would show it, if it does"


def _units_needed(ps: Sequence[float], units: int) -> int | None:
    """Return at how many units half of the people would be beaten, if gaps stay as they are; None if never.

    The test of a person is one of a mean, whose distance to the margin in standard errors grows as the root of the
    units; of k people the j-th smallest p has to be below ``0.05 j / (k sum 1/i)`` (Benjamini and Yekutieli).

    Args:
        ps: One-sided p-value against each person.
        units: On how many units they rest.
    """
    from scipy.special import ndtri

    k = len(ps)
    if not k:
        return None
    half = -(-k // 2)
    reached = -float(ndtri(sorted(ps)[half - 1]))
    if reached <= 0:
        return None
    limit = _FALSE * half / (k * sum(1 / i for i in range(1, k + 1)))
    wanted = (float(-ndtri(limit) + ndtri(_POWER)) / reached) ** 2 * units
    return two_digits(wanted)


def _seen(figures: Mapping[str, Estimate]) -> str:
    """Return which share of labels the judge agrees with, and people among themselves."""
    agreement, people = figures[named.HUMAN_JUDGE_EXACT_AGREEMENT], figures.get(named.HUMAN_HUMAN_EXACT_AGREEMENT)
    seen = f"it agrees with {agreement.value:.0%} of labels ({agreement.low:.0%} to {agreement.high:.0%})"
    known = people is not None and people.value is not None
    return f"{seen}, people with each other on {people.value:.0%}" if people is not None and known else seen
