import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dinotools.cli import app
from dinotools.configs.data_sets import DataSampleConfig
from dinotools.data.manifests import manifest
from dinotools.data.miniatures.command import MINIATURES, run
from dinotools.runtime.errors import DinotoolsError
from tests.data.miniatures.conftest import LIKE

KINDS = ("imagenet", "gldv2", "r1m", "roxford5k", "copydays", "yfcc", "davis2017", "voc2012")  # one of each


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", KINDS)
def test_the_seed_decides_every_byte(miniatures, tmp_path, name):
    made = contents(miniatures / name)
    run(DataSampleConfig(name=name, to=tmp_path / "same"))
    run(DataSampleConfig(name=name, to=tmp_path / "other", seed=1))
    assert contents(tmp_path / "same") == made
    assert contents(tmp_path / "other") != made


def test_sets_of_one_kind_are_drawn_apart(miniatures):
    image = Path("jpg") / "other00.jpg"
    assert (miniatures / "roxford5k" / image).read_bytes() != (miniatures / "rparis6k" / image).read_bytes()


def test_every_manifest_has_a_miniature():
    assert sorted(MINIATURES) == manifest.names()


@pytest.mark.parametrize("name", sorted(MINIATURES.keys() - LIKE.keys()))
def test_a_miniature_holds_what_the_manifest_expects_and_nothing_else(miniatures, name):
    expected = [set((miniatures / name).glob(part.path)) for part in manifest.read(name).expect]
    assert expected and all(expected)
    assert set.union(*expected, {miniatures / name / "README.txt"}) == {
        path for path in (miniatures / name).rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", LIKE)
def test_some_are_made_like_others_and_expected_likewise(name):
    assert MINIATURES[name] is MINIATURES[LIKE[name]]
    one, other = ([part.path for part in manifest.read(each).expect] for each in (name, LIKE[name]))
    assert one == other


def test_result_and_folder_say_that_no_number_means_anything(tmp_path):
    result = run(DataSampleConfig(name="voc2012", to=tmp_path / "voc"))
    assert "no number made with it means anything" in result.notes[0]
    assert result.notes[0] in (tmp_path / "voc" / "README.txt").read_text(encoding="utf-8")
    assert result.metrics["files"] == {
        ".": 1,
        "ImageSets": 1,
        "JPEGImages": 4,
        "SegmentationClass": 4,
        "SegmentationObject": 4,
    }


def test_an_empty_folder_is_filled_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / "r1m").mkdir()
    run(DataSampleConfig(name="r1m", to=tmp_path / "r1m"))
    assert len(list((tmp_path / "r1m").rglob("*.jpg"))) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["r1m"]


def test_a_folder_that_holds_something_is_refused_and_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DinotoolsError, match=r"is not empty.*--to"):
        run(DataSampleConfig(name="r1m", to=tmp_path))
    with pytest.raises(DinotoolsError, match="is a file"):
        run(DataSampleConfig(name="r1m", to=tmp_path / "notes.txt"))
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_what_dies_leaves_no_part_that_could_be_taken_for_the_whole(tmp_path, monkeypatch):
    def stop(folder, random):
        (folder / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(MINIATURES, "r1m", stop)
    with pytest.raises(DinotoolsError, match="No space left on device"):
        run(DataSampleConfig(name="r1m", to=tmp_path / "r1m"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, remedy", [("davis2071", r"Did you mean davis2017\?"), ("x", "There are: .*voc2012")])
def test_an_unknown_name_leads_to_known_ones(tmp_path, name, remedy):
    with pytest.raises(DinotoolsError, match=remedy):
        run(DataSampleConfig(name=name, to=tmp_path / name))


def test_a_seed_that_is_none_is_refused(tmp_path):
    with pytest.raises(DinotoolsError, match="--seed: is -1"):
        run(DataSampleConfig(name="r1m", to=tmp_path / "r1m", seed=-1))


COMMANDS = {  # command -> its number as a path in metrics, more than chance gives, and less than a leak does
    "knn --data {}/imagenet --k 20 --resize-size 32 --crop-size 32": ("k20/top1", 30, 95),
    "lowshot --data {}/cifar10 --fraction 0.1 --resize-size 32 --crop-size 32": ("10%/top1", 25, 95),
    "retrieval --dataset roxford5k --data {0}/roxford5k --distractors {0}/r1m --imsize 64": ("medium/mAP", 40, 98),
    "copydays --data {0}/copydays --distractors {0}/yfcc/distractors --imsize 32": ("strong/map_top20", 25, 95),
    "davis --data {}/davis2017 --short-side 64 --out {1}": ("global/J&F-Mean", 30, 95),
    "jaccard --data {}/voc2012": ("jaccard/0.6", 10, 60),
}


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.split()[0])
def test_commands_measure_something_on_miniatures(miniatures, tmp_path, line):
    words = line.replace("{}", "{0}").replace("{0}", str(miniatures)).replace("{1}", str(tmp_path / "out")).split()
    done = CliRunner().invoke(app, [*words, "--ckpt", "dino_micro_cifar10", "--workers", "0", "--json"])
    assert done.exit_code == 0, done.stderr
    path, least, most = COMMANDS[line]
    found = json.loads(done.stdout.splitlines()[-1])["metrics"]
    for key in path.split("/"):
        found = found[key]
    assert least < found < most
