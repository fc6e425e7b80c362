"""Images of one channel, or of any number of them: TIFF, NPY and PNG files that keep their range of values.

Bytes stay bytes. All other numbers (16 bits, floating point) become float32 and are normalised by a mean and a
deviation in their own units, as ``dinotools data stats`` prints them.
"""

from __future__ import annotations

import warnings
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dinotools.data.images import ImageSource, Reader, UnreadableImage
from dinotools.runtime.errors import DinotoolsError

EXTENSIONS = (".npy", ".png", ".tif", ".tiff")
ORDINARY = {  # Pillow's modes that are the file's own numbers
    "PNG": ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B"),
    "TIFF": ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "F"),
}
TIFF_BEGINNINGS = (b"II", b"MM")
PROBED = 3  # images that are looked at when a data set is opened


def channel_reader(in_chans: int) -> Reader:
    """Reads images of so many channels; picklable, for reader processes."""
    return Reader(EXTENSIONS, partial(decode_channels, in_chans=in_chans))


class ChannelImages:
    """Images of any number of channels and one kind of values; an ``ImageSource`` of tensors (C, H, W).

    All are bytes, or all are float32, as the first images are: one mean and one deviation normalise them.

    Args:
        source: images of a ``channel_reader``.
        in_chans: their channels.

    Raises:
        DinotoolsError: none of the first images can be read, or not as images of so many channels.
    """

    def __init__(self, source: ImageSource, in_chans: int) -> None:
        self.labels, self.classes = source.labels, source.classes
        self._source = source
        self.dtype = self._probed(in_chans)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._source)

    def name(self, index: int) -> str:
        """As in the source."""
        return self._source.name(index)

    def load(self, index: int) -> Tensor:
        """(C, H, W) of the source's dtype, uint8 or float32. Raises UnreadableImage."""
        pixels = self._source.load(index)
        if pixels.dtype != self.dtype:
            kinds = {torch.uint8: "bytes", torch.float32: "larger numbers"}
            what = f"its values are {kinds[pixels.dtype]}, those of the first images {kinds[self.dtype]}"
            raise UnreadableImage(self.name(index), what)
        return pixels

    def _probed(self, in_chans: int) -> torch.dtype:
        first: UnreadableImage | None = None
        for index in range(min(PROBED, len(self))):
            try:
                return self._source.load(index).dtype
            except UnreadableImage as error:
                first = first or error
        assert first is not None
        remedy = f"With --in-chans {in_chans}, images are TIFF, NPY or PNG files of as many channels."
        raise DinotoolsError(first.reason, first.path, remedy)


def decode_channels(path: str, data: bytes | None, *, in_chans: int) -> Tensor:
    """Reads a TIFF, NPY or PNG file.

    Args:
        path: the file, or another name of it in messages where its content is given.
        data: its content.
        in_chans: channels that it must have: (H, W) of one channel, (C, H, W) or (H, W, C).

    Returns:
        (in_chans, H, W); uint8 as stored, any other numbers as float32.

    Raises:
        UnreadableImage: no such file, damaged, of other channels, not finite, or no numbers at all.
    """
    try:
        content = Path(path).read_bytes() if data is None else data
        if not content:
            raise ValueError("the file is empty")
        return _numbers(_array(content, in_chans))
    except Exception as error:  # on damaged files parsers raise almost anything
        reason = error.strerror if isinstance(error, OSError) else None
        raise UnreadableImage(path, reason or str(error) or type(error).__name__) from error


def _array(content: bytes, in_chans: int) -> np.ndarray:
    """What a file holds, channels first: (in_chans, H, W)."""
    if content.startswith(b"\x93NUMPY"):
        return _channels_first(np.load(BytesIO(content), allow_pickle=False), in_chans)
    try:
        array = _ordinary(content)
    except Exception as error:  # Pillow does not know every TIFF, nor does it always say so in one way
        if content[:2] not in TIFF_BEGINNINGS:
            unknown = isinstance(error, UnidentifiedImageError)
            raise ValueError("not an image of a known format" if unknown else str(error)) from error
        array = None
    if array is None:
        return _channels_first(_tiff(content), in_chans)
    if len(array) != in_chans:
        shape = " x ".join(map(str, array.shape))
        raise ValueError(f"{shape} values are not {_channels(in_chans)} of an image")
    return array


def _ordinary(content: bytes) -> np.ndarray | None:
    """(C, H, W) as Pillow reads it; None for a TIFF of several pages or of a mode that would be converted."""
    with Image.open(BytesIO(content), formats=("PNG", "TIFF")) as image:
        if getattr(image, "n_frames", 1) == 1 and image.mode in ORDINARY[image.format or ""]:
            array = np.asarray(image)
            return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
        if image.format == "PNG":
            raise ValueError(f"a PNG of mode {image.mode}, which has no plain channels")
    return None


def _tiff(content: bytes) -> np.ndarray:
    """What Pillow does not read: more than four channels, several pages, large or unusual numbers."""
    try:
        import tifffile
    except ImportError as error:
        raise ValueError("this TIFF needs tifffile: pip install 'dinotools[tiff]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tifffile.imread(BytesIO(content))


def _channels_first(array: np.ndarray, in_chans: int) -> np.ndarray:
    """(H, W), (C, H, W) or (H, W, C) -> (in_chans, H, W)."""
    shape = " x ".join(map(str, array.shape))
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"an array of {shape or 'one number'} is no image")
    if array.ndim == 2 and in_chans == 1:
        return array[None]
    first, last = array.shape[0] == in_chans, array.shape[-1] == in_chans
    if array.ndim == 2 or not (first or last):
        raise ValueError(f"{shape} values are not {_channels(in_chans)} of an image")
    if first and last:
        raise ValueError(f"{shape} values: the first and the last axis could both be the channels")
    return array if first else np.moveaxis(array, 2, 0)


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _numbers(array: np.ndarray) -> Tensor:
    """A contiguous copy as uint8 or float32, of finite values."""
    if array.dtype == np.uint8:
        return torch.from_numpy(np.array(array, order="C"))
    if array.dtype.kind not in "biuf":
        raise ValueError(f"values of type {array.dtype} are no pixels")
    with np.errstate(over="ignore"):
        pixels = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    if not pixels.isfinite().all():
        raise ValueError("its values are not all finite")
    return pixels
