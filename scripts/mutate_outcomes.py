"""Change the table of outcomes, and each reader's use of it, one at a time; say which changes the tests let pass.

Run from the root: ``python scripts/mutate_outcomes.py [--jobs 2] [WORD ...]``; with words, only changes whose line has
one of them. Each change is made in a copy of the tree, where the nearest tests run. Prints one line a change; the exit
code is 1 if one survives, or if a change no longer fits the source.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.process import BaseProcess as Process
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("perl_eval", "datasets_builders", "prompts", "scripts", "tests", "pyproject.toml", "README.md")
NEAREST = ("tests/test_outcomes.py", "tests/test_outcome_words.py")
PRELOADED = ("numpy", "scipy.stats", "pyarrow.parquet", "matplotlib.figure", "jinja2", "typer")
"""What the tests import beside the package; imported once, and every change is tried in a fork."""
JURY = ("tests/judging/test_jury_votes.py",)
JOIN = ("tests/metrics/test_label_join.py",)
EXPORTED = ("tests/exporting/test_exported.py",)
ROUND_TRIPS = ("tests/exporting/test_round_trips.py",)
SLICES = ("tests/metrics/test_agreement_slices.py",)
SOFT = ("tests/metrics/test_soft_agreement.py",)
BY_GAP = ("tests/metrics/test_consistency_by_gap.py",)
TWO_RUNS = ("tests/scoring/test_two_runs.py",)
ESTIMATES = ("tests/scoring/test_score.py",)
LABELLING = ("tests/labelling/test_labelling_app.py", "tests/labelling/test_labelling_labels.py")


CHOSEN = {
    "outcomes.py": "table_says or laws or weighting",
    "stats/winrate.py": "win_rates or yes_rates",
    "stats/paired.py": "paired_differences",
    "stats/length.py": "longer_answer",
    "stats/ranking.py": "ranking",
    "judging/early_stopping.py": "early_stopping",
    "judging/jury.py": "the_jury",
    "judging/jury_votes.py": "jury",
    "judging/image_ablation.py": "what_is_undecided",
    "metrics/agreement.py": "agreement or other_way_round or person_would",
    "metrics/corrected_rates.py": "corrected_rates or confusion",
    "scoring/power.py": "pilot",
    "scoring/audit_figures.py": "audit or longer_answer",
    "scoring/rewards.py": "rewards",
    "scoring/outcome_table.py": "tables",
    "sources/label_rows.py": "other_way_round",
    "labelling/units.py": "what_is_undecided",
    "labelling/app.py": "sides",
    "labelling/export.py": "sides",
    "reporting/counts.py": "what_is_undecided",
    "reporting/page.py": "bars or words",
    "reporting/browse.py": "words or person_would",
    "reporting/matplotlib_plots.py": "words",
    "cli/judge_printing.py": "command_line",
    "results.py": "shown_in_python",
    "judges/parsing/verdicts.py": "probability",
    "judges/readers.py": "probability",
}
"""By what is changed, the tests that know the answer, as pytest's ``-k`` takes it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One replacement in one file of the package, and the tests that ought to fail for it."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...] = NEAREST

    @property
    def chosen(self) -> str:
        """Which of the tests know the answer, as pytest's ``-k`` takes it; all of those of another file."""
        return CHOSEN[self.file] if self.tests == NEAREST else "test"

    def __str__(self) -> str:
        return f"{self.file}: {self.old} -> {self.new}"

    def fits(self) -> bool:
        """Return whether what is to be replaced stands in the file, once."""
        return source_of(self.file).count(self.old) == 1


@cache
def source_of(file: str) -> str:
    """Return a file of the package as it is."""
    return (ROOT / "perl_eval" / file).read_text("utf-8")


def _line(name: str, row: tuple[str, ...]) -> str:
    return f'"{name}": Meaning({", ".join(row)})'


def of_table() -> Iterator[Change]:
    """Yield a change of every entry of the table, the weightings and the labels."""
    rows = {
        "win": ('"pairwise"', "1.0", '"loss"', "False", '"win"', '"win"'),
        "split": ('"pairwise"', "EVEN", '"split"', "True", '"tie"', '"split"'),
        "tie": ('"pairwise"', "EVEN", '"tie"', "True", '"tie"', '"tie"'),
        "mixed": ('"pairwise"', "EVEN", '"mixed"', "True", '"tie"', '"mixed"'),
        "loss": ('"pairwise"', "0.0", '"win"', "False", '"loss"', '"loss"'),
        "yes": ('"yes_no"', "1.0", '"yes"', "False", '"yes"', '"yes"'),
        "no": ('"yes_no"', "0.0", '"no"', "False", '"no"', '"no"'),
        "scored": ('"score"', "None", '"scored"', "False", "None", '"scored"'),
        "unjudged": ("None", "None", '"unjudged"', "False", "None", '"unjudged"'),
    }
    other = ("None", "0.4", '"scored"', "", '"unjudged"', '"other"')
    for name, row in rows.items():
        for place, value in enumerate(row):
            new = {"True": "False", "False": "True"}.get(value, other[place])
            if new != value:
                changed = (*row[:place], new, *row[place + 1 :])
                yield Change("outcomes.py", _line(name, row), _line(name, changed))
    yield Change("outcomes.py", "EVEN = 0.5", "EVEN = 0.4")
    yield Change("outcomes.py", 'UNDECIDED = "undecided"', 'UNDECIDED = "open"')
    yield Change("outcomes.py", '"pairwise": ("win", "tie", "loss")', '"pairwise": ("win", "loss")')
    yield Change("outcomes.py", 'WON = Weighting("nothing")', 'WON = Weighting("its worth")')
    yield Change("outcomes.py", 'LOST = Weighting("nothing", "b")', 'LOST = Weighting("nothing")')
    yield Change("outcomes.py", 'LOST = Weighting("nothing", "b")', 'LOST = Weighting("its worth", "b")')
    yield Change("outcomes.py", 'HALF = Weighting("its worth")', 'HALF = Weighting("nothing")')
    yield Change("outcomes.py", 'DROPPED = Weighting("left out")', 'DROPPED = Weighting("nothing")')


READERS = (
    Change("stats/winrate.py", "_counted(HALF, outcomes)", "_counted(WON, outcomes)"),
    Change("stats/winrate.py", "in (HALF, WON, LOST)", "in (WON, WON, LOST)"),
    Change("stats/winrate.py", "in (HALF, WON, LOST)", "in (HALF, HALF, LOST)"),
    Change("stats/winrate.py", "in (HALF, WON, LOST)", "in (HALF, WON, WON)"),
    Change("stats/winrate.py", "DROPPED.table()", "WON.table()"),
    Change("stats/winrate.py", 'worth("loss")', 'worth("tie")'),
    Change("stats/winrate.py", 'worth("win")', 'worth("tie")'),
    Change("stats/winrate.py", "{outcome: is_undecided(outcome) for", '{outcome: outcome == "tie" for'),
    Change("stats/winrate.py", "if is_undecided(outcome))", 'if outcome == "tie")'),
    Change("stats/winrate.py", '("yes", WON)', '("yes", LOST)'),
    Change("stats/winrate.py", '("no", LOST)', '("no", WON)'),
    Change("stats/paired.py", "[HALF.of(outcome)", "[WON.of(outcome)"),
    Change("stats/paired.py", "[WON.of(outcome)", "[HALF.of(outcome)"),
    Change("stats/length.py", "data != EVEN", "data != 0.4"),
    Change("stats/length.py", "data[live] > EVEN", "data[live] == 1"),
    Change("stats/ranking.py", "(votes.score == EVEN).astype", "(votes.score == 0.4).astype"),
    Change("judging/early_stopping.py", "HALF.of(", "(lambda said: float(said == 'win'))("),
    Change("judging/jury.py", "sum(map(worth, labels))", 'sum(label == "win" for label in labels)'),
    Change("judging/jury.py", "worth(judgement.outcome) if", 'float(judgement.outcome == "win") if'),
    Change("judging/jury_votes.py", "math.isclose(chance, EVEN,", "math.isclose(chance, 0.4,", JURY),
    Change("judging/jury_votes.py", "Counter(map(pooled, said))", "Counter(map(str, said))"),
    Change("judging/jury_votes.py", "set(filter(is_undecided, said))", '{"tie"}'),
    Change("judging/jury_votes.py", "worth(judgement.outcome) if", 'float(judgement.outcome == "win") if'),
    Change("judging/jury_votes.py", "worth(of_verdict(str(b.verdict)))", 'float(b.verdict == "first")'),
    Change("judging/image_ablation.py", "pooled(was.outcome) != pooled(now.outcome)", "was.outcome != now.outcome"),
    Change("metrics/agreement.py", "sum(map(worth, unit.values()))", "sum(map({'win'}.__contains__, unit.values()))"),
    Change("metrics/agreement.py", "worth(record.outcome) if", 'float(record.outcome == "win") if'),
    Change("metrics/agreement.py", "person: mirror(label)", "person: label"),
    Change("metrics/agreement.py", "[as_label(record.outcome) for", "[record.outcome for"),
    Change("metrics/agreement.py", "{names[0]: as_label(record.outcome)}", "{names[0]: record.outcome}"),
    Change("metrics/agreement.py", "if is_vote(record.outcome)", "if record.outcome"),
    Change("metrics/corrected_rates.py", "(named.WIN_RATE, WON)", "(named.WIN_RATE, HALF)"),
    Change(
        "metrics/corrected_rates.py", "(named.WIN_RATE_UNDECIDED_HALF, HALF)", "(named.WIN_RATE_UNDECIDED_HALF, WON)"
    ),
    Change("metrics/corrected_rates.py", "(named.YES_RATE, WON)", "(named.YES_RATE, LOST)"),
    Change("metrics/corrected_rates.py", "(named.NO_RATE, LOST)", "(named.NO_RATE, WON)"),
    Change("metrics/corrected_rates.py", "[as_label(record.outcome) for", "[record.outcome for"),
    Change("metrics/corrected_rates.py", "in filter(is_decided, LABELS[kind])", "in LABELS[kind]"),
    Change("scoring/power.py", "list(map(worth, ", "list(map({'win', 'yes'}.__contains__, "),
    Change("scoring/power.py", "[worth(record.outcome) for", '[float(record.outcome in {"win", "yes"}) for'),
    Change("scoring/power.py", "not is_undecided(record.outcome)", 'record.outcome != "tie"'),
    Change("scoring/audit_figures.py", "sum(map(worth, labels))", 'sum(label == "win" for label in labels)'),
    Change("scoring/audit_figures.py", "HALF.of(record.outcome)", 'float(record.outcome == "win")'),
    Change("scoring/rewards.py", "is_decided(label.label)", "label.label"),
    Change("scoring/rewards.py", "(2 * worth(label.label) - 1)", "1"),
    Change("scoring/outcome_table.py", '"yes_no" if single', '"pairwise" if single'),
    Change("sources/label_rows.py", "mirror(meaning) if", "meaning if"),
    Change("metrics/label_join.py", "mirror(label.label) if turned", "label.label if turned", JOIN),
    Change(
        "labelling/units.py",
        "UNDECIDED if is_undecided(judgement.outcome)",
        'UNDECIDED if judgement.outcome == "split"',
    ),
    Change("labelling/units.py", "SPREAD[is_undecided(judgement.outcome)]", 'SPREAD[judgement.outcome == "split"]'),
    Change("labelling/app.py", 'return of_verdict(choice, "ab" if', 'return of_verdict(choice, "ba" if', LABELLING),
    Change("labelling/app.py", '"ab" if turn.a_first else "ba"', '"ab"'),
    Change("labelling/export.py", "if is_decided(one.label)", "if one.label", LABELLING),
    Change("labelling/export.py", '"ab" if a_first else "ba"', '"ab"'),
    Change("reporting/counts.py", "if is_undecided(outcome)", 'if outcome == "split"'),
    Change("reporting/page.py", "setdefault(pooled(outcome), [])", "setdefault(outcome, [])"),
    Change("reporting/page.py", "(word(outcome), tally", "(outcome, tally"),
    Change("reporting/page.py", '"name": word(pool)', '"name": pool'),
    Change("reporting/browse.py", "word(judgement.outcome)", "judgement.outcome"),
    Change("reporting/browse.py", "word(label.label)", "label.label"),
    Change("reporting/browse.py", "word(majority)", "majority"),
    Change("reporting/browse.py", "as_label(judgement.outcome)", "judgement.outcome"),
    Change("reporting/browse.py", "is_vote(judgement.outcome)", "judgement.outcome"),
    Change("reporting/matplotlib_plots.py", "label=word(name)", "label=name"),
    Change("cli/judge_printing.py", "{word(outcome)}", "{outcome}"),
    Change("results.py", "word(one.outcome)", "one.outcome"),
    Change("judges/parsing/verdicts.py", "worth(of_verdict(verdict)) * part", 'part * (verdict != "second")'),
    Change("judges/readers.py", 'first + worth("tie") * tie', "first"),
    Change("exporting/trl_rows.py", "meaning(one.outcome).undecided", 'one.outcome == "split"', EXPORTED),
    Change("exporting/verdicts_out.py", "as_label(one.outcome) != one.outcome", 'one.outcome == "split"', ROUND_TRIPS),
    Change("exporting/verdicts_out.py", "HALF.of(one.outcome)", "float(one.outcome == 'win')", ROUND_TRIPS),
    Change("metrics/agreement_slices.py", "import as_label", "import word as as_label", SLICES),
    Change("metrics/consistency_by_gap.py", "HALF.of(record.outcome)", 'float(record.outcome == "win")', BY_GAP),
    Change("metrics/judgement_estimates.py", "mirror(record.outcome)", "record.outcome", ESTIMATES),
    Change("metrics/soft_agreement.py", "sum(map(worth, said))", "sum(map({'win'}.__contains__, said))", SOFT),
    Change(
        "metrics/soft_agreement.py",
        "as_label(one.record.outcome)",
        "{'loss': 'loss'}.get(one.record.outcome, 'win')",
        SOFT,
    ),
    Change("scoring/two_runs.py", "mirror(other.outcome)", "other.outcome", TWO_RUNS),
    Change("scoring/two_runs.py", "for one in now if _is_told(one)", "for one in now", TWO_RUNS),
)
"""A change of every place that reads the table."""


AS_IT_IS = Change("outcomes.py", "EVEN = 0.5", "EVEN = 0.5", (*NEAREST, *LABELLING))


def try_change(change: Change, tree: Path) -> Process:
    """Start the nearest tests of a change, made in a copy of the tree."""
    path = tree / "perl_eval" / change.file
    path.write_text(source_of(change.file).replace(change.old, change.new), "utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()  # it is told from the source by size and second only
    started = get_context("fork").Process(target=_run_tests, args=(change, tree))
    started.start()
    return started


def _run_tests(change: Change, tree: Path) -> None:
    """Run tests in this process, which has imported nothing of the package, and leave with what pytest says."""
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    with (tree / "log.txt").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", change.chosen, *change.tests])
    os._exit(code)


def survivor(change: Change, done: Process, tree: Path) -> bool:
    """Return whether the tests passed, once they have run, and mend the copy."""
    done.join()
    path = tree / "perl_eval" / change.file
    path.write_text(source_of(change.file), "utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()
    if done.exitcode not in (0, 1):
        raise RuntimeError(f"{change}: the tests did not run\n{(tree / 'log.txt').read_text()[-2000:]}")
    return done.exitcode == 0


def copied(folder: Path) -> Path:
    """Copy what the tests need into a folder."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy2(source, folder / name)
    return folder


def main() -> int:
    """Try the changes asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    changes = [one for one in (*of_table(), *READERS) if not given.words or any(w in str(one) for w in given.words)]
    if unfit := [str(one) for one in changes if not one.fits()]:
        print("no longer in the source, once:", *unfit, sep="\n  ")
        return 1
    for name in PRELOADED:
        importlib.import_module(name)
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        trees = [copied(Path(folder) / str(place)) for place in range(given.jobs)]
        if not survivor(AS_IT_IS, try_change(AS_IT_IS, trees[0]), trees[0]):
            print("the tests fail without any change:", (trees[0] / "log.txt").read_text()[-3000:])
            return 1
        for first in range(0, len(changes), given.jobs):
            together = list(zip(changes[first : first + given.jobs], trees, strict=False))
            started = [try_change(change, tree) for change, tree in together]
            for (change, tree), done in zip(together, started, strict=True):
                passed = survivor(change, done, tree)
                survivors += passed
                print("SURVIVES" if passed else "caught  ", change, flush=True)
    print(f"{survivors} of {len(changes)} changes survive")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
