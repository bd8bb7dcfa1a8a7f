"""Contact sheets: the images that some directions rank first, as data, and as SVG with the pixels inside."""

import base64
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from section import JSON

from trainables.evaluation.representation.top_images import TopImages


def sheet(images: TopImages) -> dict[str, JSON]:
    """Return a contact sheet: a picture as PNG, in base64, and the name and purity of each of its rows."""
    pixels_RKHW = images.images_RKCHW[:, :, 0]
    rows, top, height, width = pixels_RKHW.shape
    canvas = torch.full((rows * (height + 2), top * (width + 2)), 255, dtype=torch.uint8)
    cells = canvas.reshape(rows, height + 2, top, width + 2)
    cells[:, :height, :, :width] = 255 - pixels_RKHW.transpose(1, 2)
    return {
        "png": base64.b64encode(png(canvas)).decode(),
        "size": [canvas.shape[1], canvas.shape[0]],
        "names": list(images.names),
        "purity": images.purity_R.tolist(),
        "labels": images.labels_RK.tolist(),
    }


def png(pixels_HW: torch.Tensor) -> bytes:
    """Return a picture of grey values, uint8 (H, W), as a PNG file."""
    height, width = pixels_HW.shape
    filtered = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), pixels_HW], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.numpy().tobytes(), 9)), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def drawn(own: Mapping[str, Any]) -> str:
    """Return a contact sheet as SVG: a row of images for each direction, with its name, purity and classes."""
    width, height = own["size"]
    rows = len(own["names"])
    left, line = 150, height / rows
    texts = []
    for row, (name, purity, labels) in enumerate(zip(own["names"], own["purity"], own["labels"], strict=True)):
        y = (row + 0.55) * line
        classes = " ".join(map(str, labels))
        texts.append(f'<text x="{left - 8}" y="{y:.0f}" text-anchor="end">{name}</text>')
        texts.append(f'<text x="{left + width + 8}" y="{y:.0f}">{classes}, purity {purity:.2f}</text>')
    picture = f"data:image/png;base64,{own['png']}"
    box = f'width="{left + width + 190}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="11">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<image x="{left}" y="0" width="{width}" height="{height}" href="{picture}"/>',
            *texts,
            "</svg>",
        ]
    )
