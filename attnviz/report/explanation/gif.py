"""``overlay.gif``: the frames of a clip, each beside its map.

A GIF, by Pillow: every browser, viewer and slide plays it, and the page can hold it. OpenCV's wheels have no H.264 or
AV1 encoder, and no browser plays the MPEG-4 that they do write.
"""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from attnviz.core.arrays import Array
from attnviz.errors import OutputError
from attnviz.report.core.colours import overlay
from attnviz.report.core.document import ClipView, Document

_SIDE, _SMALL_SIDE, _MANY = 256, 160, 12
_GAP, _FOOT, _LABEL = 4, 34, 16
_QUICKEST_MS, _SLOWEST_MS = 120, 700
_BAR, _DIM, _INK = (79, 195, 176), (92, 97, 107), (233, 233, 230)


def write(document: Document, path: Path) -> None:
    """Write ``overlay.gif``.

    Raises:
        OutputError: the document is about a photograph.
    """
    if document.clip is None:
        raise OutputError("a photograph has no frames to animate")
    path.write_bytes(animated(document.clip))


def animated(clip: ClipView) -> bytes:
    """The animation: each frame, its map over it, and under both the weights of all frames."""
    images = [Image.fromarray(picture_of(clip, frame)) for frame in range(len(clip.frames))]
    buffer = io.BytesIO()
    durations = _durations_ms(clip.seconds)
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _durations_ms(seconds: tuple[float, ...]) -> list[int]:
    """How long each frame stays: as in the clip, but neither a flicker nor a standstill.

    >>> _durations_ms((0.0, 0.25, 2.0))
    [250, 700, 700]
    """
    steps = [1000 * (after - before) for before, after in itertools.pairwise(seconds)] or [_SLOWEST_MS]
    return [int(min(_SLOWEST_MS, max(_QUICKEST_MS, step))) for step in [*steps, steps[-1]]][: len(seconds)]


def picture_of(clip: ClipView, frame: int) -> Array:
    """One picture of the animation, RGB."""
    side = _SIDE if len(clip.frames) <= _MANY else _SMALL_SIDE
    seen = cv2.resize(clip.frames[frame], (side, side), interpolation=cv2.INTER_AREA)
    maps = clip.best()
    halves = [seen] if maps is None else [seen, overlay(seen, maps.of(frame), 0.6)]
    canvas = np.zeros((side + _FOOT, len(halves) * side + (len(halves) - 1) * _GAP, 3), np.uint8)
    for index, half in enumerate(halves):
        canvas[:side, index * (side + _GAP) :][:, :side] = half
    return _with_foot(canvas, clip, frame)


def _with_foot(canvas: Array, clip: ClipView, frame: int) -> Array:
    """Under the pictures: when the frame is seen, and a bar for each frame, its own being lit."""
    height, width = canvas.shape[:2]
    image = Image.fromarray(canvas)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    text = f"{clip.seconds[frame]:.2f} s"
    if clip.weights.size:
        text += f"   {clip.weighs} {clip.weights[frame]:.2f}"
        step = width / len(clip.weights)
        top = max(float(clip.weights.max()), 1e-30)
        for index, weight in enumerate(clip.weights):
            tall = (_FOOT - _LABEL - 3) * float(weight) / top
            box = (index * step + 1, height - 1 - tall, (index + 1) * step - 2, height - 1)
            pen.rectangle(box, fill=_BAR if index == frame else _DIM)
    pen.text((3, height - _FOOT + 1), text, fill=_INK, font=font)
    return np.asarray(image)
