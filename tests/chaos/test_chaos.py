"""Sweeps on a cluster of three nodes under faults at seeded moments: nothing is lost or doubled.

An ordinary run takes one of them, without S3; ``make chaos`` (RAVEL_CHAOS=all) two seeds of each fault.
"""

import os

import chaos_servers
import pytest

pytest.importorskip("ray")
from chaos_clock import LIBRARY
from chaos_draws import ALWAYS, DURING
from chaos_faults import CHOICES, MAKERS
from chaos_runs import drawn, run, world_in

ALL = os.environ.get("RAVEL_CHAOS") == "all"
NUM_SEEDS = 2
RUNS = [(fault, seed) for fault in CHOICES for seed in range(NUM_SEEDS)] if ALL else [("raylet killed", 1)]
ROOT_ONLY = {"disk full", "link cut"}
MISSING = chaos_servers.missing()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with world_in(tmp_path_factory.mktemp("world")) as started:
        yield started


@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.parametrize(("fault", "seed"), RUNS, ids=[f"{fault}-{seed}" for fault, seed in RUNS])
def test_a_sweep_on_a_cluster_survives_chaos(fault, seed, world, tmp_path):
    if fault in ROOT_ONLY and os.geteuid() != 0:
        pytest.skip("needs root: a disk is mounted, or a network namespace created")
    if fault == "clock step" and LIBRARY is None:
        pytest.skip("libfaketime is not installed")
    draw = drawn(fault, seed)
    outcome = run(draw, world, tmp_path)
    assert outcome.faults == [], f"{draw} ended with {outcome.code}\n{outcome.output}"


def test_every_fault_can_be_made():
    assert list(MAKERS) == list(CHOICES)


@pytest.mark.parametrize("fault", CHOICES)
def test_the_seeds_of_a_fault_repeat_and_cover_what_they_choose_from(fault):
    among = CHOICES[fault]
    draws = [drawn(fault, seed) for seed in range(24)]
    assert draws == [drawn(fault, seed) for seed in range(24)]
    assert {draw.moment.place for draw in draws} == set(among.places) <= set(ALWAYS) | set(DURING)
    assert {draw.storage for draw in draws} == set(among.storages)
    assert {draw.tracking for draw in draws} == set(among.trackings)
    assert {draw.variant for draw in draws} == set(among.variants)
    assert all(among.lasts_s[0] <= draw.lasts_s <= among.lasts_s[1] for draw in draws)
    assert {draw.victim for draw in draws} == {3, 4}
