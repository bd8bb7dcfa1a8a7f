"""Validated configuration of a trial."""

from trainables.config.trial import (
    AdversarialConfig,
    DataConfig,
    EvaluationConfig,
    LossConfig,
    MixupConfig,
    ModelConfig,
    OptimizerConfig,
    SnnlConfig,
    TrialConfig,
)

__all__ = [
    "AdversarialConfig",
    "DataConfig",
    "EvaluationConfig",
    "LossConfig",
    "MixupConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SnnlConfig",
    "TrialConfig",
]
