"""Benchmarks of slot time and of a training step: accounts, the limit, tables, and a small run of each."""

import doctest
from pathlib import Path

import pytest
import torch

from orchestrator.state.events import AttemptStarted, EpochReported, SweepStarted, TrialEnded

FOLDER = Path(__file__).parents[2] / "benchmarks"
MODULES = (
    *("slot_time", "step_limit", "limits.account", "limits.flames", "limits.launches", "limits.products"),
    *("limits.steps_of", "limits.step_page", "limits.cuda_graphs", "scale.markers", "scale.results"),
)
MACHINE = {
    **dict.fromkeys(("processor", "system", "python", "ray", "torch", "optuna", "mlflow", "sqlalchemy"), "x"),
    "cores": 2,
    "memory_gb": 25,
    "busy_cores": 0.0,
}
DIGITS = {"data.name": "digits", "model.name": "mlp", "batch_size": 32, "device": "cpu"}


@pytest.fixture
def row(module):
    def make(stage, size, values, *, busy=0.0):
        spread = module("scale.results").spread
        full = {key: value for name, at in values.items() for key, value in spread(name, [at]).items()}
        return module("scale.results").Row(stage, size, full, MACHINE | {"busy_cores": busy}, "abc")

    return make


def reported(trial, time, epoch, *, epoch_s, steps_s, images):
    metrics = {"time/epoch_s": epoch_s, "time/images_per_s": images / steps_s}
    return EpochReported(time=time, trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics)


@pytest.fixture
def log():
    """Events of two slots: one trains two trials, with a second between them, the other one trial."""
    epoch = {"epoch_s": 2.0, "steps_s": 1.5, "images": 96}
    return [
        SweepStarted(time=100.0, generation=1, host="here", pid=1),
        AttemptStarted(time=101.0, trial="t0", attempt=1),
        AttemptStarted(time=101.5, trial="t1", attempt=1),
        reported("t0", 104.0, 1, **epoch),
        reported("t1", 105.0, 1, **epoch),
        reported("t0", 106.0, 2, **epoch),
        TrialEnded(time=106.0, trial="t0", status="stopped"),
        AttemptStarted(time=106.5, trial="t2", attempt=1),
        reported("t1", 107.0, 2, **epoch),
        reported("t2", 110.0, 1, **(epoch | {"epoch_s": 3.0})),
        reported("t2", 112.0, 2, **epoch),
    ]


def test_what_is_neither_a_step_nor_an_epoch_lowers_the_shares(module, log):
    account = module("limits.account")
    found = account.shares(account.epochs_of(log, images=96))
    assert found == pytest.approx({"steps": 4 * 1.5 / 10.0, "epochs": 9 / 10.0, "epoch_s": 2.0})


def test_a_change_of_trials_is_from_the_last_report_to_the_first_step(module, log):
    account = module("limits.account")
    assert account.changes(account.epochs_of(log, images=96)) == pytest.approx({"change_s": 1.0, "first_epoch": 1.5})


def test_a_slot_is_filled_at_the_first_step_of_its_first_trial(module, log):
    found = module("limits.account").start(log, began=99.0, slots=2)
    assert found == {"driver_s": 1.0, "first_step_s": 3.0, "filled_s": 4.0}


def test_slots_that_never_reported_are_refused(module, log):
    with pytest.raises(ValueError, match="slots: 3 must have reported an epoch, got 2"):
        module("limits.account").start(log, began=99.0, slots=3)


def test_a_log_of_single_reports_has_no_shares(module, log):
    account = module("limits.account")
    with pytest.raises(ValueError, match="a slot must have reported two or more"):
        account.shares(account.epochs_of(log[:5], images=96))


def test_a_goal_stands_next_to_its_number(module, row):
    ways = module("slot_time").WAYS
    values = {
        f"{way} {name}": 0.8 for way in ways for name in ("steps", "epochs", "epoch_s", "change_s", "first_epoch")
    }
    rows = {("share", size): row("share", size, values, busy=size - 500) for size in (500, 2000)}
    lines = module("slot_time").share_table(rows).splitlines()[2:]
    assert [("75%: met" in line, "90%: missed" in line, " s * " in line) for line in lines] == [
        (True, False, False),
        (True, False, False),
        (False, True, True),
        (False, True, True),
    ]


def test_a_start_is_bound_in_worker_processes_and_filling_in_both_ways(module, row):
    names = {"driver_s": 1.0, "first_step_s": 3.5, "one_s": 3.0, "filled_s": 4.2, "ratio": 1.4}
    values = {f"{way} {name}": value for way in ("processes", "local") for name, value in names.items()}
    table = module("slot_time").start_table({("start", 2): row("start", 2, values | {"ray alone_s": 2.0})})
    processes, local = table.splitlines()[2:]
    assert ("3.50 (3.50 to 3.50), missed" in processes, "missed" in local) == (True, False)
    assert all("1.40 (1.40 to 1.40), met" in line for line in (processes, local))


@pytest.mark.parametrize("name", ["slot_time", "step_limit"])
def test_the_page_shows_the_stored_results(module, repository, tmp_path, name):
    script, results = module(name), module("scale.results")
    page = (repository / "docs/benchmarks.md").read_text()
    (tmp_path / "page.md").write_text(page)
    script.write(script.tables(results.Results(script.RESULTS).rows()), tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == page


def test_the_tables_of_steps_have_each_way_with_its_ratio(module, row):
    page = module("limits.step_page")
    cpu = row("cpu pgd bfloat16", 1, {"limit_ms": 2.0, "step_ms": 3.0, "step ratio": 1.5} | {"gigaflops": 0.1})
    gpu = row("gpu plain", 128, {"limit_ms": 2.0, "step_ms": 3.0, "captured_ms": 2.5, "captured ratio": 1.25})
    slots = row("slots plain", 2, {"1x1": 10.0, "2x1": 18.0})
    rows = {("cpu pgd bfloat16", 1): cpu, ("gpu plain", 128): gpu, ("slots plain", 2): slots}
    assert "| PGD, 7 steps | bfloat16 | 1 | 2.00 | 50 | 3.00 | 1.50 (1.50 to 1.50) | left out |  |" in page.cpu_table(
        rows
    )
    assert page.gpu_table(rows).splitlines()[-1].endswith("| 2.50 | 1.25 (1.25 to 1.25) | 400 |")
    assert page.together_table(rows, "slots", "").splitlines()[-1].endswith("| 2x1 | 18.0 (18.0 to 18.0) | 1.80 |")


def test_the_limit_of_a_step_is_its_products_and_nothing_else(module):
    products, steps_of = module("limits.products"), module("limits.steps_of")
    run = steps_of.run_of({**DIGITS, "precision": "float32"}, "plain")
    found = products.recorded(steps_of.step_of(run))
    weights = [layer for layer in run.model.modules() if isinstance(layer, torch.nn.Linear)]
    # Forward and both gradients of each layer, but for the gradient of the images.
    assert len(found.calls) == 3 * len(weights) - 1
    sizes = [layer.weight.numel() for layer in weights]
    assert found.flops == 2 * 32 * (3 * sum(sizes) - sizes[0])
    found.repeat()


def test_an_attack_repeats_the_products_of_its_passes(module):
    products, steps_of = module("limits.products"), module("limits.steps_of")
    counts = {
        method: len(
            products.recorded(steps_of.step_of(steps_of.run_of({**DIGITS, "precision": "float32"}, method))).calls
        )
        for method in ("plain", "pgd")
    }
    layers = (counts["plain"] + 1) // 3
    assert counts["pgd"] == counts["plain"] + 7 * 2 * layers


@pytest.mark.parametrize("method", ["plain", "snnl", "mixup", "pgd", "trades"])
def test_a_small_run_compares_each_step_with_its_limit(module, method):
    products, steps_of, script = module("limits.products"), module("limits.steps_of"), module("step_limit")
    assert method in script.METHODS
    step = steps_of.step_of(steps_of.run_of(DIGITS, method))
    ways = {"limit": products.recorded(step).repeat, "step": step}
    values = script.compared(steps_of.in_turns(ways, rounds=2, turn_s=0.01, device="cpu"))
    assert set(values) == {
        f"{name}{end}" for name in ("limit_ms", "step_ms", "step ratio") for end in ("", " low", " high")
    }
    assert values["step ratio low"] <= values["step ratio"] <= values["step ratio high"]


def test_two_trials_train_at_the_same_time(module):
    values = module("step_limit").at_once(DIGITS, "plain", [(2, 1)], rounds=1, turn_s=0.02)
    assert set(values) == {"2x1", "2x1 low", "2x1 high"}
    assert min(values.values()) > 0


def test_a_small_sweep_has_shares_of_slot_time(module, monkeypatch):
    script, launches = module("slot_time"), module("limits.launches")
    monkeypatch.setattr(script, "WAYS", ("processes",))
    monkeypatch.setattr(script, "SLOTS", 1)
    values = script.shared(launches.Work(DIGITS, images=1056), rounds=1, trials=2, epochs=2)
    assert 0 < values["processes steps"] < values["processes epochs"] < 1
    assert values["processes change_s"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_is_given_what_the_measurement_needs(module):
    with pytest.raises(SystemExit, match=r"needs an NVIDIA GPU of compute capability 8\.0 .* got no GPU"):
        module("limits.cuda_graphs").require_gpu()


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(module, name):
    assert doctest.testmod(module(name)).failed == 0
