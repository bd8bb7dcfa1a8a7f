"""MLflow's server with the files of its pages handed out from memory: the app that ``ravel ui`` starts.

MLflow hands every file through a WSGI bridge in pieces of 8 KiB, which costs its one process a tenth of a second and
more for the 4 MB that each of its pages begins with, just when the browser wants both cores. Two of the files are
handed out a little changed, for what no setting reaches: the table of runs draws the rows near to those in sight, not
all 100 of a page before any is seen, and the assistant waits to be called. All else is MLflow's own.
"""

from __future__ import annotations

import functools
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_AGE_S = 2_419_200  # as MLflow has it: the names of its files change with what is in them
ALL_ROWS, ROWS_NEAR = b"rowBuffer:101", b"rowBuffer:10"  # ten is what the grid does unless told otherwise
OPENED_ONCE = b"<script>localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] ??= 'true'</script>"
CHANGED = {".js": (ALL_ROWS, ROWS_NEAR), ".html": (b"<head>", b"<head>" + OPENED_ONCE)}
"""What is put in place of what, by the end of a file's name; nothing, where another version has it in other words."""


def create_app() -> FastAPI:
    """MLflow's app over the store that its environment names; the ``ravel`` of ``mlflow server --app-name``."""
    import mlflow.server  # noqa: PLC0415  reads the environment
    from mlflow.server.fastapi_app import app  # noqa: PLC0415
    from starlette.responses import FileResponse, HTMLResponse, Response  # noqa: PLC0415  comes with MLflow
    from starlette.routing import Mount, Route  # noqa: PLC0415
    from starlette.staticfiles import StaticFiles  # noqa: PLC0415

    class PageFiles(StaticFiles):
        """Files that a browser may keep."""

        def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
            """One of them, or that the browser's own is still good."""
            response = super().file_response(full_path, *args, **kwargs)
            if isinstance(response, FileResponse):
                headers = {name: response.headers[name] for name in ("content-type", "etag", "last-modified")}
                response = Response(handed_out(Path(full_path)), headers=headers)
            response.headers["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
            return response

    async def page(_: object) -> Response:
        """The page that asks for all the others."""
        return HTMLResponse(handed_out(folder / "index.html"), headers={"Cache-Control": "no-cache"})

    folder = Path(mlflow.server.app.static_folder)
    app.router.routes[:0] = [Route("/", page), Mount("/static-files", PageFiles(directory=folder))]
    gc.collect()
    gc.freeze()
    return cast("FastAPI", app)


@functools.cache
def handed_out(file: Path) -> bytes:
    """What a browser gets for a file; kept, 10 MB for the pages of a sweep."""
    content = file.read_bytes()
    return content.replace(*CHANGED[file.suffix]) if file.suffix in CHANGED else content
