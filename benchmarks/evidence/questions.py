"""Predictions of the papers, each with its manipulation check, and what the kept numbers say of them.

    python benchmarks/evidence/questions.py     writes the conclusions into docs/results.md; trains nothing

Each question is a family: Holm's correction is over its predictions, and its checks must all pass, against the baseline
and against the controls. The predictions and checks are these, whatever the numbers are.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from scores import TRANSFER, Scores

from orchestrator.analysis.claims.comparisons import SIGNIFICANCE, PairedDifference
from orchestrator.analysis.claims.conclusions import Finding, Prediction, conclude
from orchestrator.analysis.claims.intervals import Interval

BEGIN, END = "<!-- conclusions: begin -->\n", "<!-- conclusions: end -->"
PAGE = Path(__file__).parents[2] / "docs/results.md"
BASELINE = "baseline"
CONTROLS = ("class means (control)", "activation L2 (control)")
CREDIBILITY = "ood/notmnist_credibility_auroc"
DEFORMATIONS = ("rotation@20", "rotation@40", "rotation@60", "shear@0.5", "zoom_in@0.6", "zoom_out@1.4")

Direction = Literal["higher", "lower"]


class Expected(NamedTuple):
    """Direction in which a metric of the treatment is to differ from its control."""

    words: str
    metric: str
    direction: Direction


@dataclass(frozen=True)
class Question:
    """Predictions of a treatment against the baseline; its checks are against each of `references`."""

    title: str
    treatment: str
    checks: tuple[Expected, ...]
    references: tuple[str, ...]
    predictions: tuple[Expected, ...]


def _layers(direction: Direction) -> tuple[Expected, ...]:
    return tuple(Expected(tap, f"entanglement/{tap}_test", direction) for tap in ("conv1", "conv2"))


QUESTIONS = (
    Question(
        "Frosst et al., 2019: entangling by `entangle`, weight -0.01",
        treatment="entangle",
        checks=_layers("higher"),
        references=(BASELINE, *CONTROLS),
        predictions=(
            Expected("test accuracy is higher", "test/accuracy", "higher"),
            Expected("neighbours detect notMNIST better (AUROC of credibility)", CREDIBILITY, "higher"),
            Expected("notMNIST has less credibility", "dknn/credibility_notmnist", "lower"),
            Expected("attacks transfer less between such networks, %", TRANSFER, "lower"),
        ),
    ),
    Question(
        "The reverse of it: separating by `disentangle`, weight 0.3",
        treatment="disentangle",
        checks=_layers("lower"),
        references=(BASELINE, *CONTROLS),
        predictions=(
            Expected("test accuracy is lower", "test/accuracy", "lower"),
            Expected("neighbours detect notMNIST worse (AUROC of credibility)", CREDIBILITY, "lower"),
            Expected("notMNIST has more credibility", "dknn/credibility_notmnist", "higher"),
            Expected("attacks transfer more between such networks, %", TRANSFER, "higher"),
        ),
    ),
    Question(
        "Verma et al., 2019: manifold mixup, alpha 2",
        treatment="manifold mixup",
        checks=(Expected("mixed labels lower the confidence (ECE)", "test/ece", "higher"),),
        references=(BASELINE,),
        predictions=(
            Expected("test accuracy is higher", "test/accuracy", "higher"),
            Expected("negative log-likelihood is lower, nats", "test/nll", "lower"),
            *(
                Expected(f"accuracy is higher at {name.replace('@', ' ')}", f"deformation/{name}", "higher")
                for name in DEFORMATIONS
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Answer:
    """Checks and predictions of one question as measured, with the conclusions; `missing` are those not kept."""

    question: Question
    checks: Mapping[str, Prediction]
    predictions: Mapping[str, Prediction]
    findings: Mapping[str, Finding]
    missing: tuple[str, ...]


def answer(question: Question, scores: Scores) -> Answer:
    """Return the conclusions on a question.

    Raises:
        ValueError: a manipulation check is not kept.
    """
    wanted = {
        **{f"{check.words} against {name}": (check, name) for check in question.checks for name in question.references},
        **{expected.words: (expected, BASELINE) for expected in question.predictions},
    }
    measured = {
        name: Prediction(
            difference,
            expected.direction,
            images=scores.image_interval(question.treatment, control, expected.metric),
        )
        for name, (expected, control) in wanted.items()
        if (difference := scores.difference(question.treatment, control, expected.metric)) is not None
    }
    words = {expected.words for expected in question.predictions}
    predictions = {name: prediction for name, prediction in measured.items() if name in words}
    checks = {name: prediction for name, prediction in measured.items() if name not in words}
    missing = tuple(name for name in wanted if name not in measured)
    if unchecked := [name for name in missing if name not in words]:
        raise ValueError(f"{question.title}: the manipulation check is not kept: {', '.join(unchecked)}")
    return Answer(question, checks, predictions, conclude(predictions, checks=checks), missing)


def section(scores: Scores) -> str:
    """Return the conclusions as Markdown; a question of recipes that were not trained is named as such."""
    parts: list[str] = []
    for question in QUESTIONS:
        if absent := [name for name in (question.treatment, *question.references) if name not in scores.recipes]:
            parts += [f"### {question.title}", f"Not measured: {', '.join(absent)}."]
        else:
            parts += _shown(answer(question, scores))
    return "\n\n".join(parts)


def write(page: Path, scores: Scores) -> None:
    """Write the conclusions between the page's markers."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{section(scores)}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def _shown(found: Answer) -> Iterator[str]:
    yield f"### {found.question.title}"
    checks = (
        [name, _mean(check), _ends(check.difference.interval), _p(check.p), "yes" if passes(check) else "**no**"]
        for name, check in found.checks.items()
    )
    yield _table(["manipulation check", "difference", "95 % over seeds", "p", "passed"], checks)
    rows = (_row(name, prediction, found.findings[name]) for name, prediction in found.predictions.items())
    head = ["prediction", "difference", "95 % over seeds", "over images", "p (Holm)", "g_z", "seen from", "conclusion"]
    yield _table(head, rows)
    if found.missing:
        yield f"Not measured: {'; '.join(found.missing)}."


def _row(name: str, prediction: Prediction, finding: Finding) -> list[str]:
    difference = prediction.difference
    effect = difference.g_z if isinstance(difference, PairedDifference) else None
    return [
        name,
        _mean(prediction) + (", paired" if isinstance(difference, PairedDifference) else ""),
        _ends(difference.interval),
        "-" if prediction.images is None else _ends(prediction.images),
        _p(finding.p_corrected),
        "-" if effect is None else f"{effect:.1f}",
        f"{finding.smallest:.2g}",
        f"{finding.conclusion}: {finding.reason.partition(':')[0]}",
    ]


def passes(check: Prediction) -> bool:
    """Return True if a manipulation check passed."""
    return check.p <= SIGNIFICANCE and check.is_as_predicted


def _mean(prediction: Prediction) -> str:
    return f"{prediction.difference.mean:+.4f}"


def _ends(interval: Interval) -> str:
    return f"{interval.low:+.4f} to {interval.high:+.4f}"


def _p(value: float) -> str:
    return f"{value:.2g}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" if cells[0] != "---" else "|---" * len(cells) + "|" for cells in lines)


if __name__ == "__main__":
    write(PAGE, Scores.read())
    sys.exit(0)
