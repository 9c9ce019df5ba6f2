"""Decode image files to RGB, and arrays to pixels: every format, in bounded memory, damaged files rejected.

Pillow's own limit of the image size is a global setting. It is neither changed nor applied here, except by Pillow's
decoders of WebP and TIFF.
"""

import io
import os
import stat
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from attnviz.errors import ImageError
from attnviz.media.channels import as_pixels

MAX_PIXELS = 1 << 29
"""Maximum size of an image: 536,870,912 pixels, 2 GiB decoded. 20,000 × 20,000 is below."""

REDUCE_ABOVE_PIXELS = 1 << 26
"""Images with more pixels (67 million) are reduced by a whole factor while they are decoded."""

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)
_DRAWINGS = {"EPS", "WMF"}  # Pillow decodes them by running other programs
_DEEP = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_SWAPS_SIDES = 5  # Exif orientations from this one on exchange width and height
_TO_UPRIGHT = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split()  # 2 to 8
_HUGE_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded image.

    Attributes:
        path: Path of the file, as given.
        pixels: ``(H, W, 3)`` uint8 RGB, upright; of an array ``(H, W, C)`` uint8 or float32.
        size: ``(H, W)`` of the upright original; larger than ``pixels`` if it was reduced.
        notes: Conversions that change the content: first frame of an animation, transparency on white.
    """

    path: str
    pixels: np.ndarray[Any, np.dtype[Any]]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def as_picture(image: str | os.PathLike[str] | Picture | np.ndarray[Any, np.dtype[Any]]) -> Picture:
    """Convert a path, a :class:`Picture` or an array to a :class:`Picture`.

    Raises:
        ImageError: see :func:`decode` and :func:`~attnviz.media.channels.as_pixels`; another type.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, np.ndarray):
        pixels = as_pixels(image)
        return Picture("", pixels, (pixels.shape[0], pixels.shape[1]))
    if not isinstance(image, str | os.PathLike):
        raise ImageError(f"wanted an image file or an array (H, W, C), got a {type(image).__name__}")
    return decode(image)


def decode(
    path: str | os.PathLike[str],
    keep_px: int = 1024,
    data: bytes | None = None,
    *,
    reduce_above: int = REDUCE_ABOVE_PIXELS,
    strip_pixels: int = 1 << 22,
) -> Picture:
    """Decode an image as upright 8-bit RGB; a ``.npy`` file as it is, see :func:`~attnviz.media.channels.as_pixels`.

    Exif orientation is applied; 16-bit, grey, palette and CMYK pixels are converted; transparency is composited on
    white; of an animation the first frame is decoded. An image of more than 67 million pixels is reduced by a whole
    factor, strip by strip, so that little memory is needed beyond Pillow's 4 bytes per pixel.

    Args:
        path: File in any format that Pillow decodes, or a NumPy array ``(H, W, C)`` or ``(H, W)``.
        keep_px: Minimum of the shorter side after the reduction.
        data: Content of the file if it was read already; ``path`` is then only a name.
        reduce_above: Number of pixels above which an image is reduced.
        strip_pixels: Number of pixels that are reduced at a time.

    Raises:
        ImageError: missing, empty, truncated, larger than :data:`MAX_PIXELS`, or not an image; one line that names the
            file.
    """
    name = os.fspath(path)
    if data is None:
        check_file(name)
    if name.lower().endswith(".npy"):
        return _decode_array(name, data)
    try:
        stream: IO[bytes] = io.BytesIO(data) if data is not None else Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        raise ImageError(f"{name}: cannot be read as an image: {error_line(error)}") from error
    with stream:
        try:
            with _identify(stream, name) as image:
                is_huge = image.size[0] * image.size[1] > reduce_above
                with _HUGE_LOCK if is_huge else nullcontext():  # threads decode them in turn: each needs gigabytes
                    return _decode(image, name, keep_px if is_huge else None, strip_pixels)
        except Image.DecompressionBombError as error:  # the decoders of WebP and TIFF apply Pillow's limit themselves
            raise ImageError(f"{name}: too large for its format: {error_line(error)}") from error


def _decode_array(name: str, data: bytes | None) -> Picture:
    """The picture of a ``.npy`` file; nothing in it is executed."""
    source: Any = name if data is None else io.BytesIO(data)
    try:
        array = np.load(source, mmap_mode="r" if data is None else None, allow_pickle=False)
    except (*_DAMAGE, MemoryError) as error:
        raise ImageError(f"{name}: cannot be read as an array: {error_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise ImageError(f"{name}: wanted one array, got a {type(array).__name__}")
    if array.size > 4 * MAX_PIXELS:
        raise ImageError(f"{name}: {array.size:,} values, at most {4 * MAX_PIXELS:,} can be read")
    pixels = as_pixels(array, name)
    return Picture(name, pixels, (pixels.shape[0], pixels.shape[1]))


def check_file(name: str, wanted: str = "an image file", error_type: type[ImageError] = ImageError) -> None:
    """Raise an error that is clearer than a decoder's if a file cannot be read; ``wanted`` is the kind of file.

    Raises:
        ImageError: or ``error_type``: missing, empty, a folder or not a regular file.
    """
    try:
        status = Path(name).stat()
    except FileNotFoundError:
        raise error_type(f"{name}: no such file") from None
    except (OSError, ValueError) as error:
        raise error_type(f"{name}: cannot be opened: {error_line(error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise error_type(f"{name}: is a folder, wanted {wanted}")
    if not stat.S_ISREG(status.st_mode):
        raise error_type(f"{name}: is not a regular file, wanted {wanted}")
    if status.st_size == 0:
        raise error_type(f"{name}: the file is empty")


def _identify(stream: IO[bytes], name: str) -> Image.Image:
    """The image with its header read, as by ``Image.open`` but without Pillow's size limit."""
    start = stream.read(16)
    for import_formats in (Image.preinit, Image.init):  # the common formats, then all
        import_formats()
        for identifier in Image.ID:
            factory, accepts = Image.OPEN[identifier]
            if accepts is None or accepts(start) is True:
                stream.seek(0)
                try:
                    return factory(stream, name)
                except (SyntaxError, IndexError, TypeError, struct.error):
                    continue  # another format
                except _DAMAGE as error:
                    raise ImageError(f"{name}: cannot be read as an image: {error_line(error)}") from error
    raise ImageError(f"{name}: not an image that can be read (wanted PNG, JPEG, WebP, TIFF, GIF or BMP)")


def _decode(image: Image.Image, name: str, keep_px: int | None, strip_pixels: int) -> Picture:
    """The image, reduced to a shorter side of at least ``keep_px`` if that is given."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: {width} × {height} pixels, at most {MAX_PIXELS:,} can be read")
    if image.format in _DRAWINGS:
        raise ImageError(f"{name}: {image.format} is a drawing, wanted a photograph (PNG, JPEG, WebP, TIFF, GIF, BMP)")
    factor = max(1, min(width, height) // keep_px) if keep_px else 1
    try:
        frames = getattr(image, "n_frames", 1)
        if factor > 1:
            image.draft("RGB", (-(-width // factor), -(-height // factor)))  # reduces a JPEG while it is decoded
        if image.format == "TIFF":
            image.getexif()  # Pillow 10 cannot read it after load, which closes the file
        image.load()
        orientation = image.getexif().get(0x0112, 1)
    except _DAMAGE as error:
        raise ImageError(f"{name}: damaged or truncated: {error_line(error)}") from error
    notes = [f"animation: the first of {frames} frames is explained"] if frames > 1 else []
    if _is_transparent(image):
        notes.append("transparent pixels are laid on white")
    reduced = _reduced(image, name, max(1, factor * image.size[0] // width), strip_pixels)
    if orientation in range(2, 9):
        reduced = reduced.transpose(Image.Transpose[_TO_UPRIGHT[orientation - 2]])
    size = (width, height) if orientation in range(_SWAPS_SIDES, 9) else (height, width)
    return Picture(name, np.array(reduced), size, tuple(notes))


def _reduced(image: Image.Image, name: str, factor: int, strip_pixels: int) -> Image.Image:
    """The image as RGB, with each ``factor`` × ``factor`` pixels averaged, strip by strip."""
    to_rgb = _converter(image, name)
    if factor == 1:
        return to_rgb(image)
    width, height = image.size
    out = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = max(1, strip_pixels // (width * factor)) * factor
    for top in range(0, height, rows):
        strip = to_rgb(image.crop((0, top, width, min(top + rows, height))))
        out.paste(strip.reduce(factor), (0, top // factor))
    return out


def _converter(image: Image.Image, name: str) -> Callable[[Image.Image], Image.Image]:
    """The function that converts this image, or a strip of it, to RGB."""
    if image.mode in _DEEP:
        white = _white_level(image, name)

        def from_deep(part: Image.Image) -> Image.Image:
            values = np.asarray(part).astype(np.float32) * (255.0 / white)
            return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")

        return from_deep
    if _is_transparent(image):

        def on_white(part: Image.Image) -> Image.Image:
            part.info = image.info  # it holds the transparency of a palette, which a strip lacks
            transparent = part.convert("RGBA")
            background = Image.new("RGBA", transparent.size, "white")
            return Image.alpha_composite(background, transparent).convert("RGB")

        return on_white
    try:
        image.crop((0, 0, 1, 1)).convert("RGB")
    except _DAMAGE as error:
        raise ImageError(f"{name}: pixels of mode {image.mode} cannot be converted to RGB") from error
    return lambda part: part.convert("RGB")


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info


def _white_level(image: Image.Image, name: str) -> float:
    """The value of white: 65,535 for integers, 1 for floating point."""
    low, high = (float(v) for v in image.getextrema())  # type: ignore[arg-type]  # one band: two numbers
    white = 1.0 if image.mode == "F" else 65535.0
    if not 0 <= low <= high <= white:
        raise ImageError(
            f"{name}: values from {low:g} to {high:g}, wanted 0 to {white:g} for pixels of mode {image.mode}"
        )
    return white


def error_line(error: BaseException) -> str:
    """Return the message of an exception on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
