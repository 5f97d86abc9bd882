"""The whole chain on the embedded world, offline: build, train, sample, judge, score, agree, report.

Every step is the verb that the command line runs. The world knows the truth, so the judged figures stand beside the
true ones. Dialogues, annotators and the scripted judge are simulated, and the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perl_eval import figure_names as named
from perl_eval.judges.registry import BackendOptions, open_judge
from perl_eval.judging import judge
from perl_eval.models.backbone import ALL_PROJECTIONS, LoraShape
from perl_eval.models.reward_model import RewardScorer
from perl_eval.records import About, Completion, Estimate, HumanLabel, Judgement, Score
from perl_eval.sampling import in_process
from perl_eval.scoring import agree, score
from perl_eval.scoring.diversity import run_diversity
from perl_eval.stats import intervals
from perl_eval.storage import run_folder
from perl_eval.training import policy, reward, sft
from perl_eval.worlds import coffee

__all__ = ["DemoSize", "headline", "run"]

_MAX_TOKENS = 96
_MAX_NEW_TOKENS = 24
_LORA = LoraShape(rank=16, alpha=32.0, targets=ALL_PROJECTIONS)
POLICIES = ("sft", "rl", "rl without KL")


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much of everything; the default takes about two minutes on two cores."""

    demonstrations: int = 6000
    preferences: int = 8000
    prompts: int = 600
    sft_epochs: float = 3.0
    reward_epochs: float = 1.5
    policy_steps: int = 130
    judged_prompts: int = 200


def run(out: Path, *, size: DemoSize | None = None, seed: int = 0) -> Path:
    """Run the chain and return the path of the report page; a killed demo goes on where it was.

    Args:
        out: Folder for all run folders and ``report.html``.
        size: How much of everything.
        seed: Seeds everything.

    Raises:
        UserError: The folder holds something else or cannot be written.
    """
    from perl_eval import reporting

    out, size = Path(out), size or DemoSize()
    data = coffee.build(
        out / "data",
        demonstrations=size.demonstrations,
        preferences=size.preferences,
        prompts=size.prompts,
        seed=seed,
    )
    models = _train(out, data, size, seed)
    completions = [_sample(out, name, model, data, size, seed) for name, model in models.items()]
    judged = _judge(out, completions, seed)
    labels = _label(out, completions, seed)
    for name in ("biased", "reward model"):
        agree.run(judged[name], labels, _folder(out, f"agree {name}"))
    for path in completions:
        run_diversity(path, _folder(out, f"diversity {path.name.removeprefix('sample-')}"))
    _truth(out, completions, judged, out / "reward")
    return reporting.run([out], out / "report.html", title="perl-eval demo: coffee orders from the embedded world")


def _folder(out: Path, name: str) -> Path:
    return out / name.replace(" ", "-")


def _train(out: Path, data: Path, size: DemoSize, seed: int) -> dict[str, Path]:
    """Return the model folders by policy name: SFT, RL with KL to it, RL without."""
    prior = sft.run(
        data / "demonstrations",
        out / "sft",
        options=sft.SftOptions(epochs=size.sft_epochs, batch=32, max_tokens=_MAX_TOKENS),
        seed=seed,
    )
    rewarded = reward.run(
        data / "preferences",
        prior,
        out / "reward",
        options=reward.RewardOptions(
            epochs=size.reward_epochs,
            batch=32,
            learning_rate=2e-3,
            max_tokens=_MAX_TOKENS,
            max_new_tokens=_MAX_NEW_TOKENS,
            lora=_LORA,
        ),
        seed=seed,
    )
    options = policy.PolicyOptions(
        steps=size.policy_steps,
        learning_rate=3e-3,
        group=4,
        beta=0.3,
        max_tokens=_MAX_TOKENS,
        max_new_tokens=_MAX_NEW_TOKENS,
        lora=_LORA,
    )
    models = {"sft": prior}
    for name, beta in (("rl", options.beta), ("rl without KL", 0.0)):
        models[name] = policy.run(
            data / "prompts", prior, rewarded, _folder(out, name), options=replace(options, beta=beta), seed=seed
        )
    return models


def _sample(out: Path, name: str, model: Path, data: Path, size: DemoSize, seed: int) -> Path:
    options = in_process.SampleOptions(
        name=name,
        draws=4,
        limit=size.judged_prompts,
        max_tokens=_MAX_TOKENS,
        max_new_tokens=_MAX_NEW_TOKENS,
    )
    return in_process.run(model, data / "prompts", _folder(out, f"sample {name}"), options=options, seed=seed)


def _judge(out: Path, completions: Sequence[Path], seed: int) -> dict[str, Path]:
    """Return the judgements by judge: the RL policy, then the one without KL, each against SFT."""
    prior, tuned, unanchored = completions
    judges = {
        "biased": open_judge(
            "scripted:world", BackendOptions(position_bias=0.15, noise=0.1, tie_margin=0.02, seed=seed)
        ),
        "always first": open_judge("scripted:constant", BackendOptions(position_bias=1.0, seed=seed)),
        "reward model": open_judge(f"reward:{out / 'reward'}", BackendOptions(tie_margin=0.05)),
    }
    options = judge.JudgeOptions(prompt="dialogue", seed=seed)
    judged = {}
    for name, by in judges.items():
        judged[name] = judge.run(tuned, prior, _folder(out, f"judge {name}"), judge=by, options=options)
        score.run(judged[name], _folder(out, f"score {name}"))
    other = judge.run(unanchored, prior, out / "judge-without-KL", judge=judges["biased"], options=options)
    score.run(other, out / "score-without-KL")
    return judged


def _label(out: Path, completions: Sequence[Path], seed: int) -> Path:
    """Have the three simulated annotators label every pair of RL and SFT answers."""
    prior, tuned, _ = completions
    with run_folder.start(
        out / "labels", verb="label", arguments={"annotators": dict(coffee.ANNOTATORS)}, seed=seed, simulated=True
    ) as going:
        if not going.done:
            matched = judge.pairs(run_folder.read(tuned, Completion), run_folder.read(prior, Completion)).matched
            a, b = [pair[0] for pair in matched], [pair[1] for pair in matched if pair[1] is not None]
            going.write(coffee.label_pairs(a, b, seed=seed), HumanLabel)
    return going.folder


def _truth(out: Path, completions: Sequence[Path], judged: dict[str, Path], rewarded: Path) -> None:
    """Write what the world knows, beside what the reward model says: true and learned reward, true win rate."""
    inputs = {path.name: path for path in [*completions, *judged.values(), rewarded]}
    with run_folder.start(out / "truth", verb="truth", arguments={}, inputs=inputs, simulated=True) as going:
        if going.done:
            return
        from perl_eval.models.backbone import open_backbone

        scorer = RewardScorer(rewarded, open_backbone(rewarded))
        estimates, scores, true = [], [], {}
        for path in completions:
            answers = run_folder.read(path, Completion)
            name, items = answers[0].policy, [answer.item for answer in answers]
            true[name] = {answer.id: coffee.true_reward_of(answer) for answer in answers}
            learned = scorer(answers)
            figures = [
                intervals.mean(named.TRUE_REWARD, list(true[name].values()), clusters=items, bounds=(0, 1)),
                intervals.mean("learned reward", learned, clusters=items),
                intervals.mean(named.KL_TO_PRIOR, [_log_ratio(answer) for answer in answers], clusters=items),
                intervals.mean("policy entropy", [-_nats(answer.logprob) for answer in answers], clusters=items),
            ]
            estimates += intervals.about(figures, About(policy=name), simulated=True)
            for answer, value in zip(answers, learned, strict=True):
                scores.append(_score(answer, named.TRUE_REWARD, true[name][answer.id]))
                scores.append(_score(answer, "learned reward", value))
        for path in judged.values():
            records = run_folder.read(path, Judgement)
            gaps = [true[r.policy_a][r.a] - true[r.policy_b][r.b] for r in records]
            items = [r.item for r in records]
            figures = [
                intervals.proportion("true win rate", [gap > 0 for gap in gaps], clusters=items),
                intervals.mean("true reward difference", gaps, clusters=items, bounds=(-1, 1)),
            ]
            first = records[0]
            subject = About(policy=first.policy_a, against=first.policy_b, judge=first.judge)
            estimates += intervals.about(figures, subject, simulated=True)
        going.write(estimates, Estimate)
        going.write(scores, Score)


def _nats(log_prob: float | None) -> float:
    if log_prob is None:
        raise ValueError("a completion was sampled without log-probabilities")
    return log_prob


def _log_ratio(answer: Completion) -> float:
    return _nats(answer.logprob) - _nats(answer.prior_logprob)


def _score(answer: Completion, metric: str, value: float) -> Score:
    return Score(answer.id, answer.item, answer.group, answer.policy, metric, float(np.float64(value)))


_HEADLINE = (
    *(named.TRUE_REWARD, "learned reward", named.KL_TO_PRIOR, "policy entropy", named.SELF_BLEU),
    *(
        named.WIN_RATE,
        "true win rate",
        named.UNDECIDED_RATE,
        named.LOSS_RATE,
        named.FIRST_IN_BOTH_ORDERS,
        "true reward difference",
    ),
    *(named.HUMAN_HUMAN_EXACT_AGREEMENT, named.HUMAN_JUDGE_EXACT_AGREEMENT),
    *("human-human Cohen kappa", named.HUMAN_JUDGE_COHEN_KAPPA),
)


def headline(out: Path) -> list[Estimate]:
    """Return the figures that the demo prints, by subject."""
    found = [
        estimate
        for folder, _ in run_folder.find_cards(out)
        if (folder / run_folder.FILES[Estimate]).is_file()
        for estimate in run_folder.read(folder, Estimate)
        if estimate.name in _HEADLINE
    ]
    own = [About(policy=name) for name in POLICIES]
    others = {one.about for one in found} - set(own)
    subjects = own + sorted(others, key=lambda about: (not about.against, about.sentence))
    return sorted(found, key=lambda one: (subjects.index(one.about), _HEADLINE.index(one.name)))
