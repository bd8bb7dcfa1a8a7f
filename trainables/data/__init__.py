"""Data sets: images and labels as tensors, in splits that depend on the images' content alone.

>>> from trainables.config.trial import DataConfig
>>> splits = load_splits(DataConfig(name="digits"))
>>> splits.train.images_NCHW.shape, splits.num_classes
(torch.Size([1078, 1, 8, 8]), 10)
"""

from trainables.data.loading import available, cache_folder, digest_of, load_splits, load_test, shape_of
from trainables.data.splits import Split, Splits

__all__ = ["Split", "Splits", "available", "cache_folder", "digest_of", "load_splits", "load_test", "shape_of"]
