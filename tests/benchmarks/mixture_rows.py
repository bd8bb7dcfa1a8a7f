"""Rows of the section `mixtures`, made of values by seed."""

import importlib

SEEDS = range(5)


def rows_of(values):
    """Return rows of the data set `few`, of values by seed under method and metric."""
    section = importlib.import_module("section")
    return [
        section.Row(
            section.Unit(f"{method} {seed}", {"data": "few", "method": method, "seed": seed}),
            {metric: own[seed] for metric, own in metrics.items()},
            0.0,
            {},
        )
        for method, metrics in values.items()
        for seed in SEEDS
    ]
