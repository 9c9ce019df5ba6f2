"""Colours of maps, and overlays by OpenCV.

Attention is viridis, attribution inferno, a map with both signs seaborn's vlag around 0: all three are perceptually
uniform, so that equal steps look equal, also in print and to most colour-blind eyes.
"""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from attnviz.core.arrays import Array
from attnviz.report.core.map_view import MapView
from attnviz.report.core.packing import steps

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

OPACITY = 0.5
"""How strongly an overlay covers the photograph."""


def colour_map(view: MapView) -> Colormap:
    """The Matplotlib colour map of a map."""
    return _colour_map(palette(view))


def palette(view: MapView) -> str:
    """The name of a map's colour map."""
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
    """The map's values as 8-bit steps of its colour scale; NaN is the low end.

    Returns:
        ``(H, W)`` uint8.
    """
    return steps(view.values, view.low, view.high)


def lookup(view: MapView) -> Array:
    """The colour scale as ``(256, 3)`` uint8 RGB."""
    table: Array = np.rint(colour_map(view)(np.arange(256))[:, :3] * 255).astype(np.uint8)
    return table


def coloured(view: MapView, side_px: int | None = None) -> Array:
    """The map in colour.

    Args:
        view: The map.
        side_px: Width and height of the result; the map's own by default.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    scaled = levels(view)
    if side_px is not None and scaled.shape != (side_px, side_px):
        larger = max(scaled.shape) < side_px
        scaled = cv2.resize(scaled, (side_px, side_px), interpolation=cv2.INTER_CUBIC if larger else cv2.INTER_AREA)
    return lookup(view)[scaled]


def overlay(picture: Array, view: MapView, opacity: float = OPACITY) -> Array:
    """The map laid over a picture, which turns grey as far as it is covered: the colours stay those of the scale.

    A map with both signs covers more: its 0 is white, and lightens the picture.

    Args:
        picture: Square RGB, ``(S, S, 3)`` uint8.
        view: The map.
        opacity: 0 shows the picture alone, 1 the map alone.

    Returns:
        ``(S, S, 3)`` uint8 RGB.
    """
    colour = coloured(view, picture.shape[0])
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    under = cv2.addWeighted(grey, opacity, picture, 1 - opacity, 0)
    cover = min(1.0, opacity * (1.4 if view.signed else 1.0))
    return np.asarray(cv2.addWeighted(colour, cover, under, 1 - cover, 0))


def data_uri(data: bytes, media_type: str) -> str:
    """The bytes as a ``data:`` address that needs no network."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def jpeg_uri(picture: Array, quality: int = 88) -> str:
    """An RGB picture as a JPEG ``data:`` address."""
    encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return data_uri(encoded.tobytes(), "image/jpeg")


def map_uri(view: MapView) -> str:
    """A map as a PNG ``data:`` address in its colours."""
    return _png_uri(levels(view), lookup(view))


def grey_uri(values: Array) -> str:
    """Bytes ``(H, W)`` uint8 as a grey PNG ``data:`` address: exact, packed, and unpacked by every browser."""
    return _png_uri(values, None)


def _png_uri(values: Array, table: Array | None) -> str:
    from io import BytesIO

    from PIL import Image

    image = Image.fromarray(values)
    if table is not None:
        image = image.convert("P")
        image.putpalette(table.tobytes())
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return data_uri(buffer.getvalue(), "image/png")


def gradient_css(view: MapView) -> str:
    """The colour scale as a CSS gradient."""
    stops = lookup(view)[np.linspace(0, 255, 17).round().astype(int)]
    return "linear-gradient(to right, " + ", ".join(f"rgb({r} {g} {b})" for r, g, b in stops) + ")"
