"""A sweep with a trial in every state, parameters of every kind, and a metric that was not finite; without Ray."""

from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    EpochReported,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_folder import SweepFolder

SPEC = """
name: varied
trial: {epochs: 9}
space:
  parameters:
    optimizer.name: {choice: [sgd, adamw]}
    optimizer.lr: {float: [1.0e-4, 1.0], log: true}
    optimizer.momentum: {float: [0.5, 0.99], when: {optimizer.name: sgd}}
    mixup.alpha: {zero_or: {float: [0.1, 4.0]}, probability: 0.5}
    snnl.weight: {symlog: [-1.0, 1.0], gap: 0.001}
    batch_size: {choice: [32, 64, 128], ordered: true}
    adversarial.steps: {int: [1, 64], log: true}
search: {num_trials: 9, sampler: random}
"""
TWO = "objective: [val/accuracy max, val/nll min]\n"
SGD = {"optimizer.name": "sgd", "optimizer.lr": 0.1 + 0.2, "optimizer.momentum": 0.9, "mixup.alpha": 0.0}
ADAMW = {"optimizer.name": "adamw", "optimizer.lr": 1e-3, "mixup.alpha": 1.7}
REST = {"snnl.weight": -0.25, "batch_size": 64, "adversarial.steps": 7}
OUTSIDE = {**ADAMW, **REST, "snnl.weight": 0.0, "adversarial.epsilon": 0.0}  # as a baseline may be

# Trial: point, status, accuracies by epoch. t003 is the best of all at epoch 3, t001 the best after a full run.
TRIALS = {
    "t000": (OUTSIDE, "completed", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.68, 0.7]),
    "t001": ({**SGD, **REST}, "completed", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.78, 1 / 3 + 0.5]),
    "t002": ({**ADAMW, **REST, "batch_size": 128}, "completed", [0.2, 0.3, 0.45, 0.5, 0.6, 0.7, 0.75, 0.78, 0.8]),
    "t003": ({**SGD, **REST, "optimizer.lr": 1.0}, "stopped", [0.5, 0.7, 0.9]),
    "t004": ({**SGD, **REST, "adversarial.steps": 1}, "paused", [0.1, 0.1, 0.2]),
    "t005": ({**ADAMW, **REST, "snnl.weight": 1.0}, "diverged", [0.1, None]),
    "t006": ({**ADAMW, **REST, "batch_size": 32}, "failed", []),
    "t007": ({**SGD, **REST, "adversarial.steps": 64}, "running", [0.3]),
    "t008": ({**ADAMW, **REST, "mixup.alpha": 4.0}, "waiting", []),
}
REASON = "=cmd|' /C calc'!A0: CUDA error, \"device\"\nlost"


def write(root, *, text=SPEC, name="varied-1", trials=None):
    """Write the sweep; return its folder."""
    folder = SweepFolder(root / "results" / name)
    plan = make_plan(parse_spec(text), folder, slots=2, now=1.7e9, working_directory=root)
    folder.path.mkdir(parents=True)
    plan.save(folder)
    with EventLog(folder.events) as log:
        log.append(SweepStarted(time=1.7e9, generation=1, host="here", pid=1))
        for index, (trial, (point, status, curve)) in enumerate((trials or TRIALS).items()):
            created = TrialCreated(
                time=1.7e9 + 100 * index + 0.1,
                trial=trial,
                origin="baseline" if trial == "t000" else "search",
                point=point,
                config=trial_config(plan, trial, point),
            )
            for event in (created, *_events(created, status, curve)):
                log.append(event)
    return folder


def _events(created, status, curve):
    trial, time = created.trial, created.time
    if status == "waiting":
        return
    yield AttemptStarted(time=time + 1, trial=trial, attempt=1, host="node-1")
    if status == "failed":
        yield AttemptFailed(time=time + 2, trial=trial, attempt=1, cause="infrastructure", reason="node-1 is gone")
        yield AttemptStarted(time=time + 3, trial=trial, attempt=2, host="node-2")
    for epoch, value in enumerate(curve, start=1):
        metrics = {"time/epoch_s": 0.5, "val/nll": 1.0 - epoch / 10, "cost/gpu_s": 0.25, "val/accuracy": value}
        if epoch == 1:
            metrics["val/ece"] = None
        yield EpochReported(
            time=time + 3 + epoch,
            trial=trial,
            attempt=1,
            epoch=epoch,
            since_restore=epoch,
            metrics=metrics,
            host="node-1",
        )
    if status != "running":
        rung = 3 if status in {"stopped", "paused"} else None
        why = {"reason": REASON, "cause": "user"} if status == "failed" else {}
        yield TrialEnded(time=time + 50, trial=trial, status=status, rung=rung, **why)
