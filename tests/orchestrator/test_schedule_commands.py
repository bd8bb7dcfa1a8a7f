"""`ravel plan`, `ravel replay` and `ravel audit`, as a person runs them."""

import json

import pytest
from typer.testing import CliRunner

from orchestrator.analysis.forecast.forecast import forecast
from orchestrator.cli.main import app
from orchestrator.errors import PlanDamaged
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import fingerprint
from orchestrator.scheduling.registry import pauses, scheduler_of
from orchestrator.state.event_log import EventLog
from orchestrator.state.sweep_folder import SweepFolder

SPEC = """
name: planned
trial: {data.name: digits, model.name: mlp, model.width: 0.25, epochs: 9, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: 20, sampler: random}
scheduler: {grace_period: 1, reduction_factor: 3, audit: 0.5}
"""


def ravel(*arguments, code=0):
    result = CliRunner().invoke(app, arguments, catch_exceptions=True)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def swept(here, virtual_sweep):
    """A sweep in the results folder, as a driver would have left it."""
    sweep = virtual_sweep(SPEC)
    folder = SweepFolder(here / "results" / "virtual")
    folder.path.mkdir(parents=True, exist_ok=True)
    sweep.plan.save(folder)
    with EventLog(folder.events) as log:
        for event in sweep.events:
            log.append(event)
    return sweep


@pytest.mark.usefixtures("here")
def test_plan_tells_trials_epochs_time_rows_and_storage():
    told = ravel("plan", "spec.yaml", "--slots", "2")
    lines = told.splitlines()
    assert lines[0] == "planned: 20 trials of at most 9 epochs, 2 at a time; asha, promotion"
    names = ["scheduler:", "rung", "rung", "end", "epochs", "gradients", "time", "MLflow", "storage"]
    assert [line.split()[0] for line in lines[1:]] == names
    assert lines[1] == "scheduler: asha that pauses and promotes trials, at the rungs of grace_period 1"
    assert lines[2] == "  rung    1: reached by 20 trials"
    assert "MLflow   21 runs" in told


@pytest.mark.usefixtures("here")
def test_plan_says_in_one_line_what_auto_chose_and_why():
    lines = ravel("plan", "spec.yaml", "--slots", "2", "--set", "search.sampler=auto").splitlines()
    (line,) = (line for line in lines if line.startswith("sampler"))
    assert line.startswith("sampler  auto: 10 trials at random, then 4 of 5 points screened, as ")


@pytest.mark.usefixtures("here")
def test_plan_speaks_json_and_scales_its_hours_with_the_seconds_of_an_epoch():
    slow, fast = (
        json.loads(ravel("plan", "spec.yaml", "--slots", "4", "--epoch-s", seconds, "--json"))
        for seconds in ("60", "6")
    )
    assert slow["hours"]["mean"] == pytest.approx(10 * fast["hours"]["mean"])
    assert slow["reached"]["1"]["mean"] == 20
    assert slow["checkpoint_bytes"] > 1_000
    assert 0 < slow["share"] < 1


@pytest.mark.usefixtures("here")
def test_plan_refuses_a_sweep_that_cannot_end_a_trial():
    result = CliRunner().invoke(app, ["plan", "spec.yaml", "--set", "budget.wall_clock_s=5", "--epoch-s", "60"])
    assert "budget.wall_clock_s: one trial of 9 epochs takes about 540 s, the sweep has 5" in str(result.exception)


@pytest.mark.parametrize("scheduler", ["{grace_period: auto}", "{grace_period: auto, budget_fraction: 0.6}"])
def test_a_forecast_of_the_ladder_is_its_budget(scheduler):
    spec = parse_spec(SPEC.replace("{grace_period: 1, reduction_factor: 3, audit: 0.5}", scheduler))
    found = forecast(spec, slots=4, pauses=pauses(spec, slots=4))
    places = scheduler_of(spec, pauses=True, max_epochs=9).schedule.places
    *_, ended = found.reached.values()
    assert ended.mean - 1 >= places[-1]
    assert found.epochs.high - 9 <= spec.scheduler.budget_fraction * 19 * 9


def test_a_forecast_holds_what_sweeps_then_spend(virtual_sweep):
    spec = parse_spec(SPEC.replace(", audit: 0.5", ""))
    found = forecast(spec, slots=2, pauses=True)
    spent = [
        virtual_sweep(SPEC.replace(", audit: 0.5", "").replace("random}", f"random, seed: {seed}}}")).state.epochs_run
        for seed in range(8)
    ]
    assert found.epochs.low * 0.8 <= sum(spent) / len(spent) <= found.epochs.high * 1.2


@pytest.mark.usefixtures("swept")
def test_replay_says_that_every_decision_came_out_as_recorded():
    told = ravel("replay", "virtual")
    assert told.startswith("virtual: every decision came out as recorded (20 trial_created, ")
    assert json.loads(ravel("replay", "virtual", "--json"))["differences"] == []


@pytest.mark.usefixtures("swept")
def test_a_plan_that_was_changed_by_hand_is_refused(here):
    path = here / "results" / "virtual" / "plan.json"
    document = json.loads(path.read_text())
    document["spec"]["scheduler"]["reduction_factor"] = 2
    path.write_text(json.dumps(document))
    with pytest.raises(PlanDamaged, match=r"plan\.json: must be as it was written at the launch.*it was edited"):
        CliRunner().invoke(app, ["replay", "virtual"], catch_exceptions=False)


@pytest.mark.usefixtures("swept")
def test_an_old_plan_that_was_changed_by_hand_is_noticed_by_its_replay(here):
    path = here / "results" / "virtual" / "plan.json"
    document = json.loads(path.read_text())
    del document["checksum"]
    document["format"] = 2
    document["spec"]["scheduler"]["reduction_factor"] = 2
    path.write_text(json.dumps(document))
    told = ravel("replay", "virtual", code=3)
    assert "decisions came out otherwise" in told
    assert "rung_decided: recorded" in told


def test_what_if_tells_who_would_have_ended_otherwise(swept):
    told = ravel("replay", "virtual", "--what-if", "scheduler.grace_period=3")
    assert told.startswith("virtual with other settings: rungs 3, ")
    assert "unknown after their last recorded epoch: " in told
    plain = json.loads(ravel("replay", "virtual", "--what-if", "scheduler.grace_period=3", "--json"))
    assert plain["rungs"] == [3]
    assert plain["epochs"] < swept.state.epochs_run + 20


@pytest.mark.usefixtures("swept")
def test_audit_is_told_to_people_and_programs():
    assert ravel("audit", "virtual").startswith("audit: ")
    found = json.loads(ravel("audit", "virtual", "--json"))
    assert found["audited"] <= found["rejected"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("name: median, kind: promotion", "scheduler.kind: must be 'stopping' for median, got 'promotion'"),
        ("name: pasha, kind: stopping", "scheduler.kind: must be 'promotion' for pasha, got 'stopping'"),
        ("brackets: 2", "scheduler.brackets: must be 1 for asha with grace_period: auto; give grace_period a number"),
        ("grace_period: 1, brackets: 9", "scheduler.brackets: must be 1 to 3 (rungs (1, 3), and one bracket without)"),
        ("grace_period: 1, strata: [mixup.alfa]", "scheduler.strata: not in the space: 'mixup.alfa'; did you mean"),
        (
            "resource: gpu_seconds",
            "scheduler.resource: must be 'auto', 'epochs' or 'gradient_evaluations' for asha",
        ),
        ("name: none, audit: 0.1", "scheduler.audit: must be 0 for none, got 0.1"),
        ("grace_period: never", "scheduler.grace_period: must be 'auto' or a whole number >= 1, got 'never'"),
        ("budget_fraction: 0", "scheduler.budget_fraction: must be > 0, got 0"),
        ("audit: 2", "scheduler.audit: must be <= 1, got 2"),
    ],
)
def test_a_scheduler_that_cannot_be_is_refused_with_its_place_and_law(fields, says):
    from orchestrator.errors import SpecError

    with pytest.raises(SpecError) as error:
        parse_spec(SPEC.replace("grace_period: 1, reduction_factor: 3, audit: 0.5", fields))
    assert says in str(error.value)


def test_a_grid_has_so_many_points_and_no_more():
    from orchestrator.errors import SpecError

    text = SPEC.replace("sampler: random", "sampler: grid, resolution: 2").replace("use: [mixup], ", "")
    with pytest.raises(SpecError, match=r"search.num_trials: must be <= 3: the grid has 2 points, 1 run first, got 20"):
        parse_spec(text)
    assert fingerprint(parse_spec(text, ["search.num_trials=3"]))
