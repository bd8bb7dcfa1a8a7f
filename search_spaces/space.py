"""SearchSpace: named domains, the conditions under which each parameter exists, and constraints between them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, final

from search_spaces.adapters import optuna as optuna_adapter
from search_spaces.conditions.structure import definition
from search_spaces.documents import json_schema as schemas
from search_spaces.documents import reader, serialization
from search_spaces.errors import quoted
from search_spaces.operations import algebra, difference
from search_spaces.sampling.point_set import PointSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from search_spaces.conditions.condition import Condition
    from search_spaces.conditions.constraints import Constraint
    from search_spaces.conditions.structure import Conditions
    from search_spaces.domains.types import Domain, Scalar
    from search_spaces.operations.narrowing import Narrowing
    from search_spaces.sampling.points import Point


@final
class SearchSpace(PointSet):
    """Parameters with their domains, the conditions of some of them, and constraints between them.

    Immutable. Parents come before children; otherwise the order of the arguments is kept. The order affects tables and
    the sequence of questions to a sampler. Two spaces that differ only in order are equal.

    Args:
        parameters: the domain of each dotted name.
        when: for each conditional parameter its condition, or several that must all hold.
        constraints: requirements on the values of a point, each a `Constraint` or its text.

    Raises:
        SpaceError: with every problem: a name that is not valid or clashes, a parent that is missing or depends on
            its own child, a constraint on a name that is not a parameter.

    >>> from search_spaces import Choice, Float, When
    >>> space = SearchSpace(
    ...     {"momentum": Float(0.5, 0.99), "name": Choice(["sgd", "adamw"])},
    ...     when={"momentum": When("name", "sgd")},
    ... )
    >>> space.names
    ('name', 'momentum')
    >>> space.contains({"name": "adamw"}), space.contains({"name": "adamw", "momentum": 0.9})
    (True, False)
    """

    __slots__ = ("_constraints", "_parameters", "_when")
    _parameters: Mapping[str, Domain]
    _when: Mapping[str, Condition]
    _constraints: tuple[Constraint, ...]

    def __init__(
        self,
        parameters: Mapping[str, Domain],
        when: Conditions = MappingProxyType({}),
        constraints: Iterable[Constraint | str] = (),
    ) -> None:
        checked = definition(parameters, when, constraints)
        object.__setattr__(self, "_parameters", checked.parameters)
        object.__setattr__(self, "_when", checked.when)
        object.__setattr__(self, "_constraints", checked.constraints)

    @property
    def parameters(self) -> Mapping[str, Domain]:
        """Domain of each parameter, parents before children (read-only)."""
        return self._parameters

    @property
    def when(self) -> Mapping[str, Condition]:
        """Condition of each conditional parameter (read-only)."""
        return self._when

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """Constraints between the values of a point, in the order of the arguments."""
        return self._constraints

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters, parents before children."""
        return tuple(self._parameters)

    # -- value object

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a SearchSpace is immutable, cannot set {quoted(name)}; use fix, narrow, drop or |")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a SearchSpace is immutable, cannot delete {quoted(name)}; use drop")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[type[SearchSpace], tuple[object, ...]]:
        return SearchSpace, (dict(self._parameters), dict(self._when), self._constraints)

    def __repr__(self) -> str:
        lines = [*(f"{name}: {self.describe(name)}" for name in self.names), *map(repr, self._constraints)]
        return "\n".join(["SearchSpace(", *(f"  {line}" for line in lines), ")"])

    def __rich__(self) -> object:
        from search_spaces.documents.rendering import terminal  # noqa: PLC0415 - only a terminal needs it

        return terminal(self)

    def _repr_html_(self) -> str:
        from search_spaces.documents.rendering import html  # noqa: PLC0415 - only a notebook needs it

        return html(self)

    def describe(self, name: str) -> str:
        """Return a parameter's domain and condition in words."""
        return difference.describe(self, name)

    def diff(self, other: SearchSpace) -> difference.Difference:
        """Return the changes from this space to the other.

        >>> from search_spaces import catalog
        >>> print(catalog.mixup().diff(catalog.mixup().fix({"mixup.alpha": 0.0})))
        ~ mixup.alpha: 0 (probability 0.5) or a float in [0.1, 4], log -> always 0.0
        """
        return difference.difference(self, other)

    # -- algebra

    def __or__(self, other: SearchSpace) -> SearchSpace:
        """Return both spaces together; a parameter of both must have the same definition in both."""
        if not isinstance(other, SearchSpace):
            return NotImplemented
        return SearchSpace(*algebra.merged(self, other))

    def fix(self, values: Mapping[str, Scalar]) -> SearchSpace:
        """Return the space with each of these parameters fixed to one value.

        Raises:
            SpaceError: a name is unknown, or a value is not in the parameter's domain.

        >>> from search_spaces import catalog
        >>> catalog.optimizer().fix({"optimizer.name": "sgd"}).parameters["optimizer.name"]
        Fixed(value='sgd')
        """
        return SearchSpace(*algebra.fixed(self, values))

    def narrow(self, ranges: Mapping[str, Narrowing]) -> SearchSpace:
        """Return the space with smaller domains: (low, high), a list of options, or a domain.

        Raises:
            SpaceError: a name is unknown, or the new domain is not within the old one.

        >>> from search_spaces import catalog
        >>> catalog.optimizer().narrow({"optimizer.lr": (1e-3, 1.0)}).parameters["optimizer.lr"]
        Float(low=0.001, high=1.0, log=True)
        """
        return SearchSpace(*algebra.narrow(self, ranges))

    def drop(self, *names: str) -> SearchSpace:
        """Return the space without these parameters.

        Raises:
            SpaceError: a name is unknown, or a remaining parameter or constraint depends on it.

        >>> from search_spaces import catalog
        >>> catalog.optimizer().drop("optimizer.name")
        Traceback (most recent call last):
        search_spaces.errors.SpaceError: optimizer.name: cannot be dropped: 'optimizer.momentum' depends on it
        """
        return SearchSpace(*algebra.without(self, names))

    def prefix(self, group: str) -> SearchSpace:
        """Return the space with a group before every name, in conditions and constraints too.

        Raises:
            PathError: the group is not a dotted name.

        >>> from search_spaces import catalog
        >>> catalog.optimizer().prefix("generator").describe("generator.optimizer.momentum")
        "a float in [0.5, 0.99] when generator.optimizer.name = 'sgd'"
        """
        return SearchSpace(*algebra.prefixed(self, group))

    # -- written forms

    def to_dict(self) -> dict[str, object]:
        """Return the space as a document of plain JSON values."""
        return serialization.to_document(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> SearchSpace:
        """Read a space document, `use` included.

        Raises:
            SpaceError: with every problem.
        """
        return parse_space(document)

    def to_yaml(self) -> str:
        r"""Return the space as a YAML document.

        >>> from search_spaces import Float
        >>> print(SearchSpace({"lr": Float(1e-4, 1.0, log=True)}).to_yaml(), end="")
        version: 1
        parameters:
          lr: {float: [0.0001, 1.0], log: true}
        """
        return serialization.to_yaml(self)

    @classmethod
    def from_yaml(cls, text: str) -> SearchSpace:
        """Read a YAML space document, `use` included.

        Raises:
            YamlError: the text is not strict YAML.
            SpaceError: with every problem of the document.
        """
        return cls.from_dict(serialization.load_yaml(text))

    def to_json(self) -> str:
        """Return the space as a JSON document, one line."""
        return serialization.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> SearchSpace:
        """Read a JSON space document, `use` included.

        Raises:
            SpaceError: the text is not strict JSON, or with every problem of the document.
        """
        return cls.from_dict(serialization.load_json(text))

    def json_schema(self) -> dict[str, object]:
        """Return a JSON Schema (2020-12) of the space's flat points, with the constraints in a comment."""
        return schemas.json_schema(self)

    def fingerprint(self) -> str:
        """Return a SHA-256 (hex) of the definition: equal for equal spaces, on every machine."""
        return serialization.fingerprint(self)

    # -- adapters

    def suggest(self, trial: optuna_adapter.Trial) -> Point:
        """Ask an Optuna trial for a point; an inactive parameter is never asked."""
        return optuna_adapter.suggest(trial, self)

    def distributions(self) -> dict[str, object]:
        """Return the Optuna distribution of every param that a trial may be asked for."""
        return dict(optuna_adapter.distributions(self))

    def to_tune(self) -> dict[str, object]:
        """Return the `param_space` for Ray Tune's random search; an inactive parameter becomes None."""
        from search_spaces.adapters import tune as tune_adapter  # noqa: PLC0415 - imports Ray

        return tune_adapter.to_tune(self)

    # -- internals

    def _key(self) -> tuple[frozenset[object], ...]:
        return frozenset(self._parameters.items()), frozenset(self._when.items()), frozenset(self._constraints)


def parse_space(document: object, *, path: str = "space") -> SearchSpace:
    """Read a space document, as `load_yaml` returns it; `path` is its place in the file, for messages.

    Raises:
        SpaceError: with every problem.

    >>> parse_space({"use": ["snnl", "mixpu"], "parameters": {"lr": {"flaot": [0.1, 4.0]}}})
    Traceback (most recent call last):
    search_spaces.errors.SpaceError: space.use: unknown fragment 'mixpu'; did you mean 'mixup'?
    space.parameters.lr: unknown domain 'flaot'; did you mean 'float'?
    """
    return SearchSpace(*reader.read_definition(document, path=path))
