"""MLflow's own pages over a real sweep's runs, in headless Chromium, reached by the commands a user is told."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from orchestrator import plan as planning
from orchestrator.eventlog import EventLog
from orchestrator.events import AttemptStarted, EpochReported, SweepEnded, SweepStarted, TrialCreated, TrialEnded
from orchestrator.loading import parse_spec
from orchestrator.plan import trial_config, trial_id
from orchestrator.storage import SweepFolder
from orchestrator.tracking import Tracker

CHROMIUM = Path("/usr/bin/chromium")
RAVEL = Path(sys.executable).with_name("ravel")
PLOT = "document.querySelector('.js-plotly-plot')?.data[0]"
AXES = ("snnl.weight", "mixup.alpha", "adversarial.epsilon")
pytestmark = [
    pytest.mark.ui,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A tracked sweep of 24 sampled points with made-up scores: what is tested here is the way to the pages."""
    root = tmp_path_factory.mktemp("interface")
    folder = SweepFolder(root / "results" / "digits-20260101-120000")
    folder.path.mkdir(parents=True)
    spec = parse_spec("name: digits\ntrial: {epochs: 3}\nspace: {use: [snnl, mixup, adversarial]}")
    plan = planning.make(spec, folder, slots=2, now=1.0, working_directory=root)
    plan.save(folder)
    with EventLog(folder.events) as log:
        log.append(SweepStarted(time=1.0, generation=1, host="here", pid=1))
        for index, point in enumerate(spec.space.sample_many(24, seed=0)):
            name = trial_id(index)
            config = trial_config(plan, name, point)
            accuracy = 0.9 + 0.05 * (index % 7) / 7
            log.append(TrialCreated(time=2.0, trial=name, origin="search", point=point, config=config))
            log.append(AttemptStarted(time=3.0, trial=name, attempt=1))
            for epoch in (1, 2, 3):
                metrics = {"val/accuracy": accuracy * epoch / 3}
                log.append(
                    EpochReported(
                        time=3.0 + epoch, trial=name, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics
                    )
                )
            log.append(TrialEnded(time=9.0, trial=name, status="completed"))
        log.append(SweepEnded(time=10.0, status="completed"))
    Tracker(plan, folder).catch_up()
    return root


@pytest.fixture(scope="module")
def server(sweep):
    """`ravel ui` on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
def browser():
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield chromium
        chromium.close()


def pages_of(sweep, server):
    told = subprocess.run(
        [str(RAVEL), "compare", "digits", "--server", server, "--json"],
        cwd=sweep, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(told.stdout)


def open_page(browser, url):
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.add_init_script(
        "localStorage['mlflow.assistant.panelOpen_v1']='false';"
        "localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1']='true'"
    )
    page.goto(url)
    return page


def choose_axes(page):
    """By hand, as a user does: clear what MLflow guessed, tick ours."""
    page.get_by_role("button", name="Clear All").click()
    for box, names in ((0, AXES), (1, ("val/accuracy",))):
        page.get_by_role("combobox").nth(box).click(force=True)
        for name in names:
            page.locator(f"[class*=select-dropdown]:visible [title='{name}']").first.click()
        page.keyboard.press("Escape")


def photograph(page, name):
    """Keep a screenshot where somebody asked for one."""
    folder = os.environ.get("RAVEL_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{folder}/{name}.png")


def test_the_compare_page_draws_parallel_coordinates_over_the_chosen_axes(sweep, server, browser):
    page = open_page(browser, pages_of(sweep, server)["compare"])
    page.wait_for_selector(".js-plotly-plot", timeout=60_000)
    choose_axes(page)
    page.wait_for_function(f"{PLOT}?.dimensions.length === 4")
    photograph(page, "parallel_coordinates")
    assert page.evaluate(f"{PLOT}.type") == "parcoords"
    assert page.evaluate(f"{PLOT}.dimensions.map(d => d.label)") == [*AXES, "val/accuracy"]
    assert page.evaluate(f"{PLOT}.dimensions.map(d => d.values.length)") == [24] * 4


def test_the_runs_page_lists_the_sweep_flat(sweep, server, browser):
    page = open_page(browser, pages_of(sweep, server)["runs"])
    page.wait_for_selector("text=t023 digits-20260101-120000", timeout=60_000)
    photograph(page, "runs")
