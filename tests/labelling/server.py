"""A labelling server in a process of its own, as a user starts it, and calls to it over the network."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = [sys.executable, "-c", "from perl_eval.cli import main; main()"]
_LINK = re.compile(r"^(\S+): (http://([^/]+)/#(\S+))$")


class Server:
    """``perl-eval annotate`` with some arguments, running in a folder; ``links`` are what it prints."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0, single: bool = False) -> None:
        self._process = subprocess.Popen(
            [*PROGRAM, "annotate", "a", *([] if single else ["b"]), "--port", str(port), *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.links: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self.host = ""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := _LINK.match(line.strip()):
                self.links[found[1]], self.host, self._tokens[found[1]] = found[2], found[3], found[4]
            if line.startswith("stop with"):
                break
        else:
            raise AssertionError(f"the server did not start: {self.links}")

    @property
    def port(self) -> int:
        return int(self.host.rpartition(":")[2])

    def call(self, annotator: str, path: str, body: Any = None) -> Any:
        """Post and return what comes back, with its status; raises OSError or HTTPException if nothing does."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self._tokens[annotator]}", "Content-Type": "application/json"}
            connection.request("POST", path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return {"status": answer.status, **json.loads(answer.read())}
        finally:
            connection.close()

    def kill(self) -> None:
        self._process.kill()
        self._end()

    def interrupt(self) -> tuple[int, str]:
        """Stop it as Ctrl-C does; return exit code and standard output."""
        self._process.send_signal(signal.SIGINT)
        return self._end()

    def interrupt_and_log(self) -> tuple[int, str]:
        """Stop it as Ctrl-C does; return exit code and what it wrote to standard error while it served."""
        self._process.send_signal(signal.SIGINT)
        _, log = self._process.communicate(timeout=30)
        return self._process.returncode, log

    def wait(self) -> tuple[int, str]:
        """Wait for it to end by itself; return exit code and what it wrote to standard error while it served."""
        _, log = self._process.communicate(timeout=60)
        return self._process.returncode, log

    def token(self, annotator: str) -> str:
        return self._tokens[annotator]

    def _end(self) -> tuple[int, str]:
        out, _ = self._process.communicate(timeout=30)
        return self._process.returncode, out

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
