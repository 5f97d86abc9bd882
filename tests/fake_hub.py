"""A server that plays the Hugging Face hub for models: repositories by name, each with one commit on its branches."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(?P<rest>/.*)?")
_FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        folders: What each repository holds, by name.
        gated: Repositories that must be asked for.
        taken: Every file that was sent, ``NAME/PATH``.
    """

    daemon_threads = True

    def __init__(self, **folders: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.folders: dict[str, Path] = {name.replace("__", "/"): folder for name, folder in folders.items()}
        self.gated: set[str] = set()
        self.taken: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, name: str) -> str:
        """Return the commit of a repository: of what it holds now."""
        folder, state = self.folders[name], hashlib.sha1()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                state.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        return state.hexdigest()

    def knows(self, name: str, revision: str) -> bool:
        return revision in ("main", "v1", self.commit(name))


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def do_GET(self) -> None:
        self._answer(whole=True)

    def _answer(self, *, whole: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        if match := _FILE.fullmatch(path):
            self._file(match["name"], match["revision"], match["path"], whole=whole)
        elif match := _API.fullmatch(path):
            self._facts(match["name"], match["rest"] or "/revision/main")
        else:
            self._send(404, b"", {})

    def _refused(self, name: str, revision: str) -> bool:
        codes = {"RepoNotFound": 401, "GatedRepo": 403, "RevisionNotFound": 404}
        why = ""
        if name not in self.server.folders:
            why = "RepoNotFound"
        elif name in self.server.gated:
            why = "GatedRepo"
        elif not self.server.knows(name, revision):
            why = "RevisionNotFound"
        if why:
            self._send(codes[why], b'{"error": "no"}', {"X-Error-Code": why, "X-Error-Message": "no"})
        return bool(why)

    def _facts(self, name: str, rest: str) -> None:
        _, kind, revision, *_ = [*rest.split("/"), ""]
        if self._refused(name, revision):
            return
        folder, commit = self.server.folders[name], self.server.commit(name)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
        if kind == "tree":
            self._json([self._entry(path, one) for path, one in zip(files, names, strict=True)])
            return
        self._json({"id": name, "sha": commit, "siblings": [{"rfilename": one} for one in names]})

    def _entry(self, path: Path, name: str) -> dict[str, Any]:
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": blob}

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, path: str, *, whole: bool) -> None:
        if self._refused(name, revision):
            return
        file = self.server.folders[name] / path
        if not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = file.read_bytes()
        tag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if whole:
            self.server.taken.append(f"{name}/{path}")
        self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": self.server.commit(name)})

    def _send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Run a hub in a thread for as long as the block lasts."""
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
