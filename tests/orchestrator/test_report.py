"""`ravel report`: one page from the log alone, which shows text as text, loads nothing, and says what it leaves out."""

import html
import html.parser
import itertools
import json
import math
import os
import random
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import planted_sweeps as planted
import pytest

import ravel
from orchestrator import changing
from orchestrator.analysis.claims.claim import claim
from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.evaluation.claim_file import confirmations_of, load_claim, save_claim
from orchestrator.analysis.evaluation.confirmation import trials_by_configuration
from orchestrator.analysis.figures.drawing import searched, varied
from orchestrator.analysis.report import attaching
from orchestrator.analysis.report.charts import parameter_figures, progress_figures
from orchestrator.analysis.report.charts.figures import KINDS
from orchestrator.analysis.report.charts.thinning import MOST_LINES, MOST_POINTS, thinned
from orchestrator.analysis.report.citations import papers
from orchestrator.analysis.report.markup import table, tag, text
from orchestrator.analysis.report.report import report, report_against
from orchestrator.analysis.report.side_by_side import equal_epoch
from orchestrator.analysis.result import SweepResult
from orchestrator.decisions.propose import propose
from orchestrator.errors import OrchestratorError
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    EpochReported,
    RungDecided,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
)
from orchestrator.state.sweep_folder import SweepFolder, named
from orchestrator.state.sweep_state import SweepState
from orchestrator.tracking.store.store import open_store, tracking_uri
from orchestrator.tracking.tracker import Tracker

RAVEL = Path(sys.executable).with_name("ravel")
SECTIONS = ("What ran", "What can be claimed", "Figures", "Trials", "To reproduce it")
ATTACK = '<script>alert("x")</script><img src=http://evil.example/a.png>'
REFUSAL = "http://ada:hunter2@host:5000/?token=abc123 refused"
IMAGES = 360


def curve_of(rng):
    def curve(point, epoch):
        rate, alpha = point["optimizer.lr"], point.get("mixup.alpha") or 0.0
        epsilon, weight = point.get("adversarial.epsilon") or 0.0, point.get("snnl.weight") or 0.0
        value = 0.98 - 0.3 * math.exp(-epoch / 3) - abs(math.log10(rate / 0.08)) * 0.03 + 0.01 * alpha - 0.2 * epsilon
        metrics = {"val/accuracy": round(min(1.0, value + rng.gauss(0, 0.003)) * IMAGES) / IMAGES}
        if epoch in {3, 27}:
            metrics["val/robust_accuracy"] = round(min(1.0, 0.3 + 6 * epsilon) * 256) / 256
            metrics |= {f"entanglement/{tap}": 2.0 - weight - place for place, tap in enumerate(("conv1", "fc1"))}
            metrics["val/entanglement_chance"] = 2.3
        return metrics

    return curve


def write_search(root, repository, *, name="digits-1", changes=()):
    rng = random.Random(0)
    spec = (repository / "examples" / "digits.yaml").read_text()
    for old, new in changes:
        assert old in spec
        spec = spec.replace(old, new)
    return planted.write(SweepFolder(root / "results" / name), spec, curve_of(rng), lambda _: rng.choice([1, 3, None]))


def append(folder, events):
    with EventLog(folder.events) as log:
        for event in events:
            log.append(event)


@pytest.fixture(scope="module")
def result(tmp_path_factory, repository):
    """A search of 48 trials over three methods, with one trial of each bad end, and decisions at a rung."""
    folder = write_search(tmp_path_factory.mktemp("report"), repository).folder
    trial = SweepResult.read(folder).state.trials["t004"]
    config = {**trial.config, "data.name": ATTACK}
    events = [SweepStarted(time=600.0, generation=2, host="here", pid=2)]
    for name, status, reason in (("t048", "failed", f"{ATTACK} {REFUSAL}"), ("t049", "diverged", "loss is not finite")):
        point = {**trial.point, "optimizer.schedule": ATTACK}
        events += [
            TrialCreated(time=600.0, trial=name, origin="search", point=point, config=config),
            AttemptStarted(time=601.0, trial=name, attempt=1),
            AttemptFailed(time=602.0, trial=name, attempt=1, cause="infrastructure", reason="the worker was lost"),
            AttemptStarted(time=603.0, trial=name, attempt=2),
            TrialEnded(time=604.0, trial=name, status=status, reason=reason, traceback=f"Traceback\n  {ATTACK}"),
        ]
    for name in ("t000", "t001", "t002"):
        kept = name != "t002"
        events.append(RungDecided(time=605.0, trial=name, rung=3, value=0.8, cutoff=0.79, competitors=3, kept=kept))
    append(folder, [*events, SweepEnded(time=606.0, status="completed")])
    return SweepResult.read(folder)


@pytest.fixture(scope="module")
def page(result):
    return report(result)


class Page(html.parser.HTMLParser):
    """Elements, attributes and visible text of a page; ``open_at_end`` are the elements that were never closed."""

    VOID = frozenset({"meta"})

    def __init__(self, source):
        super().__init__()
        self.elements, self.words, self.open, self.wrong = [], [], [], []
        self.feed(source)

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in self.VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        if not self.open or self.open.pop() != name:
            self.wrong.append(name)

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"script", "style"}:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_a_report_has_its_sections_in_the_order_a_reader_needs(page):
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == list(SECTIONS)


def test_a_report_is_whole_markup_with_a_language_a_title_and_one_main_part(page):
    parsed = Page(page)
    assert (parsed.wrong, parsed.open) == ([], [])
    names = [name for name, _ in parsed.elements]
    assert [names.count(name) for name in ("html", "h1", "main", "title")][:3] == [1, 1, 1]
    assert dict(parsed.elements)["html"] == {"lang": "en"}
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10


def test_the_first_section_says_what_ran_and_what_it_cost(page, result):
    words = Page(page).text
    assert "50 of 48 planned trials of a classifier (cnn_bn) on digits" in words
    assert "1 diverged, 1 failed" in words
    ran, full = result.state.epochs_run, sum(trial.budget for trial in result.state.trials.values())
    assert f"{ran:,} of {full:,} of full training of these trials" in words
    stopped = result.state.with_status("stopped")  # a trial that failed, or may continue, has saved nothing
    saved = sum(trial.budget - len(trial.epochs) for trial in stopped)
    assert 0 < saved < full - ran
    assert f"{saved / full:.0%} {saved:,} epochs" in words


def test_without_a_confirmation_nothing_is_claimed_and_the_command_is_printed(page, result):
    words = Page(page).text
    assert "Nothing is claimed of this sweep." in words
    assert "ravel confirm digits-1 --top 3 --seeds 5" in words
    assert compare(result.plan, result.state, epoch=27).sentence()[1:] in words


def test_every_figure_has_a_caption_a_text_alternative_and_the_number_of_its_trials(page):
    for kind in KINDS:
        figure = re.search(rf'<figure id="figure-{kind}">.*?</figure>', page, re.DOTALL)
        assert figure, kind
        caption = re.search("<figcaption>(.*?)</figcaption>", figure[0])[1]
        assert "Look for" in caption
        assert re.search(r"\b\d+ (trials|attempts)\b", caption), kind
        images = re.findall(r"<svg (?!viewBox=\"0 0 16 16\")[^>]*>", figure[0])
        assert images
        assert all('role="img"' in image and "aria-labelledby=" in image for image in images)


def test_a_figure_names_the_epoch_at_which_trials_are_compared(page, result):
    epoch = compare(result.plan, result.state).epoch
    for kind in ("effect", "slice", "parallel", "curves", "history"):
        caption = re.search(rf'id="figure-{kind}">.*?<figcaption>(.*?)</figcaption>', page, re.DOTALL)[1]
        assert f"epoch {epoch}" in caption


def test_the_table_of_trials_has_every_trial_with_its_parameters_state_and_objective(page, result):
    body = re.search(r"<caption>Trials at their last epochs.*?</table>", page, re.DOTALL)[0]
    rows = {Page(row).text.split()[0]: Page(row).text for row in re.findall("<tr>.*?</tr>", body)[1:]}
    assert set(rows) == set(result.state.trials)
    assert "(best)" in rows[result.best().trial.id]
    assert "(baseline)" in rows["t000"]
    trial = result.state.trials["t001"]
    assert f"{trial.epoch} of 27" in rows["t001"]
    assert f"{trial.last('val/accuracy'):.4f}" in rows["t001"]


def test_each_rung_has_a_table_with_its_decisions(page):
    assert "Rung 3 (epochs): 3 trials compared, 2 kept" in page
    rung = Page(re.search(r"<caption>Decisions at rung 3.*?</table>", page, re.DOTALL)[0]).text
    assert "t002 0.8000 0.7900 3 rejected" in rung
    assert "t001 0.8000 0.7900 3 kept" in rung


def test_failures_are_listed_with_their_reasons_and_repeated_attempts(page):
    words = Page(page).text
    assert "2 trials failed or diverged." in words
    assert "loss is not finite" in words
    assert "t048 1 infrastructure the worker was lost" in words


def test_the_last_section_has_all_that_repeats_the_sweep(page, result):
    words = Page(page).text
    for command in ("ravel launch digits.yaml", "ravel confirm digits-1 --top 3 --seeds 5", "ravel replay digits-1"):
        assert command in words
    for fact in (result.plan.fingerprint, result.plan.provenance.python, "seed of the search 0"):
        assert fact in words
    assert f"t001 {result.state.trials['t001'].config['seed']}" in words
    assert "budget_fraction: 0.3" in words


def test_the_spec_on_the_page_launches_the_same_trials(page, result):
    text = html.unescape(re.search(r'aria-label="Spec"><pre><code>(.*?)</code>', page, re.DOTALL)[1])
    assert parse_spec(text) == result.plan.launched.spec


def test_the_papers_of_the_methods_that_were_on_are_cited_and_no_others(page):
    words = Page(page).text
    for short in ("Frosst et al., 2019", "Zhang et al., 2018", "Madry et al., 2018", "Li et al., 2020"):
        assert short in words
    assert "@inproceedings{frosst2019snnl," in words
    for key in ("yun2019cutmix", "zhang2019trades", "bohdal2023pasha", "deb2002nsga2"):
        assert key not in words


def test_a_method_that_no_trial_had_on_is_not_cited(tmp_path):
    words = Page(report(planted.misleading(tmp_path))).text
    assert "mixup (Zhang et al., 2018)" in words
    for key in ("wong2020fast", "madry2018pgd", "frosst2019snnl"):
        assert key not in words


def test_every_paper_has_a_whole_entry_of_bibtex():
    assert len(papers()) > 30
    for paper in papers().values():
        assert paper.entry.count("{") == paper.entry.count("}")
        assert re.fullmatch(r"(19|20)\d\d", paper.year)
        assert "{" not in paper.line
        assert paper.authors[0] == paper.authors[0].strip()


def test_text_of_a_user_is_text(page):
    parsed = Page(page)
    assert [name for name, _ in parsed.elements].count("script") == 1
    assert "img" not in {name for name, _ in parsed.elements}
    assert parsed.text.count('<script>alert("x")</script>') >= 4  # a value, its reason, both tracebacks


def test_secrets_in_a_reason_are_hidden(page):
    assert "hunter2" not in page
    assert "abc123" not in page
    assert "http://***@host:5000/?token=*** refused" in Page(page).text


def test_nothing_on_the_page_is_loaded_and_its_policy_forbids_it(page):
    parsed = Page(page)
    attributes = [(name, key, value) for name, own in parsed.elements for key, value in own.items()]
    assert [item for item in attributes if item[1] in {"src", "srcset", "action", "data", "poster", "style"}] == []
    assert [value for _, key, value in attributes if key == "href" and not value.startswith("#")] == []
    assert [item for item in attributes if item[1].startswith("on")] == []
    policy = next(own["content"] for _, own in parsed.elements if own.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not re.search(r"url\(|@import|https?://", re.search("<style>(.*?)</style>", page, re.DOTALL)[1])


def test_every_box_that_scrolls_can_be_reached_and_is_named(page):
    boxes = [own for _, own in Page(page).elements if own.get("class") == "scroll"]
    assert len(boxes) > 20
    assert {(own["tabindex"], own["role"]) for own in boxes} == {("0", "region")}
    assert all(own["aria-label"] for own in boxes)


def test_the_same_log_makes_the_same_bytes_wherever_it_lies(result, page, tmp_path):
    import shutil

    shutil.copytree(result.folder.path, tmp_path / "elsewhere" / result.sweep)
    assert report(SweepResult.read(SweepFolder(tmp_path / "elsewhere" / result.sweep))) == page


def test_a_report_needs_neither_torch_nor_ray_nor_mlflow_nor_plotly(result, tmp_path):
    out = tmp_path / "page.html"
    code = (
        "import sys, ravel; ravel.open(sys.argv[1]).report(sys.argv[2]);"
        "print([name for name in ('torch', 'ray', 'mlflow', 'plotly') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(result.folder.path), str(out)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "[]"
    assert out.read_text() == report(result)


def test_the_command_and_the_method_write_the_same_page(result, page, tmp_path):
    command = [str(RAVEL), "report", str(result.folder.path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "digits-1-report.html"
    assert (tmp_path / "digits-1-report.html").read_text() == page
    assert ravel.open(result.folder.path).report(tmp_path / "other.html") == tmp_path / "other.html"


@pytest.mark.parametrize("kept", [0, 1, 3], ids=["no trial", "no epoch", "one epoch"])
def test_a_sweep_that_has_only_begun_has_a_report(result, tmp_path, kept):
    folder = SweepFolder(tmp_path / "results" / "digits-2")
    folder.path.mkdir(parents=True)
    (folder.path / "plan.json").write_bytes(result.folder.plan.read_bytes())
    lines = result.folder.events.read_bytes().splitlines(keepends=True)
    folder.events.write_bytes(b"".join(lines[: 1 + kept]))
    early = report(SweepResult.read(folder))
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", early) == list(SECTIONS)
    assert ("No trial has measured the objective yet" in early) == (kept < 3)


def test_parameters_that_a_figure_leaves_out_are_counted_with_where_all_are(result, page):
    compared = compare(result.plan, result.state)
    total = len(varied(searched(result.plan), [result.state.trials[name] for name in compared.values]))
    for kind, most in (("slice", parameter_figures.MOST_PANELS), ("parallel", parameter_figures.MOST_AXES)):
        assert total > most
        caption = KINDS[kind](result, compared).caption
        command = f"ravel plot {named(result.folder)} {kind}"
        assert f"Shown are the first {most} of {total} parameters; for all run: {command}. " in caption
        assert f"Shown are the first {most} of {total} parameters" in page
    importance = parameter_figures.importance(result, compared)
    (shown, many), *_ = re.findall(
        r"the most important (\d+) of (\d+) parameters; the numbers below", importance.caption
    )
    assert [len(panel.y.ticks) for panel in importance.panels] == [int(shown)] * len(importance.panels)
    assert len(re.findall("<tr>", importance.numbers)) > int(many) > int(shown)


def test_thinning_keeps_the_best_the_baseline_and_the_ends_and_says_so(tmp_path, repository, monkeypatch):
    many = write_search(tmp_path, repository, name="many-1", changes=[("num_trials: 48", "num_trials: 300")])
    compared = compare(many.plan, many.state, epoch=1)
    monkeypatch.setattr(parameter_figures, "MOST_POINTS", 60)
    figure = parameter_figures.slices(many, compared)
    assert f"Shown are 60 of {len(compared.values)} trials: the best, the baseline, both ends" in figure.caption
    best, worst = compared.best, list(compared.values)[-1]
    for panel in figure.panels:
        words = " ".join(mark.words for mark in panel.marks if hasattr(mark, "shape"))
        assert all(f"{name}:" in words for name in (best, worst, "t000"))
    places = [trial.point["optimizer.lr"] for trial in many.state.trials.values()]
    lowest = min(many.state.trials.values(), key=lambda trial: trial.point["optimizer.lr"])
    assert lowest.point["optimizer.lr"] == min(places)
    assert f"{lowest.id}:" in words
    lines = progress_figures.curves(many, compared)
    assert f"Shown are {MOST_LINES} of 300 trials" in lines.caption


def test_thinning_is_even_and_never_drops_what_must_stay():
    names = [f"t{index:04d}" for index in range(2000)]
    kept = thinned(names, MOST_POINTS, always={"t0007", "t1999"})
    assert len(kept) == MOST_POINTS
    assert {"t0007", "t1999"} <= set(kept)
    gaps = [int(b[1:]) - int(a[1:]) for a, b in itertools.pairwise(kept)]
    assert max(gaps) <= 6
    assert thinned(names, 3, always=names[:10]) == tuple(names[:10])


def test_markup_that_is_complete_is_not_escaped_a_second_time():
    assert tag("p", tag("b", "a & b")) == "<p><b>a &amp; b</b></p>"
    assert text("a\x00b\u202ec") == "a\ufffdb\ufffdc"
    assert "<caption>&lt;i&gt;</caption>" in table("<i>", ["a"], [["b"]])
    assert text("\udc80").encode() == b"?"


def confirmation_of(result, root, *, seeds=3):
    """A confirmation of a search whose trials have ended, next to it and without models."""
    made = changing.confirm(result.folder, "digits-confirm", top=2, seeds=seeds)
    folder = SweepFolder(result.folder.path.parent / "digits-confirm-1")
    folder.path.mkdir()
    make_plan(made.spec, folder, slots=2, now=900.0, working_directory=root, parent=made.parent).save(folder)
    plan, state, now = SweepPlan.load(folder), SweepState(), 900.0
    events = [SweepStarted(time=now, generation=1, host="here", pid=1)]
    for index in range(plan.spec.search.num_trials):
        origin, point = propose(state, plan.spec)
        name = f"t{index:03d}"
        own = [
            TrialCreated(time=now, trial=name, origin=origin, point=point, config=trial_config(plan, name, point)),
            AttemptStarted(time=now, trial=name, attempt=1),
            EpochReported(
                time=now + 1, trial=name, attempt=1, epoch=27, since_restore=27, metrics={"val/accuracy": 0.9}
            ),
            TrialEnded(time=now + 1, trial=name, status="completed"),
        ]
        for event in own:
            state.apply(event)
        events, now = [*events, *own], now + 1
    append(folder, [*events, SweepEnded(time=now, status="completed")])
    return SweepResult.read(folder)


def measured(confirmation):
    """A claim over invented test accuracies, the first configuration far better than the control."""
    confirmed, rng = confirmation.plan.confirmation, random.Random(3)
    gain = dict(zip((item.name for item in confirmed.configurations), (0.0, 0.03, 0.0), strict=True))
    values = {
        name: {seed: 0.9 + gain[name] + rng.gauss(0, 0.002) for seed in own}
        for name, own in trials_by_configuration(confirmed, confirmation).items()
    }
    searched = {item.name: item.searched for item in confirmed.configurations}
    return claim(values, metric=confirmed.metric, mode=confirmed.mode, searched=searched, num_images=359)


@pytest.fixture
def search(tmp_path, repository):
    return write_search(tmp_path, repository)


def test_the_claim_of_a_confirmation_beside_the_search_is_on_the_page_of_both(search, tmp_path):
    confirmation = confirmation_of(search, tmp_path)
    claimed = measured(confirmation)
    save_claim(confirmation.folder, claimed)
    _, best, _ = claimed.rows
    for page in (Page(report(search)).text, Page(report(confirmation)).text):
        assert f"Claimed: {best.name} is better than the control." in page
        for interval in (best.interval, best.bootstrap, best.images):
            assert f"{interval.low:.4f} to {interval.high:.4f}" in page
        assert f"{best.gain.mean:+.4f}" in page
        assert f"{best.survived:.0%}" in page
        assert "Nothing is claimed" not in page
        assert "Holm, 1979" in page


def test_a_claim_is_read_back_as_it_was_measured(search, tmp_path):
    confirmation = confirmation_of(search, tmp_path)
    save_claim(confirmation.folder, measured(confirmation))
    assert load_claim(confirmation) == measured(confirmation)
    assert [found.sweep for found in confirmations_of(search)] == ["digits-confirm-1"]


def test_a_confirmation_that_was_not_measured_claims_nothing_yet(search, tmp_path):
    confirmation_of(search, tmp_path)
    words = Page(report(search)).text
    assert "Nothing is claimed yet." in words
    assert "its claim must be measured on the test split first; run ravel confirm digits-confirm-1" in words
    assert "evaluated once on the test split" not in words
    assert "Holm, 1979" not in words


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_a_report_replaces_nothing_but_a_file(result, tmp_path, make):
    place = tmp_path / "page.html"
    make(place)
    kind = stat.S_IFMT(place.lstat().st_mode)
    with pytest.raises(OSError, match=r"not replaced; name a file|cannot be replaced by a file"):
        ravel.open(result.folder.path).report(place)
    assert stat.S_IFMT(place.lstat().st_mode) == kind
    assert list(tmp_path.iterdir()) == [place]


def test_a_report_on_a_link_replaces_the_link_and_leaves_its_target(result, tmp_path):
    target, place = tmp_path / "target", tmp_path / "page.html"
    target.write_text("mine")
    place.symlink_to(target)
    ravel.open(result.folder.path).report(place)
    assert target.read_text() == "mine"
    assert not place.is_symlink()


def test_trials_promoted_after_a_pause_are_counted_at_their_rung(tmp_path, repository):
    folder = write_search(tmp_path, repository).folder
    events = [SweepStarted(time=600.0, generation=2, host="here", pid=2)]
    for name, kept in (("t001", True), ("t002", False), ("t003", False)):
        events.append(RungDecided(time=605.0, trial=name, rung=3, value=0.8, cutoff=0.79, competitors=3, kept=kept))
    events.append(TrialPromoted(time=606.0, trial="t002", rung=3))
    append(folder, events)
    assert "Rung 3 (epochs): 3 trials compared, 1 kept at once, 1 promoted later" in report(SweepResult.read(folder))


@pytest.mark.parametrize(
    "damage",
    [lambda _: "{", lambda _: "[]", lambda text: text.replace('"format": 1', '"format": 2'), lambda _: '{"format": 1}'],
    ids=["cut", "list", "version", "empty"],
)
def test_a_damaged_claim_is_not_shown(search, tmp_path, damage):
    confirmation = confirmation_of(search, tmp_path)
    save_claim(confirmation.folder, measured(confirmation))
    confirmation.folder.claim.write_text(damage(confirmation.folder.claim.read_text()))
    with pytest.raises(OrchestratorError, match=r"is damaged or of another version; run ravel confirm"):
        load_claim(confirmation)
    assert "Nothing is claimed yet." in report(search)


def test_a_claim_with_fewer_seeds_than_have_ended_is_not_shown(search, tmp_path):
    confirmation = confirmation_of(search, tmp_path)
    save_claim(confirmation.folder, measured(confirmation))
    document = json.loads(confirmation.folder.claim.read_text())
    seed = str(document["seeds"].pop())
    for row in document["rows"]:
        del row["values"][seed]
    confirmation.folder.claim.write_text(json.dumps(document))
    with pytest.raises(OrchestratorError, match=r"more have ended since it was measured"):
        load_claim(confirmation)


def test_two_sweeps_of_one_task_are_compared_at_an_epoch_that_both_measured(search, tmp_path, repository):
    other = write_search(
        tmp_path, repository, name="digits-2", changes=[("budget_fraction: 0.3", "budget_fraction: 0.5")]
    )
    assert equal_epoch(search, other) == 27
    page = Page(report_against(search, other)).text
    assert "Yes, at epoch 27." in page
    assert "scheduler.budget_fraction 0.3 0.5" in page
    assert re.search(r"1 of \d+ fields differ", page)
    assert page.count("nothing is claimed: it was not confirmed".capitalize()) == 2
    assert "No test compares the two here." in page


def test_two_sweeps_on_other_data_or_goals_are_not_compared(search, tmp_path, repository):
    changes = [
        ("data.name: digits", "data.name: digits\n  data.fraction: 0.5"),
        ("val/accuracy, mode: max", "val/nll, mode: min"),
    ]
    other = write_search(tmp_path, repository, name="digits-2", changes=changes)
    page = Page(report_against(search, other)).text
    assert "No. A difference between their values would not be that of the sweeps:" in page
    for reason in ("they train different things", "val/accuracy max; and val/nll min", "no epoch was measured by both"):
        assert reason in page


@pytest.mark.usefixtures("search")
def test_a_report_against_another_is_written_by_the_command(tmp_path, repository):
    write_search(tmp_path, repository, name="digits-2")
    command = [str(RAVEL), "report", "digits-1", "--against", "digits-2", "--out", "both.html"]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "Can they be compared?" in (tmp_path / "both.html").read_text()


@pytest.fixture
def tracked(search):
    """The search, with all events in an MLflow store, and its client."""
    Tracker(search.plan, search.folder).catch_up()
    return search, open_store(tracking_uri(search.plan))


def artifact(client, result):
    (run,) = client.search_runs(
        [client.get_experiment_by_name(result.plan.experiment).experiment_id], "tags.`ravel.kind` = 'sweep'"
    )
    return Path(client.download_artifacts(run.info.run_id, "report.html"))


def test_a_report_is_an_artifact_of_the_summary_run_and_is_replaced(tracked, tmp_path):
    search, client = tracked
    assert attaching.attach(search, timeout_s=120)
    assert artifact(client, search).read_text() == report(search)
    save_claim((confirmation := confirmation_of(search, tmp_path)).folder, measured(confirmation))
    assert attaching.attach(search, timeout_s=120)
    assert "Claimed: " in artifact(client, search).read_text()


def test_a_report_that_cannot_be_written_or_sent_costs_a_warning_alone(tracked, monkeypatch, caplog):
    search, _ = tracked

    def fail(_):
        raise RuntimeError("no page\nfor you")

    monkeypatch.setattr(attaching, "report", fail)
    assert not attaching.attach(search, timeout_s=120)
    (record,) = caplog.records
    assert "MLflow is without the report (no page); to write it: ravel report digits-1" in record.getMessage()


def test_no_report_is_sent_to_a_store_that_was_sent_nothing(search, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(attaching, "log_page", lambda *_: pytest.fail("was sent"))
    assert not attaching.attach(search, timeout_s=120)
    assert caplog.records == []
    assert list(tmp_path.rglob("mlflow.db")) == []


def test_no_report_is_sent_while_mlflow_lacks_events(tracked, monkeypatch, caplog):
    search, _ = tracked
    append(search.folder, [SweepStarted(time=700.0, generation=3, host="here", pid=3)])
    monkeypatch.setattr(attaching, "log_page", lambda *_: pytest.fail("was sent"))
    assert not attaching.attach(SweepResult.read(search.folder), timeout_s=120)
    assert caplog.records == []


def test_a_report_that_takes_too_long_does_not_hold_up_the_end_of_a_sweep(tracked, monkeypatch, caplog):
    search, _ = tracked
    go_on = threading.Event()
    monkeypatch.setattr(attaching, "report", lambda _: go_on.wait(60) and "")
    try:
        assert not attaching.attach(search, timeout_s=0.2)
        assert "it took more than 0.2 s" in caplog.text
    finally:
        go_on.set()


@pytest.mark.ui
def test_a_browser_shows_the_page_without_a_request_an_error_or_sideways_scrolling(page, chromium, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page)
    faults = []
    for width, scheme in ((1280, "light"), (375, "dark"), (360, "light")):
        with chromium(viewport={"width": width, "height": 800}, color_scheme=scheme) as context:
            tab = context.new_page()
            tab.on("pageerror", lambda error: faults.append(str(error)))
            tab.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            tab.on("request", lambda call: None if call.url == f"file://{path}" else faults.append(call.url))
            tab.goto(f"file://{path}")
            wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0, width
    with chromium() as context:
        tab = context.new_page()
        tab.goto(f"file://{path}")
        head = tab.locator("table.sortable").first.locator("thead th").nth(3)
        button = head.locator("button")
        button.focus()
        tab.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        tab.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        cells = tab.locator("table.sortable").first.locator("tbody tr td:nth-child(4)").all_inner_texts()
        numbers = [float(cell) for cell in cells if cell]
        assert numbers == sorted(numbers, reverse=True)
        assert cells[len(numbers) :] == [""] * (len(cells) - len(numbers))  # trials that measured nothing are last
        tab.keyboard.press("Home")
        tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert tab.locator("details:not([open])").count() == 0
    assert faults == []
