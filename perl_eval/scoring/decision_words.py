"""What is decided, in words: a sentence that one may act on, the places of policies, and a JUnit report."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np

from perl_eval.metrics.policy_decisions import Decided, Placed
from perl_eval.scoring.decide_options import DecideOptions
from perl_eval.stats.label_plans import cheapest_split, two_digits

__all__ = ["first_labels", "is_at_least", "junit", "junit_error", "places_sentence", "sentence", "shortfall"]

_LIKELY = 0.005
"""Least chance to be best that is said."""
_USUAL_CORRELATION = 0.6
"""What judges and people agree by where nothing is known: for the number of labels to begin with."""


def sentence(found: Decided, how: DecideOptions | None = None) -> str:
    """Return one sentence that one may act on."""
    how = how or DecideOptions()
    value, low, high = _interval(found, how.level)
    by = (
        f"corrected by {found.corrected.labelled:,} labels"
        if found.corrected is not None
        else f"by the judge alone on {found.items:,} items"
    )
    known = found.corrected
    by += " at any time" if known is not None and known.anytime else ""
    p = "" if found.adjusted is None else f"; Holm p {_small(found.adjusted)}"
    shown = f"{abs(value):.2f} ({_bounds(value, low, high)}; {by}{p})"
    if found.verdict != "not decided":
        better, worse = (found.one, found.other) if found.verdict == "better" else (found.other, found.one)
        return f"{better} is better than {worse} by {shown}"
    ahead = found.one if value >= 0 else found.other
    seen = f"{ahead} is ahead by {shown}" if value else f"no difference is seen ({by})"
    return f"{found.one} and {found.other}: not decided, {found.why}; {seen}; {_remedy(found, how)}"


def _small(p: float) -> str:
    """Return a p-value: two digits, or that it is less than a thousandth."""
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def _interval(found: Decided, level: float) -> tuple[float, float | None, float | None]:
    if found.corrected is None:
        return found.alone, found.alone_low, found.alone_high
    return (found.corrected.value, *found.corrected.interval(level))


def _bounds(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "no interval"
    if value < 0:
        low, high = -high, -low
    return f"{low:.2f} to {high:.2f}"


def _remedy(found: Decided, how: DecideOptions) -> str:
    """Say what would settle a comparison."""
    power = f"at {how.power:.0%} power"
    if found.corrected is None:
        asked = f"about {two_digits(first_labels(found, how)):,} labels of randomly drawn units"
        return f"{asked} would decide it {power}, if the judge is right"
    more = []
    if found.labels is not None:
        more.append(f"about {two_digits(found.labels):,} more labels")
    if found.pairs is not None:
        first = "" if more else "about "
        more.append(f"{first}{two_digits(found.pairs):,} more items, labelled in the same proportion,")
    if not more:
        return "no difference is seen that more items could tell"
    rest = "" if found.labels is not None else "; more labels of these items alone would not"
    return f"{', or '.join(more)} would decide it {power}{rest}{_cheapest(found, how)}"


def _cheapest(found: Decided, how: DecideOptions) -> str:
    """Say which numbers of labels and items would be cheapest, where prices are known."""
    if found.corrected is None or not how.price_label:
        return ""
    prices = how.price_label, how.price_item
    split = cheapest_split(found.corrected, found.items, level=how.level, power=how.power, prices=prices)
    if split is None:
        return ""
    labels, items = two_digits(split.labels), two_digits(split.items)
    return f"; cheapest: {labels:,} labels on {items:,} items in all, for {split.price:,.2f}"


def first_labels(found: Decided, how: DecideOptions) -> int:
    """Return how many labels would tell the difference that the judge sees, of usual agreement with people."""
    from scipy.special import ndtri

    gap = max(abs(found.alone), 0.02)
    spread = 1.0 - _USUAL_CORRELATION**2
    return int(np.ceil(spread * float(ndtri((1 + how.level) / 2) + ndtri(how.power)) ** 2 / gap**2))


def places_sentence(places: Sequence[Placed], how: DecideOptions | None = None) -> str:
    """Return the places that policies can have, and who is best with which chance, in words."""
    level = (how or DecideOptions()).level
    spans = [f"{one.policy} {one.low}" + (f" to {one.high}" if one.high > one.low else "") for one in places]
    said = f"ranks, all at once at {level:.0%}: {', '.join(spans)}"
    best = [f"{one.policy} {one.first:.0%}" for one in places if one.first is not None and one.first >= _LIKELY]
    return f"{said}; chance to be best: {', '.join(best)}" if best else said


def is_at_least(found: Decided, least: float) -> bool:
    """Return whether a comparison is decided, and the first policy better by so much or more."""
    return found.verdict != "not decided" and _ahead(found) >= least


def shortfall(found: Decided, least: float) -> str:
    """Return what was asked of a comparison that `is_at_least` does not hold for, and what was found."""
    asked = f"{found.one} was to be better than {found.other}" + (f" by {least:g} or more" if least else "")
    if found.verdict == "not decided":
        return f"{asked}; that is not decided"
    by = "as the judge says" if found.corrected is None else "corrected by labels"
    return f"{asked}; the difference, {by}, is {_ahead(found):+.2f}"


def _ahead(found: Decided) -> float:
    """Return by how much the first policy is ahead."""
    return found.alone if found.corrected is None else found.corrected.value


def junit(found: Sequence[Decided], how: DecideOptions | None = None, *, least: float | None = None) -> str:
    """Return the comparisons as a JUnit report, with their sentences.

    Args:
        found: The comparisons.
        how: How it was decided.
        least: A comparison fails that `is_at_least` does not hold for; if None, what is not decided is skipped.
    """
    suite = ElementTree.Element("testsuite", name="perl-eval decide", tests=str(len(found)))
    failed = [least is not None and not is_at_least(part, least) for part in found]
    skipped = [least is None and part.verdict == "not decided" for part in found]
    suite.set("failures", str(sum(failed)))
    suite.set("skipped", str(sum(skipped)))
    for part, failing, skipping in zip(found, failed, skipped, strict=True):
        case = ElementTree.SubElement(suite, "testcase", classname="decide", name=f"{part.one} against {part.other}")
        said = sentence(part, how)
        if failing and least is not None:
            said = f"{shortfall(part, least)}: {said}"
        if failing or skipping:
            ElementTree.SubElement(case, "failure" if failing else "skipped", message=said)
        else:
            ElementTree.SubElement(case, "system-out").text = said
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def junit_error(why: str) -> str:
    """Return a JUnit report that says why nothing could be compared."""
    suite = ElementTree.Element("testsuite", name="perl-eval decide", tests="1", failures="0", errors="1", skipped="0")
    case = ElementTree.SubElement(suite, "testcase", classname="decide", name="all comparisons")
    ElementTree.SubElement(case, "error", message=why)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
