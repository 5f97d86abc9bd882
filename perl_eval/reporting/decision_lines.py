"""What a page begins with: which policy is better, by `decide`, and what would settle what is not decided."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from perl_eval import figure_names as named
from perl_eval.errors import DataError, UserError
from perl_eval.records import About, Estimate, HumanLabel, Judgement
from perl_eval.reporting.inputs import Folder, records
from perl_eval.reporting.rankings import Ranking, ranking_in
from perl_eval.scoring import decide
from perl_eval.storage import parquet, run_folder

__all__ = ["Conclusion", "SaidDecisions", "TwoPolicies", "comparisons_decided"]

_SETTLING = (named.MORE_LABELS, named.MORE_ITEMS)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What one judge, with people's labels or without, says of two policies.

    Attributes:
        one: The first policy.
        other: The second.
        sentence: What `decide` says.
        verdict: ``better`` or ``worse``, of the first, or ``not decided``.
        difference: The difference that is drawn, in [-1, 1]: corrected by labels, or by the judge alone.
        by_labels: Whether labels corrected it.
        judge: Who judged; "" if no run here tells.
        judged: Places of the folders whose judgements it rests on.
        run: Place of the run of `decide` that says so; None if the report decided.
        needed: How many more labels or items would decide it.
        commands: Commands that would settle it, for who has the files; "" where it is decided.
    """

    one: str
    other: str
    sentence: str
    verdict: str
    difference: Estimate
    by_labels: bool
    judge: str
    judged: tuple[int, ...]
    run: int | None
    needed: tuple[Estimate, ...]
    commands: str = ""

    @property
    def ahead(self) -> str:
        """Which policy is ahead, or "" if neither is."""
        value = self.difference.value or 0.0
        return "" if value == 0 else self.one if value > 0 else self.other

    @property
    def rests_on(self) -> tuple[object, ...]:
        """What two conclusions have in common that were drawn from the same in the same way."""
        ends = (None if end is None else round(end, 9) for end in (self.difference.value, *self._ends))
        return self.one, self.other, self.judge, self.judged, self.by_labels, self.verdict, *ends

    @property
    def _ends(self) -> tuple[float | None, float | None]:
        return self.difference.low, self.difference.high

    def turned(self) -> Conclusion:
        """Return the same of the other policy against the first; the sentence names both and stays."""
        value, low, high = (None if end is None else -end for end in (self.difference.value, *self._ends[::-1]))
        about = replace(self.difference.about, policy=self.other, minus=self.one)
        other = replace(self.difference, value=value, low=low, high=high, about=about)
        verdict = {"better": "worse", "worse": "better"}.get(self.verdict, self.verdict)
        return replace(self, one=self.other, other=self.one, verdict=verdict, difference=other)

    @property
    def width(self) -> float:
        """Width of the interval; 2, the widest there is, without one."""
        low, high = self.difference.low, self.difference.high
        return 2.0 if low is None or high is None else high - low


@dataclass(frozen=True, slots=True)
class TwoPolicies:
    """Two policies, and what each judge says of them: first what labels correct, then by the width of its interval."""

    one: str
    other: str
    conclusions: tuple[Conclusion, ...]

    def led_by(self, judges: Collection[str]) -> TwoPolicies:
        """Return the same with what these judges say first, as far as labels correct it as they do what others say."""
        order = sorted(self.conclusions, key=lambda one: (not one.by_labels, one.judge not in judges))
        return replace(self, conclusions=tuple(order))

    @property
    def disagree(self) -> bool:
        """Whether what is decided differs from judge to judge."""
        return {"better", "worse"} <= {one.verdict for one in self.conclusions}

    @property
    def apart(self) -> bool:
        """Whether two intervals that labels correct do not meet, though both are of what people would say."""
        own = [one.difference for one in self.conclusions if one.by_labels]
        lows, highs = [one.low for one in own if one.low is not None], [one.high for one in own if one.high is not None]
        return bool(lows and highs) and max(lows) > min(highs)


class SaidDecisions(NamedTuple):
    """What is decided.

    Attributes:
        comparisons: Every two policies that one judge compared.
        complaints: Why it is not known of others.
        rankings: The places of three policies and more.
    """

    comparisons: list[TwoPolicies]
    complaints: list[str]
    rankings: list[Ranking]


@dataclass(slots=True)
class _Group:
    """Judgements by one judge, asked in one way, no two of the same completions."""

    judge: str
    folders: list[int] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    pairs: set[tuple[str, str]] = field(default_factory=set)


def comparisons_decided(found: Sequence[Folder]) -> SaidDecisions:
    """Return what is decided of every two policies that one judge compared, and the places of three and more.

    Runs of `decide` among the folders are taken as they are; of judgements that none of them rests on, the report
    decides itself, corrected by whatever labels stand in the folders.

    Args:
        found: The folders.
    """
    given, covered, rankings = _given(found)
    complaints: list[str] = []
    with TemporaryDirectory(prefix="perl-eval-") as scratch:
        people = [label for _, label in records(found, HumanLabel)]
        labels = Path(scratch) / "labels.parquet"
        if people:
            parquet.write(labels, people, HumanLabel)
        for place, group in enumerate(_groups(found, covered, Path(scratch))):
            try:
                home = _run(group, Path(scratch) / f"decided-{place}", labels if people else None)
            except DataError as error:
                complaints.append(f"judge {group.judge}: {error}")
                continue
            if home is not None:
                given += _read(home, group.judge, tuple(group.folders), None)
                rankings.append(ranking_in(home, group.judge, None))
    said = _by_policies([replace(one, commands=_commands(one, found)) for one in _once(given)])
    return SaidDecisions(said, complaints, _ranked_once(rankings))


def _once(given: Sequence[Conclusion]) -> list[Conclusion]:
    """Return every two policies in one order, and what was decided several times from the same as it was last."""
    order: dict[frozenset[str], str] = {}
    last: dict[tuple[object, ...], Conclusion] = {}
    for one in given:
        first = order.setdefault(frozenset((one.one, one.other)), one.one)
        facing = one if first == one.one else one.turned()
        last[facing.rests_on] = facing
    return list(last.values())


def _ranked_once(given: Sequence[Ranking | None]) -> list[Ranking]:
    """Return rankings, those that say the same by the same judge as they were said last."""
    return list({(one.judge, tuple(one.standings)): one for one in given if one is not None}.values())


def _commands(said: Conclusion, found: Sequence[Folder]) -> str:
    """Return the commands by which people's labels would settle it, where one run judged the two against each other.

    Where labels correct it already, and no number of them on these items would settle it, there are none.
    """
    if said.verdict != "not decided" or (said.by_labels and named.MORE_LABELS not in {one.name for one in said.needed}):
        return ""
    both = {said.one, said.other}
    runs = [found[at] for at in said.judged if _policies(found[at].files[Judgement]) == both]
    arguments = runs[0].card.arguments if len(runs) == 1 else {}
    if not {"a", "b"} <= arguments.keys():
        return ""
    labels = next((one.value for one in said.needed if one.name == named.MORE_LABELS), None)
    limit = "" if labels is None else f" --limit {labels:.0f}"
    here = Path.cwd().resolve()
    path = runs[0].path.relative_to(here) if runs[0].path.is_relative_to(here) else runs[0].path
    a, b, run = (shlex.quote(str(one)) for one in (arguments["a"], arguments["b"], path))
    return (
        f"perl-eval annotate {a} {b}{limit} --out labelling\n"
        "perl-eval export labelling --out people\n"
        f"perl-eval decide {run} --labels people --out decided"
    )


def _policies(file: Path) -> set[str]:
    return _column(file, "policy_a") | _column(file, "policy_b")


def _by_policies(given: Sequence[Conclusion]) -> list[TwoPolicies]:
    pairs: dict[tuple[str, str], list[Conclusion]] = {}
    for one in given:
        pairs.setdefault((one.one, one.other), []).append(one)
    made = [
        TwoPolicies(*pair, tuple(sorted(said, key=lambda one: (not one.by_labels, one.width))))
        for pair, said in pairs.items()
    ]
    return sorted(made, key=lambda one: (not one.conclusions[0].by_labels, one.conclusions[0].verdict == "not decided"))


def _given(found: Sequence[Folder]) -> tuple[list[Conclusion], set[int], list[Ranking | None]]:
    """Return what runs of `decide` say, the places of the judgements that they rest on, and their rankings."""
    said: list[Conclusion] = []
    rankings: list[Ranking | None] = []
    covered: set[int] = set()
    for place, folder in enumerate(found):
        if folder.card.verb != "decide" or Estimate not in folder.files:
            continue
        inputs = set(folder.card.inputs.values())
        judged = [at for at, one in enumerate(found) if Judgement in one.files and one.fingerprints & inputs]
        covered |= set(judged)
        names = {name for at in judged for name in _column(found[at].files[Judgement], "judge")}
        said += _read(folder.path, ", ".join(sorted(names)), tuple(judged), place)
        rankings.append(ranking_in(folder.path, ", ".join(sorted(names)), place))
    return said, covered, rankings


def _column(file: Path, name: str) -> set[str]:
    return set(pc.unique(pq.read_table(file, columns=[name])[name]).to_pylist())


def _groups(found: Sequence[Folder], covered: set[int], scratch: Path) -> list[_Group]:
    """Gather judgements for `decide`: by judge and prompt; what judges the same again stands apart."""
    groups: dict[tuple[str, str], list[_Group]] = {}
    for place, folder in enumerate(found):
        if Judgement not in folder.files or place in covered:
            continue
        for judge, prompt, source in _parts(folder.files[Judgement], scratch / f"part-{place}"):
            table = pq.read_table(source, columns=["a", "b"])
            pairs = set(zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True))
            own = groups.setdefault((judge, prompt), [])
            group = next((one for one in own if one.pairs.isdisjoint(pairs)), None)
            if group is None:
                group = _Group(judge)
                own.append(group)
            group.folders.append(place)
            group.sources.append(source)
            group.pairs |= pairs
    return [group for own in groups.values() for group in own]


def _parts(file: Path, scratch: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the judgements of a file by judge and prompt; a file of one judge and prompt as it is."""
    table = pq.read_table(file, columns=["judge", "prompt_sha256"])
    kinds = table.group_by(["judge", "prompt_sha256"]).aggregate([]).to_pylist()
    if len(kinds) == 1:
        yield kinds[0]["judge"], kinds[0]["prompt_sha256"], file
        return
    for number, kind in enumerate(kinds):
        key = kind["judge"], kind["prompt_sha256"]
        part = scratch / f"{number}.parquet"
        part.parent.mkdir(exist_ok=True)
        own = (one for one in parquet.iterate(file, Judgement) if (one.judge, one.prompt_sha256) == key)
        parquet.write(part, own, Judgement)
        yield *key, part


def _run(group: _Group, out: Path, labels: Path | None) -> Path | None:
    """Decide; without labels if there are none of what was judged, and None if there is nothing to compare."""
    for number, people in enumerate([labels, None] if labels is not None else [None]):
        try:
            return decide.run(group.sources, out / str(number), labels=people)[0]
        except UserError:
            continue
    return None


def _read(home: Path, judge: str, judged: tuple[int, ...], run: int | None) -> list[Conclusion]:
    """Read what a run of `decide` says, a comparison at a time, in its order."""
    own: dict[About, list[Estimate]] = {}
    for estimate in run_folder.read(home, Estimate):
        if estimate.about.minus:
            own.setdefault(estimate.about, []).append(estimate)
    lines = (home / decide.DECISION).read_text("utf-8").splitlines()
    sentences = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    return [
        _conclusion(about, figures, sentence, judge, judged, run)
        for (about, figures), sentence in zip(own.items(), sentences, strict=False)
    ]


def _conclusion(
    about: About, figures: Sequence[Estimate], sentence: str, judge: str, judged: tuple[int, ...], run: int | None
) -> Conclusion:
    by_name = {figure.name: figure for figure in figures}
    corrected = by_name.get(named.DIFFERENCE_CORRECTED)
    difference = corrected or by_name[named.DIFFERENCE_BY_JUDGE]
    p = by_name.get(named.DIFFERENCE_HOLM_P)
    verdict = "not decided"
    if p is not None and p.value is not None and p.value <= 1 - p.level:
        verdict = "better" if (difference.value or 0.0) > 0 else "worse"
    needed = tuple(by_name[name] for name in _SETTLING if name in by_name)
    return Conclusion(
        about.policy,
        about.minus,
        sentence,
        verdict,
        difference,
        corrected is not None,
        judge,
        judged,
        run,
        needed,
    )
