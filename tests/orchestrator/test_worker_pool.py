"""Worker processes by themselves: started by a fork server, or as a new Python; what they reply, and how they end."""

import os
import signal
import time
from pathlib import Path

import pytest
from waiting import until

from orchestrator.errors import PreflightError
from orchestrator.execution.processes.pool import Lost, WorkerPool
from orchestrator.execution.processes.slots import Slot
from trainables.errors import CheckpointError

pytestmark = pytest.mark.timeout(300)
POINT = {"data.name": "digits", "model.name": "mlp", "model.width": 0.25, "epochs": 2, "device": "cpu", "seed": 3}
CONFIG = {**POINT, "ravel.objectives": ["val/accuracy"]}
ON_CPU, ON_GPU = Slot(0), Slot(1, "7")
SLEEPER = """
import pathlib, subprocess
def train(context):
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path("child").write_text(str(child.pid))
    for _ in range(context.epoch, context.epochs):
        yield {"loss": 1.0}
"""


@pytest.fixture(scope="module")
def shared():
    """A pool for tests that leave its server alone."""
    with WorkerPool(cpus=1, environ=os.environ) as pool:
        yield pool


def replies(pool, worker, number):
    """Return the next messages of a worker."""
    received, deadline = [], time.monotonic() + 200
    while len(received) < number:
        assert time.monotonic() < deadline, received
        received += [message for sender, message in pool.messages(timeout_s=0.5) if sender is worker]
    return received


def begin(worker, folder, config=CONFIG, lane=0):
    worker.send({"begin": lane, "config": config, "folder": str(folder)})


def trained(pool, slot, folder, config=CONFIG):
    """Have a new worker train an epoch; return it with its result."""
    worker = pool.start(slot)
    begin(worker, folder / "t000-1-g1", config)
    worker.send({"step": [0]})
    begun, stepped = replies(pool, worker, 2)
    assert begun == {"lane": 0, "begun": True}
    (stepped,) = stepped["results"]
    assert stepped["lane"] == 0
    return worker, stepped["result"]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_the_end(pid):
    until(lambda: not is_alive(pid), said=lambda: f"process {pid} runs")


def test_a_forked_worker_and_a_new_python_train_the_same_epoch(shared, tmp_path):
    results = {}
    for slot in (ON_CPU, ON_GPU):
        (tmp_path / str(slot.number)).mkdir()
        worker, results[slot] = trained(shared, slot, tmp_path / str(slot.number))
        command = Path(f"/proc/{results[slot]['pid']}/cmdline").read_text()
        assert ("worker.main()" in command) == (slot is ON_GPU), "a GPU's driver survives no fork"
        shared.discard(worker)
    assert results[ON_CPU]["val/accuracy"] == results[ON_GPU]["val/accuracy"]


def test_the_driver_registers_a_worker_once_however_many_messages_it_reads(shared, tmp_path, monkeypatch):
    registered, original = [], shared._selector.register
    monkeypatch.setattr(shared._selector, "register", lambda *what: registered.append(what) or original(*what))
    worker, result = trained(shared, ON_CPU, tmp_path)
    for _ in range(5):
        worker.send({"step": [0]})
        replies(shared, worker, 1)
    assert result["epoch"] == 1
    assert [data for *_, data in registered] == [worker]
    shared.discard(worker)
    assert worker.connection.closed
    assert worker not in [key.data for key in shared._selector.get_map().values()]


def test_a_worker_of_a_slot_sees_the_gpu_of_the_slot_alone(shared, tmp_path):
    worker, result = trained(shared, ON_GPU, tmp_path)
    assert "CUDA_VISIBLE_DEVICES=7" in Path(f"/proc/{result['pid']}/environ").read_text().split("\0")
    shared.discard(worker)


def test_a_worker_saves_a_checkpoint_whole_and_the_next_one_continues_from_it(shared, tmp_path):
    worker, _ = trained(shared, ON_CPU, tmp_path)
    place = tmp_path / "t000-1-g1" / "checkpoint_000000"
    worker.send({"save": 0, "place": str(place)})
    (saved,) = replies(shared, worker, 1)
    assert saved == {"lane": 0, "saved": (place / "state.pt").stat().st_size}
    assert not list(place.parent.glob("*.partial"))
    worker.send({"end": 0})
    begin(worker, tmp_path / "t000-2-g1", {**CONFIG, "ravel.checkpoint": str(place)})
    worker.send({"step": [0]})
    second = replies(shared, worker, 2)[1]["results"][0]
    assert (second["result"]["epoch"], second["result"]["done"]) == (2, True)
    assert second["result"]["iterations_since_restore"] == 1
    worker.send({"drop": 0, "places": [str(place), str(place)]})
    worker.send({"save": 0, "place": str(tmp_path / "t000-2-g1" / "checkpoint_000000")})
    replies(shared, worker, 1)
    assert not place.exists(), "dropped before the next reply, and twice is no error"
    shared.discard(worker)


@pytest.mark.parametrize(
    ("config", "cause", "reason"),
    [
        ({**CONFIG, "optimizer.lrr": 1.0}, "user", "ConfigError: optimizer.lrr: unknown parameter"),
        ({**CONFIG, "ravel.checkpoint": "/nowhere"}, "infrastructure", CheckpointError.__name__),
    ],
)
def test_an_error_in_a_worker_is_replied_as_whose_fault_it_is(shared, tmp_path, config, cause, reason):
    worker = shared.start(ON_CPU)
    begin(worker, tmp_path / "t000-1-g1", config)
    worker.send({"step": [0]})
    (failed,) = replies(shared, worker, 2)[1]["results"]
    assert failed["error"]["cause"] == cause
    assert failed["error"]["reason"].startswith(reason)
    assert "Traceback" in failed["error"]["traceback"]
    shared.discard(worker)


def test_lanes_of_a_worker_train_and_fail_each_by_itself_and_all_leave_at_sigterm(shared, tmp_path):
    worker = shared.start(ON_CPU)
    wrong = {**CONFIG, "optimizer.lrr": 1.0}
    for lane, config in enumerate([CONFIG, wrong, {**CONFIG, "seed": 4}, {**CONFIG, "batch_size": 64}]):
        begin(worker, tmp_path / f"t00{lane}-1-g1", config, lane)
    worker.send({"step": [0, 1, 2, 3]})
    *_, stepped = replies(shared, worker, 5)
    assert [reply["lane"] for reply in stepped["results"]] == [0, 1, 2, 3]
    assert [sorted({"result", "error"} & set(reply)) for reply in stepped["results"]] == [
        ["result"],
        ["error"],
        ["result"],
        ["result"],
    ]
    assert "shared" not in stepped["results"][1]
    assert {reply["result"]["epoch"] for reply in stepped["results"] if "result" in reply} == {1}
    worker.send({"end": 1})
    os.kill(stepped["results"][0]["result"]["pid"], signal.SIGTERM)
    worker.send({"step": [0, 2, 3]})
    (left,) = replies(shared, worker, 1)
    assert {reply["result"]["leaving"] for reply in left["results"]} == {"its worker got SIGTERM"}
    shared.discard(worker)


def test_a_request_that_a_worker_does_not_know_is_an_error(shared):
    worker = shared.start(ON_CPU)
    worker.send({"train": 0})
    (failed,) = replies(shared, worker, 1)
    assert "request: must be begin, step, save, drop, end or measure, got train" in failed["error"]["reason"]
    shared.discard(worker)


def test_a_killed_worker_is_reported_with_its_signal_and_takes_what_it_started_with_it(shared, tmp_path):
    child = tmp_path / "child"
    (tmp_path / "sleeper.py").write_text(SLEEPER.replace('"child"', repr(str(child))))
    config = {"task": "sleeper:train", "epochs": 2, "seed": 1, "device": "cpu", "ravel.objectives": ["loss"]}
    worker, result = trained(shared, ON_CPU, tmp_path, {**config, "ravel.working_directory": str(tmp_path)})
    started = int(child.read_text())
    assert is_alive(started)
    os.kill(result["pid"], signal.SIGKILL)
    (lost,) = replies(shared, worker, 1)
    assert isinstance(lost, Lost)
    assert (lost.error.cause, lost.error.reason.partition(":")[0]) == ("infrastructure", "SIGKILL")
    assert lost.is_own
    wait_for_the_end(started)


def test_workers_end_with_the_pool_the_idle_ones_and_those_that_train(tmp_path):
    with WorkerPool(cpus=1, environ=os.environ) as pool:
        (tmp_path / "idle").mkdir()
        idle, first = trained(pool, ON_CPU, tmp_path / "idle")
        busy, second = trained(pool, ON_CPU, tmp_path, {**CONFIG, "epochs": 500})
        busy.send({"step": [0]})
        pool.release([busy])
        wait_for_the_end(first["pid"])
        wait_for_the_end(second["pid"])
    assert idle.connection.closed


def test_another_server_takes_the_place_of_one_that_was_killed(tmp_path):
    with WorkerPool(cpus=1, environ=os.environ) as pool:
        worker, result = trained(pool, ON_CPU, tmp_path)
        os.kill(pool._server.pid, signal.SIGKILL)
        (lost,) = replies(pool, worker, 1)
        assert isinstance(lost, Lost)
        assert not lost.is_own
        wait_for_the_end(result["pid"])  # by the kernel
        (tmp_path / "again").mkdir()
        trained(pool, ON_CPU, tmp_path / "again")


def test_a_server_that_cannot_start_says_why(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('this torch is broken')\n")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with (
        WorkerPool(cpus=1, environ=environ) as pool,
        pytest.raises(PreflightError, match=r"--address processes: workers cannot be started .*this torch is broken"),
    ):
        pool.wait_ready()


def test_a_process_with_a_thread_is_not_forked(tmp_path):
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("OpenBLAS starts no thread on one core")
    with WorkerPool(cpus=1, environ=environ) as pool:
        _, result = trained(pool, ON_CPU, tmp_path)
        assert "worker.main()" in Path(f"/proc/{result['pid']}/cmdline").read_text()
