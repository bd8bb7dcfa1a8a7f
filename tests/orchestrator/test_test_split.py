"""The test split is read by the evaluation of a confirmation alone: a short form of `test_confirm_sweeps`, without Ray.

The trials are trained by the worker's own code, in this process, while a test split that raises at its first use takes
the place of the real one.
"""

import pytest
from test_confirm import SPEC, append, folder_of, run_trials

from orchestrator import changing
from orchestrator.analysis.evaluation.confirmation import evaluated
from orchestrator.analysis.result import SweepResult
from orchestrator.decisions.propose import propose
from orchestrator.errors import OrchestratorError
from orchestrator.execution.trainable import SweepTrainable
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.events import SweepEnded, TrialCreated
from orchestrator.state.sweep_state import SweepState
from trainables.data import loading
from trainables.data.splits import Splits
from trainables.evaluation.core.results import no_progress
from trainables.tasks.classifier import run as classifier_run

EARLY = "the test split was read too early"


class Sealed:
    """Split that raises at any use, until `opened`; then it is the real one, and counts how often it was used first."""

    def __init__(self, split):
        self.split, self.opened = split, False

    def __getattr__(self, name):
        if not self.opened:
            raise AssertionError(f"{EARLY}: {name}")
        return getattr(self.split, name)

    def __len__(self):
        return self.__getattr__("__len__")()


@pytest.fixture
def sealed(monkeypatch):
    """The test split of the digits, sealed for every reader of this process; and the calls of `load_test`."""
    load_once = loading._load_once
    seals, calls = {}, []

    def load_sealed(*arguments):
        parts = load_once(*arguments)
        return parts._replace(test=seals.setdefault(arguments, Sealed(parts.test)))

    def load_test(config, real=loading.load_test):
        calls.append(config.name)
        return real(config)

    monkeypatch.setattr(loading, "_load_once", load_sealed)
    monkeypatch.setattr("trainables.data.load_test", load_test)
    return seals, calls


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A confirmation of one configuration with two seeds, of a search whose values are made up; nothing has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    search = folder_of(tmp_path, parse_spec(SPEC))
    run_trials(search, {f"t{index:03d}": (0.9 + index / 100, "completed") for index in range(8)})
    append(search, [SweepEnded(time=9.0, status="completed")])
    made = changing.confirm(search, "again", top=1, seeds=2)
    return folder_of(tmp_path, made.spec, parent=made.parent)


def configs_of(folder):
    """The configuration of each trial, by its id, as the driver gives it to a worker."""
    plan, state = SweepPlan.load(folder), SweepState.read(folder.events)
    configs = {}
    for index in range(plan.spec.search.num_trials):
        name = f"t{index:03d}"
        origin, point = propose(state, plan.spec)
        configs[name] = trial_config(plan, name, point)
        state.apply(TrialCreated(time=2.0, trial=name, origin=origin, point=point, config=configs[name]))
    return configs


def train(config, folder):
    """Train a trial by the worker's code, epoch by epoch, and return the accuracy after its last one."""
    worker = SweepTrainable(config={**config, "device": "cpu", "ravel.objectives": ["val/accuracy"]})
    try:
        for _ in range(config["epochs"]):
            result = worker.train()
        worker.save(str(folder))
    finally:
        worker.stop()
    return result["val/accuracy"]


def test_training_never_reads_the_test_split_and_the_evaluation_reads_it_once_for_each_trial(planned, sealed):
    seals, calls = sealed
    configs = configs_of(planned)
    scores = {name: train(config, planned.tune / name / "2") for name, config in configs.items()}
    run_trials(planned, {name: (score, "completed") for name, score in scores.items()}, saved=True)
    assert calls == []
    assert len(seals) == 1  # all trials have the same images

    for seal in seals.values():
        with pytest.raises(AssertionError, match=EARLY):  # the seal holds: this is what an early evaluation meets
            evaluated(SweepResult.read(planned), progress=no_progress, track=lambda *_: None)
        seal.opened = True
    calls.clear()

    append(planned, [SweepEnded(time=9.0, status="completed")])
    claim = evaluated(SweepResult.read(planned), progress=no_progress, track=lambda *_: None)
    assert calls == ["digits"] * len(configs)
    assert [len(row.values) for row in claim.rows] == [2, 2]
    assert {seed for row in claim.rows for seed in row.values} == {config["seed"] for config in configs.values()}


def test_an_evaluation_before_every_trial_is_over_does_not_touch_the_test_split(planned, sealed):
    _, calls = sealed
    (name, config), *_ = configs_of(planned).items()
    run_trials(planned, {name: (train(config, planned.tune / name / "2"), "completed")}, saved=True)
    with pytest.raises(OrchestratorError, match=r"every trial must be over before the test split is read, and 3 are"):
        evaluated(SweepResult.read(planned), progress=no_progress, track=lambda *_: None)
    assert calls == []


def test_the_seal_meets_a_trial_that_is_selected_on_the_test_split(planned, sealed, monkeypatch):
    def leak(config):
        splits = loading.load_splits(config)
        return Splits(splits.train, loading._load(config).test, num_classes=splits.num_classes)

    monkeypatch.setattr(classifier_run, "load_splits", leak)
    (name, config), *_ = configs_of(planned).items()
    with pytest.raises(Exception, match=EARLY):
        train(config, planned.tune / name / "2")
    assert sealed[1] == []  # it went around `load_test`
