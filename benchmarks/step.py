"""A training step against the plain step, in time and memory.

    python benchmarks/step.py [--arch vit_tiny --patch-size 16 --batch-size 8 --out-dim 65536 --repeats 5]

The plain step is what Algorithm 1 of the paper says, written the obvious way: attention with an explicit matrix, a
softmax and a log-softmax for every pair of views, clipping that asks every gradient for its norm, AdamW and the moving
average one parameter after the other. Both train the same networks, of equal weights, on the same random crops, without
stochastic depth, so that their losses can be compared. Each runs in a process of its own, in turns; the first step of
each is for warming up and not timed, medians are printed. The machine may have other work: CPU seconds are the steadier
number, and OMP_WAIT_POLICY=passive keeps threads that wait from holding a core.

Growth is the peak beyond what the process held when networks, optimizer (still empty) and crops were there; it includes
gradients and AdamW's two averages, which no step can do without. Memory is read from /proc, so this runs on Linux. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.multicrop import MultiCropWrapper
from dinotools.pretraining.networks import build_networks, build_state
from dinotools.pretraining.optimizers import parameter_groups
from dinotools.pretraining.step import train_step
from dinotools.runtime.device import prepare

METHODS = ("plain", "ours")
OPTIONS = ("arch", "patch_size", "batch_size", "out_dim", "local_crops_number", "accumulate")
LR, WEIGHT_DECAY, MOMENTUM, CLIP_GRAD = 1e-4, 0.04, 0.996, 3.0
SEED = 0


def memory(field: str) -> float:
    """VmHWM (peak) or VmRSS of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000


def explicit_attention(attention: Any, x: Tensor) -> Tensor:
    """Self-attention (B, N, dim) -> (B, N, dim) through its whole matrix (B, heads, N, N)."""
    batch, n, dim = x.shape
    heads = attention.num_heads
    q, k, v = attention.qkv(x).reshape(batch, n, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    weights = ((q @ k.transpose(-2, -1)) * (dim // heads) ** -0.5).softmax(dim=-1)
    return attention.proj((weights @ v).transpose(1, 2).reshape(batch, n, dim))


class PlainTrainer:
    """Networks, centre and optimizer of the plain step."""

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        self.student, self.teacher = build_networks(config)
        for network in (self.student, self.teacher):
            form_the_matrix(network)
        self.center = torch.zeros(1, config.out_dim)
        groups = parameter_groups(self.student)
        self.optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=WEIGHT_DECAY, foreach=False, fused=False)
        self.optimizer.param_groups[1]["weight_decay"] = 0.0

    def loss(self, student_output: Tensor, teacher_output: Tensor) -> Tensor:
        """Mean cross-entropy of all pairs of a teacher view and another student crop, pair after pair."""
        crops = len(self.config.crop_sizes)
        student = (student_output / self.config.student_temp).chunk(crops)
        teacher = ((teacher_output - self.center) / self.config.teacher_temp).softmax(dim=-1).detach().chunk(2)
        total, pairs = torch.zeros(()), 0
        for i, q in enumerate(teacher):
            for j, s in enumerate(student):
                if i != j:
                    total = total + torch.sum(-q * F.log_softmax(s, dim=-1), dim=-1).mean()
                    pairs += 1
        return total / pairs

    def step(self, crops: list[Tensor]) -> float:
        """One step; returns its loss."""
        with torch.no_grad():
            teacher_output = self.teacher(crops[:2])
        loss = self.loss(self.student(crops), teacher_output)
        self.optimizer.zero_grad()
        loss.backward()
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                norm = parameter.grad.norm(2).item()
                if norm > CLIP_GRAD:
                    parameter.grad.mul_(CLIP_GRAD / (norm + 1e-6))
        self.optimizer.step()
        with torch.no_grad():
            self.center = self.center * 0.9 + teacher_output.mean(dim=0, keepdim=True) * 0.1
            for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                old.data.mul_(MOMENTUM).add_((1 - MOMENTUM) * new.detach().data)
        return loss.item()


def form_the_matrix(network: MultiCropWrapper) -> None:
    """Makes every block of a ViT form its attention matrix."""
    backbone: Any = network.backbone
    for block in backbone.blocks:
        block.attn.forward = types.MethodType(explicit_attention, block.attn)
    backbone.blocks[-1].cls = backbone.blocks[-1].forward  # of all tokens, where ours asks for [CLS] alone


def our_step(config: PretrainConfig) -> Callable[[list[Tensor]], float]:
    """The step of ``dinotools pretrain``; returns its loss."""
    state = build_state(config, prepare("cpu", "fp32", workers=0, seed=SEED))

    def step(crops: list[Tensor]) -> float:
        outcome = train_step(
            state,
            crops,
            epoch=0,
            lr=LR,
            weight_decay=WEIGHT_DECAY,
            momentum=MOMENTUM,
            clip_grad=CLIP_GRAD,
            accumulate=config.accumulate,
        )
        return outcome["loss"].item()

    return step


def measure(method: str, options: argparse.Namespace) -> dict[str, float]:
    """One method, in this process."""
    chosen = {name: getattr(options, name) for name in OPTIONS}
    config = PretrainConfig(data="random", out=Path("nowhere"), drop_path_rate=0.0, **chosen)
    torch.manual_seed(SEED)
    step = PlainTrainer(config).step if method == "plain" else our_step(config)
    random = torch.Generator().manual_seed(1)
    crops = [torch.randn(config.batch_size, 3, side, side, generator=random) for side in config.crop_sizes]
    before = memory("VmRSS")
    step(crops)
    started, cpu = time.perf_counter(), time.process_time()
    losses = [step(crops) for _ in range(options.steps)]
    return {
        "seconds": (time.perf_counter() - started) / options.steps,
        "cpu_seconds": (time.process_time() - cpu) / options.steps,
        "before_mb": before,
        "growth_mb": memory("VmHWM") - before,
        "peak_mb": memory("VmHWM"),
        "loss": losses[-1],
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Both methods in turns, each time in a new process."""
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    arguments = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in (*OPTIONS, "steps", "threads")]
    for i in range(options.repeats):
        for method, found in runs.items():
            command = [sys.executable, __file__, "--method", method, *arguments]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found.append(json.loads(printed.splitlines()[-1]))
            print(f"round {i + 1}, {method}: {found[-1]}", flush=True)
    medians = {
        method: {field: round(statistics.median(run[field] for run in found), 4) for field in found[0]}
        for method, found in runs.items()
    }
    plain, ours = medians["plain"], medians["ours"]
    return {
        **medians,
        "times_faster": round(plain["seconds"] / ours["seconds"], 2),
        "times_less_cpu": round(plain["cpu_seconds"] / ours["cpu_seconds"], 2),
        "growth_ratio": round(ours["growth_mb"] / plain["growth_mb"], 2),
        "peak_ratio": round(ours["peak_mb"] / plain["peak_mb"], 2),
        "loss_difference": abs(plain["loss"] - ours["loss"]),
    }


def main() -> None:
    """Prints progress, then the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_tiny", help="a ViT")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out-dim", type=int, default=65536)
    parser.add_argument("--local-crops-number", type=int, default=8)
    parser.add_argument("--accumulate", type=int, default=1, help="parts that our step cuts the batch into")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.method:
        print(json.dumps(measure(options.method, options)))
        return
    found = compare(options)
    sizes = {name: getattr(options, name) for name in (*OPTIONS, "steps", "repeats", "threads")}
    print(json.dumps({**sizes, "cores": os.cpu_count(), **found}))


if __name__ == "__main__":
    main()
