"""Log-probabilities of tokens without the logits of a whole batch in memory.

Tokens go through the output layer a chunk at a time, so the largest block of logits has a fixed size, whatever the
batch and the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from perl_eval.models.backbone import NEVER, Backbone
from perl_eval.models.tokenize import PaddedBatch

__all__ = ["full_kl", "token_log_probs"]

_ELEMENTS_CPU, _ELEMENTS_GPU = 2**22, 2**26
"""The most logits at once: 16 MiB in float32 where they should stay near the cache, 256 MiB where launches cost."""


@dataclass(frozen=True, slots=True)
class _Output:
    """How hidden states become log-probabilities.

    Factor on the logits, soft cap (0: none), temperature, tokens a chunk, the product's type; whether to learn; ids
    that are never said.
    """

    factor: float
    cap: float
    temperature: float
    chunk: int
    dtype: torch.dtype
    learns: bool
    unsaid: tuple[int, ...] = ()

    def logits(self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return the logits before the temperature, (tokens, vocabulary), in float32 or finer."""
        product = nn.functional.linear(hidden.to(self.dtype), weight.to(self.dtype))
        logits = product.float() if self.dtype == torch.bfloat16 else product
        if bias is not None:
            logits += bias
        if self.factor != 1.0:
            logits *= self.factor
        if self.cap:
            logits = logits.div_(self.cap).tanh_().mul_(self.cap)
        if self.unsaid:
            logits[:, self.unsaid] = NEVER
        return logits

    def picked(self, logits: torch.Tensor, targets: torch.Tensor, *, slope: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log p(target), (tokens,), and its slope by the layer's product; ``logits`` is used up.

        The slope, (tokens, vocabulary), is of log p(target) by the product of hidden states and weight; without
        ``slope`` the second result means nothing.
        """
        bend = 1 - (logits / self.cap).square() if slope and self.cap else None
        scaled = logits.div_(self.temperature) if self.temperature != 1.0 else logits
        total = scaled.logsumexp(-1, keepdim=True)
        places = targets.unsqueeze(-1)
        picked = (scaled.gather(-1, places) - total).squeeze(-1)
        if not slope:
            return picked, scaled
        scaled.sub_(total).exp_().neg_()
        scaled.scatter_add_(-1, places, torch.ones_like(total))
        if self.factor != self.temperature:
            scaled *= self.factor / self.temperature
        return picked, scaled if bend is None else scaled.mul_(bend)


class _Picked(torch.autograd.Function):
    """Log-probability of each target, (tokens,), and its gradient, chunk by chunk.

    With a frozen output layer the gradient for the hidden states is made on the way forward, where the logits are at
    hand anyway. With a trained one it depends on what comes back, so the logits are made again.
    """

    @staticmethod
    def forward(  # autograd hands over what `apply` was given, one by one
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        output: _Output,
    ) -> torch.Tensor:
        ctx.output = output
        ctx.early = output.learns and not weight.requires_grad
        picked, slopes = [], []
        for start in range(0, len(targets), output.chunk):
            span = slice(start, start + output.chunk)
            logits = output.logits(hidden[span], weight, bias)
            found, slope = output.picked(logits, targets[span], slope=ctx.early)
            picked.append(found)
            if ctx.early:
                slopes.append((slope.to(output.dtype) @ weight.to(output.dtype)).to(hidden.dtype))
        if ctx.early:
            ctx.save_for_backward(torch.cat(slopes))
        elif output.learns:
            ctx.save_for_backward(hidden, weight, targets, *([] if bias is None else [bias]))
        return torch.cat(picked)

    @staticmethod
    def backward(ctx: Any, flow: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        output: _Output = ctx.output
        if ctx.early:
            (slopes,) = ctx.saved_tensors
            return slopes * flow.unsqueeze(-1).to(slopes.dtype), None, None, None, None
        hidden, weight, targets, *rest = ctx.saved_tensors
        bias = rest[0] if rest else None
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        to_bias = None if bias is None else torch.zeros_like(bias)
        for start in range(0, len(targets), output.chunk):
            span = slice(start, start + output.chunk)
            _, slope = output.picked(output.logits(hidden[span], weight, bias), targets[span], slope=True)
            slope *= flow[span].unsqueeze(-1)
            if to_bias is not None:
                to_bias += slope.sum(0)
            narrow = slope.to(output.dtype)
            to_hidden[span] = (narrow @ weight.to(output.dtype)).to(hidden.dtype)
            if to_weight.dtype == output.dtype:
                to_weight.addmm_(narrow.T, hidden[span].to(output.dtype))
            else:
                to_weight += narrow.T @ hidden[span].to(output.dtype)
        return to_hidden, to_weight, to_bias, None, None


def _output_of(backbone: Backbone, hidden: torch.Tensor, temperature: float, most_logits: int) -> _Output:
    most = most_logits or (_ELEMENTS_CPU if hidden.device.type == "cpu" else _ELEMENTS_GPU)
    return _Output(
        factor=backbone.logit_factor,
        cap=backbone.logit_cap,
        temperature=temperature,
        chunk=max(1, most // backbone.output_layer.weight.shape[0]),
        dtype=torch.bfloat16 if backbone.narrow else hidden.dtype,
        learns=torch.is_grad_enabled(),
        unsaid=backbone.unsaid,
    )


@torch.no_grad()
def full_kl(
    policy: tuple[Backbone, torch.Tensor],
    prior: tuple[Backbone, torch.Tensor],
    batch: PaddedBatch,
    temperature: float,
    *,
    most_logits: int = 0,
) -> torch.Tensor:
    """Return KL(policy || prior) of the whole distribution that each trained token is drawn from.

    ``sum_v pi(v) (log pi(v) - log prior(v))``, the mean of the log-ratio (k1) of the sampled token given what stands
    before it. So its sum over a sample has the same mean as that of k1, and no more variance.

    Args:
        policy: The model whose output layer is used, and its last hidden states, (batch, length, width).
        prior: The same of the prior.
        batch: The tokens.
        temperature: Divides the logits of both.
        most_logits: The most logits of a model in memory at once; 0 for what suits the device.

    Returns:
        (batch, length), nats, 0 or above, zero where a token is not trained; no gradient.

    Source:
        Amini et al., arXiv 2504.10637 (the Rao-Blackwell estimate).
    """
    scored = batch.trained[:, 1:].to(policy[1].device)
    placed = torch.zeros(scored.shape, dtype=torch.float32, device=scored.device)
    chosen = [hidden[:, :-1][scored] for _, hidden in (policy, prior)]
    outputs = [_output_of(backbone, hidden, temperature, most_logits) for backbone, hidden in (policy, prior)]
    layers = [backbone.output_layer for backbone, _ in (policy, prior)]
    found = []
    for start in range(0, len(chosen[0]), outputs[0].chunk):
        span = slice(start, start + outputs[0].chunk)
        own, anchor = (
            torch.log_softmax(output.logits(hidden[span], layer.weight, layer.bias).float() / temperature, -1)
            for output, hidden, layer in zip(outputs, chosen, layers, strict=True)
        )
        found.append((own.exp() * (own - anchor)).sum(-1).clamp(min=0.0))
    if found:
        placed = placed.masked_scatter(scored, torch.cat(found))
    return torch.cat([torch.zeros_like(placed[:, :1]), placed], dim=-1)


def token_log_probs(
    backbone: Backbone,
    hidden: torch.Tensor,
    batch: PaddedBatch,
    temperature: float,
    *,
    most_logits: int = 0,
) -> torch.Tensor:
    """Return the log-probability of each trained token given what stands before it.

    Args:
        backbone: The model whose output layer is used.
        hidden: Last hidden states, (batch, length, width).
        batch: The tokens; logits at t score token t + 1.
        temperature: Divides the logits, as it did when sampling.
        most_logits: The most logits in memory at once; 0 for what suits the device.

    Returns:
        (batch, length), in nats, in float32, zero where a token is not trained.

    Deviations:
        The product with the output layer is in the model's precision (bfloat16 under ``bf16``); softmax and
        logarithm are in float32.
    """
    scored = batch.trained[:, 1:].to(hidden.device)
    targets = batch.ids[:, 1:].to(hidden.device)[scored]
    if not len(targets):
        return torch.zeros(batch.ids.shape, device=hidden.device) + 0.0 * hidden.sum()
    layer = backbone.output_layer
    output = _output_of(backbone, hidden, temperature, most_logits)
    chosen = hidden[:, :-1][scored]
    picked: torch.Tensor = _Picked.apply(chosen, layer.weight, layer.bias, targets, output)  # type: ignore[no-untyped-call]
    placed = torch.zeros_like(scored, dtype=picked.dtype).masked_scatter(scored, picked)
    return torch.cat([torch.zeros_like(placed[:, :1]), placed], dim=-1)
