"""Rubrics and reference answers: from files into prompts, ledger keys and run cards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from perl_eval.errors import DataError, UserError
from perl_eval.judges import prompting
from perl_eval.judges.backends.offline import reopen
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judging import context, judge
from perl_eval.records import Completion, Judgement, Message
from perl_eval.storage import run_folder


def answers(policy: str, count: int = 3) -> list[Completion]:
    return [
        Completion(f"{policy}{i}", f"i{i}", f"g{i}", "d", policy, (Message("user", f"order {i}"),), "x" * i, "stop", 0)
        for i in range(count)
    ]


def saved(folder: Path, completions: list[Completion]) -> Path:
    with run_folder.start(folder, verb="sample", arguments={}) as run:
        run.write(completions, Completion)
    return folder


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return saved(tmp_path / "a", answers("rl"))


class Seeing(ScriptedJudge):
    """Remembers every text that it is asked, and scores by length."""

    def __init__(self) -> None:
        super().__init__(lambda answer: float(len(answer.text)), name="length")
        self.seen: list[str] = []

    async def ask(self, questions):  # type: ignore[no-untyped-def]
        self.seen += ["\n".join(turn.content for turn in question.messages) for question in questions]
        return await super().ask(questions)


# -------------------------------------------------------------------------------------------------- references


def test_references_are_read_from_json_lines_and_from_completions(tmp_path: Path, a: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"item": "i0", "reference": "é"}\n\n{"item": "i1", "reference": ""}\n', "utf-8")
    assert context.read_references(tmp_path / "r.jsonl") == {"i0": "é", "i1": ""}
    for path in (a, a / "completions.parquet"):
        assert context.read_references(path) == {"i0": "", "i1": "x", "i2": "xx"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"item": "i0"}', "row 0: is not a JSON object"),
        ('{"item": "i0", "reference": "x"}\n[1]', "row 1: is not a JSON object"),
        ('{"item": 3, "reference": "x"}', "row 0: is not a JSON object"),
        ("nonsense", "row 0: is not a JSON object"),
        (
            '{"item": "i", "reference": "x"}\n{"item": "i", "reference": "y"}',
            "row 1: is the second reference of item 'i'",
        ),
        ("\n", "is empty"),
    ],
)
def test_a_file_of_references_that_is_none_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "r.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        context.read_references(tmp_path / "r.jsonl")


def test_a_missing_file_or_reference_is_a_user_error(tmp_path: Path, a: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        context.read_references(tmp_path / "nowhere.jsonl")
    (tmp_path / "r.jsonl").write_text('{"item": "i0", "reference": "x"}')
    with pytest.raises(UserError, match="has no reference for 2 items: 'i1', 'i2'"):
        judge.run(
            a,
            None,
            tmp_path / "out",
            judge=Seeing(),
            options=judge.JudgeOptions("quality", references=tmp_path / "r.jsonl"),
        )


def test_each_question_shows_the_reference_of_its_item(tmp_path: Path, a: Path) -> None:
    lines = [json.dumps({"item": f"i{i}", "reference": f"known {i}"}) for i in range(3)]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    by = Seeing()
    options = judge.JudgeOptions("quality", references=tmp_path / "r.jsonl")
    out = judge.run(a, None, tmp_path / "out", judge=by, options=options)
    assert len(by.seen) == 3
    for i in range(3):
        (text,) = [text for text in by.seen if f"order {i}" in text]
        assert f"known {i}\n" in text
        assert text.count("known ") == 2  # the prompt's own words, and this reference
    card = run_folder.read_card(out)
    assert card is not None
    assert card.inputs[str(tmp_path / "r.jsonl")] == hashlib.sha256((tmp_path / "r.jsonl").read_bytes()).hexdigest()
    assert judge.verify(out, judge=reopen(card)) == []


# ------------------------------------------------------------------------------------------------------ rubric


def test_a_rubric_is_shown_keyed_and_on_the_card(tmp_path: Path, a: Path) -> None:
    by = Seeing()
    ledger = tmp_path / "l.sqlite"
    ids = []
    for number, text in enumerate(("Brevity is all.", "Length is all.", "Brevity is all.")):
        rubric = tmp_path / f"rubric{number}.txt"
        rubric.write_text(text)
        options = judge.JudgeOptions("quality", rubric=rubric, ledger=ledger)
        out = judge.run(a, None, tmp_path / str(number), judge=by, options=options)
        ids.append([row.id for row in run_folder.read(out, Judgement)])
        card = run_folder.read_card(out)
        assert card is not None
        assert card.arguments["rubric_sha256"] == card.inputs[str(rubric)] == hashlib.sha256(text.encode()).hexdigest()
        assert judge.verify(out, judge=reopen(card)) == []
    # The third rubric is the first: nothing was asked again.
    assert len(by.seen) == 6
    assert sum("Length is all." in text for text in by.seen) == 3
    assert ids[0] == ids[2]
    assert not set(ids[0]) & set(ids[1])


def test_rubrics_that_look_alike_once_defused_are_two_to_the_ledger(tmp_path: Path, a: Path) -> None:
    by = Seeing()
    for number, text in enumerate(("be\u200bbrief", "be\u200ebrief")):
        (tmp_path / f"{number}.txt").write_text(text, "utf-8")
        options = judge.JudgeOptions("quality", rubric=tmp_path / f"{number}.txt", ledger=tmp_path / "l.sqlite")
        judge.run(a, None, tmp_path / str(number), judge=by, options=options)
    assert len(by.seen) == 6
    assert by.seen[:3] == by.seen[3:]


def test_a_changed_rubric_does_not_verify_silently(tmp_path: Path, a: Path) -> None:
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("one")
    by = Seeing()
    out = judge.run(a, None, tmp_path / "out", judge=by, options=judge.JudgeOptions("quality", rubric=rubric))
    rubric.write_text("two")
    with pytest.raises(UserError, match="the run had rubric_sha256"):
        judge.verify(out, judge=by)


@pytest.mark.parametrize(("content", "message"), [(b"\xff\xfe\x00", "is not UTF-8"), (b" \n", "is empty")])
def test_a_rubric_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "r.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        context.given(prompting.load("quality"), rubric=tmp_path / "r.txt", references=None)


def test_a_prompt_without_a_place_for_them_is_refused(tmp_path: Path, a: Path) -> None:
    (tmp_path / "bare.jinja2").write_text("{# kind: yes_no #}{% block user %}{{ answer }}{% endblock %}")
    bare = prompting.load("bare", tmp_path)
    (tmp_path / "r.txt").write_text("x")
    with pytest.raises(UserError, match="'bare' has no place for rubric"):
        context.given(bare, rubric=tmp_path / "r.txt", references=None)
    with pytest.raises(UserError, match="'bare' has no place for references"):
        context.given(bare, rubric=None, references=a)
