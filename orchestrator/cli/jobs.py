"""Sweeps as Ray jobs: submitted, attached to and stopped from any machine that reaches the dashboard."""

from __future__ import annotations

import re
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from orchestrator.cli.shared.arguments import Address  # noqa: TC001  typer reads it
from orchestrator.errors import Interrupted, SpecError, quoted
from orchestrator.execution.cluster import submission
from orchestrator.execution.cluster.addresses import OPTION, chosen_address, kind_of
from search_spaces import Problem

if TYPE_CHECKING:
    from orchestrator.execution.cluster.jobs import Dashboard, Job
    from orchestrator.execution.cluster.submission import Submission
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.sweep_folder import SweepFolder

SweepId = Annotated[
    str,
    typer.Argument(metavar="SWEEP", help="Id of a submitted sweep, or a name for the latest."),
]
PANEL = "Run"
BEGUN = re.compile(r"^\S+: \d+ trials of at most \d+ epochs", re.MULTILINE)
"""Line with which the driver of a job says that its sweep has begun."""

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="List and stop the sweeps that were submitted to a cluster.")
app.add_typer(group, name="jobs", rich_help_panel=PANEL)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel attach digits-20261129-101500-ab12")
def attach(sweep: SweepId, address: Address = None) -> None:
    """Follow the output of a sweep that was submitted to a cluster.

    Exit with the code of the sweep. Ctrl-C detaches, and leaves the sweep as it is.
    """
    dashboard = _dashboard(address)
    _follow(dashboard, dashboard.find(sweep))


@group.command("list", epilog="Example: ravel jobs list --address http://head:8265")
def list_jobs(address: Address = None) -> None:
    """List the sweeps that were submitted to a cluster, oldest first."""
    for job in _dashboard(address).jobs():
        started = (
            f"{datetime.fromtimestamp(job.started_s, UTC).astimezone():%Y-%m-%d %H:%M:%S}" if job.started_s else "-"
        )
        typer.echo(f"{started}  {job.status.lower():9}  {job.id}")


@group.command(epilog="Example: ravel jobs stop digits-20261129-101500-ab12")
def stop(sweep: SweepId, address: Address = None) -> None:
    """Stop a submitted sweep as Ctrl-C stops one of this machine.

    Nothing measured is lost, and the sweep can be resumed.
    """
    from orchestrator.execution.cluster.jobs import sweep_of  # noqa: PLC0415

    dashboard = _dashboard(address)
    job = dashboard.find(sweep)
    if job.is_over:
        typer.echo(f"{job.id}: has ended already ({job.status.lower()})")
        return
    stopped = dashboard.stop(job)
    typer.echo(f"{job.id}: {stopped.status.lower()}; nothing measured is lost")
    typer.echo(f"resume it with: ravel resume STORAGE/{sweep_of(job.id)} {OPTION} {dashboard.address}")


def refuse_elsewhere(options: dict[str, bool]) -> None:
    """Refuse options of a submission where the driver runs on this machine.

    Raises:
        SpecError: names them.
    """
    requirement = f"is for {OPTION} http://HOST:8265, where the cluster runs the driver; leave it out here"
    problems = [Problem(name, requirement) for name, is_set in options.items() if is_set]
    if problems:
        raise SpecError(problems)


def launch(spec: SweepSpec, address: str, *, shared_results: bool, detach: bool, dry_run: bool) -> None:
    """Submit a new sweep to a dashboard; follow it, or return when it has begun."""
    from orchestrator.execution.preflight import files_to_send  # noqa: PLC0415
    from orchestrator.execution.processes.limits import check_unbatched  # noqa: PLC0415
    from orchestrator.state.sweep_lookup import new_id  # noqa: PLC0415

    submission.check_submission(
        spec, storage=spec.storage.uri, tracking=spec.tracking.uri, shared_results=shared_results
    )
    check_unbatched(spec.resources, address)
    dashboard = _dashboard(address)
    files = files_to_send(spec, Path.cwd(), address=address)
    if dry_run:
        typer.echo(f"ready to submit to {dashboard.address}; data, models and storage are checked by the job")
        return
    sweep = new_id(spec.name, now=datetime.now(UTC))
    with submission.launch_job(spec, sweep, files) as job:
        _submit(dashboard, job, detach=detach)


def resume(folder: SweepFolder, address: str, *, shared_results: bool, detach: bool) -> None:
    """Submit the rest of a sweep to a dashboard; follow it, or return when it has begun."""
    from orchestrator.execution.preflight import files_to_send  # noqa: PLC0415
    from orchestrator.execution.processes.limits import check_unbatched  # noqa: PLC0415
    from orchestrator.planning.plan import SweepPlan  # noqa: PLC0415

    plan = SweepPlan.load(folder)
    uri = folder.uri if folder.remote is not None else str(folder.path.resolve())
    storage = uri.rpartition("/")[0]
    submission.check_submission(plan.spec, storage=storage, tracking=plan.tracking_uri, shared_results=shared_results)
    check_unbatched(plan.spec.resources, address)
    dashboard = _dashboard(address)
    files = files_to_send(plan.spec, Path(plan.working_directory), address=address)
    name = f"{folder.sweep}.resume-{secrets.token_hex(2)}"
    with submission.resume_job(uri, name, files) as job:
        _submit(dashboard, job, detach=detach)


def _submit(dashboard: Dashboard, job: Submission, *, detach: bool) -> None:
    dashboard.submit(job)
    typer.echo(f"submitted {job.id} to {dashboard.address}")
    _follow(dashboard, dashboard.job(job.id), detach=detach)


def _follow(dashboard: Dashboard, job: Job, *, detach: bool = False) -> NoReturn:
    from orchestrator.execution.cluster.jobs import exit_code, sweep_of  # noqa: PLC0415

    sweep = sweep_of(job.id)
    ways = (f"attach: ravel attach {sweep}", f"stop:   ravel jobs stop {sweep}")
    try:
        ended = dashboard.follow(job.id, _write, until=_has_begun if detach else None)
    except KeyboardInterrupt:
        typer.echo("\ndetached; the sweep goes on", err=True)
        for way in ways:
            typer.echo(f"{way} {OPTION} {dashboard.address}", err=True)
        raise typer.Exit(Interrupted.exit_code) from None
    if detach and not ended.is_over:
        for way in ways:
            typer.echo(f"{way} {OPTION} {dashboard.address}")
        raise typer.Exit(0)
    raise typer.Exit(exit_code(ended))


def _has_begun(output: str) -> bool:
    return BEGUN.search(output) is not None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _dashboard(option: str | None) -> Dashboard:
    from orchestrator.execution.cluster.jobs import Dashboard  # noqa: PLC0415

    address = chosen_address(option)
    if kind_of(address) != "dashboard":
        requirement = "must be http://HOST:PORT of the cluster's dashboard, or RAY_ADDRESS must be"
        raise SpecError([Problem(OPTION, f"{requirement}; got {quoted(address)}")])
    return Dashboard(address)
