"""The same work on a real CUDA device; skipped where there is none."""

import dataclasses

import pytest
import torch

from dinotools.configs.classification import KnnConfig
from dinotools.configs.pretraining import PretrainConfig
from dinotools.evaluation import knn
from dinotools.models.checkpoint_files import read_checkpoint
from dinotools.pretraining import trainer
from tests.pretraining.test_trainer import TINY

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_trains_and_resumes(image_folder, tmp_path, precision):
    config = PretrainConfig(
        data=str(image_folder), out=tmp_path / "run", device="cuda", precision=precision, knn_every=2, knn_k=3, **TINY
    )
    first = trainer.run(config)
    assert 0 < first.metrics["train_loss"] < 10
    again = trainer.run(dataclasses.replace(config, resume=True))
    assert again.metrics["step"] == first.metrics["step"]
    weights = read_checkpoint(config.out / "checkpoint.pth")["teacher"].values()
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in weights)


def test_knn_on_the_device_equals_knn_on_the_cpu(image_folder):
    config = KnnConfig(
        ckpt="random", arch="vit_micro", patch_size=8, data=str(image_folder), k=(1, 5), resize_size=36, crop_size=32
    )
    on_cpu = knn.run(dataclasses.replace(config, device="cpu"))
    assert knn.run(dataclasses.replace(config, device="cuda")).metrics == on_cpu.metrics
