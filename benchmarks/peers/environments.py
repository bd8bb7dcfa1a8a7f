"""Virtual environments of the peers, each with what its program needs, at the versions of constraints.txt."""

import json
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
COMMON = ("torch", "torchvision", "numpy")
REQUIREMENTS: Mapping[str, Sequence[str]] = {
    "ray": ("ray[tune]", "mlflow"),
    "optuna": ("optuna", "mlflow"),
    "syne-tune": ("syne-tune==0.16.0", "mlflow"),
    "wandb": ("wandb[sweeps]", "sweeps==0.2.0"),
}
"""What each environment needs besides the common packages; without a version it is that of constraints.txt."""
INSTALLED = "installed.json"
VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name).partition("+")[0] for name in sys.argv[1:]}))
"""


def python_of(folder: Path, name: str) -> Path:
    """Return the interpreter of an environment.

    Raises:
        SystemExit: the environment has not been made, or for other requirements.
    """
    mark = folder / name / INSTALLED
    if not mark.exists() or json.loads(mark.read_text(encoding="utf-8")) != _requirements(name):
        raise SystemExit(f"{folder / name}: must be made first; run peers.py setup --environments {folder}")
    return folder / name / "bin" / "python"


def make(folder: Path, names: Iterable[str]) -> None:
    """Make environments that are not up to date."""
    for name in names:
        try:
            python_of(folder, name)
        except SystemExit:
            print(f"making {folder / name}", flush=True)
            _make(folder / name, _requirements(name))


def compile_project() -> None:
    """Compile the modules of the project's environment, as pip compiles those of the others."""
    folder = sysconfig.get_path("purelib")
    subprocess.run([sys.executable, "-m", "compileall", "-qq", folder], check=False)  # noqa: S603  templates do not compile


def _make(folder: Path, requirements: Sequence[str]) -> None:
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", str(CONSTRAINTS), *requirements], check=True)  # noqa: S603
    (folder / INSTALLED).write_text(json.dumps(requirements) + "\n", encoding="utf-8")


def _requirements(name: str) -> list[str]:
    return [*COMMON, *REQUIREMENTS[name]]


def versions_of(python: Path, packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of packages in an environment, and of its Python."""
    command = [str(python), "-c", VERSIONS, *packages]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}
