"""One battery over the registry of models: every network, and every choice that one has."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from trainables.config.trial import ModelConfig, TrialConfig
from trainables.errors import ConfigError
from trainables.mixup import Mix, interpolate
from trainables.models import MODELS, build, check_layers, resolve_boundaries, resolve_taps
from trainables.models.cnn import CoveringConvolution

NETWORKS = {
    **{name: {"name": name} for name in MODELS},
    **{
        f"{name}, no final norm": {"name": name, "final_norm": False}
        for name, network in MODELS.items()
        if network.without_final_norm is not None
    },
}
SIZES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
ROTATED = torch.tensor([1, 2, 3, 0])

every_model = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
every_size = pytest.mark.parametrize("image_shape", SIZES, ids=str)


def make(network, *, image_shape=(1, 8, 8), width=1 / 8, **how):
    return build(ModelConfig(width=width, **network), image_shape=image_shape, num_classes=10, **how)


def pixels(image_shape=(1, 8, 8), size=4):
    return torch.rand(size, *image_shape, generator=torch.Generator().manual_seed(2))


def gradients(model, x, *, mix=None):
    """The sum of absolute gradients of each parameter, 0 where none arrives."""
    labels = torch.arange(len(x)) % 10
    functional.cross_entropy(model.features(x, mix=mix).logits, labels).backward()
    return {
        name: 0.0 if value.grad is None else value.grad.abs().sum().item() for name, value in model.named_parameters()
    }


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_network_without_normalisation_sees_the_pixels_as_they_are(name):
    chosen = ModelConfig(name=name, width=0.1, normalize=False)
    model = build(chosen, image_shape=(3, 8, 8), num_classes=4, mean=(0.5,), std=(0.2,))
    assert model.mean.flatten().tolist() == [0.0] * 3
    assert model.std.flatten().tolist() == [1.0] * 3


@every_model
@every_size
@pytest.mark.parametrize("width", [0.1, 1.0, 2.0])
def test_model_builds_for_every_size_and_width_without_memory(network, image_shape, width):
    model = make(network, image_shape=image_shape, width=width, device="meta")
    assert {value.device.type for value in model.state_dict().values()} == {"meta"}
    assert model(torch.empty(2, *image_shape, device="meta")).shape == (2, 10)


@every_model
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(extra=st.tuples(st.integers(0, 32), st.integers(0, 32)), channels=st.integers(1, 4))
def test_model_takes_images_of_any_shape_from_its_smallest_side_on(network, extra, channels):
    smallest = MODELS[network["name"]].smallest_side
    image_shape = (channels, smallest + extra[0], smallest + extra[1])
    model = make(network, image_shape=image_shape, device="meta")
    assert model(torch.empty(2, *image_shape, device="meta")).shape == (2, 10)


@every_model
@every_size
def test_gradients_reach_every_parameter(network, image_shape):
    model = make(network, image_shape=image_shape)
    assert all(value > 0 for value in gradients(model, pixels(image_shape)).values())


@every_model
def test_width_scales_the_number_of_parameters(network):
    sizes = [sum(p.numel() for p in make(network, width=width, device="meta").parameters()) for width in (0.5, 1, 2)]
    assert sizes[0] < sizes[1] < sizes[2]


@every_model
def test_taps_end_in_penultimate_and_logits_and_boundaries_begin_at_the_input(network):
    model = make(network, device="meta")
    assert model.taps[-2:] == ("penultimate", "logits")
    assert model.boundaries == ("input", *model.taps[:-2])


@every_model
@every_size
def test_penultimate_tap_is_what_the_head_reads(network, image_shape):
    model = make(network, image_shape=image_shape)
    read = model.features(pixels(image_shape), taps=("penultimate",))
    assert read.taps["penultimate"].dim() == 2
    assert torch.equal(model.head(read.taps["penultimate"]), read.logits)


@every_model
def test_only_the_taps_asked_for_are_kept(network):
    model, x = make(network).eval(), pixels()
    read = model.features(x, taps=model.taps)
    assert tuple(read.taps) == model.taps
    assert torch.equal(read.taps["logits"], read.logits)
    assert tuple(model.features(x, taps=model.taps[1:2]).taps) == model.taps[1:2]
    assert model.features(x).taps == {}


@every_model
def test_plain_call_equals_features(network):
    model, x = make(network).eval(), pixels()
    assert torch.equal(model(x), model.features(x, taps=model.taps).logits)


@every_model
def test_mixing_at_a_boundary_mixes_that_state_and_reads_its_tap_before(network):
    model, x = make(network).eval(), pixels()
    clean = model.features(x, taps=model.taps)
    for boundary in model.boundaries[1:]:
        mixed = model.features(x, mix=Mix(boundary, 0.3, ROTATED), taps=model.taps)
        state = interpolate(clean.taps[boundary], lam=0.3, permutation=ROTATED)
        torch.testing.assert_close(mixed.taps[boundary], clean.taps[boundary])
        later = list(model.stages)[list(model.stages).index(boundary) + 1 :]
        for stage in later:
            state = model.stages[stage](state)
        torch.testing.assert_close(mixed.logits, model.head(state))


@every_model
def test_mixing_the_input_equals_mixing_the_images(network):
    model, x = make(network, mean=(0.3,), std=(0.2,)).eval(), pixels()
    mixed = model.features(x, mix=Mix("input", 0.6, ROTATED)).logits
    torch.testing.assert_close(mixed, model(interpolate(x, lam=0.6, permutation=ROTATED)))


@every_model
def test_every_boundary_changes_the_logits_unless_all_of_the_original_is_kept(network):
    model, x = make(network).eval(), pixels()
    clean = model(x)
    for boundary in model.boundaries:
        assert not torch.allclose(model.features(x, mix=Mix(boundary, 0.5, ROTATED)).logits, clean)
        torch.testing.assert_close(model.features(x, mix=Mix(boundary, 1.0, ROTATED)).logits, clean)


@every_model
def test_a_detached_mixture_stops_the_gradient_at_its_boundary(network):
    for boundary in make(network, device="meta").boundaries[1:]:
        model = make(network)
        arriving = gradients(model, pixels(), mix=Mix(boundary, 0.4, ROTATED, detached=True))
        before = list(model.stages)[: list(model.stages).index(boundary) + 1]
        blocked = tuple(f"stages.{stage}." for stage in before)
        assert {name for name, value in arriving.items() if value == 0} == {
            name for name in arriving if name.startswith(blocked)
        }


@every_model
def test_weights_and_hidden_images_are_channels_last_also_after_a_mixture(network):
    model = make(network, image_shape=(3, 32, 32))
    filters = [value for value in model.parameters() if value.dim() == 4]
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in filters)
    for boundary in model.boundaries:
        taps = model.features(pixels((3, 32, 32)), mix=Mix(boundary, 0.4, ROTATED), taps=model.taps).taps
        images = [tap for tap in taps.values() if tap.dim() == 4]
        assert all(tap.is_contiguous(memory_format=torch.channels_last) for tap in images)


@every_model
def test_weights_depend_on_the_seed_alone(network):
    torch.manual_seed(1)
    first = make(network, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = make(network, seed=3).state_dict(), make(network, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_model
def test_building_leaves_the_global_generator_alone(network):
    before = torch.get_rng_state()
    make(network)
    assert torch.equal(torch.get_rng_state(), before)


@every_model
def test_equal_training_steps_give_equal_bits(network):
    def step():
        model = make(network, seed=5)
        functional.cross_entropy(model(pixels()), torch.arange(4)).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(parameter.grad, alpha=0.1)
        return model.state_dict()

    first, second = step(), step()
    assert all(torch.equal(first[key], second[key]) for key in first)


@every_model
def test_every_parameter_and_buffer_is_filled_with_finite_numbers(network):
    model = make(network)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert all(module.running_var.eq(1).all() for module in model.modules() if isinstance(module, nn.BatchNorm2d))


@every_model
def test_weights_start_at_the_variance_of_he_and_biases_at_zero(network):
    model = make(network, image_shape=(3, 32, 32), width=0.5)
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    large = [layer for layer in layers if layer.weight.numel() > 4000]
    assert len(large) >= 2
    for layer in large:
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
    assert all((layer.bias == 0).all() for layer in layers if layer.bias is not None)


@every_model
def test_a_state_taken_from_one_model_makes_another_predict_alike(network):
    x = pixels((3, 32, 32))
    model = make(network, image_shape=(3, 32, 32), seed=1, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    model(x)
    other = make(network, image_shape=(3, 32, 32), seed=2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(x), model.eval()(x))


@every_model
def test_normalisation_is_inside_the_model(network):
    x = pixels((3, 32, 32))
    mean, std = (0.25, 0.5, 0.75), (0.5, 0.25, 1.0)
    plain = make(network, image_shape=(3, 32, 32)).eval()
    normalising = make(network, image_shape=(3, 32, 32), mean=mean, std=std).eval()
    columns = [torch.tensor(value).reshape(1, 3, 1, 1) for value in (mean, std)]
    torch.testing.assert_close(normalising(x), plain((x - columns[0]) / columns[1]))
    assert not torch.allclose(normalising(x), plain(x))


@every_model
def test_an_image_in_eval_mode_is_seen_alone(network):
    model, x = make(network), pixels(size=6)
    model(x)
    together = model.eval()(x)
    alone = torch.cat([model(image[None]) for image in x])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


@every_model
def test_layer_strings_resolve_in_the_order_of_the_model(network):
    model = make(network, device="meta")
    first, second = model.taps[:2]
    assert resolve_taps(f"{second}+{first}", model) == (first, second)
    assert resolve_taps("hidden", model) == model.taps[:-2]
    assert resolve_taps("all", model) == model.taps
    assert resolve_taps(f"hidden+{first}+logits", model) == (*model.taps[:-2], "logits")
    assert resolve_boundaries("hidden", model) == model.boundaries[1:]
    assert resolve_boundaries("input+hidden", model) == resolve_boundaries("all", model) == model.boundaries


@every_model
def test_unknown_taps_and_boundaries_are_refused(network):
    model, x = make(network), pixels()
    with pytest.raises(ValueError, match="taps: must be among"):
        model.features(x, taps=("nowhere",))
    with pytest.raises(ValueError, match=r"mix\.boundary: must be one of"):
        model.features(x, mix=Mix("penultimate", 0.5, ROTATED))


@pytest.mark.parametrize("name", [name for name, network in MODELS.items() if network.smallest_side > 1])
@pytest.mark.parametrize("narrow", [0, 1])
def test_images_too_small_for_the_model_are_refused_with_those_that_take_them(name, narrow):
    smallest = MODELS[name].smallest_side
    sides = [smallest, smallest]
    sides[narrow] -= 1
    law = rf"model\.name: {name} needs images of at least {smallest}x{smallest}, got {sides[0]}x{sides[1]}; choose mlp"
    with pytest.raises(ConfigError, match=law):
        make({"name": name}, image_shape=(1, *sides), device="meta")


@pytest.mark.parametrize("name", [name for name, network in MODELS.items() if network.without_final_norm is None])
@pytest.mark.parametrize("value", [True, False])
def test_a_final_norm_is_refused_where_it_is_no_choice(name, value):
    config = TrialConfig.from_point({"model.name": name, "model.final_norm": value})
    with pytest.raises(ConfigError) as caught:
        check_layers(config)
    (problem,) = caught.value.problems
    assert problem.path == "model.final_norm"
    assert problem.message.startswith(f"{name} has no such choice, got {str(value).lower()}; leave it out, or choose ")


def test_all_problems_of_a_model_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        make({"name": "cnn", "final_norm": True}, image_shape=(1, 4, 4), device="meta")
    assert [problem.path for problem in caught.value.problems] == ["model.name", "model.final_norm"]


def test_all_wrong_layers_of_a_trial_are_reported_at_once_without_data():
    config = TrialConfig.from_point(
        {"data.name": "mnist", "snnl.layers": "conv1+convv2+fc9", "mixup.layers": "penultimate"}
    )
    with pytest.raises(ConfigError) as caught:
        check_layers(config)
    assert [problem.path for problem in caught.value.problems] == ["snnl.layers", "snnl.layers", "mixup.layers"]
    assert "did you mean 'conv2'?" in str(caught.value)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_covering_convolution_is_a_product_with_the_values_and_gradients_of_a_convolution(memory):
    layer = CoveringConvolution(3, 5, 3).to(torch.float64).to(memory_format=memory)
    x = pixels((3, 3, 3)).to(torch.float64).to(memory_format=memory).requires_grad_()
    expected = functional.conv2d(x, layer.weight, layer.bias)
    with torch.profiler.profile() as profiler:
        got = layer(x)
    assert not any("convolution" in event.key for event in profiler.key_averages())
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    inputs = (x, layer.weight, layer.bias)
    along = torch.rand(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found, right = (torch.autograd.grad(value, inputs, along) for value in (got, expected))
    for own, other in zip(found, right, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("side", "covers"), [(8, True), (9, False), (28, True), (32, False)])
def test_the_last_convolution_of_the_published_network_is_a_product_where_it_covers_its_image(side, covers):
    model = make({"name": "cnn"}, image_shape=(1, side, side))
    kinds = [type(part) for part in model.modules() if isinstance(part, nn.Conv2d)]
    assert kinds == [nn.Conv2d, nn.Conv2d, CoveringConvolution if covers else nn.Conv2d]
    assert model(pixels((1, side, side))).shape == (4, 10)
