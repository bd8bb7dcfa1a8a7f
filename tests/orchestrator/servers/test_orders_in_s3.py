"""Orders to a sweep in S3: given on one machine, answered on another."""

import pytest

from orchestrator import launching
from orchestrator.execution import driver
from orchestrator.execution.exporters import Exporter
from orchestrator.orders.book import ORDERS, BucketOrders, FolderOrders, id_of, submit, unanswered
from orchestrator.orders.order import extend_order
from orchestrator.orders.waiting import wait_for_answer
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.events import (
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialReopened,
)
from orchestrator.state.s3_mirror import Mirror
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.storage.s3 import Bucket

pytestmark = pytest.mark.timeout(300)


def test_orders_in_a_folder_are_read_in_order_and_none_replaces_another(tmp_path):
    assert_in_order(FolderOrders(tmp_path / ORDERS))


def test_orders_in_s3_are_read_in_order_and_none_replaces_another(s3):
    assert_in_order(BucketOrders(Bucket(s3.location / ORDERS)))


def assert_in_order(book):
    orders = [extend_order(now=0.0, trials=f"+{count}") for count in (1, 2)]
    names = [f"{number:06d}-{order.id}.json" for number, order in zip((2, 1), orders, strict=True)]
    for name, order in zip(names, orders, strict=True):
        assert book.create(name, order.model_dump_json().encode())
        assert not book.create(name, b"another")
    assert book.names() == sorted(names)
    assert list(unanswered(book, ())) == orders[::-1]
    assert list(unanswered(book, {id_of(names[0])})) == orders[1:]


def test_of_a_huge_object_no_more_is_read_than_shows_that_it_is_too_long(s3, monkeypatch):
    bucket = Bucket(s3.location / ORDERS)
    name = f"000001-{'0c' * 16}.json"
    bucket.write(name, b"x" * 12_000_000)
    sizes, stream = [], Bucket.stream

    def counted(self, key, **keywords):
        for piece in stream(self, key, **keywords):
            sizes.append(len(piece))
            yield piece

    monkeypatch.setattr(Bucket, "stream", counted)
    (refused,) = unanswered(BucketOrders(bucket), ())
    assert refused.reason == "must have at most 1,000,000 bytes"
    assert sum(sizes) < 4_000_000
    assert BucketOrders(bucket).read("000002-gone.json") == b""


def events(trial):
    yield TrialCreated(time=2.0, trial=trial, origin="search", point={"mixup.alpha": 0.0}, config={"epochs": 3})
    yield AttemptStarted(time=2.0, trial=trial, attempt=1)
    for epoch in (1, 2, 3):
        metrics = {"val/accuracy": 0.5}
        yield EpochReported(time=3.0, trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics)
    yield CheckpointSaved(time=3.0, trial=trial, epoch=3, path=f"tune/{trial}/3")
    yield TrialEnded(time=4.0, trial=trial, status="completed")


def test_an_order_from_another_machine_is_answered_and_sees_which_checkpoints_exist(s3, tmp_path, monkeypatch):
    storage = (s3.location / "sweeps").uri
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "driver"))
    monkeypatch.setattr(
        driver, "exporters_of", lambda _, folder: {"S3": Exporter(Mirror(folder, folder.remote), name="S3")}
    )
    here = SweepFolder(tmp_path / "launched" / "cloud-1", Bucket(s3.location / "sweeps" / "cloud-1"))
    here.path.mkdir(parents=True)
    text = f"name: cloud\ntrial: {{epochs: 3}}\nspace: {{use: [mixup]}}\nstorage: {{uri: '{storage}'}}\n"
    text += "search: {num_trials: 2}\nscheduler: {name: none}\n"
    make_plan(parse_spec(text), here, slots=1, now=1.0, working_directory=tmp_path).save(here)
    lock = sweep_lock.acquire(here)
    with EventLog(here.events) as log:
        log.append(SweepStarted(time=1.0, generation=1, host="here", pid=1))
        for trial in ("t000", "t001"):
            for event in events(trial):
                log.append(event)
        log.append(SweepEnded(time=9.0, status="completed"))
    Mirror(here, here.remote).catch_up()
    lock.release()
    here.remote.child("tune/t000/3").write("state.pt", b"weights")

    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "laptop"))
    laptop = find_sweep(storage, "cloud-1")
    order = extend_order(now=10.0, settings=["trial.epochs=9"])
    submit(laptop, order)
    launching.answer_orders(here)
    answer = wait_for_answer(laptop, order.id, start=0, timeout_s=5.0)
    assert answer.kind == "order_accepted"
    assert answer.trials == ("t000",)
    assert "t001 stay at 3 epochs: their last checkpoint is gone" in answer.notes
    reopened = [event.trial for event, _ in read_events(laptop.events) if isinstance(event, TrialReopened)]
    assert reopened == ["t000"]
