"""Patches of a video as colours: what looks alike to the network looks alike on the screen, from frame to frame.

The patch tokens of the last block, after the final LayerNorm; their first three principal components are red, green
and blue, each stretched from its 1st to its 99th percentile. Components and percentiles are learned once, on patches
from all over the video, with signs that are fixed: colours mean the same in every frame and do not flicker.
The idea is that of DINOv2 (Oquab et al. 2023, Figure 1), without its mask.

    dinotools pca-video clip.mp4 --ckpt dino_vits8 --beside --out pca
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dinotools.configs import files
from dinotools.configs.video import PcaVideoConfig
from dinotools.data.patch_grid import PatchGrid
from dinotools.data.transforms import normalize
from dinotools.data.video import Video, open_video
from dinotools.data.video_writing import VideoWriter
from dinotools.features.whitening import learn
from dinotools.models.checkpoints import LoadedBackbone, load_backbone
from dinotools.models.vit import VisionTransformer
from dinotools.runtime import device, run_directory
from dinotools.runtime.console import track
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, RunFailed, require
from dinotools.runtime.results import Result

FILM = "pca.mp4"
SAMPLE_FRAMES = 64  # that colours are learned on, at most
SAMPLE_PATCHES = 2**16  # likewise, of all these frames together
RANGE = (0.01, 0.99)  # quantiles of a component that are its darkest and its brightest


@dataclass(frozen=True)
class PatchNetwork:
    """A ViT that describes the patches of a frame.

    Args:
        backbone: as it was loaded.
        grid: how a frame becomes patches.
        runtime: where to compute.
    """

    backbone: LoadedBackbone
    grid: PatchGrid
    runtime: Runtime

    @torch.inference_mode()
    def tokens(self, frame: np.ndarray) -> Tensor:
        """Tokens (rows, columns, D) float32, on the CPU, of the patches of a frame (H, W, 3) uint8.

        Raises:
            RunFailed: they are not finite.
        """
        pixels = self.grid(Image.fromarray(frame))[None].to(self.runtime.device)
        images = normalize(pixels, self.backbone.mean, self.backbone.std)
        with self.runtime.autocast():
            found = cast(VisionTransformer, self.backbone.model).get_intermediate_layers(images)[-1][0, 1:]
        if not found.isfinite().all():
            raise RunFailed("the network's features of a frame are not finite", "--precision", "Use fp32.")
        return found.float().cpu().unflatten(0, self.grid.shape(*frame.shape[:2]))


@dataclass(frozen=True)
class Colours:
    """How tokens of D values become colours.

    Args:
        mean: of the tokens (D,).
        axes: principal components (3, D).
        low: what red, green and blue 0 stand for (3,).
        high: likewise 1.
        explained: share of the variance along each axis (3,).
    """

    mean: Tensor
    axes: Tensor
    low: Tensor
    high: Tensor
    explained: Tensor

    def of(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., 3) float32 from 0 to 1."""
        stretched = ((tokens - self.mean) @ self.axes.T - self.low) / (self.high - self.low)
        return stretched.clamp(0, 1)


def run(config: PcaVideoConfig) -> Result:
    """Learns the colours in a first pass over the video, and writes the film in a second.

    Raises:
        DinotoolsError: the video, the checkpoint or an option cannot be used, or a frame cannot be decoded.
        RunFailed: the network's features are not finite, or the disk is full.
    """
    require(config.imsize is None or config.imsize > 0, f"is {config.imsize}", "imsize", "It must be above 0.")
    video = open_video(config.video)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    network = open_network(config, runtime)
    run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=(config.ckpt, config.video))
    colours = learn_colours(video, network, config.skip_bad_frames, config.seed)
    with VideoWriter(config.out / FILM, video.fps, video.width * (1 + config.beside), video.height) as film:
        for frame, coloured in coloured_frames(video, network, colours, config.skip_bad_frames):
            film.write(np.hstack([frame, coloured]) if config.beside else coloured)
    rows, columns = network.grid.shape(video.height, video.width)
    silent = (f"Without the sound of {video.path.name}.",) * video.has_audio
    return Result(
        title=f"patch tokens · {network.backbone.source} · {video.path.name}",
        rows=[
            {
                "frames": film.n_frames,
                "patches": f"{columns} x {rows}",
                "variance shown %": 100 * float(colours.explained.sum()),
            }
        ],
        metrics={
            "frames": film.n_frames,
            "patches": [rows, columns],
            "explained_variance": colours.explained.tolist(),
        },
        details={
            "checkpoint": network.backbone.describe(),
            "data": {"size": [video.height, video.width], "fps": float(video.fps)},
            **runtime.describe(),
        },
        notes=(*silent, f"See {config.out / FILM}."),
    )


def open_network(config: PcaVideoConfig, runtime: Runtime) -> PatchNetwork:
    """The network that the options name.

    Raises:
        DinotoolsError: none is named, it cannot be loaded, or has no patch tokens.
    """
    if config.ckpt is None:
        raise DinotoolsError("no network whose patches to show", "--ckpt", "Give a checkpoint, or a released name.")
    backbone = load_backbone(
        config.ckpt, key=config.key, arch=config.arch, patch_size=config.patch_size, seed=config.seed
    )
    if backbone.patch_size is None or not hasattr(backbone.model, "get_intermediate_layers"):
        raise DinotoolsError(f"{backbone.arch} has no patch tokens", "--ckpt", "Take a ViT.")
    backbone.model.to(runtime.device)
    return PatchNetwork(backbone, PatchGrid(backbone.patch_size, longer_side=config.imsize), runtime)


def learn_colours(video: Video, network: PatchNetwork, skip_bad: bool, seed: int) -> Colours:
    """Learns the colours on patches from all over the video, as many of every frame that is looked at.

    Raises:
        DinotoolsError: a frame cannot be decoded, or there are too few patches, or they are all equal.
        RunFailed: tokens are not finite.
    """
    tokens = sample(video, network, skip_bad, seed)
    try:
        basis = learn([tokens], dim=3, power=0, covariance="centred")
    except DinotoolsError as error:
        raise DinotoolsError(error.what, video.path, "Give a longer or a larger video.") from error
    components = (tokens - basis.mean) @ basis.projection.T
    low, high = components.quantile(torch.tensor(RANGE), dim=0)
    total = tokens.var(dim=0, correction=0).sum()
    explained = components.var(dim=0, correction=0) / total
    # a component without variance has one value, which becomes black
    return Colours(basis.mean, basis.projection, low, torch.where(high > low, high, low + 1), explained)


def sample(video: Video, network: PatchNetwork, skip_bad: bool, seed: int) -> Tensor:
    """Tokens (n, D) of random patches of frames that lie evenly in the video."""
    n_frames = video.n_frames or sum(1 for _ in video.frames(skip_bad))
    every = -(-n_frames // SAMPLE_FRAMES)
    patches = SAMPLE_PATCHES // -(-n_frames // every)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number, frame in enumerate(track(video.frames(skip_bad), "learning colours", total=n_frames)):
        if number % every == 0 and frame is not None:
            tokens = network.tokens(frame).flatten(0, 1)
            found.append(tokens[torch.randperm(len(tokens), generator=generator)[:patches]])
    return torch.cat(found)


def coloured_frames(
    video: Video, network: PatchNetwork, colours: Colours, skip_bad: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every frame and its colours, both (H, W, 3) uint8; a bad one repeats the one before."""
    found = None
    for frame in track(video.frames(skip_bad), video.path.name, total=video.n_frames):
        if frame is not None:
            maps = colours.of(network.tokens(frame)).permute(2, 0, 1)
            large = network.grid.enlarge(maps, *frame.shape[:2], smooth=True)
            found = frame, (255 * large).round().byte().permute(1, 2, 0).numpy()
        assert found is not None  # the first frame is good
        yield found
