"""The pages for users: commands parse or run, documents are valid, code runs, and outputs are what is printed."""

import ast
import doctest
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from commands import RAVEL, running

from orchestrator.cli import main as cli
from orchestrator.planning.loading import parse_spec

ROOT = Path(__file__).parents[1]
HOWTO = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/howto/*.md"))
PAGES = ("README.md", "docs/tutorial.md", "docs/papers.md", "docs/troubleshooting.md", *HOWTO)
ON_A_SWEEP = (
    "docs/howto/compare.md",
    "docs/howto/confirm-and-report.md",
    "docs/howto/resume.md",
    "docs/howto/extend.md",
    "docs/howto/team-server.md",
)
ALONE = [page for page in PAGES if page not in {*ON_A_SWEEP, "docs/tutorial.md"}]
PARSED_ONLY = {
    r"ravel (launch|resume|confirm|fork)(?!.*--dry-run)": "starts Ray: the test of the tutorial launches and resumes",
    r"ravel .*--address|ravel (attach|jobs)": "needs a cluster",
    r"ravel (?!up).*s3://": "needs a bucket",
    r"ravel (ui|serve)|ravel .*--open": "runs until Ctrl-C",
    r"ravel (stop|register)": "needs trials that run, or a model that is worth it",
    r"ravel doctor": "finds what the machine has",
    r"ravel .*digits-lr(?!.*--dry-run)|ravel \w+ (confidence|digits-confirm)": "needs a sweep that no page has run",
}
MISTAKE = "search.num_trails=12"
"""A mistake that the tutorial makes, to see the message."""
OTHERS = {
    "aws",
    "cd",
    "docker",
    "export",
    "kubectl",
    "make",
    "pip",
    "python",
    "python3",
    "sbatch",
    "source",
    "terraform",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language and its text."""

    language: str
    text: str

    @property
    def file(self):
        """Name of the file that the block is to be saved as: its first line says so."""
        named = re.match(r"# (\w+\.(?:py|yaml))\n", self.text)
        return named and named.group(1)

    def commands(self):
        """Yield each command as its words, with the output that the page shows, or None."""
        if self.language == "console":
            for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
                line, _, output = part.partition("\n")
                *first, last = simple(line)
                yield from ((words, None) for words in first)
                yield last, output
        elif self.language in {"sh", "bash"}:
            lines = self.text.replace("\\\n", " ").splitlines()
            yield from ((words, None) for line in lines for words in simple(line))


def blocks(page):
    """Return the fenced blocks of a page, in order."""
    found = re.findall(r"^ *```(\w+)\n(.*?)^ *```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [Block(language, text) for language, text in found]


def simple(line):
    """Return the simple commands of a line of a shell as words, without comments and redirections.

    >>> simple("cd a && ravel plan b.yaml > c  # now")
    [['cd', 'a'], ['ravel', 'plan', 'b.yaml']]
    """
    parts = " ".join(shlex.quote(word) for word in shlex.split(line, comments=True)).split(" '&&' ")
    split = [shlex.split(part.partition(" '>' ")[0]) for part in parts]
    return [
        words[next(i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)) :] for words in split if words
    ]


def commands(page):
    """Return all commands of a page as words."""
    return [words for block in blocks(page) for words, _ in block.commands()]


def parse(words):
    """Parse a command of ravel as the command line does; raise what it would refuse it with."""
    command, rest = typer.main.get_command(cli.app), words[1:]
    if rest[0] in {"--help", "--version", "--install-completion"}:
        return
    while hasattr(command, "commands"):
        name, rest = rest[0], rest[1:]
        command = command.commands[name]
    command.make_context(name, list(rest))


def reason_to_parse_only(words):
    """Return why a command is not run here, None if it is."""
    line = " ".join(words)
    return next((reason for pattern, reason in PARSED_ONLY.items() if re.match(pattern, line)), None)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_one_and_parses(page):
    for words in commands(page):
        if words[0] == "ravel":
            parse(words)
        else:
            assert words[0] in OTHERS


@pytest.mark.parametrize("planted", ["ravel lunch sweep.yaml", "ravel extend digits --trails +8", "ravel best -k many"])
def test_a_planted_mistake_in_a_command_is_seen(planted):
    with pytest.raises(Exception, match=r"lunch|trails|integer"):
        parse(shlex.split(planted))


def test_no_reason_to_parse_only_is_stale():
    lines = [" ".join(words) for page in PAGES for words in commands(page)]
    assert [pattern for pattern in PARSED_ONLY if not any(re.match(pattern, line) for line in lines)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_document_of_a_page_is_a_part_of_a_valid_spec(page):
    for block in blocks(page):
        if block.language == "yaml" and not block.text.startswith("# good.yaml"):
            text = block.text if "\nname: " in f"\n{block.text}" else f"name: page\n{block.text}"
            assert parse_spec(text).name


def runnable(code):
    """Return the tree of a block; of one that starts Ray, its imports alone."""
    tree = ast.parse(code)
    called = {getattr(node.func, "attr", "") for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if called & {"launch", "Tuner"}:
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return tree


class Reader:
    """A reader who follows pages in a folder: saves their files, runs their commands and their code, in order."""

    def __init__(self, folder, ravel, monkeypatch, start=None):
        self.folder, self.ravel, self.monkeypatch, self.start = folder, ravel, monkeypatch, start
        self.ran = []
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "160")

    def follow(self, page):
        """Do what a page says."""
        names = {}
        for block in blocks(page):
            if block.file:
                Path(block.file).write_text(block.text)
            elif block.language == "python":
                self.monkeypatch.syspath_prepend(str(Path.cwd()))
                exec(compile(runnable(block.text), page, "exec"), names)  # noqa: S102 - our own page
            for words, output in block.commands():
                self._do(words, output)

    def _do(self, words, output):
        printed = ""
        if words[0] == "cd":
            self.monkeypatch.chdir(words[1])
        elif words[:3] == ["python", "-m", "pytest"]:
            command = [sys.executable, *words[1:], "-p", "no:cacheprovider", "--rootdir", "."]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        elif words[0] == "ravel" and self.start is not None and self.start(words):
            self.ran.append(words)
        elif words[0] == "ravel" and reason_to_parse_only(words) is None:
            printed = "".join(self.ravel(*words[1:], code=2 if MISTAKE in words else 0))
            self.ran.append(words)
        if output:
            assert shows(output, printed), f"{shlex.join(words)}\n{printed}"


def shows(expected, printed):
    """Return True if a command printed what a page shows, where ``...`` stands for anything."""
    return doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def test_an_output_that_has_changed_is_seen():
    assert shows("wrote a\n...\nlast\n", "wrote a\nwrote b\nlast\n")
    assert not shows("wrote a\n...\nlast\n", "wrote b\nlast\n")


@pytest.mark.parametrize("page", ALONE)
def test_a_page_runs_as_it_is_written(page, tmp_path, ravel, monkeypatch):
    reader = Reader(tmp_path, ravel, monkeypatch)
    reader.follow(page)
    expected = [words for words in commands(page) if words[0] == "ravel" and reason_to_parse_only(words) is None]
    assert reader.ran == expected


class Start:
    """Starts the sweep of the tutorial in processes: what is launched is stopped by Ctrl-C, and then resumed."""

    def __init__(self):
        self.codes = []

    def __call__(self, words):
        """Run a command that starts Ray, and return True; False for others."""
        if words[1] not in {"launch", "resume"}:
            return False
        with running([RAVEL, *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            printed = []
            for line in process.stdout:
                printed.append(line)
                if words[1] == "launch" and " after epoch " in line:
                    process.send_signal(signal.SIGINT)
                    break
            printed += process.stdout.readlines()
            self.codes.append(process.wait())
        assert self.codes[-1] in {0, 130}, "".join(printed)
        return True


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_tutorial_and_the_pages_on_its_sweep_run_as_they_are_written(tmp_path, ravel, monkeypatch):
    start = Start()
    reader = Reader(tmp_path, ravel, monkeypatch, start)
    reader.follow("docs/tutorial.md")
    assert start.codes == [130, 0, 0]
    reader.start = None
    for page in ON_A_SWEEP:
        reader.follow(page)
    assert len(reader.ran) > 25


def test_our_numbers_on_the_page_of_the_papers_are_those_of_the_results():
    results = (ROOT / "docs" / "results" / "mnist.md").read_text()
    page = (ROOT / "docs" / "papers.md").read_text()
    theirs, ours = re.split(r"^\| method \| PreActResNet-18 .*\n(?:\|.*\n)+", page, flags=re.MULTILINE)
    numbers = re.findall(r"\d[\d.]* ± [\d.]*\d", theirs + ours)
    assert len(numbers) > 40
    assert [number for number in numbers if number not in results] == []


def test_the_readme_fits_two_screens_and_has_a_picture_and_the_three_ways_on():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 120
    assert re.search(r"!\[.+\]\(docs/images/", text)
    assert {"docs/tutorial.md", "docs/howto/README.md"} <= set(re.findall(r"\]\(([^)]+)\)", text))


def said():
    """Return all literal text of the packages, with ``...`` for what a program puts in: the words of its messages."""
    texts = []
    for package in ("orchestrator", "trainables", "search_spaces"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    texts += ["".join(v.value if isinstance(v, ast.Constant) else "..." for v in node.values)]
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


def messages_of(page):
    """Return the parts between the ellipses of each message of the tables, without those of a word or two."""
    section = page.partition("## By message")[2]
    cells = re.findall(r"^\| (`.+?) \| ", section, re.MULTILINE)
    quoted = [message.strip("` ") for cell in cells for message in cell.split("` or `")]
    return [part for message in quoted for part in re.split(r"\.\.\.|'", message) if len(part.split()) > 2]


def test_every_message_of_the_page_on_troubleshooting_is_one_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    literal, parts = said(), messages_of(page)
    assert len(parts) > 40
    missing = [part for part in parts if not any(piece in literal for piece in (part, part.strip(" ;,:()")))]
    assert missing == []
    assert messages_of("## By message\n| `the moon is full today; ...` | wait |\n") == ["the moon is full today; "]
    assert "the moon is full today" not in literal
