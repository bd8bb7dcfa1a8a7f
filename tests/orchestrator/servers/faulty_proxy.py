"""A server between a client and S3 with chosen faults: real sockets, real answers, chosen faults."""

import http.client
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "expect", "transfer-encoding"}
ERROR = "<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"


@dataclass
class Request:
    method: str
    path: str
    range: str | None


@dataclass
class FaultyProxy:
    """Passes requests on to `upstream`, whose signatures still hold: the client's Host header is passed on as it is.

    The next `refusals` requests are refused, with `status` and `code`. Each entry of `cuts` has the answer to one GET
    of an object end after so many bytes of its body. `lost_answers` requests are done upstream, and then the
    connection is closed without an answer. `requests` is what was asked, in order.
    With a `certificate` (and its key, in one file) it speaks TLS.
    """

    upstream: str
    refusals: int = 0
    status: int = 503
    code: str = "SlowDown"
    cuts: list[int] = field(default_factory=list)
    lost_answers: int = 0
    requests: list[Request] = field(default_factory=list)
    certificate: Path | None = None

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self):
        return "http{}://{}:{}".format("s" if self.certificate else "", *self._server.server_address)

    def ranges(self):
        """The ranges that were asked of objects; None for a whole one."""
        return [
            request.range for request in self.requests if request.method == "GET" and "list-type" not in request.path
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def log_message(self, *_):
        pass

    def _answer(self):
        proxy = self.proxy
        body = self._body()
        proxy.requests.append(Request(self.command, self.path, self.headers.get("Range")))
        if proxy.refusals:
            proxy.refusals -= 1
            self._send(proxy.status, {"Content-Type": "application/xml"}, ERROR.format(code=proxy.code).encode())
            return
        status, headers, answer = self._ask_upstream(body)
        if proxy.lost_answers:
            proxy.lost_answers -= 1
            self.close_connection = True
            return
        cut = self._cut(status)
        self._send(status, headers, answer, end=cut)
        self.close_connection = cut is not None

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _ask_upstream(self, body):
        connection = http.client.HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.headers), content

    def _cut(self, status):
        is_object = self.command == "GET" and "list-type" not in self.path and status in {200, 206}
        return self.proxy.cuts.pop(0) if is_object and self.proxy.cuts else None

    def _send(self, status, headers, body, *, end=None):
        self.send_response_only(status)
        kept = {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
        if self.command != "HEAD":
            kept = {name: value for name, value in kept.items() if name.lower() != "content-length"}
            kept["Content-Length"] = str(len(body))
        for name, value in kept.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:end])
