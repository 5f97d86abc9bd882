"""A judge's report card as one page of Markdown: its figures in the order in which they are to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perl_eval import figure_names as named
from perl_eval.metrics.glossary import MEANINGS
from perl_eval.metrics.judge_standing import standings
from perl_eval.records import Estimate

__all__ = ["page"]

_PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Agreement with people",
        (
            *(
                named.UNITS_COMPARED,
                "people",
                named.SHARE_OF_PEOPLES_LABELS,
                named.HUMAN_JUDGE_EXACT_AGREEMENT_MAJORITY,
            ),
            *(named.CONSTANT_JUDGE, named.BASE_RATE_JUDGE, named.NET_AGREEMENT),
            *(named.PROBABLE_SIDE_ACCURACY, named.PROBABILITY_AUC, named.LOG_LOSS),
            *(named.HUMAN_JUDGE_COHEN_KAPPA, "human-judge Gwet AC1", named.HUMAN_HUMAN_EXACT_AGREEMENT),
            *("human-human Krippendorff alpha", named.HUMAN_CEILING, named.JUDGE_AT_THE_CEILINGS_TASK),
            *(
                named.JUDGE_MINUS_HUMAN_CEILING,
                named.ALT_TEST_PASSES,
                named.ALT_TEST_WINNING_RATE,
                named.ALT_TEST_WINNING_RATE_CONSTANT,
                named.ALT_TEST_WINNING_RATE_BASE_RATES,
                named.ALT_TEST_WINNING_RATE_BALANCED,
                named.ALT_TEST_ADVANTAGE,
                named.ALT_TEST_ADVANTAGE_BALANCED,
            ),
            *(
                named.HUMAN_JUDGE_AUC_MAJORITY,
                named.HUMAN_JUDGE_PEARSON_R,
                named.HUMAN_JUDGE_SPEARMAN_RHO,
            ),
        ),
    ),
    (
        "Position",
        (
            *(
                named.FIRST_IN_BOTH_ORDERS,
                named.SECOND_IN_BOTH_ORDERS,
                named.POSITION_TEST_P,
                named.POSITION_PREFERENCE,
            ),
            *(named.CONSISTENCY, named.STRICT_CONSISTENCY, named.KAPPA_BETWEEN_ORDERS),
            *(named.CONSISTENCY_BY_GAP, named.CONSISTENCY_OF_A_COIN),
            *(named.FIRST_PICKED, named.ACCURACY_A_FIRST, named.ACCURACY_B_FIRST),
        ),
    ),
    (
        "Repeatability, length, style, family, attacks",
        (
            *(
                named.SAME_OUTCOME_WHEN_ASKED_AGAIN,
                named.LONGER_PREFERRED_RATE_JUDGE,
                named.LONGER_PREFERRED_RATE_PEOPLE,
            ),
            *(
                named.STYLE_EFFECT,
                named.SELF_PREFERENCE,
                named.ATTACK_SUCCESS_RATE,
                named.CHANGES_WITHOUT_ATTACK,
                named.ATTACK_SUCCESS_BEYOND_OWN_CHANGES,
            ),
        ),
    ),
    (
        "Failures and price",
        (
            named.UNJUDGED_RATE,
            named.TOKENS_A_JUDGEMENT,
            named.SECONDS_A_JUDGEMENT,
            named.COST_A_JUDGEMENT_USD,
        ),
    ),
)


def page(estimates: Sequence[Estimate], judges: Sequence[str], *, anchors: int) -> str:
    """Write the page.

    Args:
        estimates: Figures of an audit, each about its judge.
        judges: Whose report cards they are.
        anchors: Number of judgements kept as anchors.
    """
    lines = []
    for judge in judges:
        own = [one for one in estimates if one.about.judge == judge and not one.about.policy]
        lines += [f"# Report card of judge {_cell(judge)}", ""]
        lines += [f"{_cell(line[:1].upper() + line[1:])}.\n" for line in standings(own)]
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
    value = f"none: {estimate.reason}" if estimate.value is None else _figure(estimate)
    interval = "" if estimate.low is None else f"{estimate.low:.3g} to {estimate.high:.3g}"
    n = f"{estimate.n}" + (f" ({estimate.n_missing} missing)" if estimate.n_missing else "")
    return f"| {' | '.join(map(_cell, (name, value, interval, n, MEANINGS[estimate.name])))} |"


def _figure(estimate: Estimate) -> str:
    """Return a value in digits that are known of it."""
    if estimate.kind == "p-value" and estimate.value is not None and estimate.value < 0.001:
        return "< 0.001"
    return f"{estimate.value:,.0f}" if estimate.kind == "count" else f"{estimate.value:.3g}"


def _cell(text: str) -> str:
    """Return a user's text so that it stays in its cell: on one line, and without Markdown of its own."""
    flat = " ".join(part for part in "".join(char if char.isprintable() else " " for char in text).split())
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in flat)
