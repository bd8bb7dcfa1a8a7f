"""Settings of a worker's process: threads of torch, and the allocator of GPU memory.

Expandable segments let a process grow what it has reserved of a GPU, where steps differ in size: sweeps change batches,
widths and networks in one process. Torch reads a variable of the environment as it is imported, so a process that has
imported it gets the same setting by a call, and those that it starts by the variable.
"""

import os
from collections.abc import MutableMapping

import torch

__all__ = ["EXPANDABLE", "VARIABLES", "prepare_process"]

VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
"""Variables with which users set the allocator; the first is torch's name since 2.9."""
EXPANDABLE = "expandable_segments:True"


def prepare_process(*, cpus: float, environ: MutableMapping[str, str] = os.environ) -> None:
    """Use as many threads as the worker has CPUs, at least one, and expandable segments unless the user has set any.

    Call it before the first tensor on a GPU. A process that trains several trials, one after another, may call it for
    each of them.
    """
    torch.set_num_threads(max(1, int(cpus)))
    if not any(name in environ for name in VARIABLES):
        environ[VARIABLES[0]] = EXPANDABLE
        # Torch has no public name for it; a version without this one keeps its own way.
        getattr(torch._C, "_accelerator_setAllocatorSettings", lambda _: None)(EXPANDABLE)  # noqa: SLF001
