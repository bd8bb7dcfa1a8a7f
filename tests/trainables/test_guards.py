"""What goes wrong inside a step is named within one step."""

import subprocess
import sys
import textwrap

import pytest
import torch

from trainables.engine.guards import LossMonitor, memory_guard
from trainables.errors import Diverged, OutOfMemory

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(request.param)


def terms(device, **values):
    return {name: torch.tensor(value, device=device) for name, value in values.items()}


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_term_that_is_not_finite_is_named_at_most_one_step_later(device, broken, at):
    monitor = LossMonitor(epoch=7)
    with pytest.raises(Diverged) as caught:  # noqa: PT012 - the step at which it is raised is the claim
        for step in (1, 2, 3, 4):
            seen = step
            monitor.record(terms(device, ce=1.0, snnl=broken if step == at else 2.0))
    assert (caught.value.epoch, caught.value.step, caught.value.term) == (7, at, "snnl")
    assert seen <= at + 1


def test_the_last_step_of_an_epoch_is_checked_too(device):
    monitor = LossMonitor(epoch=1)
    with pytest.raises(Diverged, match="epoch 1, step 1: ce is not finite"):  # noqa: PT012 - either call may raise
        monitor.record(terms(device, ce=float("nan")))
        monitor.means()


def test_means_are_over_steps(device):
    monitor = LossMonitor(epoch=1)
    for value in (1.0, 2.0, 6.0):
        monitor.record(terms(device, ce=value, loss=2 * value))
    assert monitor.means() == {"ce": 3.0, "loss": 6.0}


def test_other_terms_within_one_epoch_are_refused(device):
    monitor = LossMonitor(epoch=1)
    monitor.record(terms(device, ce=1.0))
    with pytest.raises(ValueError, match=r"terms: must be \('ce',\) in every step of an epoch, got \('kl',\)"):
        monitor.record(terms(device, kl=1.0))


def test_an_evaluation_that_does_not_fit_is_not_blamed_on_the_batch_size():
    with pytest.raises(OutOfMemory, match=r"evaluation: 1024 images do not fit .*; lower model\.width"):  # noqa: SIM117
        with memory_guard("evaluation", 1024, device=torch.device("cpu")):
            torch.empty(2**62, dtype=torch.uint8)


def test_other_errors_pass_the_memory_guard_unchanged():
    with pytest.raises(RuntimeError, match="shape"), memory_guard("training", 4, device=torch.device("cpu")):
        torch.zeros(3).reshape(2, 2)


def test_a_batch_that_exhausts_the_memory_is_named():
    # A process of its own, whose address space is too small for the step: no allocation is imitated.
    script = """
        import resource
        from trainables.config import TrialConfig
        from trainables.errors import OutOfMemory
        from trainables.tasks.classifier.run import start
        point = {"model.name": "mlp", "model.width": 100.0, "batch_size": 1000, "epochs": 1}
        loop = start(TrialConfig.from_point(point))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, resource.RLIM_INFINITY))
        try:
            loop.run_epoch()
        except OutOfMemory as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.startswith("batch_size: 1000 images do not fit into the memory of cpu; lower batch_size"), done
