"""Fork: the spec of a new sweep from an earlier one, with other settings and its best points."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from orchestrator.errors import SpecError
from orchestrator.planning.loading import override
from orchestrator.planning.plan import Parent
from orchestrator.planning.validation import check_spec
from search_spaces import Problem, adopt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState
    from search_spaces.warm_start.adoption import Report


class Fork(NamedTuple):
    """Spec of the new sweep, its lineage, and a report on each point that was mapped into its space."""

    spec: SweepSpec
    parent: Parent
    reports: tuple[Report, ...]


def fork(
    plan: SweepPlan, state: SweepState, folder: SweepFolder, *, name: str, settings: Sequence[str], best: int
) -> Fork:
    """Return the spec of a new sweep that begins with the best points of an earlier one.

    Args:
        plan: Plan in force of the earlier sweep.
        state: Its state.
        folder: Its files.
        name: Name of the new sweep.
        settings: Other values of fields, ``path=value``.
        best: Number of points; 0 keeps the points of the earlier spec.

    Raises:
        SpecError: lists every mistake.
    """
    if name == plan.spec.name:
        raise SpecError([Problem("--name", f"must differ from that of the earlier sweep, got {name!r}")])
    spec = override(plan.spec, [f"name={name}", *settings])
    ranked = [trial for trial in state.ranked(plan.spec.objective) if trial.origin != "baseline"][:best]
    adoption = adopt(spec.space, [trial.point for trial in ranked])
    points = tuple({key: value for key, value in point.items() if key not in spec.trial} for point in adoption.points)
    if points:
        search = spec.search.model_copy(update={"points": points})
        spec = check_spec(spec.model_copy(update={"search": search}))
    used = [ranked[report.index].id for report in adoption.reports if report.outcome in {"kept", "clipped"}]
    parent = Parent(
        sweep=plan.sweep,
        place=folder.uri,
        fingerprint=plan.fingerprint,
        events=state.num_events,
        trials=tuple(used),
    )
    return Fork(spec, parent, adoption.reports)
