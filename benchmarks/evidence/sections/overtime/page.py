"""Figure and tables of the page."""

import statistics
from collections.abc import Iterator, Mapping, Sequence

from answers_by_image import unpacked
from cells import spread, table
from line_figure import DEPTHS, Line, Panel, Point, figure, linear
from questions import rows_of
from section import Row, described
from sections.overtime.design import TAPS


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the figure and the tables by layer and by epoch."""
    recipes = list(dict.fromkeys(row.settings["recipe"] for row in rows))
    words = "Entanglement of each residual block by epoch, mean of the seeds, one panel for each treatment"
    epochs = len(rows[0].metrics["val_accuracy"])
    x, y = linear("epoch", epochs, max(1, epochs // 4)), linear("entanglement, share of chance", 1.0, 0.25)
    panels = [Panel(recipe, x, y, _lines(rows_of(rows, {"recipe": recipe}))) for recipe in recipes]
    seeds = len({row.settings["seed"] for row in rows})
    note = (
        f"{described(rows)}. {seeds} seeds; after ± is the half width of the interval at 95 % over seeds. Test images: "
        f"{len(unpacked(rows[0].metrics['right by image'])):,}; entanglement of {rows[0].settings['sets']} sets of "
        f"{rows[0].settings['images']}."
    )
    return {
        "overtime layers": "\n\n".join([note, f"![{words}](overtime.svg)", _by_layer(rows, recipes)]),
        "overtime epochs": "\n\n".join(
            f"#### {recipe}\n\n{_by_epoch(rows_of(rows, {'recipe': recipe}))}" for recipe in recipes
        ),
        "overtime.svg": figure(panels, words=words),
    }


def _by_layer(rows: Sequence[Row], recipes: Sequence[str]) -> str:
    lines = [
        [f"{tap}, {moment}", *(_entanglement(rows_of(rows, {"recipe": recipe}), tap, key) for recipe in recipes)]
        for tap in TAPS
        for key, moment in (("first", "before"), ("last", "after"))
    ]
    tested = (spread([row.metrics["test_accuracy"] for row in rows_of(rows, {"recipe": recipe})]) for recipe in recipes)
    return table(["share of chance", *recipes], [*lines, ["test accuracy", *tested]])


def _entanglement(rows: Sequence[Row], tap: str, moment: str) -> str:
    return spread([statistics.mean(row.metrics[moment][tap]) for row in rows])


def _by_epoch(rows: Sequence[Row]) -> str:
    means = {tap: [statistics.mean(own) for own in _columns(rows, tap)] for tap in TAPS}
    accuracies = ["-", *(f"{statistics.mean(own):.3f}" for own in zip(*(_accuracies(rows)), strict=True))]
    lines = [
        [str(epoch), *(f"{means[tap][epoch]:.3f}" for tap in TAPS), accuracies[epoch]]
        for epoch in range(len(accuracies))
    ]
    return table(["epoch", *TAPS, "validation accuracy"], lines)


def _lines(rows: Sequence[Row]) -> list[Line]:
    return [
        Line(tap, [Point(epoch, statistics.mean(own)) for epoch, own in enumerate(_columns(rows, tap))], colour)
        for tap, colour in zip(TAPS, (*DEPTHS[:8], DEPTHS[9]), strict=True)
    ]


def _columns(rows: Sequence[Row], tap: str) -> Iterator[Sequence[float]]:
    """Yield the values of all seeds after each epoch."""
    return zip(*(row.metrics["course"][tap] for row in rows), strict=True)


def _accuracies(rows: Sequence[Row]) -> list[Sequence[float]]:
    return [row.metrics["val_accuracy"] for row in rows]
