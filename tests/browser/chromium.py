"""A headless Chromium spoken to over the DevTools protocol: open a page, wait for text, take a picture.

Needs Debian's ``chromium`` and the package `websockets`, which dagster-webserver brings. Downloads nothing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # a container's root has no user namespaces for Chromium's own sandbox
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_chromium() -> str:
    """Path of a Chromium. Raises RuntimeError, saying how to install one, if there is none."""
    for name in filter(None, [os.environ.get("CHROMIUM"), *_NAMES]):
        if path := shutil.which(name):
            return path
    raise RuntimeError(
        f"no Chromium found (looked for {', '.join(_NAMES)}, and $CHROMIUM); "
        "install it with: apt-get install -y chromium"
    )


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its result; events in between are dropped."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=60))
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return result["result"].get("value")

    def text(self) -> str:
        """What a person can read on the page."""
        return self.evaluate("document.body ? document.body.innerText : ''") or ""

    def wait_for(self, *texts: str, seconds: float = 60, reload_every: float | None = None) -> str:
        """Wait until all texts can be read. Raises AssertionError with what was there instead."""
        end = time.monotonic() + seconds
        reload_at = time.monotonic() + (reload_every or seconds + 1)
        while True:
            shown = self.text()
            missing = [text for text in texts if text not in shown]
            if not missing:
                return shown
            if time.monotonic() > end:
                raise AssertionError(f"not on the page after {seconds:g} s: {missing}; it shows:\n{shown}")
            if reload_every and time.monotonic() > reload_at:
                self.call("Page.reload")
                reload_at += reload_every
            time.sleep(0.3)

    def click(self, text: str, last: bool = False) -> None:
        """Click the middle of the first (or last) visible element whose whole text is `text`."""
        script = f"""(() => {{
            const shown = [...document.querySelectorAll('*')].filter(e =>
                e.textContent.trim() === {json.dumps(text)} && e.getClientRects().length &&
                ![...e.children].some(c => c.textContent.trim() === {json.dumps(text)}));
            const e = shown[{"shown.length - 1" if last else "0"}];
            if (!e) return null;
            const r = e.getBoundingClientRect();
            return [r.x + r.width / 2, r.y + r.height / 2];
        }})()"""
        found = self._at_rest(script)
        if found is None:
            raise AssertionError(f"nothing to click that says {text!r}; the page shows:\n{self.text()}")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            clicks = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=found[0], y=found[1], **clicks)

    def _at_rest(self, script: str, seconds: float = 10) -> Any:
        """The value of a script once it stays the same for a third of a second: dialogs slide in."""
        end = time.monotonic() + seconds
        before = self.evaluate(script)
        while time.monotonic() < end:
            time.sleep(0.3)
            now = self.evaluate(script)
            if now is not None and now == before:
                return now
            before = now
        return None

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """A PNG of what is visible."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def chromium(profile: Path, width: int = 1500, height: int = 950) -> Iterator[Page]:
    """A fresh browser with an empty profile in the folder `profile`; it ends with the block."""
    process = subprocess.Popen(
        [
            find_chromium(),
            *_FLAGS,
            f"--window-size={width},{height}",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with connect(_page_address(profile, process), max_size=None, open_timeout=30) as connection:
            page = Page(connection)
            page.call(
                "Emulation.setDeviceMetricsOverride",
                width=width, height=height, deviceScaleFactor=1, mobile=False,
            )  # fmt: skip
            yield page
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its helper processes still write to the profile
        process.wait()


def _page_address(profile: Path, process: subprocess.Popen[bytes], seconds: float = 60) -> str:
    """The DevTools address of the first tab."""
    import urllib.request

    port_file = profile / "DevToolsActivePort"
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            port = int(port_file.read_text().splitlines()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                for target in json.load(answer):
                    if target["type"] == "page":
                        return target["webSocketDebuggerUrl"]
        time.sleep(0.1)
    raise RuntimeError(f"Chromium did not answer (exit code {process.poll()})")
