import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from dinotools.data import shard_index, shards
from dinotools.data.images import EXTENSIONS, UnreadableImage
from dinotools.data.shards import expand, open_shards
from dinotools.data.sources import open_images, open_labelled_splits
from dinotools.data.transforms import EvalImages, EvalTransform, collate_by_shape
from dinotools.runtime.errors import DinotoolsError

webdataset = pytest.importorskip("webdataset")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DINOTOOLS_CACHE", str(folder))
    return folder / "shards"


def picture(value: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (value, 2, 3)).save(buffer, kind)
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def write(path: Path, *files: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            archive.addfile(member(name, size=len(content)), io.BytesIO(content))
    return path


def numbered(folder: Path, counts: tuple[int, ...] = (3, 1, 2)) -> str:
    """Shards whose images have the colours 0, 1, 2, ..."""
    value = 0
    for number, count in enumerate(counts):
        files = []
        for place in range(count):
            files += [(f"{place:04d}.png", picture(value)), (f"{place:04d}.cls", b"%d\n" % (value % 2 * 5))]
            value += 1
        write(folder / f"{number:03d}.tar", *files)
    return f"{folder}/{{000..{len(counts) - 1:03d}}}.tar"


def red(image: Image.Image) -> int:
    return int(np.asarray(image)[0, 0, 0])


def test_images_of_several_shards_by_number(tmp_path):
    spec = numbered(tmp_path)
    source = open_shards(spec)
    assert [red(source.load(i)) for i in range(len(source))] == list(range(6))
    assert source.load(0).mode == "RGB"
    assert source.name(4) == f"{tmp_path}/002.tar/0000.png"
    assert (source.labels, source.classes) == ([0, 1, 0, 1, 0, 1], ["0", "5"])
    assert red(pickle.loads(pickle.dumps(source)).load(5)) == 5


def test_the_samples_are_those_of_webdataset(tmp_path):
    files = [("a/1.jpg", picture(1, "JPEG")), ("a/1.cls", b"3"), ("a/1.seg.png", picture(9)), ("b/1.PNG", picture(2))]
    files += [("b/1.x.txt", b"no"), ("__meta__/x.png", picture(9)), (".hidden.png", picture(9)), ("c.d/2.webp", b"?")]
    write(tmp_path / "0.tar", *files)
    source = open_shards(str(tmp_path / "0.tar"))
    theirs = webdataset.WebDataset(str(tmp_path / "0.tar"), shardshuffle=False, empty_check=False)
    expected = []
    for sample in theirs:
        kinds = [kind for kind in sample if f".{kind}" in EXTENSIONS]
        expected += [(f"{sample['__key__']}.{kind}", sample[kind]) for kind in kinds]
    found = [Path(source.name(i)).relative_to(tmp_path / "0.tar").as_posix() for i in range(len(source))]
    assert [name.lower() for name in found] == [name for name, _ in expected] == ["a/1.jpg", "b/1.png", "c.d/2.webp"]
    content = (tmp_path / "0.tar").read_bytes()
    (shard,) = source._shards
    for start, size, (_, data) in zip(shard.starts, shard.sizes, expected, strict=True):
        assert content[start : start + size] == data
    assert source.labels is None  # not every sample has one


@settings(max_examples=30)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=8), st.integers(0, 200))
def test_places_are_those_of_the_bytes(tmp_path_factory, sizes, name_length):
    rng = np.random.RandomState(0)
    files = [(f"{i:03d}{'n' * name_length}.jpg", rng.bytes(size)) for i, size in enumerate(sizes)]
    path = write(tmp_path_factory.mktemp("s") / "x.tar", *files)
    shard = shard_index.look_through(str(path), EXTENSIONS, lambda name: tuple(name.split(".", 1)))
    content = path.read_bytes()
    places = zip(shard.starts, shard.sizes, strict=True)
    assert [content[at : at + size] for at, size in places] == [data for _, data in files]
    source = shards.ShardImages([shard])
    assert [source.name(i) for i in range(len(source))] == [f"{path}/{name}" for name, _ in files]


# patterns


def test_patterns(tmp_path, monkeypatch):
    numbered(tmp_path / "x")
    numbered(tmp_path / "y", (1,))
    monkeypatch.chdir(tmp_path)
    assert expand("x/{000..002}.tar") == ["x/000.tar", "x/001.tar", "x/002.tar"]
    assert expand("x/{000,002}.tar") == ["x/000.tar", "x/002.tar"]
    assert expand("x/*.tar") == ["x/000.tar", "x/001.tar", "x/002.tar"]
    assert expand("{x,y}/*0.tar") == ["x/000.tar", "y/000.tar"]
    assert expand("x/{000,*}.tar") == ["x/000.tar", "x/001.tar", "x/002.tar"]  # each once
    write(tmp_path / "odd{1}.tar", ("1.png", picture(1)))
    assert expand("odd{1}.tar") == ["odd{1}.tar"]


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("x/{000..004}.tar", r"2 of its 5 shards are missing: x/003.tar, x/004.tar"),
        ("x/none.tar", "there is no such file"),
        ("x/none*.tar", "there is no such file"),
        ("x/{000..002.tar", "cannot be read as a pattern"),
        ("${NO_SUCH}/0.tar", "cannot be read as a pattern"),
        ("x/000.tar.gz", "a compressed shard"),
    ],
)
def test_patterns_that_fit_nothing(tmp_path, monkeypatch, spec, what):
    numbered(tmp_path / "x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DinotoolsError, match=what) as caught:
        open_images(spec, "train")
    assert caught.value.where == spec


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setattr(shards.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(DinotoolsError, match=r"pip install 'dinotools\[shards\]'"):
        open_shards(numbered(tmp_path))


# damage


@pytest.mark.parametrize("lost", [1, 600, 1500, 3000])
def test_a_shard_that_is_cut_short_is_named_with_what_is_left(tmp_path, lost):
    files = [(f"{i}.png", picture(i)) for i in range(9)]
    path = write(tmp_path / "0.tar", *files)
    start = shard_index.look_through(str(path), EXTENSIONS, lambda name: tuple(name.split(".", 1))).headers[-1]
    whole = path.read_bytes()
    for end in (start + 512 + 10, start + 100, start, start - lost):
        path.write_bytes(whole[:end])
        with pytest.raises(DinotoolsError, match=r"is cut short; whole images before that: [5-8]") as caught:
            open_shards(str(path))
        assert caught.value.where == str(path)


def test_a_shard_that_is_cut_within_a_label(tmp_path):
    path = write(tmp_path / "0.tar", ("1.png", picture(1)), ("1.cls", b"7"))
    path.write_bytes(path.read_bytes()[: 3 * 512])
    with pytest.raises(DinotoolsError, match="is cut short; whole images before that: 1"):
        open_shards(str(path))


@pytest.mark.parametrize("label", [b"", b"cat", b"-1", b"1.5", b"9" * 19, b" 3 4 "])
def test_labels_that_are_no_numbers_are_none(tmp_path, label):
    path = write(tmp_path / "0.tar", ("1.png", picture(1)), ("1.cls", label), ("2.cls", b"3"), ("2.png", picture(2)))
    assert open_shards(str(path)).labels is None
    path = write(tmp_path / "0.tar", ("1.png", picture(1)), ("1.cls", b" 12\n"), ("2.cls", b"3"), ("2.png", picture(2)))
    assert open_shards(str(path)).labels == [1, 0]  # in any order within the shard


def test_a_damaged_header_is_no_end(tmp_path):
    path = write(tmp_path / "0.tar", *[(f"{i}.png", picture(i)) for i in range(3)])
    content = bytearray(path.read_bytes())
    content[1024 + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(DinotoolsError, match="is damaged; whole images before that: 1"):
        open_shards(str(path))


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ([("1.txt", b"x"), ("1.cls", b"1")], "holds no images"),
        ([], "holds no images"),
        ([("1.png", b"x"), ("1.jpg", b"x")], "sample 1 has two images; the second is 1.jpg"),
        ([("1.png", b"x"), ("2.png", b"x"), ("1.png", b"x")], "sample 1 has two images"),
    ],
)
def test_shards_with_wrong_contents(tmp_path, files, what):
    with pytest.raises(DinotoolsError, match=what) as caught:
        open_shards(str(write(tmp_path / "0.tar", *files)))
    assert caught.value.where == str(tmp_path / "0.tar")


@pytest.mark.parametrize("content", [b"", b"no tar" * 200, b"\x1f\x8b" + bytes(600)])
def test_what_is_no_tar(tmp_path, content):
    (tmp_path / "0.tar").write_bytes(content)
    with pytest.raises(DinotoolsError, match="is no tar file"):
        open_shards(str(tmp_path / "0.tar"))


def test_links_devices_and_folders_are_passed_over(tmp_path):
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(member("link.png", tarfile.SYMTYPE, "/etc/hostname"))
        archive.addfile(member("hard.png", tarfile.LNKTYPE, "../secret.png"))
        archive.addfile(member("device.png", tarfile.CHRTYPE))
        archive.addfile(member("folder.png", tarfile.DIRTYPE))
        archive.addfile(member("../../up.png", size=len(picture(4))), io.BytesIO(picture(4)))
    source = open_shards(str(path))
    assert [source.name(i) for i in range(len(source))] == [f"{path}/../../up.png"]  # a name; nothing is unpacked
    assert red(source.load(0)) == 4


def test_a_size_below_zero_does_not_go_round_for_ever(tmp_path):
    path = write(tmp_path / "0.tar", ("1.png", picture(1)))
    content = bytearray(path.read_bytes())
    bad = member("2.png")
    bad.size = -1024
    block = bytearray(bad.tobuf(tarfile.GNU_FORMAT))
    assert block[124] == 0xFF  # below zero indeed
    path.write_bytes(bytes(content[:1024]) + bytes(block) + bytes(content[1024:]))
    with pytest.raises(DinotoolsError, match=r"0\.tar: is"):
        open_shards(str(path))


def test_a_size_beyond_any_file_is_one_beyond_the_end(tmp_path):
    path = write(tmp_path / "0.tar", ("1.png", picture(1)))
    huge = member("2.png")
    huge.size = 2**60
    path.write_bytes(path.read_bytes()[:1024] + huge.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(DinotoolsError, match=r"is cut short; whole images before that: 1 \(2\.png goes on"):
        open_shards(str(path))


def test_an_unreadable_image_has_its_name(tmp_path):
    path = write(tmp_path / "0.tar", ("1.png", picture(1)[:30]), ("2.png", b""), ("3.png", picture(3)))
    source = open_shards(str(path))
    for index, reason in ((0, "runcated|known format"), (1, "the file is empty")):
        with pytest.raises(UnreadableImage, match=reason) as caught:
            source.load(index)
        assert caught.value.path == f"{path}/{index + 1}.png"
    path.write_bytes(path.read_bytes()[:2100])
    with pytest.raises(UnreadableImage, match="cut short during the run"):
        source.load(2)
    path.unlink()
    with pytest.raises(UnreadableImage, match="No such file"):
        source.load(2)


# what is remembered


def test_places_are_remembered_until_the_file_changes(tmp_path, cache, monkeypatch):
    path = write(tmp_path / "0.tar", ("1.png", picture(1)))
    first = open_shards(str(path))
    assert len(list(cache.iterdir())) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"0.tar"}  # nothing beside the user's data
    with monkeypatch.context() as patched:
        patched.setattr(shard_index, "look_through", None)
        again = open_shards(str(path))
    assert (len(again), red(again.load(0)), again.name(0)) == (1, 1, first.name(0))
    write(path, ("1.png", picture(7)), ("2.png", picture(8)))
    assert [red(open_shards(str(path)).load(i)) for i in range(2)] == [7, 8]


def test_a_damaged_or_impossible_cache_costs_nothing(tmp_path, cache, monkeypatch):
    spec = str(write(tmp_path / "0.tar", ("1.png", picture(1))))
    open_shards(spec)
    (remembered,) = cache.iterdir()
    remembered.write_bytes(b"torn")
    assert red(open_shards(spec).load(0)) == 1
    (tmp_path / "file").touch()
    monkeypatch.setenv("DINOTOOLS_CACHE", str(tmp_path / "file"))
    assert red(open_shards(spec).load(0)) == 1


# in use


def test_reader_processes_change_nothing(tmp_path):
    images = EvalImages(open_images(numbered(tmp_path), "train"), EvalTransform(8, 6))
    one, many = (
        list(DataLoader(images, batch_size=2, num_workers=workers, collate_fn=collate_by_shape)) for workers in (0, 2)
    )
    assert [batch.indices.tolist() for batch in one] == [batch.indices.tolist() for batch in many]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(one, many, strict=True))


def test_labelled_shards(tmp_path):
    train, val = open_labelled_splits(None, numbered(tmp_path / "x"), numbered(tmp_path / "y", (2, 2)))
    assert (train.labels, val.labels, val.classes) == ([0, 1, 0, 1, 0, 1], [0, 1, 0, 1], ["0", "5"])
    with pytest.raises(DinotoolsError, match="no val split"):
        open_images(str(tmp_path / "x" / "000.tar"), "val")
