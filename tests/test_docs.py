"""What the pages say about the registries is what the registries hold."""

import re

import pytest

from trainables.config import ModelConfig
from trainables.data.sources import SOURCES
from trainables.models import MODELS, build
from trainables.presets import PRESETS


@pytest.fixture(scope="module")
def rows(repository):
    """The tables of the page: each row's first cell's names to its second cell."""
    lines = (repository / "docs" / "training.md").read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    return {name: row[1].strip() for row in cells for name in re.findall(r"`([a-z0-9_]+)`", row[0])}


@pytest.mark.parametrize("name", MODELS)
def test_the_page_lists_the_taps_of_every_model(rows, name):
    model = build(ModelConfig(name=name), image_shape=(3, 32, 32), num_classes=10, device="meta")
    assert rows[name].split(", ") == list(model.taps[:-1])


@pytest.mark.parametrize("name", SOURCES)
def test_the_page_lists_every_data_set(rows, name):
    assert name in rows


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_names_every_preset(repository, name):
    assert f"`{name}`" in (repository / "docs" / "training.md").read_text()
