"""The whole validated description of one trial.

Frozen and strict: a numpy scalar, a string for a number or NaN is an error, an int is accepted where a float is meant.
A *point* is the same description as flat dotted names, the form that search spaces, Ray Tune and MLflow share.

>>> config = TrialConfig.from_point({"model.name": "mlp", "optimizer.lr": 0.1, "snnl.weight": None})
>>> config.optimizer.lr, config.snnl.weight
(0.1, 0.0)
>>> TrialConfig.from_point(config.to_point()) == config
True
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from trainables.errors import ConfigError, Problem, suggestion
from trainables.sections import (
    AdversarialConfig,
    DataConfig,
    EvaluationConfig,
    Frozen,
    LossConfig,
    MixupConfig,
    ModelConfig,
    OptimizerConfig,
    SnnlConfig,
)

__all__ = [
    "PLACE",
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

# Where and how fast a trial runs, not what it is: these may differ when it is resumed.
PLACE = frozenset({"data.root", "data.download", "data.cache", "device", "compile"})


class TrialConfig(Frozen):
    """One trial: data, model, optimiser, the three methods, and what is evaluated when.

    `batch_size` images are drawn at random, or with `classes_per_batch` as many of each of so many
    classes. `precision` 'auto' is bfloat16 autocast where the device computes in it (attacks and SNNL
    stay in float32), float32 elsewhere. `compile` has torch.compile build the model's stages.
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    batch_size: Annotated[int, Field(ge=2)] = 128
    classes_per_batch: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1)] = 27
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    snnl: SnnlConfig = SnnlConfig()
    mixup: MixupConfig = MixupConfig()
    adversarial: AdversarialConfig = AdversarialConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _laws_between_groups(self) -> Self:
        """What no group can say alone; the message begins with the parameter to change."""
        if self.optimizer.schedule != "one_cycle" and self.optimizer.warmup_epochs >= self.epochs:
            raise ValueError(
                f"optimizer.warmup_epochs: must be < epochs ({self.epochs}), got {self.optimizer.warmup_epochs!r}"
            )
        if self.classes_per_batch is not None and not _at_least_pairs(self.batch_size, self.classes_per_batch):
            raise ValueError(
                f"classes_per_batch: must divide batch_size ({self.batch_size}) into at least 2 images of each, "
                f"got {self.classes_per_batch}"
            )
        if self.mixup.alpha > 0 and self.mixup.kind == "cutmix" and self.mixup.layers != "input":
            raise ValueError(f"mixup.layers: must be 'input' for cutmix, got {self.mixup.layers!r}")
        return self

    @classmethod
    def from_point(cls, point: Mapping[str, object]) -> Self:
        """The trial that flat dotted names describe; a name whose value is None counts as absent.

        Raises:
            ConfigError: unknown names or invalid values, all of them.

        >>> try:
        ...     TrialConfig.from_point({"optimizer.lrr": 0.1, "epochs": 0})
        ... except ConfigError as error:
        ...     print(error)
        optimizer.lrr: unknown parameter; did you mean 'optimizer.lr'?
        epochs: must be >= 1, got 0
        """
        given = {name: value for name, value in point.items() if value is not None}
        names = cls.parameter_names()
        known = {name: value for name, value in given.items() if name in names}
        problems = [Problem(name, _unknown(name)) for name in given if name not in names]
        try:
            config = cls.model_validate(_nested(known))
        except ValidationError as error:
            raise ConfigError([*problems, *map(_problem, error.errors())]) from None
        if problems:
            raise ConfigError(problems)
        return config

    def to_point(self) -> dict[str, Any]:
        """The flat dotted names of this trial, without those that are None: the inverse of `from_point`."""
        return {name: value for name, value in _leaves(self) if value is not None}

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        """Every valid dotted name.

        >>> TrialConfig.parameter_names()[:3]
        ('data.name', 'data.root', 'data.download')
        """
        return tuple(name for name, _ in _leaves(cls()))


def _at_least_pairs(batch_size: int, classes: int) -> bool:
    return batch_size % classes == 0 and batch_size // classes >= 2


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _nested(point: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in point.items():
        group, dot, leaf = name.partition(".")
        if dot:
            nested.setdefault(group, {})[leaf] = value
        else:
            nested[name] = value
    return nested


def _unknown(name: str) -> str:
    return f"unknown parameter; {suggestion(name, TrialConfig.parameter_names())}"


_LAWS = {
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "literal_error": "must be one of {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "finite_number": "must be finite",
}


def _problem(error: ErrorDetails) -> Problem:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return Problem(path, message) if path else Problem(*message.split(": ", 1))
    law = _LAWS.get(error["type"], error["msg"]).format_map(error.get("ctx", {}))
    return Problem(path, f"{law}, got {error['input']!r}")
