"""Check of a training function, for its author's tests."""

import tempfile
from collections.abc import Mapping
from typing import Any

from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.function.run import check
from trainables.tasks.registry import function_task
from trainables.testing.trials import measured

__all__ = ["check_task"]


def check_task(
    path: str, arguments: Mapping[str, Any] | None = None, *, epochs: int = 3, seed: int = 0
) -> list[Mapping[str, float]]:
    """Check a training function, and return the metrics of its epochs.

    Its arguments fit its signature; it yields metrics once for each epoch; two runs of one seed agree; and a trial that
    is saved after any epoch and restored continues with the same metrics, bit for bit.

    Args:
        path: its import path, `module:function`.
        arguments: values of its own arguments, by name.
        epochs: the number of epochs to train, at least 2.
        seed: the trial's seed.

    Raises:
        ConfigError, FunctionFailed: it breaks a rule of training functions.
        AssertionError: two runs, or a resumed one, differ.
    """
    point = {"task": path, **(arguments or {}), "epochs": epochs, "seed": seed, "device": "cpu"}
    task, config = function_task(path), FunctionConfig.from_point(point)
    check(config)
    whole = [measured(report.metrics) for report in task.start(config).run_all()]
    for saved_after in range(1, epochs):
        loop = task.start(config)
        start = [measured(loop.run_epoch().metrics) for _ in range(saved_after)]
        if start != whole[:saved_after]:
            raise AssertionError(f"{path}: two runs of seed {seed} differ within {saved_after} epochs")
        with tempfile.TemporaryDirectory() as folder:
            loop.save(folder)
            rest = [measured(report.metrics) for report in task.restore(folder, config=config).run_all()]
        if rest != whole[saved_after:]:
            raise AssertionError(f"{path}: resumed after epoch {saved_after}, it measures other values; save its state")
    return whole
