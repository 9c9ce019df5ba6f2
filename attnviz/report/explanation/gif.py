"""``overlay.gif``: the frames of a clip, each next to its map.

The format is GIF, since every browser and presentation program plays it and a page can embed it. OpenCV's wheels have
no H.264 or AV1 encoder, and no browser plays the MPEG-4 that they write.
"""

import io
import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from attnviz.core.arrays import Array
from attnviz.errors import OutputError
from attnviz.report.core.colours import overlay, resized
from attnviz.report.core.document import ClipView, Document
from attnviz.report.core.renderers import renderer

_SIDE, _SMALL_SIDE = 256, 160
_MAX_LARGE_FRAMES = 12
_GAP, _FOOTER, _LABEL = 4, 34, 16
_MIN_MS, _MAX_MS = 120, 700
_CURRENT, _OTHER, _TEXT = (79, 195, 176), (92, 97, 107), (233, 233, 230)


@renderer("gif")
def write(document: Document, path: Path) -> None:
    """Write ``overlay.gif``.

    Raises:
        OutputError: the document describes a still image.
    """
    if document.clip is None:
        raise OutputError("a still image has no frames to animate")
    path.write_bytes(animated(document.clip))


def animated(clip: ClipView) -> bytes:
    """Return the animation as bytes: each frame and its overlay, with the weights of all frames below."""
    images = [Image.fromarray(picture_of(clip, frame)) for frame in range(len(clip.frames))]
    buffer = io.BytesIO()
    durations = _durations_ms(clip.seconds)
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _durations_ms(seconds: tuple[float, ...]) -> list[int]:
    """Return the duration of each frame: as in the clip, within limits.

    >>> _durations_ms((0.0, 0.25, 2.0))
    [250, 700, 700]
    """
    steps = [1000 * (after - before) for before, after in itertools.pairwise(seconds)] or [_MAX_MS]
    return [int(min(_MAX_MS, max(_MIN_MS, step))) for step in [*steps, steps[-1]]][: len(seconds)]


def picture_of(clip: ClipView, frame: int) -> Array:
    """Return one picture of the animation, RGB."""
    side = _SIDE if len(clip.frames) <= _MAX_LARGE_FRAMES else _SMALL_SIDE
    plain = resized(clip.frames[frame], side)
    maps = clip.animated_maps()
    parts = [plain] if maps is None else [plain, overlay(plain, maps.of(frame), 0.6)]
    height, width = plain.shape[:2]
    canvas = np.zeros((height + _FOOTER, len(parts) * width + (len(parts) - 1) * _GAP, 3), np.uint8)
    for index, part in enumerate(parts):
        canvas[:height, index * (width + _GAP) :][:, :width] = part
    return _with_footer(canvas, clip, frame)


def _with_footer(canvas: Array, clip: ClipView, frame: int) -> Array:
    """Draw the frame's time and a bar for each frame, the current one highlighted, below the pictures."""
    height, width = canvas.shape[:2]
    image = Image.fromarray(canvas)
    drawing, font = ImageDraw.Draw(image), _font()
    text = f"{clip.seconds[frame]:.2f} s"
    if clip.weights.size:
        text += f"   {clip.weight_name} {clip.weights[frame]:.2f}"
        step = width / len(clip.weights)
        top = max(float(clip.weights.max()), 1e-30)
        for index, weight in enumerate(clip.weights):
            bar = (_FOOTER - _LABEL - 3) * float(weight) / top
            box = (index * step + 1, height - 1 - bar, (index + 1) * step - 2, height - 1)
            drawing.rectangle(box, fill=_CURRENT if index == frame else _OTHER)
    drawing.text((3, height - _FOOTER + 1), text, fill=_TEXT, font=font)
    return np.asarray(image)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.load_default(12)
    except TypeError:  # Pillow 10.0 has one size only
        return ImageFont.load_default()
