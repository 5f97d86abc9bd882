"""The comparison itself: run all methods on one prompt set, and write figures, answers and the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.bayes import divergences
from perl_eval.checks import valid_seed
from perl_eval.figure_names import TARGET
from perl_eval.posterior import plot
from perl_eval.posterior.checkpoint import WORK, Kept
from perl_eval.posterior.frontier import frontier
from perl_eval.posterior.methods import Answers, Pool, draw_pool, methods, pool_of
from perl_eval.posterior.problem import Models, PosteriorOptions, Setting, open_setting
from perl_eval.records import About, Completion, Estimate, Measurement, digest
from perl_eval.sources import rows
from perl_eval.stats import intervals
from perl_eval.stats.best_at_k import best_at
from perl_eval.storage import hub_snapshot, images, run_folder
from perl_eval.storage.progress import track

__all__ = ["run"]

FloatArray = NDArray[np.float64]


def run(data: Path, models: Models, out: Path, *, options: PosteriorOptions, seed: int = 0) -> Path:
    """Hold policies and decoding-time samplers against the target ``prior exp(reward / beta) / Z``.

    Args:
        data: A folder of rows with prompts.
        models: Prior, reward models and policies.
        out: The run folder: ``estimates.parquet``, ``completions.parquet``, ``frontier.svg`` and ``frontier.png``. A
            killed run goes on with the next method.
        options: See `PosteriorOptions`.
        seed: Run seed.

    Raises:
        UserError: No such data or model, or names that clash.
        DataError: A changed input, or an adapter of another backbone.
    """
    models = models.located()
    inputs = {"data": Path(data), "prior": models.prior}
    for kind, paths in (("reward", models.rewards), ("policy", models.policies)):
        inputs |= {f"{kind} {number}": Path(path) for number, path in enumerate(paths)}
    with run_folder.start(
        out, verb="posterior", arguments=asdict(options), seed=valid_seed(seed), inputs=inputs
    ) as going:
        if going.done:
            return going.folder
        found = rows.asked(data, options.split, limit=options.limit)
        setting = open_setting(found, models, options, seed=seed)
        kept = Kept(going.folder / WORK)
        pool = pool_of(kept.pool(lambda: draw_pool(setting)), options.pool)
        completions: list[Completion] = []
        figures = intervals.about(_of_target(pool), About(slice=TARGET))
        trained = {hub_snapshot.label(Path(path).resolve()): Path(path) for path in models.policies}
        for place, method in enumerate(track(methods(setting, pool), "posterior")):
            told, said = kept.method(place, partial(_told, setting, method, trained))
            figures, completions = [*figures, *told], [*completions, *said]
        setting.forget()
        figures += frontier(setting, pool)
        shown = {row.id: tuple(images.keep(going.folder, one.read()) for one in row.images) for row in found}
        completions = [replace(one, images=shown[one.item]) for one in completions]
        figures = intervals.about(figures, simulated=going.simulated)
        going.write(figures, Estimate)
        going.write(completions, Completion)
        plot.draw(figures, going.folder)
        kept.clear()
        going.notes |= {"beta": options.beta, "prompts": len(found), "pool tokens": pool.weighed.draws.tokens}
    return going.folder


def _told(
    setting: Setting, method: Callable[[], Answers], trained: Mapping[str, Path]
) -> tuple[list[Estimate], list[Completion]]:
    """Run one method; return all its figures under its name, and its answers."""
    setting.forget()
    given = method()
    figures = [*_figures(setting, given), *_training_cost(trained.get(given.name))]
    return intervals.about(figures, About(policy=given.name)), _completions(setting, given)


def _of_target(pool: Pool) -> list[Estimate]:
    """Estimate the target's own figures: log Z, KL to the prior, entropy and mode, and how much the pool is worth."""
    weights, said = pool.log_weights, pool.log_prior + pool.weighed.log_evidence.reshape(pool.log_prior.shape)
    return [
        divergences.log_normaliser(weights),
        replace(divergences.forward_kl(weights, weights), name=named.KL_TARGET_PRIOR),
        divergences.target_entropy(weights, said),
        divergences.target_mode(weights, said),
        divergences.effective_sizes(weights),
    ]


def _figures(setting: Setting, given: Answers) -> list[Estimate]:
    """Estimate what one method's answers are worth, how varied they are, and what they cost."""
    sampled = given.sampled
    kept, draws = sampled.kept, sampled.kept.draws
    missing = sampled.missing
    if not len(draws.sequences):
        return [intervals.undefined("reward", "no answer was found", n_missing=missing)]
    items = [setting.items[place] for place in draws.contexts]
    rewards = setting.options.beta * kept.log_evidence
    found = [intervals.mean("reward", rewards, clusters=items, n_missing=missing)]
    true = setting.true_rewards(draws.contexts, draws.sequences)
    if true is not None:
        found.append(intervals.mean(named.TRUE_REWARD, true, clusters=items, bounds=(0.0, 1.0), n_missing=missing))
    found += _best(rewards, true, items)
    tokens = [len(sequence) for sequence in draws.sequences]
    collapse = divergences.collapse(
        [setting.text(sequence) for sequence in draws.sequences],
        items,
        log_probs=None if given.kind == "sampler" else draws.log_probs,
        log_prior=kept.log_prior,
        tokens=tokens,
    )
    n = len(tokens)
    cost = [
        Estimate(named.TOKENS_DRAWN_AN_ANSWER, sampled.tokens / n, None, None, n, missing, "tokens drawn over answers"),
        Estimate(
            named.ANSWERS_SCORED_AN_ANSWER,
            sampled.scored / n,
            None,
            None,
            n,
            missing,
            "answers scored over answers",
        ),
    ]
    return [*found, *given.divergences, *given.extra, *cost, *collapse]


def _best(rewards: FloatArray, true: FloatArray | None, items: Sequence[str]) -> Iterator[Estimate]:
    """Yield what the best of 2 and of 4 answers to a prompt is worth, where prompts have as many."""
    most = max(Counter(items).values())
    for k, learned, known in (
        (2, named.REWARD_BEST_AT_2, named.TRUE_REWARD_BEST_AT_2),
        (4, named.REWARD_BEST_AT_4, named.TRUE_REWARD_BEST_AT_4),
    ):
        if k <= most:
            yield best_at(learned, rewards.tolist(), items, k)
            if true is not None:
                yield best_at(known, true.tolist(), items, k, bounds=(0.0, 1.0))


def _training_cost(folder: Path | None) -> list[Estimate]:
    """Return the tokens that were sampled to train a policy, as its curve and card tell them; nothing without them."""
    if folder is None or not (folder / run_folder.FILES[Measurement]).is_file():
        return []
    lengths = [point.value for point in run_folder.read(folder, Measurement) if point.metric == "length"]
    card = run_folder.read_card(folder)
    batch = card.arguments.get("batch") if card else None
    if not lengths or not isinstance(batch, int):
        return []
    total = float(np.sum(lengths) * batch)
    return [Estimate(named.TOKENS_DRAWN_IN_TRAINING, total, None, None, len(lengths), 0, "mean length x batch, summed")]


def _completions(setting: Setting, given: Answers) -> list[Completion]:
    """Return a method's answers as records that `judge` and `score` read."""
    kept, seen, made = given.sampled.kept, dict.fromkeys(setting.items, 0), []
    for place, (context, sequence) in enumerate(zip(kept.draws.contexts.tolist(), kept.draws.sequences, strict=True)):
        row = setting.found[context]
        draw = seen[row.id]
        seen[row.id] += 1
        made.append(
            Completion(
                id=digest("completion", row.id, given.name, str(draw)),
                item=row.id,
                group=row.group,
                dataset=row.dataset,
                policy=given.name,
                prompt=row.prompt,
                text=setting.text(sequence),
                finish="stop" if setting.prior.finished(sequence) else "length",
                draw=draw,
                token_ids=sequence,
                logprob=None if given.kind == "sampler" else float(kept.draws.log_probs[place]),
                prior_logprob=float(kept.log_prior[place]),
            )
        )
    return made
