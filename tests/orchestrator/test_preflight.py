"""Preflight checks: every problem of the machine is named before the sweep costs money."""

import base64
import copy
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import launch
from orchestrator.cli import main
from orchestrator.errors import PreflightError, SpecError
from orchestrator.execution import preflight, ray_cluster, trial_checks
from orchestrator.execution.cluster.capacity import Capacity, Node
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.validation import NUM_SAMPLES
from orchestrator.redaction import without_password
from orchestrator.spec.model import Resources, SweepSpec
from orchestrator.tracking.store import reachable
from orchestrator.tracking.store.reachable import VARIABLES, Login
from search_spaces import SearchSpace, catalog
from trainables.config.trial import TrialConfig
from trainables.tasks.registry import task_of

RAVEL = Path(sys.executable).with_name("ravel")


def refused(text, storage):
    with pytest.raises(PreflightError) as caught:
        preflight.check(parse_spec(text), storage)
    return caught.value.problems


def test_a_sweep_this_machine_can_run_passes(tmp_path):
    preflight.check(parse_spec("name: a\ntrial: {data.name: digits}"), tmp_path / "new" / "results")


class NotStarted(Exception):
    """What a launch got to before it would have started Ray."""


@pytest.fixture
def validated(monkeypatch, tmp_path):
    """``validated(spec)`` launches up to where Ray would start; (samples, trials made) that this took."""
    sampled, made = [], []
    sample_many, from_point = SearchSpace.sample_many, TrialConfig.from_point

    def refuse(*_, **__):
        raise NotStarted

    def sampling(space, *given, **more):
        sampled.append(space)
        return sample_many(space, *given, **more)

    def making(point):
        made.append(point)
        return from_point(point)

    def launched(spec):
        with pytest.raises(NotStarted):
            launch(spec())
        return len(sampled), len(made)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(SearchSpace, "sample_many", sampling)
    monkeypatch.setattr(TrialConfig, "from_point", making)
    monkeypatch.setattr(ray_cluster, "connect", refuse)
    return launched


SMALL = "name: a\ntrial: {data.name: digits}\nspace: {use: [mixup]}\n"


@pytest.mark.parametrize(
    "spec",
    [lambda: parse_spec(SMALL), lambda: SweepSpec(name="a", trial={"data.name": "digits"}, space=catalog.mixup())],
    ids=["loaded", "python"],
)
def test_a_launch_validates_its_spec_once(validated, spec):
    points = 1 + len(catalog.mixup().corners()) + NUM_SAMPLES
    different_models = 3
    samples, trials = validated(spec)
    assert samples == 1
    assert points <= trials <= points + different_models


def test_a_spec_that_was_changed_after_it_was_loaded_is_validated_again(validated):
    def changed():
        spec = parse_spec(SMALL)
        spec.trial["epochs"] = 3
        return spec

    assert validated(changed)[0] == 2
    spec = parse_spec(SMALL)
    assert spec.checked is not None
    assert spec.model_copy(update={"name": "b"}).checked is None
    assert copy.deepcopy(spec) == spec
    assert copy.deepcopy(spec).checked is None


def test_a_missing_data_set_is_named_with_its_remedy(tmp_path):
    (problem,) = refused(f"name: a\ntrial: {{data.name: mnist, data.root: {tmp_path}}}", tmp_path)
    assert "mnist" in problem
    assert str(tmp_path) in problem


@pytest.mark.parametrize("root", ["data", "~/data"])
def test_a_data_set_is_located_as_its_trials_locate_it(tmp_path, monkeypatch, root):
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    spec = parse_spec(f"name: a\ntrial: {{data.name: mnist, data.root: {root}}}")
    with pytest.raises(PreflightError) as caught:
        preflight.check(spec, tmp_path, launched_from=tmp_path / "ada")
    assert str(tmp_path / "ada" / "data") in str(caught.value)


def test_a_layer_the_model_does_not_have_is_named(tmp_path):
    (problem,) = refused("name: a\ntrial: {model.name: mlp, snnl.layers: conv1}\nspace: {use: [snnl]}", tmp_path)
    assert problem.startswith("snnl.layers: 'conv1' is no layer of this model")


def test_storage_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (problem,) = refused("name: a", tmp_path / "file" / "results")
    assert problem.startswith(f"storage.uri: {tmp_path}/file/results cannot be written")


def test_a_tracking_server_that_does_not_answer_is_named_without_its_password(tmp_path):
    with pytest.raises(PreflightError) as caught:
        preflight.check(parse_spec("name: a"), tmp_path, tracking_uri="http://ada:hunter2@127.0.0.1:9")
    (problem,) = caught.value.problems
    assert problem.startswith("tracking.uri: http://***@127.0.0.1:9: does not answer")
    assert "Connection refused" in problem


@contextmanager
def answering(status, body, headers=()):
    """Serve one answer to every request; yield the address and the requests so far."""
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def basic(login, source):
    return Login("Basic " + base64.b64encode(login.encode()).decode(), source)


@pytest.fixture
def empty_environment(tmp_path):
    """An environment without any setting of MLflow."""
    return {"HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, '{"experiments": []}', None),
        (200, "<html>a login page</html>", "answers, but not as MLflow does"),
        (401, "", "requires a login (401 Unauthorized); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, "no", "requires a login (403 Forbidden)"),
        (403, "Invalid Host header - possible DNS rebinding", "does not accept the host name 127.0.0.1:"),
        (404, "", "answers, but has no MLflow here (404)"),
        (500, "", "answers 500 Internal Server Error"),
        (503, "", "answers 503 Service Unavailable"),
    ],
)
def test_what_a_tracking_server_answers_is_understood(tmp_path, monkeypatch, status, body, problem):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with answering(status, body) as (uri, asked):
        problems = []
        try:
            preflight.check(parse_spec("name: a"), tmp_path, tracking_uri=f"{uri}/mlflow/")
        except PreflightError as error:
            problems = error.problems
    assert [path for path, _ in asked] == ["/mlflow/api/2.0/mlflow/experiments/search?max_results=1"]
    assert "Authorization" not in asked[0][1]
    if problem is None:
        assert not problems
    else:
        (message,) = problems
        assert message.startswith(f"tracking.uri: {uri}/mlflow/: {problem}")


def test_a_redirect_is_named_and_takes_no_login_along(empty_environment):
    with answering(200, "{}") as (other, asked), answering(302, "", [("Location", f"{other}/?s=secret")]) as (uri, _):
        problem = reachable.problem_of(uri, environ=empty_environment | {"MLFLOW_TRACKING_TOKEN": "hunter2"})
    assert problem == f"redirects to {other}/; give the address it ends at"
    assert not asked


@pytest.mark.parametrize(
    ("user", "environ", "login"),
    [
        ("", {}, None),
        ("", {"MLFLOW_TRACKING_USERNAME": "ada"}, None),
        ("", {"MLFLOW_TRACKING_TOKEN": "hunter2"}, Login("Bearer hunter2", "MLFLOW_TRACKING_TOKEN")),
        (
            "",
            {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "hunter2"},
            basic("ada:hunter2", VARIABLES),
        ),
        ("bob:p%40ss@", {"MLFLOW_TRACKING_TOKEN": "hunter2"}, basic("bob:p@ss", "the address")),
        ("", {"NETRC": "{home}/netrc", "MLFLOW_TRACKING_TOKEN": "hunter2"}, basic("eve:swordfish", ".netrc")),
    ],
)
def test_the_login_is_the_one_mlflows_client_sends(monkeypatch, tmp_path, user, environ, login):
    """MLflow's client must agree: where they differ, a launch is refused that would work, or the reverse."""
    from mlflow.tracking import MlflowClient

    (tmp_path / "netrc").write_text("machine 127.0.0.1 login eve password swordfish\n")
    environ = {"HOME": str(tmp_path)} | {name: value.format(home=tmp_path) for name, value in environ.items()}
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with answering(401, "") as (uri, asked):
        problem = reachable.problem_of(uri.replace("://", f"://{user}"), environ=environ)
        with pytest.raises(Exception, match="401"):
            MlflowClient(uri.replace("://", f"://{user}")).get_experiment("0")
    assert [headers.get("Authorization") for _, headers in asked] == [login and login.header] * 2
    assert problem.startswith(f"refuses the login of {login.source} (401" if login else "requires a login")
    assert not [word for word in ("hunter2", "swordfish", "p%40ss", "p@ss") if word in problem]


def test_a_request_that_a_plugin_signs_is_accepted_unchecked(empty_environment):
    with answering(200, "OK") as (uri, asked):
        assert reachable.problem_of(uri, environ=empty_environment | {"MLFLOW_TRACKING_AUTH": "ours"}) is None
    assert [path for path, _ in asked] == ["/health"]


def test_all_problems_come_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    text = f"name: a\ntrial: {{data.name: mnist, data.root: {tmp_path}}}"
    assert len(refused(text, tmp_path / "file" / "results")) == 2


def test_a_dry_run_starts_nothing_and_leaves_nothing(tmp_path):
    (tmp_path / "spec.yaml").write_text("name: a\ntrial: {data.name: digits}")
    done = subprocess.run(
        [str(RAVEL), "launch", "spec.yaml", "--dry-run"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "ready to launch" in done.stdout
    assert not list(tmp_path.glob("results/*"))
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("resources", "capacity", "slots"),
    [
        (Resources(), [(8, 0)], 8),
        (Resources(cpus=2), [(8, 2)], 2),
        (Resources(cpus=2, gpus=0.5), [(8, 1)], 2),
        (Resources(gpus=0), [(4, 1)], 4),
        (Resources(max_concurrent=3), [(8, 0)], 3),
        (Resources(cpus=3), [(4, 0), (4, 0), (2, 0)], 2),
    ],
)
def test_slots_are_what_fits(resources, capacity, slots):
    cluster = Capacity(tuple(Node(*node) for node in capacity))
    assert cluster.slots(resources, cluster.gpus_per_trial(resources)) == slots


def test_a_trial_that_never_fits_is_refused():
    with pytest.raises(PreflightError, match=r"one trial takes 3 CPUs and 0 GPUs, the nodes have 2 and 0, 2 and 0"):
        Capacity((Node(2, 0), Node(2, 0))).slots(Resources(cpus=3), 0)


def test_a_trial_larger_than_this_machine_is_refused_before_ray_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PreflightError, match=r"one trial takes 4096 CPUs"):
        preflight.check_here(parse_spec("name: a\nresources: {cpus: 4096}"), address="local")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "gpus", "problem"),
    [
        ("trial: {device: cuda}", 0, "trial.device: must be one of the 0 GPUs"),
        ("trial: {device: 'cuda:1'}", 1, "trial.device: must be one of the 1 GPUs"),
        ("space: {parameters: {device: {choice: [cpu, cuda]}}}", 0, "space.parameters.device: must be one of the 0"),
        ("resources: {gpus: 1}", 0, "one trial takes 1 CPUs and 1 GPUs"),
        ("resources: {gpus: 0.5}", 0, "one trial takes 1 CPUs and 0.5 GPUs"),
        ("budget: {gpu_s: 60}", 0, "budget.gpu_s: counts GPU seconds"),
        ("trial: {device: 'cuda:1'}", 2, None),
        ("resources: {gpus: 1}", 1, None),
    ],
)
def test_a_device_that_this_machine_does_not_have_is_refused_before_ray_starts(
    tmp_path, monkeypatch, text, gpus, problem
):
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    spec = parse_spec(f"name: a\n{text}")
    if problem is None:
        preflight.check_here(spec, address="local")
        return
    with pytest.raises(PreflightError, match=problem):
        preflight.check_here(spec, address="local")


def test_more_gpus_than_a_trial_uses_are_refused():
    with pytest.raises(
        SpecError, match=r"resources\.gpus: must be 'auto' or at most 1, as a trial uses one device; got 4"
    ):
        parse_spec("name: a\nresources: {gpus: 4}")


def test_a_check_says_that_it_has_not_looked_at_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text("name: a\ntrial: {data.name: mnist, data.root: nowhere}")
    result = CliRunner().invoke(main.app, ["check", "spec.yaml"])
    assert result.exit_code == 0
    assert (
        "networks and their layers, data, metrics, data.root 'nowhere'; `ravel launch SPEC --dry-run`" in result.output
    )


def test_an_objective_of_a_tap_the_model_does_not_have_is_refused(tmp_path):
    (problem,) = refused("name: a\nobjective: {metric: entanglement/conv9}", tmp_path)
    assert problem.startswith("objective.metric: cnn_bn has no tap 'conv9'")


@pytest.mark.parametrize(
    ("trial", "problem"),
    [
        ("model.name: mlp, model.final_norm: true", "model.final_norm: "),
        ("classes_per_batch: 20, batch_size: 100", "classes_per_batch: must be <= 10, the number of classes, got 20"),
        ("snnl.layers: conv9", "snnl.layers: 'conv9' is no layer of this model"),
    ],
)
@pytest.mark.parametrize("metric", ["val/accuracy", "entanglement/penultimate"])
def test_what_a_model_cannot_be_is_a_problem_whatever_the_objective(tmp_path, trial, problem, metric):
    problems = refused(f"name: a\ntrial: {{{trial}}}\nobjective: {{metric: {metric}}}", tmp_path)
    assert [message[: len(problem)] for message in problems] == [problem]


def test_varied_images_are_one_data_set():
    spec = parse_spec("name: a\nspace: {parameters: {data.rotation: {float: [1.0, 20.0]}}}")
    configs = [TrialConfig.from_point({**spec.trial, **point}) for point in spec.space.sample_many(9, seed=0)]
    assert len({config.data for config in configs}) == 9
    assert len({trial_checks._data_key(config) for config in configs}) == 1
    assert len({trial_checks._model_key(config) for config in configs}) == 1


GAN = "name: a\nobjective: {metric: val/mode_kl, mode: min}\n"


def test_a_sweep_of_gans_this_machine_can_run_passes(tmp_path):
    preflight.check(parse_spec(f"{GAN}trial: {{task: gan}}"), tmp_path)


def test_images_that_the_networks_of_a_gan_cannot_make_are_named(tmp_path):
    from PIL import Image

    for split, name in ((split, name) for split in ("train", "test") for name in ("a", "b")):
        (tmp_path / "images" / split / name).mkdir(parents=True)
        Image.new("L", (10, 10)).save(tmp_path / "images" / split / name / "0.png")
    trial = f"task: gan, data.name: image_folder, data.root: {tmp_path / 'images'}, data.image_size: 10"
    (problem,) = refused(f"{GAN}trial: {{{trial}}}", tmp_path)
    assert "must have images whose sides are multiples of 4 and at least 8, got 10x10" in problem


def test_a_missing_classifier_for_the_measures_of_a_gan_is_named(tmp_path):
    (problem,) = refused(f"{GAN}trial: {{task: gan, gan.classifier: {tmp_path / 'nowhere'}}}", tmp_path)
    assert str(tmp_path / "nowhere") in problem
    assert "does not exist" in problem


def test_gans_that_differ_in_rates_alone_are_one_model():
    spec = parse_spec(f"{GAN}trial: {{task: gan}}")
    configs = [task_of(spec.trial).from_point({**spec.trial, **point}) for point in spec.space.sample_many(40, seed=0)]
    assert len({trial_checks._model_key(config) for config in configs}) == 4  # of as many dimensions


@pytest.mark.parametrize("uri", ["http://[bad", "http://127.0.0.1:port", "sqlite:////nowhere/at/all/mlflow.db"])
def test_a_tracking_address_that_cannot_be_is_named(tmp_path, uri):
    with pytest.raises(PreflightError, match=r"^tracking\.uri: "):
        preflight.check(parse_spec("name: a"), tmp_path, tracking_uri=uri)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://bob:12/34@host/db", "postgresql://***@host/db"),
        ("postgresql+psycopg://bob:1/2@3/4@host/db is away", "postgresql+psycopg://***@host/db is away"),
        ("http://host/?a=1&X-Amz-Signature=ab&b=2", "http://host/?a=1&X-Amz-Signature=***&b=2"),
        ("https://host?sig=ab", "https://host?sig=***"),
        (
            "postgresql://host/db?sslkey=/home/ada/key&sslpassword=ab",
            "postgresql://host/db?sslkey=/home/ada/key&sslpassword=***",
        ),
        ("http://host:5000/#/experiments/1?search=a@b", "http://host:5000/#/experiments/1?search=a@b"),
    ],
)
def test_no_secret_of_an_address_is_shown(text, shown):
    assert without_password(text) == shown


@pytest.mark.parametrize(
    "uri",
    ["http://host:5000", "sqlite:////home/ada@work/a.db", "postgresql+psycopg://ada@host/db?sslkey=/k", "databricks"],
)
def test_an_address_without_a_secret_is_allowed_in_a_spec(uri):
    assert parse_spec(f"name: a\ntracking: {{uri: '{uri}'}}").tracking.uri == uri


OWN_SET = """
import numpy as np

def make(size: int = 6, images: int = 60):
    noise = np.random.default_rng(0).integers(0, 256, (images, size, size), dtype=np.uint8)
    return [(image, i % 3) for i, image in enumerate(noise)]
"""


@pytest.fixture
def own_set(tmp_path, monkeypatch):
    """A module `own_set_of_preflight` in the working directory, and a cache of its own."""
    (tmp_path / "own_set_of_preflight.py").write_text(OWN_SET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "own_set_of_preflight:make"
    sys.modules.pop("own_set_of_preflight", None)


def test_a_users_own_set_is_prepared_before_the_sweep(own_set, tmp_path):
    preflight.check(parse_spec(f"name: a\ntrial: {{data.name: '{own_set}'}}"), tmp_path / "results")
    assert [path.name for path in (tmp_path / "cache").glob("own_set*/manifest.json")] == ["manifest.json"]


def test_wrong_arguments_of_a_set_are_all_named(own_set, tmp_path):
    space = "space: {parameters: {data.args.size: {choice: [6, big]}, data.args.colour: {choice: [1, 2]}}}"
    problems = refused(f"name: a\ntrial: {{data.name: '{own_set}'}}\n{space}", tmp_path / "results")
    assert set(problems) == {
        "data.args.size: must be an int, got 'big'",
        "data.args.colour: make has no such argument; valid: images, size",
    }


def test_a_wrong_sample_is_named_before_the_sweep(own_set, tmp_path):
    problems = refused(f"name: a\ntrial: {{data.name: '{own_set}', data.args.images: 3}}", tmp_path / "results")
    requirement = "each class must have at least 2 images, since some are set aside, got 1 of 0 (at index 0)"
    assert problems == (f"data.name: {own_set}: {requirement}; add images, or leave the class out",)


def test_a_share_that_loses_a_class_is_named_once(own_set, tmp_path):
    space = "space: {parameters: {data.fraction: {float: [0.01, 1.0]}, data.part: {choice: [1/2, 2/2]}}}"
    problems = refused(f"name: a\ntrial: {{data.name: '{own_set}'}}\n{space}", tmp_path / "results")
    (problem,) = problems
    assert problem.startswith("data.fraction: must leave an image of every class, got 0.01 of 18 images")


def test_of_many_sets_of_a_user_only_the_first_are_prepared(own_set, tmp_path):
    space = "space: {parameters: {data.args.images: {int: [30, 300]}}}"
    preflight.check(parse_spec(f"name: a\ntrial: {{data.name: '{own_set}'}}\n{space}"), tmp_path / "results")
    assert len(list((tmp_path / "cache").glob("own_set*/manifest.json"))) == preflight.MAX_SETS
