"""Files of two strangers, judged in one command; what cannot be judged is said before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perl_eval.records import Completion, Estimate, Judgement
from perl_eval.storage import run_folder

ASKED = [f"Name {n} colours." for n in range(1, 9)]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = [{"instruction": asked, "output": "red, green, blue", "generator": "one"} for asked in ASKED]
    Path("one.json").write_text(json.dumps(outputs), "utf-8")
    turns = [[{"role": "user", "content": asked}, {"role": "assistant", "content": "No."}] for asked in ASKED]
    Path("two.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns), "utf-8")


def test_from_two_files_to_a_win_rate(command: Callable[[str], Any]) -> None:
    shown = command("judge one.json two.jsonl --judge scripted:length --prompt helpful --out judged")
    assert shown.code is None
    assert "one.json: table, 8 answers of one; derived: dataset, group, id, item" in shown.err
    judged = run_folder.read(Path("judged"), Judgement)
    assert {(one.policy_a, one.policy_b, one.outcome) for one in judged} == {("one", "two", "win")}


def test_a_prompt_of_another_kind_is_said_before_weights_are_loaded(fails: Callable[[str], str]) -> None:
    said = fails("judge one.json two.jsonl --judge local:no-such-model --prompt harmful --out judged")
    assert "prompt 'harmful' asks a yes_no question" in said
    assert not Path("judged").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--column prompt", "--column is 'prompt'; give NAME=COLUMN"),
        ("--column asked=instruction", "--column is 'asked', which no completion has; choose from prompt"),
        ("--format alpaca", "--format is 'alpaca'"),
        ("--column text=reply", "one.json, row 0, field 'reply': no such column; present are instruction"),
    ],
)
def test_mistakes_about_files_are_told_as_typed(fails: Callable[[str], str], typed: str, said: str) -> None:
    assert said in fails(f"judge one.json two.jsonl --judge scripted:length --prompt helpful --out judged {typed}")


JUDGING = "--judge scripted:length --prompt helpful --out judged"


def test_columns_that_no_format_knows(command: Callable[[str], Any]) -> None:
    for name in ("a", "b"):
        Path(f"{name}.csv").write_text(f"my prompt,the text\nq,{name * 3}\n", "utf-8")
    columns = "--column 'prompt=my prompt' --column 'text=the text'"
    assert command(f"import a.csv {columns} --out taken").code is None
    assert command(f"judge a.csv b.csv {columns} {JUDGING}").code is None


def test_a_column_is_for_the_files_that_have_it(command: Callable[[str], Any]) -> None:
    Path("a.csv").write_text("prompt,reply\nq,a long answer\n", "utf-8")
    Path("b.csv").write_text("prompt,text\nq,b\n", "utf-8")
    assert "1 judged: 1 win" in command(f"judge a.csv b.csv --column text=reply {JUDGING}").out


def test_one_file_for_both_sides_is_refused_before_anything_is_asked(command: Callable[[str], Any]) -> None:
    Path("sheet.csv").write_text("prompt,old,new\nq,b,a long answer\n", "utf-8")
    shown = command(f"judge sheet.csv ./sheet.csv --column text=new {JUDGING}")
    assert shown.code == 2
    assert "each answer would be judged against itself: both sides have the same texts of the same policy" in shown.err
    assert not list(Path().rglob("judgements.parquet"))
    for name in ("old", "new"):
        assert command(f"import sheet.csv --column text={name} --policy {name} --out runs/{name}").code is None
    assert "new against old: win rate 1.00" in command(f"judge runs/new runs/old {JUDGING}").out


def test_the_end_names_policies_and_rate_and_who_had_no_partner(command: Callable[[str], Any]) -> None:
    few = json.loads(Path("one.json").read_text("utf-8"))[:5]
    Path("few.json").write_text(json.dumps(few), "utf-8")
    shown = command(f"judge few.json two.jsonl {JUDGING}")
    assert "3 answers of two have no partner" in shown.err
    assert "one against two: win rate 1.00 (" in shown.out
    assert ", loss rate 0.00, undecided rate 0.00, n = 5; see `perl-eval score judged`" in shown.out
    assert "1 request, 0 answers" in shown.out
    command("score judged --out scored")
    rate = next(one for one in run_folder.read(Path("scored"), Estimate) if one.name == "win rate")
    assert f"win rate {rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})" in shown.out


def test_names_in_files_do_not_steer_the_terminal(command: Callable[[str], Any]) -> None:
    rows = json.loads(Path("one.json").read_text("utf-8"))
    evil = "x\x1b[2J\u202ey\u2028z\nw"
    Path("evil.json").write_text(json.dumps([{**row, "generator": evil} for row in rows]), "utf-8")
    typed = (f"judge evil.json two.jsonl {JUDGING}", "score judged --out scored", "import evil.json --out taken")
    for shown in map(command, typed):
        assert shown.code is None
        written = shown.out + shown.err
        assert not [part for part in ("\x1b[2J", "\u202e", "\u2028", "\nw") if part in written]
        assert "x\\x1b[2J" in written


def test_one_file_of_two_policies_is_judged_against_itself(command: Callable[[str], Any]) -> None:
    rows = [{"prompt": asked, "text": name * 3, "model": name} for asked in ASKED for name in ("x", "yy")]
    Path("both.json").write_text(json.dumps(rows), "utf-8")
    refused = command(f"judge both.json both.json {JUDGING}")
    assert refused.code == 2
    assert "error: both.json holds several policies: x, yy; choose one with --policy-a NAME" in refused.err
    shown = command(f"judge both.json both.json --policy-a yy --policy-b x {JUDGING}")
    assert "8 judged: 8 win" in shown.out
    assert "yy against x" in shown.out
    assert "8 answers of yy; derived: dataset, group, id, item; left out: 8 answers of other policies" in shown.err


def test_a_sheet_with_answers_and_labels_gives_the_answers_that_are_named(command: Callable[[str], Any]) -> None:
    head, row = "item,prompt,first,second,ann,ben,judge", "{0},q {0},a long answer,b,a,b,tie"
    Path("sheet.csv").write_text("\n".join([head, *(row.format(n) for n in range(6))]), "utf-8")
    shown = command("import sheet.csv --column item=item --column text=first --policy one --out runs/one")
    assert shown.code is None, shown.err
    assert {(one.policy, one.text) for one in run_folder.read(Path("runs/one"), Completion)} == {
        ("one", "a long answer")
    }


def test_columns_of_texts_are_not_taken_for_raters(command: Callable[[str], Any]) -> None:
    rows = [f"{n},answer {n},{'ab'[n % 2]},{'ab'[n % 3 == 0]},a" for n in range(60)]
    Path("sheet.csv").write_text("\n".join(["unit,answer_1,ann,ben,gpt", *rows]), "utf-8")
    shown = command("agree sheet.csv --judge-rater gpt --out agreed")
    assert shown.code == 2
    assert "answer_1 has 60 different ratings, and there are 62 in all: too many for labels; name the" in shown.err
    assert command("agree sheet.csv --column rater=ann,ben,gpt --judge-rater gpt --out agreed").code is None
    wide = command("agree sheet.csv --format wide --judge-rater gpt --out other")
    assert "leave it out; which columns of a table are raters' is said by --column rater=ann,ben,judge" in wide.err


def test_a_copy_of_the_answers_is_the_same_answers(command: Callable[[str], Any]) -> None:
    Path("copy.json").write_bytes(Path("one.json").read_bytes())
    assert "each answer would be judged against itself" in command(f"judge one.json copy.json {JUDGING}").err
    other = json.loads(Path("one.json").read_text("utf-8"))
    other[-1]["output"] = "grey"
    Path("other.json").write_text(json.dumps(other), "utf-8")
    assert command(f"judge one.json other.json {JUDGING}-again").code is None


def test_a_judge_among_the_raters_of_a_table_is_held_against_the_others(command: Callable[[str], Any]) -> None:
    """One sheet, read as a table with a judge and as verdicts beside labels: the same figures and sentence."""
    rows = [f"{n},{'ab'[n % 2]},{'ab'[n % 3 == 0]},{'ab'[n % 5 == 0]},{'ab'[n % 2 if n % 7 else 0]}" for n in range(60)]
    Path("sheet.csv").write_text("\n".join(["item,ann,ben,eve,gpt", *rows]), "utf-8")
    rated = command("agree sheet.csv --column unit=item --column rater=ann,ben,eve,gpt --judge-rater gpt --out one")
    assert command("import sheet.csv --column verdict=gpt --column item=item --out said").code is None
    people = "--format wide --column item=item --column annotator=ann,ben,eve"
    run = command(f"agree said sheet.csv {people} --out two")
    assert rated.out.splitlines()[0].removeprefix("gpt") == run.out.splitlines()[0].removeprefix("the judge")
    ours, theirs = (
        {
            (one.name, one.about.person, one.about.other_person): (one.value, one.low, one.high)
            for one in run_folder.read(Path(name), Estimate)
        }
        for name in ("one", "two")
    )
    same = ("human-human exact agreement", "human-judge Cohen kappa", "judge minus human ceiling")
    for name in same:
        assert ours[name, "", ""][0] == pytest.approx(theirs[name, "", ""][0])
        assert ours[name, "", ""][1:] == pytest.approx(theirs[name, "", ""][1:], abs=0.02)  # draws of other units
    assert ours["alt-test p, one person", "ben", ""] == theirs["alt-test p, one person", "ben", ""]
    assert ("exact agreement", "", "") not in ours  # of people and judge together
    again = command(f"agree said sheet.csv {people.replace('ann,', 'gpt,ann,')} --out three")
    assert "gpt says what the judge says on all 60 units: if that is the judge itself, leave it out" in again.err
    assert "says what the judge says" not in run.err
