"""Orders and lineage of a sweep as ``ravel status``, its JSON, the live view and a notebook show them."""

import io
import json
import time

import pytest
from rich.console import Console
from typer.testing import CliRunner

import ravel
from orchestrator import launching
from orchestrator.analysis.order_history import answered_orders, order_lines
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.main import app
from orchestrator.cli.shared.live_display import live_view
from orchestrator.orders.book import submit
from orchestrator.orders.order import extend_order, stop_order
from orchestrator.planning.changes.fork import fork
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.state.sweep_folder import SweepFolder

SCHEDULE = "optimizer.schedule is not constant: the trials so far followed that of 9 epochs, and go on with that of 27"
ORDER = {"author": "ada@here", "time": 1_900_000_000.0}


def give(folder, order):
    given = order.model_copy(update=ORDER)
    submit(folder, given)
    return given.id


@pytest.fixture
def changed(finished):
    """A sweep with two accepted orders, a refused one, and two that wait."""
    folder = finished()
    ids = [
        give(folder, extend_order(now=0.0, trials="+4", settings=["resources.max_concurrent=2"])),
        give(folder, extend_order(now=0.0, epochs=27)),
        give(folder, stop_order(now=0.0, generation=1, trials=["t042"])),
    ]
    launching.answer_orders(folder)
    points = [{"optimizer.lr": 0.25, "mixup.alpha": 1.0}]
    ids += [
        give(folder, extend_order(now=0.0, trials="+2", epochs=81, points=points, retry_failed=True)),
        give(folder, stop_order(now=0.0, generation=2, trials=["t001", "t00\x1b[2J"])),
    ]
    return folder, ids


def status(folder, *arguments):
    result = CliRunner().invoke(app, ["status", folder.sweep, "--storage", str(folder.path.parent), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_status_lists_orders_and_the_numbers_of_the_plan_at_the_launch_and_now(changed):
    folder, _ = changed
    *_, plan, orders = status(folder).split("\n\n")
    assert plan.splitlines() == [
        "plan",
        "  search.num_trials: 9 at the launch, 13 now",
        "  trial.epochs: 9 at the launch, 27 now",
        "  resources.max_concurrent: unset at the launch, 2 now",
        "  rungs: 3 at the launch, 3, 9 now",
    ]
    title, *lines = orders.splitlines()
    assert title == "orders"
    waiting = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ORDER["time"]))
    assert [line.partition("  ada@here  ")[2] for line in lines] == [
        "accepted: search.num_trials: 9 to 13; resources.max_concurrent: unset to 2",
        f"accepted: trial.epochs: 9 to 27; rungs: 3 stay, 9 are new; {SCHEDULE}; t000, t003, t008 reopened",
        "refused: trial t042: must be one of 9 trials, got 't042'; did you mean 't004'?",
        "waiting: extend --trials +2 --set trial.epochs=81 1 point --retry-failed",
        "waiting: stop t001, t00\\x1b[2J",
    ]
    assert lines[-1].startswith(f"  {waiting}  ada@here")


def test_the_json_of_status_has_every_order_with_its_trials_and_the_lineage(changed):
    folder, ids = changed
    document = json.loads(status(folder, "--json"))
    orders = document["orders"]
    assert [(order["order"], order["outcome"]) for order in orders] == list(
        zip(ids, ["accepted", "accepted", "refused", "waiting", "waiting"], strict=True)
    )
    assert {order["author"] for order in orders} == {"ada@here"}
    assert [order["action"] for order in orders] == ["extend", "extend", "stop", "extend", "stop"]
    assert orders[1]["trials"] == ["t000", "t003", "t008"]
    assert orders[3]["time"] == ORDER["time"]
    assert document["plan"] == {
        "changed": {
            "search.num_trials": [9, 13],
            "trial.epochs": [9, 27],
            "resources.max_concurrent": [None, 2],
            "rungs": [[3], [3, 9]],
        },
        "parent": None,
    }


def test_a_sweep_without_orders_has_no_section_of_them(finished):
    folder = finished()
    assert "orders" not in status(folder)
    document = json.loads(status(folder, "--json"))
    assert (document["orders"], document["plan"]) == ([], {"changed": {}, "parent": None})


def test_python_and_a_notebook_show_the_orders(changed):
    folder, ids = changed
    sweep = ravel.open(folder.path)
    assert [order.order for order in sweep.orders] == ids
    page = sweep._repr_html_()
    assert "search.num_trials: 9 at the launch, 13 now" in page
    assert "refused: trial t042" in page


def test_the_live_view_shows_the_last_orders(changed):
    result = SweepResult.read(changed[0])
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(live_view(result.plan, result.state))
    text = console.export_text()
    assert "refused: trial t042" in text
    assert "accepted: search.num_trials: 9 to 13" in text


def test_of_many_orders_the_latest_are_shown_and_the_others_counted(changed):
    orders = answered_orders(SweepResult.read(changed[0]).state)
    lines = order_lines(orders, most=2)
    assert lines[0] == "1 more before these: ravel status --json"
    assert lines[1:] == [str(order) for order in orders[1:]]


def test_a_fork_names_its_parent_and_the_trials_that_it_began_with(finished, tmp_path):
    result = SweepResult.read(finished())
    made = fork(result.plan, result.state, result.folder, name="younger", settings=[], best=2)
    folder = SweepFolder(tmp_path / "results" / "younger-1")
    folder.path.mkdir()
    make_plan(made.spec, folder, slots=1, now=0.0, working_directory=tmp_path, parent=made.parent).save(folder)
    parent = SweepPlan.load(folder).parent
    assert f"fork of virtual, from {', '.join(parent.trials)}" in status(folder)
    assert json.loads(status(folder, "--json"))["plan"]["parent"]["sweep"] == "virtual"
