"""Options of the commands about public data sets, one manifest each in data_manifests/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dinotools.configs.option import Opt

NAME = Opt("data set, as `dinotools data list` calls it", positional=True)


@dataclass(frozen=True, kw_only=True)
class DataListConfig:
    """List the data sets of the paper: size, terms, whether they can be fetched, and the recipes that use them."""


@dataclass(frozen=True, kw_only=True)
class DataInfoConfig:
    """Say where a data set comes from, under which terms, what it holds, and what is known to go wrong."""

    name: Annotated[str, NAME]


@dataclass(frozen=True, kw_only=True)
class DataFetchConfig:
    """Download a data set, check its sums and unpack it; repeated, it goes on where it stopped.

    For example: dinotools data fetch davis2017 --to data/davis2017
    """

    name: Annotated[str, NAME]
    to: Annotated[Path, Opt("folder it goes into", "Output")]
    files: Annotated[tuple[str, ...], Opt("only these files of the manifest; default: all", "Data")] = ()
    keep: Annotated[bool, Opt("keep the archives after unpacking", "Output")] = False


@dataclass(frozen=True, kw_only=True)
class DataCheckConfig:
    """Say precisely what is missing, superfluous or unreadable in a data set, as the commands read it.

    For example: dinotools data check voc2012 data/voc2012
    """

    name: Annotated[str, NAME]
    folder: Annotated[Path, Opt("where it is", positional=True)]
    decode: Annotated[bool, Opt("decode every image, in place of looking at names and sizes", "Data")] = False
    workers: Annotated[int, Opt("processes that decode images; -1 chooses", "Runtime")] = -1


@dataclass(frozen=True, kw_only=True)
class DataPrepareConfig:
    """Bring a data set, as its publishers pack it, into the layout that the commands read.

    Archives that were downloaded by hand into the folder are unpacked as well. Repeated, it does what is left to do.

    For example: dinotools data prepare imagenet data/imagenet
    """

    name: Annotated[str, NAME]
    folder: Annotated[Path, Opt("where it is", positional=True)]
    seed: Annotated[int, Opt("seed of the draw, where a set is a random subset", "Data")] = 0


@dataclass(frozen=True, kw_only=True)
class DataSampleConfig:
    """Make a miniature of a data set out of images that come with dinotools' libraries: same layout, no network.

    It is for trying a command, never for measuring.

    For example: dinotools data sample davis2017 --to data/davis2017
    """

    name: Annotated[str, NAME]
    to: Annotated[Path, Opt("folder it goes into", "Output")]
    seed: Annotated[int, Opt("seed of what is drawn", "Data")] = 0
