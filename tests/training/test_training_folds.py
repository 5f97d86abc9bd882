"""Grouped cross-validation: no group on both sides, a killed run goes on, and the figures are out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from perl_eval.errors import UserError
from perl_eval.models.backbone import LoraShape
from perl_eval.records import Estimate, Score
from perl_eval.sources import rows
from perl_eval.sources.rows import Row
from perl_eval.storage import run_folder
from perl_eval.training import folds
from perl_eval.training.reward import RewardOptions

OPTIONS = folds.FoldOptions(3, RewardOptions(epochs=12, batch=16, learning_rate=2e-3, max_tokens=40, lora=LoraShape(8)))


@pytest.fixture(scope="module")
def ratings(room: Path) -> Path:
    """Return ratings in two splits; a group is a prompt, and prompts occur in both splits."""
    return tiny_models.write_rows(room / "folded", train=tiny_models.ratings(11, 130), test=tiny_models.ratings(12, 20))


@pytest.fixture(scope="module")
def done(room: Path, prior: Path, ratings: Path) -> Path:
    return folds.run(ratings, prior, room / "folds", options=OPTIONS)


def grouped(groups: Sequence[str]) -> list[Row]:
    return [Row(str(place), group, "d", ()) for place, group in enumerate(groups)]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60), st.integers(2, 5), st.integers(0, 3))
def test_groups_are_never_on_both_sides(groups: list[str], count: int, seed: int) -> None:
    if len(set(groups)) < count:
        with pytest.raises(UserError, match=f"cannot make {count} folds"):
            folds._folds(grouped(groups), count, seed)
        return
    fold_of = folds._folds(grouped(groups), count, seed)
    by_group = {group: {int(f) for f, g in zip(fold_of, groups, strict=True) if g == group} for group in groups}
    assert all(len(found) == 1 for found in by_group.values())
    assert set(fold_of.tolist()) == set(range(count))
    # dealing the largest first to the smallest fold: no fold exceeds another by more than its smallest group
    sizes = np.bincount(fold_of, minlength=count)
    assert sizes.max() - sizes.min() <= max(groups.count(group) for group in groups)


def test_the_models_see_no_group_that_they_score(
    prior: Path, ratings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: Path
) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    real_learned = folds._learned
    real_fit = folds.fit_reward

    def learned(prior: Path, train: Any, test: Any, *rest: Any, **named: Any) -> list[float]:
        seen.append(({row.group for row in train}, {row.group for row in test}))
        return real_learned(prior, train, test, *rest, **named)

    def fit(backbone: Any, train: Any, held_out: Any, *rest: Any, **named: Any) -> Any:
        chosen = {row.group for row in train}, {row.group for row in held_out}
        assert not chosen[0] & chosen[1]
        assert chosen[0] | chosen[1] == seen[-1][0]
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real_fit(backbone, train, held_out, *rest, **named)

    monkeypatch.setattr(folds, "_learned", learned)
    monkeypatch.setattr(folds, "fit_reward", fit)
    with pytest.raises(KeyboardInterrupt):
        folds.run(ratings, prior, tmp_path / "out", options=OPTIONS)
    assert all(not train & test for train, test in seen)
    assert set.union(*(test for _, test in seen)) == {row["group"] for row in tiny_models.ratings(11, 130)} | {
        row["group"] for row in tiny_models.ratings(12, 20)
    }
    assert not (tmp_path / "out" / "run.json").exists()
    fitted: list[int] = []
    monkeypatch.setattr(folds, "_learned", real_learned)
    monkeypatch.setattr(folds, "fit_reward", lambda *given, **named: (fitted.append(1), real_fit(*given, **named))[1])
    folds.run(ratings, prior, tmp_path / "out", options=OPTIONS)
    assert len(fitted) == 1
    assert run_folder.read(tmp_path / "out", Score) == run_folder.read(done, Score)


def test_every_row_is_scored_once_by_both_models(done: Path, ratings: Path) -> None:
    scores = run_folder.read(done, Score)
    names = {row.id for split in ("train", "test") for row in rows.read(ratings, split)}
    for policy in (folds.LEARNED, folds.BASELINE):
        own = [score.completion for score in scores if score.policy == policy]
        assert len(own) == len(names)
        assert set(own) == names


@pytest.mark.parametrize("model", [folds.LEARNED, folds.BASELINE])
def test_figures_are_scikit_learns_on_the_written_scores(done: Path, ratings: Path, model: str) -> None:
    liked = {row.id: row.label for split in ("train", "test") for row in rows.read(ratings, split)}
    own = [score for score in run_folder.read(done, Score) if score.policy == model]
    auc = roc_auc_score([liked[score.item] for score in own], [score.value for score in own])
    (estimate,) = [e for e in run_folder.read(done, Estimate) if e.subject == model and e.name == "AUC"]
    assert estimate.value == pytest.approx(auc, abs=1e-9)
    assert auc > 0.9  # whether red is named is plain to both


def test_the_base_rate_is_that_of_the_rows_outside_the_fold(done: Path, ratings: Path) -> None:
    found = sorted((row for split in ("train", "test") for row in rows.read(ratings, split)), key=lambda row: row.id)
    labels = np.array([bool(row.label) for row in found])
    values = {score.item: score.value for score in run_folder.read(done, Score) if score.policy == folds.LEARNED}
    fold_of = folds._folds(found, 3, 0)
    above = []
    for place, row in enumerate(found):
        up = labels[fold_of != fold_of[place]].mean()
        above.append(values[row.id] > np.log(up / (1 - up)))
    (estimate,) = [e for e in run_folder.read(done, Estimate) if e.name == "balanced accuracy at the base rate"]
    assert estimate.subject == folds.LEARNED
    assert estimate.value == pytest.approx(balanced_accuracy_score(labels, above))


def test_an_ensemble_is_the_mean_of_members_of_different_seeds(prior: Path, tmp_path: Path) -> None:
    made = tiny_models.write_rows(tmp_path / "data", train=tiny_models.ratings(13, 48), test=tiny_models.ratings(14, 8))
    train, test = rows.read(made, "train"), rows.read(made, "test")
    options = replace(OPTIONS, members=2, reward=replace(OPTIONS.reward, epochs=1))
    together = folds._learned(prior, train, test, options, tmp_path / ".fold-0", seed=5)
    apart = [
        folds._member(prior, train, test, options.reward, tmp_path / f"alone-{seed}", seed=seed) for seed in (5, 6)
    ]
    assert apart[0] != apart[1]
    assert together == pytest.approx(np.mean(apart, axis=0))
    with pytest.raises(UserError, match="members is 0"):
        folds.FoldOptions(members=0)


def test_without_evaluations_all_rows_outside_a_fold_are_learned_from(
    prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    real_fit = folds.fit_reward

    def fit(backbone: Any, train: Any, held_out: Any, *rest: Any, **named: Any) -> Any:
        seen.append((len(train), len(held_out)))
        return real_fit(backbone, train, held_out, *rest, **named)

    monkeypatch.setattr(folds, "fit_reward", fit)
    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.ratings(11, 40))
    options = folds.FoldOptions(3, replace(OPTIONS.reward, epochs=0.1, evaluations=0))
    folds.run(data, prior, tmp_path / "out", options=options)
    assert [held_out for _, held_out in seen] == [0, 0, 0]
    assert sum(40 - learned for learned, _ in seen) == 40


def test_nothing_of_the_work_stays(done: Path) -> None:
    assert [path.name for path in done.iterdir() if path.name.startswith(".")] == []


def test_labels_of_one_kind_are_refused(prior: Path, tmp_path: Path) -> None:
    made = [{**row, "label": place == 0} for place, row in enumerate(tiny_models.ratings(0, 12))]
    data = tiny_models.write_rows(tmp_path / "data", train=made)
    with pytest.raises(UserError, match="all have one label"):
        folds.run(data, prior, tmp_path / "out", options=OPTIONS)
