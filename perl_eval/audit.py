"""The verb `audit`: a judge's passport from a labelled sample, and the alarm when it drifts from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from perl_eval import passport, runs, tables
from perl_eval.errors import UserError
from perl_eval.records import Estimate, HumanLabel, Judgement
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.concord import any_simulated, estimate_agreement, labels_of, ratings_by_unit
from perl_eval.stats.corrected import LABELS
from perl_eval.stats.intervals import about, mean, p_value, proportion, undefined
from perl_eval.stats.length import longer_preferred_rate
from perl_eval.stats.paired import paired_differences
from perl_eval.stats.position import position_bias, verdicts
from perl_eval.stats.winrate import outcome_scores

__all__ = ["ANCHORS", "PAGE", "AuditOptions", "Sources", "drift", "run"]

ANCHORS = "anchors.parquet"
"""The labelled judgements that `drift` compares later ones with."""
PAGE = "passport.md"

_WORTH = {"win": 1.0, "tie": 0.5, "loss": 0.0}
_ATTACKED = "attack success rate"
_SAME = "same outcome when asked again"
_EXPECTED_FLIPS = 0.05
"""Share of outcomes taken to change by chance where the audit asked nothing twice."""
_ALARM = 0.01


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How a judge is audited.

    Attributes:
        level: Confidence level, in (0, 1).
        draws: Bootstrap draws.
        seed: Seed of the draws.
        epsilon: Margin of the alternative annotator test.
        family: Names of the judge's own model family, for self-preference: a policy belongs to it if its name holds
            one of them, in upper or lower case.
    """

    level: float = 0.95
    draws: int = 2000
    seed: int = 0
    epsilon: float = 0.15
    family: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UserError(f"level is {self.level}", "give a number between 0 and 1, such as 0.95")
        if self.draws < 1:
            raise UserError(f"draws is {self.draws}", "give at least 1")

    @property
    def resampling(self) -> Resampling:
        """The bootstrap these options ask for."""
        return Resampling(draws=self.draws, seed=self.seed, level=self.level, kind="standard")


@dataclass(frozen=True, slots=True)
class Sources:
    """What an audit reads beside the judgements and labels; None where it was not tried.

    Attributes:
        again: Judgements of the same units by the same judges, asked anew, for repeatability.
        attack: Output folder of `attack` on the same judges.
    """

    again: Path | None = None
    attack: Path | None = None


def run(
    judgements: Path,
    labels: Path,
    out: Path,
    *,
    sources: Sources | None = None,
    options: AuditOptions | None = None,
) -> Path:
    """Audit judges on what people labelled too: pairs, or single answers that the judge gave a yes, a no or a score.

    Estimates agreement with people (see `agree`), repeatability, success of attacks, failures, tokens and cost; of
    judges of pairs position bias, preference for length beside people's and preference for the own family too. The
    labelled judgements are frozen as anchors for `drift`.

    Args:
        judgements: A file or run folder of judgements of one kind; 50 to 200 labelled ones are a good size.
        labels: A file or run folder of human labels of the same pairs or answers.
        out: Output folder.
        sources: What else was tried on the judges.
        options: How to audit.

    Returns:
        The output folder, with ``estimates.parquet``, the page ``passport.md`` and ``anchors.parquet``.

    Raises:
        UserError: Judgements are of several kinds, or none is labelled, or the attack was on other judges.
    """
    how, beside = options or AuditOptions(), sources or Sources()
    judged, given = runs.read(judgements, Judgement), runs.read(labels, HumanLabel)
    repeated = runs.read(beside.again, Judgement) if beside.again is not None else []
    tried = {name: path for name, path in (("again", beside.again), ("attack", beside.attack)) if path is not None}
    inputs = {"judgements": judgements, "labels": labels, **tried}
    cards = [runs.read_card(path if path.is_dir() else path.parent) for path in inputs.values()]
    simulated_input = any(card is not None and card.simulated for card in cards)
    started = runs.start(
        out,
        verb="audit",
        arguments={**asdict(how), "family": list(how.family)},
        seed=how.seed,
        inputs=inputs,
        simulated=simulated_input or any_simulated(judged, given),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        _refuse_mixed(judged, judgements)
        found = estimate_agreement(judged, given, resampling=how.resampling, epsilon=how.epsilon)
        by_unit, _ = ratings_by_unit(given)
        anchors = [record for record in judged if labels_of(record, by_unit)]
        attacks = _attacks(beside.attack)
        judges = sorted({record.judge for record in judged})
        if attacks and not set(attacks) & set(judges):
            raise UserError(
                f"{beside.attack} attacks {', '.join(sorted(attacks))}, not {', '.join(judges)}",
                "give an attack on the judge that is audited",
            )
        for judge in judges:
            own = [record for record in judged if record.judge == judge]
            figures = [
                *(_of_pairs(own, by_unit, how) if own[0].kind == "pairwise" else []),
                _repeatability(own, [record for record in repeated if record.judge == judge], how),
                *attacks.get(judge, [undefined(_ATTACKED, "the judge was not attacked")]),
                *_label_shares(own, by_unit, how),
                *_price(own, how),
            ]
            found += about(figures, f"judge {judge}", simulated=any(record.simulated for record in own))
        found = about(found, simulated=simulated_input)
        tables.write(progress.folder / ANCHORS, anchors, Judgement)
        page = passport.page(found, judges, anchors=len(anchors))
        tables.replace_file(progress.folder / PAGE, lambda partial: partial.write_text(page, "utf-8"))
        progress.write(found, Estimate)
    return progress.folder


def _refuse_mixed(judged: Sequence[Judgement], file: Path) -> None:
    kinds = sorted({record.kind for record in judged})
    if len(kinds) != 1:
        what = f"judgements of several kinds ({', '.join(kinds)})" if kinds else "no judgements"
        raise UserError(f"{file} holds {what}", "audit judgements of one kind at a time")


def _of_pairs(own: Sequence[Judgement], by_unit: Mapping[str, Mapping[str, str]], how: AuditOptions) -> list[Estimate]:
    """Return what only a judge of pairs can be asked: position, length, and its own family against another."""
    truths = [_truth(list(labels_of(record, by_unit).values())) for record in own]
    return [*_position(own, how), *_length(own, truths, how), *_self_preference(own, truths, how)]


def _attacks(attack: Path | None) -> dict[str, list[Estimate]]:
    """Return the success rates of the attacks on each judge, the attack as subject."""
    if attack is None:
        return {}
    rates = [estimate for estimate in runs.read(attack, Estimate) if estimate.name == _ATTACKED]
    return dict.fromkeys({record.judge for record in runs.read(attack, Judgement)}, rates)


def _label_shares(
    own: Sequence[Judgement], by_unit: Mapping[str, Mapping[str, str]], how: AuditOptions
) -> list[Estimate]:
    """Return what share of people's labels each label is: the base rates that kappa is to be read beside."""
    given = [(label, record.group) for record in own for label in labels_of(record, by_unit).values()]
    names, groups = [label for label, _ in given], [group for _, group in given]
    found = []
    for label in LABELS[own[0].kind]:
        hits = [name == label for name in names]
        share = proportion("share of people's labels", hits, clusters=groups, level=how.level)
        found += about([share], f"label {label}")
    return found


def _truth(labels: Sequence[str]) -> float | None:
    """Return the mean worth of people's labels for contestant a, in [0, 1]; None without labels."""
    return sum(_WORTH[label] for label in labels) / len(labels) if labels else None


def _score(record: Judgement) -> float | None:
    return None if record.outcome == "unjudged" else float(outcome_scores([record.outcome])[0])


def _said(record: Judgement) -> tuple[str, float | None]:
    """Return the outcome, and the score where it is one: all scores have the same outcome."""
    return record.outcome, record.score if record.kind == "score" else None


def _position(own: Sequence[Judgement], how: AuditOptions) -> list[Estimate]:
    positional = any(ballot.order != "none" for record in own for ballot in record.ballots)
    pairs = [verdicts(record.ballots) for record in own]
    groups = [record.group for record in own]
    return position_bias(pairs, clusters=groups, positional=positional, resampling=how.resampling)


def _repeatability(own: Sequence[Judgement], again: Sequence[Judgement], how: AuditOptions) -> Estimate:
    """Return the share of units with the same outcome when asked anew; to be unjudged is an outcome here."""
    second = {(record.unit, record.prompt_sha256): _said(record) for record in again}
    both = [record for record in own if (record.unit, record.prompt_sha256) in second]
    if not both:
        return undefined(_SAME, "nothing was asked again", n_missing=len(own))
    same = [_said(record) == second[record.unit, record.prompt_sha256] for record in both]
    groups, missing = [record.group for record in both], len(own) - len(both)
    return proportion(_SAME, same, clusters=groups, n_missing=missing, level=how.level)


def _length(own: Sequence[Judgement], truths: Sequence[float | None], how: AuditOptions) -> list[Estimate]:
    """Return how often the longer answer wins, with the judge and, on labelled pairs, with people."""
    found = []
    for name, scores in (("judge", [_score(record) for record in own]), ("people", truths)):
        rows = [(record, score) for record, score in zip(own, scores, strict=True) if score is not None]
        estimate = longer_preferred_rate(
            [1.0 if score > 0.5 else 0.0 if score < 0.5 else 0.5 for _, score in rows],
            [len(record.text_a) for record, _ in rows],
            [len(record.text_b) for record, _ in rows],
            clusters=[record.group for record, _ in rows],
            level=how.level,
        )
        missing = estimate.n_missing + len(own) - len(rows)
        found.append(replace(estimate, name=f"longer preferred rate, {name}", n_missing=missing))
    return found


def _self_preference(own: Sequence[Judgement], truths: Sequence[float | None], how: AuditOptions) -> list[Estimate]:
    """Return what the judge gives its own family beyond what people give it, on pairs with one side of the family."""
    name = "self-preference"
    judge, people, groups = [], [], []
    for record, truth in zip(own, truths, strict=True):
        sides = (_in_family(record.policy_a, how.family), _in_family(record.policy_b, how.family))
        score = _score(record)
        if sides[0] == sides[1] or truth is None:
            continue
        judge.append(score if score is None or sides[0] else 1 - score)
        people.append(truth if sides[0] else 1 - truth)
        groups.append(record.group)
    if not judge:
        return [undefined(name, "no labelled pair has one side of the judge's family")]
    return paired_differences(judge, people, name=name, clusters=groups, resampling=how.resampling)[:1]


def _in_family(policy: str, family: Sequence[str]) -> bool:
    return any(name.casefold() in policy.casefold() for name in family if name)


def _price(own: Sequence[Judgement], how: AuditOptions) -> list[Estimate]:
    """Return the share unjudged, and tokens, seconds and cost of one judgement."""
    groups = [record.group for record in own]
    failed = [record.outcome == "unjudged" for record in own]
    tokens = [sum(ballot.tokens_in + ballot.tokens_out for ballot in record.ballots) for record in own]
    seconds = [sum(ballot.latency_s for ballot in record.ballots) for record in own]
    found = [
        proportion("unjudged rate", failed, clusters=groups, level=how.level),
        mean("tokens a judgement", tokens, clusters=groups, level=how.level),
        mean("seconds a judgement", seconds, clusters=groups, level=how.level),
    ]
    priced = [
        (sum(ballot.cost_usd or 0.0 for ballot in record.ballots), record.group)
        for record in own
        if all(ballot.cost_usd is not None for ballot in record.ballots)
    ]
    cost, missing = "cost a judgement, USD", len(own) - len(priced)
    if not priced:
        return [*found, undefined(cost, "the judge's price is not known", n_missing=missing)]
    values, names = [value for value, _ in priced], [name for _, name in priced]
    return [*found, mean(cost, values, clusters=names, n_missing=missing, level=how.level)]


def drift(anchors: Path, now: Path, out: Path, *, options: AuditOptions | None = None) -> Path:
    """Compare a judge's outcomes, or scores, on the anchors with those it gave when it was audited.

    The alarm rings (``drift alarm`` is 1) if more outcomes changed than chance explains: an exact one-sided binomial
    test, at 1 %, against the share that changed when the audit asked twice (its upper bound; 5 % if it did not ask
    twice).

    Args:
        anchors: The output folder of `run`, or the anchors in it.
        now: Judgements of the same units by the same judge with the same prompt, made now.
        out: Output folder.
        options: Only the level counts.

    Returns:
        The output folder, with ``estimates.parquet``.

    Raises:
        UserError: No anchor was judged again.
    """
    how = options or AuditOptions()
    frozen = anchors / ANCHORS if anchors.is_dir() else anchors
    then, later = runs.read(frozen, Judgement), runs.read(now, Judgement)
    figures = frozen.with_name(runs.FILES[Estimate])
    known = runs.read(figures, Estimate) if figures.is_file() else []
    started = runs.start(
        out,
        verb="audit drift",
        arguments={"level": how.level},
        inputs={"anchors": frozen, "now": now},
        simulated=any(record.simulated for record in (*then, *later)),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        found: list[Estimate] = []
        fresh = {(record.judge, record.prompt_sha256, record.unit): _said(record) for record in later}
        for judge in sorted({record.judge for record in then}):
            asked = [record for record in then if record.judge == judge]
            own = [record for record in asked if (judge, record.prompt_sha256, record.unit) in fresh]
            missing = len(asked) - len(own)
            flips = [_said(record) != fresh[judge, record.prompt_sha256, record.unit] for record in own]
            if flips:
                changed = _flips(flips, missing, _expected(known, judge), how)
                found += about(changed, f"judge {judge}", simulated=any(record.simulated for record in own))
        if not found:
            raise UserError(
                f"{now} holds no judgement of an anchor",
                "judge what the anchors are of, with the same judge and prompt",
            )
        progress.write(found, Estimate)
    return progress.folder


def _expected(passport: Sequence[Estimate], judge: str) -> float:
    """Return the share of flips that the audit leaves possible without drift."""
    for estimate in passport:
        if estimate.name == _SAME and estimate.subject == f"judge {judge}" and estimate.low is not None:
            return 1 - estimate.low
    return _EXPECTED_FLIPS


def _flips(flips: Sequence[bool], missing: int, expected: float, how: AuditOptions) -> list[Estimate]:
    from scipy.stats import binomtest

    n, method = len(flips), f"exact binomial test against {expected:.3f}"
    p = float(binomtest(sum(flips), n, expected, alternative="greater").pvalue)
    return [
        proportion("flip rate", flips, n_missing=missing, level=how.level),
        p_value("drift p", p, n=n, n_missing=missing, method=method),
        Estimate("drift alarm", float(p < _ALARM), None, None, n, missing, f"{method}, at {_ALARM:g}"),
    ]
