"""The verb `decide`: which policy is better, as people would see it, or what would settle it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from perl_eval import figure_names as named
from perl_eval.checks import between
from perl_eval.errors import DataError, UserError
from perl_eval.metrics.label_join import Unit, with_units
from perl_eval.metrics.policy_comparisons import Decided, JudgeSkill, Units, comparisons, decided
from perl_eval.outcomes import HALF, worth
from perl_eval.records import About, Estimate, HumanLabel, Judgement, unit_of
from perl_eval.storage import run_folder

__all__ = ["DECISION", "DecideOptions", "is_at_least", "junit", "run", "sentence", "units_of"]

FloatArray = NDArray[np.float64]
DECISION = "decision.md"
"""The file that says what is decided, a line a comparison."""
_COLUMNS = ("kind", "item", "group", "policy_a", "policy_b", "a", "b", "outcome", "p_a", "judge", "prompt_sha256")
_USUAL_CORRELATION = 0.6
"""What judges and people agree by where nothing is known: for the number of labels to begin with."""


@dataclass(frozen=True, slots=True)
class DecideOptions:
    """How it is decided.

    Attributes:
        baseline: If given, only comparisons with this policy.
        level: Confidence level of all comparisons together, and of each interval.
        power: Chance of a decision that the numbers of labels and pairs are for.
        judge_alone: Decide by the judge where people labelled too little, as if it were no kinder to either policy.
    """

    baseline: str = ""
    level: float = 0.95
    power: float = 0.8
    judge_alone: bool = False

    def __post_init__(self) -> None:
        between(0, 1, self, "level", "power", ends="()")


def run(
    judgements: Path | Sequence[Path], out: Path, *, labels: Path | None = None, options: DecideOptions | None = None
) -> tuple[Path, list[Decided]]:
    """Decide between policies, by a judge on all items and people's labels of a random part of them.

    Policies that were judged against each other are compared so; those that met the same third, or were judged alone,
    item by item. Differences are corrected by labels (PPI++ with several proxies), p-values adjusted for all
    comparisons after Holm. Without labels nothing is decided, for nobody knows whether the judge is kinder to one.

    Args:
        judgements: Run folders of `judge`, by one judge.
        out: Output folder: ``estimates.parquet``, and ``decision.md`` with a sentence a comparison.
        labels: Human labels of a random part.
        options: How it is decided.

    Returns:
        The output folder, and what is known of each comparison.

    Raises:
        UserError: There are no two policies, or several judges.
        DataError: An input does not match its card.
    """
    how = options or DecideOptions()
    sources = [Path(judgements)] if isinstance(judgements, str | Path) else [Path(one) for one in judgements]
    inputs = {f"judgements {place}": path for place, path in enumerate(sources, 1)}
    if labels is not None:
        inputs["labels"] = Path(labels)
    with run_folder.start(out, verb="decide", arguments=asdict(how), inputs=inputs) as going:
        units = _units(sources, labels)
        found = comparisons(units, how.baseline)
        if not found:
            raise UserError("no two policies were judged on the same items", "judge two, or see --baseline")
        said = decided(found, level=how.level, power=how.power, judge_alone=how.judge_alone)
        if not going.done:
            going.write([one for part in said for one in _estimates(part, how, going.simulated)], Estimate)
            lines = [f"- {sentence(part, how)}\n" for part in said]
            (going.folder / DECISION).write_text("".join(lines), "utf-8")
            going.notes |= {"decided": sum(part.verdict != "not decided" for part in said), "comparisons": len(said)}
    return going.folder, said


def sentence(found: Decided, how: DecideOptions | None = None) -> str:
    """Return one sentence that one may act on."""
    how = how or DecideOptions()
    value, low, high = _interval(found, how.level)
    by = (
        f"corrected by {found.corrected.labelled:,} labels"
        if found.corrected is not None
        else f"by the judge alone on {found.items:,} items"
    )
    p = "" if found.adjusted is None else f"; Holm p = {found.adjusted:.2g}"
    shown = f"{abs(value):.2f} ({_bounds(value, low, high)}; {by}{p})"
    if found.verdict != "not decided":
        better, worse = (found.one, found.other) if found.verdict == "better" else (found.other, found.one)
        return f"{better} is better than {worse} by {shown}"
    ahead = found.one if value >= 0 else found.other
    seen = f"{ahead} is ahead by {shown}" if value else f"no difference is seen ({by})"
    return f"{found.one} and {found.other}: not decided, {found.why}; {seen}; {_remedy(found, how)}"


def _interval(found: Decided, level: float) -> tuple[float, float | None, float | None]:
    if found.corrected is None:
        return found.alone, found.alone_low, found.alone_high
    return (found.corrected.value, *found.corrected.interval(level))


def _bounds(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "no interval"
    if value < 0:
        low, high = -high, -low
    return f"{low:.2f} to {high:.2f}"


def _remedy(found: Decided, how: DecideOptions) -> str:
    """Say what would settle a comparison."""
    power = f"at {how.power:.0%} power"
    if found.corrected is None:
        return f"about {_first_labels(found, how):,} labels of a random part would tell {power}, if the judge is right"
    more = []
    if found.labels is not None:
        more.append(f"about {found.labels:,} more labels")
    if found.pairs is not None:
        more.append(f"{found.pairs:,} more items, labelled in the same proportion,")
    if not more:
        return "no difference is seen that more items could tell"
    rest = "" if found.labels is not None else "; no number of labels on these items would"
    return f"{', or '.join(more)} would decide it {power}{rest}"


def _first_labels(found: Decided, how: DecideOptions) -> int:
    """Return how many labels would tell the difference that the judge sees, of usual agreement with people."""
    from scipy.special import ndtri

    gap = max(abs(found.alone), 0.02)
    spread = 1.0 - _USUAL_CORRELATION**2
    return int(np.ceil(spread * float(ndtri((1 + how.level) / 2) + ndtri(how.power)) ** 2 / gap**2))


def _units(sources: Sequence[Path], labels: Path | None) -> Units:
    """Read judged units in columns, with people's labels."""
    tables = [_table(source) for source in sources]
    table, counts = pa.concat_tables(tables), [one.num_rows for one in tables]
    del tables  # or else all is in memory twice once the unjudged are left out
    for name, what in (("judge", "judges"), ("prompt_sha256", "prompts")):
        several = pc.unique(table[name]).to_pylist()
        if len(several) > 1:
            raise UserError(f"there are judgements of {len(several)} {what}: {', '.join(several)}", "give those of one")
    _refuse_repeated(table, sources, counts)
    table = _voted(table)
    said = _labels(table, sources, labels)
    table = table.drop_columns(["a", "b"])
    return _columns(table, *said)


def _refuse_repeated(table: pa.Table, sources: Sequence[Path], counts: Sequence[int]) -> None:
    """Refuse two judgements of the same completions: a label would count for both.

    Raises:
        DataError: There are such two; the row is that of the second.
    """
    if pc.count_distinct(table["a"]).as_py() == table.num_rows:
        return
    codes = [np.asarray(pc.dictionary_encode(table[name]).combine_chunks().indices, np.int64) for name in ("a", "b")]
    keys = codes[0] * (int(codes[1].max(initial=0)) + 1) + codes[1]
    firsts = np.unique(keys, return_index=True)[1]
    if len(firsts) == len(keys):
        return
    again = np.ones(len(keys), np.bool_)
    again[firsts] = False
    place = int(np.flatnonzero(again)[0])
    ends = np.cumsum(counts)
    which = int(np.searchsorted(ends, place, side="right"))
    before = int(np.flatnonzero(keys == keys[place])[0])
    items = {table["item"][where].as_py() for where in (before, place)}
    of = f"items {' and '.join(map(repr, sorted(items)))}" if len(items) > 1 else "the same item"
    what = f"judgement of the same completions by the same judge occurs twice, of {of}"
    row = place - int(ends[which] - counts[which])
    raise DataError(
        what, file=sources[which], row=row, fix="give each answer an id of its own, and each judgement once"
    )


def units_of(records: Sequence[Judgement]) -> Units:
    """Return judgements in columns, without labels."""
    rows = [{name: getattr(one, name) for name in _COLUMNS} for one in records]
    lengths = [{"length_a": len(one.text_a), "length_b": len(one.text_b)} for one in records]
    table = _voted(pa.Table.from_pylist([{**row, **more} for row, more in zip(rows, lengths, strict=True)]))
    return _columns(table, np.full(table.num_rows, np.nan), np.ones(table.num_rows))


def _voted(table: pa.Table) -> pa.Table:
    """Return the rows with a vote: neither unjudged nor scored."""
    return table.filter(pc.is_in(table["outcome"], pa.array(list(HALF.table()), pa.string())))


def _columns(table: pa.Table, truth: FloatArray, weight: FloatArray) -> Units:
    worths = HALF.table()
    chance = table["p_a"].cast(pa.float64()).to_numpy(zero_copy_only=False)
    lengths = [table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("length_a", "length_b")]
    return Units(
        first=table["policy_a"].to_pylist(),
        second=table["policy_b"].to_pylist(),
        item=table["item"].to_pylist(),
        group=table["group"].to_pylist(),
        worth=np.array([worths[outcome] for outcome in table["outcome"].to_pylist()], np.float64),
        chance=chance,
        length=np.tanh(np.log((lengths[0] + 1) / (lengths[1] + 1))) * (lengths[1] > 0),
        truth=truth,
        weight=weight,
    )


def _table(source: Path) -> pa.Table:
    path = run_folder.locate(source, Judgement)
    run_folder.fingerprint(path)
    parts = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(65_536, columns=[*_COLUMNS, "text_a", "text_b"]):
            part = batch.select(list(_COLUMNS))
            for side in "ab":
                part = part.append_column(f"length_{side}", pc.utf8_length(batch[f"text_{side}"]))
            parts.append(part)
    if not parts:
        raise UserError(f"{source} holds no judgements", "judge something first")
    return pa.Table.from_batches(parts)


def _labels(table: pa.Table, sources: Sequence[Path], labels: Path | None) -> tuple[FloatArray, FloatArray]:
    """Return people's mean worth of each unit, NaN where nobody labelled it, and the weight of its labels."""
    truth, weight = np.full(table.num_rows, np.nan), np.ones(table.num_rows)
    if labels is None:
        return truth, weight
    given = run_folder.read(labels, HumanLabel)
    if not all(label.unit for label in given):
        given = with_units(given, _units_labelled(table, sources, {label.item for label in given if not label.unit}))
    last = {(label.unit, label.annotator): label for label in given}
    said: dict[str, list[HumanLabel]] = {}
    for label in last.values():
        said.setdefault(label.unit, []).append(label)
    met = 0
    for row, (a, b) in enumerate(_pairs(table)):
        here = said.get(unit_of(a, b))
        if here:
            met += 1
            truth[row] = float(np.mean([worth(label.label) for label in here]))
            weight[row] = here[0].weight
    if not met:
        raise UserError("nobody labelled what was judged", "give labels of these units")
    return truth, weight


@dataclass(frozen=True, slots=True)
class _Unit:
    """What of a judgement tells which labels are of it."""

    item: str
    a: str
    b: str
    policy_a: str
    policy_b: str


def _pairs(table: pa.Table) -> Iterator[tuple[str, str]]:
    """Yield the ids of the completions of each row, a batch at a time in memory."""
    for batch in table.select(["a", "b"]).to_batches(65_536):
        yield from zip(batch["a"].to_pylist(), batch["b"].to_pylist(), strict=True)


def _units_labelled(table: pa.Table, sources: Sequence[Path], items: set[str]) -> Sequence[Unit]:
    """Return the units of some items; all judgements, with their prompts, where an item is none of the judged."""
    rows = table.filter(pc.is_in(table["item"], pa.array(sorted(items), pa.string())))
    if pc.count_distinct(rows["item"]).as_py() == len(items):
        names = ("item", "a", "b", "policy_a", "policy_b")
        return [_Unit(*cells) for cells in zip(*[rows[name].to_pylist() for name in names], strict=True)]
    return [one for source in sources for one in run_folder.read(source, Judgement)]


def _estimates(found: Decided, how: DecideOptions, simulated: bool) -> Iterator[Estimate]:
    about = About(policy=found.one, minus=found.other)
    more: Mapping[str, Any] = {"level": how.level, "about": about, "simulated": simulated}
    yield Estimate(
        named.DIFFERENCE_BY_JUDGE, found.alone, found.alone_low, found.alone_high, found.items, 0, "t", **more
    )
    if found.corrected is not None:
        part = found.corrected
        method = f"PPI++ on differences, {part.labelled} labelled, {part.proxies} proxies"
        yield Estimate(
            named.DIFFERENCE_CORRECTED, part.value, *part.interval(how.level), found.items, 0, method, **more
        )
    for name, value in (
        (named.DIFFERENCE_P, found.p),
        (named.DIFFERENCE_HOLM_P, found.adjusted),
        (named.DIFFERENCE_FDR_P, found.discovered),
    ):
        if value is not None:
            yield Estimate(name, value, None, None, found.items, 0, "t", kind="p-value", **more)
    for policy, skill in zip((found.one, found.other), found.errors, strict=True):
        yield from _skill(policy, skill, how, simulated)
    if found.gap is not None:
        yield Estimate(named.JUDGE_J_DIFFERENCE, *found.gap, found.items, 0, "MOVER of Wilson", **more)
    for name, needed in ((named.MORE_LABELS, found.labels), (named.MORE_ITEMS, found.pairs)):
        if needed is not None:
            yield Estimate(
                name, float(needed), None, None, found.items, 0, f"power {how.power:g}", kind="count", **more
            )


def _skill(policy: str, skill: JudgeSkill, how: DecideOptions, simulated: bool) -> Iterator[Estimate]:
    more: Mapping[str, Any] = {"level": how.level, "about": About(policy=policy), "simulated": simulated}
    if skill.informedness is None:
        return
    for name, value in (
        (named.JUDGE_SENSITIVITY, skill.sensitivity),
        (named.JUDGE_SPECIFICITY, skill.specificity),
    ):
        yield Estimate(name, value, None, None, skill.n, 0, "share", **more)
    yield Estimate(named.JUDGE_J, skill.informedness, skill.low, skill.high, skill.n, 0, "MOVER of Wilson", **more)


def is_at_least(found: Decided, least: float) -> bool:
    """Return whether a comparison is decided, and the first policy better by so much or more."""
    value = found.alone if found.corrected is None else found.corrected.value
    return found.verdict != "not decided" and value >= least


def junit(found: Sequence[Decided], how: DecideOptions | None = None) -> str:
    """Return the comparisons as a JUnit report: what is not decided is skipped, with its sentence."""
    suite = ElementTree.Element("testsuite", name="perl-eval decide", tests=str(len(found)))
    suite.set("skipped", str(sum(part.verdict == "not decided" for part in found)))
    for part in found:
        case = ElementTree.SubElement(suite, "testcase", classname="decide", name=f"{part.one} against {part.other}")
        said = sentence(part, how)
        if part.verdict == "not decided":
            ElementTree.SubElement(case, "skipped", message=said)
        else:
            ElementTree.SubElement(case, "system-out").text = said
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
