"""Means over images with bootstrap intervals, many at once."""

from __future__ import annotations

import numpy as np

from attnviz.report.document import Array

RESAMPLES = 1000
_AT_ONCE = 50


def intervals(values: Array, seed: int = 0) -> Array:
    """The mean of each row, and the 95 % percentile bootstrap interval of it over images.

    All rows are resampled together, so that two of them can be compared image by image. What is NaN is left out, of
    every resample as well.

    Args:
        values: ``(rows, images)``.
        seed: Of the resampling.

    Returns:
        ``(rows, 3)``: mean, lower and upper end; NaN where a row has no number, and no interval below two images.

    >>> intervals(np.array([[1.0, 1.0, 1.0], [np.nan, 2.0, np.nan], [np.nan] * 3])).tolist()
    [[1.0, 1.0, 1.0], [2.0, nan, nan], [nan, nan, nan]]
    """
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    count = there.sum(1)
    found = np.full((len(values), 3), np.nan)
    some = count > 0
    found[some, 0] = filled[some].sum(1) / count[some]
    enough = count > 1
    if enough.any():
        means = _resampled(filled[enough].T, there[enough].T.astype(np.float64), seed)
        found[enough, 1:] = np.nanquantile(means, [0.025, 0.975], axis=0).T
    return found


def _resampled(filled: Array, there: Array, seed: int) -> Array:
    """Means of resampled images, ``(RESAMPLES, rows)``; how often each image is drawn is a draw of a multinomial."""
    generator, images = np.random.default_rng(seed), len(filled)
    means = []
    for _ in range(0, RESAMPLES, _AT_ONCE):
        drawn = generator.multinomial(images, np.full(images, 1 / images), size=_AT_ONCE).astype(np.float64)
        totals = drawn @ there
        with np.errstate(invalid="ignore"):
            means.append(np.where(totals > 0, (drawn @ filled) / totals, np.nan))
    return np.concatenate(means)
