"""Predictions of the papers, each with its manipulation check, and what the kept numbers say of them.

Each question is a family: Holm's correction is over its predictions, and its checks must all pass, against the baseline
and against the controls. The predictions and checks are these, whatever the numbers are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from answers import Answer, passes
from section import UNKNOWN, Claim

from orchestrator.analysis.claims.conclusions import Prediction

from .scores import TRANSFER, Scores

__all__ = ["QUESTIONS", "Scores", "answer", "claims", "passes", "section"]

BASELINE = "baseline"
CONTROLS = ("class means (control)", "activation L2 (control)")
CREDIBILITY = "ood/notmnist_credibility_auroc"
DEFORMATIONS = ("rotation@20", "rotation@40", "rotation@60", "shear@0.5", "zoom_in@0.6", "zoom_out@1.4")

Direction = Literal["higher", "lower"]


class Expected(NamedTuple):
    """Direction in which a metric of the treatment is to differ from its control, and where the paper says so."""

    words: str
    metric: str
    direction: Direction
    where: str = "-"


@dataclass(frozen=True)
class Question:
    """Predictions of a treatment against the baseline; its checks are against each of `references`.

    `paper` is the one that makes them, '' if none does.
    """

    title: str
    treatment: str
    checks: tuple[Expected, ...]
    references: tuple[str, ...]
    predictions: tuple[Expected, ...]
    paper: str = ""


def _layers(direction: Direction) -> tuple[Expected, ...]:
    return tuple(Expected(tap, f"entanglement/{tap}_test", direction) for tap in ("conv1", "conv2"))


QUESTIONS = (
    Question(
        "Frosst et al., 2019: entangling by `entangle`, weight -0.01",
        treatment="entangle",
        checks=_layers("higher"),
        references=(BASELINE, *CONTROLS),
        predictions=(
            Expected("test accuracy is higher", "test/accuracy", "higher", "table 1"),
            Expected("neighbours detect notMNIST better (AUROC of credibility)", CREDIBILITY, "higher", "abstract"),
            Expected("notMNIST has less credibility", "dknn/credibility_notmnist", "lower", "section on outliers"),
            Expected("attacks transfer less between such networks, %", TRANSFER, "lower", "section on attacks"),
        ),
        paper="Frosst et al. 2019",
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
            Expected("test accuracy is higher", "test/accuracy", "higher", "tables 1 to 3"),
            Expected("negative log-likelihood is lower, nats", "test/nll", "lower", "tables 1 and 2"),
            *(
                Expected(
                    f"accuracy is higher at {name.replace('@', ' ')}", f"deformation/{name}", "higher", "tables 4 and 9"
                )
                for name in DEFORMATIONS
            ),
        ),
        paper="Verma et al. 2019",
    ),
)


def answer(question: Question, scores: Scores) -> Answer:
    """Return the conclusions on a question; predictions that were not kept are not in it.

    Raises:
        ValueError: a manipulation check is not kept.
    """
    wanted = _wanted(question)
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
    if unchecked := [name for name in wanted if name not in measured and name not in words]:
        raise ValueError(f"{question.title}: the manipulation check is not kept: {', '.join(unchecked)}")
    return Answer.of(
        question.title,
        checks={name: prediction for name, prediction in measured.items() if name not in words},
        predictions={name: prediction for name, prediction in measured.items() if name in words},
    )


def _wanted(question: Question) -> Mapping[str, tuple[Expected, str]]:
    """Return each check and prediction by name, with what it is compared with."""
    return {
        **{f"{check.words} against {name}": (check, name) for check in question.checks for name in question.references},
        **{expected.words: (expected, BASELINE) for expected in question.predictions},
    }


def section(scores: Scores) -> str:
    """Return the conclusions as Markdown; a question of recipes that were not trained is named as such."""
    return "\n\n".join(part for question in QUESTIONS for part in _shown(question, scores))


def _shown(question: Question, scores: Scores) -> Iterator[str]:
    if absent := _absent(question, scores):
        yield f"### {question.title}"
        yield f"Not measured: {', '.join(absent)}."
        return
    found = answer(question, scores)
    yield found.shown()
    if missing := [own.words for own in question.predictions if own.words not in found.predictions]:
        yield f"Not measured: {'; '.join(missing)}."


def _absent(question: Question, scores: Scores) -> list[str]:
    return [name for name in (question.treatment, *question.references) if name not in scores.recipes]


def claims(scores: Scores) -> Iterator[Claim]:
    """Yield the claims of the papers, with what these numbers say of them."""
    for question in QUESTIONS:
        if not question.paper:
            continue
        found = None if _absent(question, scores) else answer(question, scores)
        for own in question.predictions:
            verdict, numbers, smallest = UNKNOWN, "not measured", "-"
            if found is not None and own.words in found.predictions:
                name = own.words
                verdict, numbers, smallest = found.verdict(name), found.numbers(name), found.smallest(name)
            claim = f"{own.words} ({question.treatment})"
            yield Claim(question.paper, claim, verdict, numbers, smallest, own.where)
