"""Write the record of a run of the conformance suite into the docs: the page, and the JSON beside it.

The text above the tables is written by hand; what was run, and the tables, come from the run. The run folder's card
says the arguments and how long it took.

``python benchmarks/conformance/record.py runs/conformance --commit abc1234 --processes 2``
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN, END = "<!-- the run -->", "<!-- end of the run -->"
TABLES = "## How to read the tables"
NAMES = {"trl": "TRL", "verl": "verl", "openrlhf": "OpenRLHF", "areal": "AReaL"}


def rounded(value: Any) -> Any:
    """Return a JSON value with numbers to four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return value


def json_lines(content: dict[str, Any], run: dict[str, Any]) -> str:
    """Return a run's JSON, four digits, a line an estimator, a world and a claim."""

    def short(value: Any) -> str:
        return json.dumps(rounded(value), ensure_ascii=False, separators=(",", ":"))

    parts = [f'"run":{short(run)}']
    for name, value in content.items():
        if isinstance(value, list):
            parts.append(f'"{name}":[\n' + ",\n".join(map(short, value)) + "\n]")
        else:
            parts.append(f'"{name}":{short(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def command(card: dict[str, Any], processes: int) -> list[str]:
    """Return the words of the command that a run card tells of."""
    told = card["arguments"]
    words = ["perl-eval conformance", "--out runs/conformance", f"--processes {processes}"]
    words += ["--corner"] if told["corner"] else []
    words += [f"--only '{one}'" for one in told["only"]]
    adapters = sorted(name for name in told if name.startswith("adapter "))
    return words + [f"--adapter {told[name]}" for name in adapters]


def said_of_the_run(content: dict[str, Any], card: dict[str, Any], run: dict[str, Any]) -> str:
    """Return the sentences of the page that say what was run."""
    estimators, versions = content["estimators"], run["versions"]
    others = [NAMES[one.split()[0]] for one in versions if one.split()[0] in NAMES]
    lines = [
        f"{len(estimators)} losses of {len(versions)} packages, each computed by its package's own code: "
        f"{', '.join(others)}, and `train policy` of this package.",
        "",
        "```bash",
        "pip install -e '.[dev]' && pip install --no-deps -r benchmarks/conformance/requirements.txt",
        " \\\n  ".join(run["command"]),
        "```",
        "",
        f"Run at commit {run['commit']}, {card['started'][:10]}, in {run['minutes']} minutes by {run['processes']} "
        f"processes: {len(content['worlds'])} worlds"
        + (", and training by each loss to its end." if estimators[0]["end"] else ", no training."),
        f"Versions: {', '.join(versions)}, torch {card['versions']['torch']}.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--minutes", type=int, help="where the run was stopped and went on; default the card's")
    given = parser.parse_args(arguments)
    card = json.loads((given.folder / "run.json").read_text("utf-8"))
    content = json.loads((given.folder / "conformance.json").read_text("utf-8"))
    run = {
        "command": command(card, given.processes),
        "commit": given.commit,
        "processes": given.processes,
        "minutes": given.minutes or round(card["seconds"] / 60),
        "versions": card["arguments"]["versions"],
    }
    (DOCS / "conformance.json").write_text(json_lines(content, run), "utf-8")
    page = DOCS / "conformance_results.md"
    head = page.read_text("utf-8").split(TABLES)[0]
    told = f"{BEGIN}\n{said_of_the_run(content, card, run)}\n{END}"
    head = re.sub(f"{BEGIN}.*{END}", lambda _: told, head, flags=re.DOTALL)
    whole = (given.folder / "conformance.md").read_text("utf-8")
    tables = whole[whole.index("The expected gradient") :]
    page.write_text(f"{head}{TABLES}\n\n{tables}", "utf-8")


if __name__ == "__main__":
    main()
