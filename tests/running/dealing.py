"""Order of the tests for pytest's workers: long files first and each on one worker; the last worker starts no Ray."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
SECONDS = {
    "tests/kills/test_kills.py": 330,
    "tests/orchestrator/test_sweeps.py": 260,
    "tests/orchestrator/test_losing_ray.py": 110,
    "tests/orchestrator/test_private_ray.py": 110,
    "tests/orchestrator/test_clusters.py": 100,
    "tests/orchestrator/servers/test_outages.py": 100,
    "tests/chaos/test_chaos.py": 90,
    "tests/orchestrator/servers/test_remote_sweeps.py": 90,
    "tests/orchestrator/test_poisoned_workers.py": 80,
    "tests/orchestrator/test_own_code.py": 70,
    "tests/orchestrator/test_notebooks.py": 70,
    "tests/orchestrator/test_data_parallel_sweeps.py": 60,
    "tests/orchestrator/test_living_sweeps.py": 60,
    "tests/orchestrator/test_living_equality.py": 60,
    "tests/orchestrator/test_retention_sweeps.py": 50,
    "tests/kills/test_sweep_invariants.py": 45,
    "tests/orchestrator/test_own_search.py": 40,
    "tests/orchestrator/test_seed_sweeps.py": 40,
    "tests/examples/test_lightning_digits.py": 40,
    "tests/orchestrator/test_gan_sweep.py": 25,
}
"""About the time of each file that starts Ray and takes more than twenty seconds; a wrong number costs time alone."""


def dealt(items: Sequence[T], workers: int, *, file_of: Callable[[T], str]) -> list[T]:
    """Return the items in the order in which xdist's ``worksteal`` deals them out, an equal share to each worker.

    A worker steals from the end of another's share. So the long files, which are at the start of all shares but the
    last, are neither split, each part with fixtures of its own, nor left to the end, when the other workers wait. The
    last worker meanwhile takes the short tests, which keep busy the cores on which a test of Ray waits.

    >>> dealt(["a 1", "b 1", "c 1", "tests/chaos/test_chaos.py 1"], 2, file_of=lambda item: item.split()[0])
    ['tests/chaos/test_chaos.py 1', 'a 1', 'b 1', 'c 1']
    """
    files: dict[str, list[T]] = {}
    for item in items:
        files.setdefault(file_of(item), []).append(item)
    begin: list[list[str]] = [[] for _ in range(workers)]
    for file in sorted(files.keys() & SECONDS, key=lambda file: (-SECONDS[file], file)):
        min(begin[:-1] or begin, key=lambda part: sum(SECONDS[name] for name in part)).append(file)
    short = iter([item for item in items if file_of(item) not in SECONDS])
    order: list[T] = []
    for size, names in zip(shares(len(items), workers), begin, strict=True):
        part = list(chain.from_iterable(files[file] for file in names))
        order += [*part, *islice(short, max(0, size - len(part)))]
    return [*order, *short]


def shares(number: int, workers: int) -> Iterator[int]:
    """Yield the number of tests that each worker gets at first."""
    for left in range(workers, 0, -1):
        yield number // left
        number -= number // left
