"""The verb `import`: label files and judgement files of other tools to HumanLabel and Judgement records."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval import runs
from perl_eval.errors import DataError, UserError
from perl_eval.judges.contest import decide
from perl_eval.records import Ballot, HumanLabel, Judgement, Message, Order, Verdict, digest, unit_of

__all__ = ["FORMS", "Columns", "Form", "read_judgements", "read_labels", "run"]

Form = Literal["table", "label-studio", "argilla", "alpaca-eval", "mt-bench"]
FORMS: tuple[Form, ...] = get_args(Form)
_LABELS = ("win", "tie", "loss", "yes", "no")
_MEANINGS = {
    **{name: name for name in _LABELS},
    **{"a": "win", "b": "loss", "left": "win", "right": "loss", "first": "win", "second": "loss", "lose": "loss"},
    **{"model_a": "win", "model_b": "loss", "1": "win", "2": "loss", "equal": "tie", "draw": "tie", "both": "tie"},
    **{"true": "yes", "false": "no", "thumbs_up": "yes", "thumbs_down": "no", "good": "yes", "bad": "no"},
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a label file keeps what a label needs. Rows that lack an annotator are one person's, ``unnamed``.

    Attributes:
        a: Id of completion a, or of the one completion; used where ``unit`` is not there.
        b: Id of completion b.
        unit: Id of the judged unit, where the file has it.
        label: The label; in Label Studio and Argilla the name of the question.
        annotator: Who gave it.
        group: What shares a source; the unit itself where the file has none.
    """

    a: str = "a"
    b: str = "b"
    unit: str = "unit"
    label: str = "label"
    annotator: str = "annotator"
    group: str = "group"


def run(source: Path, out: Path, *, form: Form, columns: Columns | None = None) -> Path:
    """Read another tool's file and write its records to a run folder.

    Args:
        source: The file.
        out: Output folder.
        form: ``table`` (parquet, CSV or JSON lines), ``label-studio`` or ``argilla`` for labels; ``alpaca-eval`` or
            ``mt-bench`` for judgements.
        columns: Where label files keep what.

    Returns:
        The output folder, with ``labels.parquet`` or ``judgements.parquet``.

    Raises:
        UserError: There is no such file or form.
        DataError: The file is not of that form, a column is missing, or a label means nothing here.
    """
    if form not in FORMS:
        raise UserError(f"no form {form!r}", f"choose one of {', '.join(FORMS)}")
    where, source = columns or Columns(), Path(source)
    started = runs.start(
        out, verb="import", arguments={"form": form, "columns": asdict(where)}, inputs={"source": source}
    )
    with started as progress:
        if progress.done:
            return progress.folder
        if form in ("alpaca-eval", "mt-bench"):
            progress.write(read_judgements(source, form), Judgement)
        else:
            progress.write(read_labels(source, form, where), HumanLabel)
    return progress.folder


def read_labels(source: Path, form: Form = "table", columns: Columns | None = None) -> list[HumanLabel]:
    """Read human labels; see `run`."""
    where = columns or Columns()
    readers: dict[str, Callable[[Path, Columns], Iterator[_Given]]] = {
        "table": _table,
        "label-studio": _label_studio,
        "argilla": _argilla,
    }
    return [_label(given, source) for given in readers[form](source, where)]


@dataclass(frozen=True, slots=True)
class _Given:
    """One label as another tool wrote it: the row it stands in, whose it is, what of."""

    row: int
    label: Any
    annotator: str
    data: Mapping[str, Any]
    columns: Columns


def _label(given: _Given, file: Path) -> HumanLabel:
    names, data = given.columns, given.data
    unit = data.get(names.unit)
    if unit is None:
        if data.get(names.a) is None:
            raise DataError(
                f"has neither {names.unit!r} nor {names.a!r}; present are {', '.join(map(str, data))}",
                file=file,
                row=given.row,
                fix="name the columns that hold them",
            )
        unit = unit_of(str(data[names.a]), str(data.get(names.b) or ""))
    meaning = _MEANINGS.get(str(given.label).strip().lower())
    if meaning is None:
        raise DataError(
            f"label {given.label!r} means nothing here; known are {', '.join(_MEANINGS)}",
            file=file,
            row=given.row,
            field=names.label,
        )
    label: Any = meaning
    group = data.get(names.group)
    return HumanLabel(str(unit), str(unit), str(unit if group is None else group), given.annotator, label)


def _json(source: Path) -> Any:
    try:
        return json.loads(source.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", file=source) from None


def _json_lines(source: Path) -> Iterator[Mapping[str, Any]]:
    with source.open(encoding="utf-8") as handle:
        for row, line in enumerate(handle):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"is not JSON ({error})", file=source, row=row) from None
            if not isinstance(found, dict):
                raise DataError("is not a JSON object", file=source, row=row)
            yield found


def _objects(source: Path) -> Sequence[Mapping[str, Any]]:
    """Return the objects of a JSON array, or of JSON lines."""
    if source.suffix in (".jsonl", ".ndjson"):
        return list(_json_lines(source))
    found = _json(source)
    if not isinstance(found, list) or not all(isinstance(part, dict) for part in found):
        raise DataError("is not a list of JSON objects", file=source)
    return found


def _rows(source: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a parquet, CSV or JSON lines file."""
    if source.suffix == ".csv":
        with source.open(encoding="utf-8-sig", newline="") as handle:
            yield from csv.DictReader(handle)
    elif source.suffix in (".jsonl", ".ndjson"):
        yield from _json_lines(source)
    else:
        try:
            yield from pq.read_table(source).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"is not parquet ({error})", file=source, fix="give .parquet, .csv or .jsonl") from None


def _table(source: Path, columns: Columns) -> Iterator[_Given]:
    for row, data in enumerate(_rows(source)):
        if columns.label not in data:
            raise DataError(
                f"no such column; present are {', '.join(map(str, data))}", file=source, row=row, field=columns.label
            )
        yield _Given(row, data[columns.label], str(data.get(columns.annotator) or "unnamed"), data, columns)


def _label_studio(source: Path, columns: Columns) -> Iterator[_Given]:
    """Read Label Studio's JSON export: choices, or the side chosen in a pairwise comparison."""
    for row, task in enumerate(_objects(source)):
        data = task.get("data")
        if not isinstance(data, dict) or not isinstance(task.get("annotations"), list):
            raise DataError("is no Label Studio task with data and annotations", file=source, row=row)
        for annotation in task["annotations"]:
            if annotation.get("was_cancelled"):
                continue
            by = annotation.get("completed_by")
            person = str(by.get("id") if isinstance(by, dict) else by)
            for result in annotation.get("result", []):
                if result.get("from_name") == columns.label and result.get("type") in ("choices", "pairwise"):
                    value = result.get("value", {})
                    chosen = value.get("selected") or next(iter(value.get("choices", [])), None)
                    yield _Given(row, chosen, person, data, columns)


def _argilla(source: Path, columns: Columns) -> Iterator[_Given]:
    """Read Argilla's records as JSON: fields and metadata, and the responses to one question."""
    for row, record in enumerate(_objects(source)):
        responses = record.get("responses")
        if not isinstance(responses, dict) or not isinstance(record.get("fields"), dict):
            raise DataError("is no Argilla record with fields and responses", file=source, row=row)
        data = {**record["fields"], **(record.get("metadata") or {})}
        for response in responses.get(columns.label, []):
            if response.get("status", "submitted") == "submitted":
                yield _Given(row, response.get("value"), str(response.get("user_id")), data, columns)


def read_judgements(source: Path, form: Form) -> list[Judgement]:
    """Read AlpacaEval annotations or MT-bench pair judgements, as those tools write them.

    AlpacaEval asks one order and does not say which, so its judgements have no positions. MT-bench asks both.

    Raises:
        DataError: A row lacks a field, or has a value that means nothing.
    """
    read = _alpaca if form == "alpaca-eval" else _mt_bench
    found = []
    for row, data in enumerate(_objects(source)):
        try:
            found.append(read(data))
        except KeyError as error:
            raise DataError(
                f"no such field; present are {', '.join(map(str, data))}",
                file=source,
                row=row,
                field=str(error.args[0]),
            ) from None
        except (TypeError, ValueError) as error:
            raise DataError(str(error), file=source, row=row) from None
    return found


def _alpaca(data: Mapping[str, Any]) -> Judgement:
    """Read one annotation: preference 1 for output 1 (the baseline) to 2 for output 2 (the model, contestant a)."""
    preference = data["preference"]
    if preference is not None and not (isinstance(preference, int | float) and isfinite(preference)):
        preference = None
    chance = None if preference is None else 0.5 if preference == 0 else float(preference) - 1
    if chance is not None and not 0 <= chance <= 1:
        raise ValueError(f"preference {preference} is not in [1, 2]")
    verdict: Verdict | None = None
    if chance is not None:
        verdict = "tie" if chance == 0.5 else "first" if chance > 0.5 else "second"
    ballot = Ballot("none", verdict, None if verdict else "no preference", p_first=chance, model=str(data["annotator"]))
    return _judgement(
        str(data["instruction"]),
        (str(data["generator_2"]), str(data["generator_1"])),
        (str(data["output_2"]), str(data["output_1"])),
        (ballot,),
        "alpaca-eval",
    )


def _mt_bench(data: Mapping[str, Any]) -> Judgement:
    """Read one pair: the winner of the game with model 1 first, and of the game with model 2 first."""
    judge, template = data["judge"]
    turn = int(data.get("turn", 1))
    ballots = []
    orders: tuple[tuple[str, Order], ...] = (("g1", "ab"), ("g2", "ba"))
    for game, order in orders:
        winner = data[f"{game}_winner"]
        if winner not in ("model_1", "model_2", "tie", "error"):
            raise ValueError(f"{game}_winner {winner!r} is none of model_1, model_2, tie, error")
        shown_first = "model_1" if order == "ab" else "model_2"
        verdict: Verdict | None = None
        if winner != "error":
            verdict = "tie" if winner == "tie" else "first" if winner == shown_first else "second"
        reason = None if verdict else "error"
        ballots.append(Ballot(order, verdict, reason, raw=str(data.get(f"{game}_judgment", "")), model=str(judge)))
    policies = (str(data["model_1"]), str(data["model_2"]))
    made = _judgement(f"{data['question_id']}, turn {turn}", policies, ("", ""), tuple(ballots), "mt-bench")
    return replace(made, group=str(data["question_id"]), judge=f"{judge}, {template}", prompt=())


def _judgement(
    prompt: str, policies: tuple[str, str], texts: tuple[str, str], ballots: tuple[Ballot, ...], dataset: str
) -> Judgement:
    item = digest(prompt)
    a, b = (digest(item, policy, text) for policy, text in zip(policies, texts, strict=True))
    decision = decide(ballots)
    return Judgement(
        id=digest("judgement", a, b, ballots[0].model),
        kind="pairwise",
        item=item,
        group=item,
        dataset=dataset,
        a=a,
        b=b,
        policy_a=policies[0],
        policy_b=policies[1],
        prompt=(Message("user", prompt),),
        text_a=texts[0],
        text_b=texts[1],
        outcome=decision.outcome,
        ballots=ballots,
        judge=ballots[0].model,
        prompt_sha256="",
        simulated=False,
        p_a=decision.p_a,
        reason=decision.reason,
    )
