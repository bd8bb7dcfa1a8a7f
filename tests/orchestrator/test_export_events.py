"""Sweep as event files of TensorBoard and as offline runs of Weights & Biases, read back."""

import gzip
import json
import math
import os
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import varied_sweep as varied

from orchestrator.errors import OrchestratorError
from orchestrator.export import registry, wandb_runs

INSTALL = "of the development group"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return varied.write(tmp_path_factory.mktemp("varied"))


# TensorBoard


@pytest.fixture(scope="module")
def runs(folder):
    """The tensors of each trial by tag, as TensorBoard reads them, and the folder of the event files."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=INSTALL)
    place = registry.export(folder, "tensorboard", folder.path.parent / "tensorboard").path

    def read(run):
        events = accumulator.EventAccumulator(str(run), size_guidance={accumulator.TENSORS: 0})
        events.Reload()
        return {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}, events

    return {path.name: read(path) for path in [place, *place.iterdir()] if path.is_dir()}, place


def scalars(events):
    from tensorboard.util.tensor_util import make_ndarray

    return {event.step: make_ndarray(event.tensor_proto).item() for event in events}


def test_each_metric_is_a_scalar_by_epoch_at_the_time_of_its_report(runs):
    by_run, place = runs
    assert {name for name in by_run if name != place.name} == set(varied.TRIALS)
    for index, (trial, (_, _, curve)) in enumerate(varied.TRIALS.items()):
        tags, _ = by_run[trial]
        measured = scalars(tags.get("val/accuracy", []))
        assert list(measured) == list(range(1, len(curve) + 1))
        for value, expected in zip(measured.values(), curve, strict=True):
            assert math.isnan(value) if expected is None else value == pytest.approx(expected, rel=1e-7)
        times = [event.wall_time for event in tags.get("val/accuracy", [])]
        assert times == [1.7e9 + 100 * index + 0.1 + 3 + epoch for epoch in range(1, len(curve) + 1)]


def test_hparams_has_parameters_and_the_objective_of_full_runs_alone(runs):
    from tensorboard.plugins.hparams import plugin_data_pb2

    by_run, place = runs
    objectives = {trial: scalars(tags.get("objective/val/accuracy", [])) for trial, (tags, _) in by_run.items()}
    assert {trial: list(values) for trial, values in objectives.items() if values} == {
        "t000": [9],
        "t001": [9],
        "t002": [9],
    }
    _, events = by_run["t001"]
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["optimizer.lr"].number_value == 0.1 + 0.2
    assert start.hparams["optimizer.name"].string_value == "sgd"
    assert start.group_name == "t001"
    content = by_run[place.name][1].SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    assert [metric.name.tag for metric in experiment.metric_infos] == ["objective/val/accuracy"]
    assert "mixup.alpha" in {info.name for info in experiment.hparam_infos}


# Weights & Biases


@pytest.fixture(scope="module")
def offline(folder):
    """The folder of an export, and the records of each trial."""
    pytest.importorskip("wandb", reason=INSTALL)
    place = registry.export(folder, "wandb-offline", folder.path.parent / "wandb-export").path
    files = sorted(place.glob("wandb/offline-run-*/run-*.wandb"))
    return place, {file.stem.removeprefix("run-varied-1-"): records(file.read_bytes()) for file in files}


def records(content):
    """Return the records of a .wandb file: a log of LevelDB (blocks of 32 KiB, records in parts) behind 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    assert content[:4] == b":W&B"
    position, text, read = 7, b"", []
    while position < len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        text += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            read.append(wandb_internal_pb2.Record.FromString(text))
            text = b""
    return read


def items(entries):
    return {"/".join(entry.nested_key) or entry.key: json.loads(entry.value_json) for entry in entries}


def test_each_trial_is_an_offline_run_with_its_configuration_and_epochs(offline):
    _, by_trial = offline
    assert set(by_trial) == set(varied.TRIALS)
    for trial, (point, status, curve) in varied.TRIALS.items():
        (run,) = [record.run for record in by_trial[trial] if record.HasField("run")]
        assert (run.run_id, run.run_group, run.display_name, run.project) == (
            f"varied-1-{trial}",
            "varied-1",
            trial,
            "varied",
        )
        assert status in run.tags
        config = items(run.config.update)
        assert {name: config[name] for name in point} == point
        history = [items(record.history.item) for record in by_trial[trial] if record.HasField("history")]
        assert [step["_step"] for step in history] == list(range(1, len(curve) + 1))
        for step, value in zip(history, curve, strict=True):
            assert math.isnan(step["val/accuracy"]) if value is None else step["val/accuracy"] == value


def test_only_full_runs_have_an_objective_in_their_summary(offline):
    _, by_trial = offline
    summaries = {
        trial: {
            name: value
            for record in read
            if record.HasField("summary")
            for name, value in items(record.summary.update).items()
        }
        for trial, read in by_trial.items()
    }
    assert {
        name: summary["objective/val/accuracy"]
        for name, summary in summaries.items()
        if "objective/val/accuracy" in summary
    } == {
        "t000": 0.7,
        "t001": 1 / 3 + 0.5,
        "t002": 0.8,
    }
    assert summaries["t006"]["reason"] == varied.REASON


def test_an_offline_export_has_the_runs_and_nothing_of_this_machine(offline):
    place, by_trial = offline
    files = [path.relative_to(place) for path in place.rglob("*") if not path.is_dir()]
    assert {path.suffix for path in files} == {".wandb", ".json"}
    assert not [path for path in place.rglob("*") if path.is_symlink()]
    runs = {trial: next(record.run for record in read if record.HasField("run")) for trial, read in by_trial.items()}
    measured = {trial for trial, (_, _, curve) in varied.TRIALS.items() if curve}
    assert {trial: run.host for trial, run in runs.items()} == {
        trial: "node-1" if trial in measured else "unknown" for trial in runs
    }
    assert not any(str(place.parent).encode() in path.read_bytes() for path in place.rglob("*.wandb"))


def test_wandb_gets_no_key_and_writes_nothing_outside(folder, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason=INSTALL)
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setattr(wandb_runs.tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("WANDB_API_KEY", "a-secret-key")
    monkeypatch.setenv("WANDB_DIR", str(home))
    monkeypatch.chdir(home)
    environment = wandb_runs.environment(tmp_path, str(temporary))
    assert "a-secret-key" not in environment.values()
    registry.export(folder, "wandb-offline", tmp_path / "out")
    assert list(home.iterdir()) == list(temporary.iterdir()) == []


class Service(BaseHTTPRequestHandler):
    """The answers of W&B that ``wandb sync`` needs; ``server.seen`` has what it sent."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.seen.append((self.path, body.decode(errors="replace")))
        content = json.dumps(self.answer(body) if self.path.endswith("graphql") else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST

    def answer(self, body):
        asked = json.loads(body)
        query, given = asked["query"], asked.get("variables") or {}
        if "upsertBucket" in query:
            project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {
                "id": "r",
                "name": given["name"],
                "displayName": given["name"],
                "config": "{}",
                "project": project,
            }
            return {"data": {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": True}}}
        if "createRunFiles" in query:
            at = f"http://127.0.0.1:{self.server.server_port}/files/"
            files = [{"name": name, "uploadUrl": at + name} for name in given["files"]]
            return {"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}}
        return {"data": {}}


@pytest.fixture
def service():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_wandb_sync_uploads_every_epoch_of_an_export(offline, service, tmp_path):
    place, _ = offline
    (run,) = place.glob("wandb/offline-run-*-t002")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "WANDB_BASE_URL": f"http://127.0.0.1:{service.server_port}",
        "WANDB_API_KEY": "a" * 40,
        "WANDB_ERROR_REPORTING": "false",
    }
    command = [sys.executable, "-m", "wandb", "sync", str(run)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    streams = [json.loads(body).get("files", {}) for path, body in service.seen if path.endswith("file_stream")]
    lines = [line for stream in streams for line in stream.get("wandb-history.jsonl", {}).get("content", [])]
    assert [json.loads(line)["val/accuracy"] for line in lines] == varied.TRIALS["t002"][2]


def test_a_failure_of_wandb_is_one_line_and_leaves_nothing(folder, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason=INSTALL)
    monkeypatch.setattr(wandb_runs, "run_of", lambda entry, _: {"init": {"id": f"a/{entry.trial.id}"}, "host": ""})
    with pytest.raises(OrchestratorError, match=r"wandb .* failed, nothing was exported: ") as caught:
        registry.export(folder, "wandb-offline", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
