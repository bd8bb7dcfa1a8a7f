"""What is decided before anything runs."""

import json
import subprocess
from pathlib import Path

import pytest

from orchestrator.errors import PlanDamaged, SweepNotFound
from orchestrator.planning import provenance
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.points import first_points
from orchestrator.planning.seeds import derive_seed
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.migrations import plan_of_format_1
from orchestrator.state.sweep_folder import SweepFolder
from trainables.config.trial import TrialConfig
from trainables.tasks.gan import GanConfig
from trainables.tasks.registry import CLASSIFIER, GAN, TASKS, task_of

ASSETS = Path(__file__).parent / "assets"
SPEC = "name: digits\ntrial: {epochs: 9, data.root: here}\nspace: {use: [optimizer, snnl, mixup, adversarial]}\n"


def make(tmp_path, text=SPEC):
    folder = SweepFolder(tmp_path / "digits-1")
    return make_plan(parse_spec(text), folder, slots=2, now=5.0, working_directory=tmp_path), folder


def test_a_plan_is_read_back_as_it_was_written(tmp_path):
    plan, folder = make(tmp_path)
    plan.save(folder)
    assert SweepPlan.load(folder) == plan


def test_a_folder_without_a_plan_is_no_sweep(tmp_path):
    with pytest.raises(SweepNotFound, match=r"no plan\.json here"):
        SweepPlan.load(SweepFolder(tmp_path))


def test_the_rung_schedule_is_called_ladder_on_disk_as_ever(tmp_path):
    plan, folder = make(tmp_path)
    plan.save(folder)
    document = json.loads(folder.plan.read_text())
    assert document["ladder"]["rungs"] == list(plan.rung_schedule.rungs)
    assert "rung_schedule" not in document
    assert SweepPlan(**dict(plan)) == plan


def test_an_old_plan_of_format_1_is_read_for_ever_as_what_was_launched():
    plan = SweepPlan.load(SweepFolder(ASSETS / "plan_v1"))
    assert (plan.spec.trial["model.name"], plan.spec.trial["precision"]) == ("cnn_bn", "float32")
    attacks = plan.spec.space.parameters["adversarial.attack"]
    assert attacks.contains("fgsm_rs")
    assert not attacks.contains("fgsm")
    for point in plan.spec.space.sample_many(20, seed=0):
        TrialConfig.from_point(trial_config(plan, "t001", point))
    assert (plan.sweep, plan.rungs, plan.spec.search.num_trials) == ("digits-20260101-120000", (3, 9), 32)


def test_an_old_plan_of_format_2_is_read_for_ever():
    assert SweepPlan.load(SweepFolder(ASSETS / "plan_v2")) == SweepPlan.load(SweepFolder(ASSETS / "plan_v1"))


def test_an_old_plan_of_format_3_is_read_for_ever():
    assert SweepPlan.load(SweepFolder(ASSETS / "plan_v3")) == SweepPlan.load(SweepFolder(ASSETS / "plan_v1"))


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document["spec"]["search"].update(num_trials=64),
        lambda document: document.update(max_epochs=7),
        lambda document: document.update(checksum="0" * 64),
        lambda document: document.pop("checksum"),
        lambda document: document.update(fingerprint="0" * 64),
    ],
    ids=["spec", "plan", "checksum", "without", "fingerprint"],
)
def test_an_edited_plan_is_refused(tmp_path, edit):
    plan, folder = make(tmp_path)
    plan.save(folder)
    document = json.loads(folder.plan.read_text())
    edit(document)
    folder.plan.write_text(json.dumps(document))
    with pytest.raises(PlanDamaged, match=r"its checksum does not fit: it was edited or damaged; restore it"):
        SweepPlan.load(folder)


def test_a_plan_that_was_formatted_otherwise_is_the_same(tmp_path):
    plan, folder = make(tmp_path, SPEC + "tracking: {experiment: chiffrés}\n")
    plan.save(folder)
    folder.plan.write_text(json.dumps(json.loads(folder.plan.read_text()), sort_keys=True))
    assert SweepPlan.load(folder) == plan


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]", b"null", b"[" * 100_000, b'{"format": 2}', b'{"format": []}']
)
def test_what_is_no_plan_is_named(tmp_path, content):
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises((SweepNotFound, PlanDamaged), match=r"plan\.json: (not a plan of this version|must be as)"):
        SweepPlan.load(SweepFolder(tmp_path))


def test_a_folder_in_the_place_of_a_plan_is_named(tmp_path):
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(SweepNotFound, match=r"plan\.json: must be a file that can be read \(Is a directory\)"):
        SweepPlan.load(SweepFolder(tmp_path))


def test_a_plan_of_format_1_that_holds_no_spec_is_no_plan(tmp_path):
    (tmp_path / "plan.json").write_text('{"format": 1, "spec": {"name": "digits"}}')
    with pytest.raises(SweepNotFound, match="must be that of a plan of format 1"):
        SweepPlan.load(SweepFolder(tmp_path))


@pytest.mark.parametrize(
    ("condition", "today"),
    [("fgsm", "fgsm_rs"), (["fgsm", "pgd"], ["fgsm_rs", "pgd"]), ({"not": "fgsm"}, {"not": "fgsm_rs"}), ("pgd", "pgd")],
)
def test_a_space_of_format_1_keeps_its_points_and_its_conditions(condition, today):
    document = json.loads((ASSETS / "plan_v1" / "plan.json").read_text())
    document["spec"]["search"]["points"] = [{"adversarial.attack": "fgsm", "snnl.layers": "fgsm"}]
    document["spec"]["space"]["parameters"]["adversarial.steps"]["when"]["adversarial.attack"] = condition
    spec = plan_of_format_1(document)["spec"]
    assert spec["search"]["points"] == [{"adversarial.attack": "fgsm_rs", "snnl.layers": "fgsm"}]
    assert spec["space"]["parameters"]["adversarial.steps"]["when"]["adversarial.attack"] == today


def test_the_baseline_has_every_method_off_and_lies_in_the_space(tmp_path):
    plan, _ = make(tmp_path)
    (origin, baseline), *_ = first_points(plan.spec)
    assert origin == "baseline"
    assert [baseline[name] for name in CLASSIFIER.strengths] == [0, 0, 0]
    assert not any(name.startswith(("snnl.t", "mixup.l", "adversarial.s")) for name in baseline)
    assert plan.spec.space.contains(baseline)


def test_the_baseline_is_off_even_where_the_space_has_no_zero():
    spec = parse_spec("name: a\nspace: {parameters: {mixup.alpha: {float: [0.5, 1.0]}}}")
    assert first_points(spec)[0][1]["mixup.alpha"] == 0.0


def test_given_points_are_completed_with_defaults_and_run_after_the_baseline():
    spec = parse_spec(SPEC + "search: {points: [{mixup.alpha: 1.0}]}")
    _, (origin, point) = first_points(spec)
    assert (origin, point["mixup.alpha"]) == ("point", 1.0)
    assert spec.space.contains(point)


def test_every_trial_has_its_own_seed_and_the_same_one_each_time(tmp_path):
    plan, _ = make(tmp_path)
    seeds = [trial_config(plan, f"t{index:03d}", {})["seed"] for index in range(50)]
    assert len(set(seeds)) == 50
    assert seeds[7] == derive_seed(plan.spec.search.seed, "trial", "t007")


def test_a_trial_config_is_whole_and_valid(tmp_path):
    plan, _ = make(tmp_path, SPEC + "scheduler: {grace_period: 3}\n")
    for point in plan.spec.space.sample_many(30, seed=1):
        flat = trial_config(plan, "t001", point)
        config = TrialConfig.from_point(flat)
        assert config.evaluation.epochs == plan.rungs == (3,)
        assert all(name in flat for name in CLASSIFIER.strengths)
        assert flat["data.root"] == str(tmp_path / "here")


def test_no_trial_of_a_classifier_names_its_task_even_if_its_spec_does(tmp_path):
    plan, _ = make(tmp_path)
    said, _ = make(tmp_path, SPEC.replace("{epochs", "{task: classifier, epochs"))
    assert said.fingerprint == plan.fingerprint
    assert said.model_dump_json() == plan.model_dump_json()
    assert trial_config(said, "t001", {}) == trial_config(plan, "t001", {})
    assert "task" not in trial_config(plan, "t001", {})


def test_a_trial_of_a_gan_is_whole_and_valid_and_says_so(tmp_path):
    text = (
        "name: a\ntrial: {task: gan, gan.classifier: there}\nobjective: val/mode_kl min\nscheduler: {grace_period: 3}"
    )
    plan, folder = make(tmp_path, text)
    assert (plan.max_epochs, plan.rungs[0]) == (GanConfig().epochs, 3)
    for point in plan.spec.space.sample_many(30, seed=1):
        flat = trial_config(plan, "t001", point)
        assert task_of(flat) is GAN
        assert isinstance(GAN.from_point(flat), GanConfig)
        assert all(name in flat for name in GAN.strengths)
        assert flat["gan.classifier"] == str(tmp_path / "there")
        assert not any(name.startswith("evaluation.") for name in flat)  # a classifier's
    plan.save(folder)
    assert SweepPlan.load(folder) == plan


def test_the_baseline_of_a_gan_has_both_weights_off():
    spec = parse_spec("name: a\ntrial: {task: gan}\nobjective: val/mode_kl min")
    (_, baseline), *_ = first_points(spec)
    assert [baseline[name] for name in GAN.strengths] == [0, 0]
    assert baseline["gan.generator_lr"] == GanConfig().gan.generator_lr
    assert spec.space.contains(baseline)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_parameters_and_metrics_of_a_task_are_its_own(task):
    assert set(task.strengths) <= set(task.parameter_names)
    assert all(task.defaults[name] == 0 for name in task.strengths)
    assert all(task.measures(metric.name.replace("<tap>", "conv1")) for metric in task.metrics)
    assert task.passes_per_epoch({"task": task.name}) == 1


def test_a_password_in_the_environment_never_reaches_the_plan(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@host")
    plan, folder = make(tmp_path)
    plan.save(folder)
    assert plan.tracking_uri is None
    assert "hunter2" not in folder.plan.read_text()


def test_a_relative_store_stays_where_the_sweep_was_launched(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert make(tmp_path)[0].tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    named, _ = make(tmp_path, SPEC + "tracking: {uri: 'sqlite:///runs.db'}")
    assert named.tracking_uri == f"sqlite:///{tmp_path}/runs.db"


def test_the_rungs_are_measured_whatever_else_a_trial_asks_for(tmp_path):
    plan, _ = make(
        tmp_path, "name: digits\ntrial: {epochs: 9, evaluation.epochs: [2, 5]}\nscheduler: {grace_period: 3}"
    )
    assert plan.rungs == (3,)
    assert trial_config(plan, "t001", {})["evaluation.epochs"] == [2, 3, 5]


@pytest.mark.parametrize("name", ["data.root", "data.cache"])
def test_a_relative_folder_is_meant_from_where_the_sweep_was_launched(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", "/home/ada")
    for given, expected in (("x/y", str(tmp_path / "x" / "y")), ("~/y", "/home/ada/y"), ("/y", "/y")):
        plan, _ = make(tmp_path, f"name: digits\ntrial: {{{name}: {given}}}")
        assert trial_config(plan, "t001", {})[name] == expected


def test_what_was_changed_has_one_digest_whatever_git_is_told_to_show(tmp_path):
    def git(*arguments):
        person = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *person, *arguments], check=True, capture_output=True)

    def changed_to(content):
        (tmp_path / "weights.bin").write_bytes(content)
        return provenance.collect(tmp_path).git_diff

    git("init")
    (tmp_path / "weights.bin").write_bytes(b"\0")
    git("add", ".")
    git("commit", "-m", "first")
    assert provenance.collect(tmp_path).git_diff is None
    first = changed_to(b"\0first")
    assert changed_to(b"\0other") != first
    git("config", "color.ui", "always")
    git("config", "diff.external", "true")
    git("config", "core.abbrev", "4")
    assert changed_to(b"\0first") == first
    (tmp_path / "untracked").write_text("not of the commit")
    assert changed_to(b"\0first") == first
