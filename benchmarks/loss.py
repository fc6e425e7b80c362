"""The multi-crop cross-entropy against the plain double loop over its pairs, in time and memory.

    python benchmarks/loss.py [--batch 32 --crops 10 --out-dim 65536 --threads 2 --repeats 5]

The plain method is that of the official ``DINOLoss``: the student's logits over the temperature, a softmax of the
teacher, then a log-softmax and a product for each pair, and autograd. Both take the logits of random heads, unit rows
against unit prototypes, in float32. They run in turns, each time in a process of its own that makes the logits, calls
the loss and its gradient once and notes by how much the peak memory grew, then calls them again and notes the time.
Medians are printed. Where the machine has other work, OMP_WAIT_POLICY=passive keeps threads that wait from holding a
core, and the CPU time says more than the clock. Memory is read from /proc, so this runs on Linux. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.pretraining.loss import DINOLoss

STUDENT_TEMP, TEACHER_TEMP = 0.1, 0.04
BOTTLENECK = 256
CALLS = 5  # that are timed in each process, after the first


def outputs(rows: int, out_dim: int, seed: int) -> Tensor:
    """Logits of a random head, (rows, out_dim)."""
    random = torch.Generator().manual_seed(seed)
    features, prototypes = (torch.randn(n, BOTTLENECK, generator=random) for n in (rows, out_dim))
    return F.normalize(features, dim=1) @ F.normalize(prototypes, dim=1).T


def plain_loss(student: Tensor, teacher: Tensor, center: Tensor, n_crops: int) -> Tensor:
    """One cross-entropy after another."""
    crops = (student / STUDENT_TEMP).chunk(n_crops)
    views = ((teacher - center) / TEACHER_TEMP).softmax(dim=-1).chunk(2)
    total, pairs = torch.zeros(()), 0
    for i, q in enumerate(views):
        for v, crop in enumerate(crops):
            if v != i:
                total = total + (-q * crop.log_softmax(dim=-1)).sum(dim=-1).mean()
                pairs += 1
    return total / pairs


def memory(field: str) -> float:
    """VmHWM (peak) or VmRSS of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000


def forget_the_peak() -> None:
    """Lets VmHWM start anew from what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measure(method: str, batch: int, n_crops: int, out_dim: int) -> dict[str, float]:
    """One method in this process."""
    student = outputs(n_crops * batch, out_dim, seed=1).requires_grad_()
    teacher = outputs(2 * batch, out_dim, seed=2)
    loss_fn = DINOLoss(out_dim, n_crops, TEACHER_TEMP, TEACHER_TEMP, 0, epochs=1, student_temp=STUDENT_TEMP)

    def call() -> Tensor:
        student.grad = None
        if method == "plain":
            loss = plain_loss(student, teacher, loss_fn.center, n_crops)
        else:
            loss = loss_fn(student, teacher, 0, update_center=False)
        loss.backward()
        return loss.detach()

    forget_the_peak()
    before = memory("VmRSS")
    loss = call()
    growth = memory("VmHWM") - before
    seconds, cpu_seconds = [], []
    for _ in range(CALLS):
        started, cpu = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu)
    assert student.grad is not None
    return {
        "growth_mb": growth,
        "seconds": statistics.median(seconds),
        "least_seconds": min(seconds),
        "cpu_seconds": statistics.median(cpu_seconds),
        "loss": float(loss),
        "gradient_norm": float(student.grad.norm()),
    }


def main() -> None:
    """Prints progress, then the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="images")
    parser.add_argument("--crops", type=int, default=10, help="crops of each, the two global ones among them")
    parser.add_argument("--out-dim", type=int, default=65536)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--method", choices=("plain", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.method:
        print(json.dumps(measure(options.method, options.batch, options.crops, options.out_dim)))
        return
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for i in range(options.repeats):
        for method, found in runs.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--method", method]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found.append(json.loads(answer.splitlines()[-1]))
            print(f"round {i + 1}, {method}: {found[-1]}", flush=True)
    medians = {
        method: {field: round(statistics.median(run[field] for run in found), 6) for field in found[0]}
        for method, found in runs.items()
    }
    plain, ours = medians["plain"], medians["ours"]
    print(
        json.dumps(
            {
                **{name: getattr(options, name) for name in ("batch", "crops", "out_dim", "threads")},
                "cores": os.cpu_count(),
                **medians,
                "times_faster": round(plain["seconds"] / ours["seconds"], 2),
                "times_faster_at_best": round(plain["least_seconds"] / ours["least_seconds"], 2),
                "times_less_cpu": round(plain["cpu_seconds"] / ours["cpu_seconds"], 2),
                "growth_ratio": round(ours["growth_mb"] / plain["growth_mb"], 3),
            }
        )
    )


if __name__ == "__main__":
    main()
