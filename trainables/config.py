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

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from trainables.errors import ConfigError, Problem, suggestion

__all__ = [
    "AdversarialConfig",
    "DataConfig",
    "EvaluationConfig",
    "MixupConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SnnlConfig",
    "TrialConfig",
]

FGSM_RS_RELATIVE_STEP = 1.25
PGD_RELATIVE_TRAVEL = 2.5


def _refuse_subclasses(value: object) -> object:
    # numpy.float64 is a float by inheritance, and a record must hold what JSON gives back.
    if type(value) in {int, float}:
        return value
    raise ValueError(f"must be a plain Python number, got {type(value).__name__}")


def _list_as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _ascending(epochs: tuple[int, ...]) -> tuple[int, ...]:
    if list(epochs) != sorted(set(epochs)):
        raise ValueError(f"must be strictly increasing, got {list(epochs)}")
    return epochs


Real = Annotated[float, BeforeValidator(_refuse_subclasses)]
Layers = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\+[a-z0-9_]+)*$")]
Epochs = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_list_as_tuple), AfterValidator(_ascending)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(_Frozen):
    """Which images; `root` is the folder of a torchvision data set, unused by the embedded digits."""

    name: Literal["digits", "mnist"] = "digits"
    root: str | None = None


class ModelConfig(_Frozen):
    """Which network; `width` multiplies the number of units or channels of every hidden layer."""

    name: Literal["mlp", "cnn"] = "cnn"
    width: Annotated[Real, Field(gt=0)] = 1.0


class OptimizerConfig(_Frozen):
    """How weights move; `momentum` is beta_1 for adamw, and the schedule is applied at every step."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[Real, Field(gt=0)] = 0.05
    momentum: Annotated[Real, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[Real, Field(ge=0)] = 1e-4
    schedule: Literal["cosine", "constant"] = "cosine"


class SnnlConfig(_Frozen):
    """Soft nearest neighbour loss: off at weight 0; a negative weight entangles the classes.

    `temperature` is in units of the batch's median pairwise distance when relative, of the squared
    (or cosine) distance when absolute, and unused when minimised. `layers`: taps joined by '+', or
    'hidden' (all but penultimate and logits), or 'all'.
    """

    weight: Real = 0.0
    temperature: Annotated[Real, Field(gt=0)] = 1.0
    temperature_mode: Literal["minimised", "relative", "absolute"] = "minimised"
    layers: Layers = "hidden"
    distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"


class MixupConfig(_Frozen):
    """Mixup: off at alpha 0; `layers` are boundaries joined by '+', 'input', 'hidden' or 'all'."""

    alpha: Annotated[Real, Field(ge=0)] = 0.0
    layers: Layers = "input"
    per_sample: bool = False


class AdversarialConfig(_Frozen):
    """Adversarial training: off at epsilon 0 (pixels in [0, 1]).

    `relative_step` is the step in units of epsilon; None means 1.25 for fgsm (one step from a random
    start: FGSM-RS) and 2.5 / steps for pgd. `clean_fraction` is the weight of the clean cross-entropy.
    """

    epsilon: Annotated[Real, Field(ge=0, le=1)] = 0.0
    norm: Literal["linf"] = "linf"
    attack: Literal["fgsm", "pgd"] = "fgsm"
    steps: Annotated[int, Field(ge=1)] = 7
    relative_step: Annotated[Real, Field(gt=0)] | None = None
    clean_fraction: Annotated[Real, Field(ge=0, le=1)] = 0.5

    @property
    def num_steps(self) -> int:
        """Gradient steps of one attack: always 1 for fgsm."""
        return 1 if self.attack == "fgsm" else self.steps

    @property
    def step_size(self) -> float:
        """One step in pixel units.

        >>> AdversarialConfig(epsilon=0.2, attack="pgd", steps=5).step_size
        0.1
        """
        if self.relative_step is not None:
            return self.epsilon * self.relative_step
        default = FGSM_RS_RELATIVE_STEP if self.attack == "fgsm" else PGD_RELATIVE_TRAVEL / self.steps
        return self.epsilon * default


class EvaluationConfig(_Frozen):
    """What is measured on the validation split.

    Robust accuracy and entanglement are measured after the last epoch and after `epochs`;
    `robust_epsilon` 0 switches robust accuracy off.
    """

    robust_epsilon: Annotated[Real, Field(ge=0, le=1)] = 0.1
    robust_steps: Annotated[int, Field(ge=1)] = 10
    robust_images: Annotated[int, Field(ge=1)] = 256
    epochs: Epochs = ()


class TrialConfig(_Frozen):
    """One trial: data, model, optimiser, the three methods, and what is evaluated when."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: Annotated[int, Field(ge=2)] = 128
    epochs: Annotated[int, Field(ge=1)] = 27
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    snnl: SnnlConfig = SnnlConfig()
    mixup: MixupConfig = MixupConfig()
    adversarial: AdversarialConfig = AdversarialConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

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
        ('data.name', 'data.root', 'model.name')
        """
        return tuple(name for name, _ in _leaves(cls()))


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
    "finite_number": "must be finite",
}


def _problem(error: ErrorDetails) -> Problem:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error":
        return Problem(path, error["msg"].removeprefix("Value error, "))
    law = _LAWS.get(error["type"], error["msg"]).format_map(error.get("ctx", {}))
    return Problem(path, f"{law}, got {error['input']!r}")
