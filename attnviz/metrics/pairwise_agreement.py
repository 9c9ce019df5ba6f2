"""Agreement of every two maps of each image, where what depends on one map is computed once.

``M`` maps have ``M (M - 1) / 2`` pairs. Ranking a map, scaling it to [0, 1] and finding its strongest pixels takes most
of the time and is the same in every pair.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.sorting import order_of

WINDOW = 11
"""Side of the windows of structural similarity, in pixels."""

TOP = 0.2
"""Share of the pixels that are the top of a map."""

BLOCK_VALUES = 1 << 23
"""Values of all pairs that are compared at a time: 64 MB in double precision."""

Pairs: TypeAlias = Sequence[tuple[int, int]]


def pairs_of(count: int) -> list[tuple[int, int]]:
    """Every two of ``count`` maps.

    >>> pairs_of(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return list(itertools.combinations(range(count), 2))


class PreparedMaps:
    """Maps of some images with what measures of agreement need of each, computed when it is first needed.

    Args:
        maps: ``(N, M, H, W)``: ``M`` maps of each image, any sign.
        block: Number of values of all pairs that are compared at a time.
    """

    def __init__(self, maps: Tensor, block: int = BLOCK_VALUES) -> None:
        self.size = (maps.shape[2], maps.shape[3])
        self.flat = maps.detach().flatten(2).double()
        self._block = block

    @cached_property
    def undefined(self) -> Tensor:
        """Which maps are constant or not finite, ``(N, M)``."""
        return undefined(self.flat.flatten(0, 1)).reshape(self.flat.shape[:2])

    @cached_property
    def unit_ranks(self) -> Tensor:
        """Centred ranks of the pixels, with norm 1: ``(N, M, H * W)``."""
        ranked: Tensor = ranks(self.flat.flatten(0, 1)).unflatten(0, self.flat.shape[:2])
        unit: Tensor = ranked / ranked.norm(dim=2, keepdim=True)
        return unit

    @cached_property
    def scaled(self) -> Tensor:
        """The maps scaled to [0, 1], ``(N, M, H, W)``."""
        rows: Tensor = unit_range(self.flat.flatten(0, 1))
        return rows.reshape(*self.flat.shape[:2], *self.size)

    def in_blocks(self, of: Callable[[Tensor, Tensor], Tensor], pairs: Pairs) -> Tensor:
        """``of(left, right)`` of a few pairs at a time, given the indices of their maps, so that memory is bounded."""
        indices = torch.tensor(list(pairs), dtype=torch.int64, device=self.flat.device).reshape(-1, 2)
        step = max(1, self._block // max(1, self.flat.shape[0] * self.flat.shape[2]))
        parts = [of(part[:, 0], part[:, 1]) for part in indices.split(step)]
        return torch.cat(parts, dim=1)


def spearman_of_pairs(maps: PreparedMaps, pairs: Pairs) -> Tensor:
    """Rank correlation of pairs of maps, ``(N, P)``."""
    left, right = zip(*pairs, strict=True)
    rho: Tensor = (maps.unit_ranks @ maps.unit_ranks.mT)[:, left, right]
    return rho.clamp(-1.0, 1.0)


def ssim_of_pairs(maps: PreparedMaps, pairs: Pairs) -> Tensor:
    """Mean structural similarity of pairs of maps, ``(N, P)``."""
    scaled, size = maps.scaled, maps.size
    if min(size) < WINDOW:
        raise ValueError(f"ssim needs maps of {WINDOW} × {WINDOW} pixels or more, got {size[0]} × {size[1]}")
    both = torch.stack([scaled, scaled * scaled])
    means, squares = windows(both.reshape(-1, 1, *size)).unflatten(0, (2, *scaled.shape[:2]))[:, :, :, 0]

    def of(left: Tensor, right: Tensor) -> Tensor:
        products = (scaled[:, left] * scaled[:, right]).reshape(-1, 1, *size)
        cross = windows(products).unflatten(0, (len(scaled), len(left)))[:, :, 0]
        return structure(means[:, left], means[:, right], squares[:, left], squares[:, right], cross).mean(dim=(2, 3))

    return maps.in_blocks(of, pairs).clamp(-1.0, 1.0)


def topk_iou_of_pairs(maps: PreparedMaps, pairs: Pairs, share: float = TOP) -> Tensor:
    """Overlap of the strongest pixels of pairs of maps, ``(N, P)``."""
    k = max(1, round(share * maps.flat.shape[2]))
    members = top(maps.flat.flatten(0, 1), k).unflatten(0, maps.flat.shape[:2])

    def of(left: Tensor, right: Tensor) -> Tensor:
        shared = torch.minimum(members[:, left], members[:, right]).sum(dim=2)
        return shared / (2 * k - shared)

    return maps.in_blocks(of, pairs)


def undefined(*maps: Tensor) -> Tensor:
    """Images in which one of several maps ``(N, ...)`` is constant or not finite, ``(N,)`` bool."""
    flat = [m.detach().flatten(1) for m in maps]
    return torch.stack([(m.amax(1) == m.amin(1)) | ~m.isfinite().all(1) for m in flat]).any(0)


def ranks(flat: Tensor) -> Tensor:
    """Ranks of each row ``(N, n)``, centred at 0, float64; equal values get the mean of their ranks.

    >>> ranks(torch.tensor([[5.0, 7.0, 5.0, 1.0]]))
    tensor([[ 0.0000,  1.5000,  0.0000, -1.5000]], dtype=torch.float64)
    """
    order = order_of(flat)
    values = flat.gather(1, order)
    count = flat.shape[1]
    changes = values[:, 1:] != values[:, :-1]
    ends = torch.ones_like(values[:, :1], dtype=torch.bool)
    positions = torch.arange(count, device=flat.device).expand_as(values)
    first = torch.where(torch.cat([ends, changes], 1), positions, 0).cummax(1).values
    last = torch.where(torch.cat([changes, ends], 1), positions, count).flip(1).cummin(1).values.flip(1)
    shared = (first + last - (count - 1)).double() / 2
    return torch.empty_like(shared).scatter_(1, order, shared)


def unit_range(flat: Tensor) -> Tensor:
    """Each row scaled to [0, 1] by its own smallest and largest value."""
    low = flat.amin(dim=1, keepdim=True)
    return (flat - low) / (flat.amax(dim=1, keepdim=True) - low)


def windows(images: Tensor) -> Tensor:
    """Gaussian means in every window inside each image: ``(M, 1, H, W)`` to ``(M, 1, H - 10, W - 10)``."""
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    weights = weights / weights.sum()
    # Two products with band matrices take a fraction of the time of a convolution in double precision.
    down, across = (_bands(weights, side) for side in images.shape[2:])
    return down @ images @ across.mT


def _bands(weights: Tensor, side: int) -> Tensor:
    """``(side - len(weights) + 1, side)``: the weights in each row, shifted by one from row to row."""
    rows = side - len(weights) + 1
    bands = F.pad(weights.expand(rows, -1), (0, rows)).flatten()
    return bands[: rows * side].view(rows, side)


def structure(mean_x: Tensor, mean_y: Tensor, xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """Structural similarity in each window, from the means there of two maps, of their squares and of their product."""
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def top(flat: Tensor, k: int) -> Tensor:
    """Membership of each pixel in the ``k`` largest of its row: 1, 0, or an equal share among ties."""
    last = flat.topk(k, dim=1).values[:, -1:]
    above, tied = flat > last, flat == last
    left = k - above.sum(dim=1, keepdim=True)
    return above.double() + tied.double() * left / tied.sum(dim=1, keepdim=True)
