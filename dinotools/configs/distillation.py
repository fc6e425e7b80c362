"""Options of the method: head, teacher and loss, and the paper's alternatives to each (Tables 7, 14 and 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from dinotools.configs.option import Opt

TeacherName = Literal["momentum", "previous-epoch", "previous-iteration", "student"]
CenteringName = Literal["center", "batch-softmax", "sinkhorn", "none"]
LossName = Literal["ce", "mse", "infonce"]


@dataclass(frozen=True, kw_only=True)
class DistillationOptions:
    """What the student learns from, and how."""

    out_dim: Annotated[int, Opt("prototypes K: outputs of the head", "Head")] = 65536
    norm_last_layer: Annotated[
        bool, Opt("keep every prototype at norm 1; off is a little better with ViT-S", "Head")
    ] = True
    use_bn_in_head: Annotated[bool, Opt("batch norm in the head", "Head")] = False
    head_layers: Annotated[int, Opt("linear layers before the prototypes", "Head")] = 3
    head_hidden_dim: Annotated[int, Opt("width of the head's hidden layers", "Head")] = 2048
    head_bottleneck_dim: Annotated[
        int,
        Opt("width of the head's normalised bottleneck; 0: no bottleneck, the last linear layer has K outputs", "Head"),
    ] = 256
    head_activation: Annotated[Literal["gelu", "relu"], Opt("between the head's layers", "Head")] = "gelu"
    predictor: Annotated[bool, Opt("a further MLP at the student's end, as in BYOL", "Head")] = False

    teacher: Annotated[TeacherName, Opt("moving average of the student, or a copy of it (Fig. 6)", "Teacher")] = (
        "momentum"
    )
    momentum_teacher: Annotated[
        float, Opt("EMA momentum of the teacher, rising to 1 on a cosine; 0.9995 for batch 256", "Teacher")
    ] = 0.996
    warmup_teacher_temp: Annotated[
        float, Opt("teacher temperature at the start; lower it if the loss does not fall", "Teacher")
    ] = 0.04
    teacher_temp: Annotated[float, Opt("teacher temperature after the warm-up", "Teacher")] = 0.04
    warmup_teacher_temp_epochs: Annotated[int, Opt("epochs of teacher temperature warm-up", "Teacher")] = 0
    student_temp: Annotated[float, Opt("student temperature", "Teacher")] = 0.1
    centering: Annotated[
        CenteringName, Opt("how the teacher's output is kept from collapsing to one dimension (Table 15)", "Teacher")
    ] = "center"
    center_momentum: Annotated[float, Opt("share of the old centre that a step keeps", "Teacher")] = 0.9
    sinkhorn_iterations: Annotated[int, Opt("iterations of --centering sinkhorn", "Teacher")] = 3

    loss: Annotated[
        LossName,
        Opt(
            "cross-entropy; mse of normalised outputs (BYOL); infonce against a queue (MoCo-v2), at --student-temp",
            "Loss",
        ),
    ] = "ce"
    queue_size: Annotated[int, Opt("teacher outputs that --loss infonce keeps as negatives", "Loss")] = 65536
