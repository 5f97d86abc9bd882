"""Finished runs of before are still recognised: what stands on a card does not change with the options' classes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from test_audit import GIVEN, JUDGED

from perl_eval.judging import jury
from perl_eval.metrics.judgement_estimates import ScoreOptions
from perl_eval.records import Estimate, HumanLabel, Judgement
from perl_eval.scoring import agree, audit, power, score
from perl_eval.scoring.audit_options import AuditOptions
from perl_eval.stats.bootstrap import Resampling
from perl_eval.storage import parquet, run_folder

HOW = Resampling(20, 3, 0.9)
BOOTSTRAP = {"level": 0.9, "draws": 20, "seed": 3}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    parquet.write(tmp_path / "judged.parquet", JUDGED, Judgement)
    parquet.write(tmp_path / "labels.parquet", GIVEN, HumanLabel)
    return tmp_path / "judged.parquet", tmp_path / "labels.parquet"


def arguments(folder: Path) -> dict[str, Any]:
    card = run_folder.read_card(folder)
    assert card is not None
    return {name: value for name, value in card.arguments.items() if not str(value).endswith(".parquet")}


def test_cards_hold_level_draws_and_seed_beside_the_rest(files: tuple[Path, Path], tmp_path: Path) -> None:
    judged, labels = files
    assert arguments(score.run(judged, tmp_path / "s", options=ScoreOptions(HOW))) == {
        **BOOTSTRAP,
        "intervals": "analytic",
        "length_control": "ratio",
        "gamed": None,
        "style": False,
    }
    agreed = agree.run(judged, labels, tmp_path / "a", options=agree.AgreeOptions(HOW, 0.2))
    assert arguments(agreed) == {**BOOTSTRAP, "epsilon": 0.2}
    audited = audit.run(judged, labels, tmp_path / "p", options=AuditOptions(HOW, 0.2, ("rl",)))
    assert arguments(audited) == {**BOOTSTRAP, "epsilon": 0.2, "family": ["rl"]}
    assert run_folder.flat(jury.JuryOptions(HOW)) == BOOTSTRAP
    planned = power.run(power.Wanted(pairs=9), tmp_path / "w", pilot=power.Pilot(price_usd=0.5))
    assert arguments(planned) == {
        **asdict(power.Wanted(pairs=9)),
        **{"decided": None, "difference": None, "correlation": None, "cost_per_call_usd": 0.5},
        **{"level": 0.95, "power": 0.8, "calls_per_pair": 2, "judged": None},
    }


def test_agreement_is_by_its_posterior_whatever_the_resampling_says(files: tuple[Path, Path], tmp_path: Path) -> None:
    judged, labels = files
    agreed = agree.run(judged, labels, tmp_path / "a", options=agree.AgreeOptions(HOW))
    audited = audit.run(judged, labels, tmp_path / "p", options=AuditOptions(HOW))
    for folder in (agreed, audited):
        ways = {one.method for one in run_folder.read(folder, Estimate) if one.name == "human-judge Cohen kappa"}
        assert ways
        assert all(way.startswith("Dirichlet posterior, 20 draws of ") for way in ways)
