"""A wall clock of the driver's commands that can be stepped, by libfaketime (Debian: faketime)."""

from __future__ import annotations

from pathlib import Path

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
SLEEP = '''"""Sleeps without the one call that libfaketime refuses: clock_nanosleep to a time of the monotonic clock."""

import threading
import time

time.sleep = lambda seconds: threading.Event().wait(seconds) and None
'''


class Clock:
    """What commands with this environment take for the time; monotonic clocks do not step, as on a real machine.

    Other processes and the times of files keep the true time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SLEEP)
        self.step(0)

    def step(self, seconds: int) -> None:
        """Set the clock to the true time and some seconds."""
        written = self._folder / "seconds.new"
        written.write_text(f"{seconds:+d}\n")
        written.replace(self._folder / "seconds")

    @property
    def environment(self) -> dict[str, str]:
        """Variables of commands that read this clock."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "PYTHONPATH": str(self._folder),
            "FAKETIME_TIMESTAMP_FILE": str(self._folder / "seconds"),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",
        }
