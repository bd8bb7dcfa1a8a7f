"""A `LightningModule` and its `LightningDataModule`, as you would write them without a sweep; no line is Ravel's.

    ravel launch examples/lightning_digits.yaml

Run it in the folder of this file, or install the file's package. Needs `pip install pytorch-lightning`.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

Batch = tuple[Tensor, Tensor]


class LitDigits(pl.LightningModule):
    """Network of one hidden layer; logs `val_accuracy` and `val_loss` for each epoch."""

    def __init__(self, width: int = 64, dropout: float = 0.0, lr: float = 1e-3) -> None:
        super().__init__()
        self.lr = lr
        self.layers = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.layers(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Log the accuracy and the loss of a batch; Lightning averages them over the epoch."""
        images, labels = batch
        logits = self.layers(images)
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())
        self.log("val_loss", nn.functional.cross_entropy(logits, labels))

    def configure_optimizers(self) -> Any:
        """Return Adam, with a learning rate that falls to 0 over all epochs of the trial."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs or 1)]


class DigitsData(pl.LightningDataModule):
    """Handwritten digits of 8x8 pixels, 1,437 to train and 360 to validate."""

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Split the digits; the split depends on the seed of the trial."""
        digits = load_digits()
        images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
        self.train, self.val = random_split(TensorDataset(images, labels), [1437, 360])

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the batches to train on."""
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the batches to validate on."""
        return DataLoader(self.val, 360)
