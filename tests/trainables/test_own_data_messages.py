"""A message about a wrong data set names the place, the requirement, the value and the remedy: see the golden file."""

import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from trainables.config.trial import TrialConfig
from trainables.data import available, load_splits, shape_of
from trainables.errors import ConfigError, TrainableError

ASSET = Path(__file__).with_name("assets") / "own_data_messages.txt"
LONGEST_LINE = 400
HEAD = """
    import numpy as np
    import torch
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (12, 4, 5), dtype=np.uint8)
    grey = [(image, i % 2) for i, image in enumerate(noise)]
"""


def function(body):
    return HEAD + textwrap.indent("def make():\n" + textwrap.indent(textwrap.dedent(body), "    "), "    ")


def samples(change):
    """A set whose third sample is another one."""
    return function(f"pairs = list(grey)\npairs[2] = {change}\nreturn pairs")


# Name of a case: the user's module, and the parameters beside data.name.
CASES = {
    "the import fails": ("import no_such_library\ndef make(): ...", {}),
    "the import raises": ("1 / 0\ndef make(): ...", {}),
    "the import exits": ("import sys\nsys.exit(3)", {}),
    "a syntax error": ("def make(:", {}),
    "no such attribute": ("def maker(): ...", {}),
    "not callable": ("make = 3", {}),
    "an unknown argument": ("def make(size: int = 3): ...", {"data.args.sise": 4}),
    "an argument of another type": ("def make(size: int = 3): ...", {"data.args.size": "large"}),
    "a missing argument": ("def make(size: int): ...", {}),
    "the root as an argument": ("def make(root: str): ...", {"data.args.root": "here", "data.root": "."}),
    "no root": ("def make(root): ...", {}),
    "a root that does not exist": ("def make(root): ...", {"data.root": "nowhere"}),
    "the code raises": (function("return [grey[int('three')]]"), {}),
    "the code exits": (function("raise SystemExit(2)"), {}),
    "a sample raises": (
        HEAD
        + "    class make:\n        __len__ = lambda self: 4\n        __getitem__ = lambda self, i: grey[3 // (2 - i)]",
        {},
    ),
    "no data set": (function("return 7"), {}),
    "nothing": (function("pass"), {}),
    "no length": (
        HEAD + "    class make(torch.utils.data.Dataset):\n        def __getitem__(self, i): return grey[i]",
        {},
    ),
    "a generator": (function("yield from grey"), {}),
    "four parts": (function("return grey, grey, grey, grey"), {}),
    "parts of other names": (function("return {'train': grey, 'dev': grey}"), {}),
    "a part that is no data set": (function("return grey, 3"), {}),
    "an empty set": (function("return []"), {}),
    "an empty part": (function("return grey, []"), {}),
    "no pair": (samples("(noise[2], 0, 'more')"), {}),
    "a mapping as sample": (samples("{'image': noise[2], 'label': 0}"), {}),
    "a list as image": (samples("([[1, 2], [3, 4]], 0)"), {}),
    "one axis": (samples("(noise[2].ravel(), 0)"), {}),
    "another size": (samples("(noise[2][1:], 0)"), {}),
    "another number of channels": (samples("(np.dstack([noise[2]] * 3), 0)"), {}),
    "a colour image among grey ones": (
        function("return [(Image.fromarray(x).convert('RGB' if i == 2 else 'L'), y) for i, (x, y) in enumerate(grey)]"),
        {},
    ),
    "NaN": (samples("(noise[2] * np.nan, 0)"), {}),
    "floats over 1": (samples("(noise[2] * 1.0, 0)"), {}),
    "normalised floats": (samples("(noise[2] / 127.5 - 1, 0)"), {}),
    "floats between levels": (samples("(noise[2] / 300, 0)"), {}),
    "integers over 255": (samples("(noise[2].astype(np.int64) + 200, 0)"), {}),
    "bits": (samples("(noise[2] > 9, 0)"), {}),
    "a float as label": (samples("(noise[2], 0.5)"), {}),
    "a one-hot label": (samples("(noise[2], np.eye(3, dtype=int)[0])"), {}),
    "no label": (samples("(noise[2], None)"), {}),
    "texts and integers": (samples("(noise[2], 'cat')"), {}),
    "one class": (function("return [(image, 5) for image in noise]"), {}),
    "a class with one image": (samples("(noise[2], 9)"), {}),
    "a class of the test alone": (function("return grey, [(noise[0], 0), (noise[1], 4)]"), {}),
    "too few images": (function("return [(noise[0], 0), (noise[0], 0), (noise[0], 1), (noise[0], 1)]"), {}),
    "a class of copies": (function("return grey[:11] + [(noise[11], 7)] * 2"), {}),
}


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """``write_module(text)`` writes the module `own_messages` in the working directory."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "own_messages.py").write_text(textwrap.dedent(text))
        sys.modules.pop("own_messages", None)

    yield write
    sys.modules.pop("own_messages", None)


def refusal(point, tmp_path):
    with pytest.raises(TrainableError) as caught:
        prepare({"data.cache": str(tmp_path / "cache"), **point})
    return str(caught.value).replace(str(tmp_path), "HERE")


def prepare(point):
    data = TrialConfig.from_point(point).data
    available(data)
    shape_of(data)
    load_splits(data)


def golden():
    lines = ASSET.read_text().splitlines()
    return {lines[i].removeprefix("# "): lines[i + 1] for i in range(0, len(lines), 3)}


def test_the_golden_file_has_every_case():
    assert list(golden()) == [*CASES, *ARRAYS, *OTHERS]


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_set_has_its_golden_message(case, write_module, tmp_path):
    text, parameters = CASES[case]
    write_module(text)
    message = refusal({"data.name": "own_messages:make", **parameters}, tmp_path)
    assert message == golden()[case]
    assert message.startswith("data.")
    assert "\n" not in message
    assert len(message) <= LONGEST_LINE


GREY = np.zeros((4, 3, 3), dtype=np.uint8)
ARRAYS = {
    "arrays of other names": {"pictures": GREY, "labels": np.arange(4)},
    "arrays without a test part": {"x_train": GREY, "y_train": np.arange(4)},
    "arrays of unequal lengths": {"images": GREY, "labels": np.arange(3)},
    "an array of objects": {"images": GREY, "labels": np.array([{}, {}, 1, 2], dtype=object)},
}


@pytest.mark.parametrize("case", ARRAYS)
def test_wrong_arrays_have_their_golden_message(case, tmp_path):
    np.savez(tmp_path / "set.npz", **ARRAYS[case])
    assert refusal({"data.name": "arrays", "data.root": str(tmp_path)}, tmp_path) == golden()[case]


OTHERS = {
    "a folder without arrays": {"data.name": "arrays", "data.root": "HERE"},
    "an unknown name": {"data.name": "cifar1"},
    "an unknown set of torchvision": {"data.name": "torchvision:STL1O"},
    "a set of torchvision that is not there": {"data.name": "torchvision:STL10", "data.root": "HERE"},
    "a function of torchvision": {"data.name": "torchvision:wrap_dataset_for_transforms_v2"},
    "arguments of a set that takes none": {"data.name": "digits", "data.args.size": 3},
    "no module": {"data.name": "no_such_module_here:Set"},
}


@pytest.mark.parametrize("case", OTHERS)
def test_wrong_settings_have_their_golden_message(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    point = {name: str(tmp_path) if value == "HERE" else value for name, value in OTHERS[case].items()}
    message = refusal(point, tmp_path)
    site = str(Path(np.__file__).parents[1])
    assert re.sub(r"line \d+", "line N", message.replace(site, "SITE")) == golden()[case]


def test_hugging_face_without_its_library_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("trainables.data.own.libraries.find_spec", lambda _: None)
    with pytest.raises(TrainableError, match=r"the data set 'huggingface' is not available; pip install datasets"):
        load_splits(TrialConfig.from_point({"data.name": "huggingface", "data.root": str(tmp_path)}).data)


def test_all_wrong_arguments_are_reported_at_once(write_module):
    write_module("def make(size: int, kind: str = 'a'): ...")
    with pytest.raises(ConfigError) as caught:
        available(TrialConfig.from_point({"data.name": "own_messages:make", "data.args.kin": 1}).data)
    assert [problem.path for problem in caught.value.problems] == ["data.args.kin", "data.args.size"]
