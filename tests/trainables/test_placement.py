"""Placement: one value decides the device, the precision and the share of each batch, for every task."""

import pytest
import torch

from trainables.config.trial import TrialConfig
from trainables.engine.placement import Placement, placement_of
from trainables.engine.share import Share
from trainables.errors import ConfigError
from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.gan import GanConfig
from trainables.tasks.registry import task_of

CPU = Placement(torch.device("cpu"))
POINTS = {
    "classifier": {"model.name": "mlp", "epochs": 1, "precision": "bfloat16"},
    "gan": {"task": "gan", "epochs": 1, "batch_size": 500, "evaluation.images": 40},
}


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="needs a machine without an eighth GPU")
@pytest.mark.parametrize("task", POINTS)
def test_a_trial_runs_where_its_placement_says_whatever_device_its_configuration_names(task, tmp_path):
    point = {**POINTS[task], "device": "cuda:7"}
    config = task_of(point).from_point(point)
    with pytest.raises(ConfigError, match="device: must be one of"):
        task_of(point).start(config)
    loop = task_of(point).start(config, placement=CPU)
    assert loop.run.placement is CPU
    assert loop.run_epoch().metrics["cost/gpu_s"] == 0
    loop.save(tmp_path)
    assert task_of(point).restore(str(tmp_path), config=config, placement=CPU).epoch == 1


@pytest.mark.parametrize("config", [GanConfig(device="cpu"), FunctionConfig(device="cpu")], ids=["gan", "function"])
def test_a_task_without_a_parameter_of_precision_trains_in_float32(config):
    assert placement_of(config) == CPU


def test_the_precision_of_a_classifier_is_that_of_its_configuration():
    assert placement_of(TrialConfig(device="cpu", precision="bfloat16")).precision == torch.bfloat16


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_the_shares_of_all_ranks_are_the_batch_in_order(world_size):
    batch = torch.arange(24).reshape(12, 2)
    shares = [Share(rank, world_size).rows(batch) for rank in range(world_size)]
    assert torch.equal(torch.cat(shares), batch)
    assert {len(share) for share in shares} == {12 // world_size}


@pytest.mark.parametrize(("rank", "world_size"), [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_outside_its_world_cannot_be_made(rank, world_size):
    with pytest.raises(ValueError, match=f"rank: must be >= 0 and < world_size .{world_size}., got {rank}"):
        Share(rank, world_size)
