"""A headless Chromium, spoken to through a pipe: pages at a size, what their consoles say, and pictures of them."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import LONG

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--disable-extensions", "--mute-audio", "--remote-debugging-pipe"),
)
TOLD = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.requestWillBeSent")


def program() -> str:
    """Chromium's path; the test is skipped where there is none, but for CI, where there must be one."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        assert os.environ.get("CI") != "true", "CI must have chromium"
        pytest.skip("chromium is not installed")
    return found


class Page:
    """One tab."""

    def __init__(self, ends: tuple[int, int]) -> None:
        self.write_end, self.read_end = ends
        self.numbers, self.rest, self.session = itertools.count(1), b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        for heard in self.heard(LONG):
            if heard.get("id") == number:
                assert "error" not in heard, heard["error"]
                return dict(heard["result"])
        raise AssertionError(f"no answer to {method}")

    def heard(self, seconds: float) -> Iterator[dict[str, Any]]:
        """Messages as they come; events are kept."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.read_end], [], [], left)[0]:
                return
            *whole, self.rest = (self.rest + os.read(self.read_end, 1 << 20)).split(b"\0")
            for text in whole:
                message = json.loads(text)
                if message.get("method") in TOLD:
                    self.events.append(message)
                yield message

    def open(self, address: str, width: int, height: int = 900, dark: bool = False, telephone: bool = False) -> None:
        """Load a page in a window of this size."""
        self.events.clear()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": telephone}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=address)
        assert self.until("document.readyState === 'complete'"), f"{address} does not load"

    def value(self, expression: str) -> Any:
        """A JavaScript expression's value."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = LONG) -> bool:
        """Whether an expression became true in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.value(expression):
                return True
            list(self.heard(0.1))
        return False

    def complaints(self) -> list[str]:
        """Errors and warnings of console and log since the page was opened."""
        list(self.heard(0.2))
        said = []
        for event in self.events:
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                said.append(str(params["exceptionDetails"]["text"]))
            if event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                said.append(str(params["args"]))
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                said.append(str(params["entry"]["text"]))
        return said

    def asked_for(self) -> list[str]:
        """Addresses that the page has asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def picture(self, path: Path, whole: bool = True) -> Path:
        """A PNG of the page, as long as it is, or of the window."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole, **self._all() if whole else {})
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _all(self) -> dict[str, Any]:
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


@contextmanager
def browser() -> Iterator[Page]:
    """A browser with a profile of its own, gone when the block ends."""
    command = [program(), *FLAGS]
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    with tempfile.TemporaryDirectory(prefix="diga-browser-", ignore_cleanup_errors=True) as profile:
        ends = f'exec "$@" 3<&{in_read} 4>&{out_write}'
        process = subprocess.Popen(
            ["bash", "-c", ends, "bash", *command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(in_read, out_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(in_read)
        os.close(out_write)
        try:
            page = Page((in_write, out_read))
            yield page
            page.session = ""
            page.ask("Browser.close")
            process.wait(20)
        finally:
            os.close(in_write)
            os.close(out_read)
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
