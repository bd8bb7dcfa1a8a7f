"""One battery over the registry of models."""

import pytest
import torch
from torch import nn

from trainables.config import ModelConfig, TrialConfig
from trainables.errors import ConfigError
from trainables.mixup import Mix, interpolate
from trainables.models import MODELS, build, check_layers, resolve_boundaries, resolve_taps

every_model = pytest.mark.parametrize("name", MODELS)
every_size = pytest.mark.parametrize("image_shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])


def make(name, *, image_shape=(1, 8, 8), width=0.5, **settings):
    return build(ModelConfig(name=name, width=width), image_shape=image_shape, num_classes=10, **settings)


def pixels(image_shape=(1, 8, 8), size=6):
    return torch.rand(size, *image_shape, generator=torch.Generator().manual_seed(2))


@every_model
@every_size
@pytest.mark.parametrize("width", [0.1, 1.0, 2.0])
def test_model_gives_logits_for_every_size_and_width(name, image_shape, width):
    model = make(name, image_shape=image_shape, width=width)
    assert model(pixels(image_shape)).shape == (6, 10)


@every_model
@every_size
def test_model_builds_on_the_meta_device(name, image_shape):
    model = make(name, image_shape=image_shape, device="meta")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model(torch.empty(2, *image_shape, device="meta")).shape == (2, 10)


@every_model
def test_width_scales_the_number_of_parameters(name):
    sizes = [sum(p.numel() for p in make(name, width=width).parameters()) for width in (0.5, 1.0, 2.0)]
    assert sizes[0] < sizes[1] < sizes[2]


@every_model
def test_taps_end_in_penultimate_and_logits_and_boundaries_begin_at_the_input(name):
    model = make(name)
    assert model.taps[-2:] == ("penultimate", "logits")
    assert model.boundaries[0] == "input"
    assert model.boundaries[1:] == model.taps[:-2]


@every_model
def test_every_tap_is_read_after_its_nonlinearity(name):
    model, x = make(name), pixels()
    read = model.features(x, taps=model.taps)
    assert tuple(read.taps) == model.taps
    assert torch.equal(read.taps["logits"], read.logits)
    assert all((read.taps[tap] >= 0).all() for tap in model.taps[:-1])


@every_model
def test_plain_call_equals_features(name):
    model, x = make(name).eval(), pixels()
    assert torch.equal(model(x), model.features(x, taps=model.taps).logits)


@every_model
def test_mixing_at_a_boundary_mixes_that_state_and_reads_its_tap_before(name):
    model, x = make(name).eval(), pixels()
    clean = model.features(x, taps=model.taps)
    permutation = torch.tensor([1, 2, 3, 4, 5, 0])
    for boundary in model.boundaries[1:]:
        mixed = model.features(x, mix=Mix(boundary, 0.3, permutation), taps=model.taps)
        state = interpolate(clean.taps[boundary], lam=0.3, permutation=permutation)
        torch.testing.assert_close(mixed.taps[boundary], clean.taps[boundary])
        later = list(model.stages)[list(model.stages).index(boundary) + 1 :]
        for stage in later:
            state = model.stages[stage](state)
        torch.testing.assert_close(mixed.logits, model.head(state))
        assert not torch.allclose(mixed.logits, clean.logits)


@every_model
def test_mixing_the_input_equals_mixing_the_images(name):
    model, x = make(name, mean=(0.3,), std=(0.2,)).eval(), pixels()
    mixture = Mix("input", 0.6, torch.tensor([5, 4, 3, 2, 1, 0]))
    torch.testing.assert_close(
        model.features(x, mix=mixture).logits,
        model(interpolate(x, lam=mixture.lam, permutation=mixture.permutation)),
    )


@every_model
def test_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    first = make(name, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = make(name, seed=3).state_dict(), make(name, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_model
def test_building_leaves_the_global_generator_alone(name):
    before = torch.get_rng_state()
    make(name)
    assert torch.equal(torch.get_rng_state(), before)


@every_model
def test_every_parameter_and_buffer_is_filled_with_finite_numbers(name):
    model = make(name)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert all(module.running_var.eq(1).all() for module in model.modules() if isinstance(module, nn.BatchNorm2d))


@every_model
def test_normalisation_is_inside_the_model(name):
    x = pixels()
    plain, normalising = make(name).eval(), make(name, mean=(0.25,), std=(0.5,)).eval()
    torch.testing.assert_close(normalising(x), plain((x - 0.25) / 0.5))


@every_model
def test_gradients_reach_every_parameter(name):
    model = make(name)
    model(pixels()).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters() if parameter.dim() > 1)


@every_model
def test_layer_strings_resolve_in_the_order_of_the_model(name):
    model = make(name)
    first, second = model.taps[:2]
    assert resolve_taps(f"{second}+{first}", model) == (first, second)
    assert resolve_taps("hidden", model) == model.taps[:-2]
    assert resolve_taps("all", model) == model.taps
    assert resolve_taps(f"hidden+{first}+logits", model) == (*model.taps[:-2], "logits")
    assert resolve_boundaries("hidden", model) == model.boundaries[1:]
    assert resolve_boundaries("input+hidden", model) == resolve_boundaries("all", model) == model.boundaries


@every_model
def test_unknown_taps_and_boundaries_are_refused(name):
    model, x = make(name), pixels()
    with pytest.raises(ValueError, match="taps: must be among"):
        model.features(x, taps=("nowhere",))
    with pytest.raises(ValueError, match=r"mix\.boundary: must be one of"):
        model.features(x, mix=Mix("penultimate", 0.5, torch.arange(6)))


def test_all_wrong_layers_of_a_trial_are_reported_at_once_without_data():
    config = TrialConfig.from_point(
        {"data.name": "mnist", "snnl.layers": "conv1+convv2+fc9", "mixup.layers": "penultimate"}
    )
    with pytest.raises(ConfigError) as caught:
        check_layers(config)
    assert [problem.path for problem in caught.value.problems] == ["snnl.layers", "snnl.layers", "mixup.layers"]
    assert "did you mean 'conv2'?" in str(caught.value)
