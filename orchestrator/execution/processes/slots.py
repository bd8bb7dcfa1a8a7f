"""Slots of this machine: the GPUs of each worker process, and the variables that a worker is started with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.execution.cluster.capacity import Capacity, Node
from orchestrator.execution.cores import cores_here

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Slot:
    """Place of one worker; ``gpu`` is named as in ``CUDA_VISIBLE_DEVICES``, None where trials have none."""

    number: int
    gpu: str | None = None
    shares_gpu: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its worker: one without a GPU sees what the driver sees, as on Ray."""
        return {} if self.gpu is None else {VISIBLE: self.gpu}


def capacity_here() -> Capacity:
    """Return the capacity of this machine: the cores that this process may use, and the GPUs that torch sees."""
    import torch  # noqa: PLC0415

    return Capacity((Node(cpus=cores_here(), gpus=torch.cuda.device_count()),))


def slots_of(num: int, *, gpus: float, devices: Sequence[str]) -> tuple[Slot, ...]:
    """Return so many slots, each with a GPU, or with its part of one; fewer if no GPU has room for another part.

    Args:
        num: Trials that fit on this machine.
        gpus: GPUs of a trial: none, one, or a part of one.
        devices: Names of this machine's GPUs.

    >>> [slot.gpu for slot in slots_of(4, gpus=0.5, devices=["4", "5"])]
    ['4', '4', '5', '5']
    >>> [slot.gpu for slot in slots_of(2, gpus=1.0, devices=["0", "1"])], slots_of(1, gpus=0.0, devices=[])
    (['0', '1'], (Slot(number=0, gpu=None, shares_gpu=False),))
    """
    if not gpus:
        return tuple(Slot(number) for number in range(num))
    on_one = int(1 / gpus + 1e-6)
    places = [device for device in devices for _ in range(on_one)]
    return tuple(Slot(number, gpu, shares_gpu=gpus < 1) for number, gpu in enumerate(places[:num]))


def devices_here(num: int, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the names of this machine's GPUs, of which torch sees so many.

    >>> devices_here(2, {"CUDA_VISIBLE_DEVICES": "4,7"}), devices_here(2, {})
    (('4', '7'), ('0', '1'))
    """
    visible = [name.strip() for name in environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(visible[:num]) if visible else tuple(str(number) for number in range(num))
