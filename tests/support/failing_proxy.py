"""A proxy before an HTTP server that fails in the ways in which networks and buckets do."""

import threading
import time
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("500", "503", "silent", "half", "lost", "flipped", "slow")
PATIENCE = 3.0  # seconds of silence, longer than clients wait


class Proxy(ThreadingHTTPServer):
    """Requests fail as `fault` says where `fails(request)` holds, which counts from 0."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = (host, port)
        self.fault = ""
        self.fails = lambda request: True
        self.requests = self.failed = 0
        self._counting = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def break_(self, fault: str, every: int = 1) -> None:
        """From now on, let each of so many requests fail; none where there is no fault."""
        self.fault, self.requests, self.failed = fault, 0, 0
        self.fails = lambda request: request % every == every - 1

    def next_fault(self) -> str:
        with self._counting:
            failing = bool(self.fault) and self.fails(self.requests)
            self.requests += 1
            self.failed += failing
        return self.fault if failing else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said."""

    def _pass_on(self) -> None:
        fault = self.server.next_fault()
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault in ("500", "503"):
            self._answer(int(fault), {}, b"<Error><Code>SlowDown</Code></Error>")
        elif fault == "silent":
            time.sleep(PATIENCE)
            self.close_connection = True
        else:
            behind = HTTPConnection(*self.server.behind, timeout=30)
            behind.request(self.command, self.path, content, dict(self.headers))
            answer = behind.getresponse()
            body = answer.read()
            behind.close()
            self._spoilt(fault, answer, body)

    def _spoilt(self, fault: str, answer: HTTPResponse, body: bytes) -> None:
        if fault == "lost":
            self.close_connection = True
            return
        if fault == "slow":
            time.sleep(0.3)
        if fault == "flipped" and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 16]) + body[middle + 1 :]
        kept = ("Content-Length", "Transfer-Encoding", "Connection", "Date", "Server")
        headers = {k: v for k, v in answer.getheaders() if k not in kept}
        half = fault == "half" and len(body) > 1
        told = answer.getheader("Content-Length", str(len(body)))
        self._answer(answer.status, headers, body[: len(body) // 2] if half else body, told)
        self.close_connection |= half

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, length: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815  as its base has them
