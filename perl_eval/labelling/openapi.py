"""The OpenAPI description of the labelling page's API, and the limits it states."""

from __future__ import annotations

from typing import Any

__all__ = ["BODY_LIMIT_BYTES", "CHOICES", "NAME_LIMIT", "NOTE_LIMIT", "UNIT_LIMIT", "description"]

BODY_LIMIT_BYTES = 64 * 1024
NOTE_LIMIT = 4000
"""Characters of a note."""
NAME_LIMIT = 100
"""Characters of a picture's name."""
UNIT_LIMIT = 64
"""Characters of a unit's id."""
CHOICES = {"pairwise": ("first", "second", "tie", "skip"), "yes_no": ("yes", "no", "skip")}
"""What an annotator may say of a unit, by kind; first and second are places on the page."""

_Schema = dict[str, Any]


def description(kind: str) -> _Schema:
    """Return the OpenAPI document of sessions of a kind, ``pairwise`` or ``yes_no``."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "perl-eval labelling",
            "version": "1",
            "description": "Blind labels: the page learns no model's name, and says which place it prefers.",
        },
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(CHOICES[kind]),
        },
        "paths": {
            "/api/session": {
                "get": _call("session", "Who is asked what, and how far they are", "Session"),
            },
            "/api/pictures/{name}": {
                "get": _picture(),
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": _NAME}],
            },
            "/api/next": {
                "post": _call("next", "The unit to label now: the one held, or a free one, now held", "Asked"),
            },
            "/api/label": {
                "post": {
                    **_call("label", "Keep a label of a held unit; saying it twice is saying it once", "Kept"),
                    "requestBody": {"required": True, "content": _json("Label")},
                },
            },
            "/api/undo": {
                "post": {
                    **_call("undo", "Take the last label back and hold its unit again", "Asked"),
                    "requestBody": {"required": True, "content": _json("Undone")},
                },
            },
        },
    }


def _picture() -> _Schema:
    """Describe the call for a picture: bytes, not JSON."""
    call = _call("picture", "A picture that belongs to a prompt", "Error")
    content = {"image/*": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}}
    call["responses"]["200"] = {"description": "done", "content": content}
    return call


def _object(**properties: _Schema) -> _Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _json(name: str) -> _Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _call(name: str, summary: str, answer: str) -> _Schema:
    refusals = {
        401: "no token, or none that is known",
        403: "another site's page asks",
        421: "the server does not go by that name",
        503: "the session cannot be written",
    }
    if name == "picture":
        refusals |= {404: "there is no such picture"}
    if name in ("label", "undo"):
        refusals |= {
            400: "the body is not JSON",
            404: "there is no such unit",
            409: "the unit is labelled already, or with someone else, or was not the last",
            415: "the body is not application/json",
            422: "the body does not fit its schema",
        }
    answers = {str(code): {"description": why, "content": _json("Error")} for code, why in refusals.items()}
    too_large = f"the body is larger than {BODY_LIMIT_BYTES} bytes"
    answers["413"] = {"description": too_large, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "done", "content": _json(answer)}, **answers},
    }


_TEXT: _Schema = {"type": "string"}
_COUNT: _Schema = {"type": "integer", "minimum": 0}
_UNIT: _Schema = {"type": "string", "minLength": 1, "maxLength": UNIT_LIMIT}
_NAME: _Schema = {"type": "string", "minLength": 1, "maxLength": NAME_LIMIT}
_NOTE: _Schema = {"type": "string", "maxLength": NOTE_LIMIT}
_PROGRESS: _Schema = {"$ref": "#/components/schemas/Progress"}


def _schemas(choices: tuple[str, ...]) -> _Schema:
    return {
        "Error": _object(error=_TEXT),
        "Progress": _object(
            mine=_COUNT, skipped=_COUNT, left=_COUNT, given=_COUNT, wanted=_COUNT, last={"type": ["string", "null"]}
        ),
        "Session": _object(
            annotator=_TEXT,
            role={"enum": ["annotator", "adjudicator"]},
            kind={"enum": list(CHOICES)},
            question=_TEXT,
            note_limit=_COUNT,
            progress=_PROGRESS,
        ),
        "Task": _object(
            unit=_UNIT,
            prompt={"type": "array", "items": _object(role=_TEXT, text=_TEXT)},
            images={"type": "array", "items": _NAME},
            answers={"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2},
            choice={"enum": [*choices, None]},
            note=_TEXT,
            said={"type": "array", "items": _object(choice={"enum": list(choices)}, note=_TEXT)},
        ),
        "Asked": _object(
            task={"anyOf": [{"$ref": "#/components/schemas/Task"}, {"type": "null"}]},
            progress=_PROGRESS,
            decided={"type": "boolean"},
        ),
        "Kept": _object(progress=_PROGRESS),
        "Undone": _object(unit=_UNIT),
        "Label": {
            "type": "object",
            "properties": {"unit": _UNIT, "choice": {"enum": list(choices)}, "note": _NOTE},
            "required": ["unit", "choice"],
            "additionalProperties": False,
        },
    }
