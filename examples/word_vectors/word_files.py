"""Word vectors, and their files in word2vec's text format. Shapes: N words, D coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["WordFileError", "WordVectors", "read_word_vectors", "write_word_vectors"]


class WordFileError(ValueError):
    """File that is not in word2vec's text format; the message names the line and the requirement."""


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


def write_word_vectors(path: Path, vectors: WordVectors) -> None:
    """Write word2vec's text format in UTF-8, with the header; reading it back returns the same bits.

    Raises:
        ValueError: a word that is empty or has a space or an end of line in it.
    """
    bad = [word for word in vectors.words if not word or set(word) & set(" \n\r")]
    if bad:
        raise ValueError(f"words: must have no space or end of line and not be empty, got {bad[0]!r}")
    count, size = vectors.vectors_ND.shape
    rows = zip(vectors.words, vectors.vectors_ND.numpy(), strict=True)
    lines = (f"{word} {' '.join(map(str, row))}\n" for word, row in rows)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{count} {size}\n")
        file.writelines(lines)
