"""Reward models: they learn what is liked, from pairs and from labels, and know their own scale."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from safetensors.torch import load_file
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from perl_eval.errors import DataError, UserError
from perl_eval.metrics.glossary import CURVES
from perl_eval.models.backbone import Backbone, LoraShape, open_backbone
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.reward_model import REWARD, Pooling, RewardScorer, read_scale
from perl_eval.models.scalar_heads import ScalarHeads
from perl_eval.models.tokenize import Encoded, encode_prompt
from perl_eval.records import Completion, Estimate, Measurement, Score
from perl_eval.scoring import dispatch
from perl_eval.scoring.dispatch import ScoreBeside
from perl_eval.sources import rows
from perl_eval.storage import run_folder
from perl_eval.training import reward, weight_average
from perl_eval.training.platt import platt
from perl_eval.training.profiling import Meter

OPTIONS = reward.RewardOptions(
    epochs=4, batch=16, learning_rate=1e-2, max_tokens=48, max_new_tokens=8, normalise_on=200, lora=LoraShape(8)
)


@pytest.fixture(scope="module")
def preferences(room: Path) -> Path:
    return tiny_models.write_rows(
        room / "preferences",
        train=tiny_models.preferences(3, 250),
        validation=tiny_models.preferences(4, 40),
        test=tiny_models.preferences(5, 60),
    )


@pytest.fixture(scope="module")
def ratings(room: Path) -> Path:
    return tiny_models.write_rows(
        room / "ratings",
        train=tiny_models.ratings(6, 300),
        validation=tiny_models.ratings(7, 40),
        test=tiny_models.ratings(8, 60),
    )


@pytest.fixture(scope="module")
def pairwise(room: Path, prior: Path, preferences: Path) -> Path:
    return reward.run(preferences, prior, room / "pairwise", options=OPTIONS)


@pytest.fixture(scope="module")
def pointwise(room: Path, prior: Path, ratings: Path) -> Path:
    return reward.run(ratings, prior, room / "pointwise", options=OPTIONS)


def test_pairs_are_learned(pairwise: Path, preferences: Path) -> None:
    scores = {(score.completion, score.metric): score.value for score in run_folder.read(pairwise, Score)}
    test = [row.id for row in rows.read(preferences, "test")]
    right = [scores[name, "reward chosen"] > scores[name, "reward rejected"] for name in test]
    assert np.mean(right) > 0.9
    held_out = {row.id for split in ("validation", "test") for row in rows.read(preferences, split)}
    assert {name for name, _ in scores} == held_out
    assert len(scores) == 2 * len(held_out)


def test_labels_are_learned(pointwise: Path, ratings: Path) -> None:
    scores = {score.completion: score for score in run_folder.read(pointwise, Score)}
    test = rows.read(ratings, "test")
    assert np.mean([(scores[row.id].value > 0) == row.label for row in test]) > 0.9
    assert {score.metric for score in scores.values()} == {"reward"}
    assert all(scores[row.id].group == row.group for row in test)


def test_written_scores_are_those_of_the_saved_model(pairwise: Path, pointwise: Path, ratings: Path) -> None:
    """From disk, by another route: the answers as completions in text."""
    scorer = RewardScorer(pointwise, open_backbone(pointwise))
    test = rows.read(ratings, "test")
    said = [Completion(r.id, r.id, r.group, "", "", r.prompt, r.completion[0].content, "stop", 0) for r in test]
    saved = {score.completion: score.value for score in run_folder.read(pointwise, Score)}
    assert scorer(said) == pytest.approx([saved[row.id] for row in test], abs=1e-5)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "mean+all"])
def test_a_model_that_reads_means_learns_and_is_read_so(
    tmp_path: Path, prior: Path, ratings: Path, pooling: Pooling, full: bool
) -> None:
    rate = OPTIONS.rate / 5 if full else OPTIONS.rate
    options = replace(OPTIONS, pooling=pooling, full=full, learning_rate=rate)
    made = reward.run(ratings, prior, tmp_path / "mean", options=options)
    assert read_scale(made).pooling == pooling
    scorer = RewardScorer(made, open_backbone(made))
    test = rows.read(ratings, "test")
    said = [Completion(r.id, r.id, r.group, "", "", r.prompt, r.completion[0].content, "stop", 0) for r in test]
    saved = {score.completion: score.value for score in run_folder.read(made, Score)}
    assert scorer(said) == pytest.approx([saved[row.id] for row in test], abs=1e-5)
    (auc,) = [one for one in run_folder.read(made, Estimate) if (one.name, one.subject) == ("AUC", "test")]
    assert auc.low is not None
    assert auc.low > 0.5
    # What was trained is what is read: the lowest validation loss is that of the written rewards.
    checks = rows.read(ratings, "validation")
    losses = [math.log1p(math.exp(-saved[row.id] if row.label else saved[row.id])) for row in checks]
    lowest = min(point.value for point in run_folder.read(made, Measurement) if point.metric == "validation loss")
    assert np.mean(losses) == pytest.approx(lowest, abs=1e-5)
    with pytest.raises(UserError, match="pooling 'first' is not known; choose from last, mean, mean\\+all"):
        replace(OPTIONS, pooling="first")


def test_without_evaluations_the_last_weights_stay_and_are_calibrated(
    tmp_path: Path, prior: Path, ratings: Path
) -> None:
    made = reward.run(ratings, prior, tmp_path / "out", options=replace(OPTIONS, epochs=1, evaluations=0))
    card = run_folder.read_card(made)
    assert card
    assert card.notes["best step"] == card.notes["steps"] - 1
    assert "validation loss" not in {point.metric for point in run_folder.read(made, Measurement)}
    assert card.notes["calibration slope"] != 1.0


@pytest.mark.parametrize("name", ["pairwise", "pointwise"])
def test_samples_of_the_prior_have_mean_zero_and_spread_one(
    request: pytest.FixtureRequest, name: str, preferences: Path
) -> None:
    """Other draws than those the scale was set on: mean within four standard errors, spread within a quarter."""
    folder: Path = request.getfixturevalue(name)
    scorer = RewardScorer(folder, open_backbone(folder))
    backbone, scale = scorer.backbone, read_scale(folder)
    asked = [encode_prompt(backbone.tokenizer, row.prompt, max_tokens=40) for row in rows.read(preferences, "train")]
    with backbone.adapter(None):
        rollouts = generate(backbone, asked, list(range(len(asked))), Sampling(1.0, 8))
    rewards = [scale.normalised(logit) for logit in scorer.logits([rollout.encoded for rollout in rollouts])]
    assert abs(np.mean(rewards)) < 4 * math.sqrt(1 / len(asked) + 1 / OPTIONS.normalise_on)
    assert np.std(rewards) == pytest.approx(1.0, abs=0.25)
    assert (scale.loss, scale.max_tokens) == (name, 48)


@pytest.mark.parametrize("liked", [3, 15])
def test_the_bias_starts_at_the_logit_of_the_base_rate(backbone: Backbone, tmp_path: Path, liked: int) -> None:
    made = tiny_models.ratings(0, 20)
    for place, row in enumerate(made):
        row["label"] = place < liked
    data = tiny_models.write_rows(tmp_path / "data", train=made)
    still = replace(OPTIONS, epochs=1e-3, learning_rate=1e-12)
    reward.fit_reward(backbone, rows.read(data, "train"), [], still, folder=tmp_path, seed=0)
    assert float(backbone.heads[REWARD].bias.detach()) == pytest.approx(math.log(liked / (20 - liked)), abs=1e-5)


def test_labels_of_one_kind_keep_the_bias_finite(backbone: Backbone, tmp_path: Path) -> None:
    made = [{**row, "label": True} for row in tiny_models.ratings(0, 8)]
    data = tiny_models.write_rows(tmp_path / "data", train=made)
    still = replace(OPTIONS, epochs=1e-3, learning_rate=1e-12)
    reward.fit_reward(backbone, rows.read(data, "train"), [], still, folder=tmp_path, seed=0)
    assert float(backbone.heads[REWARD].bias.detach()) == pytest.approx(math.log(99), abs=1e-4)


@pytest.mark.parametrize("full", [False, True])
def test_the_bias_of_a_reward_of_pairs_stays_zero_whatever_rounding_leaves(
    prior: Path, preferences: Path, tmp_path: Path, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that round a little up leave the bias a gradient of 1e-8, of which Adam would make steps of 5e-3."""

    def rounded(self: ScalarHeads, name: str, hidden: torch.Tensor) -> torch.Tensor:
        scores = self[name](hidden.float()).squeeze(-1)
        if scores.requires_grad:
            scores.register_hook(lambda slope: slope + 1e-8 / len(slope))
        return scores

    monkeypatch.setattr(ScalarHeads, "scalars", rounded)
    backbone = open_backbone(prior, frozen=not full)
    trainer = reward.RewardTrainer(
        backbone, rows.read(preferences, "train")[:20], [], replace(OPTIONS, full=full), seed=0
    )
    before = backbone.heads[REWARD].weight.detach().clone()
    trainer.train(tmp_path, Meter(backbone.device))
    assert not torch.equal(backbone.heads[REWARD].weight, before)
    assert backbone.heads[REWARD].bias.tolist() == [0.0]
    assert "head.reward.bias" not in trainer.parameters()
    backbone.heads.save(REWARD, tmp_path)
    assert load_file(tmp_path / "head.safetensors")["bias"].tolist() == [0.0]


def test_the_first_loss_of_pairs_is_near_log_two(pairwise: Path) -> None:
    curve = run_folder.read(pairwise, Measurement)
    losses = [point.value for point in curve if point.metric == "loss"]
    assert losses[0] < 1.5
    assert np.mean(losses[-5:]) < 0.35
    assert {point.metric for point in curve} == CURVES["train reward"].keys()


def test_the_backbone_stays_and_only_the_adapter_is_written(pairwise: Path, prior: Path) -> None:
    card = run_folder.read_card(pairwise)
    assert card is not None
    assert card.notes["backbone sha256"] == open_backbone(prior).sha256
    assert {name.rpartition(".")[2] for name in card.outputs} <= {"safetensors", "json", "parquet", "md"}
    # rank 8 on q, k, v, o (32 to 32) and gate, up, down (32 and 80) of two layers, and a head of 32 without its bias
    assert card.notes["trained"] == 2 * 8 * (4 * (32 + 32) + 3 * (32 + 80)) + 32
    size = sum((pairwise / name).stat().st_size for name in card.outputs if name.endswith(".safetensors"))
    assert size < (prior / "model.safetensors").stat().st_size


def test_a_reward_model_is_a_function_of_its_seed(
    tmp_path: Path, prior: Path, preferences: Path, pairwise: Path
) -> None:
    short = replace(OPTIONS, epochs=0.3, normalise_on=10)
    made = [reward.run(preferences, prior, tmp_path / str(n), options=short, seed=n // 2) for n in (0, 1, 2)]
    heads = [(folder / "adapter_model.safetensors").read_bytes() for folder in made]
    assert heads[0] == heads[1] != heads[2]
    with pytest.raises(UserError, match="another `train reward` run"):
        reward.run(preferences, prior, made[0], options=short, seed=9)


def test_a_second_call_does_nothing(pairwise: Path, prior: Path, preferences: Path) -> None:
    before = (pairwise / "head.safetensors").stat().st_mtime_ns
    assert reward.run(preferences, prior, pairwise, options=OPTIONS) == pairwise
    assert (pairwise / "head.safetensors").stat().st_mtime_ns == before


def test_a_kill_while_the_model_is_measured_costs_no_training(
    tmp_path: Path, prior: Path, preferences: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for a signal."""

    def killed(*_: object, **__: object) -> None:
        raise Killed

    short = replace(OPTIONS, epochs=0.3, normalise_on=10)
    whole = reward.run(preferences, prior, tmp_path / "whole", options=short)
    with monkeypatch.context() as patched:
        patched.setattr(reward, "prior_scale", killed)
        with pytest.raises(Killed):
            reward.run(preferences, prior, tmp_path / "broken", options=short)
    with monkeypatch.context() as patched:
        patched.setattr(reward.RewardTrainer, "learn", killed)
        broken = reward.run(preferences, prior, tmp_path / "broken", options=short)
    for name in ("adapter_model.safetensors", "head.safetensors", "scores.parquet", "curve.parquet"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert not (broken / ".checkpoint").exists()


def test_rows_of_another_shape_are_refused(tmp_path: Path, prior: Path, preferences: Path, ratings: Path) -> None:
    asked = tiny_models.write_rows(tmp_path / "prompts", train=tiny_models.prompts(0, 4))
    for data, options, message in (
        (asked, OPTIONS, "neither ratings nor preferences"),
        (preferences, replace(OPTIONS, loss="pointwise"), "field 'completion': no such column"),
        (ratings, replace(OPTIONS, loss="pairwise"), "field 'chosen': no such column"),
        (ratings, replace(OPTIONS, max_new_tokens=48), "max_tokens is 48; give more than `max_new_tokens`"),
    ):
        with pytest.raises(UserError, match=message):
            reward.run(data, prior, tmp_path / message[-9:], options=options)


@torch.no_grad()
def test_longer_prompts_are_cut_from_the_left(pairwise: Path) -> None:
    scorer = RewardScorer(pairwise, open_backbone(pairwise))
    short = Completion("a", "a", "g", "", "", tiny_prompt("paint 3"), "red red", "stop", 0)
    long = replace(short, prompt=tiny_prompt("blue " * 60 + "paint 3"))
    assert len(scorer.encode(long).ids) == 48
    assert scorer.encode(long).ids[-8:] == scorer.encode(short).ids[-8:]


def tiny_prompt(text: str) -> tuple[rows.Message, ...]:
    return (rows.Message("user", text),)


@pytest.mark.parametrize(
    ("kind", "field", "made"),
    [
        ("pairwise", "rejected", tiny_models.preferences(0, 6)),
        ("pairwise", "chosen", tiny_models.preferences(0, 6)),
        ("pointwise", "label", tiny_models.ratings(0, 6)),
        ("pointwise", "completion", tiny_models.ratings(0, 6)),
    ],
)
@pytest.mark.parametrize("place", [0, 4])
def test_a_missing_cell_is_named(
    tmp_path: Path, prior: Path, kind: str, field: str, made: list[dict[str, object]], place: int
) -> None:
    broken = [{**row, field: None if number == place else row[field]} for number, row in enumerate(made)]
    data = tiny_models.write_rows(tmp_path / "data", train=broken)
    with pytest.raises(DataError, match=rf"train\.parquet, row {place}, field '{field}': is empty"):
        reward.run(data, prior, tmp_path / kind, options=OPTIONS)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes(tmp_path: Path, prior: Path, preferences: Path, seed: int) -> None:
    with pytest.raises(UserError, match=f"seed is {seed}; give one from 0"):
        reward.run(preferences, prior, tmp_path / "out", options=OPTIONS, seed=seed)


def test_held_out_figures_are_those_of_the_written_scores(pairwise: Path, pointwise: Path, ratings: Path) -> None:
    estimates = {(one.subject, one.name): one.value for one in run_folder.read(pointwise, Estimate)}
    saved = {one.completion: one.value or 0.0 for one in run_folder.read(pointwise, Score)}
    test = rows.read(ratings, "test")
    liked = [bool(row.label) for row in test]
    assert estimates["test", "AUC"] == pytest.approx(roc_auc_score(liked, [saved[row.id] for row in test]))
    chances = expit([saved[row.id] for row in test])
    assert estimates["test", "Brier score"] == pytest.approx(brier_score_loss(liked, chances))
    subjects = {subject.partition(", predicted")[0] for subject, _ in estimates}
    assert subjects == {"validation", "test", "test, calibrated"}
    pairs = {(one.subject, one.name): one.value for one in run_folder.read(pairwise, Estimate)}
    scores = {(one.completion, one.metric): one.value or 0.0 for one in run_folder.read(pairwise, Score)}
    held = [row.id for row in rows.read(ratings.parent / "preferences", "test")]
    right = np.mean([scores[name, "reward chosen"] > scores[name, "reward rejected"] for name in held])
    assert pairs["test", "pair accuracy"] == pytest.approx(right)


class Fixed:
    """A scorer that says what it was told."""

    def __init__(self, logits: list[float]) -> None:
        self.given = logits

    def logits(self, sequences: list[int]) -> list[float]:
        return self.given[: len(sequences)]


def test_calibration_is_unpenalised_logistic_regression() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=400)
    labels = random.random(400) < expit(0.4 * logits + 1.0)
    checks = [((0,), float(label)) for label in labels]
    line = platt(Fixed(list(logits)), checks, "pointwise")  # type: ignore[arg-type]
    fitted = LogisticRegression(C=np.inf).fit(logits[:, None], labels)
    assert line == pytest.approx((fitted.coef_[0, 0], fitted.intercept_[0]), abs=1e-3)


def test_calibration_of_pairs_has_no_intercept_and_a_bound() -> None:
    """Margins drawn with P(chosen) = sigmoid(2 m) find slope 2; pairs without a miss would find infinity."""
    random = np.random.default_rng(1)
    margins = random.normal(size=3000)
    signed = np.where(random.random(3000) < expit(2.0 * margins), margins, -margins)
    flat = [value for margin in signed for value in (margin, 0.0)]
    slope, intercept = platt(Fixed(flat), [((0, 0), 1.0)] * 3000, "pairwise")  # type: ignore[arg-type]
    assert slope == pytest.approx(2.0, abs=0.25)
    assert intercept == 0.0
    sure = platt(Fixed([1.0, 0.0] * 5), [((0, 0), 1.0)] * 5, "pairwise")  # type: ignore[arg-type]
    assert 5 < sure[0] <= 100
    assert platt(Fixed([]), [], "pairwise") == (1.0, 0.0)  # type: ignore[arg-type]


def test_the_scale_knows_calibrated_probabilities(pointwise: Path) -> None:
    scale = read_scale(pointwise)
    card = run_folder.read_card(pointwise)
    assert card is not None
    assert (scale.slope, scale.intercept) == (card.notes["calibration slope"], card.notes["calibration intercept"])
    assert scale.probability(0.3) == pytest.approx(expit(scale.slope * 0.3 + scale.intercept))


def test_early_stopping_keeps_the_best_and_says_when(tmp_path: Path, prior: Path) -> None:
    """Eight rows learned by heart at a high rate: the validation loss soon rises."""
    data = tiny_models.write_rows(
        tmp_path / "data", train=tiny_models.ratings(40, 8), validation=tiny_models.ratings(41, 30)
    )
    options = replace(OPTIONS, epochs=80, batch=8, learning_rate=3e-2, evaluations=20, patience=2, normalise_on=8)
    out = reward.run(data, prior, tmp_path / "out", options=options)
    card = run_folder.read_card(out)
    assert card is not None
    losses = {one.step: one.value for one in run_folder.read(out, Measurement) if one.metric == "validation loss"}
    assert card.notes["best step"] == min(losses, key=lambda step: losses[step])
    assert card.notes["steps"] < 80
    assert len(losses) == list(losses).index(card.notes["best step"]) + 3


def test_dropout_is_for_training_and_a_function_of_the_step(tmp_path: Path, prior: Path, preferences: Path) -> None:
    found = rows.read(preferences, "train")[:20]
    lora = LoraShape(4, dropout=0.3)
    options = replace(OPTIONS, batch=10, dropout=0.3, lora=lora)
    losses = []
    for chosen in (options, options, replace(options, dropout=0.0, lora=LoraShape(4))):
        trainer = reward.RewardTrainer(open_backbone(prior), found, found, chosen, seed=0)
        tiny_models.stir(trainer.backbone, REWARD, size=0.1)
        losses.append([trainer.learn(0)[0]["loss"], trainer.learn(1)[0]["loss"], trainer.evaluate()["validation loss"]])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[2][0]
    assert losses[0][2] == losses[2][2]


def test_weight_averages_are_reward_models_of_their_own(
    tmp_path: Path, prior: Path, preferences: Path, pairwise: Path
) -> None:
    other = reward.run(preferences, prior, tmp_path / "other", options=OPTIONS, seed=1)
    options = weight_average.AverageOptions(normalise_on=60, max_new_tokens=8)
    out = weight_average.run([pairwise, other], preferences, prior, tmp_path / "average", options=options)
    estimates = {(one.subject, one.name): one.value for one in run_folder.read(out, Estimate)}
    assert (estimates["test", "pair accuracy"] or 0) > 0.85
    scale = read_scale(out)
    assert scale.loss == "pairwise"
    assert scale.std > 0
    card = run_folder.read_card(out)
    assert card is not None
    assert card.notes["trained"] == 2 * 2 * 8 * (4 * (32 + 32) + 3 * (32 + 80)) + 33  # rank 8 twice
    assert weight_average.run([pairwise, other], preferences, prior, out, options=options) == out
    with pytest.raises(UserError, match="1 reward model has no average"):
        weight_average.run([pairwise], preferences, prior, tmp_path / "one", options=options)


def test_members_of_unlike_losses_have_no_average(
    tmp_path: Path, prior: Path, preferences: Path, pairwise: Path, pointwise: Path
) -> None:
    with pytest.raises(UserError, match="some members are pointwise and some pairwise"):
        weight_average.run([pairwise, pointwise], preferences, prior, tmp_path / "out")


@pytest.mark.parametrize("kind", ["ratings", "preferences"])
def test_training_and_score_say_the_same_of_the_same_scores(
    tmp_path: Path, prior: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """One split held out, so that both see all of its scores: the same figures, to the last bit."""
    whole = request.getfixturevalue(kind)
    (tmp_path / kind).mkdir()
    for split in ("train", "test"):
        shutil.copy(whole / f"{split}.parquet", tmp_path / kind)
    made = reward.run(tmp_path / kind, prior, tmp_path / "made", options=replace(OPTIONS, epochs=0.2))
    beside = ScoreBeside(data=tmp_path / kind if kind == "ratings" else None)
    scored = dispatch.run(made, tmp_path / "scored", beside=beside)
    trained, again = (run_folder.read(folder, Estimate) for folder in (made, scored))
    assert len(trained) > (8 if kind == "ratings" else 2)
    where = {"split": "", "metric": "reward", "truth": "labels" if kind == "ratings" else ""}
    assert [replace(one, about=replace(one.about, **where)) for one in trained] == again


def test_what_is_cut_is_said_and_on_the_card(
    prior: Path, preferences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = replace(OPTIONS, epochs=0.1, max_tokens=10, max_new_tokens=2, normalise_on=4)
    folder = reward.run(preferences, prior, tmp_path / "cut", options=options)
    card = run_folder.read_card(folder)
    assert card is not None
    assert card.notes["texts"] == 2 * (250 + 40)
    assert 0 < card.notes["texts cut"] < card.notes["texts"]
    assert f"warning: {card.notes['texts cut']} of 580 texts" in capsys.readouterr().err
    auto = reward.run(preferences, prior, tmp_path / "auto", options=replace(options, max_tokens=0))
    card = run_folder.read_card(auto)
    assert card is not None
    assert card.notes["texts cut"] == 0
    assert read_scale(auto).max_tokens == card.notes["max tokens"] >= card.notes["tokens of the longest text"]


def test_an_answer_that_ends_with_the_user_is_refused(prior: Path, tmp_path: Path) -> None:
    pair = tiny_models.preferences(3, 1)[0]
    pair["chosen"] = [*pair["chosen"], {"role": "user", "content": "and?"}]
    data = tiny_models.write_rows(tmp_path / "data", train=[pair])
    with pytest.raises(UserError, match=f"row {pair['id']}: chosen does not end with what the assistant says"):
        reward.run(data, prior, tmp_path / "out", options=OPTIONS)


def test_an_empty_answer_has_a_reward(prior: Path, tmp_path: Path) -> None:
    pairs = tiny_models.preferences(3, 16)
    pairs[0]["rejected"] = tiny_models.turns("assistant", "")
    data = tiny_models.write_rows(tmp_path / "data", train=pairs)
    folder = reward.run(data, prior, tmp_path / "out", options=replace(OPTIONS, epochs=1, normalise_on=4))
    assert math.isfinite(read_scale(folder).mean)


def test_the_same_text_has_the_same_reward_in_any_company(pairwise: Path, prior: Path) -> None:
    scorer = RewardScorer(pairwise, open_backbone(prior), batch=4)
    encoded = [Encoded((3, *range(20, 20 + size), 1), (False, *(True,) * (size + 1))) for size in range(1, 13)]
    first = scorer.logits(encoded)
    assert scorer.logits([encoded[5]]) == [first[5]]
    assert scorer.logits([encoded[7], encoded[7], encoded[0]]) == [first[7], first[7], first[0]]
