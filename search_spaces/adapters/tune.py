"""Adapter to Ray Tune's random search. Importing this module imports Ray.

Tune has no absent parameters. Its `sample_from` does not receive the random state of the search and does not wait
for a parent with a dot in its name. `Dependent` is a `sample_from` that does both, so that a seeded search is
reproducible.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from search_spaces.conditions.definition import active_names
from search_spaces.documents.serialization import fingerprint
from search_spaces.domains.types import Choice, Domain, Fixed, Float, Int, Scalar
from search_spaces.errors import MissingExtraError, Problem, SpaceError
from search_spaces.sampling.random_sampling import accepted

try:
    from ray import tune
    from ray.tune.search import Searcher
    from ray.tune.search.sample import BaseSampler, Function
except ImportError as error:
    raise MissingExtraError("ray", extra="tune") from error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from search_spaces.conditions.condition import Condition
    from search_spaces.conditions.constraints import Constraint
    from search_spaces.conditions.definition import SpaceLike
    from search_spaces.sampling.points import Point


def to_tune(space: SpaceLike) -> dict[str, Any]:
    """Return a flat `param_space` with exactly the names of the space; an inactive parameter becomes None.

    Unconditional ranges and choices become Tune's own domains. Tune's searchers, except random search, refuse the rest,
    as they refuse any `sample_from`. If inactive parameters must be absent, or if the space has constraints, use
    `SpaceSearcher`.

    Raises:
        SpaceError: the space has constraints: Tune draws each parameter alone.

    >>> from search_spaces import catalog
    >>> sorted(to_tune(catalog.mixup()))
    ['mixup.alpha', 'mixup.layers', 'mixup.per_sample']
    """
    if space.constraints:
        limit = "Tune draws each parameter alone and cannot satisfy it"
        remedy = "give TuneConfig(search_alg=search_spaces.adapters.tune.SpaceSearcher(space, seed=0)) instead"
        raise SpaceError(*(Problem(constraint.place, f"{limit}; {remedy}") for constraint in space.constraints))
    return {name: _tuned(space, name) for name in space.parameters}


class SpaceSearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Random search over a space: inactive parameters are absent, constraints are satisfied.

    The same seed proposes the same points in the same order, also after a run is restored. The search has no end:
    `TuneConfig.num_samples` sets the number of trials.

    Args:
        space: the space to sample.
        seed: the seed of the samples.
        metric: as in Tune; random search does not use it.
        mode: as in Tune; random search does not use it.

    >>> from search_spaces import Int, SearchSpace
    >>> space = SearchSpace({"a": Int(1, 9), "b": Int(1, 9)}, constraints=["a < b"])
    >>> SpaceSearcher(space, seed=0).suggest("trial") == space.sample(seed=0)
    True
    """

    def __init__(self, space: SpaceLike, *, seed: int = 0, metric: str | None = None, mode: str | None = None) -> None:
        super().__init__(metric=metric, mode=mode)
        self._space, self._seed, self._num_sampled = space, seed, 0
        self._points: Iterator[Point] | None = None

    def suggest(self, trial_id: str) -> dict[str, Scalar]:  # noqa: ARG002  Tune's name for the trial
        """Return the next point."""
        if self._points is None:
            self._points = itertools.islice(accepted(self._space, seed=self._seed), self._num_sampled, None)
        self._num_sampled += 1
        return dict(next(self._points))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002  Tune's signature
        """Do nothing: the samples do not depend on results."""

    def save(self, checkpoint_path: str) -> None:
        """Write the number of sampled points, as JSON."""
        state = {"space": fingerprint(self._space), "seed": self._seed, "drawn": self._num_sampled}
        Path(checkpoint_path).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Continue after the points that were sampled before.

        Raises:
            SpaceError: they were sampled from another space or with another seed.
        """
        state = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
        if (state["space"], state["seed"]) != (fingerprint(self._space), self._seed):
            raise SpaceError(
                Problem(checkpoint_path, "is of another space or seed; restore with those of the first run")
            )
        self._num_sampled, self._points = state["drawn"], None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_points": None}  # a generator cannot be copied; the count is enough


@final
class Dependent(Function):  # type: ignore[misc]  # Ray has no types
    """Domain of one parameter, sampled after its ancestors; None if the parameter does not exist.

    >>> from search_spaces import catalog
    >>> layers = to_tune(catalog.mixup())["mixup.layers"]
    >>> layers.sample({"mixup.alpha": 0.0}) is None
    True
    """

    def __init__(self, name: str, ancestry: Ancestry) -> None:
        super().__init__(self.describe)
        self.name = name
        self.ancestry = ancestry

    @property
    def domain(self) -> Domain:
        """Domain of the parameter."""
        return self.ancestry.parameters[self.name]

    def describe(self) -> str:
        """Return the domain in words."""
        return self.domain.describe()

    def exists(self, config: Mapping[str, Any]) -> bool:
        """Return True if the parameter exists, given the values that Tune has sampled so far."""
        parents = [name for name in self.ancestry.parameters if name != self.name]
        values = {name: _parent_value(config, name) for name in parents}
        return self.name in active_names(self.ancestry, values)

    def is_valid(self, value: object) -> bool:
        """Return True if a preset value is valid: in the domain, or None for a parameter that does not exist."""
        return value is None or self.domain.contains(value)

    @property
    def domain_str(self) -> str:
        """Domain in words, under the name that Tune uses."""
        return self.describe()

    class _Sampler(BaseSampler):  # type: ignore[misc]  # Ray has no types
        def sample(
            self, domain: Dependent, config: Any = None, size: int = 1, random_state: Any = None
        ) -> Scalar | list[Scalar]:
            values = [domain.draw(config, random_state) for _ in range(size)]
            return values if size > 1 else values[0]

    default_sampler_cls = _Sampler

    def draw(self, config: Mapping[str, Any], random_state: Any) -> Scalar:
        """Draw one value; uses one uniform draw of the search's random state even if the parameter does not exist."""
        exists = self.exists(config or {})
        u = float(random_state.random())
        return self.domain.from_unit(u) if exists else None


@final
@dataclass(frozen=True)
class Ancestry:
    """Parameter with everything that its existence depends on; plain dicts, because Tune makes deep copies.

    >>> from search_spaces import catalog
    >>> space = catalog.adversarial()
    >>> list(ancestry(space, "adversarial.steps").parameters)
    ['adversarial.epsilon', 'adversarial.attack', 'adversarial.steps']
    """

    parameters: dict[str, Domain]
    when: dict[str, Condition]
    constraints: tuple[Constraint, ...] = ()


def ancestry(space: SpaceLike, name: str) -> Ancestry:
    """Return the parameter and its ancestors, parents before children.

    >>> from search_spaces import catalog
    >>> list(ancestry(catalog.snnl(), "snnl.weight").parameters)
    ['snnl.weight']
    """
    family = {name, *_ancestors(space, name)}
    return Ancestry(
        {member: domain for member, domain in space.parameters.items() if member in family},
        {member: condition for member, condition in space.when.items() if member in family},
    )


def _ancestors(space: SpaceLike, name: str) -> Iterator[str]:
    if name in space.when:
        for parent in {leaf.parent for leaf in space.when[name].leaves()}:
            yield parent
            yield from _ancestors(space, parent)


def _tuned(space: SpaceLike, name: str) -> Any:
    if name in space.when:
        return Dependent(name, ancestry(space, name))
    match space.parameters[name]:
        case Fixed(value=value):
            return value
        case Choice(options=options):
            return tune.choice(options)
        case Float(low=low, high=high, log=log, step=None):
            return tune.loguniform(low, high) if log else tune.uniform(low, high)
        case Int(low=low, high=high, log=log, step=1):
            return tune.lograndint(low, high + 1) if log else tune.randint(low, high + 1)
        case _:
            return Dependent(name, ancestry(space, name))


def _parent_value(config: Mapping[str, Any], name: str) -> Any:
    """Read a parent, from the whole spec while Tune resolves it, or from a plain config.

    The spec is guarded: only attribute access signals Tune that a value is not sampled yet, and to retry later.
    """
    values = getattr(config, "config", config)
    return values[name] if values is config else getattr(values, name)
