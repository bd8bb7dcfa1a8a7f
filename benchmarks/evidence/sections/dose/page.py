"""Tables and the figure of the section: dose and response, matched controls, answers."""

import math
from collections.abc import Iterator, Mapping, Sequence

from answers import table
from line_figure import Panel, Point, Series, figure
from section import AGREES, Row, described

from orchestrator.analysis.claims.intervals import moments, quantile

from .doses import Grid, Match, Networks, data_sets, over_pairs
from .grid import LAYERS, TEMPERATURES
from .measures import FGSM, PGD
from .questions import Reply, questions, reply, transfer_answer

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
    parts = [
        f"{described(rows)}. Seeds: {len(rows[0].settings['seeds'])}; after ± is the half width of Student's 95 %."
    ]
    grids = {data: Grid.of(rows, data) for data in data_sets(rows)}
    parts.append("![Entanglement by layer and accuracy over the weight, at the minimising temperature](dose.svg)")
    for data, grid in grids.items():
        parts += _responses(data, grid, rows)
    answers = [reply(question, grids[question.data]) for question in questions(rows)]
    between = [transfer_answer(data, grid) for data, grid in grids.items()]
    return {
        "dose responses": "\n\n".join(parts),
        "dose answers": "\n\n".join(part for own in answers for part in _answered(own, grids[own.question.data])),
        "dose transfer": "\n\n".join("Not measured." if own is None else own.shown() for own in between),
        "dose.svg": figure([panel for data, grid in grids.items() for panel in panels(data, grid)]),
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


def outlier_sets(grid: Grid) -> list[str]:
    """Return the names of the sets of outliers, the one of the predictions first."""
    return [name[len("ood/") : -len("_msp_auroc")] for name in grid.baseline.values if name.endswith("_msp_auroc")]


def _by_network(grid: Grid, metrics: Mapping[str, str]) -> str:
    return table(
        ["treatment", *metrics],
        ([named(own), *(interval(own.values[metric]) for metric in metrics.values())] for own in grid.networks),
    )


def _diverged(data: str, rows: Sequence[Row]) -> Iterator[str]:
    found = (Networks.of(row) for row in rows if row.settings["recipe"]["data"] == data)
    if names := [f"{named(own)} ({len(own.diverged)} seeds)" for own in found if own.diverged]:
        yield f"Left out, as training diverged: {', '.join(names)}."


def _answered(found: Reply, grid: Grid) -> Iterator[str]:
    if found.answer is None:
        yield f"### {found.question.title}"
        yield f"Nothing is concluded, as {found.reason}."
        return
    yield found.answer.shown()
    if found.treatment is not None:
        heads = ["control", "what is compared", "difference to the treatment", "within the tolerance"]
        yield table(heads, (_match(match) for match in grid.matches(found.treatment)))
    for name, controls in found.beyond.items():
        if controls and found.answer.verdict(name) == AGREES:
            yield f"*{name}* is not shown beyond {', '.join(controls)}: inconclusive, as entanglement need not do it."


def _match(match: Match) -> list[str]:
    if match.control is None:
        return [match.name, "-", "no network", "no"]
    if match.criterion == "cost":
        compared, gap = "mean validation accuracy", f"{match.distance:.4f}"
    else:
        compared, gap = "mean squared length of activations", f"a factor of {match.distance:.2f}"
    return [match.name, compared, gap, "yes" if match.is_within else "no"]


def named(networks: Networks) -> str:
    """Return the name of a treatment in a table of one data set; the loss has that of its temperature."""
    recipe = networks.recipe
    if recipe.is_baseline:
        return "baseline"
    kind = f"SNNL {recipe.temperature}" if recipe.temperature in TEMPERATURES else f"{recipe.penalty} (control)"
    return f"{kind.replace('_', ' ')}, {recipe.weight:g}"


def interval(values: Sequence[float]) -> str:
    """Return the mean and the half width of its 95 % interval over seeds.

    >>> interval([0.9, 0.92, 0.94])
    '0.920 ± 0.050'
    """
    center, spread = moments(values)
    return _rounded(center, quantile(len(values) - 1) * spread / math.sqrt(len(values)))


def _of_pairs(matrix: Sequence[Sequence[float]]) -> str:
    if not matrix:
        return "-"
    found = over_pairs([[100 * value for value in row] for row in matrix])
    return _rounded(found.mean, quantile(found.degrees) * found.error)


def _rounded(center: float, half: float) -> str:
    if abs(center) >= 100:
        return f"{center:.0f} ± {half:.0f}"
    digits = min(4, max(0, 1 - math.floor(math.log10(half)))) if half else 4
    return f"{center:.{digits}f} ± {half:.{digits}f}"


def panels(data: str, grid: Grid) -> Iterator[Panel]:
    """Yield a panel of entanglement and one of accuracy over the weight, at the minimising temperature."""
    doses = [
        *reversed(grid.doses("minimised", "higher")),
        grid.baseline,
        *grid.doses("minimised", "lower"),
    ]
    ticks = [f"{own.recipe.weight:g}" for own in doses]
    chance = grid.baseline.mean("test/entanglement_chance")
    layers = [_series(tap, doses, f"test/entanglement_{tap}") for tap in (*LAYERS, "penultimate")]
    x = "weight of SNNL (below 0 entangles)"
    yield Panel(f"{data}: entanglement, chance {chance:.2f}", x, "nats", ticks, 0.0, math.ceil(2 * chance) / 2, layers)
    responses = {"test images": "test/accuracy", "FGSM 0.1": FGSM, "PGD 0.1": PGD}
    shares = [_series(name, doses, metric) for name, metric in responses.items()]
    yield Panel(f"{data}: accuracy", x, "share of test images", ticks, 0.0, 1.0, shares)


def _series(name: str, doses: Sequence[Networks], metric: str) -> Series:
    points = []
    for tick, own in enumerate(doses):
        center, spread = moments(own.values[metric])
        count = len(own.values[metric])
        points.append(Point(tick, center, quantile(count - 1) * spread / math.sqrt(count)))
    return Series(name, points)
