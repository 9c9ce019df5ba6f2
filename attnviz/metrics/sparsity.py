"""Sparsity: the share of a map's values that carries it.

All take maps ``(N, ...)``, any sign, with ``n`` >= 2 values each (else :class:`ValueError`), or the same, sorted. They
return ``(N,)`` float64; NaN for an all-zero map, which has no scale or direction, or a value that is not finite.

All measures use absolute values, so that a large negative value counts as strong. Scaling a map or reordering its
values changes nothing. Whether the small values are needed takes an intervention.
"""

import math
from functools import partial

import torch
from torch import Tensor

from attnviz.core.registry import Registry
from attnviz.metrics.registry import Measure, measure
from attnviz.metrics.sorted_maps import SortedMaps, sorted_maps

SPARSITY: Registry[Measure] = Registry("sparsity measure", home="attnviz.metrics", group="attnviz.sparsity")
"""All measures of one map. The quick ones are part of every explanation."""

NAN_WHEN = "every value is zero, or one is not finite"
_quick = partial(measure, SPARSITY, takes_sorted=True, nan_when=NAN_WHEN)


def quick_measures() -> list[Measure]:
    """The measures of every explanation, sorted by name."""
    return [SPARSITY[name] for name in SPARSITY if SPARSITY[name].quick]


@_quick(
    title="Hoyer",
    means="Sparsity from the ratio of the L1 to the L2 norm: 0 if all entries have the same size, 1 for a "
    "single entry.",
    not_means="That the zeros are at sensible positions, or that pruning them is harmless.",
    higher_is="sparser",
)
def hoyer(g: Tensor | SortedMaps) -> Tensor:
    r"""Hoyer sparsity of each map, in [0, 1]: 0 if all values are equally strong, 1 if only one is not zero.

    .. math:: (\sqrt{n} - \|g\|_1 / \|g\|_2) / (\sqrt{n} - 1)

    Source: Hoyer, JMLR 5 (2004), section 3.1.

    >>> hoyer(torch.tensor([[3.0, 0.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0], [2.0, -2.0, 2.0, 2.0]]))
    tensor([1.0000, 0.6000, 0.0000], dtype=torch.float64)
    """
    maps = sorted_maps(g)
    root = math.sqrt(maps.n)
    sparsity: Tensor = (root - maps.total / maps.strengths.norm(dim=1)) / (root - 1)
    return sparsity.clamp(0.0, 1.0)


@_quick(
    title="Gini",
    means="Inequality of the sizes of the entries: 0 if all are equal, close to 1 if a few entries hold all strength.",
    not_means="A share of zeros: a map without any zero can have a high Gini index.",
    higher_is="sparser",
)
def gini(g: Tensor | SortedMaps) -> Tensor:
    r"""Gini index of each map's strengths: from 0 if all are equal to ``1 - 1/n`` if only one is not zero.

    .. math:: 1 - 2 \sum_{k=1}^{n} \frac{|g|_{(k)}}{\|g\|_1} \frac{n - k + 1/2}{n}

    ``|g|_(k)`` is the k-th smallest. It is the only measure here with all six properties that Hurley and Rickard
    require of a sparsity measure, and it can be compared between maps of different sizes.

    Source: Hurley and Rickard, IEEE Transactions on Information Theory 55 (2009), table I and section III.

    >>> gini(torch.tensor([[0.0, 0.0, 0.0, 5.0], [1.0, 2.0, 3.0, 4.0], [2.0, -2.0, 2.0, 2.0]]))
    tensor([0.7500, 0.2500, 0.0000], dtype=torch.float64)
    """
    maps = sorted_maps(g)
    v, n = maps.strengths, maps.n
    ranks = torch.arange(1, n + 1, dtype=v.dtype, device=v.device)
    return (1 - 2 * (v @ (n - ranks + 0.5)) / (maps.total * n)).clamp(0.0, 1.0)


@_quick(
    title="Entropy",
    means="How evenly the sizes of the entries are spread, relative to the maximum: 1 for a flat map, 0 for a single "
    "entry.",
    not_means="Uncertainty of the model about its prediction.",
    higher_is="more spread out",
)
def normalised_entropy(g: Tensor | SortedMaps) -> Tensor:
    r"""Entropy of each map's shares, relative to a flat map's: from 0 if only one is not zero to 1 if all are equal.

    .. math:: -\frac{1}{\log n} \sum_i p_i \log p_i, \quad p_i = |g_i| / \|g\|_1

    Higher is *less* sparse.

    Source: Shannon, Bell System Technical Journal 27 (1948), section 6; divided by its maximum.

    >>> normalised_entropy(torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 1.0, 1.0]]))
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    maps = sorted_maps(g)
    entropy: Tensor = torch.special.entr(maps.strengths / maps.total[:, None]).sum(dim=1)
    return (entropy / math.log(maps.n)).clamp(0.0, 1.0)


@_quick(
    title="Near zero",
    means="Share of the entries that are at most 1 % of the largest.",
    not_means="Computation saved: the model computes these entries all the same.",
    higher_is="sparser",
)
def near_zero_share(g: Tensor | SortedMaps, *, threshold: float = 0.01) -> Tensor:
    r"""Share of the values, in [0, 1 - 1/n], that are close to zero: at most 1 % of the map's largest.

    .. math:: \frac{1}{n} |\{ i : |g_i| \le t \max_j |g_j| \}|

    ``t`` is the ``threshold``, in [0, 1). One outlier can push all other values below the threshold. Moving strength
    from a strong to a weak value can raise the share.

    Source: the l0-epsilon measure of Hurley and Rickard (2009), table I, with a relative threshold.

    >>> near_zero_share(torch.tensor([[1.0, 0.0, 0.01, 0.5], [2.0, -2.0, 2.0, 2.0]]))
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"a threshold is at least 0 and below 1, got {threshold}")
    maps = sorted_maps(g)
    return (maps.strengths <= threshold).double().mean(dim=1).masked_fill(maps.total.isnan(), math.nan)
