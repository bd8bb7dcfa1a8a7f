"""The work under Syne Tune, as its README teaches it: a launching script, its local backend, ASHA.

https://github.com/syne-tune/syne-tune; the training script is syne_tune_trial.py.
"""

import os
import sys
from pathlib import Path
from typing import Any

from settings import Settings
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import LocalBackend
from syne_tune.config_space import loguniform, uniform
from syne_tune.optimizer.baselines import ASHA


def config_space_of(settings: Settings, path: str) -> dict[str, Any]:
    """Return the searched parameters, and the constant arguments of the training script."""
    searched = {
        name: (loguniform if domain.get("log") else uniform)(domain["low"], domain["high"])
        for name, domain in settings.space.items()
    }
    return {**searched, "settings": path}


def main() -> None:
    """Run the sweep."""
    settings = Settings.read(sys.argv[1])
    os.environ["SYNETUNE_FOLDER"] = settings.folder
    tuner = Tuner(
        trial_backend=LocalBackend(entry_point=str(Path(__file__).with_name("syne_tune_trial.py"))),
        scheduler=ASHA(
            config_space_of(settings, sys.argv[1]),
            metric="accuracy",
            do_minimize=False,
            time_attr="epoch",
            max_t=settings.epochs,
            grace_period=settings.rungs[0],
            reduction_factor=settings.factor,
            points_to_evaluate=[dict(point) for point in settings.points],
            random_seed=settings.seed,
        ),
        # It stops once more than this number of trials have been started.
        stop_criterion=StoppingCriterion(max_num_trials_started=len(settings.points) - 1),
        n_workers=settings.slots,
        wait_trial_completion_when_stopping=True,
    )
    tuner.run()


if __name__ == "__main__":
    main()
