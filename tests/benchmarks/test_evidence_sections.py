"""Sections of the evidence: each runs at its smoke size, and no verdict is written without measurements."""

import doctest
import importlib
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EVIDENCE = ROOT / "benchmarks/evidence"
NAMES = sorted(
    path.stem
    for path in (EVIDENCE / "sections").iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.stem.startswith("_")
)


@pytest.fixture
def docs(tmp_path):
    shutil.copytree(ROOT / "docs/results", tmp_path / "docs/results")
    shutil.copy(ROOT / "docs/results.md", tmp_path / "docs/results.md")
    markers = [f"<!-- {name}: {end} -->" for name in ("counted", "counted conclusions") for end in ("begin", "end")]
    (tmp_path / "docs/results/counted.md").write_text("\n".join(markers))
    return tmp_path / "docs"


def counted(units=4):
    """Return a section whose units count how often they are measured; its page is in `docs`."""
    section = sys.modules["section"]
    measured = []

    def measure(unit, _places):
        measured.append(unit.name)
        return {"value": float(len(measured)), "undefined": float("nan")}

    return section.Section(
        "counted",
        "Counted units",
        lambda _size: [section.Unit(f"unit {number}", {"number": number}) for number in range(units)],
        measure,
        lambda rows: {"counted": " ".join(f"{row.metrics['value']:g}" for row in rows), "counted.svg": "<svg/>"},
        lambda _rows: [counts()],
    ), measured


def counts():
    """Return a question to whose treatment counting is none, and whose prediction agrees."""
    questions = sys.modules["questions"]
    claim = questions.Published("Some et al. 2019", "it counts", "table 1")
    better = questions.by_seed([2.0, 3.0, 4.1], [1.0, 2.0, 3.0], "higher")
    check = questions.Expected("it is a treatment", lambda _: better)
    return questions.Question(
        "Does it count?", [check], [questions.Expected("higher", lambda _: better, claim, "units")]
    )


def run(evidence, section, folder, part="1/1", size="whole"):
    places = evidence.Places(None, folder / "kept")
    places.kept.mkdir(exist_ok=True)
    return evidence.run(section, places, size=size, part=evidence.Part.parse(part), folder=folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_section_runs_at_its_smoke_size_and_writes_every_table_and_claim(evidence, docs, tmp_path, name):
    section = evidence.load(name)
    units = section.units("smoke")
    rows = run(evidence, section, tmp_path, size="smoke")
    assert [row.name for row in rows] == [unit.name for unit in units]
    assert len({unit.name for unit in section.units("whole")}) == len(section.units("whole"))
    evidence.write(section, size="smoke", folder=tmp_path, docs=docs)
    page = (docs / "results" / f"{name}.md").read_text()
    markers = re.findall(r"<!-- (.+?): begin -->", page)
    written = evidence.contents(section, rows)
    assert set(markers) == {own for own in written if not own.endswith(".svg")}
    for own in markers:
        assert re.search(rf"<!-- {own}: begin -->\n\n.+", page), f"nothing between the markers of {own}"
    text = " ".join(written.values())
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text), "a table lacks a value"
    questions = sys.modules["questions"]
    found, unmeasured = (
        questions.claims_of(section.questions(rows), rows),
        questions.unmeasured(section.questions(())),
    )
    assert found, "a section answers a claim"
    assert {claim.published for claim in found} == {claim.published for claim in unmeasured}
    assert {claim.verdict for claim in unmeasured} == {"not measured yet"}
    for claim in found:
        assert claim.verdict in {"agrees", "disagrees", "inconclusive"}
        assert claim.about
        assert claim.reason
        assert claim.smallest is not None or claim.reason in UNMEASURABLE


UNMEASURABLE = {
    "no such network was trained",
    "no dose passes its manipulation checks",
    "every dose diverged for some seed",
    "some network is fooled by no image",
    "these were not trained",
    "not measured",
}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_concluded_from_a_treatment_whose_check_failed(evidence, name):
    section = evidence.load(name)
    rows = evidence.Store.of(section, "whole").rows(section.units("whole"))
    questions = sys.modules["questions"]
    answers = [question.answer(rows) for question in section.questions(rows)]
    assert any(answers)
    for found in filter(None, answers):
        passed = all(questions.passes(check) for check in found.checks.values())
        assert passed or {finding.conclusion for finding in found.findings.values()} == {"inconclusive"}


def test_the_preset_entangle_fails_every_check_on_mnist(evidence):
    section = evidence.load("mnist")
    rows = evidence.Store.of(section, "whole").rows(section.units("whole"))
    asked = section.questions(rows)[0]
    assert "`entangle`" in asked.title
    assert not any(sys.modules["questions"].passes(check) for check in asked.answer(rows).checks.values())


def test_a_unit_is_measured_once_and_again_when_its_settings_change(evidence, tmp_path):
    section, measured = counted()
    run(evidence, section, tmp_path)
    run(evidence, section, tmp_path)
    assert measured == [f"unit {number}" for number in range(4)]
    changed = section.units("whole")
    changed[2] = changed[2]._replace(settings={"number": 9})
    object.__setattr__(section, "units", lambda _size: changed)
    rows = run(evidence, section, tmp_path)
    assert measured[4:] == ["unit 2"]
    assert [row.metrics["value"] for row in rows] == [1, 2, 5, 4]
    assert rows[0].metrics["undefined"] is None
    assert set(rows[0].machine) == {"processor", "threads", "torch", "precision"}


def test_parts_measure_each_unit_once_between_them(evidence, tmp_path):
    section, measured = counted(units=5)
    run(evidence, section, tmp_path, part="2/2")
    assert measured == ["unit 1", "unit 3"]
    assert len(run(evidence, section, tmp_path, part="1/2")) == 5
    assert sorted(measured) == [unit.name for unit in section.units("whole")]
    with pytest.raises(ValueError, match=r"part: must be as 1/2, got '3/2'"):
        evidence.Part.parse("3/2")


def test_a_page_and_the_claims_have_nothing_to_say_until_every_unit_is_measured(evidence, docs, tmp_path):
    section, _ = counted()
    page = docs / "results/counted.md"
    run(evidence, section, tmp_path, part="1/2")
    evidence.write(section, folder=tmp_path, docs=docs)
    assert "Not measured yet (2 of 4 units)." in page.read_text()
    assert not (docs / "results/counted.svg").exists()
    (claim,) = evidence.claims(section, folder=tmp_path)
    assert (claim.verdict, claim.smallest) == ("not measured yet", None)
    assert 'make evidence SECTIONS="counted"' in page.read_text()
    run(evidence, section, tmp_path)
    evidence.write(section, folder=tmp_path, docs=docs)
    evidence.write_claims([section], folder=tmp_path, docs=docs)
    assert "\n\n1 3 2 4\n\n" in page.read_text()
    assert (docs / "results/counted.svg").read_text() == "<svg/>"
    assert "| higher | +1.0333, paired |" in page.read_text()
    tests = "[counted](results/counted.md): agrees over seeds alone (units), seen from 0.19"
    row = f"| it counts | table 1 | agrees | {tests} |"
    assert "### Some et al. 2019\n\n| claim | where |" in (docs / "results.md").read_text()
    assert row in (docs / "results.md").read_text()


def test_large_results_are_packed_and_read_as_before(evidence, tmp_path, monkeypatch):
    section, measured = counted()
    monkeypatch.setattr(sys.modules["section"], "PACKED_ABOVE", 100)
    rows = run(evidence, section, tmp_path)
    assert [path.name for path in tmp_path.glob("counted*")] == ["counted.jsonl.gz"]
    assert run(evidence, section, tmp_path) == rows
    assert len(measured) == 4


def test_a_damaged_line_names_its_place(evidence, tmp_path):
    section, _ = counted()
    (tmp_path / "counted.jsonl").write_text(json.dumps({"format": 1})[:-1] + "\n")
    with pytest.raises(ValueError, match=r"counted.jsonl:1: must be a line of JSON"):
        run(evidence, section, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_pages_are_what_the_stored_results_say(evidence, docs, name):
    section = evidence.load(name)
    evidence.write(section, docs=docs)
    for path in [docs / "results" / f"{name}.md", *(docs / "results").glob(f"{name}*.svg")]:
        assert path.read_text() == (ROOT / "docs" / path.relative_to(docs)).read_text(), "run evidence.py write"


def test_the_table_of_claims_is_what_the_stored_results_say(evidence, docs):
    evidence.write_claims([evidence.load(name) for name in evidence.names()], docs=docs)
    assert (docs / "results.md").read_text() == (ROOT / "docs/results.md").read_text(), "run evidence.py write"


def test_a_claim_has_the_conclusion_that_no_test_of_it_contradicts_and_how_many_tests_have_it(evidence):
    questions, tables = sys.modules["questions"], sys.modules["answer_tables"]
    published = questions.Published("Some et al. 2019", "it counts", "table 1")

    def of(*verdicts):
        return tables.overall([questions.Claim(published, "data", verdict) for verdict in verdicts])

    assert evidence.claims_table({"one": [], "two": []}) == ""
    assert of("agrees", "agrees") == "agrees"
    assert of("inconclusive", "agrees", "not measured yet") == "agrees in 1 of 3"
    assert of("inconclusive", "disagrees") == "disagrees in 1 of 2"
    assert of("agrees", "disagrees", "inconclusive") == "mixed: 1 agree, 1 disagree of 3"
    assert of("not measured yet", "inconclusive") == "inconclusive"


def test_the_smallest_effect_of_a_few_images_is_that_of_the_images(evidence):
    questions = sys.modules["questions"]
    assert evidence
    narrow, wide = (
        questions.by_shares([0.52, 0.531, 0.54], [0.5, 0.51, 0.52], "higher", num_images=images)
        for images in (10**9, 100)
    )
    question = questions.Question(
        "", [questions.Expected("check", lambda _: narrow)], [questions.Expected("few", lambda _: wide)]
    )
    low, high = wide.images
    over_images = (high - low) / 2 * 2.8 / 1.96
    smallest = question.answer(()).findings["few"].smallest
    assert smallest == pytest.approx(over_images, rel=0.02)
    assert smallest > over_images


def test_an_agreement_has_to_be_shown_beyond_each_control_on_other_images_too(evidence):
    questions = sys.modules["questions"]
    assert evidence
    better, shares = [0.52, 0.531, 0.54], [0.5, 0.51, 0.52]

    def verdict(images):
        beyond = {"control": lambda _rows: questions.by_shares(better, shares, "higher", num_images=images)}
        expected = questions.Expected(
            "better", lambda _rows: questions.by_seed(better, shares, "higher"), beyond=beyond
        )
        question = questions.Question("", [questions.Expected("check", expected.of)], [expected])
        finding = question.answer(()).findings["better"]
        return finding.conclusion, finding.reason

    assert verdict(10**9)[0] == "agrees"
    assert verdict(100) == ("inconclusive", "not shown beyond its controls: control")


def test_an_effect_is_seen_from_what_its_control_does_by_itself(evidence):
    questions = sys.modules["questions"]
    assert evidence
    baseline, control, treated = [0.5, 0.51, 0.52], [0.6, 0.612, 0.62], [0.62, 0.631, 0.64]
    alone = questions.Expected("raised", lambda _: questions.by_seed(treated, baseline, "higher"))
    beyond = {"control": lambda _: questions.by_seed(treated, control, "higher")}
    among = replace(alone, beyond=beyond)
    check = questions.Expected("check", alone.of)
    seen_alone, seen_among = (
        questions.Question("", [check], [own]).answer(()).findings["raised"].smallest for own in (alone, among)
    )
    assert seen_alone < 0.01
    assert seen_among > 0.1  # the control raises it by so much


def test_a_claim_over_seeds_alone_and_its_caveat_stand_in_the_table(evidence):
    questions = sys.modules["questions"]
    claim = questions.Published("A 2000", "it is higher", "table 1")
    expected = questions.Expected(
        "higher",
        lambda _: questions.by_seed([0.62, 0.631, 0.64], [0.5, 0.51, 0.52], "higher"),
        claim,
        "digits",
        caveat="asked after the measurement",
    )
    check = questions.Expected("check", expected.of)
    claims = questions.claims_of([questions.Question("", [check], [expected])], ())
    assert "agrees over seeds alone (digits: asked after the measurement)" in evidence.claims_table({"one": claims})


DOCUMENTED = (
    *(
        "answers_by_image",
        "answer_tables",
        "cells",
        "evidence",
        "line_figure",
        "network_pairs",
        "questions",
        "sections.gan.correlations",
    ),
    *(f"sections.dose.{name}" for name in ("doses", "grid", "measures")),
)


@pytest.mark.parametrize("name", [*DOCUMENTED, "sections.mnist.page"])
def test_the_examples_of_the_evidence_run_as_they_are_written(evidence, name):
    assert evidence
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
