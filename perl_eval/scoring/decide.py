"""The verb `decide`: which policy is better, as people would see it, or what would settle it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from perl_eval import figure_names as named
from perl_eval.checks import between
from perl_eval.errors import UserError
from perl_eval.metrics.policy_comparisons import Decided, JudgeSkill, comparisons, decided
from perl_eval.records import About, Estimate
from perl_eval.scoring.judged_units import read_units
from perl_eval.storage import run_folder

__all__ = ["DECISION", "DecideOptions", "about", "first_labels", "is_at_least", "junit", "run", "sentence"]

DECISION = "decision.md"
"""The file that says what is decided, a line a comparison."""
_USUAL_CORRELATION = 0.6
"""What judges and people agree by where nothing is known: for the number of labels to begin with."""


@dataclass(frozen=True, slots=True)
class DecideOptions:
    """How it is decided.

    Attributes:
        baseline: If given, only comparisons with this policy.
        level: Confidence level of all comparisons together, and of each interval.
        power: Chance of a decision that the numbers of labels and pairs are for.
        judge_alone: Decide by the judge where people labelled too little, as if it were no kinder to either policy.
    """

    baseline: str = ""
    level: float = 0.95
    power: float = 0.8
    judge_alone: bool = False

    def __post_init__(self) -> None:
        between(0, 1, self, "level", "power", ends="()")


def run(
    judgements: Path | Sequence[Path], out: Path, *, labels: Path | None = None, options: DecideOptions | None = None
) -> tuple[Path, list[Decided]]:
    """Decide between policies, by a judge on all items and people's labels of a random part of them.

    Policies that were judged against each other are compared so; those that met the same third, or were judged alone,
    item by item. Differences are corrected by labels (PPI++ with several proxies), p-values adjusted for all
    comparisons after Holm. Without labels nothing is decided, for nobody knows whether the judge is kinder to one.

    Args:
        judgements: Run folders of `judge`, by one judge.
        out: Output folder: ``estimates.parquet``, and ``decision.md`` with a sentence a comparison.
        labels: Human labels of a random part.
        options: How it is decided.

    Returns:
        The output folder, and what is known of each comparison.

    Raises:
        UserError: There are no two policies, or several judges.
        DataError: An input does not match its card.
    """
    how = options or DecideOptions()
    sources = [Path(judgements)] if isinstance(judgements, str | Path) else [Path(one) for one in judgements]
    inputs = {f"judgements {place}": path for place, path in enumerate(sources, 1)}
    if labels is not None:
        inputs["labels"] = Path(labels)
    with run_folder.start(out, verb="decide", arguments=asdict(how), inputs=inputs) as going:
        units = read_units(sources, labels)
        found = comparisons(units, how.baseline)
        if not found:
            raise UserError("no two policies were judged on the same items", "judge two, or see --baseline")
        said = decided(found, level=how.level, power=how.power, judge_alone=how.judge_alone)
        if not going.done:
            going.write([one for part in said for one in _estimates(part, how, going.simulated)], Estimate)
            lines = [f"- {sentence(part, how)}\n" for part in said]
            (going.folder / DECISION).write_text("".join(lines), "utf-8")
            going.notes |= {"decided": sum(part.verdict != "not decided" for part in said), "comparisons": len(said)}
    return going.folder, said


def sentence(found: Decided, how: DecideOptions | None = None) -> str:
    """Return one sentence that one may act on."""
    how = how or DecideOptions()
    value, low, high = _interval(found, how.level)
    by = (
        f"corrected by {found.corrected.labelled:,} labels"
        if found.corrected is not None
        else f"by the judge alone on {found.items:,} items"
    )
    p = "" if found.adjusted is None else f"; Holm p = {found.adjusted:.2g}"
    shown = f"{abs(value):.2f} ({_bounds(value, low, high)}; {by}{p})"
    if found.verdict != "not decided":
        better, worse = (found.one, found.other) if found.verdict == "better" else (found.other, found.one)
        return f"{better} is better than {worse} by {shown}"
    ahead = found.one if value >= 0 else found.other
    seen = f"{ahead} is ahead by {shown}" if value else f"no difference is seen ({by})"
    return f"{found.one} and {found.other}: not decided, {found.why}; {seen}; {_remedy(found, how)}"


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
        asked = f"about {about(first_labels(found, how)):,} labels of a random part"
        return f"{asked} would tell {power}, if the judge is right"
    more = []
    if found.labels is not None:
        more.append(f"about {about(found.labels):,} more labels")
    if found.pairs is not None:
        more.append(f"{about(found.pairs):,} more items, labelled in the same proportion,")
    if not more:
        return "no difference is seen that more items could tell"
    rest = "" if found.labels is not None else "; no number of labels on these items would"
    return f"{', or '.join(more)} would decide it {power}{rest}"


def about(number: int) -> int:
    """Return a number rounded up to two digits: that many is known of it at most."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step


def first_labels(found: Decided, how: DecideOptions) -> int:
    """Return how many labels would tell the difference that the judge sees, of usual agreement with people."""
    from scipy.special import ndtri

    gap = max(abs(found.alone), 0.02)
    spread = 1.0 - _USUAL_CORRELATION**2
    return int(np.ceil(spread * float(ndtri((1 + how.level) / 2) + ndtri(how.power)) ** 2 / gap**2))


def _estimates(found: Decided, how: DecideOptions, simulated: bool) -> Iterator[Estimate]:
    about = About(policy=found.one, minus=found.other)
    more: Mapping[str, Any] = {"level": how.level, "about": about, "simulated": simulated}
    yield Estimate(
        named.DIFFERENCE_BY_JUDGE, found.alone, found.alone_low, found.alone_high, found.items, 0, "t", **more
    )
    if found.corrected is not None:
        part = found.corrected
        method = f"PPI++ on differences, {part.labelled} labelled, {part.proxies} proxies"
        yield Estimate(
            named.DIFFERENCE_CORRECTED, part.value, *part.interval(how.level), found.items, 0, method, **more
        )
    for name, value in (
        (named.DIFFERENCE_P, found.p),
        (named.DIFFERENCE_HOLM_P, found.adjusted),
        (named.DIFFERENCE_FDR_P, found.discovered),
    ):
        if value is not None:
            yield Estimate(name, value, None, None, found.items, 0, "t", kind="p-value", **more)
    for policy, skill in zip((found.one, found.other), found.errors, strict=True):
        yield from _skill(policy, skill, how, simulated)
    if found.gap is not None:
        yield Estimate(named.JUDGE_J_DIFFERENCE, *found.gap, found.items, 0, "MOVER of Wilson", **more)
    for name, needed in ((named.MORE_LABELS, found.labels), (named.MORE_ITEMS, found.pairs)):
        if needed is not None:
            yield Estimate(
                name, float(needed), None, None, found.items, 0, f"power {how.power:g}", kind="count", **more
            )


def _skill(policy: str, skill: JudgeSkill, how: DecideOptions, simulated: bool) -> Iterator[Estimate]:
    more: Mapping[str, Any] = {"level": how.level, "about": About(policy=policy), "simulated": simulated}
    if skill.informedness is None:
        return
    for name, value in (
        (named.JUDGE_SENSITIVITY, skill.sensitivity),
        (named.JUDGE_SPECIFICITY, skill.specificity),
    ):
        yield Estimate(name, value, None, None, skill.n, 0, "share", **more)
    yield Estimate(named.JUDGE_J, skill.informedness, skill.low, skill.high, skill.n, 0, "MOVER of Wilson", **more)


def is_at_least(found: Decided, least: float) -> bool:
    """Return whether a comparison is decided, and the first policy better by so much or more."""
    value = found.alone if found.corrected is None else found.corrected.value
    return found.verdict != "not decided" and value >= least


def junit(found: Sequence[Decided], how: DecideOptions | None = None) -> str:
    """Return the comparisons as a JUnit report: what is not decided is skipped, with its sentence."""
    suite = ElementTree.Element("testsuite", name="perl-eval decide", tests=str(len(found)))
    suite.set("skipped", str(sum(part.verdict == "not decided" for part in found)))
    for part in found:
        case = ElementTree.SubElement(suite, "testcase", classname="decide", name=f"{part.one} against {part.other}")
        said = sentence(part, how)
        if part.verdict == "not decided":
            ElementTree.SubElement(case, "skipped", message=said)
        else:
            ElementTree.SubElement(case, "system-out").text = said
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
