"""Your own data set: any class or function with a length and pairs (image, label). Here noisy bars in three directions.

    trial: {data.name: "own_data:Bars", data.args.noise: 0.3}

Ravel splits it into training, validation and test images, by its content. Images are bytes, or floats in [0, 1] that
are levels of bytes, channels first or last.
"""

import numpy as np
import torch
from torch import Tensor

DIRECTIONS = ("horizontal", "vertical", "diagonal")


class Bars:
    """Images (1, 16, 16) of a bar under noise, and its direction."""

    classes = DIRECTIONS

    def __init__(self, count: int = 600, noise: float = 0.3, seed: int = 0) -> None:
        self.count, self.noise, self.seed = count, noise, seed

    def __len__(self) -> int:
        """Return the number of images."""
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image and its label, the same at every call."""
        rng, label = np.random.default_rng([self.seed, index]), index % len(DIRECTIONS)
        bar, at = np.zeros((16, 16)), int(rng.integers(2, 14))
        rows, columns = np.indices(bar.shape)
        bar[(rows == at, columns == at, (rows + columns) % 16 == at)[label]] = 1.0
        noisy = (1 - self.noise) * bar + self.noise * rng.random(bar.shape)
        return torch.tensor(noisy[None] * 255).round().to(torch.uint8), label
