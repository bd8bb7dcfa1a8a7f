"""The command line itself: panels, help, examples, version, completion, error lines."""

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import ravel
from orchestrator.cli import main as cli
from orchestrator.cli.shared.arguments import complete_spec
from orchestrator.errors import OrchestratorError, SpecError
from search_spaces import Problem

PANELS = ["Run", "Change", "Look", "Analyse", "Spaces", "Models", "Serve", "Maintain"]
RAVEL = Path(sys.executable).with_name("ravel")
WIDE = {"COLUMNS": "200", "TERMINAL_WIDTH": "200"}


def commands(group=None, *path):
    """Yield the words and the command of everything that can be run."""
    for name, command in (group or typer.main.get_command(cli.app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = dict(commands())
EACH_COMMAND = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


def help_of(*words):
    result = CliRunner().invoke(cli.app, list(words), env=WIDE)
    assert result.exit_code == 0, result.output
    return result.stdout


def complete(line, **environment):
    """Return what bash is offered at the end of a line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_RAVEL_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [str(RAVEL)], env={**os.environ, **words, **environment}, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_help_shows_the_panels_in_order():
    lines = [line for line in help_of("--help").splitlines() if line.startswith("╭─ ")]
    assert [line.split()[1] for line in lines] == ["Options", *PANELS]


@EACH_COMMAND
def test_every_command_is_in_a_panel(words):
    command = typer.main.get_command(cli.app).commands[words[0]]
    assert command.rich_help_panel in PANELS


@EACH_COMMAND
def test_every_command_explains_itself_with_an_example_that_parses(words):
    text = help_of(*words, "--help")
    (example,) = (line.strip() for line in text.splitlines() if line.strip().startswith("Example: "))
    name, *arguments = shlex.split(example.removeprefix("Example: ").partition(" > ")[0])
    assert [name, *arguments[: len(words)]] == ["ravel", *words]
    COMMANDS[words].make_context(words[-1], arguments[len(words) :])


@EACH_COMMAND
def test_every_command_takes_h_for_help(words):
    assert help_of(*words, "-h") == help_of(*words, "--help")


@EACH_COMMAND
def test_the_help_of_every_command_opens_with_a_verb_and_ends_with_a_full_stop(words):
    first = COMMANDS[words].help.splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")
    assert len(first) <= 80
    assert first.split()[0].lower() not in {"what", "who", "whether", "where", "how", "which", "the", "a"}


def test_version_prints_the_distribution_and_its_version():
    assert help_of("--version") == f"ravel-sweeps {version('ravel-sweeps')}\n"


def test_bash_completion_can_be_shown():
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [str(RAVEL), "--show-completion", "bash"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "_RAVEL_COMPLETE=complete_bash" in done.stdout
    assert "complete -o default -F" in done.stdout


def test_commands_and_sweeps_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for sweep in ("digits-20260101-120000", "digits-20260102-120000-1a2b", "other-20260101-120000"):
        (tmp_path / "results" / sweep).mkdir(parents=True)
        (tmp_path / "results" / sweep / "plan.json").touch()
    (tmp_path / "elsewhere" / "mine-20260101-120000").mkdir(parents=True)
    (tmp_path / "elsewhere" / "mine-20260101-120000" / "plan.json").touch()
    assert complete("ravel stat") == ["status"]
    digits = ["digits", "digits-20260102-120000-1a2b", "digits-20260101-120000"]
    assert complete("ravel best dig") == digits
    assert complete("ravel best --storage elsewhere m") == ["mine", "mine-20260101-120000"]
    assert complete("ravel best --storage s3://bucket/prefix d") == []


def test_specs_are_completed_also_one_folder_below(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").mkdir()
    for name in ("examples/digits.yaml", "examples/notes.txt", "mine.yml"):
        (tmp_path / name).touch()
    assert complete_spec("") == ["examples/digits.yaml", "mine.yml"]
    assert complete_spec("ex") == complete_spec("examples/d") == ["examples/digits.yaml"]


@pytest.mark.parametrize(
    ("error", "code", "start"),
    [
        (SpecError([Problem("a", "x" * 1000 + "; remedy"), Problem("b", "short; remedy")]), 2, "a: xxx"),
        (OrchestratorError("x" * 1000 + "; remedy"), 3, "error: xxx"),
        (ValueError("x" * 1000 + "; remedy"), 3, "error: ValueError: xxx"),
    ],
)
def test_an_error_line_has_at_most_400_characters_and_keeps_its_place_and_its_remedy(
    error, code, start, monkeypatch, capsys
):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.delenv("RAVEL_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == code
    assert lines[0].startswith(start)
    assert all(len(line) <= 400 and "; remedy" in line for line in lines)


@pytest.mark.parametrize(("command", "library"), [("plan", "numpy"), ("plan", "torch"), ("launch", "ray")])
def test_a_command_whose_library_is_missing_names_the_extra(tmp_path, command, library):
    (tmp_path / "spec.yaml").write_text("name: a")
    script = f"import sys; sys.modules[{library!r}] = None; sys.argv[:] = ['ravel', {command!r}, 'spec.yaml']\n"
    start = "from orchestrator.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script + start], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert re.search(rf"error: {library} is not installed: pip install 'ravel-sweeps\[\w+\]'", done.stderr)


# `ravel best` and Sweep.best before any trial has run its full budget


@pytest.mark.parametrize(("until", "is_full"), [(8, False), (None, True)])
def test_the_best_trial_without_a_full_budget_is_said_to_be_so(finished, until, is_full):
    folder = finished(until=until)
    sweep = ravel.open(folder.path)
    shown = CliRunner().invoke(cli.app, ["best", str(folder.path)], env=WIDE).output.splitlines()
    assert (sweep.best().trial.status == "completed") is is_full
    assert (shown[0] == "no trial has run its full budget yet; the best so far:") is not is_full
    assert shown[0 if is_full else 1].startswith(f"{sweep.best().trial.id}  val/accuracy ")
    assert "Before any trial has run its full budget" in ravel.Sweep.best.__doc__


def test_ctrl_c_while_a_spec_is_written_out_is_an_interrupt_and_no_error():
    code = """
from pydantic import BaseModel, model_serializer
from orchestrator.cli import main as cli

class Spec(BaseModel):
    @model_serializer(mode="wrap")
    def during_ctrl_c(self, handler):
        raise KeyboardInterrupt

cli.app = lambda: Spec().model_dump()
cli.main()
"""
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (130, "\ninterrupted before a sweep began\n")
