import hashlib
import io
import json
import shutil
import zipfile
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from dinotools.cli import app
from dinotools.configs.data_sets import DataFetchConfig
from dinotools.data.manifests import fetching
from dinotools.runtime import downloading
from dinotools.runtime.errors import DinotoolsError, RunFailed

CONTENT = bytes(range(251)) * 400  # 100,400 bytes, and no two parts alike
OTHER = CONTENT[::-1]
SUM = {"md5": hashlib.md5(CONTENT).hexdigest(), "sum_source": "the publisher"}


@pytest.fixture
def fetch(shelf, tmp_path, monkeypatch):
    """Fetches a set of one file, file.bin, from addresses in turn; returns the result."""
    monkeypatch.setattr(fetching, "WAITS_S", (0.0, 0.0))

    def run(*urls, **keys):
        shelf(files=[{"name": "file.bin", "urls": list(urls), **keys}])
        return fetching.run(DataFetchConfig(name="set", to=tmp_path / "set"))

    return run


@pytest.fixture
def place(tmp_path):
    return tmp_path / "set" / "file.bin"


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_comes_whole_and_alone(server, fetch, place):
    result = fetch(server.serve("a", CONTENT), bytes=len(CONTENT), **SUM)
    assert place.read_bytes() == CONTENT
    assert names(place.parent) == ["file.bin"]
    assert result.metrics == {"files": {"file.bin": "downloaded"}}
    assert fetch(server.serve("a", OTHER), **SUM).metrics == {"files": {"file.bin": "there before"}}
    assert len(server.asked) == 1


def test_a_wrong_sum_sends_it_to_the_next_mirror(server, fetch, place):
    fetch(server.serve("a", OTHER), server.serve("b", CONTENT), **SUM)
    assert server.asked == [("a", None), ("b", None)]
    assert place.read_bytes() == CONTENT


def test_wrong_sums_everywhere_are_named_with_their_source(server, fetch, place):
    sha = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "sum_source": "the publisher"}
    with pytest.raises(RunFailed, match=f"should be {sha['sha256']} \\(the publisher\\)"):
        fetch(server.serve("a", OTHER), server.serve("b", OTHER), **sha)
    assert names(place.parent) == []


def test_a_later_run_goes_on_even_from_another_mirror(server, fetch, place, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(RunFailed, match="broke off"):
        patch.setattr(fetching, "WAITS_S", ())
        fetch(server.serve("a", CONTENT, cuts=[40_000], etag=None))
    assert names(place.parent) == ["file.bin.part", "file.bin.part.json"]
    fetch(server.serve("b", CONTENT, etag=None), **SUM)
    assert server.asked[1:] == [("b", "bytes=40000-")]
    assert place.read_bytes() == CONTENT


def test_a_size_that_is_not_the_published_one_is_refused(server, fetch, place):
    with pytest.raises(RunFailed, match="100,400 bytes there and should have 7"):
        fetch(server.serve("a", CONTENT), bytes=7)
    assert names(place.parent) == []


def test_no_room_on_the_disk_is_seen_before_anything_is_asked(server, fetch, place, monkeypatch):
    free = downloading.RESERVE + len(CONTENT) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(DinotoolsError, match=r"no room.*--to") as error:
        fetch(server.serve("a", CONTENT), bytes=len(CONTENT))
    assert error.value.exit_code == 2
    assert not place.exists()
    assert server.asked == []


def test_a_file_that_is_there_with_a_wrong_sum_is_named_and_kept(fetch, place):
    place.parent.mkdir()
    place.write_bytes(OTHER)
    with pytest.raises(DinotoolsError, match=f"{hashlib.md5(OTHER).hexdigest()} and should be {SUM['md5']}"):
        fetch("http://127.0.0.1:9/a", **SUM)
    assert place.read_bytes() == OTHER


def test_only_some_files(server, shelf, tmp_path):
    files = [{"name": name, "urls": [server.serve(name, CONTENT)]} for name in ("one.bin", "two.bin")]
    shelf(files=files)
    fetching.run(DataFetchConfig(name="set", to=tmp_path / "set", files=("two.bin",)))
    assert names(tmp_path / "set") == ["two.bin"]
    with pytest.raises(DinotoolsError, match=r"no file 'too\.bin'.*two\.bin"):
        fetching.run(DataFetchConfig(name="set", to=tmp_path / "set", files=("too.bin",)))


def test_numbered_files(server, shelf, tmp_path):
    url = server.serve("part_008.bin", b"8").replace("008", "{008..010}")
    server.serve("part_009.bin", b"9")
    server.serve("part_010.bin", b"10")
    shelf(files=[{"name": "all/part_{008..010}.bin", "urls": [url]}])
    fetching.run(DataFetchConfig(name="set", to=tmp_path / "set"))
    assert [(tmp_path / "set/all" / f"part_{n}.bin").read_text() for n in ("008", "009", "010")] == ["8", "9", "10"]


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"top/{name}.txt", text)
    return buffer.getvalue()


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_unpacked_is_not_fetched_again(server, shelf, tmp_path, keep):
    folder = tmp_path / "set"
    url = server.serve("a", zipped(x="1", y="2"))
    shelf(files=[{"name": "a.zip", "urls": [url], "unpack": "in", "strip": 1}], prepare="cars")
    config = DataFetchConfig(name="set", to=folder, keep=keep)
    first = fetching.run(config)
    assert first.metrics["files"] == {"a.zip": "downloaded, unpacked"}
    assert any("dinotools data prepare set" in note for note in first.notes)
    assert [(folder / "in" / name).read_text() for name in ("x.txt", "y.txt")] == ["1", "2"]
    assert (folder / "a.zip").exists() == keep
    again = fetching.run(config)
    assert again.metrics["files"] == {"a.zip": "unpacked before"}
    assert any(str(folder / ".dinotools") in note for note in again.notes)
    assert len(server.asked) == 1
    shutil.rmtree(folder / ".dinotools")
    fetching.run(config)
    assert len(server.asked) == (1 if keep else 2)


def test_another_archive_of_the_same_name_is_fetched(server, shelf, tmp_path):
    old, new = zipped(x="1"), zipped(y="2")
    for content in (old, new):
        about = {"md5": hashlib.md5(content).hexdigest(), "sum_source": "the publisher"}
        shelf(files=[{"name": "a.zip", "urls": [server.serve("a", content)], "unpack": ".", **about}])
        fetching.run(DataFetchConfig(name="set", to=tmp_path / "set"))
    assert (tmp_path / "set/top/y.txt").read_text() == "2"


def test_what_must_be_got_by_hand_is_said_and_then_unpacked(server, shelf, tmp_path):
    folder = tmp_path / "set"
    content = zipped(x="1")
    shelf(
        access="registration",
        how_to_get="Register at https://example.org/door.",
        files=[
            {"name": "a.zip", "unpack": ".", "md5": hashlib.md5(content).hexdigest(), "sum_source": "them"},
            {"name": "list.txt", "urls": [server.serve("list.txt", b"x")]},
        ],
    )
    config = DataFetchConfig(name="set", to=folder)
    with pytest.raises(DinotoolsError) as error:
        fetching.run(config)
    assert error.value.exit_code == 2
    for said in ("a.zip must be downloaded by hand", "https://example.org/door", str(folder)):
        assert said in str(error.value)
    assert "list.txt" not in str(error.value)
    (folder / "a.zip").write_bytes(content[:-1])
    with pytest.raises(DinotoolsError, match="md5"):
        fetching.run(config)
    (folder / "a.zip").write_bytes(content)
    assert fetching.run(config).metrics["files"] == {"a.zip": "there before, unpacked", "list.txt": "there before"}
    assert (folder / "top/x.txt").read_text() == "1"
    assert (folder / "a.zip").exists()  # it was somebody's hour of work


def test_a_set_without_files_says_whom_to_ask(shelf, tmp_path):
    shelf(access="request", how_to_get="Ask by mail.")
    with pytest.raises(DinotoolsError, match=r"must be got by hand.*Ask by mail"):
        fetching.run(DataFetchConfig(name="set", to=tmp_path / "set"))


def test_the_folder_is_a_file(shelf, tmp_path):
    shelf(files=[{"name": "a", "urls": ["http://127.0.0.1:9/a"]}])
    (tmp_path / "set").write_text("mine")
    with pytest.raises(DinotoolsError) as error:
        fetching.run(DataFetchConfig(name="set", to=tmp_path / "set"))
    assert error.value.exit_code == 2
    assert (tmp_path / "set").read_text() == "mine"


def test_the_command(server, shelf, tmp_path):
    shelf(files=[{"name": "a.bin", "urls": [server.serve("a", CONTENT)]}])
    made = CliRunner().invoke(app, ["data", "fetch", "set", "--to", str(tmp_path / "set"), "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout.splitlines()[-1])["metrics"] == {"files": {"a.bin": "downloaded"}}
