"""Rating rows to Completion and HumanLabel records: answers that people have rated already, as if sampled."""

from __future__ import annotations

from pathlib import Path

from perl_eval.records import Completion, HumanLabel, digest, unit_of
from perl_eval.sources import rows
from perl_eval.storage import images, run_folder

__all__ = ["POLICY", "run"]

POLICY = "recorded"
"""What the policy behind recorded answers is called: nobody says which system wrote them."""


def run(data: Path, out: Path, *, split: str = "test", annotator: str = "thumbs") -> Path:
    """Write the rated answers of a split, and their labels as yes (thumbs up) or no.

    Args:
        data: A folder of Rating rows, as ``build`` writes it.
        out: The run folder; gets ``completions.parquet``, ``labels.parquet`` and the pictures of the prompts.
        split: Which split.
        annotator: The pseudonym that the labels carry; the data sets give one label a row.

    Raises:
        UserError: No such data or split.
        DataError: A row without completion or label, or a changed input.
    """
    arguments = {"split": split, "annotator": annotator}
    with run_folder.start(out, verb="recorded", arguments=arguments, inputs={"data": Path(data)}) as going:
        if going.done:
            return going.folder
        found = rows.read(data, split, need=("completion", "label"))
        completions = [_completion(row, going.folder) for row in found]
        going.write(completions, Completion)
        labels = [
            HumanLabel(
                unit=unit_of(completion.id),
                item=row.id,
                group=row.group,
                annotator=annotator,
                label="yes" if row.label else "no",
            )
            for row, completion in zip(found, completions, strict=True)
        ]
        going.write(labels, HumanLabel)
        going.notes |= {"answers": len(found), "yes": sum(label.label == "yes" for label in labels)}
    return going.folder


def _completion(row: rows.Row, folder: Path) -> Completion:
    return Completion(
        id=digest("recorded", row.id),
        item=row.id,
        group=row.group,
        dataset=row.dataset,
        policy=POLICY,
        prompt=row.prompt,
        text="\n".join(turn.content for turn in row.completion or ()),
        finish="stop",
        draw=0,
        images=tuple(images.keep(folder, picture.read()) for picture in row.images),
    )
