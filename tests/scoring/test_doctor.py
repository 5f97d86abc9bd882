"""What doctor says of files: what they hold, what can be computed, what stands in the way, and which labels help."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import perl_eval as pe
from perl_eval.errors import UserError
from perl_eval.records import Ballot, HumanLabel, Judgement
from perl_eval.scoring import doctor
from perl_eval.sources.judgements import read_outcomes
from perl_eval.sources.reading import HowRead
from perl_eval.storage import parquet


def answers(path: Path, policy: str, items: range) -> Path:
    rows = [{"prompt": f"Say {n}.", "output": "x" * (n % 7 + 1), "generator": policy} for n in items]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def table(path: Path, head: str, rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head.split(","), *rows])
    return path


def verdicts(path: Path, n: int = 300, policies: tuple[str, str] = ("rl", "sft")) -> Path:
    rows = [(f"q{place}", *policies, "ab"[place % 3 > 0], "ab"[place % 3 > 0], "gpt") for place in range(n)]
    return table(path, "item,policy_a,policy_b,verdict_ab,verdict_ba,judge", rows)


def people(path: Path, n: int = 60, item: str = "q") -> Path:
    rows = [(f"{item}{place}", "rl", "sft", "win" if place % 5 < 2 else "loss", "ann") for place in range(n)]
    return table(path, "item,policy_a,policy_b,label,annotator", rows)


def test_answers_alone_want_a_judge(tmp_path: Path) -> None:
    found = doctor.run(
        [answers(tmp_path / "a.jsonl", "rl", range(30)), answers(tmp_path / "b.jsonl", "sft", range(20))]
    )
    assert "rl against sft on 20 items that both answered" in {what for _, what in found.can}
    assert [line.split(":")[0] for line in found.wrong] == ["nothing is judged, so no policy can be called better"]


def test_answers_to_other_items_are_told(tmp_path: Path) -> None:
    files = [answers(tmp_path / "a.jsonl", "rl", range(30)), answers(tmp_path / "b.jsonl", "sft", range(30, 40))]
    assert doctor.run(files).wrong[0].startswith("rl and sft answered no item both (30 and 10)")


def test_judgements_without_labels_say_how_many_would_help(tmp_path: Path) -> None:
    found = doctor.run([verdicts(tmp_path / "v.csv")])
    assert not found.clear
    assert found.wrong[0].startswith("no labels show whether the judge favours one of rl and sft")
    needed = {one.figure: one for one in found.labels}
    assert needed["decide rl against sft"].have == 0
    assert 10 < (needed["decide rl against sft"].more or 0) < 200
    assert needed["the judge's errors on rl"].more == 20


def test_judgements_and_labels_leave_nothing_in_the_way(tmp_path: Path) -> None:
    found = doctor.run([verdicts(tmp_path / "v.csv"), people(tmp_path / "people.csv", 100)])
    assert found.clear
    assert str(found).startswith("Nothing stands in the way.")
    commands = [name for name, _ in found.can]
    assert f"agree {tmp_path / 'v.csv'} {tmp_path / 'people.csv'}" in commands
    assert any(what.startswith("sft is better than rl by 0.") for _, what in found.can)


def test_labels_of_other_items_show_both_kinds_of_id(tmp_path: Path) -> None:
    found = doctor.run([verdicts(tmp_path / "v.csv"), people(tmp_path / "people.csv", item="z")])
    assert "labels are of items such as 'z0', judgements of 'q0'" in found.wrong[0]


def test_one_order_is_told_from_none(tmp_path: Path) -> None:
    rows = [(f"q{place}", "rl", "sft", "win") for place in range(30)]
    given = table(tmp_path / "outcomes.csv", "item,policy_a,policy_b,outcome", rows)
    assert "it does not say what each order gave" in doctor.run([given]).wrong[0]
    once = [replace(one, ballots=(Ballot("ab", "first"),)) for one in read_outcomes(given)]
    parquet.write(tmp_path / "judgements.parquet", once, Judgement)
    assert "shown in one order only" in doctor.run([tmp_path / "judgements.parquet"]).wrong[0]


def test_files_of_nothing_known_are_named(tmp_path: Path) -> None:
    junk = table(tmp_path / "junk.csv", "foo,bar", [(1, 2)])
    empty = tmp_path / "empty.jsonl"
    empty.write_text("", "utf-8")
    found = doctor.run([junk, empty])
    assert found.wrong[0].startswith(f"{junk} is of no known format (foo, bar)")
    assert found.wrong[1].startswith(f"{empty}: is empty")
    with pytest.raises(UserError, match="no such file"):
        doctor.run([tmp_path / "none"])


def test_columns_that_may_be_meant_are_said(tmp_path: Path) -> None:
    answers = table(tmp_path / "answers.csv", "ticket_id,user_question,bot_reply", [(1, "q", "a")])
    said = table(tmp_path / "said.csv", "ticket_id,user_query,better", [(1, "q", "left")])
    found = doctor.run([answers, said])
    assert found.wrong[0].endswith("name its columns, as in --column prompt=user_question --column text=bot_reply")
    assert found.wrong[1].endswith("name its columns, as in --column prompt=user_query --column label=better")


def test_our_folders_are_looked_at_and_changed_files_refused(tmp_path: Path) -> None:
    ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 40)]}
    theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (40 - n)} for n in range(1, 40)]}
    judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue", out=tmp_path / "judged")
    labels = [HumanLabel(one.unit, one.item, one.group, "ann", one.outcome) for one in judged]  # type: ignore[arg-type]
    parquet.write(tmp_path / "people" / "labels.parquet", labels, HumanLabel)
    found = pe.doctor(judged, tmp_path / "people")
    assert found.clear, found
    assert "39 judgements by" in dict(found.files)[str(tmp_path / "judged")]
    with (tmp_path / "judged" / "judgements.parquet").open("ab") as file:
        file.write(b"x")
    assert "does not match the sha256" in doctor.run([tmp_path / "judged"]).wrong[0]


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]) -> None:
    monkeypatch.chdir(tmp_path)
    verdicts(tmp_path / "v.csv")
    people(tmp_path / "people.csv", 100)
    assert command("doctor v.csv").code == 3
    shown = command("doctor v.csv people.csv")
    assert shown.code is None
    assert shown.out.startswith("Nothing stands in the way.")
    assert max(map(len, shown.out.splitlines())) <= 80
    assert not (tmp_path / "runs").exists()


SHEET = "question,who,better"


def sheet(path: Path, said: Sequence[str]) -> Path:
    return table(path, SHEET, [(f"Say {place}.", "ann", one) for place, one in enumerate(said)])


def test_columns_and_words_of_several_files_are_typed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]
) -> None:
    """Each file takes the columns and the words that it has, whatever the other files hold."""
    monkeypatch.chdir(tmp_path)
    for name in ("new", "old"):
        rows = [{"question": f"Say {n}.", "reply": name * (n % 3 + 1)} for n in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = [(f"Say {n}.", "new", "old", "the new") for n in range(40)]
    table(tmp_path / "v.csv", "question,model_a,model_b,ab", said)
    sheet(tmp_path / "sheet.csv", ["the new", "the old", "no difference"] * 13)
    assert command("doctor new.jsonl sheet.csv").out.count("cannot be read") == 2
    named = (
        "--column prompt=question --column text=reply --column label=better --column annotator=who"
        " --column verdict_ab=ab --means 'the new=a' --means 'the old=b' --means 'no difference=tie'"
    )
    shown = command(f"doctor new.jsonl old.jsonl v.csv sheet.csv {named}").out
    assert shown.count("table, 40 answers of") == 2
    assert "outcomes, 40 judgements by unnamed" in shown
    assert "table, 39 labels of ann" in shown
    assert "no known format" not in shown
    typed = "--column prompt=question --column label=better --column annotator=who"
    meant = "--means 'the new=a' --means 'the old=b' --means 'no difference=tie'"
    assert f"agree v.csv sheet.csv {typed} {meant}\n      agreement with people on 39 units" in shown


def test_a_format_that_was_typed_is_in_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    verdicts(tmp_path / "v.csv", 40)
    table(tmp_path / "wide.csv", "item,ann,ben,gpt", [(f"q{n}", "ab"[n % 2], "a", "b") for n in range(40)])
    assert command("import v.csv --out judged").code is None
    shown = command("doctor judged wide.csv --format wide --column item=item --column annotator=ann,ben").out
    assert "agree judged wide.csv --format wide --column item=item --column annotator=ann,ben\n" in shown


def test_words_and_formats_that_are_nowhere_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    verdicts(tmp_path / "v.csv")
    sheet(tmp_path / "sheet.csv", ["the new"] * 5)
    said = command("doctor v.csv sheet.csv --means 'the old=b'")
    assert (said.code, said.err.split(";")[0]) == (2, "error: --means is 'the old', which does not occur in the files")
    assert "give WORDS=MEANING, one of a, b" in command("doctor v.csv --means 'x=better'").err
    assert "--format is 'tabel'; did you mean table?" in command("doctor v.csv --format tabel").err
    assert "--column is 'label'" in command("doctor v.csv --column label").err


def test_a_format_that_is_typed_counts_where_the_content_does_not_say(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {n}.", "output": "x", "generator": "rl", "messages": None} for n in range(5)]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    given = [verdicts(tmp_path / "v.csv"), path]
    found = dict(doctor.run(given, how=HowRead("table")).files)
    assert "300 judgements" in found[str(given[0])]
    assert "5 answers of rl" in found[str(path)]


def test_two_runs_of_the_same_answers_are_not_taken_together(tmp_path: Path) -> None:
    """Whether the judge has changed can be told, and each run is looked at by itself."""
    given = [verdicts(tmp_path / "october.csv"), verdicts(tmp_path / "november.csv")]
    found = doctor.run([*given, people(tmp_path / "people.csv", 100)])
    commands = [name for name, _ in found.can]
    assert f"score {given[0]} {given[1]}" in commands
    assert sum(name.startswith("decide") for name in commands) == 2
    assert found.clear, found.wrong


def test_labels_for_an_agreement_are_those_that_the_one_seen_takes() -> None:
    """Wald's count: 1.96 ** 2 p (1 - p) / 0.1 ** 2, of a half 96.04, of 0.7 80.7."""
    truth = np.array([1.0] * 70 + [0.0] * 30 + [np.nan] * 5)
    units = SimpleNamespace(truth=truth, worth=np.ones(105))
    assert doctor._labels_for_agreement(units) == 81  # type: ignore[arg-type]
    assert doctor._labels_for_agreement(SimpleNamespace(truth=truth[66:72], worth=np.ones(6))) == 97  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "How?", "chosen": "So.", "rejected": "No."},
        {
            "uid": "7",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How?"}],
            "chosen": [{"role": "assistant", "content": "So."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        },
    ],
)
def test_preferences_for_training_are_rows(row: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "prefs.jsonl"
    path.write_text("".join(json.dumps(row | {"n": n}) + "\n" for n in range(40)), "utf-8")
    columns = {"prompt": "messages"} if "messages" in row else {}
    found = doctor.run([path], how=HowRead(columns=columns))
    assert not found.wrong
    assert any("train" in line for line, _ in found.can)
