"""MLflow's server with the files of its pages handed out by the event loop: the app that ``ravel ui`` starts.

MLflow hands every file through a WSGI bridge in pieces of 8 KiB, which costs its one process a fifth of a second for
the 4 MB that each of its pages begins with, just when the browser wants both cores. Everything else is MLflow's own.
"""

from __future__ import annotations

from typing import Any

import mlflow.server
from mlflow.server.fastapi_app import app
from starlette.routing import Mount  # comes with MLflow
from starlette.staticfiles import StaticFiles

MAX_AGE_S = 2_419_200  # as MLflow has it: the names of its files change with what is in them


class PageFiles(StaticFiles):
    """Files that a browser may keep."""

    def file_response(self, *args: Any, **kwargs: Any) -> Any:
        """One file, or that the browser's copy is still good."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
        return response


app.router.routes.insert(0, Mount("/static-files", PageFiles(directory=mlflow.server.app.static_folder)))
