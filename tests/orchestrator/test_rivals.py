"""Rivals of the defaults in benchmarks/scheduling: they keep the rules of those they stand for, and of equal spend."""

import importlib
import sys
from pathlib import Path

import pytest

from orchestrator.simulation.objective_value import Value
from orchestrator.simulation.surrogate import Surrogate
from orchestrator.simulation.tables import table_of

SCHEDULING = Path(__file__).parents[2] / "benchmarks" / "scheduling"
EPOCHS = 9
ACCURACY = Value(("val/accuracy",), "max")


@pytest.fixture(scope="module")
def rivals():
    sys.path.insert(0, str(SCHEDULING))
    yield importlib.import_module("rivals")
    sys.path.remove(str(SCHEDULING))


@pytest.fixture(scope="module")
def surrogate():
    """Accuracy is the momentum, at every epoch."""
    space = {"version": 1, "parameters": {"optimizer.momentum": {"float": [0.0, 0.99]}}}
    trials = [
        {
            "trial": str(index),
            "seed": 0,
            "point": {"optimizer.momentum": index / 41},
            "status": "completed",
            "curves": {"val/accuracy": [index / 41] * EPOCHS, "time/epoch_s": [1.0] * EPOCHS},
        }
        for index in range(41)
    ]
    return Surrogate(
        table_of({"name": "momentum", "fixed": {"optimizer.name": "sgd"}, "space": space, "trials": trials})
    )


@pytest.fixture(scope="module")
def names(rivals):
    return [*rivals.rivals(grid=False), "random + promotion 1 2", "random + stopping 2 4"]


@pytest.mark.parametrize("workers", [1, 8])
def test_every_rival_spends_the_budget_no_more_and_repeats_by_its_seed(rivals, surrogate, names, workers):
    for name in names:
        run = rivals.rivals()[name]
        found = run(surrogate, ACCURACY, workers=workers, seed=3, limit=150)
        assert 150 - EPOCHS <= found.passes <= 150, name
        assert found.passes == found.epochs, name  # without attacks
        assert -1e-9 <= found.regret < 0.4, name
        assert run(surrogate, ACCURACY, workers=workers, seed=3, limit=150) == found, name


def test_tunes_asha_stops_at_its_rungs_and_trains_the_best_to_its_end(rivals, surrogate):
    trials = rivals.Trials(surrogate, 0)
    rival = rivals.RandomTune(trials, grace_period=3, reduction_factor=3)
    ends = []
    over = rival.report

    def report(trial, value):
        continues = over(trial, value)
        if not continues:
            ends.append(trial.epoch)
        return continues

    rival.report = report
    rivals.sweep(rival, trials, ACCURACY, workers=2, limit=120)
    assert ends
    assert set(ends) == {3}


def test_bohb_promotes_the_best_of_full_stages_and_begins_the_next_bracket_meanwhile(rivals, surrogate):
    trials = rivals.Trials(surrogate, 0)
    rival = rivals.Bohb(trials)
    assert [(rival._bracket(number).budgets, rival._bracket(number).counts) for number in range(3)] == [
        ([1, 3, 9], [9, 3, 1]),
        ([3, 9], [5, 1]),
        ([9], [3]),
    ]
    first = [rival.next() for _ in range(9)]
    later = rival.next()
    assert later.memory["bracket"] is not first[0].memory["bracket"]
    for trial in first:
        trial.epoch = 1
        assert not rival.report(trial, trial.point["optimizer.momentum"])
    promoted = [rival.next() for _ in range(3)]
    best = sorted(first, key=lambda trial: -trial.point["optimizer.momentum"])[:3]
    assert {trial.number for trial in promoted} == {trial.number for trial in best}


def test_a_pruned_trial_of_optuna_is_told_as_pruned_and_others_with_their_value(rivals, surrogate):
    trials = rivals.Trials(surrogate, 1)
    rival = rivals.OptunaStudy(trials, rivals.successive_halving, workers=2)
    found = rivals.sweep(rival, trials, ACCURACY, workers=2, limit=150)
    states = {trial.state.name for trial in rival._study.trials}
    assert {"PRUNED", "COMPLETE"} <= states
    assert found.trials <= len(rival._study.trials)
    for trial in rival._study.trials:
        if trial.state.name == "COMPLETE":
            assert max(trial.intermediate_values) == EPOCHS
            assert trial.value == trial.intermediate_values[EPOCHS]


@pytest.fixture(scope="module")
def comparison():
    sys.path.insert(0, str(SCHEDULING))
    yield importlib.import_module("comparison")
    sys.path.remove(str(SCHEDULING))


def test_the_documentation_has_the_numbers_of_the_kept_scores(comparison):
    for path, names in comparison.TARGETS.items():
        text = path.read_text(encoding="utf-8")
        for name in set(names) - {"surrogates"}:  # they take a forest for each table
            assert comparison.with_block(text, name, comparison.BLOCKS[name]()) == text, f"{path.name}, {name}"


def test_a_block_is_written_between_its_markers_alone_and_a_page_without_them_is_refused(comparison):
    page = "a\n<!-- comparison.py: x -->\nold\n<!-- end of x -->\nb\n"
    assert comparison.with_block(page, "x", "new") == page.replace("old\n", "\nnew\n\n")
    with pytest.raises(ValueError, match="the page must have"):
        comparison.with_block(page, "y", "new")


def test_the_best_rival_of_a_cell_is_none_of_the_projects_own_policies(comparison):
    scores = {
        name: {0: {"regret": regret, "spent": 1.0}}
        for name, regret in (("defaults", 0.01), ("random + ladder", 0.0), ("BOHB", 0.03), ("Tune's defaults", 0.02))
    }
    assert comparison.best_rival(scores) == "Tune's defaults"
    assert comparison.best_rival({"defaults": scores["defaults"]}) is None
    often = {seed: {"regret": 0.05, "spent": 1.0} for seed in range(comparison.FEW_SEEDS)}
    assert comparison.best_rival({**scores, "BOHB": often}, least_seeds=comparison.FEW_SEEDS) == "BOHB"
    assert comparison.ratio({("digits", "val/accuracy", 0.1, 8): scores}, "BOHB") == pytest.approx(1 / 3)


@pytest.mark.usefixtures("comparison")
def test_a_setting_of_plain_asha_is_chosen_on_other_seeds_than_those_it_is_compared_on():
    plain = sys.modules["plain_asha"]
    lucky, good, other = "random + stopping 1 2", "random + promotion 4 4", "random + stopping 8 4"
    cells = {
        ("digits", "val/accuracy", budget, 8): {
            "defaults": regrets(0.02, 0.02),
            "random + ladder": regrets(0.0, 0.0),
            lucky: regrets(early, 0.5),
            good: regrets(0.03, 0.01),
            other: regrets(0.04, 0.0),
        }
        for budget, early in ((0.1, 0.01), (0.2, 0.09))
    }
    chosen = [plain.best_setting(policies) for policies in cells.values()]
    assert (chosen, plain.one_setting(cells)) == ([lucky, good], good)
    jobs = list(plain.chosen_jobs(cells, plain.TUNING_SEEDS + 1))
    assert [(budget, name, seed) for _, _, budget, _, name, seed in jobs] == [
        (0.1, good, plain.TUNING_SEEDS),
        (0.1, lucky, plain.TUNING_SEEDS),
        (0.2, good, plain.TUNING_SEEDS),
    ]
    assert {line["regret"] for line in plain.held_out(cells["digits", "val/accuracy", 0.1, 8][lucky]).values()} == {0.5}


def regrets(early, late):
    """Scores of a policy with one regret on the seeds that settings are chosen on, and one on two later seeds."""
    tuning = sys.modules["plain_asha"].TUNING_SEEDS
    return {seed: {"regret": early if seed < tuning else late, "spent": 1.0} for seed in range(tuning + 2)}
