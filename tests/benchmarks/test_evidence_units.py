"""Arithmetic of the sections on units, words, transfer and layers, each against an independent way or a fault."""

import importlib
import io
import math
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from trainables.seeding import generator

EVIDENCE = Path(__file__).parents[2] / "benchmarks/evidence"
SETTINGS = {"data": "digits", "batch": 20, "seed": 3, "deep_settings": {}}
OWN = {path.stem for path in EVIDENCE.iterdir()}


@pytest.fixture
def module(monkeypatch):
    """Return a function that imports a module of the evidence; they leave with the test, as their names are short."""
    monkeypatch.syspath_prepend(EVIDENCE)
    yield importlib.import_module
    for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
        sys.modules.pop(name)


def test_information_of_two_words_is_that_of_counted_blocks(module):
    coherence = module("word_coherence")
    stream = generator(0, "text")
    words = ["a", "b", "c", "d"]
    # Blocks with two or three of the words, and the last one shorter.
    size = coherence.BLOCK
    text = [
        words[int(index)]
        for block in range(12)
        for index in torch.randint(block % 3, 2 + block % 3, (size if block < 11 else 7,), generator=stream)
    ]
    found = coherence.pointwise_information(text, words)
    blocks = [set(text[start : start + size]) for start in range(0, len(text), size)]
    for i, j in combinations(range(4), 2):
        both = sum({words[i], words[j]} <= block for block in blocks) / len(blocks)
        one, other = (sum(words[k] in block for block in blocks) / len(blocks) for k in (i, j))
        expected = math.log(both / one / other) / -math.log(both) if both else -1.0
        assert found[i, j] == found[j, i] == pytest.approx(expected, abs=1e-6)
    rows = torch.tensor([[0, 1, 2], [1, 2, 3]])
    means = coherence.mean_information(found, rows).tolist()
    assert means == pytest.approx(
        [sum(float(found[i, j]) for i, j in combinations(row, 2)) / 3 for row in rows.tolist()], abs=1e-6
    )


def test_words_that_meet_have_more_information_than_others_of_their_frequency_and_random_ones_have_not(module):
    coherence = module("word_coherence")
    stream = generator(0, "groups")
    # 300 words, most frequent first, in 30 groups that share blocks; rare ones seldom occur at all.
    groups = torch.randperm(300, generator=stream).reshape(30, 10)
    words = [str(number) for number in range(300)]
    text = []
    for block in range(3000):
        group = groups[block % 30]
        rare = torch.rand(10, generator=stream) < 1 / (1 + group / 30)
        chosen = [words[int(word)] for word in group[rare]] or [words[int(group.min())]]
        text += (chosen * coherence.BLOCK)[: coherence.BLOCK]
    information = coherence.pointwise_information(text, words)
    together = coherence.excess(information, groups, seed=0)
    apart = torch.stack([torch.randperm(300, generator=stream)[:10] for _ in range(200)])
    rare_ones = torch.stack([150 + torch.randperm(150, generator=stream)[:10] for _ in range(200)])
    assert float(together.min()) > 0.5
    for rows in (apart, rare_ones):
        assert abs(float(coherence.excess(information, rows, seed=0).mean())) < 0.02


def test_a_preferred_axis_shows_in_the_kurtosis_and_a_rotated_one_does_not(module):
    vectors = module("word_coherence")
    word_files = importlib.import_module("word_files")
    normal = torch.randn(4000, 10, generator=generator(0, "vectors"))
    names = tuple(map(str, range(len(normal))))
    assert vectors.axis_share(word_files.WordVectors(names, normal)) == pytest.approx(1, abs=0.1)
    assert vectors.axis_share(word_files.WordVectors(names, normal**3)) > 1.5


def test_words_and_their_plurals_are_paired(module):
    word_files = importlib.import_module("word_files")
    names = ("list", "lists", "array", "arrays", "is", "iss", "alone")
    vectors = torch.tensor([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 1], [1, -1], [1, 1]]).float()
    own, other = module("word_coherence").plurals(word_files.WordVectors(names, vectors))
    near = 1 / math.sqrt(1.01)
    assert own == pytest.approx(near, rel=1e-6)
    assert other == pytest.approx(0.1 * near, rel=1e-6)


def test_other_words_than_those_of_the_list_are_refused(module, monkeypatch, tmp_path):
    corpus = module("word_corpus")
    head, first, *_ = corpus.LISTED.read_text().splitlines()
    listed = tmp_path / "word_corpus.txt"
    monkeypatch.setattr(corpus, "LISTED", listed)
    path, count, _ = first.split()
    words = corpus._words(corpus._located(path))
    listed.write_text(f"{head}\n{path} {count} {corpus.digest_of(words)}\n")
    assert corpus.documents() == [words]
    listed.write_text(f"{head}\n{path} {count} {corpus.digest_of(words[1:])}\n")
    with pytest.raises(ValueError, match=rf"1 files have other words, first {path}; install numpy=="):
        corpus.documents()


def test_a_png_has_the_pixels_that_it_was_made_of(module):
    pixels = torch.randint(0, 256, (7, 13), generator=generator(0, "pixels"), dtype=torch.uint8)
    with Image.open(io.BytesIO(module("contact_sheet").png(pixels))) as picture:
        assert np.array_equal(np.asarray(picture), pixels.numpy())


def test_the_decay_is_that_of_the_paper(module):
    """The gradient of d |w|^2 / k is what SGD adds for the decay of the point."""
    networks = module("sections.transfer.networks")
    settings = {
        "data": "digits",
        "batch": 20,
        "seed": 0,
        "softmax_epochs": 1,
        "deep_epochs": 1,
        "deep": [100],
        "deep_settings": {},
    }
    points = networks.networks(settings)
    for name, paper, units in (("FC10(1e-4)", 1e-4, 10), ("FC10(1)", 1.0, 10), ("FC100-100-10", 1e-5, 100)):
        weight = torch.randn(units, 5, generator=generator(0, name), dtype=torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(paper * weight.square().sum() / units, weight)
        assert torch.allclose(points[name]["optimizer.weight_decay"] * weight, slope, rtol=1e-9)


def test_the_sets_of_images_are_disjoint_and_have_all_classes(module, monkeypatch):
    from trainables.evaluation.core.prediction import balanced_subset
    from trainables.evaluation.representation.layers import LayerUnits

    units = module("sections.units")
    _, images = trained_on_digits(module, size=300)
    images = balanced_subset(images, size=300)
    seen = []

    def unit_purity(layers, labels_N, **_):
        seen.append((layers[0].features_ND[:, 0].tolist(), set(labels_N.tolist())))
        return type("Nothing", (), {"comparisons": ()})

    monkeypatch.setattr(units, "unit_purity", unit_purity)
    features = torch.arange(300.0)[:, None].repeat(1, 2)
    units.by_folds(LayerUnits("tap", features, torch.arange(2), (2,), 2), images, {"directions": 1, "seed": 0})
    assert sorted(value for places, _ in seen for value in places) == list(range(300))
    assert all(len(labels) > 5 for _, labels in seen)
    assert len(seen) == units.FOLDS


def test_the_two_networks_of_both_halves_differ_in_their_images_alone(module):
    points = module("sections.transfer.networks").halves({**SETTINGS, "halves_epochs": 1})
    first, second = points["FC100'(P1)"], points["FC100'(P2)"]
    assert {name for name in first if first[name] != second[name]} == {"data.part"}
    assert points["FC100(P1)"]["seed"] != first["seed"]


def row_of(module, errors, *, seed=0):
    section = module("section")
    metrics = {
        "test_error": dict.fromkeys(errors["attack own right"], 0.1),
        "errors": dict(errors),
    }
    return section.Row(section.Unit(f"seed {seed}", {"kind": "networks", "seed": seed}), metrics, 1.0, {})


def test_transfer_is_the_mean_over_other_networks_minus_that_of_noise(module):
    answers = module("sections.transfer.questions")
    attack = {"a": {"a": [9, 10], "b": [4, 10]}, "b": {"a": [2, 10], "b": [10, 10]}}
    noise = {"a": {"a": [1, 10], "b": [0, 10]}, "b": {"a": [1, 10], "b": [0, 10]}}
    rows = [row_of(module, {"attack own right": attack, "gaussian own right": noise}, seed=seed) for seed in (0, 1)]
    apart = answers.against("networks", lambda row: answers.pairs_of(row, same=False))(rows)
    assert apart.difference.mean == pytest.approx(0.25), "0.3 less 0.05"
    assert apart.images.low < 0.25 < apart.images.high
    itself = answers.against("networks", lambda row: answers.pairs_of(row, same=True))(rows)
    assert itself.difference.mean == pytest.approx(0.9), "0.95 less 0.05"


def test_no_claim_is_made_where_a_check_fails(module):
    questions, tables = module("questions"), module("answer_tables")
    claim = questions.Published("Some et al. 2019", "it is better", "table 1")

    def expected(words, own, control, **more):
        return questions.Expected(words, lambda _: questions.by_seed(own, control, "higher"), **more)

    high, low = [0.9, 0.91, 0.92], [0.5, 0.52, 0.51]
    better = expected("better", high, low, claim=claim)
    passed, failed = expected("passed", high, low), expected("failed", low, high)
    for checks, verdict in (([passed], "agrees"), ([passed, failed], "inconclusive")):
        question = questions.Question("question", checks, [better])
        (found,) = questions.claims_of([question], ())
        assert found.verdict == verdict
        assert "+0.4" in tables.shown([question], ())
    assert found.reason == "the manipulation check failed"
    assert "**no**" in tables.shown([question], ())
    unchecked = questions.Expected("unchecked", lambda _: None)
    with pytest.raises(ValueError, match="question: the manipulation check is not measured: unchecked"):
        questions.Question("question", [unchecked], [better]).answer(())


def test_a_slope_above_its_bound_stops_the_measurement(module, monkeypatch):
    slopes = module("sections.transfer.slopes")
    model, images = trained_on_digits(module)
    result = slopes.stability(model, images, seed=0)
    assert 0 < result["slope"]["noise"] < result["slope"]["lbfgs"] < result["bound"]
    for stage in result["stages"].values():
        assert stage["slope"] <= stage["bound"] * (1 + 1e-6)
    first = result["stages"]["logits"]
    assert first["exact"] == pytest.approx(
        torch.linalg.matrix_norm(model.module[1].weight.detach(), 2).item(), rel=1e-6
    )
    halved = slopes.constants

    def too_small(*arguments):
        return tuple(replace(stage, bound=stage.bound / 10) for stage in halved(*arguments))

    monkeypatch.setattr(slopes, "constants", too_small)
    with pytest.raises(ValueError, match="a slope must be at most the bound"):
        slopes.stability(model, images, seed=0)


def trained_on_digits(module, *, size=10):
    from trainables.data import load_test
    from trainables.evaluation.core.prediction import balanced_subset
    from trainables.models.hooked import HookedClassifier
    from trainables.models.trace import trace

    fully_connected = module("fully_connected")
    point = fully_connected.point_of((), decay=2e-5, epochs=1, settings={"data.name": "digits"})
    config = fully_connected.config_of(point, data_root=None)
    test = balanced_subset(load_test(config.data), size=size)
    net = fully_connected.FullyConnected(10, (1, 8, 8))
    with torch.no_grad():
        # Nearest class means: trained in closed form.
        x = test.images_NCHW.flatten(1).float() / 255
        means = torch.stack([x[test.labels_N == label].mean(0) for label in range(10)])
        net[1].weight.copy_(20 * means)
        net[1].bias.copy_(-10 * means.square().sum(1))
    layout = trace(net, image_shape=(1, 8, 8), num_classes=10, device="cpu")
    return HookedClassifier(net, layout, channels=1).eval(), test


def test_the_error_under_a_change_of_a_layer_is_that_of_the_changed_activations(module):
    layers = module("sections.layers")
    model, images = trained_on_digits(module)
    assert layers.error_of(model, images, "0", 1e-9) == pytest.approx(
        float((model(images.images_NCHW / 255).argmax(1) != images.labels_N).double().mean())
    )
    assert layers.error_of(model, images, "0", 3.0) > 0.5
    assert isinstance(model.module[0], nn.Flatten)


def test_an_interval_of_units_over_images_is_around_the_difference_that_was_measured(module):
    """Few images rank less extreme ones first: their mean difference is another one."""
    units, section = module("sections.units"), module("section")
    spread = [0.01 * (number - 4.5) for number in range(10)]
    rows = [
        section.Row(
            section.Unit(f"mnist seed {seed}", {"data": "mnist", "seed": seed}),
            {
                "trained": {"penultimate raw 8 random": {"units": 0.80 + 0.001 * seed, "others": 0.84}},
                "folds": {"random": [0.2 + own for own in spread]},
            },
            1.0,
            {},
        )
        for seed in range(3)
    ]
    found = units._alike(rows, "raw random")
    low, high = found.images
    assert (low + high) / 2 == pytest.approx(found.difference.mean) == pytest.approx(-0.039)
    assert (high - low) / 2 == pytest.approx(2.262 * np.std(spread, ddof=1), rel=1e-3)


def test_vectors_that_are_alike_by_symmetry_are_a_control_and_test_no_claim(module):
    words = module("sections.words")
    claimed = [own.about for question in words.QUESTIONS for own in question.predictions if own.claim]
    assert claimed == ["raw, adam", "normalised, adam"]


@pytest.mark.parametrize(("slope", "verdict"), [(0.9, "disagrees"), (0.1, "inconclusive"), (0.01, "agrees")])
def test_a_slope_is_far_below_the_product_from_a_tenth_of_it_alone(module, slope, verdict):
    """No slope is above the product: to be below it is no finding."""
    answers, section = module("sections.transfer.questions"), module("section")
    rows = [
        section.Row(
            section.Unit(f"stability seed {seed}", {"kind": "stability", "seed": seed}),
            {"net": {"bound": 5.0, "slope": {"lbfgs": 5.0 * slope * (1 + noise), "noise": 0.01 * (1 - noise)}}},
            1.0,
            {},
        )
        for seed, noise in enumerate((0.0, 0.05, -0.05, 0.02))
    ]
    (finding,) = answers.QUESTIONS[-1].answer(rows).findings.values()
    assert finding.conclusion == verdict


@pytest.mark.parametrize("place", ["layer 1", "all layers"])
def test_training_on_a_layer_helps_if_it_helps_more_than_random_directions(module, place):
    layers, section, answers = module("sections.layers"), module("section"), module("answers_by_image")

    def verdict(*, random):
        fewer = {f"{place} by 0.1": 20, f"{place} by 0.1, random": random}
        rows = []
        noise = np.random.default_rng(0)
        for name in layers.treatments():
            for seed in range(4):
                places = layers.TAPS if name.startswith("all layers") else (name.partition(" by ")[0],)
                changed = {
                    layers.name_of(layer, size): (0.2 if layer in places and "random" not in name else 0.9)
                    + noise.normal(0, 0.01)
                    for size in layers.SIZES
                    for layer in layers.TAPS
                }
                wrong = 100 + noise.integers(3) - fewer.get(name, 0)
                metrics = {"right by image": answers.packed(torch.arange(2_000) >= wrong), "changed": changed}
                unit = section.Unit(f"{name} seed {seed}", {"treatment": name, "seed": seed})
                rows.append(section.Row(unit, metrics, 1.0, {}))
        (question,) = (own for own in layers.questions() if own.title == f"Training on changes of {place} by 0.1")
        assert question.predictions[0].claim is not None
        return question.answer(rows).findings["the test error is lower than the baseline's"].conclusion

    assert verdict(random=0) == "agrees"
    assert verdict(random=20) == "inconclusive"
