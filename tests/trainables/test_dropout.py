"""Dropout in the networks of this package: off by default to the last bit, unbiased, and the same after a resume."""

import pytest
import torch

from trainables.config.trial import ModelConfig, TrialConfig
from trainables.errors import ConfigError
from trainables.models import MODELS, build
from trainables.models.residual import PreActivationBlock
from trainables.tasks.classifier.run import restore, start

RATE = 0.4
SMALL = {"batch_size": 64, "epochs": 2, "data.fraction": 0.1, "model.name": "mlp", "model.width": 0.125}
SMALL |= {"device": "cpu", "evaluation.robust_epsilon": 0.0}

every_model = pytest.mark.parametrize("name", MODELS)


def make(name, dropout, *, width=1 / 8):
    return build(ModelConfig(name=name, width=width, dropout=dropout), image_shape=(1, 8, 8), num_classes=10)


def pixels(size=4):
    return torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(2))


@every_model
def test_dropout_changes_training_alone_and_neither_weights_nor_their_names(name):
    plain, model = make(name, 0.0), make(name, RATE)
    assert plain.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in plain.state_dict().items())
    assert torch.equal(plain.eval()(pixels()), model.eval()(pixels()))
    torch.manual_seed(0)
    assert not torch.equal(plain.train()(pixels()), model.train()(pixels()))


@every_model
def test_without_dropout_a_step_draws_no_random_number(name):
    before = torch.get_rng_state()
    make(name, 0.0).train()(pixels())
    assert torch.equal(before, torch.get_rng_state())


def test_logits_have_the_mean_and_the_variance_of_bernoulli_masks_on_the_penultimate_units():
    model = make("cnn", RATE, width=0.5)
    with torch.no_grad():
        exact = model.eval().features(pixels(1), taps=["penultimate"])
        torch.manual_seed(0)
        drawn = model.train().features(pixels(1).expand(4_000, -1, -1, -1), taps=["penultimate"])
    variance = RATE / (1 - RATE) * (model.head.weight * exact.taps["penultimate"]).square().sum(1)
    error = (drawn.logits.mean(0) - exact.logits[0]) / (variance / 4_000).sqrt()
    assert error.abs().max() < 4
    torch.testing.assert_close(drawn.logits.var(0), variance, rtol=0.2, atol=0)
    assert drawn.taps["penultimate"].std(0).max() < 1e-5  # the tap is read before its dropout


def test_every_hidden_layer_of_the_perceptron_is_dropped_and_scaled():
    model = make("mlp", RATE, width=1.0).train()
    torch.manual_seed(0)
    with torch.no_grad():
        logits = model(pixels(3))
        torch.manual_seed(0)
        h = (pixels(3) - model.mean) / model.std
        for stage in model.stages.values():
            h = stage(h)
            h = h * torch.empty_like(h).bernoulli_(1 - RATE) / (1 - RATE)
        torch.testing.assert_close(logits, model.head(h))


def test_the_block_of_a_wide_network_drops_between_its_convolutions_without_bias():
    block = PreActivationBlock(4, 4, stride=1, dropout=RATE).eval()
    x = torch.rand(1, 4, 5, 5)
    with torch.no_grad():
        exact = block(x)
        block.training = True  # its normalisations stay in eval mode, so its last convolution is linear in the mask
        torch.manual_seed(0)
        drawn = block(x.expand(5000, -1, -1, -1))
    assert drawn.std(0).min() > 0
    assert ((drawn.mean(0) - exact[0]) / (drawn.std(0) / 5000**0.5)).abs().max() < 4.5


def test_a_trial_with_dropout_that_is_resumed_ends_in_the_same_bits_and_leaves_the_global_generator(tmp_path):
    config = TrialConfig.from_point({**SMALL, "model.dropout": RATE})
    before = torch.get_rng_state()
    whole = start(config)
    whole.run_epoch()
    whole.save(tmp_path)
    torch.rand(7)
    torch.set_rng_state(before)
    whole.run_epoch()
    resumed = restore(tmp_path, config=config)
    torch.rand(7)
    state = torch.get_rng_state()
    resumed.run_epoch()
    assert torch.equal(state, torch.get_rng_state())
    one, other = (loop.run.model.state_dict() for loop in (whole, resumed))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_configuration_without_dropout_is_written_as_before_it_and_one_with_it_is_read_back():
    assert "dropout" not in TrialConfig().model_dump_json()
    assert TrialConfig.from_point({"model.dropout": 0.0}).model_dump_json() == TrialConfig().model_dump_json()
    config = TrialConfig.from_point({"model.dropout": 0.25})
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"model.dropout": 1.0}, "model.dropout: must be < 1, got 1"),
        (
            {"model.name": "nets:Net", "model.dropout": 0.5},
            "model.dropout: must be left out for 'nets:Net', got 0.5; its parameters are model.args.*",
        ),
    ],
)
def test_a_wrong_dropout_is_refused_at_its_place(point, message):
    with pytest.raises(ConfigError) as caught:
        TrialConfig.from_point(point)
    assert message in str(caught.value)
