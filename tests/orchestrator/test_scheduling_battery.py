"""Every scheduler on random sweeps: recorded curves in any order, on any number of workers, at any speed."""

import copy
import math
import random
import runpy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.asha import Asha, NoStopping
from orchestrator.scheduling.budgeted.rung_schedule import DESIGNS, RungSchedule
from orchestrator.scheduling.budgeted.scheduler import BudgetedAsha
from orchestrator.scheduling.median import Median
from orchestrator.scheduling.pasha import Pasha
from orchestrator.scheduling.population import Pbt
from orchestrator.scheduling.rungs import brackets, rungs
from orchestrator.scheduling.simulator import LearningCurve, simulate
from orchestrator.scheduling.trial_views import TrialView, TrialViews
from orchestrator.state.ranking import is_finite, order

PROMOTING = ("asha that promotes", "brackets that promote", "pasha")
BUDGETED = ("budgeted", "budgeted and priced", "budgeted and fixed")
KINDS = ("none", "asha that stops", "brackets that stop", "median", *BUDGETED, "pbt", *PROMOTING)
COSTS = (1, 2, 4, 11)
ONE_OBJECTIVE = ("median", "pasha", "pbt")
naive = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("naive_schedulers.py"))))


@dataclass(frozen=True)
class Sweep:
    scheduler: object
    curves: dict[str, LearningCurve]
    workers: int

    def run(self, scheduler=None):
        return simulate(self.curves, self.scheduler if scheduler is None else scheduler, workers=self.workers)

    @property
    def competitors(self):
        return {trial: curve for trial, curve in self.curves.items() if not curve.exempt}

    def diverges(self, trial):
        return not all(map(is_finite, self.curves[trial].values))


@dataclass(frozen=True)
class Question:
    """One question to a scheduler, with the views as they were; ``level`` is None where a worker was free."""

    views: dict[str, TrialView]
    trial: str | None
    level: int | None
    unstarted: int
    answer: object

    def ask(self, scheduler, views=None):
        views = TrialViews((self.views if views is None else views).values())
        if self.level is None:
            return scheduler.promote(views, unstarted=self.unstarted)
        return scheduler.decide(views, self.trial, self.level)

    def ask_naive(self, scheduler):
        if self.level is None:
            return naive.promote(scheduler, self.views, unstarted=self.unstarted)
        return naive.decide(scheduler, self.views, self.trial, self.level)

    @property
    def advanced(self):
        """The trial that continues."""
        return self.answer if self.level is None else self.trial if self.answer and self.answer.kept else None


@dataclass
class Recording:
    """A scheduler, and all its questions, each with a copy of the views made before it answered."""

    scheduler: object
    num_trials: int
    questions: list[Question] = field(default_factory=list)

    @property
    def pauses(self):
        return self.scheduler.pauses

    @property
    def rungs(self):
        return self.scheduler.rungs

    def decide(self, views, trial, level):
        before = dict(views)
        answer = self.scheduler.decide(views, trial, level)
        self.questions.append(Question(before, trial, level, self.num_trials - len(views), answer))
        return answer

    def promote(self, views, *, unstarted):
        before = dict(views)
        answer = self.scheduler.promote(views, unstarted=unstarted)
        self.questions.append(Question(before, None, None, unstarted, answer))
        return answer


def measured_at(views, levels):
    """The views without the values of other levels."""
    return {
        trial: replace(view, values={at: value for at, value in view.values.items() if at in levels})
        for trial, view in views.items()
    }


def before_the_report(question):
    """The views before the trial in question measured its last level."""
    view = question.views[question.trial]
    values = {at: value for at, value in view.values.items() if at != question.level}
    return question.views | {question.trial: replace(view, level=view.level - 1, values=values)}


def record(sweep):
    recording = Recording(sweep.scheduler, len(sweep.curves))
    return sweep.run(recording), recording.questions


def priced(schedule, kind, mean=4.5):
    """The schedule with a budget of gradient evaluations: as many as its own trials cost, or a fixed number."""
    fields = {"resource": "gradient_evaluations", "most_passes": max(COSTS)}
    if kind == "budgeted and fixed":
        return replace(schedule, **fields, design=3, mean_passes=mean)
    return replace(schedule, **fields, design=2)


def a_scheduler(draw, kind, num_trials, maximum):
    if kind == "none":
        return NoStopping()
    if kind == "median":
        return Median(draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    if kind == "pbt":
        interval = draw(st.integers(1, 4))
        return Pbt(tuple(range(interval, maximum, interval)), draw(st.floats(0.05, 0.49)))
    if kind in BUDGETED:
        fraction, design, least = (
            draw(st.floats(0.02, 1)),
            draw(st.sampled_from(sorted(DESIGNS))),
            draw(st.integers(1, 5)),
        )
        schedule = RungSchedule.within(fraction, num_trials=num_trials, maximum=maximum, design=design, least=least)
        if kind == "budgeted":
            return BudgetedAsha(schedule)
        return BudgetedAsha(priced(schedule, kind, draw(st.floats(min(COSTS), max(COSTS)))))
    grace, factor = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    if kind == "pasha":
        return Pasha(rungs(grace, factor, maximum), factor)
    most = min(3, len(rungs(grace, factor, maximum)) + 1)
    count = draw(st.integers(min(2, most), most)) if "brackets" in kind else 1
    return Asha(brackets(grace, factor, maximum, count), factor, pauses=kind in PROMOTING)


def a_curve(generator, maximum, objectives, *, slow, coarse):
    """Values with or without ties, rising or not; seconds that differ by orders of magnitude, or not at all."""
    slope, digits = generator.choice([0.0, generator.random()]), 1 if coarse else 9
    values = [
        tuple(round(generator.random() + slope * math.log1p(at), digits) for _ in range(objectives))
        for at in range(maximum)
    ]
    speed = 10 ** generator.uniform(-3, 3)
    seconds = [speed * 10 ** generator.uniform(-1, 1) if slow else 1.0 for _ in range(maximum)]
    return values, seconds


def diverged(values, at):
    """A curve that ends at a level where its first objective is lost."""
    return [*values[:at], (-math.inf, *values[at][1:])]


@st.composite
def sweeps(draw, kind, *, diverging=True, objectives=None):
    maximum, num_trials = draw(st.integers(3, 27)), draw(st.integers(1, 24))
    if objectives is None:
        objectives = 1 if kind in ONE_OBJECTIVE else draw(st.sampled_from([1, 1, 2]))
    share_exempt, share_diverged = draw(st.sampled_from([0.0, 0.2])), draw(st.sampled_from([0.0, 0.2, 0.6]))
    slow, coarse, num_strata = draw(st.booleans()), draw(st.booleans()), draw(st.integers(1, 2))
    generator = random.Random(draw(st.integers(0, 2**32)))
    exempt = [index > 0 and generator.random() < share_exempt for index in range(num_trials)]
    scheduler = a_scheduler(draw, kind, num_trials - sum(exempt), maximum)
    curves = {}
    for index in generator.sample(range(num_trials), num_trials):
        values, seconds = a_curve(generator, maximum, objectives, slow=slow, coarse=coarse)
        if diverging and generator.random() < share_diverged:
            values = diverged(values, generator.randrange(maximum))
        bracket = generator.randrange(len(scheduler.brackets)) if isinstance(scheduler, Asha) else 0
        stratum = generator.randrange(num_strata) if kind not in {*BUDGETED, "pasha"} else ()
        cost = generator.choice(COSTS) if kind in BUDGETED[1:] else 1
        curves[f"t{index:02}"] = LearningCurve(values, seconds, maximum, bracket, stratum, exempt[index], cost=cost)
    return Sweep(scheduler, curves, draw(st.integers(1, 8)))


def of_every_kind(function):
    return pytest.mark.parametrize("kind", KINDS)(function)


@of_every_kind
@given(data=st.data())
def test_every_trial_is_started_and_ends_completed_over_or_paused(kind, data):
    sweep = data.draw(sweeps(kind))
    out = sweep.run()
    assert list(out.views) == list(sweep.curves)
    for view in out.views.values():
        assert view.state != "running"
        assert view.state != "paused" or sweep.scheduler.pauses
        assert (view.trial in out.completed_at) == (view.level == view.maximum and not sweep.diverges(view.trial))


@of_every_kind
@given(data=st.data())
def test_a_trial_measures_each_level_once_and_is_decided_once_at_a_rung_lowest_first(kind, data):
    sweep = data.draw(sweeps(kind))
    out, questions = record(sweep)
    assert out.spent == sum(view.level for view in out.views.values())
    for view in out.views.values():
        asked = [question for question in questions if question.trial == view.trial]
        decided = [question.answer.rung for question in asked if question.answer is not None]
        assert list(view.values) == list(range(1, view.level + 1))
        assert [question.level for question in asked] == sorted({question.level for question in asked})
        assert decided == sorted(set(decided)) == list(view.decisions)
        assert all(question.answer is None or question.answer.rung == question.level for question in asked)


@of_every_kind
@given(data=st.data())
def test_an_exempt_trial_is_never_stopped(kind, data):
    sweep = data.draw(sweeps(kind))
    completed = sweep.run().completed_at
    for trial, curve in sweep.curves.items():
        assert not curve.exempt or sweep.diverges(trial) or trial in completed


@of_every_kind
@given(data=st.data())
def test_a_diverged_trial_goes_nowhere(kind, data):
    out, questions = record(data.draw(sweeps(kind)))
    for question in questions:
        view = question.views.get(question.advanced)
        assert view is None or all(map(is_finite, view.values.values()))
    assert all(
        is_finite(value) for view in out.views.values() for level, value in view.values.items() if level < view.level
    )


@pytest.mark.parametrize("kind", [*BUDGETED, *PROMOTING])
@given(data=st.data())
def test_only_a_paused_trial_is_promoted(kind, data):
    _, questions = record(data.draw(sweeps(kind)))
    for question in questions:
        promoted = question.answer if question.level is None else None
        assert promoted is None or question.views[promoted].state == "paused"


@of_every_kind
@given(data=st.data())
def test_a_sweep_restarted_after_any_event_decides_as_if_it_had_not_been(kind, data):
    """A scheduler has no state: asked once more, backwards, on copies of the views, it answers as it did."""
    sweep = data.draw(sweeps(kind))
    _, questions = record(sweep)
    another = copy.deepcopy(sweep.scheduler)
    for question in reversed(questions):
        assert question.ask(sweep.scheduler) == question.ask(another) == question.answer
    assert is_dataclass(sweep.scheduler)
    with pytest.raises(AttributeError):
        setattr(sweep.scheduler, fields(sweep.scheduler)[0].name, None)


@of_every_kind
@given(data=st.data())
def test_every_answer_is_that_of_a_naive_scheduler_without_indexes(kind, data):
    sweep = data.draw(sweeps(kind))
    _, questions = record(sweep)
    for question in questions:
        assert question.ask_naive(sweep.scheduler) == question.answer


@of_every_kind
@given(data=st.data())
def test_a_scheduler_reads_no_level_that_it_does_not_name(kind, data):
    """The views of a sweep state hold the values at rungs alone."""
    sweep = data.draw(sweeps(kind))
    _, questions = record(sweep)
    for question in questions:
        if sweep.scheduler.rungs is not None and (question.level is None or question.level in sweep.scheduler.rungs):
            at_rungs = measured_at(question.views, sweep.scheduler.rungs)
            assert question.ask(sweep.scheduler, at_rungs) == question.answer


@pytest.mark.parametrize("kind", [*BUDGETED, *PROMOTING])
@given(data=st.data())
def test_no_worker_idles_while_a_paused_trial_may_be_promoted(kind, data):
    sweep = data.draw(sweeps(kind))
    _, questions = record(sweep)
    for question in questions:
        if question.level is None:
            continue
        before = before_the_report(question)
        if sum(view.state == "running" for view in before.values()) < sweep.workers:
            assert sweep.scheduler.promote(TrialViews(before.values()), unstarted=question.unstarted) is None


@pytest.mark.parametrize("kind", PROMOTING)
@given(data=st.data())
def test_a_promoted_trial_is_then_among_the_best_share_of_its_rung(kind, data):
    """Exactly: of the n that have come so far one of the best n // eta. Not so the exempt; nor, once all were started
    and none runs, the best paused at a rung.
    """
    sweep = data.draw(sweeps(kind))
    _, questions = record(sweep)
    for question in questions:
        view = question.views.get(question.advanced)
        if view is None or view.exempt:
            continue
        ranked = order(naive.at(question.views, view.level, view.group))
        place = ranked.index(view.trial)
        if place < len(ranked) // sweep.scheduler.reduction_factor:
            continue
        assert question.level is None
        assert question.unstarted == 0
        others = question.views.values()
        assert all(other.state != "running" for other in others)
        paused = {other.trial for other in others if other.state == "paused" and other.level == view.level}
        assert view.trial == next(trial for trial in ranked if trial in paused)


@pytest.mark.parametrize("kind", [kind for kind in PROMOTING if kind != "pasha"])
@given(data=st.data())
def test_in_the_end_the_best_share_of_every_rung_was_promoted(kind, data):
    """More than n // eta may have been: some led the few that had come by then."""
    sweep = data.draw(sweeps(kind))
    views = sweep.run().views
    for group in {view.group for view in views.values()}:
        for rung in sweep.scheduler.brackets[group[0]]:
            values = naive.at(views, rung, group)
            best = order(values)[: max(1, len(values) // sweep.scheduler.reduction_factor)]
            assert all(views[trial].level > rung for trial in best if is_finite(values[trial]))


def mean_cost(sweep):
    """The mean cost of a competing trial."""
    costs = [curve.cost for curve in sweep.competitors.values()]
    return Fraction(sum(costs), len(costs))


def taken(ranked, costs, room, *, used=0):
    """The trials that fit into the room, best first, up to the first that does not."""
    for trial in ranked:
        used += costs[trial]
        if used > room:
            return
        yield trial


def budget_of(sweep):
    """The gradient evaluations, or epochs, that the trials may cost."""
    schedule = sweep.scheduler.schedule
    return schedule.budget * mean_cost(sweep) if schedule.passes is None else schedule.passes


def halved(sweep):
    """The trials that synchronous successive halving advances from each rung."""
    here, schedule, mean = list(sweep.competitors), sweep.scheduler.schedule, mean_cost(sweep)
    costs, rest = {trial: curve.cost for trial, curve in sweep.competitors.items()}, None
    worth = [schedule.step(rung) * places for rung, places in zip(schedule.rungs, schedule.places, strict=True)]
    if schedule.passes is not None and schedule.rungs:
        rest = max(0, schedule.passes - schedule.rungs[0] * sum(costs.values()))
    for index, (rung, places) in enumerate(zip(schedule.rungs, schedule.places, strict=True)):
        came = [trial for trial in here if all(map(is_finite, sweep.curves[trial].values[:rung]))]
        if rest is not None:
            mean = Fraction(rest, sum(worth[index:]))
            came = [trial for trial in came if costs[trial] * (schedule.maximum - rung) <= rest]
        ranked = order({trial: sweep.curves[trial].values[rung - 1] for trial in came})
        here = list(taken(ranked, costs, (places - schedule.extrapolated[index]) * mean)) or ranked[:1]
        if schedule.extrapolated[index]:
            base = schedule.base_of(index)
            values = {trial: sweep.curves[trial].values for trial in came}
            projected = {
                trial: tuple(now + (now - then) for then, now in zip(curve[base - 1], curve[rung - 1], strict=True))
                for trial, curve in values.items()
            }
            used = sum(costs[trial] for trial in here)
            others = [trial for trial in order(projected) if trial not in here]
            here += taken(others, costs, places * mean, used=used)
        if rest is not None:
            rest = max(0, rest - schedule.step(rung) * sum(costs[trial] for trial in here))
        yield rung, set(here)


def spent_by(sweep, views):
    return sum(views[trial].level * views[trial].cost for trial in sweep.competitors)


def of_every_budget(function):
    numbers = pytest.mark.parametrize("objectives", [1, 2])(function)
    return pytest.mark.parametrize("kind", BUDGETED)(numbers)


@of_every_budget
@given(data=st.data())
def test_a_budget_promotes_the_trials_of_synchronous_halving_and_then_gives_second_chances(kind, objectives, data):
    sweep = data.draw(sweeps(kind, objectives=objectives))
    out, questions = record(sweep)
    for rung, best in halved(sweep):
        assert best <= {trial for trial, view in out.views.items() if view.advanced_from(rung)}
        for question in questions:
            view = question.views.get(question.advanced)
            if view is None or view.level != rung or view.exempt or view.trial in best:
                continue
            assert question.unstarted == 0
            assert best <= {trial for trial, other in question.views.items() if other.advanced_from(rung)}


@pytest.mark.parametrize("objectives", [1, 2])
@given(data=st.data())
def test_a_sweep_never_exceeds_its_budget_nor_its_places_where_no_trial_diverges(objectives, data):
    sweep = data.draw(sweeps("budgeted", diverging=False, objectives=objectives))
    views, schedule = sweep.run().views, sweep.scheduler.schedule
    assert spent_by(sweep, views) <= schedule.budget
    for rung, places in zip(schedule.rungs, schedule.places, strict=True):
        assert sum(views[trial].advanced_from(rung) for trial in sweep.competitors) == places


@of_every_budget
@given(data=st.data())
def test_whatever_is_lost_a_sweep_exceeds_its_budget_by_one_full_trial_at_most(kind, objectives, data):
    sweep = data.draw(sweeps(kind, objectives=objectives))
    schedule = sweep.scheduler.schedule
    sweep = replace(sweep, scheduler=BudgetedAsha(replace(schedule, design=max(2, schedule.design))))
    full = schedule.maximum * max(curve.cost for curve in sweep.competitors.values())
    first = (*schedule.rungs, 0)[0] * sum(curve.cost for curve in sweep.competitors.values())
    most = budget_of(sweep) if schedule.passes is None else max(first, budget_of(sweep))
    assert spent_by(sweep, sweep.run().views) <= most + full


@pytest.mark.parametrize("kind", BUDGETED)
@pytest.mark.parametrize("workers", [1, 8])
def test_a_sweep_whose_trials_are_all_lost_in_their_last_epoch_stays_within_a_full_trial_of_its_budget(kind, workers):
    generator, schedule = random.Random(0), RungSchedule.within(0.3, num_trials=64, maximum=27)
    if kind != "budgeted":
        schedule = priced(schedule, kind)
    curves = {
        f"t{index:02}": LearningCurve(
            [*[(generator.random(),) for _ in range(26)], (-math.inf,)],
            [1.0] * 27,
            cost=1 if kind == "budgeted" else generator.choice(COSTS),
        )
        for index in range(64)
    }
    sweep = Sweep(BudgetedAsha(schedule), curves, workers)
    full = 27 * max(curve.cost for curve in curves.values())
    spent = spent_by(sweep, sweep.run().views)
    assert budget_of(sweep) - full < spent <= budget_of(sweep) + full


@pytest.mark.parametrize("kind", BUDGETED)
@given(data=st.data())
def test_a_budget_trains_a_trial_to_its_end_where_any_can_be_and_a_full_trial_more_than_it_pays_for_that(kind, data):
    sweep = data.draw(sweeps(kind, objectives=1))
    out, schedule = sweep.run(), sweep.scheduler.schedule
    if any(trial in out.completed_at for trial in sweep.competitors) or all(map(sweep.diverges, sweep.competitors)):
        return
    assert schedule.design > 1
    left = budget_of(sweep) - spent_by(sweep, out.views)
    paused = [view for view in out.views.values() if view.state == "paused"]
    assert paused
    for level in {view.level for view in paused}:
        best = order({view.trial: view.values[level] for view in paused if view.level == level})[0]
        assert out.views[best].cost * -level > left


@of_every_budget
@given(data=st.data(), generator=st.randoms(use_true_random=False), workers=st.integers(1, 8))
def test_the_trials_a_budget_trains_depend_on_neither_order_nor_workers_nor_speed(
    kind, objectives, data, generator, workers
):
    sweep = data.draw(sweeps(kind, diverging=False, objectives=objectives))
    shuffled = {
        trial: replace(curve, seconds=[10 ** generator.uniform(-3, 3)] * len(curve.seconds))
        for trial, curve in generator.sample(list(sweep.curves.items()), len(sweep.curves))
    }
    one, other = sweep.run(), Sweep(sweep.scheduler, shuffled, workers).run()
    assert set(one.completed_at) == set(other.completed_at)
    assert all(view.level == other.views[trial].level for trial, view in one.views.items())
