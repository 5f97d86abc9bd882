"""Ensembles and averages of reward models: the rules by hand, one backbone, and an average that is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import adapter_weights, stir

from perl_eval.errors import UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.ensemble import Ensemble, EnsembleRule, averaged, combined
from perl_eval.models.reward_model import REWARD, STATES, Pooling, RewardScale, RewardScorer, rewards
from perl_eval.models.tokenize import Encoded

ROWS = [
    Encoded((3, 20, 21, 1), (False, False, True, True)),
    Encoded((3, 40, 41, 42, 43, 1), (False,) * 3 + (True,) * 3),
]


def member(folder: Path, blank: Path, number: int, shape: LoraShape | None = None, pooling: Pooling = "last") -> Path:
    """Write a reward model of random weights."""
    backbone = open_backbone(blank)
    backbone.attach(REWARD, shape or LoraShape(2 + number), seed=number, head=STATES[pooling])
    stir(backbone, REWARD, seed=number, size=0.1)
    backbone.save(REWARD, folder)
    RewardScale("pairwise", 0.1 * number, 1.0 + number, 64, pooling=pooling).save(folder)
    return folder


@pytest.fixture(scope="module")
def folders(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    room = tmp_path_factory.mktemp("ensemble")
    return [member(room / str(number), blank, number) for number in range(3)]


def test_rules_by_hand() -> None:
    scores = [[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]]
    assert combined(scores, EnsembleRule()) == [4.0, 5.0]
    assert combined(scores, EnsembleRule("minimum")) == [1.0, 5.0]
    # 4 - 2 sqrt(((-3)^2 + (-1)^2 + 4^2) / 3)
    assert combined(scores, EnsembleRule("mean-std", 2.0)) == pytest.approx([4 - 2 * np.sqrt(26 / 3), 5.0])


numbers = st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=4)


@settings(deadline=None)
@given(numbers, st.floats(0, 3))
def test_caution_only_lowers(scores: list[list[float]], caution: float) -> None:
    mean = np.array(combined(scores, EnsembleRule()))
    assert (np.array(combined(scores, EnsembleRule("mean-std", caution))) <= mean + 1e-9).all()
    assert (np.array(combined(scores, EnsembleRule("minimum"))) <= mean + 1e-9).all()
    assert combined(scores[:1], EnsembleRule("mean-std", caution)) == pytest.approx(scores[0])


def test_a_soft_minimum_has_the_softness_of_its_beta() -> None:
    scores = [[1.0, 5.0], [3.0, 5.0]]
    wanted = -0.5 * np.log((np.exp(-2.0) + np.exp(-6.0)) / 2)
    assert combined(scores, EnsembleRule("soft-minimum").at(0.5)) == pytest.approx([wanted, 5.0])
    assert combined(scores, EnsembleRule("soft-minimum", softness=0.5).at(9.0)) == pytest.approx([wanted, 5.0])
    assert EnsembleRule("minimum").at(0.0) == EnsembleRule("minimum")
    with pytest.raises(UserError, match="softness is None; give one above 0"):
        EnsembleRule("soft-minimum").at(0.0)


def test_members_share_one_backbone_and_score_as_they_do_alone(blank: Path, folders: list[Path]) -> None:
    backbone = open_backbone(blank)
    own = sum(parameter.numel() for parameter in backbone.causal.parameters())
    ensemble = Ensemble(folders, backbone, EnsembleRule("minimum"))
    alone = [RewardScorer(folder, open_backbone(blank)).normalised(ROWS) for folder in folders]
    assert np.array([one.normalised(ROWS) for one in ensemble.members]) == pytest.approx(np.array(alone))
    assert ensemble.normalised(ROWS) == pytest.approx(np.min(alone, axis=0))
    assert all(one.backbone is backbone for one in ensemble.members)
    adapters = sum(adapter_weights(2 + number) for number in range(3))
    assert backbone.counts()["parameters"] == own + adapters + 3 * 33


@torch.no_grad()
@pytest.mark.parametrize(
    ("pooling", "norms"), [("last", ()), ("mean+all", ()), ("last", (0, 1)), ("mean+all", (0, 1, 2))]
)
def test_an_average_adds_the_mean_of_what_its_members_add(
    blank: Path, tmp_path: Path, pooling: Pooling, norms: tuple[int, ...]
) -> None:
    """Against a model whose weights were summed by hand; members without norms of their own have the model's."""
    folders = [
        member(tmp_path / str(number), blank, number, LoraShape(2 + number, norms=number in norms), pooling)
        for number in range(3)
    ]
    backbone = open_backbone(blank)
    members = [RewardScorer(folder, backbone, name=f"member-{place}") for place, folder in enumerate(folders)]
    before = backbone.weights_sha256()
    averaged(members, REWARD)
    assert backbone.weights_sha256() == before
    summed = open_backbone(blank).causal.state_dict()
    for name, module in backbone.causal.named_modules():
        if hasattr(module, "lora_A"):
            deltas = [
                module.scaling[one] * module.lora_B[one].weight @ module.lora_A[one].weight
                for one in ("member-0", "member-1", "member-2")
            ]
            summed[f"{name}.weight"] += torch.stack(deltas).mean(0)
        if hasattr(module, "modules_to_save"):
            own = [module.modules_to_save[f"member-{number}"].weight for number in norms]
            summed[f"{name}.weight"] = torch.stack([*own, *[module.original_module.weight] * (3 - len(norms))]).mean(0)
    plain = open_backbone(blank)
    plain.causal.load_state_dict(summed)
    plain.heads.fresh(REWARD, states=STATES[pooling])
    heads = [backbone.heads[f"member-{place}"] for place in range(3)]
    plain.heads[REWARD].weight.copy_(torch.stack([head.weight for head in heads]).mean(0))
    plain.heads[REWARD].bias.copy_(torch.stack([head.bias for head in heads]).mean(0))
    with backbone.adapter(REWARD):
        found = rewards(backbone, ROWS, pooling=pooling)
    assert torch.allclose(found, rewards(plain, ROWS, pooling=pooling), atol=1e-5)
    averages = [sum(one.logits(ROWS)[row] for one in members) / 3 for row in range(2)]
    assert found.tolist() != pytest.approx(averages, abs=1e-4)  # weights are averaged, not scores


def test_an_average_comes_back_from_disk(blank: Path, folders: list[Path], tmp_path: Path) -> None:
    backbone = open_backbone(blank)
    normed = member(tmp_path / "normed", blank, 3, LoraShape(2, norms=True))
    members = [RewardScorer(folder, backbone, name=f"m{place}") for place, folder in enumerate([*folders, normed])]
    alone = [one.logits(ROWS) for one in members]
    averaged(members, REWARD)
    assert [one.logits(ROWS) for one in members] == alone  # the members stay what they were
    backbone.save(REWARD, tmp_path)
    RewardScale("pairwise", 0.0, 1.0, 64).save(tmp_path)
    with torch.no_grad(), backbone.adapter(REWARD):
        expected = rewards(backbone, ROWS).tolist()
    for place in (backbone, open_backbone(tmp_path)):
        assert RewardScorer(tmp_path, place, name="again").logits(ROWS) == pytest.approx(expected, abs=1e-6)


def test_members_that_cannot_be_averaged(blank: Path, folders: list[Path], tmp_path: Path) -> None:
    backbone = open_backbone(blank)
    dora = member(tmp_path / "dora", blank, 5, LoraShape(2, method="dora"))
    members = [RewardScorer(folders[0], backbone, name="m0"), RewardScorer(dora, backbone, name="m1")]
    with pytest.raises(UserError, match="only plain LoRA adapters can be averaged"):
        averaged(members, REWARD)
    elsewhere = RewardScorer(folders[1], open_backbone(blank), name="m2")
    with pytest.raises(UserError, match="no adapter on the common backbone"):
        averaged([members[0], elsewhere], REWARD)
    with pytest.raises(UserError, match="there is no reward model"):
        Ensemble([], backbone)
    with pytest.raises(UserError, match="ensemble rule 'median' is not known"):
        EnsembleRule("median")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="caution is -1"):
        EnsembleRule("mean-std", -1.0)
