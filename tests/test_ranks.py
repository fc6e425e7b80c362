"""Commands on several ranks, started as a user starts them: the results of one."""

import json
from pathlib import Path

import pytest

from tests.command_line import dinotools, forked

NETWORK = "--ckpt random --arch vit_micro --patch-size 16 --resize-size 32 --crop-size 32 --workers 0 --device cpu"


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    """Features that two ranks extracted."""
    out = tmp_path_factory.mktemp("ranks") / "two"
    done = dinotools("features", "--gpus", 2, "--data", "digits", "--out", out, "--json", *NETWORK.split())
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]  # one document: only one rank speaks
    assert (metrics["train"]["new"], metrics["val"]["new"]) == (1400, 397)
    return out


def test_two_ranks_extract_what_one_does(features, tmp_path):
    done = forked("features", "--data", "digits", "--out", tmp_path / "one", *NETWORK.split())
    assert done.returncode == 0, done.stderr
    shards = list(tmp_path.glob("one/*/shard-*.npy"))
    assert len(shards) == 16 + 7
    for shard in shards:
        assert shard.read_bytes() == (features / shard.parent.name / shard.name).read_bytes()


def test_two_ranks_vote_as_one_does(features, tmp_path):
    words = ("knn", "--features", features, "--k", "1,5", "--json", "--device", "cpu")
    one = forked(*words, "--out", tmp_path / "1")
    two = dinotools(*words, "--gpus", 2, "--out", tmp_path / "2")
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert (tmp_path / "2/results.json").is_file() and (tmp_path / "2/config.toml").is_file()
    assert json.loads(one.stdout)["metrics"] == json.loads(two.stdout)["metrics"]


def test_an_error_that_all_ranks_meet_is_said_once(image_folder, tmp_path):
    words = ("--ckpt", "nowhere.pth", "--data", image_folder, "--out", tmp_path / "f", "--device", "cpu")
    done = dinotools("features", "--gpus", 2, *words)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and "nowhere.pth" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "f").exists()


def test_an_error_that_one_rank_meets_is_said_once(tmp_path):
    (tmp_path / "config.toml").write_text("of a run")
    done = dinotools("features", "--gpus", 2, "--data", "digits", "--out", tmp_path, *NETWORK.split())
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and "another command" in done.stderr


def test_ranks_share_features_through_files(image_folder):
    done = dinotools("knn", "--gpus", 2, "--data", image_folder, "--k", "1", *NETWORK.split())
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and "--cache" in done.stderr
