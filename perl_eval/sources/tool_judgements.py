"""Judgements of AlpacaEval and MT-bench, as those tools write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError
from perl_eval.outcomes import decide
from perl_eval.records import Ballot, Judgement, Message, Order, Verdict, digest
from perl_eval.sources.json_files import objects

__all__ = ["read_judgements"]


def read_judgements(source: Path, form: str) -> list[Judgement]:
    """Read AlpacaEval annotations or MT-bench pair judgements, as those tools write them.

    AlpacaEval asks one order and does not say which, so its judgements have no positions. MT-bench asks both.

    Raises:
        DataError: A row lacks a field, or has a value that means nothing.
    """
    read = _alpaca if form == "alpaca-eval" else _mt_bench
    found = []
    for row, data in enumerate(objects(source)):
        try:
            found.append(read(data))
        except KeyError as error:
            raise DataError(
                f"no such field; present are {', '.join(map(str, data))}",
                file=source,
                row=row,
                field=str(error.args[0]),
            ) from None
        except (TypeError, ValueError) as error:
            raise DataError(str(error), file=source, row=row) from None
    return found


def _alpaca(data: Mapping[str, Any]) -> Judgement:
    """Read one annotation: preference 1 for output 1 (the baseline) to 2 for output 2 (the model, contestant a)."""
    preference = data["preference"]
    if preference is not None and not (isinstance(preference, int | float) and isfinite(preference)):
        preference = None
    chance = None if preference is None else 0.5 if preference == 0 else float(preference) - 1
    if chance is not None and not 0 <= chance <= 1:
        raise ValueError(f"preference {preference} is not in [1, 2]")
    verdict: Verdict | None = None
    if chance is not None:
        verdict = "tie" if chance == 0.5 else "first" if chance > 0.5 else "second"
    ballot = Ballot("none", verdict, None if verdict else "no preference", p_first=chance, model=str(data["annotator"]))
    return _judgement(
        str(data["instruction"]),
        (str(data["generator_2"]), str(data["generator_1"])),
        (str(data["output_2"]), str(data["output_1"])),
        (ballot,),
        "alpaca-eval",
    )


def _mt_bench(data: Mapping[str, Any]) -> Judgement:
    """Read one pair: the winner of the game with model 1 first, and of the game with model 2 first."""
    judge, template = data["judge"]
    turn = int(data.get("turn", 1))
    ballots = []
    orders: tuple[tuple[str, Order], ...] = (("g1", "ab"), ("g2", "ba"))
    for game, order in orders:
        winner = data[f"{game}_winner"]
        if winner not in ("model_1", "model_2", "tie", "error"):
            raise ValueError(f"{game}_winner {winner!r} is none of model_1, model_2, tie, error")
        shown_first = "model_1" if order == "ab" else "model_2"
        verdict: Verdict | None = None
        if winner != "error":
            verdict = "tie" if winner == "tie" else "first" if winner == shown_first else "second"
        reason = None if verdict else "error"
        ballots.append(Ballot(order, verdict, reason, raw=str(data.get(f"{game}_judgment", "")), model=str(judge)))
    policies = (str(data["model_1"]), str(data["model_2"]))
    made = _judgement(f"{data['question_id']}, turn {turn}", policies, ("", ""), tuple(ballots), "mt-bench")
    return replace(made, group=str(data["question_id"]), judge=f"{judge}, {template}", prompt=())


def _judgement(
    prompt: str, policies: tuple[str, str], texts: tuple[str, str], ballots: tuple[Ballot, ...], dataset: str
) -> Judgement:
    item = digest(prompt)
    a, b = (digest(item, policy, text) for policy, text in zip(policies, texts, strict=True))
    decision = decide(ballots)
    return Judgement(
        id=digest("judgement", a, b, ballots[0].model),
        kind="pairwise",
        item=item,
        group=item,
        dataset=dataset,
        a=a,
        b=b,
        policy_a=policies[0],
        policy_b=policies[1],
        prompt=(Message("user", prompt),),
        text_a=texts[0],
        text_b=texts[1],
        outcome=decision.outcome,
        ballots=ballots,
        judge=ballots[0].model,
        prompt_sha256="",
        simulated=False,
        p_a=decision.p_a,
        reason=decision.reason,
    )
