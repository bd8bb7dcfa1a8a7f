"""Errors that this package raises on purpose.

    TrainableError
    |-- ConfigError        a trial's configuration is wrong; carries every problem at once
    |-- DatasetMissing     a data set is not in the folder of the configuration
    |-- DatasetDamaged     a data set has wrong files
    |-- Diverged           a loss is not finite
    |-- OutOfMemory        a step did not fit into the device's memory
    |-- AttackOverfitted   the model learned to stop its training attack, and no other
    |-- FunctionFailed     a user's training function breaks a rule of such functions
    |-- CheckpointError    a checkpoint cannot be read, or belongs to another trial
    |-- ImageUnreadable    a file is no image that a model can take
    |-- PeerLost           another process that trains the same trial ended, or does not answer
    |-- TrialFailed        what a worker raises for an error of the trial itself
    `-- WorkerUnusable     what a worker raises for an error of its process, device or machine
        `-- OutOfSharedMemory  one of memory that several trials share

They can be pickled, because Ray sends them between processes: the constructor's arguments are `args`.
Wrong arguments to a pure function (a negative epsilon, labels of another length) are plain `ValueError`s.
A message quotes an offending value by `short_repr`, so that each of its lines stays readable.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal, NamedTuple, Self

__all__ = [
    "AttackOverfitted",
    "CheckpointError",
    "ConfigError",
    "DatasetDamaged",
    "DatasetMissing",
    "Diverged",
    "FunctionFailed",
    "ImageUnreadable",
    "OutOfMemory",
    "OutOfSharedMemory",
    "PeerLost",
    "Phase",
    "Problem",
    "TrainableError",
    "TrialFailed",
    "WorkerUnusable",
    "mistakes",
    "short_repr",
    "shortened",
    "suggestion",
]


Phase = Literal["training", "evaluation"]
_LONGEST_QUOTE = 80
_LONGEST_LIST = 200


class Problem(NamedTuple):
    """Problem of a configuration, with its path.

    >>> print(Problem("optimizer.lr", "must be > 0, got -1.0"))
    optimizer.lr: must be > 0, got -1.0
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{shortened(self.path)}: {self.message}"


class TrainableError(Exception):
    """Root of this package's errors."""


class ConfigError(TrainableError):
    """The configuration of a trial is wrong.

    `problems` holds all problems, in the order of the input.

    >>> error = ConfigError([Problem("epochs", "must be >= 1, got 0"), Problem("seed", "must be >= 0, got -1")])
    >>> print(error)
    epochs: must be >= 1, got 0
    seed: must be >= 0, got -1
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    @classmethod
    def at(cls, path: str, message: str) -> Self:
        """Return the error of one problem.

        >>> print(ConfigError.at("task", "must be a function, got 3"))
        task: must be a function, got 3
        """
        return cls([Problem(path, message)])

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def mistakes(error: TrainableError) -> "list[Problem | str]":
    """Return the problems of an error: those of a configuration as they are, and a text for each line of any other.

    >>> mistakes(DatasetMissing("pets", "create it"))
    ["data.name: the data set 'pets' is not available; create it"]
    """
    return list(error.problems) if isinstance(error, ConfigError) else list(str(error).splitlines())


class DatasetMissing(TrainableError):
    """A data set is not in the folder of the configuration; `remedy` says how to get it."""

    def __init__(self, name: str, remedy: str) -> None:
        self.name, self.remedy = name, remedy
        super().__init__(name, remedy)

    def __str__(self) -> str:
        return f"data.name: the data set {self.name!r} is not available; {self.remedy}"


class DatasetDamaged(TrainableError):
    """Files of a data set are damaged; `reason` names the file, `remedy` says what to do.

    >>> print(DatasetDamaged("mnist", "t10k-labels-idx1-ubyte is 3 bytes short", "fetch the set once more"))
    data.name: the data set 'mnist' is damaged: t10k-labels-idx1-ubyte is 3 bytes short; fetch the set once more
    """

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        self.name, self.reason, self.remedy = name, reason, remedy
        super().__init__(name, reason, remedy)

    def __str__(self) -> str:
        return f"data.name: the data set {self.name!r} is damaged: {self.reason}; {self.remedy}"


class Diverged(TrainableError):
    """A term of the loss is not finite, at this epoch and step (both counted from 1).

    >>> print(Diverged(3, 7, "ce"))
    epoch 3, step 7: ce is not finite; lower optimizer.lr or the weight of this term
    """

    def __init__(self, epoch: int, step: int, term: str) -> None:
        self.epoch, self.step, self.term = epoch, step, term
        super().__init__(epoch, step, term)

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}, step {self.step}: {self.term} is not finite; "
            "lower optimizer.lr or the weight of this term"
        )


class OutOfMemory(TrainableError):
    """A batch did not fit into the memory of its device, in training or in its evaluation.

    >>> print(OutOfMemory("training", 512, "cuda:0"))
    batch_size: 512 images do not fit into the memory of cuda:0; lower batch_size or model.width
    """

    def __init__(self, phase: Phase, batch_size: int, device: str) -> None:
        self.phase, self.batch_size, self.device = phase, batch_size, device
        super().__init__(phase, batch_size, device)

    def __str__(self) -> str:
        where, remedy = _MEMORY_REMEDIES[self.phase]
        return f"{where}: {self.batch_size} images do not fit into the memory of {self.device}; {remedy}"


_MEMORY_REMEDIES: dict[Phase, tuple[str, str]] = {
    "training": ("batch_size", "lower batch_size or model.width"),
    "evaluation": ("evaluation", "lower model.width, or evaluation.robust_images for an attack"),
}


class AttackOverfitted(TrainableError):
    """Catastrophic overfitting (Wong et al., 2020): PGD accuracy on training images fell within one epoch.

    >>> print(AttackOverfitted(7, 0.45, 0.02))
    epoch 7: accuracy under PGD fell from 0.450 to 0.020, catastrophic overfitting; lower adversarial.relative_step \
or adversarial.epsilon, or take more adversarial.steps
    """

    def __init__(self, epoch: int, before: float, now: float) -> None:
        self.epoch, self.before, self.now = epoch, before, now
        super().__init__(epoch, before, now)

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}: accuracy under PGD fell from {self.before:.3f} to {self.now:.3f}, catastrophic "
            "overfitting; lower adversarial.relative_step or adversarial.epsilon, or take more adversarial.steps"
        )


class FunctionFailed(TrainableError):
    """A training function breaks a rule of such functions; `reason` names the value and the remedy.

    >>> print(FunctionFailed("training:train", "ended after 2 epochs; yield once for each of `epochs` (9)"))
    task: training:train ended after 2 epochs; yield once for each of `epochs` (9)
    """

    def __init__(self, function: str, reason: str) -> None:
        self.function, self.reason = function, reason
        super().__init__(function, reason)

    def __str__(self) -> str:
        return f"task: {self.function} {self.reason}"


class CheckpointError(TrainableError):
    """A checkpoint cannot be used; `remedy` says what to do instead."""

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        self.path, self.reason, self.remedy = path, reason, remedy
        super().__init__(path, reason, remedy)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.remedy}"


class ImageUnreadable(TrainableError):
    """A file is no image that a model can take; `remedy` says what to do.

    >>> print(ImageUnreadable("cat.txt", "cannot be read (no image)", "name an image file"))
    cat.txt: cannot be read (no image); name an image file
    """

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        self.path, self.reason, self.remedy = path, reason, remedy
        super().__init__(path, reason, remedy)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.remedy}"


class PeerLost(TrainableError):
    """Another process that trains the same trial ended, or does not answer; `reason` is one line of what was noticed.

    >>> print(PeerLost("RuntimeError: Connection closed by peer"))
    another worker of this trial ended or does not answer (RuntimeError: Connection closed by peer)
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"another worker of this trial ended or does not answer ({self.reason})"


class TrialFailed(TrainableError):
    """A trial failed by an error of its own; `reason` is one line, `traceback` the text of the whole error.

    >>> print(TrialFailed("ValueError: boom", "Traceback ..."))
    ValueError: boom
    """

    def __init__(self, reason: str, traceback: str) -> None:
        self.reason, self.traceback = reason, traceback
        super().__init__(reason, traceback)

    def __str__(self) -> str:
        return self.reason


class WorkerUnusable(TrainableError):
    """The process, device or machine under a trial failed, so that another process may do better.

    `reason` is one line, `traceback` the text of the whole error.

    >>> print(WorkerUnusable("the device is unusable: AcceleratorError: CUDA error: unknown error", "Traceback ..."))
    the device is unusable: AcceleratorError: CUDA error: unknown error
    """

    def __init__(self, reason: str, traceback: str) -> None:
        self.reason, self.traceback = reason, traceback
        super().__init__(reason, traceback)

    def __str__(self) -> str:
        return self.reason


class OutOfSharedMemory(WorkerUnusable):
    """Memory of the machine, or of a GPU that several trials share, ran out: fewer of them at a time may fit."""


def suggestion(name: str, valid: Iterable[str]) -> str:
    """Return the nearest valid name as the end of a sentence, or the valid names if none is near.

    A long list is cut to about 200 characters.

    >>> suggestion("num_trails", ["num_trials", "seed"])
    "did you mean 'num_trials'?"
    >>> suggestion("zzz", ["mlp", "cnn"])
    'valid: cnn, mlp'
    >>> suggestion("zzz", [])
    'there is none to name'
    """
    known = sorted(valid)
    if not known:
        return "there is none to name"
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"valid: {_listed(known)}"


def short_repr(value: object) -> str:
    """Return the repr of a value, cut to 80 characters, to quote it in a message.

    >>> short_repr("sgd"), len(short_repr("x" * 5000))
    ("'sgd'", 80)
    """
    return shortened(repr(value))


def shortened(text: str) -> str:
    """Return a text, cut to 80 characters with an ellipsis.

    >>> shortened("optimizer.lr"), len(shortened("x" * 5000))
    ('optimizer.lr', 80)
    """
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}..."


def _listed(names: list[str]) -> str:
    count = len(names)
    while count > 1 and len(", ".join(names[:count])) > _LONGEST_LIST:
        count -= 1
    rest = f" and {len(names) - count} more" if count < len(names) else ""
    return f"{', '.join(names[:count])}{rest}"
