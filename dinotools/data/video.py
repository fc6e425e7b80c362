"""Video: its frames from a file or from a folder of images.

Only one frame is held at a time, so memory does not grow with the length of a video.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from dinotools.data.images import EXTENSIONS, UnreadableImage, decode
from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError

DEFAULT_FPS = Fraction(24)  # that of DAVIS, where a source states none
FINEST = 100_000  # denominator of a frame rate, far within what an MP4 can state
STEADY = 0.01  # frame rates that differ by less are one
REPAIR = "Repair it, or add --skip-bad-frames."


@dataclass(frozen=True)
class Video:
    """A video that can be read, from its beginning as often as need be.

    Args:
        path: a file, or a folder of images.
        width: of a frame as a person sees it, after the rotation that the file states.
        height: likewise.
        fps: frames a second; their mean where the times between frames vary.
        n_frames: as many as the file states, or None.
        has_audio: whether sound goes with it, which nothing here reads.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    n_frames: int | None
    has_audio: bool

    def frames(self, skip_bad: bool = False) -> Iterator[np.ndarray | None]:
        """Every frame once and in order, however long it is shown.

        A frame is bad that the decoder reports as damaged; it does not notice every flipped bit. Frames after it that
        build on it may still show the damage.

        Args:
            skip_bad: yield None for a bad frame, with a warning; the first must be good.

        Yields:
            (height, width, 3) uint8 RGB, upright.

        Raises:
            DinotoolsError: a bad frame, or with skip_bad a bad first frame; the file ends early; a frame has another
                size.
        """
        pictures = _of_folder(self.path) if self.path.is_dir() else _of_file(self.path)
        for number, picture in enumerate(pictures):
            if isinstance(picture, str):
                if not skip_bad:
                    raise DinotoolsError(f"frame {number} {picture}", self.path, REPAIR)
                if number == 0:
                    what = f"frame 0 {picture}, and there is none before it to repeat"
                    raise DinotoolsError(what, self.path, "Cut it; a first mask must then be that of the next frame.")
                warn(f"{self.path}: frame {number} {picture}")
                yield None
            elif picture.shape != (self.height, self.width, 3):
                sizes = f"{picture.shape[1]} x {picture.shape[0]}, others {self.width} x {self.height}"
                raise DinotoolsError(f"frame {number} is {sizes}", self.path, "Bring all frames to one size first.")
            else:
                yield picture


def open_video(path: str | Path, fps: Fraction | float | None = None) -> Video:
    """Looks at a video: its size is that of the first frame that can be read.

    Args:
        path: a video file, or a folder whose images are the frames, in the order of the numbers in their names.
        fps: frames a second in place of what the file states; of a folder 24 unless given.

    Raises:
        DinotoolsError: nothing there, not a video, a codec that cannot be decoded here, or no frame.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DinotoolsError("there is no such file or folder", path, "Give a video file, or a folder of its frames.")
    stated, n_frames, has_audio = (None, len(_images(path)), False) if path.is_dir() else _header(path)
    pictures = _of_folder(path) if path.is_dir() else _of_file(path)
    first = next((picture for picture in pictures if not isinstance(picture, str)), None)
    if first is None:
        raise DinotoolsError("holds no frame that can be read", path, "Give another copy of the video.")
    height, width = first.shape[:2]
    rate = Fraction(fps) if fps else stated or DEFAULT_FPS
    return Video(path, width, height, rate.limit_denominator(FINEST), n_frames, has_audio)


def _images(folder: Path) -> list[Path]:
    """Images directly in a folder; frame2 comes before frame10."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".")]
    if not found:
        raise DinotoolsError("holds no images", folder, f"Frames end in {', '.join(EXTENSIONS)}.")
    return sorted(found, key=lambda p: ([int(digits) for digits in re.findall(r"\d+", p.stem)], p.name))


def _of_folder(folder: Path) -> Iterator[np.ndarray | str]:
    """Frames as arrays; in place of a bad one, what is wrong with it."""
    for path in _images(folder):
        try:
            yield np.array(decode(path))
        except UnreadableImage as error:
            yield f"({path.name}) cannot be read: {error.reason}"


def _of_file(path: Path) -> Iterator[np.ndarray | str]:
    """Frames as arrays; in place of a bad one, what is wrong with it."""
    with _opened(path) as (container, stream):
        stream.codec_context.thread_type = "NONE"  # threads hide which frame is damaged
        lost: list[int] = []  # times of what did not decode: frames come later than their packets, and in another order
        n_packets = 0
        try:
            for packet in container.demux(stream):
                n_packets += packet.size > 0
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    heapq.heappush(lost, packet.pts or 0)
                    continue
                for frame in frames:
                    while lost and (frame.pts is None or lost[0] < frame.pts):
                        heapq.heappop(lost)
                        yield "cannot be decoded"
                    yield "is damaged" if frame.is_corrupt else _upright(frame)
        except av.error.FFmpegError as error:
            yield f"and all after it cannot be read ({error.strerror})"
            return
        yield from ["cannot be decoded"] * len(lost)
        if n_packets < stream.frames:
            yield f"and all after it are missing: {stream.frames:,} should be there"


def _upright(frame: av.VideoFrame) -> np.ndarray:
    quarters = round(frame.rotation / 90)  # counter-clockwise, as NumPy turns too
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarters))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream."""
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise DinotoolsError(
            f"is not a video that can be read ({error.strerror})", path, "Give a video file."
        ) from error
    with container:
        if not container.streams.video:
            raise DinotoolsError("holds no video", path, "Give a file with a video in it.")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise DinotoolsError(
                "its codec cannot be decoded here", path, "Convert it to H.264, or to a folder of PNGs."
            )
        yield container, stream


def _header(path: Path) -> tuple[Fraction | None, int | None, bool]:
    """What a file states: its frame rate, its number of frames, and whether it has sound."""
    with _opened(path) as (container, stream):
        mean, finest = stream.average_rate, stream.base_rate
        if mean and finest:
            ratio = float(finest / mean)  # 2 of interlaced video, whose fields are counted
            if abs(ratio / max(round(ratio), 1) - 1) > STEADY:
                warn(f"{path}: its frame rate varies; every frame counts once, at a mean of {float(mean):.4g} a second")
        return mean or stream.guessed_rate, stream.frames or None, bool(container.streams.audio)
