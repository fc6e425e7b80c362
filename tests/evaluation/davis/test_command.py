"""`dinotools davis`: masks of every frame and their scores, in one go or in several."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.configs.video import DavisConfig, DavisScoreConfig
from dinotools.data.images import decode
from dinotools.data.masks import palette, read_mask, write_mask
from dinotools.evaluation.davis import command, protocol, scoring
from dinotools.evaluation.davis.frames import WorkingSize
from dinotools.evaluation.davis.propagation import LabelPropagation
from dinotools.evaluation.davis.tracking import Tracker
from dinotools.models.checkpoints import load_backbone
from dinotools.runtime import device
from dinotools.runtime.errors import DinotoolsError, RunFailed
from tests.evaluation.davis.drawn import Sequence

NETWORK = {"ckpt": "random", "arch": "vit_micro", "patch_size": 8}
PROTOCOL = {"short_side": 64, "multiple": 32, "size_mask_neighborhood": 3, "n_last_frames": 2}
SEQUENCES = {
    "boat": Sequence(1, 5, 72, 130, ((30, 40, 10, 20, 2, 4), (20, 30, 40, 80, -2, -3))),
    "otter": Sequence(2, 4, 96, 70, ((40, 30, 20, 15, 3, 2),)),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two sequences, one of them upright, annotated in every frame with the mask of the first."""
    root = tmp_path_factory.mktemp("davis")
    for name, sequence in SEQUENCES.items():
        frames, mask = sequence.frames()
        (root / "JPEGImages" / "480p" / name).mkdir(parents=True)
        for i, frame in enumerate(frames):
            Image.fromarray(frame).save(root / "JPEGImages" / "480p" / name / f"{i:05d}.jpg", quality=95)
            write_mask(root / "Annotations" / "480p" / name / f"{i:05d}.png", mask)
    write_list(root, "val", *SEQUENCES)
    return root


def write_list(root, split, *names):
    (root / "ImageSets" / "2017").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / "2017" / f"{split}.txt").write_text("\n".join(names))


def config(data, out, **options):
    common = {"data": data, "out": out, "workers": 0, "device": "cpu"}
    return DavisConfig(**{**NETWORK, **PROTOCOL, **common, **options})


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """The folder and the result of a run without interruption."""
    out = tmp_path_factory.mktemp("out") / "davis"
    return out, command.run(config(data, out))


def masks_in(out):
    return {str(path.relative_to(out)): read_mask(path) for path in sorted(out.glob("masks/*/*.png"))}


def test_every_frame_has_the_mask_that_the_tracker_finds(data, done):
    out, _ = done
    backbone = load_backbone(**NETWORK)
    method = LabelPropagation(n_last_frames=2, radius=3)
    tracker = Tracker(backbone, device.prepare("cpu", "fp32", 0, 0), method)
    expected = {}
    for name, sequence in SEQUENCES.items():
        paths = [data / "JPEGImages" / "480p" / name / f"{i:05d}.jpg" for i in range(sequence.length)]
        first, *others = (WorkingSize(64, 32)(decode(path)) for path in paths)
        mask = sequence.frames()[1]
        tracker.start(first, mask)
        masks = [mask, *(tracker.mask(tracker.step(pixels)) for pixels in others)]
        expected |= {f"masks/{name}/{i:05d}.png": mask for i, mask in enumerate(masks)}
    found = masks_in(out)
    assert list(found) == list(expected)
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask)
        with Image.open(out / name) as image:
            assert image.mode == "P"
            assert bytes(image.getpalette("RGB")) == palette()[: len(image.getpalette("RGB"))]
    assert any(len(np.unique(mask)) == 3 for mask in found.values())


def test_the_scores_are_those_of_davis_score(data, done):
    out, result = done
    scored = scoring.run(DavisScoreConfig(predictions=out / "masks", data=data))
    assert result.metrics == scored.metrics
    assert result.rows == scored.rows
    assert result.details["data"]["objects"] == 3
    assert "dino-v1 but for short_side 64" in result.title


def test_a_run_that_stopped_goes_on(data, done, tmp_path, monkeypatch):
    written = []

    def stops_in_the_second(path, mask):
        if "otter" in str(path) and path.stem == "00002":
            raise KeyboardInterrupt
        written.append(path)
        write_mask(path, mask)

    monkeypatch.setattr(command, "write_mask", stops_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        command.run(config(data, tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["boat"]
    first_part = len(written)
    monkeypatch.setattr(command, "write_mask", lambda path, mask: (written.append(path), write_mask(path, mask)))
    result = command.run(config(data, tmp_path / "out"))
    assert len(written) - first_part == SEQUENCES["otter"].length
    assert result.metrics == done[1].metrics
    for (name, mask), expected in zip(masks_in(tmp_path / "out").items(), masks_in(done[0]).values(), strict=True):
        np.testing.assert_array_equal(mask, expected, err_msg=name)


def test_masks_of_other_settings_are_not_mixed(data, tmp_path):
    command.run(config(data, tmp_path / "out"))
    before = masks_in(tmp_path / "out")
    other = shutil.copytree(data, tmp_path / "other")
    with pytest.raises(DinotoolsError, match="another data set"):
        command.run(config(other, tmp_path / "out"))
    with pytest.raises(DinotoolsError, match="other settings"):
        command.run(config(data, tmp_path / "out", topk=1))
    command.run(config(data, tmp_path / "out", topk=1, overwrite=True))
    after = masks_in(tmp_path / "out")
    assert any((after[name] != mask).any() for name, mask in before.items())


def test_a_folder_of_something_else_is_left_alone(data, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DinotoolsError, match="not empty"):
        command.run(config(data, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    "change, message, complete",
    [
        (lambda folder: (folder / "00002.jpg").write_bytes(b"\xff\xd8 no picture"), "00002.jpg: cannot be read", True),
        (lambda folder: Image.new("RGB", (70, 150)).save(folder / "00003.jpg"), "00003.jpg: has another size", True),
        (lambda folder: (folder / "00000.jpg").unlink(), "the first frame has no annotation 00001.png", False),
        (lambda folder: (folder / "00002.jpg").unlink(), "frame 00002.jpg is annotated and not there", False),
    ],
)
def test_a_bad_frame_is_named_and_its_sequence_has_no_masks(data, tmp_path, change, message, complete):
    changed = shutil.copytree(data, tmp_path / "data")
    change(changed / "JPEGImages" / "480p" / "otter")
    with pytest.raises(DinotoolsError, match=message):
        command.run(config(changed, tmp_path / "out"))
    assert (tmp_path / "out" / "masks" / "boat").is_dir() == complete
    assert not list((tmp_path / "out").glob("masks/*otter*"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ckpt": None}, "--ckpt"),
        ({"data": None}, "--data"),
        ({"arch": "resnet18", "patch_size": None}, "resnet18 has no patch tokens"),
        ({"short_side": 0}, "--short-side"),
        ({"short_side": 16}, "--multiple"),
        ({"short_side": 4, "multiple": 4}, "--short-side: sides of 4 pixels are less than a patch of 8"),
        ({"n_last_frames": -1}, "--n-last-frames"),
        ({"size_mask_neighborhood": -1}, "--size-mask-neighborhood"),
        ({"topk": 0}, "--topk"),
        ({"temperature": 0.001}, "--temperature"),
        ({"temperature": float("nan")}, "--temperature"),
        ({"split": "train"}, "Splits there: val"),
        ({"mask": "first.png"}, "--mask: was given without --video"),
        ({"soft": True}, "--soft: was given without --video"),
        ({"video": "clip.mp4"}, "--mask"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_is_written(data, tmp_path, options, message):
    with pytest.raises(DinotoolsError, match=message):
        command.run(dataclasses.replace(config(data, tmp_path / "out"), **options))
    assert not (tmp_path / "out").exists()


def test_without_annotations_there_are_masks_and_no_scores(data, tmp_path):
    root = tmp_path / "data"
    write_list(root, "test-dev", "otter")
    (root / "JPEGImages").symlink_to(data / "JPEGImages")
    write_mask(root / "Annotations" / "480p" / "otter" / "00000.png", SEQUENCES["otter"].frames()[1])
    result = command.run(config(root, tmp_path / "out", split="test-dev"))
    assert "not scored: otter" in result.notes[0]
    assert len(masks_in(tmp_path / "out")) == SEQUENCES["otter"].length


def test_an_object_without_a_patch_is_named(data, tmp_path, capsys):
    root = tmp_path / "data"
    write_list(root, "val", "otter")
    (root / "JPEGImages").symlink_to(data / "JPEGImages")
    mask = SEQUENCES["otter"].frames()[1]
    mask[0, 0] = 3
    write_mask(root / "Annotations" / "480p" / "otter" / "00000.png", mask)
    command.run(config(root, tmp_path / "out"))
    assert "object 2 to 3 has no patch" in capsys.readouterr().err


def test_features_that_are_not_finite_end_the_run(data, tmp_path, monkeypatch):
    def broken(**options):
        backbone = load_backbone(options.pop("ckpt"), **options)
        torch.nn.init.constant_(backbone.model.norm.bias, torch.nan)
        return backbone

    monkeypatch.setattr(protocol, "load_backbone", lambda ckpt, **options: broken(ckpt=ckpt, **options))
    with pytest.raises(RunFailed, match="not finite"):
        command.run(config(data, tmp_path / "out"))
    assert not masks_in(tmp_path / "out")


def test_the_paper_stands_beside_its_own_setting_only():
    backbone = dataclasses.replace(load_backbone(**NETWORK), source="dino_vits8")
    official = DavisConfig(ckpt="dino_vits8", data="davis", out="out")
    assert protocol.protocol_name(official) == "dino-v1"
    assert command.papers_means(official, backbone, 61) == {"J&F Mean": 69.9, "J Mean": 66.6, "F Mean": 73.1}
    assert command.papers_means(official, backbone, 60) == {}
    assert command.papers_means(dataclasses.replace(official, topk=4), backbone, 61) == {}
    assert command.papers_means(dataclasses.replace(official, split="train"), backbone, 61) == {}
    assert command.papers_means(official, dataclasses.replace(backbone, source="random"), 61) == {}
