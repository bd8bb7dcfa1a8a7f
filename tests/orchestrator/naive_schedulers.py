"""Reference for the schedulers: the same decisions from all views at each question, with no index and no shortcut."""

import math
from fractions import Fraction
from itertools import combinations, pairwise
from statistics import fmean, median

from orchestrator.scheduling.asha import Asha, NoStopping
from orchestrator.scheduling.budgeted.scheduler import BudgetedAsha
from orchestrator.scheduling.median import Median
from orchestrator.scheduling.pasha import FIRST_CEILING, NOISE_PERCENTILE, Pasha
from orchestrator.scheduling.population import Pbt
from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.state.ranking import is_finite, order


def decide(scheduler, views, trial, level):
    """``scheduler.decide``, from a plain mapping of views."""
    match scheduler:
        case NoStopping():
            return None
        case Asha():
            return _decide_asha(scheduler, views, trial, level)
        case BudgetedAsha():
            return _decide_budgeted(scheduler, views, trial, level)
        case Median():
            return _decide_median(scheduler, views, trial, level)
        case Pasha():
            return _decide_pasha(scheduler, views, trial, level)
        case Pbt():
            return _decide_pbt(scheduler, views, trial, level)


def promote(scheduler, views, *, unstarted):
    """``scheduler.promote``, from a plain mapping of views."""
    match scheduler:
        case NoStopping() | Median():
            return None
        case Asha():
            return _promote(views, scheduler.rungs, scheduler.rungs, scheduler.reduction_factor, unstarted)
        case Pasha():
            rungs = _in_force(scheduler, views)
            below = rungs if len(rungs) == len(scheduler.rungs) else rungs[:-1]
            return _promote(views, below, rungs, scheduler.reduction_factor, unstarted)
        case BudgetedAsha():
            return _promote_budgeted(scheduler, views, unstarted)
        case Pbt():
            return None if unstarted else _promote_pbt(views)


def _decide_pbt(scheduler, views, trial, level):
    if level not in scheduler.rungs or views[trial].exempt:
        return None
    values = _members_at(views, level, views[trial].group)
    ranked = order(values)
    worst = min(int(len(ranked) * scheduler.quantile), (len(ranked) - 1) // 2)
    cutoff = values[ranked[-worst - 1]] if worst else None
    return RungDecision(level, kept=False, cutoff=cutoff, competitors=len(ranked))


def _promote_pbt(views):
    paused = [view for view in views.values() if view.state == "paused" and not view.exempt]
    if not paused:
        return None
    lowest = min(view.level for view in paused)
    at_lowest = {view.trial: view.group for view in paused if view.level == lowest}
    group = next(iter(at_lowest.values()))
    return next(trial for trial in order(_members_at(views, lowest, group)) if trial in at_lowest)


def _members_at(views, level, group):
    return {trial: value for trial, value in at(views, level, group).items() if not views[trial].exempt}


def at(views, level, group):
    """Values of the trials of a group at a level."""
    return {
        view.trial: view.values[level] for view in views.values() if view.group == group and view.competes_at(level)
    }


def is_quiet(views):
    """Return True if no trial runs, but for the audit."""
    return not any(_is_running_between(view, 0, view.maximum) for view in views.values())


def any_completed(views):
    """Return True if a trial that may be stopped was trained to its end, and not for the audit alone."""
    return any(view.state == "completed" and not view.exempt and view.blind_from is None for view in views.values())


def _is_running_between(view, below, level):
    return view.state == "running" and below <= view.level < level and view.blind_from is None


def _placement(values, trial, *, reduction_factor, at_least):
    ranked = order(values)
    places = max(at_least, int(len(ranked) // reduction_factor))
    rival = next((name for name in reversed(ranked[:places]) if is_finite(values[name])), None)
    return trial in ranked[:places] and is_finite(values[trial]), rival


def _promotable(values, paused, *, reduction_factor, at_least=0):
    ranked = order(values)
    best = ranked[: max(at_least, int(len(ranked) // reduction_factor))]
    return next((trial for trial in best if trial in paused and is_finite(values[trial])), None)


def _decide_asha(scheduler, views, trial, level):
    view = views[trial]
    if level not in scheduler.brackets[view.bracket]:
        return None
    values = at(views, level, view.group)
    at_least = 0 if scheduler.pauses else 1
    kept, rival = _placement(values, trial, reduction_factor=scheduler.reduction_factor, at_least=at_least)
    return RungDecision(level, kept or view.exempt, None if rival is None else values[rival], len(values))


def _promote(views, rungs, all_rungs, reduction_factor, unstarted):
    trial = _best_paused(views, rungs, reduction_factor)
    if trial is not None or unstarted or not is_quiet(views):
        return trial
    trial = _best_paused(views, rungs, reduction_factor, at_least=1)
    return trial if trial is not None or any_completed(views) else _first_paused(views, all_rungs)


def _best_paused(views, rungs, reduction_factor, *, at_least=0):
    for rung in reversed(rungs):
        for group, paused in _paused_at(views, rung).items():
            values = at(views, rung, group)
            trial = _promotable(values, paused, reduction_factor=reduction_factor, at_least=at_least)
            if trial is not None:
                return trial
    return None


def _first_paused(views, rungs):
    for rung in reversed(rungs):
        for group, paused in _paused_at(views, rung).items():
            return next(trial for trial in order(at(views, rung, group)) if trial in paused)
    return None


def _paused_at(views, rung):
    groups = {}
    for view in views.values():
        if view.state == "paused" and view.level == rung:
            groups.setdefault(view.group, set()).add(view.trial)
    return groups


def _decide_median(scheduler, views, trial, level):
    if level < scheduler.grace_period:
        return None
    view = views[trial]
    others = [
        _average(other, level)
        for other in views.values()
        if other.trial != trial and other.group == view.group and other.competes_at(level)
    ]
    if len(others) < scheduler.min_competitors:
        return None
    cutoff = median(others)
    best = max(value[0] for at, value in view.values.items() if at <= level)
    shown = (cutoff,) if math.isfinite(cutoff) else None
    return RungDecision(level, best >= cutoff or view.exempt, shown, len(others) + 1)


def _average(view, level):
    values = [value[0] for at, value in view.values.items() if at <= level]
    return fmean(values) if all(map(math.isfinite, values)) else -math.inf


def _decide_pasha(scheduler, views, trial, level):
    view, rungs = views[trial], _in_force(scheduler, views)
    if level not in rungs:
        return None
    values = at(views, level, view.group)
    if level == rungs[-1] and not _is_stable(views, rungs):
        rungs = scheduler.rungs[: len(rungs) + 1]
    below = level < rungs[-1] or len(rungs) == len(scheduler.rungs)
    kept = below and _promotable(values, {trial}, reduction_factor=scheduler.reduction_factor) == trial
    return RungDecision(level, kept or view.exempt, competitors=len(values), rungs=rungs)


def _in_force(scheduler, views):
    seen = (len(decision.rungs) for view in views.values() for decision in view.decisions.values())
    return scheduler.rungs[: max(FIRST_CEILING, max(seen, default=0))]


def _is_stable(views, rungs):
    if len(rungs) < FIRST_CEILING:
        return True
    below, top = rungs[-2:]
    trials = [view for view in views.values() if view.competes_at(top) and view.competes_at(below)]
    now = {view.trial: view.values[top] for view in trials if is_finite(view.values[top])}
    before = {trial: views[trial].values[below] for trial in now}
    noise = _noise([view for view in trials if view.trial in now], rungs)
    pairs = zip(order(now), order(before), strict=True)
    return all(abs(before[one][0] - before[other][0]) <= noise for one, other in pairs)


def _noise(trials, rungs):
    top = rungs[-1]
    apart = sorted(
        abs(one.values[top][0] - other.values[top][0])
        for one, other in combinations(trials, 2)
        if _crossings(one.values, other.values, rungs) > 1
    )
    return apart[math.ceil(NOISE_PERCENTILE * len(apart)) - 1] if apart else 0.0


def _crossings(one, other, rungs):
    leads = [one[rung] > other[rung] for rung in rungs if rung in one and rung in other and one[rung] != other[rung]]
    return sum(before != after for before, after in pairwise(leads))


class _Rung:
    """One rung of a schedule: its competitors, best first, those that are paused, and the cost still to come.

    A place is worth ``mean`` at least and ``most`` at most; 1 without prices. With a fixed budget ``rest`` is what is
    left of it at least, and it is ``known`` whether no trial below may yet change that.
    """

    def __init__(self, views, schedule, index, *, from_below, mean, most, known=True, rest=None):
        self.level, self.places = schedule.rungs[index], schedule.places[index]
        self.by_value = self.places - schedule.extrapolated[index]
        self.is_priced = schedule.is_priced
        self.mean, self.is_plain = mean, not schedule.is_priced and self.by_value == self.places
        below = (0, *schedule.rungs)[index]
        values, self.projected, self.paused, running = {}, {}, set(), 0
        self.num_advanced = self.cost_advanced = 0
        self.cost = {view.trial: view.cost for view in views}
        for view in views:
            competes = view.competes_at(self.level) and is_finite(view.values[self.level])
            if competes and not view.was_lost_at(self.level):
                values[view.trial] = view.values[self.level]
                before = view.values.get(schedule.base_of(index) if index else 0, values[view.trial])
                pairs = zip(before, values[view.trial], strict=True)
                self.projected[view.trial] = tuple(now + (now - then) for then, now in pairs)
                self.num_advanced += view.advanced_from(self.level)
                self.cost_advanced += view.cost * view.advanced_from(self.level)
                if view.state == "paused" and view.level == self.level:
                    self.paused.add(view.trial)
            elif _is_running_between(view, below, self.level):
                running += view.cost
        self.to_come, self.ranked = running + from_below, order(values)
        self.is_complete = known and not self.to_come
        self._payable = math.inf if rest is None else Fraction(rest, schedule.maximum - self.level)
        self._is_linear = len(next(iter(values.values()), (0.0,))) == 1
        self.leaving = self._leaving(most)

    @property
    def certain(self):
        """Trials whose place is certain and that second chances have left room for."""
        return [trial for trial in self._certain() if self._has_room(self.cost_advanced, self.cost[trial])]

    def _certain(self):
        if self.to_come and not self._is_linear:
            return []
        chosen = self._by_value(self.to_come, complete=self.is_complete)
        if not self.is_complete or self.by_value == self.places:
            return chosen
        used, others = sum(self.cost[trial] for trial in chosen), []
        for trial in (trial for trial in order(self.projected) if trial not in chosen):
            if self.cost[trial] > self._payable:
                continue
            used += self.cost[trial]
            if used > self.places * self.mean:
                break
            others.append(trial)
        return chosen + others

    def _by_value(self, used, *, complete):
        chosen = []
        for trial in self.ranked:
            if self.cost[trial] > self._payable:
                used += 0 if complete else self.cost[trial]
                continue
            used += self.cost[trial]
            if used > self.by_value * self.mean and (chosen or not complete):
                break
            chosen.append(trial)
        return chosen

    def _has_room(self, advanced, cost):
        return not advanced or advanced + cost <= self.places * self.mean

    def _leaving(self, most):
        if self.is_plain:
            return max(0, min(self.places - self.num_advanced, len(self.paused) + self.to_come))
        if not self.is_complete:
            all_here = sum(self.cost[trial] for trial in self.paused) + self.to_come
            room = math.floor(self.places * most) - self.cost_advanced
            return max(0, min(room, all_here)) if self.num_advanced else all_here
        advanced = self.cost_advanced
        for trial in self._certain():
            if trial in self.paused and self._has_room(advanced, self.cost[trial]):
                advanced += self.cost[trial]
        return advanced - self.cost_advanced

    @property
    def last(self):
        if not self.is_priced:
            return self.ranked[self.by_value - 1] if len(self.ranked) >= self.by_value else None
        kept = self._by_value(0, complete=True)
        return kept[-1] if kept and len(kept) < len(self.ranked) else None


def _rungs(scheduler, views, unstarted):
    schedule, rungs = scheduler.schedule, []
    competitors = [view for view in views.values() if not view.exempt]
    costs = (1, schedule.most_passes)
    mean, most = (_mean_cost(schedule, competitors, unstarted, cost) for cost in costs)
    total, from_below = sum(view.cost for view in competitors), unstarted * schedule.most_passes
    first = (*schedule.rungs, 0)[0]
    least_spent, most_spent, known, rest = first * (total + unstarted), first * (total + from_below), True, None
    for index, level in enumerate(schedule.rungs):
        if schedule.passes is not None:
            steps = [schedule.step(rung) * places for rung, places in zip(schedule.rungs, schedule.places, strict=True)]
            rest, most_rest = (max(0, schedule.passes - spent) for spent in (most_spent, least_spent))
            mean, most = (Fraction(left, sum(steps[index:])) for left in (rest, most_rest))
            known = not unstarted and all(not rung.to_come for rung in rungs)
        rung = _Rung(competitors, schedule, index, from_below=from_below, mean=mean, most=most, known=known, rest=rest)
        from_below = rung.leaving
        least_spent += schedule.step(level) * rung.cost_advanced
        most_spent += schedule.step(level) * (rung.cost_advanced + rung.leaving)
        rungs.append(rung)
    return rungs


def _budget(schedule, trials, unstarted):
    if schedule.passes is not None:
        return schedule.passes
    mean = _mean_cost(schedule, trials, unstarted, 1)
    return schedule.budget * mean.numerator / mean.denominator


def _mean_cost(schedule, competitors, unstarted, cost_of_unstarted):
    count = len(competitors) + unstarted
    if not schedule.is_priced or not count:
        return Fraction(1)
    return Fraction(sum(view.cost for view in competitors) + unstarted * cost_of_unstarted, count)


def _decide_budgeted(scheduler, views, trial, level):
    if level not in scheduler.rungs:
        return None
    unstarted = scheduler.schedule.num_trials - sum(not view.exempt for view in views.values())
    rung = _rungs(scheduler, views, max(0, unstarted))[scheduler.rungs.index(level)]
    paid = _is_paid(scheduler.schedule, views, max(0, unstarted), views[trial].cost, more=0)
    kept = views[trial].exempt or (trial in rung.certain and paid)
    cutoff = views[rung.last].values[level] if rung.last is not None else None
    return RungDecision(level, kept, cutoff, len(rung.ranked))


def _promote_budgeted(scheduler, views, unstarted):
    rungs = _rungs(scheduler, views, unstarted)
    for rung in reversed(rungs):
        trial = next((trial for trial in rung.certain if trial in rung.paused), None)
        if trial is None:
            continue
        more = views[trial].cost * scheduler.schedule.step(rung.level)
        if _is_paid(scheduler.schedule, views, unstarted, views[trial].cost, more=more):
            return trial
    if unstarted or any(rung.to_come for rung in rungs):
        return None
    return _second_chance(scheduler.schedule, views, rungs)


def _is_paid(schedule, views, unstarted, cost, *, more):
    trials = [view for view in views.values() if not view.exempt]
    for view in trials:
        levels = [rung for rung in (*schedule.rungs, schedule.maximum) if rung > view.level]
        runs = _is_running_between(view, 0, schedule.maximum)
        level = view.level if view.blind_from is None else view.blind_from
        more += view.cost * (levels[0] if runs else level)
    budget = _budget(schedule, trials, unstarted)
    return schedule.design == 1 or more <= budget + cost * schedule.maximum


def _second_chance(schedule, views, rungs):
    trials = [view for view in views.values() if not view.exempt]
    used = sum(view.cost * (view.level if view.blind_from is None else view.blind_from) for view in trials)
    running = (view for view in trials if _is_running_between(view, 0, schedule.maximum))
    used += sum(view.cost * (schedule.maximum - view.level) for view in running)
    none_ends = not any(view.state in {"running", "completed"} and view.blind_from is None for view in trials)
    left = _budget(schedule, trials, 0) - used
    for rung in reversed(rungs):
        best = next((trial for trial in rung.ranked if trial in rung.paused), None)
        if best is None:
            continue
        cost = rung.cost[best]
        to_its_end = cost * (schedule.maximum - rung.level) <= left + cost * schedule.maximum
        if cost * schedule.step(rung.level) <= left or (none_ends and (schedule.design == 1 or to_its_end)):
            return best
    return None
