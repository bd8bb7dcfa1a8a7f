"""Word vectors from Python's own documentation, and a comparison of their coordinates with random directions.

Skip-gram with negative sampling (Mikolov et al., NIPS 2013) on the text of `pydoc_data.topics`, which comes with
Python: about 60,000 words, so the vectors are small and plain. Prints the nearest words of a few, the top words of
coordinates and of random directions, and the comparison; `--out` keeps the vectors in word2vec's text format, which
`read_word_vectors` and other tools read.

    python examples/word_vectors/skip_gram.py --epochs 25 --dimension 50 --out vectors.txt
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer
from word_files import WordVectors, write_word_vectors
from word_vectors import direction_words

from trainables.seeding import generator

PROBES = ("list", "class", "import", "exception", "integer", "string", "async", "true")
BATCH = 1024
NEGATIVES = 5


def main() -> None:
    """Train, write and print."""
    arguments = parse()
    torch.set_num_threads(1)  # the batches are too small to be shared
    text = corpus(min_count=arguments.min_count)
    vectors = train(
        text, dimension=arguments.dimension, epochs=arguments.epochs, window=arguments.window, seed=arguments.seed
    )
    if arguments.out:
        write_word_vectors(arguments.out, vectors)
    print(f"{len(text):,} words of text, {len(vectors.words):,} different ones\n\nnearest words")
    for word in PROBES:
        print(f"  {word:10} {' '.join(nearest(vectors, word))}")
    comparison = direction_words(vectors, seed=arguments.seed)
    for title, table in (("top words", comparison.table()), ("coherence", comparison.summary())):
        print(f"\n{title}\n  {' | '.join(table.columns)}")
        for row in table.rows:
            print("  " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--dimension", type=int, default=50)
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--min-count", type=int, default=5, help="rarer words are left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the vectors")
    return parser.parse_args()


def corpus(*, min_count: int) -> list[str]:
    """Return the words of all topics in lower case, without the rare ones."""
    words = [word for topic in sorted(topics) for word in re.findall(r"[a-z]+", topics[topic].lower())]
    counts = Counter(words)
    return [word for word in words if counts[word] >= min_count]


def adam(tensors: list[Tensor]) -> Optimizer:
    """Return the optimizer that the example trains with."""
    return torch.optim.Adam(tensors, lr=3e-3)


def train(
    text: list[str],
    *,
    dimension: int,
    epochs: int,
    window: int,
    seed: int,
    optimizer: Callable[[list[Tensor]], Optimizer] = adam,
) -> WordVectors:
    """Train vectors of the words, the most frequent first."""
    counts = Counter(text)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    place = {word: i for i, word in enumerate(words)}
    tokens_N = torch.tensor([place[word] for word in text])
    frequency_V = torch.tensor([counts[word] for word in words]).double()
    stream = generator(seed, "skip-gram")
    inner_VD = ((torch.rand(len(words), dimension, generator=stream) - 0.5) / dimension).requires_grad_()
    outer_VD = torch.zeros(len(words), dimension, requires_grad=True)
    steps = optimizer([inner_VD, outer_VD])
    for _ in range(epochs):
        pairs_P2 = skip_grams(tokens_N, frequency_V, window=window, stream=stream)
        for batch_B2 in pairs_P2[torch.randperm(len(pairs_P2), generator=stream)].split(BATCH):
            negatives = torch.multinomial(frequency_V**0.75, len(batch_B2) * NEGATIVES, True, generator=stream)
            loss = negative_sampling(inner_VD, outer_VD, batch_B2, negatives.reshape(-1, NEGATIVES))
            steps.zero_grad()
            loss.backward()
            steps.step()
    return WordVectors(tuple(words), inner_VD.detach())


def skip_grams(tokens_N: Tensor, frequency_V: Tensor, *, window: int, stream: torch.Generator) -> Tensor:
    """Return pairs (P, 2) of a word and a word of its context; frequent words are dropped, and near words count more.

    A word of relative frequency f stays with probability sqrt(1e-3 / f); each word's reach is even on 1 ... window.
    """
    keep_V = (1e-3 * frequency_V.sum() / frequency_V).sqrt()
    kept_N = tokens_N[torch.rand(len(tokens_N), generator=stream) < keep_V[tokens_N]]
    reach_N = torch.randint(1, window + 1, (len(kept_N),), generator=stream)
    pairs = []
    for shift in range(1, window + 1):
        left, right = kept_N[:-shift], kept_N[shift:]
        pairs.append(torch.stack([left, right], 1)[reach_N[:-shift] >= shift])
        pairs.append(torch.stack([right, left], 1)[reach_N[shift:] >= shift])
    return torch.cat(pairs)


def negative_sampling(inner_VD: Tensor, outer_VD: Tensor, pairs_B2: Tensor, negatives_BM: Tensor) -> Tensor:
    """Return -log sigmoid(<u, v>) of the pair and -log sigmoid(-<u, v>) of each negative, the mean over pairs."""
    centre_B1D = functional.embedding(pairs_B2[:, :1], inner_VD)
    others_BM = torch.cat([pairs_B2[:, 1:], negatives_BM], 1)
    scores_BM = (functional.embedding(others_BM, outer_VD) * centre_B1D).sum(2)
    return -(functional.logsigmoid(scores_BM[:, 0]) + functional.logsigmoid(-scores_BM[:, 1:]).sum(1)).mean()


def nearest(vectors: WordVectors, word: str, *, count: int = 6) -> list[str]:
    """Return the words of the largest cosine with this one."""
    unit_VD = vectors.normalised().vectors_ND
    cosine_V = unit_VD @ unit_VD[vectors.words.index(word)]
    return [vectors.words[i] for i in cosine_V.topk(count + 1).indices.tolist() if vectors.words[i] != word][:count]


if __name__ == "__main__":
    main()
