"""The threshold is where one in a thousand photos without a copy is mistaken, copies in the folder or not."""

import math

import pytest
import torch
import torch.nn.functional as F

from dinotools.photos.attacked import KINDS, AttackedPhotos
from dinotools.photos.calibration import LARGEST, others_of, threshold_among, threshold_for

CPU = torch.device("cpu")


def without_copies(n, seed=0, scale=0.4):
    """Similarities to the four nearest others, of photos of which none has a copy."""
    torch.manual_seed(seed)
    nearness = 2 + scale * torch.randn(n, 1) - torch.tensor([0.0, 0.2, 0.3, 0.4])
    return 1 - torch.exp(-nearness)


def test_one_in_a_thousand_reaches_the_threshold():
    others = without_copies(400_000)
    assert (others[:, 0] >= threshold_for(others[:, 0])).float().mean() == pytest.approx(0.001, rel=0.15)
    clean = 1 - math.exp(-(2 + 0.4 * 3.0902))
    assert threshold_for(others[:, 0]) == pytest.approx(clean, abs=0.002)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_edited_copies_do_not_move_the_threshold(share):
    others = without_copies(20_000)
    has_copy = torch.rand(len(others)) < share
    others[has_copy, 1:] = others[has_copy, :-1].clone()
    others[has_copy, 0] = 0.97 + 0.03 * torch.rand(int(has_copy.sum()))
    clean = threshold_for(without_copies(20_000)[:, 0])
    assert threshold_among(others, 0.999) == pytest.approx(clean, abs=0.006)


def test_a_folder_that_is_there_twice_does_not_move_the_threshold():
    others = without_copies(20_000)
    twice = torch.cat([1 - 1e-4 * torch.rand(len(others), 1), others[:, :-1]], dim=1)
    assert threshold_among(twice, 0.999) == pytest.approx(threshold_for(others[:, 0]), abs=0.006)


def test_a_network_that_confuses_everything_finds_no_copies():
    others = without_copies(2000)
    everything = float(others[:, -1].min())  # even unlike photos are more similar than this
    assert threshold_among(others, everything) > others[:, 3].quantile(0.99)  # three are left out, not all


def test_identical_files_always_pass():
    assert threshold_for(torch.ones(100)) == LARGEST
    assert LARGEST < 1


def test_others_are_not_the_photo_itself():
    torch.manual_seed(0)
    vectors = F.normalize(torch.randn(40, 6), dim=1)
    vectors[1] = vectors[0]  # a tie with itself
    vectors[2:8] = vectors[30]  # so many that a photo may not even be in its own list
    rows = torch.tensor([0, 1, 30, 7, 20])
    similarity = vectors @ vectors.T
    similarity.fill_diagonal_(-torch.inf)
    expected = similarity[rows].sort(dim=1, descending=True).values[:, :4]
    torch.testing.assert_close(others_of(vectors.split(16), rows, CPU), expected)


def test_attacked_photos_depend_on_the_seed_alone(folder):
    paths = [str(path) for path in sorted(folder.glob("*.png"))[:3]]
    images = AttackedPhotos(paths, seed=0)
    assert len(images) == 3 * len(KINDS)
    forwards = [images.load(i).tobytes() for i in range(len(images))]
    again, other = AttackedPhotos(paths, seed=0), AttackedPhotos(paths, seed=1)
    assert [again.load(i).tobytes() for i in reversed(range(len(images)))] == forwards[::-1]
    chance = [i for i in range(len(images)) if other.load(i).tobytes() != forwards[i]]
    fixed = {"JPEG 75", "JPEG 10", "mirror"}  # draw nothing
    assert {KINDS[i % len(KINDS)] for i in chance} == set(KINDS) - fixed
    assert all(images.load(i).mode == "RGB" for i in range(len(images)))
