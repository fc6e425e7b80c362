"""Video: an MP4 of frames, written one at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from dinotools.data.video import FINEST
from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.run_directory import TEMPORARY

ENCODER = {"preset": "veryfast", "crf": "18"}  # hardly told from the original; a short look-ahead spares memory
BT709 = 1  # number of that colour space, its primaries and its transfer curve in a stream's header
LIMITED_RANGE = 1


class VideoWriter:
    """Writes frames as an H.264 MP4 without sound, whole or not at all; a context manager.

    H.264 for every player needs even sides: the last row or column of an odd one is written twice, with a warning.

    Args:
        path: the file, which ends in ``.mp4``; its folder is made if need be.
        fps: frames a second.
        width: of the frames.
        height: likewise.

    Raises:
        DinotoolsError: another ending, or it cannot be written.
    """

    def __init__(self, path: str | Path, fps: Fraction | float, width: int, height: int) -> None:
        self.path, self.width, self.height = Path(path), width, height
        self.fps = Fraction(fps).limit_denominator(FINEST)
        if self.path.suffix.lower() != ".mp4":
            raise DinotoolsError(f"a video is written as .mp4, not as {self.path.suffix or 'that'}", path, "Rename it.")
        if self.path.is_dir():
            raise DinotoolsError("is a folder", path, "Choose another name.")
        self.n_frames = 0
        self._temporary = self.path.with_name(f".{self.path.name}{TEMPORARY}")

    def __enter__(self) -> VideoWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()  # the encoder would not open it before the first frame
            self._container = av.open(f"file:{self._temporary}", "w", format="mp4", options={"movflags": "faststart"})
            self._stream = self._container.add_stream("libx264", rate=self.fps, options=ENCODER)
        except (av.error.FFmpegError, OSError) as error:
            with suppress(OSError):
                self._temporary.unlink()
            raise DinotoolsError(f"cannot be written ({error.strerror})", self.path, "Choose another place.") from error
        self._stream.width, self._stream.height = self.width + self.width % 2, self.height + self.height % 2
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context  # players guess the colours of a file that does not state them
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED_RANGE
        if (self.width, self.height) != (self._stream.width, self._stream.height):
            warn(f"{self.path}: H.264 needs even sides; it is {self._stream.width} x {self._stream.height}")
        return self

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame, (height, width, 3) uint8 RGB.

        Raises:
            RunFailed: the disk is full, or the like.
        """
        if frame.shape != (self.height, self.width, 3):
            raise ValueError(f"a frame of {frame.shape} in a video of {(self.height, self.width, 3)}")
        even = np.pad(frame, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        picture.pts, picture.time_base = self.n_frames, 1 / self.fps
        self._encode(picture)
        self.n_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                with suppress(av.error.FFmpegError, OSError):  # what went wrong before is the news
                    self._container.close()
                return
            if not self.n_frames:
                raise RunFailed("no frame was written", self.path)
            self._encode(None)
            self._container.close()
            with self._temporary.open("r+b") as file:
                os.fsync(file.fileno())
            self._temporary.replace(self.path)
        except (av.error.FFmpegError, OSError) as failure:
            raise self._failed(failure) from failure
        finally:
            self._temporary.unlink(missing_ok=True)

    def _encode(self, picture: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except (av.error.FFmpegError, OSError) as failure:
            raise self._failed(failure) from failure

    def _failed(self, failure: av.error.FFmpegError | OSError) -> RunFailed:
        return RunFailed(f"could not be written ({failure.strerror})", self.path, "Is the disk full?")
