"""Do two maps say the same? Pure functions of two batches of maps.

All ask about pattern, not about amount: scaling a map by a positive number changes nothing. Two maps may agree because
both are right, or because both favour the middle of the image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from attnviz.core.registry import Registry
from attnviz.metrics.pairwise_agreement import TOP, WINDOW, ranks, structure, top, unit_range, windows
from attnviz.metrics.registry import Measure, measure

AGREEMENT: Registry[Measure] = Registry("agreement measure", home="attnviz.metrics.agreement")
"""The quick ones, which every explanation of one image has."""

COMPARISON: Registry[Measure] = Registry("agreement measure", home="attnviz.metrics.agreement")
"""All of them."""

_NAN = "one of the maps is constant, or not finite"


@measure(AGREEMENT, higher_is="more alike", low=-1.0, high=1.0, nan_when=_NAN)
def spearman(a: Tensor, b: Tensor) -> Tensor:
    r"""Spearman's rank correlation of the pixels of two maps: whether they order the places alike.

    .. math:: \rho = \mathrm{corr}(R(a), R(b))

    ``R`` ranks the pixels of a map; equal values share the mean of their ranks.

    Args:
        a: Maps, ``(N, H, W)``, any sign.
        b: Maps of the same shape.

    Returns:
        ``(N,)`` in [-1, 1], float64; NaN where a map is constant, which has no order, or is not finite.

    Raises:
        ValueError: the shapes differ, or are not ``(N, H, W)``.

    Source: Spearman, American Journal of Psychology 15 (1904).

    >>> a = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> spearman(a, torch.tensor([[[1.0, 2.0], [4.0, 3.0]]]))
    tensor([0.8000], dtype=torch.float64)
    """
    a, b = _pair(a, b)
    x, y = (ranks(m) for m in (a, b))
    rho: Tensor = (x * y).sum(dim=1) / (x.norm(dim=1) * y.norm(dim=1))
    return rho.clamp(-1.0, 1.0).masked_fill(_undefined(a, b), math.nan)


@measure(AGREEMENT, higher_is="more alike", low=-1.0, high=1.0, nan_when=_NAN)
def ssim(a: Tensor, b: Tensor) -> Tensor:
    r"""Mean structural similarity of two maps: whether they look alike in every neighbourhood.

    .. math::
        \frac{(2 \mu_a \mu_b + c_1)(2 \sigma_{ab} + c_2)}{(\mu_a^2 + \mu_b^2 + c_1)(\sigma_a^2 + \sigma_b^2 + c_2)},
        \quad c_1 = 0.01^2, c_2 = 0.03^2

    Each map is first put between 0 and 1 by its own smallest and largest value, so that the data range is 1. Means and
    variances are taken in Gaussian windows of 11 × 11 pixels with a standard deviation of 1.5 that lie inside the map,
    and the result is averaged over the windows. A flat zero background, which many maps have, counts as agreement.

    Args:
        a: Maps, ``(N, H, W)``, any sign, at least 11 × 11.
        b: Maps of the same shape.

    Returns:
        ``(N,)`` in [-1, 1], float64; NaN where a map is constant, which has no range, or is not finite.

    Raises:
        ValueError: the shapes differ, are not ``(N, H, W)``, or are smaller than the window.

    Source: Wang et al., IEEE TIP 13 (2004), section III.B; as scikit-image with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1``.

    >>> a = torch.eye(16)[None]
    >>> ssim(a, a), ssim(a, 1 - a).round(decimals=2)
    (tensor([1.], dtype=torch.float64), tensor([-0.2700], dtype=torch.float64))
    """
    size = a.shape[1:]
    a, b = _pair(a, b)
    if min(size) < WINDOW:
        raise ValueError(f"ssim looks at windows of {WINDOW} × {WINDOW} pixels, got maps of {size[0]} × {size[1]}")
    x, y = (unit_range(m).reshape(-1, 1, *size) for m in (a, b))
    index = structure(*windows(torch.cat([x, y, x * x, y * y, x * y])).chunk(5))
    return index.mean(dim=(1, 2, 3)).clamp(-1.0, 1.0).masked_fill(_undefined(a, b), math.nan)


@measure(AGREEMENT, higher_is="more alike", low=0.0, high=1.0, nan_when=_NAN)
def topk_iou(a: Tensor, b: Tensor, *, share: float = TOP) -> Tensor:
    r"""Overlap of the strongest pixels of two maps: their intersection over their union.

    .. math:: \sum_i \min(t_i, u_i) / \sum_i \max(t_i, u_i)

    ``t`` and ``u`` are 1 for the ``k`` largest pixels of each map, largest with sign, and 0 for the rest. Pixels that
    tie for the last places share them evenly, so that ``t`` always sums to ``k`` and no order of pixels is preferred.
    Two random maps reach about ``share / (2 - share)``: 0.11 for a fifth.

    Args:
        a: Maps, ``(N, H, W)``, any sign.
        b: Maps of the same shape.
        share: Which part of the pixels is the top; ``k`` is that part, rounded, and at least 1.

    Returns:
        ``(N,)`` in [0, 1], float64; NaN where a map is constant, which has no top, or is not finite.

    Raises:
        ValueError: the shapes differ, are not ``(N, H, W)``, or ``share`` is not in (0, 1].

    >>> a = torch.arange(10.0).reshape(1, 2, 5)
    >>> topk_iou(a, a.roll(1))
    tensor([0.3333], dtype=torch.float64)
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share is above 0 and at most 1, got {share}")
    a, b = _pair(a, b)
    t, u = (top(m, max(1, round(share * m.shape[1]))) for m in (a, b))
    iou = torch.minimum(t, u).sum(dim=1) / torch.maximum(t, u).sum(dim=1)
    return iou.masked_fill(_undefined(a, b), math.nan)


@measure(COMPARISON, higher_is="more alike", low=-1.0, high=1.0, nan_when=_NAN)
def pearson(a: Tensor, b: Tensor) -> Tensor:
    r"""Pearson's correlation of the pixels of two maps: whether they rise and fall together.

    .. math:: \frac{\sum_i (a_i - \bar a)(b_i - \bar b)}{\lVert a - \bar a \rVert \lVert b - \bar b \rVert}

    Args:
        a: Maps, ``(N, H, W)``, any sign.
        b: Maps of the same shape.

    Returns:
        ``(N,)`` in [-1, 1], float64; NaN where a map is constant or not finite.

    Raises:
        ValueError: the shapes differ, or are not ``(N, H, W)``.

    >>> pearson(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 2.0, 6.0]]])).round(decimals=4)
    tensor([0.9449], dtype=torch.float64)
    """
    a, b = _pair(a, b)
    x, y = (_within_range(m) for m in (a, b))
    x, y = (m - m.mean(dim=1, keepdim=True) for m in (x, y))
    r: Tensor = (x * y).sum(dim=1) / (x.norm(dim=1) * y.norm(dim=1))
    return r.clamp(-1.0, 1.0).masked_fill(_undefined(a, b), math.nan)


@measure(COMPARISON, higher_is="more alike", low=-1.0, high=1.0, nan_when=_NAN)
def cosine(a: Tensor, b: Tensor) -> Tensor:
    r"""Cosine of the angle between two maps: as Pearson's, but 0 keeps its meaning.

    .. math:: \frac{\sum_i a_i b_i}{\lVert a \rVert \lVert b \rVert}

    Two maps without negative values are never below 0, and often high by having the same flat ground.

    Args:
        a: Maps, ``(N, H, W)``, any sign.
        b: Maps of the same shape.

    Returns:
        ``(N,)`` in [-1, 1], float64; NaN where a map is constant or not finite.

    Raises:
        ValueError: the shapes differ, or are not ``(N, H, W)``.

    >>> cosine(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 2.0]]])).round(decimals=4)
    tensor([0.4472], dtype=torch.float64)
    """
    a, b = _pair(a, b)
    x, y = (_within_range(m) for m in (a, b))
    angle: Tensor = (x * y).sum(dim=1) / (x.norm(dim=1) * y.norm(dim=1))
    return angle.clamp(-1.0, 1.0).masked_fill(_undefined(a, b), math.nan)


@measure(COMPARISON, higher_is="less alike", low=0.0, high=1.0, nan_when=_NAN)
def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    r"""Jensen-Shannon distance of two maps as distributions over the places: how well one could tell them apart.

    .. math:: \sqrt{\tfrac{1}{2} KL(p \| m) + \tfrac{1}{2} KL(q \| m)}, \quad m = \tfrac{1}{2}(p + q)

    ``p`` and ``q`` are the sizes of the maps' values, each divided by their sum; logarithms are to base 2. It does not
    know which places are neighbours.

    Args:
        a: Maps, ``(N, H, W)``; of a negative value the size counts.
        b: Maps of the same shape.

    Returns:
        ``(N,)`` in [0, 1], float64: 0 the same, 1 no place in common; NaN where a map is constant or not finite.

    Raises:
        ValueError: the shapes differ, or are not ``(N, H, W)``.

    Source: Lin, IEEE Transactions on Information Theory 37 (1991); the root, which is a metric, Endres and Schindelin,
    49 (2003).

    >>> jensen_shannon(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]]))
    tensor([1.], dtype=torch.float64)
    """
    a, b = _pair(a, b)
    p, q = (_mass(m) for m in (a, b))
    m = (p + q) / 2
    divergence = (torch.special.xlogy(p, p) + torch.special.xlogy(q, q)) / 2 - torch.special.xlogy(m, m)
    distance: Tensor = (divergence.sum(dim=1) / math.log(2)).clamp(0.0, 1.0).sqrt()
    return distance.masked_fill(_undefined(a, b), math.nan)


@measure(COMPARISON, higher_is="less alike", low=0.0, high=1.0, nan_when=_NAN)
def earth_movers(a: Tensor, b: Tensor) -> Tensor:
    r"""Earth mover's distance: how far the mass of one map must be moved, on average, to make the other.

    .. math:: \frac{1}{h + w - 2} \min_\gamma \sum_{ij} \gamma_{ij} (|y_i - y_j| + |x_i - x_j|)

    The masses are the sizes of the maps' values, averaged to at most 16 × 16 places and divided by their sum; distances
    are city-block, relative to that between opposite corners. The least flow on the grid is found exactly, by linear
    programming.

    Args:
        a: Maps, ``(N, H, W)``; of a negative value the size counts.
        b: Maps of the same shape.

    Returns:
        ``(N,)`` in [0, 1], float64: 0 the same, 1 all mass in opposite corners; NaN where a map is constant or not
        finite.

    Raises:
        ValueError: the shapes differ, or are not ``(N, H, W)``.

    Source: Rubner et al., IJCV 40 (2000); flow on the grid after Ling and Okada, PAMI 29 (2007).

    >>> earth_movers(torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 1.0, 0.0]]]))
    tensor([0.5000], dtype=torch.float64)
    """
    size = a.shape[1:]
    a, b = _pair(a, b)
    bad = _undefined(a, b)
    grid = (min(size[0], _FLOW_SIDE), min(size[1], _FLOW_SIDE))
    p, q = (_mass(F.adaptive_avg_pool2d(_mass(m).reshape(-1, 1, *size), grid).flatten(1)) for m in (a, b))
    values = [math.nan if odd else _least_flow(d, grid) for d, odd in zip(p - q, bad.tolist(), strict=True)]
    return torch.tensor(values, dtype=torch.float64, device=a.device) / max(sum(grid) - 2, 1)


@measure(COMPARISON, higher_is="less alike", low=0.0, high=1.0, nan_when=_NAN)
def centre_distance(a: Tensor, b: Tensor) -> Tensor:
    r"""Distance of the centres of mass of two maps, relative to the diagonal.

    .. math:: \frac{\lVert \bar r(a) - \bar r(b) \rVert}{\sqrt{(H - 1)^2 + (W - 1)^2}}

    Args:
        a: Maps, ``(N, H, W)``; of a negative value the size counts.
        b: Maps of the same shape.

    Returns:
        ``(N,)`` in [0, 1], float64; NaN where a map is constant or not finite.

    Raises:
        ValueError: the shapes differ, or are not ``(N, H, W)``.

    >>> centre_distance(torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 1.0, 1.0]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    size = a.shape
    a, b = _pair(a, b)
    height, width = size[1:]
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([ys.flatten(), xs.flatten()], dim=1).to(a)
    apart: Tensor = (_mass(a) @ places - _mass(b) @ places).norm(dim=1)
    diagonal = max(math.hypot(height - 1, width - 1), 1e-12)
    return (apart / diagonal).clamp(0.0, 1.0).masked_fill(_undefined(a, b), math.nan)


_FLOW_SIDE = 16


def _within_range(flat: Tensor) -> Tensor:
    """Each row divided by its largest size, so that squares neither vanish nor overflow."""
    return flat / flat.abs().amax(dim=1, keepdim=True)


def _mass(flat: Tensor) -> Tensor:
    """Sizes of the values, divided by their sum."""
    sizes = _within_range(flat).abs()
    return sizes / sizes.sum(dim=1, keepdim=True)


def _least_flow(difference: Tensor, grid: tuple[int, int]) -> float:
    """The least flow between neighbours of a grid that evens out a difference of masses: exact, by HiGHS."""
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


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps as ``(N, H * W)`` float64, checked."""
    if a.ndim != 3 or a.shape != b.shape or 0 in a.shape[1:]:
        raise ValueError(f"wanted two (N, H, W) maps of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    x, y = (m.detach().flatten(1).double().contiguous() for m in (a, b))
    return x, y


def _undefined(a: Tensor, b: Tensor) -> Tensor:
    odd = [(m.amax(dim=1) == m.amin(dim=1)) | ~m.isfinite().all(dim=1) for m in (a, b)]
    return odd[0] | odd[1]


def centre_prior(size: tuple[int, int], spread: float = 0.25) -> Tensor:
    r"""A map that knows only where the middle is, :math:`\exp(-\tfrac{1}{2}((y / \sigma H)^2 + (x / \sigma W)^2))`.

    Args:
        size: ``(H, W)``.
        spread: ``sigma``, as a share of the side.

    Returns:
        ``(H, W)`` float64, 1 at most.
    """
    ys, xs = (((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5) / spread for n in size)
    return torch.exp(-0.5 * (ys[:, None] ** 2 + xs[None] ** 2))


def with_baselines(name: str, a: Tensor, b: Tensor, *, draws: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """A measure of two batches of maps, beside what says nothing about them: the middle, and chance.

    Args:
        name: A measure in :data:`COMPARISON`.
        a: Maps, ``(N, H, W)``.
        b: Maps of the same shape.
        draws: How many moved copies chance is taken from.
        seed: Of the moves.

    Returns:
        ``(N,)`` each: ``"value"``; ``"centre"``, the mean of what each map has with :func:`centre_prior`;
        ``"random"``, the mean of what ``a`` has with ``b`` rolled and mirrored at random, which keeps the texture of
        ``b`` and forgets where it was.

    Raises:
        UnknownNameError: no such measure.
        ValueError: the shapes differ, or are not ``(N, H, W)``.
    """
    function = COMPARISON[name]
    value = function(a, b)
    prior = centre_prior((a.shape[1], a.shape[2])).to(a.device).expand(len(a), -1, -1)
    centre = (function(a, prior) + function(b, prior)) / 2
    generator = torch.Generator().manual_seed(seed)
    moved = [function(a, _moved(b, generator)) for _ in range(draws)]
    return {"value": value, "centre": centre, "random": torch.stack(moved).mean(dim=0)}


def _moved(maps: Tensor, generator: torch.Generator) -> Tensor:
    shifts = [int(torch.randint(n, (), generator=generator)) for n in maps.shape[1:]]
    mirrored = [axis for axis in (1, 2) if bool(torch.randint(2, (), generator=generator))]
    return maps.roll(shifts, dims=(1, 2)).flip(mirrored) if mirrored else maps.roll(shifts, dims=(1, 2))


for _name, _measure in AGREEMENT.entries().items():
    COMPARISON.register(_name)(_measure)
