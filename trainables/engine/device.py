"""Device that a trial runs on."""

import gc
import traceback

import torch

from trainables.errors import ConfigError, Problem, short_repr

__all__ = ["release_memory", "resolve_device"]


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


def release_memory(error: BaseException) -> None:
    """Release what the frames of an error hold, and the cache of the GPU, so that other processes can use it."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
