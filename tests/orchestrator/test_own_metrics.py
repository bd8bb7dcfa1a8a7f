"""A user's own metrics and suites in a sweep: the objective, the plan, the leaderboard, MLflow and `ravel evaluate`."""

import json
import sys

import pytest
from rich.console import Console

from orchestrator.analysis import leaderboard
from orchestrator.errors import PreflightError, SpecError
from orchestrator.execution import preflight, trial_checks
from orchestrator.planning.declared_metrics import DeclaredMetric, declared_metrics
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.state.events import EpochReported
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from orchestrator.tracking.runs import ShownMetrics, summary_tags

PRICING = """
def cost(logits, labels, missed: float = 2.0):
    return {"mean": missed * (logits.argmax(1) != labels).double().mean(), "most": missed}


cost.unit, cost.direction = "EUR", "min"
cost.metrics = {"most": {"unit": "kEUR"}}
"""
TRAINING = """
def train(lr: float, epochs: int):
    for _ in range(epochs):
        yield {"loss": lr}


train.metrics = {"loss": {"unit": "nats", "direction": "min"}}
"""
SPEC = """
name: a
trial: {{epochs: 3, model.name: mlp, metrics.cost.use: "pricing_of_mine:cost"{trial}}}
space: {{parameters: {{optimizer.lr: {{float: [0.01, 0.1]}}{space}}}}}
objective: {objective}
"""
FUNCTION = """
name: b
trial: {{task: "training_of_mine:train"}}
space: {{parameters: {{lr: {{float: [0.1, 1]}}}}}}
{objective}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's modules, which the user works in."""
    (tmp_path / "pricing_of_mine.py").write_text(PRICING)
    (tmp_path / "training_of_mine.py").write_text(TRAINING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in ("pricing_of_mine", "training_of_mine", "suites_of_mine"):
        sys.modules.pop(name, None)
    return tmp_path


def spec(objective="{metric: val/cost/mean, mode: min}", *, trial="", space=""):
    return parse_spec(SPEC.format(objective=objective, trial=trial, space=space))


def planned(checked, folder):
    place = SweepFolder(folder / "results" / "a-1")
    declared = declared_metrics(checked)
    return make_plan(checked, place, slots=2, now=0.0, working_directory=folder, metrics=declared)


# The objective


def test_any_metric_of_ones_own_is_an_objective_without_importing_it():
    checked = spec(objective="[val/cost/mean min, val/accuracy max, val/cost max]")
    assert checked.objective.metrics == ("val/cost/mean", "val/accuracy", "val/cost")
    assert parse_spec(json.dumps(checked.document())) == checked


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"objective": "val/csot min"}, "objective.metric: unknown metric 'val/csot'; did you mean 'val/cost'?"),
        (
            {"objective": "val/cost"},
            "objective: mode must be 'max' or 'min' for 'val/cost', a metric of your own; add it",
        ),
        ({"objective": "val/costs min"}, "objective.metric: unknown metric 'val/costs'; did you mean 'val/cost'?"),
        (
            {"space": ", metrics.cost.args.missed: {float: [1, 2]}"},
            "space.parameters.metrics.cost.args.missed: all trials of a sweep measure the same; fix it in trial",
        ),
        (
            {"trial": ", metrics.cost.missed: 3"},
            "trial.metrics.cost.missed: unknown parameter; must be metrics.LABEL.use or metrics.LABEL.args.NAME",
        ),
    ],
)
def test_a_spec_is_refused_before_any_import(wrong, problem):
    with pytest.raises(SpecError) as caught:
        spec(**wrong)
    assert [line[: len(problem)] for line in str(caught.value).splitlines()] == [problem]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (
            {"objective": "val/cost/mean max"},
            "objective.mode: must be 'min' for 'val/cost/mean', as its code declares, got 'max'; change the mode or",
        ),
        ({"trial": ", metrics.cost.args.mised: 3"}, "metrics.cost.args.mised: cost has no such argument; did you mean"),
        (
            {"objective": "val/cost min"},
            "objective.metric: must be measured by pricing_of_mine:cost: val/cost/mean",
        ),
    ],
)
def test_a_launch_refuses_what_the_code_contradicts(folder, wrong, problem):
    with pytest.raises(PreflightError) as caught:
        preflight.check(spec(**wrong), str(folder / "results"))
    assert [line[: len(problem)] for line in caught.value.problems] == [problem]


def test_check_names_the_place_in_the_spec(folder):
    with pytest.raises(SpecError, match=r"trial.metrics.cost.args.missed: must be a float, got 'high'"):
        trial_checks.check_own_code(spec(trial=", metrics.cost.args.missed: high"))
    with pytest.raises(SpecError, match=r"objective.1.mode: must be 'min' for 'val/cost/mean'"):
        trial_checks.check_own_code(spec(objective="[val/accuracy max, val/cost/mean max]"))
    trial_checks.check_own_code(spec())
    assert folder


def test_a_training_function_that_declares_a_direction_is_not_swept_against_it(folder):
    trial_checks.check_own_code(parse_spec(FUNCTION.format(objective="objective: loss min")))
    with pytest.raises(SpecError, match=r"objective.mode: must be 'min' for 'loss', as its code declares, got 'max'"):
        trial_checks.check_own_code(parse_spec(FUNCTION.format(objective="objective: loss max")))
    assert folder


# The plan, the leaderboard, MLflow


def test_what_is_declared_is_in_the_plan_and_read_without_an_import(folder):
    trial_checks.check_own_code(spec())
    plan = planned(spec(), folder)
    for name in ("pricing_of_mine.py", "training_of_mine.py"):
        (folder / name).unlink()
    again = SweepPlan.model_validate_json(plan.model_dump_json())
    assert again.metrics == {
        "val/cost": DeclaredMetric(unit="EUR", direction="min"),
        "val/cost/most": DeclaredMetric(unit="kEUR"),
    }
    assert [again.unit_of(f"val/{name}") for name in ("cost/mean", "cost/most", "accuracy")] == ["EUR", "kEUR", ""]
    shown = json.loads(summary_tags(again)["ravel.metrics"])
    assert shown == {"val/cost": {"unit": "EUR", "direction": "min"}, "val/cost/most": {"unit": "kEUR"}}


def test_a_plan_without_declarations_is_written_as_before(folder):
    plan = planned(parse_spec("name: a"), folder)
    assert "metrics" not in json.loads(plan.model_dump_json())
    assert "metrics" not in plan.model_dump()
    assert "ravel.metrics" not in summary_tags(plan)


def test_the_leaderboard_and_mlflow_show_metrics_of_ones_own(folder):
    trial_checks.check_own_code(spec())
    plan = planned(spec(), folder)
    console = Console(width=120)
    with console.capture() as printed:
        console.print(leaderboard.table(plan, SweepState(), top=3))
    assert "(EUR)" in printed.get()
    assert leaderboard.measured(plan, 0.5) == "val/cost/mean 0.5000 EUR"
    measured = {"val/accuracy": 0.5, "val/cost/mean": 1.0, "val/cost/most": 2.0, "val/costs": 3.0}
    event = EpochReported(time=0.0, trial="t000", attempt=1, since_restore=1, epoch=1, metrics=measured)
    shown = ShownMetrics(plan).of(event)
    assert {"val/cost/mean", "val/cost/most"} <= shown
    assert "val/costs" not in shown


# `ravel evaluate`

SUITES = """
from trainables.evaluation.core.figures import figure
from trainables.evaluation.core.results import Table


class Count:
    limits, refusals = ("all images",), ()

    def metrics(self):
        return {"counts/images": 7.0}

    def table(self):
        return Table(("what", "images"), (("test", 7),))

    def figure(self):
        return figure("Counts", x="set", y="images")


def counts(subject, budget, progress):
    print("counting")
    return {"sizes": Count()}


def broken(subject, budget, progress):
    return {}["images"]


def leaves(subject, budget, progress):
    raise SystemExit(1)
"""


@pytest.fixture
def sweep(folder, monkeypatch, trained):
    (folder / "suites_of_mine.py").write_text(SUITES)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAVEL_CACHE", str(folder / "cache"))
    return trained.swept(folder)


def test_a_suite_of_ones_own_is_printed_written_and_tracked(sweep, ravel, folder):
    from mlflow import MlflowClient

    out, err = ravel("evaluate", "digits-1/t001", "--suite", "suites_of_mine:counts", "--json")
    document = json.loads(out)["suites_of_mine:counts"]
    assert document["analyses"]["sizes"]["metrics"] == {"counts/images": 7.0}
    assert "counting" in err
    table = folder / "evaluations/digits-1-t001/suites_of_mine.counts/sizes.csv"
    assert table.read_text().split() == ["what,images", "test,7"]
    client = MlflowClient(sweep.plan.tracking_uri)
    experiment = client.get_experiment_by_name(sweep.plan.experiment).experiment_id
    (run,) = client.search_runs([experiment], f"tags.`ravel.trial` = '{sweep.sweep}/t001'")
    assert run.data.metrics["counts/images"] == 7.0
    paths = [item.path for item in client.list_artifacts(run.info.run_id, "evaluation/suites_of_mine.counts")]
    assert "evaluation/suites_of_mine.counts/sizes.html" in paths


@pytest.mark.usefixtures("sweep")
def test_a_suite_that_fails_is_one_line_and_the_others_run(ravel, monkeypatch, folder):
    monkeypatch.delenv("RAVEL_DEBUG", raising=False)
    names = ",".join(f"suites_of_mine:{name}" for name in ("broken", "leaves", "counts"))
    out, err = ravel("evaluate", "digits-1/t001", "--suite", names, "--no-track", code=3)
    assert "suites_of_mine:counts: sizes" in out
    first, second = err.splitlines()[-2:]
    assert first.startswith("error: not measured: --suite: suites_of_mine:broken fails with \"KeyError: 'images'\" (")
    assert first.endswith(f"{folder}/suites_of_mine.py, line 25); correct it there")
    assert second.startswith("not measured: --suite: suites_of_mine:leaves fails with 'SystemExit: 1' (")
    assert "Traceback" not in err


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize(
    ("suite", "problem"),
    [
        ("suites_of_mine:count", "--suite: module 'suites_of_mine'"),
        ("no_suites:count", "--suite: no module 'no_suites'"),
        ("clen", "--suite: must be of clean, robust"),
    ],
)
def test_a_wrong_name_of_a_suite_is_refused_before_the_model_is_read(ravel, suite, problem):
    _, err = ravel("evaluate", "digits-1/t009", "--suite", suite, code=2)
    assert err.startswith(problem)
