"""Predictions and manipulation checks; they were written before the networks were trained."""

from collections.abc import Callable, Sequence

import published_claims as published
from questions import Direction, Expected, Published, Question, Rows, by_seed, by_sets, paired, rows_of
from section import Row
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
    """Correlate entanglement with the mean of precision and recall over the epochs of each baseline."""
    baseline = {"recipe": "baseline"}
    return paired(lambda row: rank_correlation(*_course(row, name)), "higher", baseline, control_value=lambda _: 0.0)


def _course(row: Row, name: str) -> tuple[list[float], list[float]]:
    """Return entanglement and sample quality after each epoch of training."""
    course = row.metrics["course"]
    quality = [(one + other) / 2 for one, other in zip(course["precision"], course["recall"], strict=True)]
    return course[name][1:], quality[1:]


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's correlation; 0 where either does not vary.

    >>> round(rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]), 3)
    0.8
    """
    from scipy import stats  # noqa: PLC0415

    if len(set(one)) < 2 or len(set(other)) < 2:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)


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
    follows = f"entanglement {about} rises and falls with precision and recall"
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
