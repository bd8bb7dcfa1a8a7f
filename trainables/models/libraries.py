"""Networks of torchvision and timm by name, and their weights from a file or from the library itself."""

import importlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, final

import torch
from torch import Tensor, nn

from trainables._torchvision import import_torchvision
from trainables.errors import ConfigError, Problem, short_repr, suggestion

__all__ = ["LIBRARIES", "Library", "Pretrained", "Source"]

logger = logging.getLogger(__name__)
ImageShape = tuple[int, int, int]
_FILES = (".pth", ".pt")
_WEIGHTS = "model.args.weights"


@final
@dataclass(frozen=True, slots=True)
class Pretrained:
    """Weights to begin with: a function that reads them, and True if that needs no network."""

    name: str
    read: Callable[[], Mapping[str, Tensor]]
    is_file: bool

    def problems(self, module: nn.Module, *, head: str | None) -> list[Problem]:
        """Return the problems of a file's weights for a network, whose head may have another number of classes."""
        if not self.is_file:
            return []
        try:
            self._fitting(module, head)
        except ConfigError as error:
            return list(error.problems)
        return []

    def load_into(self, module: nn.Module, *, head: str | None) -> None:
        """Load the weights; a head of another number of classes keeps its new weights, which is logged.

        Raises:
            ConfigError: the weights cannot be read, or are of another network.
        """
        fitting = self._fitting(module, head)
        module.load_state_dict(fitting, strict=False)
        if head is not None and f"{head}.weight" not in fitting:
            logger.warning("%s: %s has new weights, as those of %s are of other classes", _WEIGHTS, head, self.name)

    def _fitting(self, module: nn.Module, head: str | None) -> dict[str, Tensor]:
        state, own = self.read(), module.state_dict()
        replaced = {f"{head}.weight", f"{head}.bias"}
        other = [name for name in state if name not in own]
        other += [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
        other += [name for name in own if name in state and state[name].shape != own[name].shape]
        other = [name for name in other if name not in replaced]
        if other:
            rest = f" and {len(other) - 1} more" if len(other) > 1 else ""
            message = f"{self.name} must be weights of this network, got others: {short_repr(other[0])}{rest}"
            raise ConfigError([Problem(_WEIGHTS, f"{message} do not fit; name a file of its state_dict")])
        return {name: value for name, value in state.items() if value.shape == own[name].shape}


@final
@dataclass(frozen=True, slots=True)
class Source:
    """Builder of a network for images of a shape and a number of classes.

    With `repeats_gray`, it always takes three channels, and gray images are repeated for it.
    """

    name: str
    build: Callable[[ImageShape, int], Any]
    has_arguments: bool = False
    repeats_gray: bool = False
    pretrained: Pretrained | None = None

    def seen(self, image_shape: ImageShape) -> ImageShape:
        """Return the shape of the images that the network gets."""
        return (3, *image_shape[1:]) if self.repeats_gray and image_shape[0] == 1 else image_shape

    def weight_problems(self, module: nn.Module, *, head: str | None) -> list[Problem]:
        """Return the problems of the weights to begin with."""
        return [] if self.pretrained is None else self.pretrained.problems(module, head=head)


class Library(Protocol):
    """Library of networks by name."""

    @property
    def weights_arguments(self) -> Collection[str]:
        """Names of arguments that only decide the first weights."""

    def source(self, name: str, arguments: Mapping[str, Any]) -> Source:
        """Return the builder of a network.

        Raises:
            ConfigError: no such network or weights, or the library is not installed.
        """


@final
class Torchvision:
    """Classifiers of torchvision; `weights` is a file of a state_dict, or a name such as IMAGENET1K_V1."""

    weights_arguments = frozenset({"weights"})

    def source(self, name: str, arguments: Mapping[str, Any]) -> Source:
        """Return the builder of a classifier."""
        models = import_torchvision("torchvision.models")
        known = models.list_models(module=models)
        if name not in known:
            raise ConfigError(
                [Problem("model.name", f"torchvision has no {short_repr(name)}; {suggestion(name, known)}")]
            )
        own = {key: value for key, value in arguments.items() if key not in self.weights_arguments}
        weights = arguments.get("weights")

        def build(_: ImageShape, num_classes: int) -> Any:
            return models.get_model(name, weights=None, num_classes=num_classes, **own)

        return Source(
            f"torchvision:{name}",
            build,
            has_arguments=bool(own),
            repeats_gray=True,
            pretrained=None if weights is None else self._pretrained(models, name, weights),
        )

    def _pretrained(self, models: Any, name: str, weights: Any) -> Pretrained:
        if is_file(weights):
            return _of_file(weights)
        published = models.get_model_weights(name).__members__
        if weights not in published:
            hint = f"or of a file ({', '.join(_FILES)})"
            message = f"must be the name of weights of {name} {hint}, got {short_repr(weights)}"
            raise ConfigError([Problem(_WEIGHTS, f"{message}; {suggestion(str(weights), published)}")])
        chosen = published[weights]

        def read() -> Mapping[str, Tensor]:
            try:
                state: Mapping[str, Tensor] = chosen.get_state_dict(progress=False, check_hash=True)
            except (OSError, RuntimeError) as error:  # no network, or a file that changed on its way
                message = (
                    f"downloading {chosen.url} fails: {short_repr(str(error))}; fetch it, and give the file's path"
                )
                raise ConfigError([Problem(_WEIGHTS, message)]) from error
            return state

        return Pretrained(weights, read, is_file=False)


@final
class Timm:
    """Models of timm; `pretrained: true` has it download its own weights, `weights` is a file of a state_dict."""

    weights_arguments = frozenset({"weights", "pretrained"})

    def source(self, name: str, arguments: Mapping[str, Any]) -> Source:
        """Return the builder of a model."""
        try:
            import_torchvision()  # timm imports it
            timm: Any = importlib.import_module("timm")
        except ModuleNotFoundError as error:
            message = f"needs {error.name}, which is not installed; pip install timm"
            raise ConfigError([Problem("model.name", f"timm:{name} {message}")]) from error
        if not timm.is_model(name):
            known = timm.list_models()
            raise ConfigError([Problem("model.name", f"timm has no {short_repr(name)}; {suggestion(name, known)}")])
        own = {key: value for key, value in arguments.items() if key not in self.weights_arguments}
        settings = {"pretrained": False, **{key: arguments[key] for key in ("pretrained",) if key in arguments}}

        def build(image_shape: ImageShape, num_classes: int) -> Any:
            on_meta = torch.get_default_device().type == "meta"
            chosen = {"pretrained": settings["pretrained"] and not on_meta}
            return timm.create_model(name, num_classes=num_classes, in_chans=image_shape[0], **chosen, **own)

        weights = arguments.get("weights")
        return Source(
            f"timm:{name}",
            build,
            has_arguments=bool(own),
            pretrained=None if weights is None else _of_file(weights),
        )


LIBRARIES: Final[Mapping[str, Library]] = MappingProxyType({"torchvision": Torchvision(), "timm": Timm()})


def is_file(weights: object) -> bool:
    """Return True if an argument `weights` is the path of a file.

    >>> is_file("resnet18.pth"), is_file("IMAGENET1K_V1")
    (True, False)
    """
    return isinstance(weights, str) and weights.endswith(_FILES)


def _of_file(path: str) -> Pretrained:
    if not is_file(path):
        message = f"must be the path of a state_dict ({', '.join(_FILES)}), got {short_repr(path)}"
        raise ConfigError([Problem(_WEIGHTS, message)])

    def read() -> Mapping[str, Tensor]:
        try:
            state = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise ConfigError(
                [Problem(_WEIGHTS, f"no file {path}; give its path from the working directory, or an absolute one")]
            ) from error
        except Exception as error:  # a damaged pickle may raise any error
            message = f"{path} cannot be read without running its code ({type(error).__name__}); save a state_dict"
            raise ConfigError([Problem(_WEIGHTS, message)]) from error
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            message = f"{path} must hold a state_dict of tensors, got a {type(state).__name__}; save model.state_dict()"
            raise ConfigError([Problem(_WEIGHTS, message)])
        return state

    return Pretrained(path, read, is_file=True)
