"""From a video file to a few of its frames: evenly spaced, strictly, in bounded memory.

OpenCV is imported when a clip is read.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from attnviz.errors import ClipError
from attnviz.media.image_decoding import check_file

SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ogv .ts .3gp".split())
"""Files that are read as clips. Of an animated GIF the first frame is a photograph."""

MAX_FRAMES = 100_000
"""The longest clip: an hour at 25 frames a second."""

MAX_PIXELS = 1 << 26
"""The largest frame: 67,108,864 pixels."""

_SEEK_ABOVE = 2_000  # frames; shorter clips are decoded from the start, which every codec can do
_NONSENSE = 1 << 31  # a still picture claims to have more frames than this
_KEEP_PX = 1024
_MISSED = 0.02  # some containers only estimate how many frames they hold


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """Some frames of a clip.

    Attributes:
        path: As it was given.
        frames: ``(T, H, W, 3)`` uint8 RGB, upright, in the order of time.
        seconds: When each frame is seen.
        total: How many frames the clip has.
        size: ``(H, W)`` of the original, which is larger than ``frames`` where they were reduced.
    """

    path: str
    frames: np.ndarray[Any, np.dtype[np.uint8]]
    seconds: tuple[float, ...]
    total: int
    size: tuple[int, int]


def is_clip(path: object) -> bool:
    """Whether a path is that of a video, by its ending.

    >>> is_clip("a.MP4"), is_clip("a.gif")
    (True, False)
    """
    return isinstance(path, str | os.PathLike) and PurePath(os.fspath(path)).suffix.lower() in SUFFIXES


def check_clip(path: str | os.PathLike[str]) -> None:
    """Decode the first frame, so that a clip that cannot be read is told before any work.

    Raises:
        ClipError: see :func:`read_clip`.
    """
    name = os.fspath(path)
    with _opened(name) as (video, said):
        if not video.grab() or not video.retrieve()[0]:
            raise ClipError(f"{name}: no frame of it can be decoded{said()}")


def read_clip(path: str | os.PathLike[str], count: int) -> Footage:
    r"""Read ``count`` frames, evenly spaced: the middle one of each of ``count`` equal parts.

    .. math:: i_t = \lfloor (t + 1/2)\, n / T \rfloor

    Of a clip with fewer frames some are taken several times.

    Args:
        path: A file in any format that OpenCV's FFmpeg decodes.
        count: ``T``, at least 1.

    Raises:
        ClipError: missing, empty, truncated, no video, in a codec that is not there, larger than :data:`MAX_PIXELS` or
            longer than :data:`MAX_FRAMES`; one line that names the file.
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"read_clip: wanted at least 1 frame, got {count}")
    name = os.fspath(path)
    promised, found = _promised(name), 0
    for _ in range(2):  # again with the true number where the container's was a little off
        indices = spaced(promised, count)
        frames, seconds, found, size = _frames(name, indices)
        if len(frames) == len(set(indices)):
            places = sorted(set(indices))
            order = [places.index(index) for index in indices]
            return Footage(name, np.stack([frames[i] for i in order]), tuple(seconds[i] for i in order), promised, size)
        if found < (1 - _MISSED) * promised - 2 or found == 0:
            break
        promised = found
    raise ClipError(f"{name}: damaged or truncated: it should have {promised} frames, {found} can be decoded")


def spaced(total: int, count: int) -> list[int]:
    """The middle frame of each of ``count`` equal parts.

    >>> spaced(48, 4), spaced(2, 4)
    ([6, 18, 30, 42], [0, 0, 1, 1])
    """
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]


def _promised(name: str) -> int:
    """How many frames the container says it has; counted where it does not say."""
    import cv2

    with _opened(name) as (video, said):
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        if not 0 < total < _NONSENSE:
            total = sum(1 for _ in itertools.takewhile(lambda _: video.grab(), range(MAX_FRAMES + 1)))
    if total == 0:
        raise ClipError(f"{name}: has no frames{said()}")
    if total > MAX_FRAMES:
        raise ClipError(f"{name}: more than {MAX_FRAMES:,} frames, an hour of video: cut out the part to explain")
    return total


def _frames(name: str, indices: Sequence[int]) -> tuple[list[Any], list[float], int, tuple[int, int]]:
    """The frames of those indices, when they are seen, how far the clip could be decoded, and the frames' size."""
    import cv2

    frames: list[Any] = []
    seconds: list[float] = []
    size, at = (0, 0), 0
    with _opened(name) as (video, _):
        rate = video.get(cv2.CAP_PROP_FPS)
        for index in sorted(set(indices)):
            if index - at > _SEEK_ABOVE and video.set(cv2.CAP_PROP_POS_FRAMES, index):
                at = index
            while at < index and video.grab():
                at += 1
            time_ms = video.get(cv2.CAP_PROP_POS_MSEC)
            frame = video.read()[1] if at == index else None
            if frame is None:
                return frames, seconds, at, size
            at, size = at + 1, frame.shape[:2]
            frames.append(_reduced(frame))
            seconds.append(index / rate if rate > 0 else time_ms / 1000)
    return frames, seconds, at, size


def _reduced(frame: Any) -> Any:
    """The frame in RGB; one of more than 2048 pixels along its shorter side is reduced by a whole factor."""
    import cv2

    factor = max(1, min(frame.shape[:2]) // _KEEP_PX)
    if factor > 1:
        size = (frame.shape[1] // factor, frame.shape[0] // factor)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


@contextmanager
def _opened(name: str) -> Iterator[tuple[Any, Any]]:
    """The video, and a function that tells what FFmpeg said last; closed on leaving.

    Raises:
        ClipError: it is no file, cannot be opened as a video, or its frames are too large.
    """
    import cv2

    check_file(name, "a video file", ClipError)
    with _hushed() as said:
        video = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        try:
            if not video.isOpened():
                raise ClipError(f"{name}: not a video that can be decoded (wanted MP4, MOV, AVI, MKV or WebM){said()}")
            width, height = (int(video.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            if width * height > MAX_PIXELS:
                raise ClipError(f"{name}: frames of {width} × {height} pixels, at most {MAX_PIXELS:,} can be read")
            yield video, said
        finally:
            video.release()


_HUSH = threading.Lock()
_SPEAKER = re.compile(r"\[\S+ @ 0x")  # a part of FFmpeg, not OpenCV


@contextmanager
def _hushed() -> Iterator[Any]:
    """Keep what FFmpeg writes to the error stream, past Python, so that an error is one line; hands out its words."""
    with _HUSH, tempfile.TemporaryFile() as heard:
        before = os.dup(2)

        def said() -> str:
            heard.seek(0)
            lines = heard.read().decode(errors="replace").splitlines()
            spoken = [line for line in lines if _SPEAKER.match(line)]
            text = spoken[0].partition("] ")[2].strip() if spoken else ""
            return f": {text}" if text and len(text) < 120 else ""

        try:
            os.dup2(heard.fileno(), 2)
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)
