import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dinotools.models.download import CHUNK, fetch
from dinotools.runtime.errors import DinotoolsError

CONTENT = bytes(range(251)) * 3000  # 753,000 bytes: more than two chunks, and no two chunks alike
HALF = CHUNK + 12_345


class Server(ThreadingHTTPServer):
    """Serves CONTENT at /weights.pth; its attributes are the ways in which real servers differ."""

    daemon_threads = True
    ranges = True
    tells_length = True
    status = 200
    breaks_off_after: int | None = None

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/folder/weights.pth"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if server.tells_length:
            self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that has seen enough hangs up
            self.wfile.write(CONTENT[start : server.breaks_off_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DINOTOOLS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


def break_off(server):
    server.breaks_off_after = HALF
    with pytest.raises(DinotoolsError) as error:
        fetch(server.url)
    server.breaks_off_after = None
    return error.value


def test_a_file_is_fetched_once(server, cache):
    assert fetch(server.url) == cache / "weights.pth"
    assert (cache / "weights.pth").read_bytes() == CONTENT
    fetch(server.url)
    assert server.asked == [None]
    assert [path.name for path in cache.iterdir()] == ["weights.pth"]


def test_an_interrupted_download_is_told_and_never_taken_for_the_file(server, cache):
    error = break_off(server)
    assert server.url in str(error)
    assert str(cache / "weights.pth") in str(error)
    assert error.exit_code == 2
    assert [path.name for path in cache.iterdir()] == ["weights.pth.part"]
    assert (cache / "weights.pth.part").read_bytes() == CONTENT[:HALF]


def test_an_interrupted_download_goes_on_where_it_stopped(server, cache):
    break_off(server)
    assert fetch(server.url).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={HALF}-"]
    assert [path.name for path in cache.iterdir()] == ["weights.pth"]


def test_a_server_without_ranges_begins_anew(server):
    server.ranges = False
    break_off(server)
    assert fetch(server.url).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={HALF}-"]


def test_a_complete_partial_file_is_only_renamed(server, cache):
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "weights.pth.part").write_bytes(CONTENT)
    assert fetch(server.url).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_partial_file_that_is_too_long_is_thrown_away(server, cache):
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "weights.pth.part").write_bytes(CONTENT + b"x")
    assert fetch(server.url).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT) + 1}-", None]


def test_two_writers_of_one_partial_file_are_noticed(server, cache, monkeypatch):
    def another_writes(message):
        (cache / "weights.pth.part").write_bytes(b"theirs")

    monkeypatch.setattr("dinotools.models.download.say", another_writes)
    with pytest.raises(DinotoolsError, match="broke off with"):
        fetch(server.url)
    assert not (cache / "weights.pth").exists()


def test_a_server_that_tells_no_length(server):
    server.tells_length = False
    assert fetch(server.url).read_bytes() == CONTENT


def test_not_found(server, cache):
    server.status = 404
    with pytest.raises(DinotoolsError, match=r"404.*put the file at") as error:
        fetch(server.url)
    assert str(cache / "weights.pth") in str(error.value)
    assert list(cache.iterdir()) == []


def test_connection_refused(cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/weights.pth"
        with pytest.raises(DinotoolsError, match="cannot be downloaded") as error:
            fetch(url)
    assert url in str(error.value)
    assert str(cache / "weights.pth") in str(error.value)


def test_without_permission_to_download_only_the_cache_is_asked(server, cache):
    with pytest.raises(DinotoolsError, match="downloads are off") as error:
        fetch(server.url, download=False)
    assert server.url in str(error.value)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "weights.pth").write_bytes(b"by hand")
    assert fetch(server.url, download=False).read_bytes() == b"by hand"
    assert server.asked == []


def test_a_disk_that_cannot_be_written(server, cache):
    (cache / "weights.pth.part").mkdir(parents=True)  # where a file is to be opened
    with pytest.raises(DinotoolsError, match="cannot be downloaded to"):
        fetch(server.url)
