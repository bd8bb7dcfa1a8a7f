"""Shared by the tests of the trainables: one thread, so that equal trials are equal bits; vectors; MNIST."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

VECTORS = Path(__file__).parents[1] / "vectors"


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
def mnist_root(tmp_path_factory) -> Path:
    """A torchvision root with the real MNIST, unpacked from $RAVEL_TEST_DATA/mnist/*.gz."""
    source = os.environ.get("RAVEL_TEST_DATA")
    if source is None:
        pytest.skip("RAVEL_TEST_DATA is not set: it names the folder with the image data")
    root = tmp_path_factory.mktemp("torchvision")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in sorted(Path(source, "mnist").glob("*.gz")):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return root
