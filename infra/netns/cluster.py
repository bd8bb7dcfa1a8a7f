"""Ray cluster of machines (`machines.py`) with a token, and terminals on them that print what is typed."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from machines import HOME

from orchestrator.state.event_log import read_events
from orchestrator.state.sweep_folder import SweepFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from machines import Command, Machine, Network

    from orchestrator.state.events import Event

BIN = Path(sys.executable).parent
PATIENT_S = 300.0
OBJECTS = "--object-store-memory=80000000"
NODE = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_agent_register_timeout_ms": "600000"}
HEAD = {
    "RAY_health_check_period_ms": "3000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}
"""Settings of the head with which a silent machine is noticed within 25 s (docs/cluster.md)."""


class CheckFailed(Exception):
    """A step that did not come out as it must; the text says which."""


class Terminal:
    """Terminal on a machine: prints each command that is typed, and its output."""

    def __init__(self, machine: Machine, outputs: Path, variables: dict[str, str]) -> None:
        self.machine, self._outputs, self._variables = machine, outputs, variables
        self._folder = HOME

    def enter(self, folder: Path) -> None:
        """Change to a folder of the machine."""
        self._folder = folder

    def begin(self, line: str, **variables: str) -> Command:
        """Type a command, and go on while it runs."""
        assigned = "".join(f"{name}={value} " for name, value in variables.items())
        print(f"{self.machine.name}$ {assigned}{line}", flush=True)
        output = self._outputs / f"{self.machine.name}-{secrets.token_hex(4)}.txt"
        environment = {**self._variables, **variables}
        return self.machine.start(*shlex.split(line), output=output, environment=environment, folder=self._folder)

    def run(self, line: str, *, code: int = 0, **variables: str) -> str:
        """Type a command, and return what it printed when it has ended with this exit code."""
        command = self.begin(line, **variables)
        ended = command.wait(PATIENT_S)
        print(command.text.rstrip(), flush=True)
        check(f"`{line}` must exit with {code}, got {ended}", ended == code)
        return command.text


class Cluster:
    """Network with its machines, and the token that their owner gave them."""

    def __init__(self, network: Network) -> None:
        (network.folder / "outputs").mkdir()
        self.network = network
        self.machines: dict[str, Machine] = {}
        self._token = ""

    def terminal(self, name: str, **variables: str) -> Terminal:
        """Switch a machine on, and open a terminal on it."""
        kept = {name: value for name in ("PYTHONPATH", "LANG") if (value := os.environ.get(name))}
        environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(HOME), **kept, **variables}
        self.machines[name] = self.network.machine(name)
        terminal = Terminal(self.machines[name], self.network.folder / "outputs", environment)
        if self._token:
            self._copy_token(name)
        return terminal

    def head(self) -> None:
        """Start the head, which makes the token."""
        terminal = self.terminal("head", **NODE, **HEAD)
        terminal.run("sh -c 'umask 077; ray get-auth-token --generate > /dev/null'")
        self._token = self._token_file("head").read_text(encoding="ascii")
        _wait_for_start(terminal.begin(f"ray start --block --head --num-cpus=0 --dashboard-host=0.0.0.0 {OBJECTS}"))

    def nodes(self, *names: str) -> None:
        """Start machines that join, at the same time."""
        line = f"ray start --block --address={self.machines['head'].address}:6379 --num-cpus=2 {OBJECTS}"
        for node in [self.terminal(name, **NODE).begin(line) for name in names]:
            _wait_for_start(node)

    def with_project(self, name: str, files: Mapping[str, str]) -> Terminal:
        """Switch a machine on that has a project of these files, and open a terminal in it."""
        terminal = self.terminal(name)
        project = self.network.folder / name / "home" / "project"
        project.mkdir()
        for file, text in files.items():
            (project / file).write_text(text, encoding="utf-8")
        terminal.enter(HOME / "project")
        return terminal

    def hurry(self, *, now: bool) -> None:
        """Have the trials of the project hurry, or take their time."""
        file = self.network.folder / "shared" / "hurry"
        if now:
            file.touch()
        else:
            file.unlink(missing_ok=True)

    def events(self, sweep: str) -> list[Event]:
        """Return the log of a sweep."""
        folder = SweepFolder(self.network.folder / "shared" / "results" / sweep)
        return [event for event, _ in read_events(folder.events)] if folder.events.exists() else []

    def _token_file(self, name: str) -> Path:
        return self.network.folder / name / "home" / ".ray" / "auth_token"

    def _copy_token(self, name: str) -> None:
        """Copy the token of the head, as `scp` would; no other user can read it."""
        file = self._token_file(name)
        file.parent.mkdir(exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_text(self._token, encoding="ascii")


def _wait_for_start(node: Command) -> None:
    wait_until("`ray start` must start a node", lambda: "Ray runtime started" in node.text, node)
    print("...\nRay runtime started.", flush=True)


def check(claim: str, holds: object) -> None:
    """Return if a claim holds.

    Raises:
        CheckFailed: it does not.
    """
    if not holds:
        raise CheckFailed(claim)


def wait_until(claim: str, holds: Callable[[], object], *commands: Command, timeout_s: float = PATIENT_S) -> None:
    """Wait until a claim holds, while the commands run.

    Raises:
        CheckFailed: it does not within the time, or a command ended before.
    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        ended = next((command for command in commands if command.code is not None), None)
        late = "" if time.monotonic() < deadline else f" (not within {timeout_s:.0f} s)"
        check(f"{claim}{late}" + ("" if ended is None else f"\n{ended.text}"), not late and ended is None)
        time.sleep(0.2)
