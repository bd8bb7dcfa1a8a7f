"""Coherence finds what was planted and nothing else, and the example learns vectors."""

from itertools import combinations

import pytest
import skip_gram
import torch
from torch.nn.functional import cosine_similarity
from word_files import WordVectors
from word_vectors import coherence, direction_words

from trainables.evaluation.representation.directions import gaussian
from trainables.seeding import generator


def test_coherence_is_the_mean_cosine_of_all_pairs_without_the_direction():
    stream = generator(0, "coherence")
    vectors = torch.randn(3, 4, 6, generator=stream, dtype=torch.float64)
    directions = gaussian(3, 6, generator=stream)
    for row, direction, value in zip(vectors, directions, coherence(vectors, directions).tolist(), strict=True):
        rest = [vector - vector @ direction * direction for vector in row]
        cosines = [cosine_similarity(a, b, dim=0).item() for a, b in combinations(rest, 2)]
        assert value == pytest.approx(sum(cosines) / len(cosines), rel=1e-9)


def test_being_alike_along_the_direction_alone_is_no_coherence():
    words = torch.randn(500, 40, generator=generator(1, "noise"))
    result = direction_words(WordVectors(tuple(map(str, range(500))), words), directions=300, draws=999)
    row = result.comparisons[0]
    for group in (row.coordinates.coherence_R, row.others.coherence_R, row.chance_B):
        assert group.mean().abs() < 0.02
    assert row.test.p > 0.05


@pytest.fixture(scope="module")
def planted():
    """Each word has one coordinate, and shares a second one with the words of the same coordinate."""
    stream = generator(0, "planted")
    own = torch.arange(600) % 30
    vectors = torch.rand(600, 30, generator=stream) * 0.3
    vectors[torch.arange(600), own] += 1 + torch.rand(600, generator=stream)
    vectors[torch.arange(600), (own + 1) % 30] += 0.9
    return direction_words(WordVectors(tuple(f"w{i}" for i in range(600)), vectors), directions=200, draws=999)


def test_planted_coordinates_are_more_coherent_than_random_directions(planted):
    for row in planted.comparisons:
        assert row.coordinates.coherence_R.mean() > row.others.coherence_R.mean() + 0.1
        assert row.p_holm < 0.01
    assert planted.metrics()["units/words_p"] == planted.comparisons[0].p_holm


def test_the_table_shows_the_words_of_each_direction(planted):
    rows = planted.table().rows
    assert len(rows) == 2 * 3 * 10
    assert rows[0][:2] == ("raw", "coordinate 1")
    assert all(int(word[1:]) % 30 == 0 for word in rows[0][3].split())
    assert len(planted.summary().rows) == 4


def test_the_figure_shows_each_kind_and_chance(planted):
    assert [trace.name for trace in planted.figure().data] == ["coordinates", "random", "rotated", "chance"] * 2


def test_a_rescaled_word_changes_raw_rankings_alone():
    vectors = torch.randn(50, 5, generator=generator(2, "scale"))
    louder = vectors.clone()
    louder[7] *= 100
    words = tuple(map(str, range(50)))
    before, after = (direction_words(WordVectors(words, v), directions=5, draws=9) for v in (vectors, louder))
    (raw, normalised) = (
        [row.scaling == name for row in before.comparisons].index(True) for name in ("raw", "normalised")
    )
    chosen = [(result.comparisons[raw], result.comparisons[normalised]) for result in (before, after)]
    assert not torch.equal(chosen[0][0].others.indices_RK, chosen[1][0].others.indices_RK)
    assert torch.equal(chosen[0][1].others.indices_RK, chosen[1][1].others.indices_RK)


def test_one_word_has_no_coherence():
    with pytest.raises(ValueError, match="top: must be >= 2"):
        direction_words(WordVectors(("a", "b"), torch.eye(2)), top=1)


def test_the_example_learns_which_words_go_together():
    stream = generator(0, "text")
    # Long stretches of the words of one group, then of the other.
    text = [f"{'ab'[i // 500 % 2]}{number}" for i, number in enumerate(torch.randint(4, (10_000,), generator=stream))]
    vectors = skip_gram.train(text, dimension=8, epochs=60, window=3, seed=0)
    unit = vectors.normalised().vectors_ND
    side = torch.tensor([word[0] == "a" for word in vectors.words])
    within, between = unit[side] @ unit[side].T, unit[side] @ unit[~side].T
    assert within.min() > between.max()


def test_the_example_writes_the_same_vectors_each_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        skip_gram,
        "corpus",
        lambda *, min_count: (["list", "class", "import"] * 40 + [*skip_gram.PROBES, "more", "words"]) * min_count,
    )
    for name in ("first", "repeated"):
        out = tmp_path / name
        monkeypatch.setattr("sys.argv", ["skip_gram.py", "--epochs", "1", "--dimension", "4", "--out", str(out)])
        skip_gram.main()
    assert (tmp_path / "first").read_bytes() == (tmp_path / "repeated").read_bytes()
    assert "raw | random" in capsys.readouterr().out
