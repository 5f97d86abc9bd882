"""Faults planted into the code of other packages, while a loss is computed by it, are named by the suite, each."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from perl_eval.conformance.adapter_files import read_adapter
from perl_eval.conformance.batch import Batch, Estimator
from perl_eval.conformance.diagnosis import diagnose

FOLDER = Path(__file__).parents[2] / "benchmarks" / "conformance"


def adapted(package: str, name: str) -> tuple[Estimator, Any]:
    """Return an estimator, and the module of its adapter."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    found = {one.name: one for one in read_adapter(FOLDER / f"{package}_estimators.py")}
    return found[name], sys.modules[f"perl_eval_adapter_{package}_estimators"]


def trl_rloo() -> tuple[Estimator, Any]:
    return adapted("trl", "trl rloo, beta")


def test_trls_rloo_has_no_fault() -> None:
    assert diagnose(trl_rloo()[0]).faults == ()


def test_a_sign_in_trls_kl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prior's log-probabilities stand where the policy's should in the KL that rewards pay."""
    estimator, module = trl_rloo()
    right = module._Rloo._get_per_token_logps_and_entropies

    def turned(self: Any, model: Any, *given: Any, **more: Any) -> Any:
        found, *rest = right(self, model, *given, **more)
        if model is self.ref_model:
            old, *_ = right(self, self.model, *given, **more)
            found = 2 * old - found
        return (found, *rest)

    monkeypatch.setattr(module._Rloo, "_get_per_token_logps_and_entropies", turned)
    assert diagnose(estimator).faults == ("sign of the KL",)


def test_a_sign_in_trls_reward_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, module = trl_rloo()
    right = module._Rloo._calculate_rewards
    monkeypatch.setattr(module._Rloo, "_calculate_rewards", lambda *given: -right(*given))
    assert "sign of the reward" in diagnose(estimator).faults


def test_a_mean_in_trls_sum_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio of a sequence is averaged over its tokens where TRL's RLOO sums."""
    estimator, module = trl_rloo()
    right = module._Rloo._get_per_token_logps_and_entropies

    def averaged(self: Any, model: Any, *given: Any, **more: Any) -> Any:
        found, *rest = right(self, model, *given, **more)
        if model.name == "log_probs":
            lengths = self.batch.mask.sum(1, keepdim=True)
            old = self.batch.old[:, : found.shape[1]]
            found = old + (found - old) / lengths
        return (found, *rest)

    monkeypatch.setattr(module._Rloo, "_get_per_token_logps_and_entropies", averaged)
    assert diagnose(estimator).faults == ("mean for sum: averaged over the tokens of each sequence",)


def test_a_missing_detach_in_trls_rloo_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ratio is 1 on fresh samples, and the advantages of a group sum to 0, so that their gradients do too."""
    estimator, module = trl_rloo()
    right = module._Rloo._get_per_token_logps_and_entropies

    def attached(self: Any, model: Any, *given: Any, **more: Any) -> Any:
        found, *rest = right(self, model, *given, **more)
        return (self.batch.log_probs[:, : found.shape[1]] if model is self.model else found, *rest)

    monkeypatch.setattr(module._Rloo, "_get_per_token_logps_and_entropies", attached)
    assert diagnose(estimator).faults == ()


def test_a_missing_detach_in_verl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its policy loss -A log pi, with advantages whose KL has kept its graph."""
    _, module = adapted("verl", "verl gpg")
    settings = module._Settings(
        "rloo", {}, {"loss_agg_mode": "seq-mean-token-sum"}, {"loss_mode": "gpg"}, kl_in_reward="kl"
    )
    right = module._advantages
    assert diagnose(module._estimator("rloo, gpg", "kl", "as verl has it", settings)).faults == ()

    def attached(batch: Batch, given: Any) -> torch.Tensor:
        paid = -batch.beta * (batch.log_probs - batch.prior).sum(1).view(-1, batch.group_size)
        others = (paid.sum(1, keepdim=True) - paid) / (batch.group_size - 1)
        gained = (paid - others).view(-1, 1) * batch.mask
        found: torch.Tensor = right(batch, given) + gained - gained.detach()
        return found

    monkeypatch.setattr(module, "_advantages", attached)
    found = diagnose(module._estimator("rloo, gpg", "kl", "as verl has it", settings))
    assert found.faults == ("missing detach: the KL in the reward is in the graph",)


def test_k2_for_k1_in_openrlhf_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, module = adapted("openrlhf", "openrlhf rloo, seq-mean-token-mean")
    right = module.experience_maker.compute_approx_kl

    def k2(*given: Any, **_: Any) -> torch.Tensor:
        return right(*given, kl_estimator="k2")

    monkeypatch.setattr(module.experience_maker, "compute_approx_kl", k2)
    assert "k2 for k1 in the reward" in diagnose(estimator).faults


def test_k2_for_k1_in_verl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, _ = adapted("verl", "verl rloo, seq-mean-token-sum, kl_in_reward kl")
    from verl.trainer.ppo import core_algos

    right = core_algos.kl_penalty_forward
    monkeypatch.setattr(core_algos, "kl_penalty_forward", lambda one, other, _: right(one, other, "k2"))
    assert diagnose(estimator).faults == ("k2 for k1 in the reward",)


def test_a_mean_for_the_sum_in_verl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, _ = adapted("verl", "verl rloo, seq-mean-token-sum, kl_in_reward kl")
    from verl.trainer.ppo import core_algos

    right = core_algos.agg_loss

    def averaged(**given: Any) -> torch.Tensor:
        return right(**{**given, "loss_agg_mode": "seq-mean-token-mean"})

    monkeypatch.setattr(core_algos, "agg_loss", averaged)
    assert diagnose(estimator).faults == ("mean for sum: averaged over the tokens of each sequence",)
