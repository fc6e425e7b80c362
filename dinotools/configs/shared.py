"""Groups of options that several commands have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """Where and how a command computes."""

    device: Annotated[str, Opt("auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps", "Runtime")] = "auto"
    precision: Annotated[Precision, Opt("compute type of the network; auto is fp32", "Runtime")] = "auto"
    workers: Annotated[int, Opt("processes that read images; -1 chooses, 0 reads in the main process", "Runtime")] = -1
    seed: Annotated[int, Opt("seed of every random number", "Runtime")] = 0


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Which frozen network is measured."""

    ckpt: Annotated[
        str | None,
        Opt(
            "a run's directory, a checkpoint file, a name of `models list`, timm:NAME, random, or pixels",
            "Backbone",
        ),
    ] = None
    key: Annotated[Literal["teacher", "student"], Opt("which network of a training checkpoint to load", "Backbone")] = (
        "teacher"
    )
    arch: Annotated[str | None, Opt("architecture, where the file does not tell; also timm:NAME", "Backbone")] = None
    patch_size: Annotated[int | None, Opt("patch side in pixels, where the file does not tell", "Backbone")] = None


@dataclass(frozen=True, kw_only=True)
class LabelledDataOptions:
    """A labelled data set in two splits, and how its images reach the network."""

    data: Annotated[
        str | None, Opt("folder with train/ and val/ or test/, or a data set's name (cifar10, digits)", "Data")
    ] = None
    train: Annotated[str | None, Opt("folder of training images, in place of --data", "Data")] = None
    val: Annotated[str | None, Opt("folder of test images, in place of --data", "Data")] = None
    download: Annotated[bool, Opt("fetch a torchvision data set that is not there yet", "Data")] = False
    resize_size: Annotated[int, Opt("shorter side after resizing, in pixels (bicubic)", "Data")] = 256
    crop_size: Annotated[int, Opt("side of the centre crop, in pixels", "Data")] = 224
    batch_size: Annotated[int, Opt("images per forward pass", "Data")] = 128
    max_bad: Annotated[float, Opt("share of unreadable images to skip before giving up", "Data")] = 0.01


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(BackboneOptions, LabelledDataOptions):
    """Frozen features of a labelled data set: extracted now, or read from files."""

    features: Annotated[
        Path | None, Opt("folder written by `dinotools features`, in place of --ckpt and --data", "Features")
    ] = None
    cache: Annotated[
        Path | None, Opt("folder in which features are kept, and found again by later commands", "Features")
    ] = None


@dataclass(frozen=True, kw_only=True)
class DescriptorOptions(BackboneOptions):
    """Vectors of whole images, for searching."""

    batch_size: Annotated[int, Opt("images of one shape per forward pass", "Features")] = 32
    max_bad: Annotated[
        float, Opt("share of unreadable images to skip, where no ground truth counts on them", "Features")
    ] = 0.01
    cache: Annotated[
        Path | None, Opt("folder in which vectors are kept, and found again by later commands", "Features")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Which published number a measurement stands beside."""

    paper_row: Annotated[
        str | None,
        Opt(
            "row of the paper's tables that `dinotools report` sets this beside, such as table2/vits16; default: that "
            "of the released network",
            "Output",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ResultOptions(ComparisonOptions):
    """Where a measurement is written."""

    out: Annotated[Path | None, Opt("directory for results.json and config.toml", "Output")] = None
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
