"""Numbers as text for the scripts of a page."""

from __future__ import annotations

import base64

import numpy as np

from attnviz.core.arrays import Array


def packed(values: Array) -> str:
    """Numbers as text for a script to unpack: little-endian bytes in base64."""
    return base64.b64encode(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def steps(values: Array, low: Array | float, high: Array | float) -> Array:
    """Values as 8-bit steps from ``low`` to ``high``; NaN is the low end.

    >>> steps(np.array([0.0, 0.5, 1.0, 9.0]), 0.0, 1.0).tolist()
    [0, 128, 255, 255]
    """
    span = np.maximum(np.asarray(high, np.float32) - low, 1e-30)
    scaled = (values.astype(np.float32) - low) / span
    rounded: Array = np.rint(np.clip(np.nan_to_num(scaled), 0, 1) * 255).astype(np.uint8)
    return rounded
