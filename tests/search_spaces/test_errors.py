import pickle

import pytest

from search_spaces import MissingExtraError, Problem, SpaceError, YamlError, nearest


@pytest.mark.parametrize(
    "error",
    [
        SpaceError(Problem("a", "one"), Problem("b", "two")),
        YamlError(Problem("x:3:4", "bad"), line=3, column=4),
        MissingExtraError("optuna", extra="optuna"),
    ],
)
def test_errors_survive_the_way_between_processes(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_space_error_is_a_value_error_with_one_line_per_problem():
    error = SpaceError(Problem("a", "one"), Problem("b", "two"))
    assert isinstance(error, ValueError)
    assert str(error) == "a: one\nb: two"
    assert error.problems == (("a", "one"), ("b", "two"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("lerning_rate", "learning_rate"), ("learning_rate", "learning_rate"), ("momentum", None)],
)
def test_nearest_is_the_closest_name_or_none(name, expected):
    assert nearest(name, ["learning_rate", "lr", "decay_rate"]) == expected
