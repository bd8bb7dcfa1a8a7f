"""Answers to the questions of a section as Markdown, and as rows of the table of claims.

A question is a family of predictions with the manipulation checks of its treatment
(`orchestrator.analysis.claims.conclusions`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from section import UNKNOWN, Verdict

from orchestrator.analysis.claims.comparisons import SIGNIFICANCE, PairedDifference
from orchestrator.analysis.claims.conclusions import Finding, Prediction, conclude
from orchestrator.analysis.claims.intervals import Interval

CHECKS = ("manipulation check", "difference", "95 % over seeds", "p", "passed")
PREDICTIONS = (
    *("prediction", "difference", "95 % over seeds", "over images", "p (Holm)", "g_z", "seen from", "conclusion"),
)

SEEN = (1.96 + 0.84) / 1.96
"""Difference that an interval of 95 % leaves out with a probability of 0.8, in half widths of it."""


@dataclass(frozen=True)
class Answer:
    """Checks, predictions and findings of one question, by name."""

    title: str
    checks: Mapping[str, Prediction]
    predictions: Mapping[str, Prediction]
    findings: Mapping[str, Finding]

    @classmethod
    def of(cls, title: str, *, checks: Mapping[str, Prediction], predictions: Mapping[str, Prediction]) -> "Answer":
        """Return the conclusions on a question."""
        return cls(title, checks, predictions, conclude(predictions, checks=checks))

    def verdict(self, name: str) -> Verdict:
        """Return the verdict on a prediction."""
        found = self.findings[name].conclusion
        return UNKNOWN if found == "inconclusive" else found

    def numbers(self, name: str) -> str:
        """Return the difference, its interval over seeds and the reason of the finding, in words."""
        found, finding = self.predictions[name].difference, self.findings[name]
        reason = finding.reason.partition(":")[0]
        return f"{found.mean:+.4f} ({ends(found.interval)}), p = {finding.p_corrected:.2g} (Holm); {reason}"

    def smallest(self, name: str) -> str:
        """Return the difference that would have been found with a probability of 0.8, over seeds and over images."""
        images = self.predictions[name].images
        over_images = 0.0 if images is None else (images.high - images.low) / 2 * SEEN
        return f"{max(self.findings[name].smallest, over_images):.2g}"

    def shown(self) -> str:
        """Return the tables of checks and of predictions."""
        return "\n\n".join(self._parts())

    def _parts(self) -> Iterator[str]:
        yield f"### {self.title}"
        yield table(CHECKS, (_check(name, check) for name, check in self.checks.items()))
        yield table(PREDICTIONS, (self._row(name) for name in self.predictions))

    def _row(self, name: str) -> list[str]:
        prediction, finding = self.predictions[name], self.findings[name]
        difference = prediction.difference
        is_paired = isinstance(difference, PairedDifference)
        effect = difference.g_z if isinstance(difference, PairedDifference) else None
        return [
            name,
            f"{difference.mean:+.4f}" + (", paired" if is_paired else ""),
            ends(difference.interval),
            "-" if prediction.images is None else ends(prediction.images),
            f"{finding.p_corrected:.2g}",
            "-" if effect is None else f"{effect:.1f}",
            f"{finding.smallest:.2g}",
            f"{finding.conclusion}: {finding.reason.partition(':')[0]}",
        ]


def passes(check: Prediction) -> bool:
    """Return True if a manipulation check passed."""
    return check.p <= SIGNIFICANCE and check.is_as_predicted


def ends(interval: Interval) -> str:
    """Return both ends of an interval."""
    return f"{interval.low:+.4f} to {interval.high:+.4f}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    columns = list(head)
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])


def _check(name: str, check: Prediction) -> list[str]:
    difference = check.difference
    verdict = "yes" if passes(check) else "**no**"
    return [name, f"{difference.mean:+.4f}", ends(difference.interval), f"{check.p:.2g}", verdict]
