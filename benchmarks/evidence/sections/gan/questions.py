"""Predictions and manipulation checks: written before the networks were trained, and one of them split afterwards."""

import statistics
from collections.abc import Callable
from dataclasses import replace

import published_claims as published
from questions import Direction, Expected, Published, Question, Rows, by_seed, by_sets, paired, rows_of
from sections.gan import correlations
from sections.gan.design import CONTROLS, DISCRIMINATOR, FEATURES, PIXELS, by_epoch

from orchestrator.analysis.claims.conclusions import Prediction

SPLIT = "split after the measurement"
BY_WEIGHT = "control matched in weight alone"


def _on_sets(recipe: str, control: str, name: str, direction: Direction) -> Callable[[Rows], Prediction]:
    """Compare a measure of test images between two recipes, paired by seed."""
    return paired(lambda row: row.metrics["test"][name], direction, {"recipe": recipe}, {"recipe": control}, by=by_sets)


def _over_training(name: str) -> Callable[[Rows], Prediction]:
    """Compare the last epoch of the baseline with its first one."""

    def of(rows: Rows) -> Prediction:
        epochs = list(by_epoch(rows_of(rows, {"recipe": "baseline"}), name))
        return by_seed(epochs[-1], epochs[1], "higher")

    return of


def _follows(space: str, quality: str) -> Callable[[Rows], Prediction]:
    """Correlate the changes of entanglement with those of a measure of quality, from epoch to epoch of a baseline."""
    return paired(
        lambda row: correlations.of_changes(row, space, [quality]),
        "higher",
        {"recipe": "baseline"},
        control_value=lambda _: 0.0,
    )


def _moves(recipe: str, rows: Rows) -> str:
    """Return how far the control and the treatment move 1-NN accuracy in features; nothing if it was not measured."""
    if not rows:
        return ""
    before, control, after = (
        statistics.mean(statistics.mean(row.metrics["test"]["features_nn"]) for row in rows_of(rows, {"recipe": own}))
        for own in ("baseline", CONTROLS[recipe], recipe)
    )
    return f" moves it from {before:.3f} to {control:.3f}, the treatment to {after:.3f}"


def _of_treatment(recipe: str, space: str, title: str, rows: Rows) -> Question:
    """Return a question on a generator's term: its check is entanglement in the space of the treatment.

    The checks and the predictions are against the baseline and against the control.
    """
    name = recipe.removeprefix("entangle ")
    checks = tuple(
        Expected(f"entanglement {name} against {other}", _on_sets(recipe, other, space, "higher"))
        for other in ("baseline", CONTROLS[recipe])
    )
    of = f"a generator that entangles {name}"

    def on_sets(words: str, metric: str, direction: Direction, claim: Published) -> Expected:
        beyond = {CONTROLS[recipe]: _on_sets(recipe, CONTROLS[recipe], metric, direction)}
        of_all = _on_sets(recipe, "baseline", metric, direction)
        return Expected(f"{of}: {words}", of_all, claim, name, beyond=beyond, caveat=BY_WEIGHT)

    def evenness(control: str) -> Callable[[Rows], Prediction]:
        return paired(lambda row: row.metrics["kl"], "lower", {"recipe": recipe}, {"recipe": control})

    told_apart = "real and synthetic are harder to tell apart: 1-NN accuracy in features is lower"
    harder = on_sets(told_apart, "features_nn", "lower", published.GAN_HARDER)
    even = f"{of}: digits are more even (divergence is lower)"
    more_even = {CONTROLS[recipe]: evenness(CONTROLS[recipe])}
    predictions = (
        on_sets("precision by neighbours is higher", "precision", "higher", published.GAN_PRECISION),
        on_sets("recall by neighbours is higher", "recall", "higher", published.GAN_RECALL),
        replace(harder, caveat=f"near to what the loss trains, {BY_WEIGHT}{_moves(recipe, rows)}"),
        Expected(even, evenness("baseline"), published.GAN_EVEN, name, "nats", more_even, BY_WEIGHT),
    )
    return Question(title, checks, predictions)


def _of_baseline(space: str) -> tuple[Expected, ...]:
    """Return what is expected of entanglement in a space: over training, and as a measure of quality."""
    about = f"in {space}"
    rises = f"training raises the entanglement of real and synthetic images, {about}"
    claims = {"precision": published.REAL_PRECISION, "recall": published.REAL_RECALL}
    return (
        Expected(rises, _over_training(space), published.REAL_RISES, about, "of chance"),
        *(
            Expected(
                f"from epoch to epoch, entanglement {about} rises and falls with {quality}",
                _follows(space, quality),
                claim,
                about,
                "rank correlation",
                caveat=SPLIT,
            )
            for quality, claim in claims.items()
        ),
    )


def questions(rows: Rows) -> list[Question]:
    """Return the questions; what has to be known of a control is in the numbers of the rows."""
    check = Expected("training made better images: precision by neighbours, last epoch", _over_training("precision"))
    in_pixels = f"A generator that entangles in pixels, weight {PIXELS:g}"
    in_features = (
        f"A generator that entangles in the discriminator's features, weights {FEATURES:g} and {DISCRIMINATOR:g}"
    )
    return [
        Question(
            "Entanglement as a measure of a generator (baseline)",
            [check],
            [*_of_baseline("pixels"), *_of_baseline("features")],
        ),
        _of_treatment("entangle in pixels", "pixels", in_pixels, rows),
        _of_treatment("entangle in features", "features", in_features, rows),
    ]
