"""Reader of an existing Optuna study: its points in a space, and the space that it searched."""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from search_spaces.adapters.optuna import from_optuna
from search_spaces.domains.types import Choice, Domain, Fixed, Float, Int
from search_spaces.errors import Problem, SpaceError, cut, quoted
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from search_spaces.adapters.optuna import Study
    from search_spaces.conditions.condition import Condition
    from search_spaces.sampling.points import Point


class Scored(NamedTuple):
    """Point of a completed trial, with its objective.

    >>> Scored({"lr": 0.1}, 0.97).value
    0.97
    """

    point: Point
    value: float


def points_of(study: Study, space: SearchSpace) -> list[Scored]:
    """Return the points of the completed trials of a study of this space, with their (first) objective.

    Raises:
        SpaceError: the params of a trial are not those of the space; use `adopt` for such trials.

    >>> import optuna
    >>> from search_spaces import Float, SearchSpace
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> space = SearchSpace({"lr": Float(1e-4, 1.0, log=True)})
    >>> study = optuna.create_study()
    >>> study.optimize(lambda trial: space.suggest(trial)["lr"], n_trials=3)
    >>> [space.contains(scored.point) for scored in points_of(study, space)]
    [True, True, True]
    """
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    return [Scored(from_optuna(space, trial.params), trial.values[0]) for trial in complete]


def space_of(
    study: Study,
    *,
    rename: Mapping[str, str] = MappingProxyType({}),
    when: Mapping[str, Condition | Sequence[Condition]] = MappingProxyType({}),
) -> SearchSpace:
    """Return the space that a study searched, read from the distributions of its trials.

    Args:
        study: any study; failed and running trials are ignored.
        rename: from names in the study to dotted names, for names that are not valid.
        when: the conditions, under the new names, of the parameters that not every trial has; a study does not
            store them.

    Raises:
        SpaceError: no trial has parameters, the distribution of a parameter differs between trials, or a parameter is
            missing from some trials and has no condition.

    >>> import optuna
    >>> from search_spaces import When
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    >>> def objective(trial):
    ...     if trial.suggest_categorical("optimizer", ["sgd", "adamw"]) == "sgd":
    ...         trial.suggest_float("momentum", 0.5, 0.99)
    ...     return trial.suggest_float("learning-rate", 1e-4, 1.0, log=True)
    >>> study.optimize(objective, n_trials=10)
    >>> space_of(study, rename={"learning-rate": "lr"}, when={"momentum": When("optimizer", "sgd")})
    SearchSpace(
      optimizer: one of 'sgd', 'adamw'
      lr: a float in [0.0001, 1], log
      momentum: a float in [0.5, 0.99] when optimizer = 'sgd'
    )
    """
    # A failed or running trial may have only some of its parameters.
    finished = [trial for trial in study.trials if trial.state.name in {"COMPLETE", "PRUNED"}]
    asked = [trial.distributions for trial in finished if trial.distributions]
    if not asked:
        raise SpaceError(Problem("study", "has no finished trial with a parameter"))
    known: dict[str, Any] = {}
    problems: list[Problem] = []
    for distributions in asked:
        for name, distribution in distributions.items():
            if known.setdefault(name, distribution) != distribution:
                both = f"{cut(str(known[name]), 120)} and as {cut(str(distribution), 120)}"
                problems.append(Problem(name, f"was asked as {both}; fix it to one of them"))
    times = Counter(name for distributions in asked for name in distributions)
    named = {name: rename.get(name, name) for name in known}
    problems += [
        Problem(
            named[name],
            f"is in {times[name]} of {len(asked)} trials only: give its condition, when={{{quoted(named[name])}: ...}}",
        )
        for name in known
        if times[name] < len(asked) and named[name] not in when
    ]
    if problems:
        raise SpaceError(*dict.fromkeys(problems))
    return SearchSpace({named[name]: _domain(distribution) for name, distribution in known.items()}, when)


def _domain(distribution: Any) -> Domain:
    match type(distribution).__name__:
        case "CategoricalDistribution" if len(distribution.choices) == 1:
            return Fixed(distribution.choices[0])
        case "CategoricalDistribution":
            return Choice(distribution.choices)
        case _ if distribution.low == distribution.high:
            return Fixed(distribution.low)
        case "IntDistribution":
            return Int(distribution.low, distribution.high, log=distribution.log, step=distribution.step)
        case "FloatDistribution":
            return Float(distribution.low, distribution.high, log=distribution.log, step=distribution.step)
    raise AssertionError(distribution)
