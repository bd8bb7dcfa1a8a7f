"""Names of the classes of a data set, for those who read a model's outputs."""

from trainables.config.trial import DataConfig
from trainables.data.folders import ImageFolder
from trainables.data.sources import SOURCES

__all__ = ["class_names"]


def class_names(config: DataConfig) -> tuple[str, ...]:
    """Return the names of the classes in the order of their labels; none of a published set, whose labels are known.

    >>> class_names(DataConfig(name="digits"))
    ()
    """
    source = SOURCES[config.name]
    return source.class_names(config) if isinstance(source, ImageFolder) else ()
