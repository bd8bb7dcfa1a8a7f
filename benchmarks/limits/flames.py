"""Flame graphs of the start of a sweep and of its steady epochs, by py-spy, which Ray brings along."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from limits.launches import LOOK_S, command, environment, folder_of, logged
from scale.results import ROOT

from orchestrator.state.events import EpochReported

FOLDER = ROOT / "docs/images"
START, STEADY = FOLDER / "flame-start.svg", FOLDER / "flame-epochs.svg"
PY_SPY = str(Path(sys.executable).with_name("py-spy"))
RATE = 100
STEADY_S = 20
PLACES = (str(ROOT), sys.prefix, str(Path(sys.prefix).resolve()), str(Path(sys.base_prefix)), str(Path.home()))
LEAST_PERCENT = 0.5
"""Share of the samples below which a frame is left out: it would be six pixels wide."""
FRAME = re.compile(r"<g><title>[^<]*samples, ([\d.]+)%\)</title>.*?</g>", re.DOTALL)
LONGEST_S = 300.0
PATIENCE_S = 60.0


def start(spec: Mapping[str, Any], way: str, *, output: Path = START) -> None:
    """Draw all processes of a sweep from its command to the first report of all its slots."""
    slots = int(spec["resources"]["max_concurrent"])
    with folder_of(spec) as folder:
        spied = _begun([*_record(output), "--", *command(way)], folder)
        try:
            _wait(lambda: len(_reported(folder)) >= slots, spied, what="the first report of each slot")
        finally:
            _end(spied)
    output.write_text(drawn(output.read_text(encoding="utf-8")), encoding="utf-8")


def steady(spec: Mapping[str, Any], way: str, *, output: Path = STEADY) -> None:
    """Draw all processes of a sweep for STEADY_S seconds, once all slots have reported."""
    slots = int(spec["resources"]["max_concurrent"])
    with folder_of(spec) as folder:
        driver = _begun(command(way), folder)
        try:
            _wait(lambda: len(_reported(folder)) >= slots, driver, what="the first report of each slot")
            attach = [*_record(output), "--duration", str(STEADY_S), "--pid", str(driver.pid)]
            done = subprocess.run(attach, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                raise SystemExit(f"py-spy must be allowed to trace processes, as root is: {done.stderr[-2000:]}")
        finally:
            _end(driver)
    output.write_text(drawn(output.read_text(encoding="utf-8")), encoding="utf-8")


def drawn(svg: str) -> str:
    r"""Return a graph that can be kept: without narrow frames, and without what belongs to this machine.

    >>> frame = "<g><title>%s (9 samples, %s%%)</title><rect/></g>"
    >>> drawn(f"<svg>{frame % ('main', '97.00')}{frame % ('seldom', '0.11')}</svg>")
    '<svg><g><title>main (9 samples, 97.00%)</title><rect/></g></svg>'
    """
    return without_paths(FRAME.sub(lambda frame: frame[0] if float(frame[1]) >= LEAST_PERCENT else "", svg))


def without_paths(svg: str, *, places: Sequence[str] = PLACES) -> str:
    """Return a graph without the numbers of processes, the folders of this machine, and temporary ones.

    >>> without_paths("process 71:/a/.venv/bin/python /tmp/st1x/y", places=("/a/.venv",))
    'process:bin/python y'
    """
    svg = re.sub(r"process \d+:", "process:", svg)
    for place in sorted(places, key=len, reverse=True):
        svg = re.sub(rf"{re.escape(place)}\b", ".", svg.replace(f"{place}/", ""))
    return re.sub(r"/tmp/(?:st|ray)\w*/", "", svg)  # noqa: S108


def _record(output: Path) -> list[str]:
    return [PY_SPY, "record", "--subprocesses", "--function", "--rate", str(RATE), "--output", str(output)]


def _begun(words: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "output.txt").open("wb") as log:
        environ = {**os.environ, **environment(folder)}
        return subprocess.Popen(words, cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True)  # noqa: S603


def _reported(folder: Path) -> set[str]:
    return {event.trial for event in logged(folder) if isinstance(event, EpochReported)}


def _wait(is_done: Callable[[], bool], process: "subprocess.Popen[bytes]", *, what: str) -> None:
    """Wait for a condition.

    Raises:
        SystemExit: the process ended before, or it took too long.
    """
    until = time.monotonic() + LONGEST_S
    while not is_done():
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"flames: the sweep must come to {what}, and did not within {LONGEST_S:g} s")
        time.sleep(LOOK_S)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt a process and all that it started, and wait until all have ended: py-spy then writes what it has."""
    until = time.monotonic() + PATIENCE_S
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        while time.monotonic() < until:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(LOOK_S)
        os.killpg(process.pid, signal.SIGKILL)
