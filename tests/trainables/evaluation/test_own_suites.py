"""Suites of a user's own: cached by content with the user's code, kept apart from the model, deterministic."""

import itertools
import sys

import pytest
import torch

from trainables.config.trial import ModelConfig
from trainables.data import Split
from trainables.errors import ConfigError
from trainables.evaluation.core import report
from trainables.evaluation.core.own_suites import TAKEN, own_suite
from trainables.evaluation.core.results import EvaluationBudget, Subject, no_progress
from trainables.evaluation.core.suites import SUITES, suite_of
from trainables.import_paths import registered
from trainables.models import build
from trainables.testing import check_suite

SMALL = EvaluationBudget(images=20)
SUITE = """
import torch
from {helper} import scale
from trainables.evaluation.core.figures import figure
from trainables.evaluation.core.results import Table

class Mean:
    limits, refusals = ("all images",), ()

    def __init__(self, value):
        self.value = value

    def metrics(self):
        return {{"brightness/mean": self.value}}

    def table(self):
        return Table(("mean",), ((self.value,),))

    def figure(self):
        return figure("Brightness", x="class", y="mean pixel, in [0, 1]")


def brightness(subject, budget, progress):
    print("looking")
    noise = {noise}
    return {{"pixels": Mean(scale * float(subject.test.images_NCHW.float().mean()) + noise)}}
"""
counter = itertools.count()


def split(size, seed):
    stream = torch.Generator().manual_seed(seed)
    return Split(torch.randint(0, 256, (size, 1, 8, 8), generator=stream, dtype=torch.uint8), torch.arange(size) % 3)


@pytest.fixture
def subject():
    torch.manual_seed(0)
    model = build(ModelConfig(name="mlp"), image_shape=(1, 8, 8), num_classes=3).eval()
    return Subject(model, split(30, 1), split(12, 2), split(24, 3), epsilon=0.1)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes a suite and a module that it imports, and returns both names."""
    number = next(counter)
    suite, helper = f"own_suite_{number}", f"own_helper_{number}"

    def write(*, noise="0.0", scale=1.0):
        (tmp_path / f"{suite}.py").write_text(SUITE.format(helper=helper, noise=noise))
        (tmp_path / f"{helper}.py").write_text(f"scale = {scale}\n\ndef unused(): ...\n")
        for name in (suite, helper):
            sys.modules.pop(name, None)
        return f"{suite}:brightness"

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return write


def run(subject, name, cache):
    (result,) = report.evaluate(subject, [name], SMALL, cache=cache, progress=no_progress)
    return result


def test_a_suite_is_measured_once_and_measured_once_more_when_its_module_changes(subject, written, tmp_path):
    first = run(subject, written(), tmp_path / "cache")
    assert run(subject, written(), tmp_path / "cache") == first
    changed = run(subject, written(noise="1.0"), tmp_path / "cache")
    assert changed.key != first.key
    assert changed.metrics["brightness/mean"] == pytest.approx(first.metrics["brightness/mean"] + 1)


def test_a_change_of_a_module_that_a_suite_imports_a_function_of_measures_it_once_more(subject, written, tmp_path):
    path = tmp_path / (written().partition(":")[0] + ".py")
    path.write_text(path.read_text().replace("import scale", "import scale, unused"))
    first = run(subject, f"{path.stem}:brightness", tmp_path / "cache")
    helper = tmp_path / path.name.replace("suite", "helper")
    helper.write_text(helper.read_text() + "# other code\n")
    assert run(subject, f"{path.stem}:brightness", tmp_path / "cache").key != first.key


def test_the_code_of_a_suite_is_part_of_its_digest(subject, written):
    suite = own_suite(written())
    keys = {report.fingerprint(subject, SMALL, suite=suite.name, own_code=code) for code in (suite.code(), {}, None)}
    assert len(keys) == 3


def test_the_code_of_a_suite_with_its_arguments_bound_is_that_of_its_module(written, tmp_path):
    path = tmp_path / (written().partition(":")[0] + ".py")
    path.write_text(path.read_text() + "\nimport functools\n\nbound = functools.partial(brightness)\n")
    assert set(own_suite(f"{path.stem}:bound").code()) == {path.stem}


def test_what_a_suite_prints_is_no_part_of_the_output(subject, written, capsys):
    own_suite(written())(subject, SMALL, no_progress)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "looking\n")


def test_a_suite_that_draws_from_global_generators_measures_the_same_and_changes_none(subject, written):
    suite, before = own_suite(written(noise="float(torch.rand(()))")), torch.get_rng_state()
    values = {suite(subject, SMALL, no_progress)["pixels"].metrics()["brightness/mean"] for _ in range(2)}
    assert len(values) == 1
    assert torch.equal(torch.get_rng_state(), before)


def test_two_runs_that_differ_fail_the_check_of_authors(written):
    assert set(check_suite(written())) == {"brightness/mean"}
    path = written(noise="float(torch.rand((), generator=STREAM))")
    own_suite(path).target.__globals__["STREAM"] = torch.Generator().manual_seed(0)
    with pytest.raises(AssertionError, match="two runs of one seed differ in pixels"):
        check_suite(path)


def test_a_suite_that_changes_the_images_is_refused(subject, written, tmp_path):
    path = tmp_path / (written().partition(":")[0] + ".py")
    path.write_text(path.read_text().replace('    print("looking")', "    subject.test.images_NCHW.zero_()"))
    with pytest.raises(ConfigError, match="must leave the model and the images as they were"):
        run(subject, f"{path.stem}:brightness", tmp_path / "cache")


def test_no_name_of_another_metric_begins_those_of_a_suite_of_ones_own():
    prefixes = set(TAKEN)
    assert {"train", "val", "test", "entanglement", "robust", "gan", "time", "cost"} <= prefixes
    assert {name for name in SUITES if name not in {"clean", "deformations"}} <= prefixes


def test_an_installed_package_registers_a_suite(written, tmp_path):
    path = written()
    info = tmp_path / "lamp-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lamp\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ravel.suites]\nbrightness = {path}\n")
    registered.cache_clear()
    try:
        assert suite_of("brightness").prefix == "brightness/"
        assert set(check_suite("brightness")) == {"brightness/mean"}
    finally:
        registered.cache_clear()
