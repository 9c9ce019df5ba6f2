"""A map on the image plane with the ends of its colour scale."""

from dataclasses import dataclass

import numpy as np

from attnviz.core.arrays import Array

CLIP_PERCENTILE = 99
"""Upper end of an attribution's colours. Gradients have a few pixels that would leave all others black."""


@dataclass(frozen=True, slots=True, eq=False)
class MapView:
    """A map on the image plane and its colour scale.

    Attributes:
        name: Name, unique in the report.
        kind: ``"attention"`` or ``"attribution"``.
        method: Attribution method or projection that computed the map.
        source: The site or layer that it describes.
        values: ``(H, W)`` float32, unscaled.
        low: Value at the low end of the colour scale.
        high: Value at the high end.
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
    """Return the ends of the colour scale, whether it is centred on 0, and whether it clips.

    Attention spans its smallest to largest value. An attribution ends at the 99th percentile of its absolute values. A
    map with both signs gets a scale centred on 0.

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
    # Rounding errors just below 0 do not make a map signed.
    signed = low < -1e-3 * largest and high > 0
    top = largest
    if kind == "attribution":
        top = float(np.percentile(np.abs(finite), CLIP_PERCENTILE)) or largest
    if signed:
        return -top, top, True, top < largest
    if high <= 0:
        return low, high, False, False
    return low, max(top, low) if kind == "attribution" else high, False, top < largest
