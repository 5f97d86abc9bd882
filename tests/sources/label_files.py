"""Files of labels in their published layouts, in our own words, for tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def document(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


ABOUT = {"item": "q1", "policy_a": "rl", "policy_b": "sft"}


def studio_task(*answers: tuple[str, str, dict[str, Any]], by: Any = 3, cancelled: bool = False) -> dict[str, Any]:
    results = [
        {"id": "x", "from_name": name, "to_name": "prompt", "type": kind, "value": value}
        for name, kind, value in answers
    ]
    annotation = {"id": 7, "completed_by": by, "result": results, "was_cancelled": cancelled, "lead_time": 3.1}
    return {"id": 1, "data": ABOUT, "annotations": [annotation], "predictions": []}


# What label-studio-sdk 2.1 writes of such a task (Converter.convert_to_json_min and convert_to_csv).
STUDIO_MIN = {
    **ABOUT,
    "id": 1,
    "label": "first",
    "annotator": 3,
    "annotation_id": 7,
    "created_at": "2025-01-01T00:00:00Z",
    "updated_at": "2025-01-01T00:00:00Z",
    "lead_time": 3.1,
}
STUDIO_PAIRWISE = {**STUDIO_MIN, "label": [{"selected": "left"}]}
ARGILLA_NESTED = {
    "id": "r1",
    "fields": {"prompt": "p"},
    "metadata": ABOUT,
    "suggestions": {},
    "responses": {"label": [{"value": "first", "user_id": "u1"}]},
    "vectors": {},
    "status": "completed",
    "_server_id": "s",
}
ARGILLA_FLAT = {
    "id": "r1",
    "status": "completed",
    "_server_id": "s",
    "prompt": "p",
    **ABOUT,
    "label.responses": ["first", "second", "first"],
    "label.responses.users": ["u1", "u2", "u3"],
    "label.responses.status": ["submitted", "draft", "discarded"],
}
TURNS = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}]
MT_BENCH = {
    "question_id": 81,
    "model_a": "rl",
    "model_b": "sft",
    "winner": "model_a",
    "judge": "expert_0",
    "conversation_a": TURNS,
    "conversation_b": TURNS,
    "turn": 1,
}
ARENA = {**MT_BENCH, "question_id": "q1", "judge": "arena_user_5", "anony": True, "language": "English", "tstamp": 1.5}

FAMILIES: dict[str, tuple[str, str, Any]] = {
    "studio json": ("label-studio", "x.json", [studio_task(("label", "choices", {"choices": ["first"]}))]),
    "studio pairwise": ("label-studio", "x.json", [studio_task(("label", "pairwise", {"selected": "left"}))]),
    "studio json-min": ("label-studio", "x.json", [STUDIO_MIN]),
    "studio min pairwise": ("label-studio", "x.json", [STUDIO_PAIRWISE]),
    "studio csv": ("label-studio", "x.csv", [STUDIO_MIN]),
    "studio csv pairwise": ("label-studio", "x.csv", [{**STUDIO_MIN, "label": '[{"selected": "left"}]'}]),
    "argilla nested": ("argilla", "x.json", [ARGILLA_NESTED]),
    "argilla flat": ("argilla", "x.json", [ARGILLA_FLAT]),
    "mt-bench": ("mt-bench-votes", "x.json", [MT_BENCH]),
    "arena": ("arena-votes", "x.json", [ARENA]),
    "winner": ("table", "x.csv", [{"item": "q1", "a": "rl", "b": "sft", "winner": "rl", "annotator": "ann"}]),
    "winner by side": ("table", "x.csv", [{"item": "q1", "a": "rl", "b": "sft", "winner": "a", "judge": "ann"}]),
    "label": ("table", "x.csv", [{**ABOUT, "label": "win", "annotator": "ann"}]),
    "wide": ("wide", "x.csv", [{**ABOUT, "ann": "win", "bob": "", "cid": "sft"}]),
}


def written(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    return table(folder / name, rows) if name.endswith(".csv") else document(folder / name, rows)
