"""`LightningModule`s of users: their epochs, their state, what they log, and what they do wrong."""

import random
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from trainables._torchvision import import_torchvision
from trainables.engine import checkpoint
from trainables.errors import CheckpointError, ConfigError, FunctionFailed
from trainables.tasks.registry import task_of

import_torchvision()  # Lightning imports it, and fails on wheels that this function repairs
pytest.importorskip("pytorch_lightning")

pytestmark = [
    pytest.mark.usefixtures("lits"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),  # Lightning 2.6 on torch 2.13
]
CODE = """
import random

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

calls = []


def points():
    x = torch.randn(120, 6)
    return TensorDataset(x, x[:, :3].argmax(1))


class Net(pl.LightningModule):
    def __init__(self, width: int = 8, lr: float = 0.05, dropout: float = 0.2, schedule: str = "step"):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 3)
        )

    def loss(self, batch):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch, index):
        loss = self.loss(batch)
        self.log("step_loss", loss)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), self.hparams.lr)
        schedulers = torch.optim.lr_scheduler
        if self.hparams.schedule == "plateau":
            plateau = schedulers.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        if self.hparams.schedule == "one_cycle":
            steps = self.trainer.estimated_stepping_batches
            calls.append(("steps", steps))
            return [optimizer], [{"scheduler": schedulers.OneCycleLR(optimizer, 0.1, steps), "interval": "step"}]
        return [optimizer], [schedulers.StepLR(optimizer, 1, 0.7)]


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16):
        super().__init__()
        self.batch_size = batch_size

    def prepare_data(self):
        calls.append("prepare")

    def setup(self, stage):
        calls.append(stage)
        self.train, self.val = random_split(points(), [80, 40])

    def train_dataloader(self):
        calls.append("loader")
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, 40)

    def teardown(self, stage):
        calls.append("end")
        del self.train


class Own(Net):
    '''Has dataloaders, and a split in its set-up.'''

    def setup(self, stage):
        self.parts = random_split(points(), [80, 40])

    def train_dataloader(self):
        return DataLoader(self.parts[0], 16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts[1], 40)


class AtPadding(Net):
    '''Has a kernel that meets a pixel at its centre alone, and a gradient that is NaN at each position.'''

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 3, kernel_size=3, stride=2, padding=1), nn.Flatten()
        )

    def training_step(self, batch, index):
        return self.loss(batch) + (0 * self.net[1].weight.sin() * torch.inf).nan_to_num().sum()

    def configure_gradient_clipping(self, *_, **__):
        gradient = self.net[1].weight.grad
        calls.append(gradient.isfinite().all(dim=0).all(dim=0).sum().item())
        gradient.nan_to_num_(0.0)


class Manual(Net):
    automatic_optimization = False

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        loss = self.loss(batch) + 0.0 * random.random()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.lr_schedulers().step()


class Callbacks(Net):
    def configure_callbacks(self):
        return [LearningRateMonitor(), ModelCheckpoint(monitor="val_acc")]


class Stopping(Net):
    def configure_callbacks(self):
        return [EarlyStopping("val_loss", patience=1, divergence_threshold=-1.0)]


class Nested(Net):
    def on_train_epoch_start(self):
        self.trainer.fit(self)


class Unsavable(Net):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["mine"] = {"model": object()}


class Silent(Net):
    def training_step(self, batch, index):
        self.log("step_loss", 1.0)
        return self.loss(batch)

    validation_step = pl.LightningModule.validation_step


class SilentValidation(Silent):
    def validation_step(self, batch, index):
        pass


class Exiting(Net):
    def training_step(self, batch, index):
        raise SystemExit(3)


class NoStep(pl.LightningModule):
    def configure_optimizers(self):
        return None


class NoLoader(pl.LightningDataModule):
    pass


class Plain(nn.Module):
    pass


def train(epochs):
    yield {"loss": 1.0}


trainer = pl.Trainer(logger=False, enable_checkpointing=False)
"""


@pytest.fixture
def lits(tmp_path, monkeypatch):
    """The users' module, in a working directory of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "lits.py").write_text(CODE)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "lits", raising=False)
    import lits

    yield lits
    del sys.modules["lits"]


def configured(name="Net", **point):
    names = {place.replace("__", "."): value for place, value in point.items()}
    data = {} if name == "Own" or "data.name" in names else {"data.name": "lits:Data"}
    point = {"task": f"lightning:lits:{name}", "device": "cpu", **data, **names}
    return task_of(point).from_point(point)


def started(name="Net", **point):
    config = configured(name, **point)
    return task_of({"task": config.task}).start(config)


def measured(loop, count=None):
    reports = loop.run_all() if count is None else [loop.run_epoch() for _ in range(count)]
    return [{name: value for name, value in report.metrics.items() if "/" not in name} for report in reports]


def check(config):
    from trainables.tasks.lightning.run import check

    check(config)


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("Net", {}),
        ("Net", {"model__args__schedule": "plateau"}),
        ("Net", {"model__args__schedule": "one_cycle"}),
        ("Net", {"trainer__accumulate_grad_batches": 2, "trainer__gradient_clip_val": 0.1}),
        ("Net", {"precision": "bfloat16"}),
        ("Own", {}),
        ("Manual", {}),
        ("Callbacks", {}),
    ],
)
def test_a_resumed_module_continues_bit_for_bit(tmp_path, name, point):
    loop = started(name, epochs=4, seed=3, **point)
    whole = measured(loop)
    assert loop.finished
    for saved_after in (1, 3):
        loop = started(name, epochs=4, seed=3, **point)
        assert measured(loop, saved_after) == whole[:saved_after]
        loop.save(tmp_path / "saved")
        restored = task_of({"task": loop.config.task}).restore(tmp_path / "saved", config=loop.config)
        assert restored.epoch == saved_after
        restored.save(tmp_path / "at once")  # paused before its next epoch
        again = task_of({"task": loop.config.task}).restore(tmp_path / "at once", config=loop.config)
        assert measured(again) == whole[saved_after:]


def test_metrics_of_epochs_are_reported_and_those_of_single_steps_are_not():
    (first,) = measured(started(epochs=1))
    assert set(first) == {"train_loss", "val_acc", "val_loss"}
    assert 0 <= first["val_acc"] <= 1


def test_what_a_module_learns_is_what_lightning_alone_learns(lits):
    import pytorch_lightning as pl

    from trainables.seeding import global_streams

    loop = started("Net", epochs=1, seed=5)
    (first,) = measured(loop)
    with global_streams(5, "start"):
        module, data = lits.Net(), lits.Data()
        data.setup("fit")
        loaders = data.train_dataloader(), data.val_dataloader()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1,
    )  # fmt: skip
    with global_streams(5, "epoch 1"):
        trainer.fit(module, *loaders)
    assert {name: float(trainer.callback_metrics[name]) for name in first} == first


def test_in_bfloat16_the_gradient_of_a_kernel_where_it_meets_padding_alone_is_cleared(lits):
    measured(started("AtPadding", epochs=2, precision="bfloat16"))
    assert {call for call in lits.calls if isinstance(call, int)} == {8}


def test_data_is_prepared_once_and_a_schedule_knows_all_epochs_of_the_trial(lits):
    measured(started(epochs=3, model__args__schedule="one_cycle"))
    assert [call for call in lits.calls if isinstance(call, str)] == ["prepare", "fit", "loader", "end"]
    assert set(lits.calls) - {"prepare", "fit", "loader", "end"} == {("steps", 15)}


def test_nothing_is_written_but_the_checkpoint_which_holds_no_arguments_and_runs_no_code(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    loop = started("Callbacks", epochs=2)
    (_, last) = measured(loop)
    assert last["lr-Adam"] == pytest.approx(0.05 * 0.7)
    loop.save(tmp_path / "saved")
    assert [path.name for path in Path.cwd().iterdir() if path.name != "__pycache__"] == ["lits.py"]
    assert list(temporary.iterdir()) == []
    state = checkpoint.load(tmp_path / "saved").model["state"]  # by torch.load(weights_only=True)
    assert not {"hyper_parameters", "hparams_name"} & set(state)
    assert {"state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"} <= set(state)


def test_another_seed_draws_other_weights_and_the_global_generators_of_the_caller_do_not_move():
    random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), torch.rand(()).item()
    random.seed(1)
    torch.manual_seed(1)
    assert measured(started(epochs=1, seed=0)) != measured(started(epochs=1, seed=1))
    assert (random.random(), torch.rand(()).item()) == expected


def test_the_module_of_a_checkpoint_is_loaded_as_it_was_trained(tmp_path, lits):
    from trainables.tasks.lightning.run import load_module

    loop = started("Own", epochs=2, model__args__width=5)
    measured(loop)
    loop.save(tmp_path)
    module = load_module(tmp_path)
    state = checkpoint.load(tmp_path).model["state"]["state_dict"]
    assert (type(module), module.hparams.width, module.training) == (lits.Own, 5, False)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_a_checkpoint_of_other_arguments_is_refused(tmp_path):
    loop = started(epochs=2)
    measured(loop, 1)
    loop.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"belongs to another trial: model.args.lr \(saved None, now 0.2\)"):
        task_of({"task": loop.config.task}).restore(tmp_path, config=configured(epochs=2, model__args__lr=0.2))


FAILURES = {
    "Silent": "must log a metric in each epoch, got none in epoch 1, and it has no validation (validation_step and "
    "val_dataloader); use self.log(..., on_epoch=True)",
    "SilentValidation": "must log a metric in each epoch, got none in epoch 1; use self.log(..., on_epoch=True)",
    "Stopping": "stops by itself in epoch 1; leave EarlyStopping out, the sweep's scheduler stops trials",
    "Unsavable": "its checkpoint['mine']['model'] must be tensors, numbers, texts, dicts and lists, got object; "
    "save its numbers, or its state_dict()",
    "Exiting": "called sys.exit(3); raise an error or return instead",
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_module_that_breaks_a_rule_is_named_with_the_value_and_the_remedy(tmp_path, name):
    with pytest.raises(FunctionFailed) as failed:
        started(name, epochs=2).run_all(checkpoint=tmp_path / "saved")
    assert str(failed.value) == f"task: lightning:lits:{name} {FAILURES[name]}"


def test_a_fit_within_an_epoch_is_refused():
    with pytest.raises(RuntimeError, match="must not be called within an epoch: Ravel calls it; remove it"):
        measured(started("Nested", epochs=1))


PROBLEMS = [
    ("Net", {"model__args__widht": 3}, "model.args.widht: Net has no such argument; did you mean 'width'?"),
    ("Net", {"model__args__width": 2.5}, "model.args.width: must be an int, got 2.5"),
    ("Net", {"data__args__batch_size": "all"}, "data.args.batch_size: must be an int, got 'all'"),
    (
        "Own",
        {"data__args__size": 3},
        "data.args.size: is an argument of no class; name the LightningDataModule in data.name",
    ),
    ("Nett", {}, "task: module 'lits' (FILE) has no 'Nett'; did you mean 'Net'?"),
    ("Plain", {}, "task: lits:Plain must be a LightningModule, got the class Plain"),
    ("Data", {}, "task: lits:Data must be a LightningModule, got the class Data"),
    ("calls", {}, "task: lits:calls must be a LightningModule, got []"),
    (
        "trainer",
        {},
        "task: lits:trainer must be a LightningModule, got a Trainer; name a module's class, Ravel has its own Trainer",
    ),
    ("Net", {"data__name": "lits:Net"}, "data.name: lits:Net must be a LightningDataModule, got the class Net"),
    ("Net", {"data__name": "lits:NoLoader"}, "data.name: NoLoader must have a train_dataloader; add it to the class"),
    ("NoStep", {}, "task: lightning:lits:NoStep must have a training_step; add it to the class"),
]


@pytest.mark.parametrize(("name", "point", "message"), PROBLEMS)
def test_a_wrong_class_or_argument_is_seen_before_anything_is_built(lits, name, point, message):
    with pytest.raises(ConfigError) as wrong:
        check(configured(name, **point))
    assert str(wrong.value).replace(lits.__file__, "FILE") == message


def test_a_training_function_is_named_without_the_prefix_and_a_module_needs_data(lits):
    with pytest.raises(ConfigError, match="; a training function is named without 'lightning:'"):
        check(configured("train"))
    point = {"task": "lightning:lits:Net"}
    with pytest.raises(ConfigError) as wrong:
        check(task_of(point).from_point(point))
    remedy = "add it, or name a LightningDataModule in data.name"
    assert str(wrong.value) == f"task: Net must have a train_dataloader; {remedy}"
    assert lits.calls == []


def test_without_lightning_the_library_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(ConfigError) as wrong:
        check(configured())
    message = "task: lightning:lits:Net needs Lightning, which is not installed; pip install pytorch-lightning"
    assert str(wrong.value) == message


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"task": "lightning:lits"}, "task: must be lightning:module:Class, got 'lightning:lits'"),
        ({"task": "lightning:lits:Net", "lr": 0.1}, "lr: unknown parameter"),
        ({"task": "lightning:lits:Net", "data.name": "mnist"}, "data.name: must be the import path of a Lightning"),
        ({"task": "lightning:lits:Net", "trainer.max_epochs": 3}, "trainer.max_epochs: unknown parameter"),
    ],
)
def test_a_wrong_name_is_seen_without_an_import(point, message):
    with pytest.raises(ConfigError) as wrong:
        task_of(point).from_point(point)
    assert str(wrong.value).startswith(message)
