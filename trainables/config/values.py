"""Values that groups of a configuration share: strict numbers, lists, names of layers, arguments of users' own code."""

import math
import re
from collections.abc import Collection
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from trainables.errors import short_repr

__all__ = [
    "LAYER_NAME",
    "Arguments",
    "Epochs",
    "Fractions",
    "Frozen",
    "Layers",
    "Real",
    "of_own_code",
    "scalar_or_list",
]


def _refuse_subclasses(value: object) -> object:
    # numpy.float64 is a float by inheritance, and a record must hold what JSON gives back.
    if type(value) in {int, float}:
        return value
    raise ValueError(f"must be a plain Python number, got {type(value).__name__}")


def _list_as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def scalar_or_list(value: object) -> object:
    """Return an argument of a user's own code, lists as tuples.

    Raises:
        ValueError: it is not what JSON gives back, or not finite.

    >>> scalar_or_list([1, 2.5, "relu"])
    (1, 2.5, 'relu')
    """
    if isinstance(value, list | tuple):
        return tuple(scalar_or_list(item) for item in value)
    if type(value) not in {bool, int, float, str, type(None)}:
        raise ValueError(f"must be a plain number, text, true, false, or a list of these, got {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be finite, got {short_repr(value)}")
    return value


def _ascending(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError(f"must be strictly increasing, got {short_repr(list(values))}")
    return values


Real = Annotated[float, BeforeValidator(_refuse_subclasses)]
LAYER_NAME = re.compile(r"[A-Za-z0-9_.]+")
Layers = Annotated[str, Field(pattern=rf"^{LAYER_NAME.pattern}(\+{LAYER_NAME.pattern})*$")]
Epochs = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_list_as_tuple), AfterValidator(_ascending)]
Fractions = Annotated[
    tuple[Annotated[Real, Field(gt=0, lt=1)], ...], BeforeValidator(_list_as_tuple), AfterValidator(_ascending)
]


class Frozen(BaseModel):
    """Base of configurations: immutable and strict, no unknown field, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Arguments(Frozen):
    """Arguments of a user's own class or function, by name; what they must be, its signature says.

    `names` and `form` are the names that parameters of this group may have.

    >>> Arguments(width=32, activation="relu").width
    32
    """

    names: ClassVar = re.compile(r"[A-Za-z_]\w*")
    form: ClassVar = "NAME"

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Annotated[Any, BeforeValidator(scalar_or_list)]]

    @property
    def by_name(self) -> dict[str, Any]:
        """Arguments by name, without those that are None."""
        return {name: value for name, value in (self.__pydantic_extra__ or {}).items() if value is not None}


def of_own_code(args: Arguments, name: str | None, names: Collection[str]) -> Arguments:
    """Return arguments, once they are those of a user's own code or none.

    Raises:
        ValueError: what has the name is of this package, whose parameters are groups of their own.

    >>> of_own_code(Arguments(), "sgd", ["sgd", "adamw"]).by_name
    {}
    """
    if name in names and args.by_name:
        raise ValueError(f"must be empty for {name}, got {', '.join(args.by_name)}; an import path has arguments")
    return args
