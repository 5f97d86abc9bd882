"""The verbs that build data, train models and sample them, as functions; see `perl_eval.verbs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perl_eval.results import Built, Completions, Result, Trained

if TYPE_CHECKING:
    from perl_eval.building import BuildOptions
    from perl_eval.sampling.in_process import SampleOptions
    from perl_eval.training.dpo import DpoOptions
    from perl_eval.training.policy import PolicyOptions
    from perl_eval.training.reward import RewardOptions
    from perl_eval.training.sft import SftOptions

from perl_eval.verbs.given import Source, kept, model_of, rows_in

__all__ = ["build", "sample", "train_dpo", "train_policy", "train_reward", "train_sft"]


def sample(
    model: Source,
    data: Source,
    *,
    out: str | Path | None = None,
    options: SampleOptions | None = None,
    seed: int = 0,
) -> Completions:
    """Have a model answer the prompts of a data set.

    Args:
        model: A model's folder, a GGUF file, ``ORG/NAME[@REVISION]`` of the hub, or the result of a training verb.
        data: Rows: a folder of splits, or objects, see `perl_eval.rows`; their prompts are answered.
        out: Folder to keep the answers in.
        options: Name, split, draws, temperature, lengths.
        seed: Of the draws.

    Raises:
        UserError: There is no such model or split.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.sampling.in_process import SampleOptions
        >>> from perl_eval.training.sft import SftOptions
        >>> said = [{"prompt": f"count to {n}", "completion": "one two three"} for n in range(64)]
        >>> model = pe.train_sft(said, options=SftOptions(model="scratch:tiny", epochs=1))
        >>> answers = pe.sample(model, {"test": said[:3]}, options=SampleOptions(name="tiny", max_new_tokens=4))
        >>> {answer.policy for answer in answers}
        {'tiny'}
    """
    from perl_eval.sampling.in_process import run

    with rows_in(data, whole=options.split if options else "test") as asked:
        return kept(Completions, out, lambda home: run(model_of(model), asked, home, options=options, seed=seed))


def build(
    name: str,
    *,
    config: str | Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    options: BuildOptions | None = None,
) -> Built:
    """Build a data set in TRL's columns from its pinned upstream files.

    Args:
        name: Such as ``harmless``; see ``perl-eval build --help``.
        config: One configuration or several; by default all.
        data_dir: Folder with the upstream files; by default they are downloaded.
        out: Folder to keep it in.
        options: Splits, checksums, settings of one data set.

    Raises:
        UserError: There is no such data set, or the files cannot be had.
        DataError: The files are not the pinned ones.

    Example:
        >>> import perl_eval as pe
        >>> pe.build("harmles")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        perl_eval.errors.UserError: no data set 'harmles'; ...
    """
    from perl_eval.building import run

    where = None if data_dir is None else Path(data_dir)
    return kept(Built, out, lambda home: run(name, home, config=config, data_dir=where, options=options))


def train_sft(
    data: Source, *, out: str | Path | None = None, options: SftOptions | None = None, seed: int = 0
) -> Trained:
    """Train a model on demonstrations.

    Args:
        data: Demonstration rows: a folder of splits, or objects, see `perl_eval.rows`.
        out: Folder to keep the model in; without it the model is gone with the result.
        options: The model to start from, epochs, rates, LoRA.
        seed: Of the run.

    Raises:
        UserError: There are no such rows, or the model cannot be had.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.training.sft import SftOptions
        >>> said = [{"prompt": f"count to {n}", "completion": "one two three"} for n in range(64)]
        >>> model = pe.train_sft(said, options=SftOptions(model="scratch:tiny", epochs=1))
        >>> sorted({point.metric for point in model})
        ['gradient norm', 'loss']
    """
    from perl_eval.training.sft import SftOptions, run

    how = options or SftOptions()
    judged = ("validation if judged", "test if judged")
    with rows_in(data, make=("validation", judged[1]) if options and options.patience else judged) as rows:
        return kept(Trained, out, lambda home: run(rows, home, options=how, seed=seed))


def train_reward(
    data: Source,
    prior: Source,
    *,
    out: str | Path | None = None,
    options: RewardOptions | None = None,
    seed: int = 0,
) -> Trained:
    """Train a reward model on ratings or preferences, from an SFT model.

    Args:
        data: Rating or Preference rows: a folder of splits, or objects, see `perl_eval.rows`.
        prior: The SFT model: its folder, ``ORG/NAME[@REVISION]`` of the hub, or the result of `train_sft`.
        out: Folder to keep the model in; without it the model is gone with the result.
        options: Loss, LoRA or full, epochs, rates.
        seed: Of the run.

    Raises:
        UserError: There are no such rows, or no such model.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.training.sft import SftOptions
        >>> from perl_eval.training.reward import RewardOptions
        >>> said = [{"prompt": f"count to {n}", "completion": "one two three"} for n in range(64)]
        >>> prior = pe.train_sft(said, options=SftOptions(model="scratch:tiny", epochs=1))
        >>> pairs = [{"prompt": row["prompt"], "chosen": "one two", "rejected": "no"} for row in said]
        >>> rewarded = pe.train_reward(pairs, prior, options=RewardOptions(epochs=1))
        >>> (rewarded.home / "adapter_config.json").is_file()
        True
    """
    from perl_eval.training.reward import run

    start = model_of(prior)
    with rows_in(data, make=("validation", "test")) as rows:
        return kept(Trained, out, lambda home: run(rows, start, home, options=options, seed=seed))


def train_dpo(
    data: Source,
    prior: Source,
    *,
    out: str | Path | None = None,
    options: DpoOptions | None = None,
    seed: int = 0,
) -> Trained:
    """Train a policy on preferences (DPO) or ratings (KTO), without a reward model.

    Args:
        data: Preference or Rating rows: a folder of splits, or objects, see `perl_eval.rows`.
        prior: The SFT model: its folder, ``ORG/NAME[@REVISION]`` of the hub, or the result of `train_sft`.
        out: Folder to keep the policy in; without it the policy is gone with the result.
        options: Loss, beta, LoRA or full, epochs, rates.
        seed: Of the run.

    Raises:
        UserError: There are no such rows, or no such model.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.training.dpo import DpoOptions
        >>> from perl_eval.training.sft import SftOptions
        >>> said = [{"prompt": f"count to {n}", "completion": "one two three"} for n in range(64)]
        >>> prior = pe.train_sft(said, options=SftOptions(model="scratch:tiny", epochs=1))
        >>> pairs = [{"prompt": row["prompt"], "chosen": "one two", "rejected": "no"} for row in said]
        >>> policy = pe.train_dpo(pairs, prior, options=DpoOptions(batch=16))
        >>> round([point.value for point in policy if point.metric == "loss"][0], 4)  # log 2: it is the prior yet
        0.6931
    """
    from perl_eval.training.dpo import run

    start = model_of(prior)
    with rows_in(data, make=("validation", "test")) as rows:
        return kept(Trained, out, lambda home: run(rows, start, home, options=options, seed=seed))


def train_policy(
    data: Source,
    prior: Source,
    reward: Source | Sequence[Source],
    *,
    out: str | Path | None = None,
    options: PolicyOptions | None = None,
    seed: int = 0,
) -> Trained:
    """Train a policy against a reward, with a KL penalty to the SFT model.

    Args:
        data: Rows: a folder of splits, or objects, see `perl_eval.rows`; their prompts are answered.
        prior: The SFT model: its folder, ``ORG/NAME[@REVISION]`` of the hub, or the result of `train_sft`.
        reward: A reward model or several, folders or results of `train_reward`; or a function from prompts and answers
            to numbers.
        out: Folder to keep the policy in; without it the policy is gone with the result.
        options: Objective, beta, LoRA or full, steps, rates.
        seed: Of the run.

    Raises:
        UserError: There are no such rows, or no such model.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.training.policy import PolicyOptions
        >>> from perl_eval.training.sft import SftOptions
        >>> said = [{"prompt": f"count to {n}", "completion": "one two three"} for n in range(64)]
        >>> prior = pe.train_sft(said, options=SftOptions(model="scratch:tiny", epochs=1))
        >>> def short(prompts, answers):
        ...     return [-float(len(answer.text)) for answer in answers]
        >>> policy = pe.train_policy(said, prior, short, options=PolicyOptions(steps=2, batch=8))
        >>> len([point for point in policy if point.metric == "reward"])
        2
    """
    from perl_eval.training.policy import run

    rewards = reward
    if isinstance(reward, str | Path | Result):
        rewards = model_of(reward)
    elif isinstance(reward, Sequence):
        rewards = [model_of(one) for one in reward]
    start = model_of(prior)
    with rows_in(data) as rows:
        return kept(Trained, out, lambda home: run(rows, start, rewards, home, options=options, seed=seed))
