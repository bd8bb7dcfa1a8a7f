"""Placement of a trial: its device, the precision of its steps, and the share of each batch that this process trains.

Precision is bfloat16 autocast where the device computes in it, else float32. Weights, optimizer, attacks, soft nearest
neighbours and evaluation are always in float32. bfloat16 has the range of float32, so no loss scaling is necessary.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from trainables.engine.share import WHOLE, Share
from trainables.errors import ConfigError, Problem, short_repr

__all__ = ["Placement", "Precision", "placement_of", "resolve_device", "resolve_precision"]

Precision = Literal["auto", "float32", "bfloat16"]


class Placed(Protocol):
    """Part of a trial's configuration that names its device."""

    @property
    def device(self) -> str:
        """Name of the device: auto, cpu or cuda."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Device of a trial, the dtype of a training step's convolutions and products, and the share of each batch.

    >>> Placement(torch.device("cpu")).share.world_size
    1
    """

    device: torch.device
    precision: torch.dtype = torch.float32
    share: Share = WHOLE

    def autocast(self) -> torch.autocast:
        """Return the autocast context of a training step's forward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == torch.bfloat16)


def placement_of(config: Placed, *, share: Share = WHOLE) -> Placement:
    """Return the placement of a trial on this machine; a configuration without `precision` trains in float32.

    Raises:
        ConfigError: this machine, or this build of torch, has no such GPU.

    >>> from trainables.config.trial import TrialConfig
    >>> placement_of(TrialConfig(device="cpu", precision="float32"))
    Placement(device=device(type='cpu'), precision=torch.float32, share=Share(rank=0, world_size=1))
    """
    device = resolve_device(config.device)
    return Placement(device, resolve_precision(getattr(config, "precision", "float32"), device), share)


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; 'auto' is the first GPU if the machine has one.

    Raises:
        ConfigError: this machine, or this build of torch, has no such GPU.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    count = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        message = (
            f"must be one of the {count} GPUs that torch finds on this machine, got {short_repr(name)}; use auto or cpu"
        )
        raise ConfigError([Problem("device", message)])
    return device


def resolve_precision(name: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of a training step's convolutions and products.

    >>> resolve_precision("float32", torch.device("cpu"))
    torch.float32
    """
    if name == "auto":
        return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
