"""Splits of a user's own data set: its parts, the classes of its labels, and the rule that cuts it.

Labels 0..K-1 stay; other integers, and texts, are numbered in sorted order. The classes are those of the training
images, and keep the names that the set has in `classes`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from trainables.data.own.samples import Label, Samples, read_samples
from trainables.data.own.user_code import reported
from trainables.data.splits import Parts, Split, cut, partition
from trainables.errors import ConfigError, Problem, short_repr, shortened

__all__ = ["parts_of"]

ONE_SET = (0.6, 0.2)  # training and validation, as of the embedded digits
FEWEST = 2
FORMS = "a map-style Dataset of (image, label) with __len__ and __getitem__, or (train, test) or (train, val, test)"


def parts_of(made: object, *, name: str, image_size: int | None) -> Parts:
    """Return the splits of what a user's code gave: one set, or two or three parts of one.

    Raises:
        ConfigError: it is no set, or a sample, a label or a class breaks a requirement; the code fails.

    >>> pairs = [(torch.full((2, 2), index), index % 2) for index in range(20)]
    >>> [len(split) for split in parts_of(pairs, name="pairs", image_size=None)[:3]]
    [12, 4, 4]
    """
    datasets = _datasets(made, name)
    samples: dict[str, Samples] = {}
    for part, dataset in datasets.items():
        first = next(iter(samples.values()), None)
        samples[part] = _read(
            dataset,
            place=name if part == "whole" else f"{name} {part}",
            image_size=image_size,
            shape=None if first is None else first.images_NCHW.shape[1:],
        )
    known = _numbers(samples, name)
    splits = {part: _split(these, known, place=f"{name} {part}") for part, these in samples.items()}
    labels = {number: _class_name(datasets, label) for label, number in known.items()}
    return _cut(splits, tuple(labels[number] for number in range(len(labels))), name)


def _datasets(made: object, name: str) -> dict[str, Any]:
    """Return the sets by part: `train`, maybe `val`, and `test`; or one `whole`."""
    if isinstance(made, tuple):
        parts: Mapping[str, Any] = dict(
            zip(("train", "test") if len(made) == 2 else ("train", "val", "test"), made, strict=False)
        )
        complete = len(made) in {2, 3}
        value = f"a tuple of {len(made)}"
    elif isinstance(made, Mapping):
        parts, value = made, f"a mapping of {shortened(', '.join(map(str, made)) or 'nothing')}"
        complete = {"train", "test"} <= made.keys() <= {"train", "val", "test"}
    elif _is_map_style(made):
        return {"whole": made}
    else:
        parts = {part: getattr(made, part) for part in ("train", "val", "test") if hasattr(made, part)}
        complete, value = {"train", "test"} <= parts.keys(), _kind(made)
    if not complete:
        raise ConfigError([Problem("data.name", f"{name} must give {FORMS}, got {value}; return one of these")])
    ordered = {part: parts[part] for part in ("train", "val", "test") if parts.get(part) is not None}
    for part, dataset in ordered.items():
        if not _is_map_style(dataset):
            message = f"{name} {part} must be {FORMS.partition(', or')[0]}, got {_kind(dataset)}; return one"
            raise ConfigError([Problem("data.name", message)])
    return ordered


def _is_map_style(value: object) -> bool:
    return all(hasattr(type(value), name) for name in ("__len__", "__getitem__")) and not isinstance(value, str | bytes)


def _kind(value: object) -> str:
    lacking = [name for name in ("__len__", "__getitem__") if not hasattr(type(value), name)]
    kind = "None" if value is None else type(value).__name__
    return f"{kind} without {' and '.join(lacking)}" if len(lacking) == 1 else kind


def _read(dataset: Any, *, place: str, image_size: int | None, shape: tuple[int, ...] | None) -> Samples:
    with reported(f"the length of {place}"):
        length = len(dataset)
    if length < 1:
        raise ConfigError(
            [Problem("data.name", f"{place} must hold at least one image, got 0; check what selects them")]
        )

    def sample(index: int) -> object:
        with reported(f"{place}[{index}]"):
            return dataset[index]

    return read_samples(length, sample, place=place, image_size=image_size, shape=shape)


def _numbers(samples: Mapping[str, Samples], name: str) -> dict[Label, int]:
    """Return the number of each class of the training images."""
    labels = next(iter(samples.values())).labels
    counts = Counter(labels)
    if len({type(label) for label in counts}) > 1:
        pair = " and ".join(
            short_repr(next(label for label in counts if isinstance(label, kind))) for kind in (int, str)
        )
        raise _problem(name, f"labels must be all integers or all texts, got {pair}; convert them")
    if len(counts) < FEWEST:
        raise _problem(name, f"must have at least 2 classes, got only {short_repr(labels[0])}; check its labels")
    alone = next((label for label, count in counts.items() if count < FEWEST), None)
    if alone is not None and "val" not in samples:
        index = labels.index(alone)
        requirement = f"each class must have at least 2 images, since some are set aside, got 1 of {short_repr(alone)}"
        raise _problem(name, f"{requirement} (at index {index}); add images, or leave the class out")
    return {label: number for number, label in enumerate(sorted(counts))}


def _split(samples: Samples, known: Mapping[Label, int], *, place: str) -> Split:
    for index, label in enumerate(samples.labels):
        if label not in known:
            requirement = f"the label must be one of the {len(known)} of the training images, got {short_repr(label)}"
            raise ConfigError([Problem("data.name", f"{place}[{index}]: {requirement}; correct it, or train on it")])
    numbers_N = torch.tensor([known[label] for label in samples.labels])
    return Split(torch.from_numpy(samples.images_NCHW), numbers_N)


def _class_name(datasets: Mapping[str, Any], label: Label) -> str:
    names = getattr(next(iter(datasets.values())), "classes", None)
    if isinstance(label, int) and isinstance(names, list | tuple) and 0 <= label < len(names):
        return str(names[label])
    return str(label)


def _cut(splits: Mapping[str, Split], classes: tuple[str, ...], name: str) -> Parts:
    try:
        if "whole" in splits:
            train, val, test = partition(splits["whole"], ONE_SET)
        elif "val" in splits:
            (train,), (val,) = partition(splits["train"], ()), partition(splits["val"], ())
            test = splits["test"]
        else:
            train, val, test, _ = cut(splits["train"], splits["test"])
    except ValueError as error:
        raise _problem(name, "has too few different images to set some aside; add images that differ") from error
    counts = train.labels_N.bincount(minlength=len(classes))
    if 0 in counts:
        lost = classes[int(counts.argmin())]
        raise _problem(name, f"class {short_repr(lost)} has too few different images, got none to train on; add images")
    return Parts(train, val, test, classes)


def _problem(name: str, message: str) -> ConfigError:
    return ConfigError([Problem("data.name", f"{name}: {message}")])
