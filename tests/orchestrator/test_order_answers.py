"""Answers to orders through the real driver and its log, without Ray: refusals word for word, kills at any event."""

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import launching
from orchestrator.analysis.replay import replay
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.main import app
from orchestrator.errors import OrchestratorError, SpecError, StorageError
from orchestrator.orders import book
from orchestrator.orders.book import ORDERS, book_of, submit, unanswered
from orchestrator.orders.order import Order, extend_order, stop_order
from orchestrator.planning.plan import SweepPlan
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.events import OrderAccepted, OrderRefused, TrialEnded, TrialReopened
from orchestrator.state.sweep_state import SweepState

ASSETS = Path(__file__).parent / "assets"
SPEC = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: 9, seed: 5, sampler: random}
scheduler: {SCHEDULER}
"""
STOPPING = SPEC.replace("SCHEDULER", "grace_period: 3, kind: stopping")


def events_of(folder):
    return [event for event, _ in read_events(folder.events)]


def of_kind(folder, *kinds):
    return [event for event in events_of(folder) if isinstance(event, kinds)]


def ravel(folder, *arguments):
    """Run a command on a sweep, with its storage; return its exit code and all it prints."""
    command, *rest = arguments
    result = CliRunner().invoke(app, [command, "virtual", *rest, "--storage", str(folder.path.parent)])
    if isinstance(result.exception, OrchestratorError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_an_extension_of_a_finished_sweep_is_applied_at_once_and_replays(finished):
    folder = finished()
    before = folder.plan.read_bytes()
    code, output = ravel(folder, "extend", "--trials", "+4", "--epochs", "27", "--now")
    assert code == 0, output
    assert output.splitlines() == [
        "virtual: accepted",
        "  search.num_trials: 9 to 13",
        "  trial.epochs: 9 to 27",
        "  rungs: 3 stay, 9 are new",
        "  optimizer.schedule is not constant: the trials so far followed that of 9 epochs, and go on with that of 27",
        "  t000, t003, t008 reopened",
    ]
    assert folder.plan.read_bytes() == before
    result = SweepResult.read(folder)
    assert (result.plan.spec.search.num_trials, result.plan.max_epochs, result.plan.rungs) == (13, 27, (3, 9))
    assert [event.trial for event in of_kind(folder, TrialReopened)] == ["t000", "t003", "t008"]
    assert result.state.ended.status == "interrupted"
    assert replay(SweepPlan.load(folder), events_of(folder)).differences == ()


def test_an_order_without_a_driver_waits_for_the_next_one(finished):
    folder = finished()
    code, output = ravel(folder, "extend", "--trials", "+1")
    assert (code, output.splitlines()) == (
        0,
        [
            f"virtual: written, to be applied by ravel resume virtual --storage {folder.path.parent}",
            "  search.num_trials: 9 to 10",
        ],
    )
    assert of_kind(folder, OrderAccepted) == []
    launching.answer_orders(folder)
    assert len(of_kind(folder, OrderAccepted)) == 1
    launching.answer_orders(folder)
    assert len(of_kind(folder, OrderAccepted)) == 1


def test_a_trial_whose_checkpoint_is_gone_stays_as_it_ended(finished):
    folder = finished()
    (folder.path / "tune/t003/9").rmdir()
    _, output = ravel(folder, "extend", "--epochs", "27", "--now")
    assert "  t000, t008 reopened\n  t003 stay at 9 epochs: their last checkpoint is gone\n" in output
    assert SweepResult.read(folder).state.trials["t003"].status == "completed"


def test_two_orders_are_answered_one_after_the_other_in_the_order_of_their_names(finished):
    folder = finished()
    for _ in range(2):
        submit(folder, extend_order(now=1.0, trials="+2"))
    launching.answer_orders(folder)
    first, second = of_kind(folder, OrderAccepted)
    names = [name.partition("-")[2].removesuffix(".json") for name in book_of(folder).names()]
    assert [first.order, second.order] == names
    assert (first.notes, second.notes) == (("search.num_trials: 9 to 11",), ("search.num_trials: 11 to 13",))


REFUSALS = {
    "an unknown trial": (stop_order(now=0.0, generation=1, trials=["t042", "t01"]), STOPPING),
    "a trial that is over": (stop_order(now=0.0, generation=1, trials=["t001"]), STOPPING),
    "another driver": (stop_order(now=0.0, generation=1), STOPPING),
    "fewer trials than exist": (extend_order(now=0.0, settings=["search.num_trials=4"]), STOPPING),
    "fewer epochs": (extend_order(now=0.0, settings=["trial.epochs=3"]), STOPPING),
    "keys that cannot change": (
        extend_order(now=0.0, settings=["scheduler.grace_period=3", "search.num_trails=9"]),
        STOPPING,
    ),
    "a wrong value": (extend_order(now=0.0, settings=["budget.gpu_s=-1"]), STOPPING),
    "nothing": (extend_order(now=0.0, settings=["trial.epochs=9"]), STOPPING),
    "no trial to retry": (extend_order(now=0.0, retry_failed=True), STOPPING),
    "a point outside the space": (extend_order(now=0.0, points=[{"optimizer.lr": 3.0}]), STOPPING),
    "a name outside the space": (extend_order(now=0.0, points=[{"optimizer.rl": 0.1}]), STOPPING),
    "epochs of PASHA": (
        extend_order(now=0.0, settings=["trial.epochs=27"]),
        SPEC.replace("SCHEDULER", "name: pasha, grace_period: 1"),
    ),
    "epochs of brackets": (
        extend_order(now=0.0, settings=["trial.epochs=27"]),
        SPEC.replace("SCHEDULER", "grace_period: 1, brackets: 2"),
    ),
    "epochs that are searched": (
        extend_order(now=0.0, settings=["trial.epochs=27"]),
        STOPPING.replace("epochs: 9, ", "").replace("parameters: {", "parameters: {epochs: {choice: [3, 9]}, "),
    ),
    "a budget that is spent": (extend_order(now=0.0, trials="+1"), STOPPING + "budget: {gpu_s: 5}\n"),
    "a target that is reached": (extend_order(now=0.0, trials="+1"), STOPPING + "budget: {target: 0.1}\n"),
    "more points than a grid has": (
        extend_order(now=0.0, trials="+500"),
        STOPPING.replace("sampler: random", "sampler: grid, resolution: 2"),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_order_changes_nothing_and_says_place_requirement_value_and_remedy(finished, case):
    order, text = REFUSALS[case]
    folder = finished(text)
    before = SweepResult.read(folder)
    submit(folder, order)
    launching.answer_orders(folder)
    (refused,) = of_kind(folder, OrderRefused)
    golden = json.loads((ASSETS / "refused_orders.json").read_text())
    assert list(refused.reasons) == golden[case]
    after = SweepResult.read(folder)
    assert after.plan == before.plan
    assert {name: (trial.status, trial.epoch) for name, trial in after.state.trials.items()} == {
        name: (trial.status, trial.epoch) for name, trial in before.state.trials.items()
    }


def test_an_imported_sweep_is_refused_before_an_order_is_written(finished):
    folder = finished(reason="imported from MLflow")
    refusal = (
        "sweep: must be a sweep that was launched, and this one was imported from MLflow: its trials have no models; "
        "use its best points in a new spec: ravel import-mlflow"
    )
    assert ravel(folder, "extend", "--trials", "+1") == (2, f"virtual: refused\n  {refusal}")
    assert book_of(folder).names() == []


def test_a_sweep_without_a_driver_cannot_be_stopped(finished):
    folder = finished(until=12)
    where = f"virtual --storage {folder.path.parent}"
    remedy = f"ravel resume {where} continues it, ravel extend {where} changes it"
    reason = f"virtual: must have a driver to be stopped, and its driver is gone; {remedy}"
    assert ravel(folder, "stop") == (3, reason)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "order: must be an order of format 1: content: Invalid JSON"),
        (b'{"format": 2}', "order: must be an order of format 1: format: Input should be 1, got 2"),
        (b"x" * 1_000_001, "order: must have at most 1,000,000 bytes"),
    ],
    ids=["no JSON", "a later format", "too long"],
)
def test_a_file_that_is_no_order_is_refused_once(finished, content, says):
    folder = finished()
    name = f"000001-{'0c' * 16}.json"
    (folder.path / ORDERS).mkdir()
    (folder.path / ORDERS / name).write_bytes(content)
    launching.answer_orders(folder)
    launching.answer_orders(folder)
    (refused,) = of_kind(folder, OrderRefused)
    assert refused.order == "0c" * 16
    assert refused.reasons[0].startswith(says)


def test_a_link_out_of_the_folder_is_no_order(finished, tmp_path, caplog):
    folder = finished()
    order = extend_order(now=0.0, trials="+1")
    outside = tmp_path / "outside.json"
    outside.write_text(order.model_dump_json())
    (folder.path / ORDERS).mkdir()
    (folder.path / ORDERS / f"000001-{order.id}.json").symlink_to(outside)
    assert list(unanswered(book_of(folder), ())) == []
    assert "an order must be a file of this folder, no link and no folder" in caplog.text


def test_a_folder_that_cannot_be_written_is_named_with_a_remedy(finished):
    folder = finished()
    (folder.path / ORDERS).write_text("a file where the folder of the orders would be")
    with pytest.raises(StorageError) as error:
        submit(folder, extend_order(now=0.0, trials="+1"))
    where = f"virtual --storage {folder.path.parent}"
    assert str(error.value) == (
        f"{folder.path}/orders: must be a folder that this user can write, to order something (Not a directory); have"
        f" its owner do it, or get write access; to look at the sweep: ravel status {where}"
    )


def test_an_order_that_finds_no_room_on_the_disk_says_so(finished, monkeypatch):
    folder = finished()

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(book, "create_exclusively", refuse)
    with pytest.raises(
        StorageError, match=r"\(No space left on device\); free some space; to look at the sweep: ravel"
    ):
        submit(folder, extend_order(now=0.0, trials="+1"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trials", "many"], "--trials: must be +N for N more, or their number in all; got 'many'"),
        (
            ["--trials", "+1", "--set", "search.num_trials=4"],
            "--trials: must be the one place with a number of trials; leave the rest out",
        ),
        (["--add-point", "nowhere.yaml"], "nowhere.yaml: cannot be read: No such file or directory"),
        (["--add-point", "/dev/zero"], "/dev/zero: must have at most 1,000,000 characters"),
        (["--add-point", "/"], "/: cannot be read: Is a directory"),
    ],
)
def test_wrong_arguments_are_refused_before_an_order_is_written(finished, arguments, says):
    folder = finished()
    assert ravel(folder, "extend", *arguments) == (SpecError.exit_code, says)
    assert book_of(folder).names() == []


class Killed(BaseException):
    """Stands for SIGKILL: from the fault on the driver writes nothing more."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_driver_that_is_killed_at_any_event_of_an_order_loses_and_doubles_nothing(finished, monkeypatch, when):
    """The first driver dies before or after its second event, each next one too, until nothing is left to do."""
    folder = finished()
    submit(folder, extend_order(now=0.0, trials="+2", settings=["trial.epochs=27"]))
    submit(folder, stop_order(now=0.0, generation=1, trials=["t001"]))
    append, counts = EventLog.append, {"left": 0, "kills": 0}

    def dying(self, event, body=None):
        counts["left"] -= 1
        if counts["left"] < 0 or (counts["left"] == 0 and when == "before"):
            counts["kills"] += counts["left"] == 0
            raise Killed
        append(self, event, body)
        if counts["left"] == 0:
            counts["kills"] += 1
            raise Killed

    monkeypatch.setattr(EventLog, "append", dying)
    for events in [2 if when == "after" else 3] * 12:
        counts["left"] = events
        with suppress(Killed):
            launching.answer_orders(folder)
    monkeypatch.setattr(EventLog, "append", append)
    assert counts["kills"] >= 8
    assert_once(folder)


def assert_once(folder):
    """Assert that both orders were answered once, and the accepted one carried out once."""
    launching.answer_orders(folder)
    events = events_of(folder)
    assert len(of_kind(folder, OrderAccepted)) == len(of_kind(folder, OrderRefused)) == 1
    assert [event.trial for event in of_kind(folder, TrialReopened)] == ["t000", "t003", "t008"]
    state = SweepState(events)
    assert (state.to_reopen, state.to_stop) == ({}, {})
    decided = [(event.trial, event.rung) for event in events if event.kind == "rung_decided"]
    assert len(decided) == len(set(decided))
    assert {("t000", 9), ("t003", 9), ("t008", 9)} <= set(decided)
    assert replay(SweepPlan.load(folder), events).differences == ()


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator import launching
from orchestrator.state import event_log
from orchestrator.state.sweep_folder import SweepFolder

when, append = sys.argv[2], event_log.EventLog.append

def dying(self, event, body=None):
    if event.kind == "order_accepted" and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, event, body)
    if event.kind == "order_accepted":
        os.kill(os.getpid(), signal.SIGKILL)

event_log.EventLog.append = dying
launching.answer_orders(SweepFolder(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_sigkill_between_the_order_and_its_event_and_between_the_event_and_its_action(finished, tmp_path, when):
    folder = finished()
    submit(folder, extend_order(now=0.0, trials="+2", settings=["trial.epochs=27"]))
    submit(folder, stop_order(now=0.0, generation=1, trials=["t001"]))
    command = [sys.executable, "-c", KILLED, str(folder.path), when]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=with_path())
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(of_kind(folder, OrderAccepted)) == (when == "after")
    assert of_kind(folder, TrialReopened) == []
    assert_once(folder)


def with_path():
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_a_stop_of_a_trial_survives_its_driver(finished):
    """The driver dies after it has accepted the order, and before the trial has left its worker."""
    folder = finished(until=10)
    state = SweepState(events_of(folder))
    name = next(iter(state.with_status("running"))).id
    with EventLog(folder.events) as log:
        log.append(
            OrderAccepted(time=state.last_time, order="0a" * 16, action="stop", author="ada@here", trials=(name,))
        )
    launching.answer_orders(folder)
    launching.answer_orders(folder)
    ended = [event for event in of_kind(folder, TrialEnded) if event.trial == name]
    assert [(event.status, event.reason) for event in ended] == [("stopped", "ordered by ada@here")]


def test_an_order_names_who_gave_it_and_is_read_back():
    order = extend_order(now=1.0, trials="+3", points=[{"optimizer.lr": 0.1}])
    assert "@" in order.author
    assert Order.read(order.model_dump_json().encode()) == order


def test_a_fork_at_a_dashboard_is_refused_with_what_to_do(finished):
    folder = finished()
    code, message = ravel(folder, "fork", "--name", "younger", "--address", "http://10.0.0.5:8265")
    assert code == SpecError.exit_code
    assert message == (
        "--address: must be local, processes, auto or HOST:PORT to fork a sweep, got 'http://10.0.0.5:8265'; "
        "run it on a node of the cluster, with --address auto"
    )
