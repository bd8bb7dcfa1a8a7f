"""Tables and the figure of the section: dose and response, transfer."""

import math
from collections.abc import Iterator, Mapping, Sequence

from cells import mean_and_half, rounded, spread, table
from line_figure import KINDS, Axis, Line, Panel, Point, figure, linear
from section import Row, described

from orchestrator.analysis.claims.intervals import image_interval, quantile

from .doses import Grid, Networks, data_sets, over_matrix
from .grid import LAYERS, TEMPERATURES
from .measures import FGSM, PGD

FIGURE = "Entanglement by layer and accuracy over the weight, at the minimising temperature"
RESPONSES = {
    "accuracy": "test/accuracy",
    "NLL, nats": "test/nll",
    "ECE": "test/ece",
    "Brier": "test/brier",
    "FGSM 0.1": FGSM,
    f"{PGD} 0.1": PGD,
    "credibility": "dknn/credibility",
    "credibility, FGSM": "dknn/credibility_fgsm",
}
SCORES = {
    "softmax": "msp",
    "energy": "energy",
    "credibility": "credibility",
    "conformity": "conformity",
    "own neighbours": "own_votes",
    "kNN distance": "knn",
    "Mahalanobis": "mahalanobis",
}


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables of each data set and the figure."""
    seeds = f"Seeds: {len(rows[0].settings['seeds'])}; after ± is the half width of Student's 95 % over them"
    parts = [f"{described(rows)}. {seeds}, as are the bars of the figure."]
    grids = {data: Grid.of(rows, data) for data in data_sets(rows)}
    parts.append(f"![{FIGURE}](dose.svg)")
    for data, grid in grids.items():
        parts += _responses(data, grid, rows)
    return {
        "dose responses": "\n\n".join(parts),
        "dose.svg": figure(
            [panel for data, grid in grids.items() for panel in panels(data, grid)], words=FIGURE, columns=2
        ),
    }


def _responses(data: str, grid: Grid, rows: Sequence[Row]) -> Iterator[str]:
    chance = grid.baseline.mean("val/entanglement_chance")
    yield f"### {data}: entanglement by layer, validation images; chance is {chance:.3f} nats"
    taps = (*LAYERS, "penultimate")
    heads = [*(f"{tap}, nats" for tap in taps), "validation accuracy"]
    metrics = [*(f"val/entanglement_{tap}" for tap in taps), "val/accuracy"]
    heads += [f"length² of {tap}" for tap in LAYERS]
    metrics += [f"val/length_{tap}" for tap in LAYERS]
    yield _by_network(grid, dict(zip(heads, metrics, strict=True)))
    yield from _diverged(data, rows)
    yield f"### {data}: response, test images"
    yield _by_network(grid, RESPONSES)
    for outliers in outlier_sets(grid):
        yield f"### {data}: AUROC against outliers ({outliers}), by score"
        yield _by_network(grid, {head: f"ood/{outliers}_{score}_auroc" for head, score in SCORES.items()})
    yield f"### {data}: transfer between seeds of one treatment, {PGD} at 0.1, % of the images that fool the source"
    yield table(
        ["treatment", "attack", "noise of the same size"],
        ([named(own), _of_pairs(own.transfer), _of_pairs(own.noise)] for own in grid.networks),
    )
    if grid.baseline.transfer:
        images = next(row.settings["data"] for row in rows if row.settings["recipe"]["data"] == data)
        yield _of_other_images(grid.baseline, images=images["transfer_images"])


def outlier_sets(grid: Grid) -> list[str]:
    """Return the names of the sets of outliers, the one of the predictions first."""
    return [name[len("ood/") : -len("_msp_auroc")] for name in grid.baseline.values if name.endswith("_msp_auroc")]


def _by_network(grid: Grid, metrics: Mapping[str, str]) -> str:
    return table(
        ["treatment", *metrics],
        ([named(own), *(spread(own.values[metric]) for metric in metrics.values())] for own in grid.networks),
    )


def _diverged(data: str, rows: Sequence[Row]) -> Iterator[str]:
    found = (Networks.of(row) for row in rows if row.settings["recipe"]["data"] == data)
    if names := [f"{named(own)} ({len(own.diverged)} seeds)" for own in found if own.diverged]:
        yield f"Left out, as training diverged: {', '.join(names)}."


def named(networks: Networks) -> str:
    """Return the name of a treatment in a table of one data set; the loss has that of its temperature."""
    recipe = networks.recipe
    if recipe.is_baseline:
        return "baseline"
    kind = f"SNNL {recipe.temperature}" if recipe.temperature in TEMPERATURES else f"{recipe.penalty} (control)"
    return f"{kind.replace('_', ' ')}, {recipe.weight:g}"


def _of_pairs(matrix: Sequence[Sequence[float]]) -> str:
    if not matrix:
        return "-"
    found = over_matrix([[100 * value for value in row] for row in matrix])
    return rounded(found.mean, quantile(found.degrees) * found.error)


def _of_other_images(baseline: Networks, *, images: int) -> str:
    """Say what as many other images would give of the baseline."""
    low, high = (100 * end for end in image_interval(over_matrix(baseline.transfer).mean, images))
    return (
        f"All are of the same {images} images, or those of them that fool the source. Of as many others, the baseline "
        f"would have {low:.2g} to {high:.2g} % (Wilson's interval, if all fool the source and all pairs answer alike)."
    )


def panels(data: str, grid: Grid) -> Iterator[Panel]:
    """Yield a panel of entanglement and one of accuracy over the weight, at the minimising temperature."""
    doses = [*reversed(grid.doses("minimised", "higher")), grid.baseline, *grid.doses("minimised", "lower")]
    labels = [f"{own.recipe.weight:g}" for own in doses]
    x = Axis("weight of SNNL (below 0 entangles)", -0.5, len(doses) - 0.5, range(len(doses)), labels)
    chance = grid.baseline.mean("test/entanglement_chance")
    nats = linear("nats", math.ceil(2 * chance) / 2, 0.5)
    taps = {tap: f"test/entanglement_{tap}" for tap in (*LAYERS, "penultimate")}
    shares = {"test images": "test/accuracy", "FGSM 0.1": FGSM, "PGD 0.1": PGD}
    colours = dict(zip((*taps, *shares), KINDS, strict=True))
    yield Panel(
        f"{data}: entanglement, chance {chance:.2f}", x, nats, [_line(doses, *own, colours) for own in taps.items()]
    )
    y = linear("share of test images", 1.0, 0.25)
    yield Panel(f"{data}: accuracy", x, y, [_line(doses, *own, colours) for own in shares.items()])


def _line(doses: Sequence[Networks], name: str, metric: str, colours: Mapping[str, str]) -> Line:
    points = [Point(place, *mean_and_half(own.values[metric])) for place, own in enumerate(doses)]
    return Line(name, points, colours[name])
