"""Reports: cached under the digest of all that decides them, and honest about what is no number."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from trainables.config.trial import ModelConfig
from trainables.data import Split
from trainables.evaluation.core import report
from trainables.evaluation.core.figures import figure
from trainables.evaluation.core.results import EvaluationBudget, Subject, Table
from trainables.models import build

SMALL = EvaluationBudget(images=20)


def quiet(_what, _done):
    """Ignore the progress."""


def split(size, seed):
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (size, 1, 8, 8), generator=stream, dtype=torch.uint8)
    return Split(images, torch.arange(size) % 3)


@pytest.fixture
def subject():
    torch.manual_seed(0)
    model = build(ModelConfig(name="mlp"), image_shape=(1, 8, 8), num_classes=3)
    return Subject(model, split(30, 1), split(12, 2), split(24, 3), epsilon=0.1, outliers={"noise": split(6, 4)})


@dataclass(frozen=True)
class Brightness:
    """A real, small analysis: the mean pixel of each class."""

    means: tuple[float, ...]
    limits = ("all images",)
    refusals = ()

    def metrics(self):
        return {"test/brightness": sum(self.means) / len(self.means)}

    def table(self):
        return Table(("class", "mean"), tuple(enumerate(self.means)))

    def figure(self):
        return figure("Brightness", x="class", y="mean pixel, in [0, 1]")


class Counted:
    """A suite that counts how often it is run, and may break."""

    def __init__(self):
        self.runs, self.broken = 0, False

    def __call__(self, subject, _budget, progress):
        self.runs += 1
        if self.broken:
            raise RuntimeError("the power went")
        progress("looking", 1.0)
        test = subject.test
        means = tuple(float(test.images_NCHW[test.labels_N == label].float().mean() / 255) for label in range(3))
        return {"classes": Brightness(means)}


@pytest.fixture
def suites(monkeypatch):
    known = {"first": Counted(), "second": Counted()}
    monkeypatch.setattr(report, "suite_of", known.__getitem__)
    return known


def run(subject, names, kept, **options):
    return list(report.evaluate(subject, names, SMALL, cache=kept, progress=quiet, **options))


def test_a_report_is_measured_once_and_read_back_as_it_was(subject, suites, tmp_path):
    (first,) = run(subject, ["first"], tmp_path)
    (second,) = run(subject, ["first"], tmp_path)
    assert second == first
    assert suites["first"].runs == 1
    assert second.analyses[0].table.columns == ("class", "mean")
    assert second.analyses[0].figure["layout"]["xaxis"]["title"]["text"] == "class"
    assert set(second.metrics) == {"test/brightness"}
    run(subject, ["first"], tmp_path, recompute=True)
    assert suites["first"].runs == 2


def test_an_evaluation_that_broke_off_goes_on_with_the_suite_that_is_missing(subject, suites, tmp_path):
    suites["second"].broken = True
    with pytest.raises(RuntimeError, match="the power went"):
        run(subject, ["first", "second"], tmp_path)
    suites["second"].broken = False
    run(subject, ["first", "second"], tmp_path)
    assert (suites["first"].runs, suites["second"].runs) == (1, 2)


@pytest.mark.parametrize("damage", [b"", b"{}", b"not json", b'{"suite": 3}'])
def test_a_cached_report_that_cannot_be_read_is_measured_again(subject, suites, tmp_path, damage):
    (result,) = run(subject, ["first"], tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    (second,) = run(subject, ["first"], tmp_path)
    assert second.metrics == result.metrics
    assert suites["first"].runs == 2


def changed(subject, what):
    if what == "weight":
        with torch.no_grad():
            next(subject.model.parameters()).view(-1)[0] += 1e-3
        return subject
    if what == "pixel":
        subject.test.images_NCHW[3, 0, 4, 4] ^= 1
        return subject
    if what == "calibration label":
        subject.val.labels_N[0] = 2
        return subject
    if what == "outliers":
        return replace(subject, outliers={"noise": split(6, 5)})
    return replace(subject, **what)


@pytest.mark.parametrize(
    "what",
    ["weight", "pixel", "calibration label", "outliers", {"epsilon": 0.2}, {"seed": 1}, {"norm": "l2"}],
    ids=["weight", "pixel", "label", "outliers", "epsilon", "seed", "norm"],
)
def test_whatever_decides_a_report_changes_its_digest(subject, what):
    before = report.fingerprint(subject, SMALL, suite="clean")
    assert report.fingerprint(changed(subject, what), SMALL, suite="clean") != before


def test_suite_and_budget_change_the_digest_and_nothing_else_does(subject):
    digests = {
        report.fingerprint(subject, budget, suite=suite)
        for budget in (SMALL, EvaluationBudget(images=21), EvaluationBudget(images=20, aa_lite=True))
        for suite in ("clean", "robust")
    }
    assert len(digests) == 6
    assert report.fingerprint(subject, SMALL, suite="clean") in digests


def test_the_code_is_part_of_the_digest_and_is_the_same_in_another_process():
    script = "from trainables.evaluation.core import report; print(report._code())"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == report._code()


def test_a_metric_that_is_no_finite_number_is_refused_by_name():
    with pytest.raises(
        ValueError, match=r"clean, classes: the metric test/brightness must be a finite number, got nan"
    ):
        report.document("clean", {"classes": Brightness((math.nan,))}, key="", seconds=0)


def test_a_cell_that_json_cannot_hold_becomes_text():
    result = report.document("clean", {"classes": Unbounded((0.5,))}, key="", seconds=0)
    assert result.analyses[0].table.rows == (("T*", "inf"),)
    json.loads(report._DOCUMENT.dump_json(result))


class Unbounded(Brightness):
    """One cell is infinite."""

    def table(self):
        return Table(("what", "value"), (("T*", math.inf),))


def test_an_unknown_suite_is_refused_before_any_is_run(subject, tmp_path):
    with pytest.raises(ValueError, match="suite: must be one of"):
        run(subject, ["clean", "colour"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_outliers_by_the_name_of_a_split_hide_no_image_from_the_digest(subject):
    named = replace(subject, outliers={"test": subject.outliers["noise"]})
    before = report.fingerprint(named, SMALL, suite="clean")
    subject.test.images_NCHW[0, 0, 0, 0] ^= 1
    assert report.fingerprint(named, SMALL, suite="clean") != before
