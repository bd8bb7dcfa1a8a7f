"""Suites of a user's own: `ravel evaluate --suite module:attribute`, or a name that a package registers.

A suite is a function of the protocol `Suite`: `suite(subject, budget, progress)` returns a `Result` for each analysis,
by name. The names of its metrics begin with its own: those of `suites:confusion` with `confusion/`. What it prints goes
to the standard error; the global generators are seeded; the model and images must be left as they are.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from trainables.data.own.user_code import code_files, digests, reported
from trainables.errors import ConfigError, short_repr
from trainables.evaluation.core.results import Table
from trainables.import_paths import is_import_path, load, registered
from trainables.metrics import METRICS
from trainables.seeding import global_streams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject

__all__ = ["PLACE", "REGISTRY", "OwnSuite", "is_own", "own_suite"]

REGISTRY: Final = "ravel.suites"
"""Entry point group in which packages register suites."""
PLACE: Final = "--suite"
TAKEN: Final = frozenset(
    (
        *(metric.name.partition("/")[0] for metric in METRICS),
        *("test", "robust", "deformation", "dknn", "ood", "units", "stability", "flattening", "transfer"),
        *("best", "system", "trials"),
    )
)
"""First parts of the names of other metrics, which no suite of a user may have."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_METRIC = re.compile(r"[A-Za-z0-9_./ @-]+")
_MEMBERS = ("metrics", "table", "figure")


def is_own(name: str) -> bool:
    """Return True if a suite is a user's own: an import path, or a name that a package registers.

    >>> is_own("suites:confusion"), is_own("clean")
    (True, False)
    """
    return is_import_path(name) or name in registered(REGISTRY)


@dataclass(frozen=True, slots=True)
class OwnSuite:
    """Suite of a user: called with its errors as one line each, and each result checked.

    `prefix` begins the names of its metrics.
    """

    name: str
    target: Callable[..., Any]

    @property
    def prefix(self) -> str:
        """First part of the names of its metrics, with the slash."""
        return f"{self.name.rpartition(':')[2].rpartition('.')[2]}/"

    def code(self) -> dict[str, str]:
        """Return the SHA-256 of the files that its code is in, by module: also if it is no function, but a partial."""
        path = self.name if is_import_path(self.name) else registered(REGISTRY)[self.name]
        return digests(code_files(sys.modules[path.partition(":")[0]]))

    def __call__(self, subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
        """Run all analyses, and return their results as plain values.

        Raises:
            ConfigError: it raises or exits, returns something else, or changes the model or the images.
        """
        before = _state(subject)
        with reported(self.name, parameter=PLACE), global_streams(subject.seed, self.name, device=_device(subject)):
            results = self.target(subject, budget, progress)
            if not isinstance(results, Mapping) or not results:
                got = f"got {type(results).__name__} {short_repr(results)}"
                raise self._error(f"must return at least one result by the name of its analysis, {got}")
            plain = {name: self._plain(name, result) for name, result in results.items()}
        if _state(subject) != before:
            remedy = "work on a copy, copy.deepcopy(subject.model)"
            raise self._error(f"must leave the model and the images as they were, for the next suite; {remedy}")
        return plain

    def _plain(self, name: object, result: Any) -> PlainResult:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self._error(f"must name an analysis with letters, digits, _, - and ., got {short_repr(name)}")
        missing = [member for member in _MEMBERS if not callable(getattr(result, member, None))]
        if missing:
            got = f"got {type(result).__name__} without {', '.join(missing)}"
            raise self._error(f"must return results with metrics(), table() and figure(), {got} under {name!r}")
        metrics, table, figure = result.metrics(), result.table(), result.figure()
        if not isinstance(table, Table):
            raise self._error(f"must make a Table in {name}.table(), got {type(table).__name__}")
        if not callable(getattr(figure, "to_json", None)):
            raise self._error(f"must make a figure of plotly in {name}.figure(), got {type(figure).__name__}")
        limits, refusals = (self._lines(name, kind, getattr(result, kind, ())) for kind in ("limits", "refusals"))
        return PlainResult(self._metrics(name, metrics), table, figure, limits, refusals)

    def _metrics(self, name: str, metrics: object) -> dict[str, float]:
        if not isinstance(metrics, Mapping):
            raise self._error(f"must make numbers by name in {name}.metrics(), got {type(metrics).__name__}")
        for metric, value in metrics.items():
            if not isinstance(metric, str) or not _METRIC.fullmatch(metric) or not metric.startswith(self.prefix):
                message = f"must name its metrics {self.prefix}NAME, of letters, digits, spaces and . _ - / @"
                raise self._error(f"{message}, got {short_repr(metric)} in {name}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                got = f"got {short_repr(value)} for {metric}; leave it out, or in the table alone"
                raise self._error(f"must measure finite numbers, {got}")
        return {metric: float(value) for metric, value in metrics.items()}

    def _lines(self, name: str, kind: str, lines: Any) -> tuple[str, ...]:
        if isinstance(lines, str) or not isinstance(lines, tuple | list) or not all(isinstance(x, str) for x in lines):
            raise self._error(f"must give {name}.{kind} as a tuple of texts, got {short_repr(lines)}")
        return tuple(lines)

    def _error(self, what: str) -> ConfigError:
        return ConfigError.at(PLACE, f"{self.name} {what}")


@dataclass(frozen=True, slots=True, eq=False)
class PlainResult:
    """Result of a user's analysis, computed."""

    numbers: Mapping[str, float]
    cells: Table
    plot: Figure
    limits: tuple[str, ...]
    refusals: tuple[str, ...]

    def metrics(self) -> Mapping[str, float]:
        """Return its numbers."""
        return self.numbers

    def table(self) -> Table:
        """Return its table."""
        return self.cells

    def figure(self) -> Figure:
        """Return its figure."""
        return self.plot


def own_suite(name: str) -> OwnSuite:
    """Return a user's suite by import path or registered name.

    Raises:
        ConfigError: it cannot be imported, is no function, or its name begins those of other metrics.

    >>> own_suite("math:pi")
    Traceback (most recent call last):
    trainables.errors.ConfigError: --suite: math:pi must be a function of (subject, budget, progress), got float
    """
    target = load(name, group=REGISTRY, place=PLACE)
    if not callable(target) or isinstance(target, type):
        got = f"got {f'the class {target.__name__}' if isinstance(target, type) else type(target).__name__}"
        raise ConfigError.at(PLACE, f"{name} must be a function of (subject, budget, progress), {got}")
    try:
        inspect.signature(target).bind(None, None, None)
    except TypeError:
        got = f"got {inspect.signature(target)}"
        raise ConfigError.at(PLACE, f"{name} must take (subject, budget, progress), {got}") from None
    except ValueError:  # written in C
        pass
    suite = OwnSuite(name, cast("Callable[..., Any]", target))
    if suite.prefix.removesuffix("/") in TAKEN:
        message = f"must have another name, as {suite.prefix} begins the names of other metrics; rename the function"
        raise ConfigError.at(PLACE, f"{name} {message}")
    return suite


def _device(subject: Subject) -> Any:
    return subject.test.labels_N.device


def _state(subject: Subject) -> tuple[bool, str]:
    """Return if the model trains, and a digest of its weights and of the images."""
    digest = hashlib.blake2b(digest_size=16)
    tensors = [value for value in subject.model.state_dict().values() if hasattr(value, "detach")]
    for split in (subject.train, subject.val, subject.test, *subject.outliers.values()):
        tensors += [split.images_NCHW, split.labels_N]
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return subject.model.training, digest.hexdigest()
