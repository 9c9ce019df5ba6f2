"""Read a few evenly spaced frames of a video file, in bounded memory.

PyAV is imported when a clip is read.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from attnviz.errors import ClipError
from attnviz.media.image_decoding import check_file

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.video.stream import VideoStream

SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ogv .ts .3gp".split())
"""Suffixes of the files that are read as clips. An animated GIF is read as an image: its first frame."""

MAX_FRAMES = 100_000
"""Maximum length of a clip: about an hour at 25 frames per second."""

MAX_PIXELS = 1 << 26
"""Maximum size of a frame: 67,108,864 pixels."""

_IMPLAUSIBLE = 1 << 31  # frame counts above this are not lengths: FFmpeg reports one for a still image
_TOLERANCE = 0.02  # relative error of the frame count: Matroska and MPEG-TS only give a duration
_MAX_REASON = 120  # characters
_LOG_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """Some frames of a clip.

    Attributes:
        path: Path of the file, as given.
        frames: ``(T, H, W, 3)`` uint8 RGB, upright, in temporal order.
        seconds: Time of each frame.
        total: Number of frames of the clip.
        size: ``(H, W)`` of the original; larger than ``frames`` if they were reduced.
    """

    path: str
    frames: np.ndarray[Any, np.dtype[np.uint8]]
    seconds: tuple[float, ...]
    total: int
    size: tuple[int, int]


def is_clip(path: object) -> bool:
    """Return whether a path has the suffix of a video.

    >>> is_clip("a.MP4"), is_clip("a.gif")
    (True, False)
    """
    return isinstance(path, str | os.PathLike) and PurePath(os.fspath(path)).suffix.lower() in SUFFIXES


def check_clip(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> None:
    """Decode the first frame, of at most ``max_pixels``, to report an unreadable clip before any work.

    Raises:
        ClipError: see :func:`read_clip`.
    """
    name = os.fspath(path)
    with _opened(name, max_pixels) as (container, stream):
        if next(_decoded(container, stream), None) is None:
            raise ClipError(f"{name}: no frame of it can be decoded")


def read_clip(
    path: str | os.PathLike[str],
    count: int,
    *,
    keep_px: int = 1024,
    seek_above: int = 2_000,
    max_frames: int = MAX_FRAMES,
) -> Footage:
    r"""Read ``count`` evenly spaced frames: the middle frame of each of ``count`` equal parts.

    .. math:: i_t = \lfloor (t + 1/2)\, n / T \rfloor

    If the clip has fewer than ``count`` frames, some are repeated.

    Args:
        path: File in any format that FFmpeg decodes.
        count: ``T``, at least 1.
        keep_px: Minimum of the shorter side of frames, which are reduced by a whole factor.
        seek_above: Number of frames between two read ones above which the file is searched for the next. Fewer are
            decoded, which is exact in every container.
        max_frames: Maximum length of the clip.

    Raises:
        ClipError: missing, empty, truncated, not a video, in an unsupported codec, larger than :data:`MAX_PIXELS` or
            too long; one line that names the file.
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"read_clip: wanted at least 1 frame, got {count}")
    name = os.fspath(path)
    total, decodable = _frame_count(name, max_frames), 0
    for _ in range(2):  # again with the decodable frames if the container's count is slightly too high
        indices = spaced(total, count)
        frames, seconds, decodable, size = _read(name, sorted(set(indices)), keep_px, seek_above)
        if len(frames) == len(set(indices)):
            order = np.unique(indices, return_inverse=True)[1]
            return Footage(name, np.stack(frames)[order], tuple(seconds[i] for i in order), total, size)
        if decodable < (1 - _TOLERANCE) * total - 2 or decodable == 0:
            break
        total = decodable
    raise ClipError(f"{name}: damaged or truncated: it should have {total} frames, {decodable} can be decoded")


def spaced(total: int, count: int) -> list[int]:
    """Return the index of the middle frame of each of ``count`` equal parts.

    >>> spaced(48, 4), spaced(2, 4)
    ([6, 18, 30, 42], [0, 0, 1, 1])
    """
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]


def _frame_count(name: str, most: int) -> int:
    """The number of frames: from the container, from its duration, or by decoding."""
    with _opened(name) as (container, stream):
        total = stream.frames or round(_duration(container, stream) * _rate(stream))
        if not 0 < total < _IMPLAUSIBLE:
            total = sum(1 for _ in islice(_decoded(container, stream), most + 1))
    if total == 0:
        raise ClipError(f"{name}: has no frames")
    if total > most:
        raise ClipError(f"{name}: more than {most:,} frames, an hour of video: cut out the part to explain")
    return total


def _duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds; 0 if unknown."""
    if container.duration:
        return container.duration / 1_000_000
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0


def _rate(stream: VideoStream) -> float:
    """Frames per second; 0 if unknown."""
    return float(stream.guessed_rate or 0)


def _read(
    name: str, indices: Sequence[int], keep_px: int, seek_above: float
) -> tuple[list[Any], list[float], int, tuple[int, int]]:
    """Decode the frames of ascending indices.

    Returns:
        Frames, their times, the number of frames up to the last decoded one, and ``(H, W)`` of the original. Fewer
        frames than indices if the clip ends before.
    """
    frames: list[Any] = []
    seconds: list[float] = []
    end, size = 0, (0, 0)
    with _opened(name) as (container, stream):
        rate, shape = _rate(stream), (stream.width, stream.height)
        decoded: Iterator[tuple[int, VideoFrame]] | None = enumerate(_decoded(container, stream))
        for index in indices:
            if index - end > seek_above:
                decoded = _seek(container, stream, index)
            if decoded is None:
                return _read(name, indices, keep_px, math.inf)
            frame = None
            for number, frame in decoded:  # noqa: B007  # used below
                end = number + 1
                if number == index:
                    break
            if frame is None or end <= index:
                break
            pixels = _upright(frame, stream, shape)
            size = pixels.shape[:2]
            frames.append(_reduced(pixels, keep_px))
            seconds.append(index / rate if rate else frame.time or 0.0)
    return frames, seconds, end, size


def _seek(container: InputContainer, stream: VideoStream, index: int) -> Iterator[tuple[int, VideoFrame]] | None:
    """The frames from the key frame at or before ``index``, with their indices; ``None`` if these are unknown."""
    from av.error import FFmpegError

    start, scale = stream.start_time or 0, float(stream.time_base or 0) * _rate(stream)
    if not scale:
        return None
    try:
        container.seek(start + round(index / scale), stream=stream)
    except FFmpegError:
        return None
    decoded = _decoded(container, stream)
    frame = next(decoded, None)
    if frame is None or frame.pts is None or round((frame.pts - start) * scale) > index:
        return None
    return enumerate(chain([frame], decoded), round((frame.pts - start) * scale))


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The frames in temporal order; damaged packets are skipped, and a damaged file ends early."""
    from av.error import FFmpegError

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except FFmpegError:
            continue
        yield from frames


def _upright(frame: VideoFrame, stream: VideoStream, shape: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The frame in RGB, at the stream's width and height, rotated as the file demands."""
    pixels: Any = frame.to_ndarray(format="rgb24", width=shape[0], height=shape[1])
    # Degrees counterclockwise; before version 14 PyAV has them for the stream.
    of_stream = getattr(stream, "side_data", None) or {}
    rotation = getattr(frame, "rotation", of_stream.get("DISPLAYMATRIX", 0))
    return np.ascontiguousarray(np.rot90(pixels, round(rotation / 90)))


def _reduced(pixels: np.ndarray[Any, np.dtype[np.uint8]], keep_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The frame, reduced by a whole factor if its shorter side has at least twice ``keep_px`` pixels."""
    height, width = pixels.shape[:2]
    factor = max(1, min(height, width) // keep_px)
    if factor == 1:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width // factor, height // factor), Image.Resampling.BOX))


@contextmanager
def _opened(name: str, max_pixels: int = MAX_PIXELS) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video and its main stream.

    FFmpeg's log is captured and not printed, at any log level: torchvision sets one when it is imported.

    Raises:
        ClipError: not a file, not a video that can be decoded, or its frames are too large.
    """
    import av
    from av.error import FFmpegError

    check_file(name, "a video file", ClipError)
    undecodable = f"{name}: not a video that can be decoded (wanted MP4, MOV, AVI, MKV or WebM)"
    with av.logging.Capture(local=False):  # not local, since decoders log from threads of their own
        try:
            container = av.open(f"file:{name}")  # "file:" since a colon in the name would be a protocol
        except FFmpegError as error:
            raise ClipError(f"{undecodable}{_reason(name, error)}") from None
        with container:
            streams = container.streams.video
            if not streams or streams[0].codec_context is None:
                raise ClipError(undecodable)
            stream = streams[0]
            if stream.width * stream.height > max_pixels:
                size = f"{stream.width} × {stream.height}"
                raise ClipError(f"{name}: frames of {size} pixels, at most {max_pixels:,} can be read")
            stream.thread_type = "AUTO"
            yield container, stream


def _reason(name: str, error: FFmpegError) -> str:
    """FFmpeg's message about a file that it cannot open.

    Without a log level PyAV discards it, and the file is opened again. At the level PANIC the message is part of the
    exception and nothing is printed.
    """
    import av
    from av.error import FFmpegError

    with _LOG_LOCK:
        if av.logging.get_level() is None:
            av.logging.set_level(av.logging.PANIC)
            try:
                av.open(f"file:{name}").close()
            except FFmpegError as again:
                error = again
            finally:
                av.logging.set_level(None)
    log: Any = error.log  # level, component, message
    text = log[2].strip() if log else ""
    return f": {text}" if text and len(text) < _MAX_REASON else ""
