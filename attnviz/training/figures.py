"""A mean over views, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_RESAMPLES = 1000
_LEVEL = 0.95

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over views, with what it rests on.

    Attributes:
        value: The mean.
        low: Lower end of the 95 % interval, by resampling objects (or photographs), not views.
        high: Upper end.
        n: How many views.
    """

    value: float
    low: float
    high: float
    n: int


def resampled(values: Numbers, subjects: np.ndarray[Any, Any], seed: int = 0) -> Figure:
    """The mean, with a 95 % interval from resampling subjects: views of one object are not independent.

    Args:
        values: One number for each view.
        subjects: What each view shows.
        seed: Of the resampling.

    Returns:
        The figure; NaN where there is no view.
    """
    if len(values) == 0:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    _, group = np.unique(subjects, return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    draws = np.random.default_rng(seed).integers(0, len(sums), (_RESAMPLES, len(sums)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Figure(float(np.mean(values)), float(low), float(high), len(values))
