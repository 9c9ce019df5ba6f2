"""Pictures with the number of channels that a model takes; files with several bands or pages are read whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from attnviz.errors import ImageError
from attnviz.media.channels import Pixels, as_pixels, note_of_channels
from attnviz.media.image_decoding import MAX_PIXELS, Picture, error_line

_CHANNELS_FIRST = "an array is (H, W, C) or (H, W)"


def picture_for(picture: Picture, channels: int, data: bytes | None = None) -> Picture:
    """Return a picture with the channels that a model takes, and a note if these are not RGB.

    A picture of 1 or 3 channels is returned for a model of 1 or 3. For another number, the file is read again, with all
    of its bands.

    Args:
        picture: Decoded picture.
        channels: Number of channels that the model takes.
        data: Content of the file if it was read already.

    Raises:
        ImageError: the file has another number of channels.
    """
    notes = tuple(dict.fromkeys((*picture.notes, *note_of_channels(channels))))
    has = picture.pixels.shape[2]
    if has == channels or {has, channels} == {1, 3}:
        return replace(picture, notes=notes)
    name = picture.path or "the image"
    if has == 3 and picture.path:
        pixels = _read_bands(picture.path, data)
        if pixels.shape[2] == channels:
            kept = tuple(note for note in notes if not note.startswith(("animation:", "transparent")))
            return Picture(picture.path, pixels, (pixels.shape[0], pixels.shape[1]), kept)
        has = pixels.shape[2]
    first = f"; {_CHANNELS_FIRST}: move the channels to the end" if picture.pixels.shape[0] == channels else ""
    raise ImageError(f"{name}: has {has} channel{'s' * (has != 1)}, the model takes {channels}{first}")


def _read_bands(path: str, data: bytes | None) -> Pixels:
    """All bands of all pages of an image file, ``(H, W, C)``."""
    try:
        with Image.open(io.BytesIO(data) if data is not None else path) as image:
            pages = list(_pages(image, path))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"{path}: its channels cannot be read: {error_line(error)}") from error
    if len({(page.shape[:2], page.dtype) for page in pages}) != 1:
        raise ImageError(f"{path}: its pages differ in size or type, so they are not channels of one image")
    return np.concatenate(pages, 2)


def _pages(image: Image.Image, path: str) -> Iterator[Pixels]:
    total = 0
    for number in range(getattr(image, "n_frames", 1) if image.format == "TIFF" else 1):
        image.seek(number)
        total += image.size[0] * image.size[1]
        if total > MAX_PIXELS:
            raise ImageError(f"{path}: more than {MAX_PIXELS:,} pixels in its pages")
        yield as_pixels(np.array(image.convert("RGB") if image.mode == "P" else image), path)
