"""Tables of the section: means over seeds with a 95 % interval of Student's t, next to published numbers.

A share of test images has Wilson's interval over the images in brackets, apart from the one over seeds.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cells import MISSING, over_images, rounded
from cells import table as markdown
from network_pairs import over_pairs

from orchestrator.analysis.claims.comparisons import Summary
from orchestrator.analysis.claims.intervals import quantile
from trainables.evaluation.robustness.transfer_result import Transfer

from . import published, released
from .scores import Scores

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
    "Flattening: effective rank of a class's representation, free of the scale of the activations": ResultTable(
        {tap: f"flattening/{tap}_effective_rank" for tap in TAPS}
    ),
}


def tables(scores: Scores) -> str:
    """Return all tables as Markdown."""
    head = (
        f"{scores.machine}. {len(scores.seeds)} seeds; {scores.images:,} class-balanced test images unless said "
        "otherwise. After ± is the half width of the interval over seeds; in brackets, of a share, the interval over "
        "images."
    )
    parts = [head]
    for title, contents in TABLES.items():
        text = table(scores, scores.recipes, contents)
        parts += [f"### {title}\n\n{text}"] if text else []
    if released.NAME in scores.recipes:
        own = ResultTable(released.COLUMNS, {"published": published.RELEASED})
        parts.append(
            f"### Deep nearest neighbours as first released, 9,000 test images\n\n{table(scores, [released.NAME], own)}"
        )
    parts.append(f"### Transfer of PGD at 0.1, 20 steps: error of the network in the column, %\n\n{matrix(scores)}")
    parts.append(
        f"### Published: transfer of L-BFGS between the networks of Szegedy et al. 2014, %\n\n{published.TRANSFERRED}"
    )
    return "\n\n".join(parts)


def table(scores: Scores, recipes: Sequence[str], contents: ResultTable) -> str:
    """Return one row for each recipe, without columns that no network has; '' if none is left. Missing is a dash."""
    columns = {
        head: metric
        for head, metric in contents.columns.items()
        if any(scores.summary(recipe, metric) for recipe in recipes)
    }
    if not columns:
        return ""
    rows = [[recipe, *(_cell(scores, recipe, metric) for metric in columns.values())] for recipe in recipes]
    rows += [
        [label, *(f"{row[metric]:.4g}" if metric in row else "-" for metric in columns.values())]
        for label, row in contents.published_rows.items()
    ]
    return markdown(["method", *columns], rows)


def _cell(scores: Scores, recipe: str, metric: str) -> str:
    found, images = scores.summary(recipe, metric), scores.images_of(metric)
    if found is None:
        return MISSING
    text = interval(found)
    return text if images is None else over_images(text, found.mean, images)


def interval(found: Summary) -> str:
    """Return the mean and the half width of its 95 % interval over seeds.

    >>> interval(Summary(2.0, 1.0, 3))
    '2.0 ± 2.5'
    """
    return rounded(found.mean, quantile(found.count - 1) * found.spread / math.sqrt(found.count))


def transfer_of(transfer: Transfer) -> dict[str, dict[str, tuple[float, float]]]:
    """Return mean errors in % with half widths over pairs of networks, by the recipes of source and target."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for (source, target), pairs in transfer.by_group().items():
        if len(pairs) > 1:
            found.setdefault(source, {})[target] = mean_of_pairs({pair: 100 * error for pair, error in pairs.items()})
    return found


def mean_of_pairs(values: Mapping[tuple[str, str], float]) -> tuple[float, float]:
    """Return the mean over pairs of networks and its half width, 0 of one source or target.

    >>> rounded(*mean_of_pairs({("a", "x"): 1.0, ("a", "y"): 3.0, ("b", "x"): 1.0, ("b", "y"): 3.0}))
    '2 ± 13'
    """
    if min(len({pair[end] for pair in values}) for end in (0, 1)) < 2:
        return statistics.mean(values.values()), 0.0
    found = over_pairs(values)
    return found.mean, quantile(found.degrees) * found.error


def matrix(scores: Scores) -> str:
    """Return mean errors over pairs of different networks, by the recipes of source and target."""
    names = scores.recipes
    rows = []
    for source in names:
        pairs = [scores.transfer.get(source, {}).get(target) for target in names]
        rows.append([source, *(MISSING if pair is None else rounded(*pair) for pair in pairs)])
    return markdown(["made for", *names], rows)
