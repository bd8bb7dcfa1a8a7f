"""Optimizers of a user's own: the same training as ours where they are the same, arguments, rates, checkpoints."""

import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.config.trial import OptimizerConfig, TrialConfig
from trainables.engine import checkpoint as state
from trainables.engine.optimization.optimization import build_optimizer, rate_shares, set_rate
from trainables.engine.optimization.own_optimizers import argument_problems, check_steps
from trainables.errors import ConfigError
from trainables.import_paths import registered
from trainables.tasks.classifier.run import restore, start
from trainables.tasks.registry import CLASSIFIER

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {"epochs": 3, "device": "cpu", "precision": "float32", "evaluation.robust_epsilon": 0.0, "model.name": "mlp"}
LION = {"optimizer.name": "own_optimizer:Lion", "optimizer.lr": 1e-3}
SCHEDULED = {"optimizer.schedule": "step", "optimizer.warmup_epochs": 0.5, "optimizer.clip_norm": 0.5}


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module and returns its name."""

    def write(body):
        name = f"own_optimizers_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text("import torch\nfrom torch.optim import SGD\n\n" + body)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    return write


def config(**point):
    return TrialConfig.from_point({**SMALL, **point})


def trained(**point):
    loop = start(config(**point))
    return loop, loop.run_all()


def weights(loop):
    return torch.cat([value.flatten().double() for value in loop.run.model.state_dict().values()])


def network():
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


# In a configuration


def test_arguments_survive_the_way_to_a_point_and_back_also_through_json():
    settings = config(**LION, **{"optimizer.args.betas": [0.9, 0.95]})
    assert TrialConfig.from_point(settings.to_point()) == settings
    assert TrialConfig.model_validate_json(settings.model_dump_json()) == settings
    assert settings.to_point()["optimizer.args.betas"] == (0.9, 0.95)
    assert CLASSIFIER.accepts("optimizer.args.betas")


def test_a_trial_without_arguments_is_described_as_before():
    assert not [name for name in TrialConfig().to_point() if ".args" in name]
    old = TrialConfig().model_dump()
    del old["optimizer"]["args"], old["mixup"]["args"]
    assert TrialConfig.model_validate(old) == TrialConfig()


def test_reading_a_configuration_imports_no_optimizer():
    TrialConfig.from_point({"optimizer.name": "no_such_module:Lion", "mixup.kind": "no_such_module:mix"})


def test_an_installed_package_registers_an_optimizer(tmp_path, monkeypatch):
    folder = tmp_path / "steps-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: steps\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[ravel.optimizers]\nlion = own_optimizer:Lion\n")
    monkeypatch.syspath_prepend(tmp_path)
    registered.cache_clear()
    try:
        assert type(build_optimizer(OptimizerConfig(name="lion"), network())).__name__ == "Lion"
    finally:
        registered.cache_clear()


# In training


@pytest.mark.parametrize(
    ("ours", "own"),
    [
        ({"optimizer.momentum": 0.8}, {"optimizer.name": "torch.optim:SGD", "optimizer.momentum": 0.8}),
        ({"optimizer.nesterov": True}, {"optimizer.name": "torch.optim:SGD", "optimizer.nesterov": True}),
        ({"optimizer.weight_decay": 0.01}, {"optimizer.name": "torch.optim:SGD", "optimizer.weight_decay": 0.01}),
        (
            {"optimizer.name": "adamw", "optimizer.lr": 1e-3},
            {"optimizer.name": "torch.optim:AdamW", "optimizer.lr": 1e-3},
        ),
    ],
)
def test_torch_by_import_path_trains_as_ours_with_every_schedule_and_limit(ours, own):
    fused = {"optimizer.args.fused": True}
    one, _ = trained(**SCHEDULED, **ours, **{"optimizer.ema_decay": 0.9})
    other, _ = trained(**SCHEDULED, **own, **fused, **{"optimizer.ema_decay": 0.9})
    torch.testing.assert_close(weights(one), weights(other), rtol=1e-12, atol=0)
    averages = [torch.cat([v.flatten() for v in loop.run.average.model.state_dict().values()]) for loop in (one, other)]
    torch.testing.assert_close(*averages, rtol=1e-6, atol=0)


def test_momentum_is_passed_where_the_signature_has_it_and_else_left_out():
    groups = build_optimizer(OptimizerConfig(name="torch.optim:RMSprop"), network()).param_groups
    assert (groups[0]["momentum"], groups[0]["weight_decay"]) == (0.9, 1e-4)
    assert argument_problems(OptimizerConfig(name="torch.optim:Adagrad")) == []


def test_momentum_that_is_stated_and_cannot_be_taken_is_a_problem_even_at_its_default():
    settings = TrialConfig.from_point({"optimizer.name": "torch.optim:Adagrad", "optimizer.momentum": 0.9}).optimizer
    [problem] = argument_problems(settings, stated=settings.model_fields_set)
    assert str(problem) == "optimizer.momentum: must be left out, as Adagrad takes no momentum, got 0.9"
    assert argument_problems(TrialConfig.from_point({"optimizer.name": "torch.optim:Adagrad"}).optimizer) == []


@pytest.mark.parametrize("further", [{}, {"optimizer.ema_decay": 0.9, "mixup.alpha": 1.0}])
@pytest.mark.parametrize(
    "own", [LION, {"optimizer.name": "torch.optim:RMSprop"}, {"optimizer.name": "torch.optim:NAdam"}]
)
def test_a_resumed_trial_ends_in_the_same_bits(own, further, tmp_path):
    point = {**own, **SCHEDULED, "optimizer.lr": 1e-3, **further}
    whole, reports = trained(**point)
    first = start(config(**point))
    first.run_epoch()
    first.save(tmp_path)
    resumed = restore(tmp_path, config=config(**point))
    rest = resumed.run_all()
    assert torch.equal(weights(whole), weights(resumed))
    assert [report.metrics["train/loss"] for report in rest] == [r.metrics["train/loss"] for r in reports[1:]]


def test_the_state_is_in_the_checkpoint_and_is_read_without_code(tmp_path):
    loop = start(config(**LION))
    loop.run_epoch()
    loop.save(tmp_path)
    saved = state.load(tmp_path).optimizer["state"]
    assert all(set(part) == {"average"} and part["average"].any() for part in saved.values())


GROUPS = """
def layered(named_parameters, lr):
    heads = [p for name, p in named_parameters if name.startswith("head")]
    others = [p for name, p in named_parameters if not name.startswith("head")]
    return SGD([{"params": heads, "lr": lr}, {"params": others, "lr": lr / 4}], lr=lr)
"""


def test_groups_of_another_rate_keep_their_share_of_each_scheduled_rate_also_after_a_resume(module, tmp_path):
    point = {"optimizer.name": f"{module(GROUPS)}:layered", "optimizer.schedule": "cosine"}
    whole, _ = trained(**point)
    rates = [group["lr"] for group in whole.run.optimizer.param_groups]
    assert rates[1] == pytest.approx(rates[0] / 4)
    assert 0 < rates[0] < 0.05 / 4
    first = start(config(**point))
    first.run_epoch()
    first.save(tmp_path)
    resumed = restore(tmp_path, config=config(**point))
    resumed.run_all()
    assert torch.equal(weights(whole), weights(resumed))


NAMED = """
seen = []

def named(named_parameters, lr):
    seen.extend(name for name, _ in named_parameters)
    return SGD([parameter for _, parameter in named_parameters], lr=lr)
"""


def test_names_are_those_of_the_users_own_network(module):
    name = module(NAMED)
    start(config(**{"optimizer.name": f"{name}:named", "model.name": "torchvision:mnasnet0_5"}))
    import importlib

    seen = importlib.import_module(name).seen
    assert seen[0] == "layers.0.weight"
    assert seen[-1] == "classifier.1.bias"


def test_parameters_that_are_not_trained_are_not_passed():
    model = network()
    model[0].requires_grad_(requires_grad=False)
    [group] = build_optimizer(OptimizerConfig(name="torch.optim:Adagrad"), model).param_groups
    assert [parameter is own for parameter, own in zip(group["params"], model[2].parameters(), strict=True)] == [
        True
    ] * 2


def test_a_rate_is_set_in_every_group_by_its_share():
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.1, 0.3)])
    shares = rate_shares(optimizer, OptimizerConfig(lr=0.1))
    set_rate(optimizer, 0.05, shares=shares)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.15])


# Before a sweep

WHY_NOT = {
    "LBFGS": "LBFGS.step requires closure",
    "SparseAdam": "does not support dense gradients",
    "Muon": "only supports 2D parameters",
    "Rprop": "makes the same step at a rate of 0",
    "ASGD": "makes the same step at a rate of 0",
}
EVERY = sorted(
    name for name, value in vars(torch.optim).items()
    if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
)  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_every_optimizer_of_torch_is_taken_or_refused_for_a_reason(name):
    settings = OptimizerConfig(name=f"torch.optim:{name}", lr=0.01)
    if name in WHY_NOT:
        with pytest.raises(ConfigError, match=WHY_NOT[name]):
            check_steps(settings, network())
    else:
        check_steps(settings, network())


@pytest.mark.parametrize("name", ["Rprop", "ASGD"])
def test_a_rate_that_is_not_read_is_no_problem_without_a_schedule(name):
    check_steps(OptimizerConfig(name=f"torch.optim:{name}", schedule="constant"), network())


def test_the_check_leaves_the_model_and_the_global_generator_alone():
    model, before = network(), torch.get_rng_state()
    copies = [parameter.clone() for parameter in model.parameters()]
    check_steps(OptimizerConfig(name="own_optimizer:Lion"), model)
    assert all(map(torch.equal, copies, model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), before)
