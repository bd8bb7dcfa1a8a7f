"""Networks of Szegedy et al. (2014) on MNIST: layers of sigmoid units, and a softmax; and training that is kept.

A network `FC10(d)` has no hidden layer, and the decay d. The paper adds d |w|^2 / k to the loss, k being the units of a
layer, and ours is w |w|^2 / 2 for all layers. So w = 2 d / k: 2e-5, 2e-3 and 0.2 for FC10, which SGD trains, and 2e-7
for both kinds of layer of FC100-100-10, of 1e-5 / 100 and 1e-6 / 10. AdamW trains those with hidden layers: its decay
is not part of the loss, and either has next to no effect at this size. SGD at a rate at which sigmoid units learn from
few steps left one FC200-200-10 at chance.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from torch import nn

from trainables.config.trial import TrialConfig
from trainables.models import TappedClassifier
from trainables.models.loading import load_model
from trainables.tasks.classifier.training import train

COMMON: Mapping[str, Any] = {
    "model.normalize": False,
    "batch_size": 100,
    "device": "cpu",
    "precision": "float32",
    "evaluation.robust_epsilon": 0.0,
}
"""Images in [0, 1] as they are, and steps in float32, as a minimal perturbation is smaller than bfloat16 resolves."""


RATE = 3e-3
"""Learning rate of AdamW."""


class FullyConnected(nn.Sequential):
    """Layers of sigmoid units by their numbers, and a linear one: `model.name: fully_connected:FullyConnected`."""

    def __init__(self, num_classes: int, image_shape: tuple[int, int, int], hidden: Sequence[int] = ()) -> None:
        sizes = [prod(image_shape), *hidden, num_classes]
        layers: list[nn.Module] = [nn.Flatten()]
        for into, out in pairwise(sizes):
            layers += [nn.Linear(into, out), nn.Sigmoid()]
        super().__init__(*layers[:-1])


def point_of(hidden: Sequence[int], *, decay: float, epochs: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the point of a fully connected network, with further settings by their names."""
    own = {"model.name": "fully_connected:FullyConnected", "model.args.hidden": list(hidden), "epochs": epochs}
    optimizer = {"optimizer.name": "adamw", "optimizer.lr": RATE} if hidden else {"optimizer.lr": 0.1}
    return {**COMMON, **own, **optimizer, "optimizer.weight_decay": decay, **settings}


def config_of(point: Mapping[str, Any], *, data_root: Path | None) -> TrialConfig:
    """Return the configuration of a point; digits have no folder."""
    root = {} if data_root is None or point["data.name"] == "digits" else {"data.root": str(data_root)}
    return TrialConfig.from_point({**point, **root})


def trained(point: Mapping[str, Any], *, data_root: Path | None, kept: Path) -> TappedClassifier:
    """Return the network of a point; train it unless it is kept."""
    text = json.dumps(dict(point), sort_keys=True)
    folder = kept / hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    note = folder / "trained.json"
    if not note.exists():
        train(config_of(point, data_root=data_root), report=lambda _: None, checkpoint=folder)
        note.write_text(text, encoding="utf-8")
    return load_model(folder)
