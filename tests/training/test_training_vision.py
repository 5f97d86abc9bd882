"""SFT, reward and RL on pictures whose answers are known: the official VQA accuracy must rise."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_models
import torch

from perl_eval.errors import DataError, UserError
from perl_eval.models.backbone import LoraShape, open_backbone
from perl_eval.models.generate import Rollout
from perl_eval.models.reward_model import RewardScorer
from perl_eval.records import PICTURE, Completion, Estimate, Measurement
from perl_eval.sampling import in_process
from perl_eval.scoring import tasks
from perl_eval.sources import rows
from perl_eval.storage import images, run_folder
from perl_eval.training import policy, reinforce, reward, rules, sft
from perl_eval.training.policy import POLICY, VALUE, PolicyOptions, PolicyTrainer
from perl_eval.training.reinforce import cast
from perl_eval.worlds import pictures

SAMPLING = in_process.SampleOptions(max_new_tokens=4, max_tokens=32)
OPTIONS = PolicyOptions(
    steps=25, batch=48, group=4, learning_rate=5e-3, beta=0.1, max_new_tokens=4, max_tokens=32, lora=LoraShape(8)
)
TRAINED = sft.SftOptions(epochs=4, batch=32, learning_rate=3e-3, max_tokens=32)


@pytest.fixture(scope="module")
def world(room: Path) -> Path:
    return pictures.build(room / "pictures", questions=2400, ratings=1200)


@pytest.fixture(scope="module")
def few(room: Path) -> Path:
    return pictures.build(room / "few", questions=40, ratings=40)


@pytest.fixture(scope="module")
def unseeing(room: Path) -> Path:
    """Return a vision-language model of random weights."""
    return tiny_models.save_blank_vision(room / "unseeing")


@pytest.fixture(scope="module")
def seeing(room: Path, world: Path, unseeing: Path) -> Path:
    """Return a model that answers as the careless person does."""
    return sft.run(world / "questions", room / "seeing", options=replace(TRAINED, model=str(unseeing)))


@pytest.fixture(scope="module")
def before(room: Path, world: Path, seeing: Path) -> Path:
    return in_process.run(seeing, world / "questions", room / "sampled-before", options=replace(SAMPLING, name="SFT"))


def gain(model: Path, world: Path, before: Path, out: Path) -> Estimate:
    """Return by how much a policy's official VQA accuracy is above the SFT model's, paired by question."""
    after = in_process.run(model, world / "questions", out / "sampled", options=replace(SAMPLING, name="RL"))
    scored = tasks.run(after, world / "questions", out / "scored", beside=tasks.Beside(against=before))
    name = ("VQA accuracy difference", "RL minus SFT")
    (found,) = [one for one in run_folder.read(scored, Estimate) if (one.name, one.subject) == name]
    return found


@pytest.mark.slow
def test_rl_lifts_the_official_vqa_accuracy_over_sft(world: Path, seeing: Path, before: Path, tmp_path: Path) -> None:
    """By the rule itself as reward. The SFT model is right about as often as whom it imitates, so there is room."""
    scored = tasks.run(before, world / "questions", tmp_path / "scored-before")
    (start,) = [one for one in run_folder.read(scored, Estimate) if (one.name, one.subject) == ("VQA accuracy", "SFT")]
    assert start.value == pytest.approx(pictures.CARELESS, abs=0.15)
    tuned = policy.run(world / "questions", seeing, rules.vqa, tmp_path / "tuned", options=OPTIONS)
    found = gain(tuned, world, before, tmp_path)
    assert found.low is not None
    assert found.low > 0, found
    card = run_folder.read_card(tuned)
    assert card is not None
    base = sum(one.numel() for one in open_backbone(seeing).causal.parameters())
    # resident: the backbone once, one adapter on the language model's two layers, one head; tower and prior are shared
    own = tiny_models.adapter_weights(8, width=48, inner=128)
    assert card.notes["parameters"] == base + own + 49
    assert card.notes["trained"] == own


@pytest.mark.slow
def test_a_reward_model_learns_what_fits_a_picture_and_lifts_the_accuracy(
    world: Path, seeing: Path, before: Path, tmp_path: Path
) -> None:
    # After half as many its loss still falls, and rounding decides whether the area is 0.84 or 0.9.
    how = reward.RewardOptions(epochs=8, batch=32, learning_rate=5e-3, max_tokens=32, max_new_tokens=4)
    rewarded = reward.run(world / "ratings", seeing, tmp_path / "rewarded", options=how)
    (area,) = [one for one in run_folder.read(rewarded, Estimate) if (one.name, one.subject) == ("AUC", "test")]
    assert area.value is not None
    assert area.value > 0.85
    tuned = policy.run(
        world / "questions", seeing, rewarded, tmp_path / "tuned", options=replace(OPTIONS, group=1, beta=0.2)
    )
    found = gain(tuned, world, before, tmp_path)
    assert found.low is not None
    assert found.low > 0, found
    # judged completions name their pictures; located, they get the reward that training gave the ids
    scorer = RewardScorer(rewarded, open_backbone(seeing))
    sampled = run_folder.read(tmp_path / "sampled", Completion)[:20]
    by_id = {row.id: row for row in rows.read(world / "questions", "test")}
    located = [replace(one, images=images.locate(tmp_path / "sampled", one.images)) for one in sampled]
    swapped = [replace(one, images=other.images) for one, other in zip(located, located[1:] + located[:1], strict=True)]
    direct = [replace(scorer.encode(one), pictures=by_id[one.item].images) for one in located]
    assert scorer(located) == pytest.approx(scorer.logits(direct), abs=1e-6)
    assert scorer(swapped) != pytest.approx(scorer(located), abs=1e-2)


def trainer(folder: Path, data: Path) -> PolicyTrainer:
    options = replace(OPTIONS, steps=4, batch=8, group=1, value="adapter")
    backbone = open_backbone(folder)
    return PolicyTrainer(
        cast(backbone, options, seed=0), rows.read(data / "questions", "train"), rules.vqa, options, seed=0
    )


def test_a_killed_run_on_pictures_ends_with_the_same_bits(
    unseeing: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer(unseeing, few)
    expected = whole.train(tmp_path / "whole").curve
    assert next(point.value for point in expected if point.metric == "KL to prior") == 0.0
    monkeypatch.setattr(reinforce, "LoopOptions", functools.partial(reinforce.LoopOptions, checkpoint_every_s=-1))
    broken = trainer(unseeing, few)
    learn = broken.learn

    def killed(step: int) -> dict[str, float]:
        if step == 2:
            raise KeyboardInterrupt
        return learn(step)

    broken.learn = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.train(tmp_path / "broken")
    again = trainer(unseeing, few)
    assert again.train(tmp_path / "broken").curve == expected
    for name in (POLICY, VALUE):
        ours, theirs = (one.backbone.parameters_of(name).values() for one in (again, whole))
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert again.backbone.weights_sha256() == open_backbone(unseeing).sha256


def test_sft_makes_a_vision_model_from_nothing_where_rows_have_pictures(few: Path, tmp_path: Path) -> None:
    options = sft.SftOptions(epochs=0.5, batch=8, max_tokens=32)
    made = open_backbone(sft.run(few / "questions", tmp_path / "made", options=options))
    assert made.vision is not None
    assert {point.metric for point in run_folder.read(tmp_path / "made", Measurement)} >= {"loss", "validation loss"}


def test_rows_without_pictures_learn_beside_rows_with(few: Path, unseeing: Path, tmp_path: Path) -> None:
    """The step's loss is the mean over all answer tokens, as it is row by row."""
    found = rows.read(few / "questions", "train", need=("completion",))[:6]
    bare = [
        replace(row, images=(), prompt=tuple(replace(t, content="what colour") for t in row.prompt)) for row in found
    ]
    mixed = [*found[:3], *bare[3:]]
    options = sft.SftOptions(model=str(unseeing), epochs=1, batch=6, max_tokens=32)
    fresh = [
        sft.SftTrainer(open_backbone(unseeing), part, [], options, seed=0) for part in (mixed, *([r] for r in mixed))
    ]
    losses = [one.learn(0)[0]["loss"] for one in fresh]
    tokens = [sum(row.trained[1:]) for row in fresh[0].encoded]
    assert losses[0] == pytest.approx(np.average(losses[1:], weights=tokens), abs=1e-5)
    towers = [one.backbone.causal.model.vision_tower.embeddings.patch_embedding.weight.grad for one in fresh]
    assert towers[1] is not None  # full tuning moves the tower where there are pictures
    assert towers[-1] is None


def test_samples_keep_their_pictures_and_equal_questions_about_others_are_answered(
    few: Path, unseeing: Path, tmp_path: Path
) -> None:
    out = in_process.run(unseeing, few / "questions", tmp_path / "out", options=SAMPLING)
    found = run_folder.read(out, Completion)
    asked = rows.read(few / "questions", "test")
    assert len(found) == len(asked) == 8
    assert len({one.prompt for one in found}) == 2
    by_id = {row.id: row for row in asked}
    for one in found:
        (path,) = images.locate(out, one.images)
        assert images.read(path) == by_id[one.item].images[0].read()
        assert one.prompt[0].content.startswith(PICTURE)


def test_rules_score_by_the_rows_own_columns() -> None:
    people = [{"answer": "red"}] * 3 + [{"answer": "blue"}] * 7
    row = rows.Row("1", "g", "d", (), more={"answers": people})
    said = [Rollout((), (), finished=True, text=text) for text in ("red", "blue", "green")]
    # leaving out each person: three of ten say red, so 2/3 for each of those three and 1 for the other seven
    assert rules.vqa([row] * 3, said) == pytest.approx([0.3 * 2 / 3 + 0.7, 1.0, 0.0])
    tap = {"action_type": "click", "x": 50, "y": 50, "text": None}
    step = rows.Row(
        "2",
        "g",
        "d",
        (),
        more={"action": tap, "candidate_boxes": [[40, 40, 60, 60]], "screen_width": 100, "screen_height": 200},
    )
    taps = ['{"action_type": "click", "x": 55, "y": 45}', '{"action_type": "click", "x": 5, "y": 5}', "no"]
    moved = [Rollout((), (), finished=True, text=text) for text in taps]
    assert rules.action([step] * 3, moved) == [1.0, 0.0, 0.0]
    with pytest.raises(UserError, match="row 1 has no action"):
        rules.action([row], moved[:1])


def broken(few: Path, out: Path, column: str, change: object) -> Path:
    """Write one row of the world with a column put to something else."""
    table = pq.read_table(few / "questions" / "test.parquet").slice(0, 1)
    cells = table.to_pylist()[0]
    cells[column] = change(cells[column]) if callable(change) else change
    return tiny_models.write_rows(out, train=[cells])


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("prompt", [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "places for 0 pictures"),
        ("prompt", [{"role": "user", "content": "hi"}], "places for 0 pictures"),
        ("images", lambda cell: cell * 2, "places for 1 pictures, and the row comes with 2"),
        ("images", [{"bytes": None, "path": "a.png"}], "has no bytes of a picture"),
        ("completion", [{"role": "assistant", "content": [{"type": "image"}]}], "has a picture"),
        ("prompt", [{"role": "user", "content": [{"type": "video"}]}], "neither text nor a list of turns"),
    ],
)
def test_a_row_whose_pictures_have_no_place(
    few: Path, tmp_path: Path, column: str, change: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        rows.read(broken(few, tmp_path / "data", column, change), "train")


def test_pictures_that_change_under_a_run(few: Path, tmp_path: Path) -> None:
    folder = broken(few, tmp_path / "data", "id", "same")
    (row,) = rows.read(folder, "train")
    assert row.images[0].read().startswith(b"\x89PNG")
    broken(few, folder, "images", lambda cell: [{"bytes": cell[0]["bytes"][:-1], "path": None}])
    with pytest.raises(DataError, match="holds other pictures than before"):
        row.images[0].read()
