"""Text of the word vectors: the documentation in 200 files of NumPy, SciPy and scikit-learn, with their digests.

All three are of the BSD licence, and their versions are pinned in constraints.txt. The text of a file are the
docstrings of its module, classes and functions without the lines of examples, in lower case, as words of a to z.

    python benchmarks/evidence/word_corpus.py      write word_corpus.txt again, from the installed versions
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

LISTED: Final = Path(__file__).with_suffix(".txt")
PACKAGES: Final = {"numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn"}
FILES: Final = 200


class Entry(NamedTuple):
    """File of the list: its path below the packages, its number of words, and the digest of these."""

    path: str
    count: int
    digest: str


def documents() -> list[list[str]]:
    """Return the words of each file of the list.

    Raises:
        ValueError: files that are missing or have other words, as those of other versions have.
    """
    head, *lines = LISTED.read_text(encoding="utf-8").splitlines()
    entries = [Entry(path, int(count), digest) for path, count, digest in map(str.split, lines)]
    found = [_words(_located(entry.path)) for entry in entries]
    changed = [entry.path for entry, words in zip(entries, found, strict=True) if digest_of(words) != entry.digest]
    if changed:
        remedy = f"install {head.removeprefix('# ')}"
        raise ValueError(f"{LISTED.name}: {len(changed)} files have other words, first {changed[0]}; {remedy}")
    return found


def digest_of(words: list[str]) -> str:
    """Return a digest of words in their order.

    >>> digest_of(["a", "b"]) == digest_of(["a b"])
    True
    """
    return hashlib.blake2b(" ".join(words).encode(), digest_size=8).hexdigest()


def docstrings(source: str) -> str:
    r"""Return the docstrings of a module, one after another, without the lines of examples.

    >>> docstrings("'''Text.\n\n>>> 1 + 1\n2\n'''\ndef f():\n    'More.'")
    'Text.\n\n2\nMore.'
    """
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node, clean=False) for node in ast.walk(ast.parse(source)) if isinstance(node, nodes))
    lines = (line for text in found if text for line in text.splitlines())
    return "\n".join(line for line in lines if not line.strip().startswith((">>>", "...")))


def _words(path: Path) -> list[str]:
    if not path.exists():
        return []
    return re.findall(r"[a-z]+", docstrings(path.read_text(encoding="utf-8")).lower())


def _located(path: str) -> Path:
    return _folder(path.split("/", 1)[0]) / path


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"{package}: must be installed, as its documentation is the text")
    return Path(spec.origin).parents[1]


def _candidates() -> Iterator[Entry]:
    for package in PACKAGES:
        root = _folder(package)
        for path in sorted((root / package).rglob("*.py")):
            if "tests" not in path.parts:
                words = _words(path)
                yield Entry(path.relative_to(root).as_posix(), len(words), digest_of(words))


def main() -> int:
    """Write the list of the files with the most words."""
    chosen = sorted(sorted(_candidates(), key=lambda entry: -entry.count)[:FILES])
    versions = " ".join(f"{name}=={version(name)}" for name in PACKAGES.values())
    lines = [f"# {versions}", *(f"{entry.path} {entry.count} {entry.digest}" for entry in chosen)]
    LISTED.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
