"""Shared by the tests of the trainables: one thread, so that equal trials are equal bits; vectors; MNIST."""

import gzip
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

VECTORS = Path(__file__).parents[1] / "vectors"
NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def mixup_vectors() -> dict[str, Any]:
    return json.loads((VECTORS / "mixup_adv_vectors.json").read_text())


@pytest.fixture(scope="session")
def image_data() -> Path:
    """The folder with the real images, $RAVEL_TEST_DATA."""
    source = os.environ.get("RAVEL_TEST_DATA")
    if source is None:
        pytest.skip("RAVEL_TEST_DATA is not set: it names the folder with the image data")
    return Path(source)


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory, image_data) -> Path:
    """A torchvision root with the real MNIST, unpacked from the packed files."""
    root = tmp_path_factory.mktemp("torchvision")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in sorted((image_data / "mnist").glob("*.gz")):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return root


@pytest.fixture
def trainables_of(tmp_path, monkeypatch):
    """``trainables_of(kind)(**config)`` starts a Tune trainable that logs to the test's own folder, and stops it."""
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path / "logs"))
    started = []

    def of(kind):
        def start(**config):
            started.append(kind(config))
            return started[-1]

        return start

    yield of
    for trainable in started:
        trainable.stop()


@pytest.fixture
def module_writer(tmp_path, monkeypatch):
    """``module_writer(stem, head)(body)`` writes a module with this head and body, and returns its new name."""
    monkeypatch.syspath_prepend(tmp_path)

    def of(stem, head=""):
        def write(body):
            name = f"{stem}_{next(NUMBERS)}"
            (tmp_path / f"{name}.py").write_text(head + body)
            return name

        return write

    return of
