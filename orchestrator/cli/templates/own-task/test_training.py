"""Run with `pytest`: the function yields numbers, and a resumed trial continues as if nothing had happened."""

from trainables.testing import check_task


def test_the_training_function_keeps_the_rules_of_a_sweep() -> None:
    metrics = check_task("training:train", {"lr": 0.5}, epochs=3)
    assert metrics[-1]["val/accuracy"] > 0.8
