"""The verb `report`: run folders to one HTML page, or to the same figures as Markdown, JSON, CSV or LaTeX."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from perl_eval.errors import UserError
from perl_eval.metrics.judge_standing import standings
from perl_eval.outcomes import outcomes_of, pooled, word
from perl_eval.records import HumanLabel
from perl_eval.reporting import format as text
from perl_eval.reporting.browse import SAMPLE_LIMIT, browsable
from perl_eval.reporting.cautions import cautions
from perl_eval.reporting.counts import OutcomeCounts, missing_scores, survey
from perl_eval.reporting.decision_lines import comparisons_decided
from perl_eval.reporting.inputs import Figure, Folder, figures, folders, records
from perl_eval.reporting.judge_worth import Worth, worths
from perl_eval.reporting.latex import as_latex
from perl_eval.reporting.markdown import as_json, as_markdown, by_subject
from perl_eval.reporting.matplotlib_plots import save
from perl_eval.reporting.related import agreements, position_figures, rates, truths
from perl_eval.reporting.rows_out import write_rows_out
from perl_eval.reporting.svg_charts import charts, laid_out
from perl_eval.reporting.svg_curves import HEIGHT, WIDTH, curves
from perl_eval.reporting.tables import boards, matrices
from perl_eval.scoring import two_runs
from perl_eval.storage import parquet

__all__ = ["Format", "run"]

Format = Literal["html", "md", "json", "csv", "tex"]
_KEY_NOTES = 6
_SCRIPTS = ("core.js", "reading.js", "sides.js", "figure_table.js")


def run(
    sources: Sequence[Path],
    out: Path,
    *,
    title: str = "perl-eval report",
    format: Format = "html",
    figures_folder: Path | None = None,
    seed: int = 0,
) -> Path:
    """Write a report of every run folder at or below some folders.

    Every figure on the page is an `Estimate` that a verb wrote, or a plain count. The page is one file: style,
    script and data are inside, and a Content-Security-Policy forbids everything else.

    Args:
        sources: Folders that hold run folders.
        out: The file to write; replaced whole or not at all. It gets no run card of its own.
        title: The page's heading.
        format: ``html`` for the page, ``md``, ``json``, ``csv`` or ``tex`` for the estimates alone.
        figures_folder: Where to write what the page draws as PDF, SVG and PNG files too; see `plots.save`.
        seed: Chooses the judgements to embed where there are more than the page holds.

    Returns:
        The file written.

    Raises:
        UserError: No run folder is there, the format is unknown, or the file cannot be written.
        DataError: A record file does not match its run card, or holds what it should not.
    """
    out = Path(out)
    if format not in get_args(Format):
        raise UserError(f"no format {format!r}", f"choose one of {', '.join(get_args(Format))}")
    if out.is_dir():
        raise UserError(f"{out} is a folder", f"name a file, such as {out / f'report.{format}'}")
    if format == "csv":
        return write_rows_out(sources, out, what="estimates", format="csv")
    found = folders(sources)
    shown = figures(found)
    if figures_folder is not None:
        save(shown, found, Path(figures_folder), comparisons_decided(found).comparisons)
    if format == "html":
        content = _page(found, shown, title, seed)
    else:
        simulations = _simulated(found, survey(found, seed=seed, limit=0)[0]) + _resting_on_it(found, shown)
        command = shlex.join(["perl-eval", "report", *map(str, sources), "--format", format, "--out", str(out)])
        if format == "tex":
            content = as_latex(title, shown, simulations, command)
        elif format == "md":
            content = as_markdown(title, shown, found, simulations, command)
        else:
            content = as_json(title, shown, found, simulations)
    parquet.replace_file(out, lambda partial: partial.write_bytes(content.encode("utf-8", "backslashreplace")))
    return out


def _judged_again(found: Sequence[Folder], shown: Sequence[Figure]) -> list[tuple[Folder, list[str]]]:
    """Return what two runs of the same answers say about the judge, in words, run by run."""
    said = []
    for place, folder in enumerate(found):
        own = [one.estimate for one in shown if one.folder == place]
        if words := two_runs.sentences(own):
            said.append((folder, words))
    return said


def _standing(shown: Sequence[Figure], judges: Sequence[Worth]) -> list[str]:
    """Return whether judges may stand in for a person of whom there are figures here and no judgements."""
    known = {one.judge for one in judges}
    return standings([one.estimate for one in shown if one.estimate.about.judge not in known])


def _page(found: Sequence[Folder], shown: Sequence[Figure], title: str, seed: int) -> str:
    tallies, chosen = survey(found, seed=seed, limit=SAMPLE_LIMIT)
    style, script = _asset("page.css"), "".join(map(_asset, _SCRIPTS))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    judgements = browsable(found, chosen, sum(tally.n for tally in tallies))
    decided, complaints, rankings = comparisons_decided(found)
    judges = worths(shown, tallies)
    known = {one.judge for one in judges if one.by_people and not one.follows_position}
    decided = [comparison.led_by(known) for comparison in decided]
    environment = Environment(
        loader=PackageLoader("perl_eval.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: text.visible(value) if type(value) is str else value,
    )
    environment.filters |= {
        "count": text.count,
        "duration": text.duration,
        "mebibytes": text.mebibytes,
        "number": text.number,
        "pretty": lambda value: json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True),
    }
    return environment.get_template("page.jinja2").render(
        title=title,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        data=Markup(judgements.packed),
        shown=judgements.shown,
        total=judgements.total,
        sides=judgements.sides,
        seed=seed,
        folders=found,
        tallies=tallies,
        decided=decided,
        again=_judged_again(found, shown),
        standing=_standing(shown, judges),
        rankings=rankings,
        worths=judges,
        worths_by_judge=defaultdict(lambda: None, {one.judge: one for one in judges}),
        warnings=cautions(shown, tallies, decided, judges, complaints),
        comparisons=[_comparison(tally, shown, found) for tally in tallies],
        simulated=_simulated(found, tallies),
        resting_on_it=_resting_on_it(found, shown),
        subjects=by_subject(shown),
        truths=truths(shown),
        agreements=agreements(shown),
        boards=boards(shown),
        matrices=matrices(shown),
        charts=[laid_out(chart) for chart in charts(shown, found)],
        metered=[(place, folder, meter) for place, folder in enumerate(found) if (meter := _meter(folder))],
        sections=curves(found),
        width=WIDTH,
        height=HEIGHT,
        missing=missing_scores(found),
        key_notes=_key_notes,
    )


def _asset(name: str) -> str:
    return files("perl_eval.reporting").joinpath(name).read_text("utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _key_notes(folder: Folder) -> list[tuple[str, str]]:
    """Return the first few plain notes of a run card."""
    plain = [
        (name, text.number(value) if isinstance(value, float) else str(value))
        for name, value in folder.card.notes.items()
        if isinstance(value, (bool, int, float, str)) and len(str(value)) <= 60
    ]
    return plain[:_KEY_NOTES]


def _meter(folder: Folder) -> dict[str, float]:
    """Return what a training run measured of itself: memory, tokens a second, seconds of each part."""
    notes = folder.card.notes
    names = ["peak memory bytes", "tokens a second", *(name for name in notes if name.startswith("seconds "))]
    found = {name: notes[name] for name in names if isinstance(notes.get(name), int | float)}
    return found if "tokens a second" in found or "peak memory bytes" in found else {}


def _comparison(tally: OutcomeCounts, shown: Sequence[Figure], found: Sequence[Folder]) -> dict[str, Any]:
    """Lay out one stacked bar: parts with their outcomes, counts and places in percent."""
    parts, start = [], 0.0
    pools: dict[str, list[str]] = {}
    for outcome in outcomes_of(tally.kind):
        pools.setdefault(pooled(outcome), []).append(outcome)
    for pool, outcomes in pools.items():
        size = sum(tally.outcomes[outcome] for outcome in outcomes)
        share = 100 * size / tally.n
        details = [(word(outcome), tally.outcomes[outcome]) for outcome in outcomes]
        part = {"pool": pool, "name": word(pool), "n": size, "details": details}
        parts.append({**part, "start": round(start, 3), "share": round(share, 3)})
        start += share
    return {
        "tally": tally,
        "parts": parts,
        "rates": rates(shown, tally, found),
        # The rate of a no is the harmless rate where the question is whether an answer is harmful.
        "harmless": found[tally.folder].card.arguments.get("prompt") == "harmful",
        "position": position_figures(shown, tally, found),
    }


def _simulated(found: Sequence[Folder], tallies: Sequence[OutcomeCounts]) -> list[str]:
    """Say, line by line, which judges and people are simulated."""
    lines = []
    for judge in dict.fromkeys(tally.judge for tally in tallies if tally.simulated):
        n = sum(tally.simulated for tally in tallies if tally.judge == judge)
        lines.append(f"The judge {judge} is simulated, no model was asked ({text.count(n)} judgements).")
    people, labels = set(), 0
    for _, label in records(found, HumanLabel):
        if label.simulated:
            people.add(label.annotator)
            labels += 1
    if labels:
        lines.append(f"{text.count(labels)} labels of {len(people)} annotators are simulated: no person was asked.")
    return lines


def _resting_on_it(found: Sequence[Folder], shown: Sequence[Figure]) -> list[str]:
    """Say, line by line, what rests on simulation."""
    lines = []
    simulated = sum(figure.estimate.simulated for figure in shown)
    if simulated:
        share = f"{text.count(simulated)} of {text.count(len(shown))} figures"
        lines.append(f"{share} rest on simulated judges or people; marked as such.")
    named = [folder.label for folder in found if folder.card.simulated]
    if named:
        lines.append(f"Runs that rest on simulated judges or people: {', '.join(named)}.")
    return lines
