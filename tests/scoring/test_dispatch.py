"""The verb `score` decides by what it is given, alike from Python and as typed, and refuses what is odd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_score import PAIRS

import perl_eval as pe
from perl_eval.errors import OptionError, UserError
from perl_eval.metrics.judgement_estimates import ScoreOptions
from perl_eval.records import Completion, Estimate, HumanLabel, Judgement, Score, unit_of
from perl_eval.scoring import dispatch, diversity, outcome_table, rewards, score, tasks
from perl_eval.scoring.dispatch import ScoreBeside, ScoringOptions
from perl_eval.stats.bootstrap import Resampling
from perl_eval.storage import parquet, run_folder

HOW = Resampling(50, 1, 0.9)
SCORES = [2.0, 1.0, -1.0, 0.5]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, the one worked in, with one of each thing that can be scored and what can stand beside it."""
    monkeypatch.chdir(tmp_path)
    for name, policy in (("judged", "rl"), ("again", "rl2")):
        records = [replace(record, policy_a=policy) for record in PAIRS]
        parquet.write(tmp_path / name / "judgements.parquet", records, Judgement)
    for policy, text in (("rl", "red"), ("sft", "blue")):
        answers = [Completion(f"{policy}{i}", f"q{i}", f"g{i}", "d", policy, (), text, "stop", 0) for i in range(4)]
        parquet.write(tmp_path / policy / "completions.parquet", answers, Completion)
    rows = [
        {"id": f"q{i}", "answers": [{"answer": "red"}] * 10, "question_type": "what", "answer_type": "other"}
        for i in range(4)
    ]
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows" / "train.parquet")
    scores = [Score(f"rl{i}", f"q{i}", f"g{i}", "rl", "reward", value) for i, value in enumerate(SCORES)]
    parquet.write(tmp_path / "reward" / "scores.parquet", scores, Score)
    people = [HumanLabel(unit_of(f"rl{i}"), f"q{i}", f"g{i}", "ann", "yes" if i < 2 else "no", True) for i in range(4)]
    parquet.write(tmp_path / "people" / "labels.parquet", people, HumanLabel)
    pd.DataFrame({"s": SCORES, "label": [1, 1, 0, 0]}).to_csv(tmp_path / "scores.csv", index=False)
    pd.DataFrame({"outcome": ["win", "loss", "tie", "win"]}).to_csv(tmp_path / "outcomes.csv", index=False)
    return tmp_path


def estimates(folder: Path) -> list[Estimate]:
    return run_folder.read(folder, Estimate)


Own = Callable[[Path], Path]
CASES: list[Any] = [
    (
        "judged again --intervals bootstrap",
        (ScoreBeside(), {"intervals": "bootstrap"}),
        lambda out: score.run([Path("judged"), Path("again")], out, options=ScoreOptions(HOW, "bootstrap")),
    ),
    ("rl", (ScoreBeside(), {}), lambda out: diversity.run_diversity(Path("rl"), out, options=ScoreOptions(HOW))),
    (
        "rl --data rows --against sft",
        (ScoreBeside(data=Path("rows"), against=Path("sft")), {}),
        lambda out: tasks.run(
            Path("rl"),
            Path("rows"),
            out,
            beside=tasks.Beside(Path("sft")),
            options=tasks.TaskOptions(resampling=HOW),
        ),
    ),
    (
        "reward --labels people",
        (ScoreBeside(labels=Path("people")), {}),
        lambda out: rewards.run(
            Path("reward"), out, labels=Path("people"), options=rewards.QualityOptions(resampling=HOW)
        ),
    ),
    (
        "scores.csv --column score=s",
        (ScoreBeside(), {"column": {"score": "s"}}),
        lambda out: rewards.run_table(
            Path("scores.csv"),
            out,
            columns=rewards.ScoreColumns("s"),
            options=rewards.QualityOptions(resampling=HOW),
        ),
    ),
    (
        "outcomes.csv --intervals bootstrap",
        (ScoreBeside(), {"intervals": "bootstrap"}),
        lambda out: outcome_table.run_table(Path("outcomes.csv"), out, options=ScoreOptions(HOW, "bootstrap")),
    ),
]


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(("line", "given", "own"), CASES, ids=[line for line, *_ in CASES])
def test_the_command_python_and_the_verb_of_its_kind_say_the_same(
    line: str, given: tuple[ScoreBeside, dict[str, Any]], own: Own, command: Callable[[str], Any]
) -> None:
    wanted = estimates(own(Path("own")))
    assert wanted
    beside, changes = given
    sources = [Path(word) for word in line.partition(" --")[0].split()]
    options = ScoringOptions(HOW, **changes)
    assert estimates(dispatch.run(sources, Path("python"), beside=beside, options=options)) == wanted
    assert list(pe.score(*sources, beside=beside, options=options)) == wanted
    shown = command(f"score {line} --level 0.9 --draws 50 --seed 1 --out typed")
    assert shown.code is None, shown.err
    assert estimates(Path("typed")) == wanted
    cards = [run_folder.read_card(Path(name)) for name in ("own", "python", "typed")]
    assert len({repr((card.verb, card.arguments)) for card in cards if card is not None}) == 1


@pytest.mark.parametrize(
    ("source", "name", "value", "what"),
    [
        ("judged", "data", "rows", "judgements"),
        ("judged", "labels", "people", "judgements"),
        ("judged", "scale", "probability", "judgements"),
        ("judged", "rule", "any_box", "judgements"),
        ("rl", "against", "sft", "completions without --data"),
        ("rl", "intervals", "bootstrap", "completions without --data"),
        ("rl --data rows", "labels", "people", "completions with --data"),
        ("reward", "judged", "judged", "scores of a run folder"),
        ("reward", "length_control", "alpaca", "scores of a run folder"),
        ("scores.csv --column score=s", "labels", "people", "a table of scores"),
        ("scores.csv --column score=s", "intervals", "bootstrap", "a table of scores"),
        ("outcomes.csv", "gamed", "scores.csv", "a table of outcomes"),
        ("outcomes.csv", "scale", "probability", "a table of outcomes"),
    ],
)
def test_what_means_nothing_is_refused_in_the_words_that_were_given(
    source: str, name: str, value: str, what: str, shelf: Path, fails: Callable[[str], str]
) -> None:
    flag = f"--{name.replace('_', '-')}"
    assert fails(f"score {source} {flag} {value} --out out") == (
        f"error: {flag} is not for {what}; leave the option out (see `perl-eval score --help`)\n"
    )
    path, *words = source.split()
    beside = {"data": Path("rows")} if "--data" in words else {}
    changes: dict[str, Any] = {"column": {"score": "s"}} if "--column" in words else {}
    if name in ("data", "against", "judged", "labels"):
        beside[name] = Path(value)
    else:
        changes[name] = (value,) if name == "rule" else value
    with pytest.raises(OptionError, match=f"^{name} is not for "):
        dispatch.run(Path(path), shelf / "out", beside=ScoreBeside(**beside), options=ScoringOptions(**changes))
    assert not (shelf / "out").exists()


@pytest.mark.usefixtures("shelf")
def test_one_source_only_but_of_judgements(fails: Callable[[str], str]) -> None:
    said = "2 sources are given; several are for judgements only; give one"
    assert said in fails("score rl sft --out out")
    with pytest.raises(UserError, match=said):
        dispatch.run([Path("reward"), Path("reward")], Path("out"))
    with pytest.raises(UserError, match="nothing is given"):
        dispatch.run([], Path("out"))
    with pytest.raises(UserError, match=r"rl has no judgements\.parquet"):
        dispatch.run([Path("judged"), Path("rl")], Path("out"))


def test_columns_are_named_as_the_table_is(shelf: Path) -> None:
    for wrong in ({"colour": "s"}, {"score": ""}, ("score",)):
        with pytest.raises(OptionError, match=r"^column is '.*'; give NAME=COLUMN, NAME one of score, label"):
            dispatch.run(shelf / "scores.csv", shelf / "out", options=ScoringOptions(column=wrong))


def test_the_kind_of_a_file_is_told_by_its_columns(shelf: Path) -> None:
    for kind, folder in ((Judgement, "judged"), (Completion, "rl"), (Score, "reward")):
        held = shelf / folder / run_folder.FILES[kind]
        assert dispatch.kind_of_source(shelf / folder) is dispatch.kind_of_source(held) is kind
        renamed = held.rename(shelf / f"{folder}.parquet")
        assert dispatch.kind_of_source(renamed) is kind
    pd.read_csv(shelf / "outcomes.csv").to_parquet(shelf / "table.parquet")
    assert dispatch.kind_of_source(shelf / "table.parquet") is None
    assert dispatch.kind_of_source(shelf / "scores.csv") is None
    (shelf / "broken.parquet").write_text("no table")
    for left in ("broken.parquet", "nothing", "people"):
        assert dispatch.kind_of_source(shelf / left) is Judgement
