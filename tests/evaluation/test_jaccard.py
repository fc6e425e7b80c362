"""Jaccard of attention and objects: the index by hand and by a slow oracle, and a small VOC folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.configs.attention import JaccardConfig
from dinotools.data.masks import write_mask
from dinotools.data.transforms import normalize
from dinotools.evaluation import jaccard
from dinotools.features.attention_maps import attention_maps, keep_mass
from dinotools.models.checkpoints import load_backbone
from dinotools.models.vit import build_vit
from dinotools.reporting.paper import PaperTable
from dinotools.runtime.errors import DinotoolsError, RunFailed
from tests.golden import official

PATCH, HEIGHT, WIDTH = 8, 32, 48


def oracle(kept: np.ndarray, mask: np.ndarray) -> list[float]:
    """Object by object and head by head."""
    found = []
    for number in sorted(set(mask.ravel().tolist()) - {0, 255}):
        of_object, valid = mask == number, mask != 255
        found.append(max((of_object & head).sum() / ((of_object | head) & valid).sum() for head in kept))
    return found


def test_the_best_head_counts_and_void_does_not():
    mask = torch.tensor([[1, 1, 0, 2], [255, 1, 0, 2]], dtype=torch.uint8)
    kept = torch.tensor([[[1, 1, 0, 0], [1, 0, 0, 0]], [[0, 0, 1, 1], [1, 0, 0, 0]]]).bool()
    assert jaccard.best_head(kept, mask).tolist() == pytest.approx([2 / 3, 1 / 3])
    assert jaccard.best_head(kept, torch.zeros_like(mask)).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_the_slow_way(seed):
    random = np.random.RandomState(seed)
    mask = random.choice([0, 0, 1, 2, 7, 254, 255], (9, 11)).astype(np.uint8)
    kept = random.rand(4, 9, 11) < 0.4
    found = jaccard.best_head(torch.from_numpy(kept), torch.from_numpy(mask))
    assert found.tolist() == pytest.approx(oracle(kept, mask), abs=1e-12)


@pytest.fixture
def voc(tmp_path) -> Path:
    """Three images with one, two and no objects, whose masks of classes are one of them all."""
    root = tmp_path / "VOC"
    for folder in ("JPEGImages", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number in range(3):
        Image.fromarray(official.image(number, HEIGHT, WIDTH)).save(root / "JPEGImages" / f"{number}.jpg")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[4:15, 5 : 5 + 9 * number] = 1
        mask[15:25, 5 : 5 + 8 * (number == 2)] = 2
        mask[2:4] = 255
        write_mask(root / "SegmentationObject" / f"{number}.png", mask)
        write_mask(root / "SegmentationClass" / f"{number}.png", np.where((mask > 0) & (mask < 255), 9, mask))
    (root / "ImageSets/Segmentation/val.txt").write_text("2\n0\n1\n")
    return root


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("network") / "backbone.pth"
    torch.save(official.fill(build_vit("vit_micro", PATCH)).state_dict(), path)
    return str(path)


def config(ckpt: str, voc: Path, **changes: object) -> JaccardConfig:
    return JaccardConfig(**({"ckpt": ckpt, "data": voc, "workers": 0, "device": "cpu"} | changes))


@pytest.mark.parametrize(("masks", "folder", "n_objects"), [("auto", "Object", 3), ("classes", "Class", 2)])
def test_the_mean_runs_over_objects_then_over_images(ckpt, voc, masks, folder, n_objects):
    result = jaccard.run(config(ckpt, voc, masks=masks))
    model = load_backbone(ckpt).model
    for threshold in (0.6, 0.8):
        of_images = []
        for number in (2, 1):
            pixels = np.asarray(Image.open(voc / "JPEGImages" / f"{number}.jpg"))
            maps = attention_maps(model, normalize(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]))[0]
            kept = np.kron(keep_mass(maps, threshold).numpy(), np.ones((PATCH, PATCH), bool))
            mask = np.asarray(Image.open(voc / f"Segmentation{folder}" / f"{number}.png"))
            of_images.append(np.mean(oracle(kept, mask)))
        assert result.metrics["jaccard"][str(threshold)] == pytest.approx(100 * np.mean(of_images))
    assert result.details["data"] == {"images": 2, "objects": n_objects, "masks": f"Segmentation{folder}"}
    assert [row["attention kept %"] for row in result.rows] == [60, 80]
    assert result.notes[1] == "Images without any object, left out: 1."
    assert "paper %" not in result.rows[0]


def test_the_papers_number_stands_beside_its_own_setting_only(monkeypatch, ckpt, voc):
    assert "paper %" not in jaccard.run(config(ckpt, voc)).rows[0]
    monkeypatch.setattr(jaccard, "PAPER_IMAGES", 3)
    assert "paper %" not in jaccard.run(config(ckpt, voc)).rows[0]
    monkeypatch.setattr(PaperTable, "published", lambda table, network, column: 45.9 if network == ckpt else None)
    assert jaccard.run(config(ckpt, voc)).rows[0]["paper %"] == 45.9
    assert "paper %" not in jaccard.run(config(ckpt, voc, imsize=64)).rows[0]


@pytest.mark.parametrize(
    ("break_it", "changes", "words"),
    [
        (lambda voc: (voc / "JPEGImages/1.jpg").unlink(), {}, "lacks JPEGImages/1.jpg, which val.txt lists"),
        (lambda voc: (voc / "JPEGImages/1.jpg").write_bytes(b"x"), {}, "1.jpg: not an image"),
        (lambda voc: write_mask(voc / "SegmentationObject/1.png", np.ones((5, 6), np.uint8)), {}, "is 6 x 5, its"),
        (lambda voc: (voc / "ImageSets/Segmentation/val.txt").write_text("\n"), {}, "names no image"),
        (lambda voc: None, {"split": "test"}, "test.txt: cannot be read"),
        (lambda voc: None, {"data": Path("nowhere")}, "has no SegmentationObject or SegmentationClass"),
        (lambda voc: None, {"threshold": (0.6, 1.2)}, "--threshold: is 1.2"),
        (lambda voc: None, {"threshold": ()}, "--threshold: is empty"),
        (lambda voc: None, {"imsize": 0}, "--imsize: is 0"),
    ],
)
def test_bad_input_is_named(ckpt, voc, break_it, changes, words):
    break_it(voc)
    with pytest.raises(DinotoolsError) as raised:
        jaccard.run(config(ckpt, voc, **changes))
    assert words in str(raised.value)


def test_an_unreadable_image_is_named_from_a_reader_process_too(ckpt, voc):
    (voc / "JPEGImages/1.jpg").write_bytes(b"x")
    with pytest.raises(DinotoolsError, match=r"1\.jpg: not an image of a known format\. Every image counts"):
        jaccard.run(config(ckpt, voc, workers=1))


def test_a_split_without_objects_has_no_mean(ckpt, voc):
    (voc / "ImageSets/Segmentation/val.txt").write_text("0\n")
    with pytest.raises(RunFailed, match="marks no object in any image"):
        jaccard.run(config(ckpt, voc))
