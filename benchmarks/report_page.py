"""Size of a report, the time to write it, and the time until Chromium shows it, for sweeps of many trials.

The sweeps are logs with planted curves over the three methods of the demo; nothing is trained, no Ray. "Shown" is the
time from the request for the page to its load event, and to the second frame after it: the median of fresh browsers.

    python benchmarks/report_page.py --trials 48 2000
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "orchestrator"))

import planted_sweeps as planted
from playwright.sync_api import sync_playwright

from orchestrator.analysis.report.report import write_report
from orchestrator.state.sweep_folder import SweepFolder

if TYPE_CHECKING:
    from orchestrator.analysis.result import SweepResult

CHROMIUM = "/usr/bin/chromium"
IMAGES = 360
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd"


def sweep_of(folder: Path, trials: int) -> SweepResult:
    """Write a sweep of so many trials, of which one in seven runs to the end."""
    rng = random.Random(0)

    def curve(point: dict[str, float], epoch: int) -> dict[str, float]:
        value = 0.98 - 0.3 * math.exp(-epoch / 3) - 0.03 * abs(math.log10(point["optimizer.lr"] / 0.08))
        value += 0.01 * (point.get("mixup.alpha") or 0.0) + rng.gauss(0, 0.003)
        metrics = {"val/accuracy": round(min(1.0, value) * IMAGES) / IMAGES}
        if epoch in {3, 27}:
            robust = 0.3 + 6 * (point.get("adversarial.epsilon") or 0.0) + rng.gauss(0, 0.02)
            metrics["val/robust_accuracy"] = round(min(1.0, robust) * 256) / 256
        return metrics

    spec = (Path(__file__).parents[1] / "examples" / "digits.yaml").read_text(encoding="utf-8")
    spec = spec.replace("num_trials: 48", f"num_trials: {trials}")
    return planted.write(
        SweepFolder(folder / f"digits-{trials}"), spec, curve, lambda _: rng.choice([1, 1, 1, 3, 3, 9, None])
    )


def shown_ms(path: Path, *, repeats: int) -> tuple[float, float]:
    """Return the median milliseconds until the page is loaded, and until its second frame after that."""
    loads, frames = [], []
    with sync_playwright() as playwright:
        for _ in range(repeats):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"file://{path}")
            frames.append(page.evaluate(FRAMES))
            loads.append(page.evaluate(LOADED))
            browser.close()
    return statistics.median(loads), statistics.median(frames)


def main() -> None:
    """Print a row for each number of trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[48, 2000])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print("| trials | page, MB | written, s of CPU | loaded, ms | shown, ms |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for trials in arguments.trials:
            result, path = sweep_of(Path(folder), trials), Path(folder) / f"{trials}.html"
            began = time.process_time()
            write_report(result, path)
            written = time.process_time() - began
            loaded, shown = shown_ms(path, repeats=arguments.repeats)
            print(
                f"| {trials} | {path.stat().st_size / 1e6:.2f} | {written:.1f} | {loaded:.0f} | {shown:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
