"""Arithmetic of the sections on layers over training and on a GAN: made rows with known answers."""

import importlib
import random
import re
import statistics
from itertools import accumulate

import pytest
import torch

from trainables.config.trial import TrialConfig
from trainables.data import Split
from trainables.tasks.gan import GanConfig

pytestmark = pytest.mark.usefixtures("evidence")

MACHINE = {"processor": "one", "threads": 1, "torch": "2", "precision": "float32"}
NOISE = (0.0, 0.004, -0.003)
"""What seeds differ by."""


def module(name):
    return importlib.import_module(name)


def half_right(_recipe, seed):
    """Return right answers to 2,000 images: to half of them, and to a few more by seed."""
    return torch.arange(2000) < 1000 + 4 * seed


def layer_rows(change, *, recipes=None, sets=(0.0, 0.001, -0.001, 0.0), right=half_right):
    """Rows of the section on layers: `change` of a recipe and a tap over training, from 0.9 of chance."""
    design, section = module("sections.overtime.design"), module("section")
    rows = []
    for seed, noise in enumerate(NOISE):
        for number, recipe in enumerate(recipes or design.RECIPES):
            noises = [noise * (1 + number) + own for own in sets]
            right_N = right(recipe, seed)
            first = {tap: [0.9 + own for own in noises] for tap in design.TAPS}
            last = {
                tap: [0.9 + change(recipe, tap) + (2 + place / 9) * own for own in noises]
                for place, tap in enumerate(design.TAPS)
            }
            metrics = {
                "first": first,
                "last": last,
                "course": {tap: [first[tap][0], last[tap][0]] for tap in design.TAPS},
                "test_accuracy": float(right_N.double().mean()),
                "right by image": module("answers_by_image").packed(right_N),
                "val_accuracy": [0.5],
            }
            settings = {"recipe": recipe, "seed": seed, "sets": len(sets), "images": 500}
            rows.append(section.Row(section.Unit(f"{recipe} seed {seed}", settings), metrics, 1.0, MACHINE))
    return rows


def verdicts(name, rows):
    """Return the conclusion on each prediction, by its words."""
    questions = [(own, own.answer(rows)) for own in module(f"sections.{name}").SECTION.questions(rows)]
    return {
        own.words: answer.findings[own.name].conclusion
        for question, answer in questions
        for own in question.predictions
    }


def as_the_paper_says(recipe, tap):
    entangled = {"entangle": 0.09, "separate": -0.4}.get(recipe, 0.0) if tap in {"block2", "block4", "block6"} else 0.0
    return entangled - (0.4 if tap == "penultimate" else 0.0)


def test_layers_that_move_as_the_paper_says_agree_with_it():
    found = verdicts("overtime", layer_rows(as_the_paper_says))
    own = {words: verdict for words, verdict in found.items() if words.startswith("training")}
    assert set(own.values()) == {"agrees"}
    assert found["entangled ResNets: training still lowers the entanglement of the last hidden layer"] == "agrees"
    assert found["entangled ResNets: test accuracy is higher"] == "inconclusive"


@pytest.mark.parametrize(("loss", "verdict"), [(0.02, "agrees"), (0.05, "inconclusive"), (0.2, "disagrees")])
def test_a_layer_keeps_its_entanglement_within_the_margin_alone(loss, verdict):
    found = verdicts("overtime", layer_rows(lambda _, tap: -loss if tap == "block3" else as_the_paper_says(_, tap)))
    assert found["training keeps the entanglement of block3: its change + 0.05 is above 0"] == verdict


def test_a_control_that_moves_as_much_leaves_nothing_to_be_told():
    def change(recipe, tap):
        return as_the_paper_says("entangle" if recipe == "means together (control)" else recipe, tap)

    found = verdicts("overtime", layer_rows(change))
    entangled = {words: verdict for words, verdict in found.items() if words.startswith("entangled")}
    assert set(entangled.values()) == {"inconclusive"}
    assert found["training lowers the entanglement of the last hidden layer"] == "agrees"


def test_a_control_that_separates_the_last_layer_as_well_withholds_the_agreement():
    """Its check passes, as the control entangles the hidden blocks less."""

    def change(recipe, tap, *, control):
        helped = recipe == "entangle" or (control and recipe == "means together (control)")
        return as_the_paper_says(recipe, tap) - (0.2 if helped and tap == "penultimate" else 0.0)

    words = "entangled ResNets: the last hidden layer is less entangled than the baseline's"
    for control, verdict in ((False, "agrees"), (True, "inconclusive")):
        rows = layer_rows(lambda recipe, tap, it=control: change(recipe, tap, control=it))
        assert verdicts("overtime", rows)[words] == verdict


def test_what_other_images_may_not_show_is_not_concluded():
    rows = layer_rows(lambda _, tap: -0.02 if tap == "penultimate" else 0.0, sets=(-0.4, 0.3, 0.3, -0.2))
    assert verdicts("overtime", rows)["training lowers the entanglement of the last hidden layer"] == "inconclusive"


def test_accuracies_are_compared_image_by_image():
    """A gain of 22 of 2,000 images is shown to hold for others, as nothing else changes; unpaired it would not be."""

    def right(recipe, seed):
        gained = {"entangle": 1020 + 2 * seed}.get(recipe, 1000)
        return torch.arange(2000) < gained

    found = verdicts("overtime", layer_rows(as_the_paper_says, right=right))
    assert found["entangled ResNets: test accuracy is higher"] == "agrees"
    unpaired = importlib.import_module("orchestrator.analysis.claims.intervals").image_difference_interval(
        1022 / 2000, 1000 / 2000, 2000
    )
    assert unpaired.low < 0


def test_the_interval_over_images_is_of_the_means_of_the_seeds():
    found = module("questions").by_sets([[1.0, 2.0], [3.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]], "higher")
    assert found.difference.mean == 2
    assert tuple(found.images) == pytest.approx((2, 2)), "the sets agree once the seeds are averaged"
    assert found.difference.interval.low == pytest.approx(-4.353, abs=1e-3), "the seeds, 1.5 and 2.5, do not"


def gan_rows(**changes):
    """Rows of the section on a GAN: what a recipe adds to a measure of test images."""
    design, section = module("sections.gan.design"), module("section")
    spaces = ("pixels", "features", "pixels_ceiling", "features_ceiling", "pixels_nn", "features_nn")
    names = (*spaces, "pixels_precision", "pixels_recall", "precision", "recall")
    rows = []
    for seed, noise in enumerate(NOISE):
        for number, recipe in enumerate(design.RECIPES):
            own = noise * (1 + number)
            test = {
                name: [0.5 + own + extra + changes.get(recipe, {}).get(name, 0.0) for extra in (0.0, 0.001, -0.001)]
                for name in names
            }
            course = {name: [0.1, 0.2 + own, 0.3, 0.5 + 2 * own] for name in design.COURSE}
            metrics = {
                "test": test,
                "course": course,
                "val_chance": 0.69,
                "covered": 10,
                "kl": 0.1 + own,
                "classifier_accuracy": 0.98,
                "counts": [1] * 10,
            }
            settings = {"recipe": recipe, "seed": seed, "sets": 3, "images": 500, "mode_images": 1000}
            rows.append(section.Row(section.Unit(f"{recipe} seed {seed}", settings), metrics, 1.0, MACHINE))
    return rows


def test_a_treatment_of_pixels_is_judged_by_its_own_check():
    better = {"pixels": 0.2, "precision": 0.1, "recall": -0.1}
    found = verdicts("gan", gan_rows(**{"entangle in pixels": better, "entangle in features": {"precision": 0.1}}))
    assert found["a generator that entangles in pixels: precision by neighbours is higher"] == "agrees"
    assert found["a generator that entangles in pixels: recall by neighbours is higher"] == "disagrees"
    assert found["a generator that entangles in features: precision by neighbours is higher"] == "inconclusive"


def test_a_control_of_pixels_that_entangles_as_much_leaves_nothing_to_be_told():
    better = {"pixels": 0.2, "precision": 0.1}
    found = verdicts("gan", gan_rows(**{"entangle in pixels": better, "means in pixels (control)": better}))
    own = {words: verdict for words, verdict in found.items() if "entangles in pixels" in words}
    assert set(own.values()) == {"inconclusive"}
    assert found["training raises the entanglement of real and synthetic images, in pixels"] == "agrees"


def test_a_control_of_pixels_that_improves_precision_as_well_withholds_the_agreement():
    words = "a generator that entangles in pixels: precision by neighbours is higher"
    better = {"pixels": 0.2, "precision": 0.1}
    found = verdicts("gan", gan_rows(**{"entangle in pixels": better, "means in pixels (control)": {"precision": 0.1}}))
    assert found[words] == "inconclusive"


def follows(space, quality):
    return f"from epoch to epoch, entanglement in {space} rises and falls with {quality}"


def with_courses(rows, *, alike):
    """Return rows whose measures all rise: recall in step with entanglement or not, and precision the reverse."""
    for row in rows:
        source = random.Random(row.name)
        steps = [source.uniform(0.0, 0.04) for _ in range(15)]
        like = [source.uniform(0.0, 0.005) + step for step in steps]
        unlike = [source.uniform(0.0, 0.005) + 0.04 - step for step in steps]
        course, (precision, recall) = row.metrics["course"], (unlike, like) if alike else (like, unlike)
        for name, own in {"pixels": steps, "features": steps, "precision": precision, "recall": recall}.items():
            course[name] = [0.1, *(0.1 + total for total in accumulate(own))]
        course["covered"], course["kl"] = [10] * 16, [0.1] * 16
    return rows


@pytest.mark.parametrize("alike", [True, False])
def test_measures_that_rise_with_training_follow_each_other_by_their_changes_and_each_by_itself(alike):
    rows, correlations = with_courses(gan_rows(), alike=alike), module("sections.gan.correlations")
    signs = {"precision": -1 if alike else 1, "recall": 1 if alike else -1}
    for row in rows:
        for quality, sign in signs.items():
            assert correlations.of_values(row, "pixels", [quality]) == pytest.approx(1.0)
            assert correlations.of_changes(row, "pixels", [quality]) * sign > 0.9
        assert abs(correlations.of_changes(row, "pixels", [*signs])) < 0.9, "their mean says what neither does"
    found = verdicts("gan", rows)
    for quality, sign in signs.items():
        expected = "agrees" if sign > 0 else "disagrees"
        assert found[follows("pixels", quality)] == found[follows("features", quality)] == expected


def test_the_page_has_the_correlations_with_precision_and_with_recall():
    changes, values, *_ = (
        module("sections.gan.page").write(with_courses(gan_rows(), alike=True))["gan epochs"].split("\n\n")
    )
    for text, kind in ((changes, "of changes"), (values, "of values, with their trends")):
        columns = ["pixels, precision", "pixels, recall", "pixels, their mean"]
        assert text.splitlines()[0].split(" | ")[:4] == [f"| rank correlation {kind}", *columns]
    precision, recall = changes.splitlines()[2].split(" | ")[1:3]
    assert (precision[:4], recall[:3]) == ("-0.9", "0.9")
    assert values.splitlines()[2].split(" | ")[1:3] == ["1.0000 ± 0.0000"] * 2


def caveats(name, rows):
    """Return the caveats of the claims of a section, by claim."""
    found = module("questions").claims_of(module(f"sections.{name}").SECTION.questions(rows), rows)
    return {claim.published: claim.caveat for claim in found}


def stored(evidence, name):
    section = evidence.load(name)
    return module("section").Store.of(section, "whole").rows(section.units("whole"))


def test_a_claim_that_was_split_after_the_measurement_says_so():
    published, found = module("published_claims"), caveats("gan", gan_rows())
    assert found[published.REAL_PRECISION] == found[published.REAL_RECALL] == "split after the measurement"


def test_what_an_objective_would_have_to_do_is_not_said_to_be_in_the_paper():
    published = module("published_claims")
    own = (published.GAN_PRECISION, published.GAN_RECALL, published.GAN_HARDER, published.GAN_EVEN)
    assert all(claim.where.startswith("not in the paper: ") for claim in own)


def test_the_claim_on_1_nn_accuracy_has_what_its_control_does():
    rows = gan_rows(**{"entangle in features": {"features_nn": -0.2}, "means in features (control)": {}})
    published, found = module("published_claims"), caveats("gan", rows)
    moved = " moves it from 0.500 to 0.502, the treatment to 0.301"
    assert found[published.GAN_HARDER] == f"near to what the loss trains, control matched in weight alone{moved}"
    unmeasured = module("questions").unmeasured(module("sections.gan").SECTION.questions(()))
    assert {own.caveat for own in unmeasured if own.published == published.GAN_HARDER} == {
        "near to what the loss trains, control matched in weight alone"
    }


def test_the_words_of_the_page_on_a_gan_hold_for_the_stored_results(evidence):
    """Each control is nearly inert, and entanglement follows recall and falls with precision in each network."""
    rows, correlations = stored(evidence, "gan"), module("sections.gan.correlations")
    for treatment, control in module("sections.gan.design").CONTROLS.items():
        for measure in ("features_nn", "precision", "recall"):
            before, own, its = (
                statistics.mean(
                    statistics.mean(row.metrics["test"][measure]) for row in rows if row.settings["recipe"] == recipe
                )
                for recipe in ("baseline", treatment, control)
            )
            assert abs(its - before) < abs(own - before) / 5
    for row in rows:
        for space in ("pixels", "features"):
            assert (
                correlations.of_changes(row, space, ["precision"]) < 0 < correlations.of_changes(row, space, ["recall"])
            )


@pytest.mark.parametrize(("control_falls", "shown"), [(0.4, "0.398"), (0.5, "0.498"), (0.1, "")])
def test_a_fall_that_the_control_has_as_well_is_said_to_be_unspecific(control_falls, shown):
    def change(recipe, tap):
        is_control = recipe == "means together (control)" and tap == "penultimate"
        return -control_falls if is_control else as_the_paper_says(recipe, tap)

    rows, section = layer_rows(change), module("sections.overtime").SECTION
    caveat = caveats("overtime", rows)[module("published_claims").LAST_STILL]
    assert caveat == (f"not specific: its control does the same, {shown} against 0.399" if shown else "")
    page = module("evidence").contents(section, rows)["overtime conclusions"]
    assert ("this is what training does" in page) == bool(shown)


def test_a_claim_that_rests_on_a_control_of_layers_has_what_that_costs():
    def right(recipe, _seed):
        return torch.arange(2000) < (800 if recipe == "means apart (control)" else 1200)

    published, found = module("published_claims"), caveats("overtime", layer_rows(as_the_paper_says, right=right))
    costs = "control matched in weight alone (accuracy {} against 0.600) and seen when the weight was chosen"
    assert found[published.SEPARATED] == found[published.SEPARATES] == costs.format("0.400")
    assert found[published.DISCRIMINATES] == costs.format("0.600")
    assert found[published.ACCURATE] == f"marginally in the paper, {costs.format('0.600')}"


def test_the_words_of_the_page_on_accuracy_hold_for_the_stored_results(evidence):
    """A gain is seen from several hundredths, so a marginal one cannot be found."""
    rows = stored(evidence, "overtime")
    claims = module("questions").claims_of(module("sections.overtime").SECTION.questions(rows), rows)
    (accurate,) = [claim for claim in claims if claim.published == module("published_claims").ACCURATE]
    assert 0.03 < accurate.smallest < 0.1


def test_what_is_seen_of_a_layer_that_keeps_its_entanglement_is_said_to_be_shifted():
    rows = layer_rows(as_the_paper_says)
    claims = module("questions").claims_of(module("sections.overtime").SECTION.questions(rows), rows)
    units = {claim.unit for claim in claims if claim.published == module("published_claims").LOWER_LAYERS}
    assert units == {"of chance with 0.05 added"}


def test_tables_by_epoch_have_the_intervals_over_seeds():
    epochs = module("sections.overtime.page").write(layer_rows(as_the_paper_says))["overtime epochs"]
    widest = [line.split(" | ") for line in epochs.splitlines() if line.startswith("| widest interval")]
    assert len(widest) == len(module("sections.overtime.design").RECIPES)
    assert widest[0][1] == "± 0.017", "twice what it is before training"
    first = module("sections.gan.page").write(gan_rows())["gan epochs"].split("#### baseline\n\n")[1].splitlines()[3]
    assert first.split(" | ")[3] == "0.2003 ± 0.0087"


@pytest.mark.parametrize("name", ["overtime", "gan"])
def test_figures_by_epoch_have_a_band_for_each_line(name):
    rows = layer_rows(as_the_paper_says) if name == "overtime" else gan_rows()
    written = module(f"sections.{name}.page").write(rows)
    svg, text = written.pop(f"{name}.svg"), " ".join(written.values())
    assert svg.count("fill-opacity") == (5 * 9 if name == "overtime" else 4 * 5)
    assert "light band around each line" in text
    assert "as a light band its interval at 95 % over seeds" in svg


@pytest.mark.parametrize("rows", [lambda: layer_rows(as_the_paper_says), gan_rows], ids=["overtime", "gan"])
def test_every_number_of_a_page_is_finite(rows):
    name = "overtime" if rows is not gan_rows else "gan"
    text = " ".join(module("evidence").contents(module(f"sections.{name}").SECTION, rows()).values())
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text)


@pytest.mark.parametrize("size", ["smoke", "whole", "full"])
def test_every_unit_of_every_size_is_a_valid_trial(size):
    for unit in module("sections.overtime").SECTION.units(size):
        assert TrialConfig.from_point(unit.settings["point"]).model.name == "preact_resnet18"
    for unit in module("sections.gan").SECTION.units(size):
        GanConfig.from_point(unit.settings["point"])
        TrialConfig.from_point(unit.settings["classifier"])


def test_each_treatment_has_a_control_that_differs_in_the_penalty_alone():
    for name, penalty in (("overtime", "snnl.penalty"), ("gan", "gan.snnl_penalty")):
        design = module(f"sections.{name}.design")
        for recipe, control in design.CONTROLS.items():
            assert dict(design.RECIPES[control]) == {**design.RECIPES[recipe], penalty: "class_mean"}


def test_sets_of_images_are_disjoint_and_balanced():
    labels = torch.arange(60) % 3
    images = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1)
    sets = module("image_sets").image_sets(Split(images, labels), count=3, size=15)
    taken = [int(value) for one in sets for value in one.images_NCHW.flatten()]
    assert len(set(taken)) == len(taken) == 45
    assert all(one.labels_N.bincount().tolist() == [5, 5, 5] for one in sets)
    with pytest.raises(ValueError, match="must be 5 x 5 of each class, got 20 of the rarest one"):
        module("image_sets").image_sets(Split(images, labels), count=5, size=15)


def test_an_excerpt_links_the_first_images_of_each_class(tmp_path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "root" / part / name
            folder.mkdir(parents=True)
            for number in range(5):
                (folder / f"{number}.jpg").write_bytes(b"")
    excerpt = module("sections.overtime.measuring").excerpt
    found = excerpt(tmp_path / "root", tmp_path, 3, 2)
    assert excerpt(tmp_path / "root", tmp_path, 3, 2) == found, "a second unit finds the links"
    links = sorted(str(path.relative_to(found)) for path in found.rglob("*.jpg"))
    assert links == [f"test/{name}/{i}.jpg" for name in ("cat", "dog") for i in range(2)] + [
        f"train/{name}/{i}.jpg" for name in ("cat", "dog") for i in range(3)
    ]
