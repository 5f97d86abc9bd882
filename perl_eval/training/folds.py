"""Grouped cross-validation of a reward model on rated answers, beside TF-IDF with logistic regression.

Every row is scored by a model that saw no row of its group. Both models see the same folds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from scipy.special import logit

from perl_eval import figure_names as named
from perl_eval.checks import at_least_one, valid_seed
from perl_eval.errors import OptionError, UserError
from perl_eval.models.backbone import open_backbone
from perl_eval.models.ensemble import EnsembleRule, combined
from perl_eval.models.model_source import located
from perl_eval.models.prompt_room import most_tokens
from perl_eval.models.reward_model import REWARD, RewardScale, RewardScorer
from perl_eval.models.tokenize import encode_dialogue
from perl_eval.records import About, Estimate, Score, digest
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.stats import classification, intervals
from perl_eval.storage import parquet, run_folder
from perl_eval.training.reward import RewardOptions, fit_reward

__all__ = ["BASELINE", "LEARNED", "FoldOptions", "run"]

LEARNED, BASELINE = "reward model", "TF-IDF + logistic regression"


@dataclass(frozen=True, slots=True)
class FoldOptions:
    """How many folds, and how each reward model is trained.

    A tenth of the training groups chooses the best step; without evaluations the last stays, and all are learned from.
    With several ``members`` a fold's reward is the mean of so many models, each with a seed and a tenth of its own.
    """

    folds: int = 5
    reward: RewardOptions = field(default_factory=RewardOptions)
    members: int = 1

    def __post_init__(self) -> None:
        at_least_one(self, "members")
        if self.folds < 2:
            raise OptionError("folds", self.folds, "give at least 2")


def run(data: Path, prior: Path, out: Path, *, options: FoldOptions | None = None, seed: int = 0) -> Path:
    """Cross-validate over all splits of a ratings config, grouped; a killed run goes on at the next model.

    Args:
        data: A folder of Rating rows.
        prior: The SFT model, trained on other rows.
        out: The run folder; gets ``scores.parquet`` (out-of-fold, metric ``reward`` by policy name) and
            ``estimates.parquet`` (AUC, balanced accuracy and their like for both models). Where one label is rare a
            good model may never think it the likelier, which is a balanced accuracy of one half; so that of the reward
            model is also taken at the training rows' base rate, where the baseline's balanced classes put theirs.
        options: See `FoldOptions`.
        seed: Seeds folds and models.

    Raises:
        UserError: No such data or model, or fewer groups than folds.
        DataError: A broken row or a changed input.
    """
    options = options or FoldOptions()
    prior = located(prior)
    inputs = {"data": Path(data), "prior": prior}
    with run_folder.start(
        out, verb="train reward folds", arguments=asdict(options), seed=valid_seed(seed), inputs=inputs
    ) as going:
        if going.done:
            return going.folder
        found = [row for split in rows.splits(data) for row in rows.read(data, split, need=("completion", "label"))]
        found.sort(key=lambda row: row.id)
        fold_of = _folds(found, options.folds, seed)
        learned, baseline, base = np.empty((3, len(found)))
        for fold in range(options.folds):
            held_out = np.flatnonzero(fold_of == fold)
            kept = np.flatnonzero(fold_of != fold)
            train, test = [found[index] for index in kept], [found[index] for index in held_out]
            if len({row.label for row in train}) < 2:
                raise UserError(f"the rows outside fold {fold} all have one label", "give more rows, or fewer folds")
            learned[held_out] = _learned(prior, train, test, options, going.folder / f".fold-{fold}", seed=seed)
            baseline[held_out] = _baseline(train, test)
            base[held_out] = logit(np.mean([bool(row.label) for row in train]))
        scores = []
        estimates: list[Estimate] = []
        labels = [bool(row.label) for row in found]
        groups = [row.group for row in found]
        for name, values in ((LEARNED, learned), (BASELINE, baseline)):
            scores += [
                Score(row.id, row.id, row.group, name, "reward", float(value))
                for row, value in zip(found, values, strict=True)
            ]
            quality = classification.label_quality(list(values), labels, clusters=groups, scale="logit")
            prompts = [row.prompt for row in found]
            quality.append(classification.within_context_accuracy(values, labels, prompts, clusters=groups))
            if name == LEARNED:
                quality.append(
                    classification.balanced_accuracy(
                        values - base, labels, name=named.BALANCED_ACCURACY_AT_THE_BASE_RATE, clusters=groups
                    )
                )
            estimates += intervals.about(quality, About(policy=name))
        going.write(scores, Score)
        going.write(estimates, Estimate)
        going.notes |= {"rows": len(found), "groups": len(set(groups))}
        going.notes |= {"folds": options.folds, "members": options.members}
        for work in going.folder.glob(".fold-*"):
            shutil.rmtree(work) if work.is_dir() else work.unlink()
    return going.folder


def _folds(found: Sequence[Row], folds: int, seed: int) -> np.ndarray:
    """Return each row's fold, (rows,): whole groups, dealt largest first to the smallest fold."""
    members: dict[str, list[int]] = {}
    for index, row in enumerate(found):
        members.setdefault(row.group, []).append(index)
    if folds < 2 or len(members) < folds:
        raise UserError(f"{len(members)} groups cannot make {folds} folds", "give 2 or more, and no more than groups")
    sizes = np.zeros(folds, dtype=int)
    result = np.zeros(len(found), dtype=int)
    for group in sorted(members, key=lambda name: (-len(members[name]), digest("fold", str(seed), name))):
        fold = int(sizes.argmin())
        result[members[group]] = fold
        sizes[fold] += len(members[group])
    return result


def _learned(
    prior: Path, train: Sequence[Row], test: Sequence[Row], options: FoldOptions, work: Path, *, seed: int
) -> list[float]:
    """Return one fold's out-of-fold logits, the mean over members."""
    logits = []
    for member in range(options.members):
        own = work.with_name(f"{work.name}-{member}")
        logits.append(_member(prior, train, test, options.reward, own, seed=(seed + member) % 2**32))
    return combined(logits, EnsembleRule("mean"))


def _member(
    prior: Path, train: Sequence[Row], test: Sequence[Row], options: RewardOptions, work: Path, *, seed: int
) -> list[float]:
    """Return one model's out-of-fold logits, from disk if a killed run had them."""
    saved = work.with_suffix(".json")
    if saved.is_file():
        kept: dict[str, float] = json.loads(saved.read_text("utf-8"))
        return [kept[row.id] for row in test]
    chosen = options.evaluations > 0  # else the last weights stay, and all rows are learned from
    chooses = [chosen and int(digest("choose", str(seed), row.group), 16) % 10 == 0 for row in train]
    learn = [row for row, held in zip(train, chooses, strict=True) if not held]
    held_out = [row for row, held in zip(train, chooses, strict=True) if held]
    backbone = open_backbone(prior, options.resources.placement, frozen=not options.full)
    fit_reward(backbone, learn, held_out, options, folder=work, seed=seed)
    if not options.full:  # a tuned model is scored where it is
        backbone.save(REWARD, work)
    most = most_tokens(options.max_tokens, backbone.causal, backbone.tokenizer)
    RewardScale("pointwise", 0.0, 1.0, most, pooling=options.pooling).save(work)
    encoded = [
        encode_dialogue(backbone.processor, row.prompt, row.completion or (), max_tokens=most, pictures=row.images)
        for row in test
    ]
    logits = RewardScorer(work, backbone).logits(encoded)
    text = json.dumps({row.id: logit for row, logit in zip(test, logits, strict=True)})
    parquet.replace_file(saved, lambda partial: partial.write_text(text, "utf-8"))
    return logits


def _text(row: Row) -> str:
    turns = [f"{turn.role}: {turn.content}" for turn in row.prompt]
    answer = [f"answer: {turn.content}" for turn in row.completion or ()]
    return "\n".join(turns + answer)


def _baseline(train: Sequence[Row], test: Sequence[Row]) -> list[float]:
    """Return the logits of logistic regression on word and word-pair TF-IDF of context and answer."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(max_iter=2000, class_weight="balanced"),
    )
    model.fit([_text(row) for row in train], [bool(row.label) for row in train])
    return [float(value) for value in model.decision_function([_text(row) for row in test])]
