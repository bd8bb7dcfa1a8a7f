"""The order of the tests: no test is lost, long files begin, each on one worker, and one worker is without them."""

import random
from types import SimpleNamespace

import pytest
from dealing import SECONDS, dealt
from xdist.scheduler import WorkStealingScheduling


def collected(rng):
    """Tests as pytest collects them: file by file, some of them long."""
    files = [f"tests/test_{number}.py" for number in range(200)] + list(SECONDS)
    return [f"{file}::test_{number}" for file in sorted(files) for number in range(rng.randint(1, 30))]


def file_of(test):
    return test.partition("::")[0]


class Worker:
    """A worker as xdist's scheduler sees it: ``given`` are the tests that it is to run."""

    shutting_down, gateway = False, SimpleNamespace(id="gw")

    def __init__(self, tests):
        self.given, self._tests = [], tests

    def send_runtest_some(self, indices):
        self.given += [self._tests[index] for index in indices]


def given(tests, number):
    """What xdist itself gives to each worker at first."""
    scheduler = WorkStealingScheduling(SimpleNamespace(getvalue=lambda _: number * ["popen"]))
    workers = [Worker(tests) for _ in range(number)]
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    return [worker.given for worker in workers]


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_no_test_is_lost_and_the_tests_of_a_file_keep_their_order(workers):
    tests = collected(random.Random(workers))
    order = dealt(tests, workers, file_of=file_of)
    assert sorted(order) == sorted(tests)
    for file in {file_of(test) for test in tests}:
        assert [test for test in order if file_of(test) == file] == [test for test in tests if file_of(test) == file]


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_long_files_begin_each_on_one_worker_and_one_worker_has_none(workers):
    tests = collected(random.Random(workers))
    parts = [[file_of(test) for test in part] for part in given(dealt(tests, workers, file_of=file_of), workers)]
    long = [[file for file in part if file in SECONDS] for part in parts]
    assert [part[: len(files)] for part, files in zip(parts, long, strict=True)] == long
    assert long[-1] == []
    assert sorted(file for files in long for file in set(files)) == sorted(SECONDS)
    times = [sum(SECONDS[file] for file in set(files)) for files in long[:-1]]
    assert max(times) <= max(1.2 * sum(times) / len(times), *SECONDS.values())


def test_a_few_tests_of_long_files_are_all_run():
    tests = [f"{file}::test" for file in SECONDS]
    assert sorted(dealt(tests, 3, file_of=file_of)) == sorted(tests)
    assert dealt([], 3, file_of=file_of) == []


def test_every_long_file_is_there(repository):
    assert [file for file in SECONDS if not (repository / file).is_file()] == []
