"""``agree --on`` and ``audit --on``: from a data set's name, or a folder of rows, to the figures."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import tiny_models
from command_line import Command

from datasets_builders.judgebench import JudgeBench
from datasets_builders.sources import Source
from perl_eval import figure_names
from perl_eval.cli import on_options
from perl_eval.errors import UserError
from perl_eval.records import Estimate, HumanLabel, Judgement, Message
from perl_eval.sources.rows import read
from perl_eval.storage import run_folder
from perl_eval.verbs.on_rows import rows_of


def question(place: int) -> dict[str, object]:
    """Return an upstream row whose longer answer is the right one in three of four."""
    right, wrong = ("x" * 9, "x") if place % 4 else ("x", "x" * 9)
    first = place % 2 == 0
    return {
        **{"pair_id": f"p{place}", "original_id": None, "source": "s", "question": f"q{place}", "response_model": "m"},
        **{"response_A": right if first else wrong, "response_B": wrong if first else right},
        "label": "A>B" if first else "B>A",
    }


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small file in JudgeBench's layout, which the builder takes for upstream's."""
    text = "".join(json.dumps(question(place)) + "\n" for place in range(40))
    path = tmp_path / "upstream" / "gpt.jsonl"
    path.parent.mkdir()
    path.write_text(text)
    source = Source("gpt.jsonl", "https://example.org/gpt.jsonl", sha256=hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setattr(JudgeBench, "FILES", {"gpt": source})
    monkeypatch.setattr(JudgeBench, "COUNTS", {"pairs": {"test": 40}})
    return path.parent


def figure(folder: Path, name: str) -> float | None:
    (found,) = [one.value for one in run_folder.read(folder, Estimate) if one.name == name]
    return found


def test_a_data_sets_name_is_built_judged_and_held_against_its_labels(
    command: Command, upstream: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = f"agree --on judgebench --data-dir {upstream} --judge scripted:length --out {out} --draws 50"
    shown = command(line)
    assert shown.code is None
    assert shown.out.endswith(f"{out}/agree\n")
    assert "judgebench, preference" in shown.out
    assert sorted(path.name for path in out.iterdir()) == ["agree", "judged", "recorded", "rows"]
    # Thirty of forty right answers are the longer ones.
    assert figure(out / "agree", figure_names.HUMAN_JUDGE_EXACT_AGREEMENT_MAJORITY) == 0.75
    card = run_folder.read_card(out / "judged")
    assert card is not None
    assert card.arguments["prompt"] == "preference"


def test_the_same_command_goes_on_where_it_stopped(command: Command, upstream: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = f"agree --on judgebench --data-dir {upstream} --judge scripted:length --out {out} --draws 50"
    first = command(line)
    before = {name: (out / name / "run.json").stat().st_mtime_ns for name in ("rows", "recorded", "judged")}
    shutil.rmtree(out / "agree")
    again = command(line)
    assert again.code is None
    assert {name: (out / name / "run.json").stat().st_mtime_ns for name in before} == before
    assert again.out[again.out.index("judgebench, preference") :] == first.out[first.out.index("judgebench, pref") :]
    other = command(f"{line} --limit 5")
    assert other.code == 2
    assert "judged holds the output of another `judge` run: limit was None and is now 5" in other.err


def test_a_judges_report_card_needs_no_labels_of_ones_own(command: Command, upstream: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = command(
        f"audit --on judgebench --data-dir {upstream} --judge scripted:length --out {out} --draws 50 --limit 20"
    )
    assert shown.code is None
    assert shown.out.startswith("# ") or "# Report card of judge length" in shown.out
    assert (out / "audit" / "report-card.md").is_file()
    assert len(run_folder.read(out / "judged", Judgement)) == 20


def test_a_folder_of_rows_is_taken_as_it_is(command: Command, tmp_path: Path) -> None:
    data = tiny_models.write_rows(tmp_path / "data" / "pairs", train=tiny_models.preferences(0, 12))
    tail = f"--judge scripted:length --draws 50 --out {tmp_path}"
    for place, what in enumerate((data, data.parent)):
        assert command(f"agree --on {what} {tail}/{place}").code is None
        assert not (tmp_path / str(place) / "rows").exists()
    tiny_models.write_rows(tmp_path / "data" / "more", train=tiny_models.preferences(1, 12))
    shown = command(f"agree --on {data.parent} {tail}/2")
    assert (shown.code, shown.err) == (
        2,
        f"error: {data.parent} has several configs; give --config with one of more, pairs"
        " (see `perl-eval docs labelling#labels-from-elsewhere`)\n",
    )
    assert command(f"agree --on {data.parent} --config more {tail}/2").code is None


def test_ratings_are_judged_alone(command: Command, tmp_path: Path) -> None:
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.ratings(0, 20))
    line = f"agree --on {data} --judge scripted:length --draws 50 --out {tmp_path}/out"
    shown = command(line)
    assert shown.code == 2
    assert f"prompt 'preference' compares two answers, and {data} has ratings of one; give a --prompt that" in shown.err
    assert command(f"{line} --prompt harmful").code is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("agree --on nowhere --judge scripted:length", "nowhere is neither a file, a folder nor a data set"),
        ("agree --on {file} --judge scripted:length", "row 0, field 'prompt': has neither prompt, messages, text"),
        ("agree --on {data}", "--judge is missing; give one, such as --judge chat:MODEL"),
        ("agree --on {data} --judge scripted:length --judge scripted:constant", "2 judges are given"),
        ("agree --on {data} --judge scripted:length --data-dir {data}", "is not a data set that --data-dir is for"),
        ("agree --on {data} --config x --judge scripted:length", "has no config 'x'; leave out --config"),
        ("agree --on {data} --split dev --judge scripted:length", "has no split 'dev'"),
        ("agree {data} --on {data} --judge scripted:length", "are not for --on"),
        ("agree {data} {data} --judge scripted:length", "--judge is for --on"),
        ("agree", "no judgements are given"),
        ("audit", "no judgements are given"),
        ("audit {data} {data} --config x", "--config is for --on"),
        ("audit --on {data} --again {data} --judge scripted:length", "--again is not for --on"),
    ],
)
def test_what_does_not_fit_is_one_line(command: Command, tmp_path: Path, line: str, said: str) -> None:
    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.preferences(0, 4))
    file = tmp_path / "data.jsonl"
    file.write_text("{}")
    shown = command(f"{line.format(data=data, file=file)} --out {tmp_path}/out")
    assert shown.code == 2
    assert said in shown.err
    assert "Traceback" not in shown.err


def test_the_seed_decides_which_answers_are_a(command: Command, tmp_path: Path) -> None:
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.preferences(0, 20))
    labels = []
    for seed in (0, 1):
        line = f"agree --on {data} --judge scripted:length --draws 20 --seed {seed} --out {tmp_path}/{seed}"
        assert command(line).code is None
        labels.append([one.label for one in run_folder.read(tmp_path / str(seed) / "recorded", HumanLabel)])
    assert labels[0] != labels[1]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_that_are_not_judged_are_said(command: Command, tmp_path: Path) -> None:
    good = [{"prompt": f"q{n}", "chosen": "x" * (n + 2), "rejected": "x"} for n in range(8)]
    same = {"prompt": "q", "chosen": "a", "rejected": "a"}
    file = write(tmp_path / "p.jsonl", [*good, good[0], same, same])
    shown = command(f"agree --on {file} --judge scripted:length --draws 20 --out {tmp_path}/out")
    assert shown.code is None
    assert "2 rows of which both answers are the same text" in shown.err
    assert "1 row of which all is the same as in an earlier row" in shown.err
    assert len(run_folder.read(tmp_path / "out" / "recorded", HumanLabel)) == 8
    votes = write(tmp_path / "v.jsonl", [{**good[0], "pair": "p"}] * 2 + good[1:])
    assert command(f"agree --on {votes} --judge scripted:length --draws 20 --out {tmp_path}/v").code is None
    assert len(run_folder.read(tmp_path / "v" / "recorded", HumanLabel)) == 9


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"prompt": "q", "chosen": "a", "rejected": "a"}],
            "has no rows to judge: in 1 both answers are the same text",
        ),
        ([{"prompt": "q", "completion": "a"}], "it has neither chosen and rejected, nor completion and label"),
        ([{"prompt": "q", "chosen": "a"}], ", row 0, field 'rejected': is missing, and chosen is there"),
        (
            [{"prompt": "q", "completion": "a", "label": True}, {"prompt": "r", "completion": "a"}],
            ", row 1, field 'label': is empty",
        ),
    ],
)
def test_what_rows_lack_is_told_of_the_file_that_was_named(
    command: Command, tmp_path: Path, rows: list[dict[str, object]], said: str
) -> None:
    file = write(tmp_path / "p.jsonl", rows)
    shown = command(f"agree --on {file} --judge scripted:length --out {tmp_path}/out")
    assert shown.code == 2
    assert said in shown.err
    assert f"error: {file}" in shown.err
    assert f"{tmp_path}/out" not in shown.err


def test_columns_of_any_name_are_judged(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "good": "a" * (n + 2), "bad": "b"} for n in range(3)]
    file = str(write(tmp_path / "p.jsonl", list(rows)))
    known = on_options.known(file, "", "", None, 0, ["prompt=question", "chosen=good", "rejected=bad"])
    folder, split = rows_of(known, tmp_path / "out")
    assert [row.rejected for row in read(folder, split)] == [(Message("assistant", "b"),)] * 3
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.preferences(0, 4))
    with pytest.raises(UserError, match="--column is for rows of a file"):
        rows_of(on_options.known(str(data), "", "", None, 0, ["prompt=question"]), tmp_path / "out2")
