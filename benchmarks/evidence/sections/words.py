"""Coordinates of word vectors against random directions, by the words that they rank first.

Szegedy et al. (2014) rank images in section 3. Of word vectors their introduction says, after Mikolov et al. (2013),
that directions have a meaning and single units need not; what is tested here is by our reading. Skip-grams with
negative sampling are trained on the documentation of three packages (`word_corpus`), written in word2vec's binary
format, and read from it. Coherence of the first ten words is measured twice: by the cosines of their vectors without
their part along the direction, and by their normalised pointwise mutual information in blocks of 100 words of the text,
which no vector enters, above that of random words of the same frequency.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import published_claims as published
import torch
import word_corpus
from cells import spread, table
from questions import Expected, Question, by_seed, paired, rows_of
from section import JSON, Places, Row, Section, Size, Unit
from word_coherence import axis_share, excess, plurals, pointwise_information

from trainables.evaluation.representation.group_comparison import compare

if TYPE_CHECKING:
    from word_vectors import TopWords, WordComparison

MARGIN: Final = 0.03
"""Largest difference of mean cosines, or of mean information, that counts as none."""
TOP: Final = 10
SHOWN: Final = 6
EXAMPLES: Final = Path(__file__).parents[3] / "examples/word_vectors"
SEEDS: Final[Mapping[Size, Sequence[int]]] = {"smoke": (0, 1), "whole": range(1, 6), "full": range(1, 11)}
"""Seed 0 was looked at while the measures were chosen."""
OPTIMIZERS: Final = {"adam": 3e-3, "sgd": 50.0}
"""Learning rates by optimizer. The loss is the same after a rotation of all vectors, and so are the steps of SGD; those
of Adam are not, as it divides by the size of each coordinate's gradients. The losses are means over 1,024 pairs."""


def units(size: Size) -> list[Unit]:
    """Return a unit for each optimizer and seed; the smoke size has Python's own documentation as its text."""
    small = size == "smoke"
    common = {
        "corpus": "pydoc_data.topics" if small else word_corpus.LISTED.name,
        "words": 6000 if small else None,
        "min_count": 5 if small else 30,
        "dimension": 8 if small else 100,
        "epochs": 1 if small else 5,
        "directions": 50 if small else 1000,
        "draws": 99 if small else 10_000,
    }
    return [
        Unit(f"{name} seed {seed}", {"optimizer": name, "rate": rate, "seed": seed, **common})
        for seed in SEEDS[size]
        for name, rate in OPTIMIZERS.items()
    ]


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train vectors, read them from their file, and compare their coordinates with other directions."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    import skip_gram  # noqa: PLC0415
    from word_files import read_binary_word_vectors, write_binary_word_vectors  # noqa: PLC0415
    from word_vectors import direction_words  # noqa: PLC0415

    settings = unit.settings
    text = corpus(settings)
    optimizers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    vectors = skip_gram.train(
        text,
        dimension=settings["dimension"],
        epochs=settings["epochs"],
        window=5,
        seed=settings["seed"],
        optimizer=lambda tensors: optimizers[settings["optimizer"]](tensors, lr=settings["rate"]),
    )
    path = places.kept / f"{settings['optimizer']}-{settings['seed']}-{settings['dimension']}.bin"
    write_binary_word_vectors(path, vectors)
    vectors = read_binary_word_vectors(path)
    result = direction_words(
        vectors, top=TOP, directions=settings["directions"], draws=settings["draws"], seed=settings["seed"]
    )
    information_VV = pointwise_information(text, vectors.words)
    alike, shuffled = plurals(vectors)
    return {
        "text": len(text),
        "words": len(vectors.words),
        "plurals": alike,
        "shuffled plurals": shuffled,
        "size": axis_share(vectors),
        "compared": {
            f"{row.scaling} {row.kind}": _numbers(row, information_VV, settings) for row in result.comparisons
        },
        "shown": [list(row) for row in _some(result.words, result.comparisons)],
    }


def corpus(settings: Mapping[str, Any]) -> list[str]:
    """Return the words of the text, without the rare ones."""
    import skip_gram  # noqa: PLC0415

    if settings["corpus"] != word_corpus.LISTED.name:
        return skip_gram.corpus(min_count=settings["min_count"])[: settings["words"]]
    words = [word for document in word_corpus.documents() for word in document]
    counts = Counter(words)
    return [word for word in words if counts[word] >= settings["min_count"]]


def _numbers(
    row: "WordComparison", information_VV: npt.NDArray[np.float32], settings: Mapping[str, Any]
) -> dict[str, JSON]:
    seed = settings["seed"]
    own, others = (excess(information_VV, group.indices_RK, seed=seed) for group in (row.coordinates, row.others))
    test = compare(own, others, seed=seed, draws=settings["draws"])
    return {
        "cosine": [float(group.coherence_R.mean()) for group in (row.coordinates, row.others)],
        "cosine chance": float(row.chance_B.mean()),
        "cosine p": row.test.p,
        "information": [float(own.mean()), float(others.mean())],
        "information chance": 0.0,
        "information p": test.p,
    }


def _some(words: Sequence[str], comparisons: "Sequence[WordComparison]") -> list[tuple[str, str, float, str]]:
    """Return the first words of some coordinates and some random directions of raw vectors."""
    row = comparisons[0]

    def lines(kind: str, group: "TopWords") -> list[tuple[str, str, float, str]]:
        return [
            (kind, str(place + 1), float(group.coherence_R[place]), " ".join(words[i] for i in group.indices_RK[place]))
            for place in range(SHOWN)
        ]

    return [*lines("coordinate", row.coordinates), *lines("random", row.others)]


def values(rows: Sequence[Row], key: str, what: str, place: int) -> list[float]:
    """Return a number of each seed: of coordinates (0) or of other directions (1)."""
    return [row.metrics["compared"][key][what][place] for row in rows]


MEASURES: Final = {"cosine": "by cosine", "information": "by information in the text"}
SCALINGS: Final = ("raw", "normalised")


def question(optimizer: str, scaling: str) -> Question:
    """Return the predictions, which were written before any of this was measured."""
    own = {"optimizer": optimizer}

    def coherence(kind: str, name: str, place: int) -> Callable[[Row], float]:
        return lambda row: row.metrics["compared"][f"{scaling} {kind}"][name][place]

    def chance(name: str) -> Callable[[Row], float]:
        return lambda row: row.metrics["compared"][f"{scaling} random"][f"{name} chance"]

    def beyond_chance(name: str) -> Expected:
        words = f"random directions are more coherent than random words, {MEASURES[name]}"
        return Expected(words, paired(coherence("random", name, 1), "higher", own, control_value=chance(name)))

    def alike(kind: str, name: str) -> Expected:
        of_coordinates, of_others = coherence(kind, name, 0), coherence(kind, name, 1)
        return Expected(
            f"{kind} directions are as coherent {MEASURES[name]}",
            paired(of_coordinates, "equal", own, control_value=of_others, by=partial(by_seed, margin=MARGIN)),
            published.WORD_DIRECTIONS if (optimizer, kind, name) == ("adam", "random", "information") else None,
            f"{scaling}, {optimizer}",
            caveat="claimed of these alone after the measurement",
        )

    plural = paired(
        lambda row: row.metrics["plurals"], "higher", own, control_value=lambda row: row.metrics["shuffled plurals"]
    )
    return Question(
        f"Coordinates against other directions, {scaling} vectors by {optimizer}",
        [
            Expected("words are nearer to their own plural than to another", plural),
            *(beyond_chance(name) for name in MEASURES),
        ],
        [alike(kind, name) for kind in ("random", "rotated") for name in MEASURES],
    )


QUESTIONS: Final = tuple(question(optimizer, scaling) for optimizer in OPTIMIZERS for scaling in SCALINGS)


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables by their markers."""
    return {
        "words": "\n\n".join(_coherence(name, rows_of(rows, {"optimizer": name})) for name in OPTIMIZERS),
        "words shown": "\n\n".join(_examples(name, rows_of(rows, {"optimizer": name})) for name in OPTIMIZERS),
    }


def _coherence(optimizer: str, rows: Sequence[Row]) -> str:
    first, lines = rows[0].metrics, []
    for key in first["compared"]:
        scaling, kind = key.split(" ")
        for name, title in MEASURES.items():
            cells = [spread(values(rows, key, name, place)) for place in (0, 1)]
            of_seeds = [row.metrics["compared"][key] for row in rows]
            chance = spread([own[f"{name} chance"] for own in of_seeds])
            found = sum(own[f"{name} p"] <= 0.05 for own in of_seeds)
            lines.append([scaling, kind, title, *cells, chance, f"{found} of {len(rows)}"])
    head = ["vectors", "directions", "coherence", "of coordinates", "of directions", "of random words", "p <= 0.05"]
    plural = [spread([row.metrics[name] for row in rows]) for name in ("plurals", "shuffled plurals")]
    size = spread([row.metrics["size"] for row in rows])
    about = (
        f"{optimizer}: {first['text']:,} words of text, {first['words']:,} different ones. Cosine of a word and its "
        f"plural {plural[0]}, of a word and another's {plural[1]}. Kurtosis of coordinates over that of "
        f"rotated ones {size}."
    )
    return f"{about}\n\n{table(head, lines)}\n\n{_margins(rows)}"


def _margins(rows: Sequence[Row]) -> str:
    """Say how large the margin is against what could be lost: a margin of all of it would call anything equal."""
    shares = []
    for scaling in SCALINGS:
        for name, title in MEASURES.items():
            key = f"{scaling} random"
            chance = mean(row.metrics["compared"][key][f"{name} chance"] for row in rows)
            above = mean(values(rows, key, name, 1)) - chance
            shares.append(f"{MARGIN / above:.0%} {title}, {scaling}")
    return (
        f"The margin of {MARGIN:g} is this much of what random directions are above random words: {'; '.join(shares)}. "
        "The larger it is, the less *equal* says."
    )


def _examples(optimizer: str, rows: Sequence[Row]) -> str:
    lines = [[f"{kind} {number}", f"{value:.3f}", words] for kind, number, value, words in rows[0].metrics["shown"]]
    words = table(["direction", "cosine", "first words"], lines)
    return f"{optimizer}, seed {rows[0].settings['seed']}, raw vectors:\n\n{words}"


TITLE: Final = "Units against random directions, on word vectors"
SECTION = Section("words", TITLE, units, measure, write, lambda _: QUESTIONS)
