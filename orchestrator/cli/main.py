"""Command line: the ``ravel`` command, its panels, its error messages and its exit codes.

Exit codes: 0 done, 1 finished with more failed trials than allowed, 2 the spec or the arguments are wrong, 3 something
outside failed, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from orchestrator.cli import (
    analyse,
    change,
    compare,
    export,
    init,
    jobs,
    look,
    maintain,
    models,
    run,
    serve,
    simulate,
    spaces,
    up,
)
from orchestrator.cli.shared.arguments import HELP_NAMES
from orchestrator.doctor.packages import DISTRIBUTION, NOT_IN_ALL
from orchestrator.errors import Interrupted, OrchestratorError, RayLost, RefusedOrder, SpecError
from orchestrator.execution.signals import last_words
from search_spaces.errors import MissingExtraError
from trainables.errors import ConfigError, TrainableError

EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "numpy", "scipy", "sklearn", "filelock"), "train"),
    **dict.fromkeys(("optuna", "cmaes"), "optuna"),
    **dict.fromkeys(("boto3", "botocore"), "s3"),
    **dict.fromkeys(("plotly", "torchmetrics"), "evaluate"),
    **dict.fromkeys(("aiohttp", "grpc", "ray"), "tune"),
    **dict.fromkeys(("pyarrow", "safetensors"), "export"),
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "track",
    "pytorch_lightning": "lightning",
    "psycopg": "postgres",
}
"""The extra that installs each library."""
MAX_LINE = 400
INTERRUPTED_EARLY = "\ninterrupted before a sweep began"
"""Characters of a line of an error message; a longer one loses its middle."""

app = typer.Typer(
    name="ravel",
    help="Run sweeps over Soft Nearest Neighbor Loss, Mixup and adversarial training, on Ray.",
    epilog="Start with: ravel check SPEC, ravel plan SPEC, ravel launch SPEC. Help on a command: ravel COMMAND -h.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
    pretty_exceptions_enable=False,
)
for panel in (
    init,
    up,
    run,
    change,
    jobs,
    look,
    compare,
    analyse,
    simulate,
    export,
    spaces,
    models,
    serve,
    maintain,
):
    app.add_typer(panel.app, rich_help_panel=panel.PANEL)


def _print_version(asked: bool) -> None:  # noqa: FBT001  typer calls it so
    if asked:
        typer.echo(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def options(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options of ``ravel`` itself."""


def main() -> None:
    """Run the command line; print an error as its message alone, and exit with its code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        with last_words():
            app()
    except (SpecError, RefusedOrder) as error:
        _exit(error.exit_code, str(error))
    except Interrupted as error:
        _leave(error.exit_code, f"\n{error}")
    except RayLost as error:
        _leave(error.exit_code, f"error: {error}")
    except OrchestratorError as error:
        _exit(error.exit_code, f"error: {error}")
    except ConfigError as error:  # a mistake of the spec that only its trial finds
        _exit(SpecError.exit_code, f"error: {error}")
    except TrainableError as error:
        _exit(OrchestratorError.exit_code, f"error: {error}")
    except KeyboardInterrupt:
        _leave(Interrupted.exit_code, INTERRUPTED_EARLY)
    except Exception as error:  # data that is missing, a disk that is full, Ray that broke, a bug of ours
        if isinstance(error.__cause__, KeyboardInterrupt):  # pydantic wraps it if it comes while a spec is written out
            _leave(Interrupted.exit_code, INTERRUPTED_EARLY)
        if os.environ.get("RAVEL_DEBUG"):
            raise
        if isinstance(error, ModuleNotFoundError | MissingExtraError) and (remedy := missing_extra(error)):
            _exit(OrchestratorError.exit_code, f"error: {remedy}")
        message = f"error: {type(error).__name__}: {error} (set RAVEL_DEBUG=1 for the traceback)"
        _exit(OrchestratorError.exit_code, message)


def _leave(code: int, message: str) -> NoReturn:
    """Exit without the hooks of Ray, which do not return, or abort, when a part of it is dead or stopped."""
    with suppress(OSError):  # the terminal may be gone
        try:
            _exit(code, message)
        except SystemExit:
            sys.stdout.flush()
            sys.stderr.flush()
    os._exit(code)


def _exit(code: int, message: str) -> None:
    for line in message.split("\n"):
        typer.echo(shortened(line), err=True)
    sys.exit(code)


def missing_extra(error: ImportError) -> str | None:
    """Return the message for a library of an extra that is not installed; None for any other module.

    >>> missing_extra(ModuleNotFoundError("No module named 'numpy'", name="numpy"))
    "numpy is not installed: pip install 'ravel-sweeps[train]', or [all] for every command"
    """
    library = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(library)
    or_all = "" if extra in NOT_IN_ALL else ", or [all] for every command"
    return extra and f"{library} is not installed: pip install '{DISTRIBUTION}[{extra}]'{or_all}"


def shortened(line: str) -> str:
    """Return a line of at most ``MAX_LINE`` characters: its start, which names the place, and its end, the remedy.

    >>> shortened("search.seed: must be >= 0, got -1"), len(shortened("x" * 1000))
    ('search.seed: must be >= 0, got -1', 400)
    """
    if len(line) <= MAX_LINE:
        return line
    half = (MAX_LINE - len(" ... ")) // 2
    return f"{line[: MAX_LINE - half - len(' ... ')]} ... {line[-half:]}"
