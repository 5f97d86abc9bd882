"""The verb jury: several runs of judge to one decision a unit, and how alike the judges err."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contests import pair_judged

from perl_eval.errors import UserError
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judging import judge, jury
from perl_eval.records import Ballot, Completion, Estimate, HumanLabel, Judgement, Message, unit_of
from perl_eval.scoring import score
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.rater_correlation import EIGENVALUE, KISH
from perl_eval.storage import parquet, run_folder

N = 120


def saved(folder: Path, policy: str, values: np.ndarray) -> Path:
    with run_folder.start(folder, verb="sample", arguments={}) as run:
        answers = [
            Completion(
                f"{policy}{i}",
                f"i{i:03}",
                f"g{i // 2}",
                "d",
                policy,
                (Message("user", f"{i}"),),
                f"{value:+.6f}",
                "stop",
                0,
            )
            for i, value in enumerate(values)
        ]
        run.write(answers, Completion)
    return folder


def worth(answer: Completion) -> float:
    return float(answer.text)


@pytest.fixture
def contest(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return completions of two policies, and labels that say which has the larger true value."""
    random = np.random.default_rng(0)
    ours, theirs = random.normal(size=(2, N))
    labels = [
        HumanLabel(
            unit_of(f"a{i}", f"b{i}"),
            f"i{i:03}",
            f"g{i // 2}",
            "p",
            "win" if ours[i] > theirs[i] else "loss",
            simulated=True,
        )
        for i in range(N)
    ]
    parquet.write(tmp_path / "people" / "labels.parquet", labels, HumanLabel)
    return saved(tmp_path / "a", "a", ours), saved(tmp_path / "b", "b", theirs), tmp_path / "people"


def judged(contest: tuple[Path, Path, Path], out: Path, name: str, seed: int, noise: float = 1.0) -> Path:
    by = ScriptedJudge(worth, name=name, noise=noise, seed=seed)
    return judge.run(contest[0], contest[1], out, judge=by, options=judge.JudgeOptions("dialogue"))


def figures(folder: Path) -> dict[str, Estimate]:
    return {estimate.name: estimate for estimate in run_folder.read(folder, Estimate)}


def test_a_jury_decides_and_its_effective_number_follows_its_errors(
    tmp_path: Path, contest: tuple[Path, Path, Path]
) -> None:
    # Two judges that err alike (one seed), one that errs by itself.
    members = [judged(contest, tmp_path / name, name, seed) for name, seed in (("m1", 1), ("m2", 1), ("m3", 2))]
    out = jury.run(members, tmp_path / "jury", labels=contest[2])
    rows = run_folder.read(out, Judgement)
    assert len(rows) == 2 * N
    by_unit = [{row.unit: row.outcome for row in run_folder.read(member, Judgement)} for member in members]
    truth = {label.unit: label.label for label in run_folder.read(contest[2], HumanLabel)}
    errors = np.array([[bench[unit] != truth[unit] for bench in by_unit] for unit in sorted(truth)], float)
    matrix = np.corrcoef(errors, rowvar=False)
    assert errors.mean() > 0.1
    found = figures(out)
    rho = matrix[np.triu_indices(3, 1)].mean()
    assert matrix[0, 1] == pytest.approx(1.0)
    assert found["mean correlation of errors"].value == pytest.approx(rho)
    assert found[f"{KISH}, errors"].value == pytest.approx(3 / (1 + 2 * rho))
    assert found[f"{EIGENVALUE}, errors"].value == pytest.approx(9 / (matrix**2).sum())
    assert 1 < float(found[f"{EIGENVALUE}, errors"].value or 0) < 2.2
    # m1 and m2 always agree, so they are the majority.
    majority = {row.unit: row.outcome for row in rows if row.judge == "jury of 3, majority"}
    assert majority == by_unit[0]
    assert all(estimate.simulated for estimate in found.values())
    scored = {e.subject for e in run_folder.read(score.run(out, tmp_path / "scored"), Estimate) if e.name == "win rate"}
    assert scored == {"a against b, judge jury of 3, majority", "a against b, judge jury of 3, mean probability"}


def test_without_labels_only_verdicts_are_compared(tmp_path: Path, contest: tuple[Path, Path, Path]) -> None:
    members = [judged(contest, tmp_path / name, name, seed) for seed, name in enumerate(("m1", "m2"))]
    found = figures(jury.run(members, tmp_path / "jury"))
    assert {name for name in found if "errors" in name} == set()
    # What both judges see of the truth makes their verdicts alike, though their errors are not.
    with_labels = figures(jury.run(members, tmp_path / "labelled", labels=contest[2]))
    assert float(found["mean correlation of verdicts"].value or 0) > float(
        with_labels["mean correlation of errors"].value or 0
    )


def test_units_that_one_judge_lacks_are_counted(tmp_path: Path, contest: tuple[Path, Path, Path]) -> None:
    whole = judged(contest, tmp_path / "m1", "m1", 1)
    part = tmp_path / "part" / "judgements.parquet"
    rows = run_folder.read(judged(contest, tmp_path / "m2", "m2", 2), Judgement)
    parquet.write(part, rows[:30], Judgement)
    out = jury.run([whole, part], tmp_path / "jury")
    card = run_folder.read_card(out)
    assert card is not None
    assert (card.notes["units"], card.notes["not judged by all"]) == (30, N - 30)
    assert card.notes["judges"] == ["m1", "m2"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("alone", "a jury needs at least two judges"),
        ("twice", "one judge is given twice: m1"),
        ("apart", "judged nothing in common"),
        ("doubled", "holds two judgements of unit"),
    ],
)
def test_what_is_no_jury_is_refused(tmp_path: Path, contest: tuple[Path, Path, Path], case: str, message: str) -> None:
    one = judged(contest, tmp_path / "m1", "m1", 1)
    rows = run_folder.read(judged(contest, tmp_path / "m2", "m2", 2), Judgement)
    file = tmp_path / "other.parquet"
    from dataclasses import replace

    parquet.write(file, [replace(row, a=f"{row.a}x") for row in rows] if case == "apart" else rows[:1] * 2, Judgement)
    members = {"alone": [one], "twice": [one, one], "apart": [one, file], "doubled": [one, file]}[case]
    with pytest.raises(UserError, match=message):
        jury.run(members, tmp_path / "jury")
    assert not (tmp_path / "jury" / "run.json").exists()


def test_judges_that_err_by_themselves_are_worth_their_number(tmp_path: Path) -> None:
    """Errors drawn apart, at one rate for all pairs: no correlation, though all judges know the truth's side."""
    random = np.random.default_rng(5)
    count = 4000
    truth = random.random(count) < 0.5
    labels = [
        HumanLabel(unit_of(f"a{i}", f"b{i}"), f"i{i}", f"g{i}", "p", "win" if won else "loss")
        for i, won in enumerate(truth)
    ]
    parquet.write(tmp_path / "labels.parquet", labels, HumanLabel)
    members = []
    for name in ("m1", "m2", "m3"):
        said = truth ^ (random.random(count) < 0.25)
        rows = [
            pair_judged(
                i,
                "win" if won else "loss",
                id=f"{name}{i}",
                ballots=(Ballot("none", "first" if won else "second"),),
                judge=name,
            )
            for i, won in enumerate(said)
        ]
        members.append(tmp_path / f"{name}.parquet")
        parquet.write(members[-1], rows, Judgement)
    options = jury.JuryOptions(Resampling(200))
    found = figures(jury.run(members, tmp_path / "jury", labels=tmp_path / "labels.parquet", options=options))
    kish = found[f"{KISH}, errors"]
    assert (kish.low or 0) < 3 < (kish.high or 9)
    assert kish.value == pytest.approx(3, abs=0.25)
    # Three judges right 3 times of 4, by majority: 0.75^3 + 3 x 0.75^2 x 0.25 = 0.84375.
    majority = [row for row in run_folder.read(tmp_path / "jury", Judgement) if row.judge == "jury of 3, majority"]
    right = np.mean([(row.outcome == "win") == truth[int(row.item[1:])] for row in majority])
    assert right == pytest.approx(0.84375, abs=0.02)
