"""Programs of the peers: the environment, the command and the reports of each."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ravel_sweep
from environments import python_of, versions_of
from results import Report
from settings import Settings

HERE = Path(__file__).parent
COMMON = ("torch", "torchvision", "mlflow")


@dataclass(frozen=True)
class Program:
    """A peer: its name on the page, its environment (None: that of the project), and how it is run and read.

    `command` returns what is executed, from the interpreter of the environment and the settings. `packages` are those
    whose versions count.
    """

    title: str
    environment: str | None
    packages: Sequence[str]
    command: Callable[[Path, Settings], list[str]]
    reports: Callable[[Settings], list[Report]]

    def python(self, environments: Path) -> Path:
        """Return the interpreter of the peer's environment."""
        return Path(sys.executable) if self.environment is None else python_of(environments, self.environment)

    def versions(self, environments: Path) -> dict[str, str]:
        """Return the versions of the packages that count."""
        return versions_of(self.python(environments), self.packages)


def reports_of(settings: Settings) -> list[Report]:
    """Return the reports that a script of a peer wrote."""
    return [Report(**json.loads(line)) for line in settings.reports.read_text(encoding="utf-8").splitlines()]


def _script(name: str, python: Path, settings: Settings) -> list[str]:
    return [str(python), str(HERE / name), str(Path(settings.folder, "settings.json"))]


def _ravel(address: str, python: Path, settings: Settings) -> list[str]:
    return [str(python.with_name("ravel")), "launch", str(ravel_sweep.write_spec(settings)), "--address", address]


def _program(title: str, environment: str, script: str, packages: Sequence[str]) -> Program:
    return Program(title, environment, packages, partial(_script, script), reports_of)


def _of_ravel(title: str, address: str, packages: Sequence[str]) -> Program:
    return Program(title, None, packages, partial(_ravel, address), ravel_sweep.reports_of)


PROGRAMS: Mapping[str, Program] = {
    "ravel-local": _of_ravel("Ravel, `--address local`", "local", (*COMMON, "ravel-sweeps", "ray", "optuna")),
    "ravel-processes": _of_ravel("Ravel, `--address processes`", "processes", (*COMMON, "ravel-sweeps", "optuna")),
    "ray-tune": _program("Ray Tune", "ray", "ray_tune.py", (*COMMON, "ray")),
    "optuna": _program("Optuna", "optuna", "optuna_processes.py", (*COMMON, "optuna")),
    "syne-tune": _program("Syne Tune", "syne-tune", "syne_tune_local.py", (*COMMON, "syne-tune")),
    "wandb": _program("W&B agents", "wandb", "wandb_agents.py", ("torch", "torchvision", "wandb", "sweeps")),
}
"""Every peer by the name that `--peers` takes."""
