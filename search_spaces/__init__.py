"""Search spaces as plain values: typed domains, conditional parameters, and a catalog of reviewed fragments.

Importing this package is cheap and imports no numerical, search or cluster library.

>>> from search_spaces import Float, SearchSpace, catalog
>>> space = catalog.optimizer() | catalog.mixup() | SearchSpace({"dropout": Float(0.0, 0.5)})
>>> space = space.fix({"optimizer.name": "sgd"}).narrow({"optimizer.lr": (1e-3, 1.0)})
>>> space.contains(space.sample(seed=0))
True
"""

from __future__ import annotations

from search_spaces import catalog
from search_spaces.conditions import Predicate, When, equals, greater_than, not_equal, one_of
from search_spaces.documents import parse_space
from search_spaces.domains import Choice, Domain, Fixed, Float, Int, Scalar, SymLog, ZeroOr
from search_spaces.errors import (
    DomainError,
    MissingExtraError,
    PathError,
    Problem,
    SpaceError,
    YamlError,
    nearest,
)
from search_spaces.paths import nest, unnest
from search_spaces.points import Point
from search_spaces.serialization import dump_yaml, load_yaml
from search_spaces.space import SearchSpace

__all__ = [
    "Choice",
    "Domain",
    "DomainError",
    "Fixed",
    "Float",
    "Int",
    "MissingExtraError",
    "PathError",
    "Point",
    "Predicate",
    "Problem",
    "Scalar",
    "SearchSpace",
    "SpaceError",
    "SymLog",
    "When",
    "YamlError",
    "ZeroOr",
    "catalog",
    "dump_yaml",
    "equals",
    "greater_than",
    "load_yaml",
    "nearest",
    "nest",
    "not_equal",
    "one_of",
    "parse_space",
    "unnest",
]
