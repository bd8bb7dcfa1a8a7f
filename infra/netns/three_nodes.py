"""A Ray cluster of three machines with a token, used from a fourth: the real commands, and what they print.

    python infra/netns/three_nodes.py              # as root, on Linux; about five minutes, two cores and 8 GB suffice
    python infra/netns/three_nodes.py --keep DIR   # results, logs of Ray and outputs stay in DIR

The machines are namespaces of this one (`machines.py`): each has an address, a host name, processes and a /tmp of its
own, and power that can fail. They share one disk. The user's modules are on the laptop and on the desk, and on no
node.

The first story is one sweep: submitted from a laptop that is lost, followed and changed from a desk, on a cluster that
loses a machine without notice and gets another one. The second is two sweeps on the full cluster, of which one is
stopped and resumed. Every step is checked; the script ends with 1 at the first that fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cluster import PATIENT_S, CheckFailed, Cluster, check, wait_until
from machines import SHARED, Network, missing_tools

from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    EpochReported,
    OrderAccepted,
    SweepEnded,
    TrialCreated,
    TrialEnded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster import Terminal
    from machines import Command

    from orchestrator.state.events import Event

Kind = TypeVar("Kind")
NAMES = ("head", "one", "two", "three", "laptop", "desk")
DASHBOARD = "http://head:8265"
STORAGE = f"{SHARED}/results"
REFUSED_S = 30.0
"""Ray itself tries for longer. On an idle machine a refusal takes two seconds."""
FREED_S = 10.0
EPOCHS = 9
SLOW = f'''"""The training function of the template, with epochs that take longer until a file says otherwise."""

import time
from pathlib import Path

from training import train as quick

HURRY = Path("{SHARED}/hurry")


def train(context, lr: float, weight_decay: float = 0.0, batch_size: int = 32):
    for metrics in quick(context, lr, weight_decay, batch_size):
        if not HURRY.exists():
            time.sleep(6)
        yield metrics
'''
SPEC = f"""
name: digits
trial: {{task: "slow:train", epochs: {EPOCHS}}}
space:
  parameters:
    lr: {{float: [0.001, 10.0], log: true}}
    batch_size: {{choice: [16, 32, 64, 128]}}
objective: {{metric: val/accuracy, mode: max}}
search: {{sampler: "halton:propose", num_trials: 12, seed: 0}}
scheduler: {{grace_period: 4, reduction_factor: 2, kind: stopping, audit: 0.2}}
storage: {{uri: {STORAGE}}}
tracking: {{uri: "sqlite:///{SHARED}/mlflow.db"}}
"""
REPOSITORY = Path(__file__).parents[2]
PROJECT = {
    "sweep.yaml": SPEC,
    "slow.py": SLOW,
    "training.py": (REPOSITORY / "orchestrator/cli/templates/own-task/training.py").read_text(encoding="utf-8"),
    "halton.py": (REPOSITORY / "examples/halton.py").read_text(encoding="utf-8"),
}
"""A project of a user: a spec, a training function in two modules, and a sampler."""


def heading(text: str) -> None:
    """Print the title of a part."""
    print(f"\n## {text}\n", flush=True)


def the_cluster(cluster: Cluster) -> None:
    """Start the head and two machines."""
    heading("A head and two nodes, with a token")
    cluster.head()
    cluster.nodes("one", "two")


def refusals(laptop: Terminal) -> None:
    """Submit with the wrong token, without one, and with authentication off."""
    heading("A wrong token, none, and authentication switched off")
    line = f"ravel launch sweep.yaml --address {DASHBOARD} --detach --shared-results"
    expected = {
        "refuses the token of RAY_AUTH_TOKEN": {"RAY_AUTH_TOKEN": "not-the-token"},
        "asks for a token, and none is set": {"HOME": "/tmp"},  # noqa: S108  of that machine, and empty
        "asks for a token, and RAY_AUTH_MODE is disabled": {"RAY_AUTH_MODE": "disabled"},
    }
    for words, variables in expected.items():
        begun = time.monotonic()
        said = laptop.run(line, code=3, **variables)
        seconds = time.monotonic() - begun
        print(f"({seconds:.1f} s)\n", flush=True)
        check(f"the message must say that the cluster {words}", words in said)
        check(f"a refusal must take at most {REFUSED_S:g} s, took {seconds:.1f}", seconds <= REFUSED_S)


def submitted(terminal: Terminal, cluster: Cluster, settings: str = "") -> str:
    """Submit a sweep, and return its id when it has begun."""
    line = f"ravel launch sweep.yaml --address {DASHBOARD} --detach --shared-results{settings}"
    said = terminal.run(line).splitlines()
    sweep = next(line.split()[1] for line in said if line.startswith("submitted "))
    check(f"{sweep} must have a log", cluster.events(sweep))
    return sweep


def one_sweep(cluster: Cluster, laptop: Terminal, desk: Terminal) -> None:
    """Tell the first story."""
    heading("Submit from a laptop, and lose the laptop")
    sweep = submitted(laptop, cluster)
    attached = laptop.begin(f"ravel attach {sweep} --address {DASHBOARD}")
    wait_until("`ravel attach` must show the sweep", lambda: "trials of at most" in attached.text, attached)
    laptop.machine.power_off()
    print(f"{attached.text}(the laptop loses its power)\n", flush=True)
    check("the driver of the sweep must go on", not ended(cluster.events(sweep)))

    heading("Follow from a desk")
    interrupted(desk.begin(f"ravel attach {sweep} --address {DASHBOARD}"), "trials of at most", code=130)
    wait_until("a trial must have an epoch", lambda: of_kind(cluster.events(sweep), EpochReported))
    interrupted(desk.begin(f"ravel logs {sweep} --follow --storage {STORAGE}"), "epoch_reported", code=130)
    log = desk.begin(f"ravel logs {sweep} --follow --storage {STORAGE}")
    output = desk.begin(f"ravel attach {sweep} --address {DASHBOARD}")

    heading("Stop a trial, and add sixteen")
    trial = max(at_work(cluster.events(sweep)))
    desk.run(f"ravel stop {sweep} {trial} --storage {STORAGE}")
    desk.run(f"ravel extend {sweep} --trials +16 --storage {STORAGE}")

    heading("A machine fails, another one joins")
    wait_until("machine two must train", lambda: "two" in epochs_by_host(cluster.events(sweep)))
    cluster.machines["two"].power_off()
    failed_at = time.time()
    print("(machine two loses its power)", flush=True)
    cluster.nodes("three")
    wait_until("the lost trials must be noticed", lambda: of_kind(cluster.events(sweep), AttemptFailed), output)
    noticed = of_kind(cluster.events(sweep), AttemptFailed)[0]
    print(f"(its trials are given up {noticed.time - failed_at:.1f} s later)", flush=True)

    wait_until("machine three must train", lambda: "three" in epochs_by_host(cluster.events(sweep)), output)

    heading("The end of the sweep")
    cluster.hurry(now=True)
    check("`ravel attach` must end with 0", output.wait(PATIENT_S) == 0)
    print(output.text, flush=True)
    check("`ravel logs --follow` must end with 0", log.wait(60) == 0)
    print("\n".join(["...", *log.text.splitlines()[-3:]]), flush=True)
    for command in ("status", "replay", "audit"):
        desk.run(f"ravel {command} {sweep} --storage {STORAGE}")
    require_whole(cluster.events(sweep), trials=12 + 16, stopped=trial)
    print("\nepochs by host:", dict(epochs_by_host(cluster.events(sweep))), flush=True)


def two_sweeps(cluster: Cluster, desk: Terminal) -> None:
    """Tell the second story."""
    heading("Two sweeps on the full cluster")
    slots = 4
    cluster.hurry(now=False)
    long = "--set search.num_trials=6 --set trial.epochs=90 --set scheduler.grace_period=90"
    first = submitted(desk, cluster, f" --set name=first {long}")
    wait_until("the first sweep must fill the cluster", lambda: len(at_work(cluster.events(first))) == slots)
    second = submitted(desk, cluster, f" --set name=second {long}")
    wait_until("the second sweep must have a trial that waits", lambda: of_kind(cluster.events(second), TrialCreated))
    check("no more than one trial may wait", len(of_kind(cluster.events(second), TrialCreated)) == 1)
    desk.run(f"ravel stop {first} --storage {STORAGE}")
    wait_until("the second sweep must fill the cluster", lambda: len(at_work(cluster.events(second))) == slots)
    stopped, events = of_kind(cluster.events(first), SweepEnded)[0], cluster.events(second)
    # One trial more than the slots is handed out, and only when all others have their places.
    taken = of_kind(events, TrialCreated)[slots].time - stopped.time
    at_last = of_kind(events, AttemptStarted)[slots - 1].time - stopped.time
    print(f"(the second sweep has its slots {taken:.1f} s after the stop, and all workers after {at_last:.1f} s)\n")
    check(f"the slots must be taken within {FREED_S:g} s", taken <= FREED_S)
    desk.run(f"ravel resume {STORAGE}/{first} --address {DASHBOARD} --detach --shared-results")
    cluster.hurry(now=True)
    for sweep in (first, second):
        desk.run(f"ravel attach {sweep} --address {DASHBOARD}")
        desk.run(f"ravel replay {sweep} --storage {STORAGE}")
        require_whole(cluster.events(sweep), trials=6)
    desk.run(f"ravel list --storage {STORAGE}")
    desk.run(f"ravel jobs list --address {DASHBOARD}")


def interrupted(command: Command, words: str, *, code: int) -> None:
    """Press Ctrl-C when a command has printed the words, and print its output."""
    wait_until(f"the output must have {words!r}", lambda: words in command.text, command)
    command.interrupt()
    ended_with = command.wait(60)
    print(f"{shortened(command.text)}\n", flush=True)
    check(f"Ctrl-C must end it with {code}, got {ended_with}", ended_with == code)


def shortened(text: str, most: int = 12) -> str:
    """Return a text without the middle of its lines."""
    lines = text.rstrip().splitlines()
    return "\n".join(lines if len(lines) <= most else [*lines[: most // 2], "...", *lines[-most // 2 :]])


def of_kind(events: Iterable[Event], kind: type[Kind]) -> list[Kind]:
    """Return the events of a kind."""
    return [event for event in events if isinstance(event, kind)]


def ended(events: Iterable[Event]) -> bool:
    """Return True if the log has an end."""
    return bool(of_kind(events, SweepEnded))


def at_work(events: Iterable[Event]) -> set[str]:
    """Return the trials with a worker."""
    working = set[str]()
    for event in events:
        if isinstance(event, AttemptStarted):
            working.add(event.trial)
        elif isinstance(event, TrialEnded | AttemptFailed):
            working.discard(event.trial)
    return working


def epochs_by_host(events: Iterable[Event]) -> Counter[str]:
    """Return the epochs that each machine trained; the log names it as ``one (10.77.0.2)``."""
    hosts, epochs = dict[tuple[str, int], str](), Counter[str]()
    for event in events:
        if isinstance(event, AttemptStarted):
            hosts[event.trial, event.attempt] = (event.host or "").partition(" ")[0]
        elif isinstance(event, EpochReported):
            epochs[hosts[event.trial, event.attempt]] += 1
    return epochs


def require_whole(events: list[Event], *, trials: int, stopped: str = "") -> None:
    """Check that each trial ran, ended once, and has the epochs 1 to n.

    Raises:
        CheckFailed: names the trial.
    """
    end, epochs, reasons = of_kind(events, SweepEnded)[-1], defaultdict[str, set[int]](set), dict[str, str | None]()
    check(f"the sweep must be completed, got {end}", end.status == "completed")
    created = {event.trial for event in of_kind(events, TrialCreated)}
    check(f"{trials} trials must be created, got {len(created)}", len(created) == trials)
    check("every trial must be placed", created == {event.trial for event in of_kind(events, AttemptStarted)})
    for event in events:
        if isinstance(event, EpochReported):
            epochs[event.trial].add(event.epoch)
        if isinstance(event, TrialEnded) and event.status in {"completed", "stopped"}:
            check(f"{event.trial} must end once", event.trial not in reasons)
            reasons[event.trial] = event.reason
    check(f"every trial must end, got {sorted(created - reasons.keys())}", created == reasons.keys())
    for trial in created:
        check(f"{trial} must have epochs without a gap", epochs[trial] == set(range(1, len(epochs[trial]) + 1)))
    if stopped:
        check("the stopped trial must end by order", "ordered by" in (reasons[stopped] or ""))
        check("both orders must be accepted", len(of_kind(events, OrderAccepted)) == 2)


def tell(network: Network, story: str) -> None:
    """Tell one of the stories, or both."""
    cluster = Cluster(network)
    the_cluster(cluster)
    desk = cluster.with_project("desk", PROJECT)
    if story in {"one", "both"}:
        laptop = cluster.with_project("laptop", PROJECT)
        refusals(laptop)
        one_sweep(cluster, laptop, desk)
    if story in {"two", "both"}:
        two_sweeps(cluster, desk)


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="empty folder for results, logs and outputs")
    parser.add_argument("--story", choices=("one", "two", "both"), default="both", help="one sweep, or two at once")
    arguments = parser.parse_args()
    kept = arguments.keep
    if problem := missing_tools():
        print(f"error: no machines can be made here: {problem}", file=sys.stderr)
        return 2
    folder = tempfile.TemporaryDirectory(prefix="ravel-cluster-") if kept is None else nullcontext(kept)
    with folder as name, Network(Path(name).absolute(), *NAMES) as network:
        try:
            tell(network, arguments.story)
        except CheckFailed as failure:
            print(f"\nfailed: {failure}", file=sys.stderr)
            return 1
    print("\nevery step came out as it must")
    return 0


if __name__ == "__main__":
    sys.exit(main())
