"""Code and docs use the field's words: docstrings open with a verb or a noun, and names say what they hold."""

import ast
import io
import re
import statistics
import tokenize
from pathlib import Path

import pytest

PACKAGES = ("orchestrator", "search_spaces", "trainables")
QUESTION = re.compile(r"(what|who|whose|whoever|whether|where|how|which|why|when)\b", re.IGNORECASE)

# Words of the first version's own dialect, each with the field's word for it.
NEVER = {
    "anew": "recompute, no-cache",
    "assault": "evaluation attack",
    "assaults": "evaluation attacks",
    "clerk": "trial recorder",
    "follower": "exporter",
    "followers": "exporters",
    "journal": "event store",
    "judgement": "decision",
    "leasebook": "lock records",
    "nobody": "no trial, no process",
    "somebody": "another process, a user",
    "standings": "trial views",
    "told": "reported, notified",
    "verdict": "decision",
    "verdicts": "decisions",
    "whoever": "the caller, the user",
}
# fmt: off
SELDOM = frozenset({
    "again", "behind", "beside", "board", "drawn", "found", "goes", "judge", "judged", "judges", "ladder", "ladders",
    "law", "laws", "lease", "leases", "lie", "lies", "looks", "others", "patient", "stand", "standing", "stands",
    "tell", "tells", "there", "turn", "turns", "want", "wants", "watch",
})
# fmt: on
NAMES = frozenset(
    {
        "told",
        "found",
        "there",
        "drawn",
        "each",
        "given",
        "law",
        "laws",
        "verdict",
        "verdicts",
        "clerk",
        "journal",
        "ladder",
    }
)
MOST_PER_1000 = 2.0
LONGEST_MEDIAN_SENTENCE = 18

CODE = re.compile(r"^\s*(>>>|\.\.\.).*$", re.MULTILINE)
QUOTED = re.compile(r"``[^`]*``|`[^`]*`")


def docstrings(tree):
    """Yield (line, text) of every docstring of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def comments(source):
    """Yield (line, text) of every comment but the linters' own."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.match(r"# (noqa|type):?", token.string):
            yield token.start[0], token.string


def messages(tree):
    """Yield (line, text) of every literal text that reads like a sentence: three words or more."""
    documented = {id(node.body[0].value) for node in ast.walk(tree) if _has_docstring(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield from [(node.lineno, node.value)] if len(re.findall(r"[a-z]+ ", node.value)) > 2 else []


def _has_docstring(node):
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return isinstance(node, kinds) and ast.get_docstring(node) is not None


def names(tree):
    """Yield (line, name) of everything a module names: arguments, variables, functions, classes."""
    for node in ast.walk(tree):
        match node:
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name
            case _:
                pass


def words(text):
    """Return the lower-case words of a text, without code; "told apart" is no house word."""
    return re.findall(r"[a-z']+", QUOTED.sub("", CODE.sub("", text)).lower().replace("told apart", "separated"))


class Prose:
    """Everything that the modules below a folder say and name."""

    def __init__(self, root, packages=PACKAGES):
        self.openings, self.never, self.named, self.seldom, self.total = [], [], [], 0, 0
        for path in sorted(path for package in packages for path in (root / package).rglob("*.py")):
            self._read(path, str(path.relative_to(root)))

    def _read(self, path, place):
        source = path.read_text()
        tree = ast.parse(source)
        texts = list(docstrings(tree))
        self.openings += [f"{place}:{line}: {text.split('.')[0]}" for line, text in texts if QUESTION.match(text)]
        self.named += [f"{place}:{line}: {name}" for line, name in names(tree) if name.lower() in NAMES]
        for line, text in [*texts, *comments(source), *messages(tree)]:
            said = words(text)
            self.total += len(said)
            self.seldom += sum(word in SELDOM or word in NEVER for word in said)
            self.never += [f"{place}:{line}: {word} (say: {NEVER[word]})" for word in said if word in NEVER]

    @property
    def per_1000(self):
        """House words per 1,000 words of docstrings, comments and messages."""
        return 1000 * self.seldom / self.total


@pytest.fixture(scope="module")
def prose(repository):
    return Prose(repository)


def test_no_docstring_opens_with_a_question_word(prose):
    assert prose.openings == []


def test_no_text_uses_a_word_that_the_field_has_another_for(prose):
    assert prose.never == []


def test_no_name_is_a_word_for_anything(prose):
    assert prose.named == []


def test_house_words_are_rare(prose):
    assert prose.per_1000 < MOST_PER_1000


@pytest.mark.parametrize(
    ("offence", "seen_in"),
    [
        ('def one() -> None:\n    """Whether it is one."""', "openings"),
        ("# whoever reads this", "never"),
        ('TEXT = "the driver is told that it ended"', "never"),
        ("found = 1", "named"),
        ("def one(*, law: str) -> str:\n    return law", "named"),
    ],
)
def test_a_planted_word_is_counted(offence, seen_in, tmp_path):
    (tmp_path / "orchestrator").mkdir()
    (tmp_path / "orchestrator" / "planted.py").write_text(offence)
    assert len(getattr(Prose(tmp_path, ("orchestrator",)), seen_in)) == 1


def test_planted_house_words_raise_the_rate(tmp_path):
    (tmp_path / "orchestrator").mkdir()
    (tmp_path / "orchestrator" / "planted.py").write_text('"""The driver looks at the board again."""\n')
    assert Prose(tmp_path, ("orchestrator",)).per_1000 == pytest.approx(3000 / 7)


PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in Path(__file__).parents[1].glob("docs/*.md")),
    *sorted(f"docs/howto/{path.name}" for path in Path(__file__).parents[1].glob("docs/howto/*.md")),
)


def sentences(markdown):
    """Return the sentences of a page's paragraphs and list items, without code, tables and headings."""
    text = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not re.match(r"\s*(#|\||!\[|>)", line)]
    paragraphs = re.split(r"\n\s*\n|\n\s*[-*] |\n\d+\. ", "\n".join(lines))
    plain = [re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "code", paragraph)) for paragraph in paragraphs]
    parts = [part for paragraph in plain for part in re.split(r"(?<=[.?!:])\s+", paragraph.strip())]
    return [part for part in parts if len(part.split()) > 2]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_uses_short_sentences_and_the_fields_words(page, repository):
    text = (repository / page).read_text()
    page_words = words(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert [word for word in page_words if word in NEVER] == []
    lengths = [len(sentence.split()) for sentence in sentences(text)]
    assert statistics.median(lengths) < LONGEST_MEDIAN_SENTENCE
