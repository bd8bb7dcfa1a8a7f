"""Addresses of MLflow's own pages that compare a sweep's trials, and the version that serves them."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.parse
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.redaction import server_address
from orchestrator.tracking.store.reachable import login
from orchestrator.tracking.store.store import tracking_uri
from orchestrator.tracking.views import supports_views, views

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.tracking.cursor import Cursor
    from orchestrator.tracking.views import PreparedView

MAX_RUNS_IN_ADDRESS = 100  # a longer list makes an address that browsers cut
RUNS_LOADED = 100
"""Runs that MLflow's pages load at a time."""
SERVED_HERE = "http://127.0.0.1:5000"
"""Address of ``ravel ui``."""
ANSWER_S = 5


class Links(NamedTuple):
    """Addresses of MLflow's pages over one sweep, and the version that serves them; None if it is unknown.

    ``views`` are name, title and address of each prepared view; none for a version that was not tested with them.
    """

    version: str | None
    views: tuple[tuple[str, str, str], ...]
    compare: str
    runs: str

    @property
    def first(self) -> str:
        """Address of the page to open first."""
        return self.views[0][2] if self.views else self.compare

    def lines(self, *, trials: int) -> list[str]:
        """Return the addresses with their titles, and what is to know about them."""
        lines = []
        if not self.views:
            unknown = "the MLflow server does not report its version"
            reason = unknown if self.version is None else f"MLflow is {self.version}"
            lines.append(f"{reason}, so no prepared views (tested with 3.17); its plain pages:")
        elif trials > RUNS_LOADED:
            rest = "the best first; press Load more for the rest"
            lines.append(f"MLflow's pages load {RUNS_LOADED} trials at a time, {rest}")
        covered = "all trials" if trials <= MAX_RUNS_IN_ADDRESS else f"the first {MAX_RUNS_IN_ADDRESS} trials"
        plain = {
            f"plain: parallel coordinates, scatter and contour over {covered} (choose the axes there)": self.compare,
            "plain: table and charts of the sweep's runs": self.runs,
        }
        titled = {**{title: address for _, title, address in self.views}, **plain}
        return [*lines, *(f"{title}:\n  {address}" for title, address in titled.items())]


def links(plan: SweepPlan, cursor: Cursor, *, server: str = "") -> Links:
    """Return the addresses of a sweep's pages at a server; by default the sweep's own, or that of ``ravel ui``."""
    uri = tracking_uri(plan)
    base = server_address(server or (uri if uri.startswith("http") else SERVED_HERE))
    version = served_version(base, uri)
    prepared = views(plan) if version is not None and supports_views(version) else ()
    return Links(
        version=version,
        views=tuple((view.name, view.title, view_page(base, cursor, view)) for view in prepared),
        compare=compare_page(base, cursor),
        runs=runs_page(base, cursor, plan.sweep),
    )


def runs_page(base: str, cursor: Cursor, sweep: str) -> str:
    """Return the address of MLflow's table and charts of one sweep's trials."""
    search = urllib.parse.quote(f"tags.`ravel.sweep` = '{sweep}' and tags.`ravel.kind` = 'trial'")
    return f"{_experiment_page(base, cursor, mode='CHART')}&searchFilter={search}"


def view_page(base: str, cursor: Cursor, view: PreparedView) -> str:
    """Return the address of a prepared view. It holds the view's key alone, or else the pages would not open it.

    Example:
        >>> from orchestrator.tracking.cursor import Cursor
        >>> from orchestrator.tracking.views import PreparedView
        >>> table = PreparedView("table", "ravel-digits-1-table", "all trials", "TABLE", {})
        >>> view_page("http://host", Cursor(experiment="1"), table).partition("&")[2]
        'compareRunsMode=TABLE&viewStateShareKey=ravel-digits-1-table'
    """
    return f"{_experiment_page(base, cursor, mode=view.mode)}&viewStateShareKey={urllib.parse.quote(view.key)}"


def compare_page(base: str, cursor: Cursor) -> str:
    """Return the address of MLflow's compare page (parallel coordinates, scatter, box, contour) of a sweep's trials.

    Example:
        >>> from orchestrator.tracking.cursor import Cursor
        >>> compare_page("http://127.0.0.1:5000", Cursor(experiment="1", runs={"t000": "ab"}))
        'http://127.0.0.1:5000/#/compare-runs?runs=%5B%22ab%22%5D&experiments=%5B%221%22%5D&workflowType=machine_learning'
    """
    runs = urllib.parse.quote(json.dumps(list(cursor.runs.values())[:MAX_RUNS_IN_ADDRESS]))
    experiments = urllib.parse.quote(json.dumps([cursor.experiment]))
    return f"{server_address(base)}/#/compare-runs?runs={runs}&experiments={experiments}&workflowType=machine_learning"


def served_version(base: str, uri: str, *, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the version of MLflow whose pages are at ``base``; None if it is unknown.

    The server at ``base`` is asked first. If none answers, and the store at ``uri`` is not a server, then ``ravel ui``
    will serve it: the version is the one installed here.
    """
    answered = _answered_version(base, uri, environ)
    return answered if answered is not None or uri.startswith("http") else _installed_version()


def _experiment_page(base: str, cursor: Cursor, *, mode: str) -> str:
    page = f"{server_address(base)}/#/experiments/{cursor.experiment}/runs"
    return f"{page}?workflowType=machine_learning&compareRunsMode={mode}"


def _answered_version(base: str, uri: str, environ: Mapping[str, str]) -> str | None:
    address = server_address(base)
    if not address.startswith(("http://", "https://")):
        return None
    request = urllib.request.Request(f"{address}/version")  # noqa: S310  http(s) alone
    known = login(uri, environ) if address == server_address(uri) else None  # a login is for its own server
    if known is not None:
        request.add_unredirected_header("Authorization", known.header)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310  as above
            text = answer.read(64).decode()
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return text if re.fullmatch(r"\d+\.\d+[\w.+-]*", text) else None


def _installed_version() -> str | None:
    try:
        return version("mlflow")
    except PackageNotFoundError:
        return None
