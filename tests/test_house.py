"""The house keeps its own rules, and each guard has been seen to catch an offence."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGES = ("orchestrator", "ravel", "search_spaces", "trainables")
BIN = Path(sys.executable).parent
EVALUATION = "trainables.evaluation"
MOST_MODULES = 15


def run(*command, cwd):
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path, repository):
    """A copy of the packages, to plant offences in."""
    for package in PACKAGES:
        shutil.copytree(repository / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "pyproject.toml", tmp_path)
    return tmp_path


def plant(copy, module, line):
    """Add a line to a module that is there; a module that is gone fails the test."""
    path = copy / module
    path.write_text(path.read_text() + f"\n{line}\n")


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("lint-imports", "--no-cache"),
        ("interrogate", "--quiet", *PACKAGES),
    ],
    ids=["format", "lint", "imports", "docstrings"],
)
def test_the_house_is_in_order(command, repository):
    code, output = run(*command, cwd=repository)
    assert code == 0, output


@pytest.mark.timeout(600)
def test_every_type_holds_under_mypy_strict(repository):
    code, output = run("mypy", cwd=repository)
    assert code == 0, output


@pytest.mark.parametrize(
    ("contract", "module", "offence"),
    [
        ("the orchestrator knows spaces and trainables", "trainables/metrics.py", "import search_spaces"),
        ("the orchestrator knows spaces and trainables", "search_spaces/paths.py", "import trainables.config.trial"),
        ("the orchestrator knows spaces and trainables", "trainables/metrics.py", "import orchestrator.spec.model"),
        (
            "each room of the orchestrator knows those below it",
            "orchestrator/state/ranking.py",
            "import orchestrator.cli.main",
        ),
        ("no circle", "orchestrator/state/migrations.py", "import orchestrator.state.events"),
        ("search_spaces has rooms", "search_spaces/domains/numeric.py", "import search_spaces.space"),
        ("Ray has five doors", "orchestrator/state/sweep_state.py", "import ray"),
        ("Ray has five doors", "trainables/tasks/classifier/training.py", "import ray.tune"),
        ("Ray has five doors", "orchestrator/execution/processes/loop.py", "import ray"),
        ("Ray has five doors", "orchestrator/execution/trials/trial_queue.py", "from ray.tune.search import Searcher"),
        ("MLflow has one door", "orchestrator/analysis/leaderboard.py", "import mlflow"),
        ("S3 has one door", "orchestrator/tracking/tracker.py", "import boto3"),
        ("Optuna has five doors", "orchestrator/planning/plan.py", "import optuna"),
        ("other trackers have one door", "orchestrator/export/registry.py", "import wandb"),
        ("Lightning has one door", "trainables/tasks/function/run.py", "import pytorch_lightning"),
        ("spaces are pure", "search_spaces/space.py", "import ConfigSpace"),
        ("spaces are pure", "search_spaces/sampling/random_sampling.py", "import numpy"),
        ("a bare GPU machine runs the trainables", "trainables/tasks/classifier/training.py", "import rich"),
        (
            "the rooms of the trainables are layers",
            "trainables/engine/checkpoint.py",
            "import trainables.tasks.registry",
        ),
        ("the rooms of the trainables are layers", "trainables/data/cache.py", "import trainables.models"),
        ("the tasks are layers", "trainables/tasks/classifier/objective.py", "import trainables.tasks.gan.step"),
        ("no circle within a room of the trainables", "trainables/snnl/distances.py", "import trainables.snnl.loss"),
        ("the evaluation has rooms", "trainables/evaluation/core/clean.py", f"import {EVALUATION}.stability.lipschitz"),
        (
            "the evaluation has rooms",
            "trainables/evaluation/robustness/transfer.py",
            f"import {EVALUATION}.deformations",
        ),
        (
            "the evaluation has rooms",
            "trainables/evaluation/deformations/families.py",
            f"import {EVALUATION}.uncertainty.dknn",
        ),
    ],
)
def test_a_planted_import_breaks_its_contract(contract, module, offence, copy):
    plant(copy, module, offence)
    code, output = run("lint-imports", "--no-cache", cwd=copy)
    assert code == 1
    assert re.search(rf"^{re.escape(contract)}.* BROKEN", output, re.MULTILINE), output


@pytest.mark.parametrize("package", ["orchestrator", "search_spaces", "trainables", "trainables/evaluation"])
def test_a_module_without_a_layer_breaks_the_contract(package, copy):
    (copy / package / "newcomer.py").write_text("NAME = 1\n")
    code, output = run("lint-imports", "--no-cache", cwd=copy)
    assert code == 1
    assert "newcomer" in output


def crowded(root):
    """Return the number of modules of each room that has too many."""
    modules = (path for package in PACKAGES for path in (root / package).rglob("*.py") if path.name != "__init__.py")
    rooms = Counter(path.parent.relative_to(root).as_posix() for path in modules)
    return {room: number for room, number in rooms.items() if number > MOST_MODULES}


def test_no_room_has_more_than_fifteen_modules(repository):
    assert crowded(repository) == {}


@pytest.mark.parametrize("room", ["orchestrator/state", "ravel", "search_spaces", "trainables/evaluation/core"])
def test_a_module_too_many_for_its_room_is_caught(room, copy):
    present = {path.name for path in (copy / room).glob("*.py")} - {"__init__.py"}
    for number in range(MOST_MODULES - len(present)):
        (copy / room / f"newcomer_{number}.py").write_text("NAME = 1\n")
    assert crowded(copy) == {}
    (copy / room / "one_too_many.py").write_text("NAME = 1\n")
    assert crowded(copy) == {room: MOST_MODULES + 1}


@pytest.mark.parametrize(
    ("offence", "rule"),
    [
        ("import colorsys", "unused-import"),
        ("def shout(*, loud=True): return loud", "missing-type-function-argument"),
        ('NAME = 1\nPATH = "results/{NAME}"', "missing-f-string-syntax"),
    ],
)
def test_a_planted_offence_is_caught_by_ruff(offence, rule, copy):
    plant(copy, "orchestrator/state/sweep_folder.py", offence)
    code, output = run("ruff", "check", "--no-cache", "orchestrator/state/sweep_folder.py", cwd=copy)
    assert code == 1
    assert rule in output


def test_a_planted_type_error_is_caught_by_mypy(copy):
    plant(copy, "search_spaces/paths.py", "wrong: int = 'text'")
    code, output = run("mypy", "search_spaces/paths.py", "--follow-imports=skip", "--cache-dir=/dev/null", cwd=copy)
    assert code == 1
    assert 'variable has type "int"' in output


def test_a_planted_public_function_without_docstring_is_caught(copy):
    plant(copy, "orchestrator/state/sweep_folder.py", "def unexplained() -> None:\n    return")
    assert run("interrogate", "--quiet", *PACKAGES, cwd=copy)[0] == 1


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import search_spaces", {"torch", "ray", "numpy", "optuna", "mlflow"}),
        ("import trainables", {"torch", "ray", "mlflow"}),
        ("import orchestrator", {"torch", "ray", "numpy", "optuna", "mlflow"}),
        ("import orchestrator.cli.main", {"torch", "ray", "numpy", "optuna", "mlflow"}),
        ("from trainables import TrialConfig", {"torch", "ray", "mlflow"}),
        ("from trainables import train", {"ray", "mlflow", "optuna"}),
    ],
)
def test_an_import_brings_no_heavy_library(statement, forbidden):
    code = f"import sys\n{statement}\nprint(sorted(set({sorted(forbidden)!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_readme_starts_with_the_two_commands_ci_calls(repository):
    readme = (repository / "README.md").read_text()
    assert re.findall(r"^make \w+", readme, re.MULTILINE)[:2] == ["make demo", "make test"]
    assert "make test" in (repository / ".ci/run").read_text()


def test_every_make_target_is_explained(repository):
    makefile = (repository / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not a make within make
    done = subprocess.run(["make", "help"], cwd=repository, capture_output=True, text=True, check=True, env=plain)
    assert [line.split()[0] for line in done.stdout.splitlines()] == phony


def test_the_hooks_call_the_makefile(repository):
    text = (repository / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"entry: (make \w+)", text) == ["make lint"]
