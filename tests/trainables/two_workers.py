"""Script of the tests of data-parallel training: one worker of a trial, with real gloo processes on the loopback.

    python two_workers.py RANK WORLD_SIZE FOLDER [SCENARIO ...]

It writes what each scenario gave to FOLDER/SCENARIO-RANK.pt.
"""

import os
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from trainables.config.trial import TrialConfig
from trainables.engine import process_group
from trainables.engine.optimization.optimization import average_step
from trainables.engine.optimization.weight_perturbation import WeightPerturbation
from trainables.engine.placement import Placement
from trainables.engine.share import WHOLE, Share
from trainables.errors import TrainableError
from trainables.models import build
from trainables.regularizers.protocol import Batch, Needs
from trainables.regularizers.resolved_methods import Methods, draw
from trainables.seeding import Streams
from trainables.tasks.classifier.objective import step_loss
from trainables.tasks.classifier.run import restore, start

BATCH, CLASSES, SHAPE = 128, 4, (1, 8, 8)
LONG, SHORT = process_group.TIMEOUT, timedelta(seconds=10)
MANIFOLD = {"mixup.alpha": 1.0, "mixup.layers": "hidden"}
PGD = {"adversarial.epsilon": 0.1, "adversarial.attack": "pgd", "adversarial.steps": 3}
OBJECTIVES = {
    "cross-entropy": {},
    "binary cross-entropy, mixup per sample": {
        "loss.name": "binary_cross_entropy",
        "mixup.alpha": 1.0,
        "mixup.per_sample": True,
        "mixup.layers": "all",
    },
    "snnl": {"snnl.weight": -0.3},
    "snnl, learned, cosine": {"snnl.weight": 0.3, "snnl.temperature_mode": "learned", "snnl.distance": "cosine"},
    "snnl on a mixture": {"snnl.weight": 0.3, "snnl.on_mixed": True, **MANIFOLD},
    "cross-entropy, snnl, manifold mixup, pgd": {"snnl.weight": -0.3, **MANIFOLD, **PGD},
    "cutmix per sample, clean and attacked": {
        "mixup.alpha": 1.0,
        "mixup.kind": "cutmix",
        "mixup.per_sample": True,
        **PGD,
        "adversarial.clean_fraction": 0.5,
    },
    "trades": {"adversarial.epsilon": 0.1, "adversarial.attack": "trades"},
    "n_fgsm": {"adversarial.epsilon": 0.1, "adversarial.attack": "n_fgsm"},
    "mart, perturbed weights, snnl": {
        **PGD,
        "adversarial.attack": "mart",
        "adversarial.awp_gamma": 0.05,
        "snnl.weight": -0.3,
    },
    "sharpness-aware, manifold mixup": {**MANIFOLD, "optimizer.sam_rho": 0.1},
    "class means": {"snnl.weight": 0.1, "snnl.penalty": "class_mean"},
    "a gradient penalty of a user": {
        "regularizers.slope.use": "two_workers:SlopePenalty",
        "regularizers.slope.weight": 0.1,
        "regularizers.slope.passes": 1,
        "regularizers.slope.layers": "conv1",
    },
}
EVERYTHING = {"snnl.weight": -0.3, "snnl.temperature_mode": "relative", **MANIFOLD, **PGD}
NORMALISED = {
    "cnn_bn": {"model.name": "cnn_bn", "model.width": 0.25, **EVERYTHING},
    "cnn_bn, minimised temperature": {
        "model.name": "cnn_bn",
        "model.width": 0.25,
        **EVERYTHING,
        "snnl.temperature_mode": "minimised",
    },
    "preact_resnet18": {"model.name": "preact_resnet18", "model.width": 0.125, **EVERYTHING},
    "a network of a user": {"model.name": "two_workers:Normed", **EVERYTHING},
    "layers without running statistics": {
        "model.name": "two_workers:Normed",
        "model.args.track_running_stats": False,
        **EVERYTHING,
    },
    "trades, a gradient penalty of a user": {
        "model.name": "cnn_bn",
        "model.width": 0.25,
        "adversarial.epsilon": 0.1,
        "adversarial.attack": "trades",
        **OBJECTIVES["a gradient penalty of a user"],
        "regularizers.slope.layers": "conv1",
    },
}
"""Trials of networks with batch normalisation, trained for several steps."""
STEPS = 3
TRIAL = {
    "model.name": "mlp",
    "model.width": 0.25,
    "epochs": 3,
    "batch_size": 128,
    "snnl.weight": -0.05,
    "mixup.alpha": 1.0,
    "mixup.layers": "input+hidden",
    "adversarial.epsilon": 0.05,
    "adversarial.attack": "fgsm_rs",
    "device": "cpu",
    "precision": "float32",
    "data.crop_padding": 1,
    "optimizer.clip_norm": 1.0,
    "optimizer.ema_decay": 0.9,
    "evaluation.robust_images": 40,
}


class SlopePenalty:
    """Gradient penalty that reads logits and noisy images of the whole batch: second derivatives, further passes."""

    needs = Needs(layers="hidden", passes=1)

    def term(self, batch: Batch, _memory: object) -> torch.Tensor:
        noise = torch.rand(batch.images.shape, generator=batch.generator(), dtype=batch.images.dtype)
        other = batch.forward((batch.images + 0.1 * noise).clamp(0, 1))
        (slope,) = torch.autograd.grad(other.logits.logsumexp(1).sum(), *other.taps.values(), create_graph=True)
        (curve,) = torch.autograd.grad(batch.logits.logsumexp(1).sum(), batch.logits, create_graph=True)
        (hidden, *_) = batch.taps.values()
        return slope.square().mean() + (other.logits - batch.logits).square().mean() + (curve * hidden.std()).mean()


class Own(nn.BatchNorm2d):
    """Layer of a user, which rectifies what it normalises."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        statistics = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        is_training = self.training or not self.track_running_stats
        return functional.batch_norm(x_BCHW, *statistics, self.weight, self.bias, is_training, 0.3).relu()


class Normed(nn.Module):
    """Network of a user with layers of batch normalisation of four kinds."""

    def __init__(self, num_classes: int, *, track_running_stats: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6, momentum=None, track_running_stats=track_running_stats)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.norm2 = Own(8, track_running_stats=track_running_stats)
        self.norm3 = nn.BatchNorm2d(8, affine=False, track_running_stats=track_running_stats)
        self.hidden = nn.Linear(8 * 16, 12)
        self.norm4 = nn.BatchNorm1d(12, eps=1e-3, track_running_stats=track_running_stats)
        self.head = nn.Linear(12, num_classes)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        h = self.norm1(self.conv1(x_BCHW)).relu()
        h = self.norm3(self.norm2(self.conv2(h)))
        return self.head(self.norm4(self.hidden(h.flatten(1))).tanh())


def config(**point: object) -> TrialConfig:
    return TrialConfig.from_point({**TRIAL, **point})


def loss_and_gradients(name: str, share: Share = WHOLE) -> dict[str, torch.Tensor]:
    """Return the terms of one step in float64, and the gradient of each parameter, as one process of the share."""
    settings = TrialConfig.from_point({"model.name": "cnn", "model.width": 0.25, **OBJECTIVES[name]})
    model = build(settings.model, image_shape=SHAPE, num_classes=CLASSES, seed=1).double()
    x, y = batch_of(torch.Generator().manual_seed(2))
    methods = Methods.resolve(settings, model, num_classes=CLASSES)
    draws = draw(x, methods=methods, streams=Streams.from_seed(3))
    loss_of = partial(step_loss, model, x, y, num_classes=CLASSES, methods=methods, draws=draws, share=share)
    loss, perturbation = loss_of(), WeightPerturbation.of(settings)
    if perturbation is None:
        loss.total.backward()
    else:
        with perturbation.applied(model, loss.total, share=share):
            loss = loss_of(x_adversarial=loss.x_adversarial)
            loss.total.backward()
    terms = average_step(model, {**loss.terms, "loss": loss.total}, share=share)
    gradients = {path: part.grad for path, part in model.named_parameters() if part.grad is not None}
    return {**{f"term {key}": value.detach() for key, value in terms.items()}, **gradients}


def batch_of(stream: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images in float64 with a pattern of their class, and labels."""
    y = torch.randint(CLASSES, (BATCH,), generator=stream)
    patterns, noise = (torch.rand(size, *SHAPE, dtype=torch.float64, generator=stream) for size in (CLASSES, BATCH))
    return (patterns[y] + noise) / 2, y


def steps_of(name: str, share: Share = WHOLE, *, sync_batch_norm: bool = True) -> dict[str, torch.Tensor]:
    """Train some steps in float64; return the terms and gradients of each, and the weights and buffers at the end."""
    settings = TrialConfig.from_point({**NORMALISED[name], "model.sync_batch_norm": sync_batch_norm})
    model = build(settings.model, image_shape=SHAPE, num_classes=CLASSES, seed=1).double()
    methods, streams = Methods.resolve(settings, model, num_classes=CLASSES), Streams.from_seed(3)
    optimizer, stream = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), torch.Generator().manual_seed(2)
    seen, memory = {}, None
    for step in range(STEPS):
        x, y = batch_of(stream)
        draws = draw(x, methods=methods, streams=streams)
        loss = step_loss(
            model, x, y, num_classes=CLASSES, methods=methods, draws=draws, memory=memory, step=step, share=share
        )
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        terms, memory = average_step(model, {**loss.terms, "loss": loss.total}, share=share), loss.memory
        seen |= {f"term {key} {step}": value.detach() for key, value in terms.items()}
        seen |= {f"slope {path} {step}": part.grad for path, part in model.named_parameters() if part.grad is not None}
        optimizer.step()
    return {**seen, **{f"end {path}": value.clone() for path, value in model.state_dict().items()}}


def normalised(share: Share, _folder: Path) -> object:
    return {name: steps_of(name, share) for name in NORMALISED}


def unsynchronised(share: Share, _folder: Path) -> object:
    return steps_of("cnn_bn", share, sync_batch_norm=False)


def objectives(share: Share, _folder: Path) -> object:
    return {name: loss_and_gradients(name, share) for name in OBJECTIVES}


def placed(share: Share) -> Placement:
    return Placement(torch.device("cpu"), share=share)


def steady(reports: object) -> list[dict[str, float]]:
    return [
        {name: value for name, value in report.metrics.items() if not name.startswith(("time/", "cost/"))}
        for report in reports
    ]


def training(share: Share, folder: Path) -> object:
    """Train a trial to its end; then once more, saved after its first epoch by rank 0 and restored by all."""
    loop = start(config(), placement=placed(share))
    whole = steady(loop.run_all())
    weights = {name: value.clone() for name, value in loop.run.model.state_dict().items()}
    first = start(config(), placement=placed(share))
    first.run_epoch()
    if share.rank == 0:
        first.save(folder / "unfinished")
        (folder / "saved").touch()
    wait_for(folder / "saved")
    resumed = restore(folder / "unfinished", config=config(), placement=placed(share))
    rest = steady(resumed.run_all())
    return {"reports": whole, "weights": weights, "rest": rest, "resumed": resumed.run.model.state_dict()}


def poisoned(share: Share, _folder: Path) -> object:
    """Return the error of a trial whose images at rank 1 are not finite in its second step."""
    loop = start(config(epochs=1), placement=placed(share))
    steps = []

    def poison(_module: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        steps.append(1)
        return (inputs[0] * float("nan"),) if share.rank == 1 and len(steps) > 5 else None

    loop.run.model.head.register_forward_pre_hook(poison)
    return error_of(loop.run_epoch)


def hanging(share: Share, folder: Path) -> object:
    """Return the error of a trial whose process of rank 1 hangs in its second epoch, until it is given up.

    If it is not, it hangs for four times the timeout.
    """
    loop = start(config(), placement=placed(share))
    loop.run_epoch()

    def hang(*_: object) -> None:
        wait_for(folder.with_name("hanging-0.pt"), 4 * SHORT.total_seconds())

    if share.rank == 1:
        loop.run.model.head.register_forward_pre_hook(hang)
    return error_of(loop.run_epoch)


def killed(share: Share, _folder: Path) -> object:
    """Return the error of a trial whose process of rank 1 dies in its second epoch."""
    loop = start(config(), placement=placed(share))
    loop.run_epoch()
    if share.rank == 1:
        loop.run.model.head.register_forward_pre_hook(lambda *_: os._exit(1))
    return error_of(loop.run_epoch)


def error_of(work: object) -> str:
    started = time.monotonic()
    try:
        work()
    except TrainableError as error:
        return f"{type(error).__name__}: {error}" if time.monotonic() - started < 120 else "too late"
    return "no error"


def wait_for(path: Path, timeout_s: float = 300.0) -> bool:
    """Wait for a file; return False after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.exists()


def joined(share: Share, folder: Path) -> None:
    """Join the group of a scenario: rank 0 leaves the port of its store in the folder."""
    if share.rank == 0:
        store = process_group.open_store("127.0.0.1", world_size=share.world_size)
        (folder / "port.part").write_text(str(store.port))
        (folder / "port.part").rename(folder / "port")
    else:
        if not wait_for(folder / "port"):
            raise TimeoutError(folder / "port")
        port = int((folder / "port").read_text())
        store = process_group.reach_store("127.0.0.1", port, world_size=share.world_size)
    process_group.join(store, *share.numbers, device=torch.device("cpu"), address="127.0.0.1")


SCENARIOS = {
    "objectives": objectives,
    "normalised": normalised,
    "unsynchronised": unsynchronised,
    "training": training,
    "poisoned": poisoned,
    "hanging": hanging,
    "killed": killed,
}


def main() -> None:
    torch.set_num_threads(1)
    rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    share = Share(rank, world_size)
    for name in sys.argv[4:]:
        place = folder / name
        place.mkdir(exist_ok=True)
        process_group.TIMEOUT = SHORT if name == "hanging" else LONG
        joined(share, place)
        torch.save(SCENARIOS[name](share, place), folder / f"{name}-{rank}.part")
        (folder / f"{name}-{rank}.part").rename(folder / f"{name}-{rank}.pt")
        process_group.leave()


if __name__ == "__main__":
    main()
