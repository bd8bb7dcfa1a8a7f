"""Lipschitz constants: upper bounds of the stretch of a change of the image, by layer and by all layers together.

A network changes its output by at most L |r| when its input changes by r, L being the product of its
layers' constants (Szegedy et al., "Intriguing properties", ICLR 2014, section 4.3, corrected: see
`operator_norms`). A large bound does not mean that adversarial images exist; a small one excludes them within a
distance. All constants are for the Euclidean norm and for eval mode, in float64.
Shapes: B images, C channels, H by W pixels, D channels or units out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from trainables.attacks import evaluating
from trainables.evaluation.stability import operator_norms
from trainables.models.residual import PreActivationBlock
from trainables.models.tapped import INPUT, TappedClassifier

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Constant", "UnknownConstant", "constants", "module_constant"]

_POWER_STEPS = 60


class UnknownConstant(TypeError, ValueError):
    """No Lipschitz constant is known for a module, or for one of its settings."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Lipschitz constant of a module, and the kind of its guarantee.

    bound: at least the Lipschitz constant.
    exact: True if the bound is the constant itself, as far as the layer's weights decide; else it is a safe bound.
    lower: an estimate that is never above the constant, or None; residual: of that estimate.
    reshaped: the number that spectral normalisation takes for the norm of a convolution; no bound of it from above.
    parts: constants that the bound is made of.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    bound: float
    exact: bool = True
    lower: float | None = None
    residual: float | None = None
    reshaped: float | None = None
    parts: tuple[Constant, ...] = ()

    def __iter__(self) -> Iterator[Constant]:
        """Yield the leaves in the order of the forward pass."""
        for part in self.parts:
            yield from part
        if not self.parts:
            yield self

    @property
    def log10_bound(self) -> float:
        """Order of magnitude, which is finite even if `bound` has overflowed.

        >>> Constant("fc", "linear", (4,), 100.0).log10_bound
        2.0
        """
        if self.kind == _CHAIN:
            return sum(part.log10_bound for part in self.parts)
        return math.log10(self.bound) if self.bound > 0 else -math.inf


_CHAIN: Final = "chain"


@torch.no_grad()
def constants(model: TappedClassifier, image_shape: tuple[int, int, int], *, seed: int = 0) -> tuple[Constant, ...]:
    """Return constants of the normalisation ('input'), each stage, and the head ('logits'), for images of this shape.

    Raises:
        UnknownConstant: a network that is no chain of modules, or a module or setting without a rule; names it.
        ValueError: weights that are not finite; names the module.

    >>> from trainables.config.trial import ModelConfig
    >>> from trainables.models import build
    >>> model = build(ModelConfig(name="mlp"), image_shape=(1, 4, 4), num_classes=3, std=(0.5,))
    >>> [(stage.name, len(list(stage))) for stage in constants(model, (1, 4, 4))]
    [('input', 1), ('fc1', 3), ('fc2', 2), ('penultimate', 2), ('logits', 1)]
    >>> constants(model, (1, 4, 4))[0].bound
    2.0
    """
    try:
        chain = model.chain()
    except TypeError as error:
        raise UnknownConstant(str(error)) from error
    with evaluating(model), torch.autocast(model.mean.device.type, enabled=False):
        h = torch.zeros(1, *image_shape, dtype=model.mean.dtype, device=model.mean.device)
        result = [Constant(INPUT, "normalisation", image_shape, 1 / float(model.std.min()))]
        for name, stage in chain.items():
            result.append(module_constant(stage, h, name=name, seed=seed))
            h = stage(h)
    return tuple(result)


@torch.no_grad()
def module_constant(module: nn.Module, x: Tensor, *, name: str, seed: int = 0) -> Constant:
    """Return the constant of a module in eval mode, for inputs shaped as the batch `x`; errors and table use its name.

    A batch normalisation that directly follows a convolution or a linear layer is folded into it, which
    gives a tighter bound than the product of both.

    Raises:
        UnknownConstant, ValueError: as `constants`.

    >>> layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Sigmoid())
    >>> _ = nn.init.constant_(layers[1].weight, 1.0)
    >>> f"{module_constant(layers, torch.zeros(1, 1, 2, 2), name='fc').bound:.6f}"
    '1.000000'
    >>> try:
    ...     module_constant(nn.GELU(), torch.zeros(1, 4), name="fc.1")
    ... except UnknownConstant as error:
    ...     print(error)
    fc.1: no Lipschitz constant is known for GELU; add a rule for it to _RULES
    """
    known = _known(module)
    if known is None:
        raise UnknownConstant(
            f"{name}: no Lipschitz constant is known for {type(module).__name__}; add a rule for it to _RULES"
        )
    with evaluating(module):
        return _RULES[known](module, x, name, seed)


def _known(module: nn.Module) -> type[nn.Module] | None:
    """Return the type whose rule holds; a subclass with its own `forward` has no rule."""
    return next((t for t in _RULES if isinstance(module, t) and type(module).forward is t.forward), None)


_Rule = Callable[[Any, "Tensor", str, int], Constant]


def _sequential(module: nn.Sequential, x: Tensor, name: str, seed: int) -> Constant:
    parts = []
    shape = tuple(x.shape[1:])
    steps = list(module.named_children())
    while steps:
        key, layer = steps.pop(0)
        norm = steps.pop(0)[1] if steps and _folds(layer, steps[0][1]) else None
        if norm is None:
            parts.append(module_constant(layer, x, name=f"{name}.{key}", seed=seed))
        else:
            parts.append(_folded(layer, norm, x, name=f"{name}.{key}", seed=seed))
        x = layer(x) if norm is None else norm(layer(x))
    return Constant(
        name,
        _CHAIN,
        shape,
        math.prod(part.bound for part in parts),
        all(part.exact for part in parts),
        parts=tuple(parts),
    )


def _block(module: PreActivationBlock, x: Tensor, name: str, seed: int) -> Constant:
    """Bound the sum of branch and shortcut by |f| + |g|; if the shape changes, both begin after the normalisation."""
    opening = module_constant(module.norm1, x, name=f"{name}.norm1", seed=seed)
    h = torch.relu(module.norm1(x))
    first = _folded(module.conv1, module.norm2, h, name=f"{name}.conv1", seed=seed)
    second = module_constant(module.conv2, module.conv1(h), name=f"{name}.conv2", seed=seed)
    branch = first.bound * second.bound
    if module.shortcut is None:
        parts: tuple[Constant, ...] = (opening, first, second)
        bound = 1 + opening.bound * branch
    else:
        shortcut = module_constant(module.shortcut, h, name=f"{name}.shortcut", seed=seed)
        parts = (opening, first, second, shortcut)
        bound = opening.bound * (branch + shortcut.bound)
    return Constant(name, "residual block", tuple(x.shape[1:]), bound, exact=False, parts=parts)


def _folds(layer: nn.Module, following: nn.Module) -> bool:
    return (_known(layer), _known(following)) in {(nn.Conv2d, nn.BatchNorm2d), (nn.Linear, nn.BatchNorm1d)}


def _folded(layer: Any, norm: nn.Module, x: Tensor, *, name: str, seed: int) -> Constant:
    scale_D = _scale(norm, name)
    rule = _convolution if isinstance(layer, nn.Conv2d) else _linear
    result: Constant = rule(layer, x, name, seed, scale_D=scale_D)
    return replace(result, kind=f"{result.kind} + batch norm")


def _scale(norm: Any, name: str) -> Tensor:
    """Return the factor of a batch normalisation for each channel."""
    if norm.running_var is None:
        raise UnknownConstant(
            f"{name}: a batch normalisation needs running statistics, as without them it has no constant; "
            "got track_running_stats=False"
        )
    scale_D: Tensor = (norm.running_var.double() + norm.eps).rsqrt()
    return scale_D if norm.weight is None else scale_D * norm.weight.double()


def _batch_norm(module: nn.Module, x: Tensor, name: str, _seed: int) -> Constant:
    scale_D = _finite(_scale(module, name), name)
    return Constant(name, "batch norm", tuple(x.shape[1:]), float(scale_D.abs().max()))


def _linear(module: nn.Linear, x: Tensor, name: str, _seed: int, *, scale_D: Tensor | None = None) -> Constant:
    weight = _finite(module.weight.double() if scale_D is None else module.weight.double() * scale_D[:, None], name)
    return Constant(name, "linear", tuple(x.shape[1:]), operator_norms.matrix_norm(weight))


def _convolution(module: nn.Conv2d, x: Tensor, name: str, seed: int, *, scale_D: Tensor | None = None) -> Constant:
    _must(name, "padding_mode", module.padding_mode, "zeros")
    _must(name, "dilation", module.dilation, (1, 1))
    _must(name, "groups", module.groups, 1)
    kernel = module.weight.double()
    kernel = _finite(kernel if scale_D is None else kernel * scale_D[:, None, None, None], name)
    side, stride = _pair(x.shape[2:]), _pair(module.stride)
    padding = module.padding if isinstance(module.padding, str) else _pair(module.padding)
    estimate = operator_norms.convolution_estimate(
        kernel, side, stride=stride, padding=padding, steps=_POWER_STEPS, seed=seed
    )
    return Constant(
        name,
        "convolution",
        tuple(x.shape[1:]),
        operator_norms.zero_padded_bound(kernel, side, stride=stride),
        exact=tuple(module.kernel_size) == (1, 1),
        lower=estimate.value,
        residual=estimate.residual,
        reshaped=operator_norms.reshaped_norm(kernel),
    )


def _max_pool(module: nn.MaxPool2d, x: Tensor, name: str, _seed: int) -> Constant:
    _must(name, "dilation", _pair(module.dilation), (1, 1))
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    bound = operator_norms.max_pool_bound(kernel, stride)
    return Constant(name, "max pool", tuple(x.shape[1:]), bound, exact=bound == 1)


def _average_pool(module: nn.AvgPool2d, x: Tensor, name: str, _seed: int) -> Constant:
    _must(name, "ceil_mode", module.ceil_mode, False)
    _must(name, "divisor_override", module.divisor_override, None)
    kernel, stride, padding = _pair(module.kernel_size), _pair(module.stride), _pair(module.padding)
    if padding != (0, 0):
        _must(name, "count_include_pad", module.count_include_pad, True)
    bound = operator_norms.average_pool_bound(kernel, stride, _pair(x.shape[2:]))
    apart = all(size <= step for size, step in zip(kernel, stride, strict=True))
    return Constant(name, "average pool", tuple(x.shape[1:]), bound, exact=apart)


def _adaptive_average_pool(module: nn.AdaptiveAvgPool2d, x: Tensor, name: str, _seed: int) -> Constant:
    """Bound pooling over adjacent windows of one size."""
    side = _pair(x.shape[2:])
    left = _pair(module(x).shape[2:])
    if any(before % after for before, after in zip(side, left, strict=True)):
        raise UnknownConstant(
            f"{name}: output_size must divide the side {side}, as windows overlap otherwise, got {left}"
        )
    return Constant(name, "average pool", tuple(x.shape[1:]), math.sqrt(math.prod(left) / math.prod(side)))


def _elementwise(_module: nn.Module, x: Tensor, name: str, _seed: int, *, kind: str, bound: float = 1.0) -> Constant:
    return Constant(name, kind, tuple(x.shape[1:]), bound)


def _leaky_relu(module: nn.LeakyReLU, x: Tensor, name: str, _seed: int) -> Constant:
    return Constant(name, "leaky ReLU", tuple(x.shape[1:]), max(1.0, abs(module.negative_slope)))


def _pair(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _must(name: str, setting: str, got: object, expected: object) -> None:
    if got != expected:
        raise UnknownConstant(f"{name}: {setting} must be {expected!r} for its constant to be known, got {got!r}")


def _finite(weight: Tensor, name: str) -> Tensor:
    if not weight.isfinite().all():
        raise ValueError(f"{name}: weights must be finite, got {int((~weight.isfinite()).sum())} that are not")
    return weight


_RULES: Final[Mapping[type[nn.Module], _Rule]] = MappingProxyType(
    {
        nn.Sequential: _sequential,
        PreActivationBlock: _block,
        nn.Linear: _linear,
        nn.Conv2d: _convolution,
        nn.BatchNorm1d: _batch_norm,
        nn.BatchNorm2d: _batch_norm,
        nn.MaxPool2d: _max_pool,
        nn.AvgPool2d: _average_pool,
        nn.AdaptiveAvgPool2d: _adaptive_average_pool,
        nn.ReLU: partial(_elementwise, kind="ReLU"),
        nn.LeakyReLU: _leaky_relu,
        nn.Sigmoid: partial(_elementwise, kind="sigmoid", bound=0.25),
        nn.Tanh: partial(_elementwise, kind="tanh"),
        nn.Flatten: partial(_elementwise, kind="flatten"),
        nn.Identity: partial(_elementwise, kind="identity"),
        nn.Dropout: partial(_elementwise, kind="dropout"),
        nn.Dropout2d: partial(_elementwise, kind="dropout"),
    }
)
