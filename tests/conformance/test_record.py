"""The record of a run in the docs: what was run, the tables, and the JSON, each as the run folder has it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from perl_eval.conformance import ConformanceOptions, suite

ROOT = Path(__file__).parents[2]
ONE = "perl-eval kl_rl, kl=reward"


@pytest.fixture(scope="module")
def record() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record", ROOT / "benchmarks" / "conformance" / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_is_recorded(record: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = suite.run(tmp_path / "run", options=ConformanceOptions(only=(ONE,), corner=True))
    page = tmp_path / "conformance_results.md"
    page.write_text(
        f"# Title\n\n{record.BEGIN}\nold\n{record.END}\n\nBy hand.\n\n{record.TABLES}\n\nold tables\n", "utf-8"
    )
    monkeypatch.setattr(record, "DOCS", tmp_path)
    record.main([str(run), "--commit", "abc1234", "--processes", "2", "--minutes", "7"])
    told = page.read_text("utf-8")
    assert "another run" not in told
    assert "other tables" not in told
    assert "commit abc1234" in told
    assert "in 7 minutes by 2 processes: 2 worlds, no training." in told
    assert f"--corner \\\n  --only '{ONE}'" in told
    assert told.index("By hand.") < told.index(record.TABLES) < told.index("## Verdicts")
    found = json.loads((tmp_path / "conformance.json").read_text("utf-8"))
    whole = json.loads((run / suite.JSON_FILE).read_text("utf-8"))
    assert found["run"]["commit"] == "abc1234"
    assert [one["name"] for one in found["estimators"]] == [ONE]
    bias = whole["estimators"][0]["worlds"][0]["variance"]
    assert found["estimators"][0]["worlds"][0]["variance"] == pytest.approx(bias, rel=1e-3)


def test_the_recorded_page_and_json_are_of_one_run(record: ModuleType) -> None:
    found = json.loads((ROOT / "docs" / "conformance.json").read_text("utf-8"))
    page = (ROOT / "docs" / "conformance_results.md").read_text("utf-8")
    told = page[page.index(record.BEGIN) : page.index(record.END)]
    assert f"commit {found['run']['commit']}" in told
    assert f"{len(found['estimators'])} losses of {len(found['run']['versions'])} packages" in told
    assert all(f"- **{one['name'].split()[0]}" in page.replace("\\", "") for one in found["estimators"])
    assert page.count("\n- **") - page[: page.index(record.TABLES)].count("\n- **") == len(found["estimators"])
