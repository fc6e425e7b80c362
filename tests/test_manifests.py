"""Data manifests can be read, agree with what torchvision knows, and with what the house does with them."""

import re
import shlex

import pytest
import torchvision.datasets
from torchvision.datasets import imagenet, inaturalist, voc

from dinotools import cli
from dinotools.configs.files import shipped
from dinotools.data.manifests import manifest
from dinotools.data.manifests.preparing import PREPARATIONS
from dinotools.data.miniatures.command import MINIATURES

NAMES = [
    *("cars", "cifar10", "cifar100", "copydays", "davis2017", "flowers102", "gldv2", "imagenet", "inat18", "inat19"),
    *("places205", "r1m", "roxford5k", "rparis6k", "voc2012", "yfcc"),
]


def file_of(name, file):
    return next(one for one in manifest.read(name).files if one.name == file)


def test_there_is_one_for_every_data_set_of_the_paper():
    assert manifest.names() == NAMES
    assert sorted(MINIATURES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_is_whole(name):
    known = manifest.read(name)
    assert known.prepare in PREPARATIONS
    assert known.expect
    assert known.problems
    assert known.files or name == "yfcc"
    assert len({split.name for split in known.splits}) == len(known.splits)
    assert f"DATA/{name}" in " ".join(known.commands)


@pytest.mark.parametrize("name", NAMES)
def test_its_counts_agree(name):
    """A split that is a folder is as large as the layout says."""
    known = manifest.read(name)
    for split in known.splits:
        layout = [one.count for one in known.expect if one.path.startswith(f"{split.name}/")]
        assert layout in ([], [split.images])


@pytest.mark.parametrize("name", NAMES)
def test_its_commands_have_the_options_they_use(name):
    """Every line names a command of ours, and flags that its help knows."""
    help_of = {}
    group = cli.typer.main.get_command(cli.app)
    for line in manifest.read(name).commands:
        _, command, *words = shlex.split(line)
        options = help_of.setdefault(
            command, {flag for option in group.commands[command].params for flag in option.opts}
        )
        assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_cifar(name):
    known = getattr(torchvision.datasets, name)
    file = file_of(name.lower(), known.filename)
    assert (file.md5, file.urls) == (known.tgz_md5, (known.url,))


def test_flowers():
    known = torchvision.datasets.Flowers102
    for name, md5 in known._file_dict.values():
        file = file_of("flowers102", name)
        assert (file.md5, file.urls) == (md5, (known._download_url_prefix + name,))


def test_imagenet():
    for name, md5 in imagenet.ARCHIVE_META.values():
        assert file_of("imagenet", name).md5 == md5


@pytest.mark.parametrize("year", ["2018", "2019"])
def test_inaturalist(year):
    file = manifest.read(f"inat{year[2:]}").files[0]
    assert (file.md5, file.urls) == (inaturalist.DATASET_MD5[year], (inaturalist.DATASET_URLS[year],))


def test_voc():
    known = voc.DATASET_YEAR_DICT["2012"]
    file = file_of("voc2012", known["filename"])
    assert (file.md5, file.urls[0]) == (known["md5"], known["url"])


def test_numbered_files_are_all_there():
    assert [file.name for file in manifest.read("r1m").files[:100:99]] == [
        "revisitop1m.1.tar.gz",
        "revisitop1m.100.tar.gz",
    ]
    assert manifest.read("gldv2").files[499].urls == ("https://s3.amazonaws.com/google-landmark/train/images_499.tar",)


def test_the_readme_names_every_key():
    text = (shipped("data_manifests") / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(?:\[\[\w+\]\] )?(\w+)`", text, flags=re.MULTILINE))
    kinds = (manifest.Manifest, manifest.File, manifest.Split, manifest.Expected)
    assert told == {key for kind in kinds for key in kind.__dataclass_fields__}
