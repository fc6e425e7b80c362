"""What a run starts from: student, teacher, loss and optimizer, built from its options."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.checkpoint_files import network_state, read_checkpoint
from dinotools.models.checkpoints import load_strictly, locate
from dinotools.models.head import DINOHead
from dinotools.models.multicrop import MultiCropWrapper
from dinotools.models.synced_norm import synchronize_norms
from dinotools.models.zoo import build_backbone, set_normalization
from dinotools.pretraining.loss import build_loss
from dinotools.pretraining.optimizers import build_optimizer
from dinotools.pretraining.step import TrainingState
from dinotools.runtime import distributed
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError

PREDICTOR = "head.predictor."  # what the student has beyond the teacher


def build_state(config: PretrainConfig, runtime: Runtime) -> TrainingState:
    """Networks, loss, optimizer and gradient scaler before the first step, on their device.

    Among several ranks the batch norms of both networks are synchronised, and the student's gradients meet.
    """
    networks = build_networks(config)
    if distributed.world_size() > 1:
        for network in networks:
            synchronize_norms(network, runtime.device)
    student, teacher = (network.to(runtime.device) for network in networks)
    if config.compile:
        for module in (student.backbone, student.head, teacher.backbone, teacher.head):
            module.compile()  # in place: names of parameters stay
    return TrainingState(
        student=student,
        teacher=teacher,
        criterion=build_loss(config).to(runtime.device),
        optimizer=build_optimizer(config.optimizer, student),
        # half precision needs its small gradients scaled up; bf16 and fp32 pass through untouched
        scaler=torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16"),
        parallel=_parallel(student, runtime),
    )


def _parallel(student: MultiCropWrapper, runtime: Runtime) -> nn.Module:
    """The student as it is run: among several ranks, backward passes end with the mean of their gradients."""
    if distributed.world_size() == 1:
        return student
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)  # torch 2.6 does not know its new name
        return DistributedDataParallel(
            student,
            device_ids=[runtime.device.index] if runtime.device.type == "cuda" else None,
            broadcast_buffers=False,  # synchronised norms have the same statistics anyway
            gradient_as_bucket_view=True,
        )


def build_networks(config: PretrainConfig) -> tuple[MultiCropWrapper, MultiCropWrapper]:
    """A student and a teacher with equal weights; the teacher has no drop path, no predictor and no gradients.

    Raises:
        DinotoolsError: unknown architecture, an option that it has not, or weights of --init-from that do not fit.
    """
    student = _build(config, of_student=True)
    teacher = _build(config, of_student=False)
    if config.init_from is not None:
        _load_weights(student, config.init_from)
    shared = {name: t for name, t in student.state_dict().items() if not name.startswith(PREDICTOR)}
    teacher.load_state_dict(shared)
    teacher.requires_grad_(False)
    return student, teacher


def model_description(config: PretrainConfig) -> dict[str, Any]:
    """What a checkpoint says of its backbone, so that it can be loaded by itself."""
    description: dict[str, Any] = {
        "arch": config.arch,
        "patch_size": config.patch_size,
        "img_size": config.crop_sizes[0],
        "in_chans": config.in_chans,
    }
    if config.num_heads is not None:
        description["num_heads"] = config.num_heads
    if config.channel_mean:
        description |= {"mean": list(config.channel_mean), "std": list(config.channel_std)}
    return description


def _build(config: PretrainConfig, *, of_student: bool) -> MultiCropWrapper:
    # positional encodings are laid out for the global crops: 224 pixels in the paper
    backbone, embed_dim = build_backbone(
        config.arch,
        config.patch_size,
        config.crop_sizes[0],
        config.drop_path_rate if of_student else 0.0,
        num_heads=config.num_heads,
        in_chans=config.in_chans,
        checkpoint_activations=config.checkpoint_activations and of_student,
    )
    if config.channel_mean:
        set_normalization(backbone, config.channel_mean, config.channel_std)
    head = DINOHead(
        embed_dim,
        config.out_dim,
        use_bn=config.use_bn_in_head,
        # the official teacher keeps its prototype norms out of the optimizer anyway, so it is built with fixed ones
        norm_last_layer=config.norm_last_layer or not of_student,
        nlayers=config.head_layers,
        hidden_dim=config.head_hidden_dim,
        bottleneck_dim=config.head_bottleneck_dim,
        activation=config.head_activation,
        predictor=config.predictor and of_student,
    )
    return MultiCropWrapper(backbone, head)


def _load_weights(student: MultiCropWrapper, ckpt: str) -> None:
    path = locate(ckpt)
    content = read_checkpoint(path)
    if "student" not in content:
        raise DinotoolsError("has no student", path, "--init-from wants a training checkpoint, with backbone and head.")
    tensors, _ = network_state(content, "student", path)
    load_strictly(student, tensors, "a student with these options", path)
