"""Every two maps of each image: as the measures of agreement, but what is asked of one map is computed once.

Of ``M`` maps there are ``M (M - 1) / 2`` pairs. Ranking a map, putting it between 0 and 1, and finding its strongest
pixels takes most of the time, and is the same in every pair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.sorting import order_of

WINDOW = 11
"""Side of the windows in which structure is compared."""

TOP = 0.2
"""Share of the pixels that are a map's top."""

_AT_ONCE = 1 << 23  # values of all pairs that are compared together: 64 MB in double precision


def pairs_of(count: int) -> list[tuple[int, int]]:
    """Every two of ``count`` maps, in the order in which :func:`of_pairs` gives them.

    >>> pairs_of(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return list(itertools.combinations(range(count), 2))


def of_pairs(maps: Tensor) -> dict[str, Tensor]:
    """The quick measures of agreement of every two maps of each image.

    Args:
        maps: ``(N, M, H, W)``: ``M`` maps of each image, any sign, at least 11 × 11.

    Returns:
        ``spearman``, ``ssim`` and ``topk_iou``, each ``(N, P)`` float64 in the order of :func:`pairs_of`: what the
        measures of these names in :data:`~attnviz.metrics.agreement.AGREEMENT` give for the pair, NaN likewise.

    Raises:
        ValueError: not four axes, or maps smaller than a window.
    """
    if maps.ndim != 4 or min(maps.shape[2:]) < WINDOW:
        raise ValueError(f"wanted maps (N, M, H, W) of {WINDOW} × {WINDOW} pixels or more, got {tuple(maps.shape)}")
    images, count = maps.shape[:2]
    pairs = pairs_of(count)
    flat = maps.detach().flatten(2).double()
    undefined = (flat.amax(2) == flat.amin(2)) | ~flat.sum(2).isfinite()
    left, right = ([pair[side] for pair in pairs] for side in (0, 1))
    if not pairs or not images:
        return {name: flat.new_zeros(images, len(pairs)) for name in MEASURES}
    found = {name: measure(flat, (maps.shape[2], maps.shape[3]), pairs) for name, measure in MEASURES.items()}
    odd = undefined[:, left] | undefined[:, right]
    return {name: values.masked_fill(odd, math.nan) for name, values in found.items()}


def _spearman(flat: Tensor, _size: tuple[int, int], pairs: Sequence[tuple[int, int]]) -> Tensor:
    ranked = ranks(flat.flatten(0, 1)).unflatten(0, flat.shape[:2])
    unit = ranked / ranked.norm(dim=2, keepdim=True)
    left, right = zip(*pairs, strict=True)
    rho: Tensor = (unit @ unit.mT)[:, left, right]
    return rho.clamp(-1.0, 1.0)


def _ssim(flat: Tensor, size: tuple[int, int], pairs: Sequence[tuple[int, int]]) -> Tensor:
    maps = unit_range(flat.flatten(0, 1)).unflatten(0, flat.shape[:2]).unflatten(2, size)
    both = torch.stack([maps, maps * maps])
    means, squares = windows(both.reshape(-1, 1, *size)).unflatten(0, (2, *flat.shape[:2]))[:, :, :, 0]

    def of(part: list[tuple[int, int]]) -> Tensor:
        left, right = (list(side) for side in zip(*part, strict=True))
        products = (maps[:, left] * maps[:, right]).reshape(-1, 1, *size)
        cross = windows(products).unflatten(0, (len(flat), len(part)))[:, :, 0]
        return structure(means[:, left], means[:, right], squares[:, left], squares[:, right], cross).mean(dim=(2, 3))

    return _in_parts(of, pairs, flat).clamp(-1.0, 1.0)


def _topk_iou(flat: Tensor, _size: tuple[int, int], pairs: Sequence[tuple[int, int]]) -> Tensor:
    k = max(1, round(TOP * flat.shape[2]))
    members = top(flat.flatten(0, 1), k).unflatten(0, flat.shape[:2])

    def of(part: list[tuple[int, int]]) -> Tensor:
        left, right = (list(side) for side in zip(*part, strict=True))
        shared = torch.minimum(members[:, left], members[:, right]).sum(dim=2)
        return shared / (2 * k - shared)

    return _in_parts(of, pairs, flat)


def _in_parts(of: Callable[[list[tuple[int, int]]], Tensor], pairs: Sequence[tuple[int, int]], flat: Tensor) -> Tensor:
    """Pairs a few at a time, so that many maps take no more memory than few."""
    step = max(1, _AT_ONCE // max(1, flat.shape[0] * flat.shape[2]))
    return torch.cat([of(list(pairs[i : i + step])) for i in range(0, len(pairs), step)], dim=1)


MEASURES: Mapping[str, Callable[[Tensor, tuple[int, int], Sequence[tuple[int, int]]], Tensor]] = {
    "spearman": _spearman,
    "ssim": _ssim,
    "topk_iou": _topk_iou,
}


def ranks(flat: Tensor) -> Tensor:
    """Ranks of each row ``(N, n)``, centred on 0, float64; equal values share the mean of their ranks.

    >>> ranks(torch.tensor([[5.0, 7.0, 5.0, 1.0]]))
    tensor([[ 0.0000,  1.5000,  0.0000, -1.5000]], dtype=torch.float64)
    """
    order = order_of(flat)
    values = flat.gather(1, order)
    count = flat.shape[1]
    changes = values[:, 1:] != values[:, :-1]
    ends = torch.ones_like(values[:, :1], dtype=torch.bool)
    places = torch.arange(count, device=flat.device).expand_as(values)
    first = torch.where(torch.cat([ends, changes], 1), places, 0).cummax(1).values
    last = torch.where(torch.cat([changes, ends], 1), places, count).flip(1).cummin(1).values.flip(1)
    shared = (first + last - (count - 1)).double() / 2
    return torch.empty_like(shared).scatter_(1, order, shared)


def unit_range(flat: Tensor) -> Tensor:
    """Each row put between 0 and 1 by its own smallest and largest value."""
    low = flat.amin(dim=1, keepdim=True)
    return (flat - low) / (flat.amax(dim=1, keepdim=True) - low)


def windows(images: Tensor) -> Tensor:
    """Gaussian means in every window inside each image: ``(M, 1, H, W)`` to ``(M, 1, H - 10, W - 10)``."""
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    weights = weights / weights.sum()
    # As two products with band matrices, which take a fraction of the time of convolutions in double precision.
    down, across = (_bands(weights, side) for side in images.shape[2:])
    return down @ images @ across.mT


def _bands(weights: Tensor, side: int) -> Tensor:
    """``(side - len(weights) + 1, side)``: the weights in each row, one place further in each."""
    rows = side - len(weights) + 1
    bands = F.pad(weights.expand(rows, -1), (0, rows)).flatten()
    return bands[: rows * side].view(rows, side)


def structure(mean_x: Tensor, mean_y: Tensor, xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """Structural similarity in each window, from the means there of two maps, of their squares and of their product."""
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return alike / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def top(flat: Tensor, k: int) -> Tensor:
    """Membership of each pixel in the ``k`` largest of its row: 1, 0, or an even share among those that tie."""
    last = flat.topk(k, dim=1).values[:, -1:]
    above, tied = flat > last, flat == last
    left = k - above.sum(dim=1, keepdim=True)
    return above.double() + tied.double() * left / tied.sum(dim=1, keepdim=True)
