"""Users' own samplers and schedulers: functions of the log, live, resumed, replayed and simulated; wrong ones named."""

import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from orchestrator.analysis.forecast.forecast import expected_epochs, forecast
from orchestrator.analysis.replay import replay
from orchestrator.analysis.result import SweepResult
from orchestrator.analysis.sweep_progress import progress
from orchestrator.decisions.promotion import Promotion, next_promotion
from orchestrator.decisions.propose import propose
from orchestrator.decisions.rung import decide
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import OwnCodeFailed, SpecError
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan
from orchestrator.planning.provenance import uses_own_code
from orchestrator.scheduling.registry import pauses, scheduler_of
from orchestrator.simulation.imagined_sweep import decider_problems
from orchestrator.spec.json_schema import sweep_schema
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import RungDecided, SweepStarted, TrialCreated, TrialEnded, TrialPromoted, decode, encode
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from orchestrator.testing import check_sampler, check_scheduler
from search_spaces import Float, SearchSpace
from trainables import import_paths

RAVEL = Path(sys.executable).with_name("ravel")
EXAMPLES = Path(__file__).parents[2] / "examples"
MESSAGES = Path(__file__).parent / "assets" / "own_search_messages.txt"
SPEC = """
name: own
trial: {epochs: 9}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1e-3, 1.0], log: true}}
search: {sampler: "mutation:Mutation", args: {spread: 0.2}, num_trials: NUM, seed: 3}
scheduler: {name: "percentile_halving:PercentileHalving", args: {percentile: 60}, kind: KIND}
"""
BOX = {"lr": {"float": [0.001, 1.0], "log": True}, "kind": {"choice": ["a", "b"]}, "size": {"int": [1, 9]}}
counter = itertools.count()


def spec_of(*, kind="promotion", num=30):
    return SPEC.replace("NUM", str(num)).replace("KIND", kind)


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """``module(body)`` writes a module in the working directory, and returns its name."""

    def write(body):
        name = f"search_of_mine_{next(counter)}"
        (tmp_path / f"{name}.py").write_text(body)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return write


def test_a_spec_that_names_no_code_of_its_own_has_the_fingerprint_that_it_had():
    spec = parse_spec("name: a\nsearch: {sampler: tpe}\nscheduler: {name: asha, resource: epochs}")
    digest = hashlib.sha256(spec.canonical().encode()).hexdigest()
    assert digest == "bdde433dd8945aaeff46b26551ecba74a2523aeb221e7713dfdde5974250c57d"
    assert "args" not in parse_spec("name: a").search.model_dump()


def test_arguments_are_part_of_the_spec_and_of_its_fingerprint():
    one, other = (parse_spec(spec_of(), [f"search.args.spread={spread}"]) for spread in (0.2, 0.3))
    assert one.canonical() != other.canonical()
    assert one.document()["search"]["args"] == {"spread": 0.2}
    assert uses_own_code(one)


@pytest.mark.parametrize("kind", ["promotion", "stopping"])
def test_a_sweep_with_both_replays_bit_for_bit_from_its_log(virtual_sweep, kind):
    sweep = virtual_sweep(spec_of(kind=kind, num=300), workers=4)
    assert len(sweep.state.trials) == 300
    found = replay(sweep.plan, [decode(encode(event)) for event in sweep.events])
    assert found.differences == ()
    assert found.counts["trial_created"] == 300
    assert found.counts["rung_decided"] > 100


@pytest.mark.parametrize("kind", ["promotion", "stopping"])
def test_a_driver_that_starts_again_at_any_point_decides_as_one_that_never_stopped(virtual_sweep, kind):
    sweep = virtual_sweep(spec_of(kind=kind), workers=3)
    plan = SweepPlan.model_validate_json(sweep.plan.model_dump_json())
    for index, event in enumerate(sweep.events):
        state = restarted(sweep.events[:index], now=event.time)
        decisions = DecisionState(plan, state)
        match event:
            case RungDecided():
                fields = event.model_dump(exclude={"v", "time", "kind"})
                assert decide(decisions, event.trial, event.rung) == fields
            case TrialPromoted():
                assert next_promotion(decisions, now=event.time) == Promotion(event.trial, event.rung)
            case TrialCreated():
                assert propose(state, plan.spec) == (event.origin, event.point)


def restarted(events, *, now):
    state = SweepState([decode(encode(event)) for event in events])
    for trial in state.with_status("running"):
        state.apply(TrialEnded(time=now, trial=trial.id, status="interrupted"))
    state.apply(SweepStarted(time=now, generation=2, host="there", pid=2))
    return state


@pytest.mark.parametrize(
    ("ours", "optunas", "arguments"),
    [
        ("cmaes", "CmaEsSampler", {}),
        ("nsga2", "NSGAIISampler", {"population_size": 4}),
        ("tpe", "TPESampler", {"multivariate": True, "group": True, "constant_liar": True}),
        ("random", "RandomSampler", {}),
    ],
)
def test_a_sampler_of_optuna_by_its_path_proposes_what_ours_of_that_name_does(ours, optunas, arguments):
    given = {"space": BOX, "num_trials": 15}
    assert check_sampler(f"optuna.samplers:{optunas}", arguments, **given) == check_sampler(ours, **given)


def test_a_forecast_simulates_a_scheduler_of_ones_own_as_a_sweep_asks_it():
    spec = parse_spec(spec_of())
    expected = forecast(spec, slots=4, pauses=True)
    assert list(expected.reached) == [1, 3, 9]
    assert expected.reached[9].mean < expected.reached[3].mean < 30 == expected.reached[1].mean


def test_kind_decides_if_a_scheduler_that_takes_pauses_promotes_and_one_that_does_not_stops(module):
    text = "scheduler: {name: '%s', kind: %s}"
    both = [
        parse_spec(f"name: a\n{text % ('percentile_halving:PercentileHalving', kind)}")
        for kind in ("auto", "promotion", "stopping")
    ]
    assert [[pauses(spec, slots=slots) for slots in (2, 64)] for spec in both] == [
        [True, False],
        [True, True],
        [False, False],
    ]
    name = f"{module(scheduler())}:A"
    assert not pauses(parse_spec(f"name: a\n{text % (name, 'auto')}"), slots=2)
    with pytest.raises(SpecError, match=r"must take the argument `pauses` for scheduler.kind: promotion"):
        pauses(parse_spec(f"name: a\n{text % (name, 'promotion')}"), slots=2)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (
            "scheduler.grace_period=2",
            "scheduler.grace_period: 'percentile_halving:PercentileHalving' has no such field",
        ),
        ("scheduler.reduction_factor=2", "scheduler.reduction_factor: "),
        ("scheduler.budget_fraction=0.5", "scheduler.budget_fraction: "),
        ("scheduler.brackets=2", "scheduler.brackets: "),
        ("scheduler.resource=gpu_seconds", "scheduler.resource: "),
        ("scheduler.strata=[optimizer.lr]", "scheduler.strata: "),
        ("scheduler.args.x=.nan", "scheduler.args.x: must be finite, got nan"),
    ],
)
def test_a_field_that_ones_own_scheduler_does_not_have_is_refused(setting, problem):
    with pytest.raises(SpecError) as caught:
        parse_spec(spec_of(), [setting])
    (line,) = str(caught.value).splitlines()
    assert line.startswith(problem)


@pytest.mark.parametrize("section", ["search", "scheduler"])
def test_a_sampler_and_a_scheduler_of_ours_take_no_arguments(section):
    with pytest.raises(SpecError, match=rf"{section}.args.x: (auto|asha) takes no arguments"):
        parse_spec("name: a", [f"{section}.args.x=1"])


def test_the_json_schema_knows_names_import_paths_and_arguments():
    schema = sweep_schema()
    document = {"name": "a", "search": {"sampler": "mine:S", "args": {"a": 1}}, "scheduler": {"name": "pasha"}}
    jsonschema.validate(document, schema)
    for section, field in (("search", "sampler"), ("scheduler", "name")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"name": "a", section: {field: "ashaa"}}, schema)


def test_a_package_registers_names(module, tmp_path, monkeypatch):
    name = module("def propose(space, seed): return space.sample(seed)\n")
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ravel.samplers]\nuniform = {name}:propose\n")
    import_paths.registered.cache_clear()
    try:
        spec = parse_spec("name: a\nsearch: {sampler: uniform, num_trials: 3}\nspace: {use: [mixup]}")
        assert decider_problems(spec) == []
    finally:
        import_paths.registered.cache_clear()
        monkeypatch.undo()
    with pytest.raises(SpecError, match=r"search.sampler: no installed package registers 'uniform' in ravel.samplers"):
        propose(SweepState([TrialCreated(time=0, trial="t000", origin="baseline", point={}, config={})]), spec)


def written(sweep, folder):
    sweep.plan.save(folder)
    with EventLog(folder.events) as log:
        for event in sweep.events:
            log.append(event)
    return folder


def test_commands_that_read_import_no_code_of_a_user_and_replay_names_what_is_missing(virtual_sweep, tmp_path):
    for name in ("mutation", "percentile_halving"):
        shutil.copy(EXAMPLES / f"{name}.py", tmp_path / f"{name}_of_mine.py")
    sys.path.insert(0, str(tmp_path))
    text = spec_of(num=12).replace("mutation:", "mutation_of_mine:").replace("halving:", "halving_of_mine:")
    try:
        sweep = virtual_sweep(text, workers=2)
        folder = written(sweep, SweepFolder(tmp_path / "results" / "own-1"))
        assert progress(sweep.plan, sweep.state, now=99.0).num_trials == 12
    finally:
        sys.path.remove(str(tmp_path))
    for name in ("mutation", "percentile_halving"):
        (tmp_path / f"{name}_of_mine.py").write_text("raise RuntimeError('imported')\n")
    for words in (["status"], ["best"], ["logs"]):
        done = ravel(*words, "own-1", cwd=tmp_path)
        assert (done.returncode, "RuntimeError" in done.stderr) == (0, False), done.stderr
    assert ravel("list", cwd=tmp_path).returncode == 0
    plan = SweepResult.read(folder).plan
    assert expected_epochs(plan) == 12 * 9
    for name in ("mutation", "percentile_halving"):
        (tmp_path / f"{name}_of_mine.py").unlink()
    done = ravel("replay", "own-1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"scheduler.name: no module 'percentile_halving_of_mine' in {tmp_path} nor installed; run where it is, or "
        "install its package\n"
    )


def ravel(*words, cwd):
    return subprocess.run([RAVEL, *words], cwd=cwd, capture_output=True, text=True, check=False)


# What authors do wrong, and the messages: of `ravel check` where it can be seen there.

SAMPLER = "def propose(space, trials, index, seed{}):\n    return {}\n"
BODY = """
from orchestrator.scheduling.rung_decision import RungDecision
class A:
    pauses, rungs = PAUSES, RUNGS
    def __init__(selfARGUMENTS): ...
    def decide(self, views, trial, level): return ANSWER
    def promote(self, views, *, unstarted): return PROMOTED
"""


def scheduler(answer="None", *, pauses="False", rungs="(1, 3)", promoted="None", arguments=""):
    body = BODY.replace("PAUSES", pauses).replace("RUNGS", rungs).replace("ARGUMENTS", arguments)
    return body.replace("ANSWER", answer).replace("PROMOTED", promoted)


WRONG_SAMPLERS = {
    "an import that fails": ("import no_such_library\n", {}),
    "an import that raises": ("raise RuntimeError('no licence')\n", {}),
    "a misspelt name": ("def propse(space, seed): ...\n", {}),
    "no class": ("propose = 3\n", {}),
    "an unknown argument": (SAMPLER.format(", spread=0.1", "space.sample(seed)"), {"spraed": 1}),
    "an argument of the wrong type": (SAMPLER.format(", spread: float = 0.1", "space.sample(seed)"), {"spread": "far"}),
    "a missing argument": (SAMPLER.format(", spread", "space.sample(seed)"), {}),
    "an argument that we pass": (SAMPLER.format("", "space.sample(seed)"), {"seed": 3}),
    "no point": (SAMPLER.format("", "None"), {}),
    "a point outside": (SAMPLER.format("", "{**space.sample(seed), 'optimizer.lr': 7.0}"), {}),
    "a missing value": (SAMPLER.format("", "{'optimizer.lr': 0.1}"), {}),
    "an unknown parameter": (SAMPLER.format("", "{**space.sample(seed), 'lr': 0.1}"), {}),
    "a scalar of numpy": (
        "import numpy\n" + SAMPLER.format("", "{**space.sample(seed), 'optimizer.lr': numpy.float64(0.1)}"),
        {},
    ),
    "a point that breaks a constraint": (SAMPLER.format("", "{**space.sample(seed), 'optimizer.lr': 0.95}"), {}),
    "an error": (SAMPLER.format("", "{'optimizer.lr': trials[99].point['optimizer.lr']}"), {}),
    "an exit": (SAMPLER.format("", "exit(1)"), {}),
    "no seed": ("def propose(sigma=1):\n    import optuna\n    return optuna.samplers.TPESampler()\n", {}),
    "no sampler": ("def propose(seed):\n    return 'tpe'\n", {}),
    "an error of Optuna": (
        "def propose(seed):\n    import optuna\n    return optuna.samplers.BruteForceSampler(seed=seed)\n",
        {},
    ),
}
KEPT = "RungDecision(level, True)"
WRONG_SCHEDULERS = {
    "no method promote": ("class A:\n    pauses, rungs = False, ()\n    def decide(self, *asked): ...\n", {}),
    "an unknown argument": (scheduler(arguments=", share=0.5"), {"shar": 1}),
    "an argument that we pass": (scheduler(arguments=", max_epochs"), {"max_epochs": 1}),
    "pauses without the argument": (scheduler(pauses="True"), {}),
    "pauses that is not returned": (scheduler(arguments=", pauses"), {}),
    "rungs that fall": (scheduler(rungs="(3, 1)"), {}),
    "rungs that are a list": (scheduler(rungs="[1, 3]"), {}),
    "an error": (scheduler("views['t999']"), {}),
    "a bool": (scheduler("True"), {}),
    "another rung": (scheduler("RungDecision(2, True)"), {}),
    "kept of numpy": (f"import numpy\n{scheduler('RungDecision(level, numpy.bool_(True))')}", {}),
    "a cutoff that is a number": (scheduler("RungDecision(level, True, 0.5)"), {}),
    "competitors that are none": (scheduler("RungDecision(level, True, None, 0)"), {}),
    "an error when it is made": (scheduler(arguments="): raise ValueError('no share')\n    def share(self"), {}),
}
WRONG_PROMOTIONS = {
    "no trial": "'t999'",
    "no name": "3",
    "one that runs": "next((t for t, view in views.items() if view.state == 'running'), None)",
    "one that is completed": "next((t for t, view in views.items() if view.state == 'completed'), None)",
}


def problems_of(document):
    try:
        problems = decider_problems(parse_spec(json.dumps(document)))
    except SpecError as error:
        problems = error.problems
    return " | ".join(map(str, problems))


def test_messages_about_wrong_code_are_as_recorded(module, tmp_path):
    space = {"use": ["mixup"], "parameters": {"optimizer.lr": {"float": [1e-3, 1.0]}}}
    space["constraints"] = ["optimizer.lr < 0.9 or mixup.alpha > 100"]
    start = {"name": "a", "trial": {"epochs": 9}, "space": space}
    lines = []
    for what, (body, arguments) in WRONG_SAMPLERS.items():
        name = module(body)
        search = {"sampler": f"{name}:propose", "args": arguments, "num_trials": 20}
        lines.append(f"sampler, {what}: {problems_of({**start, 'search': search})}".replace(name, "mine"))
    for what, (body, arguments) in WRONG_SCHEDULERS.items():
        name = module(body)
        named = {"name": f"{name}:A", "args": arguments}
        lines.append(f"scheduler, {what}: {problems_of({**start, 'scheduler': named})}".replace(name, "mine"))
    for what, promoted in WRONG_PROMOTIONS.items():
        name = module(scheduler("RungDecision(level, False)", pauses="True", promoted=promoted, arguments=", pauses"))
        named = {"name": f"{name}:A", "kind": "promotion"}
        lines.append(f"promotion, {what}: {problems_of({**start, 'scheduler': named})}".replace(name, "mine"))
    lines = [line.replace(f"{tmp_path}/", "") for line in lines]
    assert lines == MESSAGES.read_text().splitlines(), "\n".join(lines)
    assert all(len(line) <= 480 for line in lines)


def test_an_error_in_a_sweep_names_the_trial_and_the_remedy(module):
    late = SAMPLER.format("", "space.sample(seed) if index < 20 else {}")
    spec = parse_spec(f"name: a\nspace: {{use: [mixup]}}\nsearch: {{sampler: '{module(late)}:propose'}}")
    assert decider_problems(spec) == []
    first = TrialCreated(time=0, trial="t000", origin="baseline", point={}, config={"epochs": 9})
    state = SweepState(first.model_copy(update={"trial": f"t{index:03}"}) for index in range(21))
    with pytest.raises(OwnCodeFailed, match=r"wrong point for trial t021: .*; mend it, then `ravel resume` continues"):
        propose(state, spec)


# The battery for authors.

HIDDEN = {
    "a global generator": "import random\ndef propose(space): return space.sample(random.getrandbits(20))\n",
    "numpy's generator": "import numpy\ndef propose(space): return space.sample(int(numpy.random.randint(999)))\n",
    "a module that counts": "n = 0\ndef propose(space):\n    global n\n    n += 1\n    return space.sample(n)\n",
    "a class that counts": (
        "class Sampler:\n    asked = 0\n    def propose(self, space):\n"
        "        type(self).asked += 1\n        return space.sample(self.asked)\npropose = Sampler\n"
    ),
    "a cache by length": (
        "seen = {}\ndef propose(space, trials, seed):\n"
        "    known = seen.setdefault('most', []); known += trials[len(known):]\n    return space.sample(len(known))\n"
    ),
    "an unseeded sampler": "def propose(seed):\n    import optuna\n    return optuna.samplers.RandomSampler()\n",
}


@pytest.mark.parametrize("what", HIDDEN)
def test_the_battery_finds_a_sampler_that_is_no_function_of_the_log(module, what):
    with pytest.raises(AssertionError, match=r"differ at trial|restarted before trial"):
        check_sampler(f"{module(HIDDEN[what])}:propose", space=BOX)


@pytest.mark.parametrize("name", ["halton:propose", "mutation:Mutation", "tpe", "qmc"])
@pytest.mark.parametrize("constraints", [[], ["a < b"]], ids=["free", "constrained"])
def test_the_battery_passes_samplers_that_are(name, constraints):
    space = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}, constraints=constraints)
    points = check_sampler(name, space=space, num_trials=12)
    assert len(points) == 12
    assert all(space.contains(point) for point in points[1:])


@pytest.mark.parametrize("num_trials", [1, 2])
def test_the_battery_takes_sweeps_of_one_trial_and_two(num_trials):
    assert len(check_sampler("mutation:Mutation", space=BOX, num_trials=num_trials)) == num_trials


def test_several_objectives_reach_a_sampler_in_the_order_of_the_spec(module):
    body = (
        "def propose(space, trials, seed):\n"
        "    assert all(len(values) == 2 and values[1] <= 0 for t in trials for values in t.values.values())\n"
        "    return space.sample(seed)\n"
    )
    check_sampler(f"{module(body)}:propose", space=BOX, objective=["val/accuracy max", "val/nll min"])


REMEMBERING = {
    "counts": (
        "n = 0\n",
        "RungDecision(level, count() % 2 == 0)",
        "def count():\n    global n\n    n += 1\n    return n\n",
    ),
    "draws": ("import random\n", "RungDecision(level, random.random() < 0.5)", ""),
    "reads another level": ("", "RungDecision(level, level == 1 or views[trial].values.get(2, (0.0,))[0] > 0.5)", ""),
    "changes a view": ("from dataclasses import replace\n", "views.put(replace(views[trial], maximum=99))", ""),
}


@pytest.mark.parametrize("what", REMEMBERING)
def test_the_battery_finds_a_scheduler_that_is_no_function_of_the_views(module, what):
    before, answer, after = REMEMBERING[what]
    name = module(f"{before}{scheduler(answer)}{after}")
    with pytest.raises(AssertionError, match=r"decide from the views alone|changed the views"):
        check_scheduler(f"{name}:A")


@pytest.mark.parametrize("name", ["asha", "pasha", "median", "none", "percentile_halving:PercentileHalving"])
def test_the_battery_passes_schedulers_that_are(name):
    check_scheduler(name, max_epochs=9)


def test_a_scheduler_that_rejects_every_trial_keeps_the_baseline(module):
    spec = parse_spec(f"name: a\nscheduler: {{name: '{module(scheduler('RungDecision(level, False)'))}:A'}}")
    assert decider_problems(spec) == []
    assert scheduler_of(spec, pauses=False, max_epochs=9).rungs == (1, 3)
    check_scheduler(spec.scheduler.name)


def test_one_import_has_the_checks_of_every_package():
    import ravel.testing

    assert {"check_sampler", "check_scheduler", "check_task", "check_model"} <= set(dir(ravel.testing))
    assert ravel.testing.check_sampler is check_sampler
    with pytest.raises(AttributeError, match=r"has no attribute 'check_nothing'"):
        _ = ravel.testing.check_nothing


FUNCTION = """
import loss_of_search

def train(lr: float, epochs: int):
    for epoch in range(epochs):
        yield {"loss": loss_of_search.loss(lr, epoch)}
"""
LOSS = "def loss(lr, epoch): return lr / (epoch + 1)"
LIVE = """
name: live
trial: {task: "function_of_search:train", epochs: 3}
space: {parameters: {lr: {float: [0.001, 1.0], log: true}}}
objective: loss min
search: {sampler: "deciders_of_search:propose", num_trials: 16}
scheduler: {name: "deciders_of_search:A", kind: stopping}
resources: {max_concurrent: 1}
"""


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_an_error_of_either_ends_a_sweep_as_failed_and_it_is_resumed_once_mended_and_names_all_that_changed(tmp_path):
    good = SAMPLER.format("", "space.sample(seed)") + scheduler(KEPT, rungs="(1,)")
    late = good.replace(KEPT, f"{KEPT} if trial < 't010' else {{}}['lost']")
    later = good.replace("space.sample(seed)", "space.sample(seed) if index < 12 else {'lr': 9.0}")
    (tmp_path / "function_of_search.py").write_text(FUNCTION)
    (tmp_path / "loss_of_search.py").write_text(LOSS)
    (tmp_path / "sweep.yaml").write_text(LIVE)
    (tmp_path / "deciders_of_search.py").write_text(late)
    failed = ravel("launch", "sweep.yaml", cwd=tmp_path)
    assert failed.returncode == 3, failed.stderr
    error = (
        "scheduler.name: deciders_of_search:A failed to decide about trial t01[0-9] at level 1 with KeyError: 'lost'"
    )
    assert re.search(error, failed.stderr), failed.stderr
    assert "Traceback" not in failed.stderr
    status = ravel("status", "live", cwd=tmp_path).stdout
    assert "failed" in status
    assert "KeyError: 'lost'" in status
    (tmp_path / "deciders_of_search.py").write_text(later)
    failed = ravel("resume", "live", "--address", "processes", cwd=tmp_path)
    assert failed.returncode == 3, failed.stderr
    assert "proposed a wrong point for trial t013: lr: must be a float in [0.001, 1], log, got 9.0" in failed.stderr
    (tmp_path / "deciders_of_search.py").write_text(good)
    (tmp_path / "loss_of_search.py").write_text(f"{LOSS} + 1")
    resumed = ravel("resume", "live", "--address", "processes", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "deciders_of_search.py changed since the launch" in resumed.stderr
    assert "loss_of_search.py changed since the launch; trials that continue use the new code" in resumed.stderr
    assert "function_of_search.py" not in resumed.stderr
    assert "16/16 trials" in resumed.stdout
    replayed = ravel("replay", "live", cwd=tmp_path)
    assert "every decision came out as recorded (16 trial_created, 16 rung_decided)" in replayed.stdout
    assert "deciders_of_search.py changed since the launch; decisions are repeated" in replayed.stderr
