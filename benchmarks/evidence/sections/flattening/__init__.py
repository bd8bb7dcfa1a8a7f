"""Flattening: in how many directions the activations of a class vary, by layer, free of their scale.

Verma et al., 2019, section 3.2 and appendix G: fully connected networks on MNIST, mixed at one hidden layer. Measured
before and after training, against input mixup, and against a penalty on the length of activations of the same scale.
The predictions and checks, in `questions`, were written before the whole size was measured.
"""

from collections.abc import Iterator, Mapping, Sequence

from cells import MISSING
from section import Row, Section, described
from sections.flattening.figure import WORDS, spectra
from sections.flattening.networks import AFTER, BEFORE, DATA, MANIFOLD, MIXED_AT, TAPS, measure, units
from sections.flattening.questions import matched, questions
from sections.mixtures.predictions import Values
from sections.mixtures.tables import Column, by_method, cell
from sections.mixtures.trials import NONE

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
    layers = "\n\n".join([head, FIGURE, *by_layer(values)])
    return {"flattening layers": layers, "flattening.svg": spectra(values, matched(rows))}


def by_layer(values: Values) -> Iterator[str]:
    """Yield a title and a table for each layer, with the untrained network as a row."""
    for tap in TAPS:
        yield f"### {tap}"
        columns = [Column(head, f"{AFTER}/{tap}_{metric}") for head, metric in COLUMNS.items()]
        if tap in ("fc1", "fc2"):
            columns.append(Column("mixtures here, nats", f"mixture/{tap}"))
        yield by_method(values, columns, {"untrained": [*untrained(values, columns)]})
        if tap == MIXED_AT:
            yield flattest(values)


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
