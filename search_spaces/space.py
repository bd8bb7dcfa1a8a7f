"""SearchSpace: named domains and the conditions under which each parameter exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, TypeVar, final

from search_spaces import counting, optuna_adapter, sampling, serialization
from search_spaces.conditions import When, active_names
from search_spaces.domains import Domain, Fixed, Scalar
from search_spaces.errors import DomainError, Problem, SpaceError
from search_spaces.narrowing import Narrowing, narrowed
from search_spaces.points import point_problems, unknown_parameter
from search_spaces.structure import condition_problems, name_problems, parents_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from search_spaces.points import Point

_T = TypeVar("_T")
_Conditions: TypeAlias = Mapping[str, When | Sequence[When]]


@final
class SearchSpace:
    """Parameters with their domains, some of which exist only for some values of others.

    Immutable. Parents come before children, otherwise the order is the one given; it shows in tables
    and in what a sampler is asked first, but two spaces that differ in it alone are equal.

    Raises:
        SpaceError: with every problem: a name that is none or clashes, a parent that is missing or
            depends on its own child, a condition that contradicts another.

    >>> from search_spaces import Choice, Float
    >>> space = SearchSpace(
    ...     {"momentum": Float(0.5, 0.99), "name": Choice(["sgd", "adamw"])},
    ...     when={"momentum": When("name", "sgd")},
    ... )
    >>> space.names
    ('name', 'momentum')
    >>> space.contains({"name": "adamw"}), space.contains({"name": "adamw", "momentum": 0.9})
    (True, False)
    """

    __slots__ = ("_parameters", "_when")
    _parameters: Mapping[str, Domain]
    _when: Mapping[str, tuple[When, ...]]

    def __init__(self, parameters: Mapping[str, Domain], when: _Conditions = MappingProxyType({})) -> None:
        laws = {name: _as_tuple(given) for name, given in when.items()}
        _raise_all([*name_problems(parameters), *condition_problems(parameters, laws)])
        order = parents_first(list(parameters), laws)
        object.__setattr__(self, "_parameters", MappingProxyType({name: parameters[name] for name in order}))
        conditions = {name: laws[name] for name in order if laws.get(name)}
        object.__setattr__(self, "_when", MappingProxyType(conditions))

    @property
    def parameters(self) -> Mapping[str, Domain]:
        """The domain of each parameter, parents before children (read-only)."""
        return self._parameters

    @property
    def when(self) -> Mapping[str, tuple[When, ...]]:
        """The conditions of each conditional parameter (read-only)."""
        return self._when

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters, parents before children."""
        return tuple(self._parameters)

    # -- value object

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a SearchSpace is immutable, cannot set {name!r}; use fix, narrow, drop or |")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a SearchSpace is immutable, cannot delete {name!r}; use drop")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[type[SearchSpace], tuple[dict[str, Domain], dict[str, tuple[When, ...]]]]:
        return SearchSpace, (dict(self._parameters), dict(self._when))

    def __repr__(self) -> str:
        return "\n".join(["SearchSpace(", *(f"  {name}: {self._say(name)}" for name in self.names), ")"])

    # -- algebra

    def __or__(self, other: SearchSpace) -> SearchSpace:
        """Return both spaces together; what both define, they must define alike."""
        if not isinstance(other, SearchSpace):
            return NotImplemented
        shared = [name for name in self.names if name in other.parameters]
        _raise_all(
            [
                Problem(name, f"is defined differently on both sides of |: {self._say(name)}; {other._say(name)}")
                for name in shared
                if self._definition(name) != other._definition(name)
            ]
        )
        return SearchSpace({**self._parameters, **other.parameters}, {**self._when, **other.when})

    def fix(self, values: Mapping[str, Scalar]) -> SearchSpace:
        """Return the space with these parameters held at one value each.

        Raises:
            SpaceError: a name is unknown, or a value is not in the parameter's domain.

        >>> from search_spaces import catalog
        >>> catalog.optimizer().fix({"optimizer.name": "sgd"}).parameters["optimizer.name"]
        Fixed(value='sgd')
        """
        return self._changed(values, _fixed)

    def narrow(self, ranges: Mapping[str, Narrowing]) -> SearchSpace:
        """Return the space with smaller domains: (low, high), a list of options, or a domain.

        Raises:
            SpaceError: a name is unknown, or the new domain is not within the old one.

        >>> from search_spaces import catalog
        >>> catalog.optimizer().narrow({"optimizer.lr": (1e-3, 1.0)}).parameters["optimizer.lr"]
        Float(low=0.001, high=1.0, log=True)
        """
        return self._changed(ranges, narrowed)

    def drop(self, *names: str) -> SearchSpace:
        """Return the space without these parameters.

        Raises:
            SpaceError: a name is unknown, or a parameter that stays depends on it.

        >>> from search_spaces import catalog
        >>> catalog.optimizer().drop("optimizer.name")
        Traceback (most recent call last):
        search_spaces.errors.SpaceError: optimizer.name: cannot be dropped: 'optimizer.momentum' depends on it
        """
        _raise_all([*self._unknown(names), *self._orphans(names)])
        kept = {name: domain for name, domain in self._parameters.items() if name not in names}
        return SearchSpace(kept, {name: laws for name, laws in self._when.items() if name in kept})

    # -- points

    def contains(self, point: Mapping[str, object]) -> bool:
        """Whether the point gives every active parameter, and no other, a value of its domain."""
        return not self.problems(point)

    def problems(self, point: Mapping[str, object]) -> list[str]:
        """Return what keeps the point out of the space, one message each.

        >>> from search_spaces import catalog
        >>> catalog.mixup().problems({"mixup.alpha": 0.0, "mixup.layer": "input"})
        ["mixup.layer: unknown parameter; did you mean 'mixup.layers'?"]
        """
        return [str(problem) for problem in point_problems(self, point)]

    def active(self, values: Mapping[str, Scalar]) -> frozenset[str]:
        """Return the names of the parameters that exist, given the values of their parents.

        >>> from search_spaces import catalog
        >>> sorted(catalog.mixup().active({"mixup.alpha": 0.0}))
        ['mixup.alpha']
        """
        return active_names(self, values)

    def sample(self, seed: int = 0) -> Point:
        """Draw one point; see `sample_many`."""
        return self.sample_many(1, seed)[0]

    def sample_many(self, n: int, seed: int = 0) -> list[Point]:
        """Draw n points. Each parameter has its own stream: adding one leaves the others' draws alone.

        >>> from search_spaces import Float
        >>> space = SearchSpace({"lr": Float(1e-4, 1.0, log=True)})
        >>> space.sample_many(2, seed=0)[0] == space.sample(seed=0)
        True
        """
        return sampling.sample_many(self, n, seed=seed)

    def grid(self, resolution: int = 3) -> sampling.Grid:
        """Return every combination of `resolution` quantiles per range and of all options, lazily.

        >>> from search_spaces import Choice, Float
        >>> list(SearchSpace({"lr": Float(0.0, 1.0), "n": Choice([1])}).grid(resolution=2))
        [{'lr': 0.0, 'n': 1}, {'lr': 1.0, 'n': 1}]
        """
        return sampling.Grid(self, resolution)

    def corners(self) -> list[Point]:
        """Return the extreme points of every combination of active parameters.

        For each: all low, all high, and from all low each parameter alone at its other extremes.

        >>> from search_spaces import Float
        >>> SearchSpace({"a": Float(0.0, 1.0), "b": Float(2.0, 3.0)}).corners()[:2]
        [{'a': 0.0, 'b': 2.0}, {'a': 1.0, 'b': 3.0}]
        """
        return sampling.corners(self)

    def size(self) -> float:
        """Return the number of points, `math.inf` where a continuous parameter can be active.

        >>> from search_spaces import Choice, Int
        >>> SearchSpace({"a": Int(1, 3), "b": Choice([True, False])}).size()
        6
        """
        return counting.size(self)

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
        # Reading a document needs the catalog, which is made of spaces: the one import that runs upwards.
        from search_spaces import documents  # noqa: PLC0415

        return documents.parse_space(document)

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

    def json_schema(self) -> dict[str, object]:
        """Return a JSON Schema (2020-12) that a flat point satisfies exactly where the space contains it."""
        return serialization.json_schema(self)

    def fingerprint(self) -> str:
        """Return a SHA-256 (hex) of the definition: equal for equal spaces, on every machine."""
        return serialization.fingerprint(self)

    # -- adapters

    def suggest(self, trial: optuna_adapter.Trial) -> Point:
        """Ask an Optuna trial for a point; an inactive parameter is never asked."""
        return optuna_adapter.suggest(trial, self)

    def to_tune(self) -> dict[str, object]:
        """Return the `param_space` for Ray Tune's random search; an inactive parameter becomes None."""
        from search_spaces import tune_adapter  # noqa: PLC0415 - imports Ray

        return tune_adapter.to_tune(self)

    # -- internals

    def _key(self) -> tuple[frozenset[tuple[str, Domain]], frozenset[tuple[str, frozenset[When]]]]:
        laws = frozenset((name, frozenset(given)) for name, given in self._when.items())
        return frozenset(self._parameters.items()), laws

    def _definition(self, name: str) -> tuple[Domain, frozenset[When]]:
        return self._parameters[name], frozenset(self._when.get(name, ()))

    def _say(self, name: str) -> str:
        laws = " and ".join(str(law) for law in self._when.get(name, ()))
        return self._parameters[name].describe() + (f" when {laws}" if laws else "")

    def _unknown(self, names: Iterable[str]) -> list[Problem]:
        return [unknown_parameter(name, self.names) for name in names if name not in self._parameters]

    def _orphans(self, dropped: tuple[str, ...]) -> list[Problem]:
        return [
            Problem(law.parent, f"cannot be dropped: {child!r} depends on it")
            for child, laws in self._when.items()
            for law in laws
            if law.parent in dropped and child not in dropped
        ]

    def _changed(self, changes: Mapping[str, _T], change: Callable[[Domain, _T], Domain]) -> SearchSpace:
        problems = self._unknown(changes)
        parameters = dict(self._parameters)
        for name in [name for name in changes if name in parameters]:
            try:
                parameters[name] = change(parameters[name], changes[name])
            except DomainError as error:
                problems.extend(Problem(name, problem.message) for problem in error.problems)
        _raise_all(problems)
        return SearchSpace(parameters, self._when)


def _fixed(domain: Domain, value: Scalar) -> Fixed:
    domain.check(value)
    return Fixed(value)


def _as_tuple(given: When | Sequence[When]) -> tuple[When, ...]:
    return tuple(dict.fromkeys((given,) if isinstance(given, When) else given))


def _raise_all(problems: Sequence[Problem]) -> None:
    if problems:
        raise SpaceError(*problems)
