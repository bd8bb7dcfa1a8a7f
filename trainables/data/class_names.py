"""Names of the classes of a data set, for those who read a model's outputs."""

from trainables.config.trial import DataConfig
from trainables.data.folders import ImageFolder
from trainables.data.loading import load_classes
from trainables.data.sources import source_of

__all__ = ["class_names"]


def class_names(config: DataConfig) -> tuple[str, ...]:
    """Return the names of the classes in the order of their labels; none of a published set, whose labels are known.

    >>> class_names(DataConfig(name="digits"))
    ()
    """
    source = source_of(config.name)
    if isinstance(source, ImageFolder):
        return source.class_names(config)
    return load_classes(config)
