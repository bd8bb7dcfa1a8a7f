"""The event log: durable, readable, and explicit about damage."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import LogDamaged
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    CheckpointsDropped,
    EpochReported,
    Link,
    OrderAccepted,
    OrderRefused,
    RungDecided,
    SeedsDropped,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialReopened,
    checksum,
    decode,
    encode,
    reported,
)
from orchestrator.state.log_segments import is_line_end, segment_name, segments
from orchestrator.state.sweep_state import SweepState

EVENTS = [
    SweepStarted(time=1.0, generation=1, host="here", pid=7),
    TrialCreated(time=2.0, trial="t000", origin="baseline", point={"snnl.weight": 0.0}, config={"epochs": 3}),
    AttemptStarted(time=3.0, trial="t000", attempt=1),
    EpochReported(
        time=4.0, trial="t000", attempt=1, epoch=1, since_restore=1, metrics={"val/accuracy": 0.5, "train/loss": None}
    ),
    RungDecided(time=4.5, trial="t000", rung=1, value=0.5, cutoff=0.5, competitors=1, kept=True),
    CheckpointSaved(time=5.0, trial="t000", epoch=1, path="tune/t000-1/checkpoint_000000"),
    AttemptFailed(time=6.0, trial="t000", attempt=1, cause="infrastructure", reason="its worker died"),
    TrialEnded(time=7.0, trial="t000", status="failed", reason="a reason", traceback="line 1\nline 2"),
    SweepEnded(time=8.0, status="interrupted"),
]


def lines_of(events, link=None):
    """Return the lines of a log of these events."""
    link, lines = link or Link(), []
    for event in events:
        lines.append(encode(event, link))
        link = Link(link.seq + 1, checksum(lines[-1]))
    return lines


ASSETS = Path(__file__).parent / "assets"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_every_kind_of_event_survives_the_log(event):
    line = encode(event)
    assert line.count(b"\n") == 1
    assert decode(line) == event


def test_a_log_of_format_2_is_still_read():
    assert [event for event, _ in read_events(ASSETS / "events_v2.jsonl")] == EVENTS


def test_a_log_of_format_1_is_read_as_what_ran():
    created = EVENTS[1].model_copy(update={"config": {"precision": "float32", "epochs": 3}})
    expected = [EVENTS[0], created, *EVENTS[2:]]
    assert [event for event, _ in read_events(ASSETS / "events_v1.jsonl")] == expected


ORDERS = [
    OrderAccepted(
        time=6.0,
        order="0a" * 16,
        action="extend",
        author="ada@here",
        trials=("t000",),
        settings={"trial.epochs": 9},
        plan={"max_epochs": 9, "rungs": [1, 3], "rung_schedule": None},
        config={"epochs": 9},
        notes=("trial.epochs: 3 to 9",),
    ),
    TrialReopened(time=6.5, order="0a" * 16, trial="t000"),
    OrderRefused(
        time=7.0,
        order="0b" * 16,
        action="stop",
        author="ada@here",
        reasons=("trial t042: must be one of 1 trials, got 't042'",),
    ),
    TrialReopened(time=7.5, order="0a" * 16, trial="t000", rung=3),
]


def test_a_log_with_orders_of_format_5_is_still_read():
    events = [event for event, _ in read_events(ASSETS / "events_v5.jsonl")]
    assert events[6:-1] == ORDERS
    assert [event.v for event in events] == [4] * 6 + [5] * 4 + [4]


DROPS = [
    CheckpointSaved(time=5.0, trial="t000", epoch=1, path="tune/t000-1-g1/checkpoint_000000", size_bytes=123456),
    TrialEnded(time=6.0, trial="t000", status="diverged", reason="a reason"),
    CheckpointsDropped(time=6.5, trial="t000", keep_best=3),
    SweepEnded(time=7.0, status="completed"),
    CheckpointsDropped(time=9.0, trial="t000", keep_best=1, author="ada@here"),
]


def test_a_log_with_dropped_checkpoints_of_format_6_is_still_read_and_written_as_it_is():
    events = [event for event, _ in read_events(ASSETS / "events_v6.jsonl")]
    assert events[4:] == DROPS
    assert [event.v for event in events[4:]] == [4, 4, 6, 4, 6]
    assert b"".join(lines_of(events)) == (ASSETS / "events_v6.jsonl").read_bytes()


WAITS = {
    "value": 0.5,
    "cutoff": None,
    "competitors": 1,
    "kept": False,
    "outcome": "waits",
    "reason": "waits for t001s1",
}
MEAN = {"value": 0.7, "cutoff": 0.5, "competitors": 4, "kept": True, "outcome": "mean", "mean": 0.6}
SEEDS = [
    RungDecided(time=3.0, trial="t001", rung=9, **WAITS),
    TrialCreated(time=4.0, trial="t001s1", origin="search", point={}, config={"epochs": 27, "seed": 5}),
    RungDecided(time=5.0, trial="t001s1", rung=9, **MEAN),
    SeedsDropped(time=6.0, trial="t002", rung=27, seeds=(1, 2), reason="its mean reaches that of t001 with 1%"),
    SweepEnded(time=7.0, status="completed"),
]


def test_a_log_with_dropped_seeds_of_format_7_is_still_read_and_written_as_it_is():
    events = [event for event, _ in read_events(ASSETS / "events_v7.jsonl")]
    assert events == SEEDS
    assert [event.v for event in events] == [4, 4, 4, 7, 4]
    assert b"".join(lines_of(events)) == (ASSETS / "events_v7.jsonl").read_bytes()


@pytest.mark.parametrize("event", ORDERS, ids=lambda event: event.kind)
def test_every_kind_of_order_event_survives_the_log(event):
    assert decode(encode(event)) == event


def test_a_log_of_format_3_is_still_read():
    assert [event for event, _ in read_events(ASSETS / "events_v3.jsonl")] == EVENTS


def test_a_log_of_format_4_is_still_read_and_written_as_it_is():
    content = (ASSETS / "events_v4.jsonl").read_bytes()
    assert [event for event, _ in read_events(ASSETS / "events_v4.jsonl")] == EVENTS
    assert content == b"".join(lines_of(EVENTS))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_log_of_an_older_format_continues_as_a_chain(tmp_path, version):
    path = tmp_path / "events.jsonl"
    old = (ASSETS / f"events_v{version}.jsonl").read_bytes()
    path.write_bytes(old)
    with EventLog(path) as log:
        log.append(EVENTS[0])
        log.append(EVENTS[8])
    new = path.read_bytes()[len(old) :]
    assert [json.loads(line)["seq"] for line in new.splitlines()] == [10, 11]
    with EventLog(path, generation=2) as log:
        log.append(EVENTS[0])
    assert [event for event, _ in read_events(path)][-3:] == [EVENTS[0], EVENTS[8], EVENTS[0]]
    segments(path)[-1].path.unlink()
    lines = old.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-2], lines[-1], new]))
    with pytest.raises(LogDamaged, match="number 10 of the log, and 9 is missing"):
        list(read_events(path))


DAMAGES = {
    "deleted": (lambda lines: lines[:3] + lines[4:], r"byte \d+ is number 5 of the log, and 4 is missing"),
    "first deleted": (lambda lines: lines[1:], r"byte 0 is number 2 of the log, and 1 is missing"),
    "doubled": (lambda lines: [*lines[:4], lines[3], *lines[4:]], r"byte \d+ is number 4 of the log, and follows 4"),
    "swapped": (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], r"number 5 of the log, and 4 is missing"),
    "replaced": (
        lambda lines: [*lines[:3], encode(EVENTS[4], Link(4, checksum(lines[2]))), *lines[4:]],
        r"is number 5 of the log, and does not continue the line before",
    ),
    "of an older format": (
        lambda lines: [*lines[:3], (ASSETS / "events_v3.jsonl").read_bytes().splitlines(keepends=True)[3], *lines[4:]],
        r"is of an older format than the lines before it",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whole_lines_that_are_damaged_are_named_with_their_file_byte_and_remedy(tmp_path, damage):
    alter, message = DAMAGES[damage]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(alter(lines_of(EVENTS))))
    with pytest.raises(LogDamaged, match=rf"events.jsonl: the line at .*{message}.*; restore the file from a copy"):
        SweepState.read(path)


@pytest.mark.parametrize("kept", [slice(0, 1), slice(2, 9)], ids=["end", "start"])
def test_a_log_of_format_3_without_the_line_that_creates_a_trial_is_damaged(tmp_path, kept):
    path, lines = tmp_path / "events.jsonl", (ASSETS / "events_v3.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[kept], *lines[2:]]))
    with pytest.raises(LogDamaged, match=r"the line at byte \d+ is of trial 't000', which no line before it creates"):
        SweepState.read(path)


def test_a_log_of_format_3_that_creates_a_trial_twice_is_damaged(tmp_path):
    path, lines = tmp_path / "events.jsonl", (ASSETS / "events_v3.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], lines[1], *lines[5:]]))
    with pytest.raises(LogDamaged, match="a second creation of trial 't000': it is a copy of an earlier line"):
        SweepState.read(path)


def test_only_the_last_segment_may_be_torn(tmp_path):
    path = tmp_path / "events.jsonl"
    in_segments(path, EVENTS)
    torn, _, *_ = segments(path)
    content = torn.path.read_bytes()
    torn.path.write_bytes(content[:-1] + b" ")
    start = content[:-1].rfind(b"\n") + 1
    with pytest.raises(LogDamaged, match=rf"events.jsonl: the line at byte {start} is cut off, and the log continues"):
        SweepState.read(path)


def test_a_segment_that_is_longer_than_the_next_one_allows_is_named(tmp_path):
    path = tmp_path / "events.jsonl"
    in_segments(path, EVENTS)
    first, second, *_ = segments(path)
    first.path.write_bytes(first.path.read_bytes() + encode(EVENTS[0]))
    message = f"events.jsonl: must end at byte {first.size}, where {second.path.name} begins; restore"
    with pytest.raises(LogDamaged, match=message):
        SweepState.read(path)


@pytest.mark.parametrize("trace", ["tracking.json", "tune/t000-1/checkpoint_000000/state.pt"])
@pytest.mark.parametrize("is_empty", [False, True], ids=["missing", "empty"])
def test_a_log_that_is_missing_though_its_sweep_began_is_damaged(tmp_path, trace, is_empty):
    path = tmp_path / "events.jsonl"
    if is_empty:
        path.touch()
    assert SweepState.read(path).num_events == 0  # killed before its first line
    (tmp_path / trace).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / trace).write_text("{}")
    with pytest.raises(LogDamaged, match=r"events.jsonl: the event log is missing or empty, but .* shows that"):
        SweepState.read(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\0\n", b"[" * 100_000 + b"\n", b"\0" * 50 + b"\n"])
def test_bytes_that_are_no_text_are_named(tmp_path, content):
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode(EVENTS[0]) + content)
    with pytest.raises(LogDamaged, match=rf"the line at byte {len(encode(EVENTS[0]))} is no event") as caught:
        SweepState.read(path)
    assert len(str(caught.value)) < 400


def test_the_text_of_a_worker_is_the_line_of_the_log(tmp_path):
    head = {"time": 4.0, "trial": "t000", "attempt": 1, "since_restore": 1}
    event, body = reported('{"epoch": 1, "metrics": {"val/accuracy": 0.50}}', **head)
    with EventLog(tmp_path / "events.jsonl") as log:
        log.append(EVENTS[1])
        log.append(event, body)
    assert b'"epoch": 1, "metrics": {"val/accuracy": 0.50},"seq":2,' in log.path.read_bytes()
    assert [event for event, _ in read_events(log.path)] == [EVENTS[1], event]


def test_the_names_that_moved_since_format_1_are_read_as_what_they_meant():
    old = {
        "v": 1,
        "time": 2.0,
        "kind": "trial_created",
        "trial": "t001",
        "origin": "search",
        "point": {"adversarial.attack": "fgsm", "adversarial.epsilon": 0.1},
        "config": {"model.name": "cnn", "adversarial.attack": "fgsm", "adversarial.epsilon": 0.1},
    }
    event = decode(json.dumps(old).encode() + b"\n")
    assert event.point["adversarial.attack"] == "fgsm_rs"
    assert (event.config["model.name"], event.config["precision"]) == ("cnn_bn", "float32")
    today = {**old, "v": 2, "config": {"model.name": "cnn"}, "point": {"adversarial.attack": "fgsm"}}
    assert decode(json.dumps(today).encode() + b"\n").config == {"model.name": "cnn"}


def test_offsets_let_a_reader_continue_where_it_stopped(tmp_path):
    with EventLog(tmp_path / "events.jsonl") as log:
        for event in EVENTS[:4]:
            log.append(event)
        first = list(read_events(log.path))
        for event in EVENTS[4:]:
            log.append(event)
    assert [event for event, _ in read_events(log.path, first[-1][1])] == EVENTS[4:]


def test_a_torn_tail_is_never_yielded_and_cut_off_by_the_next_writer(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = lines_of([*EVENTS[:3], EVENTS[4]])
    whole = b"".join(lines[:3])
    path.write_bytes(whole + lines_of(EVENTS)[3][:-5])
    assert [event for event, _ in read_events(path)] == EVENTS[:3]
    with EventLog(path) as log:
        log.append(EVENTS[4])
    assert path.read_bytes() == whole + lines[3]


def test_a_damaged_line_is_named_with_its_place(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode(EVENTS[0]) + b'{"kind": "party"}\n' + encode(EVENTS[1]))
    with pytest.raises(LogDamaged, match=rf"events.jsonl: the line at byte {len(encode(EVENTS[0]))} is no event"):
        list(read_events(path))


def test_every_flipped_bit_of_a_line_is_noticed(tmp_path):
    path, line = tmp_path / "events.jsonl", encode(EVENTS[3])
    for place in range(len(line) - 1):
        for bit in range(8):
            damaged = bytearray(line)
            damaged[place] ^= 1 << bit
            path.write_bytes(bytes(damaged) + encode(EVENTS[8]))
            with pytest.raises(LogDamaged, match="the line at byte"):
                list(read_events(path))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (encode(EVENTS[0]).replace(b'"pid":7', b'"pid":8'), "its checksum does not fit"),
        (encode(EVENTS[0])[:-19] + b"}\n", "it has no checksum"),
        ((ASSETS / "events_v3.jsonl").read_bytes().replace(b'"pid":7', b'"pid":8'), "its checksum does not fit"),
    ],
    ids=["changed", "without", "format 3"],
)
def test_a_line_needs_its_checksum(tmp_path, line, reason):
    path = tmp_path / "events.jsonl"
    path.write_bytes(line)
    with pytest.raises(LogDamaged, match=reason):
        list(read_events(path))


def in_segments(path, events, *, segment_bytes=300):
    """Write each event by a driver of its own."""
    for event in events:
        with EventLog(path, segment_bytes=segment_bytes) as log:
            log.append(event)


def test_a_log_in_segments_reads_as_one(tmp_path):
    path = tmp_path / "events.jsonl"
    in_segments(path, EVENTS)
    parts = segments(path)
    assert len(parts) >= 3
    assert b"".join(part.path.read_bytes() for part in parts) == b"".join(lines_of(EVENTS))
    assert all(part.path.read_bytes().endswith(b"\n") for part in parts)
    assert [part.path.name for part in parts] == [
        path.name if part.start == 0 else segment_name(path, part.start, 1) for part in parts
    ]
    ends = [end for _, end in read_events(path)]
    assert [event for event, _ in read_events(path)] == EVENTS
    for index, end in enumerate(ends):
        assert [event for event, _ in read_events(path, end)] == EVENTS[index + 1 :]
        assert is_line_end(path, end)
        assert not is_line_end(path, end - 1)
    assert not is_line_end(path, ends[-1] + 1)


def test_a_torn_tail_of_the_last_segment_is_cut_off_by_the_next_writer(tmp_path):
    path = tmp_path / "events.jsonl"
    in_segments(path, EVENTS[:6])
    last = segments(path)[-1].path
    last.write_bytes(last.read_bytes() + encode(EVENTS[6])[:-5])
    assert [event for event, _ in read_events(path)] == EVENTS[:6]
    in_segments(path, EVENTS[6:])
    assert [event for event, _ in read_events(path)] == EVENTS


def started(generation, host):
    return SweepStarted(time=1.0, generation=generation, host=host, pid=1)


def hosts(path):
    return [event.host for event, _ in read_events(path)]


@pytest.mark.parametrize("rotates", [False, True], ids=["in its segment", "in later segments"])
@pytest.mark.parametrize("successors", [1, 40])
def test_what_a_driver_writes_after_another_took_the_log_never_becomes_part_of_it(tmp_path, rotates, successors):
    path = tmp_path / "events.jsonl"
    with EventLog(path, generation=1, segment_bytes=200 if rotates else 10**6) as lost:
        lost.append(started(1, "a1"))
        with EventLog(path, generation=2, segment_bytes=400) as other:
            for index in range(12):
                lost.append(started(1, f"late{index}"))
            for index in range(successors):
                other.append(started(2, f"b{index}"))
            for index in range(12):
                lost.append(started(1, f"later{index}"))
    assert hosts(path) == ["a1", *(f"b{index}" for index in range(successors))]
    with EventLog(path, generation=3) as third:
        third.append(started(3, "c"))
    assert hosts(path)[-2:] == [f"b{successors - 1}", "c"]


def test_drivers_that_continue_from_the_same_byte_write_to_files_of_their_own(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventLog(path, generation=1) as log:
        log.append(started(1, "a"))
    with EventLog(path, generation=2) as silent, EventLog(path, generation=3) as last:
        silent.append(started(2, "b"))
        last.append(started(3, "c"))
        silent.append(started(2, "b"))
    assert hosts(path) == ["a", "c"]


def test_a_first_driver_that_wrote_nothing_in_time_has_no_part(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventLog(path, generation=2) as second:
        second.append(started(2, "b"))
        with EventLog(path.with_name("elsewhere.jsonl"), generation=1) as late:
            late.append(started(1, "a"))
        late.path.rename(path)
    assert hosts(path) == ["b"]


def test_a_torn_tail_of_another_driver_is_left_to_it_and_not_read(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(lines_of([started(1, "a"), started(1, "torn")]))[:-7])
    before = path.read_bytes()
    with EventLog(path, generation=2) as log:
        log.append(started(2, "b"))
    assert path.read_bytes() == before
    assert hosts(path) == ["a", "b"]


def test_a_disk_that_refuses_even_to_cut_off_a_part_gets_nothing_after_it(tmp_path, monkeypatch):
    with EventLog(tmp_path / "events.jsonl") as log:
        log.append(EVENTS[0])
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "broken disk")))
            broken.setattr(log, "_cut", lambda: (_ for _ in ()).throw(OSError(errno.EIO, "broken disk")))
            with pytest.raises(OSError, match="broken disk"):
                log.append(EVENTS[1])
        log.append(EVENTS[2])
    assert [event for event, _ in read_events(log.path)] == [EVENTS[0], EVENTS[2]]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_missing_segment_is_named(tmp_path, lost):
    path = tmp_path / "events.jsonl"
    in_segments(path, EVENTS)
    lost_segment, following = segments(path)[lost : lost + 2]
    lost_segment.path.unlink()
    with pytest.raises(
        LogDamaged, match=f"bytes {lost_segment.start} to {following.start} of the event log are missing"
    ):
        list(read_events(path))


def test_an_old_log_continues_in_todays_format(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes((ASSETS / "events_v2.jsonl").read_bytes())
    with EventLog(path) as log:
        log.append(EVENTS[8])
    assert [event for event, _ in read_events(path)] == [*EVENTS, EVENTS[8]]


def test_a_full_disk_keeps_events_in_memory_and_writes_them_in_order_later(tmp_path, caplog):
    class FullDisk(EventLog):
        full = True

        def append(self, event, line=None):
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().append(event, line)

    log = FullDisk(tmp_path / "events.jsonl")
    store = EventStore(log, SweepState())
    store.append(EVENTS[0])
    store.append(EVENTS[1])
    assert store.pending == 2
    assert "No space left" in caplog.text
    assert store.state.trials["t000"].status == "waiting"
    log.full = False
    store.append(EVENTS[2])
    store.close()
    assert store.pending == 0
    assert [event for event, _ in read_events(log.path)] == EVENTS[:3]


def test_a_disk_that_stays_full_leaves_no_part_of_any_event(tmp_path):
    """Run a process whose files may grow by 30 bytes: three events are refused after a part was written."""
    path = tmp_path / "events.jsonl"
    code = f"""
import resource, signal
from pathlib import Path
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import SweepEnded
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
event = SweepEnded(time=1.0, status="completed")
with EventLog(Path({str(path)!r})) as log:
    log.append(event)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 30, resource.RLIM_INFINITY))
    for _ in range(3):
        try: log.append(event)
        except OSError: print("refused")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.append(event)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * 3
    assert [event.kind for event, _ in read_events(path)] == ["sweep_ended"] * 2


def test_a_refused_write_leaves_no_part_of_an_event(tmp_path, monkeypatch):
    with EventLog(tmp_path / "events.jsonl") as log:
        log.append(EVENTS[0])
        before = log.path.read_bytes()

        def refuse(_descriptor):
            raise OSError(errno.EIO, "broken disk")

        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", refuse)
            with pytest.raises(OSError, match="broken disk"):
                log.append(EVENTS[1])
        assert log.path.read_bytes() == before
        log.append(EVENTS[2])
    assert log.path.read_bytes() == before + lines_of([EVENTS[0], EVENTS[2]])[1]


def test_decisions_are_flushed_at_once_and_observations_within_a_second(tmp_path, monkeypatch):
    flushed = []
    now = iter([0.0, *(0.1 * step for step in range(1, 100))])
    monkeypatch.setattr("orchestrator.state.event_log.time.monotonic", lambda: next(now))
    with EventLog(tmp_path / "events.jsonl") as log:
        fsync = os.fsync
        monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(None) or fsync(descriptor))
        for event in (EVENTS[1], EVENTS[4], EVENTS[6], EVENTS[8]):
            flushed.clear()
            log.append(event)
            assert flushed, event.kind
        for _ in range(3):
            flushed.clear()
            for event in [EVENTS[3], EVENTS[5]] * 6:
                log.append(event)
            assert len(flushed) == 1  # the clock is read twelve times, a tenth of a second apart


@pytest.mark.parametrize(
    "name", ["._events.jsonl", "events (conflicted copy).jsonl", "events-000000000000-g0002 2.jsonl"]
)
def test_a_stray_file_next_to_the_log_is_named_and_left_out(tmp_path, caplog, name):
    path = tmp_path / "events.jsonl"
    in_segments(path, EVENTS)
    (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert [event for event, _ in read_events(path)] == EVENTS
    assert f"{tmp_path / name}: left out (no part of the event log has such a name)" in caplog.text


def test_an_empty_segment_after_the_end_is_named_and_left_out(tmp_path, caplog):
    path = tmp_path / "events.jsonl"
    in_segments(path, EVENTS)
    stray = path.with_name(segment_name(path, 10**6, 9))
    stray.touch()
    assert [event for event, _ in read_events(path)] == EVENTS
    assert f"{stray}: left out (an empty file that starts after the end of the event log)" in caplog.text
    with EventLog(path, generation=10) as log:
        log.append(EVENTS[8])
    assert [event for event, _ in read_events(path)] == [*EVENTS, EVENTS[8]]


def test_a_folder_in_the_place_of_the_log_is_named(tmp_path):
    (tmp_path / "events.jsonl").mkdir()
    with pytest.raises(LogDamaged, match=r"events.jsonl: must be a file of the event log, got a folder; restore"):
        segments(tmp_path / "events.jsonl")
