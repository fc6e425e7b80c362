import pytest
import torch

from dinotools.configs.pretraining import PretrainConfig
from dinotools.pretraining.announcement import announcement
from dinotools.pretraining.schedules import Schedules
from dinotools.runtime.device import Runtime


@pytest.mark.parametrize(("in_chans", "images"), [(1, "one-channel"), (5, "5-channel")])
def test_says_which_steps_make_no_sense(in_chans, images, tmp_path):
    def lines(chans: int) -> list[str]:
        config = PretrainConfig(data="x", out=tmp_path / "run", in_chans=chans)
        runtime = Runtime(torch.device("cpu"), "fp32", 0)
        return announcement(config, Schedules.of(config, 10), 640, runtime).splitlines()

    assert len(lines(3)) == 1
    assert lines(in_chans)[1].startswith(f"{images} images: colour jitter, gray and solarize are skipped")
