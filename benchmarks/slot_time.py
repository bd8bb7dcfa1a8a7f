"""Where the time of a sweep goes: shares of slot time, start, further trials, slots to fill, and flame graphs.

Times are those of the sweep's own log: an epoch began at its report less `time/epoch_s`, and its training steps took
its images by `time/images_per_s`. Each round launches all ways, one after the other; a value is the median of the
rounds, with the smallest and the largest. Sweeps train PreActResNets on one thread a slot, on as many images as an
epoch needs to last so long; ASHA stops and changes trials meanwhile, and MLflow is written, as in any sweep.

    python benchmarks/slot_time.py                               all, printed: about an hour on two idle cores
    python benchmarks/slot_time.py list                          units, and minutes
    python benchmarks/slot_time.py run --results benchmarks/limits/slot_time.jsonl
    python benchmarks/slot_time.py run --stages share --sizes 500 --rounds 1
    python benchmarks/slot_time.py flames                        docs/images/flame-start.svg and flame-epochs.svg
    python benchmarks/slot_time.py write                         tables of docs/benchmarks.md

    commands   whole commands that run nothing, five times each
    start      from `ravel launch` to the first steps of SIZE slots that train; Ray's own start by itself
    fill       the same with trials that do nothing: SIZE slots against one
    share      slot time of two slots in training steps, for epochs of SIZE milliseconds

A unit that has a line in the file of results is skipped; --again measures it once more, and the last line counts.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from limits import flames, launches
from limits.account import changes, epochs_of, shares, start
from ray_start import measure as ray_started
from scale.markers import MISSING, table, with_extremes, write
from scale.results import ROOT, Results, Row, busy_cores, machines, spread

WAYS = ("processes", "local")
RESULTS = ROOT / "benchmarks/limits/slot_time.jsonl"
PAGE = ROOT / "docs/benchmarks.md"
RUN = "`python benchmarks/slot_time.py run --results benchmarks/limits/slot_time.jsonl{}`"
WHOLE: Mapping[str, Sequence[int]] = {"commands": (5,), "start": (2,), "fill": (8, 64), "share": (500, 2000, 10_000)}
ROUNDS = 3
SLOTS, TRIALS, EPOCHS = 2, 8, 9
EPOCHS_OF_A_SLOT = 13
"""What ASHA leaves of 8 trials of 9 epochs, one of which is never stopped."""
START_EPOCH_S = 0.5
STEADY_EPOCH_S = 2.0
SHARE_GOALS = {500: 0.75, 2000: 0.90, 10_000: 0.95}
FILL_GOAL, FIRST_STEP_GOAL_S = 1.5, 3.0
Rows = Mapping[tuple[str, int], Row]
Values = dict[str, float]


class Unit(NamedTuple):
    """A stage at a size."""

    stage: str
    size: int


def units(stages: Sequence[str], sizes: Sequence[int]) -> list[Unit]:
    """Return the units of some stages, at these sizes or else those of the whole measurement.

    >>> [tuple(unit) for unit in units(["fill"], [4])]
    [('fill', 4)]
    """
    return [Unit(stage, size) for stage in WHOLE if stage in stages for size in sizes or WHOLE[stage]]


def predicted_s(unit: Unit, rounds: int) -> float:
    """Return the seconds that a unit takes on two idle cores, by a guess."""
    each = {"commands": 12, "start": 60, "fill": 80 + 2.5 * unit.size}
    if unit.stage == "share":
        return 30 + rounds * len(WAYS) * (25 + EPOCHS_OF_A_SLOT * unit.size / 1000)
    return (unit.size if unit.stage == "commands" else rounds) * each[unit.stage]


def measure(unit: Unit, *, rounds: int) -> Values:
    """Measure one unit."""
    with tempfile.TemporaryDirectory(prefix="st", dir="/tmp") as name:
        match unit.stage:
            case "commands":
                return commands(unit.size)
            case "start":
                work = launches.work_of(Path(name), START_EPOCH_S)
                alone = spread("ray alone_s", [ray_alone_s() for _ in range(rounds)])
                return {**filled(work, unit.size, rounds=rounds), **alone}
            case "fill":
                return filled(launches.NOTHING, unit.size, rounds=rounds)
            case _:
                return shared(launches.work_of(Path(name), unit.size / 1000), rounds=rounds)


def ray_alone_s() -> float:
    """Return the seconds from an empty process to a connection to a private Ray.

    Raises:
        SystemExit: Ray did not start.
    """
    seconds = ray_started("ravel", {})["ready_s"]
    if not math.isfinite(seconds):
        raise SystemExit("start: a private Ray must start here; python benchmarks/ray_start.py --pairs 1 shows more")
    return seconds


def commands(runs: int) -> Values:
    """Measure commands that train nothing, each in turn; status is that of a small sweep."""
    work = launches.Work({"data.name": "digits", "model.name": "mlp", "device": "cpu"}, images=0)
    spec = launches.spec_of(work, slots=1, trials=2, epochs=2)
    asked = {"help": ["--help"], "check": ["check", "sweep.yaml"], "status": ["status", "slots"]}
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    with launches.folder_of(spec) as folder:
        launches.seconds_of(launches.command("processes")[1:], folder)
        for _ in range(runs):
            for name, arguments in asked.items():
                seconds[name].append(launches.seconds_of(arguments, folder))
    return {key: value for name, found in seconds.items() for key, value in spread(f"{name}_s", found).items()}


def filled(work: launches.Work, slots: int, *, rounds: int) -> Values:
    """Measure the start of one slot and of so many, each in a sweep of its own that is ended then."""
    found: dict[str, list[float]] = {}
    for way in in_rounds(rounds):
        one, many = (
            start(launch.events, began=launch.began, slots=count)
            for count in (1, slots)
            for launch in (launches.launched(launches.spec_of(work, slots=count, trials=count), way, stop_after=count),)
        )
        values = {**many, "one_s": one["filled_s"], "ratio": many["filled_s"] / one["filled_s"]}
        for name, value in values.items():
            found.setdefault(f"{way} {name}", []).append(value)
    return {key: value for name, values in found.items() for key, value in spread(name, values).items()}


def shared(work: launches.Work, *, rounds: int, trials: int = TRIALS, epochs: int = EPOCHS) -> Values:
    """Measure the shares of slot time in whole sweeps."""
    found: dict[str, list[float]] = {}
    for way in in_rounds(rounds):
        launch = launches.launched(launches.spec_of(work, slots=SLOTS, trials=trials, epochs=epochs), way)
        ran = epochs_of(launch.events, images=work.images)
        for name, value in {**shares(ran), **changes(ran)}.items():
            found.setdefault(f"{way} {name}", []).append(value)
    return {key: value for name, values in found.items() for key, value in spread(name, values).items()}


def in_rounds(rounds: int) -> Iterator[str]:
    """Yield all ways in each round, in turned order.

    >>> list(in_rounds(2))
    ['processes', 'local', 'local', 'processes']
    """
    for number in range(rounds):
        yield from WAYS if number % 2 == 0 else reversed(WAYS)


def tables(rows: Rows) -> dict[str, str]:
    """Return each table by the name of its markers, with its command above."""
    made = {"share": share_table(rows), "start": start_table(rows), "commands": commands_table(rows)}
    blocks = {f"slot time {name}": f"{_command(name)}\n\n{text}" for name, text in made.items()}
    return {**blocks, "slot time flames": pictures(), "slot time machines": machines(rows)}


def pictures() -> str:
    """Return the flame graphs that are drawn, each with a link to the file, in which a click opens a frame."""
    words = {flames.START: "The start of a sweep.", flames.STEADY: "Steady epochs."}
    places = {path.relative_to(PAGE.parent): text for path, text in words.items() if path.exists()}
    lines = [f"{text} [![{text}]({path})]({path})" for path, text in places.items()]
    return "\n\n".join(lines) or f"{MISSING[0].upper()}{MISSING[1:]}."


def _command(name: str) -> str:
    return RUN.format(f" --stages {'start fill' if name == 'start' else name}")


def share_table(rows: Rows) -> str:
    """Return the shares of slot time, each with its goal."""
    head = ("epochs of", "", "in training steps", "goal", "in epochs, with evaluation", "goal", "an epoch, s")
    body = [
        (
            f"{size / 1000:g} s{row.mark}",
            f"`--address {way}`",
            with_extremes(row.values, f"{way} steps", ".1%"),
            _met(row.values[f"{way} steps"], goal=SHARE_GOALS.get(size)),
            with_extremes(row.values, f"{way} epochs", ".1%"),
            _met(row.values[f"{way} epochs"], goal=SHARE_GOALS.get(size)),
            _shown(row.values, f"{way} epoch_s"),
            _shown(row.values, f"{way} change_s"),
            _shown(row.values, f"{way} first_epoch"),
        )
        for (stage, size), row in sorted(rows.items())
        if stage == "share"
        for way in WAYS
    ]
    return table((*head, "to the first step of the next attempt, s", "its first epoch, to later ones"), body)


def start_table(rows: Rows) -> str:
    """Return the seconds from `ravel launch` to first steps, and what it takes to fill slots, each with its goal."""
    body = []
    for (stage, size), row in sorted(rows.items(), key=lambda unit: unit[0][1]):
        for way in WAYS if stage in {"start", "fill"} else ():
            values, is_bound = row.values, way == "processes" and stage == "start"
            first = _shown(values, f"{way} first_step_s")
            body.append(
                (
                    f"{size}{row.mark}, {'training' if stage == 'start' else 'doing nothing'}",
                    f"`--address {way}`",
                    _shown(values, "ray alone_s") if way == "local" and stage == "start" else "",
                    _shown(values, f"{way} driver_s"),
                    f"{first}, {_at_most(values[f'{way} first_step_s'], FIRST_STEP_GOAL_S)}" if is_bound else first,
                    _shown(values, f"{way} one_s"),
                    _shown(values, f"{way} filled_s"),
                    f"{_shown(values, f'{way} ratio')}, {_at_most(values[f'{way} ratio'], FILL_GOAL)}",
                )
            )
    head = ("slots", "", "Ray alone, s", "driver ready, s", f"first step, s (goal: {FIRST_STEP_GOAL_S:g})")
    return table((*head, "one slot filled, s", "all filled, s", f"all to one (goal: {FILL_GOAL:g})"), body)


def commands_table(rows: Rows) -> str:
    """Return the seconds of commands that train nothing."""
    names = {"help": "`ravel --help`", "check": "`ravel check SPEC`", "status": "`ravel status SWEEP`"}
    body = [
        (f"{words}{row.mark}", _shown(row.values, f"{name}_s"))
        for (stage, _), row in rows.items()
        if stage == "commands"
        for name, words in names.items()
    ]
    return table(("", "s"), body)


def _met(share: float, *, goal: float | None) -> str:
    return "" if goal is None else f"{goal:.0%}: {'met' if share >= goal else 'missed'}"


def _at_most(value: float, goal: float) -> str:
    return "met" if value <= goal else "missed"


def _shown(values: Mapping[str, float], name: str) -> str:
    return with_extremes(values, name, ".2f") if name in values else MISSING


def draw() -> None:
    """Draw the flame graphs of sweeps in worker processes."""
    with tempfile.TemporaryDirectory(prefix="st", dir="/tmp") as name:
        for draw_one, epoch_s in ((flames.start, START_EPOCH_S), (flames.steady, STEADY_EPOCH_S)):
            work = launches.work_of(Path(name), epoch_s)
            draw_one(launches.spec_of(work, slots=SLOTS, trials=SLOTS), "processes")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["run", "list", "write", "flames"], default="run")
    parser.add_argument("--stages", nargs="+", choices=WHOLE, default=list(WHOLE), metavar="STAGE")
    parser.add_argument("--sizes", nargs="+", type=int, default=[], help="in the place of the whole sizes")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--results", type=Path, help="file of results; without one they are printed alone")
    parser.add_argument("--again", action="store_true", help="measure what has a line, too")
    options = parser.parse_args()
    results = Results(options.results)
    match options.command:
        case "write":
            write(tables(Results(RESULTS).rows()), PAGE)
        case "flames":
            draw()
        case command:
            left = [u for u in units(options.stages, options.sizes) if options.again or tuple(u) not in results.rows()]
            for number, unit in enumerate(left):
                minutes = sum(predicted_s(other, options.rounds) for other in left[number:]) / 60
                print(f"{unit.stage} {unit.size:,}: {minutes:.0f} min left", flush=True)
                if command == "run":
                    busy = busy_cores()
                    results.append(*unit, measure(unit, rounds=options.rounds), busy=busy)


if __name__ == "__main__":
    main()
