"""Configurations as flat dotted names: a *point*, the form that search spaces, Ray Tune and MLflow share."""

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainables.config.values import Arguments, Frozen
from trainables.errors import ConfigError, Problem, short_repr, suggestion

__all__ = ["FlatConfig", "problems_of"]


class FlatConfig(Frozen):
    """Validated configuration of one trial, in groups of parameters; every field has a default.

    `trial_kind` names the kind of trial in messages.
    """

    trial_kind: ClassVar[str] = "trial"

    @classmethod
    def from_point(cls, point: Mapping[str, object]) -> Self:
        """Return the configuration for flat dotted names; a name whose value is None counts as absent.

        Raises:
            ConfigError: unknown names or invalid values, all of them.

        >>> from trainables.config.trial import TrialConfig
        >>> try:
        ...     TrialConfig.from_point({"optimizer.lrr": 0.1, "epochs": 0})
        ... except ConfigError as error:
        ...     print(error)
        optimizer.lrr: unknown parameter; did you mean 'optimizer.lr'?
        epochs: must be >= 1, got 0
        """
        present = {name: value for name, value in point.items() if value is not None}
        known = {name: value for name, value in present.items() if cls.accepts(name)}
        problems = [Problem(name, cls.why_unknown(name)) for name in present if name not in known]
        try:
            config = cls.model_validate(_nested(known, tuple(cls.open_groups())))
        except ValidationError as error:
            raise ConfigError([*problems, *problems_of(error)]) from None
        if problems:
            raise ConfigError(problems)
        return config

    def to_point(self) -> dict[str, Any]:
        """Return the flat dotted names and values, without those that are None: the inverse of `from_point`."""
        return {name: value for name, value in _leaves(self) if value is not None}

    @classmethod
    def accepts(cls, name: str) -> bool:
        """Return True if a parameter may have this dotted name.

        >>> from trainables.config.trial import TrialConfig
        >>> TrialConfig.accepts("model.args.depth"), TrialConfig.accepts("model.depth")
        (True, False)
        """
        return name in _shape(cls).known or any(
            name.startswith(f"{path}.") and group.names.fullmatch(name.removeprefix(f"{path}."))
            for path, group in cls.open_groups().items()
        )

    @classmethod
    def why_unknown(cls, name: str) -> str:
        """Return why no parameter may have this name, with the nearest one or the form that it must have.

        >>> from trainables.config.trial import TrialConfig
        >>> TrialConfig.why_unknown("regularizers.center")
        'unknown parameter; must be regularizers.LABEL.NAME, and a label of small letters, digits and _'
        """
        for path, group in cls.open_groups().items():
            if name.startswith(f"{path}."):
                return f"unknown parameter; must be {path}.{group.form}"
        return f"unknown parameter; {suggestion(name, cls.parameter_names())}"

    @classmethod
    def open_groups(cls) -> Mapping[str, type[Arguments]]:
        """Return the groups in which a user's own class or function has the names, by path.

        >>> from trainables.config.trial import TrialConfig
        >>> "model.args" in TrialConfig.open_groups()
        True
        """
        return _shape(cls).open_groups

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        """Return every valid dotted name, without the names of arguments.

        >>> from trainables.config.trial import TrialConfig
        >>> TrialConfig.parameter_names()[:3]
        ('data.name', 'data.root', 'data.download')
        """
        return _shape(cls).parameter_names


class _Shape(NamedTuple):
    parameter_names: tuple[str, ...]
    known: frozenset[str]
    open_groups: Mapping[str, type[Arguments]]


@cache
def _shape(config: type[FlatConfig]) -> _Shape:
    defaults = config()
    names = tuple(name for name, _ in _leaves(defaults))
    return _Shape(names, frozenset(names), dict(_open_groups(defaults)))


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _open_groups(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, type[Arguments]]]:
    for name, value in model:
        if isinstance(value, Arguments):
            yield f"{prefix}{name}", type(value)
        elif isinstance(value, BaseModel):
            yield from _open_groups(value, f"{prefix}{name}.")


def _nested(point: Mapping[str, object], open_groups: tuple[str, ...]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in point.items():
        group, leaf = _split(name, open_groups)
        place = nested
        for part in group:
            place = place.setdefault(part, {})
        place[leaf] = value
    return nested


@lru_cache(maxsize=4096)  # a sampler asks for the cost of thousands of points of the same names
def _split(name: str, open_groups: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    for group in open_groups:
        if name.startswith(f"{group}."):
            *inner, leaf = name.removeprefix(f"{group}.").split(".")
            return (*group.split("."), *inner), leaf
    group, dot, leaf = name.partition(".")
    return ((group,), leaf) if dot else ((), name)


_REQUIREMENTS = {
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


def problems_of(error: ValidationError) -> tuple[Problem, ...]:
    """Return all problems of a validation error, in the order of the fields."""
    return tuple(map(_problem, error.errors()))


def _problem(error: ErrorDetails) -> Problem:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return Problem(path, message) if path else Problem(*message.split(": ", 1))
    if error["type"] == "missing":
        return Problem(path, "is required; add it")
    requirement = _REQUIREMENTS.get(error["type"], error["msg"]).format_map(error.get("ctx", {}))
    return Problem(path, f"{requirement}, got {short_repr(error['input'])}")
