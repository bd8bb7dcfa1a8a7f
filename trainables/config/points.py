"""Configurations as flat dotted names: a *point*, the form that search spaces, Ray Tune and MLflow share."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainables.config.sections import Arguments, Frozen
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
        names = cls.parameter_names()
        known = {name: value for name, value in present.items() if cls.accepts(name)}
        problems = [
            Problem(name, f"unknown parameter; {suggestion(name, names)}") for name in present if name not in known
        ]
        try:
            config = cls.model_validate(_nested(known, cls.open_groups()))
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
        return name in cls.parameter_names() or any(
            name.startswith(f"{group}.") and name.removeprefix(f"{group}.").isidentifier()
            for group in cls.open_groups()
        )

    @classmethod
    def open_groups(cls) -> tuple[str, ...]:
        """Return the groups of arguments whose names a user's own class or function has.

        >>> from trainables.config.trial import TrialConfig
        >>> "model.args" in TrialConfig.open_groups()
        True
        """
        return tuple(_groups_of_arguments(cls()))

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        """Return every valid dotted name, without the names of arguments.

        >>> from trainables.config.trial import TrialConfig
        >>> TrialConfig.parameter_names()[:3]
        ('data.name', 'data.root', 'data.download')
        """
        return tuple(name for name, _ in _leaves(cls()))


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _groups_of_arguments(model: BaseModel, prefix: str = "") -> Iterator[str]:
    for name, value in model:
        if isinstance(value, Arguments):
            yield f"{prefix}{name}"
        elif isinstance(value, BaseModel):
            yield from _groups_of_arguments(value, f"{prefix}{name}.")


def _nested(point: Mapping[str, object], open_groups: tuple[str, ...]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in point.items():
        group, leaf = _split(name, open_groups)
        place = nested
        for part in group:
            place = place.setdefault(part, {})
        place[leaf] = value
    return nested


def _split(name: str, open_groups: tuple[str, ...]) -> tuple[list[str], str]:
    for group in open_groups:
        if name.startswith(f"{group}."):
            return group.split("."), name.removeprefix(f"{group}.")
    group, dot, leaf = name.partition(".")
    return ([group], leaf) if dot else ([], name)


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
    requirement = _REQUIREMENTS.get(error["type"], error["msg"]).format_map(error.get("ctx", {}))
    return Problem(path, f"{requirement}, got {short_repr(error['input'])}")
