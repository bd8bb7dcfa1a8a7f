"""Figure and tables of the page."""

import statistics
from collections.abc import Mapping, Sequence

from cells import mean_and_half, spread, table
from line_figure import KINDS, Line, Panel, Point, figure, linear
from questions import rows_of
from section import Row
from sections.gan import correlations
from sections.gan.design import COURSE, RECIPES, by_epoch


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the figure and the tables of test images and by epoch."""
    recipes = list(dict.fromkeys(row.settings["recipe"] for row in rows))
    words = (
        "Entanglement, precision and recall of synthetic digits by epoch, a line for each treatment: mean of the "
        "seeds, and as a light band its interval at 95 % over seeds"
    )
    epochs = len(rows[0].metrics["course"]["kl"]) - 1
    titles = {
        "pixels": "entanglement in pixels, of chance",
        "features": "entanglement in features, of chance",
        "precision": "precision by neighbours",
        "recall": "recall by neighbours",
    }
    x, y = linear("epoch", epochs, max(1, epochs // 5)), linear("share", 1.0, 0.25)
    panels = [Panel(title, x, y, [_line(rows, recipe, name) for recipe in recipes]) for name, title in titles.items()]
    seeds = len({row.settings["seed"] for row in rows})
    first = rows[0]
    note = (
        f"{_machines(rows)}. {seeds} seeds; after ± is the half width of Student's interval at 95 % over seeds, which "
        "is a light band around each line of the figure. "
        f"{first.settings['sets']} sets of {first.settings['images']} test images, each with as many synthetic ones; "
        f"classes are counted in {first.settings['mode_images']:,} synthetic images, by a classifier with a test "
        f"accuracy of {first.metrics['classifier_accuracy']:.3f}."
    )
    return {
        "gan test": "\n\n".join([note, f"![{words}](gan.svg)", _on_test_images(rows, recipes)]),
        "gan epochs": "\n\n".join(
            [
                _correlations(rows, recipes),
                *(f"#### {recipe}\n\n{_by_epoch(rows_of(rows, {'recipe': recipe}))}" for recipe in recipes),
            ]
        ),
        "gan.svg": figure(panels, words=words, columns=2),
    }


def _machines(rows: Sequence[Row]) -> str:
    """Describe the machines; the task computes everything in float32, whatever precision they prefer."""
    words = "{processor}, threads: {threads}, torch {torch}, all in float32"
    return "; ".join(dict.fromkeys(words.format(**row.machine) for row in rows))


_SHARES = {
    "entanglement, pixels": "pixels",
    "entanglement, features": "features",
    "SNNL precision, pixels": "pixels_precision",
    "SNNL recall, pixels": "pixels_recall",
    "1-NN accuracy, pixels": "pixels_nn",
    "1-NN accuracy, features": "features_nn",
    "precision": "precision",
    "recall": "recall",
}


def _on_test_images(rows: Sequence[Row], recipes: Sequence[str]) -> str:
    lines = [
        [label, *(spread([_mean(row, name) for row in rows_of(rows, {"recipe": recipe})]) for recipe in recipes)]
        for label, name in _SHARES.items()
    ]
    for label, name in {"classes covered": "covered", "divergence from equal classes, nats": "kl"}.items():
        lines.append(
            [label, *(spread([row.metrics[name] for row in rows_of(rows, {"recipe": recipe})]) for recipe in recipes)]
        )
    ceilings = [statistics.mean(_mean(row, f"{name}_ceiling") for row in rows) for name in ("pixels", "features")]
    note = "With other real images for synthetic ones, entanglement is {:.3f} in pixels and {:.3f} in features."
    return f"{table(['test images', *recipes], lines)}\n\n{note.format(*ceilings)}"


def _correlations(rows: Sequence[Row], recipes: Sequence[str]) -> str:
    """Return the correlations of entanglement with precision, recall and their mean, without trends and with them."""
    kinds = {"of changes": correlations.of_changes, "of values, with their trends": correlations.of_values}
    return "\n\n".join(_correlated(rows, recipes, kind, of) for kind, of in kinds.items())


def _correlated(rows: Sequence[Row], recipes: Sequence[str], kind: str, of: correlations.Of) -> str:
    qualities = {"precision": ["precision"], "recall": ["recall"], "their mean": ["precision", "recall"]}
    columns = {
        f"{space}, {words}": (space, quality)
        for space in ("pixels", "features")
        for words, quality in qualities.items()
    }
    lines = [
        [recipe, *(spread([of(row, *own) for row in rows_of(rows, {"recipe": recipe})]) for own in columns.values())]
        for recipe in recipes
    ]
    return table([f"rank correlation {kind}", *columns], lines)


def _by_epoch(rows: Sequence[Row]) -> str:
    columns = [list(map(spread, by_epoch(rows, name))) for name in COURSE]
    heads = ("entanglement, pixels", "entanglement, features", "precision", "recall", "classes covered", "divergence")
    return table(["epoch", *heads], ([str(epoch), *own] for epoch, own in enumerate(zip(*columns, strict=True))))


def _line(rows: Sequence[Row], recipe: str, name: str) -> Line:
    points = [
        Point(epoch, *mean_and_half(own)) for epoch, own in enumerate(by_epoch(rows_of(rows, {"recipe": recipe}), name))
    ]
    return Line(recipe, points, KINDS[list(RECIPES).index(recipe)], dashed="control" in recipe, has_band=True)


def _mean(row: Row, name: str) -> float:
    return statistics.mean(row.metrics["test"][name])
