"""What authors of regularizers do wrong, and what they are told: all of it before a trial starts, if it can be seen."""

from pathlib import Path

import pytest

from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError
from trainables.regularizers.preflight_checks import check_arguments, check_regularizers
from trainables.tasks.classifier.run import start

MESSAGES = Path(__file__).parent / "assets" / "own_regularizer_messages.txt"
SMALL = {"epochs": 2, "device": "cpu", "precision": "float32", "evaluation.robust_epsilon": 0.0, "model.name": "mlp"}
HEAD = "import torch\nfrom trainables.regularizers.protocol import Batch, Needs, Term\n\n"


@pytest.fixture
def module(module_writer):
    """Return a function that writes a module and returns its name."""
    return module_writer("wrong_regularizer", HEAD)


def config(**point):
    return TrialConfig.from_point({**SMALL, **point})


def takes(arguments, needs=""):
    return f"class A:\n{needs}    def __init__(self{arguments}): ...\n    def term(self, batch, memory): ...\n"


def gives(result):
    return f"class A:\n    def term(self, batch, memory):\n        return {result}\n"


MODULE = """
class A(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.centers = torch.nn.Parameter(torch.zeros(3))

    def term(self, batch, memory): ...
"""
RANGE = """
class A:
    def __init__(self, rate):
        if rate > 1:
            raise ValueError(f"rate: must be <= 1, got {rate}")

    def term(self, batch, memory): ...
"""
MEAN = "batch.logits.mean()"
WRONG = {
    "an import that fails": ("import no_such_library\nclass A: ...\n", {}),
    "an import that raises": ("raise RuntimeError('no licence')\n", {}),
    "an import that exits": ("raise SystemExit\n", {}),
    "a name that is misspelt": ("class Aa: ...\n", {}),
    "no method term": ("class A: ...\n", {}),
    "no class": ("A = 3\n", {}),
    "a function that makes no regularizer": ("def A():\n    return 3\n", {}),
    "an unknown argument": (takes(", rate=0.5"), {"rat": 1}),
    "an argument of the wrong type": (takes(", rate: float = 0.5"), {"rate": "high"}),
    "a missing argument": (takes(", rate: float"), {}),
    "an argument outside its range": (RANGE, {"rate": 2}),
    "an argument with our name": (takes(", weight=1"), {}),
    "an argument that we pass": (takes(", num_classes"), {"num_classes": 3}),
    "an unknown layer": (gives(MEAN), {"layers": "conv9"}),
    "layers without need": (takes("", "    needs = Needs(layers=None)\n"), {"layers": "fc1"}),
    "soft labels without need": (gives(MEAN), {"on_mixed": True}),
    "needs of another kind": (takes("", "    needs = ['taps']\n"), {}),
    "passes that are not declared": (gives(MEAN), {"passes": 1}),
    "more passes than declared": (gives("batch.forward(batch.images).logits.mean()"), {}),
    "tensors of its own": (MODULE, {}),
    "a float": (gives("0.5"), {}),
    "nothing": (gives("None"), {}),
    "a vector": (gives("batch.logits.square().mean(1)"), {}),
    "a detached value": (gives("batch.logits.detach().mean()"), {}),
    "a gradient of another tensor": (gives("torch.ones((), requires_grad=True) * 2"), {}),
    "an error in the step": (gives("(batch.taps['fc1'] @ batch.labels).mean()"), {}),
    "a tap that it does not read": (gives("batch.taps['conv1'].mean()"), {}),
    "a metric that is a float": (gives(f"Term({MEAN}, metrics={{'size': 3.0}})"), {}),
    "a metric with a slash": (gives(f"Term({MEAN}, metrics={{'a/b': {MEAN}}})"), {}),
    "a memory that is a number": (gives(f"Term({MEAN}, memory={{'n': 1}})"), {}),
    "a memory with a gradient": (gives(f"Term({MEAN}, memory={{'m': {MEAN}}})"), {}),
    "a memory that grows": (gives(f"Term({MEAN}, memory={{'n': torch.zeros(len(memory.get('n', ())) + 1)}})"), {}),
    "a memory that changes names": (gives(f"Term({MEAN}, memory={{f'n{{len(memory)}}': torch.zeros(())}})"), {}),
}


def message(settings, *hidden):
    lines = []
    for check in (check_arguments, check_regularizers):
        try:
            check(settings)
        except ConfigError as error:
            lines += str(error).splitlines()
    text = " | ".join(dict.fromkeys(lines))
    for path, stand_in in hidden:
        text = text.replace(path, stand_in)
    return text


def test_messages_of_wrong_regularizers_are_as_recorded(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    for what, (body, extra) in WRONG.items():
        name = module(body)
        point = {"regularizers.own.use": f"{name}:A", "regularizers.own.weight": 0.1}
        settings = config(**point, **{f"regularizers.own.{key}": value for key, value in extra.items()})
        lines.append(f"{what}: {message(settings, (f'{tmp_path}/', ''), (name, 'mine'))}")
    for what, point in {
        "no such name": {"regularizers.own.use": "cnetre"},
        "no use": {"regularizers.own.weight": 0.1},
        "a label of ours": {"regularizers.snnl.use": "snnl"},
        "a label with a capital": {"regularizers.Own.use": "snnl"},
        "a label alone": {"regularizers.own": "snnl"},
        "a weight of the wrong type": {"regularizers.own.use": "snnl", "regularizers.own.weight": "strong"},
        "an argument that is a mapping": {"regularizers.own.use": "snnl", "regularizers.own.distance": {"a": 1}},
    }.items():
        with pytest.raises(ConfigError) as caught:
            TrialConfig.from_point(point)
        lines.append(f"{what}: {caught.value}")
    assert lines == MESSAGES.read_text().splitlines(), "\n".join(lines)
    assert all(len(line) <= 480 for line in lines)


LATE = """
class A:
    def term(self, batch, memory):
        n = memory.get("n", torch.zeros(()))
        return Term(batch.logits.mean() if n < 5 else 0.5, memory={"n": n + 1})
"""


def test_a_worker_refuses_what_preflight_could_not_see(module):
    settings = config(**{"regularizers.own.use": f"{module(LATE)}:A", "regularizers.own.weight": 0.1})
    check_regularizers(settings)
    with pytest.raises(ConfigError, match=r"regularizers.own: A.term must return a value of shape \(\), got float 0.5"):
        start(settings).run_epoch()


def test_the_first_step_of_a_run_finds_a_value_that_no_parameter_moves(module):
    use = f"{module(gives('torch.ones((), requires_grad=True) * 2'))}:A"
    loop = start(config(**{"regularizers.own.use": use, "regularizers.own.weight": 0.1}))
    with pytest.raises(ConfigError, match="depends on no parameter of the model"):
        loop.run_epoch()
