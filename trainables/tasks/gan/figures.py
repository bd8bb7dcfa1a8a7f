"""Figures of a run: entanglement by epoch, and a sheet of synthetic images.

Shapes: N images, C channels, H by W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainables.evaluation.core.figures import figure, graph_objects, panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plotly.graph_objects import Figure
    from torch import Tensor

    from trainables.engine.epoch_report import EpochReport

__all__ = ["CURVES", "SHARES", "entanglement_by_epoch", "sheet_of_images"]

CURVES = {
    "val/real_fake_entanglement": "all anchors",
    "val/real_anchors_entanglement": "real anchors",
    "val/fake_anchors_entanglement": "synthetic anchors",
    "val/real_fake_ceiling": "real images instead of synthetic ones",
    "val/real_fake_chance": "chance",
}
SHARES = {"val/real_fake_recall": "recall (real anchors)", "val/real_fake_precision": "precision (synthetic anchors)"}
_DASHES = {"val/real_fake_ceiling": "dash", "val/real_fake_chance": "dot"}
# Each kind of anchor has one colour, in both panels.
_ALL, _REAL, _SYNTHETIC, _LIMIT = "#636efa", "#ef553b", "#00cc96", "#777777"
_COLOURS = dict(zip((*CURVES, *SHARES), (_ALL, _REAL, _SYNTHETIC, _LIMIT, _LIMIT, _REAL, _SYNTHETIC), strict=True))
_BLANK = 255
_SPACING = 1
_CELL_PX = 48


def entanglement_by_epoch(reports: Sequence[EpochReport]) -> Figure:
    """Plot the entanglement after each epoch with its limits, and next to it recall and precision."""
    plot = panels(
        "Entanglement of real and synthetic images",
        ("mean loss of the anchors", "no anchor counted for more than chance"),
        width=1100,
        height=560,
        legend={"orientation": "h", "y": -0.2},
    )
    epochs = [report.epoch for report in reports]
    for column, names in enumerate((CURVES, SHARES), start=1):
        for name, label in names.items():
            values = [report.metrics[name] for report in reports]
            line = {"dash": _DASHES.get(name, "solid"), "color": _COLOURS[name]}
            plot.add_scatter(x=epochs, y=values, name=label, mode="lines", line=line, row=1, col=column)
    plot.update_xaxes(title="epoch")
    plot.update_yaxes(title="soft nearest neighbour loss, nats", rangemode="tozero", row=1, col=1)
    plot.update_yaxes(title="fraction of chance", range=[0, 1.02], row=1, col=2)
    return plot


def sheet_of_images(images_NCHW: Tensor, classes_N: Tensor, *, num_classes: int, columns: int = 12) -> Figure:
    """Show the first images of each class, a row per class; a row is empty if no image shows its class."""
    _, channels, height, width = images_NCHW.shape
    down, across = height + _SPACING, width + _SPACING
    sheet_CHW = torch.full((channels, num_classes * down, columns * across), _BLANK, dtype=torch.uint8)
    pixels_NCHW = images_NCHW.detach().cpu().clamp(0, 1).mul(255).round().to(torch.uint8)
    for row in range(num_classes):
        for column, index in enumerate((classes_N.cpu() == row).nonzero()[:columns, 0].tolist()):
            top, left = row * down, column * across
            sheet_CHW[:, top : top + height, left : left + width] = pixels_NCHW[index]
    rows = list(range(num_classes))
    plot = figure(
        "Synthetic images",
        x="image of the class",
        y="class, as a classifier sees it",
        width=140 + _CELL_PX * columns,
        height=150 + _CELL_PX * num_classes,
    )
    plot.add_trace(graph_objects().Image(z=sheet_CHW.expand(3, -1, -1).permute(1, 2, 0).numpy(), hoverinfo="skip"))
    plot.update_yaxes(tickvals=[row * down + height / 2 for row in rows], ticktext=rows, showgrid=False)
    middles = [column * across + width / 2 for column in range(columns)]
    plot.update_xaxes(tickvals=middles, ticktext=list(range(1, columns + 1)), showgrid=False)
    return plot
