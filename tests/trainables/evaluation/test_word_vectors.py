"""Files of word vectors are read strictly, and coherence finds what was planted and nothing else."""

import importlib.util
import math
from itertools import combinations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from trainables.evaluation.directions import gaussian
from trainables.evaluation.word_vectors import (
    WordFileError,
    WordVectors,
    coherence,
    direction_words,
    read_word_vectors,
    write_word_vectors,
)
from trainables.seeding import generator


@pytest.fixture
def read(tmp_path):
    def read(content, **options):
        path = tmp_path / "vectors.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_word_vectors(path, **options)

    return read


@pytest.mark.parametrize("header", ["", "2 3\n"])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_files_with_and_without_header_are_read(header, end, read):
    found = read(f"{header}king 1 -0.5 2e-3{end}queen 0 1 2{end}")
    assert found.words == ("king", "queen")
    assert torch.equal(found.vectors_ND, torch.tensor([[1, -0.5, 2e-3], [0, 1, 2]]))


def test_a_word_that_is_a_number_is_no_header(read):
    assert read("1984 1 2\n7 3 4\n").words == ("1984", "7")


def test_separators_of_unicode_are_parts_of_words(read):
    assert read("a\u2028b 1 2\nc\u00a0d 3 4\ne\x85 5 6\n").words == ("a\u2028b", "c\u00a0d", "e\x85")


def test_only_the_first_words_are_read_where_so_many_are_wanted(read):
    assert read("9 2\na 1 2\nb 3 4\nbroken\n", first=2).words == ("a", "b")


def test_another_encoding_is_read_when_it_is_named(read):
    assert read("caf\u00e9 1 2\n".encode("latin-1"), encoding="latin-1").words == ("caf\u00e9",)
    assert read("a 1 2\n".encode("utf-8-sig"), encoding="utf-8-sig").words == ("a",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "there must be at least one word", id="empty"),
        pytest.param("2 3\n", "there must be at least one word", id="header alone"),
        pytest.param("a 1\n", ":1: a line must hold a word and at least two numbers, got 'a 1'", id="one number"),
        pytest.param("a 1 2\nb 1\n", ":2: must hold a word and 2 numbers with single spaces, got 'b 1'", id="short"),
        pytest.param("1 2\na 1 2 3\n", ":2: must hold a word and 2 numbers", id="not the header's"),
        pytest.param("a 1 2\n\nb 1 2\n", ":2: must hold a word and 2 numbers with single spaces, got ''", id="blank"),
        pytest.param("a 1 2\na b 1 2\n", ":2: must hold a word and 2 numbers", id="space in word"),
        pytest.param("a 1 2\n 1 2\n", ":2: the word must not be empty", id="no word"),
        pytest.param("a 1 two\n", ":1: must hold 2 numbers after 'a': could not convert string", id="no number"),
        pytest.param("a 1 nan\n", ":1: numbers must be finite in float32", id="nan"),
        pytest.param("a 1 1e39\n", ":1: numbers must be finite in float32", id="overflow"),
        pytest.param("a 1 2\nb 1 2\na 3 4\n", ":3: a word must be there once, and line 1 has it, got 'a'", id="twice"),
        pytest.param("3 2\na 1 2\n", ":1: the header must count the words, 1, got 3", id="count"),
        pytest.param(b"a 1 2\ncaf\xe9 1 2\n", ":2: must be utf-8, got byte 0xe9 at 4; give the", id="latin-1"),
        pytest.param("\ufeffa 1 2\n", ":1: must not begin with a byte order mark; read it as 'utf-8-sig'", id="bom"),
    ],
)
def test_a_broken_file_is_refused_with_its_line_and_law(content, message, read):
    with pytest.raises(WordFileError) as caught:
        read(content)
    assert message in str(caught.value)


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    words = ("the", "caf\u00e9", "a\u2028b", "7")
    vectors = WordVectors(words, torch.randn(4, 5, generator=generator(0, "words")) * 1e-7)
    write_word_vectors(tmp_path / "v.txt", vectors)
    again = read_word_vectors(tmp_path / "v.txt")
    assert again.words == words
    assert torch.equal(again.vectors_ND, vectors.vectors_ND)


def test_a_word_with_a_space_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="must have no space or end of line and not be empty, got 'new york'"):
        write_word_vectors(tmp_path / "v.txt", WordVectors(("new york",), torch.ones(1, 2)))


@pytest.mark.parametrize(
    ("words", "vectors", "message"),
    [
        (("a", "b"), torch.ones(1, 2), r"must be float32 \(2, D\) with D >= 2, got torch.float32 \(1, 2\)"),
        (("a",), torch.ones(1, 1), "with D >= 2"),
        (("a", "a"), torch.ones(2, 2), "words: must differ, got 1 that came before"),
        (("a",), torch.full((1, 2), math.inf), "vectors: must be finite"),
    ],
)
def test_vectors_that_are_not_are_refused(words, vectors, message):
    with pytest.raises(ValueError, match=message):
        WordVectors(words, vectors)


def test_a_zero_vector_has_no_normalised_one():
    with pytest.raises(ValueError, match="got 1, first that of 'nothing'"):
        WordVectors(("a", "nothing"), torch.tensor([[1.0, 0.0], [0.0, 0.0]])).normalised()


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
    found = direction_words(WordVectors(tuple(map(str, range(500))), words), directions=300, draws=999)
    row = found.comparisons[0]
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
    chosen = [(found.comparisons[raw], found.comparisons[normalised]) for found in (before, after)]
    assert not torch.equal(chosen[0][0].others.indices_RK, chosen[1][0].others.indices_RK)
    assert torch.equal(chosen[0][1].others.indices_RK, chosen[1][1].others.indices_RK)


def test_one_word_has_no_coherence():
    with pytest.raises(ValueError, match="top: must be >= 2"):
        direction_words(WordVectors(("a", "b"), torch.eye(2)), top=1)


@pytest.fixture
def skip_gram(repository):
    spec = importlib.util.spec_from_file_location("skip_gram", repository / "examples" / "skip_gram.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_learns_which_words_go_together(skip_gram):
    stream = generator(0, "text")
    # Long stretches of the words of one group, then of the other.
    text = [f"{'ab'[i // 500 % 2]}{number}" for i, number in enumerate(torch.randint(4, (10_000,), generator=stream))]
    vectors = skip_gram.train(text, dimension=8, epochs=60, window=3, seed=0)
    unit = vectors.normalised().vectors_ND
    side = torch.tensor([word[0] == "a" for word in vectors.words])
    within, between = unit[side] @ unit[side].T, unit[side] @ unit[~side].T
    assert within.min() > between.max()


def test_the_example_writes_the_same_vectors_each_time(skip_gram, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        skip_gram,
        "corpus",
        lambda *, min_count: (["list", "class", "import"] * 40 + [*skip_gram.PROBES, "more", "words"]) * min_count,
    )
    for name in ("first", "again"):
        out = tmp_path / name
        monkeypatch.setattr("sys.argv", ["skip_gram.py", "--epochs", "1", "--dimension", "4", "--out", str(out)])
        skip_gram.main()
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()
    assert "raw | random" in capsys.readouterr().out
