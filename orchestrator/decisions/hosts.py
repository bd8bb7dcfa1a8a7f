"""Hosts that get no more trials: those that lose the workers of most trials they are given."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from orchestrator.state.sweep_state import HostHistory

TRIALS_LOST = 3
WINDOW_S = 3600.0


class HostCounts(NamedTuple):
    """Different trials that a host lost within the window, and attempts that ended there otherwise."""

    lost: int
    kept: int


def unreliable_hosts(histories: Mapping[str, HostHistory], *, now: float) -> dict[str, HostCounts]:
    """Return the hosts that lost too much within the last hour.

    These lost the workers of three different trials or more, and of more trials than attempts ended there otherwise.
    Trials are counted, not losses: one that kills its worker wherever it runs makes no host unreliable.

    Example:
        >>> from orchestrator.state.sweep_state import HostHistory
        >>> histories = {"gpu-1": HostHistory(lost=[(10.0, "t001"), (20.0, "t002"), (30.0, "t004")], kept=[15.0])}
        >>> unreliable_hosts(histories, now=40.0)
        {'gpu-1': HostCounts(lost=3, kept=1)}
        >>> unreliable_hosts(histories, now=11.0 + WINDOW_S)
        {}
    """
    counts = {host: _counts(history, start=now - WINDOW_S) for host, history in histories.items() if history.lost}
    return {host: count for host, count in counts.items() if count.lost >= TRIALS_LOST and count.lost > count.kept}


def hosts_that_lost(histories: Mapping[str, HostHistory], trial: str, *, now: float) -> frozenset[str]:
    """Return the hosts that lost a worker of one trial within the last hour: its retry goes elsewhere.

    Example:
        >>> from orchestrator.state.sweep_state import HostHistory
        >>> histories = {"gpu-1": HostHistory(lost=[(10.0, "t001")]), "gpu-2": HostHistory(lost=[(20.0, "t002")])}
        >>> sorted(hosts_that_lost(histories, "t001", now=40.0))
        ['gpu-1']
    """
    lost = {
        host: history.lost[bisect_left(history.lost, (now - WINDOW_S, "")) :] for host, history in histories.items()
    }
    return frozenset(host for host, losses in lost.items() if any(name == trial for _, name in losses))


def excluded_hosts(unreliable: Collection[str], usable: Collection[str]) -> frozenset[str]:
    """Return the usable hosts that get no more trials: the unreliable ones, unless no other is left.

    A sweep does not wait for hosts that may never come: if all are unreliable, all get trials.

    Args of note: ``usable`` are the hosts that are alive and large enough for a trial.

    Example:
        >>> sorted(excluded_hosts({"gpu-1"}, {"gpu-1", "gpu-2"})), sorted(excluded_hosts({"gpu-1"}, {"gpu-1"}))
        (['gpu-1'], [])
    """
    return frozenset(unreliable) & frozenset(usable) if frozenset(usable) - frozenset(unreliable) else frozenset()


def _counts(history: HostHistory, *, start: float) -> HostCounts:
    lost = history.lost[bisect_left(history.lost, (start, "")) :]
    return HostCounts(len({trial for _, trial in lost}), len(history.kept) - bisect_left(history.kept, start))
