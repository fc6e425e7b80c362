"""How many images a second a network takes in: forward passes in eval mode on random images that lie on the device.

A warm-up, then passes of ``--batch-size`` images until ``--seconds`` have gone by, three at least; the median counts,
so that a pass during which the machine did something else does not. Reading and resizing images are not part of it.
Paper: Table 1, on a V100 with 128 images a pass. Images/s: ResNet-50 1237, ViT-S/16 1007, ViT-S/8 180, ViT-B/16 312,
ViT-B/8 63.

    dinotools models throughput --ckpt dino_vits16 --batch-size 128
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

from dinotools.configs import files
from dinotools.configs.models import ThroughputConfig
from dinotools.models.checkpoints import PIXELS, RANDOM, LoadedBackbone, load_backbone
from dinotools.reporting import paper
from dinotools.runtime import device, run_directory
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result

LEAST = 3  # passes
WARM_UP = 2  # passes: the first ones allocate memory and choose kernels


def run(config: ThroughputConfig) -> Result:
    """Loads the network and times it.

    Raises:
        DinotoolsError: no network is named, it cannot be loaded or takes no such images; an option has no meaning;
            --out cannot be written.
    """
    check_config(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    backbone = open_backbone(config)
    if config.out is not None:
        inputs = (config.ckpt,)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    network = backbone.model.to(runtime.device)
    images = torch.rand(config.batch_size, 3, config.size, config.size, device=runtime.device)
    seconds = time_passes(network, images, runtime, config.seconds)
    images_per_s = config.batch_size / statistics.median(seconds)
    counts = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "embed_dim": backbone.embed_dim,
        "tokens": count_tokens(backbone, config.size),
    }
    timed = {"images_per_s": images_per_s, "passes": len(seconds), "seconds_per_pass": statistics.median(seconds)}
    spread = {"fastest_pass": min(seconds), "slowest_pass": max(seconds)}
    details = runtime.describe() | {"threads": torch.get_num_threads() if runtime.device.type == "cpu" else None}
    shown = {"parameters": counts["parameters"], "width": counts["embed_dim"], "tokens": counts["tokens"]}
    return Result(
        title=f"throughput · {backbone.source} · {config.size} pixels · {config.batch_size} images a pass",
        rows=[shown | {"images/s": images_per_s} | papers_columns(backbone.source, config.size)],
        metrics=counts | timed | spread,
        details={"checkpoint": backbone.describe(), **details},
        notes=tuple(remarks(runtime, seconds)),
    )


def check_config(config: ThroughputConfig) -> None:
    """Refuses numbers that mean nothing.

    Raises:
        DinotoolsError: names the option.
    """
    for name in ("batch_size", "size"):
        require(getattr(config, name) > 0, f"is {getattr(config, name)}", name, "It must be above 0.")
    require(config.seconds >= 0, f"is {config.seconds:g}", "seconds", "It must not be below 0.")


def open_backbone(config: ThroughputConfig) -> LoadedBackbone:
    """The network; a random one is laid out for the size of the images.

    Raises:
        DinotoolsError: none is named, it cannot be loaded, or an image has no room for a patch.
    """
    if config.ckpt is None or config.ckpt == PIXELS:
        raise DinotoolsError("no network to measure", "--ckpt", "Name one of `dinotools models list`, or a file.")
    backbone = load_backbone(
        config.ckpt,
        key=config.key,
        arch=config.arch,
        patch_size=config.patch_size,
        img_size=config.size if config.ckpt == RANDOM else None,
        seed=config.seed,
    )
    least = backbone.patch_size or 1
    require(config.size >= least, f"{config.size} pixels are less than a patch of {least}", "size", "Use more.")
    return backbone


@torch.no_grad()
def time_passes(network: nn.Module, images: Tensor, runtime: Runtime, least_s: float) -> list[float]:
    """Seconds of each of several forward passes, after a warm-up.

    Args:
        network: on the device of the images.
        images: (B, 3, H, W) float32.
        runtime: where and in which precision it computes.
        least_s: passes are made until so many seconds have gone by, and three at least.
    """
    found: list[float] = []
    network.eval()
    with runtime.autocast():
        for _ in range(WARM_UP):
            network(images)
        wait_for(runtime.device)
        while len(found) < LEAST or sum(found) < least_s:
            began = time.perf_counter()
            network(images)
            wait_for(runtime.device)
            found.append(time.perf_counter() - began)
    return found


def wait_for(where: torch.device) -> None:
    """Returns when the device has computed everything it was asked for; a CPU always has."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    elif where.type == "mps":
        torch.mps.synchronize()


def count_tokens(backbone: LoadedBackbone, size: int) -> int | None:
    """Tokens of an image of that side: its whole patches, [CLS] and registers; None for a convolutional network."""
    if backbone.patch_size is None:
        return None
    return (size // backbone.patch_size) ** 2 + 1 + getattr(backbone.model, "registers", 0)


def papers_columns(source: str, size: int) -> dict[str, float]:
    """The images/s of Table 1, where the network and the size are the paper's; it has not those of a random network."""
    published = paper.tables()["table1"].published(source, "im/s") if size == 224 else None
    return {} if published is None else {"paper images/s (V100)": published}


def remarks(runtime: Runtime, seconds: list[float]) -> list[str]:
    """Where it was measured, and what may not be concluded."""
    said = runtime.describe()
    notes = [f"Measured on {said['device_name']} in {said['precision']}: the median of {len(seconds)} passes."]
    if runtime.device.type != "cuda":
        notes.append("The paper's images/s are those of a V100: compare them with a GPU's only.")
    if max(seconds) > 2 * min(seconds):
        notes.append("The slowest pass took more than twice the fastest: something else was using the machine.")
    return notes
