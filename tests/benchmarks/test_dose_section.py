"""Doses of the soft nearest neighbour loss: chosen by validation images, and no verdict that a control earns too."""

import importlib
import random
from types import SimpleNamespace

import pytest
from dose_rows import ACCURATE, claims, conclusions, from_a_tenth, rows

TEST_METRICS = ("test/", "ood/", "dknn/", "fgsm", "pgd")


def frosst(dose, measured, data="mnist"):
    found = [own for own in claims(dose, measured) if own.published.paper.startswith("Frosst") and own.about == data]
    return {own.published.claim: own for own in found}


def test_the_mildest_manipulated_dose_is_chosen_and_no_metric_of_test_images_is_read(dose):
    grid = dose.doses.Grid.of(rows(dose, entangles=from_a_tenth, has_test=False), "digits")
    assert grid.chosen("minimised", "higher").recipe.weight == -0.1
    assert grid.chosen("fixed", "lower").recipe.weight == 0.1
    assert all(not name.startswith(TEST_METRICS) for own in grid.networks for name in own.values)


def test_a_treatment_that_entangles_no_more_than_its_controls_is_no_test_of_anything(dose):
    measured = rows(dose, entangles=from_a_tenth, gains=lambda _: 0.1, control_entangles=0.4)
    found = frosst(dose, measured)
    assert len(found) == 5
    assert {claim.verdict for claim in found.values()} == {"inconclusive"}
    assert found[ACCURATE].reason == "no dose passes its manipulation checks"
    assert "entanglement against class mean" in conclusions(dose, measured)


def test_a_prediction_agrees_if_the_controls_do_not_do_the_same(dose):
    only_treated = rows(
        dose,
        entangles=from_a_tenth,
        gains=lambda own: 0.03 if own.penalty == dose.grid.SNNL and own.weight == -0.1 else 0.0,
    )
    assert frosst(dose, only_treated)[ACCURATE].verdict == "agrees"
    all_alike = rows(dose, entangles=from_a_tenth, gains=lambda own: 0.0 if own.is_baseline else 0.03)
    found = frosst(dose, all_alike)[ACCURATE]
    assert found.verdict == "inconclusive"
    assert found.reason == "not shown beyond its controls"
    assert "*accuracy*: not shown beyond its controls: class mean" in conclusions(dose, all_alike)
    costs = rows(
        dose,
        entangles=from_a_tenth,
        gains=lambda own: -0.03 if own.penalty == dose.grid.SNNL and own.weight == -0.1 else 0.0,
    )
    assert frosst(dose, costs)[ACCURATE].verdict == "disagrees"


def test_a_control_is_the_strongest_that_costs_as_much_and_the_nearest_in_scale(dose):
    measured = rows(dose, entangles=from_a_tenth)
    for row in measured:
        recipe = dose.grid.Recipe(**row.settings["recipe"])
        if recipe.data == "digits" and recipe.penalty == dose.grid.ACTIVATION_L2:
            length = 100.0 / (1 + recipe.weight * 1000)
            row.metrics["values"] |= {f"val/length_{tap}": [length] * 5 for tap in dose.grid.LAYERS}
    grid = dose.doses.Grid.of(measured, "digits")
    treatment = grid.chosen("minimised", "higher")
    found = {(match.kind, match.criterion): match for match in grid.matches(treatment)}
    assert found["class_mean", "cost"].control.recipe.weight == -0.3
    assert found["activation_l2", "cost"].control.recipe.weight == 1e-2
    assert found["activation_l2", "scale"].control.recipe.weight == 1e-5
    assert all(match.is_within for match in found.values())
    dear = next(own for own in grid.networks if own.recipe.penalty == dose.grid.SNNL and own.recipe.weight == -3)
    assert not next(match for match in grid.matches(dear) if match.kind == "activation_l2").is_within


def test_a_dose_that_diverged_is_left_out_and_named(dose):
    measured = rows(dose, entangles=from_a_tenth)
    for row in measured:
        if row.name == "digits soft_nearest_neighbor minimised -0.1":
            row.metrics["diverged"].append(3)
    assert dose.doses.Grid.of(measured, "digits").chosen("minimised", "higher").recipe.weight == -0.3
    assert "as training diverged: SNNL minimised, -0.1 (1 seeds)" in dose.section.write(measured)["dose responses"]


def test_the_transfer_of_attacks_is_told_from_noise_and_a_pair_without_images_withholds_it(dose):
    measured = rows(dose, entangles=from_a_tenth)
    assert {own.verdict for own in claims(dose, measured) if own.published.paper.startswith("Szegedy")} == {"agrees"}
    for row in measured:
        row.metrics["transfer"][0][1] = None
    found = [own for own in claims(dose, measured) if own.published.paper.startswith("Szegedy")]
    assert {(own.verdict, own.reason) for own in found} == {("inconclusive", "some network is fooled by no image")}


def test_the_interval_of_pairs_is_that_of_the_page_on_mnist(dose):
    from orchestrator.analysis.claims.intervals import quantile

    page = importlib.import_module("sections.mnist.page")
    values = [[0, 3, 1, 4], [1, 0, 5, 9], [2, 6, 0, 5], [3, 5, 8, 0]]
    found = dose.doses.over_matrix(values)
    pairs = {(f"s{i}", f"s{j}"): values[i][j] for i in range(4) for j in range(4) if i != j}
    assert page.mean_of_pairs(pairs) == pytest.approx((found.mean, quantile(found.degrees) * found.error))


def further(dose, measured, group="calibration"):
    """Return the lines of a further question to the claimed treatment of digits, by their first cell."""
    page = conclusions(dose, measured)
    title = f"### digits: entangling, temperature minimised, weight -0.1: {group} ({FIXED})"
    lines = page.partition(f"{title}\n")[2].partition("###")[0].splitlines()
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}


FIXED = "added before the rows of MNIST were complete"


def changed(dose, measured, metric, treated, control=0.0):
    """Add a difference to a metric of the chosen dose of digits, and another one to that of all controls."""
    for row in measured:
        recipe = dose.grid.Recipe(**row.settings["recipe"])
        if recipe.data != "digits":
            continue
        is_chosen = (recipe.penalty, recipe.temperature, recipe.weight) == (dose.grid.SNNL, "minimised", -0.1)
        extra = treated if is_chosen else control if recipe.penalty != dose.grid.SNNL else 0.0
        row.metrics["values"][metric] = [value + extra for value in row.metrics["values"][metric]]
    return measured


@pytest.mark.parametrize(
    ("treated", "control", "conclusion"),
    [
        (-0.1, 0.0, "| differs: lower |"),
        (0.1, 0.0, "| differs: higher |"),
        (0.1, 0.1, "| inconclusive: not shown beyond its controls |"),
        (0.1, 0.3, "| inconclusive: not shown beyond its controls |"),
        (0.0, 0.0, "| inconclusive: no difference was shown |"),
    ],
)
def test_what_the_paper_does_not_predict_is_a_two_sided_question_with_the_same_controls(
    dose, treated, control, conclusion
):
    measured = changed(dose, rows(dose, entangles=from_a_tenth), "test/ece", treated, control)
    assert further(dose, measured)["ECE (two-sided)"].endswith(conclusion)


def test_neighbours_of_the_predicted_class_have_the_direction_of_the_abstract(dose):
    group, name = "outliers by other scores", "AUROC of the share of neighbours of the predicted class"
    for gain, conclusion in (
        (0.2, "| agrees: higher, as predicted |"),
        (-0.2, "| disagrees: the prediction was higher |"),
    ):
        measured = changed(dose, rows(dose, entangles=from_a_tenth), "ood/permuted_own_votes_auroc", gain)
        assert further(dose, measured, group)[name].endswith(conclusion)
        assert further(dose, measured, group)["AUROC of energy (two-sided)"].endswith("no difference was shown |")


def test_a_question_without_a_direction_tests_no_claim(dose):
    questions = importlib.import_module("questions")
    claim = questions.Published("Some et al. 2019", "it counts", "table 1")
    with pytest.raises(ValueError, match="ECE: must have a direction, as it tests a claim"):
        questions.Expected("ECE", lambda _: None, claim, is_two_sided=True)
    assert all(own.claim is None for one in dose.section.questions(()) for own in one.predictions if own.is_two_sided)


def test_the_interval_of_a_bounded_mean_holds_whatever_the_values_of_images_are(dose):
    assert dose.section.name == "dose"
    of_bounded = importlib.import_module("sections.dose.over_images").of_bounded
    noise, held = random.Random(0), 0
    for _ in range(500):
        drawn = [[float(noise.random() < share) for _ in range(300)] for share in (0.7, 0.6)]
        means = [sum(own) / 300 for own in drawn]
        networks = [SimpleNamespace(mean=lambda _, it=mean: it) for mean in means]
        found = of_bounded(*networks, "share", images=300)
        held += found.low <= 0.1 <= found.high
    assert 0.93 <= held / 500 <= 0.98, "shares have the largest variance that is possible"
    assert of_bounded(*networks, "share", images=300, largest=2.0).low < found.low


@pytest.mark.parametrize("alike", [-0.8, 0.0, 0.8])
def test_the_interval_of_pairs_holds_the_mean_if_networks_that_fool_others_are_easily_fooled(dose, alike):
    from orchestrator.analysis.claims.intervals import quantile

    noise, count, held = random.Random(0), 5, 0
    for _ in range(1000):
        sources = [noise.gauss(0, 1) for _ in range(count)]
        targets = [alike * own + (1 - alike**2) ** 0.5 * noise.gauss(0, 1) for own in sources]
        found = dose.doses.over_matrix([[own + other + noise.gauss(0, 0.2) for other in targets] for own in sources])
        held += abs(found.mean) <= quantile(found.degrees) * found.error
    assert 0.94 <= held / 1000 <= 0.98


def test_the_interval_of_an_auroc_over_images_is_as_wide_as_the_spread_of_resampled_images(dose):
    import torch

    assert dose.section.name == "dose"
    over_images = importlib.import_module("sections.dose.over_images")
    measures = importlib.import_module("sections.dose.measures")
    source = torch.Generator().manual_seed(0)
    shifts = torch.randn(300, generator=source), torch.randn(300, generator=source)

    def scores(shift):
        noise = torch.randn(2, 300, generator=source) / 3
        return shifts[0] + shift + noise[0], shifts[1] + noise[1]

    pairs = [scores(1.0), scores(0.5)]

    def of(chosen_N, chosen_M):
        return [measures.placements(own[chosen_N], other[chosen_M]) for own, other in pairs]

    everyone = torch.arange(300)
    networks = [
        SimpleNamespace(by_image={"above": above.tolist(), "below": below.tolist()})
        for above, below in of(everyone, everyone)
    ]
    found = over_images.of_auroc(*networks)
    resampled = []
    for _ in range(400):
        one, two = of(*(torch.randint(300, (300,), generator=source) for _ in range(2)))
        resampled.append(float(one[0].mean() - two[0].mean()))
    spread = torch.tensor(resampled).std()
    assert (found.high - found.low) / 2 == pytest.approx(1.97 * float(spread), rel=0.15)
    assert found.low < sum(resampled) / 400 < found.high
