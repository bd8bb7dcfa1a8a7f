"""Distance to an adversarial image: an upper bound of the smallest perturbation, by L-BFGS.

Shapes: N images, B of those with a target, C channels, H by W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor, nn

from trainables import attacks
from trainables.evaluation.core import figures
from trainables.evaluation.core.evaluation_attack import replacement, withstands
from trainables.evaluation.core.prediction import as_pixels, logits
from trainables.evaluation.core.results import REFUSED, Cell, Progress, Table, no_progress
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure

    from trainables.data import Split

__all__ = ["Distortion", "minimum_distortion"]

_RMS: Final = 0.1
_ENOUGH: Final = 0.9
_BISECTIONS: Final = 4
_ITERATIONS: Final = 30


class Amplified(NamedTuple):
    """Perturbations of an RMS of 0.1, clipped to the box: the RMS left, and the number of images still correct."""

    rms: float
    right: int


@dataclass(frozen=True, slots=True)
class Distortion:
    """Smallest perturbations towards a wrong class, sampled at random.

    attempted: correctly classified images that were tried.
    rms: root mean square over pixels of each perturbation of a successful search; a failure has none.
    amplified: these perturbations at an RMS of 0.1, and noise of the same RMS on the same images, by name.
    refusals: reasons that neither the averages nor the accuracies describe the model.
    """

    attempted: int
    rms: tuple[float, ...]
    amplified: Mapping[str, Amplified]
    refusals: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Number of images without a perturbation; no average includes them."""
        return self.attempted - len(self.rms)

    def metrics(self) -> Mapping[str, float]:
        """Return mean and median RMS, and accuracies at RMS 0.1, unless they are refused."""
        if self.refusals:
            return {}
        count = len(self.rms)
        accuracies = {f"robust/{name}@rms-{_RMS:g}": kind.right / count for name, kind in self.amplified.items()}
        return {**self._averages(), "robust/lbfgs_failed": self.failed / self.attempted, **accuracies}

    def table(self) -> Table:
        """Return counts, averages over the successful searches, and the accuracies."""
        rows: list[tuple[Cell, ...]] = [("images tried", self.attempted), ("failures", self.failed)]
        values: dict[str, Cell] = {
            "mean RMS of the perturbations found": self._averages().get("robust/lbfgs_rms"),
            "median RMS of the perturbations found": self._averages().get("robust/lbfgs_rms_median"),
        }
        for name, kind in self.amplified.items():
            values[f"accuracy, {name} at RMS {_RMS:g}"] = kind.right / len(self.rms)
            values[f"RMS left by the box, {name}"] = kind.rms
        rows += [(name, REFUSED if self.refusals else value) for name, value in values.items()]
        return Table(("what", "value"), tuple(rows))

    def figure(self) -> Figure:
        """Plot a histogram of the distortion that images need."""
        title = f"Smallest distortion by L-BFGS, {len(self.rms)} of {self.attempted} images, {self.failed} failures"
        plot = figures.figure(
            figures.titled(title, self.refusals),
            x="distortion, root mean square over pixels of [0, 1]",
            y="images",
        )
        if not self.refusals:
            plot.add_trace(figures.graph_objects().Histogram(x=self.rms, nbinsx=20, name="found"))
            median = self._averages()["robust/lbfgs_rms_median"]
            plot.add_vline(x=median, line_dash="dash", annotation_text=f"median {median:.3g}")
        return plot

    def _averages(self) -> dict[str, float]:
        if not self.rms:
            return {}
        rms = torch.tensor(self.rms, dtype=torch.float64)
        return {"robust/lbfgs_rms": float(rms.mean()), "robust/lbfgs_rms_median": float(rms.quantile(0.5))}


def minimum_distortion(
    model: nn.Module,
    split: Split,
    *,
    images: int,
    seed: int = 0,
    refusals: tuple[str, ...] = (),
    progress: Progress = no_progress,
) -> Distortion:
    """Search the smallest perturbation of the first correctly classified images towards a random wrong class.

    The claim is refused unless nine of ten searches succeed. The failures may be the images that need most, so
    an average without them is too small.

    Raises:
        ValueError: images < 1.
    """
    if images < 1:
        raise ValueError(f"images: must be >= 1, got {images}")
    logits_NK = logits(model, split)
    right_N = logits_NK.argmax(1) == split.labels_N
    if not bool(right_N.any()):
        nothing = "lbfgs: no image is classified correctly, so there is none to perturb"
        return Distortion(0, (), {}, (*refusals, nothing))
    chosen = split.take(right_N.nonzero()[:images, 0])
    search = _search(model, chosen, _wrong(chosen.labels_N, classes=logits_NK.shape[1], seed=seed), progress=progress)
    succeeded, tried = int(search.succeeded_B.sum()), len(chosen)
    if succeeded < _ENOUGH * tried:
        few = f"lbfgs: {_ENOUGH:.0%} of the searches must succeed, got {succeeded} of {tried}"
        refusals = (*refusals, f"{few}; an average over these would be over the near ones")
    return Distortion(
        tried,
        tuple(search.distortion_B[search.succeeded_B].tolist()),
        _amplified(model, chosen, search, seed=seed),
        refusals,
        _limits(tried, len(split)),
    )


def _wrong(labels_B: Tensor, *, classes: int, seed: int) -> Tensor:
    """Sample a wrong class for each image, uniformly; the same for every model."""
    shift_B = torch.randint(1, classes, labels_B.shape, generator=generator(seed, "lbfgs targets"))
    return (labels_B + shift_B.to(labels_B.device)) % classes


def _search(model: nn.Module, chosen: Split, target_B: Tensor, *, progress: Progress) -> attacks.MinimumDistortion:
    """Search image by image, and report progress: SciPy solves for one image at a time, so a batch saves nothing."""
    x = as_pixels(chosen.images_NCHW)
    searches = []
    for place, (image, target) in enumerate(zip(torch.split(x, 1), torch.split(target_B, 1), strict=True)):
        progress(f"smallest distortion, image {place + 1} of {len(x)}", place / len(x))
        searches.append(
            attacks.lbfgs(
                model, image, target, initial_constant=1.0, bisections=_BISECTIONS, max_iterations=_ITERATIONS
            )
        )
    progress("smallest distortions", 1.0)
    columns = ([getattr(search, column.name) for search in searches] for column in fields(searches[0]))
    return attacks.MinimumDistortion(*map(torch.cat, columns))


def _amplified(
    model: nn.Module, chosen: Split, search: attacks.MinimumDistortion, *, seed: int
) -> dict[str, Amplified]:
    """Scale the perturbations and two controls of the same length to one RMS, and clip them."""
    if not bool(search.succeeded_B.any()):
        return {}
    split = chosen.take(search.succeeded_B.nonzero()[:, 0])
    x = as_pixels(split.images_NCHW)
    noise = generator(seed, "lbfgs controls", device=x.device)
    gauss = torch.empty_like(x).normal_(generator=noise)
    signs = torch.empty_like(x).normal_(generator=noise).sign()
    moved = {"lbfgs-amplified": search.x_adv[search.succeeded_B], "gaussian-noise": x + gauss, "sign-noise": x + signs}
    return {name: _measure(model, split, attacks.amplify(x, target, rms=_RMS)) for name, target in moved.items()}


def _measure(model: nn.Module, split: Split, moved: Tensor) -> Amplified:
    right_N = withstands(split, replacement(model, moved))
    rms_N = (moved - as_pixels(split.images_NCHW)).flatten(1).square().mean(1).sqrt()
    return Amplified(float(rms_N.mean()), int(right_N.sum()))


def _limits(tried: int, images: int) -> tuple[str, ...]:
    return (
        f"L-BFGS was tried on {tried} correctly classified images of {images}",
        f"L-BFGS had {_BISECTIONS} bisections of {_ITERATIONS} iterations: its distortions are upper bounds",
    )
