import struct
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dinotools.data.video import open_video
from dinotools.data.video_writing import VideoWriter
from dinotools.runtime.errors import DinotoolsError

WIDTH, HEIGHT = 64, 48
QUARTER_RIGHT = (0, 1, 0, -1, 0, 0, 0, 0, 1)  # x, y -> -y, x in a system whose y points down
HALF = (-1, 0, 0, 0, -1, 0, 0, 0, 1)


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Grey that tells the frame's number, a red corner, a blue one, and what is hard to code."""
    frame = np.full((height, width, 3), 6 * number % 250, np.uint8)
    frame[-(height // 4) :, : width // 2] = np.random.RandomState(number).randint(0, 256, (height // 4, width // 2, 3))
    frame[: height // 4, : width // 4] = (200, 0, 0)
    frame[-(height // 4) :, -(width // 4) :] = (0, 0, 200)
    return frame


def numbers(frames) -> list[int | None]:
    """What the grey of the middle of frames tells."""
    return [None if f is None else round(f[f.shape[0] // 2, f.shape[1] // 2].mean() / 6) for f in frames]


def clip(path: Path, n_frames: int = 20, fps: Fraction | float = 25, width: int = WIDTH, height: int = HEIGHT) -> Path:
    with VideoWriter(path, fps, width, height) as video:
        for number in range(n_frames):
            video.write(picture(number, width, height))
    return path


def turned(path: Path, matrix: tuple[int, ...]) -> Path:
    """Writes a rotation into the header of an MP4."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    units = [1 << 30 if i % 3 == 2 else 1 << 16 for i in range(9)]
    content[start : start + 36] = struct.pack(">9i", *(v * unit for v, unit in zip(matrix, units, strict=True)))
    path.write_bytes(content)
    return path


def damaged(path: Path, number: int, how: str) -> Path:
    """Spoils the frame of that number in an MP4."""
    with av.open(str(path)) as container:
        packets = sorted((p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size)
    _, position, size = packets[number]
    content = bytearray(path.read_bytes())
    start, length, byte = {  # a frame that begins well is decoded as far as it goes
        "lost": (0, size, b"\0"),
        "begun": (size // 4, size - size // 4, b"\0"),
        "scratched": (size // 2, 60, b"\xff"),
    }[how]
    content[position + start : position + start + length] = byte * length
    path.write_bytes(content)
    return path


def test_what_is_written_is_read_with_its_size_rate_and_colours(tmp_path):
    for fps in (Fraction(30000, 1001), 24, 12.5, Fraction(1, 2)):
        video = open_video(clip(tmp_path / "new" / "clip.mp4", 5, fps))
        assert (video.width, video.height, video.fps, video.n_frames) == (WIDTH, HEIGHT, Fraction(fps), 5)
        assert not video.has_audio
        frames = list(video.frames())
        assert all(frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8 for frame in frames)
        for number, frame in enumerate(frames):
            np.testing.assert_allclose(frame[4:8, 4:12].mean((0, 1)), (200, 0, 0), atol=8)  # BT.601 for BT.709: 17
            np.testing.assert_allclose(frame[-8:-4, -12:-4].mean((0, 1)), (0, 0, 200), atol=8)
            np.testing.assert_allclose(frame[20:28].mean(), 6 * number, atol=1)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["clip.mp4"]


def test_the_written_file_is_what_players_play(tmp_path):
    with av.open(str(clip(tmp_path / "clip.mp4"))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert next(container.decode(stream)).colorspace == 1  # BT.709
    content = (tmp_path / "clip.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before the last byte has come


def test_every_frame_comes_once_in_order_and_again(tmp_path):
    video = open_video(clip(tmp_path / "clip.mp4", 40))
    assert numbers(video.frames()) == list(range(40))
    assert numbers(video.frames()) == list(range(40))


def test_an_odd_side_is_filled_up_with_a_warning(tmp_path, capsys):
    video = open_video(clip(tmp_path / "clip.mp4", 3, width=65, height=47))
    assert (video.width, video.height) == (66, 48)
    assert "is 66 x 48" in capsys.readouterr().err
    frame = next(video.frames())
    np.testing.assert_allclose(frame[-1, -1], (0, 0, 200), atol=6)


@pytest.mark.parametrize(("matrix", "turns"), [(QUARTER_RIGHT, -1), (HALF, 2)])
def test_a_stated_rotation_is_applied(tmp_path, matrix, turns):
    plain = next(open_video(clip(tmp_path / "clip.mp4", 3)).frames())
    video = open_video(turned(tmp_path / "clip.mp4", matrix))
    upright = next(video.frames())
    np.testing.assert_array_equal(upright, np.rot90(plain, turns))
    assert (video.height, video.width) == upright.shape[:2]
    assert upright.flags.c_contiguous


@pytest.mark.parametrize("how", ["lost", "begun", "scratched"])
@pytest.mark.parametrize("bad", [1, 7, 8, 19])
def test_a_damaged_frame_is_named_or_passed_over_in_its_place(tmp_path, capsys, how, bad):
    path = damaged(clip(tmp_path / "clip.mp4"), bad, how)
    video = open_video(path)
    with pytest.raises(DinotoolsError, match=f"frame {bad} .*--skip-bad-frames") as error:
        list(video.frames())
    assert error.value.where == path
    found = list(video.frames(skip_bad=True))
    assert [number for number, frame in enumerate(found) if frame is None] == [bad]
    assert len(found) == 20
    assert numbers(found)[:bad] == list(range(bad))
    assert f"clip.mp4: frame {bad} " in capsys.readouterr().err


def test_a_file_cut_short_says_so(tmp_path, capsys):
    path = clip(tmp_path / "clip.mp4")
    with av.open(str(path)) as container:
        positions = [p.pos for p in container.demux(video=0) if p.size]
    path.write_bytes(path.read_bytes()[: positions[10]])
    with pytest.raises(DinotoolsError, match="missing: 20 should be there"):
        list(open_video(path).frames())
    found = numbers(open_video(path).frames(skip_bad=True))
    assert found[-1] is None
    assert "missing: 20 should be there" in capsys.readouterr().err


def test_a_change_of_size_names_the_frame(tmp_path):
    path = tmp_path / "clip.h264"
    with path.open("wb") as file:
        for width, n_frames in ((64, 4), (96, 3)):
            codec = av.CodecContext.create("libx264", "w")
            codec.width, codec.height, codec.pix_fmt, codec.framerate = width, HEIGHT, "yuv420p", Fraction(25)
            codec.time_base = Fraction(1, 25)
            for number in range(n_frames):
                frame = av.VideoFrame.from_ndarray(picture(number, width), format="rgb24")
                file.writelines(bytes(packet) for packet in codec.encode(frame))
            file.writelines(bytes(packet) for packet in codec.encode(None))
    for skip_bad in (False, True):
        with pytest.raises(DinotoolsError, match="frame 4 is 96 x 48, others 64 x 48"):
            list(open_video(path).frames(skip_bad))


def test_a_varying_rate_is_said_and_every_frame_counts_once(tmp_path, capsys):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=60)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number * 2 + number // 2, Fraction(1, 60)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    video = open_video(path)
    assert "frame rate varies" in capsys.readouterr().err
    assert numbers(video.frames()) == list(range(20))
    clip(tmp_path / "steady.mp4", 20, Fraction(30000, 1001))
    assert open_video(tmp_path / "steady.mp4", fps=10).fps == 10
    assert not capsys.readouterr().err


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path, capsys):
    for number in (10, 2, 1, 0):
        Image.fromarray(picture(number)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "frame11.txt").write_text("")
    (tmp_path / ".frame12.png").write_bytes(b"")
    video = open_video(tmp_path)
    assert (video.width, video.height, video.fps, video.n_frames) == (WIDTH, HEIGHT, 24, 4)
    assert numbers(video.frames()) == [0, 1, 2, 10]
    assert open_video(tmp_path, fps=29.97).fps == Fraction(2997, 100)

    (tmp_path / "frame2.png").write_bytes(b"")
    with pytest.raises(DinotoolsError, match=r"frame 2 \(frame2.png\) cannot be read: the file is empty"):
        list(video.frames())
    assert numbers(video.frames(skip_bad=True)) == [0, 1, None, 10]
    Image.fromarray(picture(2, 32)).save(tmp_path / "frame2.png")
    with pytest.raises(DinotoolsError, match="frame 2 is 32 x 48, others 64 x 48"):
        list(video.frames(skip_bad=True))


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "text.mp4").write_text("no video " * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    content = clip(tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "codec.mp4").write_bytes(content.replace(b"avc1", b"zzzz"))
    (tmp_path / "noise.mp4").write_bytes(content[: content.index(b"mdat") + 4] + bytes(len(content)))
    with av.open(str(tmp_path / "nothing.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
    for name, what in [
        ("none.mp4", "no such file"),
        ("text.mp4", "is not a video"),
        ("empty.mp4", "is not a video"),
        ("folder", "holds no images"),
        ("sound.wav", "holds no video"),
        ("codec.mp4", "codec cannot be decoded"),
        ("noise.mp4", "no frame that can be read"),
        ("nothing.mp4", "holds no"),
    ]:
        with pytest.raises(DinotoolsError, match=what) as error:
            open_video(tmp_path / name)
        assert error.value.where == tmp_path / name


def test_nothing_half_written_stays(tmp_path):
    before = clip(tmp_path / "clip.mp4", 2).read_bytes()
    with pytest.raises(KeyError), VideoWriter(tmp_path / "clip.mp4", 25, WIDTH, HEIGHT) as video:
        for number in range(60):
            video.write(picture(number))
        raise KeyError
    with pytest.raises(DinotoolsError, match="no frame was written"), VideoWriter(tmp_path / "b.mp4", 25, 64, 48):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_bytes() == before


def test_a_place_that_cannot_be_written_is_named_before_the_first_frame(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    for path, what in [
        (tmp_path / "file" / "clip.mp4", "cannot be written"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "clip.avi", r"written as \.mp4, not as \.avi"),
        (tmp_path / "clip", r"written as \.mp4"),
    ]:
        with pytest.raises(DinotoolsError, match=what), VideoWriter(path, 25, WIDTH, HEIGHT):
            pass
    with VideoWriter(tmp_path / "clip.mp4", 25, WIDTH, HEIGHT) as video:
        video.write(picture(0))
        with pytest.raises(ValueError, match="a frame of"):
            video.write(picture(0, width=32))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "file", "folder.mp4"]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells memory from /proc")
def test_memory_does_not_grow_with_the_length(tmp_path):
    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    clip(tmp_path / "long.mp4", 500, width=192, height=144)
    early = late = 0.0
    with VideoWriter(tmp_path / "copy.mp4", 25, 192, 144) as copy:
        for number, frame in enumerate(open_video(tmp_path / "long.mp4").frames()):
            copy.write(frame)
            if number == 100:  # the encoder's look-ahead is full
                early = resident()
            late = max(late, resident())
    assert late - early < 10  # MiB; to keep 400 frames would take 32
    assert open_video(tmp_path / "copy.mp4").n_frames == 500
