"""Networks of users: one battery over hand-written ones of every kind, and over one of torchvision."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables import import_paths
from trainables.config.trial import ModelConfig, TrialConfig
from trainables.errors import CheckpointError, ConfigError
from trainables.mixup import Mix, interpolate
from trainables.models import build, check_layers, measured_taps, resolve_boundaries, resolve_taps
from trainables.models.layers import describe
from trainables.models.loading import load_model
from trainables.models.own import without_pretrained
from trainables.tasks.classifier.run import restore, start

ASSETS = Path(__file__).parent / "assets"
MESSAGES = ASSETS / "own_model_messages.txt"
ROTATED = torch.tensor([1, 2, 3, 0])
NETWORKS = {
    "hand-written": {"name": "own_networks:HandWritten"},
    "blocks": {"name": "own_networks:Blocks"},
    "sequential": {"name": "own_networks:sequential"},
    "wrapped": {"name": "own_networks:Wrapped"},
    "torchvision": {"name": "torchvision:resnet18"},
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
# Lazy layers, which `sequential` has, warn that they are new.
pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")


@pytest.fixture(autouse=True)
def own_folder(monkeypatch):
    monkeypatch.syspath_prepend(str(ASSETS))


def make(network, *, image_shape=(1, 8, 8), **how):
    return build(ModelConfig(**network), image_shape=image_shape, num_classes=10, **how)


def pixels(image_shape=(1, 8, 8), size=4):
    return torch.rand(size, *image_shape, generator=torch.Generator().manual_seed(2))


def noiseless(model):
    """Have the network that adds noise in eval mode add the same noise to every call."""
    plain = model.eval().features

    def features(*arguments, **named):
        torch.manual_seed(0)
        return plain(*arguments, **named)

    model.features = features
    return model


def hooks_of(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.fixture(autouse=True)
def global_generators_as_before():
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


# Names


@every_network
def test_names_and_shapes_are_the_same_with_weights_and_without(network):
    without, with_weights = make(network, device="meta"), make(network)
    assert describe(without, (1, 8, 8)) == describe(with_weights, (1, 8, 8))
    assert without.layout == with_weights.layout


def test_names_are_found_without_memory_where_the_network_allows_it():
    devices = {name: make(network, device="meta").mean.device.type for name, network in NETWORKS.items()}
    assert devices == {**dict.fromkeys(NETWORKS, "meta"), "blocks": "cpu", "wrapped": "cpu"}


@every_network
def test_taps_and_boundaries_have_groups_as_those_of_our_networks(network):
    model = make(network, device="meta")
    hidden = resolve_taps("hidden", model)
    assert resolve_taps("all", model) == model.taps == (*hidden, *[t for t in model.taps if t not in hidden])
    assert model.taps[-1] == "logits"
    assert resolve_boundaries("all", model) == model.boundaries == ("input", *hidden[:-1])
    assert set(model.taps) <= set(model.readable)
    assert set(model.boundaries) <= set(model.mixable)


def test_the_groups_of_each_network_are_its_children_in_the_order_in_which_they_run():
    taps = {name: make(network, device="meta").taps for name, network in NETWORKS.items()}
    stages = {name: tuple(tap for tap in names if tap not in {"penultimate", "logits"}) for name, names in taps.items()}
    assert stages == {
        "hand-written": ("conv1", "bn1", "conv2", "bn2", "drop"),
        "blocks": ("stem", "blocks.0", "blocks.1", "blocks.2"),
        "sequential": ("0", "1", "2", "3", "4", "5", "6"),
        "wrapped": ("net.0", "net.1", "net.2", "net.3"),
        "torchvision": ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"),
    }
    assert [name for name, names in taps.items() if "penultimate" not in names] == ["wrapped"]


def test_a_module_that_cannot_be_named_says_why():
    model = make({"name": "own_networks:Strange"})
    assert model.taps == ("first", "penultimate", "logits")
    assert dict(model.unnamed) == {
        "hidden": "this name is reserved; rename the attribute",
        "twice": "it runs 2 times",
        "never": "it never runs",
        "recurrent": "it returns a tuple, not one tensor",
        "mean": "it returns () for 3 images, not a row for each",
        "classes": "it returns int64",
        "training_only": "it never runs",
        "with-hyphen": "its name has other characters than letters, digits, _ and .",
        "alias": "it is the same module as first",
    }
    with pytest.raises(ConfigError, match=r"snnl\.layers: 'twice' cannot be named, as it runs 2 times"):
        resolve_taps("first+twice", model)


def test_a_named_module_is_measured_with_the_group():
    model = make(NETWORKS["blocks"], device="meta")
    assert measured_taps("blocks.1.conv", model) == (
        *("stem", "blocks.0", "blocks.1.conv", "blocks.1", "blocks.2", "penultimate", "logits"),
    )
    config = TrialConfig.from_point({"model.name": "own_networks:Blocks", "epochs": 1, "snnl.layers": "blocks.1.conv"})
    assert "entanglement/blocks.1.conv" in start(config).run_epoch().metrics


def test_a_tap_follows_a_boundary_that_ends_before_it():
    model = make(NETWORKS["torchvision"], device="meta")
    taps = ("layer1", "layer2.0.conv1", "layer2", "penultimate", "logits")
    assert [model.follows(tap, "layer2") for tap in taps] == [False, False, False, True, True]
    assert [model.follows(tap, "input") for tap in taps] == [True] * 5


# Reading and mixing


@every_network
def test_every_tap_is_the_output_of_its_module_when_it_ended(network):
    model, outputs, x = noiseless(make(network)), {}, pixels()
    for path in set(model.readable) - {"penultimate", "logits"}:
        keep = lambda _m, _a, output, path=path: outputs.__setitem__(path, output.clone())  # noqa: E731
        model.module.get_submodule(path).register_forward_hook(keep)
    read = model.features(x, taps=model.readable)
    assert set(read.taps) == set(model.readable)
    assert all(torch.equal(read.taps[path], output) for path, output in outputs.items())
    assert torch.equal(read.taps["logits"], read.logits)
    if "penultimate" in read.taps:
        head = model.module.get_submodule(model.layout.head)
        assert torch.equal(head(read.taps["penultimate"]), read.logits)


@every_network
def test_only_the_taps_asked_for_are_kept_and_reading_changes_nothing(network):
    model, x = noiseless(make(network)), pixels()
    plain = model.features(x)
    assert plain.taps == {}
    assert tuple(model.features(x, taps=model.taps[:2]).taps) == model.taps[:2]
    assert torch.equal(model.features(x, taps=model.readable).logits, plain.logits)


@every_network
def test_hooks_are_there_only_during_a_call(network):
    model, x = make(network), pixels()
    model.features(x, taps=model.readable, mix=Mix(model.boundaries[1], 0.5, ROTATED))
    with pytest.raises(RuntimeError):
        model.features(pixels((5, 8, 8)), taps=model.readable)
    assert hooks_of(model) == 0


@every_network
def test_a_tap_is_read_before_the_mixture_and_those_that_follow_after(network):
    model, x = noiseless(make(network)), pixels()
    clean = model.features(x, taps=model.readable)
    for boundary in model.mixable:
        mixed = model.features(x, mix=Mix(boundary, 0.3, ROTATED), taps=model.readable)
        before = [tap for tap in model.readable if not model.follows(tap, boundary)]
        assert boundary == "input" or boundary in before
        assert all(torch.equal(mixed.taps[tap], clean.taps[tap]) for tap in before)
        assert not torch.equal(mixed.logits, clean.logits)
        same = model.features(x, mix=Mix(boundary, 1.0, ROTATED)).logits
        torch.testing.assert_close(same, clean.logits)


def test_mixing_at_a_module_of_a_chain_mixes_that_state():
    model, x = make(NETWORKS["sequential"]).eval(), pixels()
    clean = model.features(x, taps=model.taps).taps
    for place, boundary in enumerate(model.mixable[1:]):
        mixed = model.features(x, mix=Mix(boundary, 0.3, ROTATED)).logits
        state = interpolate(clean[boundary], lam=0.3, permutation=ROTATED)
        torch.testing.assert_close(mixed, model.module[place + 1 :](state))


@every_network
def test_mixing_the_input_equals_mixing_the_images(network):
    model, x = noiseless(make(network, mean=(0.3,), std=(0.2,))), pixels()
    mixed = model.features(x, mix=Mix("input", 0.6, ROTATED)).logits
    torch.testing.assert_close(mixed, model(interpolate(x, lam=0.6, permutation=ROTATED)))


@every_network
def test_gradients_reach_every_parameter_and_the_image(network):
    model, x = make(network), pixels().requires_grad_()
    functional.cross_entropy(model(x), torch.arange(4)).backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in [*model.parameters(), x])


def test_unknown_taps_and_boundaries_are_refused():
    model, x = make(NETWORKS["hand-written"]), pixels()
    with pytest.raises(ValueError, match="taps: must be among"):
        model.features(x, taps=("act",))
    with pytest.raises(ValueError, match=r"mix\.boundary: must be one of"):
        model.features(x, mix=Mix("fc", 0.5, ROTATED))


def test_a_module_that_training_leaves_out_is_an_error_of_its_name():
    model = make({"name": "own_networks:Blocks", "args": {"skipped": 0.5}})
    taps = [tap for tap in model.readable if tap.endswith(".conv")]
    model.train()

    def read():
        for _ in range(20):
            model.features(pixels(), taps=taps)

    with pytest.raises(ValueError, match=r"^blocks\.\d\.conv: must run once in each forward pass to be named, ran 0"):
        read()


# Weights and random numbers


@every_network
def test_weights_depend_on_the_seed_alone_and_the_global_generators_are_left_alone(network):
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = make(network, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()  # noqa: NPY002
    torch.manual_seed(2)
    random.seed(2)
    repeated, other = make(network, seed=3).state_dict(), make(network, seed=4).state_dict()
    assert all(torch.equal(first[key], repeated[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_weights_are_those_of_the_network_itself():
    model = make(NETWORKS["hand-written"], seed=3)
    bound = 1 / 9**0.5
    assert 0.8 * bound < float(model.module.conv1.weight.detach().abs().max()) <= bound  # torch's own, not He's


def test_images_are_normalised_before_the_network_unless_it_does_so_itself():
    x = pixels()
    ours = make(NETWORKS["hand-written"], mean=(0.5,), std=(0.25,)).eval()
    own = make({**NETWORKS["hand-written"], "normalize": False}, mean=(0.5,), std=(0.25,)).eval()
    assert torch.equal(own(x), own.module(x))
    torch.testing.assert_close(ours(x), own((x - 0.5) / 0.25))


METHODS = {
    "plain": {"optimizer.ema_decay": 0.8},
    "all": {
        "snnl.weight": -0.1,
        "snnl.on_mixed": True,
        "snnl.layers": "{tap}+logits",
        "mixup.alpha": 1.0,
        "mixup.layers": "input+{boundary}",
        "adversarial.epsilon": 0.1,
    },
}
SMALL = {"batch_size": 400, "epochs": 2, "evaluation.robust_images": 20, "evaluation.robust_steps": 1}
TRAINED = {
    "hand-written": ("own_networks:HandWritten", "bn1", "conv2", {"model.args.dropout": 0.5}),
    "blocks": ("own_networks:Blocks", "blocks.1", "blocks.0", {"model.args.skipped": 0.5}),
    "sequential": ("own_networks:sequential", "0", "2", {"model.args.dropout": 0.5}),
    "wrapped": ("own_networks:Wrapped", "net.0", "net.1", {}),
}


def measured(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith(("time/", "cost/"))}


def trial(network, methods):
    name, tap, boundary, arguments = TRAINED[network]
    point = {
        key: value.format(tap=tap, boundary=boundary) if isinstance(value, str) else value
        for key, value in METHODS[methods].items()
    }
    return TrialConfig.from_point({**SMALL, **point, **arguments, "model.name": name})


@pytest.mark.parametrize("methods", METHODS)
@pytest.mark.parametrize("network", TRAINED)
def test_a_trial_resumed_after_an_epoch_ends_in_the_same_bits_whatever_the_global_generators_hold(
    network, methods, tmp_path
):
    config = trial(network, methods)
    check_layers(config)
    whole = start(config)
    whole.run_epoch()
    whole.save(tmp_path)
    expected = measured(whole.run_epoch().metrics)
    torch.manual_seed(7)
    random.seed(7)
    resumed = restore(tmp_path, config=config)
    assert measured(resumed.run_epoch().metrics) == expected
    weights = resumed.run.evaluated_model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in whole.run.evaluated_model.state_dict().items())


def test_training_leaves_the_global_generators_alone():
    loop = start(trial("hand-written", "plain"))
    before = torch.get_rng_state(), random.getstate()
    loop.run_epoch()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_dropout_is_drawn_anew_in_each_epoch_and_for_each_seed():
    def masks(seed, epoch):
        run = start(TrialConfig.from_point({**SMALL, "model.name": "own_networks:HandWritten", "seed": seed})).run
        with run._global_streams("training", epoch):
            return torch.rand(8).tolist()

    assert masks(0, 1) == masks(0, 1)
    assert masks(0, 1) != masks(0, 2)
    assert masks(0, 1) != masks(1, 1)


def test_our_network_rebuilt_by_hand_trains_alike():
    methods = {
        "snnl.weight": 0.1,
        "mixup.alpha": 1.0,
        "adversarial.epsilon": 0.05,
        "adversarial.attack": "pgd",
        "adversarial.steps": 2,
        "optimizer.lr": 0.01,
        "precision": "float32",
    }
    common = {**SMALL, **methods, "epochs": 1}
    ours = TrialConfig.from_point(
        {**common, "model.name": "cnn", "snnl.layers": "conv1+conv2", "mixup.layers": "conv1+conv2"}
    )
    own = TrialConfig.from_point(
        {**common, "model.name": "own_networks:plain_cnn", "snnl.layers": "0+1", "mixup.layers": "0+1"}
    )
    first, second = start(ours), start(own)
    weights = [*first.run.model.parameters()]
    with torch.no_grad():
        for parameter, value in zip(second.run.model.parameters(), weights, strict=True):
            parameter.copy_(value)
    one, other = first.run_epoch().metrics, second.run_epoch().metrics
    for name in ("train/loss", "train/snnl", "val/nll", "val/accuracy", "val/robust_accuracy", "entanglement/logits"):
        assert other[name] == pytest.approx(one[name], rel=2e-3), name
    assert other["entanglement/1"] == pytest.approx(one["entanglement/conv2"], rel=2e-3)


# Checkpoints


@pytest.mark.parametrize("network", TRAINED)
def test_a_saved_model_predicts_alike(network, tmp_path):
    loop = start(trial(network, "plain"))
    loop.run_epoch()
    loop.save(tmp_path)
    loaded, x = noiseless(load_model(tmp_path)), pixels()
    assert not loaded.training
    assert torch.equal(loaded(x), noiseless(loop.run.evaluated_model)(x))


NARROW = "import torch\n\n\ndef net(num_classes):\n    return torch.nn.Sequential(torch.nn.Flatten(), {layers})\n"


def test_a_network_whose_code_changed_is_refused_with_what_changed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "changing_network.py"
    file.write_text(NARROW.format(layers="torch.nn.Linear(64, num_classes)"))
    config = TrialConfig.from_point({**SMALL, "model.name": "changing_network:net"})
    loop = start(config)
    loop.run_epoch()
    loop.save(tmp_path / "saved")
    file.write_text(NARROW.format(layers="torch.nn.Linear(64, 32), torch.nn.Linear(32, num_classes)"))
    del sys.modules["changing_network"]
    law = (
        r"saved: 'changing_network:net' is another network now: 'module\.1\.weight' was \(10, 64\), is \(32, 64\) "
        r"and 3 more; restore the code and the versions of libraries that it was trained with"
    )
    for read in (lambda: restore(tmp_path / "saved", config=config), lambda: load_model(tmp_path / "saved")):
        with pytest.raises(CheckpointError, match=law):
            read()


# Libraries


def test_gray_images_are_repeated_for_a_network_of_three_channels():
    model, x = make(NETWORKS["torchvision"], mean=(0.4,), std=(0.3,)).eval(), pixels()
    torch.testing.assert_close(model(x), model.module(((x - 0.4) / 0.3).repeat(1, 3, 1, 1)))
    colour = make(NETWORKS["torchvision"], image_shape=(3, 8, 8)).eval()
    assert colour(pixels((3, 8, 8))).shape == (4, 10)


@pytest.fixture
def weights_file(tmp_path):
    """Write weights of a ResNet-18 of so many classes, as a user has them."""

    def write(num_classes):
        model = build(ModelConfig(name="torchvision:resnet18"), image_shape=(3, 8, 8), num_classes=num_classes, seed=9)
        torch.save(model.module.state_dict(), tmp_path / "weights.pth")
        return model.module, str(tmp_path / "weights.pth")

    return write


def test_weights_of_a_file_are_where_a_network_begins(weights_file):
    saved, path = weights_file(10)
    model = make({**NETWORKS["torchvision"], "args": {"weights": path}})
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.module.state_dict().items())


def test_a_head_of_other_classes_is_new_and_said_so(weights_file, caplog):
    saved, path = weights_file(7)
    model = make({**NETWORKS["torchvision"], "args": {"weights": path}})
    assert torch.equal(model.module.conv1.weight, saved.conv1.weight)
    assert model.module.fc.weight.shape == (10, 512)
    assert caplog.messages == [f"model.args.weights: fc has new weights, as those of {path} are of other classes"]


def test_a_checkpoint_needs_no_first_weights(weights_file, tmp_path):
    _, path = weights_file(10)
    config = TrialConfig.from_point(
        {**SMALL, "model.name": "torchvision:resnet18", "model.args.weights": path, "batch_size": 1024}
    )
    loop = start(config)
    loop.save(tmp_path / "saved")
    Path(path).unlink()
    assert torch.equal(load_model(tmp_path / "saved").module.conv1.weight, loop.run.model.module.conv1.weight)
    assert without_pretrained(config.model).args.by_name == {}


def test_dropout_of_a_library_is_an_argument():
    model = make({"name": "torchvision:mobilenet_v3_small", "args": {"dropout": 0.75}}, image_shape=(3, 32, 32))
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.75]


def test_a_package_registers_a_network_as_an_entry_point(tmp_path, monkeypatch):
    package = tmp_path / "some_networks-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: some-networks\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[ravel.models]\nhand_written = own_networks:HandWritten\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import_paths.registered.cache_clear()
    try:
        config = TrialConfig.from_point({"model.name": "hand_written", "model.args.width": 4})
        check_layers(config)
        assert make({"name": "hand_written"}).module.fc.in_features == 16
    finally:
        import_paths.registered.cache_clear()


# Messages


WRONG = {
    "a module that does not exist": {"model.name": "own_netwroks:HandWritten"},
    "a class whose name is misspelt": {"model.name": "own_networks:HandWriten"},
    "an import that fails": {"model.name": "network_that_raises:Net"},
    "an import that exits": {"model.name": "network_that_exits:Net"},
    "an import of what is not installed": {"model.name": "network_that_needs:Net"},
    "a file that is no Python": {"model.name": "network_with_a_typo:Net"},
    "an instance": {"model.name": "own_networks:instance"},
    "a number": {"model.name": "own_networks:number"},
    "a function that returns no network": {"model.name": "own_networks:not_a_module"},
    "an argument of the wrong type": {"model.name": "own_networks:HandWritten", "model.args.dropout": "much"},
    "an argument that it does not have": {"model.name": "own_networks:HandWritten", "model.args.widht": 4},
    "an argument that is missing": {"model.name": "own_networks:NoLogits"},
    "an argument that is passed anyway": {"model.name": "own_networks:HandWritten", "model.args.num_classes": 10},
    "an argument of a network without any": {"model.name": "cnn_bn", "model.args.width": 4},
    "a width": {"model.name": "own_networks:HandWritten", "model.width": 2.0},
    "a final norm": {"model.name": "own_networks:HandWritten", "model.final_norm": True},
    "compile": {"model.name": "own_networks:HandWritten", "compile": True},
    "a constructor that fails": {"model.name": "own_networks:Fails", "model.args.where": "init"},
    "a constructor that exits": {"model.name": "own_networks:Fails", "model.args.where": "exit"},
    "a forward that fails": {"model.name": "own_networks:Fails", "model.args.where": "forward"},
    "a shape that does not fit": {"model.name": "own_networks:Fails", "model.args.where": "nowhere"},
    "a mapping": {"model.name": "own_networks:NoLogits", "model.args.kind": "mapping"},
    "a tuple": {"model.name": "own_networks:NoLogits", "model.args.kind": "tuple"},
    "auxiliary outputs in training": {"model.name": "own_networks:NoLogits", "model.args.kind": "auxiliary"},
    "probabilities": {"model.name": "own_networks:NoLogits", "model.args.kind": "probabilities"},
    "the wrong number of classes": {"model.name": "own_networks:NoLogits", "model.args.kind": "features"},
    "an image instead of logits": {"model.name": "own_networks:NoLogits", "model.args.kind": "image"},
    "one row for all images": {"model.name": "own_networks:NoLogits", "model.args.kind": "mean"},
    "float64": {"model.name": "own_networks:NoLogits", "model.args.kind": "double"},
    "no parameters": {"model.name": "own_networks:NoParameters"},
    "a state that no checkpoint holds": {"model.name": "own_networks:Unreadable"},
    "a layer that is misspelt": {"model.name": "own_networks:HandWritten", "snnl.layers": "conv3"},
    "a layer that runs twice": {"model.name": "own_networks:HandWritten", "snnl.layers": "act"},
    "a boundary after the logits": {"model.name": "own_networks:HandWritten", "mixup.layers": "fc"},
    "no layer to mix at": {"model.name": "own_networks:linear", "mixup.layers": "hidden", "mixup.alpha": 1.0},
    "a network that torchvision lacks": {"model.name": "torchvision:resnet81"},
    "an argument that it does not take": {"model.name": "torchvision:resnet18", "model.args.widht": 4},
    "weights that are not published": {"model.name": "torchvision:resnet18", "model.args.weights": "IMAGENET"},
    "weights in no file": {"model.name": "torchvision:resnet18", "model.args.weights": "no/such/file.pth"},
    "weights of another network": {"model.name": "torchvision:resnet18", "model.args.weights": "other.pth"},
    "timm, which is not installed": {"model.name": "timm:resnet18"},
}
BROKEN_MODULES = {
    "network_that_raises": "print('a line')\nraise ValueError('no licence')\n",
    "network_that_exits": "import sys\n\nsys.exit('usage: train.py')\n",
    "network_that_needs": "import a_library_that_is_absent\n",
    "network_with_a_typo": "class Net(:\n",
}


def message_of(point):
    with pytest.raises(ConfigError) as caught:
        check_layers(TrialConfig.from_point(point))
    return str(caught.value)


@pytest.fixture
def messages(tmp_path, monkeypatch):
    """Every wrong network with the message that a user gets; folders are left out."""
    for name, text in BROKEN_MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "timm", None)
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    folders = {str(tmp_path): "<folder>", str(ASSETS): "<folder>"}
    result = {}
    for case, point in WRONG.items():
        text = message_of(point)
        for folder, name in folders.items():
            text = text.replace(folder, name)
        result[case] = text
    return result


def test_every_wrong_network_has_the_message_that_is_on_file(messages):
    written = "\n\n".join(f"# {case}\n{text}" for case, text in messages.items()) + "\n"
    assert written == MESSAGES.read_text()


def test_every_message_names_its_place_in_a_short_line(messages):
    for text in messages.values():
        for line in text.splitlines():
            assert line.startswith(("model.", "snnl.layers: ", "mixup.layers: ", "compile: "))
            assert len(line) <= 400


def test_what_an_import_prints_goes_to_the_standard_error(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "import torch\n\nprint('imported')\n\n\ndef net(num_classes):\n    print('built')\n"
    (tmp_path / "talkative.py").write_text(f"{text}    return torch.nn.Linear(8, num_classes)\n")
    message_of({"model.name": "talkative:net"})
    out, err = capsys.readouterr()
    assert out == ""
    assert "imported" in err
    assert "built" in err


def test_log_probabilities_are_logits():
    check_layers(
        TrialConfig.from_point({"model.name": "own_networks:NoLogits", "model.args.kind": "log-probabilities"})
    )
