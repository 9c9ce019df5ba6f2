"""How sure a mean over images is: bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
