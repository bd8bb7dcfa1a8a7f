"""Each claim of the page on security names the test that holds it, and these tests exist."""

import inspect
import re

import pytest

from orchestrator.cli import serve


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs/security.md").read_text()


def unknown(page, repository):
    """The tests that a page names and that are not there."""
    files = (repository / "tests").rglob("test_*.py")
    defined = {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}
    return sorted(set(re.findall(r"`(test_\w+)`", page)) - defined)


def test_every_test_that_the_page_names_exists(page, repository):
    assert len(re.findall(r"`test_\w+`", page)) > 25
    assert unknown(page, repository) == []
    assert unknown("held by `test_of_nothing`", repository) == ["test_of_nothing"]


@pytest.mark.parametrize("command", [serve.ui, serve.serve])
def test_the_page_has_the_ports_of_the_commands_that_listen(command, page):
    port = inspect.signature(command).parameters["port"].default
    (row,) = re.findall(rf"^\| `ravel {command.__name__}` \|.*$", page, re.MULTILINE)
    assert f"| {port} | 127.0.0.1" in row
    host = inspect.signature(command).parameters.get("host")
    assert host is None or host.default == "127.0.0.1"
