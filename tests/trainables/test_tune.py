"""The Tune trainable driven as Tune drives it, without a cluster."""

import json
import math

import pytest
import torch

pytest.importorskip("ray.tune")

from trainables.config.trial import TrialConfig
from trainables.engine.epoch_loop import EpochLoop
from trainables.errors import CheckpointError, ConfigError, TrialFailed, WorkerUnusable
from trainables.tasks.classifier import run as classifier
from trainables.tasks.classifier.training import train
from trainables.tune import ClassifierTrainable

POINT = {"model.name": "mlp", "model.width": 0.25, "epochs": 3, "evaluation.robust_images": 40}
ORDERS = {"ravel.objectives": ["val/accuracy", "val/robust_accuracy"], "ravel.trial": "t0", "ravel.attempt": 0}


@pytest.fixture
def start(trainables_of):
    return trainables_of(ClassifierTrainable)


def results_of(trainable):
    results = [trainable.train()]
    while not results[-1]["done"]:
        results.append(trainable.train())
    return results


def event_of(result):
    return json.loads(result["event"], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def ended_of(result):
    return json.loads(result["ended"])


def steady(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith(("time/", "cost/"))}


def test_trains_one_epoch_per_step_to_the_results_of_train(start):
    results = results_of(start(**POINT, **ORDERS))
    expected = train(TrialConfig.from_point(POINT)).reports
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert [result["done"] for result in results] == [False, False, True]
    for result, report in zip(results, expected, strict=True):
        event = event_of(result)
        assert event["epoch"] == report.epoch
        assert "ended" not in result
        assert steady(event["metrics"]) == steady(report.metrics)


def test_a_result_for_the_orchestrator_is_its_objectives_and_one_event(start):
    trainable = start(**POINT, **ORDERS)
    result = trainable.step()
    assert set(result) == {"val/accuracy", "val/robust_accuracy", "epoch", "event", "done", "should_checkpoint"}
    assert 0 <= result["val/accuracy"] <= 1
    assert math.isnan(result["val/robust_accuracy"]), "not measured before the last epoch"


def test_a_result_in_plain_tune_is_the_metrics(start):
    results = results_of(start(**POINT, **{"snnl.weight": None}))
    assert results[0]["val/accuracy"] > 0
    assert "val/robust_accuracy" in results[-1]
    assert "event" not in results[0]
    assert "should_checkpoint" not in results[0]


def test_checkpoints_are_asked_for_at_the_chosen_epochs_and_the_last(start):
    results = results_of(start(**{**POINT, "epochs": 4}, **ORDERS, **{"ravel.checkpoint_epochs": [2]}))
    assert [result["should_checkpoint"] for result in results] == [False, True, False, True]


def test_a_checkpoint_is_asked_for_when_the_last_one_is_old(start, monkeypatch, tmp_path):
    trainable = start(**{**POINT, "epochs": 9}, **ORDERS)
    now = [trainable._saved_at_s]
    monkeypatch.setattr("trainables.trial_training.time.monotonic", lambda: now[0])
    asked = []
    for seconds in (10, 10, 15, 10):
        now[0] += seconds
        asked.append(trainable.train()["should_checkpoint"])
        if asked[-1]:
            trainable.save(str(tmp_path / "checkpoint"))
    assert asked == [False, False, True, False]


def test_restored_trainable_continues_with_the_next_epoch_bit_for_bit(start, tmp_path):
    first = start(**POINT, **ORDERS)
    first.train()
    first.save(str(tmp_path / "checkpoint"))
    second = start(**POINT, **ORDERS)
    second.restore(str(tmp_path / "checkpoint"))
    assert [steady(event_of(result)["metrics"]) for result in results_of(second)] == [
        steady(event_of(result)["metrics"]) for result in results_of(first)
    ]


def test_a_trial_starts_from_the_checkpoint_it_is_given(start, tmp_path):
    loop = classifier.start(TrialConfig.from_point(POINT))
    loop.run_epoch()
    loop.save(tmp_path / "checkpoint")
    result = start(**POINT, **ORDERS, **{"ravel.checkpoint": str(tmp_path / "checkpoint")}).train()
    assert result["epoch"] == 2


def test_a_checkpoint_before_the_first_step_is_that_of_epoch_zero(start, tmp_path):
    start(**POINT, **ORDERS).save(str(tmp_path / "checkpoint"))
    assert classifier.restore(tmp_path / "checkpoint").epoch == 0


def test_a_trial_that_was_complete_is_done_without_training_again(start, tmp_path):
    trainable = start(**POINT, **ORDERS)
    results_of(trainable)
    trainable.save(str(tmp_path / "checkpoint"))
    restored = start(**POINT, **ORDERS)
    restored.restore(str(tmp_path / "checkpoint"))
    result = restored.train()
    assert (result["done"], result["epoch"], result["should_checkpoint"]) == (True, 3, False)
    assert not {"event", "ended"} & set(result)


def test_a_digest_that_fails_costs_no_epoch(start, monkeypatch, caplog):
    def gone(_config):
        raise FileNotFoundError("data.root: no such folder")

    monkeypatch.setattr("trainables.trial_training.digest_of", gone)
    result = start(**POINT, **ORDERS).train()
    event = event_of(result)
    assert (event["epoch"], event["data"]) == (1, None)
    assert "ended" not in result
    assert "val/accuracy" in event["metrics"]
    assert "no such folder" in caplog.text


def test_a_reused_actor_trains_the_next_trial_from_its_beginning(start):
    trainable = start(**POINT, **ORDERS)
    results_of(trainable)
    other = {**POINT, "optimizer.lr": 0.2, "seed": 5}
    assert trainable.reset({**other, **ORDERS}) is True
    assert trainable._loop is None, "the finished trial's tensors are let go"
    results = results_of(trainable)
    expected = train(TrialConfig.from_point(other)).reports
    assert [steady(event_of(result)["metrics"]) for result in results] == [
        steady(report.metrics) for report in expected
    ]


def test_an_actor_is_reused_after_a_trial_that_diverged(start):
    trainable = start(**POINT, **ORDERS, **{"optimizer.lr": 1e9})
    assert ended_of(results_of(trainable)[-1])["status"] == "diverged"
    assert trainable.reset({**POINT, **ORDERS}) is True
    assert "ended" not in trainable.train()


def test_a_diverged_trial_ends_with_a_result(start):
    result = results_of(start(**POINT, **ORDERS, **{"optimizer.lr": 1e9}))[-1]
    ended = ended_of(result)
    assert result["done"]
    assert not result["should_checkpoint"]
    assert "event" not in result
    assert ended["status"] == "diverged"
    assert ended["reason"].startswith("Diverged: epoch ")
    assert "\n" not in ended["reason"]
    assert "Traceback" in ended["traceback"]
    assert math.isnan(result["val/accuracy"])
    assert result["epoch"] >= 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"snnl.layers": "conv1"}, "ConfigError: snnl.layers: 'conv1' is no layer of this model"),
        ({"optimizer.lrr": 1.0}, "ConfigError: optimizer.lrr: unknown parameter"),
        ({"data.name": "mnist"}, "DatasetMissing: data.name: the data set 'mnist' is not available"),
        ({"device": "cuda:99"}, ""),
    ],
    ids=["layer", "name", "data", "device"],
)
def test_a_mistake_of_the_trial_is_raised_as_its_own(start, wrong, reason):
    with pytest.raises(TrialFailed) as caught:
        start(**POINT, **ORDERS, **wrong).train()
    assert caught.value.reason.startswith(reason)
    assert "Traceback" in caught.value.traceback


def failing_with(error, monkeypatch):
    def broken(_loop):
        raise error

    monkeypatch.setattr(EpochLoop, "run_epoch", broken)


def test_an_exception_in_training_is_raised_as_the_trials_own(start, monkeypatch):
    trainable = start(**POINT, **ORDERS)
    trainable.train()
    failing_with(ZeroDivisionError("in the second epoch"), monkeypatch)
    with pytest.raises(TrialFailed) as caught:
        trainable.train()
    assert caught.value.reason == "ZeroDivisionError: in the second epoch"
    assert "in broken" in caught.value.traceback


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors ..."),
            "the device is unusable: AcceleratorError: CUDA error: device-side assert triggered",
        ),
        (OSError(28, "No space left on device"), "the machine lacks something: OSError: [Errno 28] No space left"),
        (
            MemoryError(),
            "the machine is out of memory: MemoryError; lower batch_size or model.width; or run fewer",
        ),
    ],
    ids=["device", "machine", "memory"],
)
def test_an_error_of_the_device_or_the_machine_is_not_blamed_on_the_trial(start, monkeypatch, error, reason):
    trainable = start(**POINT, **ORDERS)
    failing_with(error, monkeypatch)
    with pytest.raises(WorkerUnusable) as caught:
        trainable.train()
    assert caught.value.reason.startswith(reason)
    assert "in broken" in caught.value.traceback


def exhausting(monkeypatch):
    """Train with a GPU that is too small, as torch says it."""
    from trainables.tasks.classifier.run import ClassifierRun

    def exhausted(_run, _epoch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(ClassifierRun, "train_epoch", exhausted)


@pytest.mark.parametrize(("gpus", "kind"), [(1, TrialFailed), (0.5, WorkerUnusable), (0.25, WorkerUnusable)])
def test_out_of_memory_is_the_trials_own_fault_on_a_gpu_of_its_own_alone(start, monkeypatch, gpus, kind):
    exhausting(monkeypatch)
    monkeypatch.setattr(ClassifierTrainable, "trial_resources", Resources(1, gpus))
    trainable = start(**POINT, **ORDERS, batch_size=64)
    with pytest.raises(
        kind, match="batch_size: 64 images do not fit into the memory of cpu; lower batch_size"
    ) as caught:
        trainable.train()
    assert ("run fewer trials on a GPU" in str(caught.value)) == (kind is WorkerUnusable)
    assert trainable._loop is None, "its tensors are released at once, for the neighbours"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_trial_that_fills_the_gpu_says_what_to_lower_and_leaves_it_usable(start):
    trainable = start(**POINT, **ORDERS, device="cuda")
    trainable.train()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
    try:
        with pytest.raises(TrialFailed, match=r"lower batch_size or model\.width"):
            start(**{**POINT, "model.width": 200.0}, **ORDERS, device="cuda", batch_size=1000).train()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "ended" not in trainable.train()


def test_an_error_while_a_trial_is_restored_is_its_own_too(start, tmp_path):
    first = start(**POINT, **ORDERS)
    first.train()
    first.save(str(tmp_path / "checkpoint"))
    second = start(**POINT, **ORDERS, **{"optimizer.lrr": 1.0})
    with pytest.raises(TrialFailed, match="unknown parameter"):
        second.restore(str(tmp_path / "checkpoint"))


def test_an_ended_trial_stays_ended_across_its_checkpoint(start, tmp_path):
    trainable = start(**POINT, **ORDERS, **{"optimizer.lr": 1e9})
    ended = ended_of(results_of(trainable)[-1])
    trainable.save(str(tmp_path / "checkpoint"))
    assert not (tmp_path / "checkpoint" / "state.pt").exists()
    restored = start(**POINT, **ORDERS, **{"optimizer.lr": 1e9})
    restored.restore(str(tmp_path / "checkpoint"))
    assert ended_of(restored.train()) == ended


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint"])
def test_an_unreadable_checkpoint_raises_so_that_tune_retries(start, tmp_path, damage):
    (tmp_path / "state.pt").write_bytes(damage)
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        start(**POINT, **ORDERS, **{"ravel.checkpoint": str(tmp_path)}).train()
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        start(**POINT, **ORDERS).restore(str(tmp_path))


def test_a_metric_that_is_not_finite_is_null_in_the_event(start, monkeypatch):
    trainable = start(**POINT, **ORDERS)
    real = EpochLoop.run_epoch

    def run_epoch(loop):
        report = real(loop)
        return type(report)(report.epoch, {**report.metrics, "val/ece": math.inf})

    monkeypatch.setattr(EpochLoop, "run_epoch", run_epoch)
    assert event_of(trainable.train())["metrics"]["val/ece"] is None


def test_tune_keys_for_others_are_ignored_and_none_is_absent(start):
    result = start(**POINT, **ORDERS, **{"ravel.something": {"new": 1}, "mixup.alpha": None}).train()
    assert "event" in result
    assert "ended" not in result


class Resources:
    def __init__(self, cpus, gpus=0):
        self.bundles = [{"CPU": cpus, "GPU": gpus}]


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (2, 2), (0.5, 1), (0, 1)])
def test_torch_uses_the_cpus_of_the_trial(start, monkeypatch, cpus, threads):
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "")  # a user's setting: the process of the tests keeps it
    monkeypatch.setattr(ClassifierTrainable, "trial_resources", Resources(cpus))
    start(**POINT)
    assert torch.get_num_threads() == threads


def test_the_config_error_of_a_trial_is_that_of_from_point():
    with pytest.raises(ConfigError, match="unknown parameter"):
        TrialConfig.from_point({"optimizer.lrr": 1.0})
