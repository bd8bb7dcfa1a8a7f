"""Budgets: the data sets, networks and methods of the evidence on mixtures, at each size."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from section import JSON, Row, Size, Unit
from sections.mixtures.trials import NONE, RAND_AUGMENT, Budget, input_mixup, manifold_mixup

FEW = Budget(
    data="few",
    title="Fashion-MNIST, 1,000 labels, small CNN",
    short="Fashion-MNIST, 1,000 labels",
    point={
        "data.name": "fashion_mnist",
        "data.fraction": 0.02,
        "model.name": "cnn",
        "model.width": 0.25,
        "batch_size": 50,
        "epochs": 60,
        "optimizer.lr": 0.05,
    },
    hidden=("conv1", "conv2"),
    seeds=(0, 1, 2, 3, 4),
    images=1000,
    attacked=1000,
    fgsm=(0.01, 0.03, 0.05),
    radius=0.03,
)
CIFAR = Budget(
    data="cifar",
    title="CIFAR-10, 8,333 labels, PreActResNet-18 of an eighth of its width",
    short="CIFAR-10, 8 epochs",
    point={
        "data.name": "image_folder",
        "data.fraction": 0.2,
        "model.name": "preact_resnet18",
        "model.width": 0.125,
        "model.final_norm": False,
        "batch_size": 100,
        "epochs": 8,
        "optimizer.lr": 0.02,
        "optimizer.nesterov": True,
    },
    hidden=("stage1", "stage2"),
    seeds=(0, 1, 2),
    images=1000,
    attacked=500,
    fgsm=(1 / 255, 2 / 255, 4 / 255, 8 / 255),
    radius=2 / 255,
    folder="cifar10",
)
"""Momentum, batch size, boundaries and the pooled sum of the paper's code; the budget is ours. Images are as they are:
so few epochs of augmented ones leave nothing to regularise, which the check of overfitting would find. 2/255 is
about the larger radius of its attacks, 0.03 of standardised pixels. Its rate of 0.1 is for a loss of a ninth of our
gradient; at 0.1, this network without a final normalisation stays at chance with ours."""
FULL_CIFAR = replace(
    CIFAR,
    data="cifar-full",
    title="CIFAR-10, PreActResNet-18",
    short="CIFAR-10, 200 epochs",
    point={
        **CIFAR.point,
        "data.fraction": 1.0,
        "data.crop_padding": 2,
        "data.flip": True,
        "model.width": 1.0,
        "epochs": 200,
        "optimizer.weight_decay": 5e-4,
        "optimizer.schedule": "step",
    },
    seeds=(0, 1, 2, 3, 4),
    images=10_000,
    attacked=1000,
    device="auto",
)
"""For a GPU: a unit takes hours of a core."""
ALPHAS = (0.5, 1, 2, 4)
LAYERS = ("conv1+conv2", "conv2", "input+conv1")
FEW_METHODS = (
    NONE,
    *(input_mixup(alpha) for alpha in ALPHAS),
    *(manifold_mixup(alpha) for alpha in ALPHAS),
    *(manifold_mixup(2, layers) for layers in LAYERS),
    RAND_AUGMENT,
)
CIFAR_METHODS = (NONE, input_mixup(1), manifold_mixup(2), RAND_AUGMENT)
SMOKE_METHODS = (NONE, input_mixup(1), manifold_mixup(0.5), manifold_mixup(2), manifold_mixup(2, "conv1+conv2"))
SMOKE: Mapping[str, Mapping[str, JSON]] = {
    "few": {"data.name": "digits", "model.name": "cnn", "model.width": 0.05, "batch_size": 100, "epochs": 2},
    "cifar": {"data.name": "digits", "model.name": "preact_resnet18", "model.width": 0.03, "epochs": 1},
}


def budgets(size: Size) -> list[Budget]:
    """Return the budgets of both data sets."""
    if size == "smoke":
        return [
            replace(own, point=SMOKE[own.data], seeds=(0, 1), images=40, attacked=20, validation=40, pgd_steps=2)
            for own in (FEW, CIFAR)
        ]
    return [FEW, FULL_CIFAR if size == "full" else CIFAR]


def budgets_of(rows: Sequence[Row]) -> list[Budget]:
    """Return the budgets that rows are of; of no rows, those of the whole size."""
    data = {row.settings["data"] for row in rows}
    return [own for own in (FEW, CIFAR, FULL_CIFAR) if own.data in data] if rows else budgets("whole")


def units(size: Size) -> list[Unit]:
    """Return the units of both data sets."""
    few, cifar = budgets(size)
    is_smoke = size == "smoke"
    return [
        *few.units(SMOKE_METHODS if is_smoke else FEW_METHODS),
        *cifar.units(CIFAR_METHODS[:3] if is_smoke else CIFAR_METHODS),
    ]
