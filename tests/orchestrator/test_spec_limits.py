"""Sizes that no sweep has are refused at once, each with its reason; a blank value is the default."""

import json

import pytest

from orchestrator.errors import SpecError
from orchestrator.planning.loading import MAX_CHARACTERS, parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.points import max_epochs_of
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.sweep_folder import SweepFolder

HUGE = 10**30
POINT = {"snnl.weight": 0.01}
OPTIONS = list(range(2, 3000))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("setting", "place", "requirement"),
    [
        ("trial.epochs=[1]", "trial.epochs", "must be an integer"),
        ("trial.epochs={a: 1}", "trial.epochs", "must be an integer"),
        ("trial.epochs=.inf", "trial.epochs", "must be an integer"),
        ("trial.epochs=.nan", "trial.epochs", "must be an integer"),
        ("trial.epochs=100000", "trial.epochs", "must be <= 10,000, as each"),
        (f"trial.epochs={HUGE}", "trial.epochs", "must be <= 10,000, as each"),
        ("space.parameters.epochs={int: [1, 1000000000]}", "space.parameters.epochs", "must be <= 10,000, as each"),
        ("space.parameters.epochs={choice: [a, 3]}", "space.parameters.epochs", "must be an integer"),
        (f"search.num_trials={10**18}", "search.num_trials", "must be <= 100,000, the driver"),
        (f"search.resolution={10**9}", "search.resolution", "must be <= 1,000, the values"),
        (f"search.seed={HUGE}", "search.seed", "a whole number of 64 bits"),
        (f"failures.user={HUGE}", "failures.user", "a whole number of 64 bits"),
        (f"resources.max_concurrent={HUGE}", "resources.max_concurrent", "a whole number of 64 bits"),
        (f"scheduler.grace_period={HUGE}", "scheduler.grace_period", "must be <= 1,000,000,000,000"),
        (f"scheduler.reduction_factor={10**400}", "scheduler.reduction_factor", "must be <= 1,000,000"),
        (f"search.points={json.dumps([POINT] * 5000)}", "search.points", "must have at most 1000 entries"),
        (f"trial={json.dumps(dict.fromkeys(map(str, range(5000)), 1))}", "trial", "must have at most 200 entries"),
        (f"trial.evaluation.epochs={OPTIONS}", "trial.evaluation.epochs", "must have at most 1,000 entries"),
        (f"space.parameters.optimizer.lr={{choice: {OPTIONS}}}", "space", "has more than 5,000 extreme points"),
        (
            f"space.parameters={json.dumps(dict.fromkeys(map('p{}'.format, range(5000)), 1))}",
            "space.parameters",
            "must have at most 200 parameters",
        ),
        (f"trial.model.name={'x' * MAX_CHARACTERS}", "<string>", "must have at most 150,000 characters"),
    ],
    ids=lambda text: text[:40],
)
def test_a_size_that_no_sweep_has_is_refused_with_its_reason(setting, place, requirement):
    with pytest.raises(SpecError) as caught:
        parse_spec("name: a\nspace: {use: [optimizer, snnl, mixup, adversarial]}", [setting])
    lines = [line for line in str(caught.value).split("\n") if line.startswith(f"{place}: ")]
    assert lines
    assert requirement in lines[0]


@pytest.mark.timeout(20)
def test_a_grid_of_many_points_is_counted_and_not_listed():
    parse_spec("name: a", ["search.sampler=grid", "search.resolution=1000", "search.num_trials=100000"])


@pytest.mark.timeout(20)
def test_a_grid_whose_constraint_leaves_nothing_is_not_tried_to_its_end():
    parameters = {f"optimizer.{name}": {"float": [0.1, 0.9]} for name in ("lr", "momentum", "ema_decay", "decay")}
    space = {"parameters": parameters, "constraints": ["optimizer.lr >= 0.5"]}
    settings = [f"space={json.dumps(space)}", "search.sampler=grid", "search.resolution=1000"]
    with pytest.raises(SpecError, match=r"search.num_trials: must be <= \d+: of 50,000 combinations, constraints"):
        parse_spec("name: a", [*settings, "search.num_trials=100000"])


@pytest.mark.parametrize("setting", ["trial.epochs=", "trial.evaluation.robust_epsilon="])
def test_a_blank_value_in_the_trial_is_as_none_at_all(setting, tmp_path):
    blank, absent = (parse_spec("name: a\nevaluation: {robust_epsilon: 0.2}", settings) for settings in ([setting], []))
    configs = [
        trial_config(
            make_plan(spec, SweepFolder(tmp_path, "a-1"), slots=1, now=0.0, working_directory=tmp_path), "t000", {}
        )
        for spec in (blank, absent)
    ]
    assert configs[0] == configs[1]


def test_an_epoch_choice_with_a_blank_option_counts_the_default():
    assert max_epochs_of(parse_spec("name: a", ["space.parameters.epochs={choice: [null, 3]}"])) == 27


def test_many_unknown_names_in_the_trial_are_each_reported_once():
    trial = dict.fromkeys(map("unknown{}".format, range(150)), 1)
    with pytest.raises(SpecError) as caught:
        parse_spec("name: a", [f"trial={json.dumps(trial)}"])
    assert len(caught.value.problems) == 150
