import hashlib
import json
import shutil
from http.client import HTTPResponse
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dinotools.runtime import downloading
from dinotools.runtime.downloading import Fingerprint, download
from dinotools.runtime.errors import DinotoolsError, RunFailed

CONTENT = bytes(range(251)) * 400  # 100,400 bytes, and no two parts alike
OTHER = CONTENT[::-1]
SUM = {"md5": hashlib.md5(CONTENT).hexdigest()}


@pytest.fixture
def place(tmp_path):
    return tmp_path / "set" / "file.bin"


@pytest.fixture
def fetch(place):
    """Downloads file.bin from addresses in turn."""

    def run(*urls, size=None, waits=(0.0, 0.0), **sums):
        download(urls, place, Fingerprint(size, sums, "the publisher"), waits=waits)

    return run


def ranges(server):
    return [asked for _, asked in server.asked]


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def broken_off(server, fetch, place):
    """A run that got some bytes of /a and gave up, as a kill would leave them."""

    def run(after, **habits):
        url = server.serve("a", CONTENT, cuts=[after], **habits)
        with pytest.raises(RunFailed, match="broke off"):
            fetch(url, waits=())
        server.asked.clear()
        assert place.with_name("file.bin.part").stat().st_size == after
        return url

    return run


def test_a_file_comes_whole_and_alone(server, fetch, place):
    fetch(server.serve("a", CONTENT), size=len(CONTENT), **SUM)
    assert place.read_bytes() == CONTENT
    assert names(place.parent) == ["file.bin"]


def test_a_server_that_tells_no_length(server, fetch, place):
    fetch(server.serve("a", CONTENT, tells_length=False))
    assert place.read_bytes() == CONTENT


def test_a_connection_that_ends_early_is_taken_up_where_it_ended(server, fetch, place):
    fetch(server.serve("a", CONTENT, cuts=[30_000, 20_000]))
    assert ranges(server) == [None, "bytes=30000-", "bytes=50000-"]
    assert place.read_bytes() == CONTENT


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 60_000), max_size=3),
    habits=st.fixed_dictionaries(
        {
            "ranges": st.booleans(),
            "minds_if_range": st.booleans(),
            "etag": st.sampled_from([None, '"one"', 'W/"one"']),
            "date": st.sampled_from([None, "Sat, 01 May 2021 00:00:00 GMT"]),
        }
    ),
    published=st.booleans(),
)
def test_whatever_the_server_does_the_file_is_right(server, fetch, place, cuts, habits, published):
    shutil.rmtree(place.parent, ignore_errors=True)
    try:
        fetch(server.serve("a", CONTENT, cuts=list(cuts), **habits), **(SUM if published else {}))
    except RunFailed:
        assert not place.exists()
        assert len(cuts) == 3  # or else one attempt of the three went well
    else:
        assert place.read_bytes() == CONTENT


def test_a_later_run_goes_on(server, broken_off, fetch, place):
    url = broken_off(40_000)
    assert names(place.parent) == ["file.bin.part", "file.bin.part.json"]
    fetch(url)
    assert ranges(server) == ["bytes=40000-"]
    assert place.read_bytes() == CONTENT
    assert names(place.parent) == ["file.bin"]


@pytest.mark.parametrize("minds", [True, False], ids=["and it says so", "and it sends the rest of the new one"])
def test_a_file_that_has_changed_on_the_server_begins_anew(server, broken_off, fetch, place, minds):
    url = broken_off(40_000)
    server.serve("a", OTHER, etag='"two"', minds_if_range=minds)
    fetch(url)
    assert place.read_bytes() == OTHER


def test_a_file_that_has_grown_on_the_server_begins_anew(server, broken_off, fetch, place):
    url = broken_off(40_000)
    server.serve("a", OTHER + OTHER, minds_if_range=False)
    fetch(url)
    assert place.read_bytes() == OTHER + OTHER


def test_a_file_that_has_shrunk_on_the_server_begins_anew(server, broken_off, fetch, place):
    url = broken_off(40_000)
    server.serve("a", OTHER[:100], minds_if_range=False)
    fetch(url)
    assert place.read_bytes() == OTHER[:100]


def test_a_server_without_ranges_begins_anew(server, fetch, place):
    fetch(server.serve("a", CONTENT, cuts=[40_000], ranges=False))
    assert ranges(server) == [None, "bytes=40000-"]
    assert place.read_bytes() == CONTENT


def test_where_nothing_tells_whether_the_rest_fits_it_begins_anew(server, broken_off, fetch, place):
    url = broken_off(40_000, etag=None)
    fetch(url)
    assert ranges(server) == [None]
    assert place.read_bytes() == CONTENT


def test_a_weak_etag_promises_less_than_a_date(broken_off, place):
    broken_off(40_000, etag='W/"one"', date="Sat, 01 May 2021 00:00:00 GMT")
    note = json.loads(place.with_name("file.bin.part.json").read_text())
    assert note["validator"] == "Sat, 01 May 2021 00:00:00 GMT"


def test_a_published_sum_is_enough_to_go_on_even_from_another_mirror(server, broken_off, fetch, place):
    broken_off(40_000, etag=None)
    fetch(server.serve("b", CONTENT, etag=None), **SUM)
    assert server.asked == [("b", "bytes=40000-")]
    assert place.read_bytes() == CONTENT


def test_a_rest_that_does_not_fit_after_all_begins_anew_at_the_same_mirror(server, broken_off, fetch, place):
    url = broken_off(40_000)
    part = place.with_name("file.bin.part")
    part.write_bytes(OTHER[:40_000])
    fetch(url, **SUM)
    assert ranges(server) == ["bytes=40000-", None]
    assert place.read_bytes() == CONTENT


def test_a_run_that_was_killed_after_the_last_byte_asks_for_nothing(server, broken_off, fetch, place):
    url = broken_off(40_000)
    place.with_name("file.bin.part").write_bytes(CONTENT)
    fetch(url)
    assert server.asked == []
    assert place.read_bytes() == CONTENT


def test_a_wrong_sum_sends_it_to_the_next_mirror(server, fetch, place):
    fetch(server.serve("a", OTHER), server.serve("b", CONTENT), **SUM)
    assert server.asked == [("a", None), ("b", None)]
    assert place.read_bytes() == CONTENT


def test_wrong_sums_everywhere_are_named_and_leave_nothing(server, fetch, place):
    sha = {"sha256": hashlib.sha256(CONTENT).hexdigest()}
    with pytest.raises(RunFailed) as error:
        fetch(server.serve("a", OTHER), server.serve("b", OTHER), **sha)
    assert hashlib.sha256(OTHER).hexdigest() in str(error.value)
    assert sha["sha256"] in str(error.value)
    assert "/a: " in str(error.value) and "/b: " in str(error.value)
    assert names(place.parent) == []


def test_an_address_without_the_file_is_asked_once(server, fetch, place):
    fetch(server.serve("a", CONTENT).replace("/a", "/gone"), server.serve("b", CONTENT))
    assert server.asked == [("gone", None), ("b", None)]
    with pytest.raises(RunFailed, match="404"):
        download([server.serve("a", b"").replace("/a", "/gone")], place.with_name("x"))


def test_a_server_at_its_limit_is_asked_again(server, fetch, place):
    fetch(server.serve("a", CONTENT, statuses=[503, 429]))
    assert len(server.asked) == 3
    assert place.read_bytes() == CONTENT


def test_a_server_that_is_slow_to_start_is_asked_again(server, fetch, place, monkeypatch):
    monkeypatch.setattr(downloading, "TIMEOUT_S", 0.15)
    fetch(server.serve("a", CONTENT, delays=[0.4]))
    assert len(server.asked) == 2
    assert place.read_bytes() == CONTENT


def test_nobody_there(fetch, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(RunFailed, match="refused"):
        fetch("http://127.0.0.1:9/a")


def test_waits_begin_anew_when_something_came(server, fetch, monkeypatch):
    slept = []
    monkeypatch.setattr(downloading.time, "sleep", slept.append)
    fetch(server.serve("a", CONTENT, cuts=[0, 0, 10, 0]), waits=(1.0, 2.0))
    assert slept == [1.0, 2.0, 1.0, 2.0]


def test_a_redirect_is_followed(server, fetch, place):
    there = server.serve("b", CONTENT)
    fetch(server.serve("a", b"", redirect=there))
    assert place.read_bytes() == CONTENT


def test_a_web_page_in_its_place_is_refused(server, fetch, place):
    with pytest.raises(RunFailed, match="web page"):
        fetch(server.serve("a", b"<html>moved", kind="text/html; charset=utf-8"))
    assert names(place.parent) == []


def test_a_size_that_is_not_the_published_one_is_refused_before_the_download(server, fetch, place):
    with pytest.raises(RunFailed, match="100,400 bytes there and should have 7"):
        fetch(server.serve("a", CONTENT), size=7)
    assert names(place.parent) == []


def test_without_an_announced_length_the_published_one_counts(server, fetch, place):
    url = server.serve("a", CONTENT, tells_length=False)
    server.files["a"].cuts = [500]
    with pytest.raises(RunFailed, match="500 bytes and should have 100,400"):
        fetch(url, size=len(CONTENT))
    fetch(url, size=len(CONTENT))
    assert place.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None], ids=["said before", "said by the server"])
def test_no_room_on_the_disk(server, fetch, place, monkeypatch, size):
    free = downloading.RESERVE + len(CONTENT) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(DinotoolsError, match="no room") as error:
        fetch(server.serve("a", CONTENT, tells_length=size is None), size=size)
    assert error.value.exit_code == 2
    assert not place.exists()


@pytest.mark.parametrize("anew", [False, True], ids=["between our bytes", "begun anew"])
def test_another_process_that_writes_the_same_file_is_noticed(server, fetch, place, monkeypatch, anew):
    part, read = place.with_name("file.bin.part"), HTTPResponse.read

    def another_writes(response, size):
        if anew:
            part.unlink()
        with part.open("ab") as file:
            file.write(b"theirs")
        return read(response, size)

    monkeypatch.setattr(HTTPResponse, "read", another_writes)
    with pytest.raises(RunFailed, match="another process is downloading it"):
        fetch(server.serve("a", CONTENT))
    assert names(place.parent) == []


def test_a_place_that_cannot_be_written(server, fetch, place):
    place.with_name("file.bin.part").mkdir(parents=True)  # where a file is to be opened
    with pytest.raises(RunFailed, match="cannot be written"):
        fetch(server.serve("a", CONTENT))
