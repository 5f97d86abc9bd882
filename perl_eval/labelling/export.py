"""The verb `export`: the labels of a session to HumanLabel records, or to the files of other labelling tools."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args
from xml.sax.saxutils import quoteattr

from perl_eval.errors import UserError
from perl_eval.labelling.adjudication import settled
from perl_eval.labelling.serve import SESSION
from perl_eval.labelling.store import Store, StoredLabel
from perl_eval.labelling.units import Task, a_is_first
from perl_eval.outcomes import as_verdict, is_decided
from perl_eval.records import HumanLabel, digest
from perl_eval.storage import parquet, run_folder

__all__ = ["FORMS", "Form", "export"]

Form = Literal["labels", "adjudicated", "argilla", "label-studio"]
FORMS: tuple[Form, ...] = get_args(Form)
_PEOPLE = uuid.UUID("6f1c3f0a-5a0e-4f5e-9a5c-7d0c5b1e8a42")
"""Name space of the user ids that annotators get in Argilla, which takes UUIDs only."""


def export(session: Path, out: Path, *, form: Form = "labels") -> Path:
    """Write the labels that stand in a session; it may be open, and go on.

    What other tools get is as blind as our own page: sides are drawn unit by unit, and the file says which one a is on
    where annotators do not look. Reading it back (``import``) gives the same labels; without labels, it is the tasks.

    Args:
        session: The session's folder, or its file.
        out: Output folder: gets ``labels.parquet``, ``argilla.json``, or ``label-studio.json`` and its labelling
            configuration.
        form: Which. ``labels`` are those of the annotators; ``adjudicated`` has what adjudicators said in their place
            where annotators disagree, of each adjudicator where those do too.

    Returns:
        The output folder.

    Raises:
        UserError: There is no session, or no such form.
        DataError: The file is not a session.
    """
    if form not in FORMS:
        raise UserError(f"no form {form!r}", f"choose one of {', '.join(FORMS)}")
    path = Path(session) / SESSION if Path(session).is_dir() else Path(session)
    if not path.is_file():
        raise UserError(f"no labelling session at {session}", "give the folder that `annotate` made")
    with Store(path) as store:
        plan, given, skips, tasks = store.plan, store.given(), store.given(skips=True), store.weighted()
        final, counts = settled(given, store.rulings())
    if form != "adjudicated":
        final = given
    labels = [one.record for one in final]
    content = digest("labels", *(json.dumps([*_cells(label)]) for label in labels))
    with run_folder.start(
        out, verb="export", arguments={"session": str(session), "form": form, "labels": content}
    ) as going:
        if going.done:
            return going.folder
        if form in ("labels", "adjudicated"):
            going.write(labels, HumanLabel)
        elif form == "argilla":
            _write_json(going.folder / "argilla.json", _argilla(tasks, given, plan))
        else:
            _write_json(going.folder / "label-studio.json", _label_studio(tasks, given, plan))
            configuration = _configuration(plan)
            parquet.replace_file(
                going.folder / "label-studio.xml", lambda partial: partial.write_text(configuration, "utf-8")
            )
        going.notes |= _counts(tasks, given, skips) | counts | {"session": plan}
    return going.folder


def _cells(label: HumanLabel) -> tuple[str, ...]:
    return label.unit, label.annotator, label.label, label.note, repr(label.weight)


def _counts(tasks: Sequence[Task], given: Sequence[StoredLabel], skips: Sequence[StoredLabel]) -> dict[str, Any]:
    """Return what a card says of a session: how much, by whom, how fast, and how often the left side was preferred."""
    sided = [one for one in given if is_decided(one.label)]
    first = sum(_place(one.label, a_first=one.a_first) == "first" for one in sided)
    return {
        "units": len(tasks),
        "labels": len(given),
        "skipped": len(skips),
        "by annotator": dict(Counter(one.annotator for one in given)),
        "median seconds": round(median(one.seconds for one in given), 1) if given else None,
        "preferred first": f"{first} of {len(sided)}",
    }


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1)
    parquet.replace_file(path, lambda partial: partial.write_text(text + "\n", "utf-8"))


def _sides(task: Task, plan: Mapping[str, Any]) -> tuple[bool, dict[str, str]]:
    """Return whether a comes first in a unit for everybody, and its texts by the names that other tools show."""
    if len(task.answers) == 1:
        return True, {"answer": task.answers[0]}
    first = a_is_first(plan["seed"], "", task.unit)
    shown = task.answers if first else task.answers[::-1]
    return first, {"first": shown[0], "second": shown[1]}


def _fields(task: Task, plan: Mapping[str, Any]) -> dict[str, str]:
    prompt = "\n\n".join(f"{turn.role}: {turn.content}" for turn in task.prompt)
    return {"prompt": prompt, **_sides(task, plan)[1]}


def _facts(task: Task, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a label needs to find its unit again."""
    facts = {"unit": task.unit, "item": task.item, "group": task.group, "weight": task.weight}
    return facts | {"a_is": "first" if _sides(task, plan)[0] else "second"}


def _by_unit(given: Sequence[StoredLabel]) -> dict[str, list[StoredLabel]]:
    found: dict[str, list[StoredLabel]] = {}
    for one in given:
        found.setdefault(one.task.unit, []).append(one)
    return found


def _value(one: StoredLabel, plan: Mapping[str, Any]) -> str:
    return _place(one.label, a_first=_sides(one.task, plan)[0])


def _place(label: str, *, a_first: bool) -> str:
    """Return which side a label prefers, or the label itself."""
    return as_verdict(label, "ab" if a_first else "ba")


def _argilla(tasks: Sequence[Task], given: Sequence[StoredLabel], plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return records as ``Dataset.records.from_json`` takes them: questions label, annotator and note."""
    labels = _by_unit(given)

    def answers(values: Mapping[str, str]) -> list[dict[str, str]]:
        return [{"value": value, "user_id": str(uuid.uuid5(_PEOPLE, name))} for name, value in values.items()]

    records = []
    for task in tasks:
        ours = labels.get(task.unit, [])
        questions = {
            "label": {one.annotator: _value(one, plan) for one in ours},
            "annotator": {one.annotator: one.annotator for one in ours},
            "note": {one.annotator: one.note for one in ours if one.note},
        }
        records.append(
            {
                "id": task.unit,
                "fields": _fields(task, plan),
                "metadata": _facts(task, plan),
                "suggestions": {},
                "responses": {name: answers(values) for name, values in questions.items() if values},
                "vectors": {},
            }
        )
    return records


def _label_studio(tasks: Sequence[Task], given: Sequence[StoredLabel], plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return tasks as Label Studio imports and exports them; people are named in an answer, not as its users."""
    labels = _by_unit(given)

    def result(name: str, kind: str, value: Any) -> dict[str, Any]:
        return {"from_name": name, "to_name": "prompt", "type": kind, "value": value}

    def annotation(one: StoredLabel) -> dict[str, Any]:
        results = [
            result("label", "choices", {"choices": [_value(one, plan)]}),
            result("annotator", "textarea", {"text": [one.annotator]}),
        ]
        return {"result": [*results, *([result("note", "textarea", {"text": [one.note]})] if one.note else [])]}

    return [
        {
            "data": _fields(task, plan) | _facts(task, plan),
            "annotations": [annotation(one) for one in labels.get(task.unit, [])],
        }
        for task in tasks
    ]


def _configuration(plan: Mapping[str, Any]) -> str:
    """Return the labelling configuration that a Label Studio project of these tasks needs."""
    pair = plan["kind"] == "pairwise"
    shown = ("first", "second") if pair else ("answer",)
    choices = ("first", "tie", "second") if pair else ("yes", "no")
    lines = [
        "<View>",
        f"  <Header value={quoteattr(plan['question'])}/>",
        '  <Text name="prompt" value="$prompt"/>',
        *(f'  <Text name="{name}" value="${name}"/>' for name in shown),
        '  <Choices name="label" toName="prompt" choice="single" required="true">',
        *(f'    <Choice value="{choice}" hotkey="{place}"/>' for place, choice in enumerate(choices, start=1)),
        "  </Choices>",
        '  <TextArea name="note" toName="prompt" placeholder="note"/>',
        '  <TextArea name="annotator" toName="prompt" placeholder="your pseudonym" required="true"/>',
        "</View>",
    ]
    return "\n".join(lines) + "\n"
