"""Recorded answers: rated rows as completions and labels that meet in the same units."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
from PIL import Image
from sklearn.metrics import cohen_kappa_score

from perl_eval import figure_names
from perl_eval.errors import DataError, UserError
from perl_eval.judges import prompting
from perl_eval.judges.registry import open_judge
from perl_eval.judging import judge
from perl_eval.records import Completion, Estimate, HumanLabel, unit_of
from perl_eval.scoring import agree
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


def word(place: int) -> str:
    return "x" * (1 + (place * 7) % 5)


def preferences(count: int) -> list[dict[str, object]]:
    """Return pairs of which the longer answer is preferred more often than not; some are equally long."""
    said = [(word(place), word(place // 3 + 1) + ("" if place % 3 else "yy")) for place in range(count)]
    made = [
        tiny_models.row(
            f"p{place}",
            f"say {place}",
            chosen=tiny_models.turns("assistant", one),
            rejected=tiny_models.turns("assistant", other + "."),
        )
        for place, (one, other) in enumerate(said)
    ]
    return made


def judged(folder: Path) -> tuple[list[HumanLabel], float]:
    """Let a judge that likes length compare recorded answers, and return the labels and its kappa with them."""
    out = judge.run(
        folder / "a",
        folder / "b",
        folder.parent / "judged",
        judge=open_judge("scripted:length"),
        options=judge.JudgeOptions(prompt="helpful"),
    )
    estimates = run_folder.read(agree.run(out, folder, folder.parent / "agree"), Estimate)
    (kappa,) = [one.value for one in estimates if one.name == figure_names.HUMAN_JUDGE_COHEN_KAPPA]
    assert kappa is not None
    return run_folder.read(folder, HumanLabel), kappa


def test_a_judge_of_length_agrees_with_preferences_as_counted_by_hand(tmp_path: Path) -> None:
    made = preferences(60)
    out = recorded.run(tiny_models.write_rows(tmp_path / "data", test=made), tmp_path / "out")
    labels, kappa = judged(out)
    # Counted from the rows alone: which side is a is only looked up by its text.
    a = {one.item: one.text for one in run_folder.read(out / "a", Completion)}
    people, lengths = [], []
    for row in made:
        chosen, rejected = (row[name][0]["content"] for name in ("chosen", "rejected"))
        sign = 1 if a[row["id"]] == chosen else -1
        people.append(sign)
        lengths.append(sign * (len(chosen) > len(rejected)) - sign * (len(chosen) < len(rejected)))
    assert {sign: label.label for sign, label in zip(people, labels, strict=True)} == {1: "win", -1: "loss"}
    expected = cohen_kappa_score(people, lengths)
    assert abs(expected) > 0.1
    assert kappa == pytest.approx(expected, abs=1e-12)
    # Both sides hold chosen answers: without the shuffle every label is a win, and kappa is 0 whatever the judge says.
    assert 20 <= people.count(1) <= 40


def test_sides_depend_on_the_seed_and_the_id_and_on_nothing_else(tmp_path: Path) -> None:
    made = preferences(40)
    data = tiny_models.write_rows(tmp_path / "data", test=made, train=made[::-1])
    sides = [
        {label.item: label.label for label in run_folder.read(recorded.run(data, tmp_path / name, **how), HumanLabel)}
        for name, how in (("one", {}), ("two", {"split": "train"}), ("three", {"seed": 1}))
    ]
    assert sides[0] == sides[1] != sides[2]
    card = run_folder.read_card(tmp_path / "one")
    assert card is not None
    assert card.notes["pairs"] == 40
    assert sum(card.notes["labels"].values()) == 40


def test_votes_on_one_pair_are_labels_of_one_unit(tmp_path: Path) -> None:
    def vote(id_: str, voter: str, better: str, worse: str, *, tie: bool = False) -> dict[str, object]:
        turns = {"chosen": tiny_models.turns("assistant", better), "rejected": tiny_models.turns("assistant", worse)}
        models = {"chosen_model": f"model {better}", "rejected_model": f"model {worse}"}
        return tiny_models.row(id_, "say", **turns, **models, pair="q1", voter=voter, tie=tie)

    votes = [vote("1", "ann", "x", "y"), vote("2", "bob", "y", "x"), vote("3", "cid", "x", "y", tie=True)]
    out = recorded.run(tiny_models.write_rows(tmp_path / "data", test=votes), tmp_path / "out")
    (a,), (b,) = (run_folder.read(out / side, Completion) for side in recorded.SIDES)
    assert {(one.policy, one.text) for one in (a, b)} == {("model x", "x"), ("model y", "y")}
    labels = run_folder.read(out, HumanLabel)
    assert {label.unit for label in labels} == {unit_of(a.id, b.id)}
    ann = "win" if a.text == "x" else "loss"
    bob = "loss" if a.text == "x" else "win"
    assert [(label.annotator, label.label) for label in labels] == [("ann", ann), ("bob", bob), ("cid", "tie")]
    votes[1] = vote("2", "bob", "y", "z")
    with pytest.raises(DataError, match=r"row 1, field 'pair': another row of pair 'q1' has other answers"):
        recorded.run(tiny_models.write_rows(tmp_path / "other", test=votes), tmp_path / "again")


def test_equal_answers_are_dropped_and_counted_and_turns_of_others_are_named(tmp_path: Path) -> None:
    rest = [
        *tiny_models.turns("assistant", "hi"),
        *tiny_models.turns("user", "and"),
        *tiny_models.turns("assistant", "x"),
    ]
    same = {name: tiny_models.turns("assistant", "x") for name in ("chosen", "rejected")}
    made = [tiny_models.row("1", "say", **same), tiny_models.row("2", "say", **same | {"chosen": rest})]
    out = recorded.run(tiny_models.write_rows(tmp_path / "data", test=made), tmp_path / "out")
    card = run_folder.read_card(out)
    assert card is not None
    assert (card.notes["pairs"], card.notes["dropped"]) == (1, {"both answers are the same text": 1})
    texts = {one.text for side in recorded.SIDES for one in run_folder.read(out / side, Completion)}
    assert texts == {"x", "assistant: hi\n\nuser: and\n\nassistant: x"}
    assert {one.policy for one in run_folder.read(out / "a", Completion)} == {"recorded-a"}
