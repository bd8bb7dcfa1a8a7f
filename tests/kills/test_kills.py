"""Sweeps that are killed at seeded moments: the driver ends and says how to continue, and nothing is lost or doubled.

The moments are drawn from fixed seeds. An ordinary run takes one of each kind, ``make kills`` (RAVEL_KILLS=all) all.
"""

import os
import signal
import time

import pytest
from kill_moments import KINDS, NUM_SEEDS, drawn, run
from launched import Launched, Setting, temporary_folder
from moments import PLACES
from process_moments import IN_SWEEP
from process_moments import KINDS as OF_PROCESSES
from process_moments import drawn as drawn_for_processes
from process_moments import run as run_in_processes
from survival import RAY_LOST

pytestmark = pytest.mark.timeout(1800)
SEEDS = range(NUM_SEEDS) if os.environ.get("RAVEL_KILLS") == "all" else range(1)


@pytest.mark.ray
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_survives_a_kill(kind, seed, tmp_path):
    outcome = run(drawn(kind, seed), tmp_path)
    assert outcome.faults == [], f"{outcome.moment} ended with {outcome.code}\n{outcome.output}"
    if outcome.code == RAY_LOST and outcome.recorded_s is not None:
        assert outcome.recorded_s < 30
        assert outcome.retries == 0, "the loss of Ray is the fault of no trial"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", OF_PROCESSES)
def test_a_sweep_in_processes_survives_a_kill(kind, seed, tmp_path):
    outcome = run_in_processes(drawn_for_processes(kind, seed), tmp_path)
    assert outcome.faults == [], f"{outcome.moment} ended with {outcome.code}\n{outcome.output}"


@pytest.mark.parametrize("arguments", [("--address", "processes"), pytest.param((), marks=pytest.mark.ray)])
def test_a_user_who_presses_ctrl_c_until_the_driver_ends_is_told_how_to_resume(arguments, tmp_path):
    sweep = Launched(tmp_path, temporary_folder(), Setting(arguments=arguments))
    try:
        assert sweep.wait_until(lambda: sweep.events, 120)
        while sweep.driver.poll() is None:
            os.killpg(sweep.driver.pid, signal.SIGINT)
            time.sleep(0.02)
        assert sweep.events[-1].status == "interrupted"
        assert sweep.driver.returncode == 130, sweep.output
        assert f"ravel resume {sweep.name}" in sweep.output
    finally:
        sweep.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_moments_of_a_kind_are_spread_over_the_life_of_a_sweep(kind):
    moments = [drawn(kind, seed) for seed in range(NUM_SEEDS)]
    assert moments == [drawn(kind, seed) for seed in range(NUM_SEEDS)]
    assert {moment.place for moment in moments} == set(PLACES)
    assert len({(moment.place, moment.nth, moment.delay_s) for moment in moments}) == NUM_SEEDS


@pytest.mark.parametrize("kind", OF_PROCESSES)
def test_the_moments_of_a_kind_for_processes_are_spread_too(kind):
    assert {drawn_for_processes(kind, seed).place for seed in range(NUM_SEEDS)} == set(IN_SWEEP)
