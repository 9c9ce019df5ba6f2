"""From a file to an RGB picture: every pixel format, strictly, in bounded memory."""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from attnviz.errors import ImageError

MAX_PIXELS = 1 << 29
"""The largest picture that is read: 536,870,912 pixels, 2 GiB decoded. 20,000 × 20,000 fits."""

REDUCE_ABOVE_PIXELS = 1 << 26
"""Pictures above this many pixels (67 million) are reduced by whole factors while they are read."""

_STRIP_PIXELS = 1 << 22
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)
_DRAWINGS = {"EPS", "WMF"}  # decoded by running other programs
_DEEP = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_UPRIGHT = {  # Exif tag 0x0112 -> what turns the picture upright
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded photograph.

    Attributes:
        path: As it was given.
        pixels: ``(H, W, 3)`` uint8 RGB, upright.
        size: ``(H, W)`` of the upright original; larger than ``pixels`` where a huge picture was reduced.
        notes: What was done to it that one should know: the first of several frames, transparency on white.
    """

    path: str
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def as_picture(image: str | os.PathLike[str] | Picture | np.ndarray[Any, np.dtype[np.uint8]]) -> Picture:
    """A photograph in whichever form it is given: a file, a picture, or RGB pixels.

    Raises:
        ImageError: see :func:`decode`; an array that is not ``(H, W, 3)`` uint8, or another object.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ImageError(f"an RGB picture is (H, W, 3) uint8, got an array of shape {image.shape}, {image.dtype}")
        return Picture("", np.ascontiguousarray(image), (image.shape[0], image.shape[1]))
    if not isinstance(image, str | os.PathLike):
        raise ImageError(f"wanted an image file or an RGB array (H, W, 3) uint8, got a {type(image).__name__}")
    return decode(image)


def decode(path: str | os.PathLike[str], keep_px: int = 1024, data: bytes | None = None) -> Picture:
    """Read one photograph as upright 8-bit RGB.

    Exif rotation is applied; 16-bit, grey, palette and CMYK pixels are converted; transparency is laid on white; of
    an animation the first frame is taken. A picture of more than 67 million pixels is reduced by a whole factor while
    it is read, so that beside Pillow's own 4 bytes a pixel almost nothing is needed.

    Args:
        path: A file in any format that Pillow reads.
        keep_px: A huge picture is never reduced to less than this along its shorter side.
        data: What the file holds, where it was read already; ``path`` is then a name alone.

    Returns:
        The picture, with notes.

    Raises:
        ImageError: missing, empty, truncated, above :data:`MAX_PIXELS`, or no image; one line that names the file.
    """
    name = os.fspath(path)
    if data is None:
        check_file(name)
    try:
        with _bomb_limit_lifted():
            image = Image.open(name if data is None else io.BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image that can be read (wanted PNG, JPEG, WebP, TIFF, GIF or BMP)") from None
    except _DAMAGE as error:
        raise ImageError(f"{name}: cannot be read as an image: {_line(error)}") from error
    with image, _one_huge_at_a_time(image):
        return _read(image, name, keep_px)


def check_file(name: str, wanted: str = "an image file", error_type: type[ImageError] = ImageError) -> None:
    """Say what stands in the way of reading a file, before a decoder says it less clearly.

    Raises:
        ImageError: missing, empty, a folder or no regular file; of the type that is asked for.
    """
    try:
        status = Path(name).stat()
    except FileNotFoundError:
        raise error_type(f"{name}: no such file") from None
    except (OSError, ValueError) as error:
        raise error_type(f"{name}: cannot be opened: {_line(error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise error_type(f"{name}: is a folder, wanted {wanted}")
    if not stat.S_ISREG(status.st_mode):
        raise error_type(f"{name}: is not a regular file, wanted {wanted}")
    if status.st_size == 0:
        raise error_type(f"{name}: the file is empty")


_BOMB_LOCK, _HUGE_LOCK = threading.Lock(), threading.Lock()


def _one_huge_at_a_time(image: Image.Image) -> AbstractContextManager[object]:
    """Pictures that take more memory than all else are decoded one after the other, whichever threads ask."""
    return _HUGE_LOCK if image.size[0] * image.size[1] > REDUCE_ABOVE_PIXELS else nullcontext()


@contextmanager
def _bomb_limit_lifted() -> Iterator[None]:
    """Let Pillow read a header that it finds too large: :func:`_read` has a limit of its own."""
    with _BOMB_LOCK:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _read(image: Image.Image, name: str, keep_px: int) -> Picture:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: {width} × {height} pixels, at most {MAX_PIXELS:,} can be read")
    if image.format in _DRAWINGS:
        raise ImageError(f"{name}: {image.format} is a drawing, wanted a photograph (PNG, JPEG, WebP, TIFF, GIF, BMP)")
    factor = max(1, min(width, height) // keep_px) if width * height > REDUCE_ABOVE_PIXELS else 1
    try:
        frames = getattr(image, "n_frames", 1)
        if factor > 1:
            image.draft("RGB", (-(-width // factor), -(-height // factor)))  # JPEG alone can decode a smaller picture
        image.load()
        turn = _UPRIGHT.get(image.getexif().get(0x0112, 1))
    except _DAMAGE as error:
        raise ImageError(f"{name}: damaged or truncated: {_line(error)}") from error
    notes = [f"animation: the first of {frames} frames is explained"] if frames > 1 else []
    if _is_transparent(image):
        notes.append("transparent pixels are laid on white")
    factor = max(1, factor * image.size[0] // width)
    small = _reduced(image, name, factor)
    if turn is not None:
        small = small.transpose(Image.Transpose[turn])
        height, width = (
            (width, height) if turn in {"TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"} else (height, width)
        )
    return Picture(name, np.array(small), (height, width), tuple(notes))


def _reduced(image: Image.Image, name: str, factor: int) -> Image.Image:
    """The picture as RGB, each ``factor`` × ``factor`` pixels averaged, a strip at a time."""
    to_rgb = _converter(image, name)
    if factor == 1:
        return to_rgb(image)
    width, height = image.size
    out = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = max(1, _STRIP_PIXELS // (width * factor)) * factor
    for top in range(0, height, rows):
        strip = to_rgb(image.crop((0, top, width, min(top + rows, height))))
        out.paste(strip.reduce(factor), (0, top // factor))
    return out


def _converter(image: Image.Image, name: str) -> Callable[[Image.Image], Image.Image]:
    """The function that turns this image, or a strip of it, into RGB."""
    if image.mode in _DEEP:
        white = _white_level(image, name)

        def from_deep(part: Image.Image) -> Image.Image:
            values = np.asarray(part).astype(np.float32) * (255.0 / white)
            return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")

        return from_deep
    if _is_transparent(image):

        def on_white(part: Image.Image) -> Image.Image:
            part.info = image.info  # a palette's transparency lives there, and a strip has none
            clear = part.convert("RGBA")
            paper = Image.new("RGBA", clear.size, "white")
            return Image.alpha_composite(paper, clear).convert("RGB")

        return on_white
    try:
        image.crop((0, 0, 1, 1)).convert("RGB")
    except _DAMAGE as error:
        raise ImageError(f"{name}: pixels of mode {image.mode} cannot be shown as RGB") from error
    return lambda part: part.convert("RGB")


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info


def _white_level(image: Image.Image, name: str) -> float:
    """The value that is white: 65,535 for 16-bit integers, 1 for floating point."""
    low, high = (float(v) for v in image.getextrema())  # type: ignore[arg-type]  # one band: two numbers
    white = 1.0 if image.mode == "F" else 65535.0
    if not 0 <= low <= high <= white:
        raise ImageError(
            f"{name}: values from {low:g} to {high:g}, wanted 0 to {white:g} for pixels of mode {image.mode}"
        )
    return white


def _line(error: BaseException) -> str:
    """An exception's text on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
