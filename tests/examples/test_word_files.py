"""Files of word vectors are read strictly, in text and in binary, and what is written is read back."""

import math
import struct

import pytest
import torch
from word_files import (
    WordFileError,
    WordVectors,
    read_binary_word_vectors,
    read_word_vectors,
    write_binary_word_vectors,
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
    result = read(f"{header}king 1 -0.5 2e-3{end}queen 0 1 2{end}")
    assert result.words == ("king", "queen")
    assert torch.equal(result.vectors_ND, torch.tensor([[1, -0.5, 2e-3], [0, 1, 2]]))


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
def test_a_broken_file_is_refused_with_its_line_and_requirement(content, message, read):
    with pytest.raises(WordFileError) as caught:
        read(content)
    assert message in str(caught.value)


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    words = ("the", "caf\u00e9", "a\u2028b", "7")
    vectors = WordVectors(words, torch.randn(4, 5, generator=generator(0, "words")) * 1e-7)
    write_word_vectors(tmp_path / "v.txt", vectors)
    repeated = read_word_vectors(tmp_path / "v.txt")
    assert repeated.words == words
    assert torch.equal(repeated.vectors_ND, vectors.vectors_ND)


@pytest.mark.parametrize("write", [write_word_vectors, write_binary_word_vectors])
def test_a_word_with_a_space_is_not_written(write, tmp_path):
    with pytest.raises(ValueError, match="must have no space or end of line and not be empty, got 'new york'"):
        write(tmp_path / "v", WordVectors(("new york",), torch.ones(1, 2)))
    assert not (tmp_path / "v").exists()


def numbers(*values):
    """Return the bytes of little-endian float32, packed without numpy."""
    return struct.pack(f"<{len(values)}f", *values)


@pytest.fixture
def read_binary(tmp_path):
    def read(content, **options):
        path = tmp_path / "vectors.bin"
        path.write_bytes(content)
        return read_binary_word_vectors(path, **options)

    return read


@pytest.mark.parametrize("end", [b"\n", b""], ids=["a line feed after each word", "none"])
def test_binary_files_of_both_kinds_are_read(end, read_binary):
    # The bytes of 0.5 hold no line feed; those of 2.5e-44 do, and a space.
    result = read_binary(b"2 3\nking " + numbers(1, -0.5, 2.5e-44) + end + b"queen " + numbers(0, 1, 4.6e-41) + end)
    assert result.words == ("king", "queen")
    assert torch.equal(result.vectors_ND, torch.tensor([[1, -0.5, 2.5e-44], [0, 1, 4.6e-41]]))


def test_only_the_first_words_of_a_binary_file_are_read_where_so_many_are_wanted(read_binary):
    assert read_binary(b"9 2\na " + numbers(1, 2) + b"b " + numbers(3, 4) + b"broken", first=2).words == ("a", "b")


def test_what_is_written_in_binary_is_read_back_bit_for_bit(tmp_path):
    words = ("the", "caf\u00e9", "a\u2028b", "7")
    vectors = WordVectors(words, torch.randn(4, 50, generator=generator(0, "words")) * 1e-7)
    write_binary_word_vectors(tmp_path / "v.bin", vectors)
    repeated = read_binary_word_vectors(tmp_path / "v.bin")
    assert repeated.words == words
    assert torch.equal(repeated.vectors_ND, vectors.vectors_ND)
    write_word_vectors(tmp_path / "v.txt", repeated)
    assert torch.equal(read_word_vectors(tmp_path / "v.txt").vectors_ND, vectors.vectors_ND)


ONE = b"a " + numbers(1, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", ":1: the header must be the numbers of words and coordinates, got b''", id="empty"),
        pytest.param(b"a 1 2\nb 3 4\n", ":1: the header must be the numbers of words and", id="the text format"),
        pytest.param(b"0 2\n", ":1: there must be a word and two coordinates", id="no word"),
        pytest.param(b"1 1\na " + numbers(1), ":1: there must be a word and two coordinates", id="one number"),
        pytest.param(b"2 2\n" + ONE + b"\nb " + numbers(1), "word 2 of 2: must have 2 numbers of 4 bytes", id="cut"),
        pytest.param(b"2 2\n" + ONE + b"\n", "word 2 of 2: must have a word and a space", id="a word too few"),
        pytest.param(b"1 2\n" + ONE + b"\nb", "the file must end after its 1 words, got b'b'", id="a word too many"),
        pytest.param(b"2 2\n" + 2 * ONE, "word 2 of 2: a word must be there once, and it is word 1", id="twice"),
        pytest.param(b"1 2\na " + numbers(1, math.nan), "word 1 of 1: numbers must be finite, got 'a'", id="nan"),
        pytest.param(b"1 2\n " + numbers(1, 2), "word 1 of 1: the word must not be empty", id="no name"),
        pytest.param(b"1 2\ncaf\xe9 " + numbers(1, 2), "must be utf-8, got byte 0xe9 at 4 of", id="latin-1"),
        pytest.param(b"1 2\n" + b"a" * 5000, "a word must be shorter than 4096 bytes", id="no space"),
    ],
)
def test_a_broken_binary_file_is_refused_with_its_word_and_requirement(content, message, read_binary):
    with pytest.raises(WordFileError) as caught:
        read_binary(content)
    assert message in str(caught.value)


def test_another_encoding_of_a_binary_file_is_read_when_it_is_named(read_binary):
    assert read_binary(b"1 2\ncaf\xe9 " + numbers(1, 2), encoding="latin-1").words == ("caf\u00e9",)


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
