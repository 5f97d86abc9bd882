"""Recorded answers: rated rows as completions and labels that meet in the same units."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
from PIL import Image

from perl_eval.errors import DataError, UserError
from perl_eval.judges import prompting
from perl_eval.records import Completion, HumanLabel, unit_of
from perl_eval.sources import recorded
from perl_eval.storage import images, run_folder


def test_labels_are_of_the_completions_beside_them(tmp_path: Path) -> None:
    made = tiny_models.ratings(0, 30)
    data = tiny_models.write_rows(tmp_path / "data", train=made[:10], test=made[10:])
    out = recorded.run(data, tmp_path / "out")
    completions, labels = run_folder.read(out, Completion), run_folder.read(out, HumanLabel)
    assert [label.unit for label in labels] == [unit_of(completion.id) for completion in completions]
    assert len({label.unit for label in labels}) == 20
    assert [label.label for label in labels] == ["yes" if row["label"] else "no" for row in made[10:]]
    for row, completion, label in zip(made[10:], completions, labels, strict=True):
        assert completion.text == row["completion"][0]["content"]
        assert completion.prompt[0].content == row["prompt"][0]["content"]
        assert (completion.item, completion.group, completion.dataset) == (row["id"], row["group"], "paint")
        assert (label.item, label.group, label.annotator, label.simulated) == (row["id"], row["group"], "thumbs", False)
        assert (completion.policy, completion.token_ids, completion.logprob) == (recorded.POLICY, (), None)
    card = run_folder.read_card(out)
    assert card is not None
    assert card.notes == {"answers": 20, "yes": sum(row["label"] for row in made[10:])}


def test_answers_of_several_turns_are_one_text(tmp_path: Path) -> None:
    answer = [*tiny_models.turns("assistant", "red"), *tiny_models.turns("assistant", "gold")]
    data = tiny_models.write_rows(tmp_path / "data", all=[tiny_models.row("1", "hi", completion=answer, label=False)])
    (completion,) = run_folder.read(recorded.run(data, tmp_path / "out", split="all", annotator="me"), Completion)
    assert completion.text == "red\ngold"
    (label,) = run_folder.read(tmp_path / "out", HumanLabel)
    assert (label.label, label.annotator) == ("no", "me")


def test_a_second_call_does_nothing_and_another_split_is_refused(tmp_path: Path) -> None:
    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.ratings(0, 3), test=tiny_models.ratings(1, 3))
    out = recorded.run(data, tmp_path / "out")
    before = (out / "completions.parquet").stat().st_mtime_ns
    assert recorded.run(data, tmp_path / "out") == out
    assert (out / "completions.parquet").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="another `recorded` run"):
        recorded.run(data, tmp_path / "out", split="train")


def test_rows_without_labels_are_refused(tmp_path: Path) -> None:
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.demonstrations(0, 3))
    with pytest.raises(DataError, match="field 'label': no such column"):
        recorded.run(data, tmp_path / "out")


def test_pictures_of_rows_lie_beside_the_answers_and_can_be_judged(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), (9, 9, 9)).save(content, "png")
    asked = [{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "what is it"}]}]
    answer = [{"role": "assistant", "content": [{"type": "text", "text": "a dark square"}]}]
    seen = {"images": [{"bytes": content.getvalue(), "path": None}], "prompt": asked, "completion": answer}
    rows = [tiny_models.row(name, "x", label=True) | seen for name in ("1", "2")]
    out = recorded.run(tiny_models.write_rows(tmp_path / "data", test=rows), tmp_path / "out")
    completions = run_folder.read(out, Completion)
    (path,) = {path for one in completions for path in images.locate(out, one.images)}
    assert images.read(path) == content.getvalue()
    assert len(list((out / "images").iterdir())) == 1
    shown = replace(completions[0], images=(path,))
    question = prompting.question(prompting.load("action"), [shown], order="none", id="j")
    assert "(picture 1)what is it" in question.messages[-1].content
    assert question.images == (path,)
