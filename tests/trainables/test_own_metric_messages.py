"""What authors of metrics and suites do wrong, and the messages: each with place, requirement, value and remedy."""

from pathlib import Path

import pytest

from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError
from trainables.evaluation.core.own_metrics import check_metrics, target_of
from trainables.metrics import declared_by
from trainables.testing import check_suite

MESSAGES = Path(__file__).parent / "assets" / "own_metric_messages.txt"


@pytest.fixture
def module(module_writer):
    """Return a function that writes a module and returns its name."""
    return module_writer("wrong_metric", "import torch\n\n")


def gives(result, arguments="logits, labels", after=""):
    return f"def m({arguments}):\n    return {result}\n{after}"


STATEFUL = "calls = []\n\ndef m(logits, labels):\n    calls.append(0)\n    return len(calls)\n"
SETS = "def m(logits, labels):\n    labels.zero_()\n    return 0.5\n"
RANGE = (
    "class m:\n    def __init__(self, top):\n        if top > 3:\n            raise ValueError('top: must be <= 3')\n"
)
RANGE += "    def __call__(self, logits, labels): return 0.5\n"
METRICS = {
    "an import that fails": ("import no_such_library\n", {}),
    "an import that exits": ("raise SystemExit\n", {}),
    "a name that is misspelt": ("def mm(logits, labels): ...\n", {}),
    "a number": ("m = 3\n", {}),
    "a class that cannot be called": ("class m: ...\n", {}),
    "one argument": (gives("0.5", "outputs"), {}),
    "an unknown argument": (gives("0.5", "logits, labels, missed=1.0"), {"mised": 2}),
    "an argument of the wrong type": (gives("0.5", "logits, labels, missed: float = 1.0"), {"missed": "high"}),
    "a missing argument": (gives("0.5", "logits, labels, missed: float"), {}),
    "an argument that we pass": (gives("0.5", "logits, labels, num_classes"), {"num_classes": 3}),
    "an argument outside its range": (RANGE, {"top": 5}),
    "a vector": (gives("logits.argmax(1) == labels"), {}),
    "a number in a list": (gives("[0.5]"), {}),
    "nothing": (gives("None"), {}),
    "a truth value": (gives("True"), {}),
    "an empty mapping": (gives("{}"), {}),
    "a name with a slash": (gives("{'a/b': 0.5}"), {}),
    "a vector under a name": (gives("{'recall': logits.mean(0)}"), {}),
    "a value that is not a number": (gives("float('nan')"), {}),
    "changed labels": (SETS, {}),
    "changed logits": (gives("logits.exp_().mean()"), {}),
    "another value in each call": (STATEFUL, {}),
    "an error": (gives("logits @ labels"), {}),
    "an exit": (gives("exit(3)"), {}),
}
DECLARATIONS = {
    "a direction that is none": "m.direction = 'higher'\n",
    "a unit that is no text": "m.unit = 3\n",
    "declarations in a list": "m.metrics = ['recall']\n",
    "a declaration of another form": "m.metrics = {'recall': 'max'}\n",
    "a direction that is none, of one of several": "m.metrics = {'recall': {'direction': 'up'}}\n",
}
SPECS = {
    "no path": {"metrics.own.use": "accuracy"},
    "no use": {"metrics.own.args.missed": 3},
    "a label of ours": {"metrics.accuracy.use": "m:m"},
    "a label with a capital": {"metrics.Own.use": "m:m"},
    "a label alone": {"metrics.own": "m:m"},
    "an argument without args": {"metrics.own.missed": 3},
}
RESULT = """
from trainables.evaluation.core.figures import figure
from trainables.evaluation.core.results import Table

class Result:
    limits = refusals = ()
    def __init__(self, numbers, table=Table(("a",), ((1,),))): self.numbers, self.cells = numbers, table
    def metrics(self): return self.numbers
    def table(self): return self.cells
    def figure(self): return figure("a", x="b", y="c")

"""
SUITES = {
    "no function": "s = 3\n",
    "a class": "class s: ...\n",
    "a name of ours": "def robust(subject, budget, progress): ...\n",
    "two arguments": "def s(subject, budget): ...\n",
    "an error": "def s(subject, budget, progress): return 1 / 0\n",
    "an exit": "import sys\n\ndef s(subject, budget, progress):\n    print('bye')\n    sys.exit(3)\n",
    "nothing": "def s(subject, budget, progress): ...\n",
    "a number": "def s(subject, budget, progress): return {'a': 0.5}\n",
    "a name that is no file": f"{RESULT}def s(*_): return {{'../a': Result({{}})}}\n",
    "a metric of another suite": f"{RESULT}def s(*_): return {{'a': Result({{'robust/pgd': 0.5}})}}\n",
    "a metric that is NaN": f"{RESULT}def s(*_): return {{'a': Result({{'s/a': float('nan')}})}}\n",
    "a metric that is a tensor": f"{RESULT}def s(*_): return {{'a': Result({{'s/a': torch.ones(2)}})}}\n",
    "a table in a list": f"{RESULT}def s(*_): return {{'a': Result({{}}, [[1]])}}\n",
    "changed weights": f"{RESULT}def s(subject, *_):\n    next(subject.model.parameters()).data.zero_()\n"
    "    return {'a': Result({})}\n",
    "a model left in training": f"{RESULT}def s(subject, *_):\n    subject.model.train()\n"
    "    return {'a': Result({})}\n",
}


def message(check, *hidden):
    with pytest.raises(ConfigError) as caught:
        check()
    text = " | ".join(str(caught.value).splitlines())
    for path, stand_in in hidden:
        text = text.replace(path, stand_in)
    return text


def test_messages_of_wrong_metrics_and_suites_are_as_recorded(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    for what, (body, extra) in METRICS.items():
        name = module(body)
        point = {"metrics.own.use": f"{name}:m", **{f"metrics.own.args.{key}": value for key, value in extra.items()}}
        settings = TrialConfig.from_point(point).metrics
        said = message(lambda used=settings: check_metrics(used, num_classes=10), (f"{tmp_path}/", ""), (name, "mine"))
        lines.append(f"metric, {what}: {said}")
    for what, after in DECLARATIONS.items():
        settings = TrialConfig.from_point({"metrics.own.use": f"{module(gives('0.5', after=after))}:m"}).metrics
        target = target_of("own", settings.by_label["own"])
        said = message(lambda used=target: declared_by(used, place="metrics.own.use"))
        lines.append(f"metric, {what}: {said}")
    for what, point in SPECS.items():
        lines.append(f"spec, {what}: {message(lambda wrong=point: TrialConfig.from_point(wrong))}")
    for what, body in SUITES.items():
        name = module(body)
        path = f"{name}:{'robust' if what == 'a name of ours' else 's'}"
        lines.append(
            f"suite, {what}: {message(lambda used=path: check_suite(used), (f'{tmp_path}/', ''), (name, 'mine'))}"
        )
    assert lines == MESSAGES.read_text().splitlines(), "\n".join(lines)
    assert all(len(line) <= 480 for line in lines)
