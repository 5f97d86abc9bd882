"""The functions of the root: paths or objects in, results out, nothing written without ``out``."""

from __future__ import annotations

import doctest
import html.parser
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import perl_eval as pe

OURS = [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 21)]
THEIRS = [{"prompt": f"Say {n}.", "text": "y" * 10} for n in range(1, 21)]
FUNCTIONS = sorted(name for name in pe.__all__ if inspect.isfunction(getattr(pe, name)))
SIGNATURES = {
    "agree": "(judgements=None, labels=None, *, out=None, options=None, on=None)",
    "audit": "(judgements=None, labels=None, *, out=None, again=None, attack=None, options=None, on=None)",
    "build": "(name, *, config=None, data_dir=None, out=None, options=None)",
    "completions": "(source, *, policy='', columns=None, format='')",
    "decide": "(*judgements, labels=None, proxies=(), out=None, options=None)",
    "doctor": "(*sources, columns=None, format='', means=None)",
    "export": "(source, *, to, out=None, what='', policy='')",
    "judge": "(a, b=None, *, by, prompt='preference', out=None, options=None)",
    "jury": "(members, *, labels=None, out=None)",
    "labels": "(source, *, columns=None, format='', means=None)",
    "open_judge": "(spec, options=None)",
    "parse_verdict": "(text, kind='pairwise', pattern=None)",
    "power": "(wanted, *, pilot=None, out=None, options=None)",
    "read": "(path, kind=None)",
    "report": "(*sources, out=None, title='perl-eval report', format='html', what='estimates')",
    "rows": "(source, split='train', *, columns=None)",
    "sample": "(model, data, *, out=None, options=None, seed=0)",
    "score": "(*sources, out=None, beside=None, options=None)",
    "train_dpo": "(data, prior, *, out=None, options=None, seed=0)",
    "train_policy": "(data, prior, reward, *, out=None, options=None, seed=0)",
    "train_reward": "(data, prior, *, out=None, options=None, seed=0)",
    "train_sft": "(data, *, out=None, options=None, seed=0)",
    "write": "(path, records)",
}


def bare(function: Any) -> str:
    """Return a signature without its annotations."""
    signature = inspect.signature(function)
    parameters = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def test_signatures_are_a_promise() -> None:
    assert {name: bare(getattr(pe, name)) for name in FUNCTIONS} == SIGNATURES


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = getattr(pe, name)
    monkeypatch.chdir(tmp_path)
    (case,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert case.examples, f"{name} has no example"
    assert doctest.DocTestRunner().run(case).failed == 0
    assert list(tmp_path.iterdir()) == []
    for hint in inspect.get_annotations(function).values():
        assert hint != ""


def test_two_lists_become_a_win_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 10 answers are longer than 10 letters, 9 shorter, one is as long."""
    monkeypatch.chdir(tmp_path)
    judged = pe.judge({"ours": OURS}, {"theirs": THEIRS}, by="scripted:length", prompt="dialogue")
    assert (judged.win_rate.value, judged.win_rate.n) == (0.5, 20)
    assert str(judged.win_rate) == "0.50 (0.30 to 0.70), n = 20"
    assert {(one.policy_a, one.policy_b) for one in judged} == {("ours", "theirs")}
    assert judged.folder is None
    assert list(tmp_path.iterdir()) == []


FORMS = {
    "records": lambda rows, _: pe.completions(rows, policy="p"),
    "dicts": lambda rows, _: rows,
    "generator": lambda rows, _: iter(rows),
    "frame": lambda rows, _: pd.DataFrame(rows),
    "json": lambda rows, folder: written(folder / "p.json", pd.DataFrame(rows), "json"),
    "jsonl": lambda rows, folder: written(folder / "p.jsonl", pd.DataFrame(rows), "jsonl"),
    "csv": lambda rows, folder: written(folder / "p.csv", pd.DataFrame(rows), "csv"),
    "parquet": lambda rows, folder: written(folder / "p.parquet", pd.DataFrame(rows), "parquet"),
}


def written(path: Path, frame: pd.DataFrame, form: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        frame.to_parquet(path)
    elif form == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=form == "jsonl")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_whatever_form_it_comes_in_the_rate_is_the_same(form: str, tmp_path: Path) -> None:
    bring = FORMS[form]
    ours, theirs = bring(OURS, tmp_path / "a"), bring(list(reversed(THEIRS)), tmp_path / "b")
    judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
    assert judged.win_rate.value == 0.5
    plain = pe.judge({"x": OURS}, {"y": THEIRS}, by="scripted:length", prompt="dialogue")
    assert sorted(one.item for one in judged) == sorted(one.item for one in plain)


def test_a_result_is_an_input_and_can_be_saved(tmp_path: Path) -> None:
    judged = pe.judge({"ours": OURS}, {"theirs": THEIRS}, by="scripted:length", prompt="dialogue")
    people = [pe.HumanLabel(one.unit, one.item, one.group, "ann", one.outcome) for one in judged]
    agreed = pe.agree(judged, people)
    assert agreed["human-judge exact agreement"].value == 1.0
    with pytest.raises(pe.UserError, match="no figure 'human judge'"):
        agreed["human judge"]
    kept = judged.save(tmp_path / "kept")
    assert pe.read(kept) == list(judged)
    assert pe.score(kept)["win rate"].value == 0.5
    assert list(judged.to_pandas()["outcome"]) == [one.outcome for one in judged]
    with pytest.raises(pe.UserError, match="is not empty"):
        judged.save(kept)


def test_with_out_it_is_the_run_folder_of_the_command(tmp_path: Path) -> None:
    first = pe.judge({"ours": OURS}, {"theirs": THEIRS}, by="scripted:length", prompt="dialogue", out=tmp_path / "j")
    assert first.folder == tmp_path / "j"
    assert first.card.verb == "judge"
    assert pe.score(tmp_path / "j", out=tmp_path / "s").folder == tmp_path / "s"


def test_records_are_written_and_read_where_one_says(tmp_path: Path) -> None:
    scores = [pe.Score("c1", "i1", "g1", "ours", "length", 3.0)]
    own = pe.write(tmp_path / "deep" / "mine.parquet", scores)
    assert own == tmp_path / "deep" / "mine.parquet"
    assert pe.read(own, pe.Score) == scores
    pe.write(tmp_path / "both", scores)
    pe.write(tmp_path / "both", pe.completions(OURS, policy="p"))
    assert pe.read(tmp_path / "both", pe.Score) == scores
    with pytest.raises(pe.UserError, match=r"holds completions\.parquet, scores\.parquet; say of which kind"):
        pe.read(tmp_path / "both")


class Cells(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_tables_show_text_and_run_none_of_it() -> None:
    hostile = "<script>alert(1)</script>"
    judged = pe.judge({hostile: OURS}, {"theirs": THEIRS}, by="scripted:length", prompt="dialogue")
    page = Cells()
    page.feed(judged._repr_html_())
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td", "div", "p", "b", "small", "svg", "rect"}
    assert hostile in page.text
    assert hostile in repr(judged)
    assert "20 records" in repr(judged)
    figures = pe.score(judged)
    assert "win rate" in repr(figures)
    assert "win rate" in figures._repr_html_()


def test_temporary_files_go_with_the_result() -> None:
    judged = pe.judge({"ours": OURS}, {"theirs": THEIRS}, by="scripted:length", prompt="dialogue")
    home = judged.home
    assert home.is_dir()
    del judged
    assert not home.exists()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pe.judge(3, by="scripted:length", prompt="harmful"), "int holds no rows"),
        (lambda: pe.judge([1], by="scripted:length", prompt="harmful"), "the list, row 0: is a int"),
        (lambda: pe.judge([{"text": "x"}], by="scripted:length", prompt="harmful"), "has no prompt; present are text"),
        (lambda: pe.judge("nowhere.json", by="scripted:length", prompt="harmful"), "no such file or folder: nowhere"),
        (lambda: pe.jury("one"), "one judge is not a jury"),
        (lambda: pe.read("nowhere"), "no such file or folder"),
        (lambda: pe.write("x", []), "nothing is given"),
        (lambda: pe.completions([{"prompt": "x", "text": "y"}]), "names no policy"),
        (
            lambda: pe.rows([{"chosen": "y"}]),
            "has neither prompt, messages, text, nor chosen and rejected; present are chosen",
        ),
    ],
)
def test_mistakes_are_said_in_one_line(call: Any, words: str) -> None:
    with pytest.raises(pe.UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_dialogues_end_with_the_answer() -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    (one,) = pe.completions([{"messages": turns, "model": "m", "id": "c1"}])
    assert (one.id, one.policy, one.text, one.prompt) == ("c1", "m", "hello", (pe.Message("user", "hi"),))
    with pytest.raises(pe.DataError, match="does not end with an assistant's turn"):
        pe.completions([{"messages": turns[:1], "model": "m"}])


def test_what_a_row_says_is_kept_and_the_rest_is_derived_whatever_the_order() -> None:
    rows = [{"prompt": f"q{n}", "text": "x", "question_id": n, "id": n, "group": 0, "model": 0} for n in range(3)]
    assert [(one.id, one.item, one.group, one.policy) for one in pe.completions(rows)] == [
        (str(n), str(n), "0", "0") for n in range(3)
    ]
    bare = [{"prompt": f"q{n % 2}", "text": "x", "item": "", "group": None} for n in range(4)]
    one, two = (pe.completions(given, policy="p") for given in (bare, bare[::-1]))
    assert sorted((c.id, c.item, c.group, c.draw) for c in one) == sorted((c.id, c.item, c.group, c.draw) for c in two)
    assert len({c.id for c in one}) == 4
    assert len({c.item for c in one}) == len({c.group for c in one}) == 2


LIGHT = (
    *("aiohttp", "torch", "transformers", "datasets", "peft", "pandas", "sklearn", "openai", "matplotlib", "scipy"),
    "pyarrow",
)


@pytest.mark.parametrize("use", ["pass", "pe.__version__", "pe.Estimate", "dir(pe)"])
def test_what_is_not_used_is_not_loaded(use: str) -> None:
    program = f"import sys\nimport perl_eval as pe\n{use}\nprint([name for name in {LIGHT!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env={**os.environ}
    )
    assert done.stdout.strip() == "[]"


def test_the_root_has_what_it_lists() -> None:
    assert set(pe.__all__) <= set(dir(pe))
    for name in pe.__all__:
        assert getattr(importlib.import_module("perl_eval"), name) is not None
    with pytest.raises(AttributeError, match="no attribute 'judges_'"):
        pe.judges_  # noqa: B018


@pytest.mark.parametrize("by", [None, 3, ["scripted:length"]])
def test_what_is_no_judge_is_refused(by: Any) -> None:
    with pytest.raises(pe.UserError, match="is not a judge; give a judge's name"):
        pe.judge({"ours": OURS}, {"theirs": THEIRS}, by=by)


def test_nothing_where_records_are_needed_is_refused() -> None:
    judged = pe.judge({"ours": OURS}, {"theirs": THEIRS}, by="scripted:length", prompt="dialogue")
    with pytest.raises(pe.UserError, match="labels is None; give human labels"):
        pe.agree(judged, None)
    with pytest.raises(pe.UserError, match="judgements is None; give judgements"):
        pe.agree(None, [])
    with pytest.raises(pe.UserError, match="labels is None; give human labels"):
        pe.audit(judged, None)
    with pytest.raises(pe.UserError, match="a is None; give completions"):
        pe.judge(None, {"theirs": THEIRS}, by="scripted:length", prompt="dialogue")


def test_a_figure_is_shown_by_what_is_set_and_a_judgement_is_had_by_its_place() -> None:
    judged = pe.judge({"ours": OURS}, {"theirs": THEIRS}, by="scripted:length", prompt="dialogue")
    assert (judged[0], judged[-1], len(judged[2:4])) == (judged.records[0], judged.records[-1], 2)
    shown = repr(judged.win_rate)
    assert shown.startswith("Estimate(name='win rate', value=")
    assert "=''" not in shown
    assert "None" not in shown
    assert shown.endswith("about=About(policy='ours', against='theirs', judge='length'))")


PEOPLE = [{"prompt": f"Say {n}.", "chosen": "x" * (n + 2), "rejected": "y"} for n in range(1, 13)]


def test_a_judge_is_held_against_rows_that_people_have_judged(tmp_path: Path) -> None:
    """The command's twin: the longer answer is always the chosen one, so length agrees with people."""
    from perl_eval.judging.judge import JudgeOptions
    from perl_eval.verbs.on_rows import Known

    rows = written(tmp_path / "rows.jsonl", pd.DataFrame(PEOPLE), "jsonl")
    known = Known(str(rows), by="scripted:length", asking=JudgeOptions(prompt="dialogue", limit=8))
    agreed = pe.agree(on=known, out=tmp_path / "run")
    assert (agreed["human-judge exact agreement"].value, agreed["human-judge exact agreement"].n) == (1.0, 8)
    assert (tmp_path / "run" / "judged" / "judgements.parquet").is_file()
    assert pe.audit(on=known)["human-judge exact agreement"].value == 1.0
    with pytest.raises(pe.UserError, match="no judge is named for"):
        pe.agree(on=Known(str(rows)))
    with pytest.raises(pe.UserError, match="stands beside judgements or labels"):
        pe.audit([], on=known)
