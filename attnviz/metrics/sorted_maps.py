"""Maps sorted by strength once, for all measures that need it."""

import math
from functools import cached_property

import torch
from torch import Tensor

from attnviz.core.sorting import rising


class SortedMaps:
    """The strengths of maps, sorted when they are first needed.

    Args:
        maps: ``(N, ...)``, any sign, ``n`` >= 2 values each.

    Raises:
        ValueError: fewer than 2 values per map.
    """

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps
        self._rows = _rows(maps)

    @property
    def n(self) -> int:
        """Number of values of each map."""
        return self._rows.shape[1]

    @cached_property
    def strengths(self) -> Tensor:
        """Absolute values in ascending order, relative to the largest of their map: ``(N, n)`` float64.

        All NaN for a map that is zero everywhere or not finite. Dividing first keeps squares of very large and very
        small values representable.
        """
        v = rising(self._rows.abs()).double()
        return _relative(v, v[:, -1:])

    @cached_property
    def cumulative(self) -> Tensor:
        """Cumulative sum of the strengths, ``(N, n)``."""
        return self.strengths.cumsum(dim=1)

    @property
    def total(self) -> Tensor:
        """Sum of the strengths, ``(N,)``."""
        return self.cumulative[:, -1]

    def lorenz(self, points: int) -> Tensor:
        """The Lorenz curve at ``points`` even shares of the entries, ``(N, points)`` float64."""
        shares = torch.nn.functional.pad(self.cumulative, (1, 0)) / self.total[:, None]
        at = torch.linspace(0, self.n, points, dtype=shares.dtype, device=shares.device)
        below = at.floor().clamp(max=self.n - 1).long()
        return shares[:, below].lerp(shares[:, below + 1], (at - below).expand(len(shares), -1))


def sorted_maps(maps: Tensor | SortedMaps) -> SortedMaps:
    """Maps in sorted form; sorted ones as they are."""
    return maps if isinstance(maps, SortedMaps) else SortedMaps(maps)


def strengths(maps: Tensor) -> Tensor:
    """Absolute values of each map in their own order, ``(N, n)`` float64, relative to the largest; NaN if undefined."""
    v = _rows(maps).double().abs()
    return _relative(v, v.amax(dim=1, keepdim=True))


def _rows(maps: Tensor) -> Tensor:
    rows = maps.detach().flatten(1) if maps.ndim > 1 else maps.detach()[:, None]
    if rows.shape[1] < 2:
        raise ValueError(f"sparsity is of maps (N, ...) with 2 values or more each, got shape {tuple(maps.shape)}")
    return rows


def _relative(v: Tensor, largest: Tensor) -> Tensor:
    return torch.where(largest.isfinite() & (largest > 0), v / largest, math.nan)
