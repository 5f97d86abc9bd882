"""What a comparison is made with: options, prompts, prior, policies, and the reward that makes the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perl_eval.bayes.target import Target, exponentiated
from perl_eval.checks import at_least_one, between, finite, not_negative, positive
from perl_eval.errors import OptionError, UserError
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.checkpoint_folder import has_head, is_adapter
from perl_eval.models.ensemble import Ensemble, EnsembleRule
from perl_eval.models.generate import Sampling
from perl_eval.models.model_source import located
from perl_eval.models.prompt_room import prompt_room
from perl_eval.models.sequence_model import Asked, ModelLanguage
from perl_eval.models.tokenize import encode_prompt
from perl_eval.sources.rows import Row
from perl_eval.storage import hub_snapshot
from perl_eval.worlds import coffee

__all__ = ["ON_REQUEST", "PRIOR", "SAMPLERS", "Models", "PosteriorOptions", "Setting", "open_setting"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
PRIOR = "prior"
SAMPLERS = ("best-of-n", "rejection", "quasi-rejection", "SIR", "SMC")
"""Samplers at decoding time; rejection takes part where a bound of the reward is given."""
ON_REQUEST = ("best-of-Poisson",)
"""Samplers that take part where they are named."""


@dataclass(frozen=True, slots=True)
class PosteriorOptions:
    """What is compared and at what size.

    The target is ``prior exp(reward / beta) / Z``, rewards in standard deviations of the prior, as `train policy` has
    them; a sample that never ended gets ``missing_end_reward``. ``draws`` answers a prompt of every policy and sampler;
    ``pool`` draws a prompt of the prior, for log Z; ``n`` draws for each answer of best-of-n and SIR, and particles of
    SMC; best-of-Poisson draws as many on average. ``acceptance`` is the share of draws that quasi-rejection keeps,
    about; ``upper`` a bound of the reward, for exact rejection; ``most`` the most draws a prompt of either. ``limit``
    prompts, 0 for all.
    """

    beta: float
    split: str = "test"
    limit: int = 40
    draws: int = 8
    pool: int = 256
    n: int = 16
    samplers: tuple[str, ...] = SAMPLERS
    acceptance: float = 0.1
    upper: float | None = None
    most: int = 2000
    temperature: float = 1.0
    max_new_tokens: int = 64
    max_tokens: int = 512
    missing_end_reward: float = -3.0
    batch: int = 256
    ensemble: EnsembleRule = field(default_factory=EnsembleRule)

    def __post_init__(self) -> None:
        at_least_one(self, "draws", "n", "most", "batch", "max_new_tokens", "max_tokens")
        positive(self, "beta", "temperature")
        not_negative(self, "limit")
        prompt_room(self.max_tokens, self.max_new_tokens)
        if self.pool < max(2, self.n, self.draws):
            raise OptionError("pool", self.pool, "give at least as many as `n` and `draws`, and 2")
        between(0, 1, self, "acceptance", such_as=0.1)
        finite(self, "upper", "missing_end_reward")
        for name in self.samplers:
            if name not in (*SAMPLERS, *ON_REQUEST):
                known = ", ".join((*SAMPLERS, *ON_REQUEST))
                raise UserError(f"sampler {name!r} is not known", f"choose from {known}")
        if self.upper is None and "rejection" in self.samplers and self.samplers != SAMPLERS:
            raise UserError("rejection needs a bound of the reward", "give upper, or take quasi-rejection")


@dataclass(frozen=True, slots=True)
class Models:
    """The folders of a comparison.

    Attributes:
        prior: The SFT model.
        rewards: Outputs of ``train reward`` on the prior; several make an ensemble.
        policies: Outputs of ``train policy`` on the prior; may be empty.
    """

    prior: Path
    rewards: tuple[Path, ...]
    policies: tuple[Path, ...] = ()

    def located(self) -> Models:
        """Return the same models as folders here, those of the hub downloaded."""
        return Models(located(self.prior), tuple(map(located, self.rewards)), tuple(map(located, self.policies)))


@dataclass(frozen=True, slots=True)
class Setting:
    """Prompts by number, the languages that answer them, and the target.

    Attributes:
        found: The rows asked, context by context.
        prior: The SFT model.
        policies: Trained policies by name.
        target: Prior and log-evidence.
        options: See `PosteriorOptions`.
        seed: Run seed.
        forget: Called before each method, so that its rewards rest on nothing that a run that goes on does not have.
    """

    found: Sequence[Row]
    prior: ModelLanguage
    policies: Mapping[str, ModelLanguage]
    target: Target
    options: PosteriorOptions
    seed: int
    forget: Callable[[], None] = lambda: None

    @property
    def contexts(self) -> IntArray:
        """Numbers of all prompts."""
        return np.arange(len(self.found))

    @property
    def items(self) -> tuple[str, ...]:
        """Ids of all prompts."""
        return self.prior.asked.items

    def text(self, sequence: Sequence[int]) -> str:
        """Return what an answer says, its end token left out."""
        ids = sequence[:-1] if self.prior.finished(sequence) else sequence
        text: str = self.prior.backbone.tokenizer.decode(list(ids)).strip()
        return text

    def true_rewards(self, contexts: IntArray, sequences: Sequence[Sequence[int]]) -> FloatArray | None:
        """Return the known reward of each answer, in [0, 1]; None unless every prompt is of the embedded world."""
        if any(row.dataset != coffee.DATASET for row in self.found):
            return None
        asked = [self.found[place].prompt for place in contexts.tolist()]
        return np.array([coffee.true_reward(p, self.text(s)) for p, s in zip(asked, sequences, strict=True)])


def _named(policies: Sequence[Path]) -> dict[str, Path]:
    """Return policy folders by their names.

    Raises:
        UserError: Two have one name, or one is called as a sampler is.
    """
    named: dict[str, Path] = {}
    for path in policies:
        name = hub_snapshot.label(Path(path).resolve())
        if name in named or name in (PRIOR, *SAMPLERS, *ON_REQUEST):
            raise UserError(f"two things are called {name!r}", "rename a policy's folder")
        named[name] = Path(path)
    return named


def _policy(folder: Path, backbone: Backbone, name: str) -> tuple[Backbone, str | None]:
    """Return the backbone and adapter of a policy: an adapter on the prior, or a whole model of its own."""
    if has_head(folder):
        raise UserError(f"{folder} is a reward model, which gives no answers", "give `train policy` folders")
    if is_adapter(folder):
        backbone.attach_saved(name, folder)
        return backbone, name
    own = open_backbone(folder, backbone.placement)
    if own.tokenizer.get_vocab() != backbone.tokenizer.get_vocab():
        raise UserError(f"{folder} has another vocabulary than the prior", "give policies trained from the prior")
    return own, None


def open_setting(found: Sequence[Row], models: Models, options: PosteriorOptions, *, seed: int) -> Setting:
    """Load the models of a comparison.

    Args:
        found: The rows asked.
        models: Where they are.
        options: See `PosteriorOptions`.
        seed: Run seed.

    Raises:
        UserError: No such model, a name twice, or another vocabulary.
        DataError: An adapter of another backbone.
    """
    named = _named(models.policies)
    backbone = open_backbone(models.prior)
    room = prompt_room(options.max_tokens, options.max_new_tokens)
    prompts = tuple(
        encode_prompt(backbone.processor, row.prompt, max_tokens=room, pictures=row.images) for row in found
    )
    asked = Asked(tuple(row.id for row in found), prompts, tuple(row.images for row in found))
    sampling = Sampling(options.temperature, options.max_new_tokens)
    ensemble = Ensemble(models.rewards, backbone, options.ensemble.at(options.beta))
    base = ModelLanguage(backbone, None, asked, sampling, seed=seed, batch=options.batch).stream(PRIOR)

    def evidence(contexts: IntArray, sequences: Sequence[Sequence[int]]) -> FloatArray:
        if not len(contexts):
            return np.zeros(0)
        scored = np.array(ensemble.normalised(base.encoded(contexts, sequences)))
        finished = np.array([base.finished(sequence) for sequence in sequences])
        return exponentiated(np.where(finished, scored, options.missing_end_reward), beta=options.beta)

    languages = {}
    for number, (name, folder) in enumerate(named.items()):
        own, adapter = _policy(folder, backbone, f"policy-{number}")
        language = ModelLanguage(own, adapter, asked, sampling, seed=seed, batch=options.batch)
        languages[name] = language.stream(name)
    return Setting(found, base, languages, Target(base, evidence), options, seed, ensemble.forget)
