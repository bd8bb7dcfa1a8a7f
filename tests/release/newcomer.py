"""Follow the README and the tutorial as a new user: an empty home, a wheel, and no variable of this project.

    python tests/release/newcomer.py dist/*.whl > docs/newcomer.md

Needs Python alone. With --folder, what was done stays there, and a run that was stopped continues after its last
command: each is done once, and its output and time are kept.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

SMALL = "--set search.num_trials=12 --set trial.epochs=9"
LIBRARY = "torch==2.13.0"  # pip takes the build for CPUs where its index has one
KEPT = ("LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "RAY_worker_niceness")  # and those of pip
COLUMNS = 120
LONGEST_LINES = 60
LIMIT_S = 3000.0


@dataclass(frozen=True)
class Step:
    """A command that the user types.

    `stop_after` is a line of its output after which they press Ctrl-C. A page shows `last` lines, if it is given.
    """

    heading: str
    command: str
    code: int = 0
    folder: str = "."
    stop_after: str | None = None
    last: int | None = None


@dataclass(frozen=True)
class Done:
    """A command that was run: what it printed, its seconds, and those until a trial had its first epoch."""

    command: str
    output: str
    code: int
    seconds: float
    epoch_s: float | None


def steps(wheel):
    """Return the commands of the README and the tutorial, up to the report."""
    work = "my-sweep"
    return [
        Step("Install", "python3 -m venv .venv && source .venv/bin/activate"),
        Step("Install", f"pip install '{LIBRARY}' './{wheel}[all]'", last=1),
        Step("Install", "ravel doctor"),
        Step("Get a spec", f"ravel init {work}"),
        Step("Check it", "ravel check sweep.yaml", folder=work),
        Step("Check it", "ravel check sweep.yaml --set search.num_trails=12", 2, work),
        Step("Plan it", f"ravel plan sweep.yaml {SMALL}", folder=work),
        Step("Launch it, and press Ctrl-C", f"ravel launch sweep.yaml {SMALL}", 130, work, r" t003 .* after epoch "),
        Step("Where is it?", "ravel status", folder=work),
        Step("Resume", "ravel resume digits", folder=work),
        Step("Who won?", "ravel best digits", folder=work),
        Step("Who won?", "ravel compare digits", folder=work),
        Step("Look at it", "ravel status", folder=work),
        Step("Look at it", "ravel report digits", folder=work),
    ]


# Words that a person who trains networks need not know: of this project, of its methods and of its tools.
WORDS = {
    "sweep": "many trainings of one network, with other settings each time",
    "spec": "the YAML file of a sweep",
    "trial": "one training",
    "space": "what is searched",
    "parameter": "one dimension of the space",
    "objective": "the number that is made larger or smaller",
    "baseline": "the first trial, with all methods off",
    "sampler": "proposes the settings of the next trial",
    "screen": "propose several settings, and train those that look best",
    "scheduler": "ends or pauses the worse trials early",
    "asha": "the scheduler: asynchronous successive halving",
    "rung": "an epoch at which trials are compared",
    "pause": "a trial waits at a rung, and its worker trains another one",
    "promote": "a paused trial continues",
    "budget": "how much training a sweep may cost",
    "full budget": "a trial that was trained to its last epoch",
    "gradient evaluation": "the unit of cost: an attack of three steps takes four for each image",
    "interrupted": "stopped by you, to be resumed",
    "resume": "continue a sweep",
    "private Ray": "Ray that a launch starts for itself",
    "MLflow": "shows the runs in the browser",
    "Ray": "runs the trials",
    "run": "a trial, as MLflow shows it",
    "val/accuracy": "accuracy on the validation images",
    "snnl": "Soft Nearest Neighbor Loss",
    "mixup": "training on mixtures of images",
    "adversarial": "training on attacked images",
    "epsilon": "how far an attack may change a pixel",
    "claim": "what a sweep has shown, and what it has not",
    "confirm": "train the best once more, with fresh seeds",
}


def run(step, home):
    """Run one command in the shell of a user whose home is `home`."""
    names = [name for name in os.environ if name in KEPT or name.startswith("PIP_")]
    environment = {name: os.environ[name] for name in names}
    environment |= {"HOME": str(home), "PATH": f"{home}/.venv/bin:/usr/bin:/bin", "COLUMNS": str(COLUMNS)}
    began, lines, epoch_s = time.monotonic(), [], None
    process = subprocess.Popen(
        ["/bin/bash", "-c", step.command],
        cwd=home / step.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    pressed = False
    for line in process.stdout:
        lines.append(line)
        if epoch_s is None and re.search(r" t\d+ .* after epoch [1-9]", line):
            epoch_s = time.monotonic() - began
        if step.stop_after and not pressed and re.search(step.stop_after, line):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            lines.append("^C\n")
            pressed = True
        if time.monotonic() - began > LIMIT_S:
            os.killpg(process.pid, signal.SIGTERM)
    code = process.wait()
    return Done(step.command, "".join(lines).replace(str(home), "/home/new"), code, time.monotonic() - began, epoch_s)


def follow(plan, folder):
    """Run what was not run before, write each down in `folder`, and return all of them."""
    record = folder / "done.jsonl"
    done = [Done(**json.loads(line)) for line in record.read_text().splitlines()] if record.exists() else []
    for step in plan[len(done) :]:
        result = run(step, folder / "home")
        sys.stderr.write(f"{result.seconds:7.1f} s  {step.command}\n")
        if result.code != step.code:
            sys.exit(f"{step.command} exited with {result.code}, not {step.code}:\n{result.output}")
        done.append(result)
        with record.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
    return done


def shown(output, last=None):
    """Return what a page shows of an output: its last lines, or all of it; a long one loses its middle.

    >>> shown("a\\nb\\n")
    'a\\nb'
    >>> shown("\\n".join(map(str, range(100)))).splitlines()[30]
    '... (40 lines)'
    """
    lines = [line.rstrip() for line in output.splitlines()]
    if last is not None:
        lines = [f"... ({len(lines) - last} lines)", *lines[-last:]]
    if len(lines) > LONGEST_LINES:
        half = LONGEST_LINES // 2
        lines = [*lines[:half], f"... ({len(lines) - LONGEST_LINES} lines)", *lines[-half:]]
    return "\n".join(lines)


def met(done):
    """Return the words of Ravel's commands and outputs, each with the first command that has it.

    >>> met([Done("ravel init", "wrote a spec", 0, 1.0, None), Done("ravel status", "2 trials, a spec", 0, 1.0, None)])
    {'spec': 'ravel init', 'trial': 'ravel status'}
    """
    first = {}
    for one in done:
        text = f"{one.command}\n{one.output}"
        for word in WORDS:
            ending = r"(s|d|ed|ing|ation)?" if word.islower() else ""
            if one.command.startswith("ravel") and re.search(rf"(?<![\w/-]){re.escape(word)}{ending}\b", text):
                first.setdefault(word, one.command)
    return first


def duration(seconds):
    """Return minutes and seconds.

    >>> duration(75.4)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def machine():
    """Return a line on this machine: cores, processor, memory, system, Python, and how busy it is."""
    cpus = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.*)$", cpus, re.MULTILINE)
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = subprocess.run(["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    busy = f"{os.getloadavg()[2]:.0f} processes wanted a core, as a mean over 15 minutes"
    busy += f", and the commands gave way to them (niceness {nice})" if (nice := os.nice(0)) else ""
    return f"{cores} cores ({name[1] if name else 'unknown'}), {memory_gb:.0f} GB, {python}; {busy}"


def page(plan, done, where):
    """Return the page: numbers, words, and every command with what it printed."""
    launch = next(place for place, step in enumerate(plan) if step.stop_after)
    resume = next(place for place, step in enumerate(plan) if step.command.startswith("ravel resume"))
    installed = sum(one.seconds for one in done[:2])
    epoch = sum(one.seconds for one in done[:launch]) + (done[launch].epoch_s or 0.0)
    sweep = sum(one.seconds for one in done[: resume + 1])
    words = met(done)
    parts = [
        HEAD.format(
            installed=duration(installed),
            epoch=duration(epoch),
            after=duration(epoch - installed),
            sweep=duration(sweep),
            commands=len(done),
            words=len(words),
            machine=where,
            nice=NICE if "RAY_worker_niceness" in os.environ else "",
        ),
        "\n| word | means | first met in |\n|---|---|---|",
        *(f"| {word} | {WORDS[word]} | `{command.partition(' --')[0]}` |" for word, command in words.items()),
        "\n## Transcript\n",
        f"A terminal of {COLUMNS} columns. `...` stands where more than {LONGEST_LINES} lines were printed.",
    ]
    heading, folder = "", "."
    for step, one in zip(plan, done, strict=True):
        if step.heading != heading:
            parts.append(f"\n### {(heading := step.heading)}\n")
        enter = f"$ cd {step.folder}\n" if step.folder != folder else ""
        folder = step.folder
        text = "\n".join(filter(None, [f"{enter}$ {one.command}", shown(one.output, step.last)]))
        ended = f"Exit code {one.code}, {duration(one.seconds)}." if one.code else f"{duration(one.seconds)}."
        parts.append(f"```console\n{text}\n```\n\n{ended}\n")
    return "\n".join(parts).rstrip() + "\n"


NICE = """`RAY_worker_niceness` was set to 0: other programs kept the cores busy, and Ray gives way to them by default.
"""
HEAD = """# A first sweep, as a new user sees it

`make newcomer` writes this page. It follows the [README](../README.md) and the tutorial from an empty home.
It has the wheel alone: no variable, no file and no library of a checkout.
Each command is shown as it was typed, with what it printed. Your times will differ.

| | |
|---|---|
| commands | {commands} |
| installed after | {installed} |
| first measured epoch of a trial after | {epoch}, {after} of it after the installation |
| first sweep complete after | {sweep}, with a Ctrl-C and a resume in it |
| new words | {words} |
| machine | {machine} |

The times are those of the commands, added up. Reading takes longer.

One thing is other than in the tutorial: pip installs a wheel file and one version of torch, no release of an index.
{nice}
## New words

These are the words in commands and outputs that a person who trains networks need not know."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--folder", type=Path, help="keep what was done here, and continue it (default: a new folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        (folder / "home").mkdir(parents=True, exist_ok=True)
        shutil.copy(arguments.wheel, folder / "home")
        plan = steps(arguments.wheel.name)
        where = machine()
        sys.stdout.write(page(plan, follow(plan, folder), where))


if __name__ == "__main__":
    main()
