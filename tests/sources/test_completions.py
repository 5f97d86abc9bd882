"""Answers in the layouts of other tools become the same completions, whatever the container and the order of rows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from perl_eval import sources
from perl_eval.errors import DataError, OptionError, UserError
from perl_eval.records import Completion, Message
from perl_eval.sources.brought import HowRead, completions_in
from perl_eval.sources.completions import completions
from perl_eval.storage import run_folder

ASKED = ["Name a prime.", "Say hello.", "Which colour has a ripe tomato?"]
SAID = ["7", "Hello!", "Red."]


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def document(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


def alpaca_eval(folder: Path) -> Path:
    rows = [
        {"dataset": "helpful_base", "instruction": asked, "output": said, "generator": "ours"}
        for asked, said in zip(ASKED, SAID, strict=True)
    ]
    return document(folder / "model_outputs.json", rows)


def chat(folder: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in zip(ASKED, SAID, strict=True)
    ]
    return lines(folder / "ours.jsonl", rows)


def sharegpt(folder: Path) -> Path:
    rows = [
        {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]}
        for asked, said in zip(ASKED, SAID, strict=True)
    ]
    return document(folder / "ours.json", rows)


def mt_bench(folder: Path) -> Path:
    questions = [{"question_id": n, "category": "c", "turns": [asked, "More."]} for n, asked in enumerate(ASKED, 81)]
    lines(folder / "mt_bench" / "question.jsonl", questions)
    rows = [
        {
            "question_id": n,
            "answer_id": f"x{n}",
            "model_id": "ours",
            "choices": [{"index": 0, "turns": [said, "And more."]}],
            "tstamp": 1.0,
        }
        for n, said in enumerate(SAID, 81)
    ]
    return lines(folder / "mt_bench" / "model_answer" / "ours.jsonl", rows)


def arena_hard(folder: Path) -> Path:
    rows = [
        {
            "uid": f"u{n}",
            "ans_id": f"x{n}",
            "model": "ours",
            "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": {"answer": said}}],
            "tstamp": 1.0,
            "metadata": {"token_len": 3},
        }
        for n, (asked, said) in enumerate(zip(ASKED, SAID, strict=True))
    ]
    return lines(folder / "ours.jsonl", rows)


FORMATS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "alpaca-eval": ("table", alpaca_eval),
    "chat": ("chat", chat),
    "sharegpt": ("chat", sharegpt),
    "mt-bench": ("mt-bench", mt_bench),
    "arena-hard": ("arena-hard", arena_hard),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_same_answers(tmp_path: Path, name: str) -> None:
    format, write = FORMATS[name]
    source = write(tmp_path)
    found = completions(source)
    assert [(one.prompt, one.text, one.policy, one.draw, one.finish) for one in found] == [
        ((Message("user", asked),), said, "ours", 0, "stop") for asked, said in zip(ASKED, SAID, strict=True)
    ]
    folder = sources.take_completions(source, tmp_path / "out")
    assert run_folder.read(folder, Completion) == found
    card = run_folder.read_card(folder)
    assert card is not None
    assert card.notes["format"] == format
    assert card.notes["rows"] == 3


def test_nothing_depends_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n % 5}", "text": f"a{n % 7}"} for n in range(40)]
    mixed = random.Random(0).sample(rows, len(rows))
    first, second = (
        completions(lines(tmp_path / name / "x.jsonl", part)) for name, part in (("1", rows), ("2", mixed))
    )
    assert sorted(first, key=lambda one: one.id) == sorted(second, key=lambda one: one.id)
    assert len({one.id for one in first}) == 40
    by_item = {(one.item, one.draw) for one in first}
    assert by_item == {(item, draw) for item in {one.item for one in first} for draw in range(8)}


def test_a_file_of_several_draws_is_numbered_as_objects_are(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n % 3}", "text": f"a{n}", "model": "m"} for n in range(10)]
    folder = sources.take_completions(lines(tmp_path / "x.jsonl", rows), tmp_path / "out")
    assert [one.draw for one in run_folder.read(folder, Completion)] == [one.draw for one in completions(rows)]


def test_second_turns_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = sources.take_completions(mt_bench(tmp_path), tmp_path / "out")
    card = run_folder.read_card(folder)
    assert card is not None
    assert list(card.notes["left_out"].values()) == [3]


def test_answers_without_their_questions_say_what_to_give(tmp_path: Path) -> None:
    source = mt_bench(tmp_path)
    questions = source.parent.parent / "question.jsonl"
    elsewhere = questions.rename(tmp_path / "elsewhere.jsonl")
    with pytest.raises(DataError, match="give it with --requests"):
        completions(source)
    folder = sources.take_completions(source, tmp_path / "out", how=HowRead(requests=elsewhere))
    assert len(run_folder.read(folder, Completion)) == 3


def test_columns_of_any_name(tmp_path: Path) -> None:
    rows = [{"frage": "q", "antwort": "a", "wer": "m"}]
    (found,) = completions(rows, columns={"prompt": "frage", "text": "antwort", "policy": "wer"})
    assert (found.text, found.policy) == ("a", "m")
    with pytest.raises(DataError, match=r"'frege'.*no such column; present are frage, antwort, wer"):
        completions(rows, columns={"prompt": "frege", "text": "antwort"})
    with pytest.raises(OptionError, match="no completion has"):
        completions(rows, columns={"promt": "frage"})


def test_an_unknown_format_lists_what_is_known(tmp_path: Path) -> None:
    source = lines(tmp_path / "x.jsonl", [{"frage": "q"}])
    with pytest.raises(DataError, match=r"no known format of completions \(columns frage\); known are .*chat.*table"):
        completions(source)
    with pytest.raises(OptionError, match="did you mean chat"):
        completions(source, format="chatt")


def test_two_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    first, second = (
        lines(tmp_path / name / "outputs.jsonl", [{"prompt": "q", "text": name}]) for name in ("base", "tuned")
    )
    said: list[str] = []
    folders = completions_in([first, second], tmp_path / "out", how=HowRead(), say=said.append)
    assert [run_folder.read(one, Completion)[0].policy for one in folders] == ["base/outputs", "tuned/outputs"]
    assert "derived: dataset, group, id, item, policy" in said[0]
    again = completions_in([first, second], tmp_path / "out", how=HowRead())
    assert again == folders


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        completions(tmp_path / "none.jsonl")


def drawn(*draws: int | str | None, prompt: str = "q") -> list[dict[str, Any]]:
    return [{"prompt": prompt, "text": f"{prompt} {n}", "draw": draw} for n, draw in enumerate(draws)]


@pytest.mark.parametrize(
    ("draws", "said"),
    [
        ((1, 0, 1), r"row 2, field 'draw': a second answer of 'x' to item '\w+' is draw 1"),
        ((0, None), r"row 1, field 'draw': of the answers of 'x' .* some say which draw they are"),
        (("12345678901234567890123",), "row 0, field 'draw': 12345678901234567890123 is too large"),
    ],
)
def test_draws_that_cannot_be_kept_are_refused(tmp_path: Path, draws: tuple[int | str | None, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        completions(lines(tmp_path / "x.jsonl", drawn(*draws)))


def test_given_draws_stay_beside_answers_that_say_none(tmp_path: Path) -> None:
    source = lines(tmp_path / "x.jsonl", [*drawn(3, 1), *drawn(None, None, prompt="other")])
    for found in (
        completions(source),
        run_folder.read(sources.take_completions(source, tmp_path / "out"), Completion),
    ):
        assert [one.draw for one in found[:2]] == [3, 1]
        assert {one.draw for one in found[2:]} == {0, 1}


def test_equal_answers_get_the_same_ids_in_any_order(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "text": "t", "group": f"g{n}"} for n in range(20)]
    mixed = random.Random(0).sample(rows, len(rows))
    read = []
    for name, part in (("1", rows), ("2", mixed)):
        source = lines(tmp_path / name / "x.jsonl", part)
        kept = run_folder.read(sources.take_completions(source, tmp_path / name / "out"), Completion)
        assert kept == completions(source)
        read.append({(one.id, one.group, one.draw) for one in kept})
    assert read[0] == read[1]
    assert len({name for name, _, _ in read[0]}) == 20


@pytest.mark.parametrize("backwards", [False, True])
def test_a_row_without_its_item_has_items_told_by_prompts(tmp_path: Path, *, backwards: bool) -> None:
    rows = [{"prompt": f"p{n}", "text": f"t{n}", "item": f"i{n}"} for n in range(40)]
    partly = [{name: cell for name, cell in row.items() if name != "item" or row["prompt"] != "p30"} for row in rows]
    first = lines(tmp_path / "a.jsonl", rows)
    second = lines(tmp_path / "b.jsonl", partly[::-1] if backwards else partly)
    said: list[str] = []
    folders = completions_in([first, second], tmp_path / "out", say=said.append)
    assert said[0] == (
        f"only some rows of {second} name their items, so items are matched by the exact text of their prompts"
    )
    one, other = ({row.item for row in run_folder.read(folder, Completion)} for folder in folders)
    assert one == other


def test_a_file_that_gives_no_answers_says_why(tmp_path: Path) -> None:
    failed = {"custom_id": "1", "response": {"status_code": 500, "body": {}}, "error": None}
    source = lines(tmp_path / "x.jsonl", [failed])
    lines(tmp_path / "asked.jsonl", [{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "q"}]}}])
    with pytest.raises(DataError, match=r"gives no answers \(left out: 1 request that failed\)"):
        sources.take_completions(source, tmp_path / "out")


def test_broken_files_beside_a_batch_are_passed_over(tmp_path: Path) -> None:
    body = {"model": "m", "choices": [{"message": {"content": "yes"}}]}
    source = lines(tmp_path / "x.jsonl", [{"custom_id": "1", "response": {"status_code": 200, "body": body}}])
    lines(tmp_path / "asked.jsonl", [{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "q"}]}}])
    (tmp_path / "a.jsonl").write_bytes(b'{"custom_id": "1", "body": {}}\n{"custom')
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe broken")
    (tmp_path / "c.jsonl").symlink_to(tmp_path / "gone.jsonl")
    assert [one.text for one in completions(source)] == ["yes"]


def test_anothers_run_json_is_no_card(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"project": "x", "lr": 0.1}', "utf-8")
    source = lines(tmp_path / "x.jsonl", [{"prompt": "q", "text": "a"}])
    assert len(run_folder.read(sources.take_completions(source, tmp_path / "out"), Completion)) == 1
    (tmp_path / "run.json").write_text('{"verb": "sample"}', "utf-8")
    with pytest.raises(DataError, match="is not a run card"):
        sources.take_completions(source, tmp_path / "other")


@pytest.mark.parametrize(
    ("row", "field"), [({"prompt": "q", "text": 7}, "text"), ({"prompt": 7, "text": "a"}, "prompt")]
)
def test_the_field_that_is_no_text_is_named(row: dict[str, Any], field: str) -> None:
    with pytest.raises(DataError, match=f"field '{field}': is neither text nor a list of turns"):
        completions([row])


def test_columns_that_nothing_is_read_from_are_said(tmp_path: Path) -> None:
    rows = [{"question": "q", "response": "a", "rating": 4, "rater": "ann"}]
    assert sources.told(sources.take(lines(tmp_path / "x.jsonl", rows), tmp_path / "out")).endswith(
        "; not read: rating, rater"
    )
    known = [{"instruction": "q", "output": "a", "generator": "m", "dataset": "d"}]
    assert "not read" not in sources.told(sources.take(lines(tmp_path / "y.jsonl", known), tmp_path / "known"))
