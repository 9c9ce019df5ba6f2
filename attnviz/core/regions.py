"""From a map to regions: masks above a threshold, and the boxes of their connected parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from attnviz.core.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor

Threshold: TypeAlias = float | Literal["otsu"]
ThresholdOf: TypeAlias = Literal["maximum", "quantile"]

_LEVELS = 255


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A connected part of a mask.

    Attributes:
        box: Left, top, right, bottom in pixels of the map; right and bottom are exclusive.
        area: Number of pixels.
        peak: Largest value of the map in the region.
        mean: Mean value of the map in the region.
        mask: The pixels of the region inside its box, ``(bottom - top, right - left)`` bool.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float
    mean: float
    mask: Array


def mask_of(values: Tensor, threshold: Threshold, of: ThresholdOf) -> Tensor:
    """The positions with large positive values; see :meth:`Heatmap.mask <attnviz.Heatmap.mask>`.

    Args:
        values: ``(N, ...)``.
        threshold: A share of the maximum or a quantile of each map, or ``"otsu"``.
        of: What a number is a share of.

    Returns:
        Bool, of the shape of ``values``.

    Raises:
        ValueError: an unknown ``of``, or a threshold outside its range.
    """
    _check_threshold(threshold, of)
    flat = values.detach().flatten(1)
    flat = flat if flat.is_floating_point() and flat.element_size() >= 4 else flat.float()
    is_finite = flat.isfinite().all(dim=1, keepdim=True)
    positive = flat.where(is_finite, flat.new_zeros(())).clamp_min(0)
    if threshold == "otsu":
        found = _above_otsu(positive)
    elif of == "quantile":
        found = positive > positive.quantile(threshold, dim=1, keepdim=True)
    else:
        found = positive >= threshold * positive.amax(dim=1, keepdim=True)
    return (found & (positive > 0)).reshape(values.shape)


def _check_threshold(threshold: object, of: str) -> None:
    ranges: dict[str, tuple[Callable[[float], bool], str]] = {
        "maximum": (lambda share: 0 < share <= 1, "a share of the maximum is above 0 and at most 1"),
        "quantile": (lambda share: 0 <= share < 1, "a quantile is at least 0 and below 1"),
    }
    if of not in ranges:
        raise ValueError(f"a threshold is of the maximum or quantile, got of={of!r}")
    is_within, rule = ranges[of]
    if threshold != "otsu" and not (isinstance(threshold, int | float) and is_within(threshold)):
        raise ValueError(f"{rule}, or the threshold is 'otsu'; got {threshold!r}")


def _above_otsu(positive: Tensor) -> Tensor:
    """The positions above Otsu's threshold of each row, on 256 levels from 0 to its maximum."""
    import cv2
    import torch

    scale = positive.amax(dim=1, keepdim=True).clamp_min(torch.finfo(positive.dtype).tiny)
    levels = (positive / scale * _LEVELS).round().to(torch.uint8)
    limits = [cv2.threshold(row, 0, _LEVELS, cv2.THRESH_OTSU)[0] for row in levels.cpu().numpy()]
    return levels > torch.tensor(limits, device=levels.device).reshape(-1, 1)


def regions_of(values: Array, mask: Array, min_area: int = 1) -> tuple[Region, ...]:
    """The connected parts of a mask, those with the largest values first; diagonal neighbours are connected.

    Args:
        values: The map, ``(H, W)``.
        mask: ``(H, W)`` bool.
        min_area: Smallest number of pixels of a region.
    """
    import cv2

    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    found = []
    for label in range(1, count):
        left, top, width, height, area = (int(number) for number in statistics[label])
        if area >= min_area:
            window = slice(top, top + height), slice(left, left + width)
            inside = labels[window] == label
            held = values[window][inside]
            box = (left, top, left + width, top + height)
            found.append(Region(box, area, float(held.max()), float(held.mean(dtype=np.float64)), inside))
    return tuple(sorted(found, key=lambda region: (-region.peak, -region.area, region.box)))
