"""Trainables of Ray Tune, with one epoch per step; the only module of this package that imports Ray.

    tune.Tuner(TrialTrainable, param_space=space.to_tune())
    tune.Tuner(TrialTrainable, param_space={"task": "gan", **gan().to_tune()})

The configuration from Tune is that of `trainables.trial_training`. Tune drops an actor that raised, and never gives its
process to another trial.
"""

from typing import Any

import ray
from ray.tune import Trainable

from trainables.engine.worker_process import prepare_process
from trainables.trial_training import TrialTraining

__all__ = ["ClassifierTrainable", "TrialTrainable"]


class TrialTrainable(TrialTraining, Trainable):
    """Trainable of one trial; an actor can be reused for the next trial (`reuse_actors=True`)."""

    def setup(self, config: dict[str, Any]) -> None:
        """Set up the process and store the configuration."""
        if self.trial_resources is not None:  # in a worker of Tune; elsewhere the process is the user's
            bundle = self.trial_resources.bundles[0]
            self.shares_gpu = bool(bundle.get("GPU", 0) % 1)
            prepare_process(cpus=bundle.get("CPU", 1))
        self.begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Release the finished trial's tensors and store the next trial's configuration."""
        self.begin(new_config)
        return True

    def node_id(self) -> str:
        """Return Ray's id of the node that this actor runs on."""
        return str(ray.get_runtime_context().get_node_id())


ClassifierTrainable = TrialTrainable
"""Name of the trainable in scripts that sweep classifiers with plain Tune."""
