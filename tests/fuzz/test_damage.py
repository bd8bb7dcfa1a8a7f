"""Damaged files of a sweep: each command that reads says what is wrong, and nothing measured is lost.

The cases are drawn from fixed seeds. An ordinary run tries a tenth of them, ``RAVEL_FUZZ=all`` all.
"""

import json
import os
import random
import shutil
import signal

import pytest
import torch

from orchestrator.analysis.result import SweepResult
from orchestrator.cli import main as command_line
from orchestrator.errors import OrchestratorError
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import (
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.log_segments import segments
from orchestrator.state.stray_files import leave_out
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.tracking.cursor import Cursor
from trainables.engine import checkpoint
from trainables.errors import CheckpointError

NUM_CASES = 500
SEEDS = range(NUM_CASES) if os.environ.get("RAVEL_FUZZ") == "all" else range(0, NUM_CASES, 10)
SPEC = "name: digits\ntrial: {epochs: 3}\nspace: {use: [snnl]}\nsearch: {num_trials: 6}\n"
MOST_SECONDS = 5
DAMAGED, WHOLE = "digits-20260101-120000-aaaa", "digits-20260101-120000-bbbb"
NO_ERROR_OF_OURS = "RAVEL_DEBUG"
"""Part of the message of an error that no code of ours raised on purpose."""
COMMANDS = (
    ("status", DAMAGED),
    ("status", DAMAGED, "--json"),
    ("best", DAMAGED),
    ("logs", DAMAGED),
    ("replay", DAMAGED),
    ("audit", DAMAGED),
)


def written(root, name):
    """A sweep of six trials by two drivers, in several segments, with a cursor, checkpoints and two lock records."""
    folder = SweepFolder(root / "results" / name)
    folder.path.mkdir(parents=True)
    make_plan(parse_spec(SPEC), folder, slots=2, now=1.0, working_directory=root).save(folder)
    for generation in (1, 2):
        lock = sweep_lock.acquire(folder)
        with EventLog(folder.events, segment_bytes=1500, generation=generation) as log:
            for event in driven(folder, generation):
                log.append(event)
        lock.release()
    cursor = Cursor(experiment="1", sweep_run="run", runs={"t000": "other"}, store="sqlite:///mlflow.db")
    cursor.move_to(segments(folder.events)[-1].end, folder)
    cursor.save(folder.cursor)


def driven(folder, generation):
    yield SweepStarted(time=10.0 * generation, generation=generation, host="here", pid=1)
    for index in range(3 * generation - 3, 3 * generation):
        trial, at = f"t{index:03d}", 100.0 * index
        config = {"epochs": 3, "snnl.weight": 0.5}
        yield TrialCreated(time=at, trial=trial, origin="search", point={"snnl.weight": 0.5}, config=config)
        yield AttemptStarted(time=at + 1, trial=trial, attempt=1)
        for epoch in (1, 2, 3):
            metrics = {"val/accuracy": 0.1 * epoch + 0.01 * index, "train/loss": None}
            fields = {"attempt": 1, "epoch": epoch, "since_restore": epoch, "metrics": metrics}
            yield EpochReported(time=at + 1 + epoch, trial=trial, **fields)
        place = f"tune/{trial}-1/checkpoint_000003"
        saved = checkpoint.Checkpoint(config="{}", epoch=3, model={"w": torch.ones(3)}, optimizer={}, streams={})
        checkpoint.save(folder.path / place, saved)
        yield CheckpointSaved(time=at + 5, trial=trial, epoch=3, path=place)
        yield TrialEnded(time=at + 6, trial=trial, status="completed")
    yield SweepEnded(time=1000.0 * generation, status="interrupted" if generation == 1 else "completed")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    written(root, DAMAGED)
    written(root, WHOLE)
    return root


def flipped(content, rng):
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def of_lines(alter):
    def damage(content, rng):
        lines = content.splitlines(keepends=True)
        alter(lines, rng.randrange(len(lines)), rng)
        return b"".join(lines)

    return damage


def swap(lines, index, rng):
    other = rng.randrange(len(lines))
    lines[index], lines[other] = lines[other], lines[index]


def retyped(content, rng):
    """Another type for one value of a JSON document; lines of a log are no document."""
    try:
        document = json.loads(content)
        document[rng.choice(sorted(document))] = rng.choice([None, [], {}, "x", -1, 10**30, 0.5, True])
        return json.dumps(document).encode()
    except (ValueError, TypeError):
        return flipped(content, rng)


DAMAGES = {
    "flipped": flipped,
    "truncated": lambda content, rng: content[: rng.randrange(len(content))],
    "deleted": of_lines(lambda lines, index, _: lines.pop(index)),
    "doubled": of_lines(lambda lines, index, _: lines.insert(index, lines[index])),
    "swapped": of_lines(swap),
    "retyped": retyped,
    "empty": lambda *_: b"",
    "not UTF-8": lambda content, rng: content[: (at := rng.randrange(len(content)))] + b"\xff\xfe" + content[at:],
    "extended": lambda content, rng: content + rng.randbytes(rng.randint(1, 50)),
    "zeroed": lambda content, rng: content[: (at := rng.randrange(len(content)))] + bytes(len(content) - at),
    "nested": lambda content, _: content + b"[" * 50_000,
}
OF_FILES = (*DAMAGES, "folder", "removed", "stray")


def damage(file, kind, rng):
    """Damage a file; a stray one is put next to it."""
    if kind == "stray":
        name = rng.choice(
            [f"._{file.name}", f"{file.stem} (conflicted copy){file.suffix}", f"{file.stem} 2{file.suffix}"]
        )
        file.with_name(name).write_bytes(rng.choice([b"", rng.randbytes(100), file.read_bytes()]))
    elif kind in DAMAGES:
        file.write_bytes(DAMAGES[kind](file.read_bytes(), rng))
    else:
        file.unlink()
        if kind == "folder":
            file.mkdir()


def targets(folder):
    """The files of each kind, so that each kind is drawn as often."""
    return {
        "log": [segment.path for segment in segments(folder.events)],
        "plan": [folder.plan],
        "lock": sorted(folder.locks.glob("*.json")),
        "cursor": [folder.cursor],
        "identity": [folder.identity],
        "checkpoint": sorted(folder.tune.rglob("state.*")) or sorted(p for p in folder.tune.rglob("*") if p.is_file()),
    }


def content_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def ravel(arguments, monkeypatch, capsys):
    """Run a command in this process; it may use five seconds of processor time."""

    def out_of_time(*_):
        raise TimeoutError(f"{arguments} took longer than {MOST_SECONDS} s")

    monkeypatch.setattr("sys.argv", ["ravel", *arguments])
    signal.signal(signal.SIGPROF, out_of_time)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        command_line.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return code, *capsys.readouterr()


def read(folder):
    """The sweep, or the error that names its damage."""
    try:
        return SweepResult.read(folder), None
    except OrchestratorError as error:
        return None, str(error)


def loaded(folder):
    try:
        return checkpoint.load(folder)
    except CheckpointError:
        return None


@pytest.fixture
def copy(template, tmp_path, monkeypatch):
    """A copy of both sweeps, in the working directory."""
    monkeypatch.chdir(tmp_path)
    leave_out.cache_clear()
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return SweepFolder(tmp_path / "results" / DAMAGED)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_file_is_named_and_nothing_measured_is_lost(copy, monkeypatch, capsys, seed):
    rng, whole, files = random.Random(seed), SweepResult.read(copy), targets(copy)
    target, kind = rng.choice([*files, "log"]), rng.choice(OF_FILES)
    file = rng.choice(files[target])
    damage(file, kind, rng)
    root = copy.path.parents[1]
    before, case = content_of(root), f"{kind} {file}"

    for arguments in COMMANDS:
        code, out, err = ravel(arguments, monkeypatch, capsys)
        assert code in {0, 2, 3}, case
        assert code == 0 or target in {"log", "plan"} or arguments[0] == "replay", f"{case} {err}"
        assert "Traceback" not in out + err, case
        assert NO_ERROR_OF_OURS not in err, case
        assert all(len(line) <= command_line.MAX_LINE for line in err.splitlines()), case
    code, out, err = ravel(("list",), monkeypatch, capsys)
    assert (code, WHOLE in out) == (0, True), err
    assert DAMAGED in out + err or (target, kind) == ("plan", "removed")

    result, error = read(copy)
    if result is None:
        assert target in {"log", "plan"}, case
        assert str(copy.path) in error
    else:
        lost = whole.state.num_events - result.state.num_events
        assert lost == 0 or (file == files["log"][-1] and lost > 0), case  # as after a crash
        assert result.plan == whole.plan
    assert content_of(root) == before, case
    if target == "checkpoint" and kind != "stray" and (model := loaded(file.parent)) is not None:
        assert kind in {"flipped", "extended", "nested"} or torch.equal(model.model["w"], torch.ones(3)), case
