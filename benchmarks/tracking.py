"""Measure what tracking costs the control loop: event log and MLflow exporter against Ray's own callback, in one run.

Every arm drives the same trials through a real Tune control loop. A trial's step returns twelve metrics and does
nothing else, so that only the loop is measured. ``none`` has no logger; ``ravel`` writes the event log, which a
background thread exports to MLflow; ``callback`` is ``MLflowLoggerCallback``, stopped after 300 results. Each is
measured on a sqlite file and on an MLflow server of one worker.

Prediction, written before the first run: results per second at least 0.9x of ``none`` and about 50x of ``callback``;
under 2 % of the loop in tracking. Result on two cores, median of six rounds: 0.93x (sqlite) and 0.98x (server on the
same cores), 21x and 55x of the callback, 1.9 % of the loop's processor time, the meter's 0.2 % included. Without small
batches, the server's arm had 0.79x: the exporter sent whole backlogs while the loop ran.

A later version writes an epoch in fewer steps (an eighth less time in the hooks, four rounds against the version
before). On cores half as fast: 1.6 to 2.2 % of the loop by the clock (one of ten times over 2 %), 1.4 to 1.8 % by
processor time, of which the meter 0.1 %; 0.91x and 1.00x of ``none`` in a run of two rounds, 1.00x and 1.03x in one of
three, 29x and 79x of the callback in both.

    python benchmarks/tracking.py --trials 100 --epochs 60
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

METRICS = (
    *("train/loss", "train/ce", "train/snnl", "val/accuracy", "val/nll", "val/ece", "val/robust_accuracy"),
    *("entanglement/conv1", "entanglement/conv2", "time/epoch_s", "time/images_per_s", "cost/gpu_s"),
)
CALLBACK_RESULTS = 300
SPEC = "name: benchmark\ntrial: {{epochs: {epochs}}}\nspace: {{use: [snnl, mixup, adversarial]}}"


class Meter:
    """Time inside the hooks of a callback, by the clock and by the processor, and the times of its results."""

    def __init__(self, callback: Any) -> None:
        self.seconds, self.cpu_s, self.results, self.first, self.last = 0.0, 0.0, 0, 0.0, 0.0
        own = {name for name in vars(type(callback)) if name.startswith("on_")}  # inherited hooks do nothing
        for name in own | {"on_trial_result"}:
            setattr(callback, name, self._timed(getattr(callback, name), counts=name == "on_trial_result"))

    def _timed(self, hook: Callable[..., None], *, counts: bool) -> Callable[..., None]:
        @wraps(hook)
        def timed(*args: object, **kwargs: object) -> None:
            cpu_began, began = time.thread_time(), time.perf_counter()
            hook(*args, **kwargs)
            now = time.perf_counter()
            self.cpu_s += time.thread_time() - cpu_began
            self.seconds += now - began
            if counts:
                self.results += 1
                self.first = self.first or now
                self.last = now

        return timed


def fit(callback: Any, options: argparse.Namespace, *, stop: Any = None, as_event: bool = False) -> Meter:
    """Drive the trials through Tune with one callback."""
    from orchestrator.execution import ray_cluster  # noqa: PLC0415

    os.environ.update(ray_cluster.QUIET)
    import ray  # noqa: PLC0415
    from ray import tune  # noqa: PLC0415

    class Emit(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.epoch, self.config = 0, config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            metrics = {name: self.epoch + index / 7 for index, name in enumerate(METRICS)}
            ended = {"epoch": self.epoch, "done": self.epoch == self.config["epochs"]}
            if not self.config["as_event"]:
                return {**metrics, **ended}
            event = {"epoch": self.epoch, "metrics": metrics, "data": None}
            return {"val/accuracy": metrics["val/accuracy"], "event": json.dumps(event), **ended}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            Path(checkpoint_dir, "epoch").write_text(str(self.epoch))

    meter = Meter(callback)
    ray.init(address="local", num_cpus=4, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    names = [f"t{index:03d}" for index in range(options.trials)]
    space = {"ravel.trial": tune.grid_search(names), "epochs": options.epochs, "as_event": as_event}
    tune.Tuner(
        Emit,
        param_space=space,
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=4),
        run_config=tune.RunConfig(storage_path=f"{Path.cwd()}/ray", callbacks=[callback], verbose=0, stop=stop),
    ).fit()
    ray.shutdown()
    return meter


def none(options: argparse.Namespace) -> dict[str, float]:
    """Measure the loop without a logger."""
    from ray.tune import Callback  # noqa: PLC0415

    return measures(fit(Callback(), options))


def ravel(options: argparse.Namespace) -> dict[str, float]:
    """Measure the event log with its exporter to MLflow."""
    from orchestrator.decisions.trial_views import DecisionState  # noqa: PLC0415
    from orchestrator.execution.exporters import Exporter  # noqa: PLC0415
    from orchestrator.execution.tune.callback import TrialRecorder  # noqa: PLC0415
    from orchestrator.planning.loading import parse_spec  # noqa: PLC0415
    from orchestrator.planning.plan import make_plan  # noqa: PLC0415
    from orchestrator.planning.trial_configs import trial_config  # noqa: PLC0415
    from orchestrator.state.event_log import EventLog  # noqa: PLC0415
    from orchestrator.state.event_store import EventStore  # noqa: PLC0415
    from orchestrator.state.events import SweepEnded, SweepStarted, TrialCreated  # noqa: PLC0415
    from orchestrator.state.sweep_folder import SweepFolder  # noqa: PLC0415
    from orchestrator.state.sweep_state import SweepState  # noqa: PLC0415
    from orchestrator.tracking.tracker import Tracker  # noqa: PLC0415

    class Proposed:
        def over(self, name: str, *, again: bool = False) -> None:
            """Tune's own grid proposes here."""

    folder = SweepFolder(Path.cwd() / "results" / f"benchmark-{os.getpid()}")
    folder.path.mkdir(parents=True)
    spec = parse_spec(SPEC.format(epochs=options.epochs))
    plan = make_plan(spec, folder, slots=4, now=time.time(), working_directory=Path.cwd())
    plan = plan.model_copy(update={"tracking_uri": options.uri or plan.tracking_uri})
    state = SweepState()
    decisions = DecisionState(plan, state)
    store = EventStore(EventLog(folder.events), state, folds=(decisions,))
    store.append(SweepStarted(time=time.time(), generation=1, host="here", pid=1))
    for index, point in enumerate(spec.space.sample_many(options.trials, seed=0)):
        name = f"t{index:03d}"
        config = trial_config(plan, name, point)
        store.append(TrialCreated(time=time.time(), trial=name, origin="search", point=point, config=config))
    exporter = Exporter(Tracker(plan, folder))
    exporter.start()
    recorder = TrialRecorder(decisions, store, Proposed(), storage_path=str(folder.path))  # type: ignore[arg-type]
    meter = fit(recorder, options, as_event=True)
    store.append(SweepEnded(time=time.time(), status="completed"))
    began = time.perf_counter()
    assert exporter.stop(timeout_s=600), exporter.error  # noqa: S101
    flush_s = time.perf_counter() - began
    store.close()
    points, twice = points_of(plan.tracking_uri, folder.sweep)
    expected = options.trials * options.epochs * len(METRICS)
    return {
        **measures(meter),
        "flush_s": round(flush_s, 1),
        "points": points,
        "points_twice": twice,
        "expected": expected,
    }


def callback(options: argparse.Namespace) -> dict[str, float]:
    """Measure Ray's own callback."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback  # noqa: PLC0415

    uri = options.uri or f"sqlite:///{Path.cwd()}/mlflow.db"
    logger = MLflowLoggerCallback(tracking_uri=uri, experiment_name="benchmark")
    results = 0

    def stop(_trial: str, _result: dict[str, Any]) -> bool:
        nonlocal results
        results += 1
        return results >= CALLBACK_RESULTS

    return measures(fit(logger, options, stop=stop))


def measures(meter: Meter) -> dict[str, float]:
    """Return the results per second between the first and the last, and the share of that time inside the hooks.

    ``cpu_share`` is the processor time of the hooks; ``share_of_loop`` also includes time when other processes had the
    core.
    """
    seconds = meter.last - meter.first
    return {
        "results": meter.results,
        "results_per_s": round((meter.results - 1) / seconds, 1),
        "share_of_loop": round(meter.seconds / seconds, 4),
        "cpu_share": round(meter.cpu_s / seconds, 4),
    }


def points_of(uri: str | None, sweep: str) -> tuple[int, int]:
    """Count the metric points of a sweep's trials in a store, and those that it holds twice."""
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("benchmark").experiment_id
    ours = f"tags.`ravel.kind` = 'trial' AND tags.`ravel.trial` LIKE '{sweep}/%'"
    runs = client.search_runs([experiment], ours, max_results=5000)
    points = [
        (run.info.run_id, key, point.step)
        for run in runs
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    ]
    return len(points), len(points) - len(set(points))


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serve MLflow with one worker over a new sqlite file, and yield the address."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        process = subprocess.Popen(  # noqa: S603
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def run(arm: str, options: argparse.Namespace, uri: str = "") -> dict[str, Any]:
    """Run one arm in a new process, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--arm", arm, "--uri", uri]
        sizes = ["--trials", str(options.trials), "--epochs", str(options.epochs)]
        done = subprocess.run([*command, *sizes], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            sys.exit(f"{arm}: {done.stderr[-3000:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Run all arms round by round, and print the median of the ratios to the arm without a logger of the same round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arm", choices=["none", "ravel", "callback"], help=argparse.SUPPRESS)
    parser.add_argument("--uri", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        print(json.dumps({"none": none, "ravel": ravel, "callback": callback}[options.arm](options)))
        return
    ratios: dict[str, list[float]] = {}
    with served() as uri:
        arms = {"ravel sqlite": ("ravel", ""), "ravel server": ("ravel", uri)}
        arms |= {"callback sqlite": ("callback", ""), "callback server": ("callback", uri)}
        for number in range(options.rounds):
            bare = run("none", options)
            print(json.dumps({"arm": "none", **bare}), flush=True)
            for arm, (kind, store) in arms.items():
                if kind == "callback" and number:
                    continue  # it takes minutes, and a ratio of twenty to sixty is far above the noise
                measured = run(kind, options, store)
                ratio = measured["results_per_s"] / bare["results_per_s"]
                ratios.setdefault(arm, []).append(ratio)
                print(json.dumps({"arm": arm, **measured, "of_none": round(ratio, 3)}), flush=True)
    for store in ("sqlite", "server"):
        ours, theirs = (statistics.median(ratios[f"{kind} {store}"]) for kind in ("ravel", "callback"))
        print(f"{store}: ravel is {ours:.2f}x of no logger and {ours / theirs:.0f}x of the callback")


if __name__ == "__main__":
    main()
