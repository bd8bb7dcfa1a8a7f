"""Training: the same bits each time, also across an interruption; what is measured; how it ends."""

import itertools
import math
import shutil

import pytest
import torch
from PIL import Image

from trainables.config.trial import TrialConfig
from trainables.data import Split
from trainables.errors import AttackOverfitted, CheckpointError, ConfigError, DatasetDamaged, Diverged
from trainables.evaluation.core.prediction import logits
from trainables.evaluation.core.validation import validate
from trainables.metrics import lookup
from trainables.models import check_layers
from trainables.models.loading import load_model
from trainables.tasks.classifier.run import restore, start
from trainables.tasks.classifier.training import train

SMALL = {"model.name": "mlp", "model.width": 0.25, "epochs": 4, "evaluation.robust_images": 40}
COMBINATIONS = {
    "plain": {},
    "cnn": {"model.name": "cnn", "model.width": 0.125},
    "cnn_bn": {"model.name": "cnn_bn"},
    "adamw": {"optimizer.name": "adamw", "optimizer.lr": 1e-3},
    "constant schedule": {"optimizer.schedule": "constant"},
    "snnl": {"snnl.weight": -0.2},
    "snnl relative cosine": {"snnl.weight": 0.2, "snnl.temperature_mode": "relative", "snnl.distance": "cosine"},
    "manifold mixup per sample": {"mixup.alpha": 1.0, "mixup.layers": "all", "mixup.per_sample": True},
    "fgsm_rs": {"adversarial.epsilon": 0.1},
    "trades": {"adversarial.epsilon": 1.0, "adversarial.norm": "l2", "adversarial.attack": "trades"},
    "n_fgsm": {"adversarial.epsilon": 0.1, "adversarial.attack": "n_fgsm"},
    "mart, perturbed weights": {
        "adversarial.epsilon": 0.1,
        "adversarial.attack": "mart",
        "adversarial.awp_gamma": 0.01,
    },
    "sharpness-aware": {"model.name": "cnn_bn", "model.width": 0.25, "optimizer.sam_rho": 0.05},
    "cutmix": {"mixup.kind": "cutmix", "mixup.alpha": 1.0},
    "augmentation": {"data.crop_padding": 1, "data.rotation": 10.0, "data.zoom": 0.1},
    "averaged weights": {"optimizer.ema_decay": 0.9, "optimizer.clip_norm": 1.0},
    "everything": {
        "model.name": "cnn_bn",
        "snnl.weight": -0.1,
        "mixup.alpha": 0.5,
        "mixup.layers": "input+hidden",
        "adversarial.epsilon": 0.1,
        "adversarial.attack": "pgd",
        "adversarial.steps": 2,
    },
}
every_combination = pytest.mark.parametrize("point", COMBINATIONS.values(), ids=COMBINATIONS)


def config(**point):
    return TrialConfig.from_point({**SMALL, **point})


def measured(reports):
    """Everything but the clock."""
    return [
        {name: value for name, value in report.metrics.items() if not name.startswith(("time/", "cost/"))}
        for report in reports
    ]


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal_bits(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_equal_configs_train_to_equal_bits_whatever_the_global_generator():
    torch.manual_seed(1)
    first = train(config(**COMBINATIONS["everything"]))
    torch.manual_seed(2)
    second = train(config(**COMBINATIONS["everything"]))
    assert_equal_bits(weights(first.model), weights(second.model))
    assert measured(first.reports) == measured(second.reports)


def test_training_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    train(config(epochs=1, **{"mixup.alpha": 1.0, "adversarial.epsilon": 0.1}))
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_trains_to_other_weights():
    first, second = (train(config(epochs=1, seed=seed)).model for seed in (0, 1))
    assert not torch.equal(first.head.weight, second.head.weight)


def test_a_method_that_is_off_changes_no_bit_whatever_its_parameters():
    inactive = {"snnl.temperature": 3.0, "mixup.layers": "all", "adversarial.steps": 3}
    assert measured(train(config(epochs=1, **inactive)).reports) == measured(train(config(epochs=1)).reports)


def test_default_trial_learns_the_digits():
    assert train(TrialConfig.from_point({"epochs": 10})).metrics["val/accuracy"] > 0.96


EVERY_EPOCH = {
    "train/loss",
    "train/ce",
    "val/accuracy",
    "val/nll",
    "val/ece",
    "time/epoch_s",
    "time/images_per_s",
    "cost/gpu_s",
}


def test_costly_metrics_are_measured_at_the_chosen_epochs_and_the_last():
    reports = train(config(**{"evaluation.epochs": [2]})).reports
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    costly = [set(report.metrics) - EVERY_EPOCH for report in reports]
    assert costly[0] == costly[2] == set()
    assert costly[1] == costly[3]
    assert {"val/robust_accuracy", "val/zero_gradients"} <= costly[1]
    taps = {name for name in costly[1] if name.startswith("entanglement/")}
    assert taps == {f"entanglement/{tap}" for tap in ("fc1", "fc2", "penultimate", "logits")}


def test_every_reported_name_is_a_listed_metric_and_every_value_finite():
    for report in train(config(epochs=2, **{"snnl.weight": 0.1})).reports:
        for name, value in report.metrics.items():
            assert lookup(name).name == name
            assert math.isfinite(value)


def test_snnl_is_reported_before_its_weight_and_only_when_on():
    metrics = train(config(epochs=1, **{"snnl.weight": -0.25})).metrics
    assert metrics["train/loss"] == pytest.approx(metrics["train/ce"] - 0.25 * metrics["train/snnl"], rel=1e-5)
    assert "train/snnl" not in train(config(epochs=1)).metrics


def test_robust_accuracy_is_switched_off_at_epsilon_zero():
    assert "val/robust_accuracy" not in train(config(epochs=1, **{"evaluation.robust_epsilon": 0.0})).metrics


def test_adversarial_training_makes_robust():
    point = {"model.name": "cnn_bn", "model.width": 1.0, "epochs": 8, "evaluation.robust_images": 200}
    plain = train(config(**point)).metrics["val/robust_accuracy"]
    robust = train(config(**point, **{"adversarial.epsilon": 0.15})).metrics["val/robust_accuracy"]
    assert robust > plain + 0.1


@pytest.mark.parametrize(
    ("point", "term"),
    [({"optimizer.lr": 1e6}, "ce"), ({"snnl.weight": 1e38, "snnl.layers": "all"}, "loss")],
)
def test_a_loss_that_is_not_finite_ends_the_trial_with_epoch_step_and_term(point, term):
    with pytest.raises(Diverged) as caught:
        train(config(**point))
    assert caught.value.term in {term, "snnl", "val/nll"}
    assert caught.value.epoch >= 1
    assert 1 <= caught.value.step <= 8


def test_report_is_called_after_each_epoch_with_its_checkpoint_already_there(tmp_path):
    seen = []

    def report(epoch):
        seen.append((epoch.epoch, restore(tmp_path).epoch))

    train(config(epochs=3), report=report, checkpoint=tmp_path)
    assert seen == [(1, 1), (2, 2), (3, 3)]


def test_a_complete_trial_is_not_trained_again(tmp_path):
    done = train(config(epochs=1), checkpoint=tmp_path)
    resumed = train(config(epochs=1), resume=tmp_path)
    assert resumed.reports == ()
    assert resumed.metrics == {}
    assert_equal_bits(weights(resumed.model), weights(done.model))
    with pytest.raises(ValueError, match="all 1 epochs are complete"):
        restore(tmp_path).run_epoch()


def test_a_checkpoint_of_another_trial_is_refused_with_what_differs(tmp_path):
    train(config(epochs=1), checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match=r"another trial: optimizer\.lr \(saved 0\.05, now 0\.1\)"):
        train(config(epochs=1, **{"optimizer.lr": 0.1}), resume=tmp_path)


def test_a_trial_that_gets_more_epochs_ends_in_the_bits_of_one_that_had_them_under_a_constant_rate(tmp_path):
    constant = {"optimizer.schedule": "constant"}
    longer = train(config(epochs=3, **constant))
    train(config(epochs=2, **constant), checkpoint=tmp_path)
    extended = train(config(epochs=3, **constant, **{"evaluation.epochs": (1,)}), resume=tmp_path)
    assert_equal_bits(weights(extended.model), weights(longer.model))


def test_a_trial_does_not_get_fewer_epochs_than_its_checkpoint_had(tmp_path):
    train(config(epochs=2), checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match=r"another trial: epochs \(saved 2, now 1\)"):
        train(config(epochs=1), resume=tmp_path)


def test_a_checkpoint_may_be_resumed_in_another_place(tmp_path):
    train(config(epochs=1), checkpoint=tmp_path)
    elsewhere = config(epochs=1, device="cpu", **{"data.root": "/elsewhere"})
    assert restore(tmp_path, config=elsewhere).epoch == 1


def test_the_model_of_a_checkpoint_predicts_as_the_trained_one(tmp_path):
    trained = train(config(epochs=1, **{"model.name": "cnn"}), checkpoint=tmp_path).model.eval()
    loaded = load_model(tmp_path)
    x = torch.rand(7, 1, 8, 8)
    assert not loaded.training
    torch.testing.assert_close(loaded(x), trained(x), rtol=0, atol=0)


def test_a_batch_larger_than_the_data_is_one_step_of_all_images():
    loop = start(config(batch_size=5000))
    assert loop.run.batches_per_epoch == 1
    assert math.isfinite(loop.run_epoch().metrics["train/loss"])


def test_a_layer_the_model_lacks_is_refused_before_training():
    with pytest.raises(ConfigError, match=r"snnl\.layers: 'conv1' is no layer of this model"):
        start(config(**{"snnl.layers": "conv1"}))


def test_averaged_weights_are_what_is_evaluated_returned_and_loaded(tmp_path):
    loop = start(config(epochs=1, **{"optimizer.ema_decay": 0.9}))
    report, run = loop.run_epoch(), loop.run
    loop.save(tmp_path)
    val, labels = run.val_split, run.val_split.labels_N
    assert validate(logits(run.evaluated_model, val), labels)["val/accuracy"] == report.metrics["val/accuracy"]
    assert validate(logits(run.model, val), labels)["val/nll"] != report.metrics["val/nll"]
    assert_equal_bits(weights(load_model(tmp_path)), weights(run.evaluated_model))


def test_class_balanced_batches_hold_as_many_images_of_so_many_classes():
    run = start(config(batch_size=100, classes_per_batch=5)).run
    for indices in run.order():
        counts = run.labels_N[indices].bincount()
        assert counts[counts > 0].tolist() == [20] * 5


def test_more_images_of_a_class_than_there_are_is_a_problem_of_the_trial():
    with pytest.raises(ConfigError, match=r"classes_per_batch: images_per_class: must be <= \d+"):
        train(config(batch_size=1000, classes_per_batch=5))


def test_more_classes_in_a_batch_than_there_are_is_a_problem_without_a_data_set():
    with pytest.raises(ConfigError, match="classes_per_batch: must be <= 10, the number of classes, got 20"):
        check_layers(config(batch_size=100, classes_per_batch=20))


def test_an_evaluation_that_fails_leaves_the_epoch_incomplete():
    loop = start(config(epochs=1))
    run = loop.run
    run.val_split = Split(run.val_split.images_NCHW.new_zeros(4, 1, 9, 9), run.val_split.labels_N[:4])
    with pytest.raises(RuntimeError, match="shape"):
        loop.run_epoch()
    assert (loop.epoch, loop.finished) == (0, False)


def test_images_that_are_all_of_one_value_are_refused(tmp_path):
    for split, kind in itertools.product(("train", "test"), ("cat", "dog")):
        folder = tmp_path / split / kind
        folder.mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (8, 8), (0, 0, index)).save(folder / f"{index}.png")
    point = {"data.name": "image_folder", "data.root": str(tmp_path), "data.cache": str(tmp_path / "cache")}
    with pytest.raises(DatasetDamaged, match="all training images have one value in channel 0"):
        start(config(**point))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:7"])
def test_a_device_that_is_not_here_is_a_problem_of_the_trial(name):
    with pytest.raises(ConfigError, match=r"device: must be one of the 0 GPUs that torch finds on this machine"):
        start(config(device=name))


def test_the_trained_model_comes_back_in_eval_mode():
    assert not any(module.training for module in train(config(epochs=1)).model.modules())


def test_overfitting_to_the_training_attack_is_measured_and_can_fail_the_trial():
    settings = {"adversarial.epsilon": 0.3, "adversarial.max_robust_drop": 1e-9}
    with pytest.raises(AttackOverfitted, match="catastrophic overfitting") as caught:
        train(config(epochs=40, **settings))
    assert caught.value.now < caught.value.before
    assert caught.value.epoch > 1
    tolerant = train(config(epochs=caught.value.epoch, **{"adversarial.epsilon": 0.3}))
    assert all(0 <= report.metrics["train/pgd_accuracy"] <= 1 for report in tolerant.reports)


def test_precision_is_that_of_the_step_and_not_of_the_evaluation():
    half, full = (train(config(epochs=1, precision=name)) for name in ("bfloat16", "float32"))
    assert half.model.head.weight.dtype == full.model.head.weight.dtype == torch.float32
    assert half.metrics["train/ce"] != full.metrics["train/ce"]
    assert half.metrics["train/ce"] == pytest.approx(full.metrics["train/ce"], rel=0.05)


def test_augmentation_varies_training_and_leaves_validation_alone():
    varied, plain = (start(config(**point)) for point in ({"data.rotation": 30.0}, {}))
    assert torch.equal(varied.run.val_split.images_NCHW, plain.run.val_split.images_NCHW)
    losses = [loop.run_epoch().metrics["train/ce"] for loop in (varied, plain)]
    assert losses[0] > losses[1]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_trial_learns_as_an_uncompiled_one():
    compiled, eager = (train(config(epochs=2, compile=flag)).metrics for flag in (True, False))
    assert compiled["train/ce"] == pytest.approx(eager["train/ce"], rel=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_combination
def test_every_combination_trains_on_a_gpu(point):
    on_gpu = train(config(**point, device="cuda"))
    assert on_gpu.metrics["val/accuracy"] > 0.5
    assert on_gpu.metrics["cost/gpu_s"] > 0
