"""Room on the disk for a sweep's checkpoints: estimated before a launch, forecast from the log during a sweep."""

from pathlib import Path

import pytest

from orchestrator.analysis.forecast import forecast
from orchestrator.analysis.forecast.checkpoint_sizes import checkpoint_sizes, room_line, size_line
from orchestrator.execution import preflight
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.validation import check_spec
from orchestrator.state.events import CheckpointSaved, CheckpointsDropped, EpochReported, TrialCreated, TrialEnded
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState

SPEC = """
name: digits
trial: {data.name: digits, epochs: 2, model.name: mlp, optimizer.name: sgd}
space: {use: [snnl]}
search: {num_trials: 20}
scheduler: {grace_period: 1, kind: KIND}
"""


def spec_of(*settings, kind="stopping"):
    return check_spec(parse_spec(SPEC.replace("KIND", kind), settings))


@pytest.mark.parametrize(
    "settings",
    [
        ["trial.optimizer.momentum=0.9"],
        ["trial.optimizer.momentum=0.0", "trial.model.name=cnn"],
        ["trial.optimizer.name=adamw", "trial.model.name=cnn_bn"],
        ["trial.optimizer.ema_decay=0.9"],
    ],
    ids=lambda settings: settings[0],
)
def test_the_estimate_is_a_lower_bound_and_close_to_the_real_size(settings):
    spec = spec_of(*settings)
    assert 0.9 < preflight.checkpoint_bytes(spec) / forecast.probe(spec).checkpoint_bytes <= 1.0


def test_a_disk_that_is_too_small_is_named_with_the_numbers_and_the_remedy():
    spec = spec_of()
    assert preflight.room_shortage(spec, free=10**9) is None
    message = preflight.room_shortage(spec, free=10**6)
    assert message == (
        "storage.uri: 20 trials with checkpoints of about 468 kB take 9.4 MB or more, and results has 1.0 MB free; "
        "choose another disk: storage.keep_best keeps those of the best trials alone"
    )


def test_a_sweep_that_keeps_few_checkpoints_needs_room_for_those_and_for_the_trials_that_run():
    settings = ["storage.keep_best=1", "resources.max_concurrent=1"]
    assert preflight.room_shortage(spec_of(*settings), free=3 * 470_000) is None
    assert preflight.room_shortage(spec_of(*settings), free=2 * 470_000).startswith("storage.uri: 3 trials")
    paused = preflight.room_shortage(spec_of(*settings, kind="promotion"), free=3 * 470_000)
    assert paused.startswith("storage.uri: 20 trials")  # paused trials wait with theirs


def test_nothing_is_said_of_s3_nor_of_functions_whose_size_is_unknown():
    assert preflight.room_shortage(spec_of("storage.uri=s3://team/ravel"), free=0) is None
    spec = check_spec(
        parse_spec(
            "name: a\ntrial: {task: gan, data.name: digits, epochs: 2}\nobjective: {metric: val/real_fake_recall}\n"
        )
    )
    assert preflight.room_shortage(spec, free=0) is None


def test_a_launch_warns_and_goes_on(tmp_path, monkeypatch, caplog):
    """No disk of a machine that runs tests has room for 100,000 of these."""
    monkeypatch.chdir(tmp_path)
    spec = spec_of("search.num_trials=100000", "trial.model.width=16", "tracking.uri=sqlite:///mlflow.db")
    preflight.check_here(spec, address="local")
    (line,) = (record.getMessage() for record in caplog.records if "storage.uri" in record.getMessage())
    assert line.startswith("storage.uri: 100000 trials with checkpoints of about ")


def sizes_of(*settings, kind="stopping", ended=("completed", "stopped"), paused=0, running=0, free=None):
    """Sizes of a sweep of 20 trials: each has a checkpoint of 100 bytes."""
    spec = parse_spec(SPEC.replace("KIND", kind), settings)
    plan = make_plan(spec, SweepFolder(Path("digits-1")), slots=1, now=0.0, working_directory=Path())
    state = SweepState()
    statuses = [*ended, *["paused"] * paused, *[None] * running]
    for number, status in enumerate(statuses):
        head = {"time": 1.0, "trial": f"t{number:03d}"}
        state.apply(TrialCreated(**head, origin="search", point={}, config={"epochs": 2}))
        metrics = {"val/accuracy": number / 100}
        state.apply(EpochReported(**head, attempt=1, epoch=1, since_restore=1, metrics=metrics))
        path = f"tune/t{number:03d}-1-g1/checkpoint_000000"
        state.apply(CheckpointSaved(**head, epoch=1, path=path, size_bytes=100))
        if status is not None:
            state.apply(TrialEnded(**head, status=status, rung=1 if status in {"paused", "stopped"} else None))
    return checkpoint_sizes(plan, state, is_finished=False, free=free), state, plan


def bytes_of(sizes):
    return sizes.now_bytes, sizes.at_end_bytes, sizes.at_most_bytes


def test_without_the_setting_every_trial_to_come_is_as_large_as_those_so_far():
    assert bytes_of(sizes_of()[0]) == (200, 2000, 2000)


def test_with_the_setting_the_end_has_the_best_and_the_way_there_the_running_ones_too():
    assert bytes_of(sizes_of("storage.keep_best=3", running=2)[0]) == (400, 300, 600)


def test_under_promotion_the_way_to_the_end_may_have_all_paused_trials():
    assert bytes_of(sizes_of("storage.keep_best=3", kind="promotion", paused=4)[0]) == (600, 300, 2000)


def test_dropped_checkpoints_do_not_count():
    _, state, plan = sizes_of("storage.keep_best=1")
    state.apply(CheckpointsDropped(time=2.0, trial="t001", keep_best=1))
    assert checkpoint_sizes(plan, state, is_finished=True).now_bytes == 100


def test_of_an_attempt_the_two_newest_checkpoints_count_as_tune_keeps_no_more():
    _, state, plan = sizes_of(ended=("completed",))
    for epoch in (2, 3, 4):
        path = f"tune/t000-1-g1/checkpoint_{epoch:06d}"
        state.apply(CheckpointSaved(time=2.0, trial="t000", epoch=epoch, path=path, size_bytes=100))
    assert checkpoint_sizes(plan, state, is_finished=True).now_bytes == 200


def test_a_checkpoint_of_an_older_version_is_taken_to_be_of_mean_size():
    _, state, plan = sizes_of(ended=("completed",))
    path = "tune/t000-2-g1/checkpoint_000000"
    state.apply(CheckpointSaved(time=2.0, trial="t000", epoch=2, path=path))
    assert checkpoint_sizes(plan, state, is_finished=True).now_bytes == 200


def test_a_disk_without_room_for_the_rest_is_named_in_status():
    sizes, *_ = sizes_of(free=1799)
    assert size_line(sizes) == "checkpoints: 200 B of 2 trials, about 2.0 kB at the end"
    assert room_line(sizes, remedy="do this") == "only 1.8 kB are free on its disk; do this"
    assert room_line(sizes_of(free=1800)[0], remedy="do this") is None
