"""VQAv2: question and annotation files in upstream's form, the pairs made of people's answers, pictures."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_builders import open_builder
from datasets_builders.errors import DataError, SourceError
from datasets_builders.vqav2 import better_and_poorer

Item = dict[str, Any]
TEA = ["tea"] * 6 + ["coffee"] * 3 + ["Tea."]
AGREED = ["yes"] * 10
SPLIT_UP = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "a"]


def question(number: int, text: str = "What is it?") -> Item:
    return {"image_id": number // 1000, "question": text, "question_id": number}


def annotation(number: int, answers: Sequence[str] = TEA) -> Item:
    return {
        "question_type": "what is",
        "multiple_choice_answer": Counter(answers).most_common(1)[0][0],
        "answers": [
            {"answer": answer, "answer_confidence": "maybe", "answer_id": index}
            for index, answer in enumerate(answers, 1)
        ],
        "image_id": number // 1000,
        "answer_type": "other",
        "question_id": number,
    }


def files(questions: list[Item], annotations: list[Item], subtype: str) -> dict[str, str]:
    """The two files; upstream puts keys before and after the array."""
    head = {"info": {"version": "2.0"}, "license": {"name": "CC"}, "data_subtype": subtype}
    return {
        f"v2_OpenEnded_mscoco_{subtype}_questions.json": json.dumps({**head, "questions": questions}),
        f"v2_mscoco_{subtype}_annotations.json": json.dumps({**head, "annotations": annotations, "data_type": "m"}),
    }


def write(folder: Path, questions: list[Item], annotations: list[Item], subtype: str = "train2014") -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files(questions, annotations, subtype).items():
        (folder / name).write_text(text)
    return folder


def build(folder: Path, config: str, cache: Path, **options: Any) -> dict[str, list[Item]]:
    options = {"checksums": "record", **options}
    chosen = open_builder("vqav2", config, data_dir=folder, cache_dir=cache, options=options)
    return {split: list(rows) for split, rows in chosen.load().items()}


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    numbers = [458752000, 458752001, 262146000]
    answers = [TEA, AGREED, SPLIT_UP]
    return write(
        tmp_path / "raw",
        [question(number) for number in numbers],
        [annotation(number, given) for number, given in zip(numbers, answers, strict=True)],
    )


def test_questions_are_what_was_written(upstream: Path, tmp_path: Path) -> None:
    built = build(upstream, "questions", tmp_path / "cache")
    assert list(built) == ["train"], "no file for validation lies there"
    first, second, third = built["train"]
    assert first["prompt"] == [
        {
            "role": "user",
            "content": "What is it?\nAnswer with one word or a short phrase.",
            "name": None,
            "tool_calls": None,
        }
    ]
    assert [row["completion"][0]["content"] for row in (first, second, third)] == ["tea", "yes", "a"]
    assert first["answers"] == annotation(458752000)["answers"]
    assert (first["id"], first["group"], first["question_id"]) == ("458752000", "458752", 458752000)
    assert first["image_file"] == "COCO_train2014_000000458752.jpg"
    assert (first["question_type"], first["answer_type"]) == ("what is", "other")
    assert first["source_file"] == "v2_OpenEnded_mscoco_train2014_questions.json"
    assert first["group"] == second["group"] != third["group"]


def test_pairs_are_of_answers_that_people_gave(upstream: Path, tmp_path: Path) -> None:
    chosen = open_builder(
        "vqav2", "pairs", data_dir=upstream, cache_dir=tmp_path / "cache", options={"checksums": "record"}
    )
    [row] = chosen.load()["train"]
    assert row["chosen"][0]["content"] == "tea"
    assert row["rejected"][0]["content"] == "coffee", "'Tea.' is the same answer in other letters"
    assert (row["votes_chosen"], row["votes_rejected"]) == (6, 3)
    assert chosen.tallies()["train"].dropped == {
        "no answer three behind the consensus": 1,
        "no answer given by three": 1,
    }


def test_ratings_show_each_question_with_both_answers(upstream: Path, tmp_path: Path) -> None:
    rows = build(upstream, "ratings", tmp_path / "cache")["train"]
    assert [(row["id"], row["label"], row["votes"], row["completion"][0]["content"]) for row in rows] == [
        ("458752000:better", True, 6, "tea"),
        ("458752000:poorer", False, 3, "coffee"),
    ]


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        (["a"] * 3 + ["b"] * 2 + ["c"] * 2 + ["d"] * 2 + ["e"], "no answer three behind the consensus"),
        (["a"] * 4 + ["b"] * 2 + ["c"] * 2 + ["d"] * 2, "no answer three behind the consensus"),
        (["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"], ("a", "d")),
        (["a"] * 5 + ["b"] * 5, "no answer three behind the consensus"),
        (["tea time"] * 9 + ["teatime"], "answers differ in spaces or punctuation only"),
        (["a"] * 2 + list("bcdefghi"), "no answer given by three"),
    ],
)
def test_a_poorer_answer_has_three_votes_less(answers: list[str], outcome: tuple[str, str] | str) -> None:
    assert better_and_poorer(answers, answers[0], key="1") == outcome


@given(st.lists(st.sampled_from(["a", "A.", "b", "c", "d e"]), min_size=10, max_size=10), st.text(max_size=9))
def test_the_choice_keeps_the_margin_whatever_people_say(answers: list[str], key: str) -> None:
    consensus = Counter(answers).most_common(1)[0][0]
    chosen = better_and_poorer(answers, consensus, key=key)
    assert chosen == better_and_poorer(answers, consensus, key=key)
    if isinstance(chosen, tuple):
        better, poorer = chosen
        assert answers.count(better) >= 3
        assert 1 <= answers.count(poorer) <= answers.count(better) - 3


def test_unpacked_gzipped_and_zipped_files_give_the_same_rows(upstream: Path, tmp_path: Path) -> None:
    plain = build(upstream, "questions", tmp_path / "cache")["train"]
    packed, zipped = tmp_path / "packed", tmp_path / "zipped"
    packed.mkdir()
    zipped.mkdir()
    archives = ("v2_Questions_Train_mscoco.zip", "v2_Annotations_Train_mscoco.zip")
    for path, archive in zip(sorted(upstream.iterdir()), archives, strict=True):
        (packed / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        with zipfile.ZipFile(zipped / archive, "w") as writing:
            writing.write(path, path.name)
    for folder, source in ((packed, "v2_OpenEnded_mscoco_train2014_questions.json.gz"), (zipped, archives[0])):
        rows = build(folder, "questions", tmp_path / "cache")["train"]
        assert rows == [{**row, "source_file": source} for row in plain]


def test_other_archives_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    for name in ("v2_Questions_Train_mscoco.zip", "v2_Annotations_Train_mscoco.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as writing:
            writing.writestr("x.json", "{}")
    with pytest.raises(SourceError, match=r"sha256 is .*, pinned is (05a64b6e|fb101bce)"):
        build(tmp_path, "questions", tmp_path / "cache", checksums="verify")


def test_a_subset_is_refused_unless_asked_for(upstream: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 rows, upstream has 443,757"):
        build(upstream, "questions", tmp_path / "cache", checksums="verify")


def test_both_splits_come_from_their_own_files(upstream: Path, tmp_path: Path) -> None:
    write(upstream, [question(42000)], [annotation(42000)], "val2014")
    built = build(upstream, "questions", tmp_path / "cache")
    assert {split: len(rows) for split, rows in built.items()} == {"train": 3, "validation": 1}
    assert built["validation"][0]["image_file"] == "COCO_val2014_000000000042.jpg"


def test_missing_files_are_named(upstream: Path, tmp_path: Path) -> None:
    (upstream / "v2_mscoco_train2014_annotations.json").unlink()
    with pytest.raises(SourceError, match=r"has no v2_Annotations_Train_mscoco\.zip; download it from https://"):
        build(upstream, "questions", tmp_path / "cache")


def test_files_in_another_order_are_joined(tmp_path: Path) -> None:
    numbers = [1000, 1001, 2000, 3000]
    folder = write(
        tmp_path / "raw",
        [question(number, f"Number {number}?") for number in numbers],
        [annotation(number, [str(number)] * 10) for number in (3000, 1001, 1000, 2000)],
    )
    rows = build(folder, "questions", tmp_path / "cache")["train"]
    assert {row["id"]: (row["prompt"][0]["content"][:12], row["completion"][0]["content"]) for row in rows} == {
        str(number): (f"Number {number}?"[:12], str(number)) for number in numbers
    }


@pytest.mark.parametrize(
    ("questions", "annotations", "message"),
    [
        ([question(1000), question(1001)], [annotation(1000)], "question 1001 is not in v2_mscoco"),
        ([question(1000)], [annotation(1000), annotation(1001)], "question 1001 is not in v2_OpenEnded"),
        ([question(1000), question(1000)], [annotation(1000)] * 2, "'1000' is there twice"),
        ([question(1000), question(1000)], [annotation(1001)] * 2, "question 1000 is there twice"),
        ([question(1000) | {"mood": 1}], [annotation(1000)], "unexpected key 'mood'"),
        ([question(1000) | {"image_id": 2}], [annotation(1000)], "is not question_id // 1000"),
        ([question(1000) | {"question": None}], [annotation(1000)], "'question': is 'None', expected str"),
        ([question(1000) | {"question_id": "1000"}], [annotation(1000)], "is '1000', expected int"),
        ([question(1000)], [annotation(1000) | {"image_id": 2}], "differs from the question's"),
        ([question(1000)], [annotation(1000) | {"answers": []}], "is not a list of 10"),
        ([question(1000)], [annotation(1000) | {"answer_type": "maybe"}], "unknown type 'maybe'"),
        ([question(1000)], [annotation(1000) | {"multiple_choice_answer": "x"}], "none of the ten answers"),
        (
            [question(1000)],
            [annotation(1000) | {"answers": annotation(1000)["answers"][::-1]}],
            "answer 1 has another id",
        ),
    ],
)
def test_what_is_not_of_upstreams_form_is_refused(
    tmp_path: Path, questions: list[Item], annotations: list[Item], message: str
) -> None:
    folder = write(tmp_path / "raw", questions, annotations)
    with pytest.raises(DataError, match=message):
        build(folder, "questions", tmp_path / "cache")


# Pictures.


def picture(shade: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("place", ["flat", "folder", "archive"])
def test_pictures_come_from_a_folder_or_cocos_archive(upstream: Path, tmp_path: Path, place: str) -> None:
    pictures = {f"COCO_train2014_{number:012}.jpg": picture(number % 200) for number in (458752, 262146)}
    if place == "archive":
        with zipfile.ZipFile(upstream / "train2014.zip", "w") as archive:
            for name, content in pictures.items():
                archive.writestr(f"train2014/{name}", content)
    else:
        folder = upstream if place == "flat" else upstream / "train2014"
        folder.mkdir(exist_ok=True)
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
    for config, count in (("questions", 3), ("pairs", 1), ("ratings", 2)):
        rows = build(upstream, config, tmp_path / "cache", images=True)["train"]
        assert len(rows) == count
        assert rows[0]["prompt"][0]["content"][0] == {"type": "image", "text": None}
        assert rows[0]["images"][0].size == (8, 6)
        assert rows[0]["images"][0].getpixel((0, 0)) == (458752 % 200, 0, 0)


@pytest.mark.parametrize("place", [".", "train2014"])
def test_another_picture_is_not_read_from_the_old_cache(upstream: Path, tmp_path: Path, place: str) -> None:
    # The pictures of a folder are no named sources, and yet part of the cache key.
    folder = upstream / place
    folder.mkdir(exist_ok=True)
    shades = []
    for shade in (10, 200):
        for number in (458752, 262146):
            (folder / f"COCO_train2014_{number:012}.jpg").write_bytes(picture(shade))
        rows = build(upstream, "questions", tmp_path / "cache", images=True)["train"]
        shades.append(rows[0]["images"][0].getpixel((0, 0))[0])
    assert shades == [10, 200]


def test_a_missing_picture_is_named(upstream: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no picture COCO_train2014_000000458752\.jpg; add train2014 to data_dir"):
        build(upstream, "questions", tmp_path / "cache", images=True)


# The trainers, and the real files.


def test_rows_pass_the_preprocessing_of_trl(upstream: Path, tmp_path: Path) -> None:
    from trl.data_utils import is_conversational, prepare_multimodal_messages

    for number in (458752, 262146):
        (upstream / f"COCO_train2014_{number:012}.jpg").write_bytes(picture(7))
    [row] = build(upstream, "pairs", tmp_path / "cache", images=True)["train"]
    assert is_conversational(row)
    prepared = prepare_multimodal_messages(row["prompt"] + row["rejected"], images=row["images"])
    assert prepared[0]["content"][0]["image"].size == (8, 6)
    assert prepared[1]["content"] == [{"type": "text", "text": "coffee"}]


@pytest.mark.realdata
def test_the_real_subset(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "vqav2"
    chosen = open_builder(
        "vqav2", "questions", data_dir=folder, cache_dir=tmp_path / "cache", options={"checksums": "record"}
    )
    rows = chosen.load()["train"]
    assert len(rows) == 60_000
    assert not chosen.tallies()["train"].dropped
    assert len(rows.unique("question_id")) == 60_000


@pytest.mark.realdata
def test_real_pairs(real_data: Path, tmp_path: Path) -> None:
    chosen = open_builder(
        "vqav2", "pairs", data_dir=real_data / "vqav2", cache_dir=tmp_path / "cache", options={"checksums": "record"}
    )
    kept, dropped = chosen.load()["train"].num_rows, chosen.tallies()["train"].dropped
    # Counted from the files alone: 28,769 questions have an answer three behind one given by three, and 3,562 have no
    # answer given by three.
    assert kept + dropped["answers differ in spaces or punctuation only"] == 28_769
    assert dropped["no answer given by three"] == 3_562


@pytest.mark.realdata
def test_real_photographs(real_data: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", [question(458752000)], [annotation(458752000)])
    photograph = real_data / "vqav2" / "COCO_train2014_000000458752.jpg"
    shutil.copy(photograph, folder)
    from datasets import Image, List

    chosen = open_builder(
        "vqav2",
        "questions",
        data_dir=folder,
        cache_dir=tmp_path / "cache",
        options={"checksums": "record", "images": True},
    )
    [row] = chosen.load()["train"].cast_column("images", List(Image(decode=False)))
    assert row["images"][0]["bytes"] == photograph.read_bytes()
