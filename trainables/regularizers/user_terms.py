"""Regularizers by name or import path: built with their arguments, and every step of theirs checked.

What a user's class does wrong is a problem at `regularizers.LABEL`, with the file and line where its code raised.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainables.config.regularizers import GROUP, NAMES, REGISTRY, RegularizerConfig
from trainables.errors import ConfigError, Problem, TrainableError, short_repr
from trainables.import_paths import argument_problems, call, load
from trainables.mixup import Shift
from trainables.models import Activations
from trainables.regularizers.protocol import Batch, Memory, Needs, Regularizer, Term
from trainables.snnl.distances import full_precision
from trainables.user_code import described, raised

__all__ = ["UserTerm", "build", "class_of", "needs_of", "signature_problems"]

PROVIDED = ("num_classes",)
_ATTACHED = "compute it from batch.taps or batch.logits, without detach() or item()"


def class_of(label: str, settings: RegularizerConfig) -> Callable[..., Any]:
    """Return the class of a regularizer.

    Raises:
        ConfigError: it cannot be imported, or is none.
    """
    place, use = f"{GROUP}.{label}.use", settings.use
    if use in NAMES:
        use = f"trainables.regularizers.terms.{use}:REGULARIZER"
    target = load(use, group=REGISTRY, place=place)
    is_one = callable(getattr(target, "term", None)) if isinstance(target, type) else inspect.isroutine(target)
    if not is_one:
        what = f"the class {target.__name__} without it" if isinstance(target, type) else f"{type(target).__name__}"
        raise ConfigError([Problem(place, f"must name a class with a method term(batch, memory), got {what}")])
    return target  # type: ignore[no-any-return]


def needs_of(target: Any) -> Needs:
    """Return what a regularizer, or its class, declares that it reads."""
    needs: Needs = getattr(target, "needs", Needs())
    return needs


def signature_problems(label: str, settings: RegularizerConfig) -> list[Problem]:
    """Return the problems of a regularizer's name and arguments that show by import and signature; nothing is built."""
    try:
        return _signature_problems(class_of(label, settings), label, settings)
    except ConfigError as error:
        return list(error.problems)


def _signature_problems(target: Callable[..., Any], label: str, settings: RegularizerConfig) -> list[Problem]:
    place = f"{GROUP}.{label}"
    return [
        *_name_problems(target, _name(target), place),
        *argument_problems(target, settings.by_name, place=place, provided=PROVIDED),
    ]


def _name(target: Callable[..., Any]) -> str:
    return getattr(target, "__name__", type(target).__name__)


def build(label: str, settings: RegularizerConfig, *, num_classes: int) -> "UserTerm":
    """Return the regularizer of a label.

    Raises:
        ConfigError: its class cannot be imported, its arguments are wrong, or its constructor raises.
    """
    target = class_of(label, settings)
    name, place = _name(target), f"{GROUP}.{label}"
    if problems := _signature_problems(target, label, settings):
        raise ConfigError(problems)
    try:
        regularizer = call(target, settings.by_name, provided={"num_classes": num_classes})
    except Exception as error:
        raise ConfigError([Problem(place, f"{name}() {raised(error, target)}")]) from error
    problems = [*_object_problems(regularizer, name, place)] or [
        *_need_problems(needs_of(regularizer), settings, place)
    ]
    if problems:
        raise ConfigError(problems)
    return UserTerm(regularizer, place, name)


def _name_problems(target: Callable[..., Any], name: str, place: str) -> Iterable[Problem]:
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # written in C
        return
    for taken in RegularizerConfig.model_fields:
        if taken in parameters:
            yield Problem(
                f"{place}.{taken}", f"is Ravel's own parameter, and {name} has an argument {taken!r}; rename it"
            )


def _object_problems(regularizer: Any, name: str, place: str) -> Iterable[Problem]:
    if not callable(getattr(regularizer, "term", None)):
        got = f"{type(regularizer).__name__} from {name}()"
        yield Problem(f"{place}.use", f"must make an object with a method term(batch, memory), got {got}")
    elif not isinstance(needs_of(regularizer), Needs):
        yield Problem(f"{place}.use", f"{name}.needs must be Needs(...), got {short_repr(needs_of(regularizer))}")
    elif isinstance(regularizer, nn.Module) and (state := [*regularizer.state_dict()]):
        remedy = "keep it in the memory that term returns, or no optimizer and no checkpoint has it"
        yield Problem(f"{place}.use", f"must hold no tensors, and {name} has {', '.join(state)}; {remedy}")


def _need_problems(needs: Needs, settings: RegularizerConfig, place: str) -> Iterable[Problem]:
    if needs.layers is None and settings.layers is not None:
        yield Problem(
            f"{place}.layers", f"must be left out, as it reads none (needs.layers), got {short_repr(settings.layers)}"
        )
    if settings.on_mixed and not needs.soft_labels:
        yield Problem(f"{place}.on_mixed", "must be false, as it takes hard labels (needs.soft_labels), got true")
    if settings.passes != needs.passes:
        yield Problem(
            f"{place}.passes", f"must be {needs.passes}, as it declares (needs.passes), got {settings.passes}"
        )


@dataclass(frozen=True, slots=True)
class UserTerm:
    """Regularizer of a user, called in full precision, with each result checked.

    `place` is that of its parameters, `name` that of its class, for messages.
    """

    regularizer: Regularizer
    place: str
    name: str

    @property
    def needs(self) -> Needs:
        """Inputs that it reads."""
        return needs_of(self.regularizer)

    def term(self, batch: Batch, memory: Memory) -> Term:
        """Return the term of one step.

        Raises:
            ConfigError: it raises, or returns what is no term.
        """
        forward = _Forward(batch.forward, batch.images.device.type)
        widened = replace(batch, taps=_wide(batch.taps), logits=_wide_one(batch.logits), forward=forward)
        try:
            with full_precision(batch.images.device):
                result = self.regularizer.term(widened, memory)
        except (torch.OutOfMemoryError, MemoryError, TrainableError):
            raise
        except Exception as error:
            raise self._error(raised(error, self.regularizer)) from error
        if forward.calls > self.needs.passes:
            raise self._error(f"must make {self.needs.passes} further passes (needs.passes), made {forward.calls}")
        return self._checked(result, memory)

    def _checked(self, result: object, before: Memory) -> Term:
        term = Term(result) if isinstance(result, Tensor) else result
        if not isinstance(term, Term):
            raise self._error(f"must return a Term, or a tensor of shape (), got {described(result)}")
        self._check_value(term.value)
        self._check_metrics(term.metrics)
        self._check_memory(term.memory, before)
        return term

    def check_gradient(self, value: Tensor, model: nn.Module) -> None:
        """Check that a value depends on the parameters of the model.

        Raises:
            ConfigError: it does not, and would not change training whatever its weight.
        """
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        slopes = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        if all(slope is None for slope in slopes):
            raise self._error(f"returns a value that depends on no parameter of the model; {_ATTACHED}")

    def _check_value(self, value: object) -> None:
        if problem := _scalar_problem(value):
            raise self._error(f"must return a value of shape (), {problem}")
        if not getattr(value, "requires_grad", False):
            raise self._error(f"returns a value without a gradient; {_ATTACHED}")

    def _check_metrics(self, metrics: object) -> None:
        if not isinstance(metrics, Mapping):
            raise self._error(f"must return metrics by name, got {described(metrics)}")
        for key, value in metrics.items():
            if not isinstance(key, str) or not key.isidentifier():
                raise self._error(f"must name its metrics with letters, digits and _, got {short_repr(key)}")
            if problem := _scalar_problem(value):
                raise self._error(f"must return the metric {key!r} as a tensor of shape (), {problem}")

    def _check_memory(self, memory: object, before: Memory) -> None:
        if not isinstance(memory, Mapping) or not all(isinstance(value, Tensor) for value in memory.values()):
            raise self._error(f"must return a memory of tensors by name, got {described(memory)}")
        attached = [key for key, value in memory.items() if value.requires_grad]
        if attached:
            raise self._error(f"must detach what it remembers, got {attached[0]!r} with a gradient; use .detach()")
        if before and (was := _structure(before)) != (now := _structure(memory)):
            changed = next(key for key in {**was, **now} if was.get(key) != now.get(key))
            got = f"{changed!r} from {was.get(changed, 'absent')} to {now.get(changed, 'absent')}"
            raise self._error(f"must keep names, shapes and types of its memory from step to step, changed {got}")

    def _error(self, what: str) -> ConfigError:
        return ConfigError([Problem(self.place, f"{self.name}.term {what}")])


class _Forward:
    """Further passes, counted, with the autocast of the step."""

    def __init__(self, forward: Callable[..., Activations], device_type: str) -> None:
        self.calls = 0
        self._forward = forward
        self._autocast = partial(
            torch.autocast,
            device_type,
            dtype=torch.get_autocast_dtype(device_type),
            enabled=torch.is_autocast_enabled(device_type),
        )

    def __call__(self, images: Tensor, shift: Shift | None = None) -> Activations:
        self.calls += 1
        with self._autocast():
            activations = self._forward(images) if shift is None else self._forward(images, shift=shift)
        return Activations(_wide_one(activations.logits), _wide(activations.taps))


def _wide(taps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {tap: _wide_one(value) for tap, value in taps.items()}


def _wide_one(value: Tensor) -> Tensor:
    return value if value.dtype in {torch.float32, torch.float64} else value.float()


def _scalar_problem(value: object) -> str | None:
    if not isinstance(value, Tensor):
        return f"got {described(value)}"
    if value.dim() != 0:
        return f"got a tensor of shape {tuple(value.shape)}; take its mean() or sum()"
    if value.is_complex():
        return f"got one of {value.dtype}; take its real part"
    return None


def _structure(memory: Memory) -> dict[str, str]:
    return {key: f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}" for key, value in memory.items()}
