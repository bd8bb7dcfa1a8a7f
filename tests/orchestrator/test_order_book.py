"""Orders that are damaged, half written, hostile or not to be read: refused in plain words, and in nobody's way."""

import json
import os
import stat
import subprocess
import sys
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ravel
from orchestrator import launching
from orchestrator.analysis.order_history import answered_orders, order_history
from orchestrator.analysis.replay import replay
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import SpecError, StorageError
from orchestrator.orders.answers import answer
from orchestrator.orders.book import ORDERS, Unreadable, _read, book_of, submit, unanswered
from orchestrator.orders.order import Order, author, extend_order
from orchestrator.state.event_log import read_events
from orchestrator.state.events import OrderAccepted, OrderRefused, decode, encode
from orchestrator.state.sweep_state import SweepState

NUMBERS = count(1)


def answers(folder):
    """The answers to orders in a sweep's log, by the order's id."""
    events = [event for event, _ in read_events(folder.events)]
    return {event.order: event for event in events if isinstance(event, OrderAccepted | OrderRefused)}


def put(folder, content, *, number=None, order="0c" * 16):
    """Write an order as another program would."""
    (folder.path / ORDERS).mkdir(exist_ok=True)
    file = folder.path / ORDERS / f"{next(NUMBERS) if number is None else number:06d}-{order}.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file


def document(**fields):
    order = {"format": 1, "id": "0c" * 16, "time": 1.0, "author": "ada@here", "action": "extend", "more_trials": 1}
    return {**order, **fields}


REFUSED = {
    "clock": (document(time=1e300), "time: Input should be less than or equal to 100000000000, got 1e+300"),
    "no clock": (b'{"format": 1, "id": "%s", "time": 1e999}' % (b"0c" * 16), "time: Input should be a finite number"),
    "author": (document(author="ada\n@here"), "author: Value error, must be one line of at most 256 characters"),
    "terminal": (document(author="\x1b[2J"), "author: Value error, must be one line of at most 256 characters"),
    "action": (document(action="purge"), "action: Input should be 'stop' or 'extend', got 'purge'"),
    "both": (document(action="stop", trials=["t001"]), "content: Value error, an order to stop must not extend"),
    "trials to extend": (document(trials=["t001"]), "an order to extend must not name trials or a driver"),
    "field": (document(command="rm -rf /"), "command: Extra inputs are not permitted, got 'rm -rf /'"),
    "list": ([], "content: Input should be an object, got []"),
    "depth": (b"[" * 100_000, "content: Invalid JSON: recursion limit exceeded"),
    "bytes": (b"\xff\xfe\x00", "content: Invalid JSON: expected value"),
    "half": (json.dumps(document()).encode()[:60], "content: Invalid JSON: EOF while parsing"),
    "another id": (document(id="0a" * 16), f"must have the id of its name, got {'0a' * 16}"),
    "setting": (document(more_trials=None, settings=["trial.epochs\n=9"]), "--set trial.epochs\\n: must be one of "),
    "no number": (document(points=[{"optimizer.lr": float("nan")}]), "search.points.0.optimizer.lr: must be"),
    "alias": (document(more_trials=None, settings=["budget.gpu_s=&a [*a]"]), "--set budget.gpu_s: "),
    "many": (document(more_trials=10**7), "search.num_trials: "),
    "huge": (document(more_trials=10**30), "search.num_trials: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_order_is_refused_in_one_line_and_the_next_one_is_carried_out(finished, case):
    content, says = REFUSED[case]
    folder = finished()
    put(folder, content)
    submit(folder, right := extend_order(now=1.0, trials="+2"))
    launching.answer_orders(folder)
    refused, accepted = answers(folder).values()
    assert refused.kind == "order_refused"
    assert says in refused.reasons[0]
    assert all("\n" not in reason and "\x1b" not in reason and len(reason) < 420 for reason in refused.reasons)
    assert (accepted.order, accepted.notes) == (right.id, ("search.num_trials: 9 to 11",))


def test_an_order_with_a_clock_in_the_future_is_answered_as_any_other(finished):
    folder = finished()
    put(folder, document(time=4e9))
    assert str(order_history(SweepState.read(folder.events), folder)[0]).startswith("2096-10-0")
    launching.answer_orders(folder)
    assert [event.kind for event in answers(folder).values()] == ["order_accepted"]


def test_an_empty_order_is_being_written_and_answered_when_it_is_there(finished):
    folder = finished()
    file = put(folder, b"")
    submit(folder, extend_order(now=1.0, trials="+2"))
    launching.answer_orders(folder)
    assert len(answers(folder)) == 1
    file.write_text(json.dumps(document()))
    launching.answer_orders(folder)
    assert [event.kind for event in answers(folder).values()] == ["order_accepted"] * 2


def test_orders_are_read_by_number_not_as_text(finished):
    folder = finished()
    first, second = (extend_order(now=1.0, trials="+1") for _ in range(2))
    for number, order in ((1_000_000, second), (999_999, first)):
        put(folder, order.model_dump_json().encode(), number=number, order=order.id)
    submit(folder, third := extend_order(now=1.0, trials="+1"))
    assert [order.id for order in unanswered(book_of(folder), ())] == [first.id, second.id, third.id]


def test_files_of_other_names_are_no_orders_and_a_folder_of_orders_that_is_a_link_is_not_followed(finished, caplog):
    folder = finished()
    for name in ("000001 (1).json", "x\n.json", ".hidden", f"{'9' * 13}-{'0c' * 16}.json"):
        put(folder, b"{}").rename(folder.path / ORDERS / name)
    os.mkfifo(folder.path / ORDERS / f"000001-{'0d' * 16}.json")
    assert list(unanswered(book_of(folder), ())) == []
    assert "x\\n.json: left out (no order has such a name)" in caplog.text
    (folder.path / ORDERS).rename(folder.path / "elsewhere")
    (folder.path / ORDERS).symlink_to("elsewhere")
    put(folder, document())
    assert list(unanswered(book_of(folder), ())) == []
    with pytest.raises(StorageError, match=r"must be a folder that this user can write, .*it is a link"):
        submit(folder, extend_order(now=1.0, trials="+1"))


def test_orders_that_cannot_be_listed_stop_neither_a_driver_nor_a_look(finished, caplog):
    folder = finished()
    (folder.path / ORDERS).write_text("a file where the folder would be")
    launching.answer_orders(folder)
    assert order_history(SweepState.read(folder.events), folder) == ()
    assert caplog.text.count("must be a folder that this user can read, as it holds the orders (Not a directory)") == 2
    with pytest.raises(StorageError, match="must be a folder that this user can"):
        ravel.open(folder.path).extend(trials="+1")


ANSWER = """
import sys
from pathlib import Path
from orchestrator import launching
from orchestrator.execution import driver
from orchestrator.state.sweep_folder import SweepFolder
driver.exporters_of = lambda *_: {}
launching.answer_orders(SweepFolder(Path(sys.argv[1])))
"""


def test_an_order_that_the_drivers_user_may_not_read_is_refused_and_delays_no_other(finished, as_user, repository):
    folder = finished()
    hidden = put(folder, document())
    hidden.chmod(0o200)
    submit(folder, extend_order(now=1.0, trials="+2"))
    command = [sys.executable, "-c", ANSWER, str(folder.path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(repository)}, **as_user)
    refused, accepted = answers(folder).values()
    assert refused.reasons == ("order: must be a file that the user of the driver can read (Permission denied)",)
    assert accepted.kind == "order_accepted"


def test_the_umask_of_who_orders_does_not_hide_the_order_from_the_driver(finished):
    folder = finished()
    folder.path.chmod(0o775)
    before = os.umask(0o077)
    try:
        submit(folder, extend_order(now=1.0, trials="+1"))
    finally:
        os.umask(before)
    (file,) = (folder.path / ORDERS).iterdir()
    assert stat.S_IMODE((folder.path / ORDERS).stat().st_mode) == 0o775
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_an_order_that_is_too_long_is_refused_before_it_is_written(finished):
    folder = finished()
    points = [{"optimizer.lr": 0.1, "mixup.alpha": 0.0}] * 30_000
    with pytest.raises(SpecError, match=r"order: must have at most 1,000,000 bytes, got .*; give fewer points"):
        submit(folder, extend_order(now=1.0, points=points))
    assert book_of(folder).names() == []


def test_an_author_is_one_line_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada\n\x1b[2J" + "x" * 500)
    assert Order.read(extend_order(now=1.0).model_dump_json().encode()).author == author()
    assert author().startswith("ada??[2J")


ENDED = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: 5, seed: 5, sampler: random}
scheduler: {grace_period: 3, kind: stopping}
"""
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=3)
)
FIELDS = {
    "action": st.sampled_from(["stop", "extend"]),
    "generation": st.none() | st.integers(-1, 3),
    "trials": st.lists(st.sampled_from(["t000", "t001", "t042", "", "\n"]), max_size=3),
    "more_trials": st.none() | st.integers(-2, 2000),
    "settings": st.lists(
        st.builds(
            "{}={}".format,
            st.sampled_from(
                ["search.num_trials", "trial.epochs", "budget.gpu_s", "resources.max_concurrent", "x", "y\n"]
            ),
            PLAIN.map(json.dumps) | st.text(max_size=8),
        ),
        max_size=3,
    ),
    "points": st.lists(
        st.dictionaries(st.sampled_from(["optimizer.lr", "mixup.alpha", "epochs", ""]), PLAIN, max_size=3), max_size=2
    ),
    "retry_failed": st.booleans(),
}
WRONG = st.dictionaries(st.sampled_from([*FIELDS, "id", "time", "author", "format", "more"]), PLAIN, max_size=1)


@pytest.fixture
def ended(virtual_sweep):
    return virtual_sweep(ENDED, workers=2)


@given(fields=st.fixed_dictionaries({}, optional=FIELDS), wrong=WRONG)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_any_document_gets_an_answer_that_can_be_logged_shown_and_replayed(ended, fields, wrong):
    plan, events = ended.plan, ended.events
    decisions = DecisionState(plan, SweepState(events))
    order = _read("0c" * 16, json.dumps(document(more_trials=None) | fields | wrong).encode())
    event = answer(order, decisions, has_checkpoint=lambda _: True, now=100.0)
    assert decode(encode(event)) == event
    assert isinstance(order, Unreadable) <= (event.kind == "order_refused")
    if event.kind == "order_refused":
        assert event.reasons
        assert all("\n" not in reason and len(reason) < 420 for reason in event.reasons)
    state = SweepState([*events, event])
    (entry,) = answered_orders(state)
    assert "\n" not in str(entry)
    assert replay(plan, [*events, event]).differences == ()
