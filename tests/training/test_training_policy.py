"""RL policies on rewards that are known: the gradient by a slow reference, and what training does."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from perl_eval.errors import DataError, UserError
from perl_eval.metrics.glossary import CURVES
from perl_eval.models.backbone import Backbone, LoraShape, open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.ensemble import EnsembleRule
from perl_eval.models.generate import Rollout
from perl_eval.models.reward_model import RewardScorer
from perl_eval.models.tokenize import pad
from perl_eval.records import Completion, Measurement
from perl_eval.sampling import in_process
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder
from perl_eval.training import policy, reinforce, reward
from perl_eval.training.policy import POLICY, VALUE, PolicyOptions, PolicyTrainer
from perl_eval.training.reinforce import cast
from perl_eval.training.reward_function import learned_reward

OPTIONS = PolicyOptions(
    steps=25,
    batch=64,
    learning_rate=1e-2,
    beta=0.5,
    max_new_tokens=8,
    max_tokens=40,
    missing_end_reward=0.0,
    lora=LoraShape(8),
)


@pytest.fixture(scope="module")
def data(room: Path) -> Path:
    return tiny_models.write_rows(room / "prompts", train=tiny_models.prompts(1, 100), test=tiny_models.prompts(2, 20))


@pytest.fixture(scope="module")
def rewarded(room: Path, prior: Path) -> Path:
    pairs = tiny_models.write_rows(room / "pairs", train=tiny_models.preferences(3, 200))
    options = reward.RewardOptions(epochs=3, batch=16, learning_rate=1e-2, max_tokens=40, max_new_tokens=8)
    return reward.run(pairs, prior, room / "rewarded", options=options)


def golds(backbone: Backbone) -> policy.Reward:
    """Return a reward that counts the word gold."""

    def score(_: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        return [float(backbone.tokenizer.decode(rollout.ids).count("gold")) for rollout in rollouts]

    return score


def trainer(backbone: Backbone, data: Path, options: PolicyOptions = OPTIONS) -> PolicyTrainer:
    roles = cast(backbone, options, seed=0)
    return PolicyTrainer(roles, rows.read(data, "train"), golds(backbone), options, seed=0)


def trained(prior: Path, data: Path, folder: Path, options: PolicyOptions) -> dict[str, list[float]]:
    """Return the curve of a run on the counted reward, by figure."""
    curve: dict[str, list[float]] = {}
    for point in trainer(open_backbone(prior), data, options).train(folder).curve:
        curve.setdefault(point.metric, []).append(point.value)
    return curve


@pytest.mark.parametrize(("value", "far"), [("head", False), ("adapter", False), ("head", True)])
def test_the_gradient_is_that_of_a_slow_reference(prior: Path, data: Path, value: str, far: bool) -> None:
    """One sequence at a time, straight from the definition: no padding, no masks, no shared forward pass.

    The last policy is so far from its prior that a clamp, as others have at 10 nats a token, would show.
    """
    options = replace(OPTIONS, batch=6, beta=0.7, temperature=0.8, value=value, value_coefficient=0.3)
    backbone = open_backbone(prior)
    made = trainer(backbone, data, options)
    tiny_models.stir(backbone, POLICY, VALUE, size=0.3 if far else 0.05)
    if far:
        with torch.no_grad():
            backbone.output_layer.weight.mul_(4.0)  # of both, and so are log-ratios
    asked, rollouts = made.sample(0)
    figures = made.learn(0)
    named = {**backbone.parameters_of(POLICY), **backbone.parameters_of(VALUE)}
    fast = {name: parameter.grad.clone() for name, parameter in named.items() if parameter.grad is not None}
    assert fast.keys() == named.keys()

    def forward(rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
        whole = torch.tensor([[*rollout.prompt_ids, *rollout.ids]])
        output = backbone.causal(input_ids=whole, output_hidden_states=True)
        start, size = len(rollout.prompt_ids), len(rollout.ids)
        table = torch.log_softmax(output.logits[0] / 0.8, -1)
        picked = table[range(start - 1, start + size - 1), list(rollout.ids)]
        return picked, output.hidden_states[-1][0, start - 1 : start + size - 1]

    loss, squares, tokens, kl, most = torch.tensor(0.0), torch.tensor(0.0), 0, 0.0, 0.0
    scores = golds(backbone)(asked, rollouts)
    for rollout, score in zip(rollouts, scores, strict=True):
        with torch.no_grad(), backbone.adapter(None):
            prior_log_probs, _ = forward(rollout)
        with backbone.adapter(POLICY):
            log_probs, hidden = forward(rollout)
        if value == "adapter":
            with backbone.adapter(VALUE):
                _, hidden = forward(rollout)
        else:
            hidden = hidden.detach()
        values = backbone.heads[VALUE](hidden).squeeze(-1)
        ratio = (log_probs - prior_log_probs).detach()
        kl += float(ratio.sum()) / len(rollouts)
        most = max(most, float(ratio.abs().max()))
        for place in range(len(rollout.ids)):
            final = score if rollout.finished else options.missing_end_reward
            togo = final - 0.7 * float(ratio[place:].sum())
            loss = loss - log_probs[place] * (togo - values[place].detach()) / len(rollouts)
            squares = squares + (togo - values[place]).square()
            tokens += 1
    slow = torch.autograd.grad(loss + 0.3 * squares / tokens, list(named.values()), materialize_grads=True)
    for name, gradient in zip(named, slow, strict=True):
        assert torch.allclose(fast[name], gradient, atol=1e-4 * (most if far else 1.0), rtol=1e-3), name
    assert (most > 12) == far
    assert figures["KL to prior"] == pytest.approx(kl, abs=1e-4)
    assert figures["KL a token"] == pytest.approx(kl * len(rollouts) / tokens, abs=1e-4)
    assert abs(kl) > 0.01
    assert tokens > len(rollouts)


@pytest.mark.parametrize("value", ["head", "adapter"])
def test_the_first_step(backbone: Backbone, data: Path, tmp_path: Path, value: str) -> None:
    """A fresh policy is the prior: KL exactly 0; one step moves every B of it and nothing of the backbone."""
    before = backbone.weights_sha256()
    own = {name: p.data_ptr() for name, p in backbone.causal.named_parameters()}
    curve = trainer(backbone, data, replace(OPTIONS, steps=1, value=value)).train(tmp_path).curve
    figures = {point.metric: point.value for point in curve}
    assert figures["KL to prior"] == 0.0
    for name, parameter in backbone.parameters_of(POLICY).items():
        if "lora_B" in name:
            assert parameter.abs().max() > 0, name
    assert backbone.weights_sha256() == before
    now = {name.replace(".base_layer.", "."): p.data_ptr() for name, p in backbone.causal.named_parameters()}
    assert {name: place for name, place in now.items() if "lora_" not in name} == own
    assert backbone.heads[VALUE].weight.abs().max() > 0


@pytest.mark.parametrize("value", ["head", "adapter"])
def test_the_reward_rises_and_a_larger_beta_keeps_the_policy_nearer_to_the_prior(
    prior: Path, data: Path, tmp_path: Path, value: str
) -> None:
    curves = [trained(prior, data, tmp_path / str(b), replace(OPTIONS, value=value, beta=b)) for b in (0.3, 4.0)]
    loose, tight = ({name: np.mean(values[-5:]) for name, values in curve.items()} for curve in curves)
    assert loose["reward"] > np.mean(curves[0]["reward"][:3]) + 0.3
    assert loose["KL to prior"] > 0.2
    assert tight["KL to prior"] < 0.25 * loose["KL to prior"]
    assert tight["reward"] < loose["reward"]


def test_a_sample_that_never_ends_gets_the_missing_end_reward(backbone: Backbone, data: Path) -> None:
    options = replace(OPTIONS, max_new_tokens=1, missing_end_reward=-7.5)
    made = trainer(backbone, data, options)
    made.reward = lambda _, rollouts: [10.0] * len(rollouts)
    figures = made.learn(0)
    assert figures["never ended"] > 0.9
    assert figures["reward"] == pytest.approx(10 - 17.5 * figures["never ended"], abs=1e-5)
    assert figures["length"] == 1.0


def test_the_reward_is_given_rows_and_rollouts_side_by_side(backbone: Backbone, data: Path) -> None:
    seen: list[tuple[Row, Rollout]] = []

    def score(asked: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        seen.extend(zip(asked, rollouts, strict=True))
        return [0.0] * len(rollouts)

    made = trainer(backbone, data, replace(OPTIONS, batch=20))
    made.reward = score
    made.learn(0)
    assert len(seen) == 20
    for row, rollout in seen:
        assert row.prompt[0].content in backbone.tokenizer.decode(rollout.prompt_ids)


def test_a_killed_run_ends_with_the_same_bits(
    prior: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, steps=6, batch=8)
    whole = trainer(open_backbone(prior), data, options)
    expected = whole.train(tmp_path / "whole").curve
    monkeypatch.setattr(reinforce, "LoopOptions", functools.partial(reinforce.LoopOptions, checkpoint_every_s=-1))
    broken = trainer(open_backbone(prior), data, options)
    learn = broken.learn

    def killed(step: int) -> dict[str, float]:
        if step == 3:
            raise KeyboardInterrupt
        return learn(step)

    broken.learn = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.train(tmp_path / "broken")
    again = trainer(open_backbone(prior), data, options)
    assert again.train(tmp_path / "broken").curve == expected
    for name in (POLICY, VALUE):
        for one, two in zip(
            again.backbone.parameters_of(name).values(), whole.backbone.parameters_of(name).values(), strict=True
        ):
            assert torch.equal(one, two)


@pytest.fixture(scope="module")
def tuned(room: Path, prior: Path, rewarded: Path, data: Path) -> Path:
    return policy.run(data, prior, rewarded, room / "tuned", options=OPTIONS)


def test_the_verb_raises_the_learned_reward_and_writes_its_figures(tuned: Path, prior: Path) -> None:
    curve = run_folder.read(tuned, Measurement)
    assert {point.metric for point in curve} == CURVES["train policy"].keys() - {
        "KL loss",
        "gap, at least",
        "effective samples",
        *("gradient norm", "clipped share"),  # of grpo
        "weight for the engine",  # of samples by a server
        *("watched reward", "watched reward, standard error"),
        "KL to prior, full softmax",  # where it is asked for
    }
    rewards = [point.value for point in curve if point.metric == "reward"]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:3]) + 0.3
    card = run_folder.read_card(tuned)
    assert card is not None
    assert card.notes["backbone sha256"] == open_backbone(prior).sha256
    assert card.notes["beta"] == 0.5
    assert card.notes["trained"] == tiny_models.adapter_weights(8)
    # resident: backbone once, two adapters (of rank 8 and the reward model's 16), two heads of 33
    base = sum(p.numel() for p in open_backbone(prior).causal.parameters())
    assert card.notes["parameters"] == base + tiny_models.adapter_weights(8) + tiny_models.adapter_weights(16) + 2 * 33


def test_samples_of_the_saved_policy_score_higher_than_the_priors(
    tuned: Path, prior: Path, rewarded: Path, data: Path, tmp_path: Path
) -> None:
    """A thousand samples each, by the same seeds: a policy that had learned nothing would say the same, and gain 0.

    Over seeds of the training the gain is 0.38 to 0.46; the mean of a thousand rewards has a standard error of 0.03.
    """
    scorer = RewardScorer(rewarded, open_backbone(prior))
    found = []
    for name, model in (("tuned", tuned), ("prior", prior)):
        options = in_process.SampleOptions(max_new_tokens=8, max_tokens=40, draws=50)
        found.append(scorer(run_folder.read(in_process.run(model, data, tmp_path / name, options=options), Completion)))
    assert [len(rewards) for rewards in found] == [1000, 1000]
    gains = np.subtract(*found)
    assert gains.mean() > 0.3
    assert gains.mean() > 5 * gains.std() / np.sqrt(len(gains))
    trained = [point.value for point in run_folder.read(tuned, Measurement) if point.metric == "reward"][-5:]
    assert abs(np.mean(found[0]) - np.mean(trained)) < 0.25  # what was saved is what was trained


@pytest.mark.parametrize(("value", "expected"), [("head", 3), ("adapter", 4)])
def test_a_step_reads_its_samples_once_a_role(
    prior: Path, rewarded: Path, data: Path, value: str, expected: int
) -> None:
    """Reward, prior and policy, and the value function only if it has an adapter: a head reads the policy's states."""
    options = replace(OPTIONS, batch=6, value=value)
    backbone = open_backbone(prior)
    made = PolicyTrainer(
        cast(backbone, options, seed=0),
        rows.read(data, "train"),
        learned_reward(rewarded, backbone),
        options,
        seed=0,
    )
    fixed = made.sample(0)
    made.sample = lambda _: fixed  # type: ignore[method-assign]
    _ = backbone.shares  # asked once, by two passes of its own
    passes = []
    handle = backbone.causal.get_input_embeddings().register_forward_hook(lambda *_: passes.append(1))
    made.learn(0)
    handle.remove()
    assert len(passes) == expected


def test_a_second_call_does_nothing(tuned: Path, prior: Path, rewarded: Path, data: Path) -> None:
    before = (tuned / "adapter_model.safetensors").stat().st_mtime_ns
    assert policy.run(data, prior, rewarded, tuned, options=OPTIONS) == tuned
    assert (tuned / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_a_reward_model_of_another_backbone_is_refused(blank: Path, rewarded: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="was trained on another backbone"):
        policy.run(data, blank, rewarded, tmp_path / "out", options=OPTIONS)


def test_a_policy_is_no_reward_model(tuned: Path, prior: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a reward model's scale"):
        policy.run(data, prior, tuned, tmp_path / "out", options=OPTIONS)


def test_the_papers_weight_sets_beta() -> None:
    assert PolicyOptions(kl_weight=0.05, beta=9.0).kl_strength == pytest.approx(1 / 19)
    assert PolicyOptions(beta=0.3).kl_strength == 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 64}, "max_tokens is 64; give more than `max_new_tokens`, 64"),
        ({"steps": 0}, "steps is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"beta": -0.1}, "beta is -0.1"),
    ],
)
def test_impossible_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PolicyOptions(**options)


def test_no_prompts(backbone: Backbone) -> None:
    with pytest.raises(UserError, match="there are no prompts"):
        PolicyTrainer(cast(backbone, OPTIONS, seed=0), [], golds(backbone), OPTIONS, seed=0)


def test_groups_are_samples_of_one_prompt_side_by_side(backbone: Backbone, data: Path) -> None:
    asked, rollouts = trainer(backbone, data, replace(OPTIONS, batch=20, group=4)).sample(0)
    assert len(asked) == 20
    names = [row.id for row in asked]
    assert all(len(set(names[start : start + 4])) == 1 for start in range(0, 20, 4))
    assert len(set(names)) == 5
    assert len({rollout.ids for rollout in rollouts[:4]}) > 1


def test_several_reward_models_make_an_ensemble_on_the_one_backbone(
    prior: Path, rewarded: Path, data: Path, tmp_path: Path
) -> None:
    """Two members, the same one twice: no disagreement, so any caution gives what one of them alone does."""
    options = replace(OPTIONS, steps=2, batch=8, ensemble=EnsembleRule("mean-std", 3.0))
    both = policy.run(data, prior, [rewarded, rewarded], tmp_path / "both", options=options)
    alone = policy.run(data, prior, rewarded, tmp_path / "alone", options=options)
    curves = [
        [p.value for p in run_folder.read(folder, Measurement) if p.metric == "reward"] for folder in (both, alone)
    ]
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
    cards = [run_folder.read_card(folder) for folder in (both, alone)]
    resident = [card.notes["parameters"] for card in cards if card]
    assert resident[0] - resident[1] == tiny_models.adapter_weights(16) + 33  # one more adapter, no more weights
    assert [card.notes["models in memory"] for card in cards if card] == [1, 1]


def test_a_reward_that_is_no_number_is_refused(backbone: Backbone, data: Path) -> None:
    made = trainer(backbone, data, replace(OPTIONS, batch=4))
    made.reward = lambda _, rollouts: [float("nan")] * len(rollouts)
    with pytest.raises(UserError, match=r"step 0: the reward of row q1-[0-9]+, sample 0, is nan"):
        made.learn(0)


def test_what_is_trained_must_be_what_samples() -> None:
    with pytest.raises(UserError, match=r"dropout is 0\.1"):
        PolicyOptions(lora=LoraShape(4, dropout=0.1))
    for name in ("k1", "k2"):
        with pytest.raises(UserError, match=f"kl '{name}' is not known; choose from reward, loss, k3"):
            PolicyOptions(kl=name)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="objective kl_rl has no KL by k3"):
        PolicyOptions(kl="k3")
    with pytest.raises(TypeError, match="top_p"):
        PolicyOptions(top_p=0.9)  # type: ignore[call-arg]


@pytest.mark.parametrize("changed", [{}, {"value": "adapter"}, {"full": True}, {"full": True, "value": "adapter"}])
def test_a_fresh_value_function_is_zero_everywhere(prior: Path, data: Path, changed: dict[str, Any]) -> None:
    """Every token's return is 3, so values of 0 miss it by 3; any other start would show in the loss."""
    options = replace(OPTIONS, batch=6, beta=0.0, missing_end_reward=3.0, **changed)
    made = trainer(open_backbone(prior), data, options)
    made.reward = lambda _, rollouts: [3.0] * len(rollouts)
    figures = made.learn(0)
    assert figures["value loss"] == 9.0
    assert figures["explained variance"] == 0.0


def test_a_mended_reward_function_goes_on_when_told_to(
    prior: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, steps=4, batch=4)
    seen: list[int] = []

    def breaks(prompts: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        seen.append(len(seen))
        return [float("nan") if len(seen) == 3 else 1.0 for _ in rollouts]

    def mended(prompts: Sequence[Row], rollouts: Sequence[Rollout]) -> list[float]:
        seen.append(len(seen))
        return [1.0 for _ in rollouts]

    with pytest.raises(UserError, match=r"step 2: the reward of row q1-[0-9]+, sample 0, is nan: .*--mended"):
        policy.run(data, prior, breaks, tmp_path / "out", options=options)
    with pytest.raises(UserError, match="holds an unfinished run of another `train policy` command: reward was"):
        policy.run(data, prior, mended, tmp_path / "out", options=options)
    folder = policy.run(data, prior, mended, tmp_path / "out", options=replace(options, mended=True))
    assert len(seen) == 5  # two steps, the one that failed, and the two that were left
    card = run_folder.read_card(folder)
    assert card is not None
    assert len(card.notes["reward before it was mended"]) == 64
    whole = policy.run(data, prior, mended, tmp_path / "whole", options=options)
    assert run_folder.read(folder, Measurement) == run_folder.read(whole, Measurement)


def test_samples_that_never_end_are_told_once(
    prior: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trainer(open_backbone(prior), data, replace(OPTIONS, steps=3, batch=4, max_new_tokens=1))
    made.train(tmp_path / "out")
    said = capsys.readouterr().err
    assert said.count("samples ended within 1 tokens, so that all have one reward") == 1
    assert "nothing is learned of it; raise --max-new-tokens" in said


def test_an_exact_kl_is_that_of_float32_under_bfloat16(prior: Path, data: Path) -> None:
    """The policy's and the prior's log-probabilities of the same samples, from models that are float32 throughout."""
    options = replace(OPTIONS, batch=8, fp32_kl=True)
    narrow = open_backbone(prior, Placement("cpu", "bf16", wide=True))
    made = trainer(narrow, data, options)
    tiny_models.stir(narrow, POLICY, size=0.05)
    _, rollouts = made.sample(0)
    padded = [pad([rollout.encoded for rollout in rollouts], pad_id=narrow.pad_id)]
    (prior_log_probs,), (ratio,) = made._anchored(padded)
    exact = open_backbone(prior)
    other = trainer(exact, data, replace(options, fp32_kl=False))
    tiny_models.stir(exact, POLICY, size=0.05)
    with torch.no_grad():
        with other.roles.prior.on():
            wanted = other.roles.prior.log_probs(padded[0], options.temperature)[0]
        with other.roles.policy.on():
            own = other.roles.policy.log_probs(padded[0], options.temperature)[0]
    assert torch.allclose(prior_log_probs, wanted, atol=1e-5)
    assert ratio is not None
    assert torch.allclose(ratio, own - wanted, atol=1e-5)
    with torch.no_grad(), made.roles.prior.on():
        rounded = made.roles.prior.log_probs(padded[0], options.temperature)[0]
    assert not torch.allclose(rounded, wanted, atol=1e-4)  # what it mends


def test_prompts_that_are_cut_are_counted(
    prior: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trainer(open_backbone(prior), data, replace(OPTIONS, steps=1, batch=4, max_tokens=14, max_new_tokens=8))
    made.train(tmp_path / "out")
    assert made.cuts.cut > 0
    assert f"warning: {made.cuts.cut} of 100 prompts" in capsys.readouterr().err
    auto = trainer(open_backbone(prior), data, replace(OPTIONS, max_tokens=0))
    assert (auto.cuts.cut, auto.room) == (0, 128 - 8)
