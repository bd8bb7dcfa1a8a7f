"""Mixture of a training batch by a user's own function, by import path or registered name.

    def resize_mix(images, labels, alpha, generator, *, low: float = 0.1) -> MixedBatch: ...

It is called in each step with those of `images`, `labels`, `num_classes`, `alpha` and `generator` that it takes, by
name, and with `mixup.args.NAME`, and returns a `MixedBatch`, or a pair (images, soft targets). The images are its own
copy, in float32 and without gradients, and the generator has a seed of its own in each step. An adversarial batch is
mixed by a second call.
Shapes: B images, C channels, H by W pixels, K classes.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainables.config.sections import MIXUP_GROUP, MixupConfig
from trainables.errors import ConfigError, Problem, TrainableError, short_repr
from trainables.import_paths import accepted, argument_problems, call, load
from trainables.mixup import Mix, MixedBatch, interpolate
from trainables.seeding import derive
from trainables.snnl.distances import full_precision
from trainables.user_code import described, raised

__all__ = ["TransformedBatch", "UserTransform", "user_transform"]

PROVIDED = ("images", "labels", "num_classes", "alpha", "generator")
_PLACE = "mixup.kind"
# What was returned: its requirement, least and largest value (None: the last index), and what rounding may add.
REQUIREMENTS: Mapping[str, tuple[str, float, float | None, float]] = MappingProxyType(
    {
        "images": ("must keep pixels in [0, 1] (clamp its images)", 0, 1, 1e-4),
        "targets": ("must return targets in [0, 1]", 0, 1, 1e-4),
        "sums": ("must return targets that sum to 1 for each image", 1, 1, 1e-4),
        "lam": ("must return lam in [0, 1]", 0, 1, 0),
        "permutation": ("must return a permutation with indices in 0..{}", 0, None, 0),
    }
)


@dataclass(frozen=True, slots=True)
class TransformedBatch:
    """Images (B, C, H, W) that a transform returned, and the soft targets (B, K) of all that comes after them."""

    images: Tensor
    targets: Tensor
    boundary: str = "input"


@dataclass(frozen=True, slots=True)
class UserTransform:
    """Transform of a user, with each result checked; `name` is that of its function, for messages."""

    function: Callable[..., Any]
    name: str
    settings: MixupConfig

    def __call__(
        self, x_BCHW: Tensor, y_B: Tensor, *, num_classes: int, boundaries: tuple[str, ...], seed: int
    ) -> TransformedBatch | Mix:
        """Return the mixture of a batch: its images, or how to blend hidden states at one of the boundaries.

        Raises:
            ConfigError: the function raises, or returns no mixture of this batch.
        """
        provided = {
            "images": x_BCHW.detach().clone(),
            "labels": y_B.clone(),
            "num_classes": num_classes,
            "alpha": self.settings.alpha,
            "generator": torch.Generator(x_BCHW.device).manual_seed(seed),
        }
        try:
            with torch.no_grad(), full_precision(x_BCHW.device):
                result = call(self.function, self.settings.args.by_name, provided=provided)
        except (torch.OutOfMemoryError, MemoryError, TrainableError):
            raise
        except Exception as error:
            raise self._error(raised(error, self.function)) from error
        mixed = self._form_of(result)
        if mixed.images is None:
            lam, partner_B = self._blend(mixed, x_BCHW)
            self._check_ranges(lam=lam, permutation=partner_B)
            return Mix(boundaries[derive(seed, "boundary") % len(boundaries)], lam, partner_B)
        self._check_place(boundaries)
        self._check_tensor("images", mixed.images, x_BCHW.shape, x_BCHW)
        if mixed.targets is not None:
            self._check_tensor("targets", mixed.targets, (len(x_BCHW), num_classes), x_BCHW)
            self._check_ranges(images=mixed.images, targets=mixed.targets, sums=mixed.targets.sum(1))
            return TransformedBatch(mixed.images, mixed.targets)
        lam, partner_B = self._blend(mixed, x_BCHW)
        self._check_ranges(images=mixed.images, lam=lam, permutation=partner_B)
        one_hot_BK = functional.one_hot(y_B, num_classes).to(x_BCHW.dtype)
        return TransformedBatch(mixed.images, interpolate(one_hot_BK, lam=lam, permutation=partner_B))

    def _form_of(self, result: object) -> MixedBatch:
        """Return a result as one of the three forms of a mixture."""
        if isinstance(result, tuple) and len(result) == 2:
            result = MixedBatch(*result)
        if not isinstance(result, MixedBatch):
            raise self._error(f"must return a MixedBatch or (images, targets), got {_outline(result)}")
        parts = [part for part in ("images", "targets", "lam", "permutation") if getattr(result, part) is not None]
        if parts not in (["images", "targets"], ["images", "lam", "permutation"], ["lam", "permutation"]):
            wanted = "images with targets, or lam with permutation (and images)"
            raise self._error(f"must return {wanted}, got {', '.join(parts) or 'none of them'}")
        return result

    def _check_place(self, boundaries: tuple[str, ...]) -> None:
        if boundaries != ("input",):
            message = f"must be 'input', as {self.name} returns images, got {short_repr(self.settings.layers)}"
            raise ConfigError(
                [Problem("mixup.layers", f"{message}; return lam and permutation alone to mix hidden states")]
            )

    def _blend(self, mixed: MixedBatch, x_BCHW: Tensor) -> tuple[float | Tensor, Tensor]:
        """Return lambda and the partners, of the right shapes and types."""
        count, lam, partner_B = len(x_BCHW), mixed.lam, mixed.permutation
        if not isinstance(partner_B, Tensor) or partner_B.shape != (count,) or partner_B.dtype != torch.int64:
            raise self._error(f"must return a permutation ({count},) of int64, got {_outline(partner_B)}")
        if isinstance(lam, Tensor):
            if lam.shape not in {torch.Size([]), (count,)} or not lam.dtype.is_floating_point:
                raise self._error(f"must return lam as a number or a tensor ({count},), got {_outline(lam)}")
            lam = lam.to(x_BCHW)
        elif isinstance(lam, bool) or not isinstance(lam, int | float):
            raise self._error(f"must return lam as a number or a tensor ({count},), got {_outline(lam)}")
        return lam, partner_B.to(x_BCHW.device)

    def _check_tensor(self, what: str, value: object, shape: tuple[int, ...], like: Tensor) -> None:
        is_alike = isinstance(value, Tensor) and value.dtype == like.dtype and value.device == like.device
        if not is_alike or value.shape != torch.Size(shape):  # type: ignore[attr-defined]
            wanted = f"{tuple(shape)} of {str(like.dtype).removeprefix('torch.')} on {like.device.type}"
            raise self._error(f"must return {what} {wanted}, got {_outline(value)}")

    def _check_ranges(self, **values: float | Tensor) -> None:
        """Check the least and the largest value of each, in one wait for the device."""
        tensors = {what: value for what, value in values.items() if isinstance(value, Tensor)}
        edges = torch.stack([edge.double() for value in tensors.values() for edge in value.aminmax()]).tolist()
        ranges = dict(zip(tensors, zip(edges[::2], edges[1::2], strict=True), strict=True))
        for what, value in values.items():
            least, most = ranges.get(what, (value, value))
            requirement, low, high, tolerance = REQUIREMENTS[what]
            limit = len(tensors[what]) - 1 if high is None else high
            if not (least >= low - tolerance and most <= limit + tolerance):
                got = " to ".join(dict.fromkeys((f"{least:g}", f"{most:g}")))
                raise self._error(f"{requirement.format(limit)}, got {got}")

    def _error(self, what: str) -> ConfigError:
        return ConfigError([Problem(_PLACE, f"{self.name} {what}")])


def user_transform(settings: MixupConfig) -> UserTransform | None:
    """Return a user's transform, or None if the mixture is one of ours.

    Raises:
        ConfigError: it cannot be imported, is no function, or takes other arguments.
    """
    if not settings.is_own:
        return None
    function = load(settings.kind, group=MIXUP_GROUP, place=_PLACE)
    if not callable(function) or inspect.isclass(function):
        raise ConfigError([Problem(_PLACE, f"must name a function (images, labels, ...), got {short_repr(function)}")])
    name = getattr(function, "__name__", type(function).__name__)
    problems = argument_problems(function, settings.args.by_name, place="mixup.args", provided=PROVIDED)
    if "alpha" not in accepted(function, PROVIDED) and settings.alpha not in {0, 1}:
        message = f"must be 1 (on) or 0 (off), as {name} takes no alpha, got {settings.alpha:g}"
        problems.append(Problem("mixup.alpha", message))
    if problems:
        raise ConfigError(problems)
    return UserTransform(function, name, settings)


def _outline(value: object) -> str:
    """Return the shape and type of a tensor, or the type and value of another result."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__ if isinstance(value, tuple | list | dict) else described(value)
