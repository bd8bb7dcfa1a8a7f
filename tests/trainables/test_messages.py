"""Error messages stay readable, whatever the offending value is."""

import pytest

from trainables.errors import ConfigError, Problem, short_repr, suggestion
from trainables.metrics import lookup
from trainables.models import check_layers
from trainables.tasks.registry import CLASSIFIER, GAN, task_of

LONGEST_LINE = 400
LONG_VALUES = (
    "x" * 5000,
    "+".join(["x" * 500] * 10),
    ["x" * 1000] * 5,
    tuple(range(5000, 0, -1)),
    {"x" * 5000: 1},
    -(10**4000),
)
PARAMETERS = [(task, name) for task in (CLASSIFIER, GAN) for name in task.parameter_names]


def lines_of(error):
    return str(error).splitlines()


ACCEPTED = {"data.root", "data.cache", "gan.classifier"}  # any text is a path


def checked(task, point):
    """Check a point as far as no data set is needed."""
    config = task.from_point(point)
    if task is CLASSIFIER:
        check_layers(config)


@pytest.mark.parametrize("value", LONG_VALUES, ids=["text", "layers", "list", "tuple", "dict", "integer"])
@pytest.mark.parametrize(("task", "name"), PARAMETERS, ids=[f"{task.name} {name}" for task, name in PARAMETERS])
def test_a_message_about_a_long_value_has_short_lines(task, name, value):
    if name in ACCEPTED and isinstance(value, str):
        checked(task, {name: value})
        return
    with pytest.raises(ConfigError) as caught:
        checked(task, {name: value})
    assert all(line.startswith(name) and len(line) <= LONGEST_LINE for line in lines_of(caught.value))


@pytest.mark.parametrize("task", [CLASSIFIER, GAN], ids=["classifier", "gan"])
@pytest.mark.parametrize("name", ["zzz", "x" * 5000, "optimizer." + "y" * 5000, "§" * 500])
def test_a_message_about_an_unknown_name_has_short_lines(task, name):
    with pytest.raises(ConfigError) as caught:
        task.from_point({name: 1, "epochs": 0})
    assert all(len(line) <= LONGEST_LINE for line in lines_of(caught.value))
    assert "unknown parameter" in lines_of(caught.value)[0]


@pytest.mark.parametrize("name", ["zzz", "x" * 5000])
def test_a_message_about_an_unknown_task_or_metric_has_short_lines(name):
    with pytest.raises(ConfigError, match="unknown task") as task_error:
        task_of({"task": name})
    with pytest.raises(KeyError, match="unknown metric") as metric_error:
        lookup(name)
    assert all(len(line) <= LONGEST_LINE for error in (task_error, metric_error) for line in lines_of(error.value))


def test_a_long_list_of_valid_names_says_how_many_are_left_out():
    names = [f"parameter_{index:03d}" for index in range(100)]
    message = suggestion("zzz", names)
    assert message.startswith("valid: parameter_000, parameter_001")
    assert message.endswith(f" and {100 - message.count('parameter_')} more")
    assert len(message) < 230


def test_a_short_value_is_quoted_in_full():
    assert short_repr(0.1) == "0.1"
    assert short_repr("x" * 78) == repr("x" * 78)
    assert len(short_repr("x" * 79)) == 80
    assert str(Problem("epochs", "must be >= 1, got 0")) == "epochs: must be >= 1, got 0"
