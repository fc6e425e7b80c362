import pytest

from dinotools.models import download
from dinotools.models.download import fetch
from dinotools.runtime.downloading import CHUNK
from dinotools.runtime.errors import DinotoolsError

CONTENT = bytes(range(251)) * 3000  # 753,000 bytes: more than two chunks, and no two chunks alike
HALF = CHUNK + 12_345


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DINOTOOLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAITS_S", (0.0,))
    return tmp_path / "cache" / "checkpoints"


@pytest.fixture
def url(server):
    return server.serve("folder/weights.pth", CONTENT)


def break_off(server, monkeypatch):
    url = server.serve("folder/weights.pth", CONTENT, cuts=[HALF])
    with monkeypatch.context() as patch, pytest.raises(DinotoolsError) as error:
        patch.setattr(download, "WAITS_S", ())
        fetch(url)
    return error.value


def ranges(server):
    return [asked for _, asked in server.asked]


def test_a_file_is_fetched_once(server, url, cache):
    assert fetch(url) == cache / "weights.pth"
    assert (cache / "weights.pth").read_bytes() == CONTENT
    fetch(url)
    assert ranges(server) == [None]
    assert [path.name for path in cache.iterdir()] == ["weights.pth"]


def test_the_name_in_the_cache_is_without_what_an_address_has_besides(url, cache):
    assert fetch(f"{url}?download=1") == cache / "weights.pth"


def test_an_interrupted_download_is_told_and_never_taken_for_the_file(server, url, cache, monkeypatch):
    error = break_off(server, monkeypatch)
    assert f"{HALF:,} of {len(CONTENT):,} bytes" in str(error)
    assert url in str(error)
    assert str(cache / "weights.pth") in str(error)
    assert error.exit_code == 2
    assert not (cache / "weights.pth").exists()
    assert (cache / "weights.pth.part").read_bytes() == CONTENT[:HALF]


def test_an_interrupted_download_goes_on_where_it_stopped(server, url, cache, monkeypatch):
    break_off(server, monkeypatch)
    assert fetch(url).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={HALF}-"]
    assert [path.name for path in cache.iterdir()] == ["weights.pth"]


def test_a_connection_that_breaks_is_taken_up_at_once(server, url):
    server.files["folder/weights.pth"].cuts = [HALF, 1000]
    assert fetch(url).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]


def test_not_found(server, url, cache):
    with pytest.raises(DinotoolsError, match=r"404.*by other means and put it there.*DINOTOOLS_CACHE") as error:
        fetch(url.replace("weights", "gone"))
    assert url.replace("weights", "gone") in str(error.value)
    assert str(cache / "gone.pth") in str(error.value)
    assert list(cache.iterdir()) == []


def test_without_permission_to_download_only_the_cache_is_asked(server, url, cache):
    with pytest.raises(DinotoolsError, match="downloads are off") as error:
        fetch(url, download=False)
    assert url in str(error.value)
    assert str(cache / "weights.pth") in str(error.value)
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "weights.pth").write_bytes(b"by hand")
    assert fetch(url, download=False).read_bytes() == b"by hand"
    assert server.asked == []


def test_a_cache_that_cannot_be_written_is_told_with_the_way_to_another(url, cache):
    (cache / "weights.pth.part").mkdir(parents=True)  # where a file is to be opened
    with pytest.raises(DinotoolsError, match=r"cannot be written.*DINOTOOLS_CACHE") as error:
        fetch(url)
    assert error.value.exit_code == 2
