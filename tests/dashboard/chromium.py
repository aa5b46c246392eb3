"""A headless Chromium for tests, driven over the DevTools protocol: waits for events and conditions, never for time."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
PATIENCE_S = 45.0


def find() -> str | None:
    """Path of a Chromium, if the machine has one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class BrowserError(AssertionError):
    """The page did not come to what was waited for. Its text has the condition and what the page showed."""


class Page:
    """One tab. `problems` collects console errors and uncaught exceptions since it opened, `asked` what it loaded."""

    def __init__(self, url: str) -> None:
        self._socket = websocket.create_connection(url, timeout=PATIENCE_S, enable_multithread=False)
        self._number = 0
        self.problems: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events that pass by are noted."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']['message']}")
                return dict(message["result"])
            self._note(message)

    def open(self, url: str, *, dark: bool = False, width: int = 1280, height: int = 800) -> None:
        """Load an address at this size, in light or dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Evaluate JavaScript and return its value."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, condition: str, *, patience_s: float = PATIENCE_S) -> Any:
        """Wait until a JavaScript expression is truthy, looking at every animation frame, and return its value."""
        promise = f"""new Promise(found => {{
            const until = performance.now() + 2000;
            const look = () => {{
                let value = null;
                try {{ value = ({condition}); }} catch (error) {{ value = null; }}
                if (value || performance.now() > until) found(value); else setTimeout(look, 30);
            }};
            look();
        }})"""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            try:
                if value := self.value(promise):
                    return value
            except BrowserError as error:  # the page was left while the promise was pending
                if "context" not in str(error) and "navigated" not in str(error):
                    raise
        raise BrowserError(f"waited {patience_s:.0f} s for {condition}\n{self.text()[:3000]}\n{self.problems}")

    def wait_for_text(self, text: str, **how: float) -> None:
        """Wait until the page's text has this."""
        self.wait_for(f"document.body.innerText.includes({json.dumps(text)})", **how)

    def text(self) -> str:
        """What the page says."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def click(self, expression: str) -> None:
        """Click the middle of the element that the JavaScript expression gives, as a mouse would."""
        place = self.wait_for(
            f"(() => {{ const it = {expression}; if (!it) return null; it.scrollIntoView({{block: 'center'}});"
            " const box = it.getBoundingClientRect();"
            " return box.width ? [box.x + box.width / 2, box.y + box.height / 2] : null; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", buttons=1, clickCount=1
            )

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of the visible part, or of the whole page."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        """Leave the tab."""
        self._socket.close()

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            self.asked.append(parameters.get("url") or parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.problems.append(str(details.get("exception", {}).get("description") or details.get("text")))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            parts = [str(part.get("value", part.get("description", ""))) for part in parameters["args"]]
            self.problems.append("console.error: " + " ".join(parts))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            entry = parameters["entry"]
            self.problems.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")


@contextmanager
def chromium(path: str) -> Iterator[Callable[[], Page]]:
    """Run a Chromium with a profile of its own; gives a function that opens a tab."""
    with tempfile.TemporaryDirectory(prefix="tailsight-chromium-", ignore_cleanup_errors=True) as profile:
        log = Path(profile) / "stderr"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [path, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,  # its helpers are its process group
                env={**os.environ, "HOME": profile},
            )
        pages: list[Page] = []
        try:
            host = _devtools(log, process)

            def new_page() -> Page:
                request = urllib.request.Request(f"http://{host}/json/new?about:blank", method="PUT")
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                    target = json.load(answer)
                pages.append(Page(target["webSocketDebuggerUrl"]))
                return pages[-1]

            yield new_page
        finally:
            for page in pages:
                page.close()
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def _devtools(log: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        if match := re.search(r"DevTools listening on ws://([^/]+)/", log.read_text(errors="replace")):
            return match[1]
        time.sleep(0.05)
    raise BrowserError(f"Chromium did not start: {log.read_text(errors='replace')[-2000:]}")
