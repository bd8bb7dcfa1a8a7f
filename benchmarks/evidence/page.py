"""Tables of docs/results.md: means over seeds with a 95 % interval of Student's t, next to published numbers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import published
import released

from trainables.evaluation.robustness.transfer_result import Transfer

BEGIN, END = "<!-- mnist: begin -->\n", "<!-- mnist: end -->"
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""0.975 quantile of Student's t, by degrees of freedom."""

TAPS = ("conv1", "conv2", "penultimate", "logits")


class ResultTable(NamedTuple):
    """Metrics of a table by the heads of its columns, and its published rows."""

    columns: Mapping[str, str]
    published_rows: Mapping[str, published.Row] = {}


TABLES: Mapping[str, ResultTable] = {
    "Accuracy, likelihood and calibration, all 10,000 test images": ResultTable(
        {
            "accuracy": "test/accuracy",
            "NLL, nats": "test/nll",
            "ECE": "test/ece",
            "ECE after temperature": "test/ece_scaled",
        },
        published.ACCURACY,
    ),
    "Accuracy under PGD-40 (Linf)": ResultTable(
        {f"epsilon {epsilon}": f"pgd-40@{epsilon}" for epsilon in ("0.1", "0.2", "0.3")},
        published.UNDER_AUTOATTACK,
    ),
    "Entanglement: SNNL at its minimising temperature, nats": ResultTable(
        {**{tap: f"entanglement/{tap}_test" for tap in TAPS}, "chance": "test/entanglement_chance"}
    ),
    "MNIST against notMNIST: AUROC by score": ResultTable(
        {
            name: f"ood/notmnist_{score}_auroc"
            for name, score in {
                "softmax": "msp",
                "energy": "energy",
                "DkNN credibility": "credibility",
                "DkNN conformity": "conformity",
                "own neighbours": "own_votes",
                "kNN distance": "knn",
            }.items()
        }
    ),
    "Deep nearest neighbours: accuracy and mean credibility": ResultTable(
        {
            "accuracy": "dknn/accuracy",
            "credibility, test": "dknn/credibility",
            "notMNIST": "dknn/credibility_notmnist",
            "rotated by 90 degrees": "dknn/credibility_rotated",
            "permuted pixels": "dknn/credibility_permuted",
        }
    ),
    "Accuracy on deformed images": ResultTable(
        {
            name.replace("@", " "): f"deformation/{name}"
            for name in ("rotation@20", "rotation@40", "rotation@60", "shear@0.5", "zoom_in@0.6", "zoom_out@1.4")
        },
        published.DEFORMED,
    ),
    "Flattening: sum of the singular values but the first, class means kept": ResultTable(
        {tap: f"flattening/{tap}_sum_rest" for tap in TAPS}, published.FLATTENED
    ),
}


def write(
    path: Path,
    networks: Sequence[Any],
    scores: Mapping[str, Mapping[str, float]],
    *,
    transfer: Transfer,
    images: int,
    machine: str,
) -> None:
    """Write the tables between the page's markers, and keep its prose."""
    recipes: dict[str, list[Mapping[str, float]]] = {}
    for network in networks:
        recipes.setdefault(network.recipe, []).append(scores[network.name])
    seeds = len({network.seed for network in networks})
    head = f"{machine}. {seeds} seeds; {images:,} class-balanced test images unless said otherwise."
    parts = [head]
    for title, contents in TABLES.items():
        rows = {label: [row] for label, row in contents.published_rows.items()}
        parts.append(f"### {title}\n\n{table({**recipes, **rows}, contents.columns)}")
    if released.NAME in recipes:
        conventions = {"here": recipes[released.NAME], "published": [published.RELEASED]}
        parts.append(f"### Deep nearest neighbours as first released\n\n{table(conventions, released.COLUMNS)}")
    parts.append(f"### Transfer of PGD at 0.1: error of the network in the column, %\n\n{matrix(transfer)}")
    parts.append(f"### Published: transfer of L-BFGS between networks of 2013, %\n\n{published.TRANSFERRED}")
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def table(recipes: Mapping[str, Sequence[Mapping[str, float]]], columns: Mapping[str, str]) -> str:
    """Return one row for each recipe, without columns that no network has; a number that some lack is a dash."""
    present = {
        title: name for title, name in columns.items() if any(name in run for runs in recipes.values() for run in runs)
    }
    rows = [f"| method | {' | '.join(present)} |", "|---" * (len(present) + 1) + "|"]
    for recipe, runs in recipes.items():
        cells = [
            interval([run[name] for run in runs]) if all(name in run for run in runs) else "-"
            for name in present.values()
        ]
        rows.append(f"| {recipe} | {' | '.join(cells)} |")
    return "\n".join(rows)


def interval(values: Sequence[float]) -> str:
    """Return the mean and the half width of its 95 % interval.

    >>> interval([1.0, 2.0, 3.0]), interval([0.97])
    ('2.0 ± 2.5', '0.97')
    """
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.4g}"
    return rounded(mean, T_975[len(values) - 1] * standard_error(values))


def interval_of_pairs(values: Mapping[tuple[str, str], float]) -> str:
    """Return the mean over pairs of networks and its interval, although pairs share networks.

    The variance of the sources' means and that of the targets' means are added, with the degrees of freedom of the
    fewer of the two: both kinds of network are a sample of those that other seeds give. The interval is too wide rather
    than too narrow, as the noise of a single pair counts in both.

    >>> interval_of_pairs({("a", "x"): 1.0, ("a", "y"): 3.0, ("b", "x"): 1.0, ("b", "y"): 3.0})
    '2 ± 13'
    >>> interval_of_pairs({("a", "x"): 1.0, ("a", "y"): 3.0})
    '2'
    """
    sources, targets = (
        [statistics.mean(value for pair, value in values.items() if pair[end] == name) for name in names]
        for end, names in enumerate(map(dict.fromkeys, zip(*values, strict=True)))
    )
    mean, fewer = statistics.mean(values.values()), min(len(sources), len(targets))
    if fewer == 1:
        return f"{mean:.4g}"
    return rounded(mean, T_975[fewer - 1] * math.hypot(standard_error(sources), standard_error(targets)))


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean."""
    return statistics.stdev(values) / math.sqrt(len(values))


def rounded(mean: float, half: float) -> str:
    """Format mean and half width to two digits of the half width, and at most four decimal places."""
    digits = min(4, max(0, 1 - _magnitude(half))) if half else 4
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def matrix(transfer: Transfer) -> str:
    """Return mean errors over pairs of different networks, by the recipes of source and target."""
    names = list(dict.fromkeys(transfer.groups.values()))
    cells = {
        recipes: interval_of_pairs({pair: 100 * error for pair, error in pairs.items()}) if pairs else "-"
        for recipes, pairs in transfer.by_group().items()
    }
    rows = [f"| made for | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    rows += [f"| {source} | {' | '.join(cells[source, target] for target in names)} |" for source in names]
    return "\n".join(rows)


def _magnitude(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
