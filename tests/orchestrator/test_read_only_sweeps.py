"""A colleague's sweep that this user can only read: looking works and writes nothing, the rest is refused in a line."""

import json
import os
import subprocess
import sys

import pytest

COLLEAGUE = 12345
LOOKING = [
    ["status", "digits-1"],
    ["status", "digits-1", "--json"],
    ["list"],
    ["best", "digits-1"],
    ["logs", "digits-1", "t001"],
    ["compare", "digits-1"],
    ["audit", "digits-1"],
    ["replay", "digits-1"],
    ["evaluate", "digits-1/t001", "--subset", "50"],
]
WRITING = [
    ["resume", "digits-1"],
    ["sync", "digits-1"],
    ["purge", "digits-1"],
    ["purge", "digits-1", "--yes"],
    ["extend", "digits-1", "--trials", "+1"],
    ["extend", "digits-1", "--trials", "+1", "--now"],
]
RUN = """
import json, sys
from typer.testing import CliRunner
from orchestrator.cli.main import app
results = []
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, [*arguments, "--storage", sys.argv[2]])
    results.append((result.exit_code, result.output, type(result.exception).__name__, str(result.exception)))
print("\\n" + json.dumps(results))
"""


def made_read_only(root):
    for path in (root, *root.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, COLLEAGUE, COLLEAGUE)
        path.chmod(0o755 if path.is_dir() and os.geteuid() == 0 else 0o555 if path.is_dir() else 0o444)


def content(root):
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")}


@pytest.fixture
def commands(trained, tmp_path, as_user):
    """``commands(*arguments)`` runs each on a sweep of a colleague; ``commands.root`` is his."""
    root = tmp_path / "colleague"
    root.mkdir()
    trained.swept(root)
    made_read_only(root)
    home = tmp_path / "mine"
    home.mkdir()

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", RUN, json.dumps(arguments), str(root / "results")],
            **as_user,
            env={**os.environ, "HOME": str(home), "RAVEL_CACHE": str(home / "cache")},
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    run.root = root
    yield run
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)


def test_looking_at_a_sweep_that_can_only_be_read_works_and_writes_nothing(commands):
    before = content(commands.root)
    ends = dict(zip(map(" ".join, LOOKING), commands(*LOOKING), strict=True))
    replayed = ends.pop("replay digits-1")
    assert "decisions came out" in replayed[1]  # the sweep was written by hand
    assert {name: end[0] for name, end in ends.items()} == dict.fromkeys(ends, 0), ends
    assert "not in MLflow: " in ends["evaluate digits-1/t001 --subset 50"][1]
    assert content(commands.root) == before


def test_what_would_write_it_is_refused_in_one_line_that_says_what_to_do(commands):
    before = content(commands.root)
    for arguments, (code, _, kind, message) in zip(WRITING, commands(*WRITING), strict=True):
        assert (code, kind) == (1, "StorageError"), (arguments, message)
        assert "must be a folder that this " in message
        assert "can write, " in message
        assert "\n" not in message
    assert content(commands.root) == before
