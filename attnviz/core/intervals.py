"""How sure a mean over images is: bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnviz.core.arrays import Array

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over images, with what it rests on.

    Attributes:
        value: The mean; NaN where no image has a number.
        low: Lower end of the interval; NaN below 2 images.
        high: Upper end.
        n: How many images have a number.
        undefined: How many have none.
    """

    value: float
    low: float
    high: float
    n: int
    undefined: int = 0


def bootstrap(values: Tensor, *, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean of one number for each image, with a percentile interval from resampling the images.

    Args:
        values: ``(N,)``; NaN where an image has no number. Those are left out and counted.
        level: Of the interval.
        seed: Of the resampling.

    Raises:
        ValueError: not one axis, or a level that is not between 0 and 1.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. With few images it is too
    narrow.

    >>> bootstrap(torch.tensor([1.0, 1.0, 1.0, float("nan")]))
    Interval(value=1.0, low=1.0, high=1.0, n=3, undefined=1)
    """
    if values.ndim != 1 or not 0 < level < 1:
        raise ValueError(f"wanted (N,) values and a level between 0 and 1, got {tuple(values.shape)} and {level}")
    known = values.detach().double().cpu()
    known = known[~known.isnan()]
    missing = len(values) - len(known)
    mean = float(known.mean()) if len(known) else float("nan")
    if len(known) < 2:
        return Interval(mean, float("nan"), float("nan"), len(known), missing)
    draws = torch.randint(len(known), (RESAMPLES, len(known)), generator=torch.Generator().manual_seed(seed))
    means = known[draws].mean(dim=1)
    low, high = torch.quantile(means, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=means.dtype)).tolist()
    return Interval(mean, low, high, len(known), missing)


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


_RESAMPLES = 1000
_LEVEL = 0.95

MeasureColumn = np.ndarray[tuple[int], np.dtype[np.float64]]


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


def resampled(values: MeasureColumn, subjects: np.ndarray[Any, Any], seed: int = 0) -> Figure:
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
