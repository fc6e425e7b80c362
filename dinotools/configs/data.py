"""Options of `dinotools data stats`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dinotools.configs.option import Opt


@dataclass(frozen=True, kw_only=True)
class DataStatsConfig:
    """Mean and deviation of every channel of a set of images, and the images' sizes.

    They are in the units of `dinotools pretrain --channel-mean --channel-std`: 0 to 1 where channels have 8 bits, as
    stored otherwise.

    For example: dinotools data stats --data microscopy/ --in-chans 5
    """

    data: Annotated[
        str, Opt("folder, list file, tar shards or a data set's name; several are joined by commas", "Data")
    ]
    in_chans: Annotated[
        int, Opt("channels of the images; other than 3, they are TIFF, NPY or PNG and keep their range", "Data")
    ] = 3
    images: Annotated[int | None, Opt("look at this many images only, drawn at random; default: all", "Data")] = None
    download: Annotated[bool, Opt("fetch a torchvision data set that is not there yet", "Data")] = False
    workers: Annotated[int, Opt("processes that read images; -1 chooses, 0 reads in the main process", "Runtime")] = -1
    seed: Annotated[int, Opt("seed of the draw of --images", "Runtime")] = 0
