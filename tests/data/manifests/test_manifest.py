import pytest

from dinotools.data.manifests import manifest
from dinotools.data.manifests.manifest import Expected, File, Split, read
from dinotools.runtime.errors import DinotoolsError

FILE = {"name": "a.zip", "urls": ["https://example.org/a.zip"]}
SHIPPED = manifest.names()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_manifest_is_sound(name):
    one = read(name)
    assert one.name == name
    assert one.title and one.about and one.citation and one.licence and one.terms
    assert one.homepage.startswith("http")
    assert one.expect


def test_the_sets_of_the_paper_are_there():
    assert {"imagenet", "cifar10", "cifar100", "flowers102", "cars", "inat18", "inat19", "davis2017", "voc2012"} <= set(
        SHIPPED
    )


def test_all_of_a_manifest(shelf):
    file = FILE | {"bytes": 7, "md5": "0" * 32, "sum_source": "them", "unpack": "in", "strip": 1}
    shelf(
        files=[file],
        splits=[{"name": "val", "images": 5, "classes": 2}],
        expect=[{"path": "val/*.jpg", "count": 5, "about": "photos"}],
        problems=["it is old"],
        prepare="cars",
    )
    one = read("set")
    assert one.files == (
        File(
            name="a.zip",
            urls=("https://example.org/a.zip",),
            bytes=7,
            md5="0" * 32,
            sum_source="them",
            unpack="in",
            strip=1,
        ),
    )
    assert one.splits == (Split(name="val", images=5, classes=2),)
    assert one.expect == (Expected(path="val/*.jpg", count=5, about="photos"),)
    assert (one.name, one.title, one.problems, one.prepare) == ("set", "A set", ("it is old",), "cars")


def test_numbered_files_keep_their_zeros(shelf):
    shelf(files=[{"name": "i_{08..11}.tar", "urls": ["https://a.org/{08..11}/{08..11}.tar", "https://b.org/{08..11}"]}])
    files = read("set").files
    assert [file.name for file in files] == ["i_08.tar", "i_09.tar", "i_10.tar", "i_11.tar"]
    assert files[1].urls == ("https://a.org/09/09.tar", "https://b.org/09")


WRONG = {
    "title: is missing": {"title": None},
    "titel: is no key of a manifest. Did you mean title?": {"titel": "x"},
    "title: must be of type str, not int": {"title": 1},
    "problems: must be a list": {"problems": "one"},
    "problems[1]: must be of type str": {"problems": ["one", 2]},
    "access: must be one of open": {"access": "shut"},
    "how_to_get: is missing": {"access": "request"},
    "name: is given by the name of the file": {"name": "set"},
    "files[0]: must be a table": {"files": ["a.zip"]},
    "files[0].name: is missing": {"files": [{"urls": []}]},
    "files[0].md5sum: is no key": {"files": [FILE | {"md5sum": "0"}]},
    "files[0].bytes: must be of type int, not bool": {"files": [FILE | {"bytes": True}]},
    "files[0].bytes: must not be negative": {"files": [FILE | {"bytes": -1}]},
    "files[a.zip].urls: is missing": {"files": [{"name": "a.zip"}]},
    "files[a.zip].urls: file:///etc/passwd is no address": {"files": [FILE | {"urls": ["file:///etc/passwd"]}]},
    "files[a.zip].urls: https://b/{1..2} has numbers": {"files": [FILE | {"urls": ["https://b/{1..2}"]}]},
    "files[a.zip].md5: is no such sum": {"files": [FILE | {"md5": "0" * 31, "sum_source": "x"}]},
    "files[a.zip].sha256: is no such sum": {"files": [FILE | {"sha256": "G" * 64, "sum_source": "x"}]},
    "files[a.zip].sum_source: is missing": {"files": [FILE | {"md5": "0" * 32}]},
    "files[../a.zip].name: must be a path below": {"files": [FILE | {"name": "../a.zip"}]},
    "files[/a.zip].name: must be a path below": {"files": [FILE | {"name": "/a.zip"}]},
    "files[A.zip].name: stands there twice": {"files": [FILE, FILE | {"name": "A.zip"}]},
    "files[a.zip].unpack: must be a path below": {"files": [FILE | {"unpack": "in/../.."}]},
    "files[a.zip].strip: is for files that are unpacked": {"files": [FILE | {"strip": 1}]},
    "files: {9..1} in {9..1}.zip must count upwards": {"files": [FILE | {"name": "{9..1}.zip"}]},
    "files: {1..99999999} in": {"files": [FILE | {"name": "{1..99999999}.zip"}]},
    "files: {1..2}.zip cannot have one size": {"files": [FILE | {"name": "{1..2}.zip", "bytes": 1}]},
    "splits[0].images: is missing": {"splits": [{"name": "val"}]},
    "expect.path: /etc/* must be a glob below": {"expect": [{"path": "/etc/*"}]},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_said_with_file_and_key(shelf, said):
    path = shelf(**WRONG[said])
    with pytest.raises(DinotoolsError) as error:
        read("set")
    assert str(error.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize("content", [b"title = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_no_toml(shelf, content):
    path = shelf()
    path.write_bytes(content)
    with pytest.raises(DinotoolsError, match="cannot be read") as error:
        read("set")
    assert error.value.where == path


@pytest.mark.parametrize("name", ["CIFAR-10", "cifer10"])
def test_an_unknown_name_is_told_its_neighbours(shelf, name):
    shelf("cifar10")
    shelf("imagenet")
    with pytest.raises(DinotoolsError, match=r"Did you mean cifar10\? Known: cifar10, imagenet"):
        read(name)


@pytest.mark.parametrize("name", ["../pyproject", "", "zzzzzzzz"])
def test_a_name_like_no_other(shelf, name):
    shelf("cifar10")
    with pytest.raises(DinotoolsError, match=rf"no data set is called '{name}'\. Known: cifar10"):
        read(name)
