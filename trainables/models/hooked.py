"""Adapter of any network to the interface of a classifier: its modules are taps and boundaries by their paths.

    layer2, blocks.3     outputs of modules, read and mixed by hooks that exist during the call that needs them
    penultimate          input of the linear layer that makes the logits, where one does
    logits               output of the network

Shapes: B images, C channels, H by W pixels, K classes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor, nn

from trainables import mixup
from trainables.mixup import Mix, Shift
from trainables.models.tapped import INPUT, LOGITS, PENULTIMATE, Activations, Part, TappedClassifier
from trainables.models.trace import Layout

__all__ = ["HookedClassifier"]


@final
class HookedClassifier(TappedClassifier):
    """Classifier of images in [0, 1] around a network that maps standardised images to logits (B, K).

    The group 'hidden' means the network's stages: its children in the order in which they run, without that which makes
    the logits. With `repeats_gray`, the one channel of gray images is repeated for a network of three.

    >>> import torch
    >>> from trainables.models.trace import trace
    >>> def net():
    ...     return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> layout = trace(net(), image_shape=(1, 2, 2), num_classes=2, device="cpu")
    >>> model = HookedClassifier(net(), layout, channels=1)
    >>> model.taps, model.boundaries
    (('0', '1', '2', 'penultimate', 'logits'), ('input', '0', '1'))
    >>> model.features(torch.zeros(5, 1, 2, 2), taps=["1"]).taps["1"].shape
    torch.Size([5, 3])
    """

    def __init__(self, module: nn.Module, layout: Layout, *, channels: int, repeats_gray: bool = False) -> None:
        super().__init__(channels=channels)
        self.module = module
        self.layout = layout
        self.taps = (*layout.stages, *(() if layout.head is None else (PENULTIMATE,)), LOGITS)
        self.boundaries = (INPUT, *layout.stages[:-1])
        self._repeats_gray = repeats_gray and channels == 1

    @property
    def readable(self) -> tuple[str, ...]:
        """Every tap that can be named, in the order in which the modules end."""
        return self.layout.order

    @property
    def mixable(self) -> tuple[str, ...]:
        """The input, and every module that ends before the logits are made, in order."""
        return (INPUT, *self.layout.mixable)

    @property
    def unnamed(self) -> Mapping[str, str]:
        """Modules that cannot be named, each with the reason."""
        return self.layout.unnamed

    def features(self, x_BCHW: Tensor, *, mix: Mix | Shift | None = None, taps: Collection[str] = ()) -> Activations:
        """Return logits and the taps in `taps`, with the hidden state mixed at the boundary of `mix`.

        Raises:
            ValueError: a tap or boundary that this model does not have, or that does not run once in this pass.
            TypeError: the network does not return a tensor.
        """
        self._check(mix, taps)
        h = self._normalised(x_BCHW, mix)
        if self._repeats_gray:
            h = h.expand(-1, 3, -1, -1)
        read: dict[str, Tensor] = {}
        with self._hooks(mix, taps, read):
            logits = self.module(h.contiguous())
        if not isinstance(logits, Tensor):
            kind = type(logits).__name__
            raise TypeError(f"model.name: the network must return logits (B, K), got a {kind}; return the logits alone")
        if LOGITS in taps:
            read[LOGITS] = logits
        return Activations(logits, {tap: read[tap] for tap in taps})

    def follows(self, tap: str, boundary: str) -> bool:
        """Return True if a tap's module ends after that of a boundary."""
        return boundary == INPUT or self.layout.order.index(tap) > self.layout.order.index(boundary)

    def part(self, tap: str) -> Part | None:
        """Return the module whose output a tap is; None for 'penultimate', and for logits that are not its output."""
        path = self.layout.head if tap == LOGITS else tap
        return None if path is None else self.layout.parts.get(path)

    def chain(self) -> Mapping[str, nn.Module]:
        """Return the children of an `nn.Sequential`, the last of them as 'logits'.

        Raises:
            TypeError: the network is no `nn.Sequential`.
        """
        if not (isinstance(self.module, nn.Sequential) and type(self.module).forward is nn.Sequential.forward):
            raise TypeError(
                f"{type(self.module).__name__}: no chain of modules is known, as its own forward connects them; "
                "only an nn.Sequential is one"
            )
        *names, last = children = dict(self.module.named_children())
        return {**{name: children[name] for name in names}, LOGITS: children[last]}

    @contextmanager
    def _hooks(self, mix: Mix | Shift | None, taps: Collection[str], read: dict[str, Tensor]) -> Iterator[None]:
        """Read taps into `read`, and mix at a module, by hooks on those modules inside the block alone."""
        boundary = None if mix is None or mix.boundary == INPUT else mix.boundary
        paths = [path for path in dict.fromkeys([*taps, boundary]) if path not in {PENULTIMATE, LOGITS, None}]
        ran: list[str] = []
        handles = []
        try:
            for path in paths:
                hook = self._hook(path, mix if path == boundary else None, read if path in taps else None, ran)
                handles.append(self.module.get_submodule(path).register_forward_hook(hook))
            if PENULTIMATE in taps:
                head = self.module.get_submodule(str(self.layout.head))
                handles.append(head.register_forward_pre_hook(_reader(read, ran), with_kwargs=True))
                paths.append(PENULTIMATE)
            yield
        finally:
            for handle in handles:
                handle.remove()
        for path in paths:
            if ran.count(path) != 1:
                times = f"{ran.count(path)} times"
                raise ValueError(f"{path}: must run once in each forward pass to be named, ran {times}; name another")

    def _hook(
        self, path: str, mix: Mix | Shift | None, read: dict[str, Tensor] | None, ran: list[str]
    ) -> Callable[..., Any]:
        def hook(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor | None:
            ran.append(path)
            if read is not None:
                read[path] = output
            if mix is not None:
                return mixup.apply(output, mix)
            return output.clone() if path in self.layout.overwritten else None

        return hook


def _reader(read: dict[str, Tensor], ran: list[str]) -> Callable[..., None]:
    def hook(_module: nn.Module, arguments: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
        ran.append(PENULTIMATE)
        read[PENULTIMATE] = arguments[0] if arguments else named["input"]

    return hook
