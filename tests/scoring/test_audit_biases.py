"""A bias that is planted in a judge is found by `audit`, each of nine kinds, and none in a judge that has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contests import pair_judged

from perl_eval.records import About, Ballot, Estimate, HumanLabel, Judgement
from perl_eval.scoring import audit
from perl_eval.scoring.audit_drift import drift
from perl_eval.scoring.audit_options import AuditOptions, Sources
from perl_eval.stats.bootstrap import Resampling
from perl_eval.storage import parquet, run_folder

PAIRS = 400
STYLES = ("length", "lists", "headings", "bold")
"""What texts differ in, apart from how good they are."""


class World:
    """Pairs of answers whose quality differs by a normal draw, which people see nearly right, in random styles."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.better = self.rng.normal(size=PAIRS)
        self.style = self.rng.integers(0, 4, (2, len(STYLES), PAIRS))
        self.family_is_a = self.rng.random(PAIRS) < 0.5
        self.people = np.where(self.better + self.rng.normal(0, 0.3, PAIRS) > 0, "win", "loss")

    def text(self, side: int, place: int) -> str:
        length, lists, headings, bold = self.style[side, :, place].tolist()
        lines = ["- point"] * lists + ["# part"] * headings + ["**loud**"] * bold + ["word " * 40 * (1 + length)]
        return "\n".join(lines)

    def asked(self, liking: Mapping[str, float], noise: float = 0.3) -> list[Judgement]:
        """Return what a judge says that adds a liking to the difference in quality, anew at each call.

        Args:
            liking: How much each bias is worth to it, in standard deviations of quality.
            noise: What each verdict varies by.
        """
        for_a = self.better.copy()
        for place, style in enumerate(STYLES):
            gap = self.style[0, place] - self.style[1, place]
            for_a += liking.get(style, 0.0) * gap / gap.std()
        for_a += liking.get("family", 0.0) * np.where(self.family_is_a, 1.0, -1.0)
        margins = for_a + liking.get("first", 0.0), for_a - liking.get("first", 0.0)
        said = [margin + self.rng.normal(0, noise, PAIRS) > 0 for margin in margins]
        return [self._judgement(place, bool(said[0][place]), bool(said[1][place])) for place in range(PAIRS)]

    def _judgement(self, place: int, ab: bool, ba: bool) -> Judgement:
        names = ("gpt-4", "llama") if self.family_is_a[place] else ("llama", "gpt-4")
        ballots = Ballot("ab", "first" if ab else "second"), Ballot("ba", "second" if ba else "first")
        return pair_judged(
            place,
            "split" if ab != ba else "win" if ab else "loss",
            policy_a=names[0],
            policy_b=names[1],
            text_a=self.text(0, place),
            text_b=self.text(1, place),
            ballots=ballots,
            judge="j",
        )

    def labels(self, judged: list[Judgement]) -> list[HumanLabel]:
        return [
            HumanLabel(one.unit, one.item, one.group, "ann", str(said))
            for one, said in zip(judged, self.people, strict=True)
        ]


def attacked(folder: Path, rate: float) -> Path:
    """Write what `attack` leaves behind when it succeeds so often, of 200 pairs."""
    half = 2.6 * np.sqrt(rate * (1 - rate) / 200)
    found = Estimate(
        "attack success rate",
        rate,
        max(0.0, rate - half),
        rate + half,
        200,
        0,
        "Wilson",
        about=About(slice="verdict A"),
    )
    with run_folder.start(folder / "attack", verb="attack", arguments={}) as run:
        run.write([pair_judged(0, "win", judge="j")], Judgement)
        run.write([found], Estimate)
    return run.folder


def biases(folder: Path, **planted: float) -> set[str]:
    """Return the biases that the audit of a judge finds: where the 99 % interval leaves out what is harmless."""
    world = World(5)
    noise, moved = planted.pop("noise", 0.3), planted.pop("drift", 0.0)
    attack = attacked(folder, planted.pop("attack", 0.03))
    constant = planted.pop("constant", 0.0)
    judged, again, now = world.asked(planted, noise), world.asked(planted, noise), world.asked(planted, noise)
    if constant:  # it says one thing of every pair, which most people do too
        world.people = np.where(world.rng.random(PAIRS) < 0.7, "win", "loss")
        judged, again, now = ([world._judgement(place, True, True) for place in range(PAIRS)] for _ in range(3))
    now = [replace(one, outcome="loss") if place < moved * PAIRS else one for place, one in enumerate(now)]
    for name, records in (("judged", judged), ("again", again), ("now", now)):
        parquet.write(folder / f"{name}.parquet", records, Judgement)
    parquet.write(folder / "labels.parquet", world.labels(judged), HumanLabel)
    options = AuditOptions(Resampling(50, level=0.99), family=("gpt",))
    sources = Sources(folder / "again.parquet", attack)
    audit.run(folder / "judged.parquet", folder / "labels.parquet", folder / "card", sources=sources, options=options)
    drift(folder / "card", folder / "now.parquet", folder / "drift")
    return found_in([*run_folder.read(folder / "card", Estimate), *run_folder.read(folder / "drift", Estimate)])


def found_in(estimates: list[Estimate]) -> set[str]:
    by_name = {one.name: one for one in estimates}
    styles = {one.about.slice: one for one in estimates if one.name == "style effect"}
    found = {style for style, one in styles.items() if (one.low or -1) > 0}
    shown = {
        "first": (by_name["position test p"].value or 1) < 0.01 and (by_name["position preference"].low or -1) > 0,
        "family": (by_name["self-preference"].low or -1) > 0,
        "noise": (by_name["same outcome when asked again"].high or 1) < 0.8,
        "attack": (by_name["attack success beyond own changes"].low or -1) > 0,
        "constant": (by_name["human-judge exact agreement, majority"].low or 1)
        <= (by_name["agreement of a constant judge"].value or 0),
        "drift": by_name["drift alarm"].value == 1,
    }
    return found | {name for name, is_shown in shown.items() if is_shown}


def test_nothing_is_found_in_a_judge_without_a_bias(tmp_path: Path) -> None:
    assert biases(tmp_path) == set()


@pytest.mark.parametrize(
    ("bias", "size"),
    [
        ("first", 0.5),
        *((style, 0.5) for style in STYLES),
        ("family", 0.5),
        ("noise", 1.5),
        ("attack", 0.3),
        ("drift", 0.3),
        ("constant", 1.0),
    ],
)
def test_a_planted_bias_is_found(bias: str, size: float, tmp_path: Path) -> None:
    assert bias in biases(tmp_path, **{bias: size})
