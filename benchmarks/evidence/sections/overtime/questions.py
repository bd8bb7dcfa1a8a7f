"""Predictions and manipulation checks; they were written before the networks were trained."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import published_claims as published
from answers_by_image import unpacked
from questions import Direction, Expected, Published, Question, Rows, by_sets, paired, passes, rows_of
from section import Row
from sections.overtime.design import CONTROLS, ENTANGLE, LOWER, MARGIN, REGULARISED, SEPARATE

from orchestrator.analysis.claims.conclusions import Prediction

Of = Callable[[Rows], Prediction]
Values = Callable[[Row], Sequence[float]]
"""Value on each set of images, or on each image."""


def _after(tap: str) -> Values:
    return lambda row: row.metrics["last"][tap]


def _mean_after(row: Row) -> list[float]:
    """Return the mean of the regularised blocks after training."""
    return [statistics.mean(own) for own in zip(*(row.metrics["last"][tap] for tap in REGULARISED), strict=True)]


def _before(tap: str, *, less: float = 0.0) -> Values:
    return lambda row: [value - less for value in row.metrics["first"][tap]]


def _fall(*taps: str) -> Values:
    """Return the mean change of some layers over training."""

    def of(row: Row) -> list[float]:
        changes = [
            [last - first for first, last in zip(row.metrics["first"][tap], row.metrics["last"][tap], strict=True)]
            for tap in taps
        ]
        return [statistics.mean(own) for own in zip(*changes, strict=True)]

    return of


def _within(recipe: str, own: Values, control: Values, direction: Direction) -> Of:
    """Compare two values of the same networks."""
    return paired(own, direction, {"recipe": recipe}, control_value=control, by=by_sets)


def _between(recipe: str, control: str, value: Values, direction: Direction) -> Of:
    """Compare the same value of two recipes, paired by seed."""
    return paired(value, direction, {"recipe": recipe}, {"recipe": control}, by=by_sets)


def _accuracy(row: Row) -> float:
    return float(row.metrics["test_accuracy"])


def _answers(row: Row) -> list[float]:
    """Return 1 for each test image that is classified correctly, else 0: accuracies are compared image by image."""
    return [float(right) for right in unpacked(row.metrics["right by image"])]


def _of_control(recipe: str, rows: Rows) -> str:
    """Return what has to be known of the control of a treatment; with the accuracies of both if they were measured."""
    words = "control matched in weight alone{} and seen when the weight was chosen"
    if not rows:
        return words.format("")
    own, control = (statistics.mean(map(_accuracy, rows_of(rows, {"recipe": name}))) for name in _pair(recipe))
    return words.format(f" (accuracy {control:.3f} against {own:.3f})")


def _of_control_as_well(rows: Rows) -> str:
    """Return that the last hidden layer of the control falls as well; nothing if entangled networks fall more."""
    own, control = _pair("entangle")
    if not rows or passes(_between(own, control, _fall("penultimate"), "lower")(rows)):
        return ""
    falls = [
        -statistics.mean(statistics.mean(_fall("penultimate")(row)) for row in rows_of(rows, {"recipe": name}))
        for name in (own, control)
    ]
    return "not specific: its control does the same, {1:.3f} against {0:.3f}".format(*falls)


def _pair(recipe: str) -> tuple[str, str]:
    """Return the names of a treatment and of its control."""
    return recipe, CONTROLS[recipe]


RESNET = "CIFAR-10, ResNet"
LEARNED = paired(_accuracy, "higher", {"recipe": "baseline"}, control_value=lambda _: 0.1)


def _of_treatment(
    title: str, recipe: str, direction: Direction, predictions: Sequence[Expected], note: str = ""
) -> Question:
    """Return a question whose check is what the term is of, the sum over its blocks, as their mean.

    It is compared with the baseline and with the control.
    """
    checks = tuple(
        Expected(f"mean of {', '.join(REGULARISED)} against {other}", _between(recipe, other, _mean_after, direction))
        for other in ("baseline", CONTROLS[recipe])
    )
    return Question(title, checks, predictions, note=note)


def _share(words: str, of: Of, claim: Published, about: str = RESNET) -> Expected:
    """Return what is expected of entanglement as a share of chance."""
    return Expected(words, of, claim, about, "of chance")


def _last_layer(words: str, recipe: str, direction: Direction, claim: Published) -> Expected:
    """Return what is expected of the last hidden layer, against the baseline and beyond the control."""
    beyond = {CONTROLS[recipe]: _between(recipe, CONTROLS[recipe], LAST, direction)}
    return replace(_share(words, _between(recipe, "baseline", LAST, direction), claim), beyond=beyond)


def _accurate(words: str, recipe: str, direction: Direction, claim: Published) -> Expected:
    """Return what is expected of test accuracy, against the baseline and beyond the control."""
    control = CONTROLS[recipe]
    beyond = {control: _between(recipe, control, _answers, direction)}
    return Expected(words, _between(recipe, "baseline", _answers, direction), claim, RESNET, beyond=beyond)


LAST, FIRST = _after("penultimate"), _before("penultimate")


def _keeps(tap: str) -> Expected:
    """Return that a lower block keeps its entanglement: the margin is added to its change, and to what is seen."""
    words = f"training keeps the entanglement of {tap}: its change + {MARGIN} is above 0"
    of = _within("baseline", _after(tap), _before(tap, less=MARGIN), "higher")
    return Expected(words, of, published.LOWER_LAYERS, tap, f"of chance with {MARGIN} added")


def _of_baseline() -> Question:
    """Return what is expected of training without the loss."""
    return Question(
        "Training without the loss (baseline)",
        (Expected("the networks learned: test accuracy above 0.1", LEARNED),),
        (
            _share(
                "training lowers the entanglement of the last hidden layer",
                _within("baseline", LAST, FIRST, "lower"),
                published.LAST_LAYER,
            ),
            _share(
                "training lowers it more in the last hidden layer than in the lower half of the blocks",
                _within("baseline", _fall("penultimate"), _fall(*LOWER), "lower"),
                published.LAST_MORE,
            ),
            *map(_keeps, LOWER),
        ),
    )


def _of_entangled(rows: Rows) -> Question:
    """Return what is expected of networks whose hidden blocks are entangled."""
    accurate = _accurate("entangled ResNets: test accuracy is higher", "entangle", "higher", published.ACCURATE)
    last = _last_layer(
        "entangled ResNets: the last hidden layer is less entangled than the baseline's",
        "entangle",
        "lower",
        published.DISCRIMINATES,
    )
    still = _share(
        "entangled ResNets: training still lowers the entanglement of the last hidden layer",
        _within("entangle", LAST, FIRST, "lower"),
        published.LAST_STILL,
    )
    control, alike = _of_control("entangle", rows), _of_control_as_well(rows)
    return _of_treatment(
        f"Entangling the hidden blocks, weight {ENTANGLE:g}",
        "entangle",
        "higher",
        [
            replace(accurate, caveat=f"marginally in the paper, {control}"),
            replace(last, caveat=control),
            replace(still, caveat=alike),
        ],
        f"*{still.words}*: this is what training does, and {alike}." if alike else "",
    )


def _of_separated(rows: Rows) -> Question:
    """Return what is expected of the reverse."""
    accurate = _accurate("separated ResNets: test accuracy is lower", "separate", "lower", published.SEPARATED)
    last = _last_layer(
        "separated ResNets: the last hidden layer is more entangled than the baseline's",
        "separate",
        "higher",
        published.SEPARATES,
    )
    caveat = _of_control("separate", rows)
    return _of_treatment(
        f"The reverse: separating them, weight {SEPARATE:g}",
        "separate",
        "lower",
        [replace(own, caveat=caveat) for own in (accurate, last)],
    )


def questions(rows: Rows) -> list[Question]:
    """Return the questions; what has to be known of a control is in the numbers of the rows."""
    return [_of_baseline(), _of_entangled(rows), _of_separated(rows)]
