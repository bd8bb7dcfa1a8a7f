"""Precision of training: bfloat16 autocast where the device computes in it, else float32.

Weights, optimizer, attacks, soft nearest neighbours and evaluation are always in float32. bfloat16 has the
range of float32, so no loss scaling is necessary.
"""

from typing import Literal

import torch

__all__ = ["Precision", "autocast", "resolve_precision"]

Precision = Literal["auto", "float32", "bfloat16"]


def resolve_precision(name: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of a training step's convolutions and products.

    >>> resolve_precision("float32", torch.device("cpu"))
    torch.float32
    """
    if name == "auto":
        return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Return the autocast context of a training step's forward pass."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
