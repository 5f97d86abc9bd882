"""Ten broken files of each family of formats: each is refused in one line that names file, row and field."""

from __future__ import annotations

import gzip
import json
import traceback
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perl_eval import sources
from perl_eval.errors import DataError
from perl_eval.sources.brought import HowRead, rows_in

Row = dict[str, Any]
Write = Callable[[Path], Path]
LACKING = object()
"""A cell that is taken out of its row."""


def text(content: str | bytes, name: str = "x.jsonl") -> Write:
    """Return what writes a file of that text."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def lines(*rows: Any, beside: Mapping[str, Sequence[Any]] | None = None) -> Write:
    """Return what writes rows as JSON lines, and other files beside."""

    def write(folder: Path) -> Path:
        for name, other in {"x.jsonl": rows, **(beside or {})}.items():
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in other), "utf-8")
        return folder / "x.jsonl"

    return write


def changed(good: Row, **cells: Any) -> Row:
    return {name: cell for name, cell in {**good, **cells}.items() if cell is not LACKING}


def second(good: Row, **cells: Any) -> Write:
    """Return what writes two rows, of which the second is changed."""
    return lines(good, changed(good, **cells))


def third(good: Row, **cells: Any) -> Write:
    """Return what writes three rows, of which the third is changed."""
    return lines(good, good, changed(good, **cells))


ASKED = {"role": "user", "content": "Name a prime."}
SAID = {"role": "assistant", "content": "7"}

# Answers

TABLE = {"prompt": "Name a prime.", "text": "7", "model": "ours"}
OF_TABLE = [
    (second(TABLE, prompt=LACKING), "row 1, field 'prompt': has no prompt; present are text, model"),
    (second(TABLE, prompt=None), "row 1, field 'prompt': has no prompt"),
    (second(TABLE, text=LACKING), "row 1, field 'text': has no answer"),
    (second(TABLE, text=None), "row 1, field 'text': has no answer"),
    (second(TABLE, prompt=7), "row 1, field 'prompt': is neither text nor a list of turns"),
    (second(TABLE, prompt=[{"content": "x"}]), "row 1, field 'prompt': is neither text nor a list of turns"),
    (second(TABLE, prompt=[{"role": "user", "content": [{"type": "video"}]}]), "row 1, field 'prompt': is neither"),
    (second(TABLE, text=7.5), "row 1, field 'text': is neither text nor a list of turns"),
    (second(TABLE, text=[["x"]]), "row 1, field 'text': is neither text nor a list of turns"),
    (second({**TABLE, "draw": 0}, draw="two"), "row 1, field 'draw': 'two' is not a whole number"),
    (second({**TABLE, "draw": 0}, draw=-1), "row 1, field 'draw': -1 is not a whole number"),
    (second({**TABLE, "draw": 0}, draw=10**30), "row 1, field 'draw': 1000000000000000000000000000000 is too large"),
    (lines({**TABLE, "draw": 0}, {**TABLE, "draw": 0}), "row 1, field 'draw': a second answer of 'ours'"),
    (lines(TABLE, {**TABLE, "draw": 1}), "row 1, field 'draw': of the answers of 'ours'"),
]
CHAT = {"messages": [ASKED, SAID]}
OF_CHAT = [
    (second(CHAT, messages=LACKING), "row 1, field 'conversations': is not a list of turns"),
    (second(CHAT, messages=None), "row 1, field 'messages': is not a list of turns"),
    (second(CHAT, messages="x"), "row 1, field 'messages': is not a list of turns"),
    (second(CHAT, messages=["x"]), "row 1, field 'messages': is not a list of turns"),
    (second(CHAT, messages=[]), "row 1, field 'messages': does not end with an assistant's turn"),
    (second(CHAT, messages=[SAID]), "row 1, field 'messages': does not end with an assistant's turn"),
    (second(CHAT, messages=[ASKED]), "row 1, field 'messages': does not end with an assistant's turn"),
    (second(CHAT, messages=[SAID, ASKED]), "row 1, field 'messages': does not end with an assistant's turn"),
    (second(CHAT, messages=[{"content": "x"}, SAID]), "row 1, field 'messages': is neither text nor a list of turns"),
    (second(CHAT, messages=[ASKED, {**SAID, "content": [{"type": "audio"}]}]), "row 1, field 'messages': is neither"),
    (second(CHAT, messages=[ASKED, {**SAID, "tool_calls": 7}]), "row 1, field 'messages': is neither text nor"),
]
QUESTIONS = {"question.jsonl": [{"question_id": 1, "category": "c", "turns": ["Name a prime."]}]}
MT_BENCH = {"question_id": 1, "model_id": "ours", "choices": [{"index": 0, "turns": ["7"]}]}


def answered(beside: Mapping[str, Sequence[Any]] = QUESTIONS, **cells: Any) -> Write:
    return lines(MT_BENCH, changed(MT_BENCH, **cells), beside=beside)


OF_MT_BENCH = [
    (answered(question_id=LACKING), "row 1, field 'question_id': no such field"),
    (answered(question_id=[1]), "row 1, field 'question_id': is a list"),
    (answered(question_id=2), "row 1, field 'question_id': '2' is none of the questions"),
    (answered(choices=LACKING), "row 1, field 'choices': no such field"),
    (answered(choices="7"), "row 1, field 'choices': is a str"),
    (answered(choices=["7"]), "row 1, field 'choices': has a choice without turns"),
    (answered(choices=[{"turns": []}]), "row 1, field 'choices': has a choice without turns"),
    (answered(choices=[{"turns": "7"}]), "row 1, field 'choices': has a choice without turns"),
    (answered(choices=[{"turns": [7]}]), "row 1, field 'choices': has a turn that is not text"),
    (
        answered(choices=[{"turns": [{"content": {"text": "7"}}]}]),
        "row 1, field 'choices': has a turn that is not text",
    ),
    (answered(beside={}), "keeps answers without their questions; |keeps answers without their questions, and no"),
    (answered(beside={"question.jsonl": [{"question_id": 1}]}), "question.jsonl, row 0, field 'turns': has no turns"),
]
ARENA = {"uid": "u", "ans_id": "a", "model": "ours", "messages": [ASKED, {**SAID, "content": {"answer": "7"}}]}
OF_ARENA = [
    (second(ARENA, messages=LACKING), "row 1, field 'messages': no such field"),
    (second(ARENA, messages=None), "row 1, field 'messages': no such field"),
    (second(ARENA, messages="x"), "row 1, field 'messages': is a str"),
    (second(ARENA, messages=["x"]), "row 1, field 'messages': is neither text nor a list of turns"),
    (second(ARENA, messages=[]), "row 1, field 'messages': does not end with an assistant's turn"),
    (second(ARENA, messages=[ASKED]), "row 1, field 'messages': does not end with an assistant's turn"),
    (second(ARENA, messages=[{"content": "x"}, SAID]), "row 1, field 'messages': is neither text nor a list of turns"),
    (second(ARENA, messages=[ASKED, {"role": "assistant", "content": 7}]), "row 1, field 'messages'"),
    (second(ARENA, messages=[ASKED, {"role": "assistant", "content": {"answer": 7}}]), "row 1, field 'messages'"),
    (second(ARENA, uid=LACKING), "row 1, field 'uid': no such field"),
    (second(ARENA, uid=None), "row 1, field 'uid': no such field"),
]

# Judgements

PREFERENCE = {
    **{"instruction": "q", "output_1": "x", "output_2": "y", "generator_1": "b", "generator_2": "m"},
    **{"annotator": "w", "preference": 1.5},
}
OF_ALPACA = [
    *((second(PREFERENCE, preference=one), f"row 1, field 'preference': {one} is not in") for one in (7, -1, 2.5, 0.5)),
    (second(PREFERENCE, preference="2"), "row 1, field 'preference': '2' is not a number"),
    (second(PREFERENCE, preference=True), "row 1, field 'preference': True is not a number"),
    (second(PREFERENCE, preference=[2]), r"row 1, field 'preference': \[2\] is not a number"),
    *(
        (second(PREFERENCE, **{name: LACKING}), f"row 1, field '{name}': no such field; present are")
        for name in ("instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator", "preference")
    ),
    (second(PREFERENCE, output_1=None), "row 1, field 'output_1': no such field"),
    (second(PREFERENCE, instruction=["q"]), "row 1, field 'instruction': is a list"),
]
OUTCOME = {"item": "q1", "policy_a": "ours", "policy_b": "theirs", "outcome": "win", "p_a": 0.5}
VERDICTS = {"item": "q1", "policy_a": "ours", "policy_b": "theirs", "verdict_ab": "a", "verdict_ba": "a"}
ONE = {"item": "q1", "policy_a": "ours", "policy_b": "theirs", "verdict": "a"}
OF_OUTCOMES = [
    (second(OUTCOME, outcome="victory"), "row 1, field 'outcome': outcome 'victory' is none of win, loss"),
    (second(OUTCOME, outcome=LACKING), "row 1, field 'outcome': no such field"),
    (second(OUTCOME, outcome=1), "row 1, field 'outcome': outcome '1' is none of win, loss"),
    (second(OUTCOME, p_a="half"), "row 1, field 'p_a': 'half' is not a number"),
    (second(OUTCOME, p_a=1.5), r"row 1, field 'p_a': 1\.5 is not a probability"),
    (second(VERDICTS, verdict_ab="left"), "row 1, field 'verdict_ab': verdict_ab 'left' is none of a, b, tie"),
    (second(VERDICTS, verdict_ba="left"), "row 1, field 'verdict_ba': verdict_ba 'left' is none of b, a, tie"),
    (second(ONE, verdict="first"), "row 1, field 'verdict': verdict 'first' is a position"),
    (second(ONE, verdict="them"), "row 1, field 'verdict': verdict 'them' is none of a, b, tie, ours, theirs"),
    (second({**VERDICTS, "outcome": "win"}, outcome="loss"), "row 1, field 'outcome': outcome 'loss' is not that of"),
    (
        lines({**OUTCOME, "a": "x", "b": "y"}, {**OUTCOME, "a": "x", "b": "y"}),
        "row 1, field 'a': judgement of",
    ),
]

# Labels

LABEL = {"item": "q1", "policy_a": "ours", "policy_b": "theirs", "label": "win", "annotator": "ann"}
OF_LABELS = [
    (second(LABEL, label="maybe"), "row 1, field 'label': label 'maybe' means nothing here"),
    (second(LABEL, label=LACKING), "row 1, field 'label': no such column"),
    (second(LABEL, label=["win"]), "row 1, field 'label': label .* means nothing here"),
    (second(LABEL, label=4), "row 1, field 'label': label 4 means nothing here; .*a rating needs yes_from"),
    (second(LABEL, item=LACKING), "row 1, field 'item': has neither 'unit' nor 'a' nor an item"),
    (second(LABEL, policy_a=LACKING), "row 1, field 'policy_a'"),
    (second(LABEL, weight="heavy"), "row 1, field 'weight': 'heavy' is not a weight"),
    (second(LABEL, weight=-1), "row 1, field 'weight': '-1' is not a weight"),
    (second(LABEL, weight="inf"), "row 1, field 'weight': 'inf' is not a weight"),
    (second(LABEL, a_is="third"), "row 1, field 'a_is': 'third' is none of first"),
    (second(LABEL, simulated="perhaps"), "row 1, field 'simulated': 'perhaps' is none of true"),
]
WIDE = {"item": "q1", "policy_a": "ours", "policy_b": "theirs", "ann": "win", "bob": "tie"}
OF_WIDE = [
    (third(WIDE, ann="maybe"), "row 2, field 'ann': label 'maybe' means nothing here"),
    (third(WIDE, bob=7), "row 2, field 'bob': label 7 means nothing here"),
    (third(WIDE, ann=LACKING), "row 2, field 'ann': no such column"),
    (third(WIDE, bob=LACKING), "row 2, field 'bob': no such column"),
    (third(WIDE, ann=["win"]), "row 2, field 'ann': label .* means nothing here"),
    (third(WIDE, item=LACKING), "row 2, field 'item': has neither 'unit' nor 'a' nor an item"),
    (third(WIDE, weight="heavy"), "row 2, field 'weight': 'heavy' is not a weight"),
    (third(WIDE, weight=0), "row 2, field 'weight': '0' is not a weight"),
    (third(WIDE, a_is="third"), "row 2, field 'a_is': 'third' is none of first"),
    (third(WIDE, simulated="perhaps"), "row 2, field 'simulated': 'perhaps' is none of true"),
]
CHOICE = {"from_name": "label", "to_name": "x", "type": "choices", "value": {"choices": ["win"]}}
TASK = {"data": {"a": "x", "b": "y"}, "annotations": [{"completed_by": 1, "result": [CHOICE]}]}


def task(**result: Any) -> Write:
    return second(TASK, annotations=[{"completed_by": 1, "result": [{**CHOICE, **result}]}])


OF_LABEL_STUDIO = [
    (second(TASK, data=LACKING), "row 1, field 'data': is not a Label Studio task"),
    (second(TASK, data="x"), "row 1, field 'data': is not a Label Studio task"),
    (second(TASK, annotations=LACKING), "row 1, field 'annotations': is not a Label Studio task"),
    (second(TASK, annotations={"result": []}), "row 1, field 'annotations': is not a Label Studio task"),
    (second(TASK, annotations=["x"]), "row 1, field 'annotations': is not a list of JSON objects"),
    (second(TASK, annotations=[{"result": "x"}]), "row 1, field 'annotations.result': is not a list of JSON objects"),
    (second(TASK, annotations=[{"result": ["x"]}]), "row 1, field 'annotations.result': is not a list of JSON objects"),
    (task(value=None), "row 1, field 'label': label None means nothing here"),
    (task(value={"choices": []}), "row 1, field 'label': label None means nothing here"),
    (task(value={"choices": ["win", "tie"]}), "row 1, field 'label': label .* means nothing here"),
    (task(value={"choices": ["maybe"]}), "row 1, field 'label': label 'maybe' means nothing here"),
    (second(TASK, data={"text": "x"}), "row 1, field 'item': has neither 'unit' nor 'a' nor an item"),
]
RECORD = {"id": "1", "fields": {"a": "x", "b": "y"}, "responses": {"label": [{"value": "win", "user_id": "u"}]}}
FLAT = {"a": "x", "b": "y", "label.responses": ["win"], "label.responses.users": ["u"]}
OF_ARGILLA = [
    (second(RECORD, fields=LACKING), "row 1, field 'fields': is not an Argilla record"),
    (second(RECORD, fields="x"), "row 1, field 'fields': is not an Argilla record"),
    (second(RECORD, responses=LACKING), "row 1, field 'responses': is not an Argilla record"),
    (second(RECORD, responses=[]), "row 1, field 'responses': is not an Argilla record"),
    (second(RECORD, metadata=[1]), "row 1, field 'metadata': has metadata that are not an object"),
    (second(RECORD, responses={"label": "win"}), "row 1, field 'responses.label': is not a list of JSON objects"),
    (second(RECORD, responses={"label": ["win"]}), "row 1, field 'responses.label': is not a list of JSON objects"),
    (second(RECORD, responses={"label": [{"value": "maybe"}]}), "row 1, field 'label': label 'maybe' means nothing"),
    (second(RECORD, fields={"text": "x"}), "row 1, field 'item': has neither 'unit' nor 'a' nor an item"),
    (second(FLAT, **{"label.responses": "win"}), "row 1, field 'label.responses': values, users and status are not"),
    (second(FLAT, **{"label.responses.users": []}), "row 1, field 'label.responses': values, users and status are not"),
    (second(FLAT, **{"label.responses": ["maybe"]}), "row 1, field 'label': label 'maybe' means nothing here"),
]
VOTE = {
    **{"question_id": "q", "model_a": "ours", "model_b": "theirs", "winner": "model_a", "judge": "u1", "turn": 1},
    **{"conversation_a": [ASKED, SAID], "conversation_b": [ASKED, SAID]},
}
OF_VOTES = [
    (second(VOTE, winner="ours"), "row 1, field 'winner': 'ours' is none of model_a"),
    (second(VOTE, winner=LACKING), "row 1, field 'winner': no such field"),
    (second(VOTE, winner=1), "row 1, field 'winner': is a int"),
    (second(VOTE, model_a=LACKING), "row 1, field 'model_a': no such field"),
    (second(VOTE, model_b=None), "row 1, field 'model_b': no such field"),
    (second(VOTE, model_a=["ours"]), "row 1, field 'model_a': is a list"),
    (second(VOTE, question_id=LACKING), "row 1, field 'question_id': no such field"),
    (second(VOTE, question_id=[1]), "row 1, field 'question_id': is a list"),
    (second(VOTE, turn=LACKING), "row 1, field 'turn': no such field"),
    (second(VOTE, turn="second"), "row 1, field 'turn': is a str"),
    (second({**VOTE, "tstamp": 1.0}, question_id=LACKING), "row 1, field 'id': no such field"),
]

ONE_HOT = {
    **{"id": 7, "model_a": "ours", "model_b": "theirs", "prompt": '["q"]', "response_a": '["a"]'},
    **{"response_b": '["b"]', "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
}
OF_PREFERENCES = [
    (second(ONE_HOT, winner_model_a=0), "row 1, field 'winner_model_a': is one of 0 columns of winners that say 1"),
    (second(ONE_HOT, winner_model_b=1), "row 1, field 'winner_model_a': is one of 2 columns of winners that say 1"),
    (second(ONE_HOT, winner_tie=True), "row 1, field 'winner_model_a': is one of 2 columns of winners that say 1"),
    (second(ONE_HOT, winner_model_a="ours"), "row 1, field 'winner_model_a': is one of 0 columns"),
    (second(ONE_HOT, winner_model_a=0.5), "row 1, field 'winner_model_a': is one of 0 columns"),
    (second(ONE_HOT, winner_model_a=LACKING), "row 1, field 'winner_model_a': is one of 0 columns"),
    (second(ONE_HOT, model_a=LACKING), "row 1, field 'model_a': no such field"),
    (second(ONE_HOT, model_b=7), "row 1, field 'model_b': is a int"),
    (second(ONE_HOT, id=LACKING), "row 1, field 'id': no such field"),
    (second(ONE_HOT, id=[7]), "row 1, field 'id': is a list"),
]

# What holds the rows


def parquet_cut(folder: Path) -> Path:
    path = folder / "x.parquet"
    pq.write_table(pa.table({"prompt": ["q"] * 100, "text": ["a"] * 100}), path)
    path.write_bytes(path.read_bytes()[:-40])
    return path


def gzip_cut(folder: Path) -> Path:
    path = folder / "x.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(TABLE).encode() * 50)[:-12])
    return path


def zip_cut(folder: Path) -> Path:
    path = folder / "x.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", "{}")
    path.write_bytes(path.read_bytes()[:-30])
    return path


GOOD = json.dumps(TABLE)
OF_CONTAINERS = [
    (text(""), "x.jsonl: is empty"),
    (text(f"{GOOD}\n{{"), "row 1: is not JSON"),
    (text(f"{GOOD}\n[1]\n"), "row 1: is not a JSON object"),
    (text(f"[{GOOD} {GOOD}]", "x.json"), "row 0: is not JSON .no comma after the object"),
    (text(f"[{GOOD}, 7]", "x.json"), "row 1: is not a JSON object"),
    (text(f"[{GOOD}, {{", "x.json"), "row 1: is not JSON"),
    (text(f"[{GOOD}] []", "x.json"), "has more text after the end of its list"),
    (text('{"prompt": "q", "text": "a", "text": "b"}\n'), "row 0, field 'text': appears twice in one object"),
    (text(f'[{GOOD}, {{"prompt": "q", "text": {{"k": 1, "k": 2}}}}]', "x.json"), "row 1, field 'k': appears twice"),
    (text('{"results": {"results": []}, "results": 1}', "x.json"), "field 'results': appears twice in one object"),
    (text("prompt,text\nq,a,b\n", "x.csv"), "row 0: has more cells than the 2 of the header"),
    (text('prompt,text\nq,a\nq,"a\n', "x.csv"), "row 1: is not CSV"),
    (text("prompt,text,text\nq,a,b\n", "x.csv"), "field 'text': appears twice in the header"),
    (text("prompt,text\nq,a\nq\n", "x.csv"), "row 1, field 'text': has no answer"),
    (text("prompt,text\nq,caf\u00e9\n".encode("latin-1"), "x.csv"), "is not UTF-8"),
    (text(b"\x00\x01\x02\x03", "x.bin"), "is neither JSON, JSON lines, CSV, TSV, parquet nor Arrow|is not UTF-8"),
    (parquet_cut, "is not a parquet file"),
    (gzip_cut, "is damaged"),
    (zip_cut, "is a damaged zip archive|is of no known format"),
]
FAMILIES: Mapping[str, tuple[str, Sequence[tuple[Write, str]]]] = {
    "table": ("table", OF_TABLE),
    "chat": ("chat", OF_CHAT),
    "mt-bench": ("", OF_MT_BENCH),
    "arena-hard": ("", OF_ARENA),
    "alpaca-eval-annotations": ("", OF_ALPACA),
    "outcomes": ("", OF_OUTCOMES),
    "label table": ("", OF_LABELS),
    "wide": ("", OF_WIDE),
    "label-studio": ("", OF_LABEL_STUDIO),
    "argilla": ("", OF_ARGILLA),
    "votes": ("", OF_VOTES),
    "preferences": ("", OF_PREFERENCES),
    "containers": ("", OF_CONTAINERS),
}


@pytest.mark.parametrize(
    ("format", "write", "said"),
    [
        pytest.param(format, write, said, id=f"{family} {place}")
        for family, (format, files) in FAMILIES.items()
        for place, (write, said) in enumerate(files)
    ],
)
def test_a_broken_file_is_refused_where_it_is_broken(tmp_path: Path, format: str, write: Write, said: str) -> None:
    source = write(tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        sources.take(source, tmp_path / "out", how=HowRead(format))
    traceback.clear_frames(caught.tb)  # which hold the file half read: closed now, not when memory is collected
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_every_family_has_ten() -> None:
    assert [name for name, (_, files) in FAMILIES.items() if len(files) < 10] == []


# Rows for training

ROW = {"prompt": "Name a prime.", "chosen": "7", "rejected": "8"}
RATED = {"prompt": "Name a prime.", "completion": "7", "label": True}
OF_ROWS = [
    (second(ROW, rejected=LACKING), "row 1, field 'rejected': is missing, and chosen is there"),
    (second(ROW, chosen=LACKING), "row 1, field 'chosen': is missing, and rejected is there"),
    (second(ROW, prompt=7), "row 1, field 'prompt': is neither text nor a list of turns"),
    (second(ROW, chosen=[{"content": "x"}]), "row 1, field 'chosen': is neither text nor a list of turns"),
    (second(RATED, label="good"), "row 1, field 'label': 'good' is not a label"),
    (second(RATED, label=2), "row 1, field 'label': 2 is not a label"),
    (lines(ROW, RATED), "row 1: has completion, and rows before it have chosen and rejected"),
    (lines({"messages": [ASKED, SAID]}, {"messages": [ASKED]}), "row 1, field 'messages': has no assistant's turn"),
    (lines({"messages": [ASKED, SAID]}, {"messages": 7}), "row 1, field 'messages': is neither text nor a list"),
    (lines(ROW, {"question": "q"}), "row 1, field 'prompt': has neither prompt, messages, text"),
    (lines({"prompt": "q", "completions": ["a"], "labels": [True]}), "row 0, field 'completions': is of stepwise"),
    (text('{"prompt": "q", "prompt": "p", "completion": "a"}\n'), "row 0, field 'prompt': appears twice in one object"),
]


@pytest.mark.parametrize(("write", "said"), [pytest.param(*one, id=str(n)) for n, one in enumerate(OF_ROWS)])
def test_broken_rows_are_refused_where_they_are_broken(tmp_path: Path, write: Write, said: str) -> None:
    source = write(tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        rows_in(source, tmp_path / "out")
    assert str(caught.value).startswith(str(source))
    assert "\n" not in str(caught.value)


def test_votes_with_a_column_a_winner(tmp_path: Path) -> None:
    other = {**ONE_HOT, "id": 8, "winner_model_a": "0", "winner_tie": "1"}
    found = sources.read_labels(lines(ONE_HOT, other)(tmp_path), "")
    assert [(one.item, one.policy_a, one.policy_b, one.label) for one in found] == [
        ("7", "ours", "theirs", "win"),
        ("8", "ours", "theirs", "tie"),
    ]
