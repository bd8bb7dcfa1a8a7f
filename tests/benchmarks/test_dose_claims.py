"""What the claims on doses say of their tests: their budget, how a dose was chosen, what the controls do."""

import importlib
from pathlib import Path

import pytest
from dose_rows import ACCURATE, claims, conclusions, from_a_tenth, rows

PAGES = Path(__file__).parents[2] / "docs/results"


def test_claims_say_on_what_scale_and_by_what_choice_they_were_tested(dose):
    """A dose is chosen by accuracy only where one is chosen; accuracy has its budget everywhere."""
    chosen = by_section(dose, rows(dose, entangles=from_a_tenth))
    none = by_section(dose, rows(dose, entangles=lambda _: 0.0))
    by_accuracy, small = "dose chosen by validation accuracy as well", "5 epochs of 5,000 images"
    assert chosen["mnist", ACCURATE] == f"{small}, {by_accuracy}"
    assert none["mnist", ACCURATE] == small
    assert none["digits", ACCURATE] == "20 epochs of 1,078 images"
    others = {key: caveat for key, caveat in chosen.items() if key[1] != ACCURATE}
    assert set(others.values()) == {by_accuracy, "other seeds of one network, PGD"}
    assert {caveat for (_, claim), caveat in others.items() if "beyond noise" in claim} == {
        "other seeds of one network, PGD"
    }
    assert {caveat for key, caveat in none.items() if key[1] != ACCURATE} == {"", "other seeds of one network, PGD"}


def by_section(dose, measured):
    """Return the caveat of each test, by data and claim."""
    return {(own.about, own.published.claim): own.caveat for own in claims(dose, measured)}


def test_the_scale_of_a_claim_is_that_of_the_images_that_are_trained_on(dose):
    from trainables.config.trial import DataConfig
    from trainables.data import load_splits

    assert dose.grid.TRAINING_IMAGES["digits"] == len(load_splits(DataConfig(name="digits")).train)
    assert dose.grid.budget("mnist") in (PAGES / "dose.md").read_text()


def test_a_control_that_counts_has_its_difference_in_accuracy_and_one_without_a_match_has_none(dose):
    gains = {dose.grid.SNNL: -0.01, dose.grid.CLASS_MEAN: -0.03, dose.grid.ACTIVATION_L2: 0.0}
    measured = rows(dose, entangles=from_a_tenth, gains=lambda own: 0.0 if own.is_baseline else gains[own.penalty])
    page = conclusions(dose, measured)
    (line, *_) = [own for own in page.splitlines() if own.startswith("| class mean -0.3, matched in cost")]
    found = float(line.split(" | ")[-1].partition(" ")[0])
    assert found == pytest.approx(0.02, abs=0.005)
    grid = dose.doses.Grid.of(measured, "digits")
    treatment, matches = grid.chosen("minimised", "higher"), grid.matches(grid.chosen("minimised", "higher"))
    unmatched = matches[0]._replace(distance=1.0)
    assert dose.questions._accuracy(treatment, unmatched) == "-"


def test_the_page_says_how_far_other_images_would_move_the_share_that_is_fooled(dose):
    measured = rows(dose, entangles=from_a_tenth)
    for row in measured:
        row.metrics["transfer"] = [[0.5] * 5 for _ in range(5)]
    written = dose.section.write(measured)["dose responses"]
    assert written.count("Of as many others, the baseline would have 40 to 60 %") == 2


def test_the_page_on_doses_has_the_numbers_of_the_stored_results(dose):
    store = importlib.import_module("section").Store
    measured = store.of(dose.section, "whole").rows(dose.section.units("whole"))
    page, grid = (PAGES / "dose.md").read_text(), dose.doses.Grid.of(measured, "mnist")
    treatment = grid.chosen("minimised", "higher")
    matched = {(own.kind, own.criterion): own.control for own in grid.matches(treatment)}
    lost = dose.doses.difference(treatment, grid.baseline, "test/accuracy")
    assert f"the chosen dose has {-lost.mean:.4f} less accuracy" in page
    more, less = (
        dose.doses.difference(treatment, matched[kind, "cost"], "test/accuracy") for kind in dose.grid.CONTROLS
    )
    assert f"class means loses {more.mean:.4f} more than the treatment (p = {more.p:.2g})" in page
    assert f"lengths {-less.mean:.4f} less (p = {less.p:.2g})" in page
    (learned,) = grid.doses("learned", "higher")
    assert grid.problems(learned, "higher") == ["no class mean -0.3, matched in cost"]
    for milder in grid.doses("minimised", "higher")[:2]:
        assert milder.recipe.weight > treatment.recipe.weight
        assert any(problem.startswith("entanglement") for problem in grid.problems(milder, "higher"))
    share = dose.doses.over_matrix(grid.baseline.transfer).mean
    assert 1.96 * (share * (1 - share) / 100) ** 0.5 == pytest.approx(0.056, abs=0.001)
