"""Names of the modules of any network, from one forward pass in eval mode and one in training mode.

A module can be named if it runs exactly once in each pass, and returns one tensor of floats with a row for each image.
Make the passes on a copy of the network, which they may change; the `meta` device is enough where it allows that.
Shapes: B images, K classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainables.config.values import LAYER_NAME
from trainables.models.tapped import ALL, HIDDEN, INPUT, LOGITS, PENULTIMATE, Part

__all__ = ["Layout", "OutputError", "trace"]

_BATCHES = {"eval": 3, "training": 4}  # two sizes, so that another dimension is not taken for that of the images
_RESERVED = frozenset({HIDDEN, ALL, INPUT, PENULTIMATE, LOGITS})


class OutputError(Exception):
    """A network does not return logits; the message says what it returns and what to do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of a network's modules, in the order in which the modules end.

    order: taps, with 'penultimate' where the head begins, and 'logits' at the end.
    stages: the modules that the group 'hidden' means.
    mixable: modules that end before the logits are made.
    head: the linear layer that makes the logits, or None.
    overwritten: modules whose output a later operation changes in place.
    parts: class and number of parameters of each module, by name.
    unnamed: modules that cannot be named, each with the reason.
    """

    order: tuple[str, ...]
    stages: tuple[str, ...]
    mixable: tuple[str, ...]
    head: str | None
    overwritten: frozenset[str]
    parts: Mapping[str, Part]
    unnamed: Mapping[str, str]


@dataclass(slots=True)
class _Run:
    """Record of one forward pass: outputs by module, and the order in which modules ended."""

    outputs: dict[str, list[Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    output: Any = None
    is_softmax: bool = False

    def start(self, path: str, _module: nn.Module, _arguments: Any) -> None:
        self.started[path] = len(self.order)

    def end(self, path: str, _module: nn.Module, _arguments: Any, output: Any) -> None:
        self.outputs.setdefault(path, []).append(output)
        self.order.append(path)
        if isinstance(output, Tensor):
            self.versions[path] = output._version  # noqa: SLF001 - torch's own count of changes in place

    def overwritten(self) -> list[str]:
        """Return the modules whose last output was changed in place after they ended."""
        return [path for path, version in self.versions.items() if self.outputs[path][-1]._version != version]  # noqa: SLF001


class _Softmax(TorchFunctionMode):
    """Keep the results of every softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Any] = []

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax":
            self.results.append(result)
        return result


def trace(module: nn.Module, *, image_shape: tuple[int, int, int], num_classes: int, device: str) -> Layout:
    """Return the names of a network on a device, for images of this shape.

    Raises:
        OutputError: it does not return logits (B, K).
        Exception: an error of its own code.
    """
    with torch.device(device), torch.no_grad():
        runs = {mode: _run(module, image_shape, mode=mode) for mode in _BATCHES}
    for mode, run in runs.items():
        _check_output(run, num_classes=num_classes, mode=mode)
    return _layout(module, runs)


def _run(module: nn.Module, image_shape: tuple[int, int, int], *, mode: str) -> _Run:
    run, handles = _Run(), []
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(partial(run.start, path)))
        handles.append(part.register_forward_hook(partial(run.end, path)))
    try:
        with _Softmax() as softmax:
            run.output = module.train(mode == "training")(torch.zeros(_BATCHES[mode], *image_shape))
    finally:
        for handle in handles:
            handle.remove()
    run.is_softmax = any(run.output is result for result in softmax.results)
    return run


def _check_output(run: _Run, *, num_classes: int, mode: str) -> None:
    output, batch = run.output, _BATCHES[mode]
    where = "" if mode == "eval" else f" in {mode} mode"
    expected = f"must return logits of shape ({batch}, {num_classes}) for {batch} images{where}"
    if not isinstance(output, Tensor):
        raise OutputError(f"{expected}, got a {type(output).__name__}; return the logits alone, nothing auxiliary")
    shape = tuple(output.shape)
    if shape != (batch, num_classes):
        raise OutputError(f"{expected}, got {shape}; {_remedy(shape, batch, num_classes)}")
    if output.dtype != torch.float32:
        raise OutputError(f"{expected} in float32, got {_short(output.dtype)}; end with .float()")
    if run.is_softmax:
        raise OutputError(f"{expected}, got the probabilities of a softmax; leave the softmax out")


def _remedy(shape: tuple[int, ...], batch: int, num_classes: int) -> str:
    if len(shape) == 2 and shape[0] == batch:
        return f"end with {num_classes} outputs, the number that an argument `num_classes` gets"
    if len(shape) > 2:
        return "pool and flatten the image before the last layer"
    return "keep a row for each image"


def _layout(module: nn.Module, runs: Mapping[str, _Run]) -> Layout:
    run, unnamed = runs["eval"], dict(_unnamed(module, runs))
    named = [path for path in run.order if path and path not in unnamed]
    head = _head(module, run)
    before = set(run.order if head is None else run.order[: run.started[head]])
    before -= {path for path, outputs in run.outputs.items() if outputs[-1] is run.output}
    order = list(named)
    if head is not None:
        order.insert(sum(path in before for path in named), PENULTIMATE)
    return Layout(
        order=(*order, LOGITS),
        stages=tuple(path for path in _stages(module, run, before) if path not in unnamed),
        mixable=tuple(path for path in named if path in before),
        head=head,
        overwritten=frozenset(path for mode in runs.values() for path in mode.overwritten()),
        parts={path: _part(module.get_submodule(path)) for path in (*named, *((head,) if head else ()))},
        unnamed=unnamed,
    )


def _head(module: nn.Module, run: _Run) -> str | None:
    """Return the last linear layer, if it ran once and returned as many numbers as there are classes."""
    linear = [path for path in run.order if isinstance(module.get_submodule(path), nn.Linear)]
    if not linear or len(run.outputs[linear[-1]]) != 1 or run.outputs[linear[-1]][0].shape != run.output.shape:
        return None
    return linear[-1]


def _stages(module: nn.Module, run: _Run, before: set[str]) -> list[str]:
    """Return the children that end before the logits are made, in order; of a single one, its own children."""
    children = _children(module, "", run)
    while True:
        stages = [path for path in children if path in before]
        single = stages or children
        deeper = _children(module, single[0], run) if len(single) == 1 else []
        if not deeper:
            return stages
        children = deeper


def _children(module: nn.Module, path: str, run: _Run) -> list[str]:
    """Return the children that ran, in order; one that never runs itself, as a ModuleList, is replaced by its own."""
    children: list[str] = []
    for name, _ in module.get_submodule(path).named_children():
        child = f"{path}.{name}" if path else name
        children += [child] if child in run.outputs else _children(module, child, run)
    return sorted(dict.fromkeys(children), key=run.order.index)


def _part(module: nn.Module) -> Part:
    return Part(type(module).__name__, sum(parameter.numel() for parameter in module.parameters()))


def _unnamed(module: nn.Module, runs: Mapping[str, _Run]) -> Iterator[tuple[str, str]]:
    first: dict[int, str] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        if not path:
            continue
        original = first.setdefault(id(part), path)
        reason = _reason(path, runs) if original == path else f"it is the same module as {original}"
        if reason is not None:
            yield path, reason


def _reason(path: str, runs: Mapping[str, _Run]) -> str | None:
    """Return the reason for which a module cannot be named."""
    for mode, run in runs.items():
        outputs, where = run.outputs.get(path, []), "" if mode == "eval" else f" in {mode} mode"
        if len(outputs) != 1:
            return f"it runs {len(outputs)} times{where}" if outputs else f"it never runs{where}"
        (output,) = outputs
        if not isinstance(output, Tensor):
            return f"it returns a {type(output).__name__}{where}, not one tensor"
        if output.dim() == 0 or len(output) != _BATCHES[mode]:
            return f"it returns {tuple(output.shape)} for {_BATCHES[mode]} images{where}, not a row for each"
        if not output.is_floating_point():
            return f"it returns {_short(output.dtype)}{where}"
    if path in _RESERVED:
        return "this name is reserved; rename the attribute"
    return None if LAYER_NAME.fullmatch(path) else "its name has other characters than letters, digits, _ and ."


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
