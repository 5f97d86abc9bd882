"""TRL's GRPO and RLOO losses as estimators of the conformance suite.

Each is computed by the trainer's own two methods: ``_generate_and_score_completions`` (rewards to advantages, the
masks, the log-probabilities that are stored with a batch) and ``_compute_loss``. Only what needs a model is replaced:
generation returns the completions of the batch, reward functions return its rewards, and a forward pass returns its
log-probabilities. Settings are fields of TRL's own ``GRPOConfig`` and ``RLOOConfig``; what is not named has TRL's
default, but for ``num_iterations=2``, which makes GRPO keep the log-probabilities of the policy that sampled. At the
first update they are those of the policy itself, as with ``num_iterations=1``.

``perl-eval conformance --adapter benchmarks/conformance/trl_estimators.py``
"""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch

from perl_eval.conformance.batch import Batch, Estimator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

__all__ = ["estimators"]

CPU = torch.device("cpu")
NO_TOKEN = -1


class _Forward:
    """Stands for a model: which log-probabilities of a batch its forward pass returns.

    Args:
        name: ``old``, ``prior`` or ``log_probs``, a field of `Batch`.
    """

    training = True
    is_gradient_checkpointing = False

    def __init__(self, name: str) -> None:
        self.name = name


def _accelerator() -> Any:
    """Return one process's stand-in for an ``accelerate.Accelerator``."""
    return SimpleNamespace(
        device=CPU,
        process_index=0,
        num_processes=1,
        sync_gradients=True,
        gather=lambda one: one,
        gather_for_metrics=lambda one: one,
        reduce=lambda one, **_: one,
        pad_across_processes=lambda one, **_: one,
    )


class _OnBatch:
    """What both trainers are given in place of a model: the tensors of one batch.

    A name that the trainer reads and that is not set here is the field of that name of its configuration, which is
    what its own ``__init__`` sets it to.

    Args:
        settings: The trainer's configuration.
        batch: What was sampled, scored and computed.
    """

    def __init__(self, settings: Any, batch: Batch) -> None:
        self.args, self.batch = settings, batch
        self.accelerator = _accelerator()
        self.model, self.ref_model = _Forward("old"), _Forward("prior")
        self.beta = batch.beta if settings.beta else 0.0
        self.epsilon_low = settings.epsilon
        self.epsilon_high = settings.epsilon if settings.epsilon_high is None else settings.epsilon_high
        self.current_gradient_accumulation_steps = 1
        self.aux_loss_enabled = False
        self._entropy_bonus_enabled = settings.__dict__.get("entropy_coef", 0.0) != 0.0
        self._tokenizer = SimpleNamespace(pad_token_id=NO_TOKEN)
        self.eos_token_ids = sorted(set(_last_tokens(batch)[batch.ended].tolist()))
        self.tools: list[Any] = []
        self.environments = self.environment_factories = None
        self.reward_func_names, self.reward_funcs, self.reward_weights = ["reward"], [None], torch.ones(1)
        self._metrics: Any = {"train": defaultdict(list)}
        self._logs: Any = defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list))
        self._pending_extra_logs: Any = {}
        self._pending_metrics: Any = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["args"], name)

    def completions(self) -> list[list[int]]:
        """Return the sampled tokens of each row, the end of sequence among them."""
        return [row[kept].tolist() for row, kept in zip(self.batch.tokens, self.batch.mask, strict=True)]

    def _calculate_rewards(self, *_: Any) -> torch.Tensor:
        return self.batch.rewards[:, None].clone()

    def _get_per_token_logps_and_entropies(self, model: _Forward, *given: Any, **_: Any) -> Any:
        length = given[2]
        log_softmax = self.batch.logits[:, :length].log_softmax(-1)
        entropies = -(log_softmax.exp() * log_softmax).sum(-1)
        return getattr(self.batch, model.name)[:, :length], entropies, None

    def loss(self) -> torch.Tensor:
        """Return what the trainer descends on."""
        prompts = [{"prompt": str(int(group))} for group in self.batch.groups]
        inputs = self._generate_and_score_completions(prompts)
        found: torch.Tensor = self._compute_loss(_Forward("log_probs"), inputs)
        return found


class _Grpo(_OnBatch, GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO trainer on one batch."""

    def _generate(self, prompts: list[str]) -> Any:
        ids = self.completions()
        return [[NO_TOKEN] for _ in prompts], ids, None, [""] * len(ids), None, {}, None, None


class _Rloo(_OnBatch, RLOOTrainer):  # type: ignore[misc]
    """TRL's RLOO trainer on one batch."""

    def _generate(self, prompts: list[str]) -> Any:
        ids = self.completions()
        return [[NO_TOKEN] for _ in prompts], ids, [""] * len(ids)


def _last_tokens(batch: Batch) -> torch.Tensor:
    """Return the last sampled token of each row, (B,)."""
    return batch.tokens.gather(1, batch.mask.sum(1, keepdim=True) - 1).squeeze(1)


@functools.lru_cache(maxsize=256)
def _configured(made: Callable[..., Any], rows: int, group: int, longest: int, fields: tuple[Any, ...]) -> Any:
    """Return TRL's own configuration; every check that it makes of its fields is made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made(
            output_dir=tempfile.gettempdir(),
            use_cpu=True,
            bf16=False,
            report_to=[],
            per_device_train_batch_size=rows,
            num_generations=group,
            max_completion_length=longest,
            **dict(fields),
        )


def _loss(trainer: type[Any], made: Callable[..., Any], fields: Mapping[str, Any]) -> Callable[[Batch], torch.Tensor]:
    """Return the loss of a trainer of one configuration as a function of a batch."""

    def loss(batch: Batch) -> torch.Tensor:
        settings = _configured(made, len(batch.rewards), batch.group_size, batch.longest, tuple(fields.items()))
        found: torch.Tensor = trainer(settings, batch).loss()
        return found

    return loss


def _grpo(name: str, objective: str, formula: str, **fields: Any) -> Estimator:
    """Return an estimator by TRL's GRPO trainer."""
    kept = MappingProxyType({"num_iterations": 2, **fields})
    made = f"trl grpo, {name}"
    return Estimator(made, "trl", version("trl"), objective, formula, _loss(_Grpo, GRPOConfig, kept))


def _rloo(name: str, objective: str, formula: str, **fields: Any) -> Estimator:
    """Return an estimator by TRL's RLOO trainer."""
    kept = MappingProxyType(fields)
    made = f"trl rloo, {name}"
    return Estimator(made, "trl", version("trl"), objective, formula, _loss(_Rloo, RLOOConfig, kept))


# What the lines of formulas share. rho_t = exp(log pi(y_t) - log old(y_t)), q = prior, k3_t = q/pi - 1 - log q/pi.
SCALED = "A = (r - mean_group r) / (std_group r + 1e-4)"
CENTRED = "A = r - mean_group r"
CLIPPED = "l_t = -min(rho_t A, clip(rho_t) A)"
K3 = "+ beta k3_t: on policy E d k3_t = d KL(prior || pi) of each token, of no later one"
K3_CORRECTED = "+ beta rho_t k3_t: on policy E d(rho_t k3_t) = d KL(pi || prior) of each token, of no later one"
BY_ROW = "mean_i of 1/|y_i| sum_t l_t"
BY_TOKEN = "sum_i,t l_t / sum_i |y_i|"
BY_LONGEST = "sum_i,t l_t / (B longest)"


def _length_weights() -> list[Estimator]:
    """Return the ways of averaging over tokens, at TRL's other defaults: beta 0, rewards scaled by their group."""
    every = {
        "grpo": BY_ROW,
        "bnpo": BY_TOKEN,
        "dapo": BY_TOKEN,
        "dr_grpo": BY_LONGEST,
    }
    return [
        _grpo(f"loss_type={kind}", "group-normalised", f"{SCALED}; {CLIPPED}; {mean}", loss_type=kind)
        for kind, mean in every.items()
    ]


def _scales() -> list[Estimator]:
    """Return the ways of scaling rewards, with averages over tokens that do not weigh by length."""
    return [
        _grpo(
            "loss_type=dr_grpo, scale_rewards=none",
            "reward",
            f"{CENTRED}; {CLIPPED}; {BY_LONGEST}",
            loss_type="dr_grpo",
            scale_rewards="none",
        ),
        _grpo(
            "loss_type=dr_grpo, scale_rewards=batch",
            "reward",
            f"A = (r - mean_group r) / (std_batch r + 1e-4); {CLIPPED}; {BY_LONGEST}",
            loss_type="dr_grpo",
            scale_rewards="batch",
        ),
        _grpo(
            "loss_type=dr_grpo, scale_rewards=none, mask_truncated_completions",
            "reward",
            f"{CENTRED}; {CLIPPED}, 0 in rows without their end; {BY_LONGEST}",
            loss_type="dr_grpo",
            scale_rewards="none",
            mask_truncated_completions=True,
        ),
    ]


def _divergences() -> list[Estimator]:
    """Return each option of the KL term."""
    found = []
    for kind, mean in (("grpo", BY_ROW), ("dapo", BY_TOKEN), ("dr_grpo", BY_LONGEST)):
        for corrected in (False, True):
            found.append(
                _grpo(
                    f"loss_type={kind}, scale_rewards=none, beta" + (", use_bias_correction_kl" if corrected else ""),
                    "kl",
                    f"{CENTRED}; {CLIPPED} {K3_CORRECTED if corrected else K3}; {mean}",
                    loss_type=kind,
                    scale_rewards="none",
                    beta=0.04,
                    use_bias_correction_kl=corrected,
                )
            )
    return found


def _ratios() -> list[Estimator]:
    """Return what else is made of the ratio to the policy that sampled."""
    by_sequence = "s = exp(1/|y| sum_t log rho_t); l = -min(s A, clip(s) A); d s = s/|y| sum_t d log pi_t"
    plain: dict[str, Any] = {"scale_rewards": "none"}
    return [
        _grpo(
            "loss_type=grpo, importance_sampling_level=sequence",
            "reward",
            f"{CENTRED}; {by_sequence}; mean_i l_i",
            loss_type="grpo",
            importance_sampling_level="sequence",
            **plain,
        ),
        _grpo(
            "loss_type=luspo, importance_sampling_level=sequence",
            "reward",
            f"{CENTRED}; {by_sequence}; mean_i |y_i| l_i",
            loss_type="luspo",
            importance_sampling_level="sequence",
            epsilon=2e-3,
            epsilon_high=2.5e-3,
            **plain,
        ),
        _grpo(
            "loss_type=cispo",
            "reward",
            f"{CENTRED}; l_t = -sg[min(rho_t, 5)] A log pi_t; {BY_TOKEN}",
            loss_type="cispo",
            epsilon_high=5.0,
            **plain,
        ),
        _grpo(
            "loss_type=sapo",
            "reward",
            f"{CENTRED}; l_t = -(4/tau) sigmoid(tau (rho_t - 1)) A, tau 1 where A > 0, 1.05 elsewhere; {BY_ROW}",
            loss_type="sapo",
            **plain,
        ),
        _grpo(
            "loss_type=vespo",
            "reward",
            f"{CENTRED}; l_t = -sg[w^k exp(lambda (1 - w))] A log pi_t, w = prod_t rho_t; {BY_TOKEN}",
            loss_type="vespo",
            **plain,
        ),
        _grpo(
            "loss_type=dr_grpo, delta=4",
            "reward",
            f"{CENTRED}; l_t = -min(min(rho_t, 4) A, clip(rho_t) A); {BY_LONGEST}",
            loss_type="dr_grpo",
            delta=4.0,
            **plain,
        ),
        _grpo(
            "loss_type=dr_grpo, top_entropy_quantile=0.2",
            "reward",
            f"{CENTRED}; {CLIPPED}, 0 but in the fifth of tokens of most entropy; {BY_LONGEST}",
            loss_type="dr_grpo",
            top_entropy_quantile=0.2,
            **plain,
        ),
    ]


def _leave_one_out() -> list[Estimator]:
    """Return TRL's RLOO at its options: KL in the reward, as k1 of whole completions."""
    ratio = "rho = exp(sum_t log pi_t - log old_t); mean_i of -min(rho A, clip(rho) A)"
    whole = "R = r - beta sum_t (log old_t - log prior_t); A = R_i - mean_{j != i} R_j"
    return [
        _rloo("beta", "kl", f"{whole}; {ratio}", beta=0.05),
        _rloo("beta=0", "reward", f"A = r_i - mean_{{j != i}} r_j; {ratio}", beta=0.0),
        _rloo(
            "beta, normalize_advantages",
            "kl",
            f"{whole}, then (A - mean A) / (std A + 1e-4); {ratio}",
            beta=0.05,
            normalize_advantages=True,
        ),
        _rloo(
            "beta, mask_truncated_completions",
            "kl",
            f"{whole}; {ratio}; log rho 0 in rows without their end",
            beta=0.05,
            mask_truncated_completions=True,
        ),
    ]


def estimators() -> list[Estimator]:
    """Return every estimator of TRL that the suite measures.

    Returns:
        Twenty-odd; those whose name says ``beta`` claim E[r] - beta KL(pi || prior), the others E[r], but for those
        that divide rewards by the standard deviation of their group, as TRL does unless told otherwise.
    """
    return [*_length_weights(), *_scales(), *_divergences(), *_ratios(), *_leave_one_out()]
