"""Reports of suites: run the suites, and cache each result as a document that can be printed and sent elsewhere.

The cache key is the digest of everything that decides a report: the model's weights, every image, the budget, the
seed and this package's own code. An interrupted evaluation resumes from the cache; a finished one is only read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter, ValidationError

from trainables.evaluation.core.own_suites import OwnSuite
from trainables.evaluation.core.results import Table
from trainables.evaluation.core.suites import suite_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor

    from trainables.data import Split
    from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject

__all__ = ["Analysis", "Report", "document", "evaluate", "fingerprint"]


@dataclass(frozen=True, slots=True)
class Analysis:
    """One result of a suite: `figure` is plotly's own JSON."""

    name: str
    metrics: dict[str, float]
    table: Table
    figure: dict[str, Any]
    limits: tuple[str, ...]
    refusals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Report of one suite; `measured_at` in seconds since the epoch, UTC."""

    suite: str
    key: str
    measured_at: float
    seconds: float
    analyses: tuple[Analysis, ...]

    @property
    def folder(self) -> str:
        """Name of the suite that is safe for a folder: that of an import path has no colon.

        >>> Report("suites:confusion", "", 0, 0, ()).folder
        'suites.confusion'
        """
        return self.suite.replace(":", ".")

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of all analyses."""
        return {name: value for analysis in self.analyses for name, value in analysis.metrics.items()}


_DOCUMENT = TypeAdapter(Report)


def evaluate(
    subject: Subject,
    suites: Iterable[str],
    budget: EvaluationBudget,
    *,
    cache: Path,
    progress: Progress,
    recompute: bool = False,
) -> Iterator[Report]:
    """Yield each suite's report as soon as it is measured, or read it from the folder `cache`.

    With `recompute`, no report is read from the cache.

    Raises:
        ValueError: an unknown suite, before any is run; a metric that is no finite number.
        ConfigError: a user's own suite cannot be imported, raises, or breaks a rule of suites.
    """
    suite_by_name = {name: suite_of(name) for name in suites}
    for name, suite in suite_by_name.items():
        code = suite.code() if isinstance(suite, OwnSuite) else None
        key = fingerprint(subject, budget, suite=name, own_code=code)
        report = None if recompute else _read(cache / f"{key}.json")
        if report is None:
            began = time.perf_counter()
            results = suite(subject, budget, progress)
            report = document(name, results, key=key, seconds=time.perf_counter() - began)
            _write(cache / f"{key}.json", report)
        yield report


def document(suite: str, results: Mapping[str, Result], *, key: str, seconds: float) -> Report:
    """Return the report of a suite's results.

    Raises:
        ValueError: a metric that is no finite number; names it.
    """
    analyses = tuple(_analysis(suite, name, result) for name, result in results.items())
    return Report(suite, key, measured_at=time.time(), seconds=round(seconds, 3), analyses=analyses)


def fingerprint(
    subject: Subject, budget: EvaluationBudget, *, suite: str, own_code: Mapping[str, str] | None = None
) -> str:
    """Return the digest of everything that decides a suite's report, 32 hexadecimal digits.

    `own_code` has the digests of the modules of a user's own suite.
    """
    digest = hashlib.blake2b(digest_size=16)
    choice = {"suite": suite, "budget": asdict(budget), "epsilon": subject.epsilon, "norm": subject.norm}
    choice |= {"distance": subject.distance, "seed": subject.seed, "code": _code()}
    choice |= {"torch": str(torch.__version__), "device": subject.test.labels_N.device.type}
    choice |= {"checkpoints": {epoch: _file(path / "state.pt") for epoch, path in subject.checkpoints.items()}}
    choice |= {} if own_code is None else {"own code": own_code}
    digest.update(json.dumps(choice, sort_keys=True).encode())
    for name, tensor in subject.model.state_dict().items():
        _add(digest, name, tensor)
    images = {"train": subject.train, "val": subject.val, "test": subject.test}
    images |= {f"outliers {name}": split for name, split in subject.outliers.items()}
    for name, split in images.items():
        _add_split(digest, name, split)
    return digest.hexdigest()


def _analysis(suite: str, name: str, result: Result) -> Analysis:
    metrics = {metric: float(value) for metric, value in result.metrics().items()}
    for metric, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"{suite}, {name}: the metric {metric} must be a finite number, got {value}; leave it out")
    table = result.table()
    rows = tuple(tuple(_finite(cell) for cell in row) for row in table.rows)
    figure = json.loads(str(result.figure().to_json()))
    return Analysis(name, metrics, Table(table.columns, rows), figure, tuple(result.limits), tuple(result.refusals))


def _finite(cell: Any) -> Any:
    """Return an infinite number or NaN as text: JSON has no such number, and null would mean a missing one."""
    return str(cell) if isinstance(cell, float) and not math.isfinite(cell) else cell


def _read(path: Path) -> Report | None:
    """Return a cached report, or None if it is missing or cannot be read."""
    try:
        return _DOCUMENT.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _write(path: Path, report: Report) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(_DOCUMENT.dump_json(report))
    unfinished.replace(path)


def _add_split(digest: Any, name: str, split: Split) -> None:
    _add(digest, f"{name} images", split.images_NCHW)
    _add(digest, f"{name} labels", split.labels_N)


def _add(digest: Any, name: str, tensor: Tensor) -> None:
    array = tensor.detach().cpu().contiguous().numpy()
    digest.update(f"{name} {array.dtype} {array.shape} ".encode())
    digest.update(array.data)


def _file(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


@lru_cache
def _code() -> str:
    """Return the digest of this package's source, so that another version recomputes."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(__file__).parents[2]
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
