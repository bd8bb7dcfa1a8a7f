"""Predictions and manipulation checks; they were written before the networks were trained."""

from collections.abc import Callable

import published_claims as published
from questions import Direction, Expected, Published, Question, Rows, by_seed, by_sets, paired, rows_of
from sections.gan import correlations
from sections.gan.design import CONTROLS, DISCRIMINATOR, FEATURES, PIXELS, by_epoch

from orchestrator.analysis.claims.conclusions import Prediction


def _on_sets(recipe: str, control: str, name: str, direction: Direction) -> Callable[[Rows], Prediction]:
    """Compare a measure of test images between two recipes, paired by seed."""
    return paired(lambda row: row.metrics["test"][name], direction, {"recipe": recipe}, {"recipe": control}, by=by_sets)


def _over_training(name: str) -> Callable[[Rows], Prediction]:
    """Compare the last epoch of the baseline with its first one."""

    def of(rows: Rows) -> Prediction:
        epochs = list(by_epoch(rows_of(rows, {"recipe": "baseline"}), name))
        return by_seed(epochs[-1], epochs[1], "higher")

    return of


def _follows_quality(name: str) -> Callable[[Rows], Prediction]:
    """Correlate the changes of entanglement with those of precision and recall, from epoch to epoch of a baseline."""
    baseline = {"recipe": "baseline"}
    return paired(lambda row: correlations.of_changes(row, name), "higher", baseline, control_value=lambda _: 0.0)


def _of_treatment(recipe: str, space: str, title: str) -> Question:
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
        return Expected(f"{of}: {words}", _on_sets(recipe, "baseline", metric, direction), claim, name, beyond=beyond)

    def evenness(control: str) -> Callable[[Rows], Prediction]:
        return paired(lambda row: row.metrics["kl"], "lower", {"recipe": recipe}, {"recipe": control})

    harder = "real and synthetic are harder to tell apart: 1-NN accuracy in features is lower"
    even = f"{of}: digits are more even (divergence is lower)"
    more_even = {CONTROLS[recipe]: evenness(CONTROLS[recipe])}
    predictions = (
        on_sets("precision by neighbours is higher", "precision", "higher", published.GAN_PRECISION),
        on_sets("recall by neighbours is higher", "recall", "higher", published.GAN_RECALL),
        on_sets(harder, "features_nn", "lower", published.GAN_HARDER),
        Expected(even, evenness("baseline"), published.GAN_EVEN, name, "nats", beyond=more_even),
    )
    return Question(title, checks, predictions)


def _of_baseline(space: str) -> tuple[Expected, Expected]:
    """Return what is expected of entanglement in a space: over training, and as a measure of quality."""
    about = f"in {space}"
    rises = f"training raises the entanglement of real and synthetic images, {about}"
    follows = f"from epoch to epoch, entanglement {about} rises and falls with precision and recall"
    return (
        Expected(rises, _over_training(space), published.REAL_RISES, about, "of chance"),
        Expected(follows, _follows_quality(space), published.REAL_FOLLOWS, about, "rank correlation"),
    )


QUESTIONS = (
    Question(
        "Entanglement as a measure of a generator (baseline)",
        (Expected("training made better images: precision by neighbours, last epoch", _over_training("precision")),),
        (*_of_baseline("pixels"), *_of_baseline("features")),
    ),
    _of_treatment("entangle in pixels", "pixels", f"A generator that entangles in pixels, weight {PIXELS:g}"),
    _of_treatment(
        "entangle in features",
        "features",
        f"A generator that entangles in the discriminator's features, weights {FEATURES:g} and {DISCRIMINATOR:g}",
    ),
)
