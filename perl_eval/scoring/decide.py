"""The verb `decide`: which policy is better, as people would see it, or what would settle it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perl_eval import figure_names as named
from perl_eval.errors import UserError, in_typed_names
from perl_eval.metrics.policy_comparisons import Units, comparisons
from perl_eval.metrics.policy_decisions import Decided, JudgeSkill, Placed, decided, placed
from perl_eval.records import About, Estimate
from perl_eval.scoring.decide_options import DecideOptions
from perl_eval.scoring.decision_words import places_sentence, sentence
from perl_eval.scoring.judged_units import read_units
from perl_eval.sources.counting import counted
from perl_eval.storage import run_folder

__all__ = ["DECISION", "DecideOptions", "run", "sentence"]

DECISION = "decision.md"
"""The file that says what is decided, a line a comparison."""


def run(
    judgements: Path | Sequence[Path],
    out: Path,
    *,
    labels: Path | None = None,
    proxies: Sequence[Path] = (),
    options: DecideOptions | None = None,
) -> tuple[Path, list[Decided]]:
    """Decide between policies, by a judge on all items and people's labels of a random part of them.

    Policies that were judged against each other are compared so; those that met the same third, or were judged alone,
    item by item. Differences are corrected by labels (PPI++ with several proxies), p-values adjusted for all
    comparisons after Holm; of three policies and more their places are said, with sets that hold together. Without
    labels nothing is decided, for nobody knows whether the judge is kinder to one.

    Args:
        judgements: Run folders of `judge`, by one judge.
        out: Output folder: ``estimates.parquet``, and ``decision.md`` with a sentence a comparison.
        labels: Human labels of a random part.
        proxies: Another judge's judgements of the same answers, all or a random part of them, or a reward model's
            scores: they need not be right, and make intervals narrower.
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
    inputs |= {f"proxy {place}": Path(path) for place, path in enumerate(proxies, 1)}
    with run_folder.start(out, verb="decide", arguments=asdict(how), inputs=inputs) as going:
        units = read_units(sources, labels, [Path(one) for one in proxies])
        found = comparisons(units, how.baseline)
        if not found:
            _refuse_unknown(how.baseline, units)
            raise UserError("no two policies were judged on the same items", "judge two, or see --baseline")
        anytime = how.anytime or any(map(_stopped, sources))
        said = decided(found, level=how.level, power=how.power, judge_alone=how.judge_alone, anytime=anytime)
        if not going.done:
            places = placed(found, said, level=how.level)
            figures = [one for part in said for one in _estimates(part, how, going.simulated)]
            going.write([*figures, *_placed(places, how, going.simulated)], Estimate)
            lines = [f"- {line}\n" for line in (*(sentence(part, how) for part in said), *_cut_short(sources))]
            ending = f"\n{places_sentence(places, how)}\n" if places else ""
            (going.folder / DECISION).write_text("".join(lines) + ending, "utf-8")
            going.notes |= {"decided": sum(part.verdict != "not decided" for part in said), "comparisons": len(said)}
            going.notes |= {"anytime": True} if anytime else {}
    return going.folder, said


def _refuse_unknown(baseline: str, units: Units) -> None:
    """Refuse a baseline that no judged policy is called, and name those there are."""
    known = sorted({name for part in comparisons(units) for name in (part.one, part.other)})
    if known and baseline not in known:
        raise UserError(f"no policy is called {baseline!r}", f"choose --baseline from {', '.join(known)}")


def _notes_of(source: Path) -> Mapping[str, Any]:
    card = run_folder.read_card(source if source.is_dir() else source.parent)
    return {} if card is None else card.notes


def _stopped(source: Path) -> bool:
    """Return whether a judge run stopped once it was decided, after which fixed intervals do not hold."""
    return _notes_of(source).get("decided after") is not None


def _cut_short(sources: Sequence[Path]) -> Iterator[str]:
    """Yield a sentence for each judge run that a budget or an outage stopped before it had asked everything."""
    for source in sources:
        notes = _notes_of(source)
        if why := notes.get("asking", {}).get("stopped"):
            left = counted(notes.get("not_asked", 0), "items that were not asked")
            goes_on = f"{in_typed_names(why)}; the same `judge` command goes on"
            yield f"{source.name} is not complete, it lacks {left} ({goes_on})"


def _placed(places: Sequence[Placed], how: DecideOptions, simulated: bool) -> Iterator[Estimate]:
    for one in places:
        more: Mapping[str, Any] = {"level": how.level, "about": About(policy=one.policy), "simulated": simulated}
        middle, n = (one.low + one.high) / 2, len(places)
        yield Estimate(named.PLACE, middle, one.low, one.high, n, 0, "step-down of joint t tests", **more)
        if one.first is not None:
            yield Estimate(named.CHANCE_TO_BE_BEST, one.first, None, None, n, 0, "draws of all differences", **more)


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
