"""Loading, cached per process so that an actor that runs many trials reads once.

`load_splits` is what training, selection and preflight use. `load_test` is the only access to test
images, and only the final confirmation of chosen trials and the evaluation of finished runs may call
it: whoever selects with it has spent it.
"""

from functools import lru_cache

from trainables.config import DataConfig
from trainables.data.sources import SOURCES
from trainables.data.splits import Split, Splits

__all__ = ["available", "load_splits", "load_test", "shape_of"]


def available(config: DataConfig) -> None:
    """Return if the data set can be read on this machine, without reading it.

    Raises:
        DatasetMissing: it cannot; the error says how to get it.
    """
    SOURCES[config.name].require(config.root)


def shape_of(config: DataConfig) -> tuple[tuple[int, int, int], int]:
    """Image shape (C, H, W) and number of classes, known without reading anything.

    >>> shape_of(DataConfig(name="mnist"))
    ((1, 28, 28), 10)
    """
    source = SOURCES[config.name]
    return source.image_shape, source.num_classes


def load_splits(config: DataConfig) -> Splits:
    """The training and validation splits.

    Raises:
        DatasetMissing: as `available`.
    """
    train, val, _ = _read(config)
    return Splits(train, val, num_classes=SOURCES[config.name].num_classes)


def load_test(config: DataConfig) -> Split:
    """The test split; see above for who may call this.

    Raises:
        DatasetMissing: as `available`.
    """
    return _read(config)[2]


@lru_cache(maxsize=2)
def _read(config: DataConfig) -> tuple[Split, Split, Split]:
    available(config)
    return SOURCES[config.name].read(config.root)
