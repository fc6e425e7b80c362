"""Options of the images that a network is trained on without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dinotools.configs.option import Opt


@dataclass(frozen=True, kw_only=True)
class TrainingDataOptions:
    """Which images there are, how often each comes, and how their channels are read."""

    data: Annotated[
        str,
        Opt(
            "folder (labels are not used), list file, tar shards such as 'shards/{000..146}.tar', or a data set's name "
            "(cifar10, digits); several are joined by commas",
            "Data",
        ),
    ]
    data_weights: Annotated[
        tuple[float, ...], Opt("share of an epoch that each of several --data gives, such as 3,1", "Data")
    ] = ()
    epoch_images: Annotated[int | None, Opt("images that count as an epoch; default: as many as there are", "Data")] = (
        None
    )
    in_chans: Annotated[
        int, Opt("channels of the images; other than 3, they are TIFF or NPY and keep their range", "Data")
    ] = 3
    channel_mean: Annotated[
        tuple[float, ...], Opt("mean of each channel, as `dinotools data stats` prints it", "Data")
    ] = ()
    channel_std: Annotated[tuple[float, ...], Opt("deviation of each channel", "Data")] = ()
    download: Annotated[bool, Opt("fetch a torchvision data set that is not there yet", "Data")] = False
    max_bad: Annotated[float, Opt("share of unreadable images to skip before giving up", "Data")] = 0.01
