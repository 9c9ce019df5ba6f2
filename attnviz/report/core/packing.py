"""Numbers as text for the scripts of a page."""

import base64

import numpy as np

from attnviz.core.arrays import Array


def packed(values: Array) -> str:
    """Encode an array as base64 of its little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def quantised(values: Array, low: Array | float, high: Array | float) -> Array:
    """Quantise values to 256 steps from ``low`` to ``high``, uint8 of the same shape; NaN becomes 0.

    >>> quantised(np.array([0.0, 0.5, 1.0, 9.0]), 0.0, 1.0).tolist()
    [0, 128, 255, 255]
    """
    span = np.maximum(np.asarray(high, np.float32) - low, 1e-30)
    scaled = (values.astype(np.float32) - low) / span
    steps: Array = np.rint(np.clip(np.nan_to_num(scaled), 0, 1) * 255).astype(np.uint8)
    return steps
