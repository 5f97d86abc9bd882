"""`report --serve`: a page that follows run folders while verbs write in them, on this machine only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

from perl_eval.errors import OptionError, UserError

__all__ = ["serve"]

_HOST = "127.0.0.1"
_PAGES = {
    "/": ("live.html", "text/html; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(sources: Sequence[Path], *, port: int = 0, announce: Callable[[str], object] = lambda _: None) -> None:
    """Serve the page until the process is interrupted.

    Only this machine can reach it, and only under the names of this machine: a page of another site cannot ask for it
    under a name of its own.

    Args:
        sources: Folders; run folders may appear below them later.
        port: Where; 0 for any free port.
        announce: Gets the address once the server listens.

    Raises:
        UserError: A source is not a folder, or the port is taken.
    """
    if not 0 <= port < 2**16:
        raise OptionError("port", port, "give a number from 0 (any free one) to 65535")
    for source in sources:
        if not Path(source).is_dir():
            state = "is a file" if Path(source).exists() else "does not exist"
            raise UserError(f"{source} {state}", "give folders in which perl-eval verbs write, or will")
    from perl_eval.reporting.running import Watched

    watched, lock = Watched(sources), threading.Lock()

    class Handler(_Handler):
        def state(self) -> bytes:
            with lock:
                return json.dumps(_finite(watched.state()), ensure_ascii=True, allow_nan=False).encode()

    try:
        server = ThreadingHTTPServer((_HOST, port), Handler)
    except OSError as error:
        raise UserError(f"cannot serve at port {port}: {error.strerror}", "give another port, or 0 for any") from None
    with server:
        announce(f"http://{_HOST}:{server.server_address[1]}/")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return


def _finite(value: Any) -> Any:
    """Return JSON-like content with None for what is not a finite number."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and value - value != 0 else value


class _Handler(BaseHTTPRequestHandler):
    """Answers GET for a few fixed paths."""

    server_version, sys_version = "perl-eval", ""

    def state(self) -> bytes:
        """Return the state as JSON."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer."""
        port = self.connection.getsockname()[1]
        names = {f"{name}:{port}" for name in (_HOST, "localhost")}
        if self.headers.get("Host") not in names:
            self._send(421, b"ask for this page by its own address\n", "text/plain")
            return
        path = self.path.partition("?")[0]
        if path == "/state.json":
            self._send(200, self.state(), "application/json")
        elif path in _PAGES:
            name, kind = _PAGES[path]
            self._send(200, files("perl_eval.reporting").joinpath(name).read_bytes(), kind)
        else:
            self._send(404, b"there is no such page\n", "text/plain")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # the reader went away
            return

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep no log of requests."""
