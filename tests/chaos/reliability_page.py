"""The page docs/reliability.md, written from the outcomes of runs.

    python tests/chaos/reliability_page.py

It reads docs/reliability.jsonl, to which ``make chaos`` and ``make kills`` append with RAVEL_CHAOS_RESULTS.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "kills")]

from outcomes import read  # noqa: E402  after the folder that it is in

if TYPE_CHECKING:
    from collections.abc import Iterable

RESULTS, PAGE = ROOT / "docs" / "reliability.jsonl", ROOT / "docs" / "reliability.md"
TEMPLATE = Path(__file__).with_name("reliability.template.md")
HEAD = (
    *("runs", "of them broken", "retries", "points, trials, decisions lost or doubled"),
    *("noticed after, s", "driver ended after, s"),
)
HOW = {
    "raylet killed": "kill -9 of the raylet",
    "GCS killed": "kill -9 of the GCS",
    "SIGTERM to the group": "SIGTERM to the driver's process group",
    "SIGINT twice": "Ctrl-C twice within 0.2 to 2 s",
    "driver stopped": "SIGSTOP of the driver for 20 s",
    "all stopped": "SIGSTOP of the driver and of Ray for 20 s",
}
ON_CLUSTER = {
    "worker killed": "kill -9 of a worker",
    "raylet killed": "kill -9 of the raylet of a node that is not the head",
    "raylet stopped": "SIGSTOP of that raylet for 1 to 20 s",
    "head killed": "kill -9 of the head's GCS, or of its GCS and raylet",
    "driver killed": "kill -9 of the driver",
    "MLflow server killed": "kill -9 of the MLflow server, back after 1 to 15 s",
    "PostgreSQL killed": "kill -9 of PostgreSQL, back after 0.5 to 15 s",
    "S3 killed": "kill -9 of the S3 server, back after 1 to 20 s",
    "disk full": "no byte left on the disk of the sweep for 1 to 15 s",
    "two orders": "two of `ravel extend` and `ravel stop` at once",
    "link cut": "the link of a node cut for 2 to 30 s",
    "clock step": "the clock of the driver's machine steps by an hour",
}
Run: TypeAlias = dict[str, Any]
SUITES = {"chaos": ON_CLUSTER, "kills": HOW}


def row(how: str, runs: list[Run]) -> str:
    """Return the row of a fault."""
    lost = [sum(run["lost"].get(kind, 0) for run in runs) for kind in ("points", "trials", "decisions")]
    cells = [
        how,
        str(len(runs)),
        str(sum(bool(run["faults"]) for run in runs)),
        str(sum(run["retries"] for run in runs)),
        ", ".join(map(str, lost)),
        seconds(run["noticed_s"] for run in runs),
        seconds(run["seconds"] for run in runs),
    ]
    return f"| {' | '.join(cells)} |"


def seconds(values: Iterable[float | None]) -> str:
    """Return the median and the largest of some times, and how many there are if some are missing.

    >>> seconds([1.0, 3.0, 2.0]), seconds([1.0, None]), seconds([None])
    ('2.0 (at most 3.0)', '1.0 (at most 1.0; 1 of 2)', '')
    """
    values = list(values)
    known = [value for value in values if value is not None]
    if not known:
        return ""
    count = "" if len(known) == len(values) else f"; {len(known)} of {len(values)}"
    return f"{statistics.median(known):.1f} (at most {max(known):.1f}{count})"


def table(suite: str, outcomes: list[Run]) -> str:
    """Return the table of a suite, with a row for each fault that was run."""
    by_fault = defaultdict[str, list[Run]](list)
    for outcome in outcomes:
        if outcome["suite"] == suite:
            by_fault[outcome["kind"]].append(outcome)
    if not by_fault:
        return f"No run of `make {suite}` is in the file.\n"
    lines = [f"| what happens | {' | '.join(HEAD)} |", "|---" * (len(HEAD) + 1) + "|"]
    lines += [row(how, by_fault[fault]) for fault, how in SUITES[suite].items() if fault in by_fault]
    return "\n".join(lines) + "\n"


def machines(outcomes: Iterable[Run]) -> str:
    """Return a line for each machine and revision, with the number of its runs."""
    counts = defaultdict[tuple[str, str], int](int)
    for outcome in outcomes:
        machine = outcome["machine"]
        text = (
            f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}, "
            f"Ray {machine['ray']}"
        )
        counts[text, outcome["revision"]] += 1
    return "".join(f"- {count} at `{revision}`: {text}\n" for (text, revision), count in counts.items())


def broken(outcomes: Iterable[Run]) -> str:
    """Return a line for each run that broke something."""
    lines = [
        f"- {outcome['kind']}, seed {outcome['seed']}, at `{outcome['revision']}`: {'; '.join(outcome['faults'])}\n"
        for outcome in outcomes
        if outcome["faults"]
    ]
    return "".join(lines) or "None.\n"


def page(outcomes: list[Run]) -> str:
    """Return the page."""
    return TEMPLATE.read_text().format(
        num=len(outcomes),
        chaos=table("chaos", outcomes),
        kills=table("kills", outcomes),
        machines=machines(outcomes),
        broken=broken(outcomes),
    )


if __name__ == "__main__":
    PAGE.write_text(page(list(read(RESULTS))))
    print(f"wrote {PAGE.relative_to(ROOT)}")
