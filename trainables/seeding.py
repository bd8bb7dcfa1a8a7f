"""Independent random streams, all derived from one seed.

Each purpose has its own stream, so switching mixup on does not change the order of the data, and
one trial's seed fixes everything. Streams are explicit objects: no global generator is ever read.

>>> derive(0, "order") == derive(0, "order"), derive(0, "order") == derive(0, "mixup")
(True, False)
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

__all__ = ["Streams", "derive", "generator"]


def derive(seed: int, purpose: str) -> int:
    """A 63-bit seed for this purpose, the same on every machine and Python version."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, *, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` for this purpose."""
    return torch.Generator(device=device).manual_seed(derive(seed, purpose))


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams that training consumes; their state is part of a checkpoint.

    `order`, `augmentation` and `mixup` live on the host, so that a trial sees the same batches,
    variations and mixtures on any device; `attack` lives on the device, because it fills tensors as
    large as the batch. `mixup` is a numpy generator: torch has no public Beta sampler that takes a generator.
    """

    order: torch.Generator
    augmentation: torch.Generator
    mixup: np.random.Generator
    attack: torch.Generator

    @classmethod
    def from_seed(cls, seed: int, *, device: torch.device | str = "cpu") -> Self:
        """Fresh streams at their beginning."""
        return cls(
            order=generator(seed, "order"),
            augmentation=generator(seed, "augmentation"),
            mixup=np.random.default_rng(derive(seed, "mixup")),
            attack=generator(seed, "attack", device=device),
        )

    def state(self) -> dict[str, torch.Tensor | str]:
        """Where each stream stands, in types that a restricted unpickler accepts."""
        return {
            "order": self.order.get_state(),
            "augmentation": self.augmentation.get_state(),
            "mixup": json.dumps(self.mixup.bit_generator.state),
            "attack": self.attack.get_state(),
            "attack_device": self.attack.device.type,
        }

    def restore(self, state: dict[str, torch.Tensor | str]) -> None:
        """Continue where `state` was taken.

        The attack stream continues only on the kind of device it was taken on, as CPU and CUDA
        generators share no state; elsewhere it starts afresh from this trial's seed.
        """
        self.order.set_state(_tensor(state["order"]))
        if "augmentation" in state:  # checkpoints of format 1 knew none
            self.augmentation.set_state(_tensor(state["augmentation"]))
        self.mixup.bit_generator.state = json.loads(str(state["mixup"]))
        if state["attack_device"] == self.attack.device.type:
            self.attack.set_state(_tensor(state["attack"]))


def _tensor(value: torch.Tensor | str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"a generator's state must be a tensor, got {type(value).__name__}")
    return value
