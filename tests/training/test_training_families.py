"""Pictures through every stage: families of models by one step each, and every way to train on one of them."""

from __future__ import annotations

import gzip
import itertools
import json
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny_models
import tiny_vision
import torch

from perl_eval import cli, posterior
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.ensemble import EnsembleRule
from perl_eval.records import Completion, Estimate, Measurement
from perl_eval.sampling import in_process
from perl_eval.sources import rows
from perl_eval.storage import images, run_folder
from perl_eval.training import ablate, folds, policy, reward, rules, sft, weight_average
from perl_eval.training.reinforce import PolicyTrainer, cast
from perl_eval.training.resources import Resources
from perl_eval.training.reward import RewardTrainer
from perl_eval.training.sft import SftTrainer
from perl_eval.worlds import pictures

LENGTHS: dict[str, Any] = {"max_tokens": 200, "max_new_tokens": 3}
REWARD = reward.RewardOptions(epochs=0.25, batch=8, evaluations=1, normalise_on=8, lora=LoraShape(2), **LENGTHS)
TUNE = policy.PolicyOptions(steps=2, batch=8, lora=LoraShape(2, norms=True), **LENGTHS)
SAMPLE = in_process.SampleOptions(**LENGTHS)
WHOLE = Resources(Placement(device="cpu"))
SPARING = Resources(Placement(device="cpu", dtype="bf16", checkpointing=True), micro_batch=3)


def imitating(model: Path, resources: Resources = WHOLE) -> sft.SftOptions:
    """Return options of one step of imitation by an adapter."""
    sizes: dict[str, Any] = {"epochs": 0.25, "batch": 8, "max_tokens": 200, "evaluations": 1}
    return sft.SftOptions(str(model), lora=LoraShape(2), resources=resources, **sizes)


@pytest.fixture(scope="module")
def few(room: Path) -> Path:
    return pictures.build(room / "families", questions=32, ratings=40)


@pytest.fixture(scope="module")
def pairs(few: Path) -> Path:
    """Return preferences of the right answer over another one."""
    by_split = {}
    for split in ("train", "validation", "test"):
        cells = pq.read_table(few / "questions" / f"{split}.parquet").to_pylist()
        for row in cells:
            right = row["multiple_choice_answer"]
            wrong = next(colour for colour in pictures.COLOURS if colour != right)
            row |= {"chosen": tiny_models.turns("assistant", right), "rejected": tiny_models.turns("assistant", wrong)}
        by_split[split] = cells
    return tiny_models.write_rows(few.parent / "family-pairs", **by_split)


@pytest.fixture(scope="module")
def llava(room: Path) -> Path:
    return tiny_models.save_blank_vision(room / "family-llava")


@pytest.fixture(scope="module")
def rewarded(room: Path, few: Path, llava: Path) -> list[Path]:
    return [
        reward.run(few / "ratings", llava, room / f"family-reward-{seed}", options=REWARD, seed=seed) for seed in (0, 1)
    ]


def curve(folder: Path, metric: str) -> list[float]:
    return [point.value for point in run_folder.read(folder, Measurement) if point.metric == metric]


@pytest.mark.parametrize("family", tiny_vision.SAVERS)
def test_a_family_of_models_goes_through_every_stage(family: str, few: Path, tmp_path: Path) -> None:
    """One step each; the policy starts as its prior, however a family takes pictures, and then leaves it."""
    with tiny_vision.without_films():
        model = tiny_vision.save(family, tmp_path / "model")
        prior = sft.run(few / "questions", tmp_path / "sft", options=imitating(model))
        judge = reward.run(few / "ratings", prior, tmp_path / "reward", options=REWARD)
        tuned = policy.run(few / "questions", prior, judge, tmp_path / "tuned", options=TUNE)
        answers = run_folder.read(
            in_process.run(tuned, few / "questions", tmp_path / "out", options=SAMPLE), Completion
        )
    assert curve(tuned, "KL to prior")[0] == pytest.approx(0, abs=1e-6)
    assert abs(curve(tuned, "KL to prior")[1]) > 1e-7
    assert len(answers) == len(rows.asked(few / "questions", "test"))
    assert any(one.logprob != pytest.approx(one.prior_logprob, abs=1e-6) for one in answers)


def trainer(stage: str, model: Path, data: Path, resources: Resources) -> Any:
    backbone = open_backbone(model, resources.placement)
    found = rows.read(data, "train")
    if stage == "sft":
        return SftTrainer(backbone, found, [], imitating(model, resources), seed=0)
    if stage.startswith("reward"):
        return RewardTrainer(backbone, found, [], replace(REWARD, resources=resources), seed=0)
    options = replace(TUNE, value="adapter", resources=resources)
    return PolicyTrainer(cast(backbone, options, seed=0), found, rules.vqa, options, seed=0)


PARTS = {"sft": ["sft"], "reward": ["reward"], "reward of pairs": ["reward"], "policy": ["policy", "value"]}
DATA = {"sft": "questions", "reward": "ratings", "policy": "questions"}


@pytest.mark.parametrize("stage", PARTS)
def test_checkpointing_and_micro_batches_take_the_same_step_on_pictures(
    stage: str, llava: Path, few: Path, pairs: Path
) -> None:
    data = few / DATA[stage] if stage in DATA else pairs
    spared = Resources(Placement(device="cpu", checkpointing=True), micro_batch=3)
    taken = []
    for resources in (WHOLE, spared):
        one = trainer(stage, llava, data, resources)
        for part in PARTS[stage]:
            tiny_models.stir(one.backbone, part, size=0.05)
        one.learn(0)
        taken.append({f"{p}.{k}": v.grad for p in PARTS[stage] for k, v in one.backbone.parameters_of(p).items()})
    whole, sparing = taken
    # What is added to both answers of a pair changes nothing, and is not trained.
    assert ("reward.head.reward.bias" in whole) == (stage == "reward")
    for name, gradient in whole.items():
        assert gradient is not None
        assert gradient.abs().sum() > 0, name
        assert torch.allclose(gradient, sparing[name], atol=1e-5, rtol=1e-3), name


@pytest.mark.parametrize("stage", PARTS)
def test_bf16_learns_from_pictures_near_what_float32_does(stage: str, llava: Path, few: Path, pairs: Path) -> None:
    """Every lora_B moves under checkpointing and bfloat16, and the step points where it does in float32."""
    data = few / DATA[stage] if stage in DATA else pairs
    taken = []
    for resources in (WHOLE, SPARING):
        one = trainer(stage, llava, data, resources)
        if stage == "policy":  # the same samples in either precision
            asked, said = trainer(stage, llava, data, WHOLE).sample(0)
            one.sample = lambda _, asked=asked, said=said: (asked, said)
        one.learn(0)
        named = one.backbone.parameters_of(PARTS[stage][0])
        moved = {name: parameter.grad for name, parameter in named.items() if "lora_B" in name}
        assert len(moved) == 2 * 7  # two layers, seven projections
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in moved.values())
        taken.append(torch.cat([gradient.flatten() for gradient in moved.values()]))
    assert float(torch.cosine_similarity(*taken, dim=0)) > 0.98
    assert open_backbone(llava, SPARING.placement).causal.dtype == torch.bfloat16


def test_a_reward_model_of_pairs_with_pictures(pairs: Path, llava: Path, tmp_path: Path) -> None:
    made = reward.run(pairs, llava, tmp_path / "out", options=replace(REWARD, epochs=20, learning_rate=5e-3))
    assert {(one.name, one.subject) for one in run_folder.read(made, Estimate)} >= {("pair accuracy", "test")}
    losses = curve(made, "loss")
    assert sum(losses[-3:]) < sum(losses[:3])


def test_folds_and_ensembles_and_averages_on_pictures(
    few: Path, llava: Path, rewarded: list[Path], tmp_path: Path
) -> None:
    made = folds.run(few / "ratings", llava, tmp_path / "folds", options=folds.FoldOptions(2, REWARD))
    assert {one.subject for one in run_folder.read(made, Estimate)} >= {folds.LEARNED, folds.BASELINE}
    cautious = replace(TUNE, steps=1, ensemble=EnsembleRule("minimum"))
    both = policy.run(few / "questions", llava, rewarded, tmp_path / "both", options=cautious)
    alone = [
        policy.run(few / "questions", llava, one, tmp_path / f"alone-{place}", options=replace(TUNE, steps=1))
        for place, one in enumerate(rewarded)
    ]
    assert curve(both, "reward")[0] <= min(curve(one, "reward")[0] for one in alone) + 1e-6
    options = weight_average.AverageOptions(normalise_on=8, max_new_tokens=3)
    made = weight_average.run(rewarded, few / "ratings", llava, tmp_path / "average", options=options)
    assert ("AUC", "test") in {(one.name, one.subject) for one in run_folder.read(made, Estimate)}


def test_an_ablation_on_pictures(few: Path, llava: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for config, of in (("demonstrations", "questions"), ("prompts", "questions"), ("ratings", "ratings")):
        (data / config).symlink_to(few / of)
    options = ablate.AblateOptions(
        sizes=(str(llava),), ranks=(2,), full=True, seeds=1, prompts=4, draws=1, reward=REWARD, policy=TUNE
    )
    found = run_folder.read(ablate.run(data, tmp_path / "out", options=options), Estimate)
    assert {one.subject for one in found} >= {f"{llava.name}, {arm}" for arm in ("r2", "full", "SFT")}


def test_the_posterior_of_prompts_with_pictures(few: Path, llava: Path, rewarded: list[Path], tmp_path: Path) -> None:
    """The pool's log-probabilities are those of `sample` on the same pictures, and answers keep them."""
    tuned = policy.run(few / "questions", llava, rewarded[0], tmp_path / "tuned", options=TUNE)
    options = posterior.PosteriorOptions(0.5, limit=3, draws=4, pool=8, n=2, most=20, **LENGTHS)
    models = posterior.Models(llava, (rewarded[0],), (tuned,))
    made = posterior.run(few / "questions", models, tmp_path / "out", options=options)
    answers = run_folder.read(made, Completion)
    by_id = {row.id: row for row in rows.read(few / "questions", "test")}
    backbone = open_backbone(llava)
    backbone.attach_saved("policy", tuned)
    for one in answers:
        (path,) = images.locate(made, one.images)
        assert images.read(path) == by_id[one.item].images[0].read()
    for one in [one for one in answers if one.policy == "tuned"][:4]:
        assert one.prior_logprob == pytest.approx(scored(backbone, None, by_id[one.item], one), abs=1e-4)
        assert one.logprob == pytest.approx(scored(backbone, "policy", by_id[one.item], one), abs=1e-4)
    assert {"prior", "best of 2", "SMC of 2", "tuned"} <= {one.policy for one in answers}


@torch.no_grad()
def scored(backbone: Any, adapter: str | None, row: rows.Row, answer: Completion) -> float:
    """Return an answer's log-probability by softmax over the whole vocabulary, one token after another."""
    from perl_eval.models.tokenize import Encoded, encode_prompt, pad

    prompt = encode_prompt(backbone.processor, row.prompt, max_tokens=200, pictures=row.images)
    ids = (*prompt, *answer.token_ids)
    with backbone.adapter(adapter):
        hidden = backbone.hidden(pad([Encoded(ids, (False,) * len(ids), row.images)], pad_id=backbone.pad_id))
        table = torch.log_softmax(backbone.logits(hidden)[0], -1)
    return sum(float(table[place - 1, ids[place]]) for place in range(len(prompt), len(ids)))


def told(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a line as it is typed and return the exit code."""
    monkeypatch.setattr(sys, "argv", ["perl-eval", *shlex.split(line)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_a_text_model_refuses_pictures_in_one_line_whatever_the_verb(
    few: Path, prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = itertools.count()
    data, rated = few / "questions", few / "ratings"
    for verb in (
        f"train sft --data {data} --model {prior}",
        f"train reward --data {rated} --prior {prior}",
        f"train reward --data {rated} --prior {prior} --folds 2",
        f"train policy --data {data} --prior {prior} --reward-function perl_eval.training.rules:vqa",
        f"sample --data {data} --model {prior}",
    ):
        assert told(f"{verb} --out {tmp_path / str(next(numbers))}", monkeypatch) == 2, verb
        said = capsys.readouterr().err.strip().splitlines()
        assert "the model reads text only" in said[-1], verb


@pytest.mark.realdata
def test_rl_by_the_official_accuracy_on_a_real_photograph(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the verbs alone: build, train sft, train policy with the rule as reward, sample, score.

    The photograph is real, and so are the questions and people's answers, which were about others.
    """
    given, upstream = real_data / "vqav2", tmp_path / "upstream"
    upstream.mkdir()
    shutil.copy(given / "COCO_train2014_000000458752.jpg", upstream)
    for name, key in (
        ("OpenEnded_mscoco_train2014_questions", "questions"),
        ("mscoco_train2014_annotations", "annotations"),
    ):
        with gzip.open(given / f"v2_{name}.json.gz", "rt", encoding="utf-8") as file:
            whole = json.load(file)
        kept = sorted(whole[key], key=lambda one: one["question_id"])[:12]
        whole[key] = [{**one, "image_id": 458752, "question_id": 458752000 + place} for place, one in enumerate(kept)]
        (upstream / f"v2_{name}.json").write_text(json.dumps(whole), "utf-8")
    lengths, rule = "--max-tokens 300 --max-new-tokens 4 --batch 6", "perl_eval.training.rules:vqa"
    setting = "--setting checksums=record --setting images=true"
    here, data = tmp_path, tmp_path / "data" / "questions"
    for line in (
        f"build vqav2 --config questions --split train --data-dir {upstream} {setting}"
        f" --out {here / 'data'} --cache-dir {here / 'cache'}",
        f"train sft --data {data} --model scratch:tiny --epochs 4 --batch 6 --max-tokens 300 --out {here / 'sft'}",
        f"train policy --data {data} --prior {here / 'sft'} --reward-function {rule} --steps 2 {lengths}"
        f" --out {here / 'tuned'}",
        f"sample --data {data} --model {here / 'tuned'} --split train {lengths} --out {here / 'said'}",
        f"score {here / 'said'} --data {data} --out {here / 'scored'}",
    ):
        assert told(line, monkeypatch) == 0, line
    assert {len(one.images) for one in run_folder.read(here / "said", Completion)} == {1}
    assert ("VQA accuracy", "tuned") in {(one.name, one.subject) for one in run_folder.read(here / "scored", Estimate)}
    assert all(0 <= point <= 1 for point in curve(here / "tuned", "reward") if point >= 0)


@pytest.mark.realdata
@pytest.mark.slow
def test_rl_by_the_rule_of_actions_on_real_steps(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instructions, actions and boxes of AndroidControl's test episodes; their screenshots are not here."""
    with (real_data / "androidcontrol" / "test_text_side.jsonl").open(encoding="utf-8") as file:
        episodes = [json.loads(line) for line in itertools.islice(file, 4)]
    steps = []
    for episode in episodes:
        for place, told_in in enumerate(episode["step_instructions"]):
            action = json.loads(episode["actions"][place])
            known = {
                "action": {key: action.get(key) for key in ("action_type", "x", "y", "text", "app_name", "direction")},
                "candidate_boxes": episode["candidate_bboxes"][place],
                "screen_width": 1080,
                "screen_height": 2400,
            }
            answer = tiny_models.turns("assistant", episode["actions"][place])
            steps.append(tiny_models.row(f"{episode['episode_id']}-{place}", told_in, completion=answer, **known))
    data = tiny_models.write_rows(tmp_path / "steps", train=steps)
    rule, lengths = "perl_eval.training.rules:action", "--max-tokens 300 --max-new-tokens 60 --batch 8"
    sft_line = (
        f"train sft --data {data} --epochs 80 --learning-rate 1e-2 --batch 8 --max-tokens 300 --out {tmp_path / 'sft'}"
    )
    assert told(sft_line, monkeypatch) == 0
    line = (
        f"train policy --data {data} --prior {tmp_path / 'sft'} --reward-function {rule} --steps 2"
        f" --missing-end-reward 0 {lengths} --out {tmp_path / 'tuned'}"
    )
    assert told(line, monkeypatch) == 0
    assert all(0 <= point <= 1 for point in curve(tmp_path / "tuned", "reward"))
    assert max(curve(tmp_path / "tuned", "reward")) > 0  # it was taught these very steps
    assert told(line.replace(":action", ":vqa").replace("tuned", "other"), monkeypatch) == 2  # no people's answers here
