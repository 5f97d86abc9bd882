"""What `judge` prints: what came out and what it took, or what it would take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perl_eval.cli.console import counted, done, say, show_noted
from perl_eval.errors import in_typed_names

if TYPE_CHECKING:
    from perl_eval.judging.cost_estimate import Forecast

__all__ = ["show_forecast", "show_outcomes"]

_CUT = "a reply cut at --max-reply-tokens is asked for again, twice as long"


def show_outcomes(folder: Path) -> bool:
    """Print what came out, and what it took, from the run card; returns whether the run stopped before its end."""
    from perl_eval.outcomes import word
    from perl_eval.storage import run_folder

    card, stopped = run_folder.read_card(folder), False
    if card is not None:
        notes = card.notes
        outcomes = ", ".join(f"{count:,} {word(outcome)}" for outcome, count in sorted(notes["outcomes"].items()))
        say(f"{notes['judged']:,} judged: {outcomes or 'none'}")
        for reason, count in notes.get("unjudged", {}).items():
            say(f"  {count:,} unjudged: {reason}")
        if "changed" in notes:
            say(f"{notes['changed']:,} changed")
        if asking := notes.get("asking"):
            ledger = counted(asking["from_ledger"], "answer")
            say(f"{counted(asking['requests'], 'request')}, {ledger} from the ledger{_cost(notes)}")
            if estimated := asking.get("estimated"):
                replies = counted(estimated, "reply", "replies")
                say(f"{replies} did not say, or not credibly, how many tokens they took")
            if left := asking.get("can_pass"):
                what = counted(left, "question")
                say(f"{what} without an answer for a reason that can pass: the same command asks again")
            if batches := notes.get("batch"):
                sent, where = counted(batches["requests"], "request"), "it" if batches["batches"] == 1 else "them"
                say(f"{counted(batches['batches'], 'batch', 'batches')}, {sent} in {where}")
                for reason, count in batches["without_answer"].items():
                    say(f"  {count:,} without an answer at first or at all: {reason}")
            if notes.get("decided after"):
                say(f"decided after {notes['decided after']:,} of {notes['queue']:,}")
            if asking["stopped"]:
                say(f"stopped: {in_typed_names(asking['stopped'])}; {notes.get('not_asked', 0):,} not asked")
                stopped = True
        show_noted(notes.get("noted", {}))
        _show_rate(folder, unmatched=(notes.get("unmatched_a", 0), notes.get("unmatched_b", 0)))
    done(folder)
    return stopped


def _show_rate(folder: Path, *, unmatched: tuple[int, int]) -> None:
    """Print the win rate of pairs with its interval, and on standard error how many answers had no partner."""
    from perl_eval.figure_names import LOSS_RATE, UNDECIDED_RATE, WIN_RATE
    from perl_eval.records import Judgement
    from perl_eval.stats.winrate import win_rates
    from perl_eval.storage import parquet, run_folder

    columns, found = ("kind", "policy_a", "policy_b", "outcome", "group"), []
    for batch in parquet.batches(run_folder.locate(folder, Judgement), Judgement, columns):
        found += batch.select(columns).to_pylist()
    pairs = [one for one in found if one["kind"] == "pairwise"]
    policies = {(one["policy_a"], one["policy_b"]) for one in pairs}
    names = next(iter(policies)) if len(policies) == 1 else ("a", "b")
    for name, count in zip(names, unmatched, strict=True):
        if count:
            verb = "has" if count == 1 else "have"
            say(f"{counted(count, 'answer')} of {name} {verb} no partner", err=True)
    if len(policies) != 1:
        return
    rates = win_rates([one["outcome"] for one in pairs], clusters=[one["group"] for one in pairs])
    by_name = {one.name: one for one in rates}
    rate, lost, open_ = (by_name[name] for name in (WIN_RATE, LOSS_RATE, UNDECIDED_RATE))
    if rate.value is not None:
        between = f" ({rate.low:.2f} to {rate.high:.2f})" if rate.low is not None else ""
        beside = f"{LOSS_RATE} {lost.value:.2f}, {UNDECIDED_RATE} {open_.value:.2f}"
        told = f"{names[0]} against {names[1]}: {WIN_RATE} {rate.value:.2f}{between}, {beside}, n = {rate.n:,}"
        say(f"{told}; see `perl-eval score {folder}`")


def _cost(notes: Mapping[str, Any]) -> str:
    """Return what was paid: by this run, and where there were several, by all of them in this folder."""
    asking, in_all = notes["asking"], notes.get("asking_in_all")
    parts = [f", {asking['cost_usd']:.4f} US dollars"] if asking["cost_usd"] else []
    if in_all and in_all["runs"] > 1 and in_all["cost_usd"]:
        parts.append(f"; {in_all['cost_usd']:.4f} US dollars over all {in_all['runs']} runs in this folder")
    if in_all and in_all["estimated_usd"]:
        parts.append(f", {in_all['estimated_usd']:.4f} of it estimated")
    return "".join(parts)


def show_forecast(spec: str, prompt: str, found: Forecast) -> None:
    """Print what judging would take, and one request."""
    cost = "not known; give --price-in and --price-out"
    if found.cost_usd is not None:
        cost = f"{found.cost_usd:,.4f} US dollars at most"
    lines = {
        "judge": spec,
        "prompt": prompt,
        "to judge": f"{found.units:,}",
        "questions": f"{found.questions:,}, of which {found.from_ledger:,} are in the ledger",
        "requests": f"{found.requests:,}",
        "tokens in": f"about {found.tokens_in:,}",
        "tokens out": f"{found.tokens_out:,} at most: {_CUT}",
        "cost": cost,
    }
    for name, value in lines.items():
        say(f"{name:<11}{value}")
    say("\nOne request:", lines=True)
    for turn in found.example:
        say(f"\n[{turn.role}]\n{turn.content}", lines=True)
