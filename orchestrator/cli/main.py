"""The command line: one call for each command; everything is decided elsewhere.

Exit codes: 0 done, 1 finished with more failed trials than allowed, 2 the spec or the arguments are wrong, 3 something
outside failed, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys

import typer

from orchestrator.cli import analyse, look, maintain, run, serve
from orchestrator.cli import spaces as space_commands
from orchestrator.errors import Interrupted, OrchestratorError, SpecError

app = typer.Typer(
    name="ravel",
    help="Sweeps over Soft Nearest Neighbor Loss, Mixup and adversarial training, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(space_commands.app)


for name, command in (
    ("check", run.check),
    ("plan", run.plan),
    ("launch", run.launch),
    ("resume", run.resume),
    ("trial", run.trial),
    ("status", look.status),
    ("list", look.list_all),
    ("best", look.best),
    ("compare", look.compare),
    ("logs", look.logs),
    ("replay", analyse.replay),
    ("audit", analyse.audit),
    ("evaluate", analyse.evaluate),
    ("transfer", analyse.transfer),
    ("ui", serve.ui),
    ("serve", serve.serve),
    ("register", serve.register),
    ("sync", maintain.sync),
    ("import-mlflow", maintain.import_mlflow),
    ("purge", maintain.purge),
):
    app.command(name)(command)


def main() -> None:
    """Run the command line; every error of ours becomes its exit code and its own words."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        app()
    except SpecError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        sys.exit(error.exit_code)
    except Interrupted as error:
        typer.echo(f"\n{error}", err=True)
        sys.exit(error.exit_code)
    except OrchestratorError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted before a sweep began", err=True)
        sys.exit(Interrupted.exit_code)
    except Exception as error:  # data that is missing, a disk that is full, Ray that broke, a bug of ours
        if os.environ.get("RAVEL_DEBUG"):
            raise
        typer.echo(f"error: {type(error).__name__}: {error} (RAVEL_DEBUG=1 shows where)", err=True)
        sys.exit(OrchestratorError.exit_code)
