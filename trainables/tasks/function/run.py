"""Training function in progress: its epochs, and the state that a checkpoint keeps between them."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol, final

import torch

from trainables.engine.checkpoint import Checkpoint
from trainables.engine.epoch_loop import EpochLoop, TrialSettings
from trainables.engine.placement import Placement, placement_of
from trainables.engine.resume import read_trial
from trainables.errors import ConfigError, FunctionFailed, short_repr
from trainables.import_paths import argument_problems, call, load
from trainables.seeding import global_streams
from trainables.tasks.function.config import PROVIDED, FunctionConfig
from trainables.tasks.function.context import TrialContext

__all__ = ["FunctionRun", "check", "restore", "start"]

GROUP = "ravel.tasks"
MAX_METRICS = 1000
SAVED_TYPES = (torch.Tensor, int, float, str, bytes, bool, type(None))
Path = str | os.PathLike[str]


class Settings(TrialSettings, Protocol):
    """Part of a configuration that does not depend on whose loop trains."""

    @property
    def task(self) -> str:
        """Name of the task."""

    @property
    def seed(self) -> int:
        """Seed of the trial."""

    @property
    def device(self) -> str:
        """Name of the device."""


@final
class FunctionRun:
    """Training function in progress; it runs between two of its `yield`s, never at the same time as a checkpoint.

    Python's, numpy's and torch's global generators are seeded for each epoch, so that a function that draws from
    them, and saves its state, continues as if it had not been interrupted.

    Args:
        config: that of the trial.
        begin: returns the iterator over the epochs; it may import and call the user's code.
        saved: what a message calls the saved state.
    """

    data = batch_size = evaluation_batch_size = None

    def __init__(
        self,
        config: Settings,
        placement: Placement,
        begin: Callable[[TrialContext], Any],
        *,
        saved: str = "context.save_with",
    ) -> None:
        self.config, self.placement, self._begin, self._saved = config, placement, begin, saved
        self._restored: Mapping[str, Any] | None = None
        self._complete = 0
        self._epochs: Iterator[Any] | None = None
        self._context: TrialContext | None = None

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Run the function to its next `yield`, and return the metrics.

        Raises:
            FunctionFailed: it yields no metrics, ends too early, or exits.
        """
        if self._epochs is None:
            self._epochs = self._started()
            done = 0 if self._restored is None else self._complete
            for repeated in range(done + 1, epoch):
                self._next(repeated)
        metrics = self._next(epoch)
        if epoch == self.config.epochs and (close := getattr(self._epochs, "close", None)) is not None:
            close()
        return metrics

    def evaluate_epoch(self, epoch: int) -> dict[str, float]:  # noqa: ARG002 - the function evaluates
        """Return nothing: what the function yields holds the metrics of its evaluation."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return the fields of a checkpoint.

        Raises:
            FunctionFailed: the function saves what a checkpoint cannot hold.
        """
        saved = self._context.state() if self._context is not None else self._restored
        if saved is not None:
            _require_plain(saved, self._saved, self.config.task)
        return {"model": {} if saved is None else {"state": saved}, "optimizer": {}, "streams": {}}

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue from the state in a checkpoint."""
        self._complete, self._restored = checkpoint.epoch, checkpoint.model.get("state")

    def _started(self) -> Iterator[Any]:
        config, device = self.config, self.placement.device
        self._context = TrialContext(
            epoch=0 if self._restored is None else self._complete,
            epochs=config.epochs,
            seed=config.seed,
            device=str(device),
            restored=self._restored,
        )
        context = self._context
        with global_streams(config.seed, "start", device=device):
            result = self._guarded(lambda: self._begin(context))
        if isinstance(result, Mapping):
            return iter([result])
        if isinstance(result, Iterator):
            return result
        kind = type(result).__name__
        raise FunctionFailed(config.task, f"must yield the metrics of each epoch, got {kind}; write `yield {{...}}`")

    def _next(self, epoch: int) -> dict[str, float]:
        epochs, name = self._epochs, self.config.task
        if epochs is None:
            raise RuntimeError("the function was not started")
        with global_streams(self.config.seed, f"epoch {epoch}", device=self.placement.device):
            item = self._guarded(lambda: next(epochs, None))
        if item is None:
            remedy = f"yield once for each of `epochs` ({self.config.epochs}), or lower trial.epochs"
            raise FunctionFailed(name, f"ended after {epoch - 1} epochs; {remedy}")
        if not isinstance(item, Mapping):
            raise FunctionFailed(name, f"must yield a mapping of metrics, got {short_repr(item)} in epoch {epoch}")
        if not 0 < len(item) <= MAX_METRICS:
            raise FunctionFailed(name, f"must yield 1 to {MAX_METRICS} metrics, got {len(item)} in epoch {epoch}")
        return {_metric_name(key, name): _number(key, value, name) for key, value in item.items()}

    def _guarded(self, step: Any) -> Any:
        try:
            return step()
        except SystemExit as error:
            reason = f"called sys.exit({'' if error.code is None else error.code}); raise an error or return instead"
            raise FunctionFailed(self.config.task, reason) from error


def start(config: FunctionConfig, *, placement: Placement | None = None) -> EpochLoop[FunctionRun]:
    """Return a trial before its first epoch; without a `placement`, on the device that it names."""
    return EpochLoop(FunctionRun(config, placement or placement_of(config), partial(_begun, config)))


def restore(
    directory: Path, *, config: FunctionConfig | None = None, placement: Placement | None = None
) -> EpochLoop[FunctionRun]:
    """Return a trial that continues from a checkpoint.

    Raises:
        CheckpointError: the checkpoint cannot be read, or belongs to another trial.
    """
    checkpoint, config = read_trial(FunctionConfig, directory, config=config)
    run = FunctionRun(config, placement or placement_of(config), partial(_begun, config))
    return EpochLoop(run, checkpoint=checkpoint)


def _begun(config: FunctionConfig, context: TrialContext) -> Any:
    """Return what the function returns: an iterator over its epochs."""
    function = load(config.task, group=GROUP, place="task")
    provided = dict(zip(PROVIDED, (context, config.epochs, config.seed, context.device), strict=True))
    return call(function, config.arguments, provided=provided)


def check(config: FunctionConfig) -> None:
    """Import the function, and compare the arguments with its signature; it is not called.

    Raises:
        ConfigError: it cannot be imported, is no function, or takes other arguments.
    """
    function = load(config.task, group=GROUP, place="task")
    if not callable(function):
        raise ConfigError.at("task", f"{config.task} must be a function, got {short_repr(function)}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError.at("task", f"{config.task} must be a plain function, got one with `async`")
    problems = argument_problems(function, config.arguments, place="", provided=PROVIDED)
    if problems:
        raise ConfigError(problem._replace(path=problem.path.removeprefix(".")) for problem in problems)


def _metric_name(key: object, function: str) -> str:
    if not isinstance(key, str) or not key or key != key.strip() or "\n" in key:
        raise FunctionFailed(function, f"the name of a metric must be a text without spaces around it, got {key!r}")
    return key


def _number(key: str, value: object, function: str) -> float:
    """Return a metric as a float; a tensor or an array of one element counts as its number."""
    try:
        number = value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError, TypeError):  # several elements
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise FunctionFailed(function, f"metric {short_repr(key)} must be a number, got {short_repr(value)}")
    return float(number)


def _require_plain(value: object, place: str, function: str) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _require_plain(part, f"{place}[{key!r}]", function)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _require_plain(part, f"{place}[{index}]", function)
    elif type(value) not in SAVED_TYPES and not isinstance(value, torch.Tensor):
        kind, remedy = type(value).__name__, "save its numbers, or its state_dict()"
        raise FunctionFailed(
            function, f"{place} must be tensors, numbers, texts, dicts and lists, got {kind}; {remedy}"
        )
