"""The estimates without the page: Markdown for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from perl_eval.records import About
from perl_eval.reporting.format import count, markdown, number
from perl_eval.reporting.inputs import Figure, Folder

__all__ = ["as_json", "as_markdown", "by_subject"]


def by_subject(shown: Sequence[Figure]) -> Mapping[About, list[Figure]]:
    """Return the figures by what they are about, in the order they first appear."""
    subjects: dict[About, list[Figure]] = {}
    for figure in shown:
        subjects.setdefault(figure.estimate.about, []).append(figure)
    return subjects


def as_json(title: str, shown: Sequence[Figure], found: Sequence[Folder], simulations: Sequence[str]) -> str:
    """Return the estimates as JSON, each with the run folder it stands in."""
    rows = [
        {**asdict(figure.estimate), "subject": figure.estimate.subject, "run": found[figure.folder].label}
        for figure in shown
    ]
    content = {"title": title, "simulated": list(simulations), "estimates": rows}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_markdown(
    title: str, shown: Sequence[Figure], found: Sequence[Folder], simulations: Sequence[str], command: str = ""
) -> str:
    """Return the estimates as one Markdown table a subject, and the command that made them.

    Args:
        title: The heading.
        shown: The estimates.
        found: The folders.
        simulations: What rests on simulation, line by line.
        command: What was typed to make them.
    """
    lines = [f"# {markdown(title)}", ""]
    if simulations:
        lines += ["> **Simulated**", *(f"> - {markdown(line)}" for line in simulations), ""]
    if not shown:
        lines += ["No estimates: no run folder holds any.", ""]
    for about, rows in by_subject(shown).items():
        lines += [
            f"## {markdown(about.sentence) or 'No subject'}",
            "",
            "| figure | value | interval | n | missing | method | run |",
        ]
        lines.append("|---|---:|---|---:|---:|---|---|")
        lines += [_row(figure, found) for figure in rows]
        lines.append("")
    if command:
        lines += [f"Made by {markdown(command)}", ""]
    return "\n".join(lines)


def _row(figure: Figure, found: Sequence[Folder]) -> str:
    estimate = figure.estimate
    if estimate.value is None:
        value = f"not defined: {markdown(estimate.reason or 'no reason given')}"
    else:
        value = number(estimate.value)
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f"{number(estimate.low)} to {number(estimate.high)} ({estimate.level:.0%})"
    name = markdown(estimate.name) + (" (simulated)" if estimate.simulated else "")
    cells = (name, value, interval, count(estimate.n), count(estimate.n_missing))
    return f"| {' | '.join((*cells, markdown(estimate.method), markdown(found[figure.folder].label)))} |"
