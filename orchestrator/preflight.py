"""What needs a machine to be known, asked before any of it costs money: every problem at once.

The text of the spec was checked when it was loaded; here the model is built (on torch's ``meta`` device: shapes, no
memory), the data set is looked for, and the storage is written to.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from orchestrator.errors import PreflightError
from orchestrator.plan import first_points
from trainables.config import TrialConfig
from trainables.errors import TrainableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from orchestrator.spec import SweepSpec

NUM_SAMPLES = 64


def check(spec: SweepSpec, storage: Path) -> None:
    """Ask the machine for everything the sweep will need.

    Raises:
        PreflightError: lists every problem, each with its remedy.
    """
    problems = [*_storage_problems(storage), *_trial_problems(spec)]
    if problems:
        raise PreflightError(problems)


def _storage_problems(storage: Path) -> Iterator[str]:
    try:
        storage.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=storage):
            pass
    except OSError as error:
        yield f"storage.uri: {storage} cannot be written ({os.strerror(error.errno or 0)}); choose another folder"


def _trial_problems(spec: SweepSpec) -> list[str]:
    """The data sets, models, taps and boundaries of the baseline, the corners and seeded samples; each message once."""
    points: Iterable[dict[str, Any]] = [
        *(point for _, point in first_points(spec)),
        *spec.space.corners(),
        *spec.space.sample_many(NUM_SAMPLES, seed=spec.search.seed),
    ]
    configs = [TrialConfig.from_point({**spec.trial, **point}) for point in points]
    problems: dict[str, None] = {}
    for data in {config.data: None for config in configs}:
        problems.update(dict.fromkeys(_data_problems(data)))
    if not problems:
        for config in configs:
            problems.update(dict.fromkeys(_model_problems(config)))
    return list(problems)


def _data_problems(data: Any) -> Iterator[str]:
    from trainables.data import available  # noqa: PLC0415  imports torch

    try:
        available(data)
    except TrainableError as error:
        yield str(error)


def _model_problems(config: TrialConfig) -> Iterator[str]:
    from trainables.models import check_layers  # noqa: PLC0415  imports torch

    try:
        check_layers(config)
    except TrainableError as error:
        yield from str(error).splitlines()
