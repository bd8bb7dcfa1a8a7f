"""Training of one point in plain torch, which every peer but Ravel runs: torchvision's MNIST, a DataLoader, float32."""

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from losses import loss_of, sample_mixture, sample_noise
from network import SmallCnn
from settings import Settings
from torch.utils.data import DataLoader, Subset

EVALUATION_BATCH = 1000


class Trial:
    """A point in training: an epoch at a time, with checkpoints."""

    def __init__(self, settings: Settings, point: Mapping[str, float]) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(settings.seed)
        self.point, self.epoch, self.rng = point, 0, np.random.default_rng(settings.seed)
        self.train_loader, self.val_loader = loaders(settings)
        self.model = SmallCnn()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=point["optimizer.lr"],
            momentum=point["optimizer.momentum"],
            weight_decay=point["optimizer.weight_decay"],
        )
        steps = settings.epochs * len(self.train_loader)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)

    def run_epoch(self) -> float:
        """Train for an epoch, and return the accuracy on the validation images."""
        self.model.train()
        for x, y in self.train_loader:
            mixture = sample_mixture(self.rng, len(y), alpha=self.point.get("mixup.alpha", 0.0))
            noise = sample_noise(x, epsilon=self.point.get("adversarial.epsilon", 0.0))
            loss = loss_of(self.model, x, y, point=self.point, mixture=mixture, noise=noise)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
        self.epoch += 1
        return self.accuracy()

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the accuracy on the validation images."""
        self.model.eval()
        correct = sum(int((self.model(x).argmax(1) == y).sum()) for x, y in self.val_loader)
        return correct / len(self.val_loader.dataset)  # type: ignore[arg-type]

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "schedule")}
        torch.save({**parts, "epoch": self.epoch}, path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state = torch.load(path)
        for name in ("model", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.epoch = state["epoch"]


def loaders(settings: Settings) -> tuple[DataLoader, DataLoader]:
    """Return the loaders of training and validation images."""
    torchvision = _torchvision()
    to_tensor = torchvision.transforms.ToTensor()
    images = torchvision.datasets.MNIST(settings.data_root, train=True, transform=to_tensor)
    split = json.loads(Path(settings.split).read_text(encoding="utf-8"))
    train, val = Subset(images, split["train"]), Subset(images, split["val"])
    batch_size = min(settings.batch_size, len(train))
    train_loader = DataLoader(train, batch_size=batch_size, shuffle=True, drop_last=True)
    return train_loader, DataLoader(val, batch_size=EVALUATION_BATCH)


@cache
def _torchvision() -> ModuleType:
    """Import torchvision, also where its wheel is for another build of torch than the installed one."""
    path = Path(__file__).parents[2] / "trainables" / "_torchvision.py"
    spec = importlib.util.spec_from_file_location("_torchvision", path)
    loaded = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(loaded)  # type: ignore[union-attr]
    return loaded.import_torchvision()
