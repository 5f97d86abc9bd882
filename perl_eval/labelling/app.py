"""The labelling page's server: a fixed page, and an API that a token opens."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from perl_eval.errors import UserError
from perl_eval.labelling.adjudication import Rulings
from perl_eval.labelling.assignment import Conflict, Turn, Turns
from perl_eval.labelling.openapi import BODY_LIMIT_BYTES, CHOICES, NAME_LIMIT, NOTE_LIMIT, UNIT_LIMIT, description
from perl_eval.labelling.security import Guard, token_of, who
from perl_eval.labelling.store import Store
from perl_eval.outcomes import as_verdict, of_verdict
from perl_eval.records import Order
from perl_eval.reporting.format import visible

__all__ = ["build"]

_ASSETS = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
Answer = dict[str, Any]


def build(store: Store, *, hosts: frozenset[str], at_hand: set[str] | None = None) -> ASGIApp:
    """Return the application that serves a session.

    Args:
        store: The session.
        hosts: Host headers to answer to, see `guard.hosts_of`.
        at_hand: Is kept at the names of those who have something before them.
    """
    api = _Api(store, set() if at_hand is None else at_hand)
    routes = [Route(path, _asset(name, kind)) for path, (name, kind) in _ASSETS.items()]
    routes += [
        Route("/openapi.json", api.describe),
        Route("/api/session", api.session, methods=["GET"]),
        Route("/api/pictures/{name}", api.picture, methods=["GET"]),
        Route("/api/next", api.next, methods=["POST"]),
        Route("/api/label", api.label, methods=["POST"]),
        Route("/api/undo", api.undo, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        HTTPException: _failed,
        KeyError: _not_there,
        Conflict: _in_conflict,
        UserError: _unserved,
        ClientDisconnect: _gone,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers, max_body_size=BODY_LIMIT_BYTES), hosts)


def _asset(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = files("perl_eval.labelling").joinpath(name).read_bytes()

    async def serve(_request: Request) -> Response:
        return Response(content, media_type=kind)

    return serve


async def _failed(_request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _not_there(_request: Request, _error: KeyError) -> Response:
    return JSONResponse({"error": "there is no such unit"}, 404)


async def _in_conflict(_request: Request, error: Conflict) -> Response:
    return JSONResponse({"error": str(error)}, 409)


async def _unserved(_request: Request, error: UserError) -> Response:
    return JSONResponse({"error": str(error)}, 503)


async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    return JSONResponse({"error": "the body ended too early"}, 400)  # nobody reads it


class _Api:
    """The calls; whose units and labels they are about depends on the token alone."""

    def __init__(self, store: Store, at_hand: set[str]) -> None:
        self._store, self._at_hand = store, at_hand
        turns, rulings = Turns(store), Rulings(store)
        self._turns: dict[str, Turns | Rulings] = dict.fromkeys(store.annotators, turns)
        self._turns |= dict.fromkeys(store.adjudicators, rulings)
        self._tokens = {name: token_of(store.secret, name) for name in self._turns}
        plan = store.plan
        self._kind, self._question = plan["kind"], plan["question"]

    def _annotator(self, request: Request) -> str:
        name = who(request.headers.get("authorization", ""), self._tokens)
        if name is None:
            raise HTTPException(401, "open the page by your own link", {"WWW-Authenticate": "Bearer"})
        return name

    async def describe(self, _request: Request) -> Response:
        """Say what can be asked; no token is needed."""
        return JSONResponse(description(self._kind))

    async def session(self, request: Request) -> Response:
        """Say who is asked what, and how far they are."""
        name = self._annotator(request)
        role = "adjudicator" if isinstance(self._turns[name], Rulings) else "annotator"
        about = {"annotator": visible(name), "role": role, "kind": self._kind, "question": visible(self._question)}
        return JSONResponse(about | {"note_limit": NOTE_LIMIT, "progress": await self._progress(name)})

    async def picture(self, request: Request) -> Response:
        """Give a picture that belongs to a prompt, by name; it is looked up in the session, never on disk."""
        self._annotator(request)
        name = str(request.path_params["name"])
        content = await run_in_threadpool(self._store.picture, name) if _is_text(name, NAME_LIMIT) else None
        if content is None:
            raise HTTPException(404, "there is no such picture")
        return Response(content, media_type=f"image/{name.rpartition('.')[2]}")

    async def next(self, request: Request) -> Response:
        """Give the next unit."""
        name = self._annotator(request)
        return await self._answer(name, await run_in_threadpool(self._turns[name].take, name))

    async def label(self, request: Request) -> Response:
        """Keep a label."""
        name = self._annotator(request)
        unit, choice, note = _said(await _object(request, "unit", "choice", "note"), self._kind)
        await run_in_threadpool(self._turns[name].give, name, unit, self._meaning(name, unit, choice), note)
        return JSONResponse({"progress": await self._progress(name)})

    async def undo(self, request: Request) -> Response:
        """Take the last label back."""
        name = self._annotator(request)
        unit = _unit(await _object(request, "unit"))
        turn = await run_in_threadpool(self._turns[name].undo, name, unit)
        return await self._answer(name, turn)

    def _meaning(self, annotator: str, unit: str, choice: str) -> str:
        return of_verdict(choice, "ab" if self._turns[annotator].a_is_first(annotator, unit) else "ba")

    async def _progress(self, annotator: str) -> Answer:
        return asdict(await run_in_threadpool(self._turns[annotator].progress, annotator))

    async def _answer(self, annotator: str, turn: Turn | None) -> Response:
        shown = None if turn is None else _shown(turn)
        self._at_hand.discard(annotator) if turn is None else self._at_hand.add(annotator)
        decided = await run_in_threadpool(lambda: self._store.is_decided)
        return JSONResponse({"task": shown, "progress": await self._progress(annotator), "decided": decided})


def _shown(turn: Turn) -> Answer:
    """Return a unit as it goes to the page: no names, no ids but the unit's, nothing invisible in a text."""
    answers = turn.task.answers if turn.a_first else turn.task.answers[::-1]
    order: Order = "ab" if turn.a_first else "ba"
    return {
        "unit": turn.task.unit,
        "prompt": [{"role": visible(part.role), "text": visible(part.content)} for part in turn.task.prompt],
        "images": list(turn.task.images),
        "answers": [visible(text) for text in answers],
        "choice": as_verdict(turn.label, order) or None,
        "note": turn.note,
        "said": [{"choice": as_verdict(one.label, order), "note": visible(one.note)} for one in turn.said],
    }


async def _object(request: Request, *known: str) -> Mapping[str, Any]:
    """Return the JSON object in a request's body; it has no other names than those known."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send application/json")
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(found, dict) or not found.keys() <= set(known):
        raise HTTPException(422, f"the body is an object of {', '.join(known)}")
    return found


def _unit(body: Mapping[str, Any]) -> str:
    unit = body.get("unit")
    if not _is_text(unit, UNIT_LIMIT) or not unit:
        raise HTTPException(422, f"unit is an id of at most {UNIT_LIMIT} characters")
    return str(unit)


def _said(body: Mapping[str, Any], kind: str) -> tuple[str, str, str]:
    """Return unit, choice and note of a body that fits the description."""
    choice, note = body.get("choice"), body.get("note", "")
    if choice not in CHOICES[kind]:
        raise HTTPException(422, f"choice is one of {', '.join(CHOICES[kind])}")
    if not _is_text(note, NOTE_LIMIT):
        raise HTTPException(422, f"note is a text of at most {NOTE_LIMIT} characters")
    return _unit(body), str(choice), str(note)


def _is_text(value: Any, limit: int) -> bool:
    """Return whether a value is a text that a file can hold and that is no longer than allowed."""
    return isinstance(value, str) and len(value) <= limit and not any("\ud800" <= char <= "\udfff" for char in value)
