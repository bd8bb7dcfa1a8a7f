"""A small network that has learned digits for a moment, and their images."""

import pytest
import torch
from torch import nn

from trainables.config.trial import DataConfig, ModelConfig
from trainables.data import load_splits, load_test
from trainables.evaluation.core.prediction import as_pixels
from trainables.evaluation.core.results import Subject
from trainables.models import build


@pytest.fixture(scope="session")
def digits_subject():
    splits, test = load_splits(DataConfig()), load_test(DataConfig())
    model = build(ModelConfig(name="mlp", width=0.25), image_shape=(1, 8, 8), num_classes=10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = as_pixels(splits.train.images_NCHW)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), splits.train.labels_N).backward()
        optimizer.step()
    return Subject(model, splits.train, splits.val, test, epsilon=0.1)
