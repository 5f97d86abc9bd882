"""The verb `score` on tasks with known answers: VQA accuracy, and actions on a phone's screen by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from perl_eval import figure_names as named
from perl_eval.errors import DataError, UserError
from perl_eval.records import About, Completion, Estimate, Judgement, Score
from perl_eval.sources import user_table
from perl_eval.stats.action_accuracy import RULES, Match, Rule, Screen, action_accuracies, match_action, parse_action
from perl_eval.stats.agreement_coefficients import exact_agreement
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.intervals import about
from perl_eval.stats.kappa import cohen_kappa
from perl_eval.stats.paired import paired_differences
from perl_eval.stats.vqa_accuracy import vqa_accuracies, vqa_accuracy
from perl_eval.storage import run_folder

__all__ = ["Beside", "TaskOptions", "run"]

_VQA = ("answers", "question_type", "answer_type")
_UI = ("action", "candidate_boxes", "screen_width", "screen_height")
_ACCURACY, _STEP = named.VQA_ACCURACY, named.ACTION_STEP_MATCH
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How completions are scored.

    Attributes:
        rules: Which rules say that an action is right; see `perl_eval.stats.action_accuracy`.
        resampling: Draws, seed and level.
    """

    rules: tuple[Rule, ...] = ("smallest_box",)
    resampling: Resampling = field(default_factory=Resampling)

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule not in RULES:
                raise UserError(f"no rule {rule!r}", f"choose from {', '.join(RULES)}")
        if not self.rules:
            raise UserError("no rule is given", f"choose from {', '.join(RULES)}")


@dataclass(frozen=True, slots=True)
class Beside:
    """What the scores stand beside; None for nothing.

    Attributes:
        against: Completions of the SFT policy on the same items, for paired differences.
        judged: Judgements, yes or no, of the same completions, for the agreement of judge and rule.
    """

    against: Path | None = None
    judged: Path | None = None


def run(
    completions: Path, data: Path, out: Path, *, beside: Beside | None = None, options: TaskOptions | None = None
) -> Path:
    """Score completions by what the rows that they answer say is right.

    Rows with people's answers (VQAv2) give the official VQA accuracy, over all and by answer and question type. Rows
    with the action taken (AndroidControl) give the shares of steps with the right type of action, and that are right
    under each rule; a step that a rule cannot tell is missing, with the reason in its score.

    Args:
        completions: A file or run folder of completions.
        data: The folder of rows that they were sampled for, as `build` writes it; all its splits are looked at.
        out: Output folder.
        beside: What the scores stand beside.
        options: How completions are scored.

    Returns:
        The output folder, with ``scores.parquet`` and ``estimates.parquet``.

    Raises:
        UserError: There are no completions, or the rows have neither answers nor actions.
        DataError: A completion answers no row, or a row is broken.
    """
    how, other = options or TaskOptions(), beside or Beside()
    inputs = {"completions": completions, "data": data, "against": other.against, "judged": other.judged}
    started = run_folder.start(
        out,
        verb="score tasks",
        arguments=asdict(how),
        seed=how.resampling.seed,
        inputs={name: path for name, path in inputs.items() if path is not None},
    )
    with started as progress:
        if progress.done:
            return progress.folder
        policies = _by_policy(completions)
        base = _by_policy(other.against) if other.against is not None else {}
        if len(base) > 1:
            raise UserError(f"{other.against} holds {', '.join(base)}", "give the completions of one policy")
        everyone = [one for group in (*policies.values(), *base.values()) for one in group]
        given = _rows(data, {one.item for one in everyone})
        for one in everyone:
            if one.item not in given:
                raise DataError(f"no row {one.item!r}, which a completion of {one.policy} answers", file=data)
        scores: list[Score] = []
        found: list[Estimate] = []
        judged = [] if other.judged is None else run_folder.read(other.judged, Judgement)
        for policy, own in policies.items():
            task = _vqa if _is_vqa(given) else _actions
            marked, figures = task(own, given, how)
            scores += marked
            found += about(figures, About(policy=policy))
            found += about(_agreements(marked, judged, how), About(policy=policy))
            for rival, theirs in base.items():
                gaps = _differences(marked, task(theirs, given, how)[0], own, given, how)
                found += about(gaps, About(policy=policy, minus=rival))
        progress.write(scores, Score)
        progress.write(about(found, simulated=progress.simulated), Estimate)
    return progress.folder


def _by_policy(completions: Path) -> dict[str, list[Completion]]:
    found: dict[str, list[Completion]] = {}
    for one in run_folder.read(completions, Completion):
        found.setdefault(one.policy, []).append(one)
    if not found:
        raise UserError(f"{completions} holds no completions", "sample some first")
    return dict(sorted(found.items()))


def _rows(data: Path, wanted: set[str]) -> dict[str, Row]:
    """Return the rows that are asked for, by id, with what says which answer is right."""
    run_folder.fingerprint(data)
    files = sorted(Path(data).glob("*.parquet"))
    if not files:
        raise UserError(f"{data} holds no rows", "give one config's folder of a built data set")
    found: dict[str, Row] = {}
    for file in files:
        sheet = user_table.read(file, ("id",), optional=(*_VQA, *_UI))
        if not all(map(sheet.has, _VQA)) and not sheet.has("action"):
            raise DataError(
                f"has neither people's answers ({', '.join(_VQA)}) nor actions (action)",
                file=file,
                fix="give rows of vqav2 or android-control",
            )
        for place, cells in enumerate(sheet.table.to_pylist()):
            if cells["id"] in wanted:
                found[cells["id"]] = _checked(cells, file, place)
    if not found:
        raise UserError(f"no row of {data} is answered by a completion", "give the rows that were sampled for")
    return found


def _checked(cells: dict[str, Any], file: Path, row: int) -> Row:
    if "answers" in cells and not cells["answers"]:
        raise DataError("is empty", file=file, row=row, field="answers")
    if "action" in cells:
        action = cells["action"]
        if isinstance(action, str):
            action = parse_action(action)
        if not isinstance(action, dict) or not isinstance(action.get("action_type"), str):
            raise DataError("is not an action", file=file, row=row, field="action")
        cells["action"] = {name: value for name, value in action.items() if value is not None}
    return cells


def _is_vqa(given: Mapping[str, Row]) -> bool:
    return "answers" in next(iter(given.values()))


def _vqa(own: Sequence[Completion], given: Mapping[str, Row], how: TaskOptions) -> tuple[list[Score], list[Estimate]]:
    values = [vqa_accuracy(one.text, [str(a["answer"]) for a in given[one.item]["answers"]]) for one in own]
    marked = [
        Score(one.id, one.item, one.group, one.policy, _ACCURACY, value) for one, value in zip(own, values, strict=True)
    ]
    kinds, types = ([str(given[one.item][name]) for one in own] for name in ("question_type", "answer_type"))
    groups = [one.group for one in own]
    return marked, vqa_accuracies(values, kinds, types, clusters=groups, level=how.resampling.level)


def _actions(
    own: Sequence[Completion], given: Mapping[str, Row], how: TaskOptions
) -> tuple[list[Score], list[Estimate]]:
    groups = [one.group for one in own]
    parsed = [parse_action(one.text) for one in own]
    marked: list[Score] = []
    found: list[Estimate] = []
    for rule in how.rules:
        matches = [
            match_action(action, given[one.item]["action"], _screen(given[one.item]), rule)
            for one, action in zip(own, parsed, strict=True)
        ]
        marked += [_step(one, match, rule) for one, match in zip(own, matches, strict=True)]
        types, steps = action_accuracies(matches, rule, clusters=groups, level=how.resampling.level)
        if rule == how.rules[0]:  # the type of an action is the same under every rule
            found.append(types)
        found += about([steps], About(slice="rule", value=rule))
    return marked, found


def _screen(row: Row) -> Screen:
    boxes = tuple(tuple(map(float, box)) for box in row.get("candidate_boxes") or ())
    return Screen(row.get("screen_width"), row.get("screen_height"), boxes)  # type: ignore[arg-type]


def _step(one: Completion, match: Match, rule: Rule) -> Score:
    value = None if match.step_match is None else float(match.step_match)
    return Score(one.id, one.item, one.group, one.policy, _metric(rule), value, match.reason)


def _metric(rule: Rule) -> str:
    """Return the metric of the scores that a rule gave."""
    return f"{_STEP}, {rule}"


def _differences(
    ours: Sequence[Score],
    theirs: Sequence[Score],
    own: Sequence[Completion],
    given: Mapping[str, Row],
    how: TaskOptions,
) -> list[Estimate]:
    """Compare the mean scores of items, over their draws; over all, and by answer type where there are any."""
    groups = {one.item: one.group for one in own}

    def means(metric: str) -> list[dict[str, float]]:
        return [_item_means(part, metric) for part in (ours, theirs)]

    def gaps(name: str, items: Sequence[str], values: Sequence[Mapping[str, float]], subject: About) -> list[Estimate]:
        pair = ([scores.get(item) for item in items] for scores in values)
        clusters = [groups.get(item, item) for item in items]
        found = paired_differences(
            *pair, name=f"{name} difference", clusters=clusters, bounds=(-1.0, 1.0), resampling=how.resampling
        )
        return about([found], subject)

    if _is_vqa(given):
        values = means(_ACCURACY)
        parts = _by_answer_type(sorted({item for side in values for item in side}), given)
        return [gap for subject, chosen in parts for gap in gaps(_ACCURACY, chosen, values, subject)]
    found: list[Estimate] = []
    for rule in dict.fromkeys(how.rules):
        values = means(_metric(rule))
        items = sorted({item for side in values for item in side})
        found += gaps(_STEP, items, values, About(slice="rule", value=rule))
    return found


def _by_answer_type(items: Sequence[str], given: Mapping[str, Row]) -> list[tuple[About, list[str]]]:
    types = sorted({str(given[item]["answer_type"]) for item in items})
    parts = [
        (About(slice="answer type", value=kind), [item for item in items if given[item]["answer_type"] == kind])
        for kind in types
    ]
    return [(About(), list(items)), *parts]


def _item_means(scores: Sequence[Score], metric: str) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for score in scores:
        if score.metric == metric and score.value is not None:
            values.setdefault(score.item, []).append(score.value)
    return {item: sum(found) / len(found) for item, found in values.items()}


def _agreements(marked: Sequence[Score], judged: Sequence[Judgement], how: TaskOptions) -> list[Estimate]:
    """Hold a judge's yes or no against each rule's, on the completions that both can tell."""
    said = {record.a: record for record in judged if record.kind == "yes_no" and record.outcome in ("yes", "no")}
    found: list[Estimate] = []
    for rule in dict.fromkeys(how.rules):
        own = [score for score in marked if score.metric == _metric(rule) and score.completion in said]
        known = [score for score in own if score.value is not None]
        ratings = [{"judge": said[score.completion].outcome, "rule": "yes" if score.value else "no"} for score in known]
        groups = [score.group for score in known]
        if not own:
            continue
        figures = [
            exact_agreement(
                ratings,
                ("no", "yes"),
                name=named.JUDGE_RULE_EXACT_AGREEMENT,
                clusters=groups,
                level=how.resampling.level,
            ),
            cohen_kappa(
                ratings,
                ("no", "yes"),
                name=named.JUDGE_RULE_COHEN_KAPPA,
                clusters=groups,
                resampling=how.resampling,
            ),
        ]
        missing = len(own) - len(known)
        subject = About(judge=said[own[0].completion].judge, slice="rule", value=rule)
        found += about([replace(figure, n_missing=figure.n_missing + missing) for figure in figures], subject)
    return found
