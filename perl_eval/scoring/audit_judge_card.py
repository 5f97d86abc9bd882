"""A judge's passport as one page of Markdown: its figures in the order in which they are to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perl_eval.metrics.glossary import MEANINGS
from perl_eval.records import Estimate

__all__ = ["page"]

_PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Agreement with people",
        (
            *("units compared", "people", "share of people's labels", "human-judge exact agreement, majority"),
            *("human-judge Cohen kappa", "human-judge Gwet AC1", "human-human exact agreement"),
            *("human-human Krippendorff alpha", "human ceiling", "judge at the ceiling's task"),
            *("judge minus human ceiling", "alt-test winning rate", "alt-test advantage"),
            *("human-judge AUC, majority", "human-judge Pearson r", "human-judge Spearman rho"),
        ),
    ),
    (
        "Position",
        (
            *("first in both orders", "second in both orders", "position test p", "position preference"),
            *("consistency", "kappa between orders"),
        ),
    ),
    (
        "Repeatability, length, family, attacks",
        (
            *("same outcome when asked again", "longer preferred rate, judge", "longer preferred rate, people"),
            *("self-preference", "attack success rate"),
        ),
    ),
    ("Failures and price", ("unjudged rate", "tokens a judgement", "seconds a judgement", "cost a judgement, USD")),
)


def page(estimates: Sequence[Estimate], judges: Sequence[str], *, anchors: int) -> str:
    """Write the page.

    Args:
        estimates: Figures of an audit, each about its judge.
        judges: Whose passports they are.
        anchors: Number of judgements kept as anchors.
    """
    lines = []
    for judge in judges:
        own = [one for one in estimates if one.about.judge == judge and not one.about.policy]
        lines += [f"# Passport of judge {_cell(judge)}", ""]
        if any(one.simulated for one in own):
            lines += ["Simulated: people or judge are not real.", ""]
        for title, names in _PARTS:
            told = [_row(one) for name in names for one in own if one.name == name]
            if told:  # a judge of single answers knows no position
                head = ["| figure | value | interval | n | what it is |", "|---|---|---|---|---|"]
                lines += [f"## {title}", "", *head, *told, ""]
    lines += [
        f"{anchors} labelled judgements are frozen as anchors. Later: `perl-eval audit NOW --anchors FOLDER`.",
        "",
    ]
    return "\n".join(lines)


def _row(estimate: Estimate) -> str:
    inner = replace(estimate.about, judge="").sentence
    name = f"{estimate.name} ({inner})" if inner else estimate.name
    value = f"none: {estimate.reason}" if estimate.value is None else f"{estimate.value:.3g}"
    interval = "" if estimate.low is None else f"{estimate.low:.3g} to {estimate.high:.3g}"
    n = f"{estimate.n}" + (f" ({estimate.n_missing} missing)" if estimate.n_missing else "")
    return f"| {' | '.join(map(_cell, (name, value, interval, n, MEANINGS[estimate.name])))} |"


def _cell(text: str) -> str:
    """Return a user's text so that it stays in its cell: on one line, and without Markdown of its own."""
    flat = " ".join(part for part in "".join(char if char.isprintable() else " " for char in text).split())
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in flat)
