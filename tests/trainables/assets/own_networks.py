"""Networks as users write them, right and wrong: no line here knows the package that trains them."""

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class HandWritten(nn.Module):
    """Batch normalisation, dropout, a ReLU in place that is used twice, and functions between the modules."""

    def __init__(self, num_classes: int, in_channels: int, width: int = 8, dropout: float = 0.2):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        x = functional.max_pool2d(self.act(self.bn1(self.conv1(x))), 2)
        x = self.act(self.bn2(self.conv2(x)))
        return self.fc(self.drop(x.mean((2, 3))))


class Block(nn.Module):
    """Residual block that is left out at random in training."""

    def __init__(self, width, skipped):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.skipped = skipped

    def forward(self, x):
        if self.training and self.skipped and float(torch.rand(())) < self.skipped:
            return x + 0
        return x + functional.relu(self.conv(x))


class Blocks(nn.Module):
    """A list of blocks, a view of the image, weights from three generators, and noise in eval mode too."""

    def __init__(self, num_classes: int, image_shape: tuple[int, int, int], depth: int = 3, skipped: float = 0.0):
        super().__init__()
        channels, height, width = image_shape
        self.stem = nn.Conv2d(channels, 4, 1)
        self.blocks = nn.ModuleList(Block(4, skipped) for _ in range(depth))
        self.head = nn.Linear(4 * height * width, num_classes)
        self.scale = nn.Parameter(torch.tensor(1 + random.random()))
        self.register_buffer("shift", torch.from_numpy(np.random.rand(4, 1, 1).astype("float32")))  # noqa: NPY002

    def forward(self, x):
        x = self.stem(x) * self.scale + self.shift
        for block in self.blocks:
            x = block(x)
        x = x + 1e-3 * torch.randn_like(x)
        return self.head(x.view(len(x), -1))


def sequential(num_classes, in_channels, dropout=0.0):
    """A function that builds a plain chain."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.LazyLinear(12),
        nn.Tanh(),
        nn.Dropout(dropout),
        nn.LazyLinear(num_classes),
    )


class Wrapped(nn.Module):
    """A network inside another, without a last linear layer, that needs memory to run."""

    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ELU(), nn.Conv2d(4, num_classes, 3), nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        if not bool(x.isfinite().all()):
            raise ValueError("not finite")
        return self.net(x).flatten(1)


def plain_cnn(num_classes, in_channels):
    """The published network `cnn` for images under 28 pixels, written as anyone would."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(in_channels, 64, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(64, 128, 3, stride=2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(128, 128, 3), nn.ReLU(), nn.Flatten()),
        nn.Linear(128, num_classes),
    )


class Strange(nn.Module):
    """Modules that cannot be named, each for another reason."""

    def __init__(self, num_classes):
        super().__init__()
        self.hidden = nn.Conv2d(1, 4, 3)
        self.twice = nn.ReLU()
        self.never = nn.ReLU()
        self.recurrent = nn.LSTM(36, 8, batch_first=True)
        self.mean = Mean()
        self.classes = nn.Identity()
        self.training_only = nn.Identity()
        self.add_module("with-hyphen", nn.Identity())
        self.first = nn.Linear(32, 8)
        self.alias = self.first
        self.last = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.twice(self.hidden(x))
        x, _ = self.recurrent(x.flatten(2))
        x = self.twice(self.first(x.flatten(1)))
        x = getattr(self, "with-hyphen")(x)
        if self.training:
            x = self.training_only(x)
        self.classes(x.argmax(1))
        return self.last(x) + self.mean(x)


class Mean(nn.Module):
    """One number of the whole batch."""

    def forward(self, x):
        return x.mean()


class NoLogits(nn.Module):
    """Returns another thing than logits."""

    def __init__(self, kind: str, num_classes: int = 10):
        super().__init__()
        self.kind, self.fc = kind, nn.Linear(64, num_classes)

    def forward(self, x):
        logits = self.fc(x.flatten(1))
        return {
            "mapping": {"logits": logits},
            "tuple": (logits, x),
            "probabilities": torch.softmax(logits, 1),
            "log-probabilities": torch.log_softmax(logits, 1),
            "features": logits[:, :7],
            "image": logits[:, :, None, None],
            "mean": logits.mean(0),
            "double": logits.double(),
            "auxiliary": (logits, logits) if self.training else logits,
        }[self.kind]


class NoParameters(nn.Module):
    """Keeps its layers where torch does not see them."""

    def __init__(self, num_classes):
        super().__init__()
        self.layers = [nn.Flatten(), nn.Linear(64, num_classes)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Unreadable(HandWritten):
    """Keeps an object of its own class in the state_dict."""

    def get_extra_state(self):
        return Mean()

    def set_extra_state(self, state):
        """Nothing to restore."""


class Fails(nn.Module):
    """Fails at the place of its argument."""

    def __init__(self, where: str, num_classes: int = 10):
        super().__init__()
        self.where, self.fc = where, nn.Linear(64, num_classes)
        if where == "init":
            raise RuntimeError("cannot be made\nfor a second line")
        if where == "exit":
            raise SystemExit(3)

    def forward(self, x):
        if self.where == "forward":
            raise KeyError("what it needs")
        return self.fc(x)


instance = Mean()
number = 3


def not_a_module():
    """Returns a function."""
    return lambda x: x


def linear(num_classes):
    """Has no hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))[0:2]
