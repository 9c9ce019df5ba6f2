"""Slower measures of agreement, for studies: correlation and distances of maps as vectors and as distributions.

All take two batches of maps ``(N, H, W)`` of one shape, any sign, and return ``(N,)`` float64, NaN where a map is
constant or not finite. They raise :class:`ValueError` for other shapes. Of maps as distributions the absolute values
count.
"""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.metrics.agreement import AGREEMENT, NAN_WHEN, pair
from attnviz.metrics.pairwise_agreement import undefined
from attnviz.metrics.registry import measure

_slow = partial(measure, AGREEMENT, quick=False, nan_when=NAN_WHEN)


@_slow(
    title="Pearson correlation",
    means="Whether two maps rise and fall together: 1 for a linear relation, 0 for none, −1 for an inverse one.",
    not_means="That they rank the positions alike: a few strong values can determine it.",
    higher_is="more alike",
    low=-1.0,
)
def pearson(a: Tensor, b: Tensor) -> Tensor:
    r"""Pearson's correlation of the pixels of two maps, in [-1, 1].

    .. math:: \frac{\sum_i (a_i - \bar a)(b_i - \bar b)}{\lVert a - \bar a \rVert \lVert b - \bar b \rVert}

    >>> pearson(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 2.0, 6.0]]])).round(decimals=4)
    tensor([0.9449], dtype=torch.float64)
    """
    a, b = pair(a, b)
    x, y = (_within_range(m) for m in (a, b))
    x, y = (m - m.mean(dim=1, keepdim=True) for m in (x, y))
    r: Tensor = (x * y).sum(dim=1) / (x.norm(dim=1) * y.norm(dim=1))
    return r.clamp(-1.0, 1.0).masked_fill(undefined(a, b), math.nan)


@_slow(
    title="Cosine",
    means="Cosine of the angle between two maps as vectors: 1 the same direction, 0 orthogonal.",
    not_means="That they agree beyond a common background: two maps without negative values are never below 0.",
    higher_is="more alike",
    low=-1.0,
)
def cosine(a: Tensor, b: Tensor) -> Tensor:
    r"""Cosine of the angle between two maps: Pearson's correlation without subtracting the means.

    .. math:: \frac{\sum_i a_i b_i}{\lVert a \rVert \lVert b \rVert}

    In [-1, 1]; for two maps without negative values it is never below 0, and often high because of a common flat
    background.

    >>> cosine(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 2.0]]])).round(decimals=4)
    tensor([0.4472], dtype=torch.float64)
    """
    a, b = pair(a, b)
    x, y = (_within_range(m) for m in (a, b))
    angle: Tensor = (x * y).sum(dim=1) / (x.norm(dim=1) * y.norm(dim=1))
    return angle.clamp(-1.0, 1.0).masked_fill(undefined(a, b), math.nan)


@_slow(
    title="Jensen–Shannon distance",
    means="Distance of two maps as distributions over the positions: 0 identical, 1 no position in common.",
    not_means="How far apart the positions are: neighbouring positions count as different as distant ones.",
    higher_is="less alike",
)
def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    r"""Jensen-Shannon distance of two maps as distributions over the positions.

    .. math:: \sqrt{\tfrac{1}{2} KL(p \| m) + \tfrac{1}{2} KL(q \| m)}, \quad m = \tfrac{1}{2}(p + q)

    In [0, 1]: 0 identical, 1 no position in common. ``p`` and ``q`` are the absolute values of the maps, each divided
    by their sum; logarithms are to base 2. The distance does not depend on which positions are neighbours.

    Source: Lin, IEEE Transactions on Information Theory 37 (1991); the root, which is a metric, Endres and Schindelin,
    49 (2003).

    >>> jensen_shannon(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]]))
    tensor([1.], dtype=torch.float64)
    """
    a, b = pair(a, b)
    p, q = (_mass(m) for m in (a, b))
    m = (p + q) / 2
    divergence = (torch.special.xlogy(p, p) + torch.special.xlogy(q, q)) / 2 - torch.special.xlogy(m, m)
    distance: Tensor = (divergence.sum(dim=1) / math.log(2)).clamp(0.0, 1.0).sqrt()
    return distance.masked_fill(undefined(a, b), math.nan)


@_slow(
    title="Earth mover’s distance",
    means="How far the mass of one map must be moved on average to make the other, relative to the distance of opposite"
    " corners.",
    not_means="That either map is right, or that small details agree: maps are averaged to at most 16 × 16.",
    higher_is="less alike",
)
def earth_movers(a: Tensor, b: Tensor) -> Tensor:
    r"""Earth mover's distance: how far the mass of one map must be moved on average to make the other.

    .. math:: \frac{1}{h + w - 2} \min_\gamma \sum_{ij} \gamma_{ij} (|y_i - y_j| + |x_i - x_j|)

    In [0, 1]: 0 identical, 1 all mass in opposite corners. The masses are the absolute values of the maps, averaged to
    at most 16 × 16 positions and divided by their sum; distances are city-block, relative to that between opposite
    corners. The minimum-cost flow on the grid is solved exactly by linear programming.

    Source: Rubner et al., IJCV 40 (2000); flow on the grid after Ling and Okada, PAMI 29 (2007).

    >>> earth_movers(torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 1.0, 0.0]]]))
    tensor([0.5000], dtype=torch.float64)
    """
    size = a.shape[1:]
    a, b = pair(a, b)
    bad = undefined(a, b)
    grid = (min(size[0], _FLOW_SIDE), min(size[1], _FLOW_SIDE))
    p, q = (_mass(F.adaptive_avg_pool2d(_mass(m).reshape(-1, 1, *size), grid).flatten(1)) for m in (a, b))
    values = [math.nan if odd else _least_flow(d, grid) for d, odd in zip(p - q, bad.tolist(), strict=True)]
    return torch.tensor(values, dtype=torch.float64, device=a.device) / max(sum(grid) - 2, 1)


@_slow(
    title="Distance of centres",
    means="Distance of the centres of mass of two maps, relative to the diagonal.",
    not_means="That the maps have the same shape or extent.",
    higher_is="less alike",
)
def centre_distance(a: Tensor, b: Tensor) -> Tensor:
    r"""Distance of the centres of mass of two maps, relative to the diagonal, in [0, 1].

    .. math:: \frac{\lVert \bar r(a) - \bar r(b) \rVert}{\sqrt{(H - 1)^2 + (W - 1)^2}}

    >>> centre_distance(torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 1.0, 1.0]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    size = a.shape
    a, b = pair(a, b)
    height, width = size[1:]
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack([ys.flatten(), xs.flatten()], dim=1).to(a)
    apart: Tensor = (_mass(a) @ positions - _mass(b) @ positions).norm(dim=1)
    diagonal = max(math.hypot(height - 1, width - 1), 1e-12)
    return (apart / diagonal).clamp(0.0, 1.0).masked_fill(undefined(a, b), math.nan)


_FLOW_SIDE = 16


def _within_range(flat: Tensor) -> Tensor:
    """Each row divided by its largest absolute value, so that squares neither underflow nor overflow."""
    return flat / flat.abs().amax(dim=1, keepdim=True)


def _mass(flat: Tensor) -> Tensor:
    """Absolute values, divided by their sum."""
    sizes = _within_range(flat).abs()
    return sizes / sizes.sum(dim=1, keepdim=True)


def _least_flow(difference: Tensor, grid: tuple[int, int]) -> float:
    """The minimum flow between neighbours of a grid that balances a difference of masses: exact, by HiGHS."""
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    number = np.arange(grid[0] * grid[1]).reshape(grid)
    tails = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    heads = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    if len(tails) == 0:
        return 0.0
    tails, heads = np.concatenate([tails, heads]), np.concatenate([heads, tails])
    edges = np.arange(len(tails))
    ends = (np.concatenate([tails, heads]), np.concatenate([edges, edges]))
    flow = csr_array((np.repeat([1.0, -1.0], len(edges)), ends), shape=(number.size, len(edges)))
    supply = difference.cpu().numpy()
    solved = linprog(np.ones(len(edges)), A_eq=flow, b_eq=supply - supply.mean(), method="highs")
    return float(solved.fun)
