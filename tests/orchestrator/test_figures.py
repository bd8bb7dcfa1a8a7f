"""Figures of a sweep: each from its log alone, with the epoch and n in its title, as a page that needs no network."""

import math
import random
import subprocess
import sys
from pathlib import Path

import planted_sweeps as planted
import pytest

import ravel
from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.comparison.importance import importances
from orchestrator.analysis.figures.axes import APART, OFF, axis_of
from orchestrator.analysis.figures.drawing import searched, varied
from orchestrator.analysis.figures.outcomes import MOST_SHARES
from orchestrator.analysis.figures.registry import KINDS, draw, write_page
from orchestrator.analysis.figures.running import intervals
from orchestrator.analysis.figures.surface import STEPS, surface
from orchestrator.errors import OrchestratorError
from orchestrator.state.events import AttemptFailed, AttemptStarted, EpochReported, SweepStarted, TrialEnded
from orchestrator.state.sweep_folder import SweepFolder
from ravel.plots import Plots
from search_spaces import Float, SymLog, ZeroOr

RAVEL = Path(sys.executable).with_name("ravel")
TAPS = ("conv1", "fc1")


@pytest.fixture(scope="module")
def result(tmp_path_factory, repository):
    """A sweep over all three methods, of which some trials were stopped at each rung."""
    rng = random.Random(0)

    def curve(point, epoch):
        rate, alpha = point["optimizer.lr"], point.get("mixup.alpha") or 0.0
        epsilon, weight = point.get("adversarial.epsilon") or 0.0, point.get("snnl.weight") or 0.0
        value = 0.99 - 0.3 * math.exp(-epoch / 3) - abs(math.log10(rate / 0.08)) * 0.03 + 0.02 * alpha - 0.2 * epsilon
        metrics = {"val/accuracy": round(min(1.0, value + rng.gauss(0, 0.003)) * 360) / 360}
        if epoch in {3, 27}:
            metrics["val/robust_accuracy"] = round(min(1.0, 0.3 + 6 * epsilon) * 256) / 256
            metrics |= {f"entanglement/{tap}": 2.0 - weight - place for place, tap in enumerate(TAPS)}
            metrics["val/entanglement_chance"] = 2.3
        return metrics

    text = (repository / "examples" / "digits.yaml").read_text()
    folder = SweepFolder(tmp_path_factory.mktemp("figures") / "results" / "digits-1")
    return planted.write(folder, text, curve, lambda _: rng.choice([1, 3, 9, None]))


@pytest.fixture(scope="module")
def figures(result):
    return {kind: draw(result, kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_names_the_sweep_epochs_and_n(figures, kind):
    title = figures[kind].layout.title.text
    assert title.startswith("digits-1: ")
    assert "epoch" in title
    assert "n = " in title


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "parallel"])
def test_every_axis_has_a_title(figures, kind):
    layout = figures[kind].to_plotly_json()["layout"]
    axes = {name: axis for name, axis in layout.items() if name.startswith(("xaxis", "yaxis"))}
    axes = {name: axis for name, axis in axes.items() if axis.get("visible", True)}
    untitled = [name for name, axis in axes.items() if not axis.get("title", {}).get("text")]
    assert axes
    assert untitled == ([] if kind != "importance" else ["yaxis2"])  # its axis is that of the panel next to it


def test_every_figure_is_a_method_of_a_sweep(result, figures):
    sweep = ravel.open(result.folder.path)
    assert set(KINDS) <= {name for name in vars(Plots) if not name.startswith("_")}
    for kind in ("history", "slice", "effect"):
        assert getattr(sweep.plot, kind)().to_json() == figures[kind].to_json()


def test_a_strength_that_is_off_is_apart_from_the_scale_that_was_searched():
    axis = axis_of("a", ZeroOr(Float(0.01, 1.0, log=True)))
    assert axis.position(0.1) == pytest.approx(0.5)
    assert axis.position(0.0) == APART[OFF] < axis.position(0.01) == 0.0
    assert axis.ticks([0.0, 0.5])[1][0] == "off"
    assert "off" not in axis.ticks([0.5])[1]
    signed = axis_of("w", ZeroOr(SymLog(-0.1, 0.3, gap=0.003)))
    assert signed.ticks([0.0])[1] == ["off", "-0.1", "-0.01", "±0.003", "0.01", "0.1", "0.3"]


def test_importance_says_how_many_shares_it_leaves_out(result, figures):
    parts = importances(result.plan, result.state, compare(result.plan, result.state))
    drawn = {len(bar.y) for bar in figures["importance"].data}
    assert drawn == {MOST_SHARES}
    assert all(len(part.shares) > MOST_SHARES for part in parts)
    left_out = len(parts[0].shares) - MOST_SHARES
    assert f"each panel leaves out its {left_out} smallest shares" in figures["importance"].layout.title.text


def test_a_contour_is_empty_away_from_points_and_shows_them():
    steps, rows = surface([(0.0, 0.0, 1.0), (0.1, 0.0, 3.0)])
    assert len(steps) == len(rows) == STEPS
    assert rows[-1] == [None] * STEPS
    assert 1.0 <= rows[0][2] <= 3.0


def test_trials_that_did_not_reach_the_epoch_are_grey_or_left_out(result, figures):
    compared = compare(result.plan, result.state)
    points = next(trace for trace in figures["slice"].data if trace.mode == "markers")
    grey, reached, _ = figures["history"].data
    assert len(points.x) == len(reached.x) == len(compared.values) >= 12
    assert len(grey.x) == len(compared.greyed) > 0


def test_each_searched_parameter_has_a_slice_and_an_axis(figures, result):
    compared = compare(result.plan, result.state)
    axes = varied(searched(result.plan), [result.state.trials[name] for name in compared.values])
    assert len(axes) > 12
    assert sum(trace.mode == "markers" for trace in figures["slice"].data) == len(axes)
    labels = [dimension.label for dimension in figures["parallel"].data[0].dimensions]
    assert [axis.name for axis in axes] == labels[: len(axes)]


def test_a_failed_trial_does_not_flatten_the_slices(result):
    compared = compare(result.plan, result.state)
    worst = list(compared.values)[-1]
    other = type(compared)(**{**vars(compared), "values": {**compared.values, worst: 0.1}})
    plot = KINDS["slice"](result, other)
    points = next(trace for trace in plot.data if trace.mode == "markers")
    assert plot.layout.yaxis.range[0] > 0.9
    assert points.marker.symbol[-1] == "triangle-down"
    assert "value 0.1000" in points.text[-1]
    assert (
        "triangle-down"
        not in next(t for t in KINDS["slice"](result, compared).data if t.mode == "markers").marker.symbol
    )


def test_the_worst_of_the_compared_trials_is_not_grey(figures):
    (lines,) = figures["parallel"].data
    low, high = lines.line.cmin, lines.line.cmax
    greys = [place for place, colour in lines.line.colorscale if colour == "#b8b8b8"]
    assert max(greys) < (0.0 - low) / (high - low)
    assert min(lines.line.color) == low


def test_the_cost_counts_the_epochs_that_were_not_run(result, figures):
    run, spared = figures["cost"].data
    assert sum(run.x) == result.state.epochs_run
    assert sum(run.x) + sum(spared.x) == result.plan.spec.search.num_trials * result.plan.max_epochs


def test_the_timeline_has_an_interval_for_each_attempt_also_of_a_killed_driver():
    def epoch(trial, time, number, attempt=1):
        return EpochReported(time=time, trial=trial, attempt=attempt, epoch=number, since_restore=1, metrics={})

    attempts = intervals(
        [
            SweepStarted(time=10.0, generation=1, host="a", pid=1),
            AttemptStarted(time=10.0, trial="t0", attempt=1),
            AttemptStarted(time=11.0, trial="t1", attempt=1),
            epoch("t0", 12.0, 1),
            AttemptFailed(time=13.0, trial="t1", attempt=1, cause="user", reason="x"),
            SweepStarted(time=50.0, generation=2, host="a", pid=1),
            AttemptStarted(time=51.0, trial="t0", attempt=2),
            epoch("t0", 55.0, 2, attempt=2),
            TrialEnded(time=56.0, trial="t0", status="completed"),
        ]
    )
    assert [(a.trial, a.attempt, a.start_s, a.end_s, a.outcome, a.slot) for a in attempts] == [
        ("t0", 1, 0.0, 2.0, "interrupted", 0),
        ("t1", 1, 1.0, 3.0, "attempt failed", 1),
        ("t0", 2, 41.0, 46.0, "completed", 0),
    ]


def test_an_unknown_kind_is_refused_with_the_nearest(result):
    with pytest.raises(OrchestratorError, match=r"kind: must be one of history, .*; did you mean 'slice'"):
        draw(result, "slices")


def test_the_command_writes_a_page_and_imports_neither_torch_nor_ray(result, tmp_path):
    arguments = ["plot", str(result.folder.path), "slice", "--epoch", "9", "--out", str(tmp_path / "a.html")]
    program = f"import sys; from orchestrator.cli.main import app; app({arguments!r}, standalone_mode=False); "
    program += "print(*{'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"{tmp_path}/a.html\n\n"
    page = (tmp_path / "a.html").read_text()
    assert "at epoch 9, n = " in page
    assert "src=" not in page.split("<script", 1)[0] + page.rsplit("</script>", 1)[1]


def test_best_prints_the_set_that_cannot_be_told_apart_at_the_epoch_asked_for(result):
    command = [str(RAVEL), "best", str(result.folder.path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert " trials cannot be told apart from the best at 360 validation images, epoch 27: " in text
    at_9 = subprocess.run([*command, "--epoch", "9"], check=True, capture_output=True, text=True).stdout
    compared = compare(result.plan, result.state, epoch=9)
    assert at_9.startswith(f"{compared.best}  val/accuracy {compared.values[compared.best]:.4f}")
    assert compared.sentence() in at_9


@pytest.mark.ui
def test_a_browser_draws_every_page_without_a_request_or_an_error(figures, chromium, tmp_path):
    faults = []
    with chromium() as context:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda call: None if call.url.startswith(("file:", "data:", "blob:")) else faults.append(call.url),
        )
        for kind, figure in figures.items():
            write_page(figure, tmp_path / f"{kind}.html")
            page.goto(f"file://{tmp_path}/{kind}.html")
            page.wait_for_selector(".js-plotly-plot .main-svg")
    assert faults == []
