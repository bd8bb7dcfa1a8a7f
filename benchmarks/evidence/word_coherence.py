"""How much words have in common, by the text, and checks of vectors. Shapes: V words, R directions, K words of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse  # type: ignore[import-untyped]

from trainables.evaluation.representation.directions import rotated
from trainables.seeding import generator

if TYPE_CHECKING:
    from word_files import WordVectors

BLOCK: Final = 100
"""Words of a block of the text."""
NEAR: Final = 50
DRAWS: Final = 10


def pointwise_information(text: Sequence[str], words: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return log(p(v, w) / p(v) p(w)) / -log p(v, w) of each two words, in [-1, 1]; p is of blocks of the text.

    Words that never meet have -1, and words that are in each other's blocks alone, 1.

    >>> pointwise_information(["a", "b"] + 98 * ["a"] + 100 * ["c"], ["a", "b", "c"]).round(2).tolist()
    [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    """
    place = {word: index for index, word in enumerate(words)}
    rows, columns = zip(
        *{(index // BLOCK, place[word]) for index, word in enumerate(text) if word in place}, strict=True
    )
    blocks = -(-len(text) // BLOCK)
    presence = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), (blocks, len(words)))
    joint_VV = (presence.T @ presence).toarray() / blocks
    single_V = joint_VV.diagonal()
    with np.errstate(divide="ignore", invalid="ignore"):
        information_VV = np.log(joint_VV / single_V[:, None] / single_V) / -np.log(joint_VV)
    # In every block: log 1 / log 1.
    whole_VV = np.where(joint_VV >= 1, 1.0, information_VV)
    return np.where(joint_VV > 0, whole_VV, -1.0).astype(np.float32)


def mean_information(information_VV: npt.NDArray[np.float32], indices_RK: torch.Tensor) -> torch.Tensor:
    """Return the mean information (R,) of the pairs of different words of each row."""
    rows_RK = indices_RK.numpy()
    pairs_RKK = information_VV[rows_RK[:, :, None], rows_RK[:, None, :]].astype(np.float64)
    differ_RKK = rows_RK[:, :, None] != rows_RK[:, None, :]
    return torch.from_numpy((pairs_RKK * differ_RKK).sum((1, 2)) / differ_RKK.sum((1, 2)))


def excess(information_VV: npt.NDArray[np.float32], indices_RK: torch.Tensor, *, seed: int) -> torch.Tensor:
    """Return by how much the information (R,) of each row is above that of random words of the same frequency.

    Words are in the order of their frequency: each is replaced by one of those within 50 places, ten times. Rare words
    seldom meet, and raw vectors rank them first, so the information alone says how frequent words are.
    """
    stream = generator(seed, "words of the same frequency")
    last = len(information_VV) - 1
    matched = [
        mean_information(information_VV, (indices_RK + _moves(indices_RK.shape, stream)).clamp(0, last))
        for _ in range(DRAWS)
    ]
    return mean_information(information_VV, indices_RK) - torch.stack(matched).mean(0)


def _moves(shape: torch.Size, stream: torch.Generator) -> torch.Tensor:
    return torch.randint(-NEAR, NEAR + 1, shape, generator=stream)


def plurals(vectors: "WordVectors") -> tuple[float, float]:
    """Return the mean cosine of words and their plurals, and that of words and the plural of the next word.

    A plural is a word of the vocabulary that is another one and an s.
    """
    place = {word: index for index, word in enumerate(vectors.words)}
    pairs = [(place[word], place[f"{word}s"]) for word in vectors.words if len(word) > 2 and f"{word}s" in place]
    unit_VD = vectors.normalised().vectors_ND.double()
    one, other = (unit_VD[torch.tensor(side)] for side in zip(*pairs, strict=True))
    return float((one * other).sum(1).mean()), float((one * other.roll(1, 0)).sum(1).mean())


def axis_share(vectors: "WordVectors") -> float:
    """Return the kurtosis of the coordinates over that of a random rotation of them: 1 where no axis is special."""
    size = vectors.vectors_ND.shape[1]
    turn = rotated(size, size, generator=generator(0, "kurtosis"))
    values = vectors.vectors_ND.double()
    return _kurtosis(values) / _kurtosis(values @ turn.T)


def _kurtosis(values_ND: torch.Tensor) -> float:
    centred = values_ND - values_ND.mean(0)
    return float((centred**4).mean(0).div((centred**2).mean(0) ** 2).mean())
