"""Flattening: in how many directions the activations of a class vary, by layer, free of their scale.

Verma et al., 2019, section 3.2 and appendix G: fully connected networks on MNIST, mixed at one hidden layer. Measured
before and after training, against input mixup, a penalty on the length of activations of the same scale, weight decay
and dropout. The predictions and checks are in `questions`.
"""

from collections.abc import Iterator, Mapping, Sequence

from cells import MISSING, rounded, table
from section import Row, Section, described
from sections.flattening.figure import WORDS, spectra
from sections.flattening.networks import (
    AFTER,
    BEFORE,
    DATA,
    DECAY,
    DROPOUT,
    INPUT,
    MANIFOLD,
    MIXED_AT,
    TAPS,
    measure,
    units,
)
from sections.flattening.questions import matched, questions
from sections.mixtures.predictions import Values
from sections.mixtures.tables import Column, by_method, cell
from sections.mixtures.trials import NONE

from orchestrator.analysis.claims.comparisons import paired_difference

FIGURE = f"![{WORDS}](flattening.svg)"
COLUMNS = {
    "mean norm": "mean_norm",
    "share of all values but the largest": "rest_fraction",
    "share of the largest 5, centred": "centred_top_share",
    "effective rank": "effective_rank",
    "effective rank, centred": "centred_effective_rank",
    "participation ratio, centred": "centred_participation_ratio",
    "of all classes: effective rank": "together_effective_rank",
    "rank of a class / of all": "relative_rank",
}


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables by layer and the figure."""
    values = Values(rows, DATA)
    head = f"{described(rows)}, {values.num_seeds} seeds. After ± is the half width of the 95 % interval over seeds."
    layers = "\n\n".join([head, FIGURE, *by_layer(values, matched(rows))])
    return {"flattening layers": layers, "flattening.svg": spectra(values, matched(rows))}


def by_layer(values: Values, control: str) -> Iterator[str]:
    """Yield a title and a table for each layer, with the untrained network as a row."""
    for tap in TAPS:
        yield f"### {tap}"
        columns = [Column(head, f"{AFTER}/{tap}_{metric}") for head, metric in COLUMNS.items()]
        if tap in ("fc1", "fc2"):
            columns.append(Column("mixtures here, nats", f"mixture/{tap}"))
        yield by_method(values, columns, {"untrained": [*untrained(values, columns)]})
        if tap == MIXED_AT:
            yield effects(values)
            yield flattest(values)
            yield unasked(values, (NONE, INPUT, control, DECAY, DROPOUT))


def effects(values: Values) -> str:
    """Say by how much each method changes the share that the paper's numbers are of."""
    head = "share of all values but the largest"
    means = {method: values.mean(method, f"{AFTER}/{MIXED_AT}_{COLUMNS[head]}") for method in values.methods}
    to = (
        f"to {means[method]:.3f} ({means[method] - means[NONE]:+.3f}) with {method}"
        for method in (MANIFOLD, INPUT, DECAY, DROPOUT)
    )
    return f"The {head} goes from {means[NONE]:.3f} without a method {'; '.join(to)}."


def unasked(values: Values, controls: Sequence[str]) -> str:
    """Return manifold mixup's differences to its controls in the columns that no prediction is of."""
    rows = []
    for head in ("share of the largest 5, centred", "participation ratio, centred"):
        own, *others = (values.of(method, f"{AFTER}/{MIXED_AT}_{COLUMNS[head]}") for method in (MANIFOLD, *controls))
        found = [paired_difference(own, other) for other in others]
        rows.append([head, *(rounded(one.mean, (one.interval.high - one.interval.low) / 2) for one in found)])
    return table([f"{MANIFOLD}, less", *controls], rows)


def flattest(values: Values) -> str:
    """Say which method is the flattest at the mixed layer; no question is on most of them."""
    parts = []
    for head in ("share of all values but the largest", "effective rank", "rank of a class / of all"):
        means = {method: values.mean(method, f"{AFTER}/{MIXED_AT}_{COLUMNS[head]}") for method in values.methods}
        lowest = min(means, key=means.__getitem__)
        parts.append(f"{head}, {lowest} ({means[lowest]:.3g}; {MANIFOLD} {means[MANIFOLD]:.3g})")
    return f"The lowest of all methods, of which the questions compare few: {'; '.join(parts)}."


def untrained(values: Values, columns: Sequence[Column]) -> Iterator[str]:
    """Yield the cells of the networks as they were initialised, which is the same for all methods."""
    for column in columns:
        before = column._replace(metric=column.metric.replace(AFTER, BEFORE))
        yield MISSING if before == column else cell(values, NONE, before)


SECTION = Section(
    name="flattening",
    title="Flattening of class representations",
    units=units,
    measure=measure,
    write=write,
    questions=questions,
)
