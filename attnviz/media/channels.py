"""Channels of an image: convert their number, resize them, and display any number of them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from attnviz.errors import ImageError

Pixels: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_STRETCH = (2, 98)
"""Percentiles that are shown as black and white if channels are stretched."""


def as_pixels(array: Pixels, name: str = "the image") -> Pixels:
    """Return an array as pixels: uint8, or float32.

    Args:
        array: ``(H, W, C)`` or ``(H, W)``: uint8; uint16, of which 65,535 is 1; bool; or floating point and other
            integers, which are used as they are.
        name: Name of the image, for messages.

    Returns:
        ``(H, W, C)``.

    Raises:
        ImageError: another shape, no number, or a value that is not finite.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ImageError(f"{name}: an image is (H, W, C) or (H, W), got an array of shape {array.shape}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array).astype(np.uint8) * 255
    if array.dtype.kind not in "iuf":
        raise ImageError(f"{name}: an image is an array of numbers, got {array.dtype}")
    values = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(values).all():
        raise ImageError(f"{name}: holds values that are not finite")
    return values / np.float32(65535) if array.dtype == np.uint16 else values


def with_channel_count(pixels: Pixels, channels: int, name: str = "the image") -> Pixels:
    """Return an image with the number of channels that a model takes: luminance for 1, grey repeated for 3.

    Luminance is that of ITU-R 601-2, as in Pillow.

    Raises:
        ImageError: not ``(H, W, C)`` or ``(H, W)`` uint8 or float32, or another number of channels.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.dtype not in (np.uint8, np.float32):
        raise ImageError(f"{name}: pixels are (H, W, C) uint8 or float32, got {pixels.shape} {pixels.dtype}")
    has = pixels.shape[2]
    if has == channels:
        return pixels
    if (has, channels) == (1, 3):
        return np.repeat(pixels, 3, 2)
    if (has, channels) == (3, 1):
        if pixels.dtype == np.uint8:
            return np.array(Image.fromarray(pixels).convert("L"))[..., None]
        return pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)
    swapped = "; the channels are the last axis of an array" if pixels.shape[0] == channels else ""
    raise ImageError(f"{name}: has {has} channel{'s' * (has != 1)}, the model takes {channels}{swapped}")


def resampled(
    pixels: Pixels, size: tuple[int, int], filter_name: str, box: tuple[float, float, float, float] | None = None
) -> Pixels:
    """Return an image ``(H, W, C)``, or its part in a box, at another size ``(H, W)``; antialiased."""
    filter_of = Image.Resampling[filter_name.upper()]
    to = (size[1], size[0])
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return np.array(Image.fromarray(pixels).resize(to, filter_of, box))
    bands = (Image.fromarray(np.ascontiguousarray(pixels[..., band])) for band in range(pixels.shape[2]))
    return np.stack([np.asarray(band.resize(to, filter_of, box)) for band in bands], -1)


def displayed(pixels: Pixels) -> Pixels:
    """Return any image as an RGB picture ``(H, W, 3)`` uint8.

    Colours are unchanged. One or two channels are shown as grey, of which two the first; of four or more the first
    three are red, green and blue, each stretched from its 2nd to its 98th percentile, as are floating-point values
    outside 0 and 1.
    """
    has = pixels.shape[2]
    first = pixels[..., :3] if has >= 3 else pixels[..., :1]
    if has <= 3:
        if pixels.dtype == np.uint8:
            return first if has == 3 else np.repeat(first, 3, 2)
        if first.min() >= 0 and first.max() <= 1:
            return np.repeat((first * 255).round().astype(np.uint8), 3 // first.shape[2], 2)
    low, high = np.percentile(first.reshape(-1, first.shape[2]), _STRETCH, axis=0)
    values = (first - low) / np.where(high > low, high - low, 1)
    return np.repeat((values.clip(0, 1) * 255).round().astype(np.uint8), 3 // first.shape[2], 2)


def note_of_channels(channels: int) -> tuple[str, ...]:
    """Return a note about the display of a model's input that is not RGB.

    >>> note_of_channels(3)
    ()
    """
    if channels == 3:
        return ()
    if channels == 1:
        return ("The model takes one channel: colours are converted to luminance, and pictures are shown in grey.",)
    if channels == 2:
        return ("The model takes 2 channels: pictures show the first, in grey.",)
    return (
        f"The model takes {channels} channels: pictures show the first three as red, green and blue, each stretched "
        f"from its {_STRETCH[0]}nd to its {_STRETCH[1]}th percentile.",
    )
