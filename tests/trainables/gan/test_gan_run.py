"""A whole trial on digits: what it reports, that it resumes bit for bit, and how it fails."""

import math

import pytest
import torch

from trainables.config.trial import TrialConfig
from trainables.data import Split, Splits
from trainables.engine import checkpoint as state
from trainables.engine.placement import Placement
from trainables.errors import CheckpointError, ConfigError, Diverged
from trainables.tasks.classifier import run as classifier
from trainables.tasks.classifier.training import train
from trainables.tasks.gan import GanConfig, load_generator, train_gan
from trainables.tasks.gan.classifier import _trained, classifier_config, classifier_of
from trainables.tasks.gan.run import restore, start

EPOCHS = 2
HERE = Placement(torch.device("cpu"))
# Two steps an epoch: what differs after an interruption does so at the first.
SMALL = {
    "batch_size": 500,
    "epochs": EPOCHS,
    "gan.generator_width": 0.25,
    "gan.discriminator_width": 0.25,
    "evaluation.images": 40,
    "evaluation.mode_images": 64,
}
VARIANTS = {
    "plain": {},
    "pixels": {"gan.generator_snnl": 1.0},
    "features": {"gan.generator_snnl": 1.0, "gan.discriminator_snnl": 0.5, "gan.snnl_features": "discriminator"},
    "cosine-varied": {"gan.generator_snnl": 1.0, "gan.snnl_distance": "cosine", "data.flip": True},
    "control": {"gan.generator_snnl": 1.0, "gan.discriminator_snnl": 0.5, "gan.snnl_penalty": "class_mean"},
    "in-features": {"evaluation.feature_space": "classifier"},
}
METRICS = {
    *("gan/generator_loss", "gan/discriminator_loss", "val/real_fake_entanglement", "val/real_anchors_entanglement"),
    *("val/fake_anchors_entanglement", "val/real_fake_chance", "val/real_fake_ceiling", "val/mode_kl"),
    *("val/real_fake_recall", "val/real_fake_precision", "val/real_fake_nn_accuracy"),
    *("val/real_anchors_nn_accuracy", "val/fake_anchors_nn_accuracy"),
    *("val/modes_covered", "time/epoch_s", "time/images_per_s", "cost/gpu_s"),
}


def config_of(**changes):
    return GanConfig.from_point({**SMALL, **changes})


def steady(report):
    return {name: value for name, value in report.metrics.items() if not name.startswith("time/")}


def weights_of(run):
    return [tensor for network in run.networks for tensor in network.state_dict().values()]


def test_an_epoch_reports_finite_numbers_under_the_documented_names():
    reports = train_gan(config_of()).reports
    assert [report.epoch for report in reports] == [1, 2]
    for report in reports:
        assert set(report.metrics) == METRICS
        assert all(math.isfinite(value) for value in report.metrics.values())
        assert report.metrics["val/real_fake_chance"] == pytest.approx(math.log(79 / 39))
        assert report.metrics["val/real_fake_ceiling"] > 0.9 * report.metrics["val/real_fake_chance"]


IN_FEATURES = {
    *("val/feature_entanglement", "val/feature_ceiling", "val/feature_recall", "val/feature_precision"),
    *("val/feature_nn_accuracy", "val/manifold_precision", "val/manifold_recall"),
}


def test_images_are_compared_in_features_where_it_is_asked_for_and_nothing_else_changes():
    plain, also = (train_gan(config_of(epochs=1, **VARIANTS[name])) for name in ("plain", "in-features"))
    assert set(also.metrics) == METRICS | IN_FEATURES
    assert all(
        torch.equal(mine, yours) for mine, yours in zip(weights_of(plain.run), weights_of(also.run), strict=True)
    )
    assert {name: also.metrics[name] for name in steady(plain.reports[0])} == steady(plain.reports[0])
    assert 0 <= also.metrics["val/feature_entanglement"] <= also.metrics["val/real_fake_chance"]
    assert also.metrics["val/feature_ceiling"] > 0.9 * also.metrics["val/real_fake_chance"]


def test_a_control_is_reported_under_its_own_names():
    metrics = train_gan(config_of(epochs=1, **VARIANTS["control"])).metrics
    assert set(metrics) == METRICS | {"gan/generator_control", "gan/discriminator_control"}


def test_a_classifier_without_a_last_linear_layer_has_no_feature_space(monkeypatch):
    classifier = classifier_of(config_of(), HERE)
    monkeypatch.setattr(classifier, "taps", ("logits",))
    with pytest.raises(ConfigError, match=r"gan.classifier: must be a network that ends in one linear layer, whose"):
        start(config_of(**VARIANTS["in-features"]))


def test_the_entangling_terms_are_reported_where_they_are_on():
    metrics = train_gan(config_of(epochs=1, **VARIANTS["features"])).metrics
    assert set(metrics) == METRICS | {"gan/generator_snnl", "gan/discriminator_snnl"}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_resumed_run_ends_in_the_bits_of_an_uninterrupted_one(variant, tmp_path):
    config = config_of(**variant)
    whole = train_gan(config)
    first = start(config)
    first.run_epoch()
    first.save(tmp_path)
    torch.rand(3)
    resumed = train_gan(config, resume=tmp_path)
    assert [steady(report) for report in resumed.reports] == [steady(whole.reports[1])]
    assert all(
        torch.equal(mine, yours) for mine, yours in zip(weights_of(resumed.run), weights_of(whole.run), strict=True)
    )


def test_no_global_generator_is_read_or_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = train_gan(config_of(epochs=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert steady(train_gan(config_of(epochs=1)).reports[0]) == steady(one.reports[0])


def test_another_seed_is_another_trial():
    one, other = (train_gan(config_of(epochs=1, seed=seed)) for seed in (0, 1))
    assert steady(one.reports[0]) != steady(other.reports[0])


def test_in_a_few_epochs_digits_appear_and_become_entangled_with_real_ones():
    point = {"epochs": 15, "evaluation.images": 100, "evaluation.mode_images": 256}
    first, *_, last = train_gan(GanConfig.from_point(point)).reports
    assert last.metrics["val/modes_covered"] >= 7
    assert last.metrics["val/mode_kl"] < 0.5 < first.metrics["val/mode_kl"]
    assert last.metrics["val/real_fake_entanglement"] > first.metrics["val/real_fake_entanglement"] + 0.01


def test_a_finished_run_is_not_trained_on(tmp_path):
    train_gan(config_of(epochs=1), checkpoint=tmp_path)
    with pytest.raises(ValueError, match="all 1 epochs are complete"):
        restore(tmp_path).run_epoch()
    assert train_gan(config_of(epochs=1), resume=tmp_path).metrics == {}


def test_a_loss_that_is_not_finite_ends_the_run():
    with pytest.raises(Diverged, match=r"(generator|discriminator)_loss is not finite"):
        train_gan(config_of(**{"gan.generator_lr": 1e30, "gan.discriminator_lr": 1e30}))


def test_images_that_the_networks_cannot_make_are_refused(monkeypatch):
    split = Split(torch.zeros(4, 1, 10, 10, dtype=torch.uint8), torch.arange(4) % 2)
    monkeypatch.setattr("trainables.tasks.gan.run.load_splits", lambda _: Splits(split, split, num_classes=2))
    with pytest.raises(ConfigError, match=r"data.name: must have images whose sides .* got 10x10"):
        start(config_of())


def test_too_few_images_of_the_rarest_class_to_compare_are_refused(monkeypatch):
    split = Split(torch.zeros(100, 1, 8, 8, dtype=torch.uint8), (torch.arange(100) < 15).long())
    monkeypatch.setattr("trainables.tasks.gan.run.load_splits", lambda _: Splits(split, split, num_classes=2))
    monkeypatch.setattr("trainables.tasks.gan.run.classifier_of", lambda *_: None)
    with pytest.raises(ConfigError, match=r"evaluation.images: must leave at least 32 class-balanced images .* got 30"):
        start(config_of())


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path):
    start(config_of()).save(tmp_path)
    with pytest.raises(CheckpointError, match=r"another trial: gan.beta_1 \(saved 0.5, now 0.1\)"):
        restore(tmp_path, config=config_of(**{"gan.beta_1": 0.1}))
    assert restore(tmp_path).config == config_of()


@pytest.fixture(scope="module")
def classifier_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    point = {"epochs": 1, "model.name": "mlp", "model.width": 0.25, "evaluation.robust_epsilon": 0.0}
    train(TrialConfig.from_point(point), checkpoint=folder)
    return folder


def test_the_two_kinds_of_trial_do_not_read_each_others_checkpoints(tmp_path, classifier_folder):
    with pytest.raises(CheckpointError, match="describes no valid trial of a generative adversarial network"):
        restore(classifier_folder)
    start(config_of()).save(tmp_path)
    with pytest.raises(CheckpointError, match="describes no valid trial"):
        classifier.restore(tmp_path)
    assert state.load(tmp_path).epoch == 0


def test_a_generator_is_loaded_without_its_trial(tmp_path):
    run = train_gan(config_of(epochs=1), checkpoint=tmp_path).run
    network = load_generator(tmp_path)
    latents_BZ = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    assert not network.training
    assert torch.equal(network(latents_BZ), run.networks.generator.eval()(latents_BZ))


def test_the_classifier_is_trained_once_for_all_trials_on_a_data_set():
    one, other = config_of(seed=1), config_of(**{"gan.latent_dim": 8, "data.flip": True})
    assert classifier_config(one) == classifier_config(other)
    assert classifier_of(one, HERE) is classifier_of(other, HERE)


@pytest.mark.parametrize(("epochs", "is_poor"), [(1, True), (10, False)])
def test_a_poor_classifier_is_named_with_its_remedy(caplog, epochs, is_poor):
    config = classifier_config(config_of())
    assert config.epochs == 10
    _trained(config.model_copy(update={"epochs": epochs, "seed": 1}), HERE)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert bool(warnings) == is_poor
    assert all(
        "on digits" in line and "set gan.classifier to a checkpoint of a better one" in line for line in warnings
    )


def test_a_given_classifier_is_used(classifier_folder):
    given = classifier_of(config_of(**{"gan.classifier": str(classifier_folder)}), HERE)
    assert given.taps[0] == "fc1"
    assert not given.training


def test_what_is_no_classifier_of_the_data_set_is_a_mistake_of_the_trial(tmp_path, classifier_folder):
    with pytest.raises(ConfigError, match=r"gan.classifier: must be a checkpoint of a classifier; .*does not exist"):
        classifier_of(config_of(**{"gan.classifier": str(tmp_path)}), HERE)
    with pytest.raises(ConfigError, match="must be a classifier of 'mnist', got one of 'digits'"):
        classifier_of(config_of(**{"gan.classifier": str(classifier_folder), "data.name": "mnist"}), HERE)


def test_the_figures_show_every_epoch_and_every_class():
    result = train_gan(config_of())
    figures = result.figures()
    curves = figures["entanglement"]
    assert [list(trace.x) for trace in curves.data] == [[1, 2]] * 7
    assert len({trace.name for trace in curves.data}) == 7
    assert list(curves.data[0].y) == [report.metrics["val/real_fake_entanglement"] for report in result.reports]
    assert (curves.layout.xaxis.title.text, curves.layout.yaxis.title.text) == (
        "epoch",
        "soft nearest neighbour loss, nats",
    )
    assert (curves.layout.xaxis2.title.text, curves.layout.yaxis2.title.text) == ("epoch", "fraction of chance")
    sheet = figures["sheet"]
    assert list(sheet.layout.yaxis.ticktext) == list(range(10))
    assert sheet.data[0].z.shape == (10 * 9, 12 * 9, 3)


def test_the_sheet_puts_each_image_into_the_row_of_its_class():
    from trainables.tasks.gan.figures import sheet_of_images

    images_NCHW = torch.tensor([0.0, 0.2, 0.4]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    drawn = sheet_of_images(images_NCHW, torch.tensor([1, 0, 1]), num_classes=3, columns=2).data[0].z
    assert drawn.shape == (9, 6, 3)
    assert (drawn[0, 0, 0], drawn[0, 3, 0]) == (51, 255)
    assert (drawn[3, 0, 0], drawn[3, 3, 0]) == (0, 102)
    assert (drawn[6:] == 255).all()
