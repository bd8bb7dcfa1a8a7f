"""A proxy that is in the way of MLflow or S3 is named, without its password."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from orchestrator.errors import OrchestratorError, StorageError
from orchestrator.storage.locations import Location
from orchestrator.storage.proxies import proxy_note
from orchestrator.storage.s3 import Bucket
from orchestrator.tracking.store.mlflow_errors import store_errors
from orchestrator.tracking.store.reachable import problem_of
from orchestrator.tracking.store.store import open_store


@pytest.fixture(params=[403, 407, 502])
def proxy(request, monkeypatch):
    """A proxy with a login that answers every request itself, in the environment; its address without the login."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_HEAD = do_CONNECT = do_GET

        def log_message(self, *_):
            pass

    for name in ("http_proxy", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://ada:secret@{address}")
        yield address
        server.shutdown()


def check(message, proxy, host, variable):
    assert f"asked through the proxy {proxy} ({variable}): if that is in the way, add {host} to NO_PROXY" in message
    assert "secret" not in message


@pytest.mark.parametrize(("scheme", "variable"), [("http", "HTTP_PROXY"), ("https", "HTTPS_PROXY")])
def test_a_proxy_before_mlflow_is_named_by_preflight(proxy, scheme, variable):
    check(problem_of(f"{scheme}://mlflow.invalid:5000"), proxy, "mlflow.invalid", variable)


def test_a_proxy_before_a_server_of_this_machine_is_named(proxy):
    check(problem_of("http://127.0.0.1:9"), proxy, "127.0.0.1", "HTTP_PROXY")


@pytest.mark.usefixtures("proxy")
def test_a_server_that_is_asked_directly_names_no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "proxy" not in problem_of("http://127.0.0.1:9")
    assert proxy_note("sqlite:///mlflow.db") == ""


def test_a_proxy_before_mlflows_own_client_is_named(proxy):
    uri = "http://mlflow.invalid:5000"
    with pytest.raises(OrchestratorError) as refused, store_errors(uri, "is the server up?"):
        open_store(uri).get_experiment_by_name("digits")
    check(str(refused.value), proxy, "mlflow.invalid", "HTTP_PROXY")


def test_a_proxy_before_s3_is_named(proxy, monkeypatch):
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_ENDPOINT_URL_S3", "http://s3.invalid:9000"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError) as refused:
        Bucket(Location.parse("s3://team/ravel")).read("key")
    check(str(refused.value), proxy, "s3.invalid", "HTTP_PROXY")
