"""ASHA, of both kinds: its two questions alone, and whole sweeps against references written from the paper."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling import asha
from orchestrator.scheduling.asha import Asha, Placement
from orchestrator.scheduling.rungs import rungs
from orchestrator.scheduling.simulator import LearningCurve, simulate
from orchestrator.state.ranking import Ranking

NAMES = st.text("abcdefgh", min_size=1, max_size=3)
VALUES = st.dictionaries(
    NAMES, st.tuples(st.sampled_from([0.0, 0.5, -math.inf]) | st.floats(-9, 9)), min_size=1, max_size=40
)
DIVERGED = -math.inf


def placement(values, trial, **keywords):
    return asha.placement(Ranking(values), trial, **keywords)


def promotable(values, paused, **keywords):
    return asha.promotable(Ranking(values), Ranking({trial: values[trial] for trial in paused}), **keywords)


def test_the_first_at_a_rung_goes_on_where_asha_stops_and_waits_where_it_promotes():
    assert placement({"a": (0.1,)}, "a", reduction_factor=3).kept
    assert placement({"a": (0.1,)}, "a", reduction_factor=3, at_least=0) == Placement(False, None, 1)
    assert promotable({"a": (0.1,)}, {"a"}, reduction_factor=3) is None
    assert promotable({"a": (0.1,)}, {"a"}, reduction_factor=3, at_least=1) == "a"


def test_of_equals_the_first_by_name_goes_on():
    values = {"b": (0.9,), "a": (0.9,), "c": (0.1,)}
    assert [placement(values, trial, reduction_factor=3).kept for trial in "abc"] == [True, False, False]
    assert promotable(values, {"a", "b"}, reduction_factor=3) == "a"
    assert promotable(values, {"b"}, reduction_factor=3) is None


@pytest.mark.parametrize("at_least", [0, 1])
def test_a_diverged_trial_never_goes_on_nor_raises_the_bar(at_least):
    values = {"a": (DIVERGED,), "b": (0.5,)}
    assert not placement({"a": (DIVERGED,)}, "a", reduction_factor=2, at_least=at_least).kept
    assert not placement(values, "a", reduction_factor=2, at_least=at_least).kept
    assert placement(values, "b", reduction_factor=2, at_least=at_least) == Placement(True, "b", 2)
    assert promotable({"a": (DIVERGED,)}, {"a"}, reduction_factor=2, at_least=at_least) is None


def test_the_decision_names_the_trial_in_the_last_place_and_counts_the_competitors():
    values = {"a": (0.2,), "b": (0.4,), "c": (0.3,), "d": (0.5,)}
    assert placement(values, "c", reduction_factor=2) == Placement(kept=False, rival="b", competitors=4)


def test_where_places_outnumber_the_finite_the_last_of_these_is_the_rival():
    values = {"a": (0.2,), "b": (DIVERGED,), "c": (0.3,), "d": (DIVERGED,), "e": (DIVERGED,), "f": (DIVERGED,)}
    assert placement(values, "c", reduction_factor=2) == Placement(kept=True, rival="a", competitors=6)


@given(VALUES, st.integers(2, 5), st.integers(0, 1))
def test_exactly_the_best_share_goes_on(values, factor, at_least):
    share = max(at_least, len(values) // factor)
    finite = sorted((-value, trial) for trial, (value,) in values.items() if math.isfinite(value))
    kept = {trial for trial in values if placement(values, trial, reduction_factor=factor, at_least=at_least).kept}
    assert kept == {trial for _, trial in finite[:share]}
    assert len(kept) == min(share, len(finite))


@given(VALUES, st.integers(2, 5), st.data())
def test_the_best_that_waits_among_the_best_share_is_promoted(values, factor, data):
    paused = data.draw(st.sets(st.sampled_from(sorted(values))))
    kept = [trial for trial in paused if placement(values, trial, reduction_factor=factor, at_least=0).kept]
    best = min(kept, key=lambda trial: (-values[trial][0], trial), default=None)
    assert promotable(values, paused, reduction_factor=factor) == best


def test_promoting_all_that_may_be_promotes_exactly_the_best_share():
    generator = random.Random(0)
    values = {f"t{index:02}": (generator.random(),) for index in range(64)}
    paused, promoted = set(values), []
    while (found := promotable(values, paused, reduction_factor=3)) is not None:
        paused.remove(found)
        promoted.append(found)
    assert promoted == sorted(values, key=lambda trial: -values[trial][0])[:21]


def test_in_random_order_about_one_in_eta_goes_on():
    """64 arrivals, 100 orders: the target is 1/3; the first arrivals, which face nobody, add a little."""
    generator = random.Random(0)
    shares = []
    for _ in range(100):
        seen: dict[str, tuple[float]] = {}
        kept = 0
        for index in range(64):
            seen[str(index)] = (generator.random(),)
            kept += placement(seen, str(index), reduction_factor=3).kept
        shares.append(kept / 64)
    assert 0.33 < sum(shares) / len(shares) < 0.40


def stopping_of_the_paper(curves, at, eta, workers):
    """Li et al. 2020, where a trial that is not in the top 1/eta when it arrives is stopped: (time, trial, level)."""
    pool, busy, rung, ends, now = list(curves), [], {level: [] for level in at}, [], 0
    while pool or busy:
        while pool and len(busy) < workers:
            trial = pool.pop(0)
            busy.append((now + curves[trial].seconds[0], trial, 1))
        busy.sort()
        now, trial, level = busy.pop(0)
        loss = -curves[trial].values[level - 1][0]
        goes_on = loss < math.inf and level < len(curves[trial].values)
        if level in rung:
            rung[level].append((loss, trial))
            top = sorted(rung[level])[: max(1, len(rung[level]) // eta)]
            goes_on = goes_on and (loss, trial) in top
        if goes_on:
            busy.append((now + curves[trial].seconds[level], trial, level + 1))
        else:
            ends.append((now, trial, level))
    return ends


def promotion_of_the_paper(curves, at, eta, workers):
    """Algorithm 2 of Li et al. 2020: (time, trial, rung) of each job that a free worker gets.

    Where the pool of the paper never ends, this one does: then the best of a rung goes on once nothing else is left.
    """
    pool, busy, rung, promoted, jobs, now = list(curves), [], {k: [] for k in at}, {k: [] for k in at}, [], 0

    def promotable(least):
        for k in reversed(at):
            top = sorted(rung[k])[: max(least, len(rung[k]) // eta)]
            for loss, trial in top:
                if trial not in promoted[k] and loss < math.inf:
                    promoted[k].append(trial)
                    return trial, k
        return None

    def get_job():
        return promotable(0) or ((pool.pop(0), 0) if pool else None) or (None if busy else promotable(1))

    def run(trial, k):
        goal, finish, level = next((each for each in at if each > k), len(curves[trial].values)), now, k
        while level < goal and (level == k or curves[trial].values[level - 1][0] > DIVERGED):
            finish += curves[trial].seconds[level]
            level += 1
        busy.append((finish, trial, level))

    while True:
        while len(busy) < workers and (job := get_job()) is not None:
            jobs.append((now, *job))
            run(*job)
        if not busy:
            return jobs
        busy.sort()
        now, trial, level = busy.pop(0)
        if level in rung:
            rung[level].append((-curves[trial].values[level - 1][0], trial))


@st.composite
def sweeps(draw):
    """Curves, rungs, eta and workers; seconds are whole and so many that no two trials report at once."""
    generator = random.Random(draw(st.integers(0, 2**32)))
    maximum, eta = draw(st.integers(1, 27)), draw(st.integers(2, 4))
    digits, share_diverged = draw(st.sampled_from([1, 9])), draw(st.sampled_from([0.0, 0.05]))
    curves = {}
    for index in generator.sample(range(24), draw(st.integers(1, 24))):
        values = [(round(generator.random(), digits),) for _ in range(maximum)]
        seconds = [generator.randrange(1, 10 ** generator.randint(9, 12)) for _ in range(maximum)]
        curves[f"t{index:02}"] = LearningCurve(
            [(DIVERGED,) if generator.random() < share_diverged else v for v in values], seconds
        )
    return curves, rungs(draw(st.integers(1, 3)), eta, maximum), eta, draw(st.integers(1, 8))


@given(sweeps())
def test_stopping_agrees_with_a_reference_written_from_the_paper(sweep):
    curves, at, eta, workers = sweep
    out = simulate(curves, Asha((at,), eta, pauses=False), workers=workers)
    ends = [(now, trial, level) for now, trial, what, level in out.decisions if what not in {"started", "kept"}]
    assert ends == stopping_of_the_paper(curves, at, eta, workers)


@given(sweeps())
def test_promotion_agrees_with_a_reference_written_from_the_paper(sweep):
    curves, at, eta, workers = sweep
    out = simulate(curves, Asha((at,), eta, pauses=True), workers=workers)
    jobs = [(now, trial, level) for now, trial, what, level in out.decisions if what in {"started", "kept", "resumed"}]
    expected = promotion_of_the_paper(curves, at, eta, workers)
    assert jobs[: len(expected)] == expected
    # Beyond the paper: where all who were promoted diverged, the best that still waits is trained to its end.
    beyond = jobs[len(expected) :]
    assert not beyond or min(out.completed_at.values(), default=beyond[0][0]) >= beyond[0][0]


def test_whom_the_paper_promotes_goes_before_the_leader_of_a_rung_that_too_few_have_reached():
    """When d comes last to rung 1, c is among the best half there; a waits at rung 2 alone."""
    curves = {
        "a": LearningCurve([(4.0,)] * 3, [57.0, 16.0, 12.0]),
        "d": LearningCurve([(2.0,)] * 3, [88.0, 99.0, 20.0]),
        "b": LearningCurve([(1.0,)] * 3, [3.0, 60.0, 29.0]),
        "c": LearningCurve([(3.0,)] * 3, [6.0, 4.0, 2.0]),
    }
    out = simulate(curves, Asha(((1, 2),), 2, pauses=True), workers=2)
    assert [trial for _, trial, what, _ in out.decisions if what == "resumed"][:2] == ["a", "c"]
    jobs = [entry for entry in out.decisions if entry[2] in {"started", "kept", "resumed"}]
    assert [(now, trial, level) for now, trial, _, level in jobs] == promotion_of_the_paper(
        curves, (1, 2), 2, workers=2
    )
