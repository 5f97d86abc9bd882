"""The verbs score, agree, audit, power and import on the command line, end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import Command
from contests import pair_judged

from perl_eval.records import Ballot, Completion, Estimate, HumanLabel, Judgement, Score
from perl_eval.storage import parquet, run_folder

Run = Callable[[str], tuple[int | None, str, str]]
VERDICTS = {"win": ("first", "second"), "loss": ("second", "first"), "split": ("first", "first")}


@pytest.fixture
def run(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return what runs a command line in a fresh folder; exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return lambda line: astuple(command(line))


def judgement(place: int, outcome: str, **changes: object) -> Judgement:
    ab, ba = VERDICTS[outcome]
    made: dict[str, object] = {
        "text_a": "x" * (place % 7 + 1),
        "text_b": "x" * (place % 5 + 1),
        "ballots": (Ballot("ab", ab), Ballot("ba", ba)),
        "judge": "j",
        "prompt_sha256": "",
    }
    return pair_judged(place, outcome, **(made | changes))


JUDGED = [judgement(place, ("win", "win", "loss", "split")[place % 4]) for place in range(80)]
LABELS = [
    HumanLabel(r.unit, r.item, r.group, person, "loss" if place % 7 == shift else "win")
    for shift, person in enumerate(("ann", "bob"))
    for place, r in enumerate(JUDGED[:60])
]


def figures(folder: str) -> dict[tuple[str, str], Estimate]:
    return {(one.subject, one.name): one for one in run_folder.read(Path(folder), Estimate)}


@pytest.fixture
def shelf(tmp_path: Path) -> None:
    """Lay out judgements and labels under short names."""
    parquet.write(tmp_path / "judged" / "judgements.parquet", JUDGED, Judgement)
    parquet.write(tmp_path / "people" / "labels.parquet", LABELS, HumanLabel)
    base = [replace(r, policy_a="base", a=f"c{r.a}", outcome="loss" if p % 3 else "win") for p, r in enumerate(JUDGED)]
    parquet.write(tmp_path / "base" / "judgements.parquet", base, Judgement)
    strong = [replace(r, judge="strong", outcome="win" if p % 3 else "loss") for p, r in enumerate(JUDGED[:40])]
    parquet.write(tmp_path / "strong" / "judgements.parquet", strong, Judgement)


def ends_in(shown: tuple[int | None, str, str], out: str) -> None:
    code, printed, err = shown
    assert code is None, (code, err)
    assert printed.splitlines()[-1] == out
    card = run_folder.read_card(Path(out))
    assert card is not None
    assert "estimates.parquet" in card.outputs


@pytest.mark.usefixtures("shelf")
def test_the_ending_of_a_report_says_its_form(run: Run) -> None:
    run("score judged --out scored")
    for name, form, start in (
        ("r.md", "", "# "),
        ("r.JSON", "", "{"),
        ("r.txt", "", "<!DOC"),
        ("r.md", "html", "<!DOC"),
    ):
        assert run(f"report scored --out {name}{form and f' --format {form}'}")[0] is None
        assert Path(name).read_text("utf-8").startswith(start), (name, form)


@pytest.mark.usefixtures("shelf")
def test_several_judge_runs_are_ranked_and_paired(run: Run) -> None:
    ends_in(run("score judged base --out out --level 0.9 --draws 100 --intervals bootstrap"), "out")
    found = figures("out")
    assert found["rl against sft, judge j", "win rate"].method == "percentile bootstrap, 100 draws of 80"
    assert ("base minus rl, both against sft, judge j", "McNemar p") in found
    assert found["rl, judge j", "strength"].level == 0.9


@pytest.mark.usefixtures("shelf")
def test_alpacas_figure_is_an_option(run: Run) -> None:
    ends_in(run("score judged --out out --length-control alpaca --draws 20"), "out")
    assert figures("out")["rl against sft, judge j", "win rate, AlpacaEval length control"].value is not None


@pytest.mark.usefixtures("shelf")
def test_agreement_corrects_by_labels_and_by_a_stronger_judge(run: Run) -> None:
    ends_in(run("agree judged people --out out --epsilon 0.2 --draws 50"), "out")
    found = figures("out")
    assert "epsilon 0.2" in found["judge j", "alt-test winning rate"].method
    assert found["judge j, person ann", "alt-test p, one person"].value is not None
    assert found["rl against sft, judge j", "win rate, corrected by PPI++"].n == 80
    ends_in(run("agree judged strong --out cascade --draws 50"), "cascade")
    found = figures("cascade")
    # 40 units by both: the strong judge says win where p % 3, the cheap one where p % 4 < 2.
    equal = sum((("win", "win", "loss", "tie")[p % 4]) == ("win" if p % 3 else "loss") for p in range(40))
    assert found["judge j, by judge strong", "judge-judge exact agreement"].value == pytest.approx(equal / 40)
    assert found["rl against sft, judge j, by judge strong", "win rate, corrected by PPI++"].n == 80


def test_a_table_of_ratings(run: Run, tmp_path: Path) -> None:
    rows = [
        {"doc": u, "who": r, "stars": 1 + (u + (u % 3 == 0) * i) % 5} for u in range(30) for i, r in enumerate("pq")
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "ratings.csv", index=False)
    columns = "--column unit=doc --column rater=who --column label=stars"
    ends_in(run(f"agree ratings.csv {columns} --scale ordinal --out out --draws 50"), "out")
    found = figures("out")
    assert found["", "exact agreement"].value == pytest.approx(2 / 3)
    assert found["p with q", "Spearman rho"].n == 30
    assert ("", "Krippendorff alpha, ordinal") in found
    more = [{"doc": u, "who": r, "stars": 1 + u % 5} for u in range(40) for r in ("ann", "bob", "cas", "bot")]
    pd.DataFrame(more).to_csv(tmp_path / "more.csv", index=False)
    ends_in(run(f"agree more.csv {columns} --scale interval --judge-rater bot --out stands --draws 50"), "stands")
    assert figures("stands")["judge bot", "alt-test winning rate"].value == 1.0
    assert figures("stands")["judge bot", "alt-test winning rate, constant judge"].value == 0.0
    ends_in(run(f"agree more.csv {columns} --judge-rater bot --out labels --draws 50"), "labels")
    assert figures("labels")["judge bot", "alt-test passes"].value == 1.0
    code, out, err = run(f"agree more.csv {columns} --judge-rater robot --out other")
    assert (code, out) == (2, "")
    assert "no rater is called 'robot'; choose from ann, bob, bot, cas" in err
    code, out, err = run("agree ratings.csv --out other")
    assert (code, out) == (2, "")
    assert "field 'unit': no such column; present are doc, who, stars" in err


@pytest.mark.usefixtures("shelf")
def test_a_report_card_and_the_alarm(run: Run, tmp_path: Path) -> None:
    code, printed, _ = run("audit judged people --again judged --family SFT --out paper --draws 50")
    assert code is None
    assert "# Report card of judge j" in printed
    assert "| same outcome when asked again | 1 |" in printed
    assert (tmp_path / "paper" / "anchors.parquet").is_file()
    # The judge of today says the same: no alarm. Tomorrow's calls every third pair the other way: alarm, exit code 1.
    ends_in(run("audit judged --anchors paper --out quiet"), "quiet")
    turned = [replace(r, outcome="loss" if r.outcome == "win" else "win") if p % 3 else r for p, r in enumerate(JUDGED)]
    parquet.write(tmp_path / "tomorrow" / "judgements.parquet", turned, Judgement)
    code, _, err = run("audit tomorrow --anchors paper/anchors.parquet --out loud")
    assert code == 1
    assert err == "alarm: judge j no longer judges as it did\n"
    assert figures("loud")["judge j", "drift alarm"].value == 1
    # A folder of 0.1 has its page under another name; the same command shows it.
    card = tmp_path / "paper" / "run.json"
    card.write_text(card.read_text("utf-8").replace("report-card.md", "passport.md"), "utf-8")
    (tmp_path / "paper" / "report-card.md").rename(tmp_path / "paper" / "passport.md")
    code, again, _ = run("audit judged people --again judged --family SFT --out paper --draws 50")
    assert (code, again) == (None, printed)


@pytest.mark.usefixtures("shelf")
def test_a_plan_from_a_pilot(run: Run) -> None:
    ends_in(run("power --pilot judged --labels people --half-width 0.05 --detect 0.2 --price 0.01 --out out"), "out")
    assert figures("out")["taken", "decided share"].value == pytest.approx(0.75)
    ends_in(run("power --rate 0.907 --items 50 --out paper"), "paper")
    assert figures("paper")["", "observed rate"].low == pytest.approx(0.795, abs=5e-4)


def test_other_tools_files(run: Run, tmp_path: Path) -> None:
    rows = [{"q": f"q{p}", "verdict_ab": "A", "verdict_ba": "A" if p % 2 else "B", "doc": p // 2} for p in range(8)]
    pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
    code, _, err = run("import pairs.csv --form outcomes --column group=doc --out judged")
    assert code is None, err
    judged = run_folder.read(Path("judged"), Judgement)
    assert [record.outcome for record in judged[:2]] == ["split", "win"]
    assert judged[1].group == "0"
    ends_in(run("score judged --out out"), "out")
    assert figures("out")["a against b, judge unnamed", "first in both orders"].value == 4
    code, _, err = run("import pairs.csv --form table --out labels")
    assert code == 2
    assert "row 0, field 'label': no such column; present are q, verdict_ab, verdict_ba, doc" in err


def test_scores_with_and_without_a_run_folder(run: Run, tmp_path: Path) -> None:
    pd.DataFrame({"s": [2, -1, 3, -2], "y": [1, 0, 0, 0]}).to_parquet(tmp_path / "scores.parquet")
    ends_in(run("score scores.parquet --column score=s --column label=y --out out --draws 50"), "out")
    assert figures("out")["", "accuracy"].value == pytest.approx(3 / 4)
    pairs = [
        Score("r", "r", "g", "", f"reward {which}", value) for which, value in (("chosen", 1.0), ("rejected", 0.0))
    ]
    parquet.write(tmp_path / "reward" / "scores.parquet", pairs, Score)
    ends_in(run("score reward --out held"), "held")
    assert figures("held")["reward", "pair accuracy"].value == 1.0


def test_completions_with_known_answers(run: Run, tmp_path: Path) -> None:
    people = [{"answer": "red"}] * 10
    row = {"id": "q", "answers": people, "question_type": "what", "answer_type": "other"}
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows" / "train.parquet")
    for policy, text in (("rl", "red"), ("sft", "blue")):
        one = Completion(policy, "q", "g", "d", policy, (), text, "stop", 0)
        parquet.write(tmp_path / policy / "completions.parquet", [one], Completion)
    ends_in(run("score rl --data rows --against sft --out out"), "out")
    assert figures("out")["rl minus sft", "VQA accuracy difference"].value == 1.0


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("score judged --rule any_box --out out", "--rule is not for judgements"),
        ("score judged people/labels.parquet --out out", "labels.parquet"),
        ("score judged --level 1.5 --out out", "--level is 1.5; give a number in (0, 1), such as 0.95"),
        (
            "score judged --intervals magic --out out",
            "--intervals 'magic' is not known; choose from analytic, bootstrap",
        ),
        ("score judged --draws 0 --out out", "Invalid value for '--draws'"),
        ("agree judged people --scale ordinal --out out", "--scale is for a table of ratings"),
        ("agree judged people --judge-rater j --out out", "--judge-rater is for a table of ratings"),
        ("agree judged --out out", "judged is a folder; give a .parquet, .csv or .jsonl file"),
        ("audit judged --out out", "an audit needs human labels"),
        ("audit judged people --anchors paper --out out", "LABELS is not for --anchors"),
        ("power --out out", "nothing to compute is given"),
        ("power --half-width 2 --out out", "--half-width is 2.0"),
        ("power --pilot nothing --detect 0.1 --out out", "nothing"),
        ("import nothing.csv --out out", "no such file"),
        (
            "import judged --form excel --out out",
            "--form 'excel' is not known; choose from auto, table",
        ),
    ],
)
def test_a_mistake_in_figures_is_one_line(run: Run, line: str, said: str) -> None:
    code, out, err = run(line)
    assert (code, out) == (2, ""), (code, out, err)
    assert said in err
    assert len(err.splitlines()) == 1
    assert not Path("out/run.json").exists()
