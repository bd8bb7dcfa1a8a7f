"""Comparison of the coordinates of word vectors with random directions, by the words that they rank first.

This is the analysis of `units` without labels. The coherence of a direction's top words is the mean cosine of their
pairs, after the direction itself is removed from the vectors, since along it they are alike by selection.
Shapes: N words, D coordinates, R directions, K words ranked first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor

from trainables.evaluation.core.figures import graph_objects, panels
from trainables.evaluation.core.results import Cell, Table
from trainables.evaluation.representation.directions import (
    gaussian,
    natural_basis,
    rotated,
    top_k,
)
from trainables.evaluation.representation.group_comparison import Comparison, compare, holm
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure
    from word_files import WordVectors

__all__ = ["DirectionWords", "TopWords", "WordComparison", "coherence", "direction_words"]

Scaling = Literal["raw", "normalised"]

SCALINGS: Final[tuple[Scaling, ...]] = ("raw", "normalised")
KINDS: Final = ("random", "rotated")
SHOWN: Final = 10
_LEVEL = 0.05
_SCORES = 2**24
_COLOURS: Final = {"coordinates": "#1f77b4", "random": "#d95f02", "rotated": "#e6ab02", "chance": "grey"}


@dataclass(frozen=True, slots=True, eq=False)
class TopWords:
    """Words that a group of directions ranks first: indices_RK of words, and the coherence of each row."""

    indices_RK: Tensor
    coherence_R: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class WordComparison:
    """Comparison of the coordinates with one kind of other directions, by the coherence of their top words.

    chance: the coherence (B,) of equally many random words. p_holm: the test's p value, corrected for the scalings of
    the vectors.
    """

    scaling: Scaling
    kind: str
    coordinates: TopWords
    others: TopWords
    chance_B: Tensor
    test: Comparison
    p_holm: float


@dataclass(frozen=True, slots=True, eq=False)
class DirectionWords:
    """Comparisons of all scalings and kinds; the metrics are of raw vectors and Gaussian directions."""

    words: tuple[str, ...]
    comparisons: tuple[WordComparison, ...]
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return `units/words_coherence_basis`, `units/words_coherence_random` and, by Holm, `units/words_p`."""
        row = self.comparisons[0]
        return {
            "units/words_coherence_basis": float(row.coordinates.coherence_R.mean()),
            "units/words_coherence_random": float(row.others.coherence_R.mean()),
            "units/words_p": row.p_holm,
        }

    def summary(self) -> Table:
        """Return a row for each scaling of the vectors and kind of direction that the coordinates are compared with."""
        columns = ("vectors", "compared with", "coherence of coordinates", "of others", "by chance")
        above = ("share of coordinates above chance", "share of others above chance")
        test = ("difference", "p", "p, Holm", "Cliff's delta", "delta, 2.5%", "delta, 97.5%")
        return Table((*columns, *above, *test), tuple(_cells(row) for row in self.comparisons))

    def table(self) -> Table:
        """Return the top words of some directions of each kind, for each scaling of the vectors."""
        rows: list[tuple[Cell, ...]] = []
        for row in self.comparisons:
            groups = {row.kind: row.others}
            if row.kind == KINDS[0]:
                groups = {"coordinate": row.coordinates, **groups}
            for kind, group in groups.items():
                for place in range(min(SHOWN, len(group.indices_RK))):
                    top = " ".join(self.words[i] for i in group.indices_RK[place])
                    rows.append((row.scaling, f"{kind} {place + 1}", float(group.coherence_R[place]), top))
        return Table(("vectors", "direction", "coherence", "words"), tuple(rows))

    def figure(self) -> Figure:
        """Plot the distribution of the coherence of directions, by kind, and that of random words."""
        plot = panels("Coherence of the top words", tuple(f"{scaling} vectors" for scaling in SCALINGS))
        go = graph_objects()
        for column, scaling in enumerate(SCALINGS, start=1):
            rows = [row for row in self.comparisons if row.scaling == scaling]
            groups = {"coordinates": rows[0].coordinates.coherence_R}
            groups |= {row.kind: row.others.coherence_R for row in rows}
            for name, values in {**groups, "chance": rows[0].chance_B}.items():
                box = go.Box(y=values.numpy(), name=name, marker_color=_COLOURS[name], showlegend=False)
                plot.add_trace(box, row=1, col=column)
        plot.update_xaxes(title="kind of direction")
        plot.update_yaxes(title="mean cosine of pairs of top words")
        return plot


def _cells(row: WordComparison) -> tuple[Cell, ...]:
    limit = float(row.chance_B.quantile(1 - _LEVEL))
    groups, test = (row.coordinates.coherence_R, row.others.coherence_R), row.test
    return (
        row.scaling,
        row.kind,
        *(float(group.mean()) for group in (*groups, row.chance_B)),
        *(float((group > limit).double().mean()) for group in groups),
        *(test.difference, test.p, row.p_holm, test.cliffs_delta, test.low, test.high),
    )


def direction_words(
    vectors: WordVectors, *, top: int = 10, directions: int = 1000, draws: int = 10_000, seed: int = 0
) -> DirectionWords:
    """Compare the coordinates with random and with rotated directions, on raw and on length-normalised vectors.

    Raises:
        ValueError: fewer words than `top`, fewer than two of them, or a vector that is zero.
    """
    if top < 2:
        raise ValueError(f"top: must be >= 2, since a pair of words has a cosine, got {top}")
    size = vectors.vectors_ND.shape[1]
    controls = {
        "random": gaussian(directions, size, generator=generator(seed, "random directions of words")),
        "rotated": rotated(size, size, generator=generator(seed, "rotated directions of words")),
    }
    rows: list[WordComparison] = []
    for scaling in SCALINGS:
        vectors_ND = (vectors if scaling == "raw" else vectors.normalised()).vectors_ND
        coordinates = _top_words(vectors_ND, natural_basis(size), top)
        chance_B = _chance(vectors_ND, controls["random"], top=top, seed=seed)
        for kind in KINDS:
            others = _top_words(vectors_ND, controls[kind], top)
            test = compare(coordinates.coherence_R, others.coherence_R, seed=seed, draws=draws)
            rows.append(WordComparison(scaling, kind, coordinates, others, chance_B, test, test.p))
    corrected = {kind: iter(holm([row.test.p for row in rows if row.kind == kind])) for kind in KINDS}
    limits = ("p values take the directions of one set of vectors as independent: before a claim, train several",)
    comparisons = tuple(replace(row, p_holm=next(corrected[row.kind])) for row in rows)
    return DirectionWords(vectors.words, comparisons, limits)


def coherence(vectors_RKD: Tensor, directions_RD: Tensor) -> Tensor:
    """Return the mean cosine (R,) of the K (K - 1) / 2 pairs, each vector minus its part along the direction.

    A vector without any rest has cosine 0 with all vectors.

    >>> pair = torch.tensor([[[5.0, 1.0, 0.0], [5.0, 0.0, 1.0]]])
    >>> coherence(pair, torch.tensor([[1.0, 0.0, 0.0]])).tolist()
    [0.0]
    """
    values_RKD, along_R1D = vectors_RKD.double(), directions_RD.double()[:, None]
    rest_RKD = values_RKD - (values_RKD * along_R1D).sum(2, keepdim=True) * along_R1D
    unit_RKD = torch.nn.functional.normalize(rest_RKD, dim=2)
    pairs = vectors_RKD.shape[1] * (vectors_RKD.shape[1] - 1)
    return (unit_RKD.sum(1).square().sum(1) - unit_RKD.square().sum((1, 2))) / pairs


def _top_words(vectors_ND: Tensor, directions_RD: Tensor, top: int) -> TopWords:
    """Rank the words in blocks, as a vocabulary can be large."""
    blocks = torch.split(directions_RD.float(), max(1, _SCORES // len(vectors_ND)))
    indices_RK = torch.cat([top_k(block_RD @ vectors_ND.T, top) for block_RD in blocks])
    return TopWords(indices_RK, coherence(vectors_ND[indices_RK], directions_RD))


def _chance(vectors_ND: Tensor, directions_RD: Tensor, *, top: int, seed: int) -> Tensor:
    """Return the coherence of words sampled without replacement, for equally many directions."""
    stream = generator(seed, "words by chance")
    sampled = [torch.randperm(len(vectors_ND), generator=stream)[:top] for _ in directions_RD]
    return coherence(vectors_ND[torch.stack(sampled)], directions_RD)
