"""Run folders with made-up records."""

from __future__ import annotations

import base64
import json
import math
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from perl_eval.records import About, Ballot, Estimate, HumanLabel, Judgement, Measurement, Message, Score
from perl_eval.storage import run_folder

JUDGE = "scripted:lean=0.2"
VERDICTS = {
    "win": ("first", "second"),
    "loss": ("second", "first"),
    "split": ("first", "first"),
    "tie": ("tie", "tie"),
    "mixed": ("first", "tie"),
    "unjudged": (None, "first"),
}


READY = (
    "return new Promise(done => { const wait = () => document.documentElement.dataset.ready ? done(true)"
    " : setTimeout(wait, 10); wait(); })"
)
"""Script that waits until the page has read what it holds."""


def held(packed: str) -> Any:
    """Return what a page holds of judgements: JSON, raw deflate, base64."""
    return json.loads(zlib.decompress(base64.b64decode(packed), -15))


def judgement(place: int, outcome: str, **changes: Any) -> Judgement:
    """Return a pairwise judgement whose ballots fit its outcome."""
    ballots = tuple(
        Ballot(order, verdict, None if verdict else "no verdict in the reply", 0.7, f"Answer {verdict}", JUDGE)
        for order, verdict in zip(("ab", "ba"), VERDICTS.get(outcome, ()), strict=False)
    )
    made = Judgement(
        id=f"judgement-{place}",
        kind="pairwise",
        item=f"item-{place}",
        group=f"group-{place}",
        dataset="coffee",
        a=f"rl-{place}",
        b=f"sft-{place}",
        policy_a="rl",
        policy_b="sft",
        prompt=(Message("user", f"A latte for number {place}, please."), Message("assistant", "What size?")),
        text_a=f"One large latte for {place}.",
        text_b="Sorry?",
        outcome=outcome,
        ballots=ballots,
        judge=JUDGE,
        prompt_sha256="0" * 64,
        simulated=True,
        p_a=0.6,
        reason="no verdict in the reply" if outcome == "unjudged" else None,
    )
    return replace(made, **changes)


OUTCOMES = ["win"] * 120 + ["loss"] * 60 + ["split"] * 30 + ["tie"] * 10 + ["mixed"] * 5 + ["unjudged"] * 25


def estimate(name: str, value: float | None, half: float | None = 0.05, **changes: Any) -> Estimate:
    low, high = (None, None) if value is None or half is None else (value - half, value + half)
    given = {
        "n": 225,
        "n_missing": 25,
        "method": "Wilson",
        "about": About(policy="rl", against="sft", judge=JUDGE),
        "simulated": True,
        **changes,
    }
    return Estimate(name, value, low, high, **given)


ESTIMATES = [
    estimate("win rate", 120 / 225),
    estimate("win rate, undecided half", 142.5 / 225, 0.0512345),
    estimate("consistency", 190 / 220),
    estimate("position test p", 1.862645149230957e-09, None, n=30),
    estimate("length-controlled win rate", None, reason="all answers are equally long", n=0),
    estimate("true win rate", 0.61, 0.0, n=250, n_missing=0, method="enumeration"),
    estimate("reward", 1.84123, 0.21, about=About(policy="rl"), method="t"),
    estimate("reward", -0.3312, 0.2, about=About(policy="sft"), method="t"),
    estimate("true reward", 1.2, None, about=About(policy="rl"), method="t"),
    estimate("peak tokens", 1234567.0, None, about=About(policy="rl"), method="count", simulated=False),
]
AGREEMENT = [
    estimate("human-human exact agreement", 0.81, about=About(judge=JUDGE)),
    estimate("human-human Cohen kappa", 0.62, about=About(judge=JUDGE)),
    estimate("human-judge exact agreement", 0.77, about=About(judge=JUDGE)),
    estimate("human-judge Cohen kappa", 0.55, about=About(judge=JUDGE)),
    estimate("human ceiling", 0.83, about=About(judge=JUDGE)),
    estimate("judge at the ceiling's task", 0.79, about=About(judge=JUDGE)),
    estimate("judge minus human ceiling", -0.04, about=About(judge=JUDGE)),
]


def write(
    folder: Path,
    verb: str,
    parts: Sequence[tuple[type, Sequence[Any]]],
    *,
    simulated: bool = False,
    notes: Mapping[str, Any] | None = None,
    **inputs: Path,
) -> Path:
    """Write a run folder as a verb would."""
    arguments = {"limit": 250, "out": str(folder)}
    with run_folder.start(folder, verb=verb, arguments=arguments, seed=7, inputs=inputs, simulated=simulated) as run:
        for kind, records in parts:
            run.write(records, kind)
        rows = sum(len(records) for _, records in parts)
        run.notes |= {"rows": rows, "loss": 0.123456, "nested": {"a": [1, 2]}, **(notes or {})}
    return folder


def curve(metric: str, steps: int, height: float) -> list[Measurement]:
    return [
        Measurement(step, metric, height * (1 - math.exp(-step / 40)) + math.sin(step * 1.7) * 0.05)
        for step in range(steps)
    ]


def write_story(root: Path) -> Path:
    """Write run folders: training, judging, scoring, labels, agreement."""
    drawn = random.Random(5)
    training = {
        name: [*curve("reward", 200, up), *curve("kl", 200, kl), *curve("entropy", 200, -1.5), *curve("loss", 200, 0.2)]
        for name, up, kl in (("policy", 1.5, 2.0), ("policy without KL", 2.5, 14.0))
    }
    for name, points in training.items():
        write(root / "train" / name, "train policy", [(Measurement, points)])
    write(root / "train" / "sft", "train sft", [(Measurement, curve("loss", 1000, -3.0))])
    judged = [judgement(place, outcome) for place, outcome in enumerate(OUTCOMES)]
    judging = write(root / "judged", "judge", [(Judgement, judged)], simulated=True)
    write(root / "scores", "score", [(Estimate, ESTIMATES)], simulated=True, judgements=judging)
    labels = [
        HumanLabel(each.unit, each.item, each.group, f"person-{who}", drawn.choice(["win", "win", "tie", "loss"]), True)
        for each in judged[:200]
        for who in range(3)
    ]
    write(root / "labels", "label", [(HumanLabel, labels)], simulated=True)
    write(root / "agreement", "agree", [(Estimate, AGREEMENT)], simulated=True)
    scores = [
        Score(f"rl-{place}", f"item-{place}", "g", "rl", "vqa", None if place < 3 else 1.0, "no answer was given")
        for place in range(10)
    ]
    write(root / "vqa", "score", [(Score, scores)])
    return root
