"""Prepared views: their content, and `ravel compare`. What its pages make of it: test_interface.py."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import compare
from orchestrator.cli.main import app
from orchestrator.errors import OrchestratorError
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.seeds import trial_id
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import AttemptStarted, SweepStarted, TrialCreated
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.tracking import pages, views
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.store.store import look_up, open_store
from orchestrator.tracking.tracker import Tracker

SWEEP = "digits-20260101-120000"
METHODS = "name: digits\nspace: {use: [optimizer, snnl, mixup, adversarial]}\n"
STRENGTHS = ["snnl.weight", "mixup.alpha", "adversarial.epsilon"]


def plan_of(tmp_path, spec=METHODS):
    folder = SweepFolder(tmp_path / "results" / SWEEP)
    return make_plan(parse_spec(spec), folder, slots=2, now=1.0, working_directory=tmp_path)


def views_of(tmp_path, spec=METHODS):
    return {view.name: view for view in views.views(plan_of(tmp_path, spec))}


def cards(view):
    return view.state["compareRunCharts"]


class Experiments:
    """An MLflow client that takes tags."""

    def __init__(self):
        self.tags = {}

    def set_experiment_tag(self, experiment_id, key, value):
        self.tags[experiment_id, key] = value


def test_the_methods_have_all_five_views(tmp_path):
    assert list(views_of(tmp_path)) == ["parallel", "temperature", "layers", "curves", "table"]


def test_equal_plans_have_equal_views(tmp_path):
    assert views.views(plan_of(tmp_path)) == views.views(plan_of(tmp_path))


def test_mlflow_takes_every_tag_of_the_longest_name_and_the_widest_space(tmp_path):
    from mlflow.utils.validation import _validate_experiment_tag

    wide = ", ".join(f"optimizer.{'x' * 30}{index}: {{float: [0.0, 1.0]}}" for index in range(100))
    plan = plan_of(tmp_path).model_copy(update={"sweep": "a" * 63 + "-20260101-120000"})
    space = plan.spec.space | type(plan.spec.space).from_yaml(f"parameters: {{{wide}}}")
    plan = plan.model_copy(update={"spec": plan.spec.model_copy(update={"space": space})})
    for view in views.views(plan):
        _validate_experiment_tag(*view.tag)


def test_every_view_is_of_the_trials_of_its_own_sweep_and_shows_all_of_them(tmp_path):
    for view in views_of(tmp_path).values():
        assert view.state["searchFilter"] == f"tags.`ravel.sweep` = '{SWEEP}' and tags.`ravel.kind` = 'trial'"
        assert view.state.get("runsHiddenMode", "SHOW_ALL") == "SHOW_ALL"
        assert all(card["showAllRuns"] for card in view.state.get("compareRunCharts", []) if card["type"] == "PARALLEL")


def test_views_of_two_sweeps_exist_together(tmp_path):
    client, plan = Experiments(), plan_of(tmp_path)
    views.publish(client, "1", plan)
    views.publish(client, "1", plan.model_copy(update={"sweep": "digits-20260102-120000"}))
    assert len(client.tags) == 10
    assert json.loads(client.tags["1", f"mlflow.sharedViewState.ravel-{SWEEP}-table"])["orderByAsc"] is False


def test_no_axis_over_all_trials_is_absent_constant_or_text_in_any_of_them(tmp_path):
    spec = METHODS + "trial: {epochs: 9, batch_size: 64}\n"
    plan = plan_of(tmp_path, spec)
    axes = cards(views_of(tmp_path, spec)["parallel"])[0]["selectedParams"]
    assert axes == [*STRENGTHS, "optimizer.lr", "optimizer.weight_decay"]
    for index, point in enumerate(plan.spec.space.sample_many(200, seed=0)):
        config = trial_config(plan, trial_id(index), point)
        assert all(isinstance(config[name], int | float) for name in axes)


def test_the_axes_are_those_that_are_searched_the_strengths_first_and_the_objective_last(tmp_path):
    searched = "batch_size: {choice: [32, 64]}, optimizer.lr: {float: [0.1, 1]}, mixup.alpha: {float: [0, 1]}"
    spec = f"name: a\nspace: {{parameters: {{{searched}, snnl.weight: {{fixed: 0.1}}}}}}"
    (card,) = cards(views_of(tmp_path, spec)["parallel"])
    assert card["selectedParams"] == ["mixup.alpha", "batch_size", "optimizer.lr"]
    assert card["selectedMetrics"] == ["val/accuracy"]


def test_the_views_of_a_gan_have_its_weights_first_and_no_group_of_a_classifier(tmp_path):
    found = views_of(tmp_path, "name: a\ntrial: {task: gan}\nobjective: {metric: val/mode_kl, mode: min}")
    assert list(found) == ["parallel", "curves", "table"]
    (card,) = cards(found["parallel"])
    rates = ["gan.generator_lr", "gan.discriminator_lr", "gan.beta_1", "gan.latent_dim"]
    assert card["selectedParams"] == ["gan.generator_snnl", "gan.discriminator_snnl", *rates]
    sections = [section["name"] for section in found["parallel"].state["compareRunSections"][1:]]
    assert sections == ["gan", "val", "time", "cost"]
    of_classifier = views_of(tmp_path)["parallel"].state["compareRunSections"][1:]
    assert [each["name"] for each in of_classifier] == ["train", "val", "entanglement", "temperature", "time", "cost"]


def test_a_space_without_numbers_has_no_parallel_coordinates(tmp_path):
    spec = "name: a\nspace: {parameters: {optimizer.name: {choice: [sgd, adamw]}}}"
    assert list(views_of(tmp_path, spec)) == ["curves", "table"]


@pytest.mark.parametrize(
    ("fragments", "names"),
    [
        ("[snnl]", {"temperature"}),
        ("[mixup]", {"layers"}),
        ("[input_mixup]", set()),  # its layers are fixed
        ("[sgd]", set()),
    ],
)
def test_a_contour_is_of_two_parameters_that_are_searched(tmp_path, fragments, names):
    found = views_of(tmp_path, f"name: a\nspace: {{use: {fragments}}}")
    assert found.keys() - {"parallel", "curves", "table"} == names


def test_several_objectives_are_axes_curves_and_columns_and_the_first_sorts(tmp_path):
    found = views_of(tmp_path, METHODS + "objective: [val/nll min, val/accuracy max]\n")
    assert cards(found["parallel"])[0]["selectedMetrics"] == ["val/accuracy", "val/nll"]
    assert [card["metricKey"] for card in cards(found["curves"])] == ["val/nll", "val/accuracy"]
    table = found["table"].state
    assert table["selectedColumns"][:2] == ["metrics.`val/nll`", "metrics.`val/accuracy`"]
    assert (table["orderByKey"], table["orderByAsc"]) == ("metrics.`val/nll`", True)


def test_the_cards_of_a_view_differ_and_are_in_its_open_section(tmp_path):
    for view in views_of(tmp_path).values():
        if view.mode == "CHART":
            first, *others = view.state["compareRunSections"]
            assert first["display"]
            assert not any(section["display"] for section in others)
            assert {card["metricSectionId"] for card in cards(view)} == {first["uuid"]}
            assert len({card["uuid"] for card in cards(view)}) == len(cards(view))


def test_comparing_views_imports_no_mlflow():
    asked = "import sys; from orchestrator.tracking import pages, views; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", asked], check=True)


@pytest.fixture
def serve():
    """Servers that say a version, and what they were asked with."""
    servers = []

    def start(says, *, status=200):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append((self.path, self.headers.get("Authorization")))
                if status is not None:  # else the answer is lost
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(says)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


NOBODY = {"HOME": "/nowhere", "NETRC": "/nowhere"}


def test_the_version_is_the_servers_and_not_the_one_installed(serve):
    _, address = serve(b"3.18.0")
    assert pages.served_version(address, "sqlite:///mlflow.db", environ=NOBODY) == "3.18.0"
    assert pages.served_version(address, address, environ=NOBODY) == "3.18.0"


def test_a_store_without_a_server_has_the_installed_version(serve):
    from importlib.metadata import version

    _, other = serve(b"<html>not MLflow</html>")
    for base in ("http://127.0.0.1:9", other):
        assert pages.served_version(base, "sqlite:///mlflow.db", environ=NOBODY) == version("mlflow")


@pytest.mark.parametrize(("says", "status"), [(b"<html></html>", 200), (b"3.17.2", 401), (b"\xff\xfe", 200)])
def test_a_server_that_does_not_answer_has_no_version(serve, says, status):
    _, address = serve(says, status=status)
    assert pages.served_version(address, address, environ=NOBODY) is None


def test_a_login_is_sent_to_its_own_server_alone(serve):
    own, address = serve(b"3.17.2")
    other, elsewhere = serve(b"3.17.2")
    uri = address.replace("://", "://ada:secret@")
    pages.served_version(uri, uri, environ=NOBODY)
    pages.served_version(elsewhere, uri, environ=NOBODY)
    assert own.asked == [("/version", "Basic YWRhOnNlY3JldA==")]
    assert other.asked == [("/version", None)]


@pytest.fixture
def tracked(tmp_path):
    """A sweep of which MLflow has some runs, and how to compare it."""
    plan = plan_of(tmp_path)
    folder = SweepFolder(tmp_path / "results" / SWEEP)
    folder.path.mkdir(parents=True)
    plan.save(folder)
    with EventLog(folder.events) as log:
        log.append(SweepStarted(time=1.0, generation=1, host="here", pid=1))

    def compare(*arguments, runs=1):
        Cursor(experiment="1", runs={f"t{index:03d}": f"run{index}" for index in range(runs)}).save(folder.cursor)
        told = CliRunner().invoke(app, ["compare", "digits", "--storage", str(tmp_path / "results"), *arguments])
        assert told.exit_code == 0, told.output
        return told.stdout

    return compare


def test_compare_prints_every_view_and_the_plain_pages(tracked, serve):
    _, address = serve(b"3.17.2")
    told = tracked("--server", address)
    for name in ("parallel", "temperature", "layers", "curves", "table"):
        assert f"&viewStateShareKey=ravel-{SWEEP}-{name}\n" in told
    assert f"{address}/#/compare-runs?" in told
    assert "&searchFilter=" in told


def test_compare_falls_back_to_the_plain_pages_and_says_why(tracked, serve):
    _, address = serve(b"3.18.0")
    told = tracked("--server", address)
    assert "MLflow is 3.18.0, so no prepared views" in told
    assert "viewStateShareKey" not in told
    assert f"{address}/#/compare-runs?" in told


def test_compare_says_when_the_pages_load_only_a_part(tracked, serve):
    _, address = serve(b"3.17.2")
    assert "load 100 trials at a time" not in tracked("--server", address, runs=100)
    assert "load 100 trials at a time" in tracked("--server", address, runs=101)


def test_compare_as_json_names_the_views(tracked, serve):
    _, seen = serve(b"3.17.2")
    _, unseen = serve(b"3.18.0")
    told = json.loads(tracked("--server", seen, "--json"))
    assert list(told) == ["compare", "runs", "views", "comparison"]
    assert told["comparison"] is None  # no trial has measured anything yet
    assert list(told["views"]) == ["parallel", "temperature", "layers", "curves", "table"]
    assert json.loads(tracked("--server", unseen, "--json"))["views"] == {}


def test_what_another_machine_sent_is_looked_up_by_its_tags_and_compared(tmp_path, monkeypatch, tracked, serve):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/team.db")
    plan = plan_of(tmp_path)
    assert (look_up(plan).runs, (tmp_path / "team.db").exists()) == ({}, False)
    elsewhere = SweepFolder(tmp_path / "elsewhere" / SWEEP)
    elsewhere.path.mkdir(parents=True)
    with EventLog(elsewhere.events) as log:
        log.append(SweepStarted(time=1.0, generation=1, host="there", pid=1))
        for trial in ("t001", "t000"):
            log.append(TrialCreated(time=1.0, trial=trial, origin="search", point={}, config={"epochs": 1}))
            log.append(AttemptStarted(time=1.0, trial=trial, attempt=1))
    Tracker(plan, elsewhere).catch_up()
    sent, found = Cursor.load(elsewhere.cursor), look_up(plan)
    assert list(found.runs) == ["t000", "t001"]
    assert (found.runs, found.sweep_run, found.experiment) == (sent.runs, sent.sweep_run, sent.experiment)
    plan.save(SweepFolder(tmp_path / "results" / SWEEP))
    _, address = serve(b"3.17.2")
    assert found.runs["t000"] in json.loads(tracked("--server", address, "--json", runs=0))["compare"]


def test_a_store_that_cannot_be_looked_up_in_is_named_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:hunter2@127.0.0.1:9")
    with pytest.raises(OrchestratorError, match=r"^http://\*\*\*@127\.0\.0\.1:9: .*; mend that, or ") as caught:
        look_up(plan_of(tmp_path))
    assert "hunter2" not in str(caught.value)


def test_a_lost_answer_is_asked_for_once(serve):
    from mlflow.exceptions import MlflowException

    for status in (None, 503):
        server, address = serve(b"", status=status)
        with pytest.raises(MlflowException):
            open_store(address).create_run("1")
        assert len(server.asked) == 1


@pytest.fixture
def opened(monkeypatch):
    """The addresses a browser was asked to open."""
    links = []
    monkeypatch.setattr(compare.webbrowser, "open", lambda link: links.append(link) or True)
    return links


def test_compare_opens_the_first_view_when_asked_and_else_nothing(tracked, serve, opened):
    _, seen = serve(b"3.17.2")
    _, unseen = serve(b"3.18.0")
    tracked("--server", seen)
    assert opened == []
    tracked("--server", seen, "--open")
    tracked("--server", unseen, "--open")
    assert [f"-{SWEEP}-parallel" in opened[0], "/#/compare-runs?" in opened[1]] == [True, True]


def test_the_pages_still_read_the_words_we_write():
    """The installed pages name every key and value of a view: a rename fails here, before a browser is."""
    import mlflow

    scripts = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"
    text = "".join(path.read_text(encoding="utf-8") for path in scripts.glob("*.js"))
    words = ("mlflow.sharedViewState.", "viewStateShareKey", "SHOW_ALL", "compareRunCharts", "compareRunSections")
    more = ("isAccordionReordered", "showAllRuns", "selectedMetricKeys", "groupByKeys", "cardHeight", "columnOrder")
    assert [word for word in (*words, *more) if word not in text] == []
