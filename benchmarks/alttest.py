"""The alternative annotator test on its authors' data, beside the figures that their notebook prints.

``python benchmarks/alttest.py FOLDER``, where FOLDER is a clone of github.com/nitaytech/AltTest (arXiv 2501.10970).
Winning rates by labels may be lower than the published ones where the least p, or a test of fewer than 30 units, binds.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

from perl_eval.stats.alttest import AltTestOptions, alternative_annotator_test
from perl_eval.stats.alttest_scores import alternative_annotator_test_of_scores

EPSILON = {
    "wax": 0.1,
    "lgbteen": 0.2,
    "mtbench": 0.2,
    "framing": 0.15,
    "cebab_aspects": 0.1,
    "summeval": 0.2,
    "10k_prompts": 0.15,
    "cebab_stars": 0.1,
    "lesion": 0.15,
}
SCORES = ("summeval", "10k_prompts", "cebab_stars", "lesion")
LINE = re.compile(r"^(\S+) (\S+) \[\w+\]:\tWinning Rate=([\d.]+)\tAdvantage Probability=([\d.]+)$", re.MULTILINE)


def published(folder: Path) -> Iterator[tuple[str, str, float, float]]:
    """Yield data set, model, winning rate and advantage, as the notebook's output has them."""
    cells = json.loads((folder / "alt_test_example.ipynb").read_text("utf-8"))["cells"]
    for cell in cells:
        for output in cell.get("outputs", []):
            for name, model, rate, advantage in LINE.findall("".join(output.get("text", []))):
                yield name, model, float(rate), float(advantage)


def measured(folder: Path, name: str, model: str) -> tuple[float, float]:
    """Return winning rate and advantage of a model on a data set."""
    people, models = (
        json.loads((folder / "data" / name / f"{who}_annotations.json").read_text("utf-8")) for who in ("human", "llm")
    )
    said, asked = models[model], AltTestOptions(EPSILON[name])
    units = [unit for unit in sorted({unit for given in people.values() for unit in given}) if unit in said]
    ratings = [{person: given[unit] for person, given in people.items() if unit in given} for unit in units]
    if name in SCORES:
        found, _ = alternative_annotator_test_of_scores([said[unit] for unit in units], ratings, options=asked)
    else:
        words = [{person: str(label) for person, label in unit.items()} for unit in ratings]
        found, _ = alternative_annotator_test([str(said[unit]) for unit in units], words, options=asked)
    rate, advantage = found[0].value, found[1].value
    assert rate is not None
    assert advantage is not None
    return rate, advantage


def main() -> None:
    """Print a line for each model and data set, and how many differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print("| data set | model | published | measured |\n|---|---|---|---|")
    differ = number = 0
    for name, model, rate, advantage in published(folder):
        found = measured(folder, name, model)
        differ += abs(found[0] - rate) > 0.00501 or abs(found[1] - advantage) > 0.00501
        number += 1
        print(f"| {name} | {model} | {rate:.2f}, {advantage:.2f} | {found[0]:.2f}, {found[1]:.2f} |")
    print(f"\n{differ} of {number} differ")


if __name__ == "__main__":
    main()
