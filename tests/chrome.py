"""A headless Chromium through its driver's HTTP protocol: open a page, run script in it, press keys."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Chrome:
    """A browser with an empty profile in ``profile``; skips the test where Chromium or its driver is missing."""

    def __init__(self, profile: Path) -> None:
        browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        driver = shutil.which("chromedriver")
        if browser is None or driver is None:
            pytest.skip("chromium or chromedriver is not installed")
        self._port = _free_port()
        self._driver = subprocess.Popen(
            [driver, f"--port={self._port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        options = {"binary": browser, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}, "pageLoadStrategy": "normal"}
        self._session = ""
        try:
            self._wait()
            answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self._stop()
            raise
        self._session = f"/session/{answer['sessionId']}"

    def _wait(self) -> None:
        for _ in range(200):
            try:
                self._ask("GET", "/status")
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise AssertionError("chromedriver did not start")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def open(self, page: Path | str, *, width: int = 1280, height: int = 900) -> None:
        """Open a file, or an address."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        self._ask("POST", f"{self._session}/url", {"url": page if isinstance(page, str) else page.resolve().as_uri()})

    def command(self, name: str, **parameters: Any) -> Any:
        return self._ask("POST", f"{self._session}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def script(self, source: str) -> Any:
        """Run the body of a function in the page and return what it returns."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": source, "args": []})

    def press(self, *keys: str) -> None:
        """Press keys one after another, wherever the focus is."""
        codes = {"Tab": "\ue004", "Enter": "\ue007", "Space": " ", "Down": "\ue015", "Escape": "\ue00c"}
        steps = [{"type": kind, "value": codes.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keyboard", "actions": steps}]
        self._ask("POST", f"{self._session}/actions", {"actions": actions})

    def console(self) -> list[str]:
        """Return what was logged since the last call: errors, warnings and blocked content among it."""
        return [entry["message"] for entry in self._ask("POST", f"{self._session}/se/log", {"type": "browser"})]

    def screenshot(self, path: Path) -> None:
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _stop(self) -> None:
        self._driver.terminate()
        self._driver.wait(timeout=20)

    def __enter__(self) -> Chrome:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ask("DELETE", self._session)
        finally:
            self._stop()
