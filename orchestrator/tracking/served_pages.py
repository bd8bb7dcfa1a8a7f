"""MLflow's server with the files of its pages handed out by the event loop: the app that ``ravel ui`` starts.

MLflow hands every file through a WSGI bridge in pieces of 8 KiB, which costs its one process a tenth of a second and
more for the 4 MB that each of its pages begins with, just when the browser wants both cores. All else is MLflow's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_AGE_S = 2_419_200  # as MLflow has it: the names of its files change with what is in them


def create_app() -> FastAPI:
    """MLflow's app over the store that its environment names; the ``ravel`` of ``mlflow server --app-name``."""
    import mlflow.server  # noqa: PLC0415  reads the environment
    from mlflow.server.fastapi_app import app  # noqa: PLC0415
    from starlette.routing import Mount  # noqa: PLC0415  comes with MLflow
    from starlette.staticfiles import StaticFiles  # noqa: PLC0415

    class PageFiles(StaticFiles):
        """Files that a browser may keep."""

        def file_response(self, *args: Any, **kwargs: Any) -> Any:
            """One of them, or that the browser's own is still good."""
            response = super().file_response(*args, **kwargs)
            response.headers["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
            return response

    app.router.routes.insert(0, Mount("/static-files", PageFiles(directory=mlflow.server.app.static_folder)))
    return cast("FastAPI", app)
