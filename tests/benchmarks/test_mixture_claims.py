"""What the claims on mixup and flatness say of their tests: what was asked later, split, withheld or reversed."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mixture_rows import SEEDS, rows_of

PAGES = Path(__file__).parents[2] / "docs/results"
LATER = "asked after the measurement"


@pytest.fixture
def mixtures(evidence):
    """Return the modules of the section."""
    parts = ("budgets", "caveats", "questions")
    own = {name: importlib.import_module(f"sections.mixtures.{name}") for name in parts}
    return SimpleNamespace(section=evidence.load("mixtures"), **own)


@pytest.fixture
def flattening(evidence):
    """Return the modules of the section."""
    own = {name: importlib.import_module(f"sections.flattening.{name}") for name in ("networks", "questions")}
    return SimpleNamespace(section=evidence.load("flattening"), **own)


def stored(section):
    """Return the stored rows of the whole size."""
    return sys.modules["section"].Store.of(section, "whole").rows(section.units("whole"))


def test_flatness_is_asked_against_every_method_that_the_paper_compares_with_and_those_asked_later_say_so(flattening):
    found = flattening.questions.questions(())
    claims = {own.published.claim: own for own in sys.modules["questions"].unmeasured(found)}
    words = "a class varies in fewer directions with manifold mixup than with"
    assert {claim for claim, own in claims.items() if own.caveat == LATER} == {
        f"{words} dropout",
        f"{words} weight decay",
    }
    assert f"{words} input mixup" in claims
    by_control = {question.predictions[0].of.control: question for question in found}
    for control in (flattening.networks.DECAY, flattening.networks.DROPOUT):
        assert by_control[control].title.endswith(f"({LATER})")
    assert all(own.unit for question in found for own in question.predictions)


def test_the_figure_of_spectra_draws_every_method_that_is_asked_about(flattening):
    names = ("untrained", "none", "input mixup", "manifold mixup", "activation L2", "weight decay", "dropout")
    figure = flattening.section.write(stored(flattening.section))["flattening.svg"]
    assert [name for name in names if f">{name}" not in figure] == []
    colours = {line.partition('stroke="')[2].partition('"')[0] for line in figure.splitlines() if "h22" in line}
    assert len(colours) == len(names)


def around(center, *, seed=0):
    """Return a value for each seed."""
    return list(center + 0.01 * np.random.default_rng(seed).standard_normal(len(SEEDS)))


def likelihoods(mixtures, *, after, rise=0.5, nearer=0.5):
    """Return rows on which manifold mixup has a lower loss, and one of `after` after one temperature."""
    questions = mixtures.questions
    metrics = {
        name: {
            "gap": around(0.2),
            "overfit_nats": around(rise),
            "mixture/hidden": around(1.0 - nearer * is_mixed, seed=is_mixed),
            "test/nll": around(1.5 - 0.8 * is_mixed, seed=is_mixed),
            "test/nll_scaled": around(after if is_mixed else 0.6, seed=is_mixed),
            "test/nll_spread": [1.0] * len(SEEDS),
            "test/images": [10_000.0] * len(SEEDS),
        }
        for name, is_mixed in ((questions.NONE, 0), (questions.MANIFOLD, 1))
    }
    return rows_of(metrics)


def with_caveats(mixtures, rows):
    """Return the question of the likelihood against no mixup, with its caveats on these rows."""
    questions = mixtures.questions
    both = questions.accuracy(mixtures.budgets.FEW, questions.MANIFOLD, questions.NONE)
    likelihood = replace(both, predictions=both.predictions[1:])
    return mixtures.caveats.with_caveats(likelihood, rows, added=questions.LASTS)


@pytest.mark.parametrize(("after", "caveat"), [(0.7, "reversed after one temperature"), (0.6, ""), (0.5, "")])
def test_a_claim_on_likelihood_says_that_one_temperature_reverses_it(mixtures, after, caveat):
    question = with_caveats(mixtures, likelihoods(mixtures, after=after))
    assert (question.predictions[0].caveat, question.note) == (caveat, "")


@pytest.mark.parametrize(
    ("nearer", "caveat", "note"),
    [(0.5, "a check was added after the measurement", "lower, nats*: agrees, lower, as predicted."), (0.0, "", "")],
)
def test_a_claim_says_that_an_added_check_alone_withholds_it_and_the_page_what_it_would_be(
    mixtures, nearer, caveat, note
):
    """With a failed check that was planned, nothing rests on the one that was added."""
    question = with_caveats(mixtures, likelihoods(mixtures, after=0.7, rise=0.0, nearer=nearer))
    assert question.predictions[0].caveat == caveat
    assert question.note.endswith(note)
    assert bool(question.note) == bool(note)


def test_the_likelihood_after_one_temperature_is_asked_wherever_the_likelihood_is_and_tests_no_claim(mixtures):
    contrasts = [
        own.of for question in mixtures.section.questions(()) for own in question.predictions if own.unit == "nats"
    ]
    planned, later = (
        {(own.data, own.treatment, own.control) for own in contrasts if own.metric == metric}
        for metric in ("test/nll", "test/nll_scaled")
    )
    assert planned == later
    assert len(planned) == 2 * len(mixtures.questions.PAIRS)
    asked = [question for question in mixtures.section.questions(()) if LATER in question.title]
    assert all(own.claim is None for question in asked for own in question.predictions)


def test_places_are_asked_apart_from_alpha_whose_check_failed(mixtures):
    few = mixtures.budgets.FEW
    for question, place in ((mixtures.questions.strength(few), "hidden"), (mixtures.questions.places(few), "input")):
        (prediction,) = question.predictions
        *_, nearer = question.checks
        assert len(question.checks) == 3
        assert (nearer.of.metric, nearer.of.control) == (f"mixture/{place}", prediction.of.control)
        assert prediction.caveat == "question split after the measurement"


def test_a_shifted_difference_says_in_its_unit_what_it_is_of(mixtures):
    shifted = [
        own
        for question in mixtures.section.questions(())
        for own in question.predictions
        if own.of.shift and own.claim is not None
    ]
    assert {own.unit for own in shifted} == {"of the gain less 0.05"}


def test_the_page_on_mixtures_has_the_numbers_of_the_stored_results(mixtures):
    rows, rounded = stored(mixtures.section), sys.modules["cells"].rounded
    page, found = (PAGES / "mixtures.md").read_text(), {}
    for question in mixtures.section.questions(rows):
        answer = question.answer(rows)
        for finding, prediction in zip(answer.findings.values(), answer.predictions.values(), strict=True):
            found[question.title, prediction.direction] = prediction.difference, finding.p_corrected
    titles = {budget.data: budget.title for budget in mixtures.budgets.budgets("whole")}
    for mixed in ("input mixup", "manifold mixup"):
        difference, p = found[f"{titles['cifar']}: {mixed} against no mixup", "higher"]
        assert f"({difference.mean:.4f}, Holm's p {p:.3f})" in page
    for title in titles.values():
        after = f"{title}: manifold mixup against no mixup, after one temperature ({LATER})"
        difference, p = found[after, "lower"]
        half = difference.interval.high - difference.mean
        assert f"{rounded(difference.mean, half)} nats higher (p = {p:.3f})" in page
    difference, _ = found[f"{titles['few']}: manifold mixup against no mixup", "lower"]
    assert f"it is {-difference.mean:.2f} nats lower with manifold mixup" in page
    attacks = f"{titles['cifar']}: attacks within 2/255 of a pixel's range, input mixup against no mixup"
    _, p = found[attacks, "higher"]
    assert f"agrees with p = {p:.3f}" in page
    assert 4 * p > 0.05
