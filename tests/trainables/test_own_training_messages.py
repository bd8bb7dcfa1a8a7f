"""What authors of optimizers and batch transforms do wrong, and what they are told before a trial starts."""

from pathlib import Path

import pytest

from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError
from trainables.regularizers.preflight_checks import check_arguments, check_regularizers

MESSAGES = Path(__file__).parent / "assets" / "own_training_messages.txt"
SMALL = {"epochs": 2, "device": "cpu", "precision": "float32", "evaluation.robust_epsilon": 0.0, "model.name": "mlp"}
HEAD = "import torch\nfrom torch.optim import SGD\nfrom trainables.mixup import MixedBatch\n\n"


@pytest.fixture
def module(module_writer):
    """Return a function that writes a module and returns its name."""
    return module_writer("wrong_training", HEAD)


def message(settings):
    lines = []
    for check in (check_arguments, check_regularizers):
        try:
            check(settings)
        except ConfigError as error:
            lines += str(error).splitlines()
    return " | ".join(dict.fromkeys(lines))


def own(step, state=""):
    """Return the text of an optimizer whose step does this to each parameter `p` of a group."""
    head = "class A(torch.optim.Optimizer):\n    def __init__(self, params, lr):\n"
    head += f"        super().__init__(params, {{'lr': lr}})\n        {state or 'pass'}\n"
    head += "    @torch.no_grad()\n    def step(self):\n        for group in self.param_groups:\n"
    return head + f"            for p in group['params']:\n                {step}\n"


GENERATOR = "self.state[p].setdefault('stream', torch.Generator()); p.sub_(p.grad, alpha=group['lr'])"
MOVES = "p.sub_(p.grad, alpha=group['lr'])"
COUNTED = "self.count += 1; p.sub_(p.grad, alpha=group['lr'] * self.count)"
RANGE = (
    "def A(params, lr, beta: float):\n    if beta >= 1:\n        raise ValueError(f'beta: must be < 1, got {beta}')\n"
)
RANGE += "    return SGD(params, lr=lr)\n"
OPTIMIZERS = {
    "an import that fails": ("import no_such_library\n", {}),
    "an import that raises": ("raise RuntimeError('no licence')\n", {}),
    "a name that is misspelt": ("class Aa: ...\n", {}),
    "no callable": ("A = 3\n", {}),
    "an optimizer that is already built": ("A = SGD([torch.nn.Parameter(torch.ones(1))], lr=1)\n", {}),
    "no optimizer": ("def A(params, lr):\n    return 3\n", {}),
    "nothing": ("def A(params, lr): ...\n", {}),
    "no rate": ("def A(params):\n    return SGD(params, lr=1.0)\n", {}),
    "no parameters": ("def A(weights, lr):\n    return SGD(weights, lr=lr)\n", {}),
    "only keywords": ("def A(params, **others):\n    return SGD(params, **others)\n", {}),
    "an unknown argument": ("def A(params, lr, beta: float = 0.9): ...\n", {"args.bta": 0.5}),
    "an argument of the wrong type": ("def A(params, lr, beta: float = 0.9): ...\n", {"args.beta": "high"}),
    "a missing argument": ("def A(params, lr, beta: float): ...\n", {}),
    "an argument outside its range": (RANGE, {"args.beta": 2.0}),
    "the rate as an argument": ("def A(params, lr): ...\n", {"args.lr": 0.5}),
    "the decay as an argument": ("def A(params, lr, weight_decay): ...\n", {"args.weight_decay": 0.5}),
    "the parameters as an argument": ("def A(params, lr): ...\n", {"args.params": 3}),
    "a momentum that it cannot take": ("def A(params, lr): ...\n", {"momentum": 0.5}),
    "the default momentum that it cannot take": ("def A(params, lr): ...\n", {"momentum": 0.9}),
    "nesterov that it cannot take": ("def A(params, lr): ...\n", {"nesterov": True}),
    "a decay that it cannot take": ("def A(params, lr): ...\n", {"weight_decay": 0.0}),
    "a constructor that raises": ("def A(params, lr):\n    return SGD(params, lr=-lr)\n", {}),
    "a closure": ("A = torch.optim.LBFGS\n", {}),
    "a closure that is checked late": ("class A(SGD):\n    def step(self, closure=None):\n        closure()\n", {}),
    "a step that raises": (own("p.sub_(p.grad[:, 99])"), {}),
    "no rate in its groups": (own(MOVES, "self.param_groups[0].pop('lr')"), {}),
    "a rate that is not read": (own("p.sub_(p.grad, alpha=0.1)"), {}),
    "a rate that is read once": ("A = torch.optim.Rprop\n", {}),
    "weights that do not move": (own("pass"), {"schedule": "constant"}),
    "a state that no checkpoint can hold": (own(GENERATOR), {}),
    "a state beside its state_dict": (own(COUNTED, "self.count = 0"), {}),
    "parameters that it does not take": ("A = torch.optim.Muon\n", {}),
}
BLEND = "def A(images, labels, alpha, num_classes, generator):\n    n, perm = len(images), torch.arange(len(images))\n"
BLEND += "    one_hot = torch.nn.functional.one_hot(labels, num_classes).float()\n    return "
PLAIN = "def A(images, alpha, share: float = 0.5): ...\n"
TRANSFORMS = {
    "a transform that is misspelt": ("def Aa(images): ...\n", {}),
    "a transform that is a class": ("class A: ...\n", {}),
    "a transform that is a number": ("A = 3\n", {}),
    "a transform with an unknown argument": (PLAIN, {"args.shar": 0.5}),
    "a transform with an argument of the wrong type": (PLAIN, {"args.share": "all"}),
    "a transform with an argument that we pass": (PLAIN, {"args.alpha": 0.5}),
    "a strength that it does not take": ("def A(images): ...\n", {"alpha": 0.3}),
    "a transform that raises": (BLEND + "images[:, 7]\n", {}),
    "a transform that returns nothing": ("def A(images, alpha): ...\n", {}),
    "images alone": (BLEND + "images\n", {}),
    "images and lam": (BLEND + "MixedBatch(images, lam=0.5)\n", {}),
    "targets and lam": (BLEND + "MixedBatch(images, one_hot, 0.5, perm)\n", {}),
    "targets alone": (BLEND + "MixedBatch(targets=one_hot)\n", {}),
    "another batch size": (BLEND + "(images[:-1], one_hot[:-1])\n", {}),
    "another size of images": (BLEND + "(images[..., 1:], one_hot)\n", {}),
    "images of another type": (BLEND + "(images.double(), one_hot)\n", {}),
    "images that are a list": (BLEND + "([*images], one_hot)\n", {}),
    "hard labels": (BLEND + "(images, labels)\n", {}),
    "too few classes": (BLEND + "(images, one_hot[:, :5])\n", {}),
    "targets that are not finite": (BLEND + "(images, one_hot / 0)\n", {}),
    "targets that do not sum to 1": (BLEND + "(images, one_hot * 0.9)\n", {}),
    "negative targets": (BLEND + "(images, 2 * one_hot - one_hot.roll(1, 1))\n", {}),
    "pixels outside": (BLEND + "(images + 1, one_hot)\n", {}),
    "pixels that are not finite": (BLEND + "(images / 0, one_hot)\n", {}),
    "a lam outside": (BLEND + "MixedBatch(images, lam=1.5, permutation=perm)\n", {}),
    "a lam that is not finite": (BLEND + "MixedBatch(lam=float('nan'), permutation=perm)\n", {}),
    "a lam of another shape": (BLEND + "MixedBatch(lam=torch.rand(3), permutation=perm)\n", {}),
    "a lam that is a text": (BLEND + "MixedBatch(lam='half', permutation=perm)\n", {}),
    "a permutation of another length": (BLEND + "MixedBatch(lam=0.5, permutation=perm[1:])\n", {}),
    "a permutation of floats": (BLEND + "MixedBatch(lam=0.5, permutation=perm.float())\n", {}),
    "partners outside the batch": (BLEND + "MixedBatch(lam=0.5, permutation=perm + 1)\n", {}),
    "images at hidden layers": (BLEND + "(images, one_hot)\n", {"layers": "hidden"}),
}
REFUSED = {
    "an optimizer that is no name": {"optimizer.name": "lion"},
    "arguments of ours": {"optimizer.args.betas": [0.9, 0.99]},
    "a transform that is no name": {"mixup.kind": "mixpu"},
    "arguments of our mixup": {"mixup.args.low": 0.1},
    "arguments of our attack": {"adversarial.attack": "pgd", "adversarial.args.restarts": 2},
    "a lambda for each image": {"mixup.kind": "mine:A", "mixup.per_sample": True},
    "a gradient that stops": {"mixup.kind": "mine:A", "mixup.detached": True},
}


def test_messages_of_wrong_optimizers_and_transforms_are_as_recorded(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    for cases, group, choice, extra in (
        (OPTIMIZERS, "optimizer", "name", {}),
        (TRANSFORMS, "mixup", "kind", {"alpha": 1.0}),
    ):
        for what, (body, more) in cases.items():
            name = module(body)
            point = {choice: f"{name}:A", **extra, **more}
            settings = TrialConfig.from_point({**SMALL, **{f"{group}.{key}": value for key, value in point.items()}})
            text = message(settings).replace(f"{tmp_path}/", "").replace(name, "mine")
            lines.append(f"{what}: {text}")
    for what, point in REFUSED.items():
        with pytest.raises(ConfigError) as caught:
            TrialConfig.from_point(point)
        lines.append(f"{what}: {caught.value}")
    assert lines == MESSAGES.read_text().splitlines(), "\n".join(lines)
    assert all(len(line) <= 480 for line in lines)
