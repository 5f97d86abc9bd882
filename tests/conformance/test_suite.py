"""The verb as a whole: adapters, the page, going on after a stop, claims of papers, the command."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from worlds_at_hand import estimator, reinforce

from perl_eval.conformance import ConformanceOptions, suite
from perl_eval.conformance.adapter_files import checked, read_adapter
from perl_eval.conformance.cell_work import Cell, fill
from perl_eval.conformance.kept_cells import DIAGNOSIS
from perl_eval.conformance.loss_verdicts import judge_biases, judge_estimator
from perl_eval.conformance.measured_bias import WorldFindings
from perl_eval.conformance.our_estimators import estimators
from perl_eval.conformance.paper_claims import measured_claims
from perl_eval.conformance.suite_worlds import CORNER, WORLDS
from perl_eval.errors import OptionError, UserError
from perl_eval.metrics.glossary import CONFORMANCE, POSTERIOR
from perl_eval.records import Estimate
from perl_eval.storage import run_folder

ADAPTER = """
from perl_eval.conformance import Batch, Estimator


def mine(batch: Batch):
    lr = (batch.log_probs - batch.prior).sum(1).detach()
    return -(batch.log_probs.sum(1) * (batch.rewards {sign} batch.beta * lr)).mean()


def estimators():
    return [Estimator("mine", "my trainer", "0.1", "kl", "-sum_t log pi(y_t) (r - beta log(pi / prior))", mine)]
"""
ONE = ("perl-eval kl_rl, kl=reward",)


def adapter(folder: Path, sign: str = "-") -> Path:
    path = folder / "my_adapter.py"
    path.write_text(ADAPTER.format(sign=sign), "utf-8")
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conformance")
    options = ConformanceOptions((adapter(folder, "+"),), (*ONE, "mine"), corner=True)
    return suite.run(folder / "out", options=options)


def test_the_verdicts_of_a_right_and_a_wrong_loss(measured: Path) -> None:
    told = json.loads((measured / suite.JSON_FILE).read_text("utf-8"))
    verdicts = {one["name"]: (one["verdict"], one["diagnosis"]["faults"]) for one in told["estimators"]}
    assert verdicts == {ONE[0]: ("unbiased", []), "mine": ("biased", ["sign of the KL"])}
    assert [world["name"] for world in told["worlds"]] == [world.name for world in CORNER]


def test_the_page_says_verdict_formula_and_versions(measured: Path) -> None:
    page = (measured / suite.PAGE_FILE).read_text("utf-8")
    assert "my trainer 0.1" in page
    assert "sign of the KL" in page
    for title in ("Verdicts", "Formulas", "Claims of papers", "Objectives", "Worlds"):
        assert f"## {title}" in page
    assert "2506.09477" in page
    assert "2512.21852" in page
    assert "2512.02556" in page


def test_every_figure_is_explained(measured: Path) -> None:
    names = {one.name for one in run_folder.read(measured, Estimate)}
    assert names == {*CONFORMANCE}
    assert all(one.value is None or math.isfinite(one.value) for one in run_folder.read(measured, Estimate))


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ConformanceOptions(only=ONE, corner=True)
    right, seen = suite.measure, []

    def stopping(one: object, shape: object) -> WorldFindings:
        seen.append(shape)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return right(one, shape)  # type: ignore[arg-type]

    monkeypatch.setattr(suite, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        suite.run(tmp_path / "out", options=options)
    assert len(list((tmp_path / "out" / run_folder.CHECKPOINT).iterdir())) == 1
    suite.run(tmp_path / "out", options=options)
    assert seen == [CORNER[0], CORNER[1], CORNER[1]]
    assert not (tmp_path / "out" / run_folder.CHECKPOINT).exists()


def test_several_processes_find_what_one_does(measured: Path, tmp_path: Path) -> None:
    options = ConformanceOptions((adapter(tmp_path, "+"),), (*ONE, "mine"), corner=True, processes=2)
    folder = suite.run(tmp_path / "out", options=options)
    assert (folder / suite.JSON_FILE).read_text("utf-8") == (measured / suite.JSON_FILE).read_text("utf-8")


def test_parts_that_are_kept_are_not_measured_again(tmp_path: Path) -> None:
    chosen, given = [one for one in estimators() if one.name in ONE], []

    def here_but_one(open_worker: Callable[[], Callable[[Cell], None]], pieces: Sequence[Cell]) -> Iterator[None]:
        given.append(pieces)
        return map(open_worker(), pieces[:-1])

    for _ in range(3):
        fill(tmp_path, chosen, CORNER, adapters=(), trained=False, executor=here_but_one)
    assert [[f"{cell.part}" for cell in pieces] for pieces in given] == [
        [f"{CORNER[0]}", f"{CORNER[1]}", DIAGNOSIS],
        [DIAGNOSIS],
        [DIAGNOSIS],
    ]


def test_processes_are_one_or_more(fails: Callable[[str], str], tmp_path: Path) -> None:
    assert "--processes" in fails(f"conformance --processes 0 --out {tmp_path / 'out'}")
    with pytest.raises(OptionError, match="processes"):
        ConformanceOptions(processes=0)


def test_the_whole_is_measured_with_the_end_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "WORLDS", CORNER[1:])
    folder = suite.run(tmp_path / "out", options=ConformanceOptions(only=ONE))
    told = json.loads((folder / suite.JSON_FILE).read_text("utf-8"))["estimators"][0]
    assert told["end"]["kl_to_target"] < 1e-6
    assert "## Where training ends" in (folder / suite.PAGE_FILE).read_text("utf-8")
    assert {one.name for one in run_folder.read(folder, Estimate)} <= {*CONFORMANCE, *POSTERIOR}


def test_claims_of_papers() -> None:
    verdicts = [(one.paper, one.verdict) for one in measured_claims()]
    contradicted = [one for one in verdicts if one[1] != "reproduced"]
    assert len(verdicts) == 11
    assert contradicted == [("2512.02556", "contradicted for sequences, reproduced for one token")]


def test_the_verdict_of_no_gradient() -> None:
    found = suite.measure(estimator(lambda batch: batch.log_probs.sum() * 0), CORNER[0])
    assert judge_estimator([found], "kl").word == "no gradient"
    assert judge_estimator([suite.measure(estimator(reinforce), CORNER[0])], "kl").word == "unbiased"
    halved = suite.measure(estimator(lambda batch: reinforce(batch) / 2), CORNER[0])
    assert judge_biases([("here", halved.bias)], "kl").word == "right direction"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "has no function `estimators`"),
        ("def estimators(): return 3", "gives no list of Estimator"),
        ("import no_such_trainer", "needs the package no_such_trainer"),
        ("def estimators(:", "line 1"),
    ],
)
def test_an_adapter_that_is_none_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError, match=said):
        read_adapter(path)


def test_an_adapter_reads_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_it_alone.py").write_text("from my_adapter_of_conformance import estimators", "utf-8")
    adapter(tmp_path).rename(tmp_path / "my_adapter_of_conformance.py")
    assert [one.name for one in read_adapter(tmp_path / "beside_it_alone.py")] == ["mine"]


def test_names_are_distinct_and_objectives_known() -> None:
    with pytest.raises(UserError, match="two estimators are called 'by hand'"):
        checked([estimator(reinforce), estimator(reinforce)])
    with pytest.raises(UserError, match="objective 'best' of 'by hand' is not known"):
        checked([estimator(reinforce, "best")])
    with pytest.raises(UserError, match="no estimator"):
        checked([])


def test_the_command(tmp_path: Path, fails: Callable[[str], str]) -> None:
    said = fails(f"conformance --adapter {tmp_path / 'none.py'} --out {tmp_path / 'out'}")
    assert "none.py" in said
    assert "no estimator is called nobody" in fails(f"conformance --only nobody --out {tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_the_suite_covers_the_corner() -> None:
    assert WORLDS[: len(CORNER)] == CORNER
