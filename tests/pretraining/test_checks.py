"""Options that cannot work or are known to fail are refused by name; everything the paper did is accepted."""

import dataclasses

import pytest

from dinotools.configs.pretraining import PretrainConfig
from dinotools.pretraining.checks import check_config, check_images, unsafe
from dinotools.runtime.errors import DinotoolsError

PLAIN = PretrainConfig(data="digits", out="run")


def changed(**changes) -> PretrainConfig:
    return dataclasses.replace(PLAIN, **changes)


def test_the_defaults_are_fine():
    check_config(PLAIN)
    assert list(unsafe(PLAIN)) == []


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"lr": 0.1}, "--lr"),
        ({"lr": 0.005, "batch_size": 2048}, "--lr"),
        ({"teacher_temp": 0.08}, "--teacher-temp"),
        ({"warmup_teacher_temp": 0.1, "warmup_teacher_temp_epochs": 5}, "--teacher-temp"),
        ({"teacher_temp": 0.05, "student_temp": 0.05}, "--teacher-temp"),
        ({"centering": "none"}, "--centering"),
        ({"center_momentum": 0.999}, "--center-momentum"),
        ({"teacher": "student"}, "--teacher"),
        ({"teacher": "previous-iteration"}, "--teacher"),
    ],
)
def test_what_is_known_to_fail_needs_force(changes, option):
    with pytest.raises(DinotoolsError, match=rf"{option}: .*add --force"):
        check_config(changed(**changes))
    check_config(changed(**changes, force=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher_temp": 0.07, "warmup_teacher_temp_epochs": 30},
        {"teacher": "student", "centering": "sinkhorn"},
        {"teacher": "previous-epoch"},
        {"loss": "mse", "teacher_temp": 0.5},
        {"loss": "infonce", "centering": "none", "out_dim": 128},
        {"lr": 0.0005, "batch_size": 4096},
        {"optimizer": "sgd", "lr": 0.03, "batch_size": 4080},
    ],
)
def test_what_the_paper_did_is_accepted(changes):
    check_config(changed(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crops": "3x224"}, "--crops: .*the first 2 are the global ones"),
        ({"crops": "2x224+x96"}, "--crops"),
        ({"crops": "2x224+4x8"}, "--crops: a crop of 8 pixels is smaller than a patch of 16"),
        ({"local_crop_size": 8}, "--local-crop-size: a crop of 8 pixels"),
        ({"loss": "mse", "centering": "sinkhorn"}, "--centering: .*Use center or none"),
        ({"loss": "infonce"}, "--centering: .*Use none"),
        ({"centering": "sinkhorn", "accumulate": 2}, "--accumulate"),
        ({"loss": "infonce", "centering": "none", "out_dim": 128, "accumulate": 2}, "--accumulate"),
        ({"loss": "infonce", "centering": "none"}, "--out-dim: .*a queue of 16 GiB"),
        ({"accumulate": 0}, "--accumulate"),
        ({"gpus": 3}, "--batch-size: 64 images a step cannot be cut into 3 equal parts"),
        ({"gpus": 4, "nodes": 8, "slurm": True, "accumulate": 4}, "cannot be cut into 128 equal parts"),
        ({"gpus": 65}, "--batch-size: 64 images a step cannot be shared by 65 processes"),
        ({"nodes": 2}, "--nodes: is for Slurm alone"),
        ({"partition": "gpu"}, "--partition: is for Slurm alone"),
        ({"in_chans": 4}, "--channel-mean: has no mean and deviation for 4 channels"),
        ({"in_chans": 2, "channel_mean": (0.1,), "channel_std": (1.0,)}, "--channel-mean: has 1 values for 2"),
        ({"channel_mean": (0.1, 0.2, 0.3)}, "--channel-std: has 0 values"),
        ({"channel_mean": (0.1, 0.2, 0.3), "channel_std": (1.0, 0.0, 1.0)}, "--channel-std"),
        ({"num_heads": 0}, "--num-heads"),
        ({"epoch_images": -1}, "--epoch-images"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(DinotoolsError, match=message):
        check_config(changed(**changes))
    with pytest.raises(DinotoolsError, match=message):
        check_config(changed(**changes, force=True))  # no force makes it work


def test_an_epoch_must_hold_a_step():
    check_images(PLAIN, [40, 24])
    check_images(changed(epoch_images=64), [10])
    with pytest.raises(DinotoolsError, match="an epoch has only 63"):
        check_images(PLAIN, [63])
    with pytest.raises(DinotoolsError, match="an epoch has only 32"):
        check_images(changed(epoch_images=32), [1000])


def test_the_crop_list_stands_in_for_sizes_and_numbers():
    assert PLAIN.crop_sizes == (224, 224, *[96] * 8)
    assert changed(crops="2x160+1x128+2x64").crop_sizes == (160, 160, 128, 64, 64)
    assert changed(crops=" 2x160 + 3x96 ").crop_sizes == (160, 160, 96, 96, 96)
    assert changed(local_crops_number=0).crop_sizes == (224, 224)


def test_weights_are_one_for_each_folder():
    check_images(changed(data_weights=(3, 1)), [100, 100])
    with pytest.raises(DinotoolsError, match="--data-weights"):
        check_images(changed(data_weights=(3, 1)), [200])
