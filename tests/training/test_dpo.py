"""Policies from preferences and ratings: losses by hand, the step by a slow reference, and what training does."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from scipy.special import expit, log_expit

from perl_eval.errors import OptionError, UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.tokenize import Encoded
from perl_eval.posterior import Models, PosteriorOptions
from perl_eval.posterior import run as compare
from perl_eval.records import Estimate, Measurement, Score
from perl_eval.sources import rows
from perl_eval.storage import run_folder
from perl_eval.training import direct_tuning, dpo, reward
from perl_eval.training.actor_critic import POLICY
from perl_eval.training.direct_losses import direct_pair_loss, kto_loss
from perl_eval.training.direct_tuning import DirectTrainer, DpoOptions, mismatched

OPTIONS = DpoOptions(epochs=3, batch=16, learning_rate=1e-2, beta=0.5, max_tokens=40, lora=LoraShape(8))


def double(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def pairs(room: Path) -> Path:
    made = {"train": (51, 160), "validation": (52, 40), "test": (53, 40)}
    return tiny_models.write_rows(room / "dpo-pairs", **{k: tiny_models.preferences(*v) for k, v in made.items()})


@pytest.fixture(scope="module")
def ratings(room: Path) -> Path:
    made = {"train": (61, 160), "validation": (62, 40), "test": (63, 40)}
    return tiny_models.write_rows(room / "dpo-ratings", **{k: tiny_models.ratings(*v) for k, v in made.items()})


def trainer(backbone: Backbone, data: Path, options: DpoOptions = OPTIONS, loss: Any = "sigmoid") -> DirectTrainer:
    return DirectTrainer(backbone, {"train": rows.read(data, "train")}, options, loss=loss, seed=0)


# ------------------------------------------------------------------------------------------------------ losses


def test_pair_losses_by_scipy() -> None:
    """Equation by equation from the papers; the figures beside them are what they give at the first pair."""
    chosen, rejected, beta = np.array([0.7, -2.0, 0.0]), np.array([-0.5, 1.0, 0.0]), 0.4
    gap = beta * (chosen - rejected)

    def found(loss: Any, **more: Any) -> float:
        return float(direct_pair_loss(double(chosen), double(rejected), beta=beta, loss=loss, **more))

    assert found("sigmoid") == pytest.approx(-log_expit(gap).mean(), abs=1e-12)
    assert found("hinge") == pytest.approx(np.maximum(0, 1 - gap).mean(), abs=1e-12)
    robust = (-0.9 * log_expit(gap) + 0.1 * log_expit(-gap)) / 0.8
    assert found("robust", smoothing=0.1) == pytest.approx(robust.mean(), abs=1e-12)
    assert found("ipo") == pytest.approx(((chosen - rejected - 1 / 0.8) ** 2).mean(), abs=1e-12)


def test_the_robust_loss_is_dpos_in_the_mean_over_flipped_labels() -> None:
    one, two = double([1.3]), double([-0.4])
    each = functools.partial(direct_pair_loss, beta=0.7)
    kept, flipped = (each(*order, loss="robust", smoothing=0.3) for order in ((one, two), (two, one)))
    assert float(0.7 * kept + 0.3 * flipped) == pytest.approx(float(each(one, two)), abs=1e-12)


def test_kto_by_hand() -> None:
    ratios, labels = double([1.0, 1.0, -2.0]), torch.tensor([True, False, False])
    signed = 0.5 * np.array([1.0 - 0.2, -(1.0 - 0.2), -(-2.0 - 0.2)])
    wanted = np.array([2.0, 3.0, 3.0]) * (1 - expit(signed))
    assert float(kto_loss(ratios, labels, 0.2, beta=0.5, weights=(2.0, 3.0))) == pytest.approx(wanted.mean(), abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pieces_of_a_step_add_up(size: int) -> None:
    chosen, rejected, labels = double([0.3, -1.0, 2.0]), double([0.1, 0.2, 0.3]), torch.tensor([True, False, True])
    spans = [slice(start, start + size) for start in range(0, 3, size)]
    whole = direct_pair_loss(chosen, rejected, beta=0.5)
    assert float(sum(direct_pair_loss(chosen[s], rejected[s], beta=0.5, count=3) for s in spans)) == pytest.approx(
        float(whole), abs=1e-12
    )
    rated = kto_loss(chosen, labels, 0.1, beta=0.5)
    assert float(sum(kto_loss(chosen[s], labels[s], 0.1, beta=0.5, count=3) for s in spans)) == pytest.approx(
        float(rated), abs=1e-12
    )


def test_another_answer_stands_behind_the_own_prompt() -> None:
    own = Encoded((1, 2, 3, 9), (False, False, True, True))
    other = Encoded((5, 6, 7, 8, 9), (False, True, True, True, True))
    assert mismatched(own, other, max_tokens=5) == Encoded((2, 6, 7, 8, 9), (False, True, True, True, True))


# ------------------------------------------------------------------------------------------------------ the step


def log_prob(backbone: Backbone, sequence: Encoded) -> torch.Tensor:
    ids = torch.tensor([list(sequence.ids)])
    table = torch.log_softmax(backbone.causal(input_ids=ids).logits[0, :-1], -1)
    picked = table.gather(1, ids[0, 1:, None])[:, 0]
    return picked[torch.tensor(sequence.trained[1:])].sum()


@pytest.mark.parametrize("loss", ["sigmoid", "kto"])
@pytest.mark.parametrize("micro_batch", [0, 3])
def test_the_gradient_is_that_of_a_slow_reference(
    prior: Path, pairs: Path, ratings: Path, loss: Any, micro_batch: int
) -> None:
    """One sequence at a time, without padding, masks or shared prompts; equal for micro-batches."""
    resources = replace(OPTIONS.resources, micro_batch=micro_batch)
    options = replace(OPTIONS, batch=8, liked=2.0 if loss == "kto" else 1.0, resources=resources)
    backbone = open_backbone(prior)
    made = trainer(backbone, ratings if loss == "kto" else pairs, options, loss)
    tiny_models.stir(backbone, POLICY, size=0.1)
    figures = made.learn(0)
    parameters = backbone.parameters_of(POLICY)
    fast = {name: one.grad.clone() for name, one in parameters.items() if one.grad is not None}
    chosen = direct_tuning.batch_of_step(made.lengths, 0, size=8, seed=0)

    def ratio(sequence: Encoded) -> torch.Tensor:
        with torch.no_grad(), backbone.adapter(None):
            prior_own = log_prob(backbone, sequence)
        with backbone.adapter(POLICY):
            return log_prob(backbone, sequence) - prior_own

    found = [[ratio(one) for one in made.examples[row].sequences] for row in chosen]
    if loss == "kto":
        z = max(0.0, float(torch.stack([other for _, other in found]).detach().mean()))
        terms = [
            (2.0 if made.examples[row].label else 1.0)
            * (1 - torch.sigmoid((1 if made.examples[row].label else -1) * 0.5 * (own - z)))
            for row, (own, _) in zip(chosen, found, strict=True)
        ]
        assert figures["KL estimate"] == pytest.approx(z, abs=1e-4)
    else:
        terms = [-torch.nn.functional.logsigmoid(0.5 * (better - worse)) for better, worse in found]
    whole = torch.stack(terms).mean()
    assert figures["loss"] == pytest.approx(float(whole.detach()), abs=1e-5)
    slow = torch.autograd.grad(whole, list(parameters.values()), materialize_grads=True)
    assert max(float(one.abs().max()) for one in slow) > 1e-3
    for name, gradient in zip(parameters, slow, strict=True):
        assert torch.allclose(fast[name], gradient, atol=1e-4, rtol=1e-3), name


@pytest.mark.parametrize("full", [False, True])
def test_the_first_step_is_at_log_two(prior: Path, pairs: Path, full: bool) -> None:
    made = trainer(open_backbone(prior, frozen=not full), pairs, replace(OPTIONS, full=full))
    figures = made.learn(0)
    assert figures["loss"] == pytest.approx(math.log(2), abs=1e-5 if full else 1e-7)
    if not full:
        assert figures["implicit reward, chosen"] == figures["implicit reward, rejected"] == 0.0


def test_a_killed_run_ends_with_the_same_bits(
    prior: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for full in (False, True):
        options = replace(OPTIONS, epochs=0.6, full=full, learning_rate=1e-3)
        whole = trainer(open_backbone(prior, frozen=not full), pairs, options)
        expected = whole.train(tmp_path / f"whole {full}").curve
        assert whole.steps == 6
        often = functools.partial(direct_tuning.LoopOptions, checkpoint_every_s=-1)
        with monkeypatch.context() as patched:
            patched.setattr(direct_tuning, "LoopOptions", often)
            broken = trainer(open_backbone(prior, frozen=not full), pairs, options)
            learn = broken.learn

            def killed(step: int, learn: Any = learn) -> dict[str, float]:
                if step == 3:
                    raise KeyboardInterrupt
                return learn(step)

            broken.learn = killed  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                broken.train(tmp_path / f"broken {full}")
        again = trainer(open_backbone(prior, frozen=not full), pairs, options)
        assert again.train(tmp_path / f"broken {full}").curve == expected
        for one, two in zip(again.parameters().values(), whole.parameters().values(), strict=True):
            assert torch.equal(one, two)


# ------------------------------------------------------------------------------------------------------ the verb


@pytest.fixture(scope="module")
def tuned(room: Path, prior: Path, pairs: Path) -> Path:
    return dpo.run(pairs, prior, room / "dpo", options=OPTIONS)


def test_the_verb_learns_the_preference_and_writes_what_it_is_worth(tuned: Path, pairs: Path) -> None:
    accuracy = {
        one.about.split: one.value
        for one in run_folder.read(tuned, Estimate)
        if one.name == "pair accuracy" and one.value is not None
    }
    assert accuracy.keys() == {"validation", "test"}
    assert min(accuracy.values()) > 0.8
    scores = {(one.item, one.metric): one.value for one in run_folder.read(tuned, Score)}
    assert len(scores) == 160
    won = [
        scores[row.id, "reward chosen"] > scores[row.id, "reward rejected"]  # type: ignore[operator]
        for row in rows.read(pairs, "test")
    ]
    assert np.mean(won) == pytest.approx(accuracy["test"])
    losses = [point.value for point in run_folder.read(tuned, Measurement) if point.metric == "loss"]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-7)
    assert np.mean(losses[-5:]) < 0.4
    card = run_folder.read_card(tuned)
    assert card is not None
    assert (card.verb, card.notes["loss"], card.notes["beta"]) == ("train dpo", "sigmoid", 0.5)
    assert (tuned / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("full", [False, True])
def test_ratings_teach_too(prior: Path, ratings: Path, tmp_path: Path, full: bool) -> None:
    options = replace(OPTIONS, full=full, learning_rate=2e-3 if full else 1e-2)
    out = dpo.run(ratings, prior, tmp_path / "kto", options=options)
    found = {one.name: one.value for one in run_folder.read(out, Estimate) if one.about.split == "test"}
    assert found["AUC"] is not None
    assert found["AUC"] > 0.7
    card = run_folder.read_card(out)
    assert card is not None
    assert card.notes["loss"] == "kto"
    assert (out / "model.safetensors").is_file() == full


def test_a_loss_that_does_not_read_the_rows_is_refused(prior: Path, pairs: Path, ratings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loss kto does not read preferences"):
        dpo.run(pairs, prior, tmp_path / "a", options=replace(OPTIONS, loss="kto"))
    with pytest.raises(UserError, match="loss ipo does not read ratings"):
        dpo.run(ratings, prior, tmp_path / "b", options=replace(OPTIONS, loss="ipo"))
    with pytest.raises(UserError, match="max_tokens is 1"):
        dpo.run(pairs, prior, tmp_path / "c", options=replace(OPTIONS, max_tokens=1))


def test_options_that_cannot_be() -> None:
    with pytest.raises(OptionError, match="beta is 0"):
        DpoOptions(beta=0)
    with pytest.raises(OptionError, match=r"smoothing is 0\.1"):
        DpoOptions(smoothing=0.1)
    with pytest.raises(UserError, match=r"dropout is 0\.5"):
        DpoOptions(lora=LoraShape(dropout=0.5))


def test_a_dpo_policy_is_a_point_of_the_posterior(room: Path, prior: Path, pairs: Path) -> None:
    """It is more rewarded than the prior, and its KLs to prior and target, and from the target, are there."""
    tuned = dpo.run(pairs, prior, room / "gentle", options=replace(OPTIONS, learning_rate=1e-3, beta=1.0))
    options = reward.RewardOptions(epochs=3, batch=16, learning_rate=1e-2, max_tokens=40, max_new_tokens=8)
    rewarded = reward.run(pairs, prior, room / "dpo-reward", options=options)
    asked = PosteriorOptions(1.0, limit=12, draws=32, pool=64, samplers=("best-of-n",), max_new_tokens=8, max_tokens=40)
    out = compare(pairs, Models(prior, (rewarded,), (tuned,)), room / "dpo-posterior", options=asked)
    found = {
        (one.about.policy, one.name): float("nan") if one.value is None else one.value
        for one in run_folder.read(out, Estimate)
    }
    assert found["gentle", "reward"] > found["prior", "reward"] + 0.1
    assert 0.05 < found["gentle", "KL(method || prior)"] < 5
    assert found["gentle", "KL(method || target)"] > 0
    assert found["gentle", "KL(target || method)"] > 0
