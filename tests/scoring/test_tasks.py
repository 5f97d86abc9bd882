"""The verb `score` on tasks with known answers: VQA and actions on a screen, by hand and on real rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perl_eval import building
from perl_eval.errors import DataError, UserError
from perl_eval.records import Completion, Estimate, Judgement, Score
from perl_eval.scoring import tasks
from perl_eval.stats.bootstrap import Resampling
from perl_eval.storage import parquet, run_folder

QUICK = Resampling(draws=50)


def answers(policy: str, texts: dict[str, str], groups: dict[str, str] | None = None) -> list[Completion]:
    return [
        Completion(f"{policy}{item}", item, (groups or {}).get(item, item), "d", policy, (), text, "stop", 0)
        for item, text in texts.items()
    ]


def question(place: int, given: list[str], answer_type: str) -> dict[str, Any]:
    people = [{"answer": answer, "answer_confidence": "yes", "answer_id": p + 1} for p, answer in enumerate(given)]
    return {"id": f"q{place}", "answers": people, "question_type": "what", "answer_type": answer_type}


QUESTIONS = [
    question(0, ["red"] * 8 + ["blue"] * 2, "other"),
    question(1, ["2"] * 10, "number"),
    question(2, ["yes"] * 3 + ["no"] * 7, "yes/no"),
]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.Table.from_pylist(QUESTIONS[:2]), tmp_path / "rows" / "train.parquet")
    pq.write_table(pa.Table.from_pylist(QUESTIONS[2:]), tmp_path / "rows" / "validation-0.parquet")
    return tmp_path / "rows"


def scored(
    folder: Path, data: Path, own: list[Completion], **beside: list[Any]
) -> tuple[dict[tuple[str, str], Estimate], list[Score]]:
    parquet.write(folder / "own.parquet", own, Completion)
    files = {}
    for name, records in beside.items():
        if name != "rules":
            files[name] = folder / f"{name}.parquet"
            parquet.write(files[name], records, type(records[0]))
    how = tasks.TaskOptions(tuple(beside.get("rules", ("smallest_box",))), QUICK)
    out = tasks.run(folder / "own.parquet", data, folder / "out", beside=tasks.Beside(**files), options=how)
    found = run_folder.read(out, Estimate)
    keyed = {(estimate.subject, estimate.name): estimate for estimate in found}
    assert len(keyed) == len(found)
    return keyed, run_folder.read(out, Score)


def test_vqa_by_hand(tmp_path: Path, questions: Path) -> None:
    own = answers("rl", {"q0": "the blue", "q1": "two", "q2": "yes"})
    found, scores = scored(tmp_path, questions, own)
    # Two of ten said blue: 0.6. Where all say 2 nothing is normalised, so "two" is wrong. Three of ten said yes: 0.9.
    assert [score.value for score in scores] == pytest.approx([0.6, 0.0, 0.9])
    assert found["rl", "VQA accuracy"].value == pytest.approx(0.5)
    assert found["rl, answer type number", "VQA accuracy"].value == 0.0
    assert found["rl, question type what", "VQA accuracy"].n == 3


def test_the_papers_difference_to_the_sft_policy_is_paired(tmp_path: Path, questions: Path) -> None:
    own = answers("rl", {"q0": "red", "q1": "2", "q2": "yes"})
    base = answers("sft", {"q0": "blue", "q1": "2"})
    found, _ = scored(tmp_path, questions, own, against=base)
    gap = found["rl minus sft", "VQA accuracy difference"]
    # 1 - 0.6 and 1 - 1; the third question was not sampled by the SFT policy.
    assert gap.value == pytest.approx(0.2)
    assert (gap.n, gap.n_missing, gap.method) == (2, 1, "Wilson at the effective size")
    assert found["rl minus sft, answer type other", "VQA accuracy difference"].value == pytest.approx(0.4)


def test_draws_of_an_item_are_averaged_before_pairing(tmp_path: Path, questions: Path) -> None:
    own = answers("rl", {"q0": "red", "q1": "2"})
    own += [replace(one, id=f"{one.id}-2", draw=1, text="blue") for one in own]
    found, _ = scored(tmp_path, questions, own, against=answers("sft", {"q0": "blue", "q1": "2"}))
    # Means 0.8 and 0.5 against 0.6 and 1.
    assert found["rl minus sft", "VQA accuracy difference"].value == pytest.approx((0.2 - 0.5) / 2)


def step(place: int, action: dict[str, Any], boxes: list[list[int]] | None, size: int | None = 1000) -> dict[str, Any]:
    empty = {"x": None, "y": None, "direction": None, "text": None, "app_name": None}
    return {
        "id": f"s{place}",
        "action": {**empty, **action},
        "candidate_boxes": boxes,
        "screen_width": size,
        "screen_height": size,
    }


STEPS = [
    step(0, {"action_type": "click", "x": 50, "y": 50}, [[0, 0, 400, 400], [40, 40, 60, 60]]),
    step(1, {"action_type": "click", "x": 500, "y": 500}, []),
    step(2, {"action_type": "wait"}, None, None),
    step(3, {"action_type": "click", "x": 500, "y": 500}, [[450, 450, 550, 550]], None),
]
TEXTS = {
    "s0": '{"action_type": "click", "x": 70, "y": 70}',
    "s1": '{"action_type": "click", "x": 500, "y": 500}',
    "s2": 'I wait. {"action_type": "wait"}',
    "s3": "no idea",
}


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.Table.from_pylist(STEPS), tmp_path / "rows" / "test.parquet")
    return tmp_path / "rows"


def test_actions_by_rule(tmp_path: Path, steps: Path) -> None:
    found, scores = scored(
        tmp_path, steps, answers("rl", TEXTS), rules=["smallest_box", "any_box", "os_atlas", "exact"]
    )
    assert found["rl", "action type match"].value == pytest.approx(3 / 4)
    assert "rule" not in found["rl", "action type match"].method
    small = found["rl, rule smallest_box", "action step match"]
    # s0 misses the small box, s1 has no box, s2 is right, s3 holds no action.
    assert (small.value, small.n, small.n_missing) == (pytest.approx(1 / 3), 3, 1)
    assert found["rl, rule any_box", "action step match"].value == pytest.approx(2 / 3)
    assert found["rl, rule os_atlas", "action step match"].value == pytest.approx(3 / 4)
    assert found["rl, rule exact", "action step match"].value == pytest.approx(2 / 4)
    unknown = [score for score in scores if score.value is None]
    assert [(score.metric, score.reason) for score in unknown] == [
        ("action step match, smallest_box", "no candidate box holds the gold point"),
        ("action step match, any_box", "there is no candidate box"),
    ]


def judged(one: Completion, outcome: str) -> Judgement:
    return Judgement(
        f"j{one.id}",
        *("yes_no", one.item, one.group, "d", one.id, "", one.policy, "", (), one.text, "", outcome, (), "judge x"),
        "",
        False,
    )


def test_judge_and_rule_are_held_against_each_other(tmp_path: Path, steps: Path) -> None:
    own = answers("rl", TEXTS)
    said = [judged(one, outcome) for one, outcome in zip(own, ("yes", "yes", "yes", "unjudged"), strict=True)]
    found, _ = scored(tmp_path, steps, own, judged=said)
    # The rule says no, unknown, yes on what the judge calls right; the last step has no verdict.
    exact = found["rl, judge judge x, rule smallest_box", "judge-rule exact agreement"]
    assert (exact.value, exact.n, exact.n_missing) == (0.5, 2, 1)


def test_a_difference_of_step_match(tmp_path: Path, steps: Path) -> None:
    base = answers("sft", {**TEXTS, "s2": "no idea"})
    found, _ = scored(tmp_path, steps, answers("rl", TEXTS), against=base)
    gap = found["rl minus sft, rule smallest_box", "action step match difference"]
    assert (gap.value, gap.n) == (pytest.approx(1 / 3), 3)


def test_what_does_not_fit_is_refused(tmp_path: Path, questions: Path) -> None:
    with pytest.raises(DataError, match="no row 'q9', which a completion of rl answers"):
        scored(tmp_path / "a", questions, answers("rl", {"q0": "x", "q9": "x"}))
    with pytest.raises(UserError, match="answered by a completion"):
        scored(tmp_path / "b", questions, answers("rl", {"z": "x"}))
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"id": ["q0"]}), tmp_path / "other" / "test.parquet")
    with pytest.raises(DataError, match="neither people's answers"):
        scored(tmp_path / "c", tmp_path / "other", answers("rl", {"q0": "x"}))
    with pytest.raises(UserError, match="no rule 'vibes'; choose from smallest_box"):
        tasks.TaskOptions(("vibes",))
    (tmp_path / "void").mkdir()
    with pytest.raises(UserError, match="holds no rows"):
        scored(tmp_path / "d", tmp_path / "void", answers("rl", {"q0": "x"}))
    broken = {**STEPS[0], "action": {"action_type": None}}
    (tmp_path / "broken").mkdir()
    pq.write_table(pa.Table.from_pylist([broken]), tmp_path / "broken" / "test.parquet")
    with pytest.raises(DataError, match="row 0, field 'action': is not an action"):
        scored(tmp_path / "e", tmp_path / "broken", answers("rl", {"s0": "x"}))


def built(name: str, config: str, source: Path, out: Path) -> Path:
    """Build one config of real rows; return its folder."""
    options = building.BuildOptions(checksums="record", cache_dir=out / "cache")
    return building.run(name, out / "built", config=config, data_dir=source, options=options) / config


@pytest.mark.realdata
@pytest.mark.slow
def test_real_questions_with_known_answers(tmp_path: Path, real_data: Path) -> None:
    data = built("vqav2", "questions", real_data / "vqav2", tmp_path)
    (file,) = data.glob("train*.parquet")
    table = pq.read_table(file, columns=["id", "group", "multiple_choice_answer"])
    rows = table.to_pylist()[:3000]
    groups = {row["id"]: row["group"] for row in rows}
    people = answers("people", {row["id"]: row["multiple_choice_answer"] for row in rows}, groups)
    yes = answers("yes", {row["id"]: "yes" for row in rows}, groups)
    found, _ = scored(tmp_path, data, people, against=yes)
    # Over all rows the official code gives the consensus 0.967.
    assert found["people", "VQA accuracy"].value == pytest.approx(0.967, abs=0.01)
    gap = found["people minus yes", "VQA accuracy difference"]
    assert gap.n == 3000
    # "yes" is never the answer to a question for a number.
    number = found["people minus yes, answer type number", "VQA accuracy difference"]
    assert number.value == pytest.approx(found["people, answer type number", "VQA accuracy"].value, abs=0.01)


@pytest.mark.realdata
@pytest.mark.slow
def test_real_steps_with_known_actions(tmp_path: Path, real_data: Path) -> None:
    data = built("android-control", "steps_text", real_data / "androidcontrol", tmp_path)
    (file,) = data.glob("test*.parquet")
    rows = pq.read_table(file, columns=["id", "group", "completion"]).to_pylist()
    groups = {row["id"]: row["group"] for row in rows}
    perfect = answers("perfect", {row["id"]: row["completion"][0]["content"] for row in rows}, groups)
    wait = answers("wait", {row["id"]: json.dumps({"action_type": "wait"}) for row in rows}, groups)
    rules = ["smallest_box", "any_box", "exact"]
    found, _ = scored(tmp_path, data, perfect, against=wait, rules=rules)
    assert found["perfect", "action type match"].value == 1.0
    for rule in rules:
        assert found[f"perfect, rule {rule}", "action step match"].value == 1.0, rule
    # 8,444 steps; of 5,074 clicks and 9 long presses those without a box around the point cannot be told.
    small = found["perfect, rule smallest_box", "action step match"]
    assert small.n + small.n_missing == 8444
    assert 209 <= small.n_missing <= 260
    # Always waiting is right in 567 steps.
    gap = found["perfect minus wait, rule exact", "action step match difference"]
    assert gap.value == pytest.approx(1 - 567 / 8444)
