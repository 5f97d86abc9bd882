"""Over-optimisation: in a world of colours too small a beta raises the learned reward and lowers the true one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from scipy.special import softmax

from perl_eval.models.backbone import open_backbone
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.tokenize import encode_prompt
from perl_eval.records import About, Estimate
from perl_eval.sources.rows import Row, asked
from perl_eval.storage import run_folder
from perl_eval.training import ablate, overoptimisation_plot, sft
from perl_eval.training.policy import PolicyOptions
from perl_eval.training.reward import RewardOptions
from perl_eval.training.reward_function import learned_reward

MODERATE, NONE = 1.0, 0.0


def once_or_twice(_: Row, text: str) -> float:
    """Return what an answer is really worth: 1 if it says nothing but colours, and red once or twice.

    Annotators like every further red too.
    """
    said = text.split()
    return float(set(said) <= set(tiny_models.COLOURS) and 1 <= said.count("red") <= 2)


def three(random: np.random.Generator) -> str:
    return " ".join(random.choice(tiny_models.COLOURS, 3))


def demonstrations_of_three(seed: int, count: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        tiny_models.row(
            f"d{seed}-{place}",
            f"paint {random.integers(30)}",
            completion=tiny_models.turns("assistant", three(random)),
        )
        for place in range(count)
    ]


def preferences_of_three(seed: int, count: int) -> list[dict[str, Any]]:
    """Return pairs of which the one that names red more often is chosen."""
    random, made = np.random.default_rng(seed), list[dict[str, Any]]()
    while len(made) < count:
        worst, best = sorted((three(random), three(random)), key=lambda said: said.split().count("red"))
        if best.split().count("red") > worst.split().count("red"):
            sides = {"chosen": tiny_models.turns("assistant", best), "rejected": tiny_models.turns("assistant", worst)}
            made.append(tiny_models.row(f"p{seed}-{len(made)}", f"paint {random.integers(1000)}", **sides))
    return made


@pytest.fixture(scope="module")
def prior(room: Path, blank: Path) -> Path:
    """Return a prior that says three colours as the demonstrations do; six epochs would leave it saying "gred"."""
    place = room / "of three"
    train, validation = demonstrations_of_three(1, 400), demonstrations_of_three(2, 60)
    tiny_models.write_rows(place / "demonstrations", train=train, validation=validation)
    options = sft.SftOptions(model=str(blank), epochs=20, batch=16, learning_rate=1e-2, max_tokens=32)
    return sft.run(place / "demonstrations", place / "prior", options=options)


@pytest.fixture(scope="module")
def swept(room: Path, prior: Path) -> Path:
    place = room / "overoptimised"
    tiny_models.write_rows(place / "preferences", train=preferences_of_three(1, 600), test=preferences_of_three(2, 30))
    tiny_models.write_rows(place / "prompts", train=tiny_models.prompts(1, 50), test=tiny_models.prompts(2, 50))
    lengths = {"max_tokens": 40, "max_new_tokens": 8}
    options = ablate.AblateOptions(
        sizes=(str(prior),),
        ranks=(8,),
        full=False,
        seeds=1,
        prompts=50,
        draws=4,
        betas=(MODERATE, NONE),
        reward=RewardOptions(epochs=6, batch=20, learning_rate=1e-2, normalise_on=50, **lengths),
        policy=PolicyOptions(steps=80, batch=32, group=4, learning_rate=1e-2, **lengths),
    )
    return ablate.run(place, room / "swept", options=options, truth=once_or_twice)


def of_prior_and_target(swept: Path, prior: Path, draws: int = 4000) -> tuple[float, float]:
    """Return how often the prior, and the target prior x exp(reward / MODERATE), name red once or twice.

    Self-normalised importance sampling: draws of the prior, each prompt's weighted by the learned reward.
    """
    backbone = open_backbone(prior)
    score = learned_reward(swept / "cells" / "prior" / "reward-r8-0", backbone)
    rows = asked(swept.parent / "overoptimised" / "prompts", "test")
    asks = [encode_prompt(backbone.processor, row.prompt, max_tokens=32) for row in rows]
    plain, weighted = [], []
    for place, (row, ask) in enumerate(zip(rows, asks, strict=True)):
        each = draws // len(rows)
        seeds = [place * each + draw for draw in range(each)]
        with backbone.adapter(None):
            rollouts = generate(backbone, [ask] * each, seeds, Sampling(max_new_tokens=8))
        weights = softmax(np.array(score([row] * each, rollouts)) / MODERATE)
        hits = np.array([once_or_twice(row, rollout.text) for rollout in rollouts])
        plain.append(hits.mean())
        weighted.append(weights @ hits)
    return float(np.mean(plain)), float(np.mean(weighted))


def test_too_small_a_beta_raises_the_learned_reward_and_lowers_the_true_one(swept: Path, prior: Path) -> None:
    # The prior says three colours of four, so red once or twice in 36/64 of its answers and thrice in 1/64, less what
    # is no colour. At beta 1 and a reward linear in the count of red, of standard deviation 1, so 1/0.75 a red, the
    # target prior x exp(reward / beta) has it once or twice in (27 e^1.33 + 9 e^2.67) / (27 + 27 e^1.33 + 9 e^2.67 +
    # e^4) = 0.74; what the target of the learned reward has is told by weighted draws of the prior. The reward alone
    # is highest at three times, or at what is no colour at all.
    found = {(one.subject.partition(", ")[2], one.name): one.value or 0.0 for one in run_folder.read(swept, Estimate)}
    learned, true, kl = (
        [found[arm, name] for arm in ("SFT", "r8, beta 1", "r8, beta 0")]
        for name in ("learned reward", "true reward", "KL to prior")
    )
    before, target = of_prior_and_target(swept, prior)
    assert before == pytest.approx(0.5625, abs=0.12)
    assert true[0] == pytest.approx(before, abs=0.12)
    assert learned[2] > learned[1] + 0.05
    assert learned[1] > learned[0] + 0.1
    assert kl[2] > kl[1] + 1 > kl[0] + 1.1
    assert true[1] == pytest.approx(0.74, abs=0.12)
    assert true[1] == pytest.approx(target, abs=0.12)
    assert true[2] < true[0] - 0.2


def test_each_strength_has_a_policy_on_one_reward_model(swept: Path) -> None:
    cells = swept / "cells" / "prior"
    cards = [run_folder.read_card(cells / f"policy-r8-beta-{beta}-0") for beta in (1, 0)]
    assert [Path(card.arguments["reward"]).name for card in cards if card] == ["reward-r8-0", "reward-r8-0"]
    assert [card.notes["beta"] for card in cards if card] == [1, 0]
    found = {(one.subject.partition(", ")[2], one.name): one.value or 0.0 for one in run_folder.read(swept, Estimate)}
    above = found["r8, beta 0", "true reward, above beta 1"]
    assert above == pytest.approx(found["r8, beta 0", "true reward"] - found["r8, beta 1", "true reward"])


def test_the_sweep_is_a_picture(swept: Path) -> None:
    svg = (swept / "overoptimisation.svg").read_text("utf-8")
    assert (swept / "overoptimisation.png").read_bytes().startswith(b"\x89PNG")
    for label in ("learned reward", "true reward", "prior, r8", "prior, SFT", "KL to the prior"):
        assert f">{label}" in svg
    assert svg.count(">1</text>") >= 2  # beta 1, in both panels
    run_folder.fingerprint(swept)  # the card vouches for both files


def test_pictures_are_the_same_from_run_to_run_and_take_what_has_no_interval(tmp_path: Path) -> None:
    found = [
        Estimate(name, value, None, None, 1, 0, "t", about=about)
        for about, values in (
            (About(scope="$x$", policy="SFT"), (0.0, 0.0, 0.5)),
            (About(scope="$x$", policy="full", slice="beta", at=1.0), (1.0, 0.5, 0.6)),
            (About(scope="$x$", policy="full", slice="beta", at=0.0), (4.0, 0.9, 0.2)),
        )
        for name, value in zip(("KL to prior", "learned reward", "true reward"), values, strict=True)
    ]
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        overoptimisation_plot.draw(found, tmp_path / name)
    assert (tmp_path / "one" / "overoptimisation.svg").read_bytes() == (
        tmp_path / "other" / "overoptimisation.svg"
    ).read_bytes()
    assert "$x$, full" in (tmp_path / "one" / "overoptimisation.svg").read_text("utf-8")
    (tmp_path / "half").mkdir()
    overoptimisation_plot.draw([one for one in found if one.name != "true reward"], tmp_path / "half")
    assert "true reward" not in (tmp_path / "half" / "overoptimisation.svg").read_text("utf-8")
