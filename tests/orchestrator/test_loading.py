"""Every mistake of a spec at once, each with its path, the requirement and the nearest valid name."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.errors import SpecError
from orchestrator.execution import local_trial
from orchestrator.planning.loading import load_spec, load_trial, parse_spec
from orchestrator.planning.plan import fingerprint
from orchestrator.planning.points import first_points
from orchestrator.spec.json_schema import sweep_schema
from orchestrator.spec.model import SweepSpec
from search_spaces import Float, SearchSpace, dump_yaml

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*.yaml"))
SIX_MISTAKES = """
name: digits
trial: {data.name: digitz}
space:
  use: [optimizer, snl]
  parameters:
    optimzer.lr: {float: [1e-3, 1.0], log: true}
search: {num_trails: 48}
scheduler: {reduction_factor: 1}
objective: {metric: val/acuracy}
"""
SIX_LINES = """\
space.use: unknown fragment 'snl'; did you mean 'snnl'?
objective.metric: unknown metric 'val/acuracy'; did you mean 'val/accuracy'?
search.num_trails: unknown field; did you mean 'num_trials'?
scheduler.reduction_factor: must be >= 2, got 1
trial.data.name: must be one of 'digits', 'mnist', 'fashion_mnist', 'kmnist', 'cifar10', 'cifar100', 'svhn', \
'image_folder', 'arrays' or 'huggingface', or an import path (package.module:attribute), got 'digitz'
space.parameters.optimzer.lr: no trial has this parameter; did you mean 'optimizer.lr'?
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_valid_spec(path):
    assert load_spec(path).name == path.stem


def test_six_mistakes_are_six_lines_exit_2_and_import_no_heavy_library(tmp_path):
    spec = tmp_path / "six.yaml"
    spec.write_text(SIX_MISTAKES)
    code = (
        "import sys\nfrom orchestrator.cli import main as cli\n"
        f"sys.argv = ['ravel', 'launch', {str(spec)!r}]\n"
        "try: cli.main()\n"
        "finally: print(sorted({'ray', 'torch', 'mlflow', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == SIX_LINES
    assert done.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == [spec]


ROBUST = "name: a\nobjective: {metric: val/robust_accuracy}"
CUT_ANYWHERE = """
name: a
space:
  parameters:
    mixup.alpha: {fixed: 1.0}
    mixup.kind: {choice: [mixup, cutmix]}
    mixup.layers: {choice: [input, hidden]}
"""
STEPS_SHORT = """
name: a
space: {use: [pgd]}
search: {points: [{adversarial.epsilon: 0.1, adversarial.steps: 2, adversarial.relative_step: 0.1}]}
"""
WRONG = [
    ("[]", "<string>: must be a mapping of fields"),
    ("name: a\nname: b", "duplicate key 'name'"),
    ("trial: {epochs: 3}", "name: is required"),
    ("name: Digits", "name: must be at most 63 of a-z"),
    (
        "name: a\nresources: {gpus: lots}",
        "resources.gpus: must be 'auto', a fraction of one GPU or a whole number >= 0, got 'lots'",
    ),
    ("name: a\nresources: {gpus: 1.5}", "resources.gpus: must be 'auto', a fraction"),
    ("name: a\nsearch: {num_trials: 1, points: [{}]}", "search.num_trials: must be >= 2"),
    (
        f"{ROBUST}\nevaluation: {{robust_epsilon: 0}}",
        "evaluation.robust_epsilon: must be > 0",
    ),
    (
        f"{ROBUST}\ntrial: {{evaluation.robust_epsilon: 0.0}}",
        "trial.evaluation.robust_epsilon: must be > 0",
    ),
    (
        f"{ROBUST}\nspace: {{parameters: {{evaluation.robust_epsilon: {{choice: [0.0, 0.1]}}}}}}",
        "space.parameters.evaluation.robust_epsilon: must be > 0",
    ),
    (
        CUT_ANYWHERE,
        "space.parameters.mixup.layers: must be 'input' for cutmix, got 'hidden'",
    ),
    (
        "name: a\nspace: {parameters: {optimizer.warmup_epochs: {float: [0.0, 40.0]}, epochs: {int: [10, 60]}}}",
        "space.parameters.optimizer.warmup_epochs: must be < epochs (10), got ",
    ),
    (
        "name: a\nspace: {use: [optimizer]}\ntrial: {optimizer.lr: [0.1]}",
        "trial.optimizer.lr: must be a plain Python number, got list",
    ),
    (
        "name: a\ntrial: {optimizer.warmup_epochs: 30}\nspace: {parameters: {epochs: {choice: [20, 50]}}}",
        "trial.optimizer.warmup_epochs: must be < epochs (20), got 30",
    ),
    (
        "name: a\ntrial: {model.width: -1.0}\nspace: {parameters: {epochs: {choice: [20, 50]}}}",
        "trial.model.width: must be > 0, got -1.0",
    ),
    ("name: a\nresources: {cpus: .nan}", "resources.cpus: "),
    ("name: a\nfailures: 7", "failures: must be a mapping, got 7"),
    (
        "name: a\nsearch: {sampler: tpee}",
        "'random' or 'grid', or an import path (package.module:attribute), got 'tpee'; did you mean 'tpe'?",
    ),
    ("name: a\nobjective: {metric: val/nll}", "objective: mode must be 'min' for 'val/nll', got 'max'"),
    ("name: a\nobjective: {metric: train/loss, mode: min}", "objective.metric: must be measured on the validation"),
    ("name: a\nstorage: {uri: 'gs://bucket/x'}", "storage.uri: must be a folder or s3://BUCKET/PREFIX"),
    ("name: a\nstorage: {uri: 's3://b'}", "storage.uri: s3://b/: a bucket's name must be 3 to 255"),
    ("name: a\ntracking: {uri: 'http://me:secret@host'}", "tracking.uri: must not carry a password"),
    ("name: a\ntracking: {uri: 'http://token@host'}", "tracking.uri: must not carry a password"),
    ("name: a\ntracking: {uri: 'postgresql://me:a/b@host/db'}", "tracking.uri: must not carry a password"),
    ("name: a\ntracking: {uri: 'postgresql://host/db?password=x'}", "tracking.uri: must not carry a password"),
    ("name: a\ntracking: {uri: 'postgresql://me:12/ab@host/db'}", "tracking.uri: must not carry a password"),
    ("name: a\ntracking: {uri: 'postgresql://me@you@host/db'}", "tracking.uri: must not carry a password"),
    ("name: a\ntracking: {uri: 'http://me:12/ab@host'}", "tracking.uri: must not carry a password"),
    ("name: a\ntracking: {uri: 'http://host/?token=ab'}", "tracking.uri: must not carry a query"),
    (
        "name: a\nstorage: {uri: 'gs://me:ab@bucket'}",
        "storage.uri: must be a folder or s3://BUCKET/PREFIX, got 'gs://***@",
    ),
    ("name: a\nscheduler: {strata: mixup.alpha}", "scheduler.strata: must be a list, got 'mixup.alpha'"),
    ("name: a\ntracking: {taps: [a, b, c, d, e, f, g]}", "tracking.taps: must have at most 6 entries, got 7"),
    (
        "name: a\ntrial: {epochs: 3}\nspace: {parameters: {epochs: {int: [1, 9]}}}",
        "trial.epochs: is both fixed in `trial` and searched in `space.parameters`; remove one",
    ),
    ("name: a\nspace: {parameters: {batch_size: {float: [1.5, 3.5]}}}", "space.parameters.batch_size: "),
    (
        "name: a\nspace: {parameters: {optimizer.lr: {float: [-1.0, 1.0]}}}",
        "space.parameters.optimizer.lr: must be > 0",
    ),
    (
        "name: a\nsearch: {points: [{mixup.alfa: 1.0}]}",
        "search.points.0.mixup.alfa: not in the space; did you mean 'mixup.alpha'?",
    ),
    ("name: a\nsearch: {points: [{mixup.alpha: 99.0}]}", "search.points.0.mixup.alpha: must be "),
    ("name: a\nversion: 2", "version: must be 1, got 2"),
    (
        "name: a\nspace: {use: [pgd]}\ntrial: {adversarial.relative_step: 0.1, adversarial.steps: 3}",
        "space.constraint 'adversarial.relative_step * adversarial.steps >= 1': no point satisfies it: adversarial.rel",
    ),
    (
        "name: a\nspace: {use: [optimizer], constraints: [optimizer.lr > 2]}",
        "space.constraints: 0 of 10,000 draws (0 %) satisfy the constraints; refused by 'optimizer.lr > 2': 10,000",
    ),
    (
        "name: a\nspace: {use: [optimizer], constraints: [optimizer.lr / 0 > 2]}",
        "space.constraint 'optimizer.lr / 0 > 2': has no value where optimizer.lr = ",
    ),
    (
        STEPS_SHORT,
        "search.points.0: must satisfy the constraint 'adversarial.relative_step * adversarial.steps >= 1', got {",
    ),
]


GAN = "name: a\ntrial: {task: gan}\nobjective: {metric: val/mode_kl, mode: min}\n"
WRONG_GAN = [
    ("name: a\ntrial: {task: gna}", "trial.task: unknown task 'gna'; did you mean 'gan'?"),
    ("name: a\ntrial: {task: 3}", "trial.task: unknown task 3; valid: classifier, gan"),
    ("name: a\ntrial: {task: gan}", "objective.metric: must be measured by a gan: val/real_fake_entanglement, "),
    (
        "name: a\nobjective: [val/accuracy max, val/mode_kl min]",
        "objective.1.metric: must be measured by a classifier: val/accuracy, ",
    ),
    (f"{GAN}evaluation: {{robust_epsilon: 0.3}}", "evaluation.robust_epsilon: a gan is not attacked; leave it out"),
    (
        "name: a\ntrial: {task: gan}\nobjective: {metric: val/manifold_recall}",
        "trial.evaluation.feature_space: must be 'classifier' to measure the objective val/manifold_recall, got none",
    ),
    (
        f"{GAN}space: {{parameters: {{mixup.alpha: {{float: [0, 1]}}}}}}",
        "space.parameters.mixup.alpha: no trial has this parameter; one with trial.task: classifier has it",
    ),
    (
        "name: a\nspace: {parameters: {gan.beta_1: {float: [0, 0.5]}}}",
        "space.parameters.gan.beta_1: no trial has this parameter; one with trial.task: gan has it",
    ),
    (
        f"{GAN}space: {{parameters: {{gan.beta1: {{float: [0, 0.5]}}}}}}",
        "space.parameters.gan.beta1: no trial has this parameter; did you mean 'gan.beta_1'?",
    ),
    (
        "name: a\nspace: {parameters: {task: {choice: [gan, classifier]}}}",
        "space.parameters.task: all trials of a sweep train the same; name it in trial.task",
    ),
    (GAN.replace("gan}", "gan, gan.latent_dim: 0}"), "trial.gan.latent_dim: must be >= 1, got 0"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_GAN)
def test_a_wrong_spec_of_a_gan_names_the_place_the_requirement_and_the_value(text, message):
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_every_mistake_of_a_spec_of_a_gan_is_reported_at_once():
    with pytest.raises(SpecError) as caught:
        parse_spec(f"{GAN}search: {{num_trails: 3}}\nspace: {{parameters: {{mixup.alpha: {{float: [0, 1]}}}}}}")
    assert [problem.path for problem in caught.value.problems] == ["search.num_trails", "space.parameters.mixup.alpha"]


@pytest.mark.parametrize("make", [parse_spec, lambda text: SweepSpec(**yaml.safe_load(text))], ids=["yaml", "python"])
def test_a_gan_without_a_space_searches_what_the_catalog_has_for_it(make):
    assert {name.partition(".")[0] for name in make(GAN).space.names} == {"gan"}


def test_an_editor_knows_the_names_of_every_task():
    validator = jsonschema.Draft202012Validator(sweep_schema())
    assert validator.is_valid({"name": "a", "trial": {"task": "gan", "gan.latent_dim": 32, "epochs": 9}})
    assert not validator.is_valid({"name": "a", "trial": {"task": "gna"}})
    assert not validator.is_valid({"name": "a", "trial": {"gan.latent_dims": 32}})


def test_one_trial_of_a_gan_alone_is_trained_and_reported_epoch_by_epoch():
    spec = parse_spec(GAN, ["trial.epochs=2", "trial.gan.generator_width=0.25", "trial.evaluation.images=64"])
    lines = []
    local_trial.run(spec, say=lines.append)
    assert [line.partition(": gan/")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all("val/mode_kl=" in line for line in lines)


def test_a_requirement_between_parameters_is_kept_by_a_constraint():
    spec = parse_spec(CUT_ANYWHERE + "  constraints: [mixup.kind == 'mixup' or mixup.layers == 'input']\n")
    assert len(spec.space.constraints) == 1
    assert parse_spec(json.dumps(spec.document())) == spec


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_spec_names_the_place_the_requirement_and_the_value(text, message):
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_missing_file_is_named():
    with pytest.raises(SpecError, match=r"^nowhere.yaml: cannot be read: No such file or directory$"):
        load_spec("nowhere.yaml")


def test_overrides_reach_sections_and_dotted_parameters():
    overrides = [
        "search.num_trials=5",
        "trial.data.name=digits",
        "space.parameters.optimizer.lr={float: [1e-3, 1e-1]}",
    ]
    spec = parse_spec("name: a\nspace: {use: [optimizer]}", overrides)
    assert spec.search.num_trials == 5
    assert spec.trial == {"data.name": "digits"}
    assert spec.space.parameters["optimizer.lr"] == Float(1e-3, 1e-1)


@pytest.mark.parametrize("override", ["search.num_trials", "=3", "name.x=3", "search.seed=["])
def test_a_wrong_override_is_named(override):
    with pytest.raises(SpecError, match="--set"):
        parse_spec("name: a", [override])


@pytest.mark.parametrize(
    ("objective", "override", "expected"),
    [
        ("val/accuracy", "objective.metric=val/robust_accuracy", [("val/robust_accuracy", "max")]),
        ("val/nll min", "objective.metric=val/ece", [("val/ece", "min")]),
        ("val/nll", "objective.mode=min", [("val/nll", "min")]),
        ("[val/nll min, val/accuracy max]", "objective.metric=val/ece", [("val/ece", "min"), ("val/accuracy", "max")]),
        ("[val/nll min, val/ece]", "objective.1.mode=min", [("val/nll", "min"), ("val/ece", "min")]),
        ("[val/nll min, {metric: val/ece}]", "objective.1=val/accuracy", [("val/nll", "min"), ("val/accuracy", "max")]),
        ("", "objective.metric=val/robust_accuracy", [("val/robust_accuracy", "max")]),
    ],
)
def test_an_override_reaches_into_every_form_of_an_objective(objective, override, expected):
    spec = parse_spec(f"name: a\nobjective: {objective}\n", [override])
    assert [(item.metric, item.mode) for item in spec.objective.all] == expected


def test_an_override_reaches_the_places_that_messages_name():
    text = "name: a\nspace: {use: [mixup]}\nsearch: {points: [{mixup.alpha: 0.1}, {mixup.alpha: 0.2}]}\n"
    points = parse_spec(text, ["search.points.1.mixup.alpha=0.4"]).search.points
    assert [point["mixup.alpha"] for point in points] == [0.1, 0.4]


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        (
            "scheduler: asha",
            "scheduler.name=pasha",
            "--set scheduler.name: needs a mapping in scheduler, which is 'asha' in the spec; write {field: value}",
        ),
        (
            "search: {points: []}",
            "search.points.0.mixup.alpha=1",
            "--set search.points.0.mixup.alpha: must name an entry of the list by its number (it is empty), got '0'",
        ),
        (
            "objective: [val/nll min]",
            "objective.1.metric=val/ece",
            "--set objective.1.metric: must name an entry of the list by its number (0 to 0), got '1'",
        ),
    ],
)
def test_an_override_that_reaches_no_field_says_what_is_there(text, override, message):
    with pytest.raises(SpecError) as caught:
        parse_spec(f"name: a\n{text}\n", [override])
    assert message in map(str, caught.value.problems)


def test_a_fixed_trial_parameter_wins_over_a_catalog_fragment():
    spec = parse_spec("name: a\ntrial: {optimizer.name: sgd}\nspace: {use: [optimizer]}")
    assert {point["optimizer.name"] for point in spec.space.sample_many(20, seed=0)} == {"sgd"}


def test_a_spec_survives_its_own_document():
    spec = load_spec(EXAMPLES[0])
    again = SweepSpec(**spec.document())
    assert again == spec
    assert fingerprint(again) == fingerprint(spec)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_as_it_is_written_for_others_is_the_same_spec(path, monkeypatch):
    monkeypatch.syspath_prepend(str(path.parent))
    spec = load_spec(path)
    assert parse_spec(dump_yaml(spec.document())) == spec
    assert parse_spec(json.dumps(spec.document())) == spec


@pytest.mark.parametrize(("value", "is_wrong"), [("sgd", False), ("adamw", True)])
def test_trial_may_repeat_what_the_space_fixes_and_nothing_else(value, is_wrong):
    text = f"name: a\ntrial: {{optimizer.name: {value}}}\nspace: {{parameters: {{optimizer.name: {{fixed: sgd}}}}}}"
    if is_wrong:
        with pytest.raises(SpecError, match=r"trial\.optimizer\.name: is both fixed in `trial` and searched"):
            parse_spec(text)
    else:
        assert parse_spec(text).trial == {"optimizer.name": "sgd"}


def test_a_spec_can_be_made_in_python():
    space = SearchSpace({"optimizer.lr": Float(1e-3, 1.0, log=True)})
    assert SweepSpec(name="mine", space=space).space is space


@pytest.mark.parametrize(
    ("trial", "parameters"),
    [
        ("optimizer.warmup_epochs: 30", "epochs: {choice: [50, 100]}"),
        ("classes_per_batch: 10", "batch_size: {choice: [100, 200]}"),
        ("adversarial.epsilon: 1.5", "adversarial.norm: {choice: [l2]}"),
        ("mixup.kind: cutmix", "mixup.alpha: {float: [0.1, 1.0]}"),
    ],
)
def test_a_requirement_between_parameters_is_checked_on_whole_trials(trial, parameters):
    spec = parse_spec(f"name: a\ntrial: {{{trial}}}\nspace: {{parameters: {{{parameters}}}}}")
    assert list(spec.trial) == [trial.partition(":")[0]]


def test_a_mistake_elsewhere_makes_no_problem_out_of_a_default():
    text = "name: a\nsearch: {num_trails: 4}\ntrial: {optimizer.warmup_epochs: 30}\n"
    with pytest.raises(SpecError) as caught:
        parse_spec(f"{text}space: {{parameters: {{epochs: {{choice: [50, 100]}}}}}}")
    assert [problem.path for problem in caught.value.problems] == ["search.num_trails"]


def test_a_given_point_that_makes_no_trial_is_named():
    with pytest.raises(SpecError) as caught:
        parse_spec(f"{CUT_ANYWHERE}search: {{points: [{{}}, {{mixup.kind: cutmix, mixup.layers: hidden}}]}}")
    assert [problem.path for problem in caught.value.problems] == ["search.points.1.mixup.layers"]


def test_the_fgsm_rs_of_the_demo_takes_the_step_of_its_paper():
    points = [point for _, point in first_points(load_spec(EXAMPLES[0].with_name("digits.yaml")))]
    assert [point["adversarial.relative_step"] for point in points if point["adversarial.epsilon"]] == [1.25]


def test_trial_may_hold_a_list():
    spec = parse_spec("name: a\ntrial: {optimizer.schedule: step, optimizer.milestones: [0.25, 0.5]}")
    assert spec.trial["optimizer.milestones"] == [0.25, 0.5]
    assert SweepSpec(**json.loads(json.dumps(spec.document()))) == spec


def test_one_trial_alone_takes_what_is_set_over_what_would_be_searched():
    path = EXAMPLES[0].parent / "digits.yaml"
    spec = load_trial(path, ["trial.snnl.weight=-0.1", "trial.optimizer.lr=0.01"])
    config = local_trial.config_of(spec)
    assert (config.snnl.weight, config.optimizer.lr, config.mixup.alpha) == (-0.1, 0.01, 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("val/nll min", [("val/nll", "min")]),
        ("[val/accuracy max]", [("val/accuracy", "max")]),
        ("[val/accuracy max, val/robust_accuracy max]", [("val/accuracy", "max"), ("val/robust_accuracy", "max")]),
        ("[{metric: val/accuracy}, {metric: val/nll, mode: min}]", [("val/accuracy", "max"), ("val/nll", "min")]),
    ],
)
def test_objectives_are_one_or_a_list_and_read_back_as_they_were(text, expected):
    spec = parse_spec(f"name: a\nobjective: {text}")
    assert list(zip(spec.objective.metrics, spec.objective.modes, strict=True)) == expected
    assert SweepSpec(**spec.document()) == spec
    assert jsonschema.Draft202012Validator(sweep_schema()).is_valid({"name": "a", "objective": yaml.safe_load(text)})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[val/accuracy, val/accuracy]", "objective: must be different metrics, got val/accuracy, val/accuracy"),
        ("[val/accuracy max, val/nll max]", "objective.1: mode must be 'min' for 'val/nll', got 'max'"),
        ("[val/accuracy max, val/nlll min]", "objective.1.metric: unknown metric 'val/nlll'; did you mean 'val/nll'?"),
        ("[val/accuracy max, {metrik: val/nll}]", "objective.1.metrik: unknown field; did you mean 'metric'?"),
        ("[]", "objective: must be a mapping, got []"),
        ("{metric: val/accuracy, others: 3}", "objective.others: must be a list, got 3"),
    ],
)
def test_a_wrong_objective_of_a_list_is_named_by_its_place(text, says):
    with pytest.raises(SpecError) as error:
        parse_spec(f"name: a\nobjective: {text}")
    assert str(error.value).splitlines() == [says]
