"""Figure and tables of the page."""

import statistics
from collections.abc import Iterator, Mapping, Sequence

from answers_by_image import unpacked
from cells import MISSING, mean_and_half, spread, table
from line_figure import DEPTHS, Line, Panel, Point, figure, linear
from questions import rows_of
from section import Row, described
from sections.overtime.design import TAPS


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the figure and the tables by layer and by epoch."""
    recipes = list(dict.fromkeys(row.settings["recipe"] for row in rows))
    words = (
        "Entanglement of each residual block by epoch, one panel for each treatment: mean of the seeds, and as a light "
        "band its interval at 95 % over seeds"
    )
    epochs = len(rows[0].metrics["val_accuracy"])
    x, y = linear("epoch", epochs, max(1, epochs // 4)), linear("entanglement, share of chance", 1.0, 0.25)
    panels = [Panel(recipe, x, y, _lines(rows_of(rows, {"recipe": recipe}))) for recipe in recipes]
    seeds = len({row.settings["seed"] for row in rows})
    note = (
        f"{described(rows)}. {seeds} seeds; after ± is the half width of Student's interval at 95 % over seeds, which "
        "is a light band around each line of the figure. Test images: "
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
    """Return the means of the seeds after each epoch, and the widest interval of each column."""
    columns = [[mean_and_half(own) for own in _columns(rows, tap)] for tap in TAPS]
    accuracies = [mean_and_half(own) for own in zip(*_accuracies(rows), strict=True)]
    shown = [[f"{mean:.3f}" for mean, _ in own] for own in columns]
    shown.append([MISSING, *(f"{mean:.3f}" for mean, _ in accuracies)])
    widest = [f"± {max(half for _, half in own):.3f}" for own in (*columns, accuracies)]
    lines = [[str(epoch), *own] for epoch, own in enumerate(zip(*shown, strict=True))]
    return table(["epoch", *TAPS, "validation accuracy"], [*lines, ["widest interval", *widest]])


def _lines(rows: Sequence[Row]) -> list[Line]:
    return [
        Line(
            tap,
            [Point(epoch, *mean_and_half(own)) for epoch, own in enumerate(_columns(rows, tap))],
            colour,
            has_band=True,
        )
        for tap, colour in zip(TAPS, (*DEPTHS[:8], DEPTHS[9]), strict=True)
    ]


def _columns(rows: Sequence[Row], tap: str) -> Iterator[Sequence[float]]:
    """Yield the values of all seeds after each epoch."""
    return zip(*(row.metrics["course"][tap] for row in rows), strict=True)


def _accuracies(rows: Sequence[Row]) -> list[Sequence[float]]:
    return [row.metrics["val_accuracy"] for row in rows]
