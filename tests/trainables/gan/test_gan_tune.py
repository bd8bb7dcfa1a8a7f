"""The Tune trainable of network pairs, driven as Tune drives it, without a cluster."""

import json
import math

import pytest

pytest.importorskip("ray.tune")

from trainables.errors import CheckpointError, TrialFailed
from trainables.tasks.gan import GanConfig, train_gan
from trainables.tasks.gan.run import restore
from trainables.tune import TrialTrainable

POINT = {
    "batch_size": 500,
    "epochs": 3,
    "gan.generator_width": 0.25,
    "gan.discriminator_width": 0.25,
    "evaluation.images": 40,
    "evaluation.mode_images": 64,
}
OBJECTIVE = "val/real_fake_entanglement"
ORDERS = {"ravel.objectives": [OBJECTIVE], "ravel.trial": "t0", "ravel.checkpoint_epochs": [2]}


@pytest.fixture
def start(trainables_of):
    start = trainables_of(TrialTrainable)
    return lambda **config: start(task="gan", **config)


def results_of(trainable):
    results = [trainable.train()]
    while not results[-1]["done"]:
        results.append(trainable.train())
    return results


def steady(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def metrics_of(results):
    return [steady(json.loads(result["event"])["metrics"]) for result in results]


def expected_of(point):
    return [steady(report.metrics) for report in train_gan(GanConfig.from_point(point)).reports]


def test_trains_one_epoch_per_step_to_the_results_of_train_gan(start):
    results = results_of(start(**POINT, **ORDERS))
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert [result["done"] for result in results] == [False, False, True]
    assert [result["should_checkpoint"] for result in results] == [False, True, True]
    assert metrics_of(results) == expected_of(POINT)
    assert [result[OBJECTIVE] for result in results] == [each[OBJECTIVE] for each in metrics_of(results)]


def test_a_result_for_the_orchestrator_is_its_objectives_and_one_event(start):
    result = start(**POINT, **ORDERS).step()
    assert set(result) == {OBJECTIVE, "epoch", "event", "done", "should_checkpoint"}
    assert json.loads(result["event"])["data"] is not None


def test_a_result_in_plain_tune_is_the_metrics(start):
    result = start(**POINT).train()
    assert 0 <= result[OBJECTIVE] <= result["val/real_fake_chance"]
    assert "event" not in result


def test_restored_trainable_continues_with_the_next_epoch_bit_for_bit(start, tmp_path):
    first = start(**POINT, **ORDERS)
    first.train()
    first.save(str(tmp_path / "checkpoint"))
    second = start(**POINT, **ORDERS)
    second.restore(str(tmp_path / "checkpoint"))
    third = start(**POINT, **ORDERS, **{"ravel.checkpoint": str(tmp_path / "checkpoint")})
    assert metrics_of(results_of(second)) == metrics_of(results_of(third)) == metrics_of(results_of(first))


def test_a_reused_actor_trains_the_next_trial_from_its_beginning(start):
    trainable = start(**{**POINT, "epochs": 1}, **ORDERS)
    results_of(trainable)
    other = {**POINT, "epochs": 1, "gan.generator_snnl": 1.0, "seed": 5}
    assert trainable.reset({"task": "gan", **other, **ORDERS}) is True
    assert trainable._loop is None, "the finished trial's tensors are let go"
    assert metrics_of(results_of(trainable)) == expected_of(other)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"snnl.weight": 0.1}, "ConfigError: snnl.weight: unknown parameter"),
        ({"gan.classifier": "/nowhere"}, "ConfigError: gan.classifier: must be a checkpoint"),
    ],
    ids=["name", "classifier"],
)
def test_a_mistake_of_the_trial_is_raised_as_its_own(start, wrong, reason):
    with pytest.raises(TrialFailed) as caught:
        start(**POINT, **ORDERS, **wrong).train()
    assert caught.value.reason.startswith(reason)


def test_a_diverged_trial_ends_with_a_result(start):
    result = results_of(start(**POINT, **ORDERS, **{"gan.generator_lr": 1e30, "gan.discriminator_lr": 1e30}))[-1]
    ended = json.loads(result["ended"])
    assert ended["status"] == "diverged"
    assert ended["reason"].startswith("Diverged: epoch ")
    assert math.isnan(result[OBJECTIVE])


def test_an_unreadable_checkpoint_raises_so_that_tune_retries(start, tmp_path):
    (tmp_path / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        start(**POINT, **ORDERS, **{"ravel.checkpoint": str(tmp_path)}).train()


def test_a_checkpoint_before_the_first_step_is_that_of_epoch_zero(start, tmp_path):
    start(**POINT, **ORDERS).save(str(tmp_path / "checkpoint"))
    assert restore(tmp_path / "checkpoint").epoch == 0
