"""Sweeps to look at: in virtual time, decided by the functions that decide in a real one; and with trained models."""

import contextlib
import ctypes
import heapq
import math
import os
import shutil
import sqlite3
import threading

import pytest

from orchestrator.analysis.result import SweepResult
from orchestrator.decisions.promotion import next_step
from orchestrator.decisions.propose import Proposer
from orchestrator.decisions.rung import decide, stop_at
from orchestrator.decisions.seeds import step_event
from orchestrator.decisions.steps import Descendant
from orchestrator.decisions.trial_views import DecisionState, levels_after
from orchestrator.execution import driver, order_desk
from orchestrator.orders.acts import NoWorkers, carry_out, settle
from orchestrator.orders.answers import answer
from orchestrator.planning.changes.extension import in_force
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import (
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    RungDecided,
    SeedsDropped,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState, missing_ends, replaced_end
from orchestrator.tracking.store.store import open_store
from orchestrator.tracking.tracker import Tracker
from trainables import TrialConfig
from trainables.tasks.classifier.run import start


def learning(point, epoch):
    """Best near a rate of 0.03; a stronger mixup learns more slowly and ends better; NaN above a rate of 0.9."""
    rate, alpha = point["optimizer.lr"], point["mixup.alpha"]
    if rate > 0.9:
        return math.nan
    end = 0.9 - abs(math.log10(rate / 0.03)) / 10 + 0.02 * alpha
    return end * (1 - math.exp(-epoch / (1 + alpha)))


class VirtualSweep:
    """``events`` is the log, ``plan`` the plan, ``state`` what the log amounts to."""

    def __init__(
        self, plan, *, workers, metrics=None, seconds=lambda _: 1.0, name=None, fails=lambda *_: False, of_trial=None
    ):
        self.events, self.state, self._name, self._started_with, self.given = [], SweepState(), name, {}, {}
        self.decisions, self._fails = DecisionState(plan, self.state), fails
        self._proposer, self._proposes_for, self._queue, self._orders = None, None, [], []
        self._metrics = metrics or (lambda point, epoch: {"val/accuracy": learning(point, epoch)})
        self._again = set()
        """Trials that train their last epoch once more: the driver was killed before its checkpoint was saved."""
        self._of_trial = of_trial or (lambda trial, epoch: self._metrics(trial.point, epoch))
        self._keywords = {
            "workers": workers,
            "metrics": metrics,
            "seconds": seconds,
            "fails": fails,
            "of_trial": of_trial,
        }
        self._seconds, self._idle, self._running, self._count = seconds, workers, [], 0
        self._now = 0.0

    @property
    def plan(self):
        return self.decisions.plan

    def run(self, *orders, generation=1):
        """Run to the end; each of ``orders`` is (time, order), answered before the first epoch after that time."""
        self._orders = sorted(orders, key=lambda order: order[0])
        self._log(SweepStarted(time=self._now, generation=generation, host="here", pid=1))
        self._serve(self._now)
        self._fill(self._now)
        while self._running:
            if self._serve(self._running[0][0]):
                self._fill(self._now)
                continue
            self._now, _, trial = heapq.heappop(self._running)
            if self._step(self.state.trials[trial], self._now):
                self._push(trial, self._now)
            else:
                self._idle += 1
                self._fill(self._now)
        for trial in self.state.with_status("paused"):
            self._log(TrialEnded(time=self._now, trial=trial.id, status="stopped", rung=trial.stopping_rung))
        return self

    def restarted(self, events):
        """Run the rest of a sweep whose driver was killed after these events."""
        sweep = VirtualSweep(self.plan.launched, **self._keywords)
        for event in events:
            sweep._log(event)
        sweep._now = sweep.state.last_time
        for end in missing_ends(sweep.state, pauses=self.plan.pauses, now=sweep._now):
            sweep._log(end)
        for trial in sweep.state.with_status("running"):
            sweep._log(TrialEnded(time=sweep._now, trial=trial.id, status="interrupted"))
        sweep._queue = [trial.id for trial in sweep.state.with_status("interrupted", "waiting")]
        sweep._again = {name for name in sweep._queue if sweep.state.trials[name].epochs}
        return sweep.run(generation=sweep.state.generation + 1)

    def _serve(self, until):
        """Answer the orders up to a time; return True if there was one."""
        is_one = False
        while self._orders and self._orders[0][0] <= until:
            now, order = self._orders.pop(0)
            self.given[order.id] = order
            self._now, is_one = max(now, self._now), True
            self._log(answer(order, self.decisions, has_checkpoint=lambda _: True, now=self._now))
            carry_out(self, self.decisions, self, clock=lambda: self._now)
        return is_one

    def append(self, event):
        self._log(event)

    def stop(self, trial):
        running = [entry for entry in self._running if entry[2] == trial]
        self._running = [entry for entry in self._running if entry[2] != trial]
        heapq.heapify(self._running)
        self._idle += len(running)
        self._queue = [name for name in self._queue if name != trial]
        return False

    def enqueue(self, trial):
        self._queue.append(trial)

    def _log(self, event):
        self.events.append(event)
        self.state.apply(event)
        self.decisions.apply(event)

    def _fill(self, now):
        while self._idle and (trial := self._next(now)) is not None:
            self._idle -= 1
            attempt = self.state.trials[trial].attempts + 1
            self._started_with[trial] = self.state.trials[trial].budget
            self._log(AttemptStarted(time=now, trial=trial, attempt=attempt))
            self._push(trial, now)

    def _next(self, now):
        if self._queue:
            return self._queue.pop(0)
        step = next_step(self.decisions, now=now)
        if step is not None:
            event = step_event(self.decisions, step, now=now)
            self._log(event)
            if isinstance(step, Descendant):
                trials = self.state.trials
                self._log(replaced_end(trials[step.descent.replaces], trials[step.trial], now=now))
            return self._next(now) if isinstance(event, SeedsDropped) else event.trial
        if not self.decisions.budget.unstarted(now=now):
            return None
        if self._proposes_for is not self.plan:
            self._proposes_for, self._proposer = self.plan, Proposer(self.plan.spec, self.decisions.searched)
        origin, point = self._proposer.propose()
        name = self._name(len(self.decisions.searched.trials)) if self._name else self._proposer.next_id()
        config = trial_config(self.plan, name, point)
        self._log(TrialCreated(time=now, trial=name, origin=origin, point=point, config=config))
        return name

    def _push(self, trial, now):
        self._count += 1
        seconds = self._seconds(self.state.trials[trial].point)
        heapq.heappush(self._running, (now + seconds, self._count, trial))

    def _step(self, trial, now):
        begins_at = 0 if trial.descent is None else trial.descent.epoch
        epoch = max(trial.epoch, begins_at) + (trial.id not in self._again)
        self._again.discard(trial.id)
        metrics = {
            name: value if math.isfinite(value) else None for name, value in self._of_trial(trial, epoch).items()
        }
        cost = {"time/epoch_s": 1.0, "cost/gpu_s": 2.0}
        self._log(
            EpochReported(
                time=now,
                trial=trial.id,
                attempt=trial.attempts,
                epoch=epoch,
                since_restore=epoch,
                metrics={**metrics, **cost},
            )
        )
        if None in metrics.values():
            self._log(TrialEnded(time=now, trial=trial.id, status="diverged"))
            return False
        if self._fails(trial, epoch):
            self._log(TrialEnded(time=now, trial=trial.id, status="failed", cause="user"))
            return False
        if epoch == self._started_with[trial.id]:
            if epoch < trial.budget:
                if settle(self, self.decisions, trial, clock=lambda: now):
                    self._log(TrialEnded(time=now, trial=trial.id, status="interrupted"))
                    self._queue.insert(0, trial.id)
            else:
                self._log(TrialEnded(time=now, trial=trial.id, status="completed"))
            return False
        return self._goes_on(trial, epoch, now)

    def _goes_on(self, trial, epoch, now):
        rungs = self.plan.scheduler.rungs
        if (stop := stop_at(self.decisions, trial.id, epoch)) is not None:
            self._log(RungDecided(time=now, **stop))
            self._leave(trial, epoch, now)
            return False
        for level in levels_after(trial, epoch, self.plan):
            if trial.blind_from is not None or (rungs is not None and level not in rungs):
                continue
            fields = None if level in trial.rungs else decide(self.decisions, trial.id, level)
            if fields is not None:
                self._log(RungDecided(time=now, **fields))
            if trial.rejected_at is not None:
                self._leave(trial, epoch, now)
                return False
        return True

    def _leave(self, trial, epoch, now):
        self._log(CheckpointSaved(time=now, trial=trial.id, epoch=epoch, path=f"{trial.id}-{epoch}"))
        status = "paused" if self.plan.pauses else "stopped"
        self._log(TrialEnded(time=now, trial=trial.id, status=status, rung=trial.rejected_at))


@pytest.fixture
def virtual_sweep(tmp_path):
    """``virtual_sweep(spec_text, workers=2)`` runs one; ``metrics(point, epoch)`` are the curves."""

    def run(text, *, workers=2, orders=(), **keywords):
        folder = SweepFolder(tmp_path / "results" / "virtual")
        plan = make_plan(parse_spec(text), folder, slots=workers, now=0.0, working_directory=tmp_path)
        return VirtualSweep(plan, workers=workers, **keywords).run(*orders)

    return run


STOPPING = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: 9, seed: 5, sampler: random}
scheduler: {grace_period: 3, kind: stopping}
"""


@pytest.fixture
def finished(virtual_sweep, tmp_path, monkeypatch):
    """``finished(spec)`` writes a virtual sweep that has ended as a real one, which is not tracked, and its folder.

    ``until`` is the number of events after which its driver was gone, ``reason`` that of its end.
    """
    monkeypatch.setattr(driver, "exporters_of", lambda *_: {})

    def write(text=STOPPING, *, name="virtual", reason=None, until=None):
        sweep = virtual_sweep(text, workers=1)
        folder = SweepFolder(tmp_path / "results" / name)
        folder.path.mkdir(parents=True)
        spec = parse_spec(text, [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", f"storage.uri={tmp_path}/results"])
        make_plan(spec, folder, slots=1, now=0.0, working_directory=tmp_path).save(folder)
        lock = sweep_lock.acquire(folder)
        with EventLog(folder.events) as log:
            for event in sweep.events[:until]:
                log.append(event)
                if isinstance(event, TrialEnded) and event.status == "completed":
                    path = f"tune/{event.trial}/9"
                    (folder.path / path).mkdir(parents=True)
                    log.append(CheckpointSaved(time=event.time, trial=event.trial, epoch=9, path=path))
            if until is None:
                log.append(SweepEnded(time=sweep.events[-1].time, status="completed", reason=reason))
        lock.release()
        return folder

    return write


PLANTER = """
# Imported by every Python of a sweep: `before_epoch(loop)` is called before each epoch of each trial, and before an
# epoch of batched trials for each of them.
import importlib.abc, importlib.util, os, pathlib, sys, time

class Planter(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PLANTED:
            return None
        plant = PLANTED.pop(name)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), plant(module))
        return spec

def plant_single(module):
    train = module.EpochLoop.run_epoch
    def run_epoch(self):
        before_epoch(self)
        return train(self)
    module.EpochLoop.run_epoch = run_epoch

def plant_batched(module):
    train = module.BatchedTrials.run_epoch
    def run_epoch(self):
        for name in self.names:
            before_epoch(self.loop(name))
        return train(self)
    module.BatchedTrials.run_epoch = run_epoch

PLANTED = {"trainables.engine.epoch_loop": plant_single, "trainables.batched.trials": plant_batched}

sys.meta_path.insert(0, Planter())
"""


@pytest.fixture(scope="session")
def plant():
    """``plant(folder, fault)`` writes ``before_epoch(loop)`` for each Python of a sweep; it returns the environment."""

    def write(folder, fault):
        (folder / "sitecustomize.py").write_text(PLANTER + fault)
        paths = (str(folder), os.environ.get("PYTHONPATH"))
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}

    return write


def _without_rights():
    """Let root read and write no more than the file modes allow."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER = 24, 1, 2, 3


@pytest.fixture(scope="session")
def as_user():
    """Keywords of ``subprocess.run`` with which file modes hold for the command, though the tests run as root."""
    return {"preexec_fn": _without_rights if os.geteuid() == 0 else None}


@pytest.fixture
def desk_of(monkeypatch):
    """``with desk_of(folder) as left:`` runs a driver that only answers orders; ``left`` is why it would leave.

    It holds the lock, and its order desk reads and answers in threads, as that of a driver with Ray.
    """
    monkeypatch.setattr(order_desk, "POLL_S", 0.02)

    @contextlib.contextmanager
    def run(folder):
        state, ended, left = SweepState.read(folder.events), threading.Event(), []
        lock = sweep_lock.acquire(folder)
        log = EventLog(folder.events, generation=lock.generation)
        decisions = DecisionState(in_force(SweepPlan.load(folder), state), state)
        store = EventStore(log, state, folds=(decisions,))
        store.append(SweepStarted(time=state.last_time, generation=lock.generation, host="here", pid=1))
        desk = order_desk.OrderDesk(folder, decisions, store, leave=left.append)
        desk.open()

        def serve():
            while not ended.wait(0.02):
                desk.serve(NoWorkers())

        thread = threading.Thread(target=serve)
        with desk.reading():
            thread.start()
            try:
                yield left
            finally:
                ended.set()
                thread.join()
        store.close()
        lock.release()

    return run


POINT = {"data.name": "digits", "model.name": "mlp", "model.width": 0.25, "batch_size": 64, "precision": "float32"}


class TrainedSweeps:
    """Sweeps whose trials have trained models, tracked in a real store, without Ray."""

    spec = "name: digits\ntrial: {epochs: 2}\nspace: {use: [snnl]}\n"

    def __init__(self, checkpoints, store_at):
        self._checkpoints, self._store_at = checkpoints, store_at

    def swept(self, root):
        """A sweep that t001 has won at full budget, tracked in a fresh store; t002 is better and was stopped."""
        self._store_at(root / "mlflow.db")
        folder = SweepFolder(root / "results" / "digits-1")
        shutil.copytree(self._checkpoints, folder.tune)
        make_plan(parse_spec(self.spec), folder, slots=2, now=5.0, working_directory=root).save(folder)
        self.write(folder, [SweepStarted(time=1.0, generation=1, host="here", pid=1)])
        for trial, score in (("t000", 0.8), ("t001", 0.9)):
            epochs = (self.epoch_of(trial, 1, 0.5), self.epoch_of(trial, 2, score))
            self.write(folder, self.begun(trial), *epochs, self.ended(trial, "completed"))
        stopped = self.epoch_of("t002", 1, 0.95, saved=False), self.ended("t002", "stopped")
        self.write(folder, self.begun("t002"), *stopped)
        self.write(folder, self.begun("t003"), [SweepEnded(time=9.0, status="completed")])
        result = SweepResult.read(folder)
        Tracker(result.plan, folder).catch_up()
        return result

    @staticmethod
    def begun(trial):
        """Created and given to a worker."""
        point, config = {"snnl.weight": 0.5}, {**POINT, "epochs": 2}
        yield TrialCreated(time=2.0, trial=trial, origin="search", point=point, config=config)
        yield AttemptStarted(time=2.0, trial=trial, attempt=1)

    @staticmethod
    def epoch_of(trial, epoch, score, *, saved=True):
        """One epoch, and its checkpoint."""
        metrics = {"val/accuracy": score, "val/nll": None, "train/loss": 0.25}
        yield EpochReported(time=3.0, trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics)
        if saved:
            yield CheckpointSaved(time=3.0, trial=trial, epoch=epoch, path=f"tune/{trial}/{epoch}")

    @staticmethod
    def ended(trial, status):
        """Left its worker."""
        yield TrialEnded(time=4.0, trial=trial, status=status, rung=1 if status == "stopped" else None)

    @staticmethod
    def write(folder, *parts):
        """Append to the folder's log."""
        with EventLog(folder.events) as log:
            for event in (event for part in parts for event in part):
                log.append(event)


@pytest.fixture(scope="session")
def store_at(tmp_path_factory):
    """``store_at(path)`` puts an empty database there that MLflow has set up, which takes it a second; or a copy."""
    template = tmp_path_factory.mktemp("empty") / "mlflow.db"
    open_store(f"sqlite:///{template}").search_experiments()

    def put(path, copy_of=template):
        with contextlib.closing(sqlite3.connect(copy_of)) as there, contextlib.closing(sqlite3.connect(path)) as here:
            there.backup(here)

    return put


@pytest.fixture(scope="session")
def trained(tmp_path_factory, store_at):
    """Two trials of two epochs with a checkpoint of each, which take a while."""
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    for index, trial in enumerate(("t000", "t001")):
        loop = start(TrialConfig.from_point({**POINT, "epochs": 2, "seed": index}))
        while not loop.finished:
            epoch = loop.run_epoch().epoch
            loop.save(checkpoints / trial / str(epoch))
    return TrainedSweeps(checkpoints, store_at)


@pytest.fixture
def ravel_here(request, tmp_path, monkeypatch):
    """The command, in a folder with the spec ``SLOW`` of the tests' module."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(request.module.SLOW)
    return request.getfixturevalue("ravel")
