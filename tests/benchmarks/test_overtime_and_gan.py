"""Arithmetic of the sections on layers over training and on a GAN: made rows with known answers."""

import importlib
import random
import re
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


def follows(space):
    return f"from epoch to epoch, entanglement in {space} rises and falls with precision and recall"


def with_courses(rows, *, alike):
    """Return rows whose measures all rise over the epochs: those of quality in step with entanglement, or not."""
    for row in rows:
        source = random.Random(row.name)
        steps = [source.uniform(0.0, 0.04) for _ in range(15)]
        others = [source.uniform(0.0, 0.005) + (step if alike else 0.04 - step) for step in steps]
        course = row.metrics["course"]
        for name, own in {"pixels": steps, "features": steps, "precision": others, "recall": others}.items():
            course[name] = [0.1, *(0.1 + total for total in accumulate(own))]
    return rows


@pytest.mark.parametrize(("alike", "verdict"), [(True, "agrees"), (False, "disagrees")])
def test_measures_that_both_rise_with_training_follow_each_other_by_their_changes_alone(alike, verdict):
    rows, correlations = with_courses(gan_rows(), alike=alike), module("sections.gan.correlations")
    for row in rows:
        assert correlations.of_values(row, "pixels") == pytest.approx(1.0)
        assert correlations.of_changes(row, "pixels") * (1 if alike else -1) > 0.9
    found = verdicts("gan", rows)
    assert found[follows("pixels")] == found[follows("features")] == verdict
    head, _, baseline = module("sections.gan.page").write(rows)["gan epochs"].splitlines()[:3]
    assert head.split(" | ")[1:3] == ["pixels: changes", "pixels: values, with their trends"]
    assert baseline.split(" | ")[1].startswith("0.9" if alike else "-0.9")
    assert baseline.split(" | ")[2] == "1.0000 ± 0.0000"


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


def test_a_figure_places_values_on_its_axes_and_keeps_them_within():
    figures = module("line_figure")
    point = figures.Point
    straight = figures.Line("a < b", [point(0, 0.0), point(10, 1.0), point(5, 9.0)], "#000", dashed=True)
    curved = figures.Line("a legend that is so long that it takes the place of two", [point(5, 0.01, 0.5)], "#111")
    x = figures.Axis("epoch", 0, 10, [0, 10], ["first", "last"])
    log = figures.Axis("share", 1e-4, 1, [1e-4, 1], is_log=True)
    panels = [
        figures.Panel("one", x, figures.linear("share", 1, 0.5), [straight]),
        figures.Panel("two", x, log, [curved]),
    ]
    svg = figures.figure(panels, words="what is shown")
    left, top = figures.LEFT, figures.TOP
    right, bottom, middle = left + figures.WIDTH, top + figures.HEIGHT, left + figures.WIDTH / 2
    assert f"M{left:.1f},{bottom:.1f}L{right:.1f},{top:.1f}L{middle:.1f},{top:.1f}" in svg
    half_up = middle + figures.LEFT + figures.WIDTH, top + figures.HEIGHT / 2
    assert f"M{half_up[0]:.1f},{half_up[1]:.1f}" in svg, "0.01 is half way from 0.0001 to 1"
    assert f"M{half_up[0]:.1f},{bottom:.1f}V" in svg, "an interval ends on the edge"
    assert "a &lt; b" in svg
    assert "stroke-dasharray" in svg
    assert ">first</text>" in svg
    assert "<title>what is shown</title>" in svg
    width = float(svg.split('width="')[1].split('"')[0])
    assert all(float(own.split('"')[0]) < width for own in svg.split('<text x="')[1:])


def test_a_figure_is_so_wide_that_labels_of_an_axis_do_not_meet():
    figures = module("line_figure")
    labels = ["-0.1", "-0.03", "-0.01", *"12345678"]
    x = figures.Axis("weight", -0.5, len(labels) - 0.5, range(len(labels)), labels)
    line = figures.Line("accuracy", [figures.Point(place, 0.5) for place in range(len(labels))], "#000")
    svg = figures.figure([figures.Panel("one", x, figures.linear("share", 1, 0.5), [line])], words="what is shown")
    left = {text: float(svg.split(f">{text}</text>")[0].split('<text x="')[-1].split('"')[0]) for text in labels[1:3]}
    assert left["-0.01"] - left["-0.03"] > figures.LETTER * len("-0.03"), "both are centred on their ticks"
