"""Questions on mixup, each with the checks of its treatments. Written before they were measured."""

from collections.abc import Sequence
from typing import Literal

from section import Row
from sections.mixtures.budgets import FEW, budgets_of
from sections.mixtures.measures import ALL_OF_THEM, PAPER_BETTER
from sections.mixtures.predictions import Expected, Question
from sections.mixtures.trials import NONE, Budget, input_mixup, manifold_mixup

PAPER = "Verma et al. 2019"
INPUT, MANIFOLD = input_mixup(1), manifold_mixup(2)
"""The alphas of the paper's table 1."""
GAP = 0.05
"""Accuracy of training images above that of validation images, from which a network has overfitted."""
PGD_MARGIN = 0.05
"""Gain of accuracy under PGD that would count as robustness."""
NAMES = {NONE: "no mixup", INPUT: "input mixup", MANIFOLD: "manifold mixup"}


def questions(budget: Budget) -> list[Question]:
    """Return the questions on a data set."""
    pairs = ((MANIFOLD, NONE), (MANIFOLD, INPUT), (INPUT, NONE))
    found = [accuracy(budget, treatment, control) for treatment, control in pairs]
    found += [deformations(budget, treatment, control) for treatment, control in pairs[:2]]
    found.append(attacks(budget))
    if budget.data == FEW.data:
        found.append(alphas_and_layers(budget))
    return found


def overfits() -> Expected:
    """Return the check that there is something to regularise."""
    words = f"without mixup, the accuracy of training images is more than {GAP:g} above that of validation images"
    return Expected(words, "gap", "higher", NONE, GAP)


def mixes(treatment: str, control: str) -> Expected:
    """Return the check that predictions of mixtures are nearer to mixed labels: in hidden layers, or at the input."""
    place = "input" if treatment == INPUT else "hidden"
    words = f"{NAMES[treatment]} brings mixtures ({place}) nearer to mixed labels than {NAMES[control]}, nats"
    return Expected(words, f"mixture/{place}", "lower", treatment, control)


def accuracy(budget: Budget, treatment: str, control: str) -> Question:
    """Return the question of accuracy and likelihood: tables 1 and 2."""
    is_claim = treatment == MANIFOLD
    text = f"with {NAMES[treatment]} than with {NAMES[control]} ({budget.short})"
    return Question(
        f"{budget.title}: {NAMES[treatment]} against {NAMES[control]}",
        budget.data,
        checks=(overfits(), mixes(treatment, control)),
        predictions=(
            Expected(
                "test accuracy is higher",
                "test/accuracy",
                "higher",
                treatment,
                control,
                by_image=True,
                claim=f"accuracy is higher {text}" if is_claim else None,
                where="table 1",
            ),
            Expected(
                "negative log-likelihood is lower, nats",
                "test/nll",
                "lower",
                treatment,
                control,
                spread="test/nll_spread",
                images="test/images",
                claim=f"negative log-likelihood (nats) is lower {text}" if is_claim else None,
                where="table 1",
            ),
        ),
    )


def deformations(budget: Budget, treatment: str, control: str) -> Question:
    """Return the question of deformed images: tables 4 and 9."""

    def expected(words: str, metric: str, claim: str | None = None) -> Expected:
        return Expected(words, metric, "higher", treatment, control, by_image=True, claim=claim, where="tables 4, 9")

    text = f"on deformed images with {NAMES[treatment]} than with {NAMES[control]} ({budget.short})"
    words = {family: ", ".join(f"{amount:g}" for amount in amounts) for family, amounts in PAPER_BETTER.items()}
    return Question(
        f"{budget.title}: deformed images, {NAMES[treatment]} against {NAMES[control]}",
        budget.data,
        checks=(mixes(treatment, control),),
        predictions=(
            expected("mean accuracy of all of these is higher", ALL_OF_THEM, claim=f"accuracy is higher {text}"),
            *(
                expected(f"accuracy is higher: {family} {amounts}", f"deformation/{family}")
                for family, amounts in words.items()
            ),
        ),
    )


def attacks(budget: Budget) -> Question:
    """Return the question of attacks: table 7, and the paper's warning that PGD shows no robustness."""
    pairs = ((MANIFOLD, NONE), (MANIFOLD, INPUT), (INPUT, NONE))

    def expected(treatment: str, control: str) -> Expected:
        text = f"under FGSM with {NAMES[treatment]} than with {NAMES[control]}"
        return Expected(
            f"accuracy is higher {text}",
            "fgsm",
            "higher",
            treatment,
            control,
            by_image=True,
            claim=f"accuracy is higher {text} ({budget.short})" if treatment == MANIFOLD else None,
            where="table 7",
        )

    return Question(
        f"{budget.title}: attacks within {_radius(budget)}",
        budget.data,
        checks=(
            Expected("FGSM lowers the accuracy without mixup", "fgsm_drop", "higher", NONE, 0.0),
            *(mixes(treatment, control) for treatment, control in pairs),
        ),
        predictions=(
            *(expected(treatment, control) for treatment, control in pairs),
            Expected(
                f"the gain of accuracy under PGD with manifold mixup, less {PGD_MARGIN:g}, is below 0",
                "pgd",
                "lower",
                MANIFOLD,
                NONE,
                by_image=True,
                shift=PGD_MARGIN,
                claim=f"under PGD, manifold mixup gains less than {PGD_MARGIN:g} of accuracy ({budget.short})",
                where="section 5.4",
            ),
        ),
    )


def alphas_and_layers(budget: Budget) -> Question:
    """Return the question of strength and of places: tables 5 and 6."""
    weak, hidden = manifold_mixup(0.5), manifold_mixup(2, "+".join(budget.hidden))

    def expected(words: str, control: str, where: str) -> Expected:
        claim = f"{words} ({budget.short})"
        return Expected(words, "test/accuracy", "higher", MANIFOLD, control, by_image=True, claim=claim, where=where)

    def mixed(direction: Literal["higher", "lower"], control: str, place: str, words: str) -> Expected:
        return Expected(words, f"mixture/{place}", direction, MANIFOLD, control)

    return Question(
        f"{budget.title}: strength and places of manifold mixup",
        budget.data,
        checks=(
            overfits(),
            mixed("lower", weak, "hidden", "alpha 2 brings hidden mixtures nearer to mixed labels than 0.5, nats"),
            mixed("lower", hidden, "input", "mixing at the input does so there, against hidden layers alone, nats"),
        ),
        predictions=(
            expected("accuracy is higher at alpha 2 than at 0.5", weak, "table 6"),
            expected("accuracy is higher if the input is mixed too than in hidden layers alone", hidden, "table 5"),
        ),
    )


def all_questions(rows: Sequence[Row]) -> list[Question]:
    """Return the questions on the data sets that rows are of; of no rows, on those of the whole size."""
    return [question for budget in budgets_of(rows) for question in questions(budget)]


def _radius(budget: Budget) -> str:
    return f"{budget.radius * 255:.2g}/255 of a pixel's range"
