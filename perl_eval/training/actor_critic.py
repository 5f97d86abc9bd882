"""Who plays what in RL: policy, prior and value function, on one backbone or on several.

With adapters there is one frozen model: the policy and, if it has weights of its own, the value function are adapters
on it, and the prior is it with adapters off. With full tuning each has a model of its own.

Each role reads a step's samples in a pass of its own, prompts that samples share once
(`perl_eval.models.shared_prefix`); a value head on the policy's trunk takes none. One pass of mixed adapters for prior
and reward is no gain: measured with ``OMP_NUM_THREADS=2 python benchmarks/mixed.py --batch 1 8 --repeats 5`` at 88M on
two CPU cores, it is 0.99x as fast with 8 rows of 64 tokens a role (0.98x with three roles; 1.22x and 1.32x with a
single row), and holds the activations of all roles at once. Peft refuses it to DoRA, and where a model trains.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from perl_eval.errors import DataError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.tokenize import PaddedBatch

__all__ = ["POLICY", "VALUE", "Role", "Roles", "adapter_roles", "full_roles"]

POLICY, VALUE = "policy", "value"


@dataclass(frozen=True, slots=True)
class Role:
    """A backbone, and which adapter is on; None for its own weights."""

    backbone: Backbone
    name: str | None

    def on(self) -> AbstractContextManager[None]:
        """Compute in this role."""
        return self.backbone.adapter(self.name)

    def log_probs(self, batch: PaddedBatch, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-probabilities of the trained tokens, and the hidden states they were read off.

        Policy and prior both go through this pass, never through the sampler, so a fresh adapter's KL is exactly 0. The
        sampler's own log-probabilities differ by rounding, which nothing corrects: in a tiny model by 4e-7 nats a token
        (root mean square) in float32 and 5e-3 in bfloat16.
        """
        hidden = self.backbone.hidden(batch)
        return token_log_probs(self.backbone, hidden, batch, temperature), hidden


@dataclass(frozen=True, slots=True)
class Roles:
    """The models of one RL run; ``value`` is None where the value head sits on the policy's own trunk."""

    policy: Role
    prior: Role
    value: Role | None

    @property
    def backbones(self) -> list[Backbone]:
        """Every model in memory, each once."""
        found = [role.backbone for role in (self.policy, self.prior, self.value) if role is not None]
        return list({id(backbone): backbone for backbone in found}.values())

    def parts(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return what is trained: the policy's parameters, and those of the value function."""
        policy, value = self.policy, self.value
        head = (value or policy).backbone.parameters_of(VALUE)
        if value is not None and value.name is None:
            head |= value.backbone.parameters_of(None)
        return {POLICY: policy.backbone.parameters_of(policy.name), VALUE: head}

    def values(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return V_t, (batch, length): the value before token t is read off the hidden state at t - 1."""
        values = (self.value or self.policy).backbone.heads.scalars(VALUE, hidden)
        return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], dim=1)


def adapter_roles(backbone: Backbone, shape: LoraShape, *, own_value: bool, seed: int) -> Roles:
    """Put policy and value function on a frozen backbone, which stays the prior.

    The value function does not start from the reward model, as some RLHF code has it: a reward need not be a model, or
    may be several, and a model's raw score is of another scale than returns with the KL taken off.

    Args:
        backbone: The prior; gains the adapter ``policy`` and the head ``value``.
        shape: Of each adapter.
        own_value: Whether the value function has an adapter of its own, or a head on the policy's trunk.
        seed: Seeds the adapters; the value head starts at zero.
    """
    backbone.attach(POLICY, shape, seed=seed)
    if own_value:
        backbone.attach(VALUE, shape, seed=seed + 1)
    backbone.heads.fresh(VALUE)
    backbone.train_only(POLICY, VALUE)
    return Roles(Role(backbone, POLICY), Role(backbone, None), Role(backbone, VALUE) if own_value else None)


def full_roles(backbone: Backbone, *, own_value: bool) -> Roles:
    """Load tuned copies beside a frozen backbone: one for the policy, and one for the value function if it has its own.

    The prior is the backbone in memory, never what a name on disk says by now; the copies must equal it.

    Deviations:
        Copies are held in float32, and under ``bf16`` the prior in bfloat16: a fresh policy is then near its prior
        (1e-4 nats of KL a token in a tiny model), not equal to it as a fresh adapter is.

    Raises:
        DataError: The files, or the prior's weights in memory, have changed since it was read from them.
    """
    own = backbone.parameters_of(None)

    def tuned() -> Backbone:
        copy = open_backbone(backbone.path, backbone.placement, frozen=False)
        held = all(torch.equal(one.to(own[name]), own[name]) for name, one in copy.parameters_of(None).items())
        if copy.sha256 != backbone.sha256 or not held:
            raise DataError("has changed since it was read", file=backbone.path, fix="start again")
        return copy

    policy = tuned()
    value = tuned() if own_value else policy
    value.heads.fresh(VALUE)
    if own_value:
        policy.train_only(None)
    value.train_only(None, VALUE)
    return Roles(Role(policy, None), Role(backbone, None), Role(value, None) if own_value else None)
