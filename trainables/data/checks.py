"""Checks of data sets before a sweep: what its trials would meet, found on the machine that launches it."""

from collections.abc import Iterable, Iterator

from trainables.config.trial import DataConfig
from trainables.data.loading import available, load_splits, shape_of
from trainables.errors import Problem, TrainableError, mistakes

__all__ = ["data_problems"]


def data_problems(configs: Iterable[DataConfig]) -> list[Problem | str]:
    """Return the problems of the sets that trials read, each once: those of the configuration, or a line each.

    A user's own set is prepared, as only its images tell its shape. Of several fractions of one set the smallest is
    loaded, as the others have more images of each class.

    >>> [problem] = data_problems([DataConfig(), DataConfig(fraction=0.001), DataConfig(fraction=0.5)])
    >>> print(problem)  # doctest: +ELLIPSIS
    data.fraction: must leave an image of every class, got 0.001 of 1078 images...
    """
    smallest: dict[DataConfig, DataConfig] = {}
    for config in configs:
        key = config.model_copy(update={"fraction": 1.0})
        if key not in smallest or config.fraction < smallest[key].fraction:
            smallest[key] = config
    return list(dict.fromkeys(problem for config in smallest.values() for problem in _problems(config)))


def _problems(config: DataConfig) -> Iterator[Problem | str]:
    try:
        available(config)
        shape_of(config)
        if config.fraction < 1 or config.part is not None:
            load_splits(config)
    except TrainableError as error:
        yield from mistakes(error)
