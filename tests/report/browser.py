"""Chromium without a window, driven over the DevTools protocol: a page as a person's browser shows and prints it."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--no-first-run", "--remote-debugging-pipe"),
)
# The browser reads commands from descriptor 3 and answers on 4.
_TRAMPOLINE = """
import os, sys
read, write = (os.dup(int(fd)) for fd in sys.argv[1:3])
os.dup2(read, 3); os.dup2(write, 4)
os.set_inheritable(3, True); os.set_inheritable(4, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
_PATIENCE = 60


class Browser:
    """A running Chromium."""

    def __init__(self, profile):
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _TRAMPOLINE,
                str(commands),
                str(answers),
                PROGRAM,
                *_FLAGS,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self.events = b"", 0, []

    def call(self, method, session=None, **parameters):
        """The answer to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]
            self.events.append(found)

    def wait_for(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def _next(self):
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            read = os.read(self._read, 1 << 20) if ready else b""
            if not read:
                raise TimeoutError("the browser says nothing" if not ready else "the browser has ended")
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def close(self):
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def browser():
    with tempfile.TemporaryDirectory(prefix="varphi", ignore_cleanup_errors=True) as profile:
        running = Browser(profile)
        try:
            yield running
        finally:
            running.close()


class Page:
    """A page that has been loaded.

    Attributes:
        requests: the addresses that it asked for, its own included.
        complaints: what it wrote on the console, and exceptions.
    """

    def __init__(self, running, url, width, height=900, dark=False):
        """Loads `url` on a screen of so many CSS pixels; a narrow one is a phone's."""
        self._browser = running
        running.events.clear()
        self._target = running.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = running.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        for part in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{part}.enable")
        self.call("Page.navigate", url=url)
        running.wait_for("Page.loadEventFired")
        self.evaluate("document.fonts.ready.then(() => true)")
        told = [event for event in running.events if event.get("sessionId") == self._session]
        self.requests = [e["params"]["request"]["url"] for e in told if e["method"] == "Network.requestWillBeSent"]
        noisy = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        self.complaints = [e["params"] for e in told if e["method"] in noisy]

    def call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, script):
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self):
        """The whole page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self):
        """The page as printed on A4."""
        size = {"paperWidth": 8.27, "paperHeight": 11.69}
        return base64.b64decode(self.call("Page.printToPDF", **size)["data"])

    def close(self):
        self._browser.call("Target.closeTarget", targetId=self._target)
