"""Training functions of users: their epochs, their arguments, their state, and what they do wrong."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.engine import checkpoint
from trainables.errors import CheckpointError, ConfigError, FunctionFailed
from trainables.tasks.function.run import check
from trainables.tasks.registry import task_of

pytestmark = pytest.mark.usefixtures("training")
CODE = """
import random
import sys

import numpy as np
import torch


def train(lr: float, epochs: int, width: int = 3):
    weight = random.random()
    for epoch in range(epochs):
        weight += lr * (random.random() + np.random.random() + torch.rand(()).item())
        yield {"loss": 1 / (1 + weight), "width": width}


def saving(context, lr: float):
    calls.append(context.epoch)
    weight = context.restored["weight"] if context.restored else torch.zeros(2)
    context.save_with(lambda: {"weight": weight, "notes": ["any", 1, None, {"deep": 2.5}]})
    for epoch in range(context.epoch, context.epochs):
        weight = weight + lr * torch.rand(2)
        yield {"loss": weight.sum(), "array": np.float32(2.0), "count": np.array([3])}


calls = []


def short(epochs):
    yield {"loss": 1.0}


def silent():
    return
    yield


def returning_one_epoch(lr: float):
    return {"loss": lr}


def returning_nothing():
    pass


def yielding_a_number():
    yield 0.5


def yielding_nothing_in_it():
    yield {}


def yielding_text():
    yield {"loss": "low"}


def yielding_a_vector():
    yield {"loss": torch.zeros(2)}


def with_a_number_for_a_name():
    yield {1: 0.5}


def exiting():
    sys.exit(3)
    yield


def unsavable(context):
    context.save_with(lambda: {"model": object()})
    while True:
        yield {"loss": 1.0}


async def waiting():
    yield {"loss": 1.0}


def infinite():
    try:
        while True:
            yield {"loss": float("inf")}
    finally:
        calls.append("closed")


not_a_function = 3
"""


@pytest.fixture
def training(tmp_path, monkeypatch):
    (tmp_path / "training.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "training", raising=False)
    import training

    yield training
    del sys.modules["training"]


def configured(name, **point):
    point = {"task": f"training:{name}", **point}
    return task_of(point).from_point(point)


def started(name, **point):
    config = configured(name, **point)
    return task_of({"task": config.task}).start(config)


def seed_global_generators():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)


def losses(loop, count):
    return [loop.run_epoch().metrics["loss"] for _ in range(count)]


@pytest.mark.parametrize("name", ["train", "saving"])
def test_a_resumed_function_continues_bit_for_bit_whether_it_saves_its_state_or_not(training, tmp_path, name):
    whole = losses(started(name, lr=0.1, epochs=5, seed=3), 5)
    loop = started(name, lr=0.1, epochs=5, seed=3)
    losses(loop, 2)
    loop.save(tmp_path / "saved")
    again = task_of({"task": f"training:{name}"}).restore(tmp_path / "saved", config=loop.config)
    assert again.epoch == 2
    assert losses(again, 3) == whole[2:]
    assert again.finished
    if name == "saving":
        assert training.calls == [0, 0, 2]  # the resumed one ran no epoch twice


def test_a_restored_function_that_is_saved_before_its_next_epoch_keeps_its_state(tmp_path):
    loop = started("saving", lr=0.1, epochs=5)
    losses(loop, 2)
    loop.save(tmp_path / "first")
    task_of({"task": "training:saving"}).restore(tmp_path / "first", config=loop.config).save(tmp_path / "second")
    first, second = (checkpoint.load(tmp_path / name) for name in ("first", "second"))
    assert torch.equal(first.model["state"]["weight"], second.model["state"]["weight"])
    assert second.epoch == 2


def test_another_seed_draws_other_numbers_and_the_global_generators_of_the_caller_do_not_move():
    seed_global_generators()
    expected = random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002
    seed_global_generators()
    first, second = (losses(started("train", lr=0.1, epochs=3, seed=seed), 3) for seed in (0, 1))
    assert first != second
    assert (random.random(), np.random.random(), torch.rand(()).item()) == expected  # noqa: NPY002


def test_one_mapping_is_one_epoch_and_tensors_and_arrays_of_one_element_are_numbers():
    loop = started("returning_one_epoch", lr=0.25, epochs=1)
    assert loop.run_epoch().metrics["loss"] == 0.25
    metrics = started("saving", lr=0.1, epochs=1).run_epoch().metrics
    assert (metrics["array"], metrics["count"], type(metrics["loss"])) == (2.0, 3.0, float)


def test_a_function_without_an_end_is_closed_after_its_last_epoch_and_an_infinite_metric_is_kept(training):
    (loss,) = losses(started("infinite", epochs=1), 1)
    assert np.isinf(loss)
    assert training.calls == ["closed"]


WRONG = {
    "returning_nothing": "must yield the metrics of each epoch, got NoneType; write `yield {...}`",
    "silent": "ended after 0 epochs; yield once for each of `epochs` (2), or lower trial.epochs",
    "short": "ended after 1 epochs; yield once for each of `epochs` (2), or lower trial.epochs",
    "yielding_a_number": "must yield a mapping of metrics, got 0.5 in epoch 1",
    "yielding_nothing_in_it": "must yield 1 to 1000 metrics, got 0 in epoch 1",
    "yielding_text": "metric 'loss' must be a number, got 'low'",
    "yielding_a_vector": "metric 'loss' must be a number, got tensor([0., 0.])",
    "with_a_number_for_a_name": "the name of a metric must be a text without spaces around it, got 1",
    "exiting": "called sys.exit(3); raise an error or return instead",
    "unsavable": "context.save_with['model'] must be tensors, numbers, texts, dicts and lists, got object; "
    "save its numbers, or its state_dict()",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_function_that_breaks_a_rule_is_named_with_the_value_and_the_remedy(tmp_path, name):
    loop = started(name, epochs=2)
    with pytest.raises(FunctionFailed) as failed:
        loop.run_all(checkpoint=tmp_path / "saved")
    assert str(failed.value) == f"task: training:{name} {WRONG[name]}"


@pytest.mark.parametrize(
    ("name", "point", "message"),
    [
        ("train", {"wdth": 3, "lr": 0.1}, "wdth: train has no such argument; did you mean 'width'?"),
        ("train", {}, "lr: train requires this argument; add it"),
        ("train", {"lr": "high"}, "lr: must be a float, got 'high'"),
        ("train", {"lr": 1, "width": 2.5}, "width: must be an int, got 2.5"),
        ("trian", {}, "task: module 'training' (FILE) has no 'trian'; did you mean 'train'?"),
        ("not_a_function", {}, "task: training:not_a_function must be a function, got 3"),
        ("waiting", {}, "task: training:waiting must be a plain function, got one with `async`"),
    ],
)
def test_a_wrong_name_or_argument_is_seen_before_the_function_runs(training, name, point, message):
    with pytest.raises(ConfigError) as wrong:
        check(configured(name, **point))
    assert str(wrong.value).replace(training.__file__, "FILE") == message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import no_such_library",
            "importing MODULE fails: it imports 'no_such_library', which is not installed (FILE, line 1)",
        ),
        ("\nraise ValueError('boom')", "importing MODULE fails with \"'ValueError: boom'\" (FILE, line 2)"),
        ("import sys\nsys.exit()", "importing MODULE exits (FILE, line 2); move what runs under"),
        ("def broken(:", "importing MODULE fails with"),
    ],
)
def test_an_import_that_fails_names_its_line(tmp_path, monkeypatch, code, message):
    name = f"broken_{abs(hash(code))}"
    Path(tmp_path, f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError) as wrong:
        check(task_of({"task": f"{name}:train"}).from_point({}))
    seen = str(wrong.value).replace(str(tmp_path / f"{name}.py"), "FILE").replace(name, "MODULE")
    assert message.replace("\"'", "'").replace("'\"", "'") in seen


def test_what_an_import_prints_does_not_reach_the_standard_output(tmp_path, monkeypatch, capsys):
    (tmp_path / "loud.py").write_text("print('loading')\ndef train(): yield {'loss': 1}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check(task_of({"task": "loud:train"}).from_point({}))
    out, err = capsys.readouterr()
    assert (out, err) == ("", "loading\n")


def test_a_checkpoint_of_other_arguments_is_refused(tmp_path):
    loop = started("saving", lr=0.1, epochs=2)
    losses(loop, 1)
    loop.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"belongs to another trial: lr \(saved 0.1, now 0.2\)"):
        task_of({"task": "training:saving"}).restore(tmp_path, config=configured("saving", lr=0.2, epochs=2))
