"""Word vectors, and their files in word2vec's formats: text, and binary. Shapes: N words, D coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "WordFileError",
    "WordVectors",
    "read_binary_word_vectors",
    "read_word_vectors",
    "write_binary_word_vectors",
    "write_word_vectors",
]

_FLOAT = np.dtype("<f4")
_LONGEST_WORD = 4096


class WordFileError(ValueError):
    """File that is not in the format it is read as; the message names the line or the word, and the requirement."""


@dataclass(frozen=True, slots=True, eq=False)
class WordVectors:
    """Words, and their vectors (N, D) in float32.

    Raises:
        ValueError: unequal lengths, a word twice, fewer than two coordinates, or a value that is not finite.
    """

    words: tuple[str, ...]
    vectors_ND: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.vectors_ND.shape)
        if self.vectors_ND.dtype != torch.float32 or len(shape) != 2 or shape[0] != len(self.words) or shape[1] < 2:
            wanted = f"({len(self.words)}, D) with D >= 2"
            raise ValueError(f"vectors: must be float32 {wanted}, got {self.vectors_ND.dtype} {shape}")
        if len(set(self.words)) < len(self.words):
            raise ValueError(f"words: must differ, got {len(self.words) - len(set(self.words))} that came before")
        if not self.vectors_ND.isfinite().all():
            raise ValueError("vectors: must be finite")

    def normalised(self) -> WordVectors:
        """Return the same directions, each of length one.

        Raises:
            ValueError: a vector of length zero; names its word.
        """
        lengths_N1 = torch.linalg.vector_norm(self.vectors_ND, dim=1, keepdim=True)
        zero = [word for word, length in zip(self.words, lengths_N1[:, 0].tolist(), strict=True) if not length]
        if zero:
            raise ValueError(f"vectors: must not be zero to be normalised, got {len(zero)}, first that of {zero[0]!r}")
        return WordVectors(self.words, self.vectors_ND / lengths_N1)


def read_word_vectors(path: Path, *, encoding: str = "utf-8", first: int | None = None) -> WordVectors:
    r"""Read word2vec's text format: a line for each word, then its numbers, all separated by single spaces.

    A first line of two whole numbers is the header: the numbers of words and coordinates. `first` reads only the
    words at the top, in most files the frequent ones; the header's count is then not checked.

    Raises:
        WordFileError: a file in another format; the message names the line, the requirement and the value.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "vectors.txt"
    ...     _ = path.write_text("2 3\nking 1 0 0.5\nqueen 1 0.25 0\n")
    ...     read_word_vectors(path).words
    ('king', 'queen')
    """
    if first is not None and first < 1:
        raise ValueError(f"first: must be >= 1, got {first}")
    header: tuple[int, int] | None = None
    size = 0
    rows: list[np.ndarray] = []
    lines_of: dict[str, int] = {}
    for number, line in enumerate(_decoded(path, encoding), start=1):
        where = f"{path}:{number}"
        if number == 1:
            header = _header(line)
            size = header[1] if header else line.count(" ")
            _require(size >= 2, where, "a line must hold a word and at least two numbers", line)
            if header:
                continue
        if len(rows) == first:
            break
        word, row = _parsed(line, size, where)
        _require(word not in lines_of, where, f"a word must be there once, and line {lines_of.get(word)} has it", word)
        lines_of[word] = number
        rows.append(row)
    _require(bool(rows), str(path), "there must be at least one word", "")
    if header and first is None:
        _require(len(rows) == header[0], f"{path}:1", f"the header must count the words, {len(rows)}", header[0])
    return WordVectors(tuple(lines_of), torch.from_numpy(np.stack(rows)))


def _require(holds: object, where: str, requirement: str, got: object) -> None:
    if not holds:
        raise WordFileError(f"{where}: {requirement}, got {got!r}")


def _decoded(path: Path, encoding: str) -> Iterator[str]:
    """Yield lines without their end; only a line feed ends one, as a word may hold any other Unicode separator."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError as error:
                remedy = "give the `encoding` it has, and the text format, not the binary one"
                byte = f"byte 0x{line[error.start]:02x} at {error.start + 1}; {remedy}"
                raise WordFileError(f"{path}:{number}: must be {encoding}, got {byte}") from error
            if text.startswith("\ufeff"):
                raise WordFileError(f"{path}:{number}: must not begin with a byte order mark; read it as 'utf-8-sig'")
            yield text.rstrip(" \r\n")


def _header(line: str) -> tuple[int, int] | None:
    fields = line.split(" ")
    if len(fields) != 2 or not all(field.isascii() and field.isdigit() for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def _parsed(line: str, size: int, where: str) -> tuple[str, np.ndarray]:
    word, *numbers = line.split(" ")
    _require(len(numbers) == size, where, f"must hold a word and {size} numbers with single spaces", line[:80])
    try:
        row = np.array(numbers, dtype=np.float64)
    except ValueError as error:
        raise WordFileError(f"{where}: must hold {size} numbers after {word!r}: {error}") from error
    # This is false for NaN too.
    _require(
        bool((np.abs(row) <= np.finfo(np.float32).max).all()), where, "numbers must be finite in float32", line[:80]
    )
    _require(bool(word), where, "the word must not be empty", line[:80])
    return word, row.astype(np.float32)


def read_binary_word_vectors(path: Path, *, encoding: str = "utf-8", first: int | None = None) -> WordVectors:
    r"""Read word2vec's binary format: a header line, then each word, a space, and its numbers as float32 of four bytes.

    The numbers are in little-endian order, whatever the machine. A line feed may end each word's numbers, as the
    original program writes it, or not, as in some published files. `first` reads only the words at the top.

    Raises:
        WordFileError: a file in another format; the message names the word by its number, counted from 1.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "vectors.bin"
    ...     _ = path.write_bytes(b"1 2\nking " + np.array([1, -0.5], dtype="<f4").tobytes())
    ...     read_binary_word_vectors(path).vectors_ND.tolist()
    [[1.0, -0.5]]
    """
    if first is not None and first < 1:
        raise ValueError(f"first: must be >= 1, got {first}")
    with path.open("rb") as file:
        line = file.readline(_LONGEST_WORD)
        header = _header(line.decode("latin-1").rstrip("\r\n"))
        _require(header, f"{path}:1", "the header must be the numbers of words and coordinates", line[:80])
        count, size = header or (0, 0)
        _require(count >= 1 and size >= 2, f"{path}:1", "there must be a word and two coordinates", line[:80])
        wanted = count if first is None else min(first, count)
        rows: list[np.ndarray] = []
        numbers: dict[str, int] = {}
        for number in range(1, wanted + 1):
            where = f"{path}: word {number} of {count}"
            word = _binary_word(file, encoding, where)
            _require(word not in numbers, where, f"a word must be there once, and it is word {numbers.get(word)}", word)
            data = file.read(size * _FLOAT.itemsize)
            _require(len(data) == size * _FLOAT.itemsize, where, f"must have {size} numbers of 4 bytes", len(data))
            row = np.frombuffer(data, dtype=_FLOAT)
            _require(bool(np.isfinite(row).all()), where, "numbers must be finite", word)
            numbers[word] = number
            rows.append(row.astype(np.float32))
        if wanted == count:
            rest = file.read(80).strip(b"\r\n")
            _require(not rest, str(path), f"the file must end after its {count} words", rest)
    return WordVectors(tuple(numbers), torch.from_numpy(np.stack(rows)))


def _binary_word(file: BinaryIO, encoding: str, where: str) -> str:
    """Read up to the next space, without the line feed that ends the numbers of the word before."""
    letters = bytearray()
    while (letter := file.read(1)) != b" ":
        _require(letter, where, "must have a word and a space before its numbers", bytes(letters[:80]))
        _require(len(letters) < _LONGEST_WORD, where, f"a word must be shorter than {_LONGEST_WORD} bytes", "more")
        letters += letter
    word = bytes(letters).lstrip(b"\n")
    _require(word, where, "the word must not be empty", "")
    try:
        return word.decode(encoding)
    except UnicodeDecodeError as error:
        got = f"byte 0x{word[error.start]:02x} at {error.start + 1} of {word[:80]!r}; give the `encoding` it has"
        raise WordFileError(f"{where}: must be {encoding}, got {got}") from error


def write_word_vectors(path: Path, vectors: WordVectors) -> None:
    """Write word2vec's text format in UTF-8, with the header; reading it back returns the same bits.

    Raises:
        ValueError: a word that is empty or has a space or an end of line in it.
    """
    _require_words(vectors)
    count, size = vectors.vectors_ND.shape
    rows = zip(vectors.words, vectors.vectors_ND.numpy(), strict=True)
    lines = (f"{word} {' '.join(map(str, row))}\n" for word, row in rows)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{count} {size}\n")
        file.writelines(lines)


def write_binary_word_vectors(path: Path, vectors: WordVectors) -> None:
    """Write word2vec's binary format in UTF-8, as the original program does; reading it back returns the same bits.

    Raises:
        ValueError: a word that is empty or has a space or an end of line in it.
    """
    _require_words(vectors)
    count, size = vectors.vectors_ND.shape
    with path.open("wb") as file:
        file.write(f"{count} {size}\n".encode())
        for word, row in zip(vectors.words, vectors.vectors_ND.numpy(), strict=True):
            file.write(word.encode() + b" " + row.astype(_FLOAT).tobytes() + b"\n")


def _require_words(vectors: WordVectors) -> None:
    bad = [word for word in vectors.words if not word or set(word) & set(" \n\r")]
    if bad:
        raise ValueError(f"words: must have no space or end of line and not be empty, got {bad[0]!r}")
