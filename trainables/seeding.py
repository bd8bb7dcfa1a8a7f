"""Independent random streams, all derived from one seed.

Each purpose has its own stream, so switching mixup on does not change the order of the data. The seed of a
trial determines all streams. Streams are explicit objects. Dropout alone draws from a global generator, as torch has
none that takes another one, and a user's network may; `global_streams` seeds those, and restores them.

>>> derive(0, "order") == derive(0, "order"), derive(0, "order") == derive(0, "mixup")
(True, False)
"""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

__all__ = ["Streams", "derive", "generator", "global_streams"]


def derive(seed: int, purpose: str) -> int:
    """Derive a 63-bit seed for this purpose, the same on every machine and Python version."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, *, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator on `device` for this purpose."""
    return torch.Generator(device=device).manual_seed(derive(seed, purpose))


@contextmanager
def global_streams(seed: int, purpose: str, *, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python for this purpose in the block; restore them after it.

    >>> before = torch.get_rng_state()
    >>> with global_streams(0, "init"):
    ...     first = torch.rand(3)
    >>> with global_streams(0, "init"):
    ...     bool((torch.rand(3) == first).all())
    True
    >>> bool((torch.get_rng_state() == before).all())
    True
    """
    value, own = derive(seed, purpose), torch.device(device)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a user's network may draw from it
    gpus = [own] if own.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        random.seed(value)
        np.random.seed(value % 2**32)  # noqa: NPY002
        torch.default_generator.manual_seed(value)  # torch.manual_seed would seed all devices
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(value)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@dataclass(frozen=True, slots=True)
class Streams:
    """Random streams of a classifier's training; their state is part of a checkpoint.

    `order`, `augmentation` and `mixup` are on the host, so that a trial has the same batches, variations
    and mixtures on any device; `attack` is on the device, because it fills tensors as large as the batch.
    `mixup` is a numpy generator: torch has no public Beta sampler that takes a generator.
    """

    order: torch.Generator
    augmentation: torch.Generator
    mixup: np.random.Generator
    attack: torch.Generator

    @classmethod
    def from_seed(cls, seed: int, *, device: torch.device | str = "cpu") -> Self:
        """Return new streams for a seed."""
        return cls(
            order=generator(seed, "order"),
            augmentation=generator(seed, "augmentation"),
            mixup=np.random.default_rng(derive(seed, "mixup")),
            attack=generator(seed, "attack", device=device),
        )

    def state(self) -> dict[str, torch.Tensor | str]:
        """Return the state of each stream, in types that a restricted unpickler accepts."""
        return {
            "order": self.order.get_state(),
            "augmentation": self.augmentation.get_state(),
            "mixup": json.dumps(self.mixup.bit_generator.state),
            "attack": self.attack.get_state(),
            "attack_device": self.attack.device.type,
        }

    def restore(self, state: dict[str, torch.Tensor | str]) -> None:
        """Continue from a state that `state` returned.

        The attack stream continues only on the same kind of device, as CPU and CUDA generators share no
        state; on another kind it starts from this trial's seed.
        """
        self.order.set_state(_tensor(state["order"]))
        if "augmentation" in state:  # checkpoints of format 1 have none
            self.augmentation.set_state(_tensor(state["augmentation"]))
        self.mixup.bit_generator.state = json.loads(str(state["mixup"]))
        if state["attack_device"] == self.attack.device.type:
            self.attack.set_state(_tensor(state["attack"]))


def _tensor(value: torch.Tensor | str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"a generator's state must be a tensor, got {type(value).__name__}")
    return value
