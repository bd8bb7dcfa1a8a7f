"""Rows of tables/README.md: what a table holds, and how soon its ranking is that of the end."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from record import Table

MARK = "<!-- rows by record.py --describe -->\n"
OBJECTIVES = ("val/accuracy", "val/robust_accuracy", "val/nll")
DIGITS_IMAGES = (1_078, 360)


def describe(folder: Path, tables: Mapping[str, Table]) -> None:
    """Replace the rows of the README by those of the tables that are there."""
    readme = folder / "README.md"
    head, _, rest = readme.read_text().partition(MARK)
    tail = rest.partition(MARK)[2]
    rows = [_row(name, table, folder) for name, table in tables.items() if (folder / f"{name}.json.gz").exists()]
    columns = (
        "table | role | data, network | images to train, validate | points x seeds, diverged | epochs | accuracy "
        "| robust accuracy | NLL | rank correlation of epochs 1, 3, 9: accuracy | robust accuracy | passes | seconds"
    )
    rule = "|".join(["---"] * len(columns.split("|")))
    readme.write_text("\n".join([head + MARK, f"| {columns} |", f"|{rule}|", *rows, "", MARK]) + tail)


def _row(name: str, table: Table, folder: Path) -> str:
    document = json.loads(gzip.decompress((folder / f"{name}.json.gz").read_bytes()))
    trials, settings = document["trials"], document["fixed"]
    ends = {m: np.array([t["curves"][m][-1] for t in trials if t["status"] == "completed"]) for m in OBJECTIVES}
    seeds = sorted({trial["seed"] for trial in trials})
    diverged = sum(trial["status"] == "diverged" for trial in trials)
    width = f" x {settings['model.width']:g}" if "model.width" in settings else ""
    cells = [
        name,
        table.role,
        f"{settings['data.name']}, {settings['model.name']}{width}",
        ", ".join(map(str, _images(table))),
        f"{len(trials) // len(seeds)} x {len(seeds)}, {diverged}",
        str(table.epochs),
        *(" / ".join(f"{value:.3f}" for value in np.quantile(values, (0, 0.5, 1))) for values in ends.values()),
        *(" / ".join(f"{_agreement(trials, m, at):.2f}" for at in (1, 3, 9)) for m in OBJECTIVES[:2]),
        f"{np.mean([passes(table, trial) for trial in trials]):.1f}",
        f"{np.mean([sum(trial['curves']['time/epoch_s']) for trial in trials]):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _images(table: Table) -> tuple[int, int]:
    if table.fixed["data.name"] == "digits":
        return DIGITS_IMAGES
    validating = round(table.images / 6)
    return round((table.images - validating) * table.fixed.get("data.fraction", 1)), validating


def _agreement(trials: list[dict[str, Any]], metric: str, epoch: int) -> float:
    """Return Spearman's rank correlation of an epoch with the last, over seeds' means; diverged trials are worst."""

    def value(trial: dict[str, Any], index: int) -> float:
        curve = trial["curves"][metric]
        if index < 0:
            return float(curve[-1]) if trial["status"] == "completed" else -1.0
        return float(curve[index]) if index < len(curve) else -1.0

    by_seed = [[t for t in trials if t["seed"] == seed] for seed in sorted({t["seed"] for t in trials})]
    found = [spearmanr([value(t, epoch - 1) for t in s], [value(t, -1) for t in s])[0] for s in by_seed]
    return float(np.mean(found))


def passes(table: Table, trial: dict[str, Any]) -> int:
    """Return the gradient evaluations per training image and epoch."""
    parameters = {**table.settings, **trial["point"]}
    return task_of(parameters).passes_per_epoch(parameters)
