"""Transfer of minimal perturbations between networks and between halves of the training set, and what bounds them.

After Szegedy et al. (2014), tables 1 to 5, with networks of the same layers on MNIST. Each unit trains what is not
kept, then measures one seed: `networks` (tables 1 and 2, all trained on the same images), `halves` (tables 3 and 4) and
`stability` (section 4.3 and table 5: norms of layers, and the slope between an image and its perturbed one). The images
are class-balanced test images, the same for all seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any, Final

import torch
from fully_connected import config_of, point_of, trained
from paired_questions import Claimed, Compared, Question, claims_of, shown, spread, table
from published import TRANSFER_HALVES, TRANSFER_NETWORKS
from section import JSON, Claim, Places, Row, Section, Size, Unit
from torch import Tensor, nn

from orchestrator.analysis.claims.intervals import Interval, image_bootstrap, image_difference_interval
from trainables.attacks import lbfgs
from trainables.data import Split, load_test
from trainables.evaluation.core.prediction import as_pixels, balanced_subset, logits
from trainables.evaluation.robustness.transfer import resized, transfer
from trainables.evaluation.robustness.transfer_result import Matrix, TransferCondition
from trainables.evaluation.stability.lipschitz import constants
from trainables.evaluation.stability.operator_norms import unrolled_norm
from trainables.models import TappedClassifier
from trainables.models.tapped import INPUT
from trainables.seeding import generator

PAPER: Final = "Szegedy et al. 2014"
RMS: Final = 0.1
"""Size to which perturbations are amplified, as in the paper: root mean square over pixels."""
SEEDS: Final[Mapping[Size, Sequence[int]]] = {"smoke": (0, 1), "whole": range(5), "full": range(10)}
IMAGES: Final[Mapping[Size, int]] = {"smoke": 20, "whole": 100, "full": 1000}
STABILITY_IMAGES: Final[Mapping[Size, int]] = {"smoke": 10, "whole": 30, "full": 200}

Point = Mapping[str, Any]


def networks(settings: Mapping[str, Any]) -> dict[str, Point]:
    """Return the networks of table 2 by name; the autoencoder is left out."""
    own, softmax, deep = _common(settings), settings["softmax_epochs"], settings["deep_epochs"]
    return {
        **{
            f"FC10({decay})": point_of((), decay=weight, epochs=softmax, **own)
            for decay, weight in (("1e-4", 2e-5), ("1e-2", 2e-3), ("1", 0.2))
        },
        **{
            f"FC{size}-{size}-10": point_of((size, size), decay=weight, epochs=deep, **own)
            for size, weight in ((100, 2e-7), (200, 1e-7))
        },
    }


def halves(settings: Mapping[str, Any]) -> dict[str, Point]:
    """Return the networks of table 4, and a second FC100-100-10 of the first half, which the paper has not.

    Its initial weights and order of images are those of another seed, as FC100'(P2) has, so that the two differ in
    the training images alone.
    """
    own, epochs = _common(settings), settings["halves_epochs"]
    other = {**own, "seed": own["seed"] + 1000}
    return {
        "FC100(P1)": point_of((100, 100), decay=2e-7, epochs=epochs, data_part="1/2", **own),
        "FC123(P1)": point_of((123, 456), decay=2e-7, epochs=epochs, data_part="1/2", **own),
        "FC100'(P1)": point_of((100, 100), decay=2e-7, epochs=epochs, data_part="1/2", **other),
        "FC100'(P2)": point_of((100, 100), decay=2e-7, epochs=epochs, data_part="2/2", **other),
    }


def stability_networks(settings: Mapping[str, Any]) -> dict[str, Point]:
    """Return the networks whose norms are measured: those of table 2, and a small convolutional one."""
    convolutional = {
        **point_of((), decay=1e-4, epochs=settings["convolutional_epochs"], **_common(settings)),
        "model.name": "cnn",
        "model.width": 0.25,
        "optimizer.lr": 0.05,
    }
    del convolutional["model.args.hidden"]
    return {**networks(settings), "CNN": convolutional}


def _common(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"data_name": settings["data"], "seed": settings["seed"]}


def units(size: Size) -> list[Unit]:
    """Return three units for each seed."""
    small = size == "smoke"
    common = {
        "data": "digits" if small else "mnist",
        "softmax_epochs": 5 if small else 8,
        "deep_epochs": 30 if small else 15,
        "halves_epochs": 40 if small else 20,
        "convolutional_epochs": 5 if small else 2,
        "images": IMAGES[size],
        "stability_images": STABILITY_IMAGES[size],
    }
    return [
        Unit(f"{kind} seed {seed}", {"kind": kind, "seed": seed, **common})
        for seed in SEEDS[size]
        for kind in ("networks", "halves", "stability")
    ]


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train the networks of a unit that are not kept, and measure them."""
    settings = unit.settings
    points = {"networks": networks, "halves": halves, "stability": stability_networks}[str(settings["kind"])](settings)
    models = {
        name: trained(point, data_root=places.data_root, kept=places.kept).eval() for name, point in points.items()
    }
    test = load_test(config_of(next(iter(points.values())), data_root=places.data_root).data)
    if settings["kind"] == "stability":
        images = balanced_subset(test, size=settings["stability_images"])
        return {name: stability(model, images, seed=settings["seed"]) for name, model in models.items()}
    return {
        "test_error": {
            name: float((logits(model, test).argmax(1) != test.labels_N).double().mean())
            for name, model in models.items()
        },
        **transferred(models, balanced_subset(test, size=settings["images"])),
    }


def transferred(models: Mapping[str, nn.Module], images: Split) -> dict[str, JSON]:
    """Return errors as [wrong, images] by condition, source and target, and sizes; all seeds have the same targets."""
    result = transfer(models, images, attack="lbfgs", seed=0, common_rms=RMS)
    return {
        "clean": {name: [rate.wrong, rate.images] for name, rate in result.clean.items()},
        "errors": {" ".join(condition): _counts(matrix) for condition, matrix in result.errors.items()},
        "rms": {f"{kind} {size}": dict(own) for (kind, size), own in result.sizes.items()},
        "limits": [*result.limits, *result.refusals],
    }


def _counts(matrix: Mapping[str, Mapping[str, Any]] | Matrix) -> dict[str, JSON]:
    return {
        source: {target: [rate.wrong, rate.images] for target, rate in row.items()} for source, row in matrix.items()
    }


def stability(model: TappedClassifier, images: Split, *, seed: int) -> dict[str, JSON]:
    """Return norms of the stages, and slopes between images and what L-BFGS, or noise of its size, makes of them.

    A slope is |f(x') - f(x)| / |x' - x|, in float64. The slopes of a stage are those of its own input and output.

    Raises:
        ValueError: a slope above its bound, which would be a fault of the bound.
    """
    x = as_pixels(images.images_NCHW)
    classes = logits(model, images.take(torch.arange(1))).shape[1]
    shift_N = torch.randint(1, classes, images.labels_N.shape, generator=generator(0, "transfer targets"))
    target_N = (images.labels_N + shift_N) % classes
    found = lbfgs(model, x, target_N, initial_constant=1.0, bisections=6, max_iterations=100)
    used_N = found.succeeded_B & (found.distortion_B > 0)
    noise = torch.empty_like(x).normal_(generator=generator(seed, "stability noise"))
    rms_N = (found.x_adv - x).flatten(1).square().mean(1).sqrt()
    noisy = resized(x, noise, rms_N.clamp_min(1e-6))
    wide = model.double()
    stages = constants(wide, images.images_NCHW.shape[1:])
    names = [stage.name for stage in stages]
    before, after, control = (_outputs(wide, pixels[used_N].double(), names) for pixels in (x, found.x_adv, noisy))
    rows: dict[str, JSON] = {}
    for stage, previous in zip(stages, [None, *names], strict=False):
        slopes_N = _length(after[stage.name] - before[stage.name]) / _length(after[previous] - before[previous])
        largest = float(slopes_N[slopes_N.isfinite()].max())
        _require(largest, stage.bound, stage.name)
        rows[stage.name] = {"bound": stage.bound, "exact": _exact(wide, stage.name, before), "slope": largest}
    bound = float(torch.tensor([stage.bound for stage in stages], dtype=torch.float64).prod())
    moved = {kind: _length(own[None] - before[None]) for kind, own in (("lbfgs", after), ("noise", control))}
    slope = {
        kind: float((_length(own[names[-1]] - before[names[-1]]) / moved[kind]).max())
        for kind, own in (("lbfgs", after), ("noise", control))
    }
    _require(slope["lbfgs"], bound, "all stages")
    return {
        "rms": [float(value) for value in found.distortion_B],
        "found": int(found.succeeded_B.sum()),
        "bound": bound,
        "slope": slope,
        "stages": rows,
    }


def _outputs(model: TappedClassifier, x: Tensor, names: Sequence[str]) -> dict[str | None, Tensor]:
    """Return the images under None, and the output of each stage."""
    with torch.no_grad():
        read = model.features(x, taps=[name for name in names if name != INPUT])
        return {None: x, INPUT: (x - model.mean) / model.std, **read.taps}


def _length(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1)


def _require(slope: float, bound: float, name: str) -> None:
    if not slope <= bound * (1 + 1e-6):
        raise ValueError(f"{name}: a slope must be at most the bound {bound:.6g}, got {slope:.6g}")


def _exact(model: TappedClassifier, name: str, outputs: Mapping[str | None, Tensor]) -> float | None:
    """Return the exact norm of the linear layer of a stage; None of a stage without one."""
    if name == INPUT:
        return None
    order = list(outputs)
    layers = [layer for layer in model.chain()[name].modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if not layers:
        return None
    (layer,) = layers
    if isinstance(layer, nn.Linear):
        return float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
    height, width = outputs[order[order.index(name) - 1]].shape[2:]
    padding = layer.padding if isinstance(layer.padding, str) else (layer.padding[0], layer.padding[1])
    stride = (layer.stride[0], layer.stride[1])
    return unrolled_norm(layer.weight.detach(), (height, width), stride=stride, padding=padding)


def by_kind(rows: Sequence[Row], kind: str) -> list[Row]:
    """Return the rows of a kind of unit, in the order of the seeds."""
    return [row for row in rows if row.settings["kind"] == kind]


def error(row: Row, condition: TransferCondition, pairs: Sequence[tuple[str, str]]) -> float:
    """Return the mean error over pairs of source and target."""
    matrix = row.metrics["errors"][" ".join(condition)]
    rates = [matrix[source][target] for source, target in pairs]
    return mean(wrong / images for wrong, images in rates if images)


def pairs_of(rows: Sequence[Row], *, same: bool) -> list[tuple[str, str]]:
    """Return the pairs of different networks, or those of each with itself."""
    names = list(rows[0].metrics["test_error"])
    return [(source, target) for source in names for target in names if (source == target) == same]


def against(
    words: str,
    rows: Sequence[Row],
    pairs: Sequence[tuple[str, str]],
    *,
    size: str = "own",
    control: str = "gaussian",
) -> Compared:
    """Compare the error by the attack with that by noise of the same size, on images that all classify correctly."""
    attack, noise = (TransferCondition(kind, size, "right") for kind in ("attack", control))
    own, other = ([error(row, condition, pairs) for row in rows] for condition in (attack, noise))
    return Compared(words, own, other, "higher", images=_image_interval(rows, own, other))


def between(words: str, rows: Sequence[Row], *, size: str) -> Compared:
    """Compare the transfer to the other half with that to another network of the same half, of the same layers."""
    condition = TransferCondition("attack", size, "right")
    own = [error(row, condition, [("FC100(P1)", "FC100'(P2)")]) for row in rows]
    other = [error(row, condition, [("FC100(P1)", "FC100'(P1)")]) for row in rows]
    return Compared(words, own, other, "lower", images=_image_interval(rows, own, other))


def _image_interval(rows: Sequence[Row], own: Sequence[float], other: Sequence[float]) -> Interval:
    condition = " ".join(TransferCondition("gaussian", "own", "right"))
    counts = [
        images
        for row in rows
        for of_source in row.metrics["errors"][condition].values()
        for _, images in of_source.values()
    ]
    return image_difference_interval(mean(own), mean(other), min(counts))


NETWORKS: Final = "Between networks of other layers and decay (table 2)"
HALVES: Final = "Between disjoint halves of the training set (table 4)"
DECAY: Final = "Weight decay and the smallest perturbation (table 1)"
SLOPES: Final = "The product of the norms, and the slope that images meet (section 4.3)"
OTHERS_FOOLED: Final = "other networks err more than on Gaussian noise of the same size"
OTHERS_SIGNS: Final = "and than on random signs of the same size"
OTHERS_AMPLIFIED: Final = "amplified to 0.1, other networks err more than on noise of that size"
HALF_FOOLED: Final = "a network of the other half errs more than on Gaussian noise of the same size"
HALF_AMPLIFIED: Final = "amplified to 0.1, it errs more than on noise of that size"
HALF_LESS: Final = "it errs less than another network of the same half"
HALF_LESS_AMPLIFIED: Final = "amplified to 0.1, it errs less than another network of the same half"
FARTHER: Final = "FC10(1) needs larger perturbations than FC10(1e-4), root mean square"
LOOSE: Final = "the largest slope is below the product, decades"


def questions(rows: Sequence[Row]) -> list[Question]:
    """Return the predictions, which were written before any of this was measured."""
    across, half, stable = (by_kind(rows, kind) for kind in ("networks", "halves", "stability"))
    others, itself = pairs_of(across, same=False), pairs_of(across, same=True)
    to_other_half = [("FC100(P1)", "FC100'(P2)"), ("FC123(P1)", "FC100'(P2)")]
    own_words = "images fool the network they were made for more than noise of their size"
    return [
        Question(
            NETWORKS,
            [against(own_words, across, itself)],
            [
                against(OTHERS_FOOLED, across, others),
                against(OTHERS_SIGNS, across, others, control="sign"),
                against(OTHERS_AMPLIFIED, across, others, size="common"),
            ],
        ),
        Question(
            HALVES,
            [against(own_words, half, pairs_of(half, same=True))],
            [
                against(HALF_FOOLED, half, to_other_half),
                against(HALF_AMPLIFIED, half, to_other_half, size="common"),
                between(HALF_LESS, half, size="own"),
                between(HALF_LESS_AMPLIFIED, half, size="common"),
            ],
        ),
        Question(DECAY, [_smaller_norm(stable)], [_farther(stable)]),
        Question(SLOPES, [_steeper(stable)], [_loose(stable)]),
    ]


def _smaller_norm(rows: Sequence[Row]) -> Compared:
    own, other = ([row.metrics[name]["bound"] for row in rows] for name in ("FC10(1)", "FC10(1e-4)"))
    return Compared("the norm of FC10(1) is smaller than that of FC10(1e-4)", own, other, "lower")


def _farther(rows: Sequence[Row]) -> Compared:
    own, other = ([_distortions(row, name) for row in rows] for name in ("FC10(1)", "FC10(1e-4)"))
    both = [index for index in range(len(own[0])) if all(values[index] is not None for values in (*own, *other))]
    differences = [[a[i] - b[i] for i in both] for a, b in zip(own, other, strict=True)]
    means = ([mean(values[i] for i in both) for values in of_network] for of_network in (own, other))
    return Compared(FARTHER, *means, "higher", images=image_bootstrap(differences, seed=0, resamples=2000))


def _distortions(row: Row, name: str) -> list[Any]:
    return list(row.metrics[name]["rms"])


def _steeper(rows: Sequence[Row]) -> Compared:
    own, other = ([mean(net["slope"][kind] for net in row.metrics.values()) for row in rows] for kind in _KINDS)
    return Compared("slopes towards L-BFGS are larger than towards noise of its size", own, other, "higher")


_KINDS: Final = ("lbfgs", "noise")


def _loose(rows: Sequence[Row]) -> Compared:
    import math  # noqa: PLC0415

    own, other = (
        [mean(math.log10(get(net)) for net in row.metrics.values()) for row in rows]
        for get in (lambda net: net["slope"]["lbfgs"], lambda net: net["bound"])
    )
    return Compared(LOOSE, own, other, "lower")


CLAIMED: Final = (
    Claimed(PAPER, "table 2", "adversarial images made for one network fool others", NETWORKS, OTHERS_FOOLED),
    Claimed(PAPER, "table 4", "they fool networks trained on a disjoint half", HALVES, HALF_FOOLED),
    Claimed(PAPER, "table 4", "their effect is smaller across training sets", HALVES, HALF_LESS),
    Claimed(PAPER, "table 1", "weight decay makes the smallest perturbation larger", DECAY, FARTHER),
    Claimed(PAPER, "section 4.3", "large bounds do not imply adversarial images: slopes are far below", SLOPES, LOOSE),
)


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Return the claims of the paper with our verdicts."""
    return claims_of(questions(rows) if rows else [], CLAIMED)


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables by their markers."""
    across, half, stable = (by_kind(rows, kind) for kind in ("networks", "halves", "stability"))
    return {
        "transfer-errors": _errors([*across, *half], across, half),
        "transfer-networks": f"{_matrix(across, 'own')}\n\nAmplified to {RMS:g}:\n\n{_matrix(across, 'common')}",
        "transfer-halves": f"{_matrix(half, 'own')}\n\nAmplified to {RMS:g}:\n\n{_matrix(half, 'common')}",
        "transfer-published": "\n\n".join(f"Their {name}:\n\n{text}" for name, text in PUBLISHED.items()),
        "transfer-norms": _norms(stable),
        "transfer-conclusions": shown(questions(rows)),
    }


PUBLISHED: Final = {"table 2": TRANSFER_NETWORKS, "table 4": TRANSFER_HALVES}


def _errors(rows: Sequence[Row], *groups: Sequence[Row]) -> str:
    lines = []
    for group in groups:
        for name in group[0].metrics["test_error"]:
            test = [100 * row.metrics["test_error"][name] for row in group]
            rms = [row.metrics["rms"]["attack own"][name] for row in group]
            lines.append([name, spread(test, digits=2), spread(rms)])
    notes = sorted({limit for row in rows for limit in row.metrics["limits"]})
    listed = "".join(f"\n- {note}" for note in notes)
    lists = f"\n\nOf the searches and sizes:\n{listed}" if notes else ""
    return table(["network", "test error, %", "average distortion of the images"], lines) + lists


def _matrix(rows: Sequence[Row], size: str) -> str:
    """Return errors in % over all images that L-BFGS found, as the paper has them, and those by noise."""
    names = list(rows[0].metrics["test_error"])
    lines = []
    for kind, title in (("attack", ""), ("gaussian", "noise, as for ")):
        for source in names:
            condition = TransferCondition(kind, size, "all")
            cells = [[100 * error(row, condition, [(source, target)]) for row in rows] for target in names]
            rms = mean(row.metrics["rms"][f"{kind} {size}"][source] for row in rows)
            lines.append([f"{title}{source}", *(spread(cell, digits=1) for cell in cells), f"{rms:.3f}"])
    return table(["made for", *names, "rms"], lines)


def _norms(rows: Sequence[Row]) -> str:
    lines, layers = [], []
    for name in rows[0].metrics:
        own = [row.metrics[name] for row in rows]
        distortions = [mean(value for value in net["rms"] if value is not None) for net in own]
        slopes = [spread([net["slope"][kind] for net in own], digits=2) for kind in _KINDS]
        lines.append([name, spread(distortions), *slopes, _powers([net["bound"] for net in own])])
        layers += list(_layers(name, own))
    head = ["network", "smallest distortion", "largest slope, L-BFGS", "noise of its size", "product of the norms"]
    stages = ["network", "stage", "exact norm of its linear layer", "bound of the stage", "largest slope"]
    return f"{table(head, lines)}\n\n{table(stages, layers)}"


def _layers(name: str, own: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    for stage in own[0]["stages"]:
        of_stage = [net["stages"][stage] for net in own]
        if of_stage[0]["exact"] is not None:
            cells = (spread([values[key] for values in of_stage], digits=2) for key in ("exact", "bound", "slope"))
            yield [name, stage, *cells]


def _powers(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


SECTION = Section("transfer", "Transfer of minimal perturbations, and operator norms", units, measure, write, claims)
