"""The checker of invariants: silent about a good sweep, and each planted violation is reported."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from dataclasses import replace

import pytest
from launched import RAVEL, SPEC
from sweep_evidence import Evidence, events_of
from sweep_invariants import INVARIANTS, violations

from orchestrator.planning.plan import SweepPlan
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import (
    CheckpointSaved,
    EpochReported,
    OrderAccepted,
    OrderRefused,
    RungDecided,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lookup import find_sweep

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A sweep with paused and promoted trials that nothing happened to."""
    root = tmp_path_factory.mktemp("good")
    (root / "spec.yaml").write_text(SPEC)
    command = [RAVEL, "launch", "spec.yaml", "--address", "processes"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


class Copied:
    """A copy of a sweep, to plant violations in: its log, its database, its files, what it is compared with."""

    def __init__(self, root):
        self.root, self.before, self.in_s3 = root, (), None
        self.folder = SweepFolder(find_sweep(root / "results").path)
        self.plan = SweepPlan.load(self.folder)

    def evidence(self):
        read = Evidence.read(self.folder, self.root / "mlflow.db", before=self.before, temporary=self.root)
        return replace(read, plan=self.plan, in_s3=self.in_s3)

    @property
    def log(self):
        """The files of the log."""
        return {path.name: path.read_bytes() for path in self.folder.path.glob("events*.jsonl")}

    def rewrite(self, alter):
        """Write the log anew, as a chain, with other events."""
        events = list(events_of(self.folder))
        alter(events)
        for path in self.folder.path.glob("events*.jsonl"):
            path.unlink()
        with EventLog(self.folder.events) as log:
            for event in events:
                log.append(event)

    def execute(self, statement):
        """Change the database; a statement that changes nothing plants nothing."""
        with contextlib.closing(sqlite3.connect(self.root / "mlflow.db")) as connection, connection:
            assert connection.execute(statement).rowcount > 0

    def with_spec(self, **sections):
        """Give the plan other settings."""
        document = {**self.plan.spec.document(), **sections}
        self.plan = SweepPlan(**{**dict(self.plan), "spec": document})


@pytest.fixture
def copied(good, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(good, root)
    return Copied(root)


def index_of(events, kind, **fields):
    return next(
        index
        for index, event in enumerate(events)
        if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
    )


def doubled(kind, **fields):
    def plant(sweep):
        sweep.rewrite(lambda events: events.insert(-1, events[index_of(events, kind, **fields)]))

    return plant


def removed(kind, **fields):
    def plant(sweep):
        sweep.rewrite(lambda events: events.pop(index_of(events, kind, **fields)))

    return plant


def changed(kind, changes, **fields):
    def plant(sweep):
        def alter(events):
            at = index_of(events, kind, **fields)
            events[at] = events[at].model_copy(update=changes(events[at]))

        sweep.rewrite(alter)

    return plant


def executed(statement):
    return lambda sweep: sweep.execute(statement)


def lost_from_the_end(sweep):
    sweep.before = events_of(sweep.folder)
    sweep.rewrite(lambda events: events.pop())


def changed_after_a_kill(sweep):
    sweep.before = events_of(sweep.folder)
    changed(EpochReported, lambda event: {"metrics": {**event.metrics, "val/accuracy": 0.5}}, epoch=2)(sweep)


def held_by_a_process(sweep):
    newest = max(sweep.folder.locks.glob("*.json"))
    newest.write_text(json.dumps({**json.loads(newest.read_text()), "released": False, "pid": os.getpid()}))


def last_checkpoint(sweep):
    event = next(event for event in reversed(events_of(sweep.folder)) if isinstance(event, CheckpointSaved))
    return sweep.folder.path / event.path


def removed_checkpoint(sweep):
    shutil.rmtree(last_checkpoint(sweep))


def torn_checkpoint(sweep):
    (file,) = (path for path in last_checkpoint(sweep).iterdir() if path.name.startswith("state"))
    file.write_bytes(file.read_bytes()[:1000])


def checkpoint_of_another_epoch(sweep):
    saved = [event for event in events_of(sweep.folder) if getattr(event, "path", None) and event.trial == "t000"]
    *_, earlier, last = sorted(saved, key=lambda event: event.epoch)
    shutil.copytree(sweep.folder.path / earlier.path, sweep.folder.path / last.path, dirs_exist_ok=True)


def cut_short_in_s3(sweep):
    sweep.in_s3 = {**sweep.log, "events.jsonl": sweep.log["events.jsonl"][:-100]}


def another_line_in_s3(sweep):
    sweep.in_s3 = {**sweep.log, "events.jsonl": sweep.log["events.jsonl"].replace(b"t000", b"t001")}


def left_by_ray(sweep):
    (sweep.root / "ravel-ray-left").mkdir()


REFUSED = OrderRefused(time=0.0, order="0a" * 16, action="stop", author="ada@here", reasons=("no",))
ACCEPTED = OrderAccepted(time=0.0, order="0b" * 16, action="stop", author="ada@here", trials=("t000",))
PLANTS = {
    "an end twice": ("trials end once", doubled(TrialEnded, status="completed")),
    "another end": ("trials end once", doubled(TrialEnded, status="stopped")),
    "a last epoch after the end": ("trials end once", doubled(EpochReported, trial="t000", epoch=8)),
    "no end": ("trials end once", removed(TrialEnded, trial="t000")),
    "an epoch twice": ("epochs are contiguous", doubled(EpochReported, epoch=3)),
    "an epoch too few": ("epochs are contiguous", removed(EpochReported, epoch=2)),
    "no first epoch": ("epochs are contiguous", removed(EpochReported, epoch=1)),
    "the last event gone": ("nothing is lost", lost_from_the_end),
    "a metric changed after a kill": ("nothing is lost", changed_after_a_kill),
    "two runs of a trial": (
        "each trial has a run",
        executed("update tags set value = replace(value, 't001', 't000') where key = 'ravel.trial'"),
    ),
    "a deleted run": (
        "each trial has a run",
        executed(
            "update runs set lifecycle_stage = 'deleted' where run_uuid in "
            "(select run_uuid from tags where key = 'ravel.trial' limit 1)"
        ),
    ),
    "two summaries": (
        "each trial has a run",
        executed("update tags set value = 'sweep' where key = 'ravel.kind' and value = 'trial'"),
    ),
    "a point at another time": (
        "no point is there twice",
        executed(
            "insert into metrics (key, value, timestamp, run_uuid, is_nan, step) "
            "select key, value, timestamp + 1, run_uuid, is_nan, step from metrics where step = 1"
        ),
    ),
    "a missing point": (
        "MLflow has the metrics of the log",
        executed("delete from metrics where key = 'val/accuracy' and step = 1"),
    ),
    "a missing metric": (
        "MLflow has the metrics of the log",
        executed("delete from metrics where key = 'val/nll'"),
    ),
    "another value": ("MLflow has the metrics of the log", executed("update metrics set value = 0.5 where step = 2")),
    "a point of no epoch": (
        "MLflow has the metrics of the log",
        executed("update metrics set step = 99 where step = 3 and key = 'val/accuracy'"),
    ),
    "a running run": (
        "runs show how trials ended",
        executed("update runs set status = 'RUNNING' where run_uuid in (select run_uuid from metrics limit 1)"),
    ),
    "a run that failed": ("runs show how trials ended", executed("update runs set status = 'FAILED'")),
    "another decision": (
        "replay agrees",
        changed(RungDecided, lambda event: {"kept": not event.kept}, kept=False),
    ),
    "another point": (
        "replay agrees",
        changed(TrialCreated, lambda event: {"point": {**event.point, "optimizer.lr": 0.4}}, origin="search"),
    ),
    "too many trials": ("the budget is kept", lambda sweep: sweep.with_spec(search={"num_trials": 9, "seed": 1})),
    "too long a wall clock": ("the budget is kept", lambda sweep: sweep.with_spec(budget={"wall_clock_s": 1.0})),
    "too many GPU seconds": (
        "the budget is kept",
        lambda sweep: (
            sweep.with_spec(budget={"gpu_s": 1.0}),
            changed(EpochReported, lambda event: {"metrics": {**event.metrics, "cost/gpu_s": 2.0}}, epoch=1)(sweep),
        ),
    ),
    "too many epochs of a trial": (
        "the budget is kept",
        changed(TrialCreated, lambda event: {"config": {**event.config, "epochs": 2}}, trial="t001"),
    ),
    "too many epochs of all": (
        "the budget is kept",
        lambda sweep: sweep.rewrite(
            lambda events: events.__setitem__(
                slice(None), [event for event in events if not getattr(event, "audited", False)]
            )
        ),
    ),
    "two answers to an order": (
        "orders are answered and carried out once",
        lambda sweep: sweep.rewrite(lambda events: events.__setitem__(slice(-1, -1), [REFUSED, REFUSED])),
    ),
    "an order that was not carried out": (
        "orders are answered and carried out once",
        lambda sweep: sweep.rewrite(lambda events: events.insert(-1, ACCEPTED)),
    ),
    "a lock that is held": ("the lock is free", held_by_a_process),
    "a lock that is lost": ("the lock is free", lambda sweep: shutil.rmtree(sweep.folder.locks)),
    "a lost checkpoint": ("checkpoints are readable", removed_checkpoint),
    "a torn checkpoint": ("checkpoints are readable", torn_checkpoint),
    "a checkpoint of another epoch": ("checkpoints are readable", checkpoint_of_another_epoch),
    "no last checkpoint": ("checkpoints are readable", removed(CheckpointSaved, trial="t000", epoch=8)),
    "no log in S3": ("S3 has the log", lambda sweep: setattr(sweep, "in_s3", {})),
    "a part of the log in S3": ("S3 has the log", cut_short_in_s3),
    "another log in S3": ("S3 has the log", another_line_in_s3),
    "a folder of Ray": ("no folder of Ray is left", left_by_ray),
}


def test_a_good_sweep_violates_nothing(copied):
    evidence = copied.evidence()
    assert evidence.is_finished
    assert violations(replace(evidence, before=evidence.events[:50], in_s3=copied.log)) == {}


def test_each_invariant_has_a_planted_violation():
    assert {name for name, _ in PLANTS.values()} == set(INVARIANTS)


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_violation_is_reported(copied, plant):
    name, violate = PLANTS[plant]
    violate(copied)
    assert name in violations(copied.evidence())
