import gzip
import io
import os
import shutil
import stat
import struct
import tarfile
import warnings
import zipfile
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dinotools.configs.data_sets import DataFetchConfig
from dinotools.data.manifests import fetching, unpacking
from dinotools.runtime import downloading
from dinotools.runtime.errors import DinotoolsError, RunFailed

ENDINGS = {".tar": "w", ".tgz": "w:gz", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def entry(name, data=b"x", kind=tarfile.REGTYPE, link="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def tar(path, *entries, mode="w", form=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=form) as file:
        for info, data in entries:
            file.addfile(info, io.BytesIO(data))
    return path


def zipped(path, *entries):
    """Entries are (name, data) or (name, data, mode); names are written as they are."""
    with zipfile.ZipFile(path, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of duplicates
        for name, data, *mode in entries:
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system = name, 3
            info.external_attr = (mode[0] if mode else 0o100644) << 16
            file.writestr(info, data)
    return path


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def folder(tmp_path):
    """Of the data set: what must stay alone stands around it."""
    folder = tmp_path / "around" / "set"
    folder.mkdir(parents=True)
    (folder.parent / "mine.txt").write_text("mine")
    return folder


@pytest.fixture
def fetch(shelf, folder):
    """Unpacks an archive that lies in the folder of a set, with the command that does it."""

    def run(name, **keys):
        shelf(access="registration", how_to_get="Ask.", files=[{"name": name, "unpack": "in"} | keys])
        return fetching.run(DataFetchConfig(name="set", to=folder))

    return run


@pytest.mark.parametrize("ending", ENDINGS)
def test_tars(fetch, folder, ending):
    made = [entry("./a/", kind=tarfile.DIRTYPE), entry("./a/b.txt", b"hello"), entry("c/d/e.txt", b""), entry("ü.txt")]
    tar(folder / f"a{ending}", *made, mode=ENDINGS[ending])
    fetch(f"a{ending}")
    assert tree(folder / "in") == ["a", "a/b.txt", "c", "c/d", "c/d/e.txt", "ü.txt"]
    assert (folder / "in/a/b.txt").read_text() == "hello"
    assert tree(folder / ".dinotools") == [f"a{ending}.json"]


def test_zips_and_single_files(folder):
    zipped(folder / "a.ZIP", ("a/", b"", 0o040755), ("a/b.txt", b"hello"), ("c.txt", b""))
    assert unpacking.unpack(folder / "a.ZIP", folder / "in") == 2
    with gzip.open(folder / "list.txt.gz", "wb") as file:
        file.write(b"one\ntwo\n")
    assert unpacking.unpack(folder / "list.txt.gz", folder / "in") == 1
    assert tree(folder / "in") == ["a", "a/b.txt", "c.txt", "list.txt"]
    assert (folder / "in/list.txt").read_bytes() == b"one\ntwo\n"
    assert tree(folder.parent) == ["mine.txt", "set", *(f"set/{n}" for n in tree(folder))]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_of_every_format(folder, format):
    name = "/".join(["folder" * 8] * 2) + "/" + "n" * 90
    unpacking.unpack(tar(folder / "a.tar", entry(name), form=format), folder / "in")
    assert (folder / "in" / name).read_bytes() == b"x"


def test_leading_folders_are_dropped(fetch, folder, capsys):
    tar(folder / "a.tar", entry("top/", kind=tarfile.DIRTYPE), entry("top/in/x"), entry("top/y"), entry("README"))
    fetch("a.tar", strip=1)
    assert tree(folder / "in") == ["in", "in/x", "y"]
    assert "1 files are not 1 folders deep" in capsys.readouterr().err


def test_several_archives_share_a_folder(folder):
    unpacking.unpack(tar(folder / "a.tar", entry("both/README", b"same"), entry("both/a")), folder)
    unpacking.unpack(tar(folder / "b.tar", entry("both/README", b"same"), entry("both/b")), folder)
    assert tree(folder / "both") == ["README", "a", "b"]


def test_what_is_there_is_not_overwritten(fetch, folder):
    (folder / "in/both").mkdir(parents=True)
    (folder / "in/both/README").write_text("mine")
    tar(folder / "a.tar", entry("both/README", b"other"), entry("both/a"), entry("a"))
    with pytest.raises(DinotoolsError, match=r"README: is there already, and not as a\.tar has it"):
        fetch("a.tar")
    assert (folder / "in/both/README").read_text() == "mine"
    assert tree(folder) == [".dinotools", "a.tar", "in", "in/both", "in/both/README"]


def test_a_kill_between_two_renames_is_repaired(folder):
    archive = tar(folder / "a.tar", entry("a", b"1"), entry("b", b"2"))
    (folder / "in").mkdir()
    (folder / "in/a").write_bytes(b"1")
    leftover = folder / "temporary"
    leftover.mkdir()
    (leftover / "rest").write_text("of a run that was killed")
    unpacking.unpack(archive, folder / "in", within=leftover)
    assert tree(folder) == ["a.tar", "in", "in/a", "in/b"]


def test_a_folder_that_takes_nothing_is_named_and_the_archive_stays(folder):
    tar(folder / "a.tar", entry("a", b"1"))
    (folder / "shut").write_bytes(b"")  # a file, which can hold nothing
    with pytest.raises(RunFailed, match=r"cannot be unpacked into .*shut.*repeat"):
        unpacking.unpack(folder / "a.tar", folder / "in", within=folder / "shut" / "work")
    assert (folder / "a.tar").is_file()


def test_permissions_are_the_users_own(folder):
    archive = tar(folder / "a.tar", entry("a", mode=0o6777), entry("d/", kind=tarfile.DIRTYPE, mode=0o0))
    unpacking.unpack(archive, folder / "in")
    (folder / "own").write_text("")
    assert (folder / "in/a").stat().st_mode == (folder / "own").stat().st_mode
    assert (folder / "in/d").stat().st_mode & stat.S_IRWXU == stat.S_IRWXU


LINK, HARD, DEVICE, FIFO = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE
TARS = {
    "parent": [entry("../evil")],
    "parent inside": [entry("a/../../evil")],
    "symbolic link": [entry("link", kind=LINK, link="in/ok")],
    "symbolic link, then through it": [entry("link", kind=LINK, link="../.."), entry("link/evil")],
    "hard link": [entry("ok"), entry("link", kind=HARD, link="ok")],
    "hard link to the outside": [entry("link", kind=HARD, link="../../mine.txt")],
    "device": [entry("null", kind=DEVICE)],
    "fifo": [entry("pipe", kind=FIFO)],
    "backslashes": [entry("..\\..\\evil")],
    "drive": [entry("C:evil")],
    "surrogates": [entry("\udcff\udcfe")],
    "control characters": [entry("a\x1b[2Jb")],
    "twice": [entry("a", b"1"), entry("a", b"2")],
    "file, then folder": [entry("a"), entry("a/b")],
    "file, then folder of the name": [entry("a"), entry("a", kind=tarfile.DIRTYPE)],
    "folder, then file": [entry("a/b"), entry("a")],
    "deep": [entry("/".join("d" * 1500))],
    "no name": [entry("")],
    "a file called .": [entry(".")],
    "unknown kind": [entry("a", kind=b"Z"), entry("b", kind=b"V")],
}


@pytest.mark.parametrize("name", TARS)
def test_hostile_tars(fetch, folder, name):
    tar(folder / "a.tar", entry("ok"), *TARS[name])
    check_refused(fetch, folder, "a.tar")


ZIPS = {
    "parent": [("../evil", b"x")],
    "backslashes": [("..\\..\\evil", b"x")],
    "drive": [("C:/evil", b"x")],
    "symbolic link": [("link", b"/etc", stat.S_IFLNK | 0o777), ("link/evil", b"x")],
    "device": [("null", b"", stat.S_IFCHR | 0o666)],
    "fifo": [("pipe", b"", stat.S_IFIFO | 0o666)],
    "twice": [("a", b"1"), ("a", b"2")],
    "file, then folder": [("a", b"1"), ("a/b", b"2")],
    "control characters": [("a\nb", b"")],
    "no name": [("", b"")],
    "a file called .": [(".", b"x")],
}


@pytest.mark.parametrize("name", ZIPS)
def test_hostile_zips(fetch, folder, name):
    zipped(folder / "a.zip", ("ok", b"x"), *ZIPS[name])
    check_refused(fetch, folder, "a.zip")


@pytest.mark.parametrize("start", ["", "/"])
@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_absolute_names(fetch, folder, name, start):
    outside = f"{start}{folder.parent}/evil"
    if name == "a.tar":
        tar(folder / name, entry("ok"), entry(outside))
    else:
        zipped(folder / name, ("ok", b"x"), (outside, b"x"))
    check_refused(fetch, folder, name, "leads out")


def check_refused(fetch, folder, name, match=None):
    """The archive is refused in words that any terminal can show, and nothing of it is anywhere."""
    before = tree(folder.parent)
    with pytest.raises(DinotoolsError, match=match) as caught:
        fetch(name)
    assert caught.value.exit_code == 2
    assert str(caught.value).isprintable() and str(caught.value).encode()
    assert [path for path in tree(folder.parent) if path != "set/.dinotools"] == before
    assert tree(folder / ".dinotools") == []
    assert (folder.parent / "mine.txt").read_text() == "mine"


def test_names_that_differ_in_case_only_never_overwrite_one_another(fetch, folder):
    tar(folder / "a.tar", entry("A", b"1"), entry("a", b"2"))
    if (folder.parent / "MINE.txt").exists():  # a disk that does not tell them apart
        check_refused(fetch, folder, "a.tar", "twice")
    else:
        fetch("a.tar")
        assert ((folder / "in/A").read_bytes(), (folder / "in/a").read_bytes()) == (b"1", b"2")


@pytest.fixture
def small_disk(monkeypatch):
    """A megabyte is left."""
    free = downloading.RESERVE + (1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


@pytest.mark.parametrize("name", ["a.tgz", "a.zip", "a.gz", "many.tgz", "many.zip"])
def test_bombs(fetch, folder, small_disk, name):
    zeros, half = bytes((1 << 20) + 1), bytes(600_000)
    if name == "a.gz":
        (folder / name).write_bytes(gzip.compress(zeros))
    elif name.endswith("zip"):
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as file:
            for i, content in enumerate([half, half] if "many" in name else [zeros]):
                file.writestr(f"{i}", content)
    else:
        tar(
            folder / name,
            *([entry("a", half), entry("b", half)] if "many" in name else [entry("a", zeros)]),
            mode="w:gz",
        )
    assert (folder / name).stat().st_size < 10_000
    check_refused(fetch, folder, name, "more than there is room for.*67 MB stay free.*Make room")


def test_a_zip_that_says_that_it_is_too_large_is_not_begun(fetch, folder, small_disk, monkeypatch):
    zipped(folder / "a.zip", ("a", bytes(600_000)), ("b", bytes(600_000)))
    monkeypatch.delattr(zipfile.ZipFile, "open")
    check_refused(fetch, folder, "a.zip", "more than there is room for.*67 MB stay free.*Make room")


def test_a_zip_that_lies_about_its_sizes(fetch, folder):
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(100_000))
    content = (folder / "a.zip").read_bytes()
    assert content.count(struct.pack("<I", 100_000)) == 2
    (folder / "a.zip").write_bytes(content.replace(struct.pack("<I", 100_000), struct.pack("<I", 10)))
    check_refused(fetch, folder, "a.zip", "damaged")


def test_too_many_entries(fetch, folder, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 3)
    tar(folder / "a.tar", *[entry(str(i)) for i in range(4)])
    check_refused(fetch, folder, "a.tar", "more than 3 entries")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_name_of_megabytes_is_not_read(fetch, folder, form):
    tar(folder / "a.tgz", entry("n" * (unpacking.MAX_HEADER + 1)), mode="w:gz", form=form)
    check_refused(fetch, folder, "a.tgz", "more than a megabyte")


def test_sparse_files_are_refused(fetch, folder):
    info, data = entry("a", b"")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40), "GNU.sparse.name": "a"}
    tar(folder / "a.tar", (info, data))
    check_refused(fetch, folder, "a.tar", "neither a file nor a folder")


def test_a_zip_with_a_password(fetch, folder):
    zipped(folder / "a.zip", ("a", b"x"))
    content = bytearray((folder / "a.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (folder / "a.zip").write_bytes(content)
    check_refused(fetch, folder, "a.zip", "password")


def cut(data):
    return data[: len(data) // 2]


def scratched(data):
    middle = len(data) // 2
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 600]) + data[middle + 600 :]


@pytest.mark.parametrize("harm", [cut, scratched, lambda data: b"", lambda data: b"<html>moved</html>"])
@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.zip", "a.gz"])
def test_damage(fetch, folder, name, harm):
    noise = [os.urandom(3000) for _ in range(4)]
    if name == "a.zip":
        zipped(folder / name, *((str(i), data) for i, data in enumerate(noise)))
    elif name == "a.gz":
        (folder / name).write_bytes(gzip.compress(b"".join(noise)))
    else:
        # headers alone, so that what is scratched is one of them: a plain tar has no sums of what is in its files
        content = [b""] * 40 if name == "a.tar" else noise
        tar(folder / name, *(entry(str(i), data) for i, data in enumerate(content)), mode=ENDINGS[name[1:]])
    data = (folder / name).read_bytes()
    if name == "a.tar":
        data = data[: 40 * 512 + 300]  # cut in half, it ends within a header
    (folder / name).write_bytes(harm(data))
    check_refused(fetch, folder, name, "damaged")


def test_other_kinds_of_files(fetch, folder):
    (folder / "a.rar").write_bytes(b"Rar!")
    check_refused(fetch, folder, "a.rar", r"no \.zip")


PIECES = st.sampled_from(["..", ".", "", "a", "b", "\\", "C:", "/", "~", "é", " ", "\udc80", "\x00", "con"])


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(PIECES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=4), st.booleans())
@example(["a/..", "a"], False)
def test_no_name_leads_anywhere_else(folder, paths, as_zip):
    inside = folder / "one" / "two"
    shutil.rmtree(folder)
    inside.mkdir(parents=True)
    archive = folder / ("x.zip" if as_zip else "x.tar")
    try:
        if as_zip:
            zipped(archive, *((path, b"x") for path in paths))
        else:
            tar(archive, *(entry(path) for path in paths))
    except UnicodeEncodeError:
        return  # zip cannot hold such a name
    before = tree(folder.parent)
    try:
        unpacking.unpack(archive, inside / "in")
    except DinotoolsError:
        assert tree(folder.parent) == before
    else:
        new = set(tree(folder.parent)) - set(before)
        assert all(path.startswith("set/one/two/in") for path in new)
        assert not any(path.is_symlink() for path in inside.rglob("*"))
