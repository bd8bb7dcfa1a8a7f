"""Every rule on random sweeps: recorded curves in any order, on any number of workers, at any speed."""

import copy
import math
import random
from dataclasses import dataclass, field, fields, is_dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.asha import Asha, NoStopping
from orchestrator.scheduling.budgeted import BudgetedAsha, RungSchedule
from orchestrator.scheduling.median import Median
from orchestrator.scheduling.pasha import Pasha
from orchestrator.scheduling.protocol import TrialView, TrialViews
from orchestrator.scheduling.rungs import brackets, rungs
from orchestrator.scheduling.simulator import LearningCurve, simulate
from orchestrator.state.ranking import is_finite, order

PROMOTING = ("asha that promotes", "brackets that promote", "pasha")
KINDS = ("everyone", "asha that stops", "brackets that stop", "median", "patient", *PROMOTING)
ONE_OBJECTIVE = ("median", "pasha")


@dataclass(frozen=True)
class Sweep:
    rule: object
    curves: dict[str, LearningCurve]
    workers: int

    def run(self, rule=None):
        return simulate(self.curves, self.rule if rule is None else rule, workers=self.workers)

    @property
    def competitors(self):
        return {trial: curve for trial, curve in self.curves.items() if not curve.exempt}

    def diverges(self, trial):
        return not all(map(is_finite, self.curves[trial].values))


@dataclass(frozen=True)
class Asked:
    """One question to a rule, with the views as it was then; ``level`` is None where a worker was free."""

    views: TrialViews
    trial: str | None
    level: int | None
    unstarted: int
    answer: object

    def ask(self, rule, views=None):
        views = self.views if views is None else views
        if self.level is None:
            return rule.resume(views, unstarted=self.unstarted)
        return rule.judge(views, self.trial, self.level)

    @property
    def gone_on(self):
        """The trial that goes on."""
        return self.answer if self.level is None else self.trial if self.answer and self.answer.kept else None


@dataclass
class Watched:
    """A rule, and all it was asked, each with a copy of the views made before it answered."""

    rule: object
    num_trials: int
    asked: list[Asked] = field(default_factory=list)
    copied: dict[str, TrialView] = field(default_factory=dict)

    @property
    def pauses(self):
        return self.rule.pauses

    @property
    def rungs(self):
        return self.rule.rungs

    def judge(self, views, trial, level):
        before = self._copy(views)
        answer = self.rule.judge(views, trial, level)
        self.asked.append(Asked(before, trial, level, self.num_trials - len(views.views), answer))
        return answer

    def resume(self, views, *, unstarted):
        before = self._copy(views)
        answer = self.rule.resume(views, unstarted=unstarted)
        self.asked.append(Asked(before, None, None, unstarted, answer))
        return answer

    def _copy(self, views):
        """Only what has changed since the last question is copied anew."""
        for trial, each in views.views.items():
            if each != self.copied.get(trial):
                self.copied[trial] = replace(each, values=dict(each.values), decisions=dict(each.decisions))
        return TrialViews(dict(self.copied))


def measured_at(views, levels):
    """The views without what was measured at other levels."""
    return TrialViews(
        {
            trial: replace(each, values={at: value for at, value in each.values.items() if at in levels})
            for trial, each in views.views.items()
        }
    )


def before_the_report(asked):
    """The views before the trial that is judged measured its last level."""
    view = asked.views.views[asked.trial]
    values = {at: value for at, value in view.values.items() if at != asked.level}
    return TrialViews(asked.views.views | {asked.trial: replace(view, level=view.level - 1, values=values)})


def watch(sweep):
    watched = Watched(sweep.rule, len(sweep.curves))
    return sweep.run(watched), watched.asked


def a_rule(draw, kind, num_trials, maximum):
    if kind == "everyone":
        return NoStopping()
    if kind == "median":
        return Median(draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    if kind == "patient":
        return BudgetedAsha(RungSchedule.within(draw(st.floats(0.02, 1)), num_trials=num_trials, maximum=maximum))
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
    rule = a_rule(draw, kind, num_trials - sum(exempt), maximum)
    curves = {}
    for index in generator.sample(range(num_trials), num_trials):
        values, seconds = a_curve(generator, maximum, objectives, slow=slow, coarse=coarse)
        if diverging and generator.random() < share_diverged:
            values = diverged(values, generator.randrange(maximum))
        bracket = generator.randrange(len(rule.brackets)) if isinstance(rule, Asha) else 0
        stratum = generator.randrange(num_strata) if kind not in {"patient", "pasha"} else ()
        curves[f"t{index:02}"] = LearningCurve(values, seconds, maximum, bracket, stratum, exempt[index])
    return Sweep(rule, curves, draw(st.integers(1, 8)))


def of_every_kind(function):
    return pytest.mark.parametrize("kind", KINDS)(function)


@of_every_kind
@given(data=st.data())
def test_every_trial_is_started_and_ends_completed_over_or_waiting(kind, data):
    sweep = data.draw(sweeps(kind))
    out = sweep.run()
    assert list(out.views.views) == list(sweep.curves)
    for view in out.views.views.values():
        assert view.state != "running"
        assert view.state != "paused" or sweep.rule.pauses
        assert (view.trial in out.completed_at) == (view.level == view.maximum and not sweep.diverges(view.trial))


@of_every_kind
@given(data=st.data())
def test_a_trial_measures_each_level_once_and_is_judged_once_at_a_rung_lowest_first(kind, data):
    sweep = data.draw(sweeps(kind))
    out, asked = watch(sweep)
    assert out.spent == sum(each.level for each in out.views.views.values())
    for view in out.views.views.values():
        judged = [each for each in asked if each.trial == view.trial]
        decided = [each.answer.rung for each in judged if each.answer is not None]
        assert list(view.values) == list(range(1, view.level + 1))
        assert [each.level for each in judged] == sorted({each.level for each in judged})
        assert decided == sorted(set(decided)) == list(view.decisions)
        assert all(each.answer is None or each.answer.rung == each.level for each in judged)


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
    out, asked = watch(data.draw(sweeps(kind)))
    for each in asked:
        view = each.views.views.get(each.gone_on)
        assert view is None or all(map(is_finite, view.values.values()))
    assert all(
        is_finite(value)
        for view in out.views.views.values()
        for level, value in view.values.items()
        if level < view.level
    )


@pytest.mark.parametrize("kind", ["patient", *PROMOTING])
@given(data=st.data())
def test_only_a_waiting_trial_is_resumed(kind, data):
    _, asked = watch(data.draw(sweeps(kind)))
    for each in asked:
        assert each.level is not None or each.answer is None or each.views.views[each.answer].state == "paused"


@of_every_kind
@given(data=st.data())
def test_a_sweep_restarted_after_any_event_decides_as_if_it_had_not_been(kind, data):
    """A rule holds nothing: asked again, backwards, on copies of the boards, it answers as it did."""
    sweep = data.draw(sweeps(kind))
    _, asked = watch(sweep)
    another = copy.deepcopy(sweep.rule)
    for each in reversed(asked):
        assert each.ask(sweep.rule) == each.ask(another) == each.answer
    assert is_dataclass(sweep.rule)
    with pytest.raises(AttributeError):
        setattr(sweep.rule, fields(sweep.rule)[0].name, None)


@of_every_kind
@given(data=st.data())
def test_a_rule_looks_at_no_level_that_it_does_not_name(kind, data):
    """The views of a state holds what was measured at the rungs alone."""
    sweep = data.draw(sweeps(kind))
    _, asked = watch(sweep)
    for each in asked:
        if sweep.rule.rungs is not None and (each.level is None or each.level in sweep.rule.rungs):
            assert each.ask(sweep.rule, measured_at(each.views, sweep.rule.rungs)) == each.answer


@pytest.mark.parametrize("kind", ["patient", *PROMOTING])
@given(data=st.data())
def test_no_worker_idles_while_a_waiting_trial_may_go_on(kind, data):
    sweep = data.draw(sweeps(kind))
    _, asked = watch(sweep)
    for each in asked:
        if each.level is None:
            continue
        before = before_the_report(each)
        if sum(view.state == "running" for view in before.views.values()) < sweep.workers:
            assert sweep.rule.resume(before, unstarted=each.unstarted) is None


@pytest.mark.parametrize("kind", PROMOTING)
@given(data=st.data())
def test_whoever_is_promoted_is_then_among_the_best_share_of_its_rung(kind, data):
    """Exactly: of the n that have come so far one of the best n // eta. Not so the exempt; nor, once all were started
    and nobody runs, the best that waits at a rung.
    """
    sweep = data.draw(sweeps(kind))
    _, asked = watch(sweep)
    for each in asked:
        view = each.views.views.get(each.gone_on)
        if view is None or view.exempt:
            continue
        ranked = order(each.views.at(view.level, view.group))
        place = ranked.index(view.trial)
        if place < len(ranked) // sweep.rule.reduction_factor:
            continue
        assert each.level is None
        assert each.unstarted == 0
        assert all(other.state != "running" for other in each.views.views.values())
        waiting = {other.trial for other in each.views.paused() if other.level == view.level}
        assert view.trial == next(trial for trial in ranked if trial in waiting)


@pytest.mark.parametrize("kind", [kind for kind in PROMOTING if kind != "pasha"])
@given(data=st.data())
def test_in_the_end_the_best_share_of_every_rung_was_promoted(kind, data):
    """More than n // eta may have been: some led the few that had come by then."""
    sweep = data.draw(sweeps(kind))
    views = sweep.run().views
    for group in {each.group for each in views.views.values()}:
        for rung in sweep.rule.brackets[group[0]]:
            values = views.at(rung, group)
            best = order(values)[: max(1, len(values) // sweep.rule.reduction_factor)]
            assert all(views.views[trial].level > rung for trial in best if is_finite(values[trial]))


def halved(sweep):
    """Who goes on behind each rung of successive halving as it was before it was made asynchronous."""
    here = list(sweep.competitors)
    for rung, places in zip(sweep.rule.ladder.rungs, sweep.rule.ladder.places, strict=True):
        came = [trial for trial in here if all(map(is_finite, sweep.curves[trial].values[:rung]))]
        here = order({trial: sweep.curves[trial].values[rung - 1] for trial in came})[:places]
        yield rung, set(here)


def spent_by(sweep, views):
    return sum(views.views[trial].level for trial in sweep.competitors)


def for_one_objective_and_two(function):
    return pytest.mark.parametrize("objectives", [1, 2])(function)


@for_one_objective_and_two
@given(data=st.data())
def test_patience_promotes_whom_synchronous_halving_does_and_then_gives_second_chances(objectives, data):
    sweep = data.draw(sweeps("patient", objectives=objectives))
    out, asked = watch(sweep)
    for rung, best in halved(sweep):
        assert best <= {trial for trial, view in out.views.views.items() if view.went_on(rung)}
        for each in asked:
            view = each.views.views.get(each.gone_on)
            if view is None or view.level != rung or view.exempt or view.trial in best:
                continue
            assert each.unstarted == 0
            assert best <= {trial for trial, other in each.views.views.items() if other.went_on(rung)}


@for_one_objective_and_two
@given(data=st.data())
def test_patience_never_exceeds_its_budget_nor_its_places_where_no_trial_diverges(objectives, data):
    sweep = data.draw(sweeps("patient", diverging=False, objectives=objectives))
    views, ladder = sweep.run().views, sweep.rule.ladder
    assert spent_by(sweep, views) <= ladder.budget
    for rung, places in zip(ladder.rungs, ladder.places, strict=True):
        assert sum(views.views[trial].went_on(rung) for trial in sweep.competitors) == places


@given(sweeps("patient", objectives=1))
def test_patience_exceeds_its_budget_for_nobody_but_the_one_trial_that_is_trained_to_its_end(sweep):
    out = sweep.run()
    completed = [trial for trial in out.completed_at if trial in sweep.competitors]
    assert spent_by(sweep, out.views) <= sweep.rule.ladder.budget or len(completed) <= 1


@given(sweeps("patient", objectives=1))
def test_patience_trains_a_trial_to_its_end_where_any_can_be(sweep):
    completed = sweep.run().completed_at
    assert any(trial in completed for trial in sweep.competitors) or all(map(sweep.diverges, sweep.competitors))


@for_one_objective_and_two
@given(data=st.data(), generator=st.randoms(use_true_random=False), workers=st.integers(1, 8))
def test_whom_patience_trains_depends_on_neither_order_nor_workers_nor_speed(objectives, data, generator, workers):
    sweep = data.draw(sweeps("patient", diverging=False, objectives=objectives))
    shuffled = {
        trial: replace(curve, seconds=[10 ** generator.uniform(-3, 3)] * len(curve.seconds))
        for trial, curve in generator.sample(list(sweep.curves.items()), len(sweep.curves))
    }
    one, other = sweep.run(), Sweep(sweep.rule, shuffled, workers).run()
    assert set(one.completed_at) == set(other.completed_at)
    assert all(each.level == other.views.views[trial].level for trial, each in one.views.views.items())
