"""VQA accuracy: the official figures and the quirks of the official normalisation."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from perl_eval.stats.vqa_accuracy import normalise, vqa_accuracies, vqa_accuracy


@pytest.mark.parametrize(("matches", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1), (10, 1)])
def test_ten_people(matches: int, expected: float) -> None:
    # By leaving out each of ten: of 2 matches, 2 sets keep one match and 8 keep two: (2 / 3 + 8 * 2 / 3) / 10 = 0.6.
    people = ["red"] * matches + [f"other {place}" for place in range(10 - matches)]
    assert vqa_accuracy("red", people) == pytest.approx(expected)


# Each pair was read off the official code.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Red Car", "red car"),
        ("two dogs", "2 dogs"),
        ("none", "0"),
        ("dont know", "don't know"),
        ("couldntve", "couldntve"),  # the table lacks the form without either apostrophe
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("y'alld've", "y'all'd've"),
        ("black-white", "black white"),  # no space beside the mark: a space takes its place
        ("black -white", "black white"),  # a space beside it: removed
        ("1,000", "1000"),  # a comma between digits: every mark is removed
        ("1,000/day", "1000day"),
        ("a.b", "ab"),
        ("1.5", "1.5"),
        ("no.", "no"),
        ("a" + "." * 40, "a" + "." * 8),  # at most 32 periods go
        ("what?!", "what"),
        ("it's", "it's"),
        ("a", ""),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_nothing_is_normalised_where_people_agree() -> None:
    assert vqa_accuracy("Two", ["2"] * 10) == 0.0
    assert vqa_accuracy("Two", ["2"] * 9 + ["3"]) == 1.0
    assert vqa_accuracy("yes\n", ["yes"] * 10) == 1.0  # white space goes in any case


def test_figures_by_type() -> None:
    found = vqa_accuracies([1.0, 0.3, 0.0], ["is the", "is the", "how many"], ["yes/no", "yes/no", "number"])
    assert {estimate.name for estimate in found} == {"VQA accuracy"}
    values = {estimate.subject: estimate.value for estimate in found}
    assert values[""] == pytest.approx(1.3 / 3)
    assert values["answer type yes/no"] == pytest.approx(0.65)
    assert values["question type how many"] == 0.0
    clustered = vqa_accuracies([1.0, 0.3, 0.0], ["q"] * 3, ["other"] * 3, clusters=["image 1", "image 1", "image 2"])
    assert clustered[0].method == "Wilson at the effective size, 2 clusters"


@pytest.mark.realdata
def test_the_consensus_answer_of_real_questions(real_data: Path) -> None:
    with gzip.open(real_data / "vqav2" / "v2_mscoco_train2014_annotations.json.gz", "rt") as handle:
        rows = json.load(handle)["annotations"][:6000]
    scores, shortcut = [], []
    for row in rows:
        people = [answer["answer"] for answer in row["answers"]]
        scores.append(vqa_accuracy(row["multiple_choice_answer"], people))
        shortcut.append(min(people.count(row["multiple_choice_answer"]) / 3, 1))
    # Over all 60,000 rows the official code gives 0.9676; the shortcut is another number in about an eighth of rows.
    assert sum(scores) / len(scores) == pytest.approx(0.9676, abs=0.01)
    differing = sum(abs(one - other) > 1e-9 for one, other in zip(scores, shortcut, strict=True))
    assert 0.08 < differing / len(rows) < 0.16
