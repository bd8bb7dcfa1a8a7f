"""MLflow's own pages over a real sweep's runs, in headless Chromium, reached by the commands a user is told."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from orchestrator.analysis.result import SweepResult
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.seeds import trial_id
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import AttemptStarted, EpochReported, SweepEnded, SweepStarted, TrialCreated, TrialEnded
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.tracker import Tracker

CHROMIUM = Path("/usr/bin/chromium")
RAVEL = Path(sys.executable).with_name("ravel")
TRIALS = 60
START = 1767268800.0
SPEC = f"""
name: digits
trial: {{epochs: 9}}
space:
  use: [snnl, mixup, adversarial]
  parameters: {{optimizer.lr: {{float: [1e-3, 1.0], log: true}}, optimizer.name: {{choice: [sgd, adamw]}}}}
search: {{num_trials: {TRIALS}}}
"""
AXES = ("snnl.weight", "mixup.alpha", "adversarial.epsilon")
PLOT = "document.querySelector('.js-plotly-plot')"
# From left to right: where they stand in the document is another order.
HEADERS = """[...document.querySelectorAll('.ag-header-viewport .ag-header-cell')]
    .sort((one, other) => one.getBoundingClientRect().left - other.getBoundingClientRect().left)
    .map(header => header.textContent.trim())"""
# Parallel coordinates among the charts are a canvas: the lines of its layers are counted as they are painted.
COUNT_LINES = """
const context = CanvasRenderingContext2D.prototype, {stroke, clearRect} = context;
context.stroke = function(...path) { this.canvas.lines = (this.canvas.lines ?? 0) + 1; stroke.apply(this, path); };
context.clearRect = function(...box) { this.canvas.lines = 0; clearRect.apply(this, box); };
"""
NO_ASSISTANT = """
localStorage['mlflow.assistant.panelOpen_v1'] = 'false';
localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = 'true';
"""
pytestmark = [
    pytest.mark.ui,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A tracked sweep of sampled points with made-up scores: what is tested here is the way to the pages."""
    root = tmp_path_factory.mktemp("interface")
    folder = SweepFolder(root / "results" / "digits-20260101-120000")
    folder.path.mkdir(parents=True)
    spec = parse_spec(SPEC)
    plan = make_plan(spec, folder, slots=2, now=START, working_directory=root)
    plan.save(folder)
    with EventLog(folder.events) as log:
        log.append(SweepStarted(time=START, generation=1, host="here", pid=1))
        for index, point in enumerate(spec.space.sample_many(TRIALS, seed=0)):
            for event in events(plan, index, point):
                log.append(event)
        log.append(SweepEnded(time=START + 20, status="completed"))
    Tracker(plan, folder).catch_up()
    return root


def events(plan, index, point):
    """A trial with a score of its own; a third ends at each of two rungs, 1 and 2."""
    name, best = trial_id(index), 0.5 + 0.4 * (index * 7 % TRIALS) / TRIALS
    end = (plan.rungs[0], plan.rungs[1], 9)[index % 3]
    yield TrialCreated(time=START, trial=name, origin="search", point=point, config=trial_config(plan, name, point))
    yield AttemptStarted(time=START, trial=name, attempt=1)
    for epoch in range(1, end + 1):
        costs = {"time/epoch_s": 1.0, "cost/gpu_s": 0.5}
        metrics = {"val/accuracy": best * epoch / (epoch + 1), "val/nll": 1 / epoch, **costs}
        yield EpochReported(
            time=START + epoch, trial=name, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics
        )
    status, rung = ("completed", None) if end == 9 else ("stopped", end)
    yield TrialEnded(time=START + 10, trial=name, status=status, rung=rung)


@pytest.fixture(scope="module")
def trials(sweep):
    """The trials, as the log has them."""
    return list(SweepResult.read(SweepFolder(sweep / "results" / "digits-20260101-120000")).state.trials.values())


@pytest.fixture(scope="module")
def server(sweep, unused_port):
    """`ravel ui` on a free port."""
    port = unused_port()
    with (sweep / "ui.txt").open("w") as output:
        process = subprocess.Popen(
            [str(RAVEL), "ui", "--port", str(port)], cwd=sweep, stdout=output, stderr=output, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{address}/health", process)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _wait(url, process):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own loopback address
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(url)


@pytest.fixture(scope="module")
def links(sweep, server):
    """What `ravel compare` tells."""
    told = subprocess.run(
        [str(RAVEL), "compare", "digits", "--server", server, "--json"],
        cwd=sweep, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(told.stdout)


@pytest.fixture
def page(chromium):
    """A page of its own, which nobody used before."""
    with chromium(viewport={"width": 1600, "height": 1000}) as context:
        page = context.new_page()
        page.add_init_script(NO_ASSISTANT + COUNT_LINES)
        yield page


def photograph(page, name):
    """Keep a screenshot where somebody asked for one."""
    folder = os.environ.get("RAVEL_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{folder}/{name}.png")


def lines_painted(page, count):
    page.wait_for_function(f"document.querySelector('.parcoords canvas.foreground')?.lines === {count}")


def axes_painted(page):
    return page.locator(".parcoords .dimension .label").all_text_contents()


def contour(page):
    """The axes of the first contour, and how many trials stand in it."""
    page.wait_for_function(f"{PLOT}?.data?.[0]?.type === 'contour'")
    found = page.evaluate(
        f"(({{data, layout: {{xaxis, yaxis}}}}) => [xaxis.title.text, yaxis.title.text, data])({PLOT})"
    )
    x, y, (surface, points) = found
    assert len(surface["z"]) == len(points["x"])
    return x, y, len(points["x"])


def choose_axes(page):
    """By hand, as a user does: clear what MLflow guessed, tick ours."""
    page.get_by_role("button", name="Clear All").click()
    for box, names in ((0, AXES), (1, ("val/accuracy",))):
        page.get_by_role("combobox").nth(box).click(force=True)
        for name in names:
            page.locator(f"[class*=select-dropdown]:visible [title='{name}']").first.click()
        page.keyboard.press("Escape")


def test_the_prepared_parallel_coordinates_paint_every_trial_over_the_methods(page, links):
    page.goto(links["views"]["parallel"])
    lines_painted(page, TRIALS)
    photograph(page, "parallel")
    assert axes_painted(page) == [*AXES, "optimizer.lr", "val/accuracy"]
    assert page.get_by_text("Showing all runs").is_visible()


def test_the_contour_of_temperature_and_weight_holds_every_trial_that_has_a_temperature(page, links, trials):
    page.goto(links["views"]["temperature"])
    count = sum("snnl.temperature" in trial.config for trial in trials)
    assert contour(page) == ("snnl.temperature", "snnl.weight", count)
    photograph(page, "temperature")
    assert count > 5


def test_the_contour_of_alpha_and_layers_stands_above_parallel_coordinates_of_the_same_trials(page, links, trials):
    page.goto(links["views"]["layers"])
    count = sum("mixup.layers" in trial.config for trial in trials)
    assert contour(page) == ("mixup.alpha", "mixup.layers", count)
    lines_painted(page, count)
    photograph(page, "layers")
    assert axes_painted(page) == ["mixup.layers", "mixup.alpha", "val/accuracy"]


def test_the_learning_curves_are_one_for_each_rung_where_trials_ended(page, links, trials):
    page.goto(links["views"]["curves"])
    for end in ("completed, ravel.rung: (none)", "stopped, ravel.rung: 1", "stopped, ravel.rung: 2"):
        page.get_by_text(f"ravel.status: {end} (val/accuracy)").wait_for()
    curves = f"{PLOT}?.data?.filter(trace => trace.metricKey)"
    page.wait_for_function(f"[1, 2, 9].every(epochs => {curves}?.some(curve => curve.y.length === epochs))")
    photograph(page, "curves")
    ends = page.evaluate(f"{curves}.map(curve => [...curve.y])")
    means = {(len(scores), round(scores[-1], 4)) for scores in ends}  # a smoothed curve would be one more
    assert means == {(epochs, round(mean_score(trials, epochs), 4)) for epochs in (1, 2, 9)}


def mean_score(trials, epochs):
    scores = [trial.epochs[epochs]["val/accuracy"] for trial in trials if trial.epoch == epochs]
    return sum(scores) / len(scores)


def test_the_table_has_the_best_trial_first_and_the_methods_beside_it(page, links, trials):
    page.goto(links["views"]["table"])
    best = max(trials, key=lambda trial: trial.epochs[trial.epoch]["val/accuracy"])
    first = page.locator(".ag-pinned-left-cols-container .ag-row[row-index='0']")
    first.get_by_text(best.id, exact=True).wait_for()
    photograph(page, "table")
    shown = ["val/accuracy", "ravel.status", "ravel.rung", *AXES]
    page.wait_for_function(f"{HEADERS}.length > 5 && {HEADERS}[0] === '{shown[0]}'")  # rows may come before their order
    assert page.evaluate(HEADERS)[:6] == shown


def test_the_metrics_of_cost_are_the_last_columns_of_the_table(page, links):
    page.set_viewport_size({"width": 3200, "height": 1000})
    page.goto(links["views"]["table"])
    page.wait_for_function(f"{HEADERS}.includes('time/epoch_s')")
    photograph(page, "table-wide")
    headers = page.evaluate(HEADERS)
    assert headers.index("optimizer.lr") < headers.index("val/nll") < headers.index("time/epoch_s")
    shown = [name for name in headers if name not in {"", "Duration"}]  # MLflow's own column, which no view moves
    assert set(shown[-2:]) == {"time/epoch_s", "cost/gpu_s"}


def test_the_description_of_the_summary_run_links_to_the_views_and_to_the_figures(page, sweep, server):
    plotted = subprocess.run(
        [str(RAVEL), "plot", "digits", "rungs", "--track"], cwd=sweep, capture_output=True, text=True, check=True
    )
    assert plotted.stderr == ""
    run = Cursor.load(SweepFolder(sweep / "results" / "digits-20260101-120000").cursor)
    page.goto(f"{server}/#/experiments/{run.experiment}/runs/{run.sweep_run}?workflowType=machine_learning")
    page.get_by_text("Show more").click()
    photograph(page, "description")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="table, the best trial first").click()
    opened.value.wait_for_function(f"{HEADERS}[0] === 'val/accuracy'")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Figures at one epoch").click()
    artifacts = opened.value
    artifacts.get_by_text("rungs.html").first.click()
    artifacts.frame_locator("iframe").get_by_text("digits-20260101-120000: trials at each rung").wait_for()
    photograph(artifacts, "artifact")


def test_the_compare_page_draws_parallel_coordinates_over_the_chosen_axes(page, links):
    page.goto(links["compare"])
    page.wait_for_selector(".js-plotly-plot")
    choose_axes(page)
    drawn = f"{PLOT}?.data[0]"
    page.wait_for_function(f"{drawn}?.dimensions.length === 4")
    photograph(page, "compare")
    assert page.evaluate(f"{drawn}.type") == "parcoords"
    assert page.evaluate(f"{drawn}.dimensions.map(d => d.label)") == [*AXES, "val/accuracy"]
    assert page.evaluate(f"{drawn}.dimensions.map(d => d.values.length)") == [TRIALS] * 4


def test_the_runs_page_lists_the_sweep_flat(page, links):
    page.goto(links["runs"])
    page.wait_for_selector(".ag-row[row-index='0'] a")
    photograph(page, "runs")
    assert run_names(page, TRIALS) == {trial_id(index) for index in range(TRIALS)}


def run_names(page, rows):
    """Return the names of all rows, scrolled to one after the other."""
    names = set()
    for row in range(0, rows, 10):
        last = page.locator(f".ag-pinned-left-cols-container .ag-row[row-index='{min(row + 9, rows - 1)}']")
        last.wait_for()
        names |= set(page.locator(".ag-pinned-left-cols-container .ag-row a").all_text_contents())
        last.scroll_into_view_if_needed()
    return {name.strip() for name in names}


def test_the_example_of_a_trained_model_used_by_hand_runs(trained, tmp_path, repository, capsys):
    folder = trained.swept(tmp_path).folder
    page = (repository / "docs" / "own_code.md").read_text().partition("## Use a trained model by hand")[2]
    names = {}
    exec(page.split("```python\n")[1].partition("```")[0].replace("results/own-model", str(folder.path)), names)  # noqa: S102
    assert capsys.readouterr().out.startswith("digits-1/t001 completed 0.9\ntensor(0.")
    assert names["predicted"].shape == names["test"].labels_N.shape
    assert len(names["validation"].labels_N) == 360
