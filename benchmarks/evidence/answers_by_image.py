"""Right answers to single images, stored as text; N images."""

import numpy as np
from torch import Tensor


def packed(right_N: Tensor) -> str:
    """Pack right answers as their number, a colon and hexadecimal digits.

    >>> import torch
    >>> packed(torch.tensor([True, False, True]))
    '3:a0'
    """
    return f"{len(right_N)}:{np.packbits(right_N.cpu().numpy()).tobytes().hex()}"


def unpacked(text: str) -> np.ndarray:
    """Return right answers (N,) as 0 and 1.

    >>> unpacked("3:a0").tolist()
    [1, 0, 1]
    """
    number, _, digits = text.partition(":")
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8), count=int(number))
