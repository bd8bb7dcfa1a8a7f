"""Search spaces as immutable values: typed domains, conditional parameters, and a catalog of reviewed fragments.

The import is cheap and loads no numerical, search or cluster library.

>>> from search_spaces import Float, SearchSpace, catalog
>>> space = catalog.optimizer() | catalog.mixup() | SearchSpace({"dropout": Float(0.0, 0.5)})
>>> space = space.fix({"optimizer.name": "sgd"}).narrow({"optimizer.lr": (1e-3, 1.0)})
>>> space.contains(space.sample(seed=0))
True
"""

from __future__ import annotations

from search_spaces import catalog
from search_spaces.conditions.condition import (
    Condition,
    Predicate,
    When,
    all_of,
    any_of,
    equals,
    greater_than,
    less_than,
    not_equal,
    one_of,
)
from search_spaces.conditions.constraints import Constraint
from search_spaces.documents.serialization import dump_yaml, load_yaml
from search_spaces.domains.types import Choice, Domain, Fixed, Float, Int, Scalar, SymLog, ZeroOr
from search_spaces.errors import (
    DomainError,
    InfeasibleError,
    MissingExtraError,
    PathError,
    Problem,
    SpaceError,
    YamlError,
    nearest,
)
from search_spaces.operations.difference import Change, Difference
from search_spaces.paths import nest, unnest
from search_spaces.sampling.feasibility import Feasibility
from search_spaces.sampling.points import Point
from search_spaces.space import SearchSpace, parse_space
from search_spaces.warm_start.adoption import Adoption, Report, adopt
from search_spaces.warm_start.refinement import Refinement, refine

__all__ = [
    "Adoption",
    "Change",
    "Choice",
    "Condition",
    "Constraint",
    "Difference",
    "Domain",
    "DomainError",
    "Feasibility",
    "Fixed",
    "Float",
    "InfeasibleError",
    "Int",
    "MissingExtraError",
    "PathError",
    "Point",
    "Predicate",
    "Problem",
    "Refinement",
    "Report",
    "Scalar",
    "SearchSpace",
    "SpaceError",
    "SymLog",
    "When",
    "YamlError",
    "ZeroOr",
    "adopt",
    "all_of",
    "any_of",
    "catalog",
    "dump_yaml",
    "equals",
    "greater_than",
    "less_than",
    "load_yaml",
    "nearest",
    "nest",
    "not_equal",
    "one_of",
    "parse_space",
    "refine",
    "unnest",
]
