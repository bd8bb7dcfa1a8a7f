"""Section on reproducing a sweep: commands, spec, lineage, versions, data, seeds, and methods to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.analysis.comparison.images import SIGNIFICANCE
from orchestrator.analysis.evaluation.claim_file import confirmations_of, load_claim
from orchestrator.analysis.order_history import answered_orders, lineage_lines
from orchestrator.analysis.report.citations import SAMPLERS, SCHEDULERS, cited, methods_on, papers
from orchestrator.analysis.report.markup import Html, folded, joined, listed, pre, table, tag
from orchestrator.analysis.report.overview import what_ran
from orchestrator.errors import OrchestratorError
from orchestrator.state.event_log import read_events
from orchestrator.state.events import EpochReported
from orchestrator.state.sweep_folder import named
from search_spaces import dump_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.result import SweepResult


def reproduction(result: SweepResult, comparison: Comparison | None) -> Html:
    """Return all that another person needs to repeat a sweep, and to describe it."""
    plan = result.plan
    name, own = plan.spec.name, named(result.folder)
    confirmation = plan.confirmation
    commands = [f"ravel launch {name}.yaml"] if confirmation is None else [f"ravel confirm {own}"]
    commands += [f"ravel confirm {own} --top 3 --seeds 5"] if confirmation is None else []
    commands += [f"ravel replay {own}"]
    note = (
        f"Save the spec below as {name}.yaml. The last command repeats every decision from the log alone. Name the "
        "storage with --storage if the sweep is in another one than the folder results."
    )
    changes = lineage_lines(plan)
    orders = [str(order) for order in answered_orders(result.state)]
    methods, keys = _methods(result, comparison)
    parts: list[object] = [
        tag("h3", "Commands"),
        pre("\n".join(commands), label="Commands"),
        tag("p", note),
        folded(f"Spec as it was launched: {name}.yaml", pre(dump_yaml(plan.launched.spec.document()), label="Spec")),
        tag("h3", "Changes since the launch"),
        listed([*changes, *orders]) or tag("p", "None: no order changed the plan."),
        tag("h3", "Versions, data and seeds"),
        table("What the sweep ran with", ("what", "value"), _facts(result)),
        folded("Seed of each trial", _seeds(result)),
        _packages(result),
        tag("h3", "Methods, to paste"),
        tag("p", methods, class_="methods"),
        tag("h4", "References"),
        listed([papers()[key].line for key in keys]),
        folded("BibTeX", pre("\n\n".join(papers()[key].entry for key in keys) + "\n", label="BibTeX")),
    ]
    return joined(parts)


def digests(result: SweepResult) -> list[str]:
    """Return the digests of the data that trials read, in the order of the log."""
    events = (event for event, _ in read_events(result.folder.events))
    read = (event.data for event in events if isinstance(event, EpochReported) and event.data is not None)
    return list(dict.fromkeys(read))


def _facts(result: SweepResult) -> list[Sequence[object]]:
    plan = result.plan
    made = plan.provenance
    commit = made.git_commit or "launched outside a git checkout"
    changed = f"changed since; SHA-256 of the changes {made.git_diff}" if made.git_diff else "changed since"
    data = digests(result)
    own = {f"own module {path}": f"SHA-256 {digest}" for path, digest in made.code.items()}.items()
    rows: list[Sequence[object]] = [
        ["sweep", plan.sweep],
        ["SHA-256 of the spec", plan.fingerprint],
        ["git commit", commit + (f", {changed}" if made.git_dirty else "")],
        ["Python", made.python],
        *([name, number] for name, number in made.libraries.items()),
        *([name, digest] for name, digest in own),
        ["digest of the data", ", ".join(data) or "the log has none"],
        ["seed of the search", plan.spec.search.seed],
        ["seed of each trial", "follows from the seed of the search and the trial's id, unless the spec sets it"],
    ]
    return rows


def _seeds(result: SweepResult) -> Html:
    trials = result.state.trials.values()
    return pre("\n".join(f"{trial.id} {trial.config.get('seed', 'has none')}" for trial in trials), label="Seeds")


def _packages(result: SweepResult) -> Html:
    """Return the installed packages of the launch, if their file is next to the log."""
    try:
        text = result.folder.environment.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return tag("p", "The list of installed packages is not next to the log.")
    return folded(f"Installed packages ({len(text.splitlines())})", pre(text, label="Installed packages"))


def _methods(result: SweepResult, comparison: Comparison | None) -> tuple[str, list[str]]:
    """Return a paragraph on the methods, and the keys of the papers that it cites, each once."""
    plan, keys = result.plan, list[str]()

    def cite(*some: str) -> str:
        keys.extend(key for key in some if key not in keys)
        return cited(some)

    version = plan.provenance.libraries.get("ravel-sweeps", "")
    parts = [
        f"We trained {len(result.state.trials):,} trials of {what_ran(result)} with Ravel {version}".rstrip()
        + f" on Ray Tune{cite('moritz2018ray', 'liaw2018tune')}."
    ]
    if plan.confirmation is None:
        sampler = plan.spec.search.sampler
        words, sources = SAMPLERS.get(sampler, (f"our own sampler {sampler}", ()))
        parts.append(
            f"The first trial was a baseline with all searched methods off; settings of the "
            f"{len(plan.spec.space.names)} searched parameters were proposed by {words}{cite(*sources)}, "
            f"seed {plan.spec.search.seed}, to {'maximise' if plan.spec.objective.mode == 'max' else 'minimise'} "
            f"{plan.spec.objective.metric} on the validation split."
        )
        parts.append(_stopping(result, cite))
    methods = methods_on(result)
    if methods:
        listing = ", ".join(words + cite(*sources) for words, sources in methods)
        parts.append(f"Trials trained with {listing}.")
    if comparison is not None and plan.confirmation is None:
        parts.append(_comparing(comparison, cite))
    if any(map(_is_measured, [result] if plan.confirmation is not None else confirmations_of(result))):
        parts.append(
            "The best configurations and a control were trained once more with fresh paired seeds and evaluated once "
            "on the test split; gains were tested by paired t-tests, corrected for their number"
            f"{cite('holm1979')}, with bootstrap intervals{cite('efron1987')}, intervals over images"
            f"{cite('wilson1927')} and a confidence set for the best configuration{cite('hsu1984')}."
        )
    return " ".join(filter(None, parts)), keys


def _is_measured(confirmation: SweepResult) -> bool:
    """Return whether the page shows a claim: before it is measured, nothing was tested."""
    try:
        load_claim(confirmation)
    except OrchestratorError:
        return False
    return True


def _stopping(result: SweepResult, cite: Callable[..., str]) -> str:
    plan = result.plan
    name = plan.spec.scheduler.chosen
    if name == "none":
        return f"Every trial ran its full budget of {plan.max_epochs} epochs."
    words, sources = SCHEDULERS.get(name, (f"our own scheduler {name}", ()))
    rungs = f" at rungs {', '.join(map(str, plan.rungs))}" if plan.rungs else ""
    if name == "pbt":
        return _population(result, f"{words}{cite(*sources)}")
    full = sum(trial.budget for trial in result.state.trials.values())
    kind = "paused and promoted" if plan.pauses else "stopped"
    return (
        f"Trials of at most {plan.max_epochs} epochs were {kind} by {words}{cite(*sources)}{rungs}; "
        f"{result.state.epochs_run:,} of {full:,} epochs were run."
    )


def _population(result: SweepResult, words: str) -> str:
    plan, scheduler = result.plan, result.plan.spec.scheduler
    children = sum(trial.descent is not None for trial in result.state.trials.values())
    return (
        f"A population of {plan.spec.search.num_trials - 1} was trained for {plan.max_epochs} epochs by {words} at "
        f"epochs {', '.join(map(str, plan.rungs))}: members among the worst {scheduler.quantile:.0%} were replaced by "
        f"perturbed copies of those among the best, {children} times. Their values changed while they trained: a "
        f"trial's own are those of its last epochs. {result.state.epochs_run:,} epochs were run."
    )


def _comparing(comparison: Comparison, cite: Callable[..., str]) -> str:
    if comparison.images is None:
        return f"Trials were compared at epoch {comparison.epoch}."
    return (
        f"Trials were compared at epoch {comparison.epoch} on {comparison.images} validation images; "
        f"{len(comparison.inseparable)} of {len(comparison.values)} could not be told apart from the best by intervals "
        f"of the difference of two shares{cite('newcombe1998')} at a one-sided level of {SIGNIFICANCE:.0%} divided by "
        "the number of rivals."
    )
