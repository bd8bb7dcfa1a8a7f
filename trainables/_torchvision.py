"""Import of torchvision, for all modules of this package.

A torchvision wheel is linked against one build of torch. With another build (CUDA wheel, CPU torch) its
compiled operators do not load, and the import fails while it registers shape rules for them. This package
uses none of those operators. Declaring their schemas first is therefore enough for data sets, transforms
and models. Only this error is handled; any other error is raised unchanged.
"""

import importlib
import sys
from functools import cache
from types import ModuleType

import torch

__all__ = ["import_torchvision"]

_KNOWN_FAILURE = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Import torchvision, or one of its modules.

    >>> import_torchvision("torchvision.datasets").MNIST.__name__
    'MNIST'
    """
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        if _KNOWN_FAILURE not in str(error):
            raise
    _forget_partial_import()
    _declare_operators()
    return importlib.import_module(module)


def _forget_partial_import() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


@cache
def _declare_operators() -> torch.library.Library:
    # A declaration lives as long as its library object, which the cache keeps.
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library
