"""Trained classifier as a program of torch.export: pixels in [0, 1] to logits, for any number of images.

Shapes: N images, C channels, H by W pixels, K classes.
"""

from __future__ import annotations

import io
import json
import warnings
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from trainables.models.tapped import TappedClassifier

CHECKED_SIZES = (1, 2, 5)
"""Numbers of images with which a program is compared with its model."""
RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""Tolerances of float32 logits: kernels may sum in another order."""
LONGEST_REASON = 200


class NotExported(Exception):
    """A network that torch.export cannot express; its text is the reason, in one line."""


@final
class _Images(nn.Module):
    """Module whose one argument is named ``images``."""

    def __init__(self, model: TappedClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits


def program_bytes(model: TappedClassifier, shape: tuple[int, int, int]) -> bytes:
    """Return the content of a ``.pt2`` file, once it has given the model's own logits for several numbers of images.

    Raises:
        NotExported: torch.export cannot trace the network, or the program gives other logits.
    """
    example = _random_images(2, shape)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the comparison below answers what they say may go wrong
            batch = torch.export.Dim("N", min=1)
            program = torch.export.export(_Images(model), (example,), dynamic_shapes={"images": {0: batch}})
            file = io.BytesIO()
            torch.export.save(program, file)
            file.seek(0)
            again = torch.export.load(file).module()
            _require_equal(again, model, shape)
    except NotExported:
        raise
    except Exception as error:  # torch.export raises errors of many kinds, a user's network any
        raise NotExported(f"{type(error).__name__}: {_first_line(error)}") from error
    return file.getvalue()


def weights_bytes(model: TappedClassifier, metadata: dict[str, str]) -> bytes:
    """Return the content of a ``.safetensors`` file with the state of a model.

    Numbers and texts in the state, which the format cannot hold, are JSON in its metadata under ``extra_state``.

    Raises:
        MissingExtraError: safetensors is not installed; names the extra.
    """
    from orchestrator.export.libraries import library  # noqa: PLC0415

    state = model.state_dict()
    tensors = {name: value.contiguous().clone() for name, value in state.items() if isinstance(value, Tensor)}
    rest = {name: value for name, value in state.items() if name not in tensors}
    extra = {"extra_state": json.dumps(rest, default=repr)} if rest else {}
    content: bytes = library("safetensors.torch", extra="export").save(tensors, metadata={**metadata, **extra})
    return content


def _require_equal(program: Any, model: TappedClassifier, shape: tuple[int, int, int]) -> None:
    for size in CHECKED_SIZES:
        images_NCHW = _random_images(size, shape)
        difference_NK = program(images_NCHW) - model(images_NCHW)
        if not torch.allclose(program(images_NCHW), model(images_NCHW), rtol=RELATIVE, atol=ABSOLUTE):
            most = difference_NK.abs().max().item()
            raise NotExported(f"its program gives other logits for {size} images, by {most:.3g}")


def _random_images(size: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.rand(size, *shape, generator=torch.Generator().manual_seed(size))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return lines[0][:LONGEST_REASON]
