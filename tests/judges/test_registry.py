"""What a user types opens the judge that was meant, with the options that were given; anything else is one line."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.protocol import Judge
from perl_eval.judges.registry import SCRIPTS, BackendOptions, open_judge
from perl_eval.records import Ballot, Completion, Message, Question, digest

ASKED = (Message("user", "a small latte with oat milk please"),)
GOOD = "sure , one small oat milk latte coming up"
LONG_AND_WRONG = "certainly , one large almond milk cappuccino in a moment"


def answer(text: str) -> Completion:
    return Completion(digest(text), "item", "g", "d", "p", ASKED, text, "stop", 0)


def ask(judge: Judge, *texts: str) -> Ballot:
    """Ask one question about one answer, or two in the order given."""
    kind = "pairwise" if len(texts) == 2 else "yes_no"
    question = Question("q", kind, "ab" if kind == "pairwise" else "none", tuple(map(answer, texts)), (), "0")
    (reply,) = asyncio.run(judge.ask([question]))
    return judge.reader.read(question, reply)


# ---------------------------------------------------------------------------------------------------- scripted


@pytest.mark.parametrize(
    ("spec", "texts", "verdict"),
    [
        ("scripted:world", (GOOD, LONG_AND_WRONG), "first"),
        ("scripted:world", (LONG_AND_WRONG, GOOD), "second"),
        ("scripted:length", (GOOD, LONG_AND_WRONG), "second"),
        ("scripted:length", (LONG_AND_WRONG, GOOD), "first"),
        ("scripted:constant", (LONG_AND_WRONG, GOOD), "tie"),
        ("scripted:world", (GOOD,), "yes"),
        ("scripted:constant", (GOOD,), "no"),
    ],
)
def test_a_scripted_judge_prefers_what_its_name_says(spec: str, texts: tuple[str, ...], verdict: str) -> None:
    judge = open_judge(spec)
    assert (judge.backend, judge.model, judge.simulated) == ("scripted", spec.partition(":")[2], True)
    assert ask(judge, *texts).verdict == verdict


def test_the_scripts_are_these() -> None:
    assert sorted(SCRIPTS) == ["constant", "length", "world"]
    assert SCRIPTS["world"](answer(GOOD)) == pytest.approx(1.0)
    assert SCRIPTS["length"](answer("12345")) == 5.0


@pytest.mark.parametrize(
    ("options", "texts", "verdict"),
    [
        (BackendOptions(position_bias=1.0), ("same", "same"), "first"),
        (BackendOptions(position_bias=-1.0), ("same", "same"), "second"),
        (BackendOptions(tie_margin=10.0), ("12345", "1"), "tie"),
        (BackendOptions(tie_margin=3.9), ("12345", "1"), "first"),
        (BackendOptions(threshold=4.0), ("12345",), "yes"),
        (BackendOptions(threshold=6.0), ("12345",), "no"),
    ],
)
def test_options_reach_a_scripted_judge(options: BackendOptions, texts: tuple[str, ...], verdict: str) -> None:
    assert ask(open_judge("scripted:length", options), *texts).verdict == verdict


def test_noise_and_seed_reach_a_scripted_judge() -> None:
    def draws(seed: int) -> list[float | None]:
        judge = open_judge("scripted:constant", BackendOptions(noise=1.0, seed=seed))
        return [ask(judge, str(index), "x").p_first for index in range(20)]

    assert len(set(draws(0))) == 20
    assert draws(0) == draws(0) != draws(1)


def test_every_option_that_shapes_a_scripted_judge_is_on_its_card() -> None:
    given: dict[str, Any] = {"position_bias": 1.0, "noise": 2.0, "tie_margin": 3.0, "threshold": 4.0, "seed": 5}
    judge = open_judge("scripted:length", BackendOptions(**given))
    assert dict(judge.parameters) == given
    assert {field.name for field in fields(BackendOptions)} >= given.keys()


@pytest.mark.parametrize("options", [{"noise": -1.0}, {"tie_margin": -1.0}, {"threshold": 1e400}])
def test_an_option_that_makes_no_sense_is_a_user_error(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(OptionError, match=f"{name} is "):
        BackendOptions(**options)
    with pytest.raises(OptionError, match=f"{name} is "):
        ScriptedJudge(lambda _: 0.0, name="none", **options)


# ---------------------------------------------------------------------------------------------------- others


@pytest.mark.parametrize(
    "spec", ["", ":", "scripted", "scripted:", "scripted:nope", "Scripted:world", "reward:", "chat:", "gpt", "a\nb:c"]
)
def test_what_is_no_judge_is_one_line_that_says_what_is(spec: str) -> None:
    with pytest.raises(UserError) as caught:
        open_judge(spec)
    assert str(caught.value).startswith(f"no judge {spec!r}; give scripted:world, scripted:length, scripted:constant, ")
    assert "\n" not in str(caught.value)


def test_a_chat_judge_needs_a_key_or_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        open_judge("chat:some-model")
    judge = open_judge("chat:org/some-model:8b", BackendOptions(base_url="http://127.0.0.1:9/v1"))
    # Only the first colon parts door and name.
    assert (judge.backend, judge.model, judge.simulated) == ("chat", "org/some-model:8b", False)
    assert judge.parameters["base_url"] == "http://127.0.0.1:9/v1"


@pytest.mark.parametrize("make", [lambda _: None, lambda folder: folder.mkdir(), lambda folder: folder.write_text("x")])
def test_a_reward_judge_needs_a_reward_model(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "reward")
    with pytest.raises(UserError, match=r"no model at .*reward"):
        open_judge(f"reward:{tmp_path / 'reward'}")


@pytest.fixture(scope="module")
def constant_reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a reward model that gives every answer exactly 2, on a backbone with random weights."""
    import torch

    from perl_eval.models.backbone import LoraShape, open_backbone
    from perl_eval.models.from_scratch import ScratchSize, make_model, make_tokenizer
    from perl_eval.models.reward_model import REWARD, RewardScale

    base = tmp_path_factory.mktemp("models") / "prior"
    tokenizer = make_tokenizer(["a latte please"], 300)
    model = make_model(ScratchSize(width=16, layers=1, heads=2, vocabulary=300, positions=128), tokenizer, seed=0)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    backbone = open_backbone(base)
    backbone.attach(REWARD, LoraShape(rank=1), seed=0, head=1)
    torch.nn.init.zeros_(backbone.heads[REWARD].weight)
    torch.nn.init.constant_(backbone.heads[REWARD].bias, 2.0)
    folder = base.parent / "reward-2"
    backbone.save(REWARD, folder)
    RewardScale("pointwise", 0.0, 1.0, 64).save(folder)
    return folder


def test_a_reward_judge_scores_with_the_model(constant_reward: Path) -> None:
    spec = f"reward:{constant_reward}"
    judge = open_judge(spec, BackendOptions(threshold=1.5))
    assert (judge.backend, judge.positional, judge.simulated) == ("reward", False, False)
    assert judge.model.startswith("reward-2@")
    assert ask(judge, GOOD).verdict == "yes"
    assert ask(open_judge(spec, BackendOptions(threshold=2.5)), GOOD).verdict == "no"
    # Its tie margin reaches it too.
    assert open_judge(spec, BackendOptions(tie_margin=0.25)).parameters["tie_margin"] == 0.25


def test_a_reward_judge_says_calibrated_probabilities(constant_reward: Path) -> None:
    """Its logit is 2: at slope 0.5 and intercept -0.75 the log-odds of a yes are 0.25; a pair of equals is even."""
    from perl_eval.models.reward_model import RewardScale, read_scale

    before = read_scale(constant_reward)
    assert ask(open_judge(f"reward:{constant_reward}"), GOOD).p_first == pytest.approx(1 / (1 + math.exp(-2)))
    RewardScale("pointwise", 1.0, 4.0, 64, 0.5, -0.75).save(constant_reward)
    judge = open_judge(f"reward:{constant_reward}")
    assert ask(judge, GOOD).p_first == pytest.approx(1 / (1 + math.exp(-0.25)))
    assert ask(judge, GOOD, LONG_AND_WRONG).p_first == 0.5
    # A pairwise model's rewards are in standard deviations of 4 logits each: (2 - 1) / 4 of one is 0.25 x 4 x 0.5.
    RewardScale("pairwise", 1.0, 4.0, 64, 0.5).save(constant_reward)
    judge = open_judge(f"reward:{constant_reward}")
    assert (judge.parameters["slope"], judge.parameters["intercept"]) == (2.0, None)
    assert ask(judge, GOOD).p_first == pytest.approx(1 / (1 + math.exp(-0.5)))
    before.save(constant_reward)


def test_a_reward_judge_is_known_by_its_weights(constant_reward: Path) -> None:
    before = open_judge(f"reward:{constant_reward}").model
    scale = constant_reward / "reward.json"
    text = scale.read_text()
    scale.write_text(text.replace("0.0", "0.5"))
    changed = open_judge(f"reward:{constant_reward}").model
    scale.write_text(text)
    assert changed != before == open_judge(f"reward:{constant_reward}").model


def test_a_policy_is_no_reward_model(constant_reward: Path) -> None:
    scale = constant_reward / "reward.json"
    text = scale.read_text()
    scale.unlink()
    with pytest.raises(DataError, match=r"reward\.json: is not a reward model's scale"):
        open_judge(f"reward:{constant_reward}")
    scale.write_text(text)
    # A whole model may be one, but not without the scale of its rewards.
    with pytest.raises(DataError, match=r"prior/reward\.json: is not a reward model's scale"):
        open_judge(f"reward:{constant_reward.parent / 'prior'}")
