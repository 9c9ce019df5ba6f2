"""Means with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnviz.core.arrays import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

RESAMPLES = 2000
_BLOCK = 50


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
        value: The mean; NaN for no value.
        low: Lower end of the interval; NaN for fewer than 2 values.
        high: Upper end.
        n: Number of values.
    """

    value: float
    low: float
    high: float
    n: int


def mean_interval(values: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """The mean of one number per image, with a 95 % percentile bootstrap interval.

    Args:
        values: ``(N,)``; NaN for an image without a value, which is left out.
        groups: ``(N,)`` labels. Groups are resampled instead of images, for example the object that several views show:
            views of one object are not independent.
        seed: Random seed.

    Raises:
        ValueError: ``values`` does not have one axis.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. For few images the interval is
    too narrow.

    >>> mean_interval([1.0, 1.0, 1.0, float("nan")])
    Interval(value=1.0, low=1.0, high=1.0, n=3)
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"wanted values (N,), got shape {numbers.shape}")
    value, low, high = mean_intervals(numbers[None], groups, seed)[0].tolist()
    return Interval(value, low, high, int((~np.isnan(numbers)).sum()))


def mean_intervals(values: Array, groups: ArrayLike | None = None, seed: int = 0) -> Array:
    """The mean of each row, with a 95 % percentile bootstrap interval; see :func:`mean_interval`.

    All rows are resampled together, so that two of them can be compared image by image. NaN is left out of every row
    and of every resample.

    Args:
        values: ``(rows, N)``.
        groups: ``(N,)`` labels of the groups that are resampled together; by default each image.
        seed: Random seed.

    Returns:
        ``(rows, 3)``: mean, lower and upper end; NaN where a row has no value, and no interval for fewer than 2 values.

    >>> mean_intervals(np.array([[1.0, 1.0, 1.0], [np.nan, 2.0, np.nan], [np.nan] * 3])).tolist()
    [[1.0, 1.0, 1.0], [2.0, nan, nan], [nan, nan, nan]]
    """
    known = ~np.isnan(values)
    sums, counts = _by_group(np.where(known, values, 0.0), groups), _by_group(known.astype(np.float64), groups)
    total = counts.sum(1)
    found = np.full((len(values), 3), np.nan)
    found[total > 0, 0] = sums[total > 0].sum(1) / total[total > 0]
    enough = total > 1
    if enough.any():
        means = _resampled_means(sums[enough].T, counts[enough].T, seed)
        found[enough, 1:] = np.nanquantile(means, [0.025, 0.975], axis=0).T
    return found


def _by_group(values: Array, groups: ArrayLike | None) -> Array:
    """Sums ``(rows, G)`` over the groups of the columns."""
    if groups is None:
        return values
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(values), int(index.max(initial=-1)) + 1))
    np.add.at(sums.T, index, values.T)
    return sums


def _resampled_means(sums: Array, counts: Array, seed: int) -> Array:
    """Means of resampled groups, ``(RESAMPLES, rows)``; the number of times each is drawn is multinomial."""
    generator, groups = np.random.default_rng(seed), len(sums)
    means: list[Any] = []
    for _ in range(0, RESAMPLES, _BLOCK):
        drawn = generator.multinomial(groups, np.full(groups, 1 / groups), size=_BLOCK).astype(np.float64)
        totals = drawn @ counts
        with np.errstate(invalid="ignore"):
            means.append(np.where(totals > 0, (drawn @ sums) / totals, np.nan))
    return np.concatenate(means)
