"""Descriptors of whole images: the official numbers, images of any shape, and vectors from files."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.configs.shared import DescriptorOptions
from dinotools.data.images import ImageFiles
from dinotools.data.oxford_paris import CroppedFiles
from dinotools.data.transforms import Alike, Shrink, Square, normalize
from dinotools.features.descriptors import open_descriptors
from dinotools.features.extraction import SameShape
from dinotools.features.pooling import Pooling
from dinotools.features.scales import SCALES
from dinotools.models.vit import build_vit
from dinotools.runtime.device import prepare
from dinotools.runtime.errors import DinotoolsError, RunFailed
from tests.golden.official import arrays, fill, image

DRAWN = {831: (600, 450), 832: (300, 400), 833: (100, 180)}  # seed -> height, width of retrieval's images
NOISE = {851: (120, 160), 852: (200, 90), 853: (64, 64)}  # of copy detection's


def drawn(seed, height, width):
    small = np.random.RandomState(seed).randint(0, 256, size=(height // 10 + 1, width // 10 + 1, 3)).astype(np.uint8)
    return small.repeat(10, axis=0).repeat(10, axis=1)[:height, :width]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The official ViT-Ti/16 of the records as a checkpoint file."""
    path = tmp_path_factory.mktemp("weights") / "vit_tiny16.pth"
    torch.save(fill(build_vit("vit_tiny", patch_size=16)).state_dict(), path)
    return path


@pytest.fixture
def retrieval_images(tmp_path):
    for seed, size in DRAWN.items():
        Image.fromarray(drawn(seed, *size)).save(tmp_path / f"{seed}.png")
    return ImageFiles.in_folder(tmp_path)


def describing(transform, pooling="cls", scales=(1.0,), **options):
    runtime = prepare("cpu", "auto", 0, 0)
    return open_descriptors(DescriptorOptions(**options), transform, Pooling.parse(pooling), runtime, scales=scales)


@pytest.mark.parametrize("seed", DRAWN)
def test_retrievals_official_pixels(seed):
    official = {name: arrays("retrieval")[f"preprocess/{seed}/{name}"] for name in ("shape", "corner8")}
    official |= {name: arrays("retrieval")[f"preprocess/{seed}/{name}"] for name in ("channel_mean", "channel_std")}
    found = normalize(Shrink(224)(Image.fromarray(drawn(seed, *DRAWN[seed]))))
    assert list(found.shape) == list(official["shape"])
    np.testing.assert_allclose(found[:, :8, :8], official["corner8"], atol=1e-6)
    np.testing.assert_allclose(found.mean(dim=(1, 2)), official["channel_mean"], atol=1e-5)
    np.testing.assert_allclose(found.std(dim=(1, 2)), official["channel_std"], atol=1e-5)


@pytest.mark.parametrize("seed", NOISE)
def test_copy_detections_official_pixels(seed):
    found = normalize(Square(96)(Image.fromarray(image(seed, *NOISE[seed]))))
    np.testing.assert_allclose(found[:, :8, :8], arrays("copydays")[f"preprocess/{seed}/corner8"], atol=1e-6)
    means = arrays("copydays")[f"preprocess/{seed}/channel_mean"]
    np.testing.assert_allclose(found.mean(dim=(1, 2)), means, atol=1e-5)


def test_retrievals_official_features(weights, retrieval_images):
    found = describing(Shrink(224), ckpt=str(weights)).of(retrieval_images, "images").tensor()
    np.testing.assert_allclose(found, arrays("retrieval")["preprocess/features_single"], atol=3e-5)
    found = describing(Shrink(224), scales=SCALES, ckpt=str(weights)).of(retrieval_images, "images").tensor()
    np.testing.assert_allclose(found, arrays("retrieval")["preprocess/features_multiscale"], atol=3e-6)


def test_copy_detections_official_descriptors(weights, tmp_path):
    for seed, size in NOISE.items():
        Image.fromarray(image(seed, *size)).save(tmp_path / f"{seed}.png")
    found = describing(Square(96), "cls+gem", ckpt=str(weights)).of(ImageFiles.in_folder(tmp_path), "images")
    np.testing.assert_allclose(found.tensor(), arrays("copydays")["descriptor/features"], atol=3e-5)


@pytest.fixture
def shapes(tmp_path):
    """Twelve images of four shapes, mixed."""
    random = np.random.RandomState(0)
    for i in range(12):
        pixels = random.randint(0, 256, size=[(40, 60), (60, 40), (50, 50), (33, 35)][i % 4] + (3,))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i:02d}.png")
    return ImageFiles.in_folder(tmp_path)


RANDOM = {"ckpt": "random", "arch": "vit_micro", "patch_size": 16}


@pytest.mark.parametrize("batch_size", [1, 2, 5, 12])
def test_images_of_a_shape_share_a_pass_and_come_back_in_order(shapes, batch_size):
    alone = describing(Shrink(50), scales=SCALES, **RANDOM, batch_size=1).of(shapes, "images").tensor()
    descriptors = describing(Shrink(50), scales=SCALES, **RANDOM, batch_size=batch_size)
    passes = []
    descriptors.network.register_forward_hook(lambda module, args, output: passes.append(len(output)))
    found = descriptors.of(shapes, "images")
    assert found.indices.tolist() == list(range(12))
    torch.testing.assert_close(found.tensor(), alone, atol=1e-5, rtol=0)
    expected = {1: [1] * 12, 2: [2, 1] * 4, 5: [3] * 4, 12: [3] * 4}
    assert sorted(passes) == sorted(expected[batch_size])


def alike(*shape, first=0):
    return Alike(torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape[0]), torch.arange(first, first + shape[0]))


def test_what_waits_for_others_of_its_shape_is_bounded():
    queue = SameShape(batch_size=4, held_bytes=3 * 10 * 10 * 5)
    assert [list(queue.add(alike(1, 3, 10, 10, first=i))) for i in range(3)] == [[], [], []]
    assert list(queue.add(alike(2, 3, 5, 10))) == []
    [ready] = queue.add(alike(1, 3, 5, 21))  # now too much is held
    assert ready.indices.tolist() == [0, 1, 2]
    assert sorted(len(rest.images) for rest in queue.rest()) == [1, 2]
    full = list(queue.add(alike(9, 3, 10, 10)))
    assert [batch.indices.tolist() for batch in full] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [batch.indices.tolist() for batch in queue.rest()] == [[8]]


def test_a_cache_keeps_whole_and_cropped_images_apart(shapes, tmp_path):
    descriptors = describing(Shrink(60), **RANDOM, cache=tmp_path / "cache")
    whole = descriptors.of(shapes, "images").tensor()
    cropped = descriptors.of(CroppedFiles(shapes.paths, boxes=[(0, 0, 33, 33)] * 12), "images").tensor()
    assert not torch.allclose(whole, cropped)
    torch.testing.assert_close(descriptors.of(shapes, "images").tensor(), whole)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_vectors_come_from_images_from_a_cache_or_from_an_array(shapes, tmp_path):
    folder = shapes.paths[0].rsplit("/", 1)[0]
    descriptors = describing(Shrink(60), **RANDOM, cache=tmp_path / "cache")
    found = descriptors.found_in(folder, "distractors").tensor()
    [stored] = (tmp_path / "cache").iterdir()
    torch.testing.assert_close(descriptors.found_in(stored, "distractors").tensor(), found)
    np.save(tmp_path / "v.npy", found.numpy().astype(np.float16))
    torch.testing.assert_close(descriptors.found_in(tmp_path / "v.npy", "d").tensor(), found, atol=2e-3, rtol=1e-3)
    with pytest.raises(DinotoolsError, match=r"longer_side was 60, now 50"):
        describing(Shrink(50), **RANDOM).found_in(stored, "distractors")


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros((4, 5), np.float32), r"shape \(4, 5\)"),
        (np.zeros(128, np.float32), r"shape \(128,\)"),
        (np.zeros((0, 128), np.float32), r"shape \(0, 128\)"),
        (np.zeros((4, 128), np.int64), "int64"),
        (np.full((4, 128), np.nan, np.float32), "NaN"),
    ],
)
def test_arrays_that_are_no_descriptors_are_refused(tmp_path, array, complaint):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(DinotoolsError, match=complaint):
        describing(Shrink(60), **RANDOM).found_in(tmp_path / "v.npy", "distractors")


def test_a_file_that_is_no_array_is_refused(tmp_path):
    (tmp_path / "v.npy").write_bytes(b"text")
    with pytest.raises(DinotoolsError, match="no array"):
        describing(Shrink(60), **RANDOM).found_in(tmp_path / "v.npy", "distractors")


def test_images_too_small_for_the_coarsest_scale_are_named(tmp_path):
    Image.fromarray(image(0, 31, 64)).save(tmp_path / "thin.png")
    Image.fromarray(image(0, 32, 64)).save(tmp_path / "wide.png")
    descriptors = describing(Shrink(64), scales=SCALES, **RANDOM, max_bad=0.5)
    with pytest.raises(DinotoolsError, match=r"64 x 31 pixels after resizing, and the network needs 32"):
        descriptors.of(ImageFiles.in_folder(tmp_path), "images", all_needed=True)
    assert len(descriptors.of(ImageFiles.in_folder(tmp_path), "images")) == 1


def test_a_network_that_says_nothing_is_an_error(shapes):
    descriptors = describing(Shrink(60), **RANDOM)
    silent = dataclasses.replace(descriptors, network=torch.nn.Sequential(torch.nn.Flatten(), Nothing()))
    with pytest.raises(RunFailed, match="no dimensions"):
        silent.of(shapes, "images")


class Nothing(torch.nn.Module):
    """What a classifier of no classes returns."""

    def forward(self, x):
        return x[:, :0]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({}, "no network"), ({"ckpt": "pixels"}, "one size"), ({**RANDOM, "batch_size": 0}, "batch_size|batch-size")],
)
def test_options_that_cannot_work(options, complaint):
    with pytest.raises(DinotoolsError, match=complaint):
        describing(Shrink(60), **options)


def test_precision_and_scales_are_among_the_settings():
    settings = describing(Shrink(60), scales=SCALES, **RANDOM).settings
    assert settings["scales"] == list(SCALES) and settings["precision"] == "fp32" and settings["longer_side"] == 60
