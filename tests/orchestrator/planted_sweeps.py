"""Sweeps with planted curves: their event logs are written as a driver writes them, without Ray or training."""

import random

from orchestrator.analysis.result import SweepResult
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.points import first_points
from orchestrator.planning.seeds import trial_id
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import AttemptStarted, EpochReported, SweepEnded, SweepStarted, TrialCreated, TrialEnded
from orchestrator.state.sweep_folder import SweepFolder

SPEC = """
name: planted
trial: {epochs: 27, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}, batch_size: {choice: [32, 64], ordered: true}}
search: {num_trials: 48, seed: 5, sampler: random}
scheduler: {grace_period: 3, kind: stopping}
"""
IMAGES = 360


def write(folder, text, curve, stop, *, points=None):
    """A finished sweep: `curve(point, epoch)` are the metrics, `stop(point)` the rung that stops a trial, or None."""
    spec = parse_spec(text)
    plan = make_plan(spec, folder, slots=2, now=0.0, working_directory=folder.path.parent)
    folder.path.mkdir(parents=True)
    plan.save(folder)
    first = first_points(spec)
    rest = points or spec.space.sample_many(spec.search.num_trials - len(first), seed=spec.search.seed)
    time = 0.0
    with EventLog(folder.events) as log:
        log.append(SweepStarted(time=time, generation=1, host="here", pid=1))
        for index, (origin, point) in enumerate([*first, *(("search", point) for point in rest)]):
            name = trial_id(index)
            config = trial_config(plan, name, point)
            log.append(TrialCreated(time=time, trial=name, origin=origin, point=point, config=config))
            log.append(AttemptStarted(time=time, trial=name, attempt=1, host="here"))
            rung = None if origin == "baseline" else stop(point)
            for epoch in range(1, (rung or plan.max_epochs) + 1):
                time += 1.0
                metrics = {**curve(point, epoch), "time/epoch_s": 1.0}
                log.append(
                    EpochReported(
                        time=time, trial=name, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics, host="here"
                    )
                )
            status = "stopped" if rung else "completed"
            log.append(TrialEnded(time=time, trial=name, status=status, rung=rung))
        log.append(SweepEnded(time=time, status="completed"))
    return SweepResult.read(folder)


def alpha(point):
    return point.get("mixup.alpha", 0.0)


def misleading(tmp_path):
    """Alpha helps at every epoch; trials with a large alpha, or a small batch, are stopped early, so end lower."""
    noise = random.Random(1)

    def curve(point, epoch):
        value = 0.5 + 0.4 * (1 - 0.9**epoch) + 0.02 * alpha(point) + noise.gauss(0, 0.002)
        return {"val/accuracy": round(value * IMAGES) / IMAGES}

    def stop(point):
        return 3 if alpha(point) > 1.0 or point["batch_size"] == 32 else None

    return write(SweepFolder(tmp_path / "results" / "planted-1"), SPEC, curve, stop)
