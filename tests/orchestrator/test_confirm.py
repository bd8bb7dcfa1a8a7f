"""`ravel confirm`: what is trained, with which seeds, and what is claimed of it."""

import json
import re
from pathlib import Path

import pytest

from orchestrator import changing
from orchestrator.analysis.claims.claim_output import plain_claim
from orchestrator.analysis.evaluation.claim_file import load_claim
from orchestrator.analysis.evaluation.confirmation import evaluated, trials_by_configuration
from orchestrator.analysis.result import SweepResult
from orchestrator.decisions.propose import propose
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.planning.changes.fork import fresh_seeds
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.points import first_points
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import (
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.log_segments import num_events
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from ravel import open as open_sweep
from search_spaces import dump_yaml
from trainables.config.trial import TrialConfig
from trainables.evaluation.core.results import no_progress
from trainables.tasks.classifier.run import start

SPEC = """
name: digits
trial: {data.name: digits, model.name: mlp, model.width: 0.25, epochs: 2, batch_size: 64, optimizer.name: sgd, seed: 3}
space:
  use: [mixup]
  parameters:
    optimizer.lr: {float: [0.01, 0.2], log: true}
    snnl.weight: {float: [0.01, 0.3]}
search: {num_trials: 8, sampler: random, points: [{optimizer.lr: 0.1, mixup.alpha: 0.0, snnl.weight: 0.02}]}
scheduler: {grace_period: 1}
"""
SCORES = {
    "t000": 0.90,
    "t001": 0.97,
    "t002": 0.95,
    "t003": 0.99,
    "t004": 0.96,
    "t005": 0.80,
    "t006": 0.70,
    "t007": 0.60,
}
STOPPED = {"t003", "t006"}


def folder_of(root, spec, *, parent=None, sweep=None):
    """A planned sweep on disk whose driver has begun."""
    folder = SweepFolder(root / "results" / (sweep or f"{spec.name}-1"))
    folder.path.mkdir(parents=True)
    make_plan(spec, folder, slots=2, now=1.0, working_directory=root, parent=parent).save(folder)
    append(folder, [SweepStarted(time=1.0, generation=1, host="here", pid=1)])
    return folder


def append(folder, events):
    with EventLog(folder.events) as log:
        for event in events:
            log.append(event)


def run_trials(folder, trials, *, saved=False):
    """Events of trials of a plan, in its order of points: ``trials`` has a score and a status for each id."""
    plan, state = SweepPlan.load(folder), SweepState.read(folder.events)
    for trial, (score, status) in trials.items():
        origin, point = propose(state, plan.spec)
        epoch = 1 if status == "stopped" else plan.max_epochs
        events = [
            TrialCreated(time=2.0, trial=trial, origin=origin, point=point, config=trial_config(plan, trial, point)),
            AttemptStarted(time=2.0, trial=trial, attempt=1),
            EpochReported(
                time=3.0, trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics={"val/accuracy": score}
            ),
            *([CheckpointSaved(time=3.0, trial=trial, epoch=epoch, path=f"tune/{trial}/{epoch}")] if saved else []),
            TrialEnded(time=4.0, trial=trial, status=status, rung=1 if status == "stopped" else None),
        ]
        for event in events:
            state.apply(event)
        append(folder, events)


@pytest.fixture
def search(tmp_path, monkeypatch):
    """A search of eight trials: t003 is the best and was stopped, t001 is the best at full budget."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    folder = folder_of(tmp_path, parse_spec(SPEC))
    run_trials(folder, {name: (score, "stopped" if name in STOPPED else "completed") for name, score in SCORES.items()})
    append(folder, [SweepEnded(time=9.0, status="completed")])
    return folder


def configs_of(made, root):
    folder = SweepFolder(root / "planned")
    plan = make_plan(made.spec, folder, slots=2, now=1.0, working_directory=root, parent=made.parent)
    return [trial_config(plan, f"t{index:03d}", point) for index, (_, point) in enumerate(first_points(made.spec))]


def test_the_best_trials_at_full_budget_are_confirmed_and_none_that_was_stopped(search):
    made = changing.confirm(search, "again", top=3, seeds=2)
    assert [item.name for item in made.parent.confirmation.configurations] == ["control", "t001", "t004", "t002"]
    assert made.parent.trials == ("t001", "t004", "t002")
    assert [item.searched for item in made.parent.confirmation.configurations[1:]] == pytest.approx([0.07, 0.06, 0.05])


def test_all_configurations_have_the_same_seeds_and_none_of_the_search(search, tmp_path):
    made = changing.confirm(search, "again", top=3, seeds=5)
    configs = configs_of(made, tmp_path)
    seeds = [config.pop("seed") for config in configs]
    used = {trial.config["seed"] for trial in SweepResult.read(search).state.trials.values()}
    assert len(configs) == made.spec.search.num_trials == 20
    assert sorted(seeds) == sorted(4 * list(dict.fromkeys(seeds)))
    assert len(set(seeds)) == 5
    assert not used & set(seeds)
    different = {json.dumps(config, sort_keys=True) for config in configs}
    assert len(different) == 4


def test_the_control_has_all_methods_off_and_the_other_settings_of_the_best_trial(search, tmp_path):
    made = changing.confirm(search, "again", top=2, seeds=3)
    control, best, *_ = configs_of(made, tmp_path)
    assert (control["mixup.alpha"], control["snnl.weight"]) == (0.0, 0.0)
    assert control["optimizer.lr"] == best["optimizer.lr"] == 0.1
    assert control["seed"] == best["seed"]
    again = [config for config in configs_of(made, tmp_path) if config["snnl.weight"] == 0.0]
    assert len(again) == 3  # though the search's range of snnl.weight has no 0
    assert len({json.dumps({**config, "seed": 0}, sort_keys=True) for config in again}) == 1


def test_a_confirmed_configuration_is_what_the_search_trained_but_for_its_seed(search, tmp_path):
    made = changing.confirm(search, "again", top=3, seeds=2)
    trained = {trial.id: trial.config for trial in SweepResult.read(search).state.trials.values()}
    ignored = {"seed": 0, "evaluation.epochs": []}
    for name, config in zip(("t001", "t004", "t002"), configs_of(made, tmp_path)[1:4], strict=True):
        assert {**config, **ignored} == {**trained[name], **ignored}


def test_a_confirmation_stops_no_trial_and_has_no_budget(search):
    spec = changing.confirm(search, "again", top=1, seeds=2).spec
    assert (spec.scheduler.name, spec.budget.wall_clock_s, spec.storage.keep_best) == ("none", None, None)


def test_the_seeds_are_a_function_of_the_search_and_the_name(search):
    one, same, other = (changing.confirm(search, name, top=1, seeds=4).spec for name in ("again", "again", "another"))
    assert one.canonical() == same.canonical()
    seeds = [{point["seed"] for point in spec.search.points} for spec in (one, other)]
    assert not seeds[0] & seeds[1]


def test_used_seeds_are_skipped():
    first = fresh_seeds(0, "a", count=4, used=())
    assert fresh_seeds(0, "a", count=3, used=first[:1]) == first[1:]
    assert len(set(fresh_seeds(0, "a", count=200, used=()))) == 200


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top": 9}, "--top: must be at most 6, the trials of digits-1 that ran their full budget; got 9"),
        ({"top": 6}, "--top: must be at most 5, the different configurations with a method that ran to the end; got 6"),
        ({"seeds": 1}, "--seeds: must be >= 2, as one seed shows no spread; got 1"),
        ({"seeds": 400}, "--seeds: must be at most 333 with 2 configurations and the control, got 400"),
        ({"name": "digits"}, "--name: must differ from that of the earlier sweep, got 'digits'"),
        (
            {"metric": "test/accuracy"},
            "--metric: must be a metric of --suite .* got 'test/accuracy'",
        ),
        (
            {"settings": ["trial.epochs=9"]},
            "--set trial.epochs: must begin with one of .* got 'trial.epochs=9'",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_confirmed_is_refused_with_the_requirement(search, wrong, message):
    with pytest.raises(SpecError, match=re.escape(message).replace(r"\.\*", ".*")):
        changing.confirm(search, **{"name": "again", "top": 2, "seeds": 2, **wrong})


def test_the_plan_names_what_is_confirmed_and_is_read_back(search, tmp_path):
    made = changing.confirm(search, "again", top=2, seeds=2)
    folder = folder_of(tmp_path, made.spec, parent=made.parent)
    plan = SweepPlan.load(folder)
    assert (plan.format, plan.confirmation) == (5, made.parent.confirmation)
    assert plan.confirmation.metric == "test/accuracy"


def test_a_plan_of_a_fork_and_a_spec_without_a_baseline_are_written_as_before(search, tmp_path):
    made = changing.fork(search, "wider")
    folder = folder_of(tmp_path, made.spec, parent=made.parent)
    document = json.loads(folder.plan.read_text())
    assert document["format"] == 4
    assert "confirmation" not in document["parent"]
    assert "baseline" not in document["spec"]["search"]


def test_the_baseline_of_a_spec_may_have_other_settings_but_no_method():
    spec = parse_spec(SPEC, ["search.baseline={optimizer.lr: 0.05}"])
    assert first_points(spec)[0][1]["optimizer.lr"] == 0.05
    with pytest.raises(SpecError) as refused:
        parse_spec(SPEC, ["search.baseline={snnl.weight: 0.1, optimizer.lr: 7.0, model.depth: 3}"])
    paths = [problem.path for problem in refused.value.problems]
    assert paths == ["search.baseline.snnl.weight", "search.baseline.optimizer.lr", "search.baseline.model.depth"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Four trained models: of two configurations and two seeds."""
    root = tmp_path_factory.mktemp("models")
    point = {"data.name": "digits", "model.name": "mlp", "model.width": 0.25, "batch_size": 64, "epochs": 2}
    for index in range(4):
        loop = start(TrialConfig.from_point({**point, "seed": index, "optimizer.lr": (0.002, 0.1)[index % 2]}))
        while not loop.finished:
            loop.run_epoch()
        loop.save(root / f"t{index:03d}" / "2")
    return root


@pytest.fixture
def confirmed(search, tmp_path, models):
    """A confirmation of one configuration with two seeds whose trials have models, without Ray."""
    made = changing.confirm(search, "again", top=1, seeds=2)
    folder = folder_of(tmp_path, made.spec, parent=made.parent)
    folder.tune.mkdir(exist_ok=True)
    for trial in models.iterdir():
        (folder.tune / trial.name).symlink_to(trial)
    run_trials(folder, {f"t{index:03d}": (0.9, "completed") for index in range(4)}, saved=True)
    append(folder, [SweepEnded(time=9.0, status="completed")])
    return folder


def test_trials_are_paired_by_configuration_and_seed(confirmed):
    result = SweepResult.read(confirmed)
    trials = trials_by_configuration(result.plan.confirmation, result)
    assert {name: [trial.id for trial in own.values()] for name, own in trials.items()} == {
        "control": ["t000", "t002"],
        "t001": ["t001", "t003"],
    }
    assert list(trials["control"]) == list(trials["t001"])


def test_the_claim_has_the_accuracies_that_ravel_evaluate_measures(confirmed, ravel):
    out, _ = ravel("confirm", "again-1", "--no-track", "--json")
    document = json.loads(out)
    measured = {}
    for trial in ("t000", "t001", "t002", "t003"):
        evaluation, _ = ravel("evaluate", f"again-1/{trial}", "--no-track", "--json")
        (analysis,) = json.loads(evaluation)["clean"]["analyses"].values()
        measured[trial] = analysis["metrics"]["test/accuracy"]
    control, better = document["rows"]
    result = SweepResult.read(confirmed)
    for row, own in zip(
        (control, better), trials_by_configuration(result.plan.confirmation, result).values(), strict=True
    ):
        assert row["values"] == {str(seed): measured[trial.id] for seed, trial in own.items()}
    assert better["gain"]["mean"] == pytest.approx(better["mean"] - control["mean"])
    assert better["searched"] == pytest.approx(0.07)
    assert better["lost"] == pytest.approx(0.07 - better["gain"]["mean"])
    assert document["confirms"]["sweep"] == "digits-1"
    assert [Path(f"evaluations/again-1-{trial}/clean/report.json").is_file() for trial in measured] == [True] * 4


@pytest.mark.usefixtures("confirmed")
def test_the_table_says_what_was_found(ravel):
    out, _ = ravel("confirm", "again-1", "--no-track")
    assert "test/accuracy (max) on the test split, 2 paired seeds" in out
    assert re.search(r"t001 (is better than|cannot be distinguished from) the control: \+0\.\d{4} \(95 % ", out)
    assert "the search reported +0.0700" in out
    assert re.search(r"^control: .*optimizer.lr 0.1, snnl.weight 0$", out, re.MULTILINE)


def test_the_test_split_is_not_read_before_every_trial_is_over(search, tmp_path, monkeypatch):
    made = changing.confirm(search, "again", top=1, seeds=2)
    folder = folder_of(tmp_path, made.spec, parent=made.parent)
    run_trials(folder, {f"t{index:03d}": (0.9, "completed") for index in range(3)})
    monkeypatch.setattr("trainables.data.load_test", lambda _: pytest.fail("the test split was read"))
    with pytest.raises(OrchestratorError, match=r"every trial must be over before .* and 1 are not"):
        evaluated(SweepResult.read(folder), progress=no_progress, track=lambda *_: None)


def test_seeds_are_added_to_every_configuration_by_an_order(confirmed):
    answer = changing.add_seeds(confirmed, 2)
    assert answer.outcome == "written"
    assert "search.num_trials: 4 to 8" in str(answer)
    (order,) = confirmed.path.rglob("orders/*.json")
    points = json.loads(order.read_text())["points"]
    known = {trial.config["seed"] for trial in SweepResult.read(confirmed).state.trials.values()}
    seeds = [point["seed"] for point in points]
    assert [seeds.count(seed) for seed in dict.fromkeys(seeds)] == [2, 2]
    assert not known & set(seeds)
    assert sorted(point["snnl.weight"] for point in points) == [0.0, 0.0, 0.02, 0.02]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["confirm", "digits-1", "--seeds", "+2"], "--seeds: must be a whole number, as this sweep is no confirmation"),
        (["confirm", "again-1", "--seeds", "4"], "--seeds: must be +N, seeds to add to this confirmation; got '4'"),
        (["confirm", "digits-1", "--suite", "colour"], "--suite: must be of clean, "),
        (
            ["confirm", "digits-1", "--address", "http://h:8265"],
            "must be local, processes, auto or HOST:PORT to confirm a sweep",
        ),
    ],
    ids=["more seeds of a search", "seeds of a confirmation", "suite", "address"],
)
@pytest.mark.usefixtures("confirmed")
def test_wrong_arguments_are_refused(ravel, arguments, message):
    _, err = ravel(*arguments, code=2)
    assert message in err.replace("\n", " ")


def test_a_dry_run_prints_the_spec_and_starts_nothing(search, ravel):
    out, _ = ravel("confirm", "digits-1", "--top", "2", "--seeds", "3", "--dry-run")
    spec = parse_spec(out)
    assert (spec.name, spec.search.num_trials, spec.scheduler.name) == ("digits-confirm", 9, "none")
    assert [path.name for path in search.path.parent.iterdir()] == ["digits-1"]


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ([], {}),
        (["--top", "2", "--seeds", "3"], {"top": 2, "seeds": 3}),
        (
            ["--name", "again", "--suite", "clean", "--metric", "test/nll min", "--set", "resources.max_concurrent=1"],
            {"name": "again", "suites": ["clean"], "metric": "test/nll min", "set": {"resources.max_concurrent": 1}},
        ),
    ],
    ids=["defaults", "numbers", "names"],
)
def test_a_confirmation_from_python_is_that_of_the_command(search, ravel, monkeypatch, arguments, keywords):
    planned = open_sweep(search.path).confirm(**keywords, dry_run=True)
    out, _ = ravel("confirm", "digits-1", *arguments, "--dry-run")
    assert dump_yaml(planned.document()) == out.rstrip("\n") + "\n"
    launched = []
    monkeypatch.setattr("orchestrator.launching.launch", lambda spec, **_: launched.append((spec, _["parent"])))
    monkeypatch.setattr("orchestrator.analysis.evaluation.confirmation.evaluated", lambda *_, **__: "claim")
    monkeypatch.setattr("orchestrator.analysis.report.attaching.keep_claim", lambda *_, **__: None)
    assert open_sweep(search.path).confirm(**keywords) == "claim"
    monkeypatch.setattr("orchestrator.cli.change._claim", lambda *_, **__: None)
    ravel("confirm", "digits-1", *arguments)
    (spec, parent), by_command = launched
    assert by_command == (spec, parent)
    assert spec == planned


def test_the_claim_from_python_is_that_of_the_command(confirmed, ravel):
    claimed = open_sweep(confirmed.path).confirm(track=False)
    assert load_claim(SweepResult.read(confirmed)) == claimed, "it is kept for the report"
    confirmed.claim.unlink()
    document = json.loads(ravel("confirm", "again-1", "--no-track", "--json")[0])
    assert json.loads(json.dumps(plain_claim(claimed))) == {name: document[name] for name in plain_claim(claimed)}


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_confirmation_from_python_trains_evaluates_and_returns_its_claim_once_more(search):
    claimed = open_sweep(search.path).confirm(top=1, seeds=2, name="again", track=False)
    confirmation = open_sweep("again", storage=search.path.parent)
    assert {trial.status for trial in confirmation.result.state.trials.values()} == {"completed"}
    assert [(row.name, len(row.values)) for row in claimed.rows] == [("control", 2), ("t001", 2)]
    assert set(claimed.seeds) == {trial.config["seed"] for trial in confirmation.result.state.trials.values()}
    events = num_events(confirmation.folder.events)
    assert confirmation.confirm(track=False) == claimed
    assert num_events(confirmation.folder.events) == events  # nothing was left to run


def test_further_seeds_from_python_are_the_order_of_the_command(confirmed, monkeypatch):
    monkeypatch.setattr("orchestrator.launching.resume", lambda folder, **_: SweepResult.read(folder))
    monkeypatch.setattr("orchestrator.analysis.evaluation.confirmation.evaluated", lambda *_, **__: "claim")
    monkeypatch.setattr("orchestrator.analysis.report.attaching.keep_claim", lambda *_, **__: None)
    assert open_sweep(confirmed.path).confirm(seeds="+2") == "claim"
    (order,) = confirmed.path.rglob("orders/*.json")
    assert len(json.loads(order.read_text())["points"]) == 4
    with pytest.raises(SpecError, match=re.escape("--seeds: must be +N, seeds to add to this confirmation; got '4'")):
        open_sweep(confirmed.path).confirm(seeds=4)


def test_a_dry_run_of_a_confirmation_is_refused_and_orders_nothing(confirmed, ravel):
    _, err = ravel("confirm", "again-1", "--seeds", "+2", "--dry-run", code=2)
    assert "--dry-run: must be left out of again-1, a confirmation that is planned already" in err
    assert list(confirmed.path.rglob("orders/*.json")) == []


@pytest.mark.usefixtures("confirmed")
def test_status_calls_a_confirmation_one_and_a_fork_a_fork(search, tmp_path, ravel):
    assert "  confirmation of digits-1, from t001\n" in ravel("status", "again-1")[0]
    assert json.loads(ravel("status", "again-1", "--json")[0])["plan"]["parent"]["kind"] == "confirmation"
    made = changing.fork(search, "wider")
    folder_of(tmp_path, made.spec, parent=made.parent)
    assert "  fork of digits-1, from t003, t001, t004, t002\n" in ravel("status", "wider-1")[0]


def test_a_plan_of_format_5_is_read_for_ever():
    plan = SweepPlan.load(SweepFolder(Path(__file__).parent / "assets/plan_v5"))
    control, best = plan.confirmation.configurations
    assert (plan.format, plan.parent.sweep, control.name, best.name) == (5, "digits-1", "control", "t001")
    assert (best.searched, plan.confirmation.metric) == (pytest.approx(0.07), "test/accuracy")
    assert first_points(plan.spec)[0][1]["optimizer.lr"] == best.point["optimizer.lr"]
