"""Sheets of top images: those that some units of a layer rank first, and those of random directions.

After Szegedy et al. (ICLR 2014, section 3). Shapes: N images, R directions, K top images, C channels, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from trainables.evaluation.core.figures import figure, graph_objects
from trainables.evaluation.core.results import Table
from trainables.evaluation.representation.directions import (
    class_counts,
    gaussian,
    natural_basis,
    purity,
    top_k,
    treated,
)
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure

    from trainables.data import Split
    from trainables.evaluation.representation.layers import LayerUnits

__all__ = ["TopImages", "top_images"]

ROWS: Final = 5
_GAP: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class TopImages:
    """Images that some directions of a layer rank first: units, then random directions.

    images_RKCHW are uint8; indices_RK are indices of the evaluated images.
    """

    tap: str
    names: tuple[str, ...]
    images_RKCHW: Tensor
    indices_RK: Tensor
    labels_RK: Tensor
    purity_R: Tensor
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return no metric: the sheet is for visual inspection."""
        return {}

    def table(self) -> Table:
        """Return a row for each image of the sheet."""
        return Table(
            ("direction", "purity", "rank", "image", "class"),
            tuple(
                (name, float(self.purity_R[row]), rank + 1, int(image), int(self.labels_RK[row, rank]))
                for row, name in enumerate(self.names)
                for rank, image in enumerate(self.indices_RK[row])
            ),
        )

    def figure(self) -> Figure:
        """Plot the sheet: a row of images for each direction, units above, random directions below."""
        rows, top, _, height, width = self.images_RKCHW.shape
        plot = figure(
            f"Top images of {self.tap}: units above, random directions below",
            x="rank of the image by its score",
            y="",
            width=260 + 70 * top,
            height=170 + 70 * rows,
            margin={"l": 210, "r": 30, "t": 70, "b": 70},
        )
        plot.add_trace(graph_objects().Image(z=_sheet(self.images_RKCHW).numpy(), hoverinfo="skip"))
        titles = [f"{name}, purity {share:.2f}" for name, share in zip(self.names, self.purity_R.tolist(), strict=True)]
        plot.update_yaxes(tickvals=_centres(rows, height), ticktext=titles)
        plot.update_xaxes(tickvals=_centres(top, width), ticktext=[str(rank) for rank in range(1, top + 1)])
        return plot


def top_images(layer: LayerUnits, split: Split, *, rows: int = ROWS, top: int = 8, seed: int = 0) -> TopImages:
    """Rank images by some units and equally many Gaussian directions, sampled by the seed, on raw features.

    Raises:
        ValueError: fewer images than K, or a feature that is not finite.
    """
    size = len(layer.units_D)
    units = torch.randperm(size, generator=generator(seed, f"sheet of {layer.tap}"))[:rows].sort().values
    random_RD = gaussian(rows, size, generator=generator(seed, f"random directions of {layer.tap}"))
    directions_RD = torch.cat([natural_basis(size)[units], random_RD])
    top_RK = top_k(directions_RD @ treated(layer.features_ND, "raw").T, top)
    images, labels_N = split.images_NCHW.cpu(), split.labels_N.cpu()
    counts_RC = class_counts(top_RK, labels_N, num_classes=int(labels_N.max()) + 1)
    shown = f"{len(units)} of {size} live units and {rows} random directions, sampled by seed"
    return TopImages(
        tap=layer.tap,
        names=(*(layer.name(int(unit)) for unit in units), *(f"random {i + 1}" for i in range(rows))),
        images_RKCHW=images[top_RK],
        indices_RK=top_RK,
        labels_RK=labels_N[top_RK],
        purity_R=purity(counts_RC),
        limits=(f"{layer.tap}: the sheet shows {shown}", *layer.limits),
    )


def _sheet(images_RKCHW: Tensor) -> Tensor:
    """Return one picture (H, W, 3) of all images, with white gaps."""
    rows, top, channels, height, width = images_RKCHW.shape
    colour = images_RKCHW if channels == 3 else images_RKCHW[:, :, :1].expand(-1, -1, 3, -1, -1)
    sheet = torch.full((rows * (height + _GAP), top * (width + _GAP), 3), 255, dtype=torch.uint8)
    cells = sheet.reshape(rows, height + _GAP, top, width + _GAP, 3)
    cells[:, :height, :, :width] = colour.permute(0, 3, 1, 4, 2)
    return sheet


def _centres(count: int, side: int) -> list[float]:
    return [place * (side + _GAP) + (side - 1) / 2 for place in range(count)]
