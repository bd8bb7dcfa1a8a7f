"""MLflow's server with the files of its pages handed out by the event loop: the app that ``ravel ui`` starts.

MLflow hands every file through a WSGI bridge in pieces of 8 KiB, which costs its one process a tenth of a second and
more for the 4 MB that each of its pages begins with, just when the browser wants both cores. And its table of runs
draws all 100 rows of a page before any is seen, for a fifth to a quarter of the time that opening it takes; here it
draws those in sight and ten more on either side, as its grid does unless told otherwise. All else is MLflow's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

MAX_AGE_S = 2_419_200  # as MLflow has it: the names of its files change with what is in them
ALL_ROWS, ROWS_NEAR = b"rowBuffer:101", b"rowBuffer:10"


def create_app() -> FastAPI:
    """MLflow's app over the store that its environment names; the ``ravel`` of ``mlflow server --app-name``."""
    import mlflow.server  # noqa: PLC0415  reads the environment
    from mlflow.server.fastapi_app import app  # noqa: PLC0415
    from starlette.responses import Response  # noqa: PLC0415  comes with MLflow
    from starlette.routing import Mount  # noqa: PLC0415
    from starlette.staticfiles import StaticFiles  # noqa: PLC0415

    folder = Path(mlflow.server.app.static_folder).resolve()
    tables = tables_in(folder)

    class PageFiles(StaticFiles):
        """Files that a browser may keep."""

        def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
            """One of them, or that the browser's own is still good."""
            table = tables.get(Path(full_path))
            response = (
                Response(table, media_type="text/javascript")
                if table
                else super().file_response(full_path, *args, **kwargs)
            )
            response.headers["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
            return response

    app.router.routes.insert(0, Mount("/static-files", PageFiles(directory=folder)))
    return cast("FastAPI", app)


def tables_in(folder: Path) -> Mapping[Path, bytes]:
    """The scripts below it that draw all rows of a table at once, each as it is handed out instead.

    None where another version of MLflow has it in other words: its table is then as slow as MLflow's own.
    """
    scripts = ((file, file.read_bytes()) for file in folder.glob("static/js/*.js"))
    return {file: script.replace(ALL_ROWS, ROWS_NEAR) for file, script in scripts if ALL_ROWS in script}
