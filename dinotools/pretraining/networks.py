"""What a run starts from: student, teacher, loss and optimizer, built from its options."""

from __future__ import annotations

from typing import Any

import torch

from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.checkpoint_files import network_state, read_checkpoint
from dinotools.models.checkpoints import load_strictly, locate
from dinotools.models.head import DINOHead
from dinotools.models.multicrop import MultiCropWrapper
from dinotools.models.zoo import build_backbone
from dinotools.pretraining.loss import DINOLoss
from dinotools.pretraining.optimizers import build_optimizer
from dinotools.pretraining.step import TrainingState
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError


def build_state(config: PretrainConfig, runtime: Runtime) -> TrainingState:
    """Networks, loss, optimizer and gradient scaler before the first step, on their device."""
    student, teacher = (network.to(runtime.device) for network in build_networks(config))
    criterion = DINOLoss(
        config.out_dim,
        config.local_crops_number + 2,
        config.warmup_teacher_temp,
        config.teacher_temp,
        config.warmup_teacher_temp_epochs,
        config.epochs,
        config.student_temp,
        config.center_momentum,
    ).to(runtime.device)
    return TrainingState(
        student=student,
        teacher=teacher,
        criterion=criterion,
        optimizer=build_optimizer(config.optimizer, student),
        # half precision needs its small gradients scaled up; bf16 and fp32 pass through untouched
        scaler=torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16"),
        loss_sum=torch.zeros((), device=runtime.device),
    )


def build_networks(config: PretrainConfig) -> tuple[MultiCropWrapper, MultiCropWrapper]:
    """A student and a teacher with equal weights; the teacher has no drop path and no gradients.

    Raises:
        DinotoolsError: unknown architecture, or weights of --init-from that do not fit.
    """
    student = _build(config, drop_path_rate=config.drop_path_rate, norm_last_layer=config.norm_last_layer)
    # the official teacher keeps its prototype norms out of the optimizer anyway, so it is built with fixed ones
    teacher = _build(config, drop_path_rate=0.0, norm_last_layer=True)
    if config.init_from is not None:
        _load_weights(student, config.init_from)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    return student, teacher


def model_description(config: PretrainConfig) -> dict[str, Any]:
    """What a checkpoint says of its backbone, so that it can be loaded by itself."""
    return {"arch": config.arch, "patch_size": config.patch_size, "img_size": config.global_crop_size}


def _build(config: PretrainConfig, *, drop_path_rate: float, norm_last_layer: bool) -> MultiCropWrapper:
    # positional encodings are laid out for the global crops: 224 pixels in the paper
    backbone, embed_dim = build_backbone(
        config.arch, config.patch_size, img_size=config.global_crop_size, drop_path_rate=drop_path_rate
    )
    head = DINOHead(
        embed_dim,
        config.out_dim,
        use_bn=config.use_bn_in_head,
        norm_last_layer=norm_last_layer,
        nlayers=config.head_layers,
        hidden_dim=config.head_hidden_dim,
        bottleneck_dim=config.head_bottleneck_dim,
    )
    return MultiCropWrapper(backbone, head)


def _load_weights(student: MultiCropWrapper, ckpt: str) -> None:
    path = locate(ckpt)
    tensors, key = network_state(read_checkpoint(path), "student", path)
    if key != "student":
        raise DinotoolsError("has no student", path, "--init-from wants a training checkpoint, with backbone and head.")
    load_strictly(student, tensors, "a student with these options", path)
