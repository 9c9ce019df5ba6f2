"""How few values of a map carry it? Pure functions of one batch of maps.

All look at absolute values, so that a strong negative value counts as strong. None changes when a map is scaled or its
values are reordered. A map that *looks* sparse need not be *needed* sparsely: that takes an intervention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attnviz.core.registry import Registry
from attnviz.core.sorting import rising
from attnviz.metrics.registry import Measure, measure

SPARSITY: Registry[Measure] = Registry("sparsity measure", home="attnviz.metrics.sparsity")

_NAN = "every value is zero, or one is not finite"


@measure(SPARSITY, higher_is="sparser", low=0.0, high=1.0, nan_when=_NAN)
def hoyer(g: Tensor) -> Tensor:
    r"""Hoyer's sparsity of each map: 0 where all values are equally strong, 1 where only one is not zero.

    .. math:: (\sqrt{n} - \|g\|_1 / \|g\|_2) / (\sqrt{n} - 1)

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.

    Returns:
        ``(N,)`` in [0, 1], float64; NaN for an all-zero map, which has no direction, or a value that is not finite.

    Raises:
        ValueError: fewer than 2 values per map.

    Source: Hoyer, JMLR 5 (2004), section 3.1.

    >>> hoyer(torch.tensor([[3.0, 0.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0], [2.0, -2.0, 2.0, 2.0]]))
    tensor([1.0000, 0.6000, 0.0000], dtype=torch.float64)
    """
    v = strengths(g)
    root = math.sqrt(v.shape[1])
    sparsity: Tensor = (root - v.sum(dim=1) / v.norm(dim=1)) / (root - 1)
    return sparsity.clamp(0.0, 1.0)


@measure(SPARSITY, higher_is="sparser", low=0.0, high=1.0, nan_when=_NAN)
def gini(g: Tensor) -> Tensor:
    r"""Gini index of each map's strengths: 0 where all are equal, ``1 - 1/n`` where only one is not zero.

    .. math:: 1 - 2 \sum_{k=1}^{n} \frac{|g|_{(k)}}{\|g\|_1} \frac{n - k + 1/2}{n}

    ``|g|_(k)`` is the k-th smallest. Of the measures here it alone has all six properties that Hurley and Rickard
    ask of sparsity; it can be compared between maps of different sizes.

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.

    Returns:
        ``(N,)`` in [0, 1 - 1/n], float64; NaN for an all-zero map, which has no shares, or a value that is not finite.

    Raises:
        ValueError: fewer than 2 values per map.

    Source: Hurley and Rickard, IEEE Transactions on Information Theory 55 (2009), table I and section III.

    >>> gini(torch.tensor([[0.0, 0.0, 0.0, 5.0], [1.0, 2.0, 3.0, 4.0], [2.0, -2.0, 2.0, 2.0]]))
    tensor([0.7500, 0.2500, 0.0000], dtype=torch.float64)
    """
    v = rising(strengths(g))
    n = v.shape[1]
    ranks = torch.arange(1, n + 1, dtype=v.dtype, device=v.device)
    return (1 - 2 * (v * (n - ranks + 0.5)).sum(dim=1) / (v.sum(dim=1) * n)).clamp(0.0, 1.0)


@measure(SPARSITY, higher_is="more spread out", low=0.0, high=1.0, nan_when=_NAN)
def normalised_entropy(g: Tensor) -> Tensor:
    r"""Entropy of each map's shares, relative to a flat map's: 1 where all are equal, 0 where only one is not zero.

    .. math:: -\frac{1}{\log n} \sum_i p_i \log p_i, \quad p_i = |g_i| / \|g\|_1

    Higher is *less* sparse.

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.

    Returns:
        ``(N,)`` in [0, 1], float64; NaN for an all-zero map, which has no shares, or a value that is not finite.

    Raises:
        ValueError: fewer than 2 values per map.

    Source: Shannon, Bell System Technical Journal 27 (1948), section 6; divided by its maximum.

    >>> normalised_entropy(torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 1.0, 1.0]]))
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    v = strengths(g)
    p = v / v.sum(dim=1, keepdim=True)
    entropy: Tensor = torch.special.entr(p).sum(dim=1)
    return (entropy / math.log(v.shape[1])).clamp(0.0, 1.0)


@measure(SPARSITY, higher_is="sparser", low=0.0, high=1.0, nan_when=_NAN)
def near_zero_share(g: Tensor, *, threshold: float = 0.01) -> Tensor:
    r"""Share of the values that are next to nothing: at most 1 % of the map's strongest value.

    .. math:: \frac{1}{n} |\{ i : |g_i| \le t \max_j |g_j| \}|

    One outlier can push all else below the threshold; moving strength from a strong value to a weak one can raise it.

    Args:
        g: Maps, ``(N, ...)``, any sign, ``n`` >= 2 values each.
        threshold: ``t``, relative to the strongest value of the map.

    Returns:
        ``(N,)`` in [0, 1 - 1/n], float64; NaN for an all-zero map, which has no scale, or a value that is not finite.

    Raises:
        ValueError: fewer than 2 values per map, or a threshold outside [0, 1).

    Source: the l0-epsilon measure of Hurley and Rickard (2009), table I, with a relative threshold.

    >>> near_zero_share(torch.tensor([[1.0, 0.0, 0.01, 0.5], [2.0, -2.0, 2.0, 2.0]]))
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"a threshold is at least 0 and below 1, got {threshold}")
    v = strengths(g)
    return (v <= threshold).double().mean(dim=1).masked_fill(v.isnan().any(dim=1), math.nan)


def strengths(g: Tensor) -> Tensor:
    """Absolute values of each map, ``(N, n)`` float64, relative to the strongest; NaN throughout where undefined.

    Dividing first keeps squares of very large and very small values inside floating point.
    """
    v = g.detach().flatten(1).double().abs() if g.ndim > 1 else g[:, None]
    if v.shape[1] < 2:
        raise ValueError(f"sparsity is of maps (N, ...) with 2 values or more each, got shape {tuple(g.shape)}")
    strongest = v.amax(dim=1, keepdim=True)
    return torch.where(strongest.isfinite(), v / strongest, math.nan)
