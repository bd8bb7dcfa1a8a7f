"""Questions on mixup, each with the checks of its treatments.

Written before they were measured, but for the check `lasts` and the question `scaled`. Those on attacks, and those on
strength and on places, were one question each, which was split after the measurement.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import published_claims as published
from questions import Expected, Published, Question
from section import Row
from sections.mixtures.budgets import FEW, budgets_of
from sections.mixtures.caveats import NLL, after_temperature, with_caveats
from sections.mixtures.measures import ALL_OF_THEM, PAPER_BETTER
from sections.mixtures.predictions import Contrast
from sections.mixtures.trials import NONE, Budget, input_mixup, manifold_mixup

INPUT, MANIFOLD = input_mixup(1), manifold_mixup(2)
"""The alphas of the paper's table 1."""
GAP = 0.05
"""Accuracy of training images above that of validation images, from which a network has overfitted."""
RISE = 0.05
"""Rise of the loss of validation images from its least, in nats, from which training has gone on too long."""
PGD_MARGIN = 0.05
"""Gain of accuracy under PGD that would count as robustness."""
NAMES = {NONE: "no mixup", INPUT: "input mixup", MANIFOLD: "manifold mixup"}
LASTS = f"without mixup, the loss of validation images rises by more than {RISE:g} nats (added after measuring)"
LATER, SPLIT = "asked after the measurement", "question split after the measurement"


CLAIMED: Mapping[str, Mapping[str | float, Published]] = {
    "accuracy": {NONE: published.MIXED_ACCURATE, INPUT: published.BEYOND_ACCURATE},
    "likelihood": {NONE: published.MIXED_LIKELY, INPUT: published.BEYOND_LIKELY},
    "deformed": {NONE: published.MIXED_DEFORMED, INPUT: published.BEYOND_DEFORMED},
    "fgsm": {NONE: published.MIXED_FGSM, INPUT: published.BEYOND_FGSM},
}
"""Claims on manifold mixup, by what it is compared with. Input mixup is in no claim."""
PAIRS = ((MANIFOLD, NONE), (MANIFOLD, INPUT), (INPUT, NONE))


def questions(budget: Budget) -> list[Question]:
    """Return the questions on a data set."""
    found = [accuracy(budget, treatment, control) for treatment, control in PAIRS]
    found += [scaled(budget, treatment, control) for treatment, control in PAIRS]
    found += [deformations(budget, treatment, control) for treatment, control in PAIRS[:2]]
    found += [attacks(budget, treatment, control) for treatment, control in PAIRS]
    if budget.data == FEW.data:
        found += [strength(budget), places(budget)]
    return found


def overfits(budget: Budget) -> Expected:
    """Return the check that there is something to regularise."""
    words = f"without mixup, the accuracy of training images is more than {GAP:g} above that of validation images"
    return Expected(words, Contrast(budget.data, "gap", "higher", NONE, GAP))


def lasts(budget: Budget) -> Expected:
    """Return the check that training is long enough for overfitting to hurt; it was added after the measurement.

    A network that hardly overfits has little to gain, and with mixed images it underfits.
    """
    return Expected(LASTS, Contrast(budget.data, "overfit_nats", "higher", NONE, RISE))


def mixes(budget: Budget, treatment: str, control: str) -> Expected:
    """Return the check that predictions of mixtures are nearer to mixed labels: in hidden layers, or at the input."""
    place = "input" if treatment == INPUT else "hidden"
    words = f"{NAMES[treatment]} brings mixtures ({place}) nearer to mixed labels than {NAMES[control]}, nats"
    return Expected(words, Contrast(budget.data, f"mixture/{place}", "lower", treatment, control))


def claimed(budget: Budget, kind: str, words: str, contrast: Contrast, *, unit: str = "", caveat: str = "") -> Expected:
    """Return a prediction, with the claim that it tests."""
    claim = CLAIMED[kind][contrast.control] if contrast.treatment == MANIFOLD else None
    return Expected(words, contrast, claim, budget.short, unit, caveat=caveat)


def lower_loss(budget: Budget, treatment: str, control: str) -> Contrast:
    """Return the contrast of the likelihood."""
    return Contrast(budget.data, NLL, "lower", treatment, control, spread="test/nll_spread", images="test/images")


def accuracy(budget: Budget, treatment: str, control: str) -> Question:
    """Return the question of accuracy and likelihood: tables 1 and 2."""
    higher = Contrast(budget.data, "test/accuracy", "higher", treatment, control, by_image=True)
    lower = lower_loss(budget, treatment, control)
    return Question(
        f"{budget.title}: {NAMES[treatment]} against {NAMES[control]}",
        checks=(overfits(budget), lasts(budget), mixes(budget, treatment, control)),
        predictions=(
            claimed(budget, "accuracy", "test accuracy is higher", higher),
            claimed(budget, "likelihood", "negative log-likelihood is lower", lower, unit="nats"),
        ),
    )


def scaled(budget: Budget, treatment: str, control: str) -> Question:
    """Return the question of what is left of the likelihood after one temperature; it was asked after the measurement.

    It is one of its own, so that predictions that were planned are corrected for those that were planned.
    """
    contrast = after_temperature(lower_loss(budget, treatment, control))
    return Question(
        f"{budget.title}: {NAMES[treatment]} against {NAMES[control]}, after one temperature ({LATER})",
        checks=(overfits(budget), lasts(budget), mixes(budget, treatment, control)),
        predictions=(Expected("negative log-likelihood after one temperature is lower", contrast, unit="nats"),),
    )


def deformations(budget: Budget, treatment: str, control: str) -> Question:
    """Return the question of deformed images: tables 4 and 9."""

    def higher(metric: str) -> Contrast:
        return Contrast(budget.data, metric, "higher", treatment, control, by_image=True)

    words = {family: ", ".join(f"{amount:g}" for amount in amounts) for family, amounts in PAPER_BETTER.items()}
    mean = "mean accuracy of all of these is higher"
    return Question(
        f"{budget.title}: deformed images, {NAMES[treatment]} against {NAMES[control]}",
        checks=(mixes(budget, treatment, control),),
        predictions=(
            claimed(budget, "deformed", mean, higher(ALL_OF_THEM)),
            *(
                Expected(f"accuracy is higher: {family} {amounts}", higher(f"deformation/{family}"))
                for family, amounts in words.items()
            ),
        ),
    )


def attacks(budget: Budget, treatment: str, control: str) -> Question:
    """Return the question of attacks on a pair: table 7, and the paper's warning that PGD shows no robustness.

    It was one question on all pairs, with the checks of all; it was split by pair after the measurement.
    """
    contrast = partial(Contrast, budget.data, treatment=treatment, control=control, by_image=True)
    words = f"accuracy is higher under FGSM with {NAMES[treatment]} than with {NAMES[control]}"
    predictions = [claimed(budget, "fgsm", words, contrast("fgsm", "higher"), caveat=SPLIT)]
    if (treatment, control) == (MANIFOLD, NONE):
        words = f"accuracy under PGD gains less than {PGD_MARGIN:g} with manifold mixup"
        no_gain, unit = contrast("pgd", "lower", shift=PGD_MARGIN), f"of the gain less {PGD_MARGIN:g}"
        predictions.append(Expected(words, no_gain, published.MIXED_PGD, budget.short, unit, caveat=SPLIT))
    return Question(
        f"{budget.title}: attacks within {_radius(budget)}, {NAMES[treatment]} against {NAMES[control]}",
        checks=(
            Expected("FGSM lowers the accuracy without mixup", Contrast(budget.data, "fgsm_drop", "higher", NONE, 0.0)),
            mixes(budget, treatment, control),
        ),
        predictions=predictions,
    )


def strength(budget: Budget) -> Question:
    """Return the question of the strength of manifold mixup: table 6."""
    return among_manifold(
        budget,
        f"strength of manifold mixup ({SPLIT})",
        manifold_mixup(0.5),
        nearer=("hidden", "alpha 2 brings hidden mixtures nearer to mixed labels than 0.5, nats"),
        words="accuracy is higher at alpha 2 than at 0.5",
        claim=published.STRENGTH,
    )


def places(budget: Budget) -> Question:
    """Return the question of the places of manifold mixup: table 5."""
    return among_manifold(
        budget,
        f"places of manifold mixup ({SPLIT})",
        manifold_mixup(2, "+".join(budget.hidden)),
        nearer=("input", "mixing at the input, too, brings mixtures there nearer to mixed labels, nats"),
        words="accuracy is higher if the input is mixed too than in hidden layers alone",
        claim=published.PLACES,
    )


def among_manifold(
    budget: Budget, what: str, control: str, *, nearer: tuple[str, str], words: str, claim: Published
) -> Question:
    """Return the question of manifold mixup against another form of it; `nearer` is the place and name of its check."""
    place, name = nearer
    mixed = Contrast(budget.data, f"mixture/{place}", "lower", MANIFOLD, control)
    higher = Contrast(budget.data, "test/accuracy", "higher", MANIFOLD, control, by_image=True)
    return Question(
        f"{budget.title}: {what}",
        checks=(overfits(budget), lasts(budget), Expected(name, mixed)),
        predictions=(Expected(words, higher, claim, budget.short, caveat=SPLIT),),
    )


def all_questions(rows: Sequence[Row]) -> list[Question]:
    """Return the questions on the data sets that rows are of, with their caveats; of no rows, on the whole size."""
    found = [question for budget in budgets_of(rows) for question in questions(budget)]
    return [with_caveats(question, rows, added=LASTS) for question in found] if rows else found


def _radius(budget: Budget) -> str:
    return f"{budget.radius * 255:.2g}/255 of a pixel's range"
