"""One map on the image plane, and the ends of its colour scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass
from attnviz.core.arrays import Array

CLIP_PERCENTILE = 99
"""Colours of attributions end here: gradients have a few pixels that would leave the rest black."""


@dataclass(frozen=True, slots=True, eq=False)
class MapView:
    """One map on the image plane, and how it is coloured.

    Attributes:
        name: Unique in the report.
        kind: ``"attention"`` or ``"attribution"``.
        method: How it came about.
        source: The site or layer that it describes.
        values: ``(H, W)`` float32, as measured.
        low: Value at the colour scale's low end.
        high: Value at its high end.
        signed: Whether the scale is centred on 0.
        clipped: Whether values beyond the ends exist.
    """

    name: str
    kind: str
    method: str
    source: str
    values: Array
    low: float
    high: float
    signed: bool
    clipped: bool


def colour_range(values: Array, *, kind: str) -> tuple[float, float, bool, bool]:
    """Ends of the colour scale, whether it is centred on 0, and whether it clips.

    Attention spans its own smallest to largest value. An attribution ends at the 99th percentile of its absolute
    values. A map with both signs gets a scale centred on 0.

    >>> colour_range(np.array([[0.25, 0.5]]), kind="attention")
    (0.25, 0.5, False, False)
    >>> colour_range(np.array([[-1.0, 2.0]]), kind="attention")
    (-2.0, 2.0, True, False)
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0, False, False
    low, high = float(finite.min()), float(finite.max())
    largest = max(-low, high)
    # A few rounding errors below 0 do not make a map signed.
    signed = low < -1e-3 * largest and high > 0
    top = largest
    if kind == "attribution":
        top = float(np.percentile(np.abs(finite), CLIP_PERCENTILE)) or largest
    if signed:
        return -top, top, True, top < largest
    if high <= 0:
        return low, high, False, False
    return low, max(top, low) if kind == "attribution" else high, False, top < largest
