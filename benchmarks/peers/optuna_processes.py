"""The work under Optuna, as its guides teach it: a pruner, and a journal that several processes share.

https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/004_distributed.html, with checkpoints as in
pytorch/pytorch_checkpoint.py of optuna-examples, and a run of MLflow for each trial, as MLflow's guide to Optuna has it
(Optuna's own callback for MLflow is deprecated). The first process makes the study and starts the others.
"""

import subprocess
import sys
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from settings import Settings

STUDY = "peers"
STARTED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


def storage_of(settings: Settings) -> JournalStorage:
    """Return the storage that all processes share."""
    return JournalStorage(JournalFileBackend(str(Path(settings.folder, "journal.log"))))


def work(settings: Settings) -> None:
    """Train points until all of them have been started: one of the processes."""
    import mlflow  # noqa: PLC0415  the process that makes the study needs neither
    from trial import Trial  # noqa: PLC0415

    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_experiment(STUDY)

    def objective(trial: optuna.Trial) -> float:
        if trial.number >= len(settings.points):  # two processes took the last point at the same time
            trial.study.stop()
            raise optuna.TrialPruned
        training = Trial(settings, suggested(trial, settings))
        checkpoint = Path(settings.folder, f"{trial.number}.pt")
        if checkpoint.exists():
            training.load(checkpoint)
        with mlflow.start_run(run_name=str(trial.number)):
            mlflow.log_params(trial.params)
            while training.epoch < settings.epochs:
                accuracy = training.run_epoch()
                settings.report(trial.number, training.epoch, accuracy)
                training.save(checkpoint)
                mlflow.log_metric("accuracy", accuracy, step=training.epoch)
                trial.report(accuracy, step=training.epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return accuracy

    study = optuna.load_study(
        study_name=STUDY,
        storage=storage_of(settings),
        pruner=optuna.pruners.SuccessiveHalvingPruner(
            min_resource=settings.rungs[0], reduction_factor=settings.factor, min_early_stopping_rate=0
        ),
    )
    enough = MaxTrialsCallback(len(settings.points), states=STARTED)
    study.optimize(objective, callbacks=[enough])


def suggested(trial: optuna.Trial, settings: Settings) -> dict[str, float]:
    """Return the point of a trial."""
    return {name: trial.suggest_float(name, **domain) for name, domain in settings.space.items()}


def main() -> None:
    """Make the study and run the processes, or be one of them."""
    settings = Settings.read(sys.argv[1])
    if "--worker" in sys.argv:
        work(settings)
        return
    study = optuna.create_study(study_name=STUDY, storage=storage_of(settings), direction="maximize")
    for point in settings.points:
        study.enqueue_trial(dict(point))
    command = [sys.executable, __file__, sys.argv[1], "--worker"]
    workers = [subprocess.Popen(command) for _ in range(settings.slots)]  # noqa: S603
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise SystemExit("a worker failed")
    print(f"best accuracy {study.best_value:.4f} of {study.best_params}")


if __name__ == "__main__":
    main()
