"""Dose and response of the soft nearest neighbour loss."""

import statistics
from collections.abc import Mapping, Sequence

from section import JSON, UNKNOWN, Claim, Places, Row, Section, Size, Unit

from trainables.config.trial import TrialConfig
from trainables.tasks.classifier.training import train

COMMON = {"data.name": "digits", "model.name": "cnn", "device": "cpu", "snnl.layers": "hidden"}


def units(size: Size) -> list[Unit]:
    """Return one unit for each weight and seed."""
    weights, seeds, epochs = ((-1.0, 0.0), (0,), 1) if size == "smoke" else ((-1.0, -0.1, 0.0, 0.1, 1.0), range(5), 20)
    return [
        Unit(f"digits weight {weight:g} seed {seed}", {"weight": weight, "seed": seed, "epochs": epochs})
        for weight in weights
        for seed in seeds
    ]


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:  # noqa: ARG001 - digits come with scikit-learn
    """Train one network, and return the metrics of its last epoch."""
    settings = unit.settings
    point = {**COMMON, "snnl.weight": settings["weight"], "seed": settings["seed"], "epochs": settings["epochs"]}
    return dict(train(TrialConfig.from_point(point), report=lambda _: None).metrics)


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the table of accuracies by weight."""
    lines = ["| weight | validation accuracy |", "|---|---|"]
    for weight in dict.fromkeys(row.settings["weight"] for row in rows):
        own = [row.metrics["val/accuracy"] for row in rows if row.settings["weight"] == weight]
        lines.append(f"| {weight:g} | {statistics.mean(own):.3f} |")
    return {"dose": "\n".join(lines)}


def claims(rows: Sequence[Row]) -> list[Claim]:  # noqa: ARG001 - no test yet
    """Return the claim that entangled networks are more accurate."""
    return [Claim("Frosst et al. 2019", "entangled networks are more accurate", UNKNOWN, "no test yet", "-", "table 1")]


SECTION = Section("dose", "Dose and response of SNNL", units, measure, write, claims)
