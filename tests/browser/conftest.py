"""A real Chromium without a window, driven over its DevTools protocol: no package is needed for that."""

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from infra.doctor import BROWSERS

START_S = 60.0
WAIT_S = 30.0
PORT_FILE = "DevToolsActivePort"


class Page:
    """One tab. `problems` are its script errors and what its security policy refused."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.problems: list[str] = []
        self._ids = itertools.count(1)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=WAIT_S))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif message["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif message["method"] == "Network.requestWillBeSent" and params["request"]["url"].startswith("http"):
            self.problems.append(f"fetches {params['request']['url']}")
        elif message["method"] == "Page.javascriptDialogOpening":
            self.problems.append(f"a dialog: {params['message']}")

    def open(self, file: Path, fragment: str = "") -> None:
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=file.as_uri() + (f"#{fragment}" if fragment else ""))
        self.wait("document.body?.classList.contains('ready')")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; raises AssertionError with the script's error."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not self.run(expression):
            assert time.monotonic() < deadline, f"never true: {expression}; {self.problems}"
            time.sleep(0.02)

    def texts(self, selector: str) -> list[str]:
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.textContent)")

    def text(self, selector: str) -> str:
        return self.run(f"document.querySelector({json.dumps(selector)}).textContent")

    def click(self, selector: str) -> None:
        """Where the mouse would: in the middle of what `selector` finds."""
        box = self.run(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)}); found.scrollIntoView({{block:"
            " 'nearest'}); const {x, y, width, height} = found.getBoundingClientRect();"
            " return [x + width / 2, y + height / 2]; })()"
        )
        self.drag(box, box)

    def drag(self, start: list[float], end: list[float]) -> None:
        mouse = {"button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **mouse)
        if start != end:
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=end[0], y=end[1], button="left", buttons=1)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **mouse)

    def press(self, key: str) -> None:
        text = key if len(key) == 1 else ""
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def write(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def size(self, width: int, height: int, scale: float = 1) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a browser's DevTools."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs Chromium")
    profile = tmp_path_factory.mktemp("chromium")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command = [program, *flags, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with (profile / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while not (profile / PORT_FILE).exists() or not (profile / PORT_FILE).read_text().strip():
            assert time.monotonic() < deadline and process.poll() is None, (profile / "log").read_text()[-500:]
            time.sleep(0.05)
        yield f"http://127.0.0.1:{(profile / PORT_FILE).read_text().split()[0]}"
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def page(browser: str) -> Iterator[Page]:
    """A new tab, 1440 × 900. Whatever goes wrong in its script, or is fetched, fails the test."""
    target = httpx.put(f"{browser}/json/new?about:blank", timeout=WAIT_S, trust_env=False).json()
    with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
        tab = Page(socket)
        tab.size(1440, 900)
        yield tab
        tab.run("0")  # takes in what happened last
    httpx.get(f"{browser}/json/close/{target['id']}", timeout=WAIT_S, trust_env=False)
    assert not tab.problems
