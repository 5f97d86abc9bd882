"""The short cut past rendering: it changes no judgement, and nobody who checks relies on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perl_eval.client.ledger import Ledger
from perl_eval.client.ledger_export import Pruning, export, prune
from perl_eval.client.reply import Reply
from perl_eval.client.usage import Usage
from perl_eval.judges import prompting
from perl_eval.judges.backends.offline import KeptJudge
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judging import judge, key_cache
from perl_eval.judging.engine.ask import AskOptions, ask
from perl_eval.judging.key_cache import Recall
from perl_eval.judging.outcome_of import Contestants
from perl_eval.records import Completion, Judgement, Message, Question
from perl_eval.storage import run_folder

COUNT = 30


def completion(side: str, number: int) -> Completion:
    text = side * (1 + (number * (3 if side == "x" else 5)) % 11)
    prompt = (Message("user", f"order {number}"),)
    return Completion(f"{side}{number}", f"i{number:04}", "g", "d", side, prompt, text, "stop", 0)


def pairs(count: int = COUNT) -> list[Contestants]:
    return [(completion("x", number), completion("y", number)) for number in range(count)]


class Longest(ScriptedJudge):
    """The longer answer wins; counts what it was asked."""

    def __init__(self, **knobs: Any) -> None:
        super().__init__(lambda answer: float(len(answer.text)), name="longest", **knobs)
        self.asked = 0

    async def ask(self, questions: Sequence[Question]) -> list[Reply]:
        self.asked += len(questions)
        return await super().ask(questions)


def judged(
    path: Path,
    units: list[Contestants],
    by: ScriptedJudge,
    template: prompting.Template | None = None,
    **how: Any,
) -> tuple[list[Judgement], Usage]:
    tally, votes = Usage(), how.get("votes", 1)
    with Ledger(path) as ledger:
        options = AskOptions(votes=votes)
        shortcut = Recall(by, ledger, lambda asked: ask(asked, by, ledger, options=options, tally=tally), tally)
        return list(shortcut.judgements(units, template or prompting.load("dialogue"), **how)), tally


def execute(path: Path, statement: str, *values: object) -> list[Any]:
    with sqlite3.connect(path) as database:
        return database.execute(statement, values).fetchall()


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whatever is rendered from now on, by id."""
    ids: list[str] = []
    questions = prompting.questions

    def noted(*given: Any, **more: Any) -> list[Question]:
        ids.append(more["id"])
        return questions(*given, **more)

    monkeypatch.setattr(prompting, "questions", noted)
    return ids


@pytest.mark.parametrize("votes", [1, 3])
def test_what_is_kept_whole_is_judged_without_rendering(tmp_path: Path, votes: int, rendered: list[str]) -> None:
    by, path = Longest(position_bias=1.0), tmp_path / "ledger.sqlite"
    first, _ = judged(path, pairs(), by, votes=votes)
    assert len(rendered) == COUNT
    again, tally = judged(path, pairs(), by, votes=votes)
    assert again == first
    assert len(rendered) == COUNT
    assert (tally.asked, tally.from_ledger, by.asked) == (0, 2 * votes * COUNT, 2 * votes * COUNT)


def test_without_aliases_all_comes_out_the_same(tmp_path: Path, rendered: list[str]) -> None:
    by, path = Longest(position_bias=1.0), tmp_path / "ledger.sqlite"
    first, _ = judged(path, pairs(), by)
    execute(path, "DELETE FROM alias")
    again, tally = judged(path, pairs(), by)
    assert again == first
    assert (len(rendered), tally.asked, tally.from_ledger) == (2 * COUNT, 0, 2 * COUNT)
    third, _ = judged(path, pairs(), by)  # the aliases are there again
    assert third == first
    assert len(rendered) == 2 * COUNT


def test_from_the_first_unit_that_is_not_kept_whole_all_are_asked_about_as_ever(
    tmp_path: Path, rendered: list[str]
) -> None:
    by, path = Longest(position_bias=1.0), tmp_path / "ledger.sqlite"
    whole, _ = judged(tmp_path / "other.sqlite", pairs(), Longest(position_bias=1.0))
    judged(path, pairs(10), by)
    execute(path, "DELETE FROM reply WHERE key = (SELECT substr(keys, 33, 32) FROM alias LIMIT 1)")
    del rendered[:]
    again, tally = judged(path, pairs(), by)
    assert again == whole
    assert (tally.asked, tally.from_ledger) == (2 * COUNT - 19, 19)
    assert COUNT - 10 < len(rendered) <= COUNT


def test_a_second_reply_to_a_unit_that_gives_none_is_asked_for_again(tmp_path: Path) -> None:
    by, path = Longest(), tmp_path / "ledger.sqlite"
    judged(path, pairs(3), by)
    execute(path, "DELETE FROM reply")
    _, tally = judged(path, pairs(3), by)
    assert tally.asked == 6


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: replace(answer, text=f"{answer.text}."),
        lambda answer: replace(answer, prompt=(Message("user", "another order"),)),
        lambda answer: replace(answer, prompt=(Message("agent", answer.prompt[0].content),)),
        lambda answer: replace(answer, token_ids=(1, 2)),
        lambda answer: replace(answer, item="another"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_what_the_judge_sees_otherwise_is_not_recalled(tmp_path: Path, change: Any, side: int) -> None:
    by, path = Longest(), tmp_path / "ledger.sqlite"
    judged(path, pairs(1), by)
    (unit,) = pairs(1)
    changed = (change(unit[0]), unit[1]) if side == 0 else (unit[0], change(unit[1]))
    _, tally = judged(path, [changed], by)
    assert tally.asked == 2


def test_ways_to_ask_do_not_share_aliases(tmp_path: Path) -> None:
    path, dialogue = tmp_path / "ledger.sqlite", prompting.load("dialogue")
    templates = [
        dialogue,
        replace(dialogue, rubric="be kind", rubric_sha256="ab"),
        replace(dialogue, references={completion("x", 0).item: "so"}),
        replace(dialogue, references={completion("x", 0).item: "or so"}),
        prompting.load("helpful"),
    ]
    for template in templates:
        for reasoning in (False, True):
            for by in (Longest(), Longest(position_bias=1.0)):
                judged(path, pairs(1), by, template, reasoning=reasoning)
    assert execute(path, "SELECT count(*) FROM alias") == [(len(templates) * 2 * 2,)]


def test_changed_code_meets_no_alias_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rendered: list[str]
) -> None:
    by, path = Longest(), tmp_path / "ledger.sqlite"
    first, _ = judged(path, pairs(), by)
    changed = tmp_path / "render.py"
    assert prompting.__file__ is not None
    changed.write_text(Path(prompting.__file__).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(prompting, "__file__", str(changed))
        key_cache._code_sha256.cache_clear()
        again, tally = judged(path, pairs(), by)
    key_cache._code_sha256.cache_clear()
    assert again == first
    assert (len(rendered), tally.asked) == (2 * COUNT, 0)


@pytest.mark.parametrize(
    ("door", "parameters", "text"),
    [
        ("chat", {}, "A"),
        ("decisions", {"tie_margin": 0.0}, '{"A": 0.7, "B": 0.3}'),
        ("local", {"tie_margin": 0.0}, '{"A": 0.7, "B": 0.3}'),
        ("reward", {"threshold": 0.0, "tie_margin": 0.0}, "[1.5, 0.5]"),
        ("scripted", dict(Longest().parameters), "0.5"),
    ],
)
def test_a_reply_is_read_without_messages_and_candidates(door: str, parameters: dict[str, Any], text: str) -> None:
    by, (unit,) = KeptJudge(door, "m", parameters), pairs(1)
    for order in ("ab", "ba"):
        asked = prompting.question(prompting.load("dialogue"), unit[:: 1 if order == "ab" else -1], order=order, id="x")
        ballot = by.read(asked, Reply(text))
        assert ballot.verdict == "first"
        assert by.read(replace(asked, id="", messages=(), candidates=(), code=""), Reply(text)) == ballot


# ------------------------------------------------------------------------------------------------------ whole runs


def saved(folder: Path, side: str) -> Path:
    with run_folder.start(folder / side, verb="sample", arguments={}) as run:
        run.write([completion(side, number) for number in range(COUNT)], Completion)
    return folder / side


def run(folder: Path, name: str, by: ScriptedJudge) -> list[Judgement]:
    options = judge.JudgeOptions("dialogue", ledger=folder / "ledger.sqlite")
    return run_folder.read(judge.run(folder / "x", folder / "y", folder / name, judge=by, options=options), Judgement)


def test_a_forged_alias_does_not_pass_verification(tmp_path: Path) -> None:
    by, path = Longest(), tmp_path / "ledger.sqlite"
    saved(tmp_path, "x"), saved(tmp_path, "y")
    honest = run(tmp_path, "honest", by)
    lost = next(row.id for row in honest if row.outcome == "loss")
    won = next(row.id for row in honest if row.outcome == "win")
    units = {row.id: row for row in honest}
    names = dict(zip((lost, won), _names(by, [units[lost], units[won]]), strict=True))
    ((keys,),) = execute(path, "SELECT keys FROM alias WHERE unit = ?", names[won])
    execute(path, "UPDATE alias SET keys = ? WHERE unit = ?", keys, names[lost])
    assert judge.verify(tmp_path / "honest", judge=by) == []
    forged = run(tmp_path, "forged", by)
    # The reply of a scripted judge is a margin: that of the other pair now counts, and verifying notices.
    assert [row.id for row, was in zip(forged, honest, strict=True) if row != was] == [lost]
    assert judge.verify(tmp_path / "forged", judge=by) == [lost]


def _names(by: ScriptedJudge, rows: list[Judgement]) -> list[bytes]:
    aliases = key_cache._Aliases(by, prompting.load("dialogue"), reasoning=False, votes=1)
    return [aliases.of((completion("x", int(row.a[1:])), completion("y", int(row.b[1:])))) for row in rows]


def test_checks_render_and_never_recall(tmp_path: Path, rendered: list[str]) -> None:
    by = Longest()
    saved(tmp_path, "x"), saved(tmp_path, "y")
    honest = run(tmp_path, "honest", by)
    execute(tmp_path / "ledger.sqlite", "UPDATE alias SET keys = zeroblob(64)")
    for check in (
        lambda: judge.verify(tmp_path / "honest", judge=by),
        lambda: judge.reread(tmp_path / "honest", tmp_path / "again", judge=by),
    ):
        del rendered[:]
        check()
        assert len(rendered) == COUNT
    assert run_folder.read(tmp_path / "again", Judgement) == honest


def test_a_pruned_ledger_has_no_aliases_and_an_exported_one_has_only_replies(tmp_path: Path) -> None:
    path, out = tmp_path / "ledger.sqlite", tmp_path / "out.jsonl"
    judged(path, pairs(3), Longest())
    assert export(path, out) == len(out.read_text().splitlines()) == 6
    assert execute(path, "SELECT count(*) FROM alias") == [(3,)]
    prune(path, Pruning(model="another"))
    assert execute(path, "SELECT (SELECT count(*) FROM alias), (SELECT count(*) FROM reply)") == [(0, 6)]


def test_a_ledger_from_before_aliases_opens(tmp_path: Path) -> None:
    by, path = Longest(), tmp_path / "ledger.sqlite"
    first, _ = judged(path, pairs(), by)
    execute(path, "DROP TABLE alias")
    again, tally = judged(path, pairs(), by)
    assert again == first
    assert tally.asked == 0
