"""The wheel and the sdist hold what they must and nothing else, and a wheel that was built works where it is alone.

`make package` builds both and sets RAVEL_RELEASE to their folder; without it, they are built here, and no environment
is made.
"""

import configparser
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

PACKAGES = ("orchestrator", "ravel", "search_spaces", "trainables")
FILES = ("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml")
RELEASE = os.environ.get("RAVEL_RELEASE")
BUILD = """
import setuptools.build_meta as backend, sys
folder = sys.argv[1]
backend.build_sdist(folder)
backend.build_wheel(folder)
"""


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(repository, tmp_path_factory):
    """The folder of a wheel and an sdist."""
    if RELEASE:
        return Path(RELEASE)
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for package in PACKAGES:
        shutil.copytree(repository / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(repository / name, source)
    subprocess.run([sys.executable, "-c", BUILD, str(dist)], cwd=source, check=True, capture_output=True)
    return dist


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def read(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        (place,) = (entry for entry in archive.namelist() if entry.endswith(f".dist-info/{name}"))
        return archive.read(place).decode()


def in_packages(repository):
    """Every file of the packages, templates and other data among them; some templates are links to ``infra``."""
    walks = [os.walk(repository / package, followlinks=True) for package in PACKAGES]
    files = [Path(folder, name) for walk in walks for folder, _, names in walk for name in names]
    return {str(path.relative_to(repository)) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(names, repository):
    held = {name for name in names if ".dist-info/" not in name}
    assert held == in_packages(repository)
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert "orchestrator/cli/templates/own-model/nets.py" in held


def test_the_sdist_holds_every_file_of_the_packages_and_what_builds_them(built, repository):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {*in_packages(repository), "pyproject.toml", "README.md", "LICENSE"} <= held


def test_the_metadata_are_those_of_the_project(wheel, project):
    metadata = Parser().parsestr(read(wheel, "METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("ravel-sweeps", project["version"])
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("Classifier") == project["classifiers"]
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "pip install 'ravel-sweeps[all]'" in metadata.get_payload()


def test_the_wheel_is_for_every_platform_and_has_one_command(wheel):
    scripts = configparser.ConfigParser()
    scripts.read_string(read(wheel, "entry_points.txt"))
    assert dict(scripts["console_scripts"]) == {"ravel": "orchestrator.cli.main:main"}
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_licence_is_in_the_wheel(wheel, repository):
    assert read(wheel, "licenses/LICENSE") == (repository / "LICENSE").read_text()


def test_every_python_of_the_classifiers_is_tried_before_a_release(repository, project):
    said = [match[1] for line in project["classifiers"] if (match := re.fullmatch(r".* :: Python :: (3\.\d+)", line))]
    release = yaml.safe_load((repository / ".github/workflows/release.yml").read_text())
    ci = yaml.safe_load((repository / ".github/workflows/ci.yml").read_text())
    assert release["jobs"]["install"]["strategy"]["matrix"]["python"] == said
    assert ci["jobs"]["test"]["strategy"]["matrix"]["python"] == said


def test_the_citation_has_the_version_and_the_licence_of_the_project(repository, project):
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_the_devcontainer_is_json_that_sets_up_the_project(repository):
    container = json.loads((repository / ".devcontainer/devcontainer.json").read_text())
    assert container["postCreateCommand"].startswith("make setup")


def test_the_page_of_a_new_user_has_every_command_of_its_script(repository):
    script = runpy.run_path(str(repository / "tests/release/newcomer.py"))
    page = (repository / "docs/newcomer.md").read_text()
    shown = re.findall(r"^\$ (?!cd )(.+)$", page, re.MULTILINE)
    (wheel,) = set(re.findall(r"ravel_sweeps-[^[']+\.whl", page))
    assert shown == [step.command for step in script["steps"](wheel)]


def workflow_problems(text):
    """Return what is not as safe as it can be in a workflow."""
    workflow = yaml.safe_load(text)
    problems = [] if workflow["permissions"] == {"contents": "read"} else ["the workflow may more than read"]
    for name, job in workflow["jobs"].items():
        more = {right for right, level in job.get("permissions", {}).items() if level == "write"}
        problems += [f"{name} may write {right}" for right in sorted(more) if (name, right) != ("publish", "id-token")]
        problems += [] if "timeout-minutes" in job else [f"{name} has no limit of time"]
        for step in job["steps"]:
            action = step.get("uses", "")
            if action and not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action):
                problems.append(f"{action} is not pinned by its commit")
            if "checkout" in action and step.get("with", {}).get("persist-credentials") is not False:
                problems.append(f"{name} keeps the credentials of the checkout")
            if "${{" in step.get("run", ""):
                problems.append(f"{name} puts an expression into a shell")
    return problems


@pytest.mark.parametrize("name", ["ci", "docs", "release"])
def test_a_workflow_has_the_least_rights_and_pinned_actions(name, repository):
    assert workflow_problems((repository / f".github/workflows/{name}.yml").read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("contents: read", "contents: write", "may more than read"),
        ("@a26af69be951a213d495a4c3e4e4022e16d87065", "@v5", "is not pinned"),
        ("persist-credentials: false", "persist-credentials: true", "keeps the credentials"),
        ("    timeout-minutes: 15\n", "", "publish has no limit"),
        ("run: make package", "run: echo ${{ github.ref_name }}", "into a shell"),
        ("id-token: write", "contents: write", "publish may write contents"),
    ],
)
def test_a_planted_fault_of_a_workflow_is_seen(old, new, problem, repository):
    text = (repository / ".github/workflows/release.yml").read_text()
    assert old in text
    assert problem in str(workflow_problems(text.replace(old, new)))


# Clean environments, by `make package`

only_released = pytest.mark.skipif(not RELEASE, reason="make package tries the wheel in clean environments")
VERSIONS = ("3.11", "3.12", "3.13")


def python_of(version):
    """Return the interpreter of a version, or None: on the path, or one of pyenv's."""
    candidates = [
        shutil.which(f"python{version}"),
        *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ]
    for candidate in filter(None, candidates):
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return candidate
    return None


def environment(folder):
    """Variables of a user who has nothing set."""
    names = ("LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PIP_CERT", "PIP_CONFIG_FILE")
    kept = {name: value for name, value in os.environ.items() if name in names or name.startswith("PIP_")}
    nice = {"RAY_worker_niceness": "0"}  # whatever else runs here
    return {**kept, **nice, "HOME": str(folder), "PATH": "/usr/bin:/bin"}


def run(command, folder, *, code=0, limit_s=280):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@only_released
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_alone_reads_and_checks_specs(version, wheel, tmp_path):
    python = python_of(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed here")
    place, home = tmp_path / "venv", tmp_path / "home"
    home.mkdir()
    subprocess.run([python, "-m", "venv", place], check=True)
    run([place / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel], home)
    run([place / "bin/python", "-m", "pip", "check"], home)
    ravel = place / "bin/ravel"
    assert "ravel-sweeps" in run([ravel, "--version"], home)
    assert "wrote sweep.yaml" in run([ravel, "init"], home)
    assert "valid" in run([ravel, "check", "sweep.yaml"], home)
    assert "optimizer.lr" in run([ravel, "space", "show", "sweep.yaml"], home)
    printed = run([ravel, "doctor"], home)
    assert "pip install 'ravel-sweeps[train]'" in printed
    assert f"python: {version}" in printed
    assert "pip install 'ravel-sweeps[" in run([ravel, "launch", "sweep.yaml"], home, code=3)


@only_released
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_wheel_launches_a_sweep_from_an_empty_home(wheel, tmp_path):
    """The libraries are those of this environment, so that torch is not downloaded once more; Ravel is the wheel's."""
    place, home = tmp_path / "venv", tmp_path / "home"
    home.mkdir()
    venv.create(place, with_pip=True, symlinks=True)
    run([place / "bin/python", "-m", "pip", "install", "-q", "--no-deps", wheel], home)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(f"{Path(yaml.__file__).parents[1]}\n")  # its own .pth files are not read
    where = run([place / "bin/python", "-c", "import orchestrator; print(orchestrator.__file__)"], home)
    assert where.startswith(str(place))
    ravel = place / "bin/ravel"
    run([ravel, "init"], home)
    small = ("--set", "search.num_trials=3", "--set", "trial.epochs=2")
    printed = run([ravel, "launch", "sweep.yaml", *small], home, limit_s=700)  # an empty home has no bytecode either
    assert "3/3 trials" in printed
    assert "val/accuracy" in run([ravel, "best", "digits"], home)
