"""Colours of maps and overlays.

Attention uses viridis, attributions inferno, maps with both signs seaborn's vlag around 0. All three are perceptually
uniform: equal steps look equal, also in print and with most colour vision deficiencies.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from attnviz.core.arrays import Array
from attnviz.report.core.map_view import MapView
from attnviz.report.core.packing import quantised

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

OPACITY = 0.5
"""Default opacity of an overlay."""


_CATEGORIES = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178), (240, 228, 66),
    (160, 160, 160),
)  # fmt: skip


def categorical(number: int) -> tuple[int, int, int]:
    """Return the colour of a category, RGB; they repeat after eight.

    Source: Okabe and Ito, "Color Universal Design", 2008: distinct also for colour-blind readers; yellow comes late.
    """
    return _CATEGORIES[number % len(_CATEGORIES)]


def palette(view: MapView) -> str:
    """Return the name of a map's colour map."""
    return "vlag" if view.signed else "viridis" if view.kind == "attention" else "inferno"


@cache
def _colour_map(name: str) -> Colormap:
    import matplotlib as mpl

    if name == "vlag":
        import seaborn as sns

        vlag: Colormap = sns.color_palette(name, as_cmap=True)
        return vlag
    return mpl.colormaps[name]


def levels(view: MapView) -> Array:
    """Quantise a map's values to the 256 steps of its colour scale, ``(H, W)`` uint8; NaN becomes the low end."""
    return quantised(view.values, view.low, view.high)


def lookup(view: MapView) -> Array:
    """Return the colour scale of a map, ``(256, 3)`` uint8 RGB."""
    table: Array = np.rint(_colour_map(palette(view))(np.arange(256))[:, :3] * 255).astype(np.uint8)
    return table


def coloured(view: MapView, size: tuple[int, int] | None = None) -> Array:
    """Return a map in its colours, ``(H, W, 3)`` uint8 RGB, at its own size or at ``size``, ``(H, W)``."""
    scaled = levels(view)
    if size is not None and scaled.shape != size:
        larger = max(scaled.shape) < max(size)
        scaled = cv2.resize(scaled, size[::-1], interpolation=cv2.INTER_CUBIC if larger else cv2.INTER_AREA)
    return lookup(view)[scaled]


def overlay(picture: Array, view: MapView, opacity: float = OPACITY) -> Array:
    """Blend a coloured map over an RGB picture, ``(H, W, 3)`` uint8: opacity 0 shows only the picture, 1 the map.

    The picture turns grey in proportion to the opacity, so that the colours remain those of the scale. A map with both
    signs is more opaque, since its 0 is white and lightens the picture.
    """
    colour = coloured(view, picture.shape[:2])
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    background = cv2.addWeighted(grey, opacity, picture, 1 - opacity, 0)
    weight = min(1.0, opacity * (1.4 if view.signed else 1.0))
    return np.asarray(cv2.addWeighted(colour, weight, background, 1 - weight, 0))


def resized(picture: Array, side_px: int) -> Array:
    """Resize a picture to a longer side of ``side_px`` by area averaging."""
    height, width = picture.shape[:2]
    scale = side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def data_uri(data: bytes, media_type: str) -> str:
    """Encode bytes as a ``data:`` URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def jpeg_uri(picture: Array, quality: int = 88) -> str:
    """Encode an RGB picture as a JPEG ``data:`` URI."""
    encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return data_uri(encoded.tobytes(), "image/jpeg")


def map_uri(view: MapView) -> str:
    """Encode a map in its colours as a PNG ``data:`` URI."""
    return png_uri(levels(view), lookup(view))


def png_uri(values: Array, table: Array | None = None) -> str:
    """Encode ``(H, W)`` uint8 values as a grey PNG ``data:`` URI, or in the colours of a ``table``."""
    image = Image.fromarray(values)
    if table is not None:
        image = image.convert("P")
        image.putpalette(table.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return data_uri(buffer.getvalue(), "image/png")


def gradient_css(view: MapView) -> str:
    """Return the colour scale as a CSS gradient."""
    stops = lookup(view)[np.linspace(0, 255, 17).round().astype(int)]
    return "linear-gradient(to right, " + ", ".join(f"rgb({r} {g} {b})" for r, g, b in stops) + ")"
