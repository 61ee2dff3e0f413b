"""Chromium over its debugging pipe: pages that talk to a server, on a screen of any size, in light and dark."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars")  # fmt: skip
TIMEOUT = 120.0  # seconds that a busy machine may take for an answer


class Browser:
    """One page of a browser of its own. Use it in a `with`.

    Args:
        folder: an empty folder for the browser's profile.
    """

    def __init__(self, folder):
        asked, self._requests = os.pipe()
        self._answers, answered = os.pipe()

        def as_three_and_four():  # where --remote-debugging-pipe reads and writes
            kept = os.dup2(asked, 103), os.dup2(answered, 104)
            os.dup2(kept[0], 3)
            os.dup2(kept[1], 4)

        command = [PROGRAM, *FLAGS, f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(
            command, preexec_fn=as_three_and_four, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(asked)
        os.close(answered)
        self._numbers, self._buffer, self._session = itertools.count(1), b"", None
        target = next(info for info in self.send("Target.getTargets")["targetInfos"] if info["type"] == "page")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        os.close(self._requests)
        os.close(self._answers)

    def send(self, method, **parameters):
        """The result of one command of the DevTools protocol."""
        number = next(self._numbers)
        request = {"id": number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._requests, json.dumps(request).encode() + b"\0")
        end = time.monotonic() + TIMEOUT
        while True:
            message, found, self._buffer = self._buffer.partition(b"\0")
            if not found:
                self._buffer = message
                ready, *_ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
                read = os.read(self._answers, 2**20) if ready else b""
                if not read:
                    raise TimeoutError(f"The browser did not answer {method}.")
                self._buffer += read
                continue
            answer = json.loads(message)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def screen(self, width, height, dark=False, less_motion=False):
        """Sets the size of the screen and what its reader prefers."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce" if less_motion else ""}
        self.send("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in features.items()])

    def open(self, url):
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, script):
        """The JSON value of a JavaScript expression, or of its promise."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", answer["exceptionDetails"]["text"]))
        return answer["result"].get("value")

    def wait(self, condition):
        """Waits until a JavaScript expression is true, and returns its value."""
        end = time.monotonic() + TIMEOUT
        while not (value := self.evaluate(condition)):
            if time.monotonic() > end:
                raise TimeoutError(f"This did not come about in the page: {condition}")
            time.sleep(0.1)
        return value

    def upload(self, selector, path):
        """Puts a file into an <input type=file>."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path, whole=False):
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(picture))
