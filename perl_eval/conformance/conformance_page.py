"""The page of the suite: verdicts, each with the line of the formula that explains it, then the figures and claims."""

from __future__ import annotations

from collections.abc import Sequence

from perl_eval import figure_names as named
from perl_eval.conformance.listed_language import WorldShape
from perl_eval.conformance.loss_verdicts import EstimatorFindings, judge_estimator
from perl_eval.conformance.objective_list import MEANINGS_OF_OBJECTIVES
from perl_eval.conformance.paper_claims import Claim
from perl_eval.reporting.format import markdown

__all__ = ["page", "sentence"]

_INTRODUCTION = """\
The expected gradient of each loss, over all batches that can be drawn, beside the exact gradient of the objective that
it claims. *unbiased*: no coordinate differs by 1e-3 reward units per logit. *right direction*: the exact gradient times
a constant, which a learning rate makes good. *biased*, *against*: another direction, after the best scale.
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    marks = "|".join(["---", *("---:" for _ in head[1:])])
    lines = [f"| {' | '.join(head)} |", f"|{marks}|"]
    return [*lines, *(f"| {' | '.join(markdown(cell) for cell in row)} |" for row in rows), ""]


def sentence(one: EstimatorFindings) -> str:
    """Return the verdict on an estimator as one sentence, with what explains it."""
    verdict, found = judge_estimator(one.worlds, one.objective), one.diagnosis
    scale = "" if abs(found.scale - 1) < 1e-6 else f", times {1 / found.scale if found.scale else 0:.3g}"
    exact = "it descends on a loss that" if found.exact else f"nearest known formula ({found.left:.0%} off): it"
    said = f"{verdict.word}: {verdict.sentence}; {exact} {found.formula}{scale}"
    faults = _told_faults(one)
    return said + (f". For this objective: {'; '.join(faults)}" if faults else "")


def _told_faults(one: EstimatorFindings) -> tuple[str, ...]:
    """Return the faults that are named: those of a formula that the loss has, not of one that is merely nearest."""
    unbiased = judge_estimator(one.worlds, one.objective).word == "unbiased"
    return one.diagnosis.faults if one.diagnosis.exact and not unbiased else ()


def page(found: Sequence[EstimatorFindings], claims: Sequence[Claim], worlds: Sequence[WorldShape]) -> str:
    """Return the page as Markdown.

    Args:
        found: What was found of each estimator.
        claims: What papers say, measured.
        worlds: What was measured in.
    """
    versions = sorted({f"{one.package} {one.version}" for one in found})
    lines = ["# Whose gradient is right", "", _INTRODUCTION, f"Versions: {', '.join(versions)}.", ""]
    lines += ["## Verdicts", "", *_verdicts(found), "## Formulas", ""]
    for one in found:
        lines += _explained(one)
    lines += ["", "## Old samples, padding, missing ends", "", *_robustness(found)]
    ends = [one for one in found if one.end is not None]
    if ends:
        lines += ["## Where training ends", "", *_ends(ends)]
    lines += ["## Claims of papers", "", *_claims(claims), "## Objectives", ""]
    lines += [f"- `{name}`: {meaning}" for name, meaning in MEANINGS_OF_OBJECTIVES.items()]
    lines += ["", "## Worlds", "", *_worlds(worlds)]
    return "\n".join(lines) + "\n"


def _explained(one: EstimatorFindings) -> list[str]:
    """Return the verdict on an estimator, its formula, what it was found to descend on, and what is wrong with that."""
    verdict, found = judge_estimator(one.worlds, one.objective), one.diagnosis
    near = "by its gradient" if found.exact else f"nearest known formula, {found.left:.0%} off"
    lines = [
        f"- **{markdown(one.name)}**: {verdict.word}; {markdown(verdict.sentence)}",
        f"  - its formula: {markdown(one.formula)}",
        f"  - {near}: {markdown(found.formula)}",
    ]
    if faults := _told_faults(one):
        lines.append(f"  - for {markdown(one.objective)}: {markdown('; '.join(faults))}")
    return lines


def _verdicts(found: Sequence[EstimatorFindings]) -> list[str]:
    head = ("estimator", "held against", "verdict", "largest bias", "best scale", "left", "cosine", "variance")
    rows = []
    for one in found:
        biases = [world.bias for world in one.worlds]
        worst = max(biases, key=lambda bias: bias.largest)
        scales = (min(bias.scale for bias in biases), max(bias.scale for bias in biases))
        error = f" ± {worst.half_width:.0e}" if worst.half_width else ""
        cells = (
            f"{worst.largest:.1e}{error}",
            f"{scales[0]:.3g} to {scales[1]:.3g}",
            f"{max(bias.left for bias in biases):.1%}",
            f"{min(bias.cosine for bias in biases):.3f}",
            f"{one.worlds[0].variance:.2g}",
        )
        rows.append((one.name, one.objective, judge_estimator(one.worlds, one.objective).word, *cells))
    return _table(head, rows)


def _robustness(found: Sequence[EstimatorFindings]) -> list[str]:
    head = ("estimator", "left, fresh", "after 1", "after 4", "after 16", "old samples weighted by", "padding", "ends")
    rows = []
    for one in found:
        first = one.worlds[0]
        old = [f"{bias.left:.1%}" for bias in first.after.values()]
        moved = (max(world.padding for world in one.worlds), max(world.missing_ends for world in one.worlds))
        weight = one.diagnosis.weight or "not told"
        rows.append((one.name, f"{first.bias.left:.1%}", *old, weight, *(f"{change:.1e}" for change in moved)))
    note = "Left after the best scale, in the first world; largest change of the gradient by padding and missing ends."
    return [note, "", *_table(head, rows)]


def _ends(found: Sequence[EstimatorFindings]) -> list[str]:
    first = found[0].end
    assert first is not None
    head = ("estimator", "stands", "KL(pi, target)", "KL(target, pi)", "KL(pi, prior)", named.ENTROPY, "reward")
    rows = []
    for one in found:
        end = one.end
        if end is not None:
            values = (end.kl_to_target, end.kl_from_target, end.kl_to_prior, end.entropy, end.reward)
            rows.append((one.name, "yes" if end.stands else "no", *(f"{value:.3f}" for value in values)))
    note = (
        f"Descent on the expected gradient in {first.world!r}; the target has entropy {first.target_entropy:.3f} nats "
        f"and reward {first.target_reward:.3f}."
    )
    return [note, "", *_table(head, rows)]


def _claims(claims: Sequence[Claim]) -> list[str]:
    lines = []
    for one in claims:
        said = f"{markdown(one.statement)}. **{one.verdict}**: {markdown(one.measured)}."
        lines.append(f"- arXiv {one.paper}: {said}")
    return [*lines, ""]


def _worlds(worlds: Sequence[WorldShape]) -> list[str]:
    head = ("world", "words", "tokens", "end", "temperature", "group", "groups", "reward", "beta", "batches")
    rows = [
        (
            one.name,
            *(f"{value:g}" for value in (one.vocabulary, one.longest, one.end_rate, one.temperature)),
            *(f"{value}" for value in (one.group_size, one.groups, one.reward, one.beta, one.draws or "all")),
        )
        for one in worlds
    ]
    return _table(head, rows)
