"""The same sweep by Ravel and by what people use today: run, compare, and write docs/benchmarks.md.

    python benchmarks/peers/peers.py setup                         virtual environments of the peers, in build/peers
    python benchmarks/peers/peers.py run --data-root FOLDER        what is missing; MNIST is in FOLDER/MNIST/raw
    python benchmarks/peers/peers.py list                          what is measured, and the time that is left
    python benchmarks/peers/peers.py write                         the page, from the stored results

A round runs each peer once, one after the other, in an order that is rotated from round to round. A run that is
stored is not run once more, so a command that was interrupted goes on. `--images 250 --points 3 --rungs 1 2 --rounds 1
--results FILE` makes a run of each that takes seconds, into a file of its own.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import environments
import page
from process_tree import measured
from programs import PROGRAMS, Program
from provenance import ROOT, machine, revision
from results import RESULTS, Result, Size, append_result, medians, read_results, refuse_others, summary
from settings import Settings

WORKS = ("plain", "regularized")
ROUNDS = 5
BUSY = 0.05
"""Share of the cores' time that other processes may have, before a run is said to be disturbed."""
VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "true",
}
"""A thread for each trial, as trials of all peers set in torch too; no statistics sent; Ray's workers at the niceness
of all other processes, so that what else the machine does costs no peer more than another."""


def order_of(names: Sequence[str], *, round_number: int) -> list[str]:
    """Return the peers in the order of a round: rotated by one from round to round.

    >>> order_of(["a", "b", "c"], round_number=1)
    ['b', 'c', 'a']
    """
    first = round_number % len(names)
    return [*names[first:], *names[:first]]


def missing(
    results: Sequence[Result], *, works: Sequence[str], names: Sequence[str], rounds: int, size: Size
) -> Iterator[tuple[str, str, int]]:
    """Yield the work, the peer and the round of each run that is not stored, in the order in which they are run."""
    stored = {result.key for result in results}
    for round_number in range(rounds):
        for work in works:
            for name in order_of(names, round_number=round_number):
                if (work, name, round_number, size) not in stored:
                    yield work, name, round_number


def run(options: argparse.Namespace) -> None:
    """Run what is missing, and store each result."""
    from preparation import prepare_database, prepare_images, prepare_run  # noqa: PLC0415  it imports torch, which the rest needs not

    size, stored = Size(options.images, options.points, tuple(options.rungs)), read_results(options.results)
    todo = list(missing(stored, **_scope(options), size=size))
    versions = {name: PROGRAMS[name].versions(options.environments) for name in dict.fromkeys(n for _, n, _ in todo)}
    refuse_others(stored, machine=machine(), versions=versions)
    with tempfile.TemporaryDirectory(prefix="rp", dir=options.work_folder) as text:
        folder = Path(text)
        if todo:
            prepare_images(folder, data_root=options.data_root, size=size)
            prepare_database(folder)
        for number, (work, name, round_number) in enumerate(todo):
            settings = prepare_run(folder, folder / str(number), work=work, size=size, seed=round_number)
            found = measured_run(settings, PROGRAMS[name], environments_folder=options.environments)
            shutil.rmtree(settings.folder)
            result = Result(work, name, round_number, size, versions=versions[name], **found)
            append_result(options.results, result)
            print(f"{work} {name}, round {round_number}: {result.wall_s:.0f} s, {result.epochs} epochs", flush=True)
            if result.others > BUSY:
                print(f"  disturbed: other processes had {100 * result.others:.0f} % of the cores' time", flush=True)


def measured_run(settings: Settings, program: Program, *, environments_folder: Path) -> dict[str, Any]:
    """Run a peer, and return what was measured, and where.

    Raises:
        SystemExit: the program fails, or does not train all points.
    """
    command = program.command(program.python(environments_folder), settings)
    environment = {**os.environ, **VARIABLES, "MLFLOW_TRACKING_URI": settings.tracking_uri}
    if program.environment is not None:
        environment.pop("PYTHONPATH", None)  # modules of the project are in no environment of a peer
    folder = Path(settings.folder)
    usage = measured(command, environment=environment, folder=folder, cores=settings.slots)
    found = summary(program.reports(settings), began=usage.began)
    if found["trials"] != len(settings.points):
        output = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-4000:]
        raise SystemExit(f"{program.title}: must train {len(settings.points)} trials, got {found['trials']}:\n{output}")
    return {
        "wall_s": round(usage.wall_s, 2),
        "cpu_s": round(usage.cpu_s, 1),
        "pss_mb": round(usage.pss_mb),
        "rss_mb": round(usage.rss_mb),
        "others": round(usage.others_cpu_s / usage.wall_s / settings.slots, 3),
        "time": round(usage.began),
        "revision": revision(),
        "machine": machine(),
        **found,
    }


def list_runs(options: argparse.Namespace) -> None:
    """Print what is measured, and the time that is left, as far as a run of the same kind is stored."""
    size, results = Size(options.images, options.points, tuple(options.rungs)), read_results(options.results)
    todo = list(missing(results, **_scope(options), size=size))
    left_s = 0.0
    for work in options.works:
        for name in options.peers:
            own = [result for result in results if (result.work, result.peer, result.size) == (work, name, size)]
            count = sum((work, name) == (one, other) for one, other, _ in todo)
            wall_s = medians(own, ["wall_s"])["wall_s"] if own else None
            left_s += count * (wall_s or 0.0)
            each = "" if wall_s is None else f", {wall_s / 60:.1f} minutes each"
            print(f"{work:12} {name:16} {len(own)} measured, {count} missing{each}")
    print(f"{left_s / 60:.0f} minutes left, of peers that have a run")


def _scope(options: argparse.Namespace) -> dict[str, Any]:
    return {"works": options.works, "names": options.peers, "rounds": options.rounds}


def setup(options: argparse.Namespace) -> None:
    """Make the environments of the peers, so that no run compiles what it imports."""
    wanted = {PROGRAMS[name].environment for name in options.peers}
    environments.make(options.environments, [name for name in environments.REQUIREMENTS if name in wanted])
    environments.compile_project()


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--environments", type=Path, default=ROOT / "build" / "peers")
    shared.add_argument("--peers", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    shared.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    shared.add_argument("--rounds", type=int, default=ROUNDS)
    shared.add_argument("--images", type=int, default=Size.images)
    shared.add_argument("--points", type=int, default=Size.points)
    shared.add_argument("--rungs", type=int, nargs="+", default=list(Size.rungs))
    shared.add_argument("--results", type=Path, default=RESULTS)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (("setup", setup), ("run", run), ("list", list_runs), ("write", page.write)):
        command = commands.add_parser(name, parents=[shared])
        command.set_defaults(function=function)
        if name == "run":
            command.add_argument("--data-root", type=Path, required=True)
            command.add_argument("--work-folder", type=Path, default=None, help="where folders of runs are made")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a run's processes are ended
    options.function(options)


if __name__ == "__main__":
    main()
