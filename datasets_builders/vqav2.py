"""VQAv2: questions on photographs with ten people's answers each.

The pairs and ratings are made here, of people's answers only: a better answer was given by at least three of the ten
(the official metric then scores it 1) and by at least three more than the poorer one. A poorer answer is one that few
people gave; it need not be wrong. Source: arXiv 1612.00837 and visualqa.org/download.html.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from datasets import Features, List, Value

from datasets_builders import features
from datasets_builders.builder import Builder, Config, Part, configs
from datasets_builders.errors import DataError
from datasets_builders.sources import Origin, Source, lies, path_at
from datasets_builders.splits import fraction
from datasets_builders.vqav2_files import Pictures, joined, listing

if TYPE_CHECKING:
    from datasets_builders.tally import Tally

__all__ = ["Vqav2", "Vqav2Config", "better_and_poorer"]

_URL = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa/"
_SUBTYPES = {"train": "train2014", "validation": "val2014"}
_ARCHIVES = {
    "train": (
        Source(
            "v2_Questions_Train_mscoco.zip",
            f"{_URL}v2_Questions_Train_mscoco.zip",
            "05a64b6e2582d06d7585f5429674a9a33851878be1bff9f8668cdcf792df611e",
        ),
        Source(
            "v2_Annotations_Train_mscoco.zip",
            f"{_URL}v2_Annotations_Train_mscoco.zip",
            "fb101bcefe91422c543c2bb6d70af11eb3119d0ff745ae283d09acdf66250853",
        ),
    ),
    "validation": (
        Source(
            "v2_Questions_Val_mscoco.zip",
            f"{_URL}v2_Questions_Val_mscoco.zip",
            "e71f6c5c3e97a51d050f28243e262b28cd0c48d11a6b4632d769d30d3f93222a",
        ),
        Source(
            "v2_Annotations_Val_mscoco.zip",
            f"{_URL}v2_Annotations_Val_mscoco.zip",
            "0caae7c8d1dafd852727f5ac046bc1efca9b72026bd6ffa34fc489f3a7b3291e",
        ),
    ),
}
"""Questions and annotations of each split, as upstream packs them."""
_QUESTIONS = {"train": 443757, "validation": 214354}
_RATINGS = {split: 2 * count for split, count in _QUESTIONS.items()}
_REQUEST = "Answer with one word or a short phrase."
_MARGIN = 3
"""Answers that the better one needs, and by how many it must lead: three make the official score 1."""
_CITATION = """@inproceedings{goyal2017making,
  title = {Making the {V} in {VQA} Matter: Elevating the Role of Image Understanding in Visual Question Answering},
  author = {Goyal, Yash and Khot, Tejas and Summers-Stay, Douglas and Batra, Dhruv and Parikh, Devi},
  booktitle = {Conference on Computer Vision and Pattern Recognition},
  year = {2017}
}"""

Row = dict[str, Any]


@dataclass(eq=False)
class Vqav2Config(Config):
    """One configuration.

    Attributes:
        images: Put the photographs into the rows. They are taken from ``data_dir`` (COCO's ``train2014`` and
            ``val2014``, as folders, as zip archives, or as pictures beside the questions), or downloaded (19 GB).
    """

    images: bool = False


def _letters(answer: str) -> str:
    return re.sub(r"\W", "", answer.casefold())


def better_and_poorer(answers: Sequence[str], consensus: str, *, key: str) -> tuple[str, str] | str:
    """Choose a better and a poorer answer of those that people gave.

    Args:
        answers: The ten answers.
        consensus: The answer upstream names as the most common one.
        key: What the choice of the poorer one hangs on, where several would do: the question's id.

    Returns:
        The consensus and an answer that at least three fewer gave; or the reason why there is no such pair.
    """
    votes = Counter(answers)
    if votes[consensus] < _MARGIN:
        return "no answer given by three"
    behind = sorted(answer for answer in votes if votes[answer] <= votes[consensus] - _MARGIN)
    if not behind:
        return "no answer three behind the consensus"
    other = [answer for answer in behind if _letters(answer) != _letters(consensus)]
    if not other:
        return "answers differ in spaces or punctuation only"
    return consensus, other[int(fraction("vqav2", key) * len(other))]


class Vqav2(Builder):
    """Visual question answering, version 2; the answers of its test split are not public, so it is not here."""

    BUILDER_CONFIG_CLASS = Vqav2Config
    BUILDER_CONFIGS = configs(
        Vqav2Config,
        questions="a question and people's most common answer to it",
        ratings="a question twice: with the most common answer (label true) and with one that far fewer people gave",
        pairs="a question, the most common answer, and one that far fewer people gave",
    )
    DEFAULT_CONFIG_NAME = "questions"
    COUNTS: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "questions": _QUESTIONS,
        "ratings": _RATINGS,
        "pairs": _QUESTIONS,
    }
    BATCH_ROWS = 256
    ORIGIN = Origin(
        name="vqav2",
        title="VQAv2",
        homepage="https://visualqa.org/download.html",
        revision="2.0",
        licence="cc-by-4.0",
        terms="CC BY 4.0 for questions and answers; the photographs are COCO's, under Flickr's terms.",
        citation=_CITATION,
        description=(
            "Open questions on COCO photographs, each with ten people's answers and how sure they were. The official "
            "score of an answer is the mean over the ten leave-one-out subsets of min(n / 3, 1). Pairs and ratings are "
            "made here: the most common answer, if three gave it, against one that at least three fewer gave. That "
            "one need not be wrong. Questions on which people agree are in no pair."
        ),
        splits="Upstream's own, by photograph; upstream's test answers are not public.",
        tags=("visual-question-answering",),
    )

    def _shape(self) -> Features:
        text = Value("string")
        extra: Row = {
            "question_id": Value("int64"),
            "image_id": Value("int64"),
            "image_file": text,
            "question_type": text,
            "answer_type": text,
            "multiple_choice_answer": text,
            "answers": List({"answer": text, "answer_confidence": text, "answer_id": Value("int64")}),
        }
        vision = bool(self.config.images)
        if self.config.name == "pairs":
            extra |= {"votes_chosen": Value("int64"), "votes_rejected": Value("int64")}
            return features.preference(vision=vision, extra=extra)
        if self.config.name == "ratings":
            return features.rating(vision=vision, extra=extra | {"votes": Value("int64")})
        return features.demonstration(vision=vision, extra=extra)

    def _files(self, split: str) -> tuple[Source, Source]:
        """Return question and annotation file: unpacked, gzipped, or upstream's archives."""
        subtype = _SUBTYPES[split]
        names = (f"v2_OpenEnded_mscoco_{subtype}_questions.json", f"v2_mscoco_{subtype}_annotations.json")
        found = [
            next((one for one in (Source(name), Source(f"{name}.gz")) if lies(one, self.config.data_dir)), archive)
            for name, archive in zip(names, _ARCHIVES[split], strict=True)
        ]
        return found[0], found[1]

    def _sources(self) -> dict[str, Sequence[Source]]:
        """Return the question files; where ``data_dir`` has those of some splits, of these only."""
        questions: dict[str, Sequence[Source]] = {split: self._files(split)[:1] for split in _SUBTYPES}
        lying = {split: files for split, files in questions.items() if lies(files[0], self.config.data_dir)}
        return lying or questions

    def _archive(self, split: str) -> Source | None:
        """Return COCO's archive of pictures where it is to be used: it lies in ``data_dir``, or there is none."""
        archive = Source(f"{_SUBTYPES[split]}.zip", f"http://images.cocodataset.org/zips/{_SUBTYPES[split]}.zip")
        wanted = self.config.images and (self.config.data_dir is None or lies(archive, self.config.data_dir))
        return archive if wanted else None

    def _extra(self) -> Sequence[Source]:
        splits = self._wanted()
        archives = [archive for split in splits if (archive := self._archive(split)) is not None]
        return [*(self._files(split)[1] for split in splits), *archives]

    def _loose(self) -> str:
        """Return what tells the photographs of a folder apart from others of the same names."""
        folders = [split for split in self._wanted() if self._archive(split) is None] if self.config.images else []
        return "".join(listing(path_at(self.config.data_dir), _SUBTYPES[split]) for split in folders)

    def _rows(self, split: str, part: Part, tally: Tally) -> Iterator[tuple[int, Row]]:
        subtype, annotations, archive = _SUBTYPES[split], self._files(split)[1], self._archive(split)
        with ExitStack() as stack:
            pictures = None
            if self.config.images:
                place = self.path_of(archive) if archive is not None else path_at(self.config.data_dir)
                pictures = stack.enter_context(Pictures(place, subtype))
            for row, question, annotation in joined(
                (part.name, part.path), (annotations.path, self.path_of(annotations)), subtype=subtype
            ):
                file = f"COCO_{subtype}_{question['image_id']:012}.jpg"
                picture = pictures.read(file) if pictures is not None else None
                if pictures is not None and picture is None:
                    raise DataError(f"there is no picture {file}", part.name, row, fix=f"add {subtype} to data_dir")
                answers = self._answers(annotation)
                if isinstance(answers, str):
                    for _ in range(2 if self.config.name == "ratings" else 1):
                        tally.drop(answers, file=part.name, row=row)
                    continue
                shared = self._shared(question, annotation, picture) | {"image_file": file}
                for suffix, columns in answers:
                    id_ = f"{question['question_id']}{suffix}"
                    metadata = self._metadata(part, id=id_, group=str(question["image_id"]))
                    yield row, {**shared, **columns, **metadata}

    def _message(self, role: str, text: str, *, images: int = 0) -> Row:
        return features.parts(role, text, images=images) if self.config.images else features.message(role, text)

    def _answers(self, annotation: Row) -> list[tuple[str, Row]] | str:
        """Return what of the answers makes a row each: an ending for the id and the columns; or why there is none."""
        consensus = annotation["multiple_choice_answer"]
        if self.config.name == "questions":
            return [("", {"completion": [self._message("assistant", consensus)]})]
        given = [answer["answer"] for answer in annotation["answers"]]
        chosen = better_and_poorer(given, consensus, key=str(annotation["question_id"]))
        if isinstance(chosen, str):
            return chosen
        better, poorer = ([self._message("assistant", answer)] for answer in chosen)
        votes, fewer = (given.count(answer) for answer in chosen)
        if self.config.name == "pairs":
            return [("", {"chosen": better, "rejected": poorer, "votes_chosen": votes, "votes_rejected": fewer})]
        return [
            (":better", {"completion": better, "label": True, "votes": votes}),
            (":poorer", {"completion": poorer, "label": False, "votes": fewer}),
        ]

    def _shared(self, question: Row, annotation: Row, picture: bytes | None) -> Row:
        """Return what all rows of a question share."""
        text = f"{question['question']}\n{_REQUEST}"
        pictures = {} if picture is None else {"images": [{"bytes": picture, "path": None}]}
        copied = ("question_type", "answer_type", "multiple_choice_answer", "answers", "question_id", "image_id")
        return {
            "prompt": [self._message("user", text, images=len(pictures))],
            **pictures,
            **{name: annotation[name] for name in copied},
        }
