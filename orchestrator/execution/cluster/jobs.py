"""Ray Jobs: submit a sweep to the dashboard of a cluster, follow its output, and stop it."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import socket
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import Interrupted, OrchestratorError, PreflightError, SweepNotFound
from orchestrator.execution.cluster.addresses import OPTION
from orchestrator.execution.cluster.authentication import enter_mode, token_here, uses_token
from orchestrator.execution.cluster.gcs import mode_problem, number_problem, refused_token
from orchestrator.execution.cluster.submission import STOP_WAIT_S
from orchestrator.redaction import one_line
from orchestrator.state.sweep_lookup import STAMP_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.execution.cluster.submission import Submission

ANSWER_S = 4.0
POLL_S = 1.0
TRIES = 5
AGENT_S, NO_AGENT = 60.0, "No available agent"
NO_AGENT_HINT = "; see dashboard_agent.log on the head: another process may have its port 52365"
"""A head that has just started refuses jobs until its agent is up."""
FAILED = 1
JOB_MANAGER = "INFO job_manager.py"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A sweep's job: ``sweep`` names it, ``status`` is Ray's (PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED)."""

    id: str
    status: str
    started_s: float
    exit_code: int | None

    @property
    def is_over(self) -> bool:
        """Return True if the job has ended."""
        return self.status in {"STOPPED", "SUCCEEDED", "FAILED"}


class Output:
    r"""Output of a job: each connection receives it from the start, and it is written once.

    >>> output = Output(lambda text: print(text, end=""))
    >>> for received in ("one\n", "o", "one\ntwo\n"):
    ...     output.show(received)
    one
    two
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.text, self._write = "", write

    def show(self, received: str) -> None:
        """Write what was received beyond the output so far."""
        if len(received) > len(self.text):
            self._write(received[len(self.text) :])
            self.text = received


class Dashboard:
    """Dashboard of a cluster; its jobs outlive this process.

    Args:
        address: ``http://HOST:PORT``.

    Raises:
        PreflightError: it cannot be reached, asks for another token, or runs another Ray.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        check(self.address)
        enter_mode()
        from ray._private.runtime_env import packaging  # noqa: PLC0415
        from ray.dashboard.modules import dashboard_sdk  # noqa: PLC0415
        from ray.dashboard.modules.job import sdk  # noqa: PLC0415
        from ray.job_submission import JobSubmissionClient  # noqa: PLC0415

        self._client = JobSubmissionClient(self.address)
        for module in (dashboard_sdk, packaging, sdk):  # they say what is uploaded and closed
            logging.getLogger(module.__name__).setLevel(logging.ERROR)

    def submit(self, submission: Submission) -> None:
        """Submit a job.

        Raises:
            PreflightError: the cluster refuses it.
        """
        deadline = time.monotonic() + AGENT_S
        while True:
            try:
                self._client.submit_job(
                    entrypoint=submission.entrypoint,
                    submission_id=submission.id,
                    runtime_env=dict(submission.runtime_env),
                    metadata={"ravel": "1", "host": socket.gethostname()},
                )
            except (RuntimeError, OSError, ValueError) as error:  # as Ray raises them
                if NO_AGENT not in str(error) or time.monotonic() > deadline:
                    problem = (
                        f"the job was refused ({one_line(error)}){NO_AGENT_HINT if NO_AGENT in str(error) else ''}"
                    )
                    raise PreflightError([f"{OPTION} {self.address}: {problem}"]) from error
                time.sleep(POLL_S)
            else:
                return

    def jobs(self) -> list[Job]:
        """Return the jobs of sweeps, oldest first."""
        details = [job for job in self._client.list_jobs() if (job.metadata or {}).get("ravel")]
        return sorted((_job_of(job) for job in details), key=lambda job: job.started_s)

    def find(self, sweep: str) -> Job:
        """Return the newest job of a sweep: that of its launch, or of a resume. A name is that of its latest sweep.

        Raises:
            SweepNotFound: no job is of that sweep.
        """
        jobs = self.jobs()
        for job in reversed(jobs):
            if sweep in {job.id, sweep_of(job.id), STAMP_SUFFIX.sub("", sweep_of(job.id))}:
                return job
        names = ", ".join(dict.fromkeys(sweep_of(job.id) for job in jobs[-5:])) or "none"
        raise SweepNotFound(f"{sweep}: no job of a sweep of that name at {self.address}; it has {names}")

    def job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return _job_of(self._client.get_job_info(job_id))

    def follow(self, job_id: str, write: Callable[[str], None], *, until: Callable[[str], bool] | None = None) -> Job:
        """Write the output of a job from its beginning until it ends, and return the job.

        Args:
            job_id: the job.
            write: takes each piece of the output.
            until: returns True for the output so far if following may end before the job does.

        Raises:
            PreflightError: the dashboard no longer answers; the job may still run.
        """
        import aiohttp  # noqa: PLC0415  a dependency of Ray's dashboard

        output, failures = Output(write), 0
        while True:
            try:
                asyncio.run(self._tail(job_id, output, until))
                job = self.job(job_id)
                if job.is_over or (until is not None and until(output.text)):
                    return job
            except (RuntimeError, OSError, aiohttp.ClientError) as error:
                failures += 1
                if failures > TRIES:
                    problem = f"no longer answers ({one_line(error)}); the sweep may still run"
                    raise PreflightError([f"{OPTION} {self.address}: {problem}"]) from error
            time.sleep(POLL_S)

    async def _tail(self, job_id: str, output: Output, until: Callable[[str], bool] | None) -> None:
        received = ""
        async for piece in self._client.tail_job_logs(job_id):
            received += piece
            output.show(of_the_command(received))
            if until is not None and until(output.text):
                break

    def stop(self, job: Job) -> Job:
        """Stop a job as Ctrl-C stops a sweep, and return it when it has ended.

        Raises:
            OrchestratorError: it still runs.
        """
        self._client.stop_job(job.id)
        deadline = time.monotonic() + STOP_WAIT_S + 10
        while not (now := self.job(job.id)).is_over:
            if time.monotonic() > deadline:
                raise OrchestratorError(f"{job.id}: still {now.status} {STOP_WAIT_S + 10} s after it was asked to stop")
            time.sleep(POLL_S)
        return now


def of_the_command(output: str) -> str:
    r"""Return the output of a job without the line that Ray's job manager writes before the command's own.

    >>> of_the_command("2026-11-29 14:50:14,679\tINFO job_manager.py:581 -- Runtime env is setting up.\nRunning")
    'Running'
    >>> of_the_command("sweep.json: 12 trials\n"), of_the_command("2026-11-29 14:50")  # the line may still come
    ('sweep.json: 12 trials\n', '')
    """
    first, newline, rest = output.partition("\n")
    if not newline:
        return ""
    return rest if JOB_MANAGER in first else output


def sweep_of(job_id: str) -> str:
    """Return the sweep of a job.

    >>> sweep_of("digits-20261129-101500-ab12"), sweep_of("digits-20261129-101500-ab12.resume-3f9c")
    ('digits-20261129-101500-ab12', 'digits-20261129-101500-ab12')
    """
    return job_id.partition(".resume-")[0]


def exit_code(job: Job) -> int:
    """Return the exit code of the sweep that a job ran; 130 for one that was stopped.

    >>> exit_code(Job("digits", "FAILED", 0.0, 3)), exit_code(Job("digits", "STOPPED", 0.0, None))
    (3, 130)
    """
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        return Interrupted.exit_code
    return FAILED if job.exit_code is None else job.exit_code


def _job_of(details: Any) -> Job:
    status = getattr(details.status, "value", details.status)
    return Job(details.submission_id, str(status), (details.start_time or 0) / 1000, details.driver_exit_code)


def check(address: str) -> None:
    """Ask a dashboard for its version, without the token and with it, which takes seconds.

    Raises:
        PreflightError: says what is wrong.
    """
    problem = None
    try:
        code, _ = _get(f"{address}/api/version", token=None)
        token = token_here() if uses_token() else None
        problem = mode_problem(asks_for_token=code in {401, 403}, token=token)
        if problem is None:
            code, body = _get(f"{address}/api/version", token=None if token is None else token.text)
            problem = _answer_problem(code, body) if code not in {401, 403} else refused_token(token)
    except urllib.error.URLError as error:
        problem = _unreachable(error.reason)
    except http.client.HTTPException:
        problem = _no_dashboard("it speaks no HTTP")
    except OSError as error:
        problem = _unreachable(error)
    if problem is not None:
        raise PreflightError([f"{OPTION} {address}: {problem}"])


def nodes_of(address: str) -> list[dict[str, Any]]:
    """Return what a dashboard that was checked says about each node: ``hostname``, ``ip``, ``cpus``, ``mem``, ...

    Raises:
        PreflightError: it does not say it.
    """
    token = token_here() if uses_token() else None
    try:
        _, body = _get(f"{address.rstrip('/')}/nodes?view=summary", token=None if token is None else token.text)
        return list(json.loads(body)["data"]["summary"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        problem = "the dashboard does not list its nodes; see dashboard.log on the head"
        raise PreflightError([f"{OPTION} {address}: {problem}"]) from error


def _get(url: str, *, token: str | None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={} if token is None else {"Authorization": f"Bearer {token}"})  # noqa: S310  http or https, as its kind was checked
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as reply:  # noqa: S310
            return reply.status, reply.read(100_000)
    except urllib.error.HTTPError as error:
        return error.code, b""


def _answer_problem(code: int, body: bytes) -> str | None:
    try:
        number = json.loads(body)["ray_version"]
    except (ValueError, KeyError, TypeError):
        return _no_dashboard(f"it answers {code}" if code != 200 else "it answers with something else")
    return number_problem(number)


def _no_dashboard(reason: str) -> str:
    return f"what listens on that port is no dashboard of Ray ({reason}); the dashboard's port is 8265 by default"


def _unreachable(reason: object) -> str:
    if isinstance(reason, socket.gaierror):
        return "no host has that name; check it"
    if isinstance(reason, ConnectionRefusedError):
        remedy = "start the head with `ray start --head --dashboard-host=0.0.0.0`, and with ray[default] installed"
        return f"nothing listens on that port; {remedy}"
    if isinstance(reason, TimeoutError):
        return f"no answer within {ANSWER_S:.0f} s; check the address, the network and the firewall"
    text = os.strerror(reason.errno) if isinstance(reason, OSError) and reason.errno else str(reason)
    return f"cannot be reached ({text}); check the address"
