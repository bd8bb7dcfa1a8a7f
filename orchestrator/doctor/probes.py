"""Checks that import torch or Ray, in a process of their own: it can be ended when its time is over.

    python -m orchestrator.doctor.probes NAME JSON

It writes a finding a line, as JSON, to standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.doctor.finding import Finding, fail

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MARK = "finding "
"""Start of a line that is a finding; libraries print lines of their own."""
PROBES = {"spec": "orchestrator.doctor.spec", "ray": "orchestrator.doctor.cluster"}
"""Each probe, and the module whose function ``probe`` it runs."""
END_S = 5.0


def findings_of(probe: str, arguments: Mapping[str, Any], *, limit_s: float, fix: str) -> Iterator[Finding]:
    """Run a probe, and yield its findings; the last one says if it ran out of time, or died.

    Args:
        probe: its name in ``PROBES``.
        arguments: of its function, as JSON.
        limit_s: seconds until its process is ended, with all that it started.
        fix: what to do if it is over its time.
    """
    command = [sys.executable, "-m", __name__, probe, json.dumps(dict(arguments))]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors, tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        yield from read(_text(output))
        if code is None:
            yield fail("time", f"no answer within {limit_s:g} s", fix)
        elif code:
            last = next((line for line in reversed(_text(errors).splitlines()) if line.strip()), f"exit code {code}")
            yield fail("process", f"it ended early ({last.strip()[:200]})", "report this line as an issue")


def read(output: str) -> Iterator[Finding]:
    r"""Yield the findings in the output of a probe.

    >>> list(read('Ray says hello\nfinding {"name": "ray", "status": "ok", "text": "starts", "fix": ""}\n'))
    [Finding(name='ray', status='ok', text='starts', fix='')]
    """
    for line in output.splitlines():
        if line.startswith(MARK):
            yield Finding(**json.loads(line.removeprefix(MARK)))


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process, first as Ctrl-C does, so that it can stop what it started."""
    if process.poll() is not None:
        return
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
            return
    process.wait()


def main() -> None:
    """Run one probe, and write its findings as they come."""
    sys.path.insert(0, str(Path.cwd()))
    from importlib import import_module  # noqa: PLC0415

    module = import_module(PROBES[sys.argv[1]])
    for finding in module.probe(**json.loads(sys.argv[2])):
        sys.stdout.write(f"{MARK}{json.dumps(asdict(finding))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
