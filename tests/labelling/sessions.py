"""Completions to label, sessions of them, and a client that speaks to a session's server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from perl_eval.labelling.app import build
from perl_eval.labelling.security import token_of
from perl_eval.labelling.serve import AnnotateOptions, begin
from perl_eval.labelling.store import Store
from perl_eval.labelling.units import Task
from perl_eval.records import Completion, Message, unit_of
from perl_eval.storage import run_folder

HOST = "127.0.0.1:8000"
PLAN = {"kind": "pairwise", "question": "Which?", "overlap": 1, "lease_s": 100.0, "seed": 0}


def completions(folder: Path, policy: str, n: int = 6, texts: Sequence[str] = ()) -> Path:
    """Write a run folder of completions of one policy; its name is in the ids, and nowhere else in what is shown."""
    asked = (Message("user", "a small latte with oat milk please"),)
    with run_folder.start(folder, verb="sample", arguments={"policy": policy}) as run:
        made = [
            Completion(
                f"{policy}-{place}", f"item {place}", f"group {place // 2}", "coffee", policy, asked,
                texts[place] if place < len(texts) else f"answer {'one' if policy < 'n' else 'two'} to {place}",
                "stop", 0,
            )
            for place in range(n)
        ]  # fmt: skip
        run.write(made, Completion)
    return folder


def session(folder: Path, n: int = 6, **changes: Any) -> Store:
    """Begin a session of pairs of ``kappa`` (a) and ``sigma`` (b)."""
    a, b = folder / "a", folder / "b"
    if not a.exists():
        completions(a, "kappa", n)
        completions(b, "sigma", n)
    options = replace(AnnotateOptions(annotators=("ann", "bob"), overlap=1), **changes)
    return begin(a, b, folder / "session", options=options)


def unit(place: int) -> str:
    return unit_of(f"kappa-{place}", f"sigma-{place}")


def tasks(n: int) -> list[Task]:
    turn = (Message("user", "hello"),)
    return [Task(f"u{place:03d}", f"i{place}", "g", turn, ("one", "two")) for place in range(n)]


def store(path: Path, n: int = 4, *, people: Sequence[str] = ("ann", "bob"), clock: Any = None, **plan: Any) -> Store:
    """Begin a bare session of made-up units."""
    made = Store(path, clock=clock) if clock else Store(path)
    made.begin({**PLAN, **plan}, lambda: tasks(n), people)
    return made


class Client:
    """One annotator's browser, as far as the API goes."""

    def __init__(self, store: Store, annotator: str = "ann", at_hand: set[str] | None = None, **headers: str) -> None:
        app = build(store, hosts=frozenset({HOST}), at_hand=at_hand)
        self.http = TestClient(app, base_url=f"http://{HOST}")
        token = token_of(store.secret, annotator)
        self.headers = {"Authorization": f"Bearer {token}", **headers}

    def get(self, path: str, **headers: str) -> Any:
        return self.http.get(path, headers={**self.headers, **headers})

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.http.post(path, json=body, headers={**self.headers, **headers})

    def next(self) -> Any:
        return self.post("/api/next").json()["task"]

    def label(self, task: Any, choice: str, note: str = "") -> Any:
        return self.post("/api/label", {"unit": task["unit"], "choice": choice, "note": note})
