"""A server of files with the habits of real ones."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Served:
    """A file on the server; what is a list holds for one answer after the other, and then no longer."""

    content: bytes
    etag: str | None = '"one"'
    date: str | None = None
    kind: str = "application/octet-stream"
    ranges: bool = True
    minds_if_range: bool = True
    tells_length: bool = True
    redirect: str | None = None
    cuts: list[int] = field(default_factory=list)  # bytes after which the connection ends
    statuses: list[int] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str | None]] = []  # name and range of each request

    def serve(self, name: str, content: bytes, **habits) -> str:
        self.files[name] = Served(content, **habits)
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name, asked = self.path.partition("?")[0].lstrip("/"), self.headers.get("Range")
        self.server.asked.append((name, asked))
        served = self.server.files.get(name)
        if served is None:
            return self.send_error(404)
        if served.delays:
            time.sleep(served.delays.pop(0))
        if served.statuses:
            return self.send_error(served.statuses.pop(0))
        if served.redirect:
            self.send_response(302)
            self.send_header("Location", served.redirect)
            return self.end_headers()
        return self.send(served, asked)

    def send(self, served: Served, asked: str | None) -> None:
        size = len(served.content)
        same = self.headers.get("If-Range") in (None, served.etag, served.date) or not served.minds_if_range
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and served.ranges and same else 0
        if start and start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", served.kind)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if served.tells_length:
            self.send_header("Content-Length", str(size - start))
        if served.etag:
            self.send_header("ETag", served.etag)
        if served.date:
            self.send_header("Last-Modified", served.date)
        self.end_headers()
        rest = served.content[start:]
        with contextlib.suppress(ConnectionError):  # a client that has seen enough hangs up
            self.wfile.write(rest[: served.cuts.pop(0)] if served.cuts else rest)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
