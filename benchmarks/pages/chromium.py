"""A headless Chromium that is asked for nothing but a page and the first drawing of one of its elements.

A driver that follows every request and frame, as Playwright does, keeps a core busy that the page wants: on two cores
MLflow's table took 3.5 s so, and 2.6 s where nobody followed. Spoken is the DevTools protocol, through the pipe that
``--remote-debugging-pipe`` opens at file descriptors 3 and 4, each message ended by a zero byte.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--no-first-run", "--disable-extensions", "--disable-component-update", "--window-size=1600,1000"),
)
SETTLED_S = 2.0
"""Until a browser that was just started, or a page that was just drawn, is at rest."""
DRAWN = """
new Promise((drawn, missed) => {
    const look = () => {
        if (!document.querySelector(%s)) return
        watching.disconnect()
        requestAnimationFrame(() => setTimeout(drawn))
    }
    const watching = new MutationObserver(look)
    watching.observe(document, {subtree: true, childList: true})
    look()
    setTimeout(() => missed("not there after a minute"), 60000)
})
"""
"""In the page: kept once the frame that shows an element has been drawn."""


class Chromium:
    """A browser with a profile of its own, which a folder keeps."""

    def __init__(self, profile: Path) -> None:
        its_input, commands = os.pipe()
        answers, its_output = os.pipe()
        command = [str(CHROMIUM), *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(  # noqa: S603
            ["/bin/bash", "-c", f'exec "$@" 3<&{its_input} 4>&{its_output}', "chromium", *command],
            pass_fds=(its_input, its_output),
            stderr=subprocess.DEVNULL,
        )
        os.close(its_input)
        os.close(its_output)
        self.commands, self.answers = os.fdopen(commands, "wb", buffering=0), os.fdopen(answers, "rb")
        self.asked = 0
        time.sleep(SETTLED_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ask("Browser.close")
        self.process.wait()
        self.commands.close()
        self.answers.close()

    @contextlib.contextmanager
    def tab(self) -> Iterator[str]:
        """A new one, open and empty."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        yield self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Target.closeTarget", targetId=target)

    def seconds_until(self, element: str, address: str, tab: str) -> float:
        """From the address, in a tab at rest, to the frame with the first element of a CSS selector."""
        time.sleep(SETTLED_S)
        began = time.perf_counter()
        self.ask("Page.navigate", tab, url=address)
        answer = self.ask("Runtime.evaluate", tab, expression=DRAWN % json.dumps(element), awaitPromise=True)
        taken = time.perf_counter() - began
        if "exceptionDetails" in answer:
            raise TimeoutError(f"{element} of {address}: {answer['exceptionDetails']}")
        return taken

    def ask(self, method: str, tab: str | None = None, **params: object) -> Any:
        """What the browser, or the page in one of its tabs, answers."""
        self.asked += 1
        question = {"id": self.asked, "method": method, "params": params} | ({"sessionId": tab} if tab else {})
        self.commands.write(json.dumps(question).encode() + b"\0")
        while True:
            answer = json.loads(self.message())
            if answer.get("id") == self.asked:
                return answer["result"]

    def message(self) -> bytes:
        """The next one; an ``EOFError`` where the browser has ended instead."""
        message = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            if not byte:
                raise EOFError(f"{CHROMIUM} ended before it answered")
            message += byte
        return bytes(message)
