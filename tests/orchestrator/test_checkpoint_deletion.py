"""Dropped checkpoints are deleted, after the log says so, by this driver or the next; through the real driver."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import launching
from orchestrator.analysis.replay import replay
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.main import app
from orchestrator.errors import OrchestratorError
from orchestrator.execution import driver
from orchestrator.execution.checkpoints.deletion import ATTEMPTS, AttemptFolder, Deleter, delete, dropped_folders
from orchestrator.execution.checkpoints.orphans import QUIET_S
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.events import (
    CheckpointSaved,
    CheckpointsDropped,
    EpochReported,
    SweepEnded,
    TrialCreated,
    TrialEnded,
    TrialReopened,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from search_spaces import dump_yaml

SPEC = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd, optimizer.schedule: constant}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: 9, seed: 5, sampler: random}
scheduler: {grace_period: 3, kind: KIND}
"""
SIZE = 1000


@pytest.fixture
def written(virtual_sweep, tmp_path, monkeypatch):
    """``written("storage.keep_best=2")`` writes a virtual sweep as a real one, with the files that Tune would keep."""
    monkeypatch.setattr(driver, "exporters_of", lambda *_: {})

    def write(*settings, kind="stopping", sizes=True, end="completed"):
        is_promoting = kind == "promotion" and end == "interrupted"
        text = SPEC.replace("KIND", kind)
        sweep = virtual_sweep(text, workers=1)
        folder = SweepFolder(tmp_path / "results" / "virtual")
        folder.path.mkdir(parents=True)
        spec = parse_spec(text, [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", *settings])
        make_plan(spec, folder, slots=1, now=0.0, working_directory=tmp_path).save(folder)
        lock = sweep_lock.acquire(folder)
        with EventLog(folder.events) as log:
            for event in cut(sweep.events) if is_promoting else sweep.events:
                if not isinstance(event, CheckpointSaved):
                    log.append(event)
                if isinstance(event, EpochReported):
                    log.append(saved(folder, event, size=SIZE if sizes else None))
            if end is not None:
                log.append(SweepEnded(time=sweep.events[-1].time, status=end))
        lock.release()
        return folder

    return write


def cut(events):
    """Return the events before the end of the sweep, which stops the paused trials."""
    last = max(i for i, event in enumerate(events) if not isinstance(event, TrialEnded) or event.status != "stopped")
    return events[: last + 1]


def saved(folder, event, *, size):
    """Write a checkpoint, remove all but two of its attempt as Tune does, and return its event."""
    attempt = folder.tune / f"{event.trial}-{event.attempt}-g1"
    path = attempt / f"checkpoint_{event.epoch:06d}"
    path.mkdir(parents=True)
    (path / "state.pt").write_bytes(b"w" * SIZE)
    (attempt / "result.json").write_text("{}")
    for old in sorted(attempt.glob("checkpoint_*"))[:-2]:
        (old / "state.pt").unlink()
        old.rmdir()
    where = str(path.relative_to(folder.path))
    return CheckpointSaved(time=event.time, trial=event.trial, epoch=event.epoch, path=where, size_bytes=size)


def events_of(folder):
    return [event for event, _ in read_events(folder.events)]


def of_kind(folder, kind):
    return [event for event in events_of(folder) if isinstance(event, kind)]


def trials_with_files(folder):
    return sorted({path.parent.name.partition("-")[0] for path in folder.tune.glob("*/checkpoint_*")})


def trials_with_checkpoints(folder):
    return [trial.id for trial in SweepState(events_of(folder)).trials.values() if trial.checkpoints]


def ravel(folder, *arguments):
    """Run a command on a sweep, with its storage; return its exit code and all it prints."""
    command, *rest = arguments
    result = CliRunner().invoke(app, [command, "virtual", *rest, "--storage", str(folder.path.parent)])
    if isinstance(result.exception, OrchestratorError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def best_of(folder, count):
    state = SweepState(events_of(folder))
    ranked = state.ranked(SweepResult.read(folder).plan.spec.objective)
    completed = [trial.id for trial in ranked if trial.status == "completed"]
    return sorted([*completed, *(trial.id for trial in ranked if trial.status == "stopped")][:count])


def test_without_the_setting_nothing_is_dropped_or_deleted(written):
    folder = written()
    before = trials_with_files(folder)
    launching.answer_orders(folder)
    assert trials_with_files(folder) == before == trials_with_checkpoints(folder)
    assert of_kind(folder, CheckpointsDropped) == []


def test_the_best_keep_their_files_and_nothing_else_of_the_sweep_is_deleted(written):
    folder = written("storage.keep_best=2")
    others = sorted(path for path in folder.path.rglob("*") if path.is_file() and "checkpoint_" not in str(path))
    launching.answer_orders(folder)
    best = best_of(folder, 2)
    assert trials_with_files(folder) == trials_with_checkpoints(folder) == best
    assert {event.trial for event in of_kind(folder, CheckpointsDropped)} == {
        event.trial for event in of_kind(folder, TrialEnded)
    } - set(best)
    assert all(path.exists() for path in others)
    result = SweepResult.read(folder)
    assert replay(result.plan, events_of(folder)).differences == ()
    assert result.best().checkpoint().is_dir()


def test_a_second_driver_drops_nothing_twice(written):
    folder = written("storage.keep_best=2")
    launching.answer_orders(folder)
    dropped = of_kind(folder, CheckpointsDropped)
    launching.answer_orders(folder)
    assert of_kind(folder, CheckpointsDropped) == dropped


def test_an_order_lets_a_finished_sweep_keep_fewer(written):
    folder = written()
    code, output = ravel(folder, "extend", "--set", "storage.keep_best=2", "--now")
    assert (code, output) == (0, "virtual: accepted\n  storage.keep_best: unset to 2\n")
    assert trials_with_files(folder) == best_of(folder, 2)
    result = SweepResult.read(folder)
    assert result.plan.spec.storage.keep_best == 2
    assert replay(result.plan, events_of(folder)).differences == ()


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator import launching
from orchestrator.execution import driver
from orchestrator.execution.checkpoints import deletion
from orchestrator.state.sweep_folder import SweepFolder

driver.exporters_of = lambda *_: {}
whole = deletion._delete_here
seen = []
def delete_here(path, attempt):
    seen.append(path)
    if len(seen) > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, attempt)
deletion._delete_here = delete_here
launching.answer_orders(SweepFolder(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("num_deleted", [0, 2])
def test_a_deletion_that_a_kill_broke_off_is_finished_by_the_next_driver(written, tmp_path, num_deleted):
    folder = written("storage.keep_best=2")
    command = [sys.executable, "-c", KILLED, str(folder.path), str(num_deleted)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    dropped = of_kind(folder, CheckpointsDropped)
    assert dropped
    with_files = set(trials_with_files(folder))
    assert with_files - set(best_of(folder, 2))
    gone = set(SweepState(events_of(folder)).trials) - with_files
    assert len(gone) == num_deleted
    assert gone < {event.trial for event in dropped}  # the log said so before any file went
    launching.answer_orders(folder)
    assert trials_with_files(folder) == best_of(folder, 2)
    names = [event.trial for event in of_kind(folder, CheckpointsDropped)]
    assert len(names) == len(set(names))


def test_trials_that_are_paused_keep_their_files_while_the_sweep_is_interrupted_and_lose_them_at_its_end(written):
    folder = written("storage.keep_best=1", "search.num_trials=9", kind="promotion", end="interrupted")
    paused = [trial.id for trial in SweepState(events_of(folder)).with_status("paused")]
    assert len(paused) > 1
    launching.answer_orders(folder)
    state = SweepState(events_of(folder))
    assert state.ended.status == "completed"  # nothing was left to run, so the paused trials are over
    events = events_of(folder)
    for name in paused:
        ended = max(i for i, event in enumerate(events) if isinstance(event, TrialEnded) and event.trial == name)
        drops = [i for i, event in enumerate(events) if isinstance(event, CheckpointsDropped) and event.trial == name]
        assert all(i > ended for i in drops)
    assert trials_with_files(folder) == best_of(folder, 1)
    assert isinstance(events[-1], SweepEnded)


# The thread


def queue_of(folder, names, **keywords):
    settings = {"num_recorded": lambda: 10, "is_lost": lambda: False, "shortest_pause_s": 0.0, **keywords}
    attempts = [AttemptFolder(f"tune/{name}-1-g1", frozenset()) for name in names]
    for attempt in attempts:
        (folder.path / attempt.path / "checkpoint_000000").mkdir(parents=True)
    return Deleter(folder, **settings), attempts


def exists(folder, attempt):
    return (folder.path / attempt.path / "checkpoint_000000").exists()


def test_nothing_is_deleted_before_the_line_is_where_the_next_driver_finds_it(tmp_path):
    folder, recorded = SweepFolder(tmp_path), [4]
    deleter, (first, second) = queue_of(folder, ["t000", "t001"], num_recorded=lambda: recorded[0])
    deleter.put([first], after=4)
    deleter.put([second], after=5)
    assert deleter.finish(timeout_s=20.0) == 1
    assert (exists(folder, first), exists(folder, second)) == (False, True)


def test_a_line_that_is_recorded_later_is_waited_for(tmp_path):
    folder, recorded, has_asked = SweepFolder(tmp_path), [0], threading.Event()

    def num_recorded():
        has_asked.set()
        return recorded[0]

    deleter, (attempt,) = queue_of(folder, ["t000"], num_recorded=num_recorded)
    deleter.put([attempt], after=4)
    assert has_asked.wait(20.0)
    recorded[0] = 4
    assert deleter.finish(timeout_s=20.0) == 0
    assert not exists(folder, attempt)


def test_what_an_earlier_driver_dropped_waits_for_its_line_too(tmp_path):
    folder, recorded = SweepFolder(tmp_path), [3]
    deleter, attempts = queue_of(folder, ["t000"], num_recorded=lambda: recorded[0])
    deleter.check(attempts, after=4)
    assert deleter.finish(timeout_s=20.0) == 1
    assert exists(folder, attempts[0])
    deleter = Deleter(folder, num_recorded=lambda: 4, is_lost=lambda: False)
    deleter.check(attempts, after=4)
    assert deleter.finish(timeout_s=20.0) == 0
    assert not exists(folder, attempts[0])


def test_a_driver_that_lost_the_sweep_deletes_nothing(tmp_path):
    folder = SweepFolder(tmp_path)
    deleter, (attempt,) = queue_of(folder, ["t000"], is_lost=lambda: True)
    deleter.put([attempt], after=1)
    deleter.finish(timeout_s=20.0)
    assert exists(folder, attempt)


def test_a_folder_that_cannot_be_deleted_is_tried_again_and_named_and_the_others_go(tmp_path, caplog, monkeypatch):
    from orchestrator.execution.checkpoints import deletion

    folder, tries, whole = SweepFolder(tmp_path / "results" / "digits-1"), [], deletion.shutil.rmtree

    def refuse(path):
        if "t000" not in str(path):
            return whole(path)
        tries.append(path)
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(deletion.shutil, "rmtree", refuse)  # the tests may run as root
    deleter, attempts = queue_of(folder, ["t000", "t001"])
    deleter.put(attempts, after=1)
    assert deleter.finish(timeout_s=20.0) == 0
    assert len(tries) == ATTEMPTS
    assert [exists(folder, attempt) for attempt in attempts] == [True, False]
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"dropped checkpoints were not deleted: {folder.path}/tune/t000-1-g1 (")
    assert "Permission denied" in line
    assert f"ravel resume digits-1 --storage {folder.path.parent}" in line


def test_a_deletion_that_hangs_does_not_hold_up_the_end(tmp_path, monkeypatch):
    from orchestrator.execution.checkpoints import deletion

    folder, goes_on = SweepFolder(tmp_path), threading.Event()
    monkeypatch.setattr(deletion.shutil, "rmtree", lambda _: goes_on.wait(60.0))
    deleter, attempts = queue_of(folder, ["t000"])
    deleter.put(attempts, after=1)
    assert deleter.finish(timeout_s=0.2) == 1
    goes_on.set()


@pytest.mark.parametrize(
    "path",
    ["../other/x/1", "/etc/x/1", "tune/../../other", "tune/../other", "plan.json", "tune/t000", "tune/a/b/c", ""],
)
def test_a_path_that_leads_out_of_the_checkpoints_is_named_and_left_alone(tmp_path, caplog, path):
    (tmp_path / "other").mkdir()
    state = SweepState([TrialCreated(time=0.0, trial="t000", origin="search", point={}, config={"epochs": 9})])
    state.apply(CheckpointSaved(time=0.0, trial="t000", epoch=1, path=path))
    state.apply(CheckpointsDropped(time=0.0, trial="t000", keep_best=1))
    assert dropped_folders(state.trials["t000"], SweepFolder(tmp_path / "digits-1")) == []
    assert repr(path) in caplog.text


def test_links_are_not_followed(tmp_path):
    folder, other = SweepFolder(tmp_path / "digits-1"), tmp_path / "other"
    (other / "checkpoint_000000").mkdir(parents=True)
    (other / "checkpoint_000000" / "precious").touch()
    (folder.tune / "t001-1-g1").mkdir(parents=True)
    (folder.tune / "t000-1-g1").symlink_to(other)
    (folder.tune / "t001-1-g1" / "checkpoint_000000").symlink_to(other)
    delete(folder, [AttemptFolder(f"tune/{name}-1-g1", frozenset()) for name in ("t000", "t001")])
    assert (other / "checkpoint_000000" / "precious").exists()
    assert list((folder.tune / "t001-1-g1").iterdir()) == []


# Commands


def test_status_shows_the_size_now_and_at_the_end(written):
    folder = written(end="interrupted")
    with EventLog(folder.events) as log:  # one more trial is to come
        state = SweepState(events_of(folder))
        order = {"order": "0a" * 16, "action": "extend", "author": "a@b", "settings": {"search.num_trials": 18}}
        from orchestrator.state.events import OrderAccepted

        log.append(OrderAccepted(time=state.last_time, **order))
    stored = len(list(folder.tune.glob("*/checkpoint_*")))
    plain = json.loads(ravel(folder, "status", "--json")[1])["checkpoints"]
    assert (plain["trials"], plain["now_bytes"]) == (9, stored * SIZE)
    assert plain["at_end_bytes"] == plain["at_most_bytes"] == 2 * stored * SIZE
    assert plain["free_bytes"] > 0
    text = ravel(folder, "status")[1]
    size = f"{stored} kB" if stored > 9 else f"{stored}.0 kB"
    assert f"checkpoints: {size} of 9 trials, about {2 * stored} kB at the end\n" in text


def test_the_size_in_the_log_is_that_of_the_files(written):
    folder = written()
    on_disk = sum(path.stat().st_size for path in folder.tune.rglob("state.pt"))
    assert json.loads(ravel(folder, "status", "--json")[1])["checkpoints"]["now_bytes"] == on_disk
    ravel(folder, "purge", "--checkpoints", "--keep-best", "2", "--yes")
    on_disk = sum(path.stat().st_size for path in folder.tune.rglob("state.pt"))
    assert json.loads(ravel(folder, "status", "--json")[1])["checkpoints"]["now_bytes"] == on_disk


def test_status_of_a_log_without_sizes_says_so(written):
    folder = written(sizes=False)
    assert "checkpoints: of 9 trials; the log of this sweep has no sizes yet\n" in ravel(folder, "status")[1]
    plain = json.loads(ravel(folder, "status", "--json")[1])["checkpoints"]
    assert (plain["now_bytes"], plain["at_end_bytes"]) == (None, None)


def test_a_model_whose_checkpoint_was_dropped_is_refused_with_the_setting_and_a_remedy(written, tmp_path):
    folder = written("storage.keep_best=2")
    launching.answer_orders(folder)
    trials = SweepState(events_of(folder)).trials.values()
    lost = next(trial for trial in trials if trial.is_dropped and trial.origin == "search")
    name, storage = f"virtual/{lost.id}", folder.path.parent
    expected = (
        f"{name}: its checkpoints were dropped (storage.keep_best: 2), so it has no model; choose one of the best "
        f"trials, or train its point once more: ravel extend virtual --storage {storage} --add-point FILE"
    )
    result = CliRunner().invoke(app, ["evaluate", name, "--storage", str(storage)])
    assert str(result.exception) == expected, result.output
    trial = SweepResult.read(folder).named(lost.id)
    for use in (trial.checkpoint, trial.load_model):  # `ravel register` calls the first
        with pytest.raises(OrchestratorError, match=re.escape(expected)):
            use()
    (tmp_path / "point.yaml").write_text(dump_yaml(dict(lost.point)))
    code, output = ravel(folder, "extend", "--add-point", str(tmp_path / "point.yaml"))  # the remedy
    assert code == 0, output


def test_an_extension_says_which_trials_cannot_continue_before_it_is_applied(written):
    folder = written("storage.keep_best=1")
    completed = [trial.id for trial in SweepState(events_of(folder)).with_status("completed")]
    launching.answer_orders(folder)
    (kept,) = trials_with_files(folder)
    code, output = ravel(folder, "extend", "--epochs", "27")
    assert code == 0
    lost = [name for name in completed if name != kept]
    assert lost
    assert f"{', '.join(lost)} stay at 9 epochs: their checkpoints were dropped (storage.keep_best, or ravel" in output
    assert "to train a point once more: ravel extend SWEEP --add-point FILE\n" in output
    assert f"  {kept} reopened\n" in output


def test_paused_trials_that_lost_their_checkpoints_stay_stopped_when_a_sweep_is_extended(written):
    folder = written("storage.keep_best=1", kind="promotion")
    launching.answer_orders(folder)
    (kept,) = trials_with_files(folder)
    code, output = ravel(folder, "extend", "--trials", "+2", "--now")
    assert code == 0
    assert "stay stopped: their checkpoints were dropped" in output
    assert {event.trial for event in of_kind(folder, TrialReopened)} <= {kept}


def test_a_purge_of_checkpoints_lists_first_and_then_keeps_the_best(written):
    folder = written()
    before, log = trials_with_files(folder), folder.events.read_bytes()
    code, output = ravel(folder, "purge", "--checkpoints", "--keep-best", "2")
    assert code == 0
    best = best_of(folder, 2)
    gone = [name for name in before if name not in best]
    assert output.splitlines()[0].startswith(f"to delete: checkpoints of {len(gone)} trials, ")
    assert output.splitlines()[1] == f"kept: those of {', '.join(best)}"
    assert output.splitlines()[2].startswith("nothing was removed; to delete them: ravel purge virtual --storage ")
    assert (trials_with_files(folder), folder.events.read_bytes()) == (before, log)

    code, output = ravel(folder, "purge", "--checkpoints", "--keep-best", "2", "--yes")
    assert code == 0, output
    assert output.splitlines()[-1] == "virtual: deleted"
    assert trials_with_files(folder) == trials_with_checkpoints(folder) == best
    result = SweepResult.read(folder)
    assert {event.author is None for event in of_kind(folder, CheckpointsDropped)} == {False}
    assert replay(result.plan, events_of(folder)).differences == ()
    assert not sweep_lock.is_held(folder)
    launching.answer_orders(folder)  # the next driver reads on
    assert SweepResult.read(folder).state.ended.status == "completed"


def test_a_purge_finishes_what_a_driver_has_dropped_and_not_deleted(written):
    folder = written()
    state = SweepState(events_of(folder))
    name = next(name for name in state.trials if name not in best_of(folder, 2))
    with EventLog(folder.events) as log:
        log.append(CheckpointsDropped(time=state.last_time, trial=name, keep_best=2))
    ravel(folder, "purge", "--checkpoints", "--keep-best", "2", "--yes")
    assert trials_with_files(folder) == best_of(folder, 2)


def aged(path, *, age_s):
    """Have a checkpoint be this old, files and folder."""
    for each in (*path.iterdir(), path):
        os.utime(each, (time.time() - age_s,) * 2)
    return path


def left_behind(folder, name, *, age_s=2 * QUIET_S):
    """Write a checkpoint as a worker does whose driver was killed before the log had it."""
    path = folder.tune / name
    path.mkdir(parents=True)
    (path / "state.pt").write_bytes(b"w" * SIZE)
    return aged(path, age_s=age_s)


def test_a_purge_deletes_the_checkpoints_that_no_event_names_and_nothing_else(written, tmp_path):
    folder = written()
    recorded = [aged(path, age_s=2 * QUIET_S) for path in folder.tune.glob("*/checkpoint_*")]
    left = [left_behind(folder, name) for name in ("t001-1-g1/checkpoint_000099", "t002-7-g3/checkpoint_000000")]
    young = left_behind(folder, "t003-1-g1/checkpoint_000099", age_s=60)
    foreign = left_behind(folder, "notes-1-g1/checkpoint_000001")
    outside = left_behind(SweepFolder(tmp_path), "t001-1-g1/checkpoint_000001")
    link = folder.tune / "t001-1-g1" / "checkpoint_000098"
    link.symlink_to(outside)
    os.utime(link, (time.time() - 2 * QUIET_S,) * 2, follow_symlinks=False)

    everything = ["purge", "--checkpoints", "--keep-best", "100"]
    code, output = ravel(folder, *everything)
    assert code == 0, output
    assert output.splitlines()[:2] == [
        "to delete: nothing",
        "to delete: 2 checkpoints that a killed driver left, 2.0 kB: no event names them",
    ]
    assert all(path.exists() for path in left)

    code, output = ravel(folder, *everything, "--yes")
    assert code == 0, output
    assert not any(path.exists() for path in left)
    assert all((path / "state.pt").exists() for path in (*recorded, young, foreign, outside, link))
    assert "a killed driver left" not in ravel(folder, *everything)[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoints"], "--checkpoints: must be given with --keep-best K"),
        (["--keep-best", "2", "--yes"], "--keep-best: must be given with --checkpoints"),
    ],
)
def test_a_purge_with_half_of_its_options_removes_nothing(written, options, message):
    folder = written()
    code, output = ravel(folder, "purge", *options)
    assert code == 2
    assert output.startswith(message)
    assert folder.plan.exists()


def test_a_purge_of_checkpoints_refuses_a_sweep_that_runs_or_was_killed(written):
    folder = written(end=None)
    code, output = ravel(folder, "purge", "--checkpoints", "--keep-best", "2", "--yes")
    assert "must have ended, and its driver was killed; ravel resume virtual" in output
    lock = sweep_lock.acquire(folder)
    code, output = ravel(folder, "purge", "--checkpoints", "--keep-best", "2", "--yes")
    assert "its driver runs, and deletes checkpoints itself; order it to: ravel extend virtual" in output
    lock.release()
    assert of_kind(folder, CheckpointsDropped) == []
    assert code != 0


def test_a_worker_sends_the_size_of_its_checkpoint_to_the_driver(tmp_path):
    from orchestrator.execution.trainable import SIZE, SweepTrainable

    point = {"data.name": "digits", "model.name": "mlp", "model.width": 0.25, "epochs": 2, "device": "cpu"}
    trainable = SweepTrainable(config={**point, "ravel.objectives": ["val/accuracy"]})
    trainable.train()
    sent = pickle.dumps(trainable.save(str(tmp_path / "saved")))
    trainable.stop()
    received = pickle.loads(sent).checkpoint  # noqa: S301  as Ray does between worker and driver
    assert getattr(received, SIZE) == (tmp_path / "saved" / "state.pt").stat().st_size > 0
