"""The verb `doctor`: what can be computed from some files, what stands in the way, and how many labels would help."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perl_eval.errors import PerlEvalError, UserError
from perl_eval.metrics.policy_comparisons import Units, comparisons
from perl_eval.metrics.policy_decisions import Decided, decided
from perl_eval.records import Completion, Estimate, HumanLabel, Judgement, Score
from perl_eval.scoring.decide_options import DecideOptions
from perl_eval.scoring.decision_words import first_labels, sentence
from perl_eval.scoring.doctor_files import Held, held_in
from perl_eval.scoring.judged_units import read_units
from perl_eval.scoring.several_files import for_kind, ways_of
from perl_eval.scoring.two_runs import are_two_runs
from perl_eval.sources.reading import HowRead, meanings
from perl_eval.sources.recognition import format_named
from perl_eval.sources.rows import Row
from perl_eval.stats.label_plans import two_digits
from perl_eval.storage import parquet, run_folder

__all__ = ["Diagnosis", "LabelsNeeded", "run"]

_WIDTH = 80
_SHOWN = 10
"""Comparisons that are written out."""
_CLASS = 10
"""Labels of each kind that a judge's hit rate rests on; see `perl_eval.metrics.policy_comparisons`."""
_TWICE = 50
"""Units that two people should label to know how far people agree: within 0.14."""
_WITHIN = 0.1
"""How narrowly an agreement is to be known, to either side at 95 %."""


@dataclass(frozen=True, slots=True)
class LabelsNeeded:
    """How many labels a figure has, and about how many more it takes.

    Attributes:
        figure: What they are for.
        have: Labels there are.
        more: About how many more; 0 where there are enough, None if no number would do.
    """

    figure: str
    have: int
    more: int | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What some files can tell.

    Attributes:
        files: Each file, and what it holds.
        can: What can be computed: the command, and what it gives.
        wrong: What stands in the way, and what to do.
        labels: How many labels would unblock what.
    """

    files: tuple[tuple[str, str], ...]
    can: tuple[tuple[str, str], ...]
    wrong: tuple[str, ...]
    labels: tuple[LabelsNeeded, ...]

    @property
    def clear(self) -> bool:
        """Whether nothing stands in the way; what an exit code says."""
        return not self.wrong

    def __str__(self) -> str:
        """Return the page."""
        number = len(self.wrong)
        head = f"{number} {'things stand' if number != 1 else 'thing stands'} in the way"
        lines = [f"{head}." if number else "Nothing stands in the way."]
        lines += _part("Files", _pairs(self.files))
        lines += _part("Can be computed", _pairs(self.can))
        lines += _part("In the way", _numbered(self.wrong))
        lines += _part("Labels", _label_table(self.labels))
        return "\n".join(lines)


def run(sources: Sequence[Path], *, how: HowRead | None = None) -> Diagnosis:
    """Say what can be computed from files and folders, what stands in the way, and how many labels would unblock what.

    Args:
        sources: Run folders, and files of any known format: answers, judgements, labels, rows, scores.
        how: How files of other tools are read; of the columns and words those count that a file has.

    Raises:
        UserError: No source is given, or there is nothing at a path.
        OptionError: There is no such format, or a word was given a meaning, and no file says it.
    """
    if not sources:
        raise UserError("nothing is given to look at", "give files or folders: answers, judgements, labels")
    paths, asked = [Path(source) for source in sources], how or HowRead()
    if asked.format:
        format_named(asked.format)
    meanings(asked.means)
    ways = ways_of(paths, asked)
    with TemporaryDirectory(prefix="perl-eval-") as place:
        held = [
            held_in(path, Path(place) / str(number), way)
            for number, (path, way) in enumerate(zip(paths, ways, strict=True))
        ]
        return _diagnosed(_Found(held, ways), Path(place))


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answers of one policy in one place."""

    name: str
    policy: str
    items: frozenset[str]
    rows: int


@dataclass(frozen=True, slots=True)
class _Judged:
    """Judgements of one place, in figures."""

    name: str
    home: Path
    judges: tuple[str, ...]
    rows: int
    unjudged: int
    pairs: int
    asked: int
    both: int
    policies: tuple[str, ...]
    reason: str


class _Found:
    """Everything that was found, by kind."""

    def __init__(self, held: Sequence[Held], ways: Sequence[HowRead]) -> None:
        self.held = held
        self.ways = {one.name: way for one, way in zip(held, ways, strict=True)}
        self.answers = [one for name, home in self.of(Completion) for one in _answers(name, home)]
        self.judged = [_judged(name, home) for name, home in self.of(Judgement)]
        self.labels = [label for _, home in self.of(HumanLabel) for label in run_folder.read(home, HumanLabel)]

    def of(self, kind: type) -> list[tuple[str, Path]]:
        """Return the readable places of a kind, with the source that each is of."""
        return [(one.name, home) for one in self.held if not one.wrong for home in one.homes.get(kind, ())]

    def names(self, kind: type) -> str:
        """Return the sources of a kind, as typed."""
        return " ".join(dict.fromkeys(name for name, _ in self.of(kind)))

    def options_of_labels(self) -> str:
        """Return how files of labels are read, as it is typed after a command, with a space before it."""
        typed: dict[str, None] = {}
        for name, _ in self.of(HumanLabel):
            if Path(name).is_file():
                way = for_kind(self.ways[name], HumanLabel, self.ways[name].format)
                pairs = [("column", way.columns), ("means", way.means)]
                told = [f"--{option} {quote(f'{one}={other}')}" for option, of in pairs for one, other in of.items()]
                typed |= dict.fromkeys([f"--format {way.format}"] * bool(way.format) + told)
        return "".join(f" {option}" for option in typed)


def _answers(name: str, home: Path) -> Iterator[_Answers]:
    table = pq.read_table(run_folder.locate(home, Completion), columns=["policy", "item"])
    for policy in sorted(pc.unique(table["policy"]).to_pylist()):
        items = table.filter(pc.equal(table["policy"], policy))["item"].to_pylist()
        yield _Answers(name, policy, frozenset(items), len(items))


def _judged(name: str, home: Path) -> _Judged:
    columns = ["kind", "judge", "outcome", "policy_a", "policy_b", "reason", "ballots"]
    table = pq.read_table(run_folder.locate(home, Judgement), columns=columns)
    open_ = pc.equal(table["outcome"], "unjudged")
    reasons = Counter(table["reason"].filter(open_).to_pylist())
    policies = {*pc.unique(table["policy_a"]).to_pylist(), *pc.unique(table["policy_b"]).to_pylist()} - {""}
    return _Judged(
        name,
        home,
        tuple(sorted(pc.unique(table["judge"]).to_pylist())),
        table.num_rows,
        int(pc.sum(open_).as_py() or 0),
        int(pc.sum(pc.equal(table["kind"], "pairwise")).as_py() or 0),
        int(np.count_nonzero(pc.list_value_length(table["ballots"]).to_numpy())),
        _in_both_orders(table["ballots"]),
        tuple(sorted(policies)),
        str(reasons.most_common(1)[0][0]) if reasons else "",
    )


def _in_both_orders(ballots: pa.ChunkedArray) -> int:
    """Return how many units were asked of in both orders."""
    count = 0
    for chunk in ballots.chunks:
        orders, parents = pc.list_flatten(chunk), pc.list_parent_indices(chunk)
        if not len(orders):
            continue
        asked = orders.field("order")
        units = [pc.unique(parents.filter(pc.equal(asked, order))) for order in ("ab", "ba")]
        count += int(pc.sum(pc.is_in(units[0], units[1])).as_py() or 0)
    return count


def _diagnosed(found: _Found, place: Path) -> Diagnosis:
    can: list[tuple[str, str]] = []
    wrong = [line for one in found.held for line in one.wrong]
    needed: list[LabelsNeeded] = []
    _look_at_answers(found, can, wrong)
    _look_at_judgements(found, can, wrong)
    _look_at_labels(found, needed)
    if found.judged:
        _look_at_both(found, place, can, wrong, needed)
    elif found.labels and not found.answers:
        wrong.append("there are labels and no judgements: give what the judge said of the same answers")
    files = tuple((one.name, _holds(one, found)) for one in found.held)
    return Diagnosis(files, tuple(can), tuple(dict.fromkeys(wrong)), tuple(needed))


def _holds(one: Held, found: _Found) -> str:
    """Say in a line what a source holds."""
    said = list(one.told)
    if not said:
        said += [f"{part.rows:,} answers of {part.policy}" for part in found.answers if part.name == one.name]
        said += [_told_judged(part) for part in found.judged if part.name == one.name]
        if HumanLabel in one.homes and not one.wrong:
            said.append("labels of people")
        said += [word for kind, word in ((Score, "scores"), (Estimate, "figures")) if kind in one.homes]
    return "; ".join(said) or "cannot be read"


def _told_judged(part: _Judged) -> str:
    return f"{part.rows:,} judgements by {', '.join(part.judges)} of {', '.join(part.policies)}"


def _look_at_answers(found: _Found, can: list[tuple[str, str]], wrong: list[str]) -> None:
    for one in found.answers:
        can.append((f"score {one.name}", f"how varied the answers of {one.policy} are, {one.rows:,}"))
    for name, home in found.of(Row):
        can.append((f"train reward --data {name}", "rows to train on, where they hold preferences or ratings"))
        del home
    for name, _ in found.of(Score):
        can.append((f"score {name}", "how well scores tell good answers from bad, beside --data or --labels"))
    if not found.answers or found.judged:
        return
    policies = sorted({one.policy for one in found.answers})
    names = found.names(Completion)
    if len(policies) == 1:
        wrong.append(f"nothing is judged: judge {names} --judge NAME, alone or beside another policy's answers")
        return
    for one, other in _pairs_of(found.answers):
        shared = len(one.items & other.items)
        if shared:
            what = f"{one.policy} against {other.policy} on {shared:,} items that both answered"
            can.append((f"judge {one.name} {other.name} --judge NAME", what))
        else:
            wrong.append(
                f"{one.policy} and {other.policy} answered no item both ({len(one.items):,} and {len(other.items):,}); "
                "if the prompts are the same, name the column that tells them: --column item=NAME"
            )
    wrong.append(f"nothing is judged, so no policy can be called better: judge {names} --judge NAME")


def _pairs_of(answers: Sequence[_Answers]) -> Iterator[tuple[_Answers, _Answers]]:
    for place, one in enumerate(answers):
        for other in answers[place + 1 :]:
            if one.policy != other.policy:
                yield one, other


def _look_at_judgements(found: _Found, can: list[tuple[str, str]], wrong: list[str]) -> None:
    for one in found.judged:
        judged = one.rows - one.unjudged
        can.append((f"score {one.name}", f"rates with intervals of {judged:,} judgements"))
        if one.pairs and not one.both:
            why = "every pair was shown in one order only" if one.asked else "it does not say what each order gave"
            wrong.append(
                f"{one.name}: {why}, so whether position decides cannot be seen; judge the answers in both orders, "
                "or give a table with verdict_ab and verdict_ba"
            )
        if one.rows and one.unjudged / one.rows > 0.05:
            why = f" ({one.reason})" if one.reason else ""
            wrong.append(
                f"{one.name}: {one.unjudged:,} of {one.rows:,} are unjudged{why}; the same judge command asks again, "
                "or every rate has wide bounds"
            )
    if len(found.judged) == 2 and are_two_runs([run_folder.read(one.home, Judgement) for one in found.judged]):
        what = "the same answers judged twice: whether the judge has changed, and which outcomes flipped"
        can.append((f"score {found.names(Judgement)}", what))
    judges = sorted({judge for one in found.judged for judge in one.judges})
    if len(judges) > 1 and len(found.judged) > 1:
        can.append((f"jury {found.names(Judgement)}", f"what {len(judges)} judges say together"))


def _look_at_labels(found: _Found, needed: list[LabelsNeeded]) -> None:
    if not found.labels:
        return
    people: dict[tuple[str, ...], set[str]] = {}
    for label in found.labels:
        key = (label.unit,) if label.unit else (label.item, *sorted((label.policy_a, label.policy_b)))
        people.setdefault(key, set()).add(label.annotator)
    twice = sum(len(who) > 1 for who in people.values())
    needed.append(LabelsNeeded("how far people agree (units that two label)", twice, max(0, _TWICE - twice)))


def _labels_for_agreement(units: Units) -> int:
    """Return how many labels tell the agreement that was seen within `_WITHIN`, by the normal approximation.

    Of few labels it is taken for a half, and never for more than 0.95, where the approximation ends.
    """
    known = np.isfinite(units.truth)
    same = int((np.abs(units.truth - units.worth)[known] < 0.5).sum())
    n = int(known.sum())
    share = same / n if n >= _CLASS else 0.5
    return int(np.ceil(1.96**2 * max(share * (1 - share), 0.05) / _WITHIN**2))


def _look_at_both(
    found: _Found, place: Path, can: list[tuple[str, str]], wrong: list[str], needed: list[LabelsNeeded]
) -> None:
    """Say what judgements and labels come to together, one judge after another."""
    labels = _all_labels(found, place)
    by_judge: dict[tuple[str, ...], list[_Judged]] = {}
    for one in found.judged:
        by_judge.setdefault(one.judges, []).append(one)
    for parts in _runs(by_judge.values()):
        names = " ".join(dict.fromkeys(part.name for part in parts))
        homes = [part.home for part in parts]
        try:
            units = read_units(homes, labels)
        except PerlEvalError as error:
            wrong.append(f"{names}: {_shown(str(error), parts)}")
            continue
        labelled = int(np.isfinite(units.truth).sum())
        read = found.options_of_labels()
        beside = f" --labels {found.names(HumanLabel)}{read}" if labelled else ""
        if labelled:
            what = f"agreement with people on {labelled:,} units, and rates corrected by them"
            can.append((f"agree {names} {found.names(HumanLabel)}{read}", what))
        wanted = _labels_for_agreement(units)
        needed.append(LabelsNeeded("agreement with people within 0.10", labelled, max(0, wanted - labelled)))
        said = decided(comparisons(units))
        if said:
            can.append((f"decide {names}{beside}", "which policy is better, or what would settle it"))
        for part in said[:_SHOWN]:
            can.append(("", sentence(part)))
            needed += _for_comparison(part)
        blocked = [part for part in said if part.corrected is None]
        if blocked:
            wrong.append(_too_few(blocked, labelled))


def _runs(by_judge: Iterable[Sequence[_Judged]]) -> Iterator[Sequence[_Judged]]:
    """Yield what is looked at together: runs by the same judges, but for two of the same answers, each by itself."""
    for parts in by_judge:
        if len(parts) == 2 and are_two_runs([run_folder.read(part.home, Judgement) for part in parts]):
            yield from ([part] for part in parts)
        else:
            yield parts


def _all_labels(found: _Found, place: Path) -> Path | None:
    """Return where all labels lie together."""
    if not found.labels:
        return None
    path = place / "labels" / run_folder.FILES[HumanLabel]
    parquet.write(path, found.labels, HumanLabel)
    return path


def _shown(text: str, parts: Sequence[_Judged]) -> str:
    """Return an error in the words that were typed."""
    for part in parts:
        text = text.replace(str(part.home), part.name)
    return text


def _too_few(blocked: Sequence[Decided], labelled: int) -> str:
    pairs = ", ".join(f"{part.one} and {part.other}" for part in blocked[:3])
    more = f" and {len(blocked) - 3} more comparisons" if len(blocked) > 3 else ""
    why = "no labels show" if not labelled else "too few labels show"
    asked = max(first_labels(part, DecideOptions()) for part in blocked)
    return (
        f"{why} whether the judge favours one of {pairs}{more}; have people label a random part, "
        f"about {two_digits(asked):,} units of each comparison"
    )


def _for_comparison(part: Decided) -> Iterator[LabelsNeeded]:
    """Yield what labels a decision takes, and what the judge's errors on each policy take."""
    have = 0 if part.corrected is None else part.corrected.labelled
    of = f"{part.one} against {part.other}"
    if part.corrected is None:
        yield LabelsNeeded(f"decide {of}", have, first_labels(part, DecideOptions()))
    else:
        yield LabelsNeeded(f"decide {of}", have, 0 if part.verdict != "not decided" else part.labels)
    for policy, skill in zip((part.one, part.other), part.errors, strict=True):
        if skill.informedness is None:
            yield LabelsNeeded(f"the judge's errors on {policy}", skill.n, max(2 * _CLASS - skill.n, _CLASS))


def _part(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *lines] if lines else []


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    lines = []
    for name, what in rows:
        if name:
            lines.append(f"  {name}")
        lines += textwrap.wrap(what, _WIDTH, initial_indent="      ", subsequent_indent="      ")
    return lines


def _numbered(wrong: Sequence[str]) -> list[str]:
    lines = []
    for number, line in enumerate(wrong, 1):
        lines += textwrap.wrap(line, _WIDTH, initial_indent=f"  {number}. ", subsequent_indent="     ")
    return lines


def _label_table(needed: Sequence[LabelsNeeded]) -> list[str]:
    if not needed:
        return []
    lines = [f"  {'for':<52} {'have':>8} {'about':>10}"]
    for one in dict.fromkeys(needed):
        more = "not by labels" if one.more is None else "enough" if one.more == 0 else f"{two_digits(one.more):,} more"
        first, *rest = textwrap.wrap(one.figure, 52)
        lines.append(f"  {first:<52} {one.have:>8,} {more:>10}")
        lines += [f"    {line}" for line in rest]
    return lines
